//! Questions about the past: answered from `EVENTS`, outside the shard's loop, once what is in the
//! journal is in `EVENTS` too.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::answer::History;
use contract::codec::CONTENT_TYPE;
use contract::command::{Refusal, RefusalKind};
use contract::envelope::{Media, Part};
use contract::event::decode_events;
use contract::{ConversationId, CustomerId, Envelope, Event, EventRecord, TenantId, subject};
use engine::ThreadKey;

use crate::facts::POSITION;
use crate::progress::Watch;
use crate::transcript::{is_of_thread, thread_seq};

/// How long an answer waits for the journal's facts to be in the stream.
const BARRIER_MAX: Duration = Duration::from_secs(5);
/// Most facts of one customer that are read for one answer.
const FACTS_MAX: usize = 2000;

/// Of how many that were merged the facts are read for one answer.
const MEMBERS_MAX: usize = 64;

/// Reads the past up to a journal record.
#[derive(Clone)]
pub(crate) struct Past {
    pub(crate) bus: Bus,
    /// Up to which record the facts are in `EVENTS`.
    pub(crate) stored: Watch,
    /// The record that the answer must reflect.
    pub(crate) seq: u64,
}

fn unavailable(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, format!("the history cannot be read now: {why}"))
}

impl Past {
    /// The newest facts of everybody who is one person, at least as many as wanted when there are so many, in the order
    /// in which they happened.
    async fn collect_all(
        self,
        filters: impl Iterator<Item = String>,
        wanted: usize,
    ) -> Result<Vec<EventRecord>, Refusal> {
        let mut facts = Vec::new();
        let mut subjects = 0;
        for filter in filters.take(MEMBERS_MAX) {
            facts.extend(self.clone().collect(&filter, wanted).await?);
            subjects += 1;
        }
        // One subject is in order, several are not.
        if subjects > 1 {
            facts.sort_by_key(|record| record.position);
        }
        Ok(facts)
    }

    /// The newest facts, at least as many as wanted when there are so many, in the order of the stream.
    async fn collect(mut self, filter: &str, wanted: usize) -> Result<Vec<EventRecord>, Refusal> {
        let reached = tokio::time::timeout(BARRIER_MAX, self.stored.reached(self.seq)).await;
        if !reached.unwrap_or(false) {
            return Err(unavailable("the stream is behind"));
        }
        // A message holds one fact or more, so as many messages as facts are wanted are enough.
        let messages = self.bus.collect("EVENTS", filter, Some(wanted)).await.map_err(unavailable)?;
        let mut newest_first = Vec::new();
        for message in messages.into_iter().rev() {
            if newest_first.len() >= wanted {
                break;
            }
            if message.headers.get(POSITION).is_none() {
                continue;
            }
            let facts = decode_events(&message.payload, message.headers.get(CONTENT_TYPE)).unwrap_or_default();
            newest_first.extend(facts.into_iter().rev().filter_map(Result::ok));
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    /// The newest messages of a customer, over all channels, oldest first. Notes are on another subject
    /// and would cost a second read.
    pub(crate) async fn messages(
        self,
        tenant: &TenantId,
        customers: &[CustomerId],
        limit: usize,
    ) -> Result<History, Refusal> {
        let customer = customers.first().copied().ok_or_else(|| unavailable("there is no customer"))?;
        // One more than wanted says whether there are more.
        let filters = customers.iter().map(|customer| subject::event_messages(tenant, *customer));
        let mut records = self.collect_all(filters, limit + 1).await?;
        // What is shown on another thread too was said once.
        records.retain(|record| !matches!(*record.event, Event::MessageMirrored { .. }));
        let more = records.len() > limit;
        records.drain(..records.len().saturating_sub(limit));
        Ok(History { customer, records, more })
    }

    /// Whether something that came from a customer holds a medium. What agents sent does not count: they may name in it
    /// whatever they like.
    pub(crate) async fn holds_medium(
        self,
        tenant: &TenantId,
        customers: &[CustomerId],
        store_key: &str,
    ) -> Result<bool, Refusal> {
        let filters = customers.iter().map(|customer| subject::event_messages(tenant, *customer));
        let facts = self.collect_all(filters, FACTS_MAX).await?;
        Ok(facts.iter().any(|record| match &*record.event {
            Event::MessageReceived { envelope, .. } | Event::MessageAmended { envelope, .. } => {
                media_of(envelope).any(|media| media.store_key.as_deref() == Some(store_key))
            }
            _ => false,
        }))
    }

    /// The messages of a thread after a number, oldest first: the next ones, so that whoever has fallen
    /// behind by more than one answer asks again; without a number the newest.
    pub(crate) async fn thread(
        self,
        tenant: &TenantId,
        customers: &[CustomerId],
        key: &ThreadKey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventRecord>, Refusal> {
        let filters = customers.iter().map(|customer| subject::event_messages(tenant, *customer));
        let facts = self.collect_all(filters, FACTS_MAX).await?;
        let mut facts: Vec<EventRecord> = facts
            .into_iter()
            .filter(|record| is_of_thread(record, key))
            .skip_while(|record| thread_seq(record).is_none_or(|seq| seq <= after))
            .collect();
        if after > 0 {
            facts.truncate(limit);
        } else {
            facts.drain(..facts.len().saturating_sub(limit));
        }
        Ok(facts)
    }

    /// The newest notes about a person, oldest first.
    pub(crate) async fn notes(
        self,
        tenant: &TenantId,
        customers: &[CustomerId],
        limit: usize,
    ) -> Result<Vec<EventRecord>, Refusal> {
        let filters = customers.iter().map(|customer| subject::event_notes(tenant, *customer));
        let mut notes = self.collect_all(filters, limit).await?;
        notes.drain(..notes.len().saturating_sub(limit));
        Ok(notes)
    }

    /// Everything that is known of a customer, oldest first.
    pub(crate) async fn customer(
        self,
        tenant: &TenantId,
        customers: &[CustomerId],
    ) -> Result<Vec<EventRecord>, Refusal> {
        let filters = customers.iter().map(|customer| subject::event_customer(tenant, *customer));
        let mut facts = self.collect_all(filters, FACTS_MAX).await?;
        // One subject is in order, several are not.
        facts.sort_by_key(|record| record.position);
        Ok(facts)
    }

    /// Everything that is known of a conversation, oldest first.
    pub(crate) async fn conversation(
        self,
        tenant: &TenantId,
        customers: &[CustomerId],
        conversation: ConversationId,
    ) -> Result<Vec<EventRecord>, Refusal> {
        let mut facts = self.customer(tenant, customers).await?;
        facts.retain(|record| record.conversation == Some(conversation));
        Ok(facts)
    }
}

/// The media of an envelope: attachments, and what was recorded of a call.
fn media_of(envelope: &Envelope) -> impl Iterator<Item = &Media> {
    let attached = envelope.content.iter().filter_map(|part| match part {
        Part::Media(media) => Some(media),
        _ => None,
    });
    attached.chain(envelope.call.iter().filter_map(|call| call.recording.as_ref()))
}

/// Records from memory as an answer carries them.
pub(crate) fn owned(records: Vec<Arc<EventRecord>>) -> Vec<EventRecord> {
    records.into_iter().map(|record| (*record).clone()).collect()
}
