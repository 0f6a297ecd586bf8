//! Parameters of an address, as forms write them. Pure.

/// The value of a parameter that is there once; one that is there twice is as good as absent.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut found = query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key)? == name).then_some(value)
    });
    let value = found.next()?;
    if found.next().is_some() { None } else { decode(value) }
}

/// The pairs of a query or a form, in order; `None`: it is malformed, or there are more than `max`.
pub fn pairs(text: &str, max: usize) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if found.len() == max {
            return None;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.push((decode(name)?, decode(value)?));
    }
    Some(found)
}

/// `%20` and `+` undone; `None` when it is malformed or no text.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                high * 16 + low
            }
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A text as a parameter's value: everything that could mean something else is written with `%`.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_once_and_decoded() {
        let query = "hub.mode=subscribe&hub.challenge=11%2B2+x&hub%2Everify_token=t%C3%BC";
        assert_eq!(parameter(query, "hub.mode").unwrap(), "subscribe");
        assert_eq!(parameter(query, "hub.challenge").unwrap(), "11+2 x");
        assert_eq!(parameter(query, "hub.verify_token").unwrap(), "tü");
        assert_eq!(parameter("a=1&a=1", "a"), None);
        for broken in ["a=%", "a=%2", "a=%zz", "a=%ff"] {
            assert_eq!(parameter(broken, "a"), None, "{broken}");
        }
        assert_eq!(decode(&encode("a b&c=ü+%")).unwrap(), "a b&c=ü+%");
    }

    #[test]
    fn pairs_keep_their_order_and_repeats() {
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs("b=1&a=%C3%BC&&b=1&c", 4).unwrap(),
            [text("b", "1"), text("a", "ü"), text("b", "1"), text("c", "")]
        );
        assert_eq!(pairs("", 4), Some(Vec::new()));
        assert_eq!((pairs("a=1&b=2", 1), pairs("a=%", 4)), (None, None));
    }
}
