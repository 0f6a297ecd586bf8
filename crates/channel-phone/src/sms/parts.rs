//! Texts that come in parts, which are joined in their order, whatever order they come in. Pure.
//!
//! A group is open until it is whole or has waited long enough; then it is closed, and nothing of it changes any more;
//! then it is stored as one message. The reference that parts share is a small number that comes again, so a part that
//! does not fit into a group begins a new one.

use std::collections::BTreeMap;

use adapter::contract::envelope::Part;
use adapter::contract::{SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

use super::normal::Incoming;
use super::number::Number;

/// A part of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// Which of our numbers it came to, as it was written.
    pub(crate) to: SmolStr,
    /// What the parts of the text share.
    pub(crate) reference: SmolStr,
    /// Its number, from 1.
    pub(crate) number: u32,
    /// How many there are.
    pub(crate) total: u32,
    /// What it is by itself.
    pub(crate) text: Incoming,
}

impl Piece {
    /// Names its group.
    pub(crate) fn group(&self) -> String {
        let total = self.total.to_string();
        let texts = [self.text.from.as_str(), &self.to, &self.reference, &total];
        format!("{:032x}", adapter::contract::envelope::fingerprint(texts))
    }
}

/// How far a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Parts are awaited.
    Open,
    /// It is what it will be.
    Closed,
    /// It is a message.
    Stored,
}

/// A part that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    id: SmolStr,
    /// Absent: it is none.
    text: Option<String>,
    #[serde(default)]
    at: Option<Timestamp>,
    #[serde(default)]
    at_raw: Option<SmolStr>,
}

/// The parts of one text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    from_raw: SmolStr,
    total: u32,
    parts: BTreeMap<u32, Kept>,
    /// How far it is.
    pub(crate) stage: Stage,
    /// When the first part came.
    pub(crate) since: Timestamp,
}

/// What a part is to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is kept, and others are awaited.
    Waits,
    /// Nothing is missing any more.
    Whole,
    /// It was there already.
    Known,
    /// It is of another text.
    Other,
}

impl Group {
    /// The group that a part begins.
    pub(crate) fn begin(piece: &Piece, now: Timestamp) -> Self {
        let mut group = Self {
            from_raw: piece.text.from_raw.clone(),
            total: piece.total,
            parts: BTreeMap::new(),
            stage: Stage::Open,
            since: now,
        };
        group.put(piece);
        group
    }

    /// Adds a part, where it fits.
    pub(crate) fn put(&mut self, piece: &Piece) -> Fit {
        if self.parts.values().any(|kept| kept.id == piece.text.id) {
            return Fit::Known;
        }
        if self.stage != Stage::Open || self.total != piece.total {
            return Fit::Other;
        }
        let text = match piece.text.content.as_slice() {
            [Part::Text(text)] => Some(text.body.clone()),
            _ => None,
        };
        if let Some(kept) = self.parts.get(&piece.number) {
            // The same again, by another id.
            return if kept.text == text { Fit::Known } else { Fit::Other };
        }
        let kept =
            Kept { id: piece.text.id.clone(), text, at: piece.text.sent_at, at_raw: piece.text.sent_at_raw.clone() };
        self.parts.insert(piece.number, kept);
        if self.parts.len() as u64 == u64::from(self.total) {
            self.stage = Stage::Closed;
            return Fit::Whole;
        }
        Fit::Waits
    }

    /// The text, as far as it is there. What is missing is marked.
    pub(crate) fn text(&self) -> Option<Incoming> {
        let first = self.parts.values().next()?;
        let from = Number::read(&self.from_raw)?;
        let mut content: Vec<Part> = Vec::new();
        let mut warnings = Vec::new();
        for number in 1..=self.total {
            let kept = self.parts.get(&number);
            match (content.last_mut(), kept.and_then(|kept| kept.text.as_ref())) {
                (Some(Part::Text(before)), Some(text)) => before.body.push_str(text),
                (_, Some(text)) => content.push(Part::text(text)),
                (Some(Part::Unsupported { .. }), None) => {}
                (_, None) => {
                    let kind = if kept.is_some() { "binary" } else { "missing_part" };
                    content.push(Part::Unsupported { kind: kind.into() });
                }
            }
            if kept.is_none() {
                warnings.push(format!("part {number} of {} did not come", self.total));
            }
        }
        // A list of all of many is no help.
        if warnings.len() > 4 {
            warnings = vec![format!("{} of {} parts did not come", warnings.len(), self.total)];
        }
        Some(Incoming {
            id: first.id.clone(),
            ids: self.parts.values().map(|kept| kept.id.clone()).collect(),
            from,
            from_raw: self.from_raw.clone(),
            content,
            media: Vec::new(),
            sent_at: first.at,
            sent_at_raw: first.at_raw.clone(),
            wish: None,
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(number: u32, total: u32, text: &str) -> Piece {
        Piece {
            to: "4930900100".into(),
            reference: "7".into(),
            number,
            total,
            text: Incoming {
                id: format!("id{number}{text}").into(),
                ids: Vec::new(),
                from: Number::read("4930111222").unwrap(),
                from_raw: "4930111222".into(),
                content: vec![Part::text(text)],
                media: Vec::new(),
                sent_at: Some(Timestamp(u64::from(number))),
                sent_at_raw: None,
                wish: None,
                warnings: Vec::new(),
            },
        }
    }

    fn body(group: &Group) -> Vec<Part> {
        group.text().unwrap().content
    }

    proptest! {
        #[test]
        fn any_order_and_any_repeats_make_the_same_text(
            (total, order) in (2_u32..12).prop_flat_map(|total| {
                let all: Vec<u32> = (1..=total).collect();
                let more = proptest::collection::vec(1..=total, 0..12);
                (Just(total), (Just(all), more).prop_map(|(all, more)| [all, more].concat()).prop_shuffle())
            }),
        ) {
            let pieces: Vec<Piece> = order.iter().map(|number| piece(*number, total, &format!("<{number}>"))).collect();
            let mut group = Group::begin(&pieces[0], Timestamp(9));
            let mut whole = 0;
            for (n, piece) in pieces.iter().enumerate().skip(1) {
                let seen = order[..n].contains(&piece.number);
                let fit = group.put(piece);
                prop_assert_eq!(fit == Fit::Known, seen);
                whole += u32::from(fit == Fit::Whole);
            }
            prop_assert_eq!((whole, group.stage), (1, Stage::Closed));
            let text = group.text().unwrap();
            let expected: String = (1..=total).map(|number| format!("<{number}>")).collect();
            prop_assert_eq!(text.content, vec![Part::text(expected)]);
            prop_assert_eq!(text.id, piece(1, total, "<1>").text.id);
            prop_assert_eq!((text.sent_at, text.warnings.len()), (Some(Timestamp(1)), 0));
            let kept: Group = serde_json::from_str(&serde_json::to_string(&group).unwrap()).unwrap();
            prop_assert_eq!(kept, group);
        }
    }

    #[test]
    fn what_is_missing_is_marked() {
        let mut group = Group::begin(&piece(2, 4, "b"), Timestamp(9));
        assert_eq!(group.put(&piece(3, 4, "c")), Fit::Waits);
        let missing = || Part::Unsupported { kind: "missing_part".into() };
        assert_eq!(body(&group), [missing(), Part::text("bc"), missing()]);
        let text = group.text().unwrap();
        assert_eq!(text.warnings, ["part 1 of 4 did not come", "part 4 of 4 did not come"]);
        assert_eq!(text.id, "id2b");
    }

    #[test]
    fn a_reference_that_comes_again_begins_another_text() {
        let mut group = Group::begin(&piece(1, 2, "a"), Timestamp(9));
        assert_eq!(group.put(&piece(1, 2, "x")), Fit::Other);
        assert_eq!(group.put(&piece(2, 3, "b")), Fit::Other);
        // The same part by another id is the same.
        let mut again = piece(1, 2, "a");
        again.text.id = "other".into();
        assert_eq!(group.put(&again), Fit::Known);
        assert_eq!(group.put(&piece(2, 2, "b")), Fit::Whole);
        assert_eq!(group.put(&piece(2, 2, "b")), Fit::Known);
        assert_eq!(group.put(&piece(2, 2, "y")), Fit::Other);
        assert_ne!(piece(1, 2, "a").group(), piece(1, 3, "a").group());
        assert_eq!(piece(1, 2, "a").group(), piece(2, 2, "b").group());
    }
}
