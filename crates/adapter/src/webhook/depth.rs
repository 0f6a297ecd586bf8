//! How deep JSON nests, found out without parsing it.

/// Whether the bytes, read as JSON, nest at most `max` levels. Bytes that do not begin like an array or object are no
/// JSON of interest.
pub(super) fn fits(bytes: &[u8], max: usize) -> bool {
    let begin = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(json) =
        begin.and_then(|begin| bytes.get(begin..)).filter(|json| matches!(json.first(), Some(b'{' | b'[')))
    else {
        return true;
    };
    let (mut depth, mut text, mut escaped) = (0_usize, false, false);
    for byte in json {
        if text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => text = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn levels_are_counted_outside_texts() {
        assert!(fits(br#"{"a":[{"b":"[[[[{{{{\"[["}]}"#, 3) && !fits(br#" {"a":[{}]}"#, 2));
        assert!(fits(b"[[[[[", 5) && !fits(b"[[[[[[", 5));
        assert!(fits(b"[[[[", 100) && fits(b"", 1) && fits(b"a=[[[[[[", 1));
        assert!(fits(br#"["\\",["\\"]]"#, 2));
    }
}
