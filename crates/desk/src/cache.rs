//! One answer for many who ask at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A value that is fetched once for everybody who asks while it is fresh, or while it is on its way.
///
/// Failures are values like any other: when nobody answers, everybody waits for the same timeout
/// instead of one after another. Whoever fetches holds the slot; when that one goes away in the
/// middle, the next in line fetches.
pub(crate) struct Cache<T> {
    slot: tokio::sync::Mutex<Option<(Instant, T)>>,
    fresh: Duration,
}

impl<T: Clone> Cache<T> {
    pub(crate) fn new(fresh: Duration) -> Self {
        Self { slot: tokio::sync::Mutex::new(None), fresh }
    }

    /// The value; `fetch` is called only when there is no fresh one.
    pub(crate) async fn get<F: Future<Output = T>>(&self, fetch: impl FnOnce() -> F) -> T {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some((at, value)) = &*slot {
            // What arrived after the question is fresh, however long its turn took to come.
            if *at >= asked || at.elapsed() < self.fresh {
                return value.clone();
            }
        }
        let value = fetch().await;
        *slot = Some((Instant::now(), value.clone()));
        value
    }
}

/// A cache per key; only those of the last few keys are kept.
pub(crate) struct Caches<K, T> {
    slots: Mutex<BTreeMap<K, Arc<Cache<T>>>>,
    keys: usize,
    fresh: Duration,
}

impl<K: Ord, T: Clone> Caches<K, T> {
    pub(crate) fn new(keys: usize, fresh: Duration) -> Self {
        Self { slots: Mutex::new(BTreeMap::new()), keys, fresh }
    }

    /// The cache of a key.
    pub(crate) fn of(&self, key: K) -> Arc<Cache<T>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= self.keys {
            // Those in use stay, so that two who ask at once still share.
            slots.retain(|_, cache| Arc::strong_count(cache) > 1);
        }
        Arc::clone(slots.entry(key).or_insert_with(|| Arc::new(Cache::new(self.fresh))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    async fn fetch(calls: &AtomicU32, takes: Duration) -> u32 {
        let call = calls.fetch_add(1, SeqCst) + 1;
        tokio::time::sleep(takes).await;
        call
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_fetch() {
        let (cache, calls) = (Cache::new(Duration::from_secs(60)), AtomicU32::new(0));
        let answers = join_all((0..50).map(|_| cache.get(|| fetch(&calls, Duration::from_millis(20))))).await;
        assert_eq!((answers, calls.load(SeqCst)), (vec![1; 50], 1));
        assert_eq!(cache.get(|| fetch(&calls, Duration::ZERO)).await, 1);
    }

    #[tokio::test]
    async fn those_who_waited_share_even_what_is_never_fresh() {
        let (cache, calls) = (Cache::new(Duration::ZERO), AtomicU32::new(0));
        let answers = join_all((0..50).map(|_| cache.get(|| fetch(&calls, Duration::from_millis(20))))).await;
        assert_eq!((answers, calls.load(SeqCst)), (vec![1; 50], 1));
    }

    #[tokio::test]
    async fn what_is_old_is_fetched_again() {
        let (cache, calls) = (Cache::new(Duration::from_millis(10)), AtomicU32::new(0));
        assert_eq!(cache.get(|| fetch(&calls, Duration::ZERO)).await, 1);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(cache.get(|| fetch(&calls, Duration::ZERO)).await, 2);
    }

    #[tokio::test]
    async fn one_who_leaves_in_the_middle_holds_up_nobody() {
        let (cache, calls) = (Cache::new(Duration::from_secs(60)), AtomicU32::new(0));
        let slow = cache.get(|| fetch(&calls, Duration::from_secs(60)));
        assert!(tokio::time::timeout(Duration::from_millis(10), slow).await.is_err());
        assert_eq!(cache.get(|| fetch(&calls, Duration::ZERO)).await, 2);
    }

    #[tokio::test]
    async fn keys_are_apart_and_few() {
        let caches = Caches::new(2, Duration::from_secs(60));
        let calls = AtomicU32::new(0);
        let in_use = caches.of(0);
        assert_eq!(in_use.get(|| fetch(&calls, Duration::ZERO)).await, 1);
        for key in 1..20 {
            caches.of(key).get(|| fetch(&calls, Duration::ZERO)).await;
        }
        assert_eq!(calls.load(SeqCst), 20);
        assert!(caches.slots.lock().unwrap().len() <= 2);
        assert_eq!(caches.of(0).get(|| fetch(&calls, Duration::ZERO)).await, 1);
    }
}
