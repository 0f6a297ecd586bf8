//! Which waiting envelopes go into the next record: lanes, batches and bounds, without I/O.
//!
//! A lane is the envelopes of one thread. At most one record with envelopes of a lane is in flight;
//! several of one lane may share a record, in order. While fewer than `in_flight_max` records are in
//! flight an envelope goes at once; what comes meanwhile waits and goes together.
//!
//! What somebody waits for goes first: lanes in which there is some of it, before lanes with bulk alone, such as the receipts
//! of a campaign. Every [`BULK_TURN`]th record begins with bulk, so that it does not wait for ever.

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

/// Every so manieth record begins with bulk.
const BULK_TURN: u64 = 4;

/// How soon something is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody waits for it.
    Interactive,
    /// Nobody does.
    Bulk,
}

/// What waits, by lane.
#[derive(Debug)]
pub(crate) struct Batcher<T> {
    bounds: Bounds,
    lanes: HashMap<SmolStr, Lane<T>>,
    /// Lanes that have something interactive waiting and nothing in flight, in order of arrival.
    ready: VecDeque<SmolStr>,
    /// Those that have bulk alone. A lane that got something interactive since is in both, and goes by the first.
    ready_bulk: VecDeque<SmolStr>,
    records: u64,
    waiting: usize,
    waiting_bytes: usize,
    in_flight: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(usize, Class, T)>,
    /// How many of them are interactive.
    interactive: usize,
    in_flight: bool,
    /// Whether it is in `ready`, and in `ready_bulk`.
    listed: (bool, bool),
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), interactive: 0, in_flight: false, listed: (false, false) }
    }
}

/// What goes in one record.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) lanes: Vec<SmolStr>,
    pub(crate) items: Vec<T>,
}

impl<T> Batcher<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            ready_bulk: VecDeque::new(),
            records: 0,
            waiting: 0,
            waiting_bytes: 0,
            in_flight: 0,
        }
    }

    /// Puts an item of `bytes` bytes at the end of its lane; gives it back when there is no room.
    pub(crate) fn push(&mut self, lane: SmolStr, class: Class, bytes: usize, item: T) -> Result<(), T> {
        if self.waiting >= self.bounds.waiting_max || self.waiting_bytes + bytes > self.bounds.waiting_bytes_max {
            return Err(item);
        }
        self.waiting += 1;
        self.waiting_bytes += bytes;
        let entry = self.lanes.entry(lane.clone()).or_default();
        entry.interactive += usize::from(class == Class::Interactive);
        entry.waiting.push_back((bytes, class, item));
        self.list(lane);
        Ok(())
    }

    /// Lists a lane where it belongs, if it may go.
    fn list(&mut self, name: SmolStr) {
        let Some(lane) = self.lanes.get_mut(&name) else { return };
        if lane.in_flight || lane.waiting.is_empty() {
            return;
        }
        let (listed, queue) = if lane.interactive > 0 {
            (&mut lane.listed.0, &mut self.ready)
        } else {
            (&mut lane.listed.1, &mut self.ready_bulk)
        };
        if !std::mem::replace(listed, true) {
            queue.push_back(name);
        }
    }

    /// The next lane that may go, of one list.
    fn unlist(&mut self, class: Class) -> Option<SmolStr> {
        loop {
            let name = match class {
                Class::Interactive => self.ready.pop_front(),
                Class::Bulk => self.ready_bulk.pop_front(),
            }?;
            // One that went by the other list is left here until its turn comes.
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            match class {
                Class::Interactive => lane.listed.0 = false,
                Class::Bulk => lane.listed.1 = false,
            }
            if lane.in_flight {
                continue;
            }
            if !lane.waiting.is_empty() {
                return Some(name);
            }
            if lane.listed == (false, false) {
                self.lanes.remove(&name);
            }
        }
    }

    /// Whether a record may go now.
    pub(crate) fn may_begin(&self) -> bool {
        self.in_flight < self.bounds.in_flight_max && (!self.ready.is_empty() || !self.ready_bulk.is_empty())
    }

    /// The next record, when one may go now. It is in flight until [`Batcher::finish`].
    pub(crate) fn take(&mut self) -> Option<Batch<T>> {
        if self.in_flight >= self.bounds.in_flight_max {
            return None;
        }
        let mut batch = Batch { lanes: Vec::new(), items: Vec::new() };
        let mut bytes_taken = 0;
        let bulk_first = (self.records + 1).is_multiple_of(BULK_TURN);
        let (first, second) =
            if bulk_first { (Class::Bulk, Class::Interactive) } else { (Class::Interactive, Class::Bulk) };
        while batch.items.len() < self.bounds.record_max
            && let Some(name) = self.unlist(first).or_else(|| self.unlist(second))
        {
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            let before = batch.items.len();
            while batch.items.len() < self.bounds.record_max
                && let Some((bytes, ..)) = lane.waiting.front()
                && (batch.items.is_empty() || bytes_taken + bytes <= self.bounds.record_bytes_max)
                && let Some((bytes, class, item)) = lane.waiting.pop_front()
            {
                bytes_taken += bytes;
                self.waiting -= 1;
                self.waiting_bytes -= bytes;
                lane.interactive -= usize::from(class == Class::Interactive);
                batch.items.push(item);
            }
            if batch.items.len() == before {
                // Too large for what is left of this record: first in the next one.
                if lane.interactive > 0 {
                    lane.listed.0 = true;
                    self.ready.push_front(name);
                } else {
                    lane.listed.1 = true;
                    self.ready_bulk.push_front(name);
                }
                break;
            }
            lane.in_flight = true;
            batch.lanes.push(name);
        }
        if batch.items.is_empty() {
            return None;
        }
        self.records += 1;
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
                lane.interactive = 0;
                for (bytes, _, item) in lane.waiting.drain(..) {
                    self.waiting -= 1;
                    self.waiting_bytes -= bytes;
                    behind.push(item);
                }
            }
            // One that is still listed has to be known when its turn comes, lest it be listed twice.
            if !lane.waiting.is_empty() {
                self.list(name);
            } else if lane.listed == (false, false) {
                self.lanes.remove(&name);
            }
        }
        behind
    }

    /// How many envelopes wait.
    pub(crate) const fn depth(&self) -> usize {
        self.waiting
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
        batcher.push("a".into(), Class::Interactive, 10, 1).unwrap();
        let first = batcher.take().unwrap();
        assert_eq!(first.items, [1]);
        batcher.push("a".into(), Class::Interactive, 10, 2).unwrap();
        assert!(batcher.take().is_none(), "the lane is in flight");
        batcher.push("b".into(), Class::Interactive, 10, 3).unwrap();
        let second = batcher.take().unwrap();
        assert_eq!(second.items, [3]);
        for n in 4..=6 {
            batcher.push("c".into(), Class::Interactive, 10, n).unwrap();
        }
        assert!(batcher.take().is_none(), "two are in flight");
        assert!(batcher.finish(first.lanes, false).is_empty());
        assert_eq!(batcher.take().unwrap().items, [4, 5, 6, 2]);
    }

    #[test]
    fn what_waits_behind_a_failure_fails_too() {
        let mut batcher = Batcher::new(BOUNDS);
        batcher.push("a".into(), Class::Interactive, 1, 1).unwrap();
        let batch = batcher.take().unwrap();
        batcher.push("a".into(), Class::Interactive, 1, 2).unwrap();
        batcher.push("a".into(), Class::Interactive, 1, 3).unwrap();
        assert_eq!(batcher.finish(batch.lanes, true), [2, 3]);
        assert!(batcher.is_idle());
    }

    fn fill(batcher: &mut Batcher<u32>, lanes: std::ops::Range<u32>, class: Class) {
        for n in lanes {
            batcher.push(n.to_string().into(), class, 1, n).unwrap();
        }
    }

    /// Takes one record after the other.
    fn drain(batcher: &mut Batcher<u32>) -> Vec<Vec<u32>> {
        std::iter::from_fn(|| {
            let batch = batcher.take()?;
            batcher.finish(batch.lanes, false);
            Some(batch.items)
        })
        .collect()
    }

    #[test]
    fn what_somebody_waits_for_goes_before_bulk_that_came_first() {
        let mut batcher = Batcher::new(BOUNDS);
        fill(&mut batcher, 0..8, Class::Bulk);
        fill(&mut batcher, 100..106, Class::Interactive);
        assert_eq!(
            drain(&mut batcher),
            [vec![100, 101, 102, 103], vec![104, 105, 0, 1], vec![2, 3, 4, 5], vec![6, 7]],
            "what room is left in a record is for bulk"
        );
    }

    #[test]
    fn bulk_does_not_wait_for_ever() {
        let mut batcher = Batcher::new(BOUNDS);
        fill(&mut batcher, 0..2, Class::Bulk);
        let mut records = Vec::new();
        for n in 0..5 {
            fill(&mut batcher, 100 + n * 4..104 + n * 4, Class::Interactive);
            let batch = batcher.take().unwrap();
            batcher.finish(batch.lanes, false);
            records.push(batch.items);
        }
        let with_bulk = records.iter().position(|items| items.contains(&0));
        assert_eq!(with_bulk, Some(3), "{records:?}");
        assert_eq!(records[3], [0, 1, 112, 113]);
    }

    #[test]
    fn a_lane_goes_as_soon_as_the_most_urgent_in_it_and_in_order() {
        let mut batcher = Batcher::new(BOUNDS);
        batcher.push("a".into(), Class::Bulk, 1, 1).unwrap();
        batcher.push("b".into(), Class::Bulk, 1, 2).unwrap();
        batcher.push("b".into(), Class::Interactive, 1, 3).unwrap();
        assert_eq!(drain(&mut batcher), [[2, 3, 1]]);
        assert!(batcher.is_idle() && batcher.lanes.is_empty());
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
                    let class = if (n + lane) % 3 == 0 { Class::Interactive } else { Class::Bulk };
                    if batcher.push(SmolStr::from(lane.to_string()), class, bytes, (lane, n)).is_ok() {
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
            prop_assert!(batcher.lanes.is_empty(), "lanes are left over");
            for lane in 0..5 {
                let of = |items: &[(usize, usize)]| items.iter().copied().filter(|i| i.0 == lane).collect::<Vec<_>>();
                prop_assert_eq!(of(&pushed), of(&done));
            }
        }
    }
}
