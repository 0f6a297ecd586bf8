//! The newest messages of threads, in memory, so that a customer's page that comes back need not read
//! the stream. A cache: what it lacks is read from `EVENTS`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use contract::{ConversationId, Event, EventRecord, TenantId};
use engine::ThreadKey;

/// Messages kept per thread.
const PER_THREAD_MAX: usize = 50;
/// Notes kept per conversation.
const NOTES_MAX: usize = 10;
/// Conversations of which notes are kept.
const NOTED_MAX: usize = 5_000;
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
    /// The newest notes of conversations.
    notes: HashMap<(TenantId, ConversationId), VecDeque<Arc<EventRecord>>>,
    /// Those conversations, in the order in which the first note of each came.
    noted: VecDeque<(TenantId, ConversationId)>,
}

fn thread_of(record: &EventRecord) -> Option<ThreadKey> {
    match &*record.event {
        Event::MessageReceived { envelope, .. } => Some(ThreadKey::new(&envelope.account, &envelope.thread.key)),
        Event::MessageSent { thread, .. }
        | Event::MessageNotified { thread, .. }
        | Event::MessageMirrored { thread, .. }
        | Event::MessageStatusChanged { thread, .. } => Some(ThreadKey::new(&thread.account, &thread.thread.key)),
        _ => None,
    }
}

/// The number of a message in its thread.
pub(crate) fn thread_seq(record: &EventRecord) -> Option<u64> {
    match &*record.event {
        Event::MessageReceived { thread_seq, .. }
        | Event::MessageSent { thread_seq, .. }
        | Event::MessageMirrored { thread_seq, .. }
        | Event::MessageNotified { thread_seq, .. } => Some(*thread_seq),
        _ => None,
    }
}

/// Whether a fact is one of a thread's.
pub(crate) fn is_of_thread(record: &EventRecord, key: &ThreadKey) -> bool {
    thread_of(record).as_ref() == Some(key)
}

impl Transcripts {
    fn keep_note(&mut self, conversation: ConversationId, record: &Arc<EventRecord>) {
        let key = (record.tenant.clone(), conversation);
        let kept = self.notes.entry(key.clone()).or_default();
        if kept.is_empty() {
            self.noted.push_back(key);
        }
        kept.push_back(Arc::clone(record));
        if kept.len() > NOTES_MAX {
            kept.pop_front();
        }
        if self.noted.len() > NOTED_MAX
            && let Some(oldest) = self.noted.pop_front()
        {
            self.notes.remove(&oldest);
        }
    }

    /// The newest notes of conversations, oldest first.
    pub(crate) fn notes(&self, tenant: &TenantId, of: impl Iterator<Item = ConversationId>) -> Vec<EventRecord> {
        let kept = of.filter_map(|id| self.notes.get(&(tenant.clone(), id)));
        let mut notes: Vec<EventRecord> = kept.flatten().map(|record| (**record).clone()).collect();
        notes.sort_by_key(|record| record.position);
        notes
    }

    /// The newest messages of several threads, oldest first, as far as they are kept.
    pub(crate) fn newest<'a>(
        &self,
        tenant: &TenantId,
        of: impl Iterator<Item = &'a ThreadKey>,
        most: usize,
    ) -> Vec<EventRecord> {
        let kept = of.filter_map(|key| self.threads.get(&(tenant.clone(), key.clone())));
        let said = |record: &&Arc<EventRecord>| {
            thread_seq(record).is_some() && !matches!(*record.event, Event::MessageMirrored { .. })
        };
        let mut messages: Vec<&Arc<EventRecord>> = kept.flat_map(|kept| kept.iter().filter(said)).collect();
        messages.sort_by_key(|record| record.position);
        let over = messages.len().saturating_sub(most);
        messages.drain(..over);
        messages.into_iter().map(|record| (**record).clone()).collect()
    }

    /// Forgets threads and conversations that are to be known no more.
    pub(crate) fn forget(&mut self, tenant: &TenantId, gone: impl Fn(&EventRecord) -> bool) {
        let (mut lost, mut count) = (Vec::new(), 0);
        for (key, kept) in self.threads.iter_mut().filter(|(key, _)| key.0 == *tenant) {
            let before = kept.len();
            kept.retain(|record| !gone(record));
            count += before - kept.len();
            if kept.is_empty() {
                lost.push(key.clone());
            }
        }
        self.count -= count;
        self.threads.retain(|key, _| !lost.contains(key));
        self.age.retain(|key| !lost.contains(key));
        self.notes.retain(|key, kept| key.0 != *tenant || !kept.iter().any(|record| gone(record)));
        let notes = &self.notes;
        self.noted.retain(|key| notes.contains_key(key));
    }

    /// Keeps a fact, when it is a message.
    pub(crate) fn keep(&mut self, record: &Arc<EventRecord>) {
        if let Event::NoteAdded { conversation, .. } = &*record.event {
            return self.keep_note(*conversation, record);
        }
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
