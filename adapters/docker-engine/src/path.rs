//! Paths as containers and mount points spell them, and how one lies to another. Looks at nothing.

/// How a folder that a container has bound lies to the mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lies {
    /// It is the mount point.
    At,
    /// It is inside.
    Below,
    /// The mount point is inside it, there where this leads.
    Above(String),
}

/// One place, in each spelling that is known: as somebody wrote it, and without links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    spellings: Vec<String>,
}

impl Place {
    /// The place that is spelt `spellings`: normal, absolute paths.
    pub(crate) fn new(spellings: impl IntoIterator<Item = String>) -> Self {
        Self { spellings: spellings.into_iter().collect() }
    }

    /// How this lies to `mount_point`, if they have to do with each other.
    pub(crate) fn lies_to(&self, mount_point: &Self) -> Option<Lies> {
        let pairs =
            self.spellings.iter().flat_map(|mine| mount_point.spellings.iter().map(move |at| (mine, at)));
        let found: Vec<Lies> = pairs.filter_map(|(mine, at)| lies(mine, at)).collect();
        let within = found.iter().find(|lies| matches!(lies, Lies::At | Lies::Below));
        within.or(found.first()).cloned()
    }
}

fn lies(folder: &str, mount_point: &str) -> Option<Lies> {
    if folder == mount_point {
        return Some(Lies::At);
    }
    if below(folder, mount_point).is_some() {
        return Some(Lies::Below);
    }
    below(mount_point, folder).map(|rest| Lies::Above(rest.to_owned()))
}

/// Where `path` leads from `folder` on, if it lies below it. Both are normal.
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

/// Leaves the last component of `path`. The root is the empty path here.
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

    fn place(spellings: &[&str]) -> Place {
        Place::new(spellings.iter().map(|spelling| (*spelling).to_owned()))
    }

    #[test]
    fn a_folder_lies_at_below_or_above_a_mount_point_or_has_nothing_to_do_with_it() {
        for (folder, lies) in [
            ("/mnt/a", Some(Lies::At)),
            ("/mnt/a/sub", Some(Lies::Below)),
            ("/mnt/a/b c/ü", Some(Lies::Below)),
            ("/mnt", Some(Lies::Above("a".to_owned()))),
            ("/", Some(Lies::Above("mnt/a".to_owned()))),
            ("/mnt/ab", None),
            ("/mnt/b", None),
            ("/mn", None),
            ("/x/mnt/a", None),
        ] {
            assert_eq!(place(&[folder]).lies_to(&place(&["/mnt/a"])), lies, "{folder}");
        }
    }

    #[test]
    fn any_two_spellings_can_meet_and_the_closest_way_counts() {
        let mount_point = place(&["/srv/a", "/data/srv/a"]);
        assert_eq!(place(&["/l", "/data/srv/a"]).lies_to(&mount_point), Some(Lies::At));
        assert_eq!(place(&["/srv/a/x"]).lies_to(&mount_point), Some(Lies::Below));
        assert_eq!(place(&["/data"]).lies_to(&mount_point), Some(Lies::Above("srv/a".to_owned())));
        assert_eq!(place(&["/data", "/data/srv/a/b"]).lies_to(&mount_point), Some(Lies::Below));
        assert_eq!(place(&["/data/srv/ab", "/srv/b"]).lies_to(&mount_point), None);
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
