//! The provider events that were taken in, so that a repeat days later changes nothing (R7).
//!
//! There are millions of them: whoever is sent twenty messages a second has fourteen million after eight days, and as
//! many statuses. So only the newest are kept whole. What is older lies in sorted parts, ten bytes each, in which a search
//! begins where the value of what it looks for says that it should be.

use std::collections::{BTreeMap, HashSet};

use contract::journal::Fingerprint;
use contract::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;
/// Hours whose fingerprints may lie in one part: it is forgotten as a whole, so up to so much later than it might be.
const DAY: u64 = 24;
/// Newest fingerprints that are kept whole.
const OPEN_MAX: usize = 65_536;
/// Parts that have more together stay apart: nothing else is decided while they are merged.
const MERGED_MAX: usize = 16_000_000;

/// The last bytes of a fingerprint. That two of a hundred million are alike in them, so that a message would wrongly count
/// as a repeat, has a chance of one in 10^16 for each message.
type Short = [u8; 10];

fn short(fingerprint: Fingerprint) -> Short {
    let [_, _, _, _, _, _, short @ ..] = fingerprint.0.to_be_bytes();
    short
}

/// Fingerprints by the hour in which they came; whole days are forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The newest.
    hours: BTreeMap<u64, Vec<Fingerprint>>,
    /// All others, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    /// What is in `hours`.
    #[serde(skip)]
    open: HashSet<Fingerprint>,
}

/// Older fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// The hours in which the first and the last of them came, of one day.
    from: u64,
    to: u64,
    sorted: Sorted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sorted(Vec<Short>);

impl Serialize for Sorted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_flattened())
    }
}

impl<'de> Deserialize<'de> for Sorted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Bytes;

impl<'de> serde::de::Visitor<'de> for Bytes {
    type Value = Sorted;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("fingerprints of ten bytes each")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Sorted, E> {
        match bytes.as_chunks() {
            (all, []) if all.is_sorted() => Ok(Sorted(all.to_vec())),
            _ => Err(E::invalid_length(bytes.len(), &self)),
        }
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Sorted, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

impl Sorted {
    fn new(mut all: Vec<Short>) -> Self {
        // What was sorted already in long runs is merged.
        all.sort();
        all.dedup();
        all.shrink_to_fit();
        Self(all)
    }

    /// Fingerprints are evenly spread, so the value says where to look; from there in steps that double.
    fn contains(&self, short: &Short) -> bool {
        let all = &self.0[..];
        let [first @ .., _, _] = short;
        let share = u128::from(u64::from_be_bytes(*first)) * all.len() as u128;
        let guess = usize::try_from(share >> 64).unwrap_or_default();
        let (mut low, mut high, mut step) = (guess, guess, 4);
        while low > 0 && all.get(low).is_some_and(|at| at > short) {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 4;
        while all.get(high).is_some_and(|at| at < short) {
            high = (high + step).min(all.len());
            step *= 2;
        }
        let around = all.get(low..all.len().min(high + 1));
        around.is_some_and(|around| around.binary_search(short).is_ok())
    }
}

impl Part {
    fn len(&self) -> usize {
        self.sorted.0.len()
    }
}

impl Seen {
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        if self.open.contains(&fingerprint) {
            return true;
        }
        let short = short(fingerprint);
        self.parts.iter().rev().any(|part| part.sorted.contains(&short))
    }

    /// What is no repeat came in at some time, which does not go back.
    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, at: Timestamp, keep: Millis) {
        let hour = at.0 / HOUR_MS;
        if self.open.insert(fingerprint) {
            self.hours.entry(hour).or_default().push(fingerprint);
        }
        while let Some(entry) =
            self.hours.first_entry().filter(|entry| *entry.key() < hour || self.open.len() > OPEN_MAX)
        {
            let (hour, all) = entry.remove_entry();
            self.close(hour, &all);
        }
        let oldest = at.0.saturating_sub(keep.0) / HOUR_MS;
        let over = self.parts.iter().take_while(|part| part.to < oldest).count();
        self.parts.drain(..over);
    }

    /// The fingerprints of an hour become a part, and parts are merged so that there are few: of those that follow each
    /// other on one day, each has at least twice as many as the next.
    fn close(&mut self, hour: u64, all: &[Fingerprint]) {
        for fingerprint in all {
            self.open.remove(fingerprint);
        }
        let sorted = Sorted::new(all.iter().copied().map(short).collect());
        self.parts.push(Part { from: hour, to: hour, sorted });
        while let [.., before, last] = &self.parts[..]
            && before.from / DAY == last.from / DAY
            && before.len() < 2 * last.len()
            && before.len() + last.len() <= MERGED_MAX
            && let (Some(last), Some(before)) = (self.parts.pop(), self.parts.pop())
        {
            let Sorted(mut all) = before.sorted;
            all.reserve_exact(last.sorted.0.len());
            all.extend(last.sorted.0);
            self.parts.push(Part { from: before.from, to: last.to, sorted: Sorted::new(all) });
        }
    }

    /// Rebuilds what is not stored.
    pub(crate) fn reindex(&mut self) {
        self.open = self.hours.values().flatten().copied().collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.parts.iter().map(Part::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fingerprint as it looks in earnest.
    fn of(n: u64) -> Fingerprint {
        Fingerprint(contract::envelope::fingerprint([n.to_string().as_str()]))
    }

    #[test]
    fn remembers_for_as_long_as_asked_and_at_most_a_day_longer() {
        let mut seen = Seen::default();
        let keep = Millis(8 * 24 * HOUR_MS);
        seen.insert(Fingerprint(1), Timestamp(0), keep);
        seen.insert(Fingerprint(2), Timestamp(keep.0 - 1), keep);
        assert!(seen.contains(Fingerprint(1)));
        seen.insert(Fingerprint(3), Timestamp(keep.0 + HOUR_MS), keep);
        assert!(!seen.contains(Fingerprint(1)));
        assert!(seen.contains(Fingerprint(2)));
        assert_eq!(seen.len(), 2);
        seen.insert(Fingerprint(4), Timestamp(2 * keep.0 + DAY * HOUR_MS), keep);
        assert!(!seen.contains(Fingerprint(2)));
    }

    #[test]
    fn all_of_many_are_found_in_few_parts_and_nothing_else_is() {
        let keep = Millis(8 * 24 * HOUR_MS);
        let mut seen = Seen::default();
        // Days of all sizes, and one hour with more than is kept whole.
        let mut n = 0;
        for hour in 0..120_u64 {
            let count = if hour == 77 { OPEN_MAX as u64 + 1000 } else { hour * 7 % 311 };
            for _ in 0..count {
                seen.insert(of(n), Timestamp(hour * HOUR_MS), keep);
                n += 1;
            }
        }
        assert_eq!(seen.len() as u64, n);
        assert!((0..n).all(|n| seen.contains(of(n))));
        assert!((n..2 * n).all(|n| !seen.contains(of(n))));
        assert!(seen.parts.len() <= 40, "{} parts", seen.parts.len());
        assert!(seen.open.len() <= OPEN_MAX);
        // The ends of the values too.
        for value in [0, u128::MAX, 1 << 79] {
            assert!(!seen.contains(Fingerprint(value)));
            let mut with = seen.clone();
            with.insert(Fingerprint(value), Timestamp(120 * HOUR_MS), keep);
            with.insert(of(2 * n), Timestamp(122 * HOUR_MS), keep);
            assert!(with.contains(Fingerprint(value)));
        }
    }

    #[test]
    fn what_is_stored_is_read_back_in_every_encoding_and_what_older_versions_stored_too() {
        let keep = Millis(8 * 24 * HOUR_MS);
        let mut seen = Seen::default();
        for n in 0..1000 {
            seen.insert(of(n), Timestamp(n * HOUR_MS / 100), keep);
        }
        for encoding in [contract::Encoding::MsgPack, contract::Encoding::Json] {
            let stored = encoding.encode(&seen).unwrap();
            let mut read: Seen = encoding.decode(&stored, usize::MAX).unwrap();
            read.reindex();
            assert_eq!(read, seen);
        }
        let old = serde_json::json!({ "hours": { "3": [of(1), of(2)], "7": [of(3)] } });
        let mut read: Seen = serde_json::from_value(old).unwrap();
        read.reindex();
        read.insert(of(4), Timestamp(9 * HOUR_MS), keep);
        assert!((1..5).all(|n| read.contains(of(n))) && !read.contains(of(5)));
        let broken = serde_json::json!({ "hours": {}, "parts": [{ "from": 1, "to": 1, "sorted": [1, 2, 3] }] });
        assert!(serde_json::from_value::<Seen>(broken).is_err());
    }
}
