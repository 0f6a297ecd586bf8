//! How far what is decided is behind what has come, by this process's own clock: the servers' clocks may go differently.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bus::Bus;

use crate::metric::Metric;

/// How many looks are remembered; being behind for longer than they reach back is told as that.
const MARKS_MAX: usize = 600;

/// When `IN` ended where.
#[derive(Debug, Default, Clone)]
pub(super) struct Lag {
    /// Its last sequence at some moments, the earliest first.
    marks: Arc<Mutex<VecDeque<(u64, Instant)>>>,
    /// A look is under way.
    looking: Arc<std::sync::atomic::AtomicBool>,
}

impl Lag {
    /// `IN` ended with `last` at that time.
    fn note(&self, last: u64, at: Instant) {
        let mut marks = self.marks();
        if marks.back().is_some_and(|(newest, _)| *newest >= last) {
            return;
        }
        if marks.len() == MARKS_MAX {
            // Not the first: it says for how long.
            marks.remove(1);
        }
        marks.push_back((last, at));
    }

    /// For how long something has been there that is not decided yet.
    pub(super) fn behind(&self, cursor: u64, now: Instant) -> Duration {
        let mut marks = self.marks();
        while marks.front().is_some_and(|(last, _)| *last <= cursor) {
            marks.pop_front();
        }
        marks.front().map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }

    /// Looks where `IN` ends, beside everything else; what was asked before the last answer came is asked once.
    pub(super) fn look(&self, bus: &Bus, shard: u16, cursor: u64) {
        use std::sync::atomic::Ordering;
        let shard_name = shard.to_string();
        let behind = self.behind(cursor, Instant::now());
        metrics::gauge!(Metric::InputBehind.name(), "shard" => shard_name.clone()).set(behind.as_secs_f64());
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (lag, bus) = (self.clone(), bus.clone());
        tokio::spawn(async move {
            // What is there when the answer comes was there at the latest then: asked before, it would seem older.
            if let Ok(state) = bus.stream_state(&format!("IN-{shard}")).await {
                lag.note(state.last, Instant::now());
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                let records = state.last.saturating_sub(cursor) as f64;
                metrics::gauge!(Metric::InputLag.name(), "shard" => shard_name).set(records);
            }
            lag.looking.store(false, Ordering::Release);
        });
    }

    fn marks(&self) -> MutexGuard<'_, VecDeque<(u64, Instant)>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_for_how_long_something_waits() {
        let (lag, start) = (Lag::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(lag.behind(0, at(0)), Duration::ZERO, "nothing is known to wait");
        lag.note(10, at(0));
        lag.note(10, at(1));
        lag.note(25, at(2));
        assert_eq!(lag.behind(9, at(3)), Duration::from_secs(3));
        assert_eq!(lag.behind(10, at(3)), Duration::from_secs(1), "the tenth is decided, those after it are not");
        assert_eq!(lag.behind(25, at(4)), Duration::ZERO);
        assert_eq!(lag.behind(25, at(9)), Duration::ZERO, "nothing came since");
    }

    #[test]
    fn remembers_how_long_though_not_every_look() {
        let (lag, start) = (Lag::default(), Instant::now());
        for n in 0..2 * MARKS_MAX as u64 {
            lag.note(n + 1, start + Duration::from_secs(n));
        }
        assert_eq!(lag.marks().len(), MARKS_MAX);
        assert_eq!(lag.behind(0, start + Duration::from_secs(5000)), Duration::from_secs(5000));
        assert!(lag.behind(u64::MAX, start).is_zero());
    }
}
