//! A payload as a JSON object, parsed strictly: what a lenient parser would ignore is kept as a flaw, so that the
//! refusal can still be sent to the right sender.

use crate::shown;
use dvs_domain::failure::{Failure, FailureCode};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The largest payload that can be a job.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The largest payload that is parsed to find the sender of a refusal. Larger ones are not parsed.
pub const PEEK_BYTES_MAX: usize = 1024 * 1024;
/// Maximum nesting of lists and objects; the payload itself is level 1.
pub const NESTING_MAX: usize = 8;

/// The values of a payload's top-level keys, and the first flaw of the payload as a whole.
#[derive(Debug)]
pub(crate) struct Document {
    values: BTreeMap<String, Value>,
    flaw: Option<Failure>,
}

impl Document {
    /// Parses `payload`. Never fails: an unreadable payload has no values, and a flaw.
    pub(crate) fn read(payload: &[u8]) -> Self {
        let too_large = (payload.len() > PAYLOAD_BYTES_MAX).then(|| bad("the payload is larger than 64 KiB"));
        let unread = |flaw| Self { values: BTreeMap::new(), flaw: Some(flaw) };
        if payload.len() > PEEK_BYTES_MAX {
            return unread(bad("the payload is larger than 64 KiB"));
        }
        match Self::parse(payload) {
            Ok(document) => Self { flaw: too_large.or(document.flaw), ..document },
            Err(flaw) => unread(too_large.unwrap_or(flaw)),
        }
    }

    /// The first thing wrong with the payload as a whole, if any.
    pub(crate) fn take_flaw(&mut self) -> Option<Failure> {
        self.flaw.take()
    }

    /// The text at `key`; `null` counts as absent.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Failure> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(bad(format!("`{key}` must be a text, not {other}"))),
        }
    }

    /// The whole number at `key`, written as a number or as a text of digits.
    pub(crate) fn whole(&self, key: &str) -> Result<Option<u64>, Failure> {
        let number = match self.values.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Whole(number)) => Ok(*number),
            Some(Value::Text(text)) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map_err(|_| bad(format!("`{key}` `{}` is too large", shown(text))))
            }
            Some(Value::Text(text)) => Err(bad(format!(
                "`{key}` `{}` is no whole number: only digits, without sign, point or unit",
                shown(text)
            ))),
            Some(other) => Err(bad(format!("`{key}` must be a whole number, not {other}"))),
        };
        number.map(Some)
    }

    fn parse(payload: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(payload)
            .map_err(|error| bad(format!("the payload is not UTF-8 after byte {}", error.valid_up_to())))?;
        let mut flaws = Flaws::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let values = deserializer
            .deserialize_map(Payload(&mut flaws))
            .and_then(|values| deserializer.end().map(|()| values))
            .map_err(|error| bad(format!("the payload is no JSON object: {}", shown(&error.to_string()))))?;
        Ok(Self { values, flaw: flaws.first() })
    }
}

/// One value. Lists and objects are only looked through.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool,
    Whole(u64),
    OtherNumber,
    Text(String),
    List,
    Object,
    /// The key is there more than once, with different values.
    Ambiguous,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Whole(_) => "a number",
            Self::OtherNumber => "a number that is negative, too large or not whole",
            Self::Text(_) => "a text",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Ambiguous => "several values",
        })
    }
}

/// Flaws that a JSON parser accepts and the contract refuses.
#[derive(Default)]
struct Flaws {
    too_deep: bool,
    twice: Option<String>,
}

impl Flaws {
    fn first(self) -> Option<Failure> {
        let twice = self.twice.map(|key| bad(format!("key `{}` is there twice", shown(&key))));
        let too_deep = self.too_deep.then(|| bad(format!("the payload is nested deeper than {NESTING_MAX}")));
        too_deep.or(twice)
    }
}

/// The payload's own object: the only one whose values are kept.
struct Payload<'f>(&'f mut Flaws);

impl<'de> Visitor<'de> for Payload<'_> {
    type Value = BTreeMap<String, Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Nested { depth: 2, flaws: self.0 })?;
            let before = values.insert(key.clone(), value.clone());
            if let Some(before) = before {
                if before != value {
                    values.insert(key.clone(), Value::Ambiguous);
                }
                self.0.twice.get_or_insert(key);
            }
        }
        Ok(values)
    }
}

/// A value inside the payload, at `depth` if it is a list or an object.
struct Nested<'f> {
    depth: usize,
    flaws: &'f mut Flaws,
}

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        if self.depth > NESTING_MAX {
            self.flaws.too_deep = true;
            // Skips the rest without recursion, whatever its depth.
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::List);
        }
        let depth = self.depth + 1;
        while list.next_element_seed(Nested { depth, flaws: &mut *self.flaws })?.is_some() {}
        Ok(Value::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        if self.depth > NESTING_MAX {
            self.flaws.too_deep = true;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Object);
        }
        let depth = self.depth + 1;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(Nested { depth, flaws: &mut *self.flaws })?;
            if !seen.insert(key.clone()) {
                self.flaws.twice.get_or_insert(key);
            }
        }
        Ok(Value::Object)
    }
}

pub(crate) fn bad(detail: impl Into<String>) -> Failure {
    Failure::new(FailureCode::BadRequest, detail)
}
