//! What a lower limit would take out of a stream, and whether it may.

use std::fmt;
use std::time::Duration;

use crate::topology::Limits;

/// What a stream holds, as far as its limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// How many bytes.
    pub(super) bytes: u64,
    /// How old its oldest message is; zero when it is empty.
    pub(super) age: Duration,
}

/// Which limit may take something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leave {
    /// A lower number of bytes may.
    pub(super) bytes: bool,
    /// A shorter age may.
    pub(super) age: bool,
}

/// A limit below what is stored. The server drops the oldest at once, and does so where a full stream refuses, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It holds more bytes.
    Bytes { before: Option<u64>, after: u64, held: u64 },
    /// It holds older messages.
    Age { before: Option<Duration>, after: Duration, held: Duration },
}

/// Whether one of the limits is lower than it was.
pub(super) fn is_lower(before: Limits, after: Limits) -> bool {
    lower(before.bytes_max, after.bytes_max).is_some() || lower(before.age_max, after.age_max).is_some()
}

/// What goes when the limits change; the first of it that must not.
pub(super) fn weigh(before: Limits, after: Limits, held: Held, leave: Leave) -> Result<Vec<Loss>, Loss> {
    let bytes = lower(before.bytes_max, after.bytes_max).filter(|after| held.bytes > *after);
    let bytes = bytes.map(|after| Loss::Bytes { before: before.bytes_max, after, held: held.bytes });
    let age = lower(before.age_max, after.age_max).filter(|after| held.age > *after);
    let age = age.map(|after| Loss::Age { before: before.age_max, after, held: held.age });
    let losses: Vec<Loss> = bytes.into_iter().chain(age).collect();
    match losses.iter().find(|loss| !loss.may(leave)) {
        Some(refused) => Err(*refused),
        None => Ok(losses),
    }
}

/// The new limit, when it is lower.
fn lower<T: PartialOrd + Copy>(before: Option<T>, after: Option<T>) -> Option<T> {
    after.filter(|after| before.is_none_or(|before| *after < before))
}

impl Loss {
    const fn may(self, leave: Leave) -> bool {
        match self {
            Self::Bytes { .. } => leave.bytes,
            Self::Age { .. } => leave.age,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bytes { before, after, held } => {
                let before = before.map_or_else(|| "unlimited".to_owned(), |before| before.to_string());
                write!(f, "max_bytes is {before}, wanted is {after}, and it holds {held} bytes")
            }
            Self::Age { before, after, held } => {
                let before = before.map_or_else(|| "unlimited".to_owned(), span);
                let (after, held) = (span(after), span(held));
                write!(f, "max_age is {before}, wanted is {after}, and its oldest message is {held} old")
            }
        }
    }
}

/// Days from two on, below that seconds.
fn span(time: Duration) -> String {
    match time.as_secs() / 86_400 {
        0 | 1 => format!("{:.1} s", time.as_secs_f64()),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn limits(bytes_max: Option<u64>, age_max: Option<Duration>) -> Limits {
        Limits { bytes_max, age_max }
    }

    /// 1000 bytes, the oldest of them ten days old, and nothing may go.
    fn refused(before: Limits, after: Limits) -> Option<Loss> {
        weigh(before, after, Held { bytes: 1000, age: 10 * DAY }, Leave::default()).err()
    }

    #[test]
    fn what_is_above_the_new_limit_would_go() {
        let open = limits(None, None);
        assert_eq!(refused(limits(Some(2000), None), limits(Some(1000), None)), None, "it just fits");
        let loss = refused(limits(Some(2000), None), limits(Some(999), None));
        assert_eq!(loss, Some(Loss::Bytes { before: Some(2000), after: 999, held: 1000 }));
        assert_eq!(refused(open, limits(None, Some(10 * DAY))), None, "it just fits");
        let loss = refused(open, limits(None, Some(9 * DAY)));
        assert_eq!(loss, Some(Loss::Age { before: None, after: 9 * DAY, held: 10 * DAY }));
    }

    #[test]
    fn what_grows_or_stays_takes_nothing_out() {
        let tight = limits(Some(10), Some(DAY));
        for after in [tight, limits(Some(11), Some(2 * DAY)), limits(None, None)] {
            assert_eq!(refused(tight, after), None, "{after:?}");
            assert!(!is_lower(tight, after), "{after:?}");
        }
        assert!(is_lower(limits(None, None), tight) && is_lower(tight, limits(Some(9), None)));
        let empty = Held { bytes: 0, age: Duration::ZERO };
        assert_eq!(weigh(limits(None, None), tight, empty, Leave::default()), Ok(Vec::new()));
    }

    #[test]
    fn each_limit_needs_its_own_leave() {
        let held = Held { bytes: 1000, age: 10 * DAY };
        let (before, after) = (limits(None, None), limits(Some(500), Some(5 * DAY)));
        let weighed = |bytes, age| weigh(before, after, held, Leave { bytes, age });
        assert!(matches!(weighed(false, true), Err(Loss::Bytes { .. })));
        assert!(matches!(weighed(true, false), Err(Loss::Age { .. })));
        assert_eq!(weighed(true, true).map(|losses| losses.len()), Ok(2));
    }

    #[test]
    fn both_values_are_told() {
        let loss = Loss::Bytes { before: None, after: 500, held: 1000 };
        assert_eq!(loss.to_string(), "max_bytes is unlimited, wanted is 500, and it holds 1000 bytes");
        let loss = Loss::Age { before: Some(30 * DAY), after: Duration::from_millis(1500), held: 10 * DAY };
        assert_eq!(loss.to_string(), "max_age is 30 days, wanted is 1.5 s, and its oldest message is 10 days old");
    }
}
