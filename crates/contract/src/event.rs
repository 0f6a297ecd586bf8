//! Facts: what was decided or observed, in the past tense. The journal holds them, `EVENTS` and the
//! agents' feeds carry them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::call::CallOrder;
use crate::codec::open_enum;
use crate::command::RefusalKind;
use crate::envelope::{Account, Assurance, Envelope, Identity, MessageRef, Part, ReceiptStatus, Thread};
use crate::id::{AgentId, ChannelKind, ConversationId, CustomerId, MessageId, OfferId, QueueId, SkillId, TenantId};
use crate::journal::Position;
pub use crate::policy::Requirement;
use crate::policy::{FallbackAction, Level, Policy};
use crate::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

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
        /// It had ended, and the customer wrote again.
        Reopened = "reopened",
        /// Its queue was too busy, closed, or found nobody.
        Overflowed = "overflowed",
        /// It had grown old before anybody was there: somebody is to look through.
        Stale = "stale",
        /// The policy was applied to what waits.
        Repolicied = "repolicied",
        /// Its queue is no longer in the policy.
        QueueGone = "queue_gone",
        /// An operator or supervisor put it there.
        Forced = "forced",
        /// The agent who took a call was not reached.
        CallFailed = "call_failed",
    }
}

/// Why agents were left out of a decision: the first rule that did it, in the order in which they stand here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Exclusion {
    /// Is not asked in the step in force.
    NotInPool,
    /// Works the queue only for those who have waited longer.
    Delayed {
        /// From when on.
        until: Timestamp,
    },
    /// Presence does not take offers of this channel.
    Presence {
        /// The presence.
        presence: Presence,
    },
    /// The agent's tool is not there.
    Disconnected,
    /// Let too many offers lapse, and has done nothing since.
    NotResponding {
        /// Until when, if nothing happens before.
        until: Timestamp,
    },
    /// Is left alone for a while after an offer that came to nothing.
    Resting {
        /// Until when.
        until: Timestamp,
    },
    /// Got as many offers as are allowed for now.
    OfferRate {
        /// Until when.
        until: Timestamp,
    },
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
    /// Does not meet another condition of the step.
    Unfit {
        /// Which, in the words of the policy.
        condition: SmolStr,
    },
    /// Has no room for the weight.
    Full {
        /// Units in use.
        load: u32,
        /// Units in all.
        capacity: u32,
    },
    /// Primary work fills the agent, so that nothing interruptible is offered.
    PrimaryFull {
        /// Units in use of the primary part.
        load: u32,
        /// Units in all.
        capacity: u32,
    },
    /// Holds as many of this channel as allowed.
    ChannelCap {
        /// How many.
        cap: u32,
    },
    /// Holds as many with this label as allowed.
    LabelCap {
        /// The label.
        label: SmolStr,
        /// How many.
        cap: u32,
    },
    /// Holds a conversation of a channel that does not go together with this one.
    Blocked {
        /// That channel.
        by: ChannelKind,
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
    /// Knew the customer before: place among those who did, from 1; 0: did not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub affinity: u32,
    /// Ring of the membership.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tier: u32,
    /// Weights of the preferences met, added up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub preferred: u32,
    /// Mean level of the required skills in thousandths, where that counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skill_milli: u32,
    /// What the queue's strategy compares, smaller first.
    #[serde(default, skip_serializing_if = "is_zero_i64")]
    pub strategy_key: i64,
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
    /// The step of the requirement that was in force, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: u32,
    /// What decided between the first two: `only_candidate`, `affinity`, `tier`, `preferred`, `skill`, `strategy`
    /// (the queue's), `longest_idle`, `fewest_offers`, `agent_id`; `ring`: offered at the same time as to another.
    #[serde(default)]
    pub tie_break: SmolStr,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero_i64(n: &i64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// By what a conversation is routed besides its queue, priority and requirement. They stay as they were decided
/// when it was enqueued, whatever the policy says later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Terms {
    /// The version of the policy that decided.
    pub policy: u64,
    /// The rule that fitted: its name, or its number from 0. Absent: none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<SmolStr>,
    /// What it takes of an agent's capacity.
    pub weight: u32,
    /// How long an offer of it stands.
    pub lease_ms: Millis,
    /// Served as if it had come so much earlier, in milliseconds; negative: later.
    #[serde(skip_serializing_if = "is_zero_i64")]
    pub adjust_ms: i64,
    /// When its service level ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// How much of its wait was over already.
    #[serde(skip_serializing_if = "is_default")]
    pub waited_ms: Millis,
    /// When its first step ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_ends_at: Option<Timestamp>,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<SmolStr>,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<SmolStr>,
    /// The queues that sent it on since it last came anew: it goes to none of them again.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub passed: BTreeSet<QueueId>,
    /// Who knew the customer before, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<AgentId>,
    /// Its language, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// What the customer wants, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<SmolStr>,
    /// The tags that rules looked at.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<SmolStr>,
    /// The sender's identity was proven.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
}

/// What a conversation was found to be about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Classification {
    /// What the customer wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<SmolStr>,
    /// The language (ISO 639-1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// Tags, besides those of the envelope.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<SmolStr>,
    /// `answered`, `late`, `absent` (nobody classifies), `refused` (its answer could not be read).
    pub outcome: SmolStr,
    /// How long it took.
    #[serde(skip_serializing_if = "is_default")]
    pub took_ms: Millis,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What changed of a customer's profile: only what is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ProfileChange {
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<SmolStr>,
    /// The language (ISO 639-1) that the customer is to be answered in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// Attributes set, by name; `null` removes one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<SmolStr, Option<SmolStr>>,
    /// Segments that the customer is in from now on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub segments_added: BTreeSet<SmolStr>,
    /// Segments that the customer is no longer in.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub segments_removed: BTreeSet<SmolStr>,
    /// What the customer was promised, and must not be forgotten; empty: nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promised: Option<String>,
}

/// Whether a customer may be written to, by which channel and what for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Consent {
    /// By which kind of medium; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelKind>,
    /// By which provider of that kind; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<SmolStr>,
    /// What for: `service` (answers), `notification`, `marketing`, …; absent: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<SmolStr>,
    /// Allowed, or forbidden.
    pub granted: bool,
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
    /// An agent let too many offers lapse: it gets none until it does something, or the time is over.
    #[serde(rename = "agent.not_responding")]
    AgentNotResponding {
        /// Who.
        agent: AgentId,
        /// Until when at most.
        until: Timestamp,
    },
    /// An agent that did not respond gets offers again.
    #[serde(rename = "agent.responding")]
    AgentResponding {
        /// Who.
        agent: AgentId,
    },
    /// An agent has more than its capacity allows, since a conversation went on that took less meanwhile.
    #[serde(rename = "agent.over_capacity")]
    AgentOverCapacity {
        /// Who.
        agent: AgentId,
        /// Units in use.
        load: u32,
        /// Units in all.
        capacity: u32,
    },
    /// An agent that was left alone for a while may be asked again.
    #[serde(rename = "agent.rested")]
    AgentRested {
        /// Who.
        agent: AgentId,
    },
    /// A queue opened.
    #[serde(rename = "queue.opened")]
    QueueOpened {
        /// Which.
        queue: QueueId,
        /// When it closes; absent: not in sight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closes_at: Option<Timestamp>,
    },
    /// A queue closed: what waits in it waits on, unasked and uncounted.
    #[serde(rename = "queue.closed")]
    QueueClosed {
        /// Which.
        queue: QueueId,
        /// When it opens; absent: not in sight.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opens_at: Option<Timestamp>,
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
        /// Where it became known: `<kind>/<account>`, `operator`, `agent.<id>`, `switch`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<SmolStr>,
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
    /// An identity was taken from a customer: it had been linked by mistake.
    #[serde(rename = "customer.identity_unlinked")]
    CustomerIdentityUnlinked {
        /// Whose.
        customer: CustomerId,
        /// Which.
        identity: Identity,
        /// Who decided: `operator`, `agent.<id>`.
        by: SmolStr,
    },
    /// A message came by an identity, for the first time in a day.
    #[serde(rename = "customer.identity_seen")]
    CustomerIdentitySeen {
        /// Whose.
        customer: CustomerId,
        /// Which.
        identity: Identity,
    },
    /// Two customers are one person: `from` goes under `customer` from now on. What either has done keeps the
    /// customer that it came with, so that a split gives it back.
    #[serde(rename = "customer.merged")]
    CustomerMerged {
        /// Under which the person goes.
        customer: CustomerId,
        /// Which goes under it.
        from: CustomerId,
        /// Who decided: `evidence` (one message proved identities of both), `operator`, `agent.<id>`.
        by: SmolStr,
        /// The identity that proved it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<Identity>,
    },
    /// A merge was undone: a customer is a person of its own again, with whoever was merged into it.
    #[serde(rename = "customer.split")]
    CustomerSplit {
        /// Who leaves.
        customer: CustomerId,
        /// Under whom it went.
        from: CustomerId,
        /// Who decided.
        by: SmolStr,
    },
    /// Two customers may be one person, for a person to decide.
    #[serde(rename = "customer.match_suggested")]
    CustomerMatchSuggested {
        /// The one.
        customer: CustomerId,
        /// The other.
        with: CustomerId,
        /// What both have.
        identity: Identity,
        /// Why it is not certain: `claimed` (one of them only says so), `over_limit` (together they would have more
        /// of a scheme than allowed), `thread` (wrote on the other's thread from another address), `switch` (went on there by
        /// a token that the other asked for).
        reason: SmolStr,
    },
    /// A person decided that two customers are not one.
    #[serde(rename = "customer.match_dismissed")]
    CustomerMatchDismissed {
        /// The one.
        customer: CustomerId,
        /// The other.
        with: CustomerId,
        /// Who decided.
        by: SmolStr,
    },
    /// Something else became known of a customer.
    #[serde(rename = "customer.updated")]
    CustomerUpdated {
        /// Who.
        customer: CustomerId,
        /// What changed.
        change: ProfileChange,
        /// Who says so: `operator`, `agent.<id>`, `lookup`.
        by: SmolStr,
    },
    /// A customer allowed or forbade to be written to.
    #[serde(rename = "customer.consent_changed")]
    CustomerConsentChanged {
        /// Who.
        customer: CustomerId,
        /// What.
        consent: Consent,
        /// By whose word: `customer`, `operator`, `agent.<id>`.
        by: SmolStr,
    },
    /// A customer was forgotten: what is stored of it is removed. What still comes late is kept out by the keys.
    #[serde(rename = "customer.erased")]
    CustomerErased {
        /// Who, with everybody merged into it.
        customers: Vec<CustomerId>,
        /// Fingerprints of its identities and threads: they say nothing of it to whoever does not know it.
        keys: Vec<SmolStr>,
        /// Who decided.
        by: SmolStr,
    },
    /// A customer has been silent for long: what is known of it leaves memory, and lies in the key-value side alone. Of
    /// interest to whoever replays the journal; `EVENTS` does not carry it.
    #[serde(rename = "customer.rested")]
    CustomerRested {
        /// Under which the person goes.
        customer: CustomerId,
        /// Who, with everybody merged into it.
        customers: Vec<CustomerId>,
        /// The journal record through which the key-value side has what is known of it; part of the entry's key.
        kept: u64,
        /// Since when it has been silent.
        silent_since: Timestamp,
    },
    /// What is known of a customer is in memory again. `EVENTS` does not carry it.
    #[serde(rename = "customer.recalled")]
    CustomerRecalled {
        /// Under which the person goes.
        customer: CustomerId,
        /// Who, with everybody merged into it.
        customers: Vec<CustomerId>,
        /// The journal record that the entry reflected.
        kept: u64,
        /// Who it is, as the entry holds it: a text of the program's own.
        profile: String,
        /// Its threads and what routing knows of it, as the entry holds it: a text of the program's own.
        routing: String,
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
        requirement: Arc<Requirement>,
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
        /// `from` keeps it, and answers the customer, until somebody else has accepted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        kept: bool,
        /// By what else it is routed.
        #[serde(default, skip_serializing_if = "is_default")]
        terms: Box<Terms>,
    },
    /// Somebody has signed in who could take what nobody could.
    #[serde(rename = "conversation.alarm_ended")]
    ConversationAlarmEnded {
        /// Which.
        conversation: ConversationId,
    },
    /// A step of its requirement began.
    #[serde(rename = "conversation.step_reached")]
    ConversationStepReached {
        /// Which.
        conversation: ConversationId,
        /// The step, from 0.
        step: u32,
        /// `time`, `nobody_signed_in` who could ever have met the step before, or `asked`: the one agent that the
        /// step was for was asked in vain.
        because: SmolStr,
        /// When it ends; absent: not by time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends_at: Option<Timestamp>,
    },
    /// It has waited so long that members who are asked late may be asked, or that it may overflow.
    #[serde(rename = "conversation.waited")]
    ConversationWaited {
        /// Which.
        conversation: ConversationId,
        /// So long, of time that counts.
        waited_ms: Millis,
    },
    /// Nobody could be found, and the queue's fallback was taken.
    #[serde(rename = "conversation.fell_back")]
    ConversationFellBack {
        /// Which.
        conversation: ConversationId,
        /// What was done.
        action: FallbackAction,
        /// `steps_ended`, `offers`, `wait`, `no_agents`.
        because: SmolStr,
    },
    /// Somebody should look.
    #[serde(rename = "conversation.alarm_raised")]
    ConversationAlarmRaised {
        /// Which.
        conversation: ConversationId,
        /// `nobody_signed_in`, `fallback`, `queue_full`, `callback`.
        alarm: SmolStr,
    },
    /// Its urgency was changed.
    #[serde(rename = "conversation.prioritized")]
    ConversationPrioritized {
        /// Which.
        conversation: ConversationId,
        /// The new priority.
        priority: i32,
        /// By whom; absent: an operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<AgentId>,
    },
    /// Somebody is asked what it is about; it is routed when that is known, or when the time is over.
    #[serde(rename = "conversation.classifying")]
    ConversationClassifying {
        /// Which.
        conversation: ConversationId,
        /// How long the answer is awaited.
        until: Timestamp,
    },
    /// What it is about was found out before it was routed, or was not in time.
    #[serde(rename = "conversation.classified")]
    ConversationClassified {
        /// Which.
        conversation: ConversationId,
        /// What it was found to be.
        classification: Classification,
    },
    /// The customer has been silent for so long that it takes less of its agent's capacity.
    #[serde(rename = "conversation.idled")]
    ConversationIdled {
        /// Which.
        conversation: ConversationId,
        /// Whose.
        agent: AgentId,
    },
    /// The customer of an idle conversation wrote: it takes its full weight again.
    #[serde(rename = "conversation.reactivated")]
    ConversationReactivated {
        /// Which.
        conversation: ConversationId,
        /// Whose.
        agent: AgentId,
    },
    /// Another agent is asked for advice: reads along, may write notes, takes no responsibility.
    #[serde(rename = "conversation.consult_started")]
    ConversationConsultStarted {
        /// Which.
        conversation: ConversationId,
        /// Who is asked.
        agent: AgentId,
        /// By whom.
        by: AgentId,
        /// What about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The advice is over.
    #[serde(rename = "conversation.consult_ended")]
    ConversationConsultEnded {
        /// Which.
        conversation: ConversationId,
        /// Who was asked.
        agent: AgentId,
    },
    /// A supervisor reads along.
    #[serde(rename = "conversation.monitor_started")]
    ConversationMonitorStarted {
        /// Which.
        conversation: ConversationId,
        /// Who.
        agent: AgentId,
    },
    /// A supervisor reads along no longer.
    #[serde(rename = "conversation.monitor_ended")]
    ConversationMonitorEnded {
        /// Which.
        conversation: ConversationId,
        /// Who.
        agent: AgentId,
    },
    /// A handover was called off: who kept it goes on.
    #[serde(rename = "conversation.taken_back")]
    ConversationTakenBack {
        /// Which.
        conversation: ConversationId,
        /// Who goes on.
        agent: AgentId,
    },
    /// The customer gave up waiting; the conversation is closed next.
    #[serde(rename = "conversation.abandoned")]
    ConversationAbandoned {
        /// Which.
        conversation: ConversationId,
        /// After how long.
        waited_ms: Millis,
    },
    /// A conversation that had ended goes on.
    #[serde(rename = "conversation.reopened")]
    ConversationReopened {
        /// Which.
        conversation: ConversationId,
        /// Whose.
        customer: CustomerId,
        /// The thread by which it goes on.
        thread: ThreadRef,
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
        /// Forced, by this supervisor or operator, whatever the rules say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forced_by: Option<SmolStr>,
        /// The agent has more than its capacity allows by it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        over_capacity: bool,
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
        /// By whom; absent: by nobody, for the reason given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<AgentId>,
        /// `wrap_up_ended`, `idle`, `refused` (its queue was closed), `abandoned`, `operator`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<SmolStr>,
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
        /// Until when the agent is left alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rest_until: Option<Timestamp>,
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
        /// Until when the agent is left alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rest_until: Option<Timestamp>,
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
        /// `agent_disconnected`, `agent_lost` (who was handing it over), `not_responding`, `presence`, `policy`,
        /// `closed`, `answered` (another accepted), `withdrawn` (the customer left), `taken_back`, `forced`,
        /// `overflowed`.
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
        /// Whose message it is, where that is another than the conversation began with: both are one person, or the
        /// sender wrote on the thread of the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<CustomerId>,
    },
    /// What is to happen with a phone call of the conversation was decided; the channel is told.
    #[serde(rename = "conversation.call_directed")]
    ConversationCallDirected {
        /// Of which conversation.
        conversation: ConversationId,
        /// Names the order; receipts name it like a message.
        message: MessageId,
        /// The thread of the call.
        thread: ThreadRef,
        /// What was sent or ordered before it on the same thread, which must not be overtaken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<MessageId>,
        /// The order.
        order: CallOrder,
    },
    /// A message of a conversation was shown on another thread of it too, where it did not come or go.
    #[serde(rename = "message.mirrored")]
    MessageMirrored {
        /// In which conversation.
        conversation: ConversationId,
        /// Which message.
        message: MessageId,
        /// Where it is shown.
        thread: ThreadRef,
        /// Its number among the messages of that thread, both ways, from 1 without gaps.
        thread_seq: u64,
        /// The message sent before it on the same thread, which must not be overtaken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<MessageId>,
        /// Who said it, where it was one of ours; absent: the customer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// By which kind of medium it came or went.
        by: ChannelKind,
        /// What was said.
        content: Vec<Part>,
    },
    /// Answers have lain on a thread for long, and nobody fetched them.
    #[serde(rename = "message.left_unread")]
    MessageLeftUnread {
        /// In which conversation the newest was given.
        conversation: ConversationId,
        /// On which thread.
        thread: ThreadRef,
        /// Which, oldest first.
        messages: Vec<MessageId>,
        /// The message by which the customer gets them elsewhere; absent: there is no address for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        told_by: Option<MessageId>,
    },
    /// The customer was asked to go on by another channel; whoever answers there with the token is the same person.
    #[serde(rename = "conversation.switch_offered")]
    ConversationSwitchOffered {
        /// Which.
        conversation: ConversationId,
        /// Names the offer: a fingerprint of its token.
        switch: SmolStr,
        /// The thread that it goes on by.
        thread: ThreadRef,
        /// The address there.
        identity: Identity,
        /// Until when the token counts.
        expires_at: Timestamp,
        /// Who asked; absent: the customer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<AgentId>,
    },
    /// The customer asked for it and was shown how to go on by another channel; whoever writes there with the token is
    /// the same person.
    #[serde(rename = "conversation.switch_shown")]
    ConversationSwitchShown {
        /// Which.
        conversation: ConversationId,
        /// Names the offer: a fingerprint of its token.
        switch: SmolStr,
        /// The account to write to.
        account: Account,
        /// Until when the token counts.
        expires_at: Timestamp,
    },
    /// The customer went on by another channel, with the token.
    #[serde(rename = "conversation.switched")]
    ConversationSwitched {
        /// Which.
        conversation: ConversationId,
        /// The offer, which cannot be used again.
        switch: SmolStr,
        /// The thread that the customer went on by; absent in older records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<ThreadRef>,
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
    /// The program itself told the customer something, as the policy says.
    #[serde(rename = "message.notified")]
    MessageNotified {
        /// In which conversation.
        conversation: ConversationId,
        /// Its id; also the id of the command to the channel.
        message: MessageId,
        /// By which thread it goes.
        thread: ThreadRef,
        /// Its number among the messages of its thread, both ways, from 1 without gaps.
        thread_seq: u64,
        /// The message sent before it on the same thread, which must not be overtaken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<MessageId>,
        /// What was said.
        content: Vec<Part>,
        /// What for: `closed`, `fallback`, `unread` (answers that nobody fetched), `switch`, `switch_asked` (to the address
        /// that a customer typed who wants to go on there), `switch_told` and `switch_refused` (what becomes of that wish).
        notice: SmolStr,
        /// Whose, where the thread is new or the conversation has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<CustomerId>,
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
    /// An operator's command was carried out, or refused. What it brought about lies in the same entry of the journal;
    /// questions are not recorded.
    #[serde(rename = "operator.commanded")]
    OperatorCommanded {
        /// Who, as the tool that sent it says; absent: it does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operator: Option<SmolStr>,
        /// The client's id of the command.
        command: SmolStr,
        /// What was asked for.
        verb: SmolStr,
        /// The conversation that it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversation: Option<ConversationId>,
        /// The customer that it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        customer: Option<CustomerId>,
        /// The agent that it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// The queue that it named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<QueueId>,
        /// Why it was refused; absent: it was done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<RefusalKind>,
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
    AgentNotResponding => "agent.not_responding",
    AgentResponding => "agent.responding",
    AgentOverCapacity => "agent.over_capacity",
    AgentRested => "agent.rested",
    QueueOpened => "queue.opened",
    QueueClosed => "queue.closed",
    CustomerCreated => "customer.created",
    CustomerIdentityLinked => "customer.identity_linked",
    CustomerIdentityVerified => "customer.identity_verified",
    CustomerRenamed => "customer.renamed",
    CustomerIdentityUnlinked => "customer.identity_unlinked",
    CustomerIdentitySeen => "customer.identity_seen",
    CustomerMerged => "customer.merged",
    CustomerSplit => "customer.split",
    CustomerMatchSuggested => "customer.match_suggested",
    CustomerMatchDismissed => "customer.match_dismissed",
    CustomerUpdated => "customer.updated",
    CustomerConsentChanged => "customer.consent_changed",
    CustomerErased => "customer.erased",
    CustomerRested => "customer.rested",
    CustomerRecalled => "customer.recalled",
    CustomerSignalled => "customer.signalled",
    ConversationOpened => "conversation.opened",
    ConversationEnqueued => "conversation.enqueued",
    ConversationAlarmEnded => "conversation.alarm_ended",
    ConversationStepReached => "conversation.step_reached",
    ConversationWaited => "conversation.waited",
    ConversationFellBack => "conversation.fell_back",
    ConversationAlarmRaised => "conversation.alarm_raised",
    ConversationPrioritized => "conversation.prioritized",
    ConversationClassifying => "conversation.classifying",
    ConversationClassified => "conversation.classified",
    ConversationIdled => "conversation.idled",
    ConversationReactivated => "conversation.reactivated",
    ConversationConsultStarted => "conversation.consult_started",
    ConversationConsultEnded => "conversation.consult_ended",
    ConversationMonitorStarted => "conversation.monitor_started",
    ConversationMonitorEnded => "conversation.monitor_ended",
    ConversationTakenBack => "conversation.taken_back",
    ConversationAbandoned => "conversation.abandoned",
    ConversationReopened => "conversation.reopened",
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
    ConversationCallDirected => "conversation.call_directed",
    MessageMirrored => "message.mirrored",
    MessageLeftUnread => "message.left_unread",
    ConversationSwitchOffered => "conversation.switch_offered",
    ConversationSwitchShown => "conversation.switch_shown",
    ConversationSwitched => "conversation.switched",
    MessageAmended => "message.amended",
    MessageSent => "message.sent",
    MessageNotified => "message.notified",
    MessageStatusChanged => "message.status_changed",
    NoteAdded => "note.added",
    InputRejected => "input.rejected",
    OperatorCommanded => "operator.commanded",
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
            | Self::ConversationAlarmEnded { conversation, .. }
            | Self::ConversationStepReached { conversation, .. }
            | Self::ConversationWaited { conversation, .. }
            | Self::ConversationFellBack { conversation, .. }
            | Self::ConversationAlarmRaised { conversation, .. }
            | Self::ConversationPrioritized { conversation, .. }
            | Self::ConversationClassifying { conversation, .. }
            | Self::ConversationClassified { conversation, .. }
            | Self::ConversationIdled { conversation, .. }
            | Self::ConversationReactivated { conversation, .. }
            | Self::ConversationConsultStarted { conversation, .. }
            | Self::ConversationConsultEnded { conversation, .. }
            | Self::ConversationMonitorStarted { conversation, .. }
            | Self::ConversationMonitorEnded { conversation, .. }
            | Self::ConversationTakenBack { conversation, .. }
            | Self::ConversationAbandoned { conversation, .. }
            | Self::ConversationReopened { conversation, .. }
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
            | Self::ConversationCallDirected { conversation, .. }
            | Self::MessageMirrored { conversation, .. }
            | Self::MessageLeftUnread { conversation, .. }
            | Self::ConversationSwitchOffered { conversation, .. }
            | Self::ConversationSwitchShown { conversation, .. }
            | Self::ConversationSwitched { conversation, .. }
            | Self::MessageAmended { conversation, .. }
            | Self::MessageSent { conversation, .. }
            | Self::MessageNotified { conversation, .. }
            | Self::MessageStatusChanged { conversation, .. }
            | Self::NoteAdded { conversation, .. } => Some(*conversation),
            Self::CustomerSignalled { conversation, .. } => *conversation,
            _ => None,
        }
    }

    /// Whether the fact only says where things are kept: the journal holds it, and nobody else is told.
    #[must_use]
    pub const fn is_internal(&self) -> bool {
        matches!(self, Self::CustomerRested { .. } | Self::CustomerRecalled { .. })
    }

    /// The customer that the fact names itself (others follow from the conversation).
    #[must_use]
    pub const fn customer(&self) -> Option<CustomerId> {
        match self {
            Self::CustomerCreated { customer, .. }
            | Self::CustomerIdentityLinked { customer, .. }
            | Self::CustomerIdentityVerified { customer, .. }
            | Self::CustomerRenamed { customer, .. }
            | Self::CustomerIdentityUnlinked { customer, .. }
            | Self::CustomerIdentitySeen { customer, .. }
            | Self::CustomerMerged { customer, .. }
            | Self::CustomerSplit { customer, .. }
            | Self::CustomerMatchSuggested { customer, .. }
            | Self::CustomerMatchDismissed { customer, .. }
            | Self::CustomerUpdated { customer, .. }
            | Self::CustomerConsentChanged { customer, .. }
            | Self::CustomerRested { customer, .. }
            | Self::CustomerRecalled { customer, .. }
            | Self::ConversationReopened { customer, .. }
            | Self::ConversationOpened { customer, .. } => Some(*customer),
            Self::CustomerSignalled { customer, .. }
            | Self::MessageReceived { customer, .. }
            | Self::MessageNotified { customer, .. } => *customer,
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
            | Self::AgentNotResponding { agent, .. }
            | Self::AgentResponding { agent }
            | Self::AgentRested { agent }
            | Self::AgentOverCapacity { agent, .. }
            | Self::ConversationIdled { agent, .. }
            | Self::ConversationReactivated { agent, .. }
            | Self::ConversationConsultStarted { agent, .. }
            | Self::ConversationConsultEnded { agent, .. }
            | Self::ConversationMonitorStarted { agent, .. }
            | Self::ConversationMonitorEnded { agent, .. }
            | Self::ConversationTakenBack { agent, .. }
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
            Self::ConversationCallDirected { order, .. } => order.agent.as_ref(),
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
