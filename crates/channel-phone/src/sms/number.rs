//! Addresses of texts: telephone numbers, short codes, and names that cannot be answered. Pure.

use adapter::contract::SmolStr;
use adapter::contract::call::is_withheld;

/// Longest name as a sender that networks take.
const NAME_CHARS_MAX: usize = 11;
/// What networks write for a sender that is not told. Texts of many people would be one thread.
const NOBODY: [&str; 6] = ["anonymous", "private", "restricted", "unavailable", "unknown", "withheld"];

/// Somebody's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Number {
    /// A number as E.164: `+4930123456`.
    Full(SmolStr),
    /// A short code: `262966`.
    Short(SmolStr),
    /// A name: `ACME Shop`. Nobody can answer it.
    Name(SmolStr),
}

impl Number {
    /// One of ours, as settings write it: a number with its `+`, a short code or a name.
    pub(crate) fn ours(text: &str) -> Option<Self> {
        let read = Self::read(text)?;
        match &read {
            Self::Full(number) if number != text => None,
            _ => Some(read),
        }
    }

    /// A customer's, as a provider writes it: with a `+` or without, as digits or as a name.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || is_withheld(text) || NOBODY.iter().any(|word| text.eq_ignore_ascii_case(word)) {
            return None;
        }
        let digits = text.strip_prefix('+').unwrap_or(text);
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.len() {
            // E.164 allows 15 digits, and no country has numbers this short that are called from abroad.
            8..=15 if all_digits && !digits.starts_with('0') => Some(Self::Full(format!("+{digits}").into())),
            3..=7 if all_digits => Some(Self::Short(digits.into())),
            _ if text.chars().count() <= 64 && !text.chars().any(char::is_control) => Some(Self::Name(text.into())),
            _ => None,
        }
    }

    /// A sender that a provider takes from us.
    pub(crate) fn is_sender(text: &str) -> bool {
        match Self::ours(text) {
            Some(Self::Name(name)) => {
                let plain = |char: char| char.is_ascii_alphanumeric() || char == ' ';
                name.chars().count() <= NAME_CHARS_MAX
                    && name.chars().all(plain)
                    && name.chars().any(|char| char.is_ascii_alphabetic())
            }
            other => other.is_some(),
        }
    }

    /// As it is kept and shown.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Full(text) | Self::Short(text) | Self::Name(text) => text,
        }
    }

    /// As Vonage writes it.
    pub(crate) fn bare(&self) -> &str {
        let text = self.as_str();
        text.strip_prefix('+').unwrap_or(text)
    }

    /// Whether a text can be sent there.
    pub(crate) const fn is_reachable(&self) -> bool {
        !matches!(self, Self::Name(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_texts() {
        let full = |text: &str| Some(Number::Full(text.into()));
        assert_eq!(Number::read("+4930123456"), full("+4930123456"));
        assert_eq!(Number::read("4930123456"), full("+4930123456"));
        assert_eq!(Number::read("14155551212"), full("+14155551212"));
        assert_eq!(Number::read("262966"), Some(Number::Short("262966".into())));
        assert_eq!(Number::read("ACME Shop"), Some(Number::Name("ACME Shop".into())));
        // A national number names no country: it stays as it is, and is no number that we would write to.
        assert_eq!(Number::read("0301234567"), Some(Number::Name("0301234567".into())));
        assert_eq!(Number::read("12345678901234567890"), Some(Number::Name("12345678901234567890".into())));
        for nobody in ["", " ", "anonymous", "Restricted", "+266696687"] {
            assert_eq!(Number::read(nobody), None, "{nobody}");
        }
        assert_eq!(Number::read("4930123456").unwrap().bare(), "4930123456");
    }

    #[test]
    fn ours_is_written_in_one_way() {
        assert!(Number::ours("+4930900100").is_some() && Number::ours("262966").is_some());
        assert_eq!(Number::ours("4930900100"), None);
        assert_eq!(Number::ours(" +4930900100"), None);
        assert!(Number::is_sender("ACME Shop") && Number::is_sender("+4930900100") && Number::is_sender("262966"));
        for bad in ["ACME Shopping", "Ümlaut", "12 34", "4930900100"] {
            assert!(!Number::is_sender(bad), "{bad}");
        }
    }
}
