//! Rules for Rust files: their length, tests that really run and don't sleep, silenced lints with a reason, and
//! where code may be unsafe. And for all files: no marks for work to do later.

use super::source::{code, has_word, product_code};
use super::{Breach, TextFile};

const LINES_MAX: usize = 450;

/// The only modules with code that the compiler can't check: each wraps a system call that has no safe wrapper.
const UNSAFE_MODULES: &[&str] = &[
    "adapters/store-loop/src/command.rs",
    "adapters/store-loop/src/device.rs",
    "adapters/mount-linux/src/mount_attributes.rs",
    "adapters/mountinfo/src/system_calls.rs",
    "adapters/store-nfs/tests/support/counting.rs",
    "apps/dvs-trials/src/bench/loop_control.rs",
];

/// How the names of concrete stores begin.
const STORES: &str = "dvs_store_";
/// The only file of an app that names concrete stores.
const COMPOSITION_ROOT: &str = "apps/dvs-agent/src/compose.rs";
/// Measuring and killing programs, which look below the ports.
const TRIALS: &str = "apps/dvs-trials/";

/// Files that may sleep in tests: they wait for a condition, with a limit.
const WAITING_FILES: [&str; 2] = ["/wait.rs", "/support/"];

/// Put together here, so that this file keeps the rule too.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

pub(super) fn breaches(files: &[TextFile]) -> Vec<Breach> {
    let mut breaches: Vec<_> = files.iter().flat_map(marks).collect();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let code = code(&file.text);
        breaches.extend(length(file));
        breaches.extend(left_out(file, &code));
        breaches.extend(sleeps(file, &code));
        breaches.extend(silenced_lints(file, &code));
        breaches.extend(unsafe_code(file, &code));
        breaches.extend(concrete_stores(file));
    }
    breaches
}

fn marks(file: &TextFile) -> Vec<Breach> {
    let marked = |line: &str| MARKS.iter().any(|mark| has_word(line, mark));
    on_lines(
        file,
        &file.text,
        "no marks for later",
        marked,
        "do it now, or open an issue and remove the mark",
    )
}

fn length(file: &TextFile) -> Option<Breach> {
    let lines = file.text.lines().count();
    (LINES_MAX < lines).then(|| {
        let cure = format!("{lines} lines: split it by meaning into files of at most {LINES_MAX}");
        Breach::new("short files", &file.path, cure)
    })
}

fn left_out(file: &TextFile, code: &str) -> Vec<Breach> {
    let ignored = |line: &str| line.contains("#[ignore");
    let cure = "let the test run, or let it say `NOT RUN: NAME: WHY` and return";
    let mut breaches = on_lines(file, code, "no ignored tests", ignored, cure);
    let missing = |line: &str| ["todo!", "unimplemented!"].iter().any(|word| line.contains(word));
    breaches.extend(on_lines(
        file,
        code,
        "no missing code",
        missing,
        "write it, or leave the whole thing out",
    ));
    breaches
}

fn sleeps(file: &TextFile, code: &str) -> Vec<Breach> {
    if WAITING_FILES.iter().any(|part| file.path.contains(part)) {
        return Vec::new();
    }
    let of_tests = file.path.starts_with("features/")
        || file.path.split('/').any(|part| part == "tests" || part == "tests.rs");
    // In a file with both, the tests come last.
    let first = code.lines().position(|line| of_tests || line.contains("#[cfg(test)]"));
    let lines = code.lines().enumerate().skip(first.unwrap_or(usize::MAX));
    let cure =
        "wait for a condition, with a limit; only a file `wait.rs` or in `support/` may sleep for that";
    lines
        .filter(|(_, line)| {
            has_word(line, "sleep") && ["time::", "thread::"].iter().any(|from| line.contains(from))
        })
        .map(|(index, _)| Breach::at_line("no sleeping in tests", file, index + 1, cure))
        .collect()
}

fn silenced_lints(file: &TextFile, code: &str) -> Vec<Breach> {
    attributes(code)
        .filter(|(_, text)| {
            let silences = ["allow", "expect"].iter().any(|word| has_word(text, word));
            silences && !has_word(text, "reason")
        })
        .map(|(line, _)| {
            Breach::at_line(
                "silenced lints have a reason",
                file,
                line,
                "add `reason = \"…\"`, or do as the lint says",
            )
        })
        .collect()
}

fn unsafe_code(file: &TextFile, code: &str) -> Vec<Breach> {
    if UNSAFE_MODULES.contains(&file.path.as_str()) {
        return Vec::new();
    }
    let cure = format!(
        "use a safe wrapper; what has none belongs into {} or is listed in xtask/src/tidy/rust.rs",
        UNSAFE_MODULES.join(", ")
    );
    on_lines(file, code, "unsafe code in few places", |line| has_word(line, "unsafe"), &cure)
}

fn concrete_stores(file: &TextFile) -> Vec<Breach> {
    let path = file.path.as_str();
    let product = path.starts_with("apps/") && path.contains("/src/") && !path.starts_with(TRIALS);
    if !product || path == COMPOSITION_ROOT {
        return Vec::new();
    }
    let cure = format!("only {COMPOSITION_ROOT} names concrete stores: ask the store through the port");
    let names_store = |line: &str| line.contains(STORES);
    on_lines(file, &product_code(&file.text), "one place chooses stores", names_store, &cure)
}

fn on_lines(
    file: &TextFile,
    text: &str,
    rule: &'static str,
    broken: impl Fn(&str) -> bool,
    cure: &str,
) -> Vec<Breach> {
    let lines = text.lines().enumerate().filter(|(_, line)| broken(line));
    lines.map(|(index, _)| Breach::at_line(rule, file, index + 1, cure)).collect()
}

/// Each attribute, with the line where it begins.
fn attributes(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices('#').filter_map(|(start, _)| {
        let rest = &code[start + 1..];
        let open = rest.strip_prefix('!').unwrap_or(rest);
        if !open.starts_with('[') {
            return None;
        }
        let mut depth = 0_usize;
        let end = open.find(|letter: char| {
            match letter {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
        Some((code[..start].matches('\n').count() + 1, &open[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;

    fn of(path: &str, text: &str) -> Vec<Breach> {
        breaches(&[TextFile::of(path, text)])
    }

    #[test]
    fn marks_are_found_in_any_file() {
        for mark in MARKS {
            assert_eq!(rules(&of("README.md", &format!("{mark}: later"))), ["no marks for later"]);
            assert_eq!(rules(&of("a.rs", &format!("// {mark} later"))), ["no marks for later"]);
        }
        assert_eq!(of("README.md", &format!("a M{} list", MARKS[0])), []);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(of("a.rs", &"\n".repeat(LINES_MAX)), []);
        assert_eq!(rules(&of("a.rs", &"\n".repeat(LINES_MAX + 1))), ["short files"]);
    }

    #[test]
    fn ignored_tests_and_missing_code_are_found_and_texts_about_them_are_not() {
        assert_eq!(rules(&of("a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}")), ["no ignored tests"]);
        assert_eq!(
            rules(&of("a.rs", "fn a() { todo!() }\nfn b() { unimplemented!() }")),
            ["no missing code"; 2]
        );
        assert_eq!(of("a.rs", "// #[ignore]\nlet a = \"todo!\";"), []);
    }

    #[test]
    fn sleeping_is_found_in_tests_only() {
        let sleeping = "use std::thread;\nfn a() { thread::sleep(LIMIT); }";
        for path in ["features/src/steps.rs", "adapters/a/tests/b.rs", "adapters/a/src/tests.rs"] {
            assert_eq!(rules(&of(path, sleeping)), ["no sleeping in tests"], "{path}");
        }
        assert_eq!(of("adapters/a/src/lib.rs", sleeping), []);
        assert_eq!(of("features/src/wait.rs", sleeping), []);
        let below =
            "fn a() { sleep(); }\n#[cfg(test)]\nmod tests {\n    use tokio::time::{sleep, Duration};\n}";
        assert_eq!(of("adapters/a/src/lib.rs", below)[0].place, "adapters/a/src/lib.rs:4");
    }

    #[test]
    fn a_silenced_lint_needs_a_reason() {
        let found =
            of("a.rs", "fn a() {}\n#![allow(dead_code)]\n#[cfg_attr(test, expect(unused))]\nfn b() {}");
        assert_eq!(rules(&found), ["silenced lints have a reason"; 2]);
        assert_eq!(found[0].place, "a.rs:2");
        let good =
            "#[expect(\n    dead_code,\n    reason = \"in [brackets]\"\n)]\nfn a() { b.expect(\"c\") }";
        assert_eq!(of("a.rs", good), []);
    }

    #[test]
    fn concrete_stores_are_named_in_one_place() {
        let code = "use dvs_store_loop::LoopStore;";
        for path in ["apps/dvs-agent/src/life.rs", "apps/dvs-core/src/core.rs", "apps/dvs/src/main.rs"] {
            assert_eq!(rules(&of(path, code)), ["one place chooses stores"], "{path}");
        }
        for path in [COMPOSITION_ROOT, "apps/dvs-trials/src/bench.rs", "apps/dvs-core/tests/core.rs"] {
            assert_eq!(of(path, code), [], "{path}");
        }
        let in_tests = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use dvs_store_fake::FakeStore;\n}";
        assert_eq!(of("apps/dvs-agent/src/life.rs", in_tests), []);
    }

    #[test]
    fn unsafe_code_stays_where_it_may_be() {
        let code = "fn a() { unsafe { b() } }";
        assert_eq!(rules(&of("domain/src/lib.rs", code)), ["unsafe code in few places"]);
        assert_eq!(of(UNSAFE_MODULES[0], code), []);
        assert_eq!(of("domain/src/lib.rs", "#![forbid(unsafe_code)] // no unsafe here"), []);
    }
}
