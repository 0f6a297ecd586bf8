//! How many segments a text is sent in, which is what it costs. Pure.
//!
//! One segment holds 160 septets of the GSM alphabet (3GPP TS 23.038) or 70 UTF-16 units; of several, each holds 153 or
//! 67, since the header that joins them takes room. What belongs together (an escape and its character, a surrogate
//! pair) is in one segment.

use adapter::split::{Unit, is_gsm7, measure};

/// How many segments a text takes; the empty one takes one.
pub(crate) fn segments(text: &str) -> u32 {
    let (unit, one, several) = if is_gsm7(text) { (Unit::Gsm7, 160, 153) } else { (Unit::Utf16, 70, 67) };
    if measure(text, unit) <= one {
        return 1;
    }
    let (mut count, mut taken) = (1, 0);
    let mut buffer = [0; 4];
    for char in text.chars() {
        let size = measure(char.encode_utf8(&mut buffer), unit);
        if taken + size > several {
            count += 1;
            taken = 0;
        }
        taken += size;
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_at_their_bounds() {
        for (text, count) in [
            (String::new(), 1),
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            // A character of the extension takes two.
            ("€".repeat(80), 1),
            ("€".repeat(81), 2),
            // 153 septets hold 76 of them, and one septet stays free.
            ("€".repeat(152), 2),
            ("€".repeat(153), 3),
            (format!("{}€", "a".repeat(159)), 2),
            ("я".repeat(70), 1),
            ("я".repeat(71), 2),
            ("я".repeat(134), 2),
            ("я".repeat(135), 3),
            // A surrogate pair is not cut: 67 units hold 33 of them.
            ("😀".repeat(35), 1),
            ("😀".repeat(66), 2),
            ("😀".repeat(67), 3),
            // One character that the alphabet lacks makes all of it wider.
            (format!("{}я", "a".repeat(70)), 2),
        ] {
            assert_eq!(segments(&text), count, "{} characters", text.chars().count());
        }
    }

    proptest! {
        #[test]
        fn a_longer_text_takes_no_fewer(text in "[a-z€я😀]{0,400}", more in "[a-z€]{0,9}") {
            let whole = format!("{text}{more}");
            prop_assert!(segments(&whole) >= segments(&text));
            let units = u32::try_from(measure(&text, Unit::Utf16)).unwrap();
            prop_assert!(segments(&text) <= 1 + units / 33);
        }
    }
}
