//! Bytes as text, for a wire that carries text alone (RFC 4648).

/// Which signs stand for 62 and 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// `+` and `/` (section 4).
    Standard,
    /// `-` and `_` (section 5), for addresses and names.
    Url,
}

impl Alphabet {
    const fn signs(self) -> (u8, u8) {
        match self {
            Self::Standard => (b'+', b'/'),
            Self::Url => (b'-', b'_'),
        }
    }
}

/// Writes bytes down, padded.
#[must_use]
pub fn encode(alphabet: Alphabet, bytes: &[u8]) -> String {
    let (sixty_two, sixty_three) = alphabet.signs();
    let digit = |value: u32| -> char {
        let value = u8::try_from(value & 63).unwrap_or_default();
        char::from(match value {
            0..=25 => b'A' + value,
            26..=51 => b'a' + value - 26,
            52..=61 => b'0' + value - 52,
            62 => sixty_two,
            _ => sixty_three,
        })
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            text.push(if place <= group.len() { digit(number >> (18 - 6 * place)) } else { '=' });
        }
    }
    text
}

/// Reads bytes that were written down, padded or not; `None`: they are not written like that. Each value has one way to be
/// written, save for the padding.
#[must_use]
pub fn decode(alphabet: Alphabet, text: &str) -> Option<Vec<u8>> {
    let (sixty_two, sixty_three) = alphabet.signs();
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.as_bytes().chunks(4) {
        let mut number = 0_u32;
        for byte in group {
            let value = match *byte {
                byte @ b'A'..=b'Z' => byte - b'A',
                byte @ b'a'..=b'z' => byte - b'a' + 26,
                byte @ b'0'..=b'9' => byte - b'0' + 52,
                byte if byte == sixty_two => 62,
                byte if byte == sixty_three => 63,
                _ => return None,
            };
            number = number << 6 | u32::from(value);
        }
        number <<= 6 * (4 - group.len());
        let [_, one, two, three] = number.to_be_bytes();
        let all = [one, two, three];
        let (kept, rest) = all.split_at(group.len() - 1);
        if rest.iter().any(|byte| *byte != 0) {
            // Bits that nobody needs are zero, or one value could be written in several ways.
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_rfc() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(Alphabet::Standard, plain.as_bytes()), coded);
            assert_eq!(decode(Alphabet::Standard, coded).unwrap(), plain.as_bytes());
            assert_eq!(decode(Alphabet::Url, coded.trim_end_matches('=')).unwrap(), plain.as_bytes());
        }
        assert_eq!(encode(Alphabet::Url, &[0xfb, 0xff]), "-_8=");
        assert_eq!(encode(Alphabet::Standard, &[0xfb, 0xff]), "+/8=");
        for bad in ["Z", "Zg=", "Zh==", "Z===", "Zm9v!", "Zg==Zg==", "-_8="] {
            assert_eq!(decode(Alphabet::Standard, bad), None, "{bad}");
        }
    }
}
