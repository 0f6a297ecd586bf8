//! Where a socket is in its thread: gives out every message once and in order, whatever order and
//! however often they come. Pure.
//!
//! Messages of a thread are numbered from 1 without gaps. One that comes too early is held until
//! those before it have come; [`Cursor::missing`] says that they must be fetched.

use std::collections::BTreeMap;

/// Most messages that are held. What comes on top is fetched again when its turn comes.
const HELD_MAX: usize = 128;

/// Where a socket is.
#[derive(Debug)]
pub(crate) struct Cursor<T> {
    last: u64,
    head: u64,
    held: BTreeMap<u64, T>,
}

impl<T> Cursor<T> {
    /// Everything up to `last` was given out before.
    pub(crate) const fn new(last: u64) -> Self {
        Self { last, head: last, held: BTreeMap::new() }
    }

    /// The number of the last message that was given out.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// A message came. Returns what can be given out now, in order.
    pub(crate) fn offer(&mut self, seq: u64, item: T) -> Vec<T> {
        self.head = self.head.max(seq);
        if seq <= self.last {
            return Vec::new();
        }
        self.held.entry(seq).or_insert(item);
        let out = self.release();
        while self.held.len() > HELD_MAX {
            self.held.pop_last();
        }
        out
    }

    /// The thread is known to reach as far as `head`.
    pub(crate) fn learn(&mut self, head: u64) {
        self.head = self.head.max(head);
    }

    /// Messages after [`Cursor::last`] exist that did not come.
    pub(crate) const fn missing(&self) -> bool {
        self.last < self.head
    }

    /// Gives up on everything before `seq`: returns how far was skipped, and what can be given out.
    pub(crate) fn skip_before(&mut self, seq: u64) -> (Option<(u64, u64)>, Vec<T>) {
        if seq <= self.last + 1 {
            return (None, Vec::new());
        }
        let skipped = (self.last + 1, seq - 1);
        self.held = self.held.split_off(&seq);
        self.last = seq - 1;
        self.head = self.head.max(self.last);
        (Some(skipped), self.release())
    }

    /// Gives up on what is missing before the next message that is here.
    pub(crate) fn skip_missing(&mut self) -> (Option<(u64, u64)>, Vec<T>) {
        let next = self.held.first_key_value().map_or(self.head + 1, |(seq, _)| *seq);
        self.skip_before(next)
    }

    fn release(&mut self) -> Vec<T> {
        let mut out = Vec::new();
        while let Some(item) = self.held.remove(&(self.last + 1)) {
            self.last += 1;
            out.push(item);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holds_what_comes_early_and_drops_what_came_before() {
        let mut cursor = Cursor::new(3);
        assert!(cursor.offer(3, 3).is_empty());
        assert!(!cursor.missing());
        assert!(cursor.offer(6, 6).is_empty());
        assert!(cursor.missing());
        assert_eq!(cursor.offer(4, 4), [4]);
        assert_eq!(cursor.offer(5, 5), [5, 6]);
        assert!(!cursor.missing());
    }

    #[test]
    fn a_higher_head_is_something_missing() {
        let mut cursor = Cursor::new(0);
        cursor.learn(1);
        assert!(cursor.missing());
        assert_eq!(cursor.offer(1, 1), [1]);
        assert!(!cursor.missing());
    }

    #[test]
    fn skips_are_told() {
        let mut cursor = Cursor::new(2);
        assert!(cursor.offer(7, 7).is_empty());
        assert_eq!(cursor.skip_before(6), (Some((3, 5)), vec![]));
        assert_eq!(cursor.skip_missing(), (Some((6, 6)), vec![7]));
        assert_eq!(cursor.skip_missing(), (None, vec![]));
        cursor.learn(9);
        assert_eq!(cursor.skip_missing(), (Some((8, 9)), vec![]));
        assert!(!cursor.missing());
    }

    proptest! {
        /// Any order, repetition and loss of live messages; whenever something is missing, a fetch
        /// brings a page of what follows `last`, of whatever size.
        #[test]
        fn gives_each_message_once_and_in_order(
            start in 0u64..5,
            live in prop::collection::vec((1u64..400, any::<bool>(), 1usize..60), 1..300),
        ) {
            let end = live.iter().map(|(seq, ..)| *seq).max().unwrap_or(0);
            let mut cursor = Cursor::new(start);
            let mut given = Vec::new();
            for (seq, fetch, page) in live {
                given.extend(cursor.offer(seq, seq));
                prop_assert!(cursor.held.len() <= HELD_MAX);
                if fetch && cursor.missing() {
                    for seq in (cursor.last() + 1..=end).take(page) {
                        given.extend(cursor.offer(seq, seq));
                    }
                }
            }
            while cursor.missing() {
                for seq in (cursor.last() + 1..=end).take(50) {
                    given.extend(cursor.offer(seq, seq));
                }
            }
            prop_assert_eq!(given, (start + 1..=end).collect::<Vec<_>>());
        }

        #[test]
        fn never_goes_back_whatever_is_skipped(
            steps in prop::collection::vec((0u8..3, 1u64..50), 1..200),
        ) {
            let mut cursor = Cursor::new(0);
            let mut last = 0;
            for (step, seq) in steps {
                let out = match step {
                    0 => cursor.offer(seq, seq),
                    1 => cursor.skip_before(seq).1,
                    _ => cursor.skip_missing().1,
                };
                for seq in out {
                    prop_assert!(seq > last);
                    last = seq;
                }
                prop_assert!(cursor.last() >= last);
            }
        }
    }
}
