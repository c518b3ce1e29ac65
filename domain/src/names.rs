//! Names that come from outside: each has one rule, kept here, and can then be trusted everywhere.

use crate::failure::{Failure, FailureCode};
use std::fmt;
use std::sync::Arc;

/// Defines a name: a private text, which all copies share, and one constructor that refuses what breaks the rule.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` if it keeps the rule.
            ///
            /// # Errors
            /// [`FailureCode::BadRequest`], naming what was given and the rule.
            pub fn new(text: impl Into<String>) -> Result<Self, Failure> {
                let text = text.into();
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(&text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Failure::new(
                        FailureCode::BadRequest,
                        format!("{} `{}` must be {}", $what, shown(&text), $rule),
                    ))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The host on which an agent runs, as a word of its topics. At most 255 bytes, the length of a
    /// host name (RFC 1035); never `sip`, because `docker/sip/…` is where answers go.
    NodeName, "node name", "1 to 255 characters without `/`, `+`, `#` or control characters, and not `sip`",
    |text| is_topic_word(text, 255) && text != "sip"
);

name!(
    /// Who asked (`sipId`): the word of the topic that its answers go to.
    SenderId, "sender", "1 to 128 characters without `/`, `+`, `#` or control characters",
    |text| is_topic_word(text, 128)
);

name!(
    /// The id that a sender chose for a job: 1 to 128 visible ASCII characters.
    JobId, "job id", "1 to 128 visible ASCII characters",
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
);

name!(
    /// A store's name on this node.
    StoreName, "store name", "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", is_plain_name
);

name!(
    /// A volume's name within its store. Safe as the name of a file: it holds no `/`, is neither
    /// `.` nor `..`, and does not start with `-`.
    VolumeName, "volume name", "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", is_plain_name
);

name!(
    /// What a node is told apart by in stores that several nodes share, whatever it is called: 32 hexadecimal
    /// digits, drawn once and kept in its state folder.
    NodeId, "node id", "32 hexadecimal digits",
    |text| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);

name!(
    /// Tells one acceptance of a job from any other, also of the same key: every attempt at it bears this id, over
    /// restarts, and so does the volume that it makes.
    AttemptId, "attempt id", "1 to 80 hexadecimal digits and `-`",
    |text| (1..=80).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
);

fn is_topic_word(text: &str, most: usize) -> bool {
    !text.is_empty()
        && text.chars().count() <= most
        && !text.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control())
}

fn is_plain_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// `text` as it may stand in a message: control characters escaped, and cut at 80 characters.
pub(crate) fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut shown: String = text.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > CHARACTERS_MAX {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_names_are_safe_as_file_names() {
        for good in ["a", "9", "pg-data_1.x", &"v".repeat(128)] {
            assert_eq!(VolumeName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "-rf",
            "_a",
            "a b",
            "a\0",
            "a\n",
            "ä",
            &"v".repeat(129),
            &"v".repeat(300),
        ] {
            let refused = VolumeName::new(bad).unwrap_err();
            assert_eq!(refused.code(), FailureCode::BadRequest, "{bad:?}");
        }
    }

    #[test]
    fn senders_and_nodes_are_one_topic_word() {
        assert!(SenderId::new("host.example ü").is_ok());
        for bad in ["", "a/b", "a+", "#", "a\n", "a\u{0}", &"x".repeat(129)] {
            assert!(SenderId::new(bad).is_err(), "{bad:?}");
        }
        assert!(NodeName::new("sip").is_err());
        assert!(NodeName::new("sip2").is_ok());
    }

    #[test]
    fn job_ids_are_visible_ascii() {
        assert!(JobId::new("1234567890").is_ok());
        for bad in ["", "a b", "ä", "a\t", &"1".repeat(129)] {
            assert!(JobId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn node_ids_are_one_length_and_one_alphabet() {
        assert!(NodeId::new("0123456789abcdef0123456789abcdef").is_ok());
        for bad in
            ["", "0123456789ABCDEF0123456789ABCDEF", "../3456789abcdef0123456789abcdef", &"0".repeat(33)]
        {
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn messages_show_what_was_given_without_control_characters() {
        let refused = VolumeName::new(format!("a\n{}", "b".repeat(200))).unwrap_err().to_string();
        assert!(refused.contains("a\\nbbb") && refused.contains('…') && refused.len() < 200, "{refused}");
    }
}
