//! Which waiting envelopes go into the next record: lanes, batches and bounds, without I/O.
//!
//! A lane is the envelopes of one thread. At most one record with envelopes of a lane is in flight;
//! several of one lane may share a record, in order. While fewer than `in_flight_max` records are in
//! flight an envelope goes at once; what comes meanwhile waits and goes together.

use std::collections::{HashMap, VecDeque};

use contract::SmolStr;

/// Bounds of a [`Batcher`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most records in flight.
    pub(crate) in_flight_max: usize,
    /// Most envelopes in one record.
    pub(crate) record_max: usize,
    /// Most bytes in one record.
    pub(crate) record_bytes_max: usize,
    /// Most envelopes that wait.
    pub(crate) waiting_max: usize,
    /// Most bytes that wait.
    pub(crate) waiting_bytes_max: usize,
}

/// What waits, by lane.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    bounds: Bounds,
    lanes: HashMap<SmolStr, Lane<T>>,
    /// Lanes that have something waiting and nothing in flight, in order of arrival.
    ready: VecDeque<SmolStr>,
    waiting: usize,
    waiting_bytes: usize,
    in_flight: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(usize, T)>,
    in_flight: bool,
}

/// What goes in one record.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) lanes: Vec<SmolStr>,
    pub(crate) items: Vec<T>,
}

impl<T> Batcher<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, lanes: HashMap::new(), ready: VecDeque::new(), waiting: 0, waiting_bytes: 0, in_flight: 0 }
    }

    /// Puts an item of `bytes` bytes at the end of its lane; gives it back when there is no room.
    pub(crate) fn push(&mut self, lane: SmolStr, bytes: usize, item: T) -> Result<(), T> {
        if self.waiting >= self.bounds.waiting_max || self.waiting_bytes + bytes > self.bounds.waiting_bytes_max {
            return Err(item);
        }
        self.waiting += 1;
        self.waiting_bytes += bytes;
        let entry =
            self.lanes.entry(lane.clone()).or_insert_with(|| Lane { waiting: VecDeque::new(), in_flight: false });
        if !entry.in_flight && entry.waiting.is_empty() {
            self.ready.push_back(lane);
        }
        entry.waiting.push_back((bytes, item));
        Ok(())
    }

    /// Whether a record may go now.
    pub(crate) fn may_begin(&self) -> bool {
        self.in_flight < self.bounds.in_flight_max && !self.ready.is_empty()
    }

    /// The next record, when one may go now. It is in flight until [`Batcher::finish`].
    pub(crate) fn take(&mut self) -> Option<Batch<T>> {
        if self.in_flight >= self.bounds.in_flight_max {
            return None;
        }
        let mut batch = Batch { lanes: Vec::new(), items: Vec::new() };
        let mut bytes_taken = 0;
        while batch.items.len() < self.bounds.record_max
            && let Some(name) = self.ready.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            let before = batch.items.len();
            while batch.items.len() < self.bounds.record_max
                && let Some((bytes, _)) = lane.waiting.front()
                && (batch.items.is_empty() || bytes_taken + bytes <= self.bounds.record_bytes_max)
                && let Some((bytes, item)) = lane.waiting.pop_front()
            {
                bytes_taken += bytes;
                self.waiting -= 1;
                self.waiting_bytes -= bytes;
                batch.items.push(item);
            }
            if batch.items.len() == before {
                // Too large for what is left of this record: first in the next one.
                self.ready.push_front(name);
                break;
            }
            lane.in_flight = true;
            batch.lanes.push(name);
        }
        if batch.items.is_empty() {
            return None;
        }
        self.in_flight += 1;
        Some(batch)
    }

    /// A record is no longer in flight. When it failed, what waits behind it on its lanes comes back,
    /// to be refused too: going on would turn the order of a sender's messages round.
    pub(crate) fn finish(&mut self, lanes: Vec<SmolStr>, failed: bool) -> Vec<T> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let mut behind = Vec::new();
        for name in lanes {
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            lane.in_flight = false;
            if failed {
                for (bytes, item) in lane.waiting.drain(..) {
                    self.waiting -= 1;
                    self.waiting_bytes -= bytes;
                    behind.push(item);
                }
            }
            if lane.waiting.is_empty() {
                self.lanes.remove(&name);
            } else {
                self.ready.push_back(name);
            }
        }
        behind
    }

    /// Nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { in_flight_max: 2, record_max: 4, record_bytes_max: 100, waiting_max: 20, waiting_bytes_max: 1000 };

    #[test]
    fn goes_alone_while_there_is_room_and_together_after() {
        let mut batcher = Batcher::new(BOUNDS);
        batcher.push("a".into(), 10, 1).unwrap();
        let first = batcher.take().unwrap();
        assert_eq!(first.items, [1]);
        batcher.push("a".into(), 10, 2).unwrap();
        assert!(batcher.take().is_none(), "the lane is in flight");
        batcher.push("b".into(), 10, 3).unwrap();
        let second = batcher.take().unwrap();
        assert_eq!(second.items, [3]);
        for n in 4..=6 {
            batcher.push("c".into(), 10, n).unwrap();
        }
        assert!(batcher.take().is_none(), "two are in flight");
        assert!(batcher.finish(first.lanes, false).is_empty());
        assert_eq!(batcher.take().unwrap().items, [4, 5, 6, 2]);
    }

    #[test]
    fn what_waits_behind_a_failure_fails_too() {
        let mut batcher = Batcher::new(BOUNDS);
        batcher.push("a".into(), 1, 1).unwrap();
        let batch = batcher.take().unwrap();
        batcher.push("a".into(), 1, 2).unwrap();
        batcher.push("a".into(), 1, 3).unwrap();
        assert_eq!(batcher.finish(batch.lanes, true), [2, 3]);
        assert!(batcher.is_idle());
    }

    proptest! {
        #[test]
        fn keeps_order_bounds_and_everything(
            steps in prop::collection::vec((0u8..4, 0usize..5, 1usize..60), 1..200)
        ) {
            let mut batcher = Batcher::new(BOUNDS);
            let (mut pushed, mut done) = (Vec::new(), Vec::new());
            let mut flying: Vec<Batch<(usize, usize)>> = Vec::new();
            for (n, (step, lane, bytes)) in steps.into_iter().enumerate() {
                if step < 3 {
                    if batcher.push(SmolStr::from(lane.to_string()), bytes, (lane, n)).is_ok() {
                        pushed.push((lane, n));
                    }
                    if let Some(batch) = batcher.take() {
                        flying.push(batch);
                    }
                } else if !flying.is_empty() {
                    let batch = flying.remove(lane % flying.len());
                    prop_assert!(batcher.finish(batch.lanes, false).is_empty());
                    done.extend(batch.items);
                }
                prop_assert!(flying.len() <= BOUNDS.in_flight_max);
                let mut seen = HashSet::new();
                for batch in &flying {
                    prop_assert!(batch.items.len() <= BOUNDS.record_max);
                    for lane in &batch.lanes {
                        prop_assert!(seen.insert(lane.clone()), "a lane is in flight twice");
                    }
                }
            }
            loop {
                while let Some(batch) = batcher.take() {
                    flying.push(batch);
                }
                let Some(batch) = flying.pop() else { break };
                batcher.finish(batch.lanes, false);
                done.extend(batch.items);
            }
            prop_assert!(batcher.is_idle());
            for lane in 0..5 {
                let of = |items: &[(usize, usize)]| items.iter().copied().filter(|i| i.0 == lane).collect::<Vec<_>>();
                prop_assert_eq!(of(&pushed), of(&done));
            }
        }
    }
}
