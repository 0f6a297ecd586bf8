//! The provider events that were taken in, so that a repeat days later changes nothing (R7).

use std::collections::{BTreeMap, BTreeSet};

use contract::journal::Fingerprint;
use contract::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;

/// Fingerprints by the hour in which they came; whole hours are forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    hours: BTreeMap<u64, Vec<Fingerprint>>,
    #[serde(skip)]
    all: BTreeSet<Fingerprint>,
}

impl Seen {
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.all.contains(&fingerprint)
    }

    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, at: Timestamp, keep: Millis) {
        if self.all.insert(fingerprint) {
            self.hours.entry(at.0 / HOUR_MS).or_default().push(fingerprint);
        }
        let oldest = at.0.saturating_sub(keep.0) / HOUR_MS;
        while let Some(entry) = self.hours.first_entry().filter(|entry| *entry.key() < oldest) {
            for fingerprint in entry.remove() {
                self.all.remove(&fingerprint);
            }
        }
    }

    /// Rebuilds what is not stored.
    pub(crate) fn reindex(&mut self) {
        self.all = self.hours.values().flatten().copied().collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_as_long_as_asked_and_no_longer() {
        let mut seen = Seen::default();
        let keep = Millis(8 * 24 * HOUR_MS);
        seen.insert(Fingerprint(1), Timestamp(0), keep);
        seen.insert(Fingerprint(2), Timestamp(keep.0 - 1), keep);
        assert!(seen.contains(Fingerprint(1)));
        seen.insert(Fingerprint(3), Timestamp(keep.0 + HOUR_MS), keep);
        assert!(!seen.contains(Fingerprint(1)));
        assert!(seen.contains(Fingerprint(2)));
        assert_eq!(seen.len(), 2);
    }
}
