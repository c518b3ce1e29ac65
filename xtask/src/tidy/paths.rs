//! The paths by which Rust code names what other modules define.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// The name that a `use` gives it in its file; none for a path in an expression, nor for `*`.
    pub(super) name: Option<String>,
    pub(super) public: bool,
}

/// Every `use`, and every path of at least two names, in code without comments and literals.
pub(super) fn imports(code: &str) -> Vec<Import> {
    let tokens = tokens(code);
    let mut imports = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            // `pub use`, or the end of `pub(crate) use`.
            let public = 0 < at && ["pub", ")"].contains(&tokens[at - 1]);
            at = tree(&tokens, at + 1, &[], public, &mut imports);
        } else if is_name(tokens[at]) && tokens.get(at + 1) == Some(&"::") {
            let mut path = vec![tokens[at].to_owned()];
            at += 1;
            while tokens.get(at) == Some(&"::") && tokens.get(at + 1).is_some_and(|token| is_name(token)) {
                path.push(tokens[at + 1].to_owned());
                at += 2;
            }
            imports.push(Import { path, name: None, public: false });
        }
        at += 1;
    }
    imports
}

/// Reads a tree of a `use` and returns where it ends.
fn tree(tokens: &[&str], mut at: usize, parent: &[String], public: bool, imports: &mut Vec<Import>) -> usize {
    let mut path = parent.to_vec();
    let mut alias = None;
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while let Some(token) = tokens.get(at).filter(|token| **token != "}") {
                    at = if *token == "," { at + 1 } else { tree(tokens, at, &path, public, imports) };
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => {
                alias = tokens.get(at + 1).map(|name| (*name).to_owned());
                at += 1;
            }
            name if is_name(name) => path.push(name.to_owned()),
            "*" => alias = Some(String::new()),
            _ => {}
        }
        at += 1;
    }
    if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
        path.pop();
    }
    let name = alias.or_else(|| path.last().cloned()).filter(|name| !name.is_empty());
    imports.push(Import { path, name, public });
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Names, `::`, and single letters of everything else.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(letter) = rest.chars().next() {
        let length = if letter.is_alphanumeric() || letter == '_' {
            rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            letter.len_utf8()
        };
        let (token, behind) = rest.split_at(length);
        tokens.push(token);
        rest = behind.trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(code: &str) -> Vec<String> {
        let shown = |Import { path, name, public }: Import| {
            let public = if public { "pub " } else { "" };
            format!("{public}{} {}", path.join("::"), name.unwrap_or_default()).trim_end().to_owned()
        };
        imports(code).into_iter().map(shown).collect()
    }

    #[test]
    fn trees_names_and_paths_are_read() {
        for (code, expected) in [
            ("use a::b;", &["a::b b"][..]),
            (
                "pub use a::{b, c::{self, d as e}, f::*};",
                &["pub a::b b", "pub a::c c", "pub a::c::d e", "pub a::f"],
            ),
            ("pub(crate) use a::b;", &["pub a::b b"]),
            ("fn a() -> b::C { <d::E>::f(g::h::<i::J>()) }", &["b::C", "d::E", "g::h", "i::J"]),
            ("fn a(b: &C) -> impl D + use<'_> {}", &[]),
        ] {
            assert_eq!(shown(code), expected, "{code}");
        }
    }
}
