//! Originals are kept beside the answer: what a provider sent, in the object store under its thread, by a few workers
//! with a bounded queue. When they cannot follow, originals are left out, not messages.

use std::sync::Arc;

use bytes::Bytes;
use contract::SmolStr;
use metrics::Gauge;
use runtime::metrics::Counted;
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::take::Way;
use crate::telemetry::Metric;

/// Most originals that wait.
const WAITING_MAX: usize = 1024;
/// Most bytes that wait.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many are written at once.
const WORKERS: usize = 2;

/// Takes originals.
pub(super) struct Keeper {
    queue: mpsc::Sender<Original>,
    bytes: Arc<Semaphore>,
    /// Show how many originals wait, and how many bytes they have.
    queued: Gauge,
    queued_bytes: Gauge,
}

/// A place in the queue. Dropping it gives it back.
pub(super) struct Place {
    place: mpsc::OwnedPermit<Original>,
    bytes: OwnedSemaphorePermit,
    counted: [Counted; 2],
}

struct Original {
    way: Arc<Way>,
    store_key: SmolStr,
    raw: Bytes,
    _bytes: OwnedSemaphorePermit,
    _counted: [Counted; 2],
}

impl Keeper {
    /// Starts the workers. They end when the keeper is dropped.
    pub(super) fn start() -> Self {
        let (queue, waiting) = mpsc::channel::<Original>(WAITING_MAX);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..WORKERS {
            let waiting = Arc::clone(&waiting);
            tokio::spawn(async move {
                loop {
                    let next = waiting.lock().await.recv().await;
                    let Some(Original { way, store_key, raw, _bytes, _counted }) = next else { return };
                    if let Err(error) = way.media.put_at(&store_key, raw).await {
                        tracing::warn!(channel.kind = %way.account.kind, channel.account = %way.account.id, %error, "an original was not kept");
                        metrics::counter!(Metric::RawDropped.name(), "reason" => "store").increment(1);
                    }
                }
            });
        }
        Self {
            queue,
            bytes: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            queued: metrics::gauge!(Metric::OriginalsQueued.name()),
            queued_bytes: metrics::gauge!(Metric::OriginalsQueuedBytes.name()),
        }
    }

    /// Returns when nothing waits to be kept.
    pub(super) async fn idle(&self) {
        let all = u32::try_from(WAITING_BYTES_MAX).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.bytes.acquire_many(all).await;
    }

    /// Room for an original; `None`: there is none, and the message goes without.
    pub(super) fn room(&self, bytes: usize) -> Option<Place> {
        let count = u32::try_from(bytes).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(count).ok();
        let place = bytes.and_then(|bytes| {
            let place = self.queue.clone().try_reserve_owned().ok()?;
            let counted = [Counted::one(&self.queued), Counted::many(&self.queued_bytes, count)];
            Some(Place { place, bytes, counted })
        });
        if place.is_none() {
            metrics::counter!(Metric::RawDropped.name(), "reason" => "busy").increment(1);
        }
        place
    }
}

impl Place {
    /// Puts the original there.
    pub(super) fn keep(self, way: Arc<Way>, store_key: SmolStr, raw: Bytes) {
        self.place.send(Original { way, store_key, raw, _bytes: self.bytes, _counted: self.counted });
    }
}
