//! An agent's feed: what its tools need to know, live over core NATS and made good by `feed.sync`.
//!
//! Sequences count per agent, from 1, without gaps, and go on over a change of the shard's owner; the
//! epoch says which owner spoke, and a tool ignores messages of an epoch older than one it has seen.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::answer::Context;
use crate::event::{EventRecord, Presence, Requirement, ThreadRef};
use crate::id::{AgentId, ConversationId, CustomerId, MessageId, OfferId, QueueId};
use crate::time::Timestamp;

/// How often the router beats each feed, in milliseconds.
pub const HEARTBEAT_MS: u64 = 5000;
/// How many items a router keeps per agent to answer `feed.sync` without a snapshot.
pub const RING_ITEMS: usize = 1000;

/// One item of a feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FeedItem {
    /// The epoch of the shard's owner.
    pub epoch: u64,
    /// Its number on this feed.
    pub seq: u64,
    /// With `offer.created` and `conversation.assigned`: what the agent should know before the first word, as far as
    /// the router has it at hand; `conversation.context` gives the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Box<Context>>,
    /// The fact.
    pub record: EventRecord,
}

impl FeedItem {
    /// An item in MessagePack around a record that is encoded already: what several feeds and `EVENTS`
    /// carry is encoded once.
    #[must_use]
    pub fn wrap(epoch: u64, seq: u64, context: Option<&Context>, record: &[u8]) -> Vec<u8> {
        #[derive(Serialize)]
        struct Head<'a> {
            epoch: u64,
            seq: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            context: Option<&'a Context>,
            record: (),
        }
        // The last byte stands for the nothing in the record's place. Numbers always encode.
        let mut item = crate::Encoding::MsgPack.encode(&Head { epoch, seq, context, record: () }).unwrap_or_default();
        item.pop();
        item.extend_from_slice(record);
        item
    }
}

/// Sent every five seconds: a tool whose last sequence is lower has missed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// The epoch of the shard's owner.
    pub epoch: u64,
    /// The newest sequence of the feed.
    pub head: u64,
    /// The router's clock.
    pub at: Timestamp,
}

/// Where a tool was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Since {
    /// The last sequence it has.
    pub seq: u64,
}

/// The answer to `feed.sync`: either what was missed, or everything the agent holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sync {
    /// The epoch of the shard's owner.
    pub epoch: u64,
    /// The newest sequence of the feed, which the answer reaches.
    pub head: u64,
    /// What was missed, in order, when the router still has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<FeedItem>,
    /// Everything the agent holds, when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// Everything an agent holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Who.
    pub agent: AgentId,
    /// Whether it takes offers.
    pub presence: Presence,
    /// Units in use.
    pub load: u32,
    /// Units in all.
    pub capacity: u32,
    /// The offers that stand.
    pub offers: Vec<OfferView>,
    /// The conversations it is responsible for.
    pub conversations: Vec<ConversationView>,
}

/// An offer as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OfferView {
    /// Which.
    pub offer: OfferId,
    /// Of what.
    pub conversation: ConversationView,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// A conversation as tools see it; also the value in the `conversations` bucket, without the name and the threads there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationView {
    /// Which.
    pub conversation: ConversationId,
    /// Whose.
    pub customer: CustomerId,
    /// The customer's name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_name: Option<SmolStr>,
    /// `waiting`, `offered`, `active`, `parked`, `wrapping`, `closed`.
    pub state: SmolStr,
    /// The queue it stands in or came through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
    /// The agent that holds it or is offered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Urgency.
    #[serde(default)]
    pub priority: i32,
    /// What it asks of an agent.
    #[serde(default)]
    pub requirement: Requirement,
    /// The step of it that is in force, from 0.
    #[serde(default)]
    pub step: u32,
    /// Somebody hands it over and answers the customer until another has accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handing_over: bool,
    /// The customer has been silent for so long that it counts less.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Who reads along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<AgentId>,
    /// The threads that it runs on, the one answers go by last.
    pub threads: Vec<ThreadRef>,
    /// When it began.
    pub opened_at: Timestamp,
    /// Since when it waits, or waited.
    pub ready_at: Timestamp,
    /// When the customer wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_inbound_at: Option<Timestamp>,
    /// The newest message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<MessageId>,
    /// When a parked one resumes, or a wrap-up ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// The outcome code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disposition: Option<SmolStr>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, Event};

    #[test]
    fn a_wrapped_record_is_the_encoded_item() {
        let record = EventRecord {
            position: "0.17.3".parse().unwrap(),
            tenant: "main".parse().unwrap(),
            at: Timestamp(1_700_000_000_000),
            customer: None,
            conversation: None,
            event: std::sync::Arc::new(Event::AgentConnected { agent: "anna".parse().unwrap() }),
        };
        let bytes = Encoding::MsgPack.encode(&record).unwrap();
        let item = FeedItem { epoch: 300, seq: 70_000, context: None, record };
        assert_eq!(FeedItem::wrap(300, 70_000, None, &bytes), Encoding::MsgPack.encode(&item).unwrap());
    }
}
