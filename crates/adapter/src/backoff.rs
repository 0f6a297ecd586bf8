//! How long to wait before the next try.

use std::time::Duration;

/// Doubling waits with jitter: the wait before try `n + 1` lies between half and all of
/// `first * 2^n`, capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `tries` tries (from 0), with randomness from the system.
    #[must_use]
    pub fn wait(self, tries: u32) -> Duration {
        self.wait_with(tries, random())
    }

    /// The wait after `tries` tries; `dice` is the randomness.
    #[must_use]
    pub fn wait_with(self, tries: u32, dice: u32) -> Duration {
        let whole = self.first.saturating_mul(1_u32 << tries.min(20)).min(self.max);
        whole / 2 + whole.mul_f64(f64::from(dice) / f64::from(u32::MAX) / 2.0)
    }
}

fn random() -> u32 {
    // Without randomness there is no jitter, which is no reason not to wait.
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_bounds() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) };
        assert_eq!(backoff.wait_with(0, 0), Duration::from_millis(500));
        assert_eq!(backoff.wait_with(0, u32::MAX), Duration::from_secs(1));
        assert_eq!(backoff.wait_with(3, u32::MAX), Duration::from_secs(8));
        assert_eq!(backoff.wait_with(60, u32::MAX), Duration::from_secs(300));
    }
}
