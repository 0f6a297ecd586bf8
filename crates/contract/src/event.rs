//! Facts: what was decided or observed, in the past tense. The journal holds them, `EVENTS` and the
//! agents' feeds carry them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::codec::open_enum;
use crate::envelope::{Account, Assurance, Envelope, Identity, MessageRef, Part, ReceiptStatus, Thread};
use crate::id::{AgentId, ConversationId, CustomerId, MessageId, OfferId, QueueId, SkillId, TenantId};
use crate::journal::Position;
use crate::policy::{Level, Policy};
use crate::time::Timestamp;
use std::collections::BTreeMap;

mod stored;

pub use stored::{decode_events, join_events};

open_enum! {
    /// Whether an agent takes conversations.
    Presence {
        /// Takes offers.
        Available = "available",
        /// Keeps what it holds, takes no offers.
        Busy = "busy",
        /// Away from the desk: keeps what it holds, takes no offers.
        Away = "away",
        /// Signed out; what it held is offered to others.
        Offline = "offline",
    }
}

/// What a conversation asks of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Requirement {
    /// Skills with the least level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skills: BTreeMap<SkillId, Level>,
}

open_enum! {
    /// Why a conversation stands in a queue.
    EnqueueReason {
        /// It is new.
        Opened = "opened",
        /// Its agent was lost for longer than the grace.
        AgentLost = "agent_lost",
        /// Its agent signed out.
        AgentSignedOut = "agent_signed_out",
        /// It was transferred.
        Transferred = "transferred",
        /// It was parked, the customer wrote, and its agent could not take it back.
        Resumed = "resumed",
    }
}

/// Why agents were left out of a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Exclusion {
    /// Presence does not take offers.
    Presence {
        /// The presence.
        presence: Presence,
    },
    /// The agent's tool is not there.
    Disconnected,
    /// Was offered this conversation in this round already.
    AlreadyAsked,
    /// Lacks a skill, or the level of it.
    MissingSkill {
        /// The skill.
        skill: SkillId,
        /// The level that is required.
        needed: Level,
        /// The level that the agent has; 0 is none.
        has: Level,
    },
    /// Has no room for the weight.
    Full {
        /// Units in use.
        load: u32,
        /// Units in all.
        capacity: u32,
    },
}

/// An agent that was left out, and the first rule that did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Excluded {
    /// Who.
    pub agent: AgentId,
    /// Why.
    pub because: Exclusion,
}

/// An eligible agent with what it is ranked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Candidate {
    /// Who.
    pub agent: AgentId,
    /// Units in use.
    pub load: u32,
    /// Units in all.
    pub capacity: u32,
    /// Last given a conversation; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_assigned_at: Option<Timestamp>,
}

/// Why an agent was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decision {
    /// The eligible agents, best first, as far as they were looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eligible: Vec<Candidate>,
    /// The agents left out, as far as they were looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<Excluded>,
    /// Members of the queue that are listed in neither, since the queue is large.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u32,
    /// What decided between the first two: `only_candidate`, `load`, `longest_idle`, `agent_id`, `direct`.
    #[serde(default)]
    pub tie_break: SmolStr,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The thread that a message came or goes by: the account, and the thread on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ThreadRef {
    /// The account.
    pub account: Account,
    /// The thread.
    pub thread: Thread,
}

/// A fact. On the wire `{"type": "conversation.assigned", "data": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// A policy came into force.
    #[serde(rename = "policy.applied")]
    PolicyApplied {
        /// Counts the policies of this tenant, from 1.
        version: u64,
        /// The policy.
        policy: Arc<Policy>,
    },
    /// An agent's presence changed.
    #[serde(rename = "agent.presence_changed")]
    AgentPresenceChanged {
        /// Who.
        agent: AgentId,
        /// To what.
        presence: Presence,
        /// The agent's reason code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
    },
    /// An agent's tool came, or came back.
    #[serde(rename = "agent.connected")]
    AgentConnected {
        /// Who.
        agent: AgentId,
    },
    /// An agent's tool fell silent.
    #[serde(rename = "agent.disconnected")]
    AgentDisconnected {
        /// Who.
        agent: AgentId,
        /// Until when it keeps its conversations.
        grace_until: Timestamp,
    },
    /// The grace of a disconnected agent ended; its conversations are enqueued next.
    #[serde(rename = "agent.lost")]
    AgentLost {
        /// Who.
        agent: AgentId,
    },
    /// A customer was met for the first time.
    #[serde(rename = "customer.created")]
    CustomerCreated {
        /// Who.
        customer: CustomerId,
        /// The name to show.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display: Option<SmolStr>,
    },
    /// An identity was found to be a customer's.
    #[serde(rename = "customer.identity_linked")]
    CustomerIdentityLinked {
        /// Whose.
        customer: CustomerId,
        /// Which.
        identity: Identity,
        /// On what evidence.
        assurance: Assurance,
    },
    /// A claimed identity was proven.
    #[serde(rename = "customer.identity_verified")]
    CustomerIdentityVerified {
        /// Whose.
        customer: CustomerId,
        /// Which.
        identity: Identity,
    },
    /// The name to show changed.
    #[serde(rename = "customer.renamed")]
    CustomerRenamed {
        /// Who.
        customer: CustomerId,
        /// The new name.
        display: SmolStr,
    },
    /// Something else happened to an address or account of the customer: opted out, referred, called.
    #[serde(rename = "customer.signalled")]
    CustomerSignalled {
        /// Who; absent when it concerns the account alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<CustomerId>,
        /// The conversation that was open, if one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<ConversationId>,
        /// What happened.
        envelope: Box<Envelope>,
    },
    /// A conversation began.
    #[serde(rename = "conversation.opened")]
    ConversationOpened {
        /// Which.
        conversation: ConversationId,
        /// Whose.
        customer: CustomerId,
        /// The thread that it began on.
        thread: ThreadRef,
    },
    /// A conversation stands in a queue.
    #[serde(rename = "conversation.enqueued")]
    ConversationEnqueued {
        /// Which.
        conversation: ConversationId,
        /// Where.
        queue: QueueId,
        /// Urgency; higher goes first.
        priority: i32,
        /// What it asks of an agent.
        requirement: Requirement,
        /// Since when it waits; kept over every re-queueing.
        ready_at: Timestamp,
        /// Why.
        reason: EnqueueReason,
        /// The agent that held it until now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<AgentId>,
        /// The one agent it is meant for, first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direct: Option<AgentId>,
    },
    /// Everybody who could take a conversation was asked.
    #[serde(rename = "conversation.round_exhausted")]
    ConversationRoundExhausted {
        /// Which.
        conversation: ConversationId,
        /// When all are asked again.
        next_round_at: Timestamp,
    },
    /// All may be asked again.
    #[serde(rename = "conversation.round_started")]
    ConversationRoundStarted {
        /// Which.
        conversation: ConversationId,
        /// Counts the rounds, from 1.
        round: u32,
    },
    /// An agent is responsible for a conversation.
    #[serde(rename = "conversation.assigned")]
    ConversationAssigned {
        /// Which.
        conversation: ConversationId,
        /// Who.
        agent: AgentId,
        /// The offer that was accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offer: Option<OfferId>,
    },
    /// An agent handed a conversation over; it is enqueued next.
    #[serde(rename = "conversation.transferred")]
    ConversationTransferred {
        /// Which.
        conversation: ConversationId,
        /// By whom.
        by: AgentId,
        /// To which queue.
        to_queue: QueueId,
        /// To which agent, first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to_agent: Option<AgentId>,
        /// What the next one should know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A conversation waits for the customer or a time, and takes no capacity meanwhile.
    #[serde(rename = "conversation.parked")]
    ConversationParked {
        /// Which.
        conversation: ConversationId,
        /// By whom; keeps it.
        agent: AgentId,
        /// Until when; absent: until the customer writes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
    },
    /// A parked conversation goes on with its agent.
    #[serde(rename = "conversation.resumed")]
    ConversationResumed {
        /// Which.
        conversation: ConversationId,
        /// With whom.
        agent: AgentId,
        /// `message`, `time`, `agent`.
        cause: SmolStr,
    },
    /// The talk is over, the after-interaction work is not.
    #[serde(rename = "conversation.wrap_up_started")]
    ConversationWrapUpStarted {
        /// Which.
        conversation: ConversationId,
        /// Who.
        agent: AgentId,
        /// When it ends by itself.
        until: Timestamp,
        /// The outcome code, when it was chosen already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disposition: Option<SmolStr>,
    },
    /// A conversation ended.
    #[serde(rename = "conversation.closed")]
    ConversationClosed {
        /// Which.
        conversation: ConversationId,
        /// By whom; absent: by time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<AgentId>,
        /// The outcome code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disposition: Option<SmolStr>,
    },
    /// A conversation was proposed to an agent.
    #[serde(rename = "offer.created")]
    OfferCreated {
        /// Which offer.
        offer: OfferId,
        /// Of what.
        conversation: ConversationId,
        /// To whom.
        agent: AgentId,
        /// When it lapses.
        expires_at: Timestamp,
        /// Why this agent.
        decision: Decision,
    },
    /// The agent took the offer.
    #[serde(rename = "offer.accepted")]
    OfferAccepted {
        /// Which offer.
        offer: OfferId,
        /// Of what.
        conversation: ConversationId,
        /// By whom.
        agent: AgentId,
    },
    /// The agent refused the offer.
    #[serde(rename = "offer.declined")]
    OfferDeclined {
        /// Which offer.
        offer: OfferId,
        /// Of what.
        conversation: ConversationId,
        /// By whom.
        agent: AgentId,
        /// The agent's reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
    },
    /// The agent did not answer in time.
    #[serde(rename = "offer.expired")]
    OfferExpired {
        /// Which offer.
        offer: OfferId,
        /// Of what.
        conversation: ConversationId,
        /// Whose.
        agent: AgentId,
    },
    /// The offer was taken back.
    #[serde(rename = "offer.rescinded")]
    OfferRescinded {
        /// Which offer.
        offer: OfferId,
        /// Of what.
        conversation: ConversationId,
        /// Whose.
        agent: AgentId,
        /// `agent_disconnected`, `presence`, `policy`, `closed`.
        reason: SmolStr,
    },
    /// The customer said something.
    #[serde(rename = "message.received")]
    MessageReceived {
        /// In which conversation.
        conversation: ConversationId,
        /// Its id.
        message: MessageId,
        /// Its number among the messages of its thread, both ways, from 1 without gaps.
        thread_seq: u64,
        /// What was said, and how it came.
        envelope: Box<Envelope>,
    },
    /// The customer edited, withdrew or reacted to a message.
    #[serde(rename = "message.amended")]
    MessageAmended {
        /// In which conversation.
        conversation: ConversationId,
        /// What happened.
        envelope: Box<Envelope>,
    },
    /// An agent said something.
    #[serde(rename = "message.sent")]
    MessageSent {
        /// In which conversation.
        conversation: ConversationId,
        /// Its id; also the id of the command to the channel.
        message: MessageId,
        /// By whom.
        agent: AgentId,
        /// By which thread it goes.
        thread: ThreadRef,
        /// Its number among the messages of its thread, both ways, from 1 without gaps.
        thread_seq: u64,
        /// The message sent before it on the same thread, which must not be overtaken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<MessageId>,
        /// What was said.
        content: Vec<Part>,
        /// The message that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<MessageRef>,
    },
    /// Something became known of outbound messages.
    #[serde(rename = "message.status_changed")]
    MessageStatusChanged {
        /// In which conversation.
        conversation: ConversationId,
        /// The thread that they went by.
        thread: ThreadRef,
        /// Which, oldest first.
        messages: Vec<MessageId>,
        /// What.
        status: ReceiptStatus,
        /// The provider's ids of the message, by which later reports may name it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        external_ids: Vec<SmolStr>,
        /// The provider's code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<SmolStr>,
        /// For a person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// An agent wrote something down that the customer does not see.
    #[serde(rename = "note.added")]
    NoteAdded {
        /// In which conversation.
        conversation: ConversationId,
        /// By whom.
        agent: AgentId,
        /// What.
        text: String,
    },
    /// An inbound record could not be processed; it is in the dead-letter stream.
    #[serde(rename = "input.rejected")]
    InputRejected {
        /// Its sequence in the shard's `IN`.
        in_seq: u64,
        /// Which of its envelopes, from 0; absent: the whole record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<u32>,
        /// The subject that it came on.
        subject: String,
        /// What was wrong; never the content.
        reason: String,
    },
}

macro_rules! event_names {
    ($($variant:ident => $name:literal),* $(,)?) => {
        impl Event {
            /// The type as it is on the wire, `noun.past`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }

            /// All types.
            pub const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

event_names! {
    PolicyApplied => "policy.applied",
    AgentPresenceChanged => "agent.presence_changed",
    AgentConnected => "agent.connected",
    AgentDisconnected => "agent.disconnected",
    AgentLost => "agent.lost",
    CustomerCreated => "customer.created",
    CustomerIdentityLinked => "customer.identity_linked",
    CustomerIdentityVerified => "customer.identity_verified",
    CustomerRenamed => "customer.renamed",
    CustomerSignalled => "customer.signalled",
    ConversationOpened => "conversation.opened",
    ConversationEnqueued => "conversation.enqueued",
    ConversationRoundExhausted => "conversation.round_exhausted",
    ConversationRoundStarted => "conversation.round_started",
    ConversationAssigned => "conversation.assigned",
    ConversationTransferred => "conversation.transferred",
    ConversationParked => "conversation.parked",
    ConversationResumed => "conversation.resumed",
    ConversationWrapUpStarted => "conversation.wrap_up_started",
    ConversationClosed => "conversation.closed",
    OfferCreated => "offer.created",
    OfferAccepted => "offer.accepted",
    OfferDeclined => "offer.declined",
    OfferExpired => "offer.expired",
    OfferRescinded => "offer.rescinded",
    MessageReceived => "message.received",
    MessageAmended => "message.amended",
    MessageSent => "message.sent",
    MessageStatusChanged => "message.status_changed",
    NoteAdded => "note.added",
    InputRejected => "input.rejected",
}

impl Event {
    /// The noun of the type: what the fact is about.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }

    /// The conversation that the fact is about.
    #[must_use]
    pub const fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::ConversationOpened { conversation, .. }
            | Self::ConversationEnqueued { conversation, .. }
            | Self::ConversationRoundExhausted { conversation, .. }
            | Self::ConversationRoundStarted { conversation, .. }
            | Self::ConversationAssigned { conversation, .. }
            | Self::ConversationTransferred { conversation, .. }
            | Self::ConversationParked { conversation, .. }
            | Self::ConversationResumed { conversation, .. }
            | Self::ConversationWrapUpStarted { conversation, .. }
            | Self::ConversationClosed { conversation, .. }
            | Self::OfferCreated { conversation, .. }
            | Self::OfferAccepted { conversation, .. }
            | Self::OfferDeclined { conversation, .. }
            | Self::OfferExpired { conversation, .. }
            | Self::OfferRescinded { conversation, .. }
            | Self::MessageReceived { conversation, .. }
            | Self::MessageAmended { conversation, .. }
            | Self::MessageSent { conversation, .. }
            | Self::MessageStatusChanged { conversation, .. }
            | Self::NoteAdded { conversation, .. } => Some(*conversation),
            Self::CustomerSignalled { conversation, .. } => *conversation,
            _ => None,
        }
    }

    /// The customer that the fact names itself (others follow from the conversation).
    #[must_use]
    pub const fn customer(&self) -> Option<CustomerId> {
        match self {
            Self::CustomerCreated { customer, .. }
            | Self::CustomerIdentityLinked { customer, .. }
            | Self::CustomerIdentityVerified { customer, .. }
            | Self::CustomerRenamed { customer, .. }
            | Self::ConversationOpened { customer, .. } => Some(*customer),
            Self::CustomerSignalled { customer, .. } => *customer,
            _ => None,
        }
    }

    /// The agent that the fact names as the one it happened to.
    #[must_use]
    pub const fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::AgentPresenceChanged { agent, .. }
            | Self::AgentConnected { agent }
            | Self::AgentDisconnected { agent, .. }
            | Self::AgentLost { agent }
            | Self::ConversationAssigned { agent, .. }
            | Self::ConversationParked { agent, .. }
            | Self::ConversationResumed { agent, .. }
            | Self::ConversationWrapUpStarted { agent, .. }
            | Self::OfferCreated { agent, .. }
            | Self::OfferAccepted { agent, .. }
            | Self::OfferDeclined { agent, .. }
            | Self::OfferExpired { agent, .. }
            | Self::OfferRescinded { agent, .. }
            | Self::MessageSent { agent, .. }
            | Self::NoteAdded { agent, .. } => Some(agent),
            Self::ConversationTransferred { by, .. } => Some(by),
            Self::ConversationEnqueued { from, .. } => from.as_ref(),
            _ => None,
        }
    }
}

/// A fact with where and when it was decided: what `EVENTS` and the feeds carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventRecord {
    /// Its place in the journal; unique within a deployment, and in order within a shard.
    pub position: Position,
    /// Whose.
    pub tenant: TenantId,
    /// When it was decided.
    pub at: Timestamp,
    /// The customer it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// The conversation it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// The fact.
    pub event: Arc<Event>,
}
