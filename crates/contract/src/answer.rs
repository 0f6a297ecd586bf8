//! What the questions of agents' tools and operators are answered with: the `result` of their
//! [`Reply`](crate::command::Reply). `feed.sync` has [`Sync`](crate::feed::Sync), `thread.history` has
//! [`ThreadHistory`](crate::outbound::ThreadHistory), and what changes something
//! [`Done`](crate::command::Done).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::envelope::{Assurance, Identity};
use crate::event::{Decision, EventRecord, Presence};
use crate::feed::ConversationView;
use crate::id::{AgentId, CustomerId, OfferId, QueueId};
use crate::time::Timestamp;

/// The answer to `conversation.history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct History {
    /// Whose messages.
    pub customer: CustomerId,
    /// The newest messages of the customer over all channels, oldest first; `message.*` and
    /// `note.added`.
    pub records: Vec<EventRecord>,
    /// True when there are older ones.
    #[serde(default)]
    pub more: bool,
}

/// The answer to `status.show`: one shard as its owner sees it, narrowed to the tenant asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The shard of the tenant.
    pub shard: u16,
    /// The epoch of its owner.
    pub epoch: u64,
    /// The newest record of the journal.
    pub journal_seq: u64,
    /// Records in `IN` that are not decided yet.
    pub lag: u64,
    /// Version of the policy in force; 0: none.
    #[serde(default)]
    pub policy_version: u64,
    /// Open conversations by state.
    pub conversations: BTreeMap<SmolStr, u64>,
    /// Agents by presence.
    pub agents: BTreeMap<SmolStr, u64>,
    /// The waiting lines.
    pub queues: BTreeMap<QueueId, QueueStatus>,
    /// The digest of the tenant's state after `journal_seq`, when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<SmolStr>,
    /// The router's clock.
    pub at: Timestamp,
}

/// One waiting line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueStatus {
    /// Conversations that wait or are offered.
    pub waiting: u64,
    /// Since when the one waits that has waited longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_ready_at: Option<Timestamp>,
}

/// The answer to `conversation.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationList {
    /// The open conversations, the one that has waited longest first.
    pub conversations: Vec<ConversationView>,
    /// How many are open in all.
    pub total: u64,
}

/// The answer to `conversation.show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationDetail {
    /// The conversation.
    pub conversation: ConversationView,
    /// Its facts as far as `EVENTS` holds them, oldest first.
    pub records: Vec<EventRecord>,
}

/// The answer to `conversation.explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The conversation.
    pub conversation: ConversationView,
    /// Who would be considered now, when it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Decision>,
    /// Its offers, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<ExplainedOffer>,
}

/// An offer, and why it went to whom it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExplainedOffer {
    /// Which.
    pub offer: OfferId,
    /// To whom.
    pub agent: AgentId,
    /// When.
    pub at: Timestamp,
    /// Why this agent.
    pub decision: Decision,
    /// `accepted`, `declined`, `expired`, `rescinded`; absent: it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<SmolStr>,
}

/// The answer to `customer.show`; also the value in the `customers` bucket, without conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CustomerView {
    /// Who.
    pub customer: CustomerId,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<SmolStr>,
    /// The addresses that are known.
    pub identities: Vec<KnownIdentity>,
    /// The conversations, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<ConversationView>,
}

/// An address of a customer, and how far it is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KnownIdentity {
    /// The address.
    pub identity: Identity,
    /// How far it is proven.
    pub assurance: Assurance,
}

/// The answer to `agent.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentList {
    /// The roster, by id.
    pub agents: Vec<AgentView>,
}

/// One agent as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentView {
    /// Who.
    pub agent: AgentId,
    /// The name that customers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// Whether it takes offers.
    pub presence: Presence,
    /// Whether its tool is there.
    pub connected: bool,
    /// Units in use.
    pub load: u32,
    /// Units in all.
    pub capacity: u32,
    /// Conversations that it holds.
    pub conversations: u32,
    /// Offers that stand.
    pub offers: u32,
    /// Last given a conversation; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_assigned_at: Option<Timestamp>,
}
