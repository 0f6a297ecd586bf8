//! The newest messages of threads, in memory, so that a customer's page that comes back need not read
//! the stream. A cache: what it lacks is read from `EVENTS`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use contract::{Event, EventRecord, TenantId};
use engine::ThreadKey;

/// Messages kept per thread.
const PER_THREAD_MAX: usize = 50;
/// Messages kept in all.
const MESSAGES_MAX: usize = 50_000;

/// The newest messages of the threads that were active last.
#[derive(Default)]
pub(crate) struct Transcripts {
    threads: HashMap<(TenantId, ThreadKey), VecDeque<Arc<EventRecord>>>,
    /// The threads in the order in which they were first kept.
    age: VecDeque<(TenantId, ThreadKey)>,
    /// How many messages are kept.
    count: usize,
}

fn thread_of(record: &EventRecord) -> Option<ThreadKey> {
    match &*record.event {
        Event::MessageReceived { envelope, .. } => Some(ThreadKey::new(&envelope.account, &envelope.thread.key)),
        Event::MessageSent { thread, .. }
        | Event::MessageNotified { thread, .. }
        | Event::MessageStatusChanged { thread, .. } => Some(ThreadKey::new(&thread.account, &thread.thread.key)),
        _ => None,
    }
}

/// The number of a message in its thread.
pub(crate) fn thread_seq(record: &EventRecord) -> Option<u64> {
    match &*record.event {
        Event::MessageReceived { thread_seq, .. }
        | Event::MessageSent { thread_seq, .. }
        | Event::MessageNotified { thread_seq, .. } => Some(*thread_seq),
        _ => None,
    }
}

/// Whether a fact is one of a thread's.
pub(crate) fn is_of_thread(record: &EventRecord, key: &ThreadKey) -> bool {
    thread_of(record).as_ref() == Some(key)
}

impl Transcripts {
    /// Keeps a fact, when it is a message.
    pub(crate) fn keep(&mut self, record: &Arc<EventRecord>) {
        let Some(thread) = thread_of(record) else { return };
        let key = (record.tenant.clone(), thread);
        if !self.threads.contains_key(&key) {
            self.age.push_back(key.clone());
        }
        let kept = self.threads.entry(key).or_default();
        if kept.len() == PER_THREAD_MAX {
            kept.pop_front();
        } else {
            self.count += 1;
        }
        kept.push_back(Arc::clone(record));
        while self.count > MESSAGES_MAX
            && let Some(oldest) = self.age.pop_front()
        {
            self.count -= self.threads.remove(&oldest).map_or(0, |dropped| dropped.len());
        }
    }

    /// The messages after a number, when all of them are here.
    pub(crate) fn after(&self, tenant: &TenantId, thread: &ThreadKey, after: u64) -> Option<Vec<Arc<EventRecord>>> {
        let kept = self.threads.get(&(tenant.clone(), thread.clone()))?;
        let first = kept.iter().find_map(|record| thread_seq(record))?;
        if first > after + 1 {
            return None;
        }
        let from = kept.iter().position(|record| thread_seq(record).is_some_and(|seq| seq > after))?;
        Some(kept.iter().skip(from).cloned().collect())
    }
}
