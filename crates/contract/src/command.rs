//! Commands: what agents' tools, operators and channels ask of the router, by request and reply.
//!
//! A command has a client-made `id`. Sent again with the same id it is answered again, not done
//! again. The answer to a command that changes something comes after the journal holds the change.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::codec::open_enum;
use crate::envelope::{Envelope, Identity, MessageRef, Part};
use crate::event::{Consent, Presence, ProfileChange};
use crate::feed::Since;
use crate::id::{AccountId, AgentId, ChannelKind, ConversationId, CustomerId, MessageId, OfferId, QueueId};
use crate::journal::Position;
use crate::policy::Policy;
use crate::time::Timestamp;

mod request;

/// Longest id that a client may give a command, in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// What an agent's tool asks for. On the wire, the verb is the end of the subject and the payload is
/// `{"id": …, "args": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "verb", content = "args")]
pub enum AgentCommand {
    /// Says whether the agent takes offers.
    #[serde(rename = "presence.set")]
    PresenceSet {
        /// To what.
        presence: Presence,
        /// A reason code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
    },
    /// Takes an offer.
    #[serde(rename = "offer.accept")]
    OfferAccept {
        /// Which.
        offer: OfferId,
    },
    /// Refuses an offer.
    #[serde(rename = "offer.decline")]
    OfferDecline {
        /// Which.
        offer: OfferId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
    },
    /// Answers the customer.
    #[serde(rename = "message.send")]
    MessageSend {
        /// In which conversation; the agent must hold it.
        conversation: ConversationId,
        /// What.
        content: Vec<Part>,
        /// The message that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<MessageRef>,
        /// By which thread of the conversation; absent: the one that the customer used last, of those that may be
        /// written on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<Via>,
        /// What for, where the customer's consent depends on it; absent: `service`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        purpose: Option<SmolStr>,
    },
    /// Asks the customer to go on by another channel. The token that is sent there counts once and for a while, and
    /// proves that whoever answers with it is the same person.
    #[serde(rename = "conversation.switch")]
    ConversationSwitch {
        /// Which; the agent must hold it.
        conversation: ConversationId,
        /// The account to go on by.
        to: SwitchTo,
    },
    /// Says what became known of the customer.
    #[serde(rename = "customer.update")]
    CustomerUpdate {
        /// A conversation of the customer's that the agent holds.
        conversation: ConversationId,
        /// What changed.
        change: ProfileChange,
    },
    /// Writes something down that the customer does not see.
    #[serde(rename = "note.add")]
    NoteAdd {
        /// In which conversation.
        conversation: ConversationId,
        /// What.
        text: String,
    },
    /// Hands the conversation over, to a queue or to one agent.
    #[serde(rename = "conversation.transfer")]
    ConversationTransfer {
        /// Which.
        conversation: ConversationId,
        /// To which queue; absent: the one it came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to_queue: Option<QueueId>,
        /// To which agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to_agent: Option<AgentId>,
        /// What the next one should know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Waits for the customer or a time.
    #[serde(rename = "conversation.park")]
    ConversationPark {
        /// Which.
        conversation: ConversationId,
        /// Until when; absent: until the customer writes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
    },
    /// Goes on with a parked conversation.
    #[serde(rename = "conversation.resume")]
    ConversationResume {
        /// Which.
        conversation: ConversationId,
    },
    /// Ends the talk; wrap-up follows where the policy has one.
    #[serde(rename = "conversation.close")]
    ConversationClose {
        /// Which.
        conversation: ConversationId,
        /// The outcome code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disposition: Option<SmolStr>,
    },
    /// Calls a handover off, as long as nobody has accepted it.
    #[serde(rename = "conversation.take_back")]
    ConversationTakeBack {
        /// Which.
        conversation: ConversationId,
    },
    /// Asks another agent for advice, who reads along and may write notes.
    #[serde(rename = "conversation.consult")]
    ConversationConsult {
        /// Which.
        conversation: ConversationId,
        /// Whom.
        agent: AgentId,
        /// What about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Ends the advice: of the one named, or one's own.
    #[serde(rename = "conversation.consult_end")]
    ConversationConsultEnd {
        /// Which.
        conversation: ConversationId,
        /// Who was asked; absent: the sender.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
    },
    /// Makes a conversation more urgent, and hands it to a queue when one is named.
    #[serde(rename = "conversation.escalate")]
    ConversationEscalate {
        /// Which.
        conversation: ConversationId,
        /// The new priority.
        priority: i32,
        /// To which queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to_queue: Option<QueueId>,
        /// What the next one should know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Supervisors: gives an open conversation to an agent, whatever the rules say.
    #[serde(rename = "conversation.force")]
    ConversationForce {
        /// Which.
        conversation: ConversationId,
        /// To whom.
        agent: AgentId,
        /// Even when the agent has no room for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignore_capacity: bool,
    },
    /// Supervisors: reads along.
    #[serde(rename = "conversation.monitor")]
    ConversationMonitor {
        /// Which.
        conversation: ConversationId,
    },
    /// Supervisors: reads along no longer.
    #[serde(rename = "conversation.monitor_end")]
    ConversationMonitorEnd {
        /// Which.
        conversation: ConversationId,
    },
    /// Ends the after-interaction work.
    #[serde(rename = "wrap_up.complete")]
    WrapUpComplete {
        /// Which.
        conversation: ConversationId,
        /// The outcome code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disposition: Option<SmolStr>,
    },
}

/// What an agent's tool asks without changing anything. Answered outside the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "verb", content = "args")]
pub enum AgentQuery {
    /// What happened on the feed since a sequence, or everything the agent holds.
    #[serde(rename = "feed.sync")]
    FeedSync {
        /// Where the tool was; absent: it knows nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Since>,
    },
    /// A sign of life: everything up to `seq` has arrived.
    #[serde(rename = "feed.ack")]
    FeedAck {
        /// Up to which sequence.
        seq: u64,
    },
    /// Who the customer is and what went before: what the agent should know before the first word.
    #[serde(rename = "conversation.context")]
    ConversationContext {
        /// A conversation that the agent holds or is offered.
        conversation: ConversationId,
        /// At most so many of the newest messages; 100 at most, 20 when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        messages: Option<u32>,
    },
    /// The messages of a customer, over all channels.
    #[serde(rename = "conversation.history")]
    ConversationHistory {
        /// A conversation that the agent holds or is offered.
        conversation: ConversationId,
        /// At most so many of the newest; 100 at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// Bytes of a medium that came in a message of the conversation's customer, piece by piece.
    #[serde(rename = "media.get")]
    MediaGet {
        /// A conversation that the agent may read.
        conversation: ConversationId,
        /// What the part names.
        store_key: SmolStr,
        /// The `next` of the piece before; absent: the first piece.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<SmolStr>,
    },
}

/// A thread of a conversation, to answer by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Via {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The account; absent: any of that kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The thread on it; absent: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<SmolStr>,
}

/// Where a customer is asked to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SwitchTo {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The account.
    pub account: AccountId,
    /// The customer's address there.
    pub address: SmolStr,
}

/// What an operator's tool asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "verb", content = "args")]
pub enum AdminCommand {
    /// Puts a policy into force.
    #[serde(rename = "policy.apply")]
    PolicyApply {
        /// Which.
        policy: Box<Policy>,
        /// Conversations that wait are routed anew by it; else they keep what they came with.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        waiting: bool,
    },
    /// Runs a policy beside the one in force, on the same events and without any effect, and counts where it
    /// would decide otherwise. Takes the place of another; forgotten when the shard changes hands.
    #[serde(rename = "shadow.start")]
    ShadowStart {
        /// Which.
        policy: Box<Policy>,
    },
    /// How the policy beside compares; with `stop`, for the last time.
    #[serde(rename = "shadow.show")]
    ShadowShow {
        /// Ends it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stop: bool,
    },
    /// Gives an open conversation to an agent, whatever the rules say.
    #[serde(rename = "conversation.assign")]
    ConversationAssign {
        /// Which.
        conversation: ConversationId,
        /// To whom.
        agent: AgentId,
        /// Even when the agent has no room for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ignore_capacity: bool,
    },
    /// Puts an open conversation into a queue.
    #[serde(rename = "conversation.enqueue")]
    ConversationEnqueue {
        /// Which.
        conversation: ConversationId,
        /// Where to; absent: where the rules would put it now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueId>,
        /// The new priority; absent: as it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        priority: Option<i32>,
    },
    /// Counts: conversations by state, agents by presence, queues, lag.
    #[serde(rename = "status.show")]
    StatusShow {
        /// Also a digest of the tenant's state, to compare with a replay of the journal; takes time in
        /// proportion to the state.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        digest: bool,
    },
    /// The open conversations.
    #[serde(rename = "conversation.list")]
    ConversationList {
        /// At most so many; 1,000 at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// One conversation, open or closed, with its facts.
    #[serde(rename = "conversation.show")]
    ConversationShow {
        /// Which.
        conversation: ConversationId,
    },
    /// Who would be considered for a waiting conversation now, and who was for its offers.
    #[serde(rename = "conversation.explain")]
    ConversationExplain {
        /// Which.
        conversation: ConversationId,
    },
    /// One customer with identities and conversations.
    #[serde(rename = "customer.show")]
    CustomerShow {
        /// Which.
        customer: CustomerId,
    },
    /// Links an identity to a customer, by a person's word.
    #[serde(rename = "customer.link")]
    CustomerLink {
        /// Whose.
        customer: CustomerId,
        /// Which.
        identity: Identity,
    },
    /// Takes an identity from a customer.
    #[serde(rename = "customer.unlink")]
    CustomerUnlink {
        /// Whose.
        customer: CustomerId,
        /// Which: scheme and value, and the scope where there are several.
        identity: Identity,
    },
    /// Two customers are one person. Which of them the person goes under follows from what is known of both.
    #[serde(rename = "customer.merge")]
    CustomerMerge {
        /// The one.
        customer: CustomerId,
        /// The other.
        with: CustomerId,
    },
    /// A merge was wrong: a customer that was merged is a person of its own again.
    #[serde(rename = "customer.split")]
    CustomerSplit {
        /// Which.
        customer: CustomerId,
    },
    /// Two customers are not one person, whatever a suggestion says.
    #[serde(rename = "customer.dismiss")]
    CustomerDismiss {
        /// The one.
        customer: CustomerId,
        /// The other.
        with: CustomerId,
    },
    /// Says what became known of a customer.
    #[serde(rename = "customer.update")]
    CustomerUpdate {
        /// Who.
        customer: CustomerId,
        /// What changed.
        change: ProfileChange,
    },
    /// A customer allowed or forbade to be written to.
    #[serde(rename = "customer.consent")]
    CustomerConsent {
        /// Who.
        customer: CustomerId,
        /// What.
        consent: Consent,
    },
    /// Forgets a customer: open conversations end, and everything that is stored of it is removed.
    #[serde(rename = "customer.erase")]
    CustomerErase {
        /// Who.
        customer: CustomerId,
    },
    /// Pairs of customers that may be one person, oldest first.
    #[serde(rename = "customer.suggestions")]
    CustomerSuggestions {
        /// At most so many; 1,000 at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// The customers that have an identity: verified before claimed.
    #[serde(rename = "customer.find")]
    CustomerFind {
        /// Which, as somebody would write it.
        identity: Identity,
    },
    /// The roster with presence and load.
    #[serde(rename = "agent.list")]
    AgentList {},
}

/// What the router asks a classifier, on `tl.v1.classify.<tenant>`: the first message of a conversation. Only
/// what is answered within the policy's `classifier.budget_ms` counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Classify {
    /// Which.
    pub conversation: ConversationId,
    /// The message.
    pub envelope: Envelope,
}

/// A classifier's answer; what it does not know it leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Classified {
    /// What the customer wants; 64 bytes at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<SmolStr>,
    /// The language (ISO 639-1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// Tags, besides those of the envelope; 16 at most, of 64 bytes each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<SmolStr>,
}

/// What a channel adapter asks for, for one of its accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "verb", content = "args")]
pub enum ChannelQuery {
    /// The messages of one thread of the account, both ways.
    #[serde(rename = "thread.history")]
    ThreadHistory {
        /// The thread's key.
        thread: SmolStr,
        /// Only after this `thread_seq`.
        #[serde(default)]
        after: u64,
        /// At most so many, 200 at most: the next ones after `after`, or, where that is 0, the newest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// How it stands with whoever waits on a thread of the account.
    #[serde(rename = "thread.wait")]
    ThreadWait {
        /// The thread's key.
        thread: SmolStr,
    },
    /// How far the account's shard is behind. What can wait elsewhere, as mail in its mailbox, waits there while it is.
    #[serde(rename = "shard.lag")]
    ShardLag {},
}

/// The payload of a command: the client's id, and the arguments of the verb in the subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Request<A> {
    /// The client's id: unique per sender for a day. Queries may leave it empty.
    #[serde(default)]
    pub id: SmolStr,
    /// The arguments.
    pub args: A,
}

open_enum! {
    /// Why a command was refused.
    RefusalKind {
        /// The command is malformed or its arguments make no sense.
        Invalid = "invalid",
        /// There is no such thing.
        NotFound = "not_found",
        /// The thing is no longer what the sender believes: an offer that ended, a conversation of another agent.
        Gone = "gone",
        /// The state does not allow it now.
        Conflict = "conflict",
        /// The sender may not do this.
        Forbidden = "forbidden",
        /// Over a size limit.
        TooLarge = "too_large",
        /// Not now; try again with the same id.
        Unavailable = "unavailable",
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// Why, for a program.
    pub kind: RefusalKind,
    /// Why, for a person.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// What a command brought about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {
    /// The conversation concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// The message that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Its number in its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_seq: Option<u64>,
    /// The customer concerned: after a merge, the one that the person goes under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
}

/// The answer to a command.
// An absent `Option` is `None` without `serde(default)`, which would ask `T` for a default too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reply<T> {
    /// The id of the command.
    #[serde(default)]
    pub id: SmolStr,
    /// Whether it was done.
    pub ok: bool,
    /// The answer, when it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<T>,
    /// The reason, when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Where the journal holds it; absent for queries and repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

impl<T> Reply<T> {
    /// The answer to a command that was done.
    pub fn done(id: SmolStr, result: T) -> Self {
        Self { id, ok: true, result: Some(result), refusal: None, position: None }
    }

    /// The answer to a command that was refused.
    pub fn refused(id: SmolStr, refusal: Refusal) -> Self {
        Self { id, ok: false, result: None, refusal: Some(refusal), position: None }
    }
}
