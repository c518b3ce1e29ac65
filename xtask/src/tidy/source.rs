//! Rust source without what is no code: comments and the insides of literals become blanks, lines stay lines. So a
//! rule can look for words without being fooled by a text that speaks of them.

/// How the tests of a file begin; they come last.
const TESTS: &str = "#[cfg(test)]\nmod ";

/// The code of `source`: as many lines, and in each the code at its place.
pub(crate) fn code(source: &str) -> String {
    let letters: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < letters.len() {
        let end = literal_or_comment(&letters, at);
        if end == at {
            code.push(letters[at]);
            at += 1;
        } else {
            code.extend(letters[at..end].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// The code of `source` without the tests at its end.
pub(super) fn product_code(source: &str) -> String {
    let mut code = code(source);
    let tests = code.match_indices(TESTS).find(|(start, _)| {
        let head = code[start + TESTS.len()..].lines().next();
        head.is_some_and(|head| head.ends_with('{'))
    });
    if let Some((start, _)) = tests {
        code.truncate(start);
    }
    code
}

/// Whether `word` stands in `line`, not as a part of a longer word.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let in_word =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    line.match_indices(word).any(|(at, _)| {
        !in_word(line[..at].chars().next_back()) && !in_word(line[at + word.len()..].chars().next())
    })
}

/// The texts in plain quotation marks of `source`, in order, each with the place of its first mark.
pub(crate) fn literals(source: &str) -> Vec<(usize, String)> {
    let letters: Vec<char> = source.chars().collect();
    let mut literals = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let end = literal_or_comment(&letters, at);
        if letters[at] == '"' && at + 1 < end {
            literals.push((at, letters[at + 1..end - 1].iter().collect()));
        }
        at = end.max(at + 1);
    }
    literals
}

/// Where the literal or comment that begins at `at` ends. `at` itself: none begins there.
fn literal_or_comment(letters: &[char], at: usize) -> usize {
    let letter = |index: usize| letters.get(index).copied();
    match (letters[at], letter(at + 1)) {
        ('/', Some('/')) => find(letters, at, |index| letters[index] == '\n'),
        ('/', Some('*')) => block_comment(letters, at),
        ('"', _) => quoted(letters, at, '"'),
        ('r', Some('"' | '#')) if !continues_a_word(letters, at) => raw_string(letters, at),
        // A character, or else a lifetime, which is code.
        ('\'', Some('\\')) => quoted(letters, at, '\''),
        ('\'', Some(_)) if letter(at + 2) == Some('\'') => at + 3,
        _ => at,
    }
}

fn block_comment(letters: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < letters.len() {
        match (letters[at], letters.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn quoted(letters: &[char], start: usize, mark: char) -> usize {
    let mut at = start + 1;
    while at < letters.len() && letters[at] != mark {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    letters.len().min(at + 1)
}

fn raw_string(letters: &[char], start: usize) -> usize {
    let quote = find(letters, start + 1, |index| letters[index] != '#');
    if letters.get(quote) != Some(&'"') {
        // `r#word` is a word.
        return start;
    }
    let hashes = quote - start - 1;
    let closed = |index: usize| {
        letters[index] == '"'
            && letters[index + 1..].iter().take(hashes).filter(|letter| **letter == '#').count() == hashes
    };
    letters.len().min(find(letters, quote + 1, closed) + 1 + hashes)
}

/// `br"…"` and `cr"…"` are raw strings too, but `for"` would not be.
fn continues_a_word(letters: &[char], at: usize) -> bool {
    let in_word = |index: usize| letters[index].is_alphanumeric() || letters[index] == '_';
    match at {
        0 => false,
        1 => in_word(0) && !matches!(letters[0], 'b' | 'c'),
        _ => in_word(at - 1) && (!matches!(letters[at - 1], 'b' | 'c') || in_word(at - 2)),
    }
}

fn find(letters: &[char], start: usize, wanted: impl Fn(usize) -> bool) -> usize {
    (start..letters.len()).find(|index| wanted(*index)).unwrap_or(letters.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_blanks() {
        for (source, expected) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a "b \" c" d"#, "a          d"),
            ("a r#\"b \" c\"# d", "a            d"),
            ("a br\"b\\\" d", "a b      d"),
            ("fn a<'b>(c: &'b str) { 'x' }", "fn a<'b>(c: &'b str) {     }"),
            (r"a '\'' b", "a      b"),
            ("r#type // x", "r#type     "),
        ] {
            assert_eq!(code(source), expected, "{source}");
        }
    }

    #[test]
    fn tests_at_the_end_are_left_out() {
        let declared = "#[cfg(test)]\nmod testing;\nfn a() {}\n";
        assert_eq!(product_code(declared), declared);
        assert_eq!(product_code(&format!("{declared}#[cfg(test)]\nmod tests {{\n}}\n")), declared);
    }

    #[test]
    fn literals_are_read_and_comments_are_not() {
        let found = literals("a(\"b\", 'c', \"\"); // \"d\"\n\"e\"");
        assert_eq!(found, [(2, "b".to_owned()), (12, String::new()), (24, "e".to_owned())]);
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("pub unsafe fn a()", "unsafe"));
        assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
    }
}
