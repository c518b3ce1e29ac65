//! Words that went stay away: each had a better known one in its place. They are looked for in the identifiers of
//! code; comments and texts may use them as plain English.

use super::source::product_code;
use super::{Breach, TextFile};

const RULE: &str = "the field's words";

/// A part of identifiers: words in `CamelCase` or in `snake_case`. So `FarStore` is in `FarStoreParts`, and `take_back`
/// in `take_back_all`, but `heard` is not in `unheard`.
struct Word {
    word: &'static str,
    /// The folder in which it may not stand; empty for everywhere.
    within: &'static str,
    instead: &'static str,
}

const fn word(word: &'static str, within: &'static str, instead: &'static str) -> Word {
    Word { word, within, instead }
}

/// Extend it with each word that goes.
const WORDS: &[Word] = &[
    word("Achieved", "", "Completed"),
    word("Acquaintance", "adapters/docker-engine/", "EngineState"),
    word("AttachmentBook", "", "AttachmentTable"),
    word("Attachments", "domain/src/ports/", "Mounter"),
    word("Edition", "", "Revision"),
    word("Enquiry", "adapters/docker-engine/", "Query"),
    word("FarStore", "", "CircuitBreaker"),
    word("Heard", "adapters/", "ReceivedAnswer"),
    word("House", "", "Core"),
    word("InDoubt", "", "UnresolvedJobs"),
    word("Left", "adapters/store-nfs/", "Leftover"),
    word("Line", "adapters/docker-engine/", "Connection"),
    word("LostPlace", "", "BadCookie"),
    word("Mark", "adapters/store-nfs/", "DeleteLock"),
    word("Meant", "", "Intent"),
    word("Nonsense", "", "Protocol"),
    word("Place", "adapters/mount-linux/", "DirEntry"),
    word("Standing", "", "VolumeHealth"),
    word("Stop", "apps/dvs-core/", "WorkError"),
    word("TakenBack", "", "Destroyed"),
    word("Talk", "adapters/docker-engine/", "Session"),
    word("VolumeUsers", "", "VolumeReferences"),
    word("Way", "adapters/", "Path"),
    word("doubt", "", "unresolved"),
    word("drawn_id", "", "random_id"),
    word("hear", "", "load"),
    word("heard", "adapters/job-json/", "received_answer"),
    word("settle", "adapters/", "recover"),
    word("settle", "apps/dvs-agent/", "resolve"),
    word("settle", "apps/dvs-core/", "recover"),
    word("take_back", "", "destroy"),
    word("way_to", "", "resolve"),
];

pub(super) fn breaches(files: &[TextFile]) -> Vec<Breach> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    rust.flat_map(|file| of_file(file, WORDS)).collect()
}

fn of_file(file: &TextFile, words: &[Word]) -> Vec<Breach> {
    let words: Vec<_> = words.iter().filter(|word| file.path.starts_with(word.within)).collect();
    let code = product_code(&file.text);
    let identifiers = code.lines().enumerate().flat_map(|(line, code)| {
        let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        words.filter(|word| !word.is_empty()).map(move |word| (line + 1, word))
    });
    identifiers
        .filter_map(|(line, identifier)| {
            let word = words.iter().find(|word| contains(identifier, word.word))?;
            let cure = format!("`{identifier}`: say `{}` instead of `{}`", word.instead, word.word);
            Some(Breach::at_line(RULE, file, line, cure))
        })
        .collect()
}

/// Whether the parts of `word` follow each other in `identifier`.
fn contains(identifier: &str, word: &str) -> bool {
    let (identifier, word) = (parts(identifier), parts(word));
    identifier.windows(word.len()).any(|window| window == word)
}

/// `take_back` is `take` and `back`, `FarStore` is `Far` and `Store`.
fn parts(identifier: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for mut part in identifier.split('_') {
        while let Some(end) = part.char_indices().skip(1).find(|(at, letter)| {
            letter.is_uppercase() && part[..*at].ends_with(|letter: char| !letter.is_uppercase())
        }) {
            let (first, rest) = part.split_at(end.0);
            parts.push(first);
            part = rest;
        }
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[Word] = &[word("FarStore", "", "CircuitBreaker"), word("take_back", "a/", "rollback")];

    fn found(path: &str, text: &str) -> Vec<String> {
        of_file(&TextFile::of(path, text), LIST).into_iter().map(|breach| breach.place).collect()
    }

    #[test]
    fn words_are_found_as_parts_of_identifiers() {
        for code in
            ["struct FarStore;", "fn f(a: FarStoreParts) {}", "a.take_back()", "fn take_back_all() {}"]
        {
            assert_eq!(found("a/b.rs", &format!("//! A.\n{code}")), ["a/b.rs:2"], "{code}");
        }
    }

    #[test]
    fn other_words_other_folders_and_texts_are_free() {
        for code in [
            "struct Far;",
            "struct AfarStores;",
            "fn take_backs() {}",
            "// FarStore take_back\nlet a = \"FarStore\";",
            "#[cfg(test)]\nmod tests {\n    fn take_back() {}\n}",
        ] {
            assert_eq!(found("a/b.rs", code), [""; 0], "{code}");
        }
        assert_eq!(found("c/b.rs", "a.take_back()"), [""; 0]);
    }
}
