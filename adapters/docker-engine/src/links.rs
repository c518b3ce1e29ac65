//! Paths without symbolic links. What may wait for a server or a process is never inspected: a link there stays as it is.

use crate::path::{ascend, descend, normal};
use dvs_mountinfo::Mounts;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most links that are followed in one path, as many as Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The links of this host. Blocks, though not for long: only local file systems are inspected.
pub(crate) struct Links {
    avoided: Vec<PathBuf>,
}

impl Links {
    /// Finds out what not to inspect.
    pub(crate) fn of(mounts: &Mounts) -> io::Result<Self> {
        Ok(Self { avoided: mounts.blocking()? })
    }

    /// `path`, which is absolute, with every link in it followed. What does not exist, or is not to be inspected, is
    /// taken as it is spelt; a path with a loop of links too.
    pub(crate) fn resolved(&self, path: &str) -> Option<String> {
        let mut left: Vec<String> = components(path.strip_prefix('/')?);
        let mut resolved = String::new();
        let mut followed = 0;
        while let Some(component) = left.pop() {
            match component.as_str() {
                "" | "." => {}
                ".." => ascend(&mut resolved),
                name => {
                    descend(&mut resolved, name);
                    let Some(target) = self.link(&resolved) else { continue };
                    followed += 1;
                    if followed > LINKS_MAX {
                        return normal(path);
                    }
                    if target.starts_with('/') {
                        resolved.clear();
                    } else {
                        ascend(&mut resolved);
                    }
                    left.extend(components(&target));
                }
            }
        }
        Some(if resolved.is_empty() { "/".to_owned() } else { resolved })
    }

    /// The target of the link at `path`, if it is one and may be inspected.
    fn link(&self, path: &str) -> Option<String> {
        if self.avoided.iter().any(|avoided| Path::new(path).starts_with(avoided)) {
            return None;
        }
        fs::read_link(path).ok()?.into_os_string().into_string().ok()
    }
}

/// The components of `path`, the first one last.
fn components(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_wherever_they_stand() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().to_str().unwrap().to_owned();
        let at = |path: &str| format!("{root}/{path}");
        fs::create_dir_all(at("real/ü b/sub")).unwrap();
        symlink(at("real"), at("absolute")).unwrap();
        symlink("absolute/ü b", at("relative")).unwrap();
        symlink("../real/.", at("real/back")).unwrap();
        symlink("round", at("round")).unwrap();
        let links = Links { avoided: vec![at("away").into()] };
        for (path, expected) in [
            ("absolute/ü b", "real/ü b"),
            ("relative/sub", "real/ü b/sub"),
            ("relative/../x", "real/x"),
            ("real/back/back/ü b", "real/ü b"),
            ("absolute/not there/x", "real/not there/x"),
            ("round/x", "round/x"),
            ("real//./ü b/", "real/ü b"),
        ] {
            assert_eq!(links.resolved(&at(path)).unwrap(), at(expected), "{path}");
        }
        assert_eq!(links.resolved("/").unwrap(), "/");
        assert_eq!(links.resolved("/../..").unwrap(), "/");
        assert_eq!(links.resolved("relative"), None);
    }

    #[test]
    fn a_server_is_never_waited_for() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().to_str().unwrap().to_owned();
        fs::create_dir(format!("{root}/share")).unwrap();
        symlink("/", format!("{root}/share/link")).unwrap();
        symlink("share", format!("{root}/to-share")).unwrap();
        let links = Links { avoided: vec![format!("{root}/share").into()] };
        let resolved = links.resolved(&format!("{root}/to-share/link")).unwrap();
        assert_eq!(resolved, format!("{root}/share/link"), "the link on the share is not read");
    }
}
