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
    /// `all` is left out, until [`Seen::reindex`].
    #[serde(skip)]
    deferred: bool,
}

impl Seen {
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.all.contains(&fingerprint)
    }

    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, at: Timestamp, keep: Millis) {
        if self.deferred || self.all.insert(fingerprint) {
            self.hours.entry(at.0 / HOUR_MS).or_default().push(fingerprint);
        }
        let oldest = at.0.saturating_sub(keep.0) / HOUR_MS;
        while let Some(entry) = self.hours.first_entry().filter(|entry| *entry.key() < oldest) {
            for fingerprint in entry.remove() {
                self.all.remove(&fingerprint);
            }
        }
    }

    /// Leaves out what only asking needs: among millions, entering one by one what came takes long.
    pub(crate) fn defer(&mut self) {
        self.deferred = true;
        self.all = BTreeSet::new();
    }

    /// Rebuilds what is not stored, or was left out.
    pub(crate) fn reindex(&mut self) {
        self.deferred = false;
        self.all = self.hours.values().flatten().copied().collect();
        if self.all.len() < self.hours.values().map(Vec::len).sum::<usize>() {
            // What came again counts as it came first.
            let mut all = BTreeSet::new();
            self.hours.retain(|_, hour| {
                hour.retain(|fingerprint| all.insert(*fingerprint));
                !hour.is_empty()
            });
        }
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

    #[test]
    fn what_was_left_out_is_the_same_afterwards() {
        let keep = Millis(2 * HOUR_MS);
        let (mut seen, mut deferred) = (Seen::default(), Seen::default());
        deferred.defer();
        for (fingerprint, hour) in [(7, 0), (1, 1), (2, 1), (1, 2), (3, 3)] {
            seen.insert(Fingerprint(fingerprint), Timestamp(hour * HOUR_MS), keep);
            deferred.insert(Fingerprint(fingerprint), Timestamp(hour * HOUR_MS), keep);
        }
        deferred.reindex();
        assert_eq!(deferred, seen);
        assert!(deferred.contains(Fingerprint(1)) && !deferred.contains(Fingerprint(7)));
    }
}
