//! What the questions of agents' tools and operators are answered with: the `result` of their
//! [`Reply`](crate::command::Reply). `feed.sync` has [`Sync`](crate::feed::Sync), `thread.history` has
//! [`ThreadHistory`](crate::outbound::ThreadHistory), and what changes something
//! [`Done`](crate::command::Done).
//!
//! An answer stays below [`REPLY_BYTES_MAX`](crate::limits::REPLY_BYTES_MAX): of facts, the oldest are
//! left out; of a list, its end.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::envelope::{Assurance, Identity};
use crate::event::{Consent, Decision, EventRecord, Presence};
use crate::feed::ConversationView;
use crate::id::{AgentId, ChannelKind, ConversationId, CustomerId, QueueId};
use crate::time::{Millis, Timestamp};

/// The answer to `conversation.history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct History {
    /// Whose messages.
    pub customer: CustomerId,
    /// The newest messages of the customer over all channels, oldest first: `message.*` only. Notes are
    /// on a subject of their own and not among them.
    pub records: Vec<EventRecord>,
    /// True when there are older ones.
    #[serde(default)]
    pub more: bool,
}

/// The answer to `media.get`: some bytes of a medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MediaPiece {
    /// How many bytes the whole medium has.
    pub size: u64,
    /// The bytes, as Base64 (RFC 4648 section 4, padded).
    pub data: String,
    /// What to ask with as `after` for the next bytes; absent: these were the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SmolStr>,
}

/// The answer to a question of an operator: which kind it is of, and the answer itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum AdminAnswer {
    /// To `status.show`.
    Status(Box<StatusView>),
    /// To `conversation.list`: the open conversations, oldest first.
    Conversations(Vec<ConversationView>),
    /// To `agent.list`: the roster, by id.
    Agents(Vec<AgentView>),
    /// To `conversation.show` and `conversation.explain`.
    Conversation(Box<ConversationDetail>),
    /// To `customer.show`.
    Customer(Box<CustomerDetail>),
    /// To `customer.suggestions`, oldest first.
    Suggestions(Vec<Suggestion>),
    /// To `customer.find`.
    Customers(Vec<CustomerView>),
    /// To `shadow.start` and `shadow.show`; absent: none runs.
    Shadow(Option<Box<ShadowReport>>),
}

/// How a tenant and its shard stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusView {
    /// How much there is of what.
    pub counts: Counts,
    /// How many customers are known.
    pub customers: u64,
    /// The shard.
    pub shard: ShardStatus,
    /// SHA-256 of the tenant's state, when it was asked for: equal states have equal digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<SmolStr>,
}

/// How much there is of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Open conversations by state.
    pub conversations: BTreeMap<SmolStr, u64>,
    /// Agents by presence; `disconnected` for those whose tool is gone.
    pub agents: BTreeMap<SmolStr, u64>,
    /// Waiting conversations by queue.
    pub waiting: BTreeMap<QueueId, u64>,
    /// When the longest waiting one became ready, by queue.
    pub oldest_ready_at: BTreeMap<QueueId, Timestamp>,
    /// The policy in force; 0: none.
    pub policy_version: u64,
}

/// How a shard stands, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShardStatus {
    /// Which.
    pub shard: u16,
    /// Its epoch.
    pub epoch: u64,
    /// The process that leads it.
    pub owner: String,
    /// The newest journal record.
    pub seq: u64,
    /// Everything in `IN` up to this sequence is decided.
    pub cursor: u64,
    /// The journal record up to which all outputs are stored.
    pub outputs_done: u64,
    /// The journal record that the key-value side reflects.
    pub kv_done: u64,
}

/// An agent as tools see it; also the value in the `agents` bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentView {
    /// Who.
    pub agent: AgentId,
    /// The name that customers see.
    pub name: SmolStr,
    /// Whether it takes offers.
    pub presence: Presence,
    /// Its tool is there.
    pub connected: bool,
    /// Units in use.
    pub load: u32,
    /// Units in all; 0 when it is no longer in the policy.
    pub capacity: u32,
    /// The queues that it works.
    pub queues: BTreeSet<QueueId>,
    /// The conversations it holds.
    pub conversations: BTreeSet<ConversationId>,
}

/// A conversation with its facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConversationDetail {
    /// How it stands; absent when only its facts are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationView>,
    /// Who would be considered for it now; absent when it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
    /// What happened, oldest first, as far as `EVENTS` holds it. Each `offer.created` says why it went to
    /// whom it went.
    pub facts: Vec<EventRecord>,
}

/// Where an open conversation stands, and who would be considered for it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// The conversation.
    pub conversation: ConversationView,
    /// How long it has waited, or waited until now.
    pub waiting_ms: Millis,
    /// How many wait before it in its queue; absent when it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How long it will go on waiting, as far as that can be said.
    #[serde(default)]
    pub expected_wait: ExpectedWait,
    /// The step of its requirement that is in force, from 0, and of how many.
    #[serde(default)]
    pub step: u32,
    /// See `step`.
    #[serde(default)]
    pub steps: u32,
    /// When the step ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ends_at: Option<Timestamp>,
    /// The agents that refused it or let it lapse in this round.
    pub asked: Vec<AgentId>,
    /// Counts the rounds.
    pub round: u32,
    /// The members of its queue (of a large one, the first by name), and what keeps each from it now.
    pub now: Decision,
    /// In a sentence.
    pub summary: SmolStr,
}

/// How a policy that runs beside the one in force compares with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ShadowReport {
    /// Since when.
    pub since: Timestamp,
    /// Conversations that were routed meanwhile.
    pub routed: u64,
    /// Of them, those that it would have put into another queue.
    pub other_queue: u64,
    /// Those with another priority.
    pub other_priority: u64,
    /// Those of which it would have asked something else.
    pub other_requirement: u64,
    /// Offers that were made meanwhile.
    pub offers: u64,
    /// Of them, those that it would have made to another agent.
    pub other_agent: u64,
    /// Those for which it would have found nobody.
    pub nobody: u64,
    /// The newest conversations about which the two differ, newest last.
    pub examples: Vec<ShadowExample>,
}

/// A conversation about which two policies differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShadowExample {
    /// Which.
    pub conversation: ConversationId,
    /// In what: `queue`, `priority`, `requirement`, `agent`, `nobody`.
    pub what: SmolStr,
    /// What was decided.
    pub live: SmolStr,
    /// What would have been.
    pub shadow: SmolStr,
}

/// How long a conversation will go on waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ExpectedWait {
    /// Reckoned from its position, how long conversations take, and how many the agents who could take it can
    /// hold. Absent: unknown, since no such agent is there or nothing has been observed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reckoned_ms: Option<Millis>,
    /// Half of those served lately in its queue waited no longer in all. Absent: too few were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<Millis>,
    /// Nine of ten did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_ms: Option<Millis>,
}

/// A customer with conversations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CustomerDetail {
    /// The customer.
    pub customer: CustomerView,
    /// The open conversation that began last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<ConversationView>,
    /// What happened, oldest first, as far as `EVENTS` holds it.
    pub facts: Vec<EventRecord>,
}

/// A customer as tools see it; also the value in the `customers` bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CustomerView {
    /// Who.
    pub customer: CustomerId,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<SmolStr>,
    /// When it was first met.
    pub created_at: Timestamp,
    /// Its identities, in the order in which they became known.
    pub identities: Vec<Held>,
    /// The language (ISO 639-1) that it is to be answered in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// Attributes, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<SmolStr, SmolStr>,
    /// The segments that it is in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub segments: BTreeSet<SmolStr>,
    /// What it allowed and forbade, the newest word last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consents: Vec<Consent>,
    /// What it was promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<String>,
    /// The customers that were merged into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<CustomerId>,
    /// Which it was merged into: it goes under that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<CustomerId>,
}

/// An identity that a customer has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Held {
    /// Which.
    pub identity: Identity,
    /// On what evidence.
    pub assurance: Assurance,
    /// Since when.
    pub since: Timestamp,
    /// A message came by it last, to within a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Timestamp>,
    /// Where it became known: `<kind>/<account>`, `operator`, `agent.<id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SmolStr>,
    /// The customer that it came with, where that was merged into this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<CustomerId>,
}

/// Two customers that may be one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Suggestion {
    /// The one.
    pub customer: CustomerView,
    /// The other.
    pub with: CustomerView,
    /// What both have.
    pub identity: Identity,
    /// Why it is not certain; see `customer.match_suggested`.
    pub reason: SmolStr,
    /// Since when it is open.
    pub since: Timestamp,
}

/// What an agent should know before the first word: the answer to `conversation.context`, and part of what an offer
/// shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Context {
    /// The customer.
    pub customer: CustomerView,
    /// The open conversations of the customer, over all channels, newest first.
    pub open: Vec<ConversationView>,
    /// Those that have ended lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<RecentConversation>,
    /// The newest messages over all channels, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<EventRecord>,
    /// The newest notes, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<EventRecord>,
    /// True when there are older messages.
    #[serde(default)]
    pub more: bool,
}

/// A conversation that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecentConversation {
    /// Which.
    pub conversation: ConversationId,
    /// Who had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Through which queue it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
    /// The medium that it ran on last.
    pub kind: ChannelKind,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it ended.
    pub closed_at: Timestamp,
}
