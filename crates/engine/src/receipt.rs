//! What became of outbound messages. States merge by rank, never by arrival.

use std::collections::BTreeMap;

use contract::envelope::{Receipt, ReceiptStatus};
use contract::event::ThreadRef;
use contract::{ConversationId, Envelope, Event, MessageId, SmolStr};

use crate::conversation::{Outbound, ThreadKey};
use crate::state::{State, Step};

impl State {
    /// A report of what became of messages that we sent.
    pub(crate) fn receive_receipt(&mut self, step: &mut Step, envelope: Envelope) {
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let (Some(thread), Some(receipt)) = (self.threads.get(&key), &envelope.receipt) else {
            return self.signal(step, None, envelope);
        };
        let concerned: Vec<&Outbound> = thread.outbound.iter().filter(|sent| names(receipt, sent)).collect();
        if concerned.is_empty() {
            let customer = thread.customer;
            return self.signal(step, Some(customer), envelope);
        }
        // Only an answer to our own command tells which provider ids a message has.
        let external_ids = if receipt.command_id.is_some() { receipt.targets.clone() } else { Vec::new() };
        let mut news: BTreeMap<ConversationId, Vec<MessageId>> = BTreeMap::new();
        for sent in concerned {
            let known = sent.status.as_ref().map_or(0, ReceiptStatus::rank);
            if receipt.status.rank() > known || external_ids.iter().any(|id| !sent.external_ids.contains(id)) {
                news.entry(sent.conversation).or_default().push(sent.message);
            }
        }
        let thread = thread.reference(&key);
        let (status, code, reason) = (receipt.status.clone(), receipt.code.clone(), receipt.reason.clone());
        for (conversation, messages) in news {
            let event = Event::MessageStatusChanged {
                conversation,
                thread: thread.clone(),
                messages,
                status: status.clone(),
                external_ids: external_ids.clone(),
                code: code.clone(),
                reason: reason.clone(),
            };
            self.emit(step, event);
        }
    }

    pub(crate) fn evolve_status(
        &mut self,
        thread: &ThreadRef,
        messages: &[MessageId],
        status: &ReceiptStatus,
        external_ids: &[SmolStr],
    ) {
        let key = ThreadKey::new(&thread.account, &thread.thread.key);
        let Some(thread) = self.threads.get_mut(&key) else { return };
        thread.outbound.change(|outbound| {
            for sent in outbound.iter_mut().filter(|sent| messages.contains(&sent.message)) {
                if status.rank() > sent.status.as_ref().map_or(0, ReceiptStatus::rank) {
                    sent.status = Some(status.clone());
                }
                for id in external_ids {
                    if !sent.external_ids.contains(id) {
                        sent.external_ids.push(id.clone());
                    }
                }
            }
        });
    }
}

/// Whether a receipt speaks of this message.
fn names(receipt: &Receipt, sent: &Outbound) -> bool {
    if let Some(command) = &receipt.command_id {
        return command.rsplit('/').next().and_then(|id| id.parse().ok()) == Some(sent.message);
    }
    receipt.through_seq.is_some_and(|seq| sent.seq <= seq)
        || receipt.watermark.is_some_and(|at| sent.at <= at)
        || receipt.targets.iter().any(|id| sent.external_ids.contains(id))
}
