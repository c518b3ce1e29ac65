//! Which places of this host jobs must leave alone, and which the agent must still reach although no job may use
//! them any more.

use dvs_domain::attachment::Attachment;
use dvs_domain::mount_point::{AllowedRoots, MountPoint, MountRoot};
use dvs_domain::names::StoreName;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use url::Url;

/// The folders of `stores` and of the agent's state, by every path below `roots` or elsewhere that leads there,
/// and what each holds: a volume that is mounted over one of them would hide what DVS itself works with.
pub(crate) fn reserved(
    state: &Path,
    stores: &[(StoreName, Url)],
    roots: &AllowedRoots,
) -> Vec<(MountPoint, String)> {
    let stores = stores.iter().filter_map(|(name, url)| {
        let folder = url.to_file_path().ok()?; // A store without a folder of this host has none to hide.
        Some((folder, format!("the store `{name}`")))
    });
    let folders = stores.chain([(state.to_owned(), "the agent's state".to_owned())]);
    folders
        .flat_map(|(folder, what)| paths_to(&folder, roots).into_iter().map(move |at| (at, what.clone())))
        .collect()
}

/// The roots of jobs, and those that it takes to reach `attachments` made below roots that were allowed once: what
/// is attached stays attached after a restart, and deletable.
pub(crate) fn reachable(roots: &AllowedRoots, attachments: &[Attachment]) -> AllowedRoots {
    let always = AllowedRoots::with([]);
    let configured = roots.roots().iter().filter(|root| !always.roots().contains(root));
    let configured = configured.map(|root| root.path.clone());
    let left = attachments.iter().filter(|attachment| roots.check(&attachment.mount_point).is_err());
    AllowedRoots::with(configured.chain(left.map(root_of)))
}

/// The folder around all that was made for `attachment`.
fn root_of(attachment: &Attachment) -> MountPoint {
    let outermost = attachment.made_directories.first().unwrap_or(&attachment.mount_point);
    let parent = outermost.as_str().rsplit_once('/').map_or("", |(parent, _)| parent);
    MountPoint::new(parent).unwrap_or_else(|_| outermost.clone()) // `/` is no root.
}

fn paths_to(folder: &Path, roots: &AllowedRoots) -> BTreeSet<MountPoint> {
    let written = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let canonical = canonical(&written);
    // Mount points are written below a root, which may be a link.
    let below_roots = roots.roots().iter().filter_map(|root| below(&canonical, root));
    let paths = [written, canonical.clone()].into_iter().chain(below_roots);
    paths.filter_map(|path| as_mount_point(&path)).collect()
}

/// How `canonical` is written below `root`; the root itself when it lies in there.
fn below(canonical: &Path, root: &MountRoot) -> Option<PathBuf> {
    let written = Path::new(root.path.as_str());
    let leads_to = std::fs::canonicalize(written).ok()?;
    match canonical.strip_prefix(&leads_to) {
        Ok(rest) => Some(written.join(rest)),
        Err(_) => leads_to.starts_with(canonical).then(|| written.to_owned()),
    }
}

/// `path` without links, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    let rest = existing.as_ref().and_then(|(ancestor, _)| path.strip_prefix(ancestor).ok());
    match (&existing, rest) {
        (Some((_, canonical)), Some(rest)) => canonical.join(rest),
        _ => path.to_owned(),
    }
}

fn as_mount_point(path: &Path) -> Option<MountPoint> {
    let normal: PathBuf = path.components().collect(); // Without a trailing `/`.
    MountPoint::new(normal.to_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::names::VolumeName;
    use dvs_domain::volume::VolumeId;
    use std::os::unix::fs::symlink;

    fn at(path: impl AsRef<Path>) -> MountPoint {
        MountPoint::new(path.as_ref().to_str().unwrap()).unwrap()
    }

    #[test]
    fn stores_and_state_are_known_by_every_path_that_leads_there() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("disk")).unwrap();
        symlink(real.join("disk"), real.join("link")).unwrap();
        symlink(real.join("disk"), real.join("root")).unwrap();
        symlink(real.join("disk/store/inner"), real.join("inner")).unwrap();
        std::fs::create_dir_all(real.join("disk/store/inner")).unwrap();
        let url = Url::parse(&format!("loop://{}/?fs=xfs", real.join("link/store").display())).unwrap();
        let roots = AllowedRoots::with([at(real.join("root")), at(real.join("inner"))]);
        let store = StoreName::new("x").unwrap();
        let mut reserved = reserved(&real.join("disk/state/"), &[(store, url)], &roots);
        reserved.sort();
        let path = |path: &str| at(real.join(path));
        let expected = [
            (path("disk/state"), "the agent's state".to_owned()),
            (path("disk/store"), "the store `x`".to_owned()),
            (path("inner"), "the store `x`".to_owned()),
            (path("link/store"), "the store `x`".to_owned()),
            (path("root/state"), "the agent's state".to_owned()),
            (path("root/store"), "the store `x`".to_owned()),
        ];
        assert_eq!(reserved, expected);
    }

    #[test]
    fn what_was_attached_below_a_root_that_is_allowed_no_more_is_reached() {
        let attachment = |mount_point: &str, made: &[&str]| Attachment {
            volume: VolumeId { store: StoreName::new("x").unwrap(), name: VolumeName::new("a").unwrap() },
            mount_point: at(mount_point),
            made_directories: made.iter().map(at).collect(),
            holders: Vec::new(),
        };
        let attachments = [
            attachment("/mnt/a", &[]),
            attachment("/data/a", &["/data/a"]),
            attachment("/deep/a/b/c", &["/deep/a/b", "/deep/a/b/c"]),
            attachment("/itself", &[]),
            attachment("/now/a", &[]),
        ];
        let roots = AllowedRoots::with([at("/now")]);
        let reachable = reachable(&roots, &attachments);
        let expected = AllowedRoots::with([at("/now"), at("/data"), at("/deep/a"), at("/itself")]);
        assert_eq!(reachable, expected);
        for attachment in &attachments {
            assert!(reachable.check(&attachment.mount_point).is_ok(), "{}", attachment.mount_point);
            assert!(attachment.made_directories.iter().all(|made| reachable.check(made).is_ok()));
        }
    }
}
