//! The house rules that no compiler checks. Each rule reads the files of the tree, or the metadata of the crates, and
//! reports the rule, the place and the cure of each breach.

mod circles;
mod dependencies;
mod gherkin;
mod manifests;
mod papers;
mod paths;
mod rust;
pub(crate) mod source;
mod table;
mod words;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// A text file of the tree.
struct TextFile {
    /// From the root, with `/`.
    path: String,
    text: String,
    executable: bool,
}

/// Where a rule is broken and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    rule: &'static str,
    place: String,
    cure: String,
}

impl Breach {
    fn new(rule: &'static str, place: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { rule, place: place.into(), cure: cure.into() }
    }

    fn at_line(rule: &'static str, file: &TextFile, line: usize, cure: impl Into<String>) -> Self {
        Self::new(rule, format!("{}:{line}", file.path), cure)
    }
}

pub(crate) fn command(workspace: &Workspace) -> Result<ExitCode> {
    check(workspace).map(|()| ExitCode::SUCCESS)
}

/// Prints each breach. Any is an error.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let files = tree(workspace.root())?;
    if files.is_empty() {
        bail!("git knows no file here: there is nothing to check");
    }
    let mut breaches = dependencies::breaches(&dependencies::crates(workspace), &files);
    breaches.extend(manifests::breaches(&files));
    breaches.extend(gherkin::breaches(&files));
    breaches.extend(rust::breaches(&files));
    breaches.extend(words::breaches(&files));
    breaches.extend(circles::breaches(&files));
    breaches.extend(papers::breaches(&files));
    for Breach { rule, place, cure } in &breaches {
        println!("{place}: {rule}: {cure}");
    }
    match breaches.len() {
        0 => {
            println!("{} files keep the house rules", files.len());
            Ok(())
        }
        1 => bail!("one breach of the house rules"),
        count => bail!("{count} breaches of the house rules"),
    }
}

/// The text files that git knows or would add.
fn tree(root: &Path) -> Result<Vec<TextFile>> {
    let mut git = run::program("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let mut paths: Vec<_> = run::text(&mut git)?.split('\0').map(ToOwned::to_owned).collect();
    paths.sort();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths.into_iter().filter(|path| !path.is_empty()) {
        let place = root.join(&path);
        // Git still knows a file that was just removed, and a link's target is looked at where it lies.
        let Ok(found) = fs::symlink_metadata(&place) else { continue };
        if !found.is_file() {
            continue;
        }
        let bytes = fs::read(&place).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(TextFile { path, text, executable: found.permissions().mode() & 0o111 != 0 });
        }
    }
    Ok(files)
}

#[cfg(test)]
impl TextFile {
    fn of(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), executable: false }
    }
}

/// The rules that were broken, in order.
#[cfg(test)]
fn rules(breaches: &[Breach]) -> Vec<&'static str> {
    breaches.iter().map(|breach| breach.rule).collect()
}
