//! How often something may happen: token buckets that are told the time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Tokens that fill up over time.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        let burst = burst.max(1.0);
        Self { per_second: per_second.max(f64::MIN_POSITIVE), burst, tokens: burst, filled_at: now }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// With the time until there is one; nothing is taken then.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.filled_at = self.filled_at.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let seconds = ((1.0 - self.tokens) / self.per_second).min(3600.0);
        Err(Duration::from_secs_f64(seconds).max(Duration::from_millis(1)))
    }
}

/// Token buckets by key: an account, a pair of addresses, a recipient, a peer.
///
/// Only so many keys are kept. When there are more, those that are full again are forgotten first, which changes
/// nothing; then those that were used longest ago.
#[derive(Debug)]
pub struct Keyed {
    per_second: f64,
    burst: f64,
    keys_max: usize,
    keys: Mutex<HashMap<String, Slot>>,
}

#[derive(Debug)]
struct Slot {
    bucket: TokenBucket,
    paused_until: Option<Instant>,
    used_at: Instant,
}

impl Keyed {
    /// Full buckets for at most `keys_max` keys.
    #[must_use]
    pub fn new(per_second: f64, burst: f64, keys_max: usize) -> Self {
        Self { per_second, burst, keys_max: keys_max.max(1), keys: Mutex::default() }
    }

    /// Takes one token of a key.
    ///
    /// # Errors
    /// With the time until there is one; nothing is taken then.
    pub fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        self.with(key, now, |slot| {
            if let Some(until) = slot.paused_until {
                if now < until {
                    return Err(until.duration_since(now).max(Duration::from_millis(1)));
                }
                slot.paused_until = None;
            }
            slot.bucket.take(now)
        })
    }

    /// Gives a key nothing before `until`, whatever its bucket holds: the provider said so.
    pub fn pause(&self, key: &str, until: Instant) {
        // The pause is not counted as use, lest a distant one keeps the key for ever.
        self.with(key, Instant::now(), |slot| {
            slot.paused_until = Some(slot.paused_until.map_or(until, |before| before.max(until)));
        });
    }

    /// Forgets a key: what it takes next counts from anew, and a pause is over.
    pub fn forget(&self, key: &str) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn with<T>(&self, key: &str, now: Instant, act: impl FnOnce(&mut Slot) -> T) -> T {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = keys.get_mut(key) {
            slot.used_at = slot.used_at.max(now);
            return act(slot);
        }
        if keys.len() >= self.keys_max {
            self.make_room(&mut keys, now);
        }
        let bucket = TokenBucket::new(self.per_second, self.burst, now);
        let slot = Slot { bucket, paused_until: None, used_at: now };
        act(keys.entry(key.to_owned()).or_insert(slot))
    }

    /// Looks at every key, so it makes room for many at once.
    fn make_room(&self, keys: &mut HashMap<String, Slot>, now: Instant) {
        let full_after = Duration::try_from_secs_f64(self.burst.max(1.0) / self.per_second.max(f64::MIN_POSITIVE));
        let full_after = full_after.unwrap_or(Duration::MAX);
        let idle = |slot: &Slot| now.saturating_duration_since(slot.used_at) >= full_after;
        keys.retain(|_, slot| slot.paused_until.is_some_and(|until| until > now) || !idle(slot));
        let keep = self.keys_max - self.keys_max.div_ceil(8);
        if keys.len() <= keep {
            return;
        }
        let mut ages: Vec<Instant> = keys.values().map(|slot| slot.used_at).collect();
        ages.sort_unstable();
        let Some(oldest_kept) = ages.get(ages.len() - keep.max(1)).copied() else { return };
        let mut excess = keys.len() - keep;
        keys.retain(|_, slot| {
            let goes = excess > 0 && slot.used_at <= oldest_kept;
            excess -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_share_and_can_be_paused() {
        let start = Instant::now();
        let keyed = Keyed::new(1.0, 1.0, 10);
        assert_eq!((keyed.take("a", start), keyed.take("b", start)), (Ok(()), Ok(())));
        assert_eq!(keyed.take("a", start), Err(Duration::from_secs(1)));
        keyed.pause("b", start + Duration::from_secs(30));
        assert_eq!(keyed.take("b", start + Duration::from_secs(10)), Err(Duration::from_secs(20)));
        assert_eq!(keyed.take("b", start + Duration::from_secs(30)), Ok(()));
        keyed.pause("b", start + Duration::from_secs(90));
        keyed.forget("b");
        assert_eq!(keyed.take("b", start + Duration::from_secs(31)), Ok(()));
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_the_busy_ones_stay() {
        let start = Instant::now();
        let keyed = Keyed::new(0.001, 1.0, 16);
        for n in 0..1000_u64 {
            let now = start + Duration::from_millis(n);
            assert!(keyed.take(&n.to_string(), now).is_ok());
            assert!(keyed.keys.lock().unwrap().len() <= 16);
            assert!(n == 0 || keyed.take(&(n - 1).to_string(), now).is_err(), "the newest is remembered");
        }
    }

    #[test]
    fn gives_the_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(2.0, 3.0, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        assert_eq!(bucket.take(start), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(start + Duration::from_millis(500)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(500)).is_err());
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(1.0, 1.0, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert!(bucket.take(start - Duration::from_secs(5)).is_err());
        assert!(bucket.take(start).is_err());
    }

    #[test]
    fn never_holds_more_than_the_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100.0, 2.0, start);
        let later = start + Duration::from_secs(60);
        assert!(bucket.take(later).is_ok() && bucket.take(later).is_ok());
        assert!(bucket.take(later).is_err());
    }
}
