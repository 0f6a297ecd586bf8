//! Messages: each once and in one conversation, and in order on their threads.

use std::collections::{BTreeMap, BTreeSet};

use contract::envelope::{Account, EnvelopeKind, ReceiptStatus, Thread};
use contract::event::ThreadRef;
use contract::{AccountId, ChannelKind, ConversationId, CustomerId, Event, EventRecord, MessageId, SmolStr};

use super::{Counter, Findings, Rule};

/// Names a thread.
type Key = (ChannelKind, AccountId, SmolStr);

fn key(account: &Account, thread: &Thread) -> Key {
    (account.kind.clone(), account.id.clone(), thread.key.clone())
}

/// How far a thread has come.
#[derive(Default)]
struct Run {
    /// The newest number among its messages, both ways.
    seq: u64,
    /// The newest message or order that went by it.
    last_sent: Option<MessageId>,
    customer: Option<CustomerId>,
}

/// What is known of something that was sent.
#[derive(Default)]
struct Sent {
    rank: u8,
    external_ids: BTreeSet<SmolStr>,
}

#[derive(Default)]
pub(super) struct Messages {
    given: Counter,
    /// Fingerprints of what customers said.
    taken: BTreeSet<u128>,
    homes: BTreeMap<MessageId, ConversationId>,
    sent: BTreeMap<MessageId, Sent>,
    threads: BTreeMap<Key, Run>,
}

impl Messages {
    pub(super) fn observe(&mut self, record: &EventRecord, findings: &mut Findings) {
        match &*record.event {
            Event::MessageReceived { conversation, message, thread_seq, envelope, .. } => {
                self.begins(*message, *conversation, findings);
                let again = envelope.kind == EnvelopeKind::Message && !self.taken.insert(envelope.fingerprint());
                findings.require(!again, Rule::R7, || {
                    format!("{message} is {:?}, which was taken in before", envelope.dedup_key)
                });
                let run = self.goes_on(key(&envelope.account, &envelope.thread), *thread_seq, findings);
                run.customer = record.customer;
            }
            Event::MessageSent { conversation, message, thread, thread_seq, after, .. }
            | Event::MessageNotified { conversation, message, thread, thread_seq, after, .. } => {
                self.goes(*message, *conversation, thread, *after, findings);
                let run = self.goes_on(key(&thread.account, &thread.thread), *thread_seq, findings);
                run.customer = run.customer.or(record.customer);
            }
            Event::ConversationCallDirected { conversation, message, thread, after, .. } => {
                self.goes(*message, *conversation, thread, *after, findings);
            }
            Event::MessageMirrored { conversation, message, thread, thread_seq, after, .. } => {
                let home = self.homes.get(message).copied();
                findings.require(home == Some(*conversation), Rule::R11, || {
                    format!("{message} is shown elsewhere, and is of {home:?}")
                });
                let run = self.goes_on(key(&thread.account, &thread.thread), *thread_seq, findings);
                let last = run.last_sent;
                findings.require(last == *after, Rule::R9, || {
                    format!("{message} is shown after {after:?}, and {last:?} went last")
                });
            }
            Event::MessageStatusChanged { conversation, messages, status, external_ids, .. } => {
                for message in messages {
                    self.became(*message, *conversation, status, external_ids, findings);
                }
            }
            Event::CustomerErased { customers, .. } => {
                // A thread that comes again counts from 1 again.
                let gone = |run: &Run| run.customer.is_some_and(|customer| customers.contains(&customer));
                self.threads.retain(|_, run| !gone(run));
            }
            _ => {}
        }
    }

    /// A number is given, once, to something of a conversation.
    fn begins(&mut self, message: MessageId, conversation: ConversationId, findings: &mut Findings) {
        self.given.next(message.0, "the message", findings);
        let before = self.homes.insert(message, conversation);
        findings.require(before.is_none(), Rule::R11, || format!("{message} is of {before:?} too"));
    }

    /// The next message of a thread.
    fn goes_on(&mut self, key: Key, seq: u64, findings: &mut Findings) -> &mut Run {
        let thread = key.2.clone();
        let run = self.threads.entry(key).or_default();
        let before = run.seq;
        findings.require(seq == before + 1, Rule::R9, || format!("thread {thread} goes from {before} to {seq}"));
        run.seq = seq;
        run
    }

    /// Something goes by a thread, after what went before it.
    fn goes(
        &mut self,
        message: MessageId,
        conversation: ConversationId,
        thread: &ThreadRef,
        after: Option<MessageId>,
        findings: &mut Findings,
    ) {
        self.begins(message, conversation, findings);
        self.sent.insert(message, Sent::default());
        let run = self.threads.entry(key(&thread.account, &thread.thread)).or_default();
        let last = run.last_sent.replace(message);
        findings.require(last == after, Rule::R9, || format!("{message} goes after {after:?}, and {last:?} went last"));
    }

    /// Something becomes known of what was sent, and it is news.
    fn became(
        &mut self,
        message: MessageId,
        conversation: ConversationId,
        status: &ReceiptStatus,
        external_ids: &[SmolStr],
        findings: &mut Findings,
    ) {
        let gaps = findings.gaps;
        let home = self.homes.get(&message).copied();
        findings.require(home == Some(conversation) || home.is_none() && gaps, Rule::R11, || {
            format!("{message} became {status}, and is of {home:?}")
        });
        let Some(sent) = self.sent.get_mut(&message) else {
            return findings.require(gaps, Rule::R11, || format!("{message} became {status}, and was never sent"));
        };
        let known = sent.rank;
        let news = status.rank() > known || external_ids.iter().any(|id| !sent.external_ids.contains(id));
        findings.require(news, Rule::R7, || format!("{message} became {status}, which is no news"));
        sent.rank = known.max(status.rank());
        sent.external_ids.extend(external_ids.iter().cloned());
    }
}
