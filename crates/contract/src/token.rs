//! Any text as one legal subject token and key, and back.
//!
//! Bytes outside `A-Z a-z 0-9 _ -` are written `=XX` (upper-case hexadecimal of the UTF-8 byte), the
//! empty text as a lone `=`. The result is legal both as a subject token (ADR-6) and in a key-value
//! key, has one spelling per text, and keeps ordinary names readable.

use std::fmt::Write;

/// Encodes `text` as one token.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut token = String::with_capacity(text.len() + 8);
    encode_into(&mut token, text);
    token
}

/// Appends `text`, encoded, to `out`.
pub fn encode_into(out: &mut String, text: &str) {
    if text.is_empty() {
        out.push('=');
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "={byte:02X}");
        }
    }
}

/// Decodes a token; `None` when it is not one that [`encode`] writes.
#[must_use]
pub fn decode(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    if token.is_empty() {
        return None;
    }
    let mut text = Vec::with_capacity(token.len());
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'=' {
            if !is_plain(byte) {
                return None;
            }
            text.push(byte);
            continue;
        }
        let escaped = hex(bytes.next()?)? << 4 | hex(bytes.next()?)?;
        if is_plain(escaped) {
            return None;
        }
        text.push(escaped);
    }
    String::from_utf8(text).ok()
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_round_trips(text in "\\PC*|[\\x00-\\x7f]*") {
            let token = encode(&text);
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|b| is_plain(b) || b == b'='));
            prop_assert_eq!(decode(&token), Some(text));
        }

        #[test]
        fn a_token_has_one_spelling(token in "[=A-Fa-f0-9_x-]{0,8}") {
            if let Some(text) = decode(&token) {
                prop_assert_eq!(encode(&text), token);
            }
        }
    }

    #[test]
    fn examples() {
        assert_eq!(encode("ann.lee+1@example.com"), "ann=2Elee=2B1=40example=2Ecom");
        assert_eq!(encode(""), "=");
        assert_eq!(decode("a.b"), None);
        assert_eq!(decode("=4"), None);
        assert_eq!(decode("=FF"), None, "not UTF-8");
    }
}
