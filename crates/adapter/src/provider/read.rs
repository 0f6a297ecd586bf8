//! Reading a provider's JSON: whatever is missing or of another type is absent, and ids are text.
//!
//! Providers add fields and types as they please, and write the same id now as a number and now as text. So nothing
//! here fails: what an event cannot do without, its reader asks for.

use contract::SmolStr;
use serde_json::{Map, Value};

/// A place in a JSON document, which need not exist.
#[derive(Debug, Clone, Copy)]
pub struct At<'a>(Option<&'a Value>);

impl<'a> At<'a> {
    /// The document itself.
    pub const fn new(value: &'a Value) -> Self {
        Self(Some(value))
    }

    /// The field called `key`.
    pub fn get(self, key: &str) -> Self {
        Self(self.0.and_then(|value| value.get(key)).filter(|value| !value.is_null()))
    }

    /// Whether there is anything.
    pub const fn exists(self) -> bool {
        self.0.is_some()
    }

    /// The value itself.
    pub const fn value(self) -> Option<&'a Value> {
        self.0
    }

    /// As an object.
    pub fn object(self) -> Option<&'a Map<String, Value>> {
        self.0.and_then(Value::as_object)
    }

    /// The text of a field, unless it is empty.
    pub fn text(self, key: &str) -> Option<&'a str> {
        self.get(key).as_text()
    }

    /// This value as a text that is not empty.
    pub fn as_text(self) -> Option<&'a str> {
        self.0.and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The id in a field.
    pub fn id(self, key: &str) -> Option<SmolStr> {
        self.get(key).as_id()
    }

    /// This value as an id: a text, or a whole number, digit by digit. A number that was rounded is none.
    pub fn as_id(self) -> Option<SmolStr> {
        match self.0? {
            Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string().into()),
            _ => None,
        }
    }

    /// A whole number that is not negative, also when it is written as text.
    pub fn number(self, key: &str) -> Option<u64> {
        match self.get(key).0? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The same, as far as it fits.
    pub fn small(self, key: &str) -> Option<u32> {
        self.number(key).and_then(|number| u32::try_from(number).ok())
    }

    /// A number as it is written: degrees, which nobody may round.
    pub fn degrees(self, key: &str) -> Option<SmolStr> {
        match self.get(key).0? {
            Value::Number(number) => Some(number.to_string().into()),
            Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
            _ => None,
        }
    }

    /// Whether a field is true, also when it is written as text.
    pub fn flag(self, key: &str) -> bool {
        match self.get(key).0 {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// The items of a list; none when it is no list.
    pub fn list(self, key: &str) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator + use<'a> {
        self.get(key)
            .0
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|item| Self(Some(item)))
    }
}

/// A short text that is shown and never compared: cut, not refused.
pub fn shown(text: &str) -> Option<SmolStr> {
    const CHARS_MAX: usize = 200;
    let text = text.trim();
    let end = text.char_indices().nth(CHARS_MAX).map_or(text.len(), |(at, _)| at);
    text.get(..end).filter(|text| !text.is_empty()).map(SmolStr::from)
}

/// `en` of `en-GB`.
pub fn language(text: &str) -> Option<SmolStr> {
    let primary = text.split(['-', '_']).next()?.to_ascii_lowercase();
    ((2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase())).then(|| primary.into())
}

/// Turns stretches that are counted in UTF-16 units into stretches in bytes.
pub struct Utf16 {
    /// The byte at which each unit's character begins, and the end of the text.
    starts: Vec<u32>,
}

impl Utf16 {
    /// Measures a text.
    pub fn new(body: &str) -> Self {
        let mut starts = Vec::with_capacity(body.len() + 1);
        for (at, char) in body.char_indices() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            starts.extend(std::iter::repeat_n(at, char.len_utf16()));
        }
        starts.push(u32::try_from(body.len()).unwrap_or(u32::MAX));
        Self { starts }
    }

    /// Offset and length in bytes; `None` when the stretch is not within the text.
    pub fn bytes(&self, offset: u64, length: u64) -> Option<(u32, u32)> {
        let at = |unit: u64| usize::try_from(unit).ok().and_then(|unit| self.starts.get(unit)).copied();
        let (from, to) = (at(offset)?, at(offset.checked_add(length)?)?);
        Some((from, to.checked_sub(from)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_text_to_the_last_digit() {
        let value: Value = serde_json::from_str(
            r#"{"a": 18446744073709551615, "b": -1001234567890123456, "c": "0012", "d": 1e30,
            "e": 184467440737095516150, "f": "", "g": null, "h": {}}"#,
        )
        .unwrap();
        let at = At::new(&value);
        assert_eq!(at.id("a").unwrap(), "18446744073709551615");
        assert_eq!(at.id("b").unwrap(), "-1001234567890123456");
        assert_eq!(at.id("c").unwrap(), "0012");
        // What would be rounded is no id at all.
        for absent in ["d", "e", "f", "g", "h", "i"] {
            assert_eq!(at.id(absent), None, "{absent}");
        }
    }

    #[test]
    fn numbers_and_flags_may_be_written_as_text() {
        let value = json!({ "n": "17", "m": 18, "t": "true", "b": true, "x": "yes", "l": [1, 2] });
        let at = At::new(&value);
        assert_eq!((at.number("n"), at.number("m"), at.number("x")), (Some(17), Some(18), None));
        assert!(at.flag("t") && at.flag("b") && !at.flag("x") && !at.flag("none"));
        assert_eq!((at.list("l").len(), at.list("n").len(), at.get("l").get("x").exists()), (2, 0, false));
    }

    #[test]
    fn stretches_are_counted_in_bytes_of_the_body() {
        let utf16 = Utf16::new("a😀ü@bob");
        assert_eq!(utf16.bytes(4, 4), Some((7, 4)));
        assert_eq!(utf16.bytes(0, 8), Some((0, 11)));
        assert_eq!(utf16.bytes(4, 5), None);
        assert_eq!(utf16.bytes(u64::MAX, 2), None);
    }

    #[test]
    fn what_is_shown_is_cut_between_characters() {
        assert_eq!(shown(&"ü".repeat(300)).unwrap().chars().count(), 200);
        assert_eq!(shown("  "), None);
        assert_eq!((language("pt-BR").unwrap(), language("x")), ("pt".into(), None));
    }
}
