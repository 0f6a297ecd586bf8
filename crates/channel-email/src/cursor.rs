//! How far a folder has been read, and what is to be read next. Pure.

use adapter::contract::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use crate::imap::Folder;
use crate::settings::FirstRun;

const DAY: Millis = Millis::from_secs(86_400);
/// What arrived so long before the last complete look is looked at again when a folder's numbers begin
/// anew: mail may be dated back. It is shorter than the memory of what was taken.
const BACK: Millis = Millis::from_secs(7 * 86_400);
/// How often a look without news is written down.
const NOTED_EVERY: Millis = Millis::from_secs(6 * 3600);

/// What the bucket holds for a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The numbering that `uid_next` is of.
    pub(crate) uid_validity: u32,
    /// The first UID that was not read.
    pub(crate) uid_next: u32,
    /// Only what arrived since then is taken; absent: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// When everything there was had been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caught_up_at: Option<Timestamp>,
}

/// What to do with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where to go on.
    pub(crate) position: Position,
    /// Its numbers began anew: what was read is read again and known by its content.
    pub(crate) anew: bool,
}

impl Plan {
    /// Goes on from what was read before, if that still holds.
    pub(crate) fn new(known: Option<Position>, folder: Folder, first_run: FirstRun, now: Timestamp) -> Self {
        let Folder { uid_validity, uid_next } = folder;
        let Some(known) = known else {
            let (next, since) = match first_run {
                FirstRun::New => (uid_next, None),
                FirstRun::All => (1, None),
                FirstRun::Days(days) => (1, Some(now - Millis(DAY.0 * u64::from(days)))),
            };
            let position = Position { uid_validity, uid_next: next, since, caught_up_at: None };
            return Self { position, anew: false };
        };
        // Numbers that go back without a new validity happen, too; both mean that they say nothing now.
        if known.uid_validity != uid_validity || uid_next < known.uid_next {
            let since = known.caught_up_at.map(|at| at - BACK).or(known.since);
            return Self { position: Position { uid_validity, uid_next: 1, since, ..known }, anew: true };
        }
        Self { position: known, anew: false }
    }
}

impl Position {
    /// Everything up to `uid_next` was read and is stored. Never goes back.
    pub(crate) fn read_to(self, uid_next: u32) -> Self {
        Self { uid_next: uid_next.max(self.uid_next), ..self }
    }

    /// Everything there is has been read: what comes now is taken whenever it arrived.
    pub(crate) const fn caught_up(self, now: Timestamp) -> Self {
        Self { since: None, caught_up_at: Some(now), ..self }
    }

    /// Whether a look that changed nothing else is worth being written down.
    pub(crate) fn is_noteworthy(self, before: Self) -> bool {
        let noted = before.caught_up_at.unwrap_or_default();
        let same = Self { caught_up_at: before.caught_up_at, ..self } == before;
        !same || before.caught_up_at.is_none() || self.caught_up_at.is_some_and(|at| at.since(noted) > NOTED_EVERY)
    }

    /// Whether a mail that arrived then is taken.
    pub(crate) fn takes(self, arrived_at: Option<u64>) -> bool {
        match (self.since, arrived_at) {
            (Some(since), Some(at)) => at >= since.0,
            _ => true,
        }
    }
}

/// A day as IMAP writes it: `7-Jan-2026`. A day early, since the server's clock has a zone of its own.
pub(crate) fn imap_date(at: Timestamp) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = i64::try_from((at - DAY).0 / 1000).unwrap_or(0);
    let date = mail_parser::DateTime::from_timestamp(seconds);
    let month = MONTHS.get(usize::from(date.month).saturating_sub(1)).copied().unwrap_or("Jan");
    format!("{}-{month}-{:04}", date.day, date.year)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_760_000_000_000);

    fn folder(uid_validity: u32, uid_next: u32) -> Folder {
        Folder { uid_validity, uid_next }
    }

    fn known() -> Position {
        Position { uid_validity: 7, uid_next: 100, since: None, caught_up_at: Some(NOW - DAY) }
    }

    #[test]
    fn the_first_run_takes_what_it_was_told_to() {
        let plan = |first_run| Plan::new(None, folder(7, 100), first_run, NOW).position;
        assert_eq!((plan(FirstRun::New).uid_next, plan(FirstRun::All).uid_next), (100, 1));
        let days = plan(FirstRun::Days(2));
        assert_eq!((days.uid_next, days.since), (1, Some(NOW - Millis(2 * DAY.0))));
        assert!(days.takes(Some(NOW.0)) && !days.takes(Some(NOW.0 - 3 * DAY.0)) && days.takes(None));
    }

    #[test]
    fn a_long_absence_loses_nothing() {
        let plan = Plan::new(Some(known()), folder(7, 9000), FirstRun::New, NOW + Millis(100 * DAY.0));
        assert_eq!(plan, Plan { position: known(), anew: false });
    }

    #[test]
    fn a_new_numbering_is_read_anew() {
        for changed in [folder(8, 100), folder(8, 1), folder(7, 50)] {
            let plan = Plan::new(Some(known()), changed, FirstRun::New, NOW);
            assert!(plan.anew);
            assert_eq!((plan.position.uid_next, plan.position.uid_validity), (1, changed.uid_validity));
            assert_eq!(plan.position.since, Some(NOW - DAY - BACK));
        }
        // Never caught up: everything, as before.
        let begun = Position { caught_up_at: None, since: None, ..known() };
        assert_eq!(Plan::new(Some(begun), folder(8, 100), FirstRun::New, NOW).position.since, None);
    }

    #[test]
    fn a_position_never_goes_back() {
        assert_eq!(known().read_to(50).uid_next, 100);
        assert_eq!(known().read_to(101).uid_next, 101);
        let caught_up = known().caught_up(NOW);
        assert!(caught_up.is_noteworthy(known()), "a day has passed");
        assert!(!known().caught_up(NOW - DAY + Millis(1)).is_noteworthy(known()));
        assert!(known().read_to(101).is_noteworthy(known()));
    }

    #[test]
    fn days_as_imap_writes_them() {
        assert_eq!(imap_date(Timestamp(1_767_744_000_000)), "6-Jan-2026");
    }
}
