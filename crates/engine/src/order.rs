//! Which waiting conversation goes first (routing semantics, "Which item first").
//!
//! Each has a value in milliseconds, smaller first: the time since which it waits, less what its queue
//! and rule adjust, less what a point of priority is worth times its priority, less what the nearness of
//! its service level's end is worth. Where the order is strict, a point of priority is worth a thousand
//! years. The last part moves with time: nothing until the window before the end begins, then more and
//! more evenly, then all of it. So that items stand in ordered sets all the same, they are kept apart by
//! which of the three holds ([`Nearness`]); among those of one queue and nearness the order never changes.

use contract::policy::{Order, Queue};
use contract::{ConversationId, Timestamp};

use crate::conversation::Conversation;

/// What a point of priority is worth where the order is aged (Genesys: a minute).
const AGED_MS: i64 = 60_000;
/// What it is worth where the order is strict: more than anybody can wait.
const STRICT_MS: i64 = 1_000_000_000_000;
/// What nearing the service level's end is worth where the policy does not say.
const DUE_MS: i64 = 600_000;
/// Before all that is not urgent: below every value there can be, and room for a time above it.
const URGENT: i64 = i64::MIN / 2;
/// Priorities beyond are taken for this, so that values cannot overflow.
const PRIORITY_MAX: i64 = 1_000_000;

/// How near the end of the service level is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// Before the window, or without a service level.
    Far,
    /// Within the window.
    Near,
    /// Past it.
    Over,
}

/// The place of an item among those of its queue and nearness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ItemKey {
    /// The part of the value that does not move with time.
    pub(crate) value: i64,
    /// The end of the service level; the far future without one.
    pub(crate) due: Timestamp,
    pub(crate) ready_at: Timestamp,
    pub(crate) conversation: ConversationId,
}

/// The place of an item among all, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    /// The value.
    pub value: i64,
    /// The end of the service level; the far future without one.
    pub due: Timestamp,
    /// Since when it waits.
    pub ready_at: Timestamp,
    /// Which.
    pub conversation: ConversationId,
}

/// How a queue orders its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    priority_ms: i64,
    due_ms: i64,
    window_ms: i64,
    due_first: bool,
}

fn ms(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX / 4)
}

impl Line {
    pub(crate) fn of(queue: &Queue) -> Self {
        let whole = |span: contract::Millis| i64::try_from(span.0).unwrap_or(i64::MAX).min(STRICT_MS);
        let window =
            queue.service_level.as_ref().map_or(0, |level| whole(level.window_ms.unwrap_or(level.answer_within_ms)));
        Self {
            priority_ms: match queue.order {
                Order::Aged => queue.priority_ms.map_or(AGED_MS, whole),
                Order::Strict => STRICT_MS,
            },
            due_ms: match queue.order {
                Order::Aged => queue.due_ms.map_or(DUE_MS, whole),
                Order::Strict => 0,
            },
            window_ms: window.max(1),
            due_first: queue.due_first,
        }
    }

    /// Where an item stands at a moment.
    pub(crate) fn place(&self, id: ConversationId, item: &Conversation, now: Timestamp) -> (Nearness, ItemKey) {
        let nearness = self.nearness(item.due_at, now);
        let due = item.due_at.map_or(i64::MAX / 4, ms);
        let boost = item.requirement.step(item.step as usize).map_or(0, |step| step.boost);
        let priority = (i64::from(item.priority) + i64::from(boost)).clamp(-PRIORITY_MAX, PRIORITY_MAX);
        let base = ms(item.ready_at)
            .saturating_sub(item.terms.adjust_ms)
            .saturating_sub(self.priority_ms.saturating_mul(priority));
        let value = match nearness {
            Nearness::Far => base,
            _ if self.due_first => URGENT.saturating_add(due),
            Nearness::Near => base.saturating_sub(self.due_ms).saturating_add(self.share(due)),
            Nearness::Over => base.saturating_sub(self.due_ms),
        };
        let due = item.due_at.unwrap_or(Timestamp(u64::MAX));
        (nearness, ItemKey { value, due, ready_at: item.ready_at, conversation: id })
    }

    /// The part of `due_ms` that a time is of the window.
    fn share(&self, time: i64) -> i64 {
        let share = i128::from(time) * i128::from(self.due_ms) / i128::from(self.window_ms);
        i64::try_from(share).unwrap_or(i64::MAX / 4)
    }

    fn nearness(&self, due: Option<Timestamp>, now: Timestamp) -> Nearness {
        match due {
            Some(due) if now >= due => Nearness::Over,
            Some(due) if ms(now) >= ms(due) - self.window_ms => Nearness::Near,
            _ => Nearness::Far,
        }
    }

    /// When an item's nearness changes next.
    pub(crate) fn next_change(&self, due: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let due = due?;
        match self.nearness(Some(due), now) {
            Nearness::Far => Some(Timestamp(due.0.saturating_sub(self.window_ms.unsigned_abs()))),
            Nearness::Near => Some(due),
            Nearness::Over => None,
        }
    }

    /// The place among all.
    pub(crate) fn precedence(&self, nearness: Nearness, key: &ItemKey, now: Timestamp) -> Precedence {
        let value = match nearness {
            Nearness::Near if !self.due_first => key.value.saturating_sub(self.share(ms(now))),
            _ => key.value,
        };
        Precedence { value, due: key.due, ready_at: key.ready_at, conversation: key.conversation }
    }
}
