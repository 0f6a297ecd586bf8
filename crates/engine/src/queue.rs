//! What is known of a queue beyond what the policy says: whether it is open, and how it did lately.

use std::collections::VecDeque;

use contract::policy::{ServiceLevel, ServiceLevelFormula};
use contract::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// How many of the newest waits and handling times are kept.
const OBSERVED_MAX: usize = 200;
/// Fewer observations than this tell nothing.
const OBSERVED_MIN: usize = 10;
/// The service level looks back so many minutes.
const MINUTES: u64 = 60;

/// A queue's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Closed by its opening hours.
    pub closed: bool,
    /// When it opens or closes next.
    pub changes_at: Option<Timestamp>,
    /// The newest waits until somebody accepted, in milliseconds, oldest first.
    waits: VecDeque<u64>,
    /// The newest times from accepting to the end of the after-interaction work.
    handled: VecDeque<u64>,
    /// What was answered and abandoned, by minute, oldest first.
    minutes: VecDeque<Minute>,
}

/// What happened in a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Minute {
    minute: u64,
    answered: u32,
    answered_in_time: u32,
    abandoned: u32,
    abandoned_in_time: u32,
}

fn push(observed: &mut VecDeque<u64>, span: Millis) {
    if observed.len() == OBSERVED_MAX {
        observed.pop_front();
    }
    observed.push_back(span.0);
}

impl QueueState {
    /// Counts something that happened now.
    fn count(&mut self, at: Timestamp, count: impl FnOnce(&mut Minute)) {
        let minute = at.0 / 60_000;
        while self.minutes.front().is_some_and(|first| first.minute + MINUTES <= minute) {
            self.minutes.pop_front();
        }
        if self.minutes.back().is_none_or(|last| last.minute < minute) {
            self.minutes.push_back(Minute { minute, ..Minute::default() });
        }
        if let Some(last) = self.minutes.back_mut() {
            count(last);
        }
    }

    /// Somebody accepted after such a wait.
    pub(crate) fn answered(&mut self, at: Timestamp, waited: Millis, level: Option<&ServiceLevel>) {
        push(&mut self.waits, waited);
        let in_time = level.is_none_or(|level| waited <= level.answer_within_ms);
        self.count(at, |minute| {
            minute.answered += 1;
            minute.answered_in_time += u32::from(in_time);
        });
    }

    /// The customer gave up after such a wait.
    pub(crate) fn abandoned(&mut self, at: Timestamp, waited: Millis, level: Option<&ServiceLevel>) {
        if level.is_some_and(|level| waited < level.short_abandon_ms) {
            return;
        }
        let in_time = level.is_none_or(|level| waited <= level.answer_within_ms);
        self.count(at, |minute| {
            minute.abandoned += 1;
            minute.abandoned_in_time += u32::from(in_time);
        });
    }

    /// Handling one took so long.
    pub(crate) fn handled(&mut self, span: Millis) {
        push(&mut self.handled, span);
    }

    /// The service level of the last hour in per cent; `None`: nothing was answered or abandoned.
    #[must_use]
    pub fn service_level(&self, now: Timestamp, formula: ServiceLevelFormula) -> Option<u8> {
        let since = (now.0 / 60_000).saturating_sub(MINUTES - 1);
        let recent = self.minutes.iter().filter(|minute| minute.minute >= since);
        let sum = recent.fold((0_u64, 0_u64, 0_u64, 0_u64), |sum, minute| {
            (
                sum.0 + u64::from(minute.answered),
                sum.1 + u64::from(minute.answered_in_time),
                sum.2 + u64::from(minute.abandoned),
                sum.3 + u64::from(minute.abandoned_in_time),
            )
        });
        let (answered, in_time, abandoned, abandoned_in_time) = sum;
        let (good, all) = match formula {
            ServiceLevelFormula::OfAnswered => (in_time, answered),
            ServiceLevelFormula::OfOffered => (in_time, answered + abandoned),
            ServiceLevelFormula::AbandonedInTimeCounts => (in_time + abandoned_in_time, answered + abandoned),
        };
        (all > 0).then(|| u8::try_from(good * 100 / all).unwrap_or(100))
    }

    /// The wait that a share of those answered lately did not exceed.
    #[must_use]
    pub fn wait_percentile(&self, percent: usize) -> Option<Millis> {
        if self.waits.len() < OBSERVED_MIN {
            return None;
        }
        let mut waits: Vec<u64> = self.waits.iter().copied().collect();
        waits.sort_unstable();
        waits.get((waits.len() - 1) * percent.min(100) / 100).copied().map(Millis)
    }

    /// The mean handling time; `None`: too few ended.
    #[must_use]
    pub fn handling_time(&self) -> Option<Millis> {
        let count = self.handled.len() as u64;
        (self.handled.len() >= OBSERVED_MIN).then(|| Millis(self.handled.iter().sum::<u64>() / count.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> ServiceLevel {
        ServiceLevel {
            answer_within_ms: Millis(20_000),
            target_percent: 80,
            window_ms: None,
            formula: ServiceLevelFormula::OfOffered,
            short_abandon_ms: Millis(2_000),
        }
    }

    #[test]
    fn the_three_service_levels_differ_as_they_should() {
        let mut queue = QueueState::default();
        let at = Timestamp(3_600_000);
        for waited in [5_000, 10_000, 30_000] {
            queue.answered(at, Millis(waited), Some(&level()));
        }
        queue.abandoned(at, Millis(10_000), Some(&level()));
        queue.abandoned(at, Millis(40_000), Some(&level()));
        // So short that it was a mistake.
        queue.abandoned(at, Millis(1_000), Some(&level()));
        assert_eq!(queue.service_level(at, ServiceLevelFormula::OfAnswered), Some(66));
        assert_eq!(queue.service_level(at, ServiceLevelFormula::OfOffered), Some(40));
        assert_eq!(queue.service_level(at, ServiceLevelFormula::AbandonedInTimeCounts), Some(60));
        let later = Timestamp(at.0 + 61 * 60_000);
        assert_eq!(queue.service_level(later, ServiceLevelFormula::OfAnswered), None);
    }

    #[test]
    fn says_nothing_of_too_few() {
        let mut queue = QueueState::default();
        for n in 1..=OBSERVED_MIN as u64 {
            assert_eq!((queue.wait_percentile(50), queue.handling_time()), (None, None));
            queue.answered(Timestamp(0), Millis(n * 1000), None);
            queue.handled(Millis(n * 1000));
        }
        assert_eq!(queue.wait_percentile(50), Some(Millis(5000)));
        assert_eq!(queue.wait_percentile(90), Some(Millis(9000)));
        assert_eq!(queue.handling_time(), Some(Millis(5500)));
    }
}
