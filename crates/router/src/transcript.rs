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
    threads: HashMap<(TenantId, ThreadKey), Kept>,
    /// The threads about in the order in which they were active last, each with when it was, as far as was looked.
    age: VecDeque<((TenantId, ThreadKey), u64)>,
    /// Counts what is kept.
    clock: u64,
    /// How many messages are kept.
    count: usize,
    /// The newest notes of conversations.
    notes: HashMap<(TenantId, ConversationId), VecDeque<Arc<EventRecord>>>,
    /// Those conversations, in the order in which the first note of each came.
    noted: VecDeque<(TenantId, ConversationId)>,
}

/// The newest messages of a thread.
#[derive(Default)]
struct Kept {
    messages: VecDeque<Arc<EventRecord>>,
    /// When the last one came.
    last: u64,
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
        let mut messages: Vec<&Arc<EventRecord>> = kept.flat_map(|kept| kept.messages.iter().filter(said)).collect();
        messages.sort_by_key(|record| record.position);
        let over = messages.len().saturating_sub(most);
        messages.drain(..over);
        messages.into_iter().map(|record| (**record).clone()).collect()
    }

    /// Forgets threads and conversations that are to be known no more.
    pub(crate) fn forget(&mut self, tenant: &TenantId, gone: impl Fn(&EventRecord) -> bool) {
        let (mut lost, mut count) = (Vec::new(), 0);
        for (key, kept) in self.threads.iter_mut().filter(|(key, _)| key.0 == *tenant) {
            let before = kept.messages.len();
            kept.messages.retain(|record| !gone(record));
            count += before - kept.messages.len();
            if kept.messages.is_empty() {
                lost.push(key.clone());
            }
        }
        self.count -= count;
        self.threads.retain(|key, _| !lost.contains(key));
        self.age.retain(|(key, _)| !lost.contains(key));
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
        self.clock += 1;
        if !self.threads.contains_key(&key) {
            self.age.push_back((key.clone(), self.clock));
        }
        let kept = self.threads.entry(key).or_default();
        kept.last = self.clock;
        if kept.messages.len() == PER_THREAD_MAX {
            kept.messages.pop_front();
        } else {
            self.count += 1;
        }
        kept.messages.push_back(Arc::clone(record));
        self.make_room();
    }

    /// Drops the threads in which nothing has happened for longest, until there are few enough messages. Whoever was active
    /// since it was looked at last goes to the end first, and so does the thread of what came just now, however often it is
    /// looked at: that must be there when it is offered. One thread alone never has too many.
    fn make_room(&mut self) {
        while self.count > MESSAGES_MAX
            && let Some((key, looked)) = self.age.pop_front()
        {
            match self.threads.get(&key) {
                Some(kept) if kept.last > looked || kept.last == self.clock => self.age.push_back((key, kept.last)),
                _ => self.count -= self.threads.remove(&key).map_or(0, |dropped| dropped.messages.len()),
            }
        }
    }

    /// The messages after a number, when all of them are here.
    pub(crate) fn after(&self, tenant: &TenantId, thread: &ThreadKey, after: u64) -> Option<Vec<Arc<EventRecord>>> {
        let kept = self.threads.get(&(tenant.clone(), thread.clone()))?;
        let kept = &kept.messages;
        let first = kept.iter().find_map(|record| thread_seq(record))?;
        if first > after + 1 {
            return None;
        }
        let from = kept.iter().position(|record| thread_seq(record).is_some_and(|seq| seq > after))?;
        Some(kept.iter().skip(from).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use contract::journal::Position;
    use contract::{AccountId, Envelope, MessageId, Timestamp};
    use serde_json::json;

    use super::*;

    fn says(envelope: &Envelope, who: usize, n: u64) -> (ThreadKey, Arc<EventRecord>) {
        let mut envelope = Box::new(envelope.clone());
        envelope.thread.key = format!("v{who}").into();
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let conversation = ConversationId(who as u64 + 1);
        let event =
            Event::MessageReceived { conversation, message: MessageId(n), thread_seq: n, envelope, customer: None };
        let record = EventRecord {
            position: Position { shard: 0, seq: n, index: 0 },
            tenant: TenantId::new("main").unwrap(),
            at: Timestamp(n),
            customer: None,
            conversation: Some(conversation),
            event: Arc::new(event),
        };
        (key, Arc::new(record))
    }

    #[test]
    fn what_came_just_now_is_there_however_much_is_kept() {
        let envelope: Envelope = serde_json::from_value(json!({
            "v": 1, "kind": "message", "tenant": "main", "account": { "kind": "chat", "id": AccountId::new("web").unwrap() },
            "dedup_key": "k", "thread": { "key": "v" },
            "sender": { "identity": { "scheme": "visitor", "value": "v", "scope": "global" } },
            "sender_auth": { "level": "unverified" }, "received_at": 1,
            "content": [{ "type": "text", "body": "hello" }],
        }))
        .unwrap();
        let tenant = TenantId::new("main").unwrap();
        let mut transcripts = Transcripts::default();
        // One who wrote once, and then as many who go on writing as fill everything twice.
        let (silent, record) = says(&envelope, 5_000, 1);
        transcripts.keep(&record);
        let threads = 2 * MESSAGES_MAX / PER_THREAD_MAX;
        for n in 1..=(2 * PER_THREAD_MAX as u64) {
            for who in 0..threads {
                let (key, record) = says(&envelope, who, n);
                transcripts.keep(&record);
                let newest = transcripts.newest(&tenant, std::iter::once(&key), 10);
                assert_eq!(newest.last().map(|record| record.position), Some(record.position), "{who} said {n}");
            }
        }
        assert!(transcripts.count <= MESSAGES_MAX && transcripts.age.len() == transcripts.threads.len());
        let kept: usize = transcripts.threads.values().map(|kept| kept.messages.len()).sum();
        assert_eq!(kept, transcripts.count);
        assert!(transcripts.newest(&tenant, std::iter::once(&silent), 10).is_empty());
    }
}
