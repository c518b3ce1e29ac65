//! No files of a crate import each other in a circle: each can then be read after those that it uses.
//!
//! An import is a path in code that begins with `crate`, `super`, `self` or the name of a child module. It leads to
//! the file that defines the name, through re-exports. Two kinds are no import here: a `pub use` of what lies in
//! a module's own folder, and what a file takes from a module that it is a part of.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{self, Import};
use super::source::product_code;
use super::{Breach, TextFile};

const RULE: &str = "no circles of imports";

/// How often a name may be re-exported until it is given up.
const REEXPORTS_MAX: usize = 8;

pub(super) fn breaches(files: &[TextFile]) -> Vec<Breach> {
    let mut crates = BTreeMap::<&str, Vec<Module>>::new();
    for file in files {
        if let Some((root, names)) = module_of(&file.path) {
            let imports = paths::imports(&product_code(&file.text));
            crates.entry(root).or_default().push(Module { path: &file.path, names, imports });
        }
    }
    crates.into_values().flat_map(|modules| circles(&modules)).collect()
}

struct Module<'f> {
    path: &'f str,
    /// The names that lead to it from the root of its crate.
    names: Vec<String>,
    imports: Vec<Import>,
}

/// The root folder of the crate that a file belongs to, and the names of its module.
fn module_of(path: &str) -> Option<(&str, Vec<String>)> {
    let module = path.strip_suffix(".rs")?;
    let start = ["/src/", "/tests/"].iter().find_map(|folder| Some(module.find(folder)? + folder.len()))?;
    let mut root = &path[..start - 1];
    let mut names: Vec<_> = module[start..].split('/').collect();
    if names[0] == "bin" {
        return None;
    }
    // A test of several files: its folder is the crate.
    if root.ends_with("/tests") && 1 < names.len() {
        root = &path[..start + names.remove(0).len()];
    }
    if names.last().is_some_and(|name| ["lib", "main", "mod"].contains(name)) {
        names.pop();
    }
    Some((root, names.into_iter().map(ToOwned::to_owned).collect()))
}

/// One breach for each set of files that reach each other.
fn circles(modules: &[Module<'_>]) -> Vec<Breach> {
    let edges: Vec<_> = modules.iter().map(|from| imported(modules, from)).collect();
    let reached: Vec<_> = (0..modules.len()).map(|from| reachable(&edges, from)).collect();
    let mut told = BTreeSet::new();
    let mut breaches = Vec::new();
    for (from, module) in modules.iter().enumerate() {
        let circle: BTreeSet<_> =
            reached[from].iter().copied().filter(|to| reached[*to].contains(&from)).collect();
        if circle.is_empty() || !told.insert(circle.clone()) {
            continue;
        }
        let arrows = circle.iter().flat_map(|from| {
            let inside = edges[*from].intersection(&circle);
            inside.map(|to| format!("`{}` -> `{}`", modules[*from].path, modules[*to].path))
        });
        let arrows: Vec<_> = arrows.collect();
        let cure = format!("move what both need into a file below both: {}", arrows.join(", "));
        breaches.push(Breach::new(RULE, module.path, cure));
    }
    breaches
}

fn reachable(edges: &[BTreeSet<usize>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = edges[from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&edges[module]);
        }
    }
    reached
}

fn imported(modules: &[Module<'_>], from: &Module<'_>) -> BTreeSet<usize> {
    let targets = from.imports.iter().filter_map(|import| {
        let to = target(modules, &from.names, &import.path, REEXPORTS_MAX)?;
        let names = &modules[to].names;
        let reexport = import.public && names.starts_with(&from.names);
        (!reexport && !from.names.starts_with(names)).then_some(to)
    });
    targets.collect()
}

/// The module that defines what `path`, written in the module `from`, names. `None`: it is of another crate.
fn target(modules: &[Module<'_>], from: &[String], path: &[String], reexports_left: usize) -> Option<usize> {
    let find = |names: &[String]| modules.iter().position(|module| module.names == names);
    let mut at = from.to_vec();
    let mut module = find(from);
    let mut names = path.iter();
    let mut inside = false;
    while let Some(name) = names.as_slice().first() {
        match name.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => _ = at.pop(),
            _ => {
                at.push(name.clone());
                if find(&at).is_none() {
                    at.pop();
                    break;
                }
            }
        }
        inside = true;
        module = find(&at);
        names.next();
    }
    let module = module.filter(|_| inside)?;
    let source = names
        .next()
        .and_then(|name| modules[module].imports.iter().find(|import| import.name.as_ref() == Some(name)));
    match source {
        Some(source) if 0 < reexports_left => {
            // A name of another crate that passes through this module is of no module here.
            target(modules, &at, &source.path, reexports_left - 1)
        }
        _ => Some(module),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| TextFile::of(path, text)).collect();
        breaches(&files).into_iter().map(|breach| breach.place).collect()
    }

    #[test]
    fn two_files_and_three_files_in_a_circle_are_found() {
        let two = [("a/src/b.rs", "use crate::c::C;"), ("a/src/c.rs", "fn f() { super::b::f() }")];
        assert_eq!(found(&two), ["a/src/b.rs"]);
        let three = [
            ("a/src/b.rs", "use crate::{d, c::{self, C}};"),
            ("a/src/c/mod.rs", "use super::d::D as E;"),
            ("a/src/d.rs", "pub(crate) use crate::b::{B};"),
            ("a/src/lib.rs", "mod b; mod c; mod d; pub use b::B;"),
        ];
        assert_eq!(found(&three), ["a/src/b.rs"]);
        assert_eq!(found(&three[1..]), [""; 0]);
    }

    #[test]
    fn a_reexport_leads_to_the_file_that_defines() {
        let files = |c: &'static str| {
            [
                ("a/src/b/mod.rs", "mod c; mod d; pub(crate) use c::C; pub(crate) use d::D;"),
                ("a/src/b/c.rs", c),
                ("a/src/b/d.rs", "pub struct D;"),
                ("a/src/e.rs", "use crate::b::C;"),
            ]
        };
        assert_eq!(found(&files("use super::D;")), [""; 0]);
        assert_eq!(found(&files("use crate::e::E;")), ["a/src/b/c.rs"]);
    }

    #[test]
    fn a_part_may_use_what_its_module_has_but_not_by_way_of_another() {
        let part = ("a/src/b/c.rs", "use super::B;");
        assert_eq!(found(&[("a/src/b/mod.rs", "use c::C; pub struct B;"), part]), [""; 0]);
        let files = [
            ("a/src/b/mod.rs", "mod c; use c::C; pub struct B;"),
            ("a/src/b/c.rs", "use crate::d::D;"),
            ("a/src/d.rs", "use crate::b::B;"),
        ];
        assert_eq!(found(&files), ["a/src/b/mod.rs"]);
    }

    #[test]
    fn tests_inside_a_file_and_other_crates_do_not_count() {
        let files = [
            ("a/src/b.rs", "use crate::c::C;"),
            ("a/src/c.rs", "use b::B; use std::b;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n"),
            ("d/src/c.rs", "use crate::b::B;"),
        ];
        assert_eq!(found(&files), [""; 0]);
    }
}
