//! Rules for dependencies: their direction, one owner for each foreign library, and a table in the ARCHITECTURE that
//! matches the manifests.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, Package};

use super::table::{Grant, Row, Table};
use super::{Breach, TextFile};
use crate::workspace::Workspace;

const ARROWS: &str = "arrows point at the domain";
const OWNERS: &str = "one owner for each foreign library";
const TABLE: &str = "the dependency table tells the truth";

/// Has the table.
const ARCHITECTURE: &str = "docs/architecture.md";
const AGENT: &str = "dvs-agent";
/// The part of the agent that knows ports only.
const CORE: &str = "dvs-core";
/// What the core may use besides: the async runtime, logging, and what its failpoints need.
const CORE_LIBRARIES: [&str; 6] = ["async-trait", "fail", "futures", "rustix", "tokio", "tracing"];
/// The core over a simulated world.
const SIMULATION: &str = "dvs-sim";
/// The programs that try the real agent from outside.
const TRIALS: &str = "dvs-trials";
/// Topics and payloads, which the adapters for MQTT share.
const WIRE: &str = "dvs-job-json";
const MQTT: &str = "dvs-mqtt-";
/// What several adapters need to know of formats that belong to none of them.
const SHARED_BY_ADAPTERS: [&str; 2] = ["dvs-mountinfo", "dvs-volume-record"];
/// The promises of the store port, for tests only.
const STORE_CONTRACT: &str = "dvs-store-contract";
/// What an app other than the agent needs to be a sender, besides the agent that it runs.
const SENDER: [&str; 3] = [AGENT, WIRE, "dvs-mqtt-rumqttc"];

/// A crate of the workspace and what it depends on.
pub(super) struct Crate {
    name: String,
    place: Place,
    manifest: String,
    crates: BTreeSet<Grant>,
    libraries: BTreeSet<Grant>,
}

/// The folder that a crate lives in says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Domain,
    Adapter,
    App,
    /// Tests of the whole program: scenarios, and the programs that kill and measure it.
    Trials,
    Xtask,
}

pub(super) fn crates(workspace: &Workspace) -> Vec<Crate> {
    let packages = &workspace.metadata.packages;
    let own: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    packages.iter().map(|package| read(workspace, package, &own)).collect()
}

pub(super) fn breaches(crates: &[Crate], files: &[TextFile]) -> Vec<Breach> {
    let mut breaches: Vec<_> = crates.iter().flat_map(|from| arrows(from, crates)).collect();
    breaches.extend(crates.iter().filter(|from| from.name == CORE).flat_map(core_libraries));
    let table = files.iter().find(|file| file.path == ARCHITECTURE).and_then(|file| Table::read(&file.text));
    match table {
        Some(table) => {
            breaches.extend(owners(crates, &table));
            breaches.extend(differences(crates, &table));
        }
        None => breaches.push(Breach::new(
            TABLE,
            ARCHITECTURE,
            "write one table with one row per crate, as `xtask/src/tidy/table.rs` says",
        )),
    }
    breaches
}

fn read(workspace: &Workspace, package: &Package, own: &BTreeSet<&str>) -> Crate {
    let manifest = package.manifest_path.as_std_path();
    let manifest = manifest.strip_prefix(workspace.root()).unwrap_or(manifest).to_string_lossy().into_owned();
    let needed: BTreeSet<&str> = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
        .collect();
    // A crate may depend on itself, so that its tests have a feature of it.
    let others = package.dependencies.iter().filter(|dependency| dependency.name != package.name.as_str());
    let all = others.map(|dependency| {
        let name = dependency.name.clone();
        let tests = !needed.contains(name.as_str());
        Grant { name, tests }
    });
    let (crates, libraries) = all.partition(|grant: &Grant| own.contains(grant.name.as_str()));
    let place = match manifest.split('/').next() {
        Some("domain") => Place::Domain,
        Some("adapters") => Place::Adapter,
        Some("apps") if package.name.as_str() != TRIALS => Place::App,
        Some("apps" | "features") => Place::Trials,
        _ => Place::Xtask,
    };
    Crate { name: package.name.to_string(), place, manifest, crates, libraries }
}

fn arrows(from: &Crate, crates: &[Crate]) -> Vec<Breach> {
    from.crates
        .iter()
        .filter_map(|grant| {
            let to = crates.iter().find(|to| to.name == grant.name)?;
            let reason = forbidden(from, to, grant.tests)?;
            let cure = format!("it must not depend on `{}`: {reason}", to.name);
            Some(Breach::new(ARROWS, &from.manifest, cure))
        })
        .collect()
}

/// The core runs the same in the agent and in the simulation: what it uses must not reach outside of the program.
fn core_libraries(core: &Crate) -> impl Iterator<Item = Breach> {
    let needed = core.libraries.iter().filter(|library| !library.tests);
    needed.filter(|library| !CORE_LIBRARIES.contains(&library.name.as_str())).map(|library| {
        let cure = format!("the core must not use `{}`: put it behind a port", library.name);
        Breach::new(ARROWS, &core.manifest, cure)
    })
}

/// Why `from` must not depend on `to`, if so.
fn forbidden(from: &Crate, to: &Crate, tests: bool) -> Option<&'static str> {
    if to.name == STORE_CONTRACT && !tests && from.place != Place::Trials {
        return Some("it is for tests: write it under [dev-dependencies]");
    }
    match (from.place, to.place) {
        (Place::Domain, _) => Some("the domain depends on nothing of the workspace"),
        (Place::Xtask, _) => Some("it must also judge a workspace that does not compile"),
        (Place::Trials, Place::Trials) => None,
        (_, Place::Xtask | Place::Trials) => Some("it is no part of the program"),
        (_, Place::Domain) | (Place::Trials, _) => None,
        (Place::Adapter, Place::Adapter) if to.name == STORE_CONTRACT => None,
        (Place::Adapter, Place::Adapter) if to.name == WIRE && from.name.starts_with(MQTT) => None,
        (Place::Adapter, Place::Adapter) if SHARED_BY_ADAPTERS.contains(&to.name.as_str()) => None,
        // Two ends of one wire may be tried against each other.
        (Place::Adapter, Place::Adapter) if tests && [from, to].iter().all(|end| speaks_mqtt(end)) => None,
        (Place::Adapter, _) => Some("adapters depend on the domain, and not on each other"),
        (Place::App, _) => forbidden_to_app(&from.name, to, tests),
    }
}

fn forbidden_to_app(from: &str, to: &Crate, tests: bool) -> Option<&'static str> {
    match from {
        SIMULATION if [CORE, WIRE].contains(&to.name.as_str()) => None,
        SIMULATION => Some("the simulation uses the core, the wire format and its own fakes"),
        // Tests of an app may take any adapter to stand for the world.
        _ if tests && to.place == Place::Adapter => None,
        CORE => Some("the core depends on ports only"),
        AGENT if to.name == CORE || to.place == Place::Adapter => None,
        AGENT => Some("the agent depends on no other app but the core"),
        _ if SENDER.contains(&to.name.as_str()) => None,
        _ => Some("only the agent's composition root uses concrete adapters"),
    }
}

fn speaks_mqtt(end: &Crate) -> bool {
    end.name.starts_with(MQTT) || end.name == WIRE
}

/// Each library that is not free to all belongs to one crate. Where that crate is must be said in the table.
fn owners(crates: &[Crate], table: &Table) -> Vec<Breach> {
    let used: BTreeSet<&Grant> = crates.iter().flat_map(|user| &user.libraries).collect();
    let mut breaches = Vec::new();
    for library in used.iter().filter(|library| !library.tests && !table.free.contains(&library.name)) {
        // Tests stand on the other end of the wire, with a client of their own.
        let users: Vec<_> = crates
            .iter()
            .filter(|user| user.place != Place::Trials && user.libraries.contains(library))
            .collect();
        if let [first, second, ..] = users.as_slice() {
            let cure =
                format!("`{}` uses `{}` too: go through the crate that owns it", first.name, library.name);
            breaches.push(Breach::new(OWNERS, &second.manifest, cure));
        }
    }
    let known = |name: &String| used.iter().any(|library| library.name == *name);
    for name in table.free.iter().filter(|name| !known(name)) {
        breaches.push(Breach::new(
            TABLE,
            ARCHITECTURE,
            format!("no crate uses `{name}`: remove it from the free ones"),
        ));
    }
    breaches
}

fn differences(crates: &[Crate], table: &Table) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for Crate { name, crates, libraries, .. } in crates {
        let Some(row) = table.rows.get(name) else {
            breaches.push(Breach::new(TABLE, ARCHITECTURE, format!("`{name}` has no row: add one")));
            continue;
        };
        let bound = libraries.iter().filter(|library| !table.free.contains(&library.name)).cloned().collect();
        breaches.extend(compare(name, &Row { crates: crates.clone(), libraries: bound }, row));
    }
    let exists = |name: &String| crates.iter().any(|known| known.name == *name);
    for name in table.rows.keys().filter(|name| !exists(name)) {
        breaches.push(Breach::new(
            TABLE,
            ARCHITECTURE,
            format!("there is no crate `{name}`: remove its row"),
        ));
    }
    breaches
}

fn compare(name: &str, real: &Row, told: &Row) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (column, real, told) in
        [("second", &real.crates, &told.crates), ("third", &real.libraries, &told.libraries)]
    {
        for grant in real.difference(told) {
            let cure = format!(
                "`{name}` depends on {}: add it to the {column} column (or, a library without a world outside, \
                 to the free ones), or drop the dependency",
                shown(grant)
            );
            breaches.push(Breach::new(TABLE, ARCHITECTURE, cure));
        }
        for grant in told.difference(real) {
            let cure =
                format!("`{name}` does not depend on {}: remove it from the {column} column", shown(grant));
            breaches.push(Breach::new(TABLE, ARCHITECTURE, cure));
        }
    }
    breaches
}

fn shown(grant: &Grant) -> String {
    format!("`{}`{}", grant.name, if grant.tests { " (tests)" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;

    const DOMAIN: &str = "dvs-domain";

    fn grants(names: &[&str]) -> BTreeSet<Grant> {
        let grant = |name: &&str| match name.strip_suffix(" (tests)") {
            Some(name) => Grant { name: name.to_owned(), tests: true },
            None => Grant { name: (*name).to_owned(), tests: false },
        };
        names.iter().map(grant).collect()
    }

    fn of(place: Place, name: &str, crates: &[&str], libraries: &[&str]) -> Crate {
        let manifest = format!("{name}/Cargo.toml");
        Crate { name: name.to_owned(), place, manifest, crates: grants(crates), libraries: grants(libraries) }
    }

    fn house() -> Vec<Crate> {
        vec![
            of(Place::Domain, DOMAIN, &[], &["sha2"]),
            of(Place::Adapter, WIRE, &[DOMAIN], &["serde"]),
            of(Place::Adapter, STORE_CONTRACT, &[DOMAIN], &[]),
            of(Place::Adapter, "dvs-mqtt-rumqttc", &[DOMAIN, WIRE], &["rumqttc"]),
            of(Place::Adapter, "dvs-store-fake", &[DOMAIN, "dvs-store-contract (tests)"], &[]),
            of(Place::App, AGENT, &[CORE, DOMAIN, WIRE, "dvs-mqtt-rumqttc", "dvs-store-fake"], &["serde"]),
            of(Place::App, "dvs", &[AGENT, DOMAIN, WIRE, "dvs-mqtt-rumqttc"], &[]),
            of(Place::Trials, "dvs-features", &[STORE_CONTRACT, "dvs-store-fake"], &["cucumber"]),
            of(Place::Xtask, "xtask", &[], &[]),
            of(Place::App, CORE, &[DOMAIN, "dvs-store-fake (tests)"], &[]),
            of(Place::App, SIMULATION, &[CORE, DOMAIN, WIRE], &[]),
            of(Place::Adapter, "dvs-mount-linux", &[DOMAIN, "dvs-mountinfo"], &[]),
            of(Place::Adapter, "dvs-mountinfo", &[], &[]),
        ]
    }

    /// The table that says what `house` is.
    fn table(house: &[Crate]) -> String {
        let cell = |grants: &BTreeSet<Grant>| {
            let bound = grants.iter().filter(|grant| !["sha2", "serde"].contains(&grant.name.as_str()));
            bound.map(shown).collect::<Vec<_>>().join(", ")
        };
        let row =
            |of: &Crate| format!("| `{}` | {} | {} |\n", of.name, cell(&of.crates), cell(&of.libraries));
        let rows: String = house.iter().map(row).collect();
        format!("<!-- dependencies -->\n{rows}\nFree to all: `serde`, `sha2`\n<!-- /dependencies -->\n")
    }

    fn found(house: &[Crate], table: &str) -> Vec<&'static str> {
        rules(&breaches(house, &[TextFile::of(ARCHITECTURE, table)]))
    }

    #[test]
    fn a_good_house_has_no_breach() {
        assert_eq!(found(&house(), &table(&house())), [""; 0]);
    }

    #[test]
    fn wrong_arrows_are_found() {
        for (index, to) in [
            (0, WIRE),
            (1, "dvs-store-fake"),
            (4, WIRE),
            (4, AGENT),
            (2, "dvs-store-fake (tests)"),
            (5, "dvs"),
            (5, "dvs-features"),
            (6, "dvs-store-fake"),
            (7, "xtask"),
            (8, DOMAIN),
            (9, "dvs-store-fake"),
            (9, WIRE),
            (10, AGENT),
            (10, "dvs-store-fake"),
            (10, "dvs-store-fake (tests)"),
            (12, "dvs-mount-linux"),
            (6, CORE),
        ] {
            let mut house = house();
            house[index].crates.extend(grants(&[to]));
            assert_eq!(found(&house, &table(&house)), [ARROWS], "{} -> {to}", house[index].name);
        }
    }

    #[test]
    fn the_store_contract_is_for_tests() {
        let mut house = house();
        house[4].crates = grants(&[DOMAIN, STORE_CONTRACT]);
        assert_eq!(found(&house, &table(&house)), [ARROWS]);
    }

    #[test]
    fn the_core_uses_only_what_runs_in_the_simulation_too() {
        let mut house = house();
        house[9].libraries = grants(&["tokio", "nix (tests)"]);
        assert_eq!(found(&house, &table(&house)), [""; 0]);
        house[9].libraries = grants(&["tokio", "bollard"]);
        assert_eq!(found(&house, &table(&house)), [ARROWS]);
    }

    #[test]
    fn a_foreign_library_has_one_owner_but_any_test_may_use_it() {
        let mut house = house();
        house[5].libraries.extend(grants(&["rumqttc (tests)"]));
        assert_eq!(found(&house, &table(&house)), [""; 0]);
        house[5].libraries = grants(&["serde", "rumqttc"]);
        assert_eq!(found(&house, &table(&house)), [OWNERS]);
    }

    #[test]
    fn the_table_is_compared_in_both_directions() {
        let house = house();
        let good = table(&house);
        assert_eq!(found(&house, &good), [""; 0]);
        for wrong in [
            good.replace("`rumqttc`", ""),
            good.replace("`rumqttc`", "`rumqttc`, `paho-mqtt`"),
            good.replace("| `dvs-store-fake` | `dvs-domain`, ", "| `dvs-store-fake` | "),
            good.replacen("(tests)", "(tests), `dvs-job-json` (tests)", 1),
            good.replace("| `xtask` |  |  |\n", ""),
            good.replace("| `xtask` |  |  |\n", "| `xtask` |  |  |\n| `gone` |  |  |\n"),
            good.replace("`sha2`", "`sha2`, `gone`"),
            String::new(),
        ] {
            assert_eq!(found(&house, &wrong), [TABLE], "{wrong}");
        }
    }
}
