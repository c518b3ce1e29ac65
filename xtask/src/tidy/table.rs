//! Reads the dependency table of docs/architecture.md: what each crate may depend on, which foreign libraries it
//! owns, and which libraries are free to all.
//!
//! It stands between two marks. A row is `| crate | crates of the workspace | foreign libraries |`, names in
//! backquotes; what only tests need has `(tests)` behind it. Below the table, a line that begins with `Free to all:`.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<String, Row>,
    /// Libraries that any crate may use: they stand for nothing outside of the program.
    pub(super) free: BTreeSet<String>,
}

/// What the table grants to one crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) crates: BTreeSet<Grant>,
    pub(super) libraries: BTreeSet<Grant>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) name: String,
    pub(super) tests: bool,
}

const OPEN: &str = "<!-- dependencies -->";
const CLOSE: &str = "<!-- /dependencies -->";
const FREE: &str = "Free to all:";

impl Table {
    /// Reads the table in `text`. `None`: it is not there, or a crate has two rows.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (_, text) = text.split_once(OPEN)?;
        let (text, _) = text.split_once(CLOSE)?;
        let mut table = Self::default();
        let (rows, free) = text.split_once(FREE).unwrap_or((text, ""));
        table.free = grants(free).into_iter().map(|grant| grant.name).collect();
        for row in rows.lines().filter_map(|line| line.trim().strip_prefix('|')) {
            let mut cells = row.split('|');
            let (name, crates, libraries) = (cells.next()?, cells.next()?, cells.next()?);
            // The head of the table has no names in it.
            let Some(name) = grants(name).pop_first() else { continue };
            let row = Row { crates: grants(crates), libraries: grants(libraries) };
            if table.rows.insert(name.name, row).is_some() {
                return None;
            }
        }
        Some(table)
    }
}

fn grants(cell: &str) -> BTreeSet<Grant> {
    let mut parts = cell.split('`').skip(1);
    let mut grants = BTreeSet::new();
    while let Some(name) = parts.next() {
        let behind = parts.next().unwrap_or_default();
        grants.insert(Grant { name: name.to_owned(), tests: behind.trim_start().starts_with("(tests)") });
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A\n<!-- dependencies -->\n| crate | may depend on | owns |\n|---|---|---|\n\
        | `a` | | |\n| `b` | `a`, `t` (tests) | `mqtt` |\n\nFree to all: `serde`,\n`tokio`.\n\
        <!-- /dependencies -->\n| `c` | | |\n";

    #[test]
    fn rows_and_free_libraries_are_read() {
        let table = Table::read(TEXT).unwrap();
        assert_eq!(table.rows.keys().collect::<Vec<_>>(), ["a", "b"]);
        let row = &table.rows["b"];
        let grant = |name: &str, tests| Grant { name: name.to_owned(), tests };
        assert_eq!(row.crates, BTreeSet::from([grant("a", false), grant("t", true)]));
        assert_eq!(row.libraries, BTreeSet::from([grant("mqtt", false)]));
        assert_eq!(table.free, BTreeSet::from(["serde".to_owned(), "tokio".to_owned()]));
    }

    #[test]
    fn no_table_and_two_rows_of_one_crate_are_no_table() {
        assert_eq!(Table::read("# A"), None);
        assert_eq!(Table::read(&TEXT.replace("`b`", "`a`")), None);
    }
}
