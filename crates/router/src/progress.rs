//! How far the outputs are: what waits, up to which record everything is stored, and who waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::metric::Metric;

/// Outputs that wait or are on their way; beyond it the journal waits.
const QUEUED_MAX: usize = 65_536;
/// The same in bytes.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So full, nobody rests any more.
pub(crate) const HURRIED_FROM: f64 = 0.5;

/// What is handed over and not stored yet.
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    /// There is room again.
    room: Notify,
    hurry: Arc<Hurry>,
    report: watch::Sender<u64>,
    /// Shows how many outputs wait.
    depth: metrics::Gauge,
}

struct Counts {
    /// How many outputs of each record are not stored yet.
    left: BTreeMap<u64, usize>,
    queued: usize,
    bytes: usize,
    /// The newest record that was handed over.
    taken: u64,
}

/// Whoever leads next has what waits.
impl Drop for Progress {
    fn drop(&mut self) {
        self.depth.set(0.0);
    }
}

/// Makes the writers go without a rest.
#[derive(Default)]
pub(crate) struct Hurry {
    /// How many wait for a record's outputs.
    waiters: AtomicUsize,
    /// Ends a rest that has begun.
    now: Notify,
}

impl Progress {
    /// Everything up to `done` is stored.
    pub(crate) fn new(shard: u16, done: u64) -> Self {
        Self {
            counts: Mutex::new(Counts { left: BTreeMap::new(), queued: 0, bytes: 0, taken: done }),
            room: Notify::new(),
            hurry: Arc::default(),
            report: watch::channel(done).0,
            depth: metrics::gauge!(Metric::OutputsQueued.name(), "shard" => shard.to_string()),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // No code that can panic runs under the lock.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room, then counts a record's outputs in. One caller at a time.
    pub(crate) async fn take(&self, record: u64, count: usize, bytes: usize) {
        while self.fullness() >= 1.0 {
            self.room.notified().await;
        }
        let mut counts = self.counts();
        counts.taken = record;
        counts.queued += count;
        counts.bytes += bytes;
        if count > 0 {
            counts.left.insert(record, count);
        }
        self.announce(&counts);
        drop(counts);
        if self.fullness() >= HURRIED_FROM {
            self.hurry.skip_rest();
        }
    }

    /// Outputs are stored: of each its record and its bytes.
    pub(crate) fn stored(&self, outputs: impl Iterator<Item = (u64, usize)>) {
        let mut counts = self.counts();
        for (record, bytes) in outputs {
            counts.queued -= 1;
            counts.bytes -= bytes;
            if let Some(left) = counts.left.get_mut(&record) {
                *left -= 1;
                if *left == 0 {
                    counts.left.remove(&record);
                }
            }
        }
        self.announce(&counts);
        drop(counts);
        self.room.notify_one();
    }

    /// Says up to which record everything is stored.
    fn announce(&self, counts: &Counts) {
        let done = counts.left.first_key_value().map_or(counts.taken, |(oldest, _)| oldest - 1);
        self.report.send_if_modified(|reported| {
            let moved = *reported < done;
            *reported = done.max(*reported);
            moved
        });
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.depth.set(counts.queued as f64);
    }

    /// The record up to which everything is stored.
    pub(crate) fn done(&self) -> u64 {
        *self.report.borrow()
    }

    /// How full the queue is; from 1 on the journal waits.
    pub(crate) fn fullness(&self) -> f64 {
        let counts = self.counts();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = |of: usize, most: usize| of as f64 / most as f64;
        share(counts.queued, QUEUED_MAX).max(share(counts.bytes, QUEUED_BYTES_MAX))
    }

    /// Whether the writers must not rest: somebody waits for what they have, or it is much.
    pub(crate) fn is_hurried(&self) -> bool {
        self.hurry.is_on() || self.fullness() >= HURRIED_FROM
    }

    /// Rests, until somebody is in a hurry at the latest.
    pub(crate) async fn rest(&self, span: Duration) {
        if !self.is_hurried() {
            self.hurry.rest(span).await;
        }
    }

    /// From now on nobody rests.
    #[cfg(test)]
    pub(crate) fn hurry(&self) {
        self.hurry.begin();
    }

    /// For those who wait until a record's outputs are stored.
    pub(crate) fn watch(&self) -> Watch {
        Watch { hurry: Arc::clone(&self.hurry), done: self.report.subscribe() }
    }
}

impl Hurry {
    fn begin(&self) {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        self.skip_rest();
    }

    /// Whether somebody waits.
    pub(crate) fn is_on(&self) -> bool {
        self.waiters.load(Ordering::Acquire) > 0
    }

    /// Ends a rest that has begun, or the next one: it is short then, which does no harm.
    pub(crate) fn skip_rest(&self) {
        self.now.notify_one();
    }

    /// Rests, until somebody is in a hurry at the latest.
    pub(crate) async fn rest(&self, span: Duration) {
        if !span.is_zero() && !self.is_on() {
            let _ = tokio::time::timeout(span, self.now.notified()).await;
        }
    }
}

/// Waits until what follows from a record is stored.
#[derive(Clone)]
pub(crate) struct Watch {
    hurry: Arc<Hurry>,
    done: watch::Receiver<u64>,
}

impl Watch {
    pub(crate) const fn new(hurry: Arc<Hurry>, done: watch::Receiver<u64>) -> Self {
        Self { hurry, done }
    }

    /// Returns once everything up to a record is stored, which nobody rests for meanwhile; false when
    /// the writers have stopped before.
    pub(crate) async fn reached(&mut self, record: u64) -> bool {
        if *self.done.borrow() >= record {
            return true;
        }
        let _waiter = Waiter::new(&self.hurry);
        self.done.wait_for(|done| *done >= record).await.is_ok()
    }
}

/// Somebody who waits. Whoever gives up does not any more.
struct Waiter<'a>(&'a Hurry);

impl<'a> Waiter<'a> {
    fn new(hurry: &'a Hurry) -> Self {
        hurry.begin();
        Self(hurry)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}
