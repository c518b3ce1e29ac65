//! The allowed roots, each resolved once, and where a mount point lies below them.

use crate::path::Location;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The allowed roots and what each of them is on this host.
#[derive(Debug)]
pub(crate) struct Roots {
    allowed: AllowedRoots,
    resolved: BTreeMap<MountPoint, Resolved>,
}

/// What an allowed root was when the roots were resolved.
#[derive(Debug)]
enum Resolved {
    /// This path, which holds no link.
    To(PathBuf),
    /// Nothing.
    Missing,
    /// Nothing that can be used, and why.
    Unusable(String),
}

impl Roots {
    /// Resolves each root, following links: an operator may have put them there.
    pub(crate) fn resolve(allowed: AllowedRoots) -> Self {
        let resolved =
            allowed.roots().iter().map(|root| (root.path.clone(), Resolved::of(&root.path))).collect();
        Self { allowed, resolved }
    }

    /// Where `mount_point` lies below the longest root that allows it. Touches nothing.
    pub(crate) fn locate<'a>(&'a self, mount_point: &'a MountPoint) -> Result<Location<'a>, Failure> {
        let root = &self.allowed.check(mount_point)?.path;
        match self.resolved.get(root) {
            Some(Resolved::To(path)) => {
                let below = mount_point.as_str()[root.as_str().len()..].trim_start_matches('/');
                refuse_own_place(mount_point, &path.join(below))?;
                Ok(Location::new(mount_point, root, path))
            }
            Some(Resolved::Unusable(why)) => Err(unusable(root, why)),
            Some(Resolved::Missing) | None => Ok(Location::without_root(mount_point, root)),
        }
    }
}

impl Resolved {
    fn of(root: &MountPoint) -> Self {
        match std::fs::canonicalize(root.as_str()) {
            Ok(path) => Self::To(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(error) => Self::Unusable(error.to_string()),
        }
    }
}

fn unusable(root: &MountPoint, why: &str) -> Failure {
    Failure::new(FailureCode::ForbiddenPath, format!("allowed root `{root}` cannot be used: {why}"))
        .with_hint("mend the root, then start the agent again")
}

/// A root that is a link may lead where no job may mount, also to the root of the host, which the text of the path does
/// not show.
fn refuse_own_place(mount_point: &MountPoint, resolved: &Path) -> Result<(), Failure> {
    let own = Path::new(AllowedRoots::OWN);
    if resolved.starts_with(own) || own.starts_with(resolved) {
        return Err(Failure::new(
            FailureCode::ForbiddenPath,
            format!("mount point `{mount_point}` leads to `{}`, the agent's own place", resolved.display()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_root_that_is_a_link_opens_neither_the_host_nor_the_agents_own_place() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("/", &link).unwrap();
        let link = link.to_str().unwrap();
        let roots = Roots::resolve(AllowedRoots::with([MountPoint::new(link).unwrap()]));
        let own = AllowedRoots::OWN;
        for bad in [link.to_owned(), format!("{link}{own}"), format!("{link}{own}/a"), format!("{link}/var")]
        {
            let bad = MountPoint::new(bad).unwrap();
            assert_eq!(roots.locate(&bad).unwrap_err().code(), FailureCode::ForbiddenPath, "{bad}");
        }
        assert!(roots.locate(&MountPoint::new(format!("{link}/mnt/a")).unwrap()).is_ok());
    }
}
