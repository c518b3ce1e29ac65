//! Paths without links. Never looks at what may wait for a server or a process: a link there stays as it is.

use crate::mount_table::MountTable;
use crate::path::{ascend, below, descend, normal};
use std::fs;
use std::io;

/// The most links that are followed in one path, as many as Linux follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The links of this host. Blocks, though not for long: only local file systems are looked at.
pub(crate) struct Links {
    avoided: Vec<String>,
}

impl Links {
    /// Finds out where not to look.
    pub(crate) fn of_this_host() -> io::Result<Self> {
        // A mount point is bytes; one that is not UTF-8 cannot be a prefix of a path that is.
        let table = MountTable::parse(&String::from_utf8_lossy(&fs::read("/proc/self/mountinfo")?));
        Ok(Self { avoided: table.places_to_avoid() })
    }

    /// `path`, which is absolute, with every link in it followed. What is not there, or is not to be looked at, is
    /// taken as it is spelt; a path that goes round in circles too.
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

    /// Where the link at `path` leads, if it is one and may be looked at.
    fn link(&self, path: &str) -> Option<String> {
        if self.avoided.iter().any(|avoided| path == avoided || below(path, avoided).is_some()) {
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
        let links = Links { avoided: vec![at("away")] };
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
        let links = Links { avoided: vec![format!("{root}/share")] };
        let resolved = links.resolved(&format!("{root}/to-share/link")).unwrap();
        assert_eq!(resolved, format!("{root}/share/link"), "the link on the share is not read");
    }
}
