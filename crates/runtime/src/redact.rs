//! Takes out of texts what must not be stored: card numbers, and what the operator's patterns say.

use regex::Regex;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Most patterns.
const PATTERNS_MAX: usize = 64;
/// How many digits a card number has (ISO/IEC 7812).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// What is taken out.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    cards: bool,
    patterns: Vec<Regex>,
}

impl Redactor {
    /// `cards`: numbers that may be those of payment cards, by their check digit.
    ///
    /// # Errors
    /// With the place of the first pattern that cannot be read, and why.
    pub fn new(cards: bool, patterns: &[String]) -> Result<Self, (usize, String)> {
        if patterns.len() > PATTERNS_MAX {
            return Err((PATTERNS_MAX, format!("at most {PATTERNS_MAX} patterns are allowed")));
        }
        let mut read = Vec::with_capacity(patterns.len());
        for (at, pattern) in patterns.iter().enumerate() {
            if pattern.len() > PATTERN_BYTES_MAX {
                return Err((at, format!("is longer than {PATTERN_BYTES_MAX} bytes")));
            }
            let regex = Regex::new(pattern).map_err(|error| (at, error.to_string()))?;
            if regex.is_match("") {
                return Err((at, "fits nothing at all, and so everywhere".to_owned()));
            }
            read.push(regex);
        }
        Ok(Self { cards, patterns: read })
    }

    /// The text without what must not be stored; `None`: there is nothing of it in it.
    #[must_use]
    pub fn redact(&self, text: &str) -> Option<String> {
        let mut changed = if self.cards { without_cards(text) } else { None };
        for pattern in &self.patterns {
            let now = changed.as_deref().unwrap_or(text);
            if pattern.is_match(now) {
                changed = Some(pattern.replace_all(now, "[redacted]").into_owned());
            }
        }
        changed
    }

    /// Redacts a text in its place. Returns whether there was anything.
    pub fn redact_in(&self, text: &mut String) -> bool {
        match self.redact(text) {
            Some(without) => {
                *text = without;
                true
            }
            None => false,
        }
    }
}

/// The text with card numbers but their last four digits taken out. A number is a run of digits that single spaces or
/// dashes may divide.
fn without_cards(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(here) = bytes.get(at) {
        if !here.is_ascii_digit() {
            at += 1;
            continue;
        }
        let (mut end, mut digits) = (at, Vec::new());
        loop {
            match bytes.get(end) {
                Some(digit) if digit.is_ascii_digit() => digits.push(digit - b'0'),
                Some(b' ' | b'-') if bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => {}
                _ => break,
            }
            end += 1;
        }
        if is_card(&digits) {
            out.push_str(text.get(copied..at).unwrap_or_default());
            let last: String = digits.iter().rev().take(4).rev().map(|digit| char::from(b'0' + digit)).collect();
            out.push_str("[card number ending in ");
            out.push_str(&last);
            out.push(']');
            copied = end;
        }
        at = end;
    }
    (copied > 0).then(|| out + text.get(copied..).unwrap_or_default())
}

/// Whether digits can be a payment card's: its length, an issuer's first digit, and the check digit (Luhn).
fn is_card(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    CARD_DIGITS.contains(&digits.len()) && matches!(digits.first(), Some(2..=6)) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(text: &str) -> Option<String> {
        Redactor::new(true, &[]).unwrap().redact(text)
    }

    #[test]
    fn card_numbers_go_and_other_numbers_stay() {
        let gone = "my card is [card number ending in 1111], thanks";
        for written in ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111"] {
            assert_eq!(cards(&format!("my card is {written}, thanks")).as_deref(), Some(gone));
        }
        assert_eq!(cards("378282246310005").as_deref(), Some("[card number ending in 0005]"));
        let both = cards("5555555555554444 und 4111111111111111 für Grüße").unwrap();
        assert_eq!(both, "[card number ending in 4444] und [card number ending in 1111] für Grüße");
        // A wrong check digit, a telephone number, an order, a longer run of digits.
        for other in ["4111111111111112", "+49 30 123456", "order 1234567890123", "41111111111111110000000"] {
            assert_eq!(cards(other), None, "{other}");
        }
    }

    #[test]
    fn patterns_are_the_operators() {
        let redactor = Redactor::new(false, &["(?i)iban [a-z0-9]+".to_owned()]).unwrap();
        assert_eq!(redactor.redact("My IBAN DE0012 please").as_deref(), Some("My [redacted] please"));
        assert_eq!(redactor.redact("4111111111111111"), None);
        assert_eq!(Redactor::new(true, &["(".to_owned()]).unwrap_err().0, 0);
        assert!(Redactor::new(true, &["a*".to_owned()]).is_err());
    }
}
