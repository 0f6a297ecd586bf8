//! The wall clock. Every other part of the program is given the time, so that tests and replays
//! can give another.
//!
//! A machine's clock can jump: somebody sets it, a time server is wrong for a moment, a virtual machine was asleep. What
//! waits for a time must not all be due at once because of that, nor wait for an hour that comes twice. So a jump is
//! followed only once it has lasted; until then time goes on as the steady clock counts it.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A difference up to this is followed at once: a clock that is adjusted, not set.
const ADJUSTED_MS: u64 = 2_000;

/// How long a jump has to last before it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// Milliseconds since the Unix epoch, UTC. Zero when the machine's clock stands before 1970. A jump of the machine's
/// clock by more than two seconds is followed a minute later.
#[must_use]
pub fn now() -> u64 {
    static CLOCK: LazyLock<Mutex<Clock>> = LazyLock::new(|| Mutex::new(Clock::new(wall(), Instant::now())));
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // Read within the lock, so that they go together and never back.
    let (now, news) = clock.read(wall(), Instant::now());
    drop(clock);
    match news {
        Some(News::Jumped(by)) => {
            tracing::warn!(by_ms = by, "the machine's clock jumped; not followed before it lasts");
        }
        Some(News::Followed(by)) => {
            tracing::warn!(by_ms = by, "the machine's clock stays where it jumped; followed");
        }
        Some(News::Back) => tracing::info!("the machine's clock is back where it was"),
        None => {}
    }
    now
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What to tell an operator; by how many milliseconds, forward or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Jumped(i64),
    Followed(i64),
    Back,
}

/// Follows a wall clock, but not its jumps.
#[derive(Debug)]
struct Clock {
    /// What the wall clock said, as far as it is believed, and when.
    wall: u64,
    at: Instant,
    /// Since when it says something else, and by how much that differs.
    jump: Option<(Instant, i64)>,
}

impl Clock {
    const fn new(wall: u64, at: Instant) -> Self {
        Self { wall, at, jump: None }
    }

    fn read(&mut self, wall: u64, at: Instant) -> (u64, Option<News>) {
        let passed = u64::try_from(at.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let expected = self.wall.saturating_add(passed);
        let by = wall.wrapping_sub(expected).cast_signed();
        if by.unsigned_abs() <= ADJUSTED_MS {
            let news = self.jump.take().map(|_| News::Back);
            (self.wall, self.at) = (wall, at);
            return (wall, news);
        }
        // A second jump begins the wait anew.
        let known = self.jump.filter(|(_, before)| before.abs_diff(by) <= ADJUSTED_MS);
        let Some((since, _)) = known else {
            self.jump = Some((at, by));
            return (expected, Some(News::Jumped(by)));
        };
        if at.saturating_duration_since(since) < BELIEVED_AFTER {
            return (expected, None);
        }
        *self = Self::new(wall, at);
        (wall, Some(News::Followed(by)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn clock() -> (Clock, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        (Clock::new(1_000_000_000, began), move |ms| began + Duration::from_millis(ms))
    }

    #[test]
    fn it_is_after_this_was_written() {
        assert!(super::now() > 1_760_000_000_000);
    }

    #[test]
    fn small_corrections_are_followed_at_once() {
        let (mut clock, at) = clock();
        assert_eq!(clock.read(1_000_001_500, at(1_000)), (1_000_001_500, None));
        assert_eq!(clock.read(1_000_001_000, at(2_000)), (1_000_001_000, None));
    }

    #[test]
    fn a_jump_that_is_taken_back_changes_nothing() {
        for jumped in [1_000_000_000 + HOUR, 1_000_000_000 - HOUR] {
            let (mut clock, at) = clock();
            let by = jumped.wrapping_sub(1_000_000_000).cast_signed();
            assert_eq!(clock.read(jumped + 1_000, at(1_000)), (1_000_001_000, Some(News::Jumped(by))));
            assert_eq!(clock.read(jumped + 59_000, at(59_000)), (1_000_059_000, None));
            assert_eq!(clock.read(1_000_060_000, at(60_000)), (1_000_060_000, Some(News::Back)));
            assert_eq!(clock.read(1_000_090_000, at(90_000)), (1_000_090_000, None));
        }
    }

    #[test]
    fn a_jump_that_lasts_is_followed() {
        let (mut clock, at) = clock();
        let by = HOUR.cast_signed();
        assert_eq!(clock.read(1_000_001_000 + HOUR, at(1_000)), (1_000_001_000, Some(News::Jumped(by))));
        assert_eq!(clock.read(1_000_060_999 + HOUR, at(60_999)), (1_000_060_999, None));
        let followed = 1_000_061_000 + HOUR;
        assert_eq!(clock.read(followed, at(61_000)), (followed, Some(News::Followed(by))));
        assert_eq!(clock.read(followed + 10, at(61_010)), (followed + 10, None));
    }

    #[test]
    fn a_clock_that_jumps_about_is_not_believed() {
        let (mut clock, at) = clock();
        for n in 1..10 {
            let elsewhere = 1_000_000_000 + n * HOUR;
            assert_eq!(clock.read(elsewhere, at(n * 50_000)).0, 1_000_000_000 + n * 50_000);
        }
    }
}
