//! The failpoints of the sources: the places at which the crash test has to have killed an agent. They are found where
//! they are used, so that none can be forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::tidy::source::{code, literals};
use crate::workspace::Workspace;

/// The feature of the crates that have failpoints.
const FEATURE: &str = "failpoints";

/// No agent with a store on loop devices runs this one; its own tests kill at its failpoints.
const OTHERWISE_KILLED: &str = "dvs-store-fake";

/// The functions that a failpoint is given to by its name.
const FUNCTIONS: [&str; 2] = ["failpoint", "between"];

/// Every failpoint that an agent with a store on loop devices can pass.
pub(crate) fn of_sources(workspace: &Workspace) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for package in &workspace.metadata.packages {
        if package.features.contains_key(FEATURE) && package.name.as_str() != OTHERWISE_KILLED {
            let folder = package.manifest_path.as_std_path().with_file_name("src");
            search(&folder, &mut found)?;
        }
    }
    if found.is_empty() {
        bail!("no failpoint was found in the sources");
    }
    Ok(found.into_iter().collect())
}

fn search(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.is_dir() {
            search(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.extend(of_file(&text));
        }
    }
    Ok(())
}

/// The names in one file: literals like `loop.image` between the parentheses of such a function.
fn of_file(text: &str) -> Vec<String> {
    // In a file with both, the tests come last.
    let end = code(text).lines().position(|line| line.contains("#[cfg(test)]")).unwrap_or(usize::MAX);
    let product = text.lines().take(end).collect::<Vec<_>>().join("\n");
    let code: Vec<char> = code(&product).chars().collect();
    let calls: Vec<Range<usize>> = (0..code.len()).filter_map(|at| call(&code, at)).collect();
    let is_given = |at: &usize| calls.iter().any(|call| call.contains(at));
    literals(&product)
        .into_iter()
        .filter(|(at, name)| is_given(at) && is_name(name))
        .map(|(_, name)| name)
        .collect()
}

/// What is between the parentheses of the call that begins at `at`, if one does.
fn call(code: &[char], at: usize) -> Option<Range<usize>> {
    let in_word = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    if at.checked_sub(1).is_some_and(|before| in_word(&code[before])) {
        return None;
    }
    let word: String = code[at..].iter().take_while(|letter| in_word(letter)).collect();
    let open = at + word.chars().count();
    if !FUNCTIONS.contains(&word.as_str()) || code.get(open) != Some(&'(') {
        return None;
    }
    let mut depth = 0_usize;
    let length = code[open..].iter().position(|letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(open..open + length)
}

fn is_name(literal: &str) -> bool {
    let lower = |text: &str| {
        let mut letters = text.chars();
        letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|letter| letter.is_ascii_lowercase() || letter == '-')
    };
    literal.split_once('.').is_some_and(|(crate_word, step)| lower(crate_word) && lower(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_used_and_nowhere_else() {
        let text = "fn a() {\n    step::failpoint(\n        \"loop.image\",\n    )?; // failpoint(\"loop.comment\")\n    \
                    between(Step::A, \"loop.un-link\");\n    b(\"A text. With a dot\", \"record.copy\");\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn a() { failpoint(\"loop.test\") }\n}\n";
        assert_eq!(of_file(text), ["loop.image", "loop.un-link"]);
    }
}
