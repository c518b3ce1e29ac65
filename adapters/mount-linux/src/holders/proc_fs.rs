//! Processes as `/proc` lists them.

use std::collections::BTreeSet;
use std::fs::{read, read_dir};

/// The ids of all processes, in order.
pub(crate) fn ids() -> BTreeSet<u32> {
    let Ok(entries) = read_dir("/proc") else { return BTreeSet::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The name of a process, or `None` when it has ended.
pub(crate) fn name_of(id: u32) -> Option<String> {
    Some(shown_name(&read(format!("/proc/{id}/comm")).ok()?))
}

/// A process chooses its own name: control characters and the like are escaped.
fn shown_name(comm: &[u8]) -> String {
    let name = comm.strip_suffix(b"\n").unwrap_or(comm);
    String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_processes_choose_do_no_harm() {
        for (comm, shown) in [
            (&b"postgres\n"[..], "postgres"),
            (b"a b", "a b"),
            (b"\x1b[2J\n\n", "\\u{1b}[2J\\n"),
            (b"\xff\n", "\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(shown_name(comm), shown);
        }
        assert!(ids().contains(&std::process::id()));
        assert_eq!(name_of(u32::MAX), None);
    }
}
