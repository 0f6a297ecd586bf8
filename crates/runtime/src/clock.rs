//! The wall clock. Every other part of the program is given the time, so that tests and replays
//! can give another.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC. Zero when the machine's clock stands before 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_after_this_was_written() {
        assert!(super::now() > 1_760_000_000_000);
    }
}
