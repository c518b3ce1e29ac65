//! Rules for what people read and what the gate calls: licence, contract and architecture are there, the README names
//! the commands, and the gate is the command that developers type.

use super::{Breach, TextFile};

const RULE: &str = "papers and gate";

/// A file and what must stand in it.
const PAPERS: [(&str, &[&str]); 5] = [
    ("LICENSE", &[]),
    ("docs/contract.md", &[]),
    ("docs/architecture.md", &[]),
    ("README.md", &["cargo xtask demo", "cargo xtask ci"]),
    (GATE, &["cargo xtask ci"]),
];

const GATE: &str = ".ci/run";

pub(super) fn breaches(files: &[TextFile]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (path, texts) in PAPERS {
        let Some(file) = files.iter().find(|file| file.path == path) else {
            breaches.push(Breach::new(RULE, path, "the file is missing: write it"));
            continue;
        };
        for text in texts.iter().filter(|text| !says(file, text)) {
            breaches.push(Breach::new(RULE, path, format!("it must say `{text}`")));
        }
        if path == GATE && !file.executable {
            breaches.push(Breach::new(RULE, path, format!("make it a program: `chmod +x {path}`")));
        }
    }
    breaches
}

/// A comment in a script is not what it does.
fn says(file: &TextFile, text: &str) -> bool {
    let script = file.path == GATE;
    file.text
        .lines()
        .filter(|line| !(script && line.trim_start().starts_with('#')))
        .any(|line| line.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(readme: &str, gate: &str, executable: bool) -> Vec<TextFile> {
        vec![
            TextFile::of("LICENSE", ""),
            TextFile::of("docs/contract.md", ""),
            TextFile::of("docs/architecture.md", ""),
            TextFile::of("README.md", readme),
            TextFile { executable, ..TextFile::of(GATE, gate) },
        ]
    }

    #[test]
    fn all_is_there() {
        let good = files("`cargo xtask demo`\n`cargo xtask ci`", "set -e\ncargo xtask ci\n", true);
        assert_eq!(breaches(&good), []);
    }

    #[test]
    fn what_lacks_is_told() {
        assert_eq!(breaches(&[]).len(), 5);
        assert_eq!(breaches(&files("", "", false)).len(), 4);
        let commented = files("cargo xtask demo, cargo xtask ci", "# cargo xtask ci", true);
        assert_eq!(breaches(&commented).len(), 1);
    }
}
