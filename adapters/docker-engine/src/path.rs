//! Paths as containers and mount points spell them, and how one relates to another. By text only: no file is inspected.

/// How a folder that a container has bound relates to the mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Same,
    /// The folder is below the mount point.
    Below,
    /// The folder is above the mount point; from there this path leads to the mount point.
    Above(String),
}

/// A path in each of its known spellings: as it was written, and without links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spellings {
    spellings: Vec<String>,
}

impl Spellings {
    /// `spellings` are normal, absolute paths.
    pub(crate) fn new(spellings: impl IntoIterator<Item = String>) -> Self {
        Self { spellings: spellings.into_iter().collect() }
    }

    /// How this relates to `mount_point`, if neither is beside the other.
    pub(crate) fn relation_to(&self, mount_point: &Self) -> Option<Relation> {
        let pairs =
            self.spellings.iter().flat_map(|mine| mount_point.spellings.iter().map(move |at| (mine, at)));
        let found: Vec<Relation> = pairs.filter_map(|(mine, at)| relation(mine, at)).collect();
        let within = found.iter().find(|relation| matches!(relation, Relation::Same | Relation::Below));
        within.or(found.first()).cloned()
    }
}

fn relation(folder: &str, mount_point: &str) -> Option<Relation> {
    if folder == mount_point {
        return Some(Relation::Same);
    }
    if below(folder, mount_point).is_some() {
        return Some(Relation::Below);
    }
    below(mount_point, folder).map(|rest| Relation::Above(rest.to_owned()))
}

/// `path` relative to `folder`, if it is below it. Both are normal.
pub(crate) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    path.strip_prefix(folder)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// `path` without doubled or trailing `/`, `.` and `..`, if it is absolute.
pub(crate) fn normal(path: &str) -> Option<String> {
    let mut normal = String::new();
    for component in path.strip_prefix('/')?.split('/') {
        match component {
            "" | "." => {}
            ".." => ascend(&mut normal),
            name => descend(&mut normal, name),
        }
    }
    Some(if normal.is_empty() { "/".to_owned() } else { normal })
}

/// Removes the last component of `path`. The root is the empty path here.
pub(crate) fn ascend(path: &mut String) {
    path.truncate(path.rfind('/').unwrap_or(0));
}

/// Adds the component `name` to `path`. The root is the empty path here.
pub(crate) fn descend(path: &mut String, name: &str) {
    path.push('/');
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(spellings: &[&str]) -> Spellings {
        Spellings::new(spellings.iter().map(|spelling| (*spelling).to_owned()))
    }

    #[test]
    fn a_folder_is_the_mount_point_or_below_or_above_or_beside_it() {
        for (folder, relation) in [
            ("/mnt/a", Some(Relation::Same)),
            ("/mnt/a/sub", Some(Relation::Below)),
            ("/mnt/a/b c/ü", Some(Relation::Below)),
            ("/mnt", Some(Relation::Above("a".to_owned()))),
            ("/", Some(Relation::Above("mnt/a".to_owned()))),
            ("/mnt/ab", None),
            ("/mnt/b", None),
            ("/mn", None),
            ("/x/mnt/a", None),
        ] {
            assert_eq!(spelt(&[folder]).relation_to(&spelt(&["/mnt/a"])), relation, "{folder}");
        }
    }

    #[test]
    fn any_two_spellings_can_meet_and_the_closest_way_counts() {
        let mount_point = spelt(&["/srv/a", "/data/srv/a"]);
        assert_eq!(spelt(&["/l", "/data/srv/a"]).relation_to(&mount_point), Some(Relation::Same));
        assert_eq!(spelt(&["/srv/a/x"]).relation_to(&mount_point), Some(Relation::Below));
        assert_eq!(spelt(&["/data"]).relation_to(&mount_point), Some(Relation::Above("srv/a".to_owned())));
        assert_eq!(spelt(&["/data", "/data/srv/a/b"]).relation_to(&mount_point), Some(Relation::Below));
        assert_eq!(spelt(&["/data/srv/ab", "/srv/b"]).relation_to(&mount_point), None);
    }

    #[test]
    fn paths_are_made_normal() {
        for (path, expected) in [
            ("/mnt/a", Some("/mnt/a")),
            ("//mnt//./a/", Some("/mnt/a")),
            ("/mnt/b/../a", Some("/mnt/a")),
            ("/../../mnt/a/..", Some("/mnt")),
            ("/mnt/ü b/\"", Some("/mnt/ü b/\"")),
            ("/", Some("/")),
            ("/..", Some("/")),
            ("mnt/a", None),
            ("", None),
            (":/export", None),
        ] {
            assert_eq!(normal(path).as_deref(), expected, "{path:?}");
        }
    }
}
