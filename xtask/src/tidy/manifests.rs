//! Rules for manifests: versions and lints in one place, the root manifest, and nothing there that nobody uses.

use std::collections::HashSet;

use toml::{Table, Value};

use super::{Breach, TextFile};

const RULE: &str = "one place for versions and lints";
const ROOT: &str = "Cargo.toml";
const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn breaches(files: &[TextFile]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut used = HashSet::new();
    let mut offered = Vec::new();
    for file in files.iter().filter(|file| file.path == ROOT || file.path.ends_with("/Cargo.toml")) {
        let manifest = match file.text.parse::<Table>() {
            Ok(manifest) => manifest,
            Err(error) => {
                breaches.push(Breach::new(
                    RULE,
                    &file.path,
                    format!("it cannot be read: {}", error.message()),
                ));
                continue;
            }
        };
        if file.path == ROOT {
            let table = |value: &Value| value.as_table().map(|table| table.keys().cloned().collect());
            let workspace = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
            offered = workspace.and_then(table).unwrap_or_default();
            continue;
        }
        breaches.extend(member(file, &manifest));
        used.extend(dependencies(&manifest).into_iter().map(|(name, _)| name.to_owned()));
    }
    offered.retain(|name| !used.contains(name));
    breaches.extend(offered.into_iter().map(|name| {
        let cure = format!("no crate depends on `{name}`: remove its line from [workspace.dependencies]");
        Breach::new(RULE, ROOT, cure)
    }));
    breaches
}

fn member(file: &TextFile, manifest: &Table) -> Vec<Breach> {
    let inherits = |value: &Value| value.get("workspace").and_then(Value::as_bool) == Some(true);
    let mut breaches: Vec<_> = dependencies(manifest)
        .into_iter()
        .filter(|(_, dependency)| !inherits(dependency))
        .map(|(name, _)| {
            let cure = format!("write `{name}.workspace = true`, and the version into the root manifest");
            Breach::new(RULE, &file.path, cure)
        })
        .collect();
    if !manifest.get("lints").is_some_and(inherits) {
        breaches.push(Breach::new(RULE, &file.path, "add `[lints]` with `workspace = true`"));
    }
    breaches
}

/// All dependencies of a manifest, of every kind and for every platform.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    let platforms = manifest.get("target").and_then(Value::as_table);
    let platforms = platforms.into_iter().flat_map(|table| table.values()).filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(platforms)
        .flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flat_map(|table| table.iter().map(|(name, value)| (name.as_str(), value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[lints]\nworkspace = true\n[dependencies]\na.workspace = true\n\
                        [dev-dependencies]\nb = { workspace = true, features = [\"c\"] }\n";

    fn cures(root: &str, member: &str) -> Vec<String> {
        let files = [TextFile::of(ROOT, root), TextFile::of("domain/Cargo.toml", member)];
        breaches(&files).into_iter().map(|breach| breach.cure).collect()
    }

    #[test]
    fn inherited_versions_and_lints_are_good() {
        assert_eq!(cures("[workspace.dependencies]\na = \"1\"\nb = \"2\"\n", GOOD), [""; 0]);
    }

    #[test]
    fn versions_elsewhere_and_missing_lints_are_found() {
        let found = cures(
            "",
            "[dependencies]\na = \"1\"\n[target.'cfg(unix)'.build-dependencies]\nb = { path = \"b\" }\n",
        );
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_version_that_nobody_uses_is_found() {
        let found = cures("[workspace.dependencies]\na = \"1\"\nb = \"2\"\nc = \"3\"\n", GOOD);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`c`"));
    }
}
