//! Mount points: absolute, normal paths, and the roots below which DVS may mount.

use crate::failure::{Failure, FailureCode};
use crate::names::{VolumeName, shown};
use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Where a volume is, or is to be, visible: an absolute, normal path that is not `/`. All copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountPoint(Arc<str>);

impl MountPoint {
    /// The longest path that Linux takes in a system call, without the final NUL (`PATH_MAX`, limits.h).
    pub const BYTES_MAX: usize = 4095;
    /// The longest name of one directory (`NAME_MAX`, limits.h).
    pub const COMPONENT_BYTES_MAX: usize = 255;

    /// Takes `path` if it is absolute and normal: no `.`, no `..`, no doubled and no trailing `/`,
    /// no control character.
    ///
    /// # Errors
    /// [`FailureCode::ForbiddenPath`], naming the path and what is wrong with it.
    pub fn new(path: impl Into<String>) -> Result<Self, Failure> {
        let path = path.into();
        let refuse = |what: &str| {
            Err(Failure::new(FailureCode::ForbiddenPath, format!("mount point `{}` {what}", shown(&path)))
                .with_hint("give an absolute path without `.`, `..`, links, doubled or trailing `/`"))
        };
        let Some(below) = path.strip_prefix('/') else { return refuse("is not absolute") };
        if below.is_empty() {
            return refuse("is the root of the host");
        }
        if path.len() > Self::BYTES_MAX {
            return refuse("is longer than 4095 bytes");
        }
        if path.chars().any(char::is_control) {
            return refuse("has a control character");
        }
        for component in below.split('/') {
            match component {
                "" => return refuse("has a doubled or trailing `/`"),
                "." | ".." => return refuse("has a `.` or `..`"),
                _ if component.len() > Self::COMPONENT_BYTES_MAX => {
                    return refuse("has a component longer than 255 bytes");
                }
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this lies strictly below `other`.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        is_below(&self.0, &other.0)
    }

    /// Whether this is `other`, or one lies below the other: then they are one lane.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other || self.is_below(other) || other.is_below(self)
    }

    /// The entries of `map` above this path, innermost first. Costs as many look-ups as the path has components.
    pub(crate) fn above_in<'a, V>(
        &'a self,
        map: &'a BTreeMap<Self, V>,
    ) -> impl Iterator<Item = (&'a Self, &'a V)> {
        let ends = self.0.rmatch_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
        ends.filter_map(|end| map.get_key_value(&self.0[..end]))
    }

    /// The entries of `map` below this path, in order. Costs nothing for those that lie elsewhere.
    pub(crate) fn below_in<'a, V>(
        &self,
        map: &'a BTreeMap<Self, V>,
    ) -> impl Iterator<Item = (&'a Self, &'a V)> + use<'a, V> {
        // `0` is the character after `/`: all paths between the two begin with this one and a `/`.
        let (first, end) = (format!("{}/", self.0), format!("{}0", self.0));
        map.range::<str, _>((Bound::Included(first.as_str()), Bound::Excluded(end.as_str())))
    }

    /// The name of a volume whose job gave none: a readable tail of the path, `-`, and 26 base32 digits
    /// (RFC 4648, lower case) of the path's SHA-256, so that two paths never share a name.
    #[must_use]
    pub fn derived_name(&self) -> VolumeName {
        const TAIL_CHARACTERS_MAX: usize = 60;
        const DIGITS: usize = 26;
        let digits = BASE32_NOPAD.encode(&Sha256::digest(self.0.as_bytes())).to_ascii_lowercase();
        let readable: String = self
            .0
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' })
            .collect();
        let tail = &readable[readable.len().saturating_sub(TAIL_CHARACTERS_MAX)..];
        let tail = tail.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let tail = if tail.is_empty() { "volume" } else { tail };
        VolumeName::new(format!("{tail}-{}", &digits[..DIGITS]))
            .expect("a tail of safe characters that starts with a letter or digit is a name")
    }
}

impl Borrow<str> for MountPoint {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// A place below which jobs may mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRoot {
    /// The root's path.
    pub path: MountPoint,
    /// Whether the root itself may be a mount point too.
    pub itself: bool,
}

/// The roots below which jobs may mount (contract.md section 3), and the agent's own that they may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedRoots {
    roots: Vec<MountRoot>,
}

impl AllowedRoots {
    /// Where the agent itself mounts what has no mount point of its own. Never a job's.
    pub const OWN: &'static str = "/var/lib/dvs/mounts";

    /// The roots that are always allowed, and `configured` ones.
    #[must_use]
    pub fn with(configured: impl IntoIterator<Item = MountPoint>) -> Self {
        let root = |path: &str, itself| MountRoot { path: MountPoint(path.into()), itself };
        let mut roots = vec![
            root("/mnt", true),
            root("/srv", true),
            root("/media", true),
            root("/var/lib/docker/volumes", false),
        ];
        roots.extend(configured.into_iter().map(|path| MountRoot { path, itself: true }));
        Self { roots }
    }

    /// Every root.
    #[must_use]
    pub fn roots(&self) -> &[MountRoot] {
        &self.roots
    }

    /// The longest root that allows `mount_point`.
    ///
    /// # Errors
    /// [`FailureCode::ForbiddenPath`], naming the roots.
    pub fn check(&self, mount_point: &MountPoint) -> Result<&MountRoot, Failure> {
        let own = MountPoint(Self::OWN.into());
        let allowing = self
            .roots
            .iter()
            .filter(|root| mount_point.is_below(&root.path) || (root.itself && *mount_point == root.path))
            .max_by_key(|root| root.path.as_str().len());
        match allowing {
            _ if mount_point.overlaps(&own) => Err(Failure::new(
                FailureCode::ForbiddenPath,
                format!("mount point `{mount_point}` is the agent's own place"),
            )),
            Some(root) => Ok(root),
            None => {
                let roots: Vec<String> = self.roots.iter().map(|root| format!("`{}`", root.path)).collect();
                Err(Failure::new(
                    FailureCode::ForbiddenPath,
                    format!(
                        "mount point `{}` is not below an allowed root ({})",
                        shown(mount_point.as_str()),
                        roots.join(", ")
                    ),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> MountPoint {
        MountPoint::new(path).unwrap()
    }

    #[test]
    fn only_absolute_normal_paths_are_mount_points() {
        for good in ["/mnt", "/mnt/a b", "/srv/ü", "/mnt/..a", "/mnt/\"quoted\"\\"] {
            assert_eq!(at(good).as_str(), good);
        }
        let long = format!("/mnt/{}", "a/".repeat(2100));
        for bad in [
            "",
            "/",
            "mnt/a",
            "/mnt/",
            "/mnt//a",
            "/mnt/./a",
            "/mnt/../etc",
            "/mnt/..",
            "//",
            "/mnt/a\0b",
            "/mnt/a\nb",
            &long,
        ] {
            let refused = MountPoint::new(bad).unwrap_err();
            assert_eq!(refused.code(), FailureCode::ForbiddenPath, "{bad:?}");
        }
        assert!(MountPoint::new(format!("/mnt/{}", "a".repeat(256))).is_err());
    }

    #[test]
    fn nested_mount_points_are_one_lane_and_neighbours_are_not() {
        assert!(at("/mnt/a").overlaps(&at("/mnt/a")));
        assert!(at("/mnt/a/b").overlaps(&at("/mnt/a")) && at("/mnt/a").overlaps(&at("/mnt/a/b")));
        assert!(!at("/mnt/ab").overlaps(&at("/mnt/a")));
    }

    #[test]
    fn an_ordered_map_gives_what_lies_above_and_below() {
        let paths =
            ["/mnt", "/mnt/a", "/mnt/a-x", "/mnt/a/b", "/mnt/a/b/c", "/mnt/a0", "/mnt/ab", "/srv/a/b"];
        let map: BTreeMap<MountPoint, ()> = paths.map(|path| (at(path), ())).into();
        for path in paths.map(at).into_iter().chain([at("/mnt/a/c"), at("/mnt/a/b/c/d"), at("/srv/a")]) {
            let expected = |is_meant: &dyn Fn(&MountPoint) -> bool| -> Vec<MountPoint> {
                map.keys().filter(|other| is_meant(other)).cloned().collect()
            };
            let below: Vec<MountPoint> = path.below_in(&map).map(|(other, ())| other.clone()).collect();
            assert_eq!(below, expected(&|other| other.is_below(&path)), "below {path}");
            let mut above: Vec<MountPoint> = path.above_in(&map).map(|(other, ())| other.clone()).collect();
            above.reverse();
            assert_eq!(above, expected(&|other| path.is_below(other)), "above {path}");
        }
    }

    #[test]
    fn roots_allow_what_the_contract_says() {
        let roots = AllowedRoots::with([at("/data")]);
        for good in
            ["/mnt", "/mnt/a", "/srv/x/y", "/media", "/data", "/data/1", "/var/lib/docker/volumes/x/_data"]
        {
            assert!(roots.check(&at(good)).is_ok(), "{good}");
        }
        for bad in [
            "/etc",
            "/mntx",
            "/var/lib/docker/volumes",
            "/var/lib/docker",
            "/var/lib/dvs/mounts/a",
            "/var",
            "/database",
        ] {
            assert_eq!(roots.check(&at(bad)).unwrap_err().code(), FailureCode::ForbiddenPath, "{bad}");
        }
        let everything = AllowedRoots::with([at("/var")]);
        assert!(
            everything.check(&at("/var/lib/dvs/mounts/x")).is_err(),
            "the agent's own place is never a job's"
        );
    }

    #[test]
    fn derived_names_are_readable_valid_and_distinct() {
        assert_eq!(at("/mnt/a").derived_name().as_str(), "mnt-a-64rvhm643d2xufq5c7onjbprhb");
        assert_ne!(at("/mnt/a-b").derived_name(), at("/mnt/a/b").derived_name());
        for path in ["/mnt/ü", "/-", "/mnt/....", &format!("/mnt/{}", "x/".repeat(200).trim_end_matches('/'))]
        {
            let name = at(path).derived_name();
            assert!(name.as_str().len() <= 128, "{name}");
        }
    }
}
