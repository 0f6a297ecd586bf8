//! Texts that are too long for one message of a provider.
//!
//! A text is cut where a reader expects it (after a line, else after a word), always between two things that a reader
//! takes for one character, and never loses anything: the pieces in a row are the text.

use unicode_segmentation::UnicodeSegmentation;

/// What a provider counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of UTF-8.
    Bytes,
    /// UTF-16 code units.
    Utf16,
    /// Unicode scalar values.
    Chars,
    /// Septets of the GSM 7-bit default alphabet (3GPP TS 23.038), two for those of its extension. A text with others
    /// ([`is_gsm7`]) is not sent in this alphabet; they count as UTF-16 does.
    Gsm7,
}

impl Unit {
    /// Its name among an account's capabilities.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Utf16 => "utf16",
            Self::Chars => "chars",
            Self::Gsm7 => "gsm7",
        }
    }

    fn of(self, char: char) -> usize {
        match self {
            Self::Bytes => char.len_utf8(),
            Self::Utf16 => char.len_utf16(),
            Self::Chars => 1,
            Self::Gsm7 => septets(char).unwrap_or_else(|| char.len_utf16()),
        }
    }
}

/// How long a text is.
#[must_use]
pub fn measure(text: &str, unit: Unit) -> usize {
    match unit {
        Unit::Bytes => text.len(),
        _ => text.chars().map(|char| unit.of(char)).sum(),
    }
}

/// Whether every character is in the GSM 7-bit default alphabet or its extension.
#[must_use]
pub fn is_gsm7(text: &str) -> bool {
    text.chars().all(|char| septets(char).is_some())
}

/// How many septets a character takes; `None`: the alphabet lacks it.
fn septets(char: char) -> Option<usize> {
    match char {
        'A'..='Z' | 'a'..='z' | '0'..='9' => Some(1),
        '\n' | '\r' | ' ' | '!' | '"' | '#' | '$' | '%' | '&' | '\'' | '(' | ')' | '*' | '+' | ',' | '-' | '.'
        | '/' | ':' | ';' | '<' | '=' | '>' | '?' | '@' | '_' | '¡' | '£' | '¤' | '¥' | '§' | '¿' | 'Ä' | 'Å' | 'Æ'
        | 'Ç' | 'É' | 'Ñ' | 'Ö' | 'Ø' | 'Ü' | 'ß' | 'à' | 'ä' | 'å' | 'æ' | 'è' | 'é' | 'ì' | 'ñ' | 'ò' | 'ö' | 'ø'
        | 'ù' | 'ü' | 'Γ' | 'Δ' | 'Θ' | 'Λ' | 'Ξ' | 'Π' | 'Σ' | 'Φ' | 'Ψ' | 'Ω' => Some(1),
        '\u{c}' | '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€' => Some(2),
        _ => None,
    }
}

/// Cuts a text into pieces of at most `max`. A text that fits, and the empty one, is one piece. A single character as
/// readers see it that is longer than `max` is cut between its scalar values; one of those that is longer still is a
/// piece of its own.
#[must_use]
pub fn split(text: &str, max: usize, unit: Unit) -> Vec<String> {
    let max = max.max(1);
    let mut pieces = Vec::new();
    let mut rest = text;
    while measure(rest, unit) > max {
        let (piece, after) = rest.split_at(cut(rest, max, unit));
        pieces.push(piece.to_owned());
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest.to_owned());
    }
    pieces
}

/// Where to cut a text that is longer than `max`: more than 0.
fn cut(text: &str, max: usize, unit: Unit) -> usize {
    let (mut taken, mut at) = (0, 0);
    let (mut line, mut word) = (0, 0);
    for cluster in text.graphemes(true) {
        taken += measure(cluster, unit);
        if taken > max {
            break;
        }
        at += cluster.len();
        if cluster.ends_with('\n') {
            line = at;
        }
        if cluster.ends_with(char::is_whitespace) {
            word = at;
        }
    }
    // A line end far at the beginning would leave a stump.
    if line * 2 >= at && line > 0 {
        return line;
    }
    if word * 2 >= at && word > 0 {
        return word;
    }
    if at > 0 {
        return at;
    }
    let mut taken = 0;
    for (offset, char) in text.char_indices() {
        taken += unit.of(char);
        if taken > max && offset > 0 {
            return offset;
        }
        if taken > max {
            return char.len_utf8();
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNITS: [Unit; 4] = [Unit::Bytes, Unit::Utf16, Unit::Chars, Unit::Gsm7];

    #[test]
    fn lines_then_words_then_characters() {
        assert_eq!(split("first line\nsecond", 12, Unit::Chars), ["first line\n", "second"]);
        assert_eq!(split("one two three", 9, Unit::Chars), ["one two ", "three"]);
        assert_eq!(split("abcdefghij", 4, Unit::Chars), ["abcd", "efgh", "ij"]);
        assert_eq!(split("", 4, Unit::Chars), [""]);
        assert_eq!(split("a\nbcdefghijk", 10, Unit::Chars), ["a\nbcdefghi", "jk"]);
        // A family is one thing to a reader: seven scalar values, eleven code units.
        assert_eq!(split("ab👨‍👩‍👧‍👦c", 12, Unit::Utf16), ["ab", "👨‍👩‍👧‍👦c"]);
    }

    #[test]
    fn what_each_unit_counts() {
        let of = |text| UNITS.map(|unit| measure(text, unit));
        assert_eq!(of("aé€"), [6, 3, 3, 4]);
        assert_eq!(of("👍"), [4, 2, 1, 2]);
        assert!(is_gsm7("Grüße an {Ω}") && !is_gsm7("Grüße 👍") && !is_gsm7("ê"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_piece_is_too_long(text in "(\\PC|[\n e\u{301}👨\u{200d}👩🇩🇪]){0,300}", max in 1_usize..60) {
            for unit in UNITS {
                let pieces = split(&text, max, unit);
                prop_assert_eq!(pieces.concat(), text.clone());
                let mut offset = 0;
                let borders: Vec<_> = text.grapheme_indices(true).map(|(at, cluster)| (at, at + cluster.len())).collect();
                for piece in &pieces {
                    let single = piece.chars().count() == 1;
                    prop_assert!(measure(piece, unit) <= max || single);
                    offset += piece.len();
                    // Inside a cluster only where the cluster alone is too long.
                    let inside = borders.iter().find(|(from, to)| *from < offset && offset < *to);
                    if let Some((from, to)) = inside {
                        prop_assert!(measure(&text[*from..*to], unit) > max);
                    }
                }
            }
        }
    }
}
