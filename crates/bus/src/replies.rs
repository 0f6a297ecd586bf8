//! The answers that are awaited: one inbox, one table, one clock.
//!
//! The client library has such a table too, but it knows nothing of a lost connection: what is in
//! flight then runs into its timeout and its entry stays for ever. Here everything in flight fails
//! as soon as the connection is lost, a forbidden publish fails when the server says so, a timeout
//! starts when the publish does (not when its future is first polled), and an entry nobody polls
//! any more still goes away in time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use futures_util::StreamExt;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use crate::metric::{Metric, Share};

/// How many answers may be awaited at once. More wait their turn; since every entry has a deadline
/// that needs nobody to poll it, the turn always comes. The inbox holds four times as many, so an
/// answer is never dropped.
pub(crate) const IN_FLIGHT_MAX: usize = 16_384;
/// How many may wait their turn; whoever comes on top is refused at once.
const QUEUED_MAX: usize = 4 * IN_FLIGHT_MAX;

/// How exactly timeouts are kept.
const TICK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer, be it only that nobody listens.
    Reply(async_nats::Message),
    /// None in time.
    Timeout,
    /// The connection was lost first.
    Disconnected,
    /// The server forbade the publish.
    Forbidden(String),
}

struct Waiting {
    sender: oneshot::Sender<Outcome>,
    subject: Subject,
    deadline: Instant,
}

#[derive(Default)]
struct Slot {
    /// Makes the token of a late answer miss the slot's next user.
    generation: u32,
    waiting: Option<Waiting>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    used: usize,
}

impl Table {
    fn insert(&mut self, waiting: Waiting) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            generation = slot.generation;
            slot.waiting = Some(waiting);
            self.used += 1;
        }
        u64::from(generation) << 32 | u64::from(index)
    }

    fn take(&mut self, token: u64) -> Option<Waiting> {
        let index = u32::try_from(token & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index as usize)?;
        if u64::from(slot.generation) != token >> 32 {
            return None;
        }
        let waiting = slot.waiting.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.used -= 1;
        Some(waiting)
    }

    fn take_where(&mut self, mut matches: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        let tokens: Vec<u64> = self
            .slots
            .iter()
            .zip(0_u64..)
            .filter(|(slot, _)| slot.waiting.as_ref().is_some_and(&mut matches))
            .map(|(slot, index)| u64::from(slot.generation) << 32 | index)
            .collect();
        tokens.into_iter().filter_map(|token| self.take(token)).collect()
    }
}

/// The table.
pub(crate) struct Replies {
    /// `_INBOX_<user>.<unique>.`: a token follows.
    prefix: String,
    table: Mutex<Table>,
    permits: Semaphore,
    /// How many wait for a permit.
    queued: AtomicUsize,
    busy: Notify,
}

/// Somebody who waits for a permit.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that is awaited.
pub(crate) struct Entry {
    pub(crate) reply: Subject,
    pub(crate) receiver: oneshot::Receiver<Outcome>,
    token: u64,
}

impl Replies {
    pub(crate) fn new(prefix: String) -> Arc<Self> {
        Arc::new(Self {
            prefix,
            table: Mutex::new(Table::default()),
            permits: Semaphore::new(IN_FLIGHT_MAX),
            queued: AtomicUsize::new(0),
            busy: Notify::new(),
        })
    }

    /// What the inbox subscribes to.
    pub(crate) fn subject(&self) -> String {
        format!("{}*", self.prefix)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait for a permit; `None` when too many do.
    fn line_up(&self) -> Option<Turn<'_>> {
        let before = self.queued.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(&self.queued);
        (before < QUEUED_MAX).then_some(turn)
    }

    /// Takes a slot; `None` when none came free before the deadline, or too many wait for one.
    pub(crate) async fn register(&self, subject: Subject, deadline: Instant) -> Option<Entry> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let _turn = self.line_up()?;
                tokio::time::timeout_at(deadline, self.permits.acquire()).await.ok()?.ok()?
            }
        };
        permit.forget();
        let (sender, receiver) = oneshot::channel();
        let (token, first) = {
            let mut table = self.table();
            (table.insert(Waiting { sender, subject, deadline }), table.used == 1)
        };
        if first {
            self.busy.notify_one();
        }
        Some(Entry { reply: format!("{}{token:x}", self.prefix).into(), receiver, token })
    }

    fn finish(&self, waiting: Vec<Waiting>, outcome: impl Fn(&Waiting) -> Outcome) {
        self.permits.add_permits(waiting.len());
        for waiting in waiting {
            let outcome = outcome(&waiting);
            let _ = waiting.sender.send(outcome);
        }
    }

    /// Nothing was sent: the slot is free again.
    pub(crate) fn cancel(&self, entry: &Entry) {
        if self.table().take(entry.token).is_some() {
            self.permits.add_permits(1);
        }
    }

    fn resolve(&self, message: async_nats::Message) {
        let token = message.subject.strip_prefix(&self.prefix).and_then(|token| u64::from_str_radix(token, 16).ok());
        let Some(waiting) = token.and_then(|token| self.table().take(token)) else { return };
        self.permits.add_permits(1);
        let _ = waiting.sender.send(Outcome::Reply(message));
    }

    /// The connection is lost: whatever is in flight may or may not have been done.
    pub(crate) fn disconnected(&self) {
        let waiting = self.table().take_where(|_| true);
        metrics::counter!(Metric::AnswersLost.name()).increment(waiting.len() as u64);
        self.finish(waiting, |_| Outcome::Disconnected);
    }

    /// The server forbade to publish on `subject`.
    pub(crate) fn forbidden(&self, subject: &str, text: &str) {
        let waiting = self.table().take_where(|waiting| waiting.subject.as_str() == subject);
        self.finish(waiting, |_| Outcome::Forbidden(text.to_owned()));
    }

    fn expire(&self, now: Instant) {
        let waiting = self.table().take_where(|waiting| waiting.deadline <= now);
        metrics::counter!(Metric::AnswersLost.name()).increment(waiting.len() as u64);
        self.finish(waiting, |_| Outcome::Timeout);
    }

    /// Hands out the answers as they come, until the connection is closed.
    pub(crate) async fn deliver(self: Arc<Self>, mut inbox: async_nats::Subscriber) {
        while let Some(message) = inbox.next().await {
            self.resolve(message);
        }
        self.disconnected();
    }

    /// Keeps the deadlines, and shows how much is awaited; sleeps while nothing is.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        let (mut in_flight, mut queued) = (Share::of(Metric::RequestsInFlight), Share::of(Metric::RequestsQueued));
        loop {
            let (used, waiting) = (self.table().used, self.queued.load(Ordering::Relaxed));
            in_flight.show(used);
            queued.show(waiting);
            if used == 0 && waiting == 0 {
                self.busy.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.expire(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_entry_ends_and_gives_its_place_back() {
        let replies = Replies::new("_INBOX.x.".into());
        let clock = tokio::spawn(Arc::clone(&replies).keep_time());
        let soon = Instant::now() + Duration::from_millis(100);
        let first = replies.register("a".into(), soon).await.unwrap();
        let second = replies.register("b".into(), soon).await.unwrap();
        let third = replies.register("b".into(), soon).await.unwrap();
        replies.forbidden("a", "no");
        replies.cancel(&third);
        assert!(matches!(first.receiver.await, Ok(Outcome::Forbidden(_))));
        assert!(matches!(second.receiver.await, Ok(Outcome::Timeout)));
        assert_eq!(replies.permits.available_permits(), IN_FLIGHT_MAX);
        clock.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_wait_any_more_is_refused_at_once() {
        let replies = Replies::new("_INBOX.x.".into());
        let _all = replies.permits.try_acquire_many(u32::try_from(IN_FLIGHT_MAX).unwrap()).unwrap();
        let (began, patience) = (Instant::now(), Duration::from_secs(60));
        replies.queued.store(QUEUED_MAX, Ordering::Relaxed);
        assert!(replies.register("a".into(), began + patience).await.is_none());
        assert_eq!((began.elapsed(), replies.queued.load(Ordering::Relaxed)), (Duration::ZERO, QUEUED_MAX));
        replies.queued.store(0, Ordering::Relaxed);
        assert!(replies.register("a".into(), began + patience).await.is_none());
        assert!(began.elapsed() >= patience);
        assert_eq!(replies.queued.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_late_answer_misses_the_next_user() {
        let replies = Replies::new("_INBOX.x.".into());
        let later = Instant::now() + Duration::from_secs(60);
        let first = replies.register("a".into(), later).await.unwrap();
        replies.cancel(&first);
        let second = replies.register("a".into(), later).await.unwrap();
        assert_ne!(first.reply, second.reply);
        assert_eq!(first.token & 0xffff_ffff, second.token & 0xffff_ffff);
        assert!(replies.table().take(first.token).is_none());
        assert!(replies.table().take(second.token).is_some());
    }
}
