//! Conversations, offers and threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use contract::envelope::{Account, ReceiptStatus, ReplyWindow, Thread, ThreadKind};
use contract::event::{Requirement, Terms, ThreadRef};
use contract::{
    AccountId, AgentId, ChannelKind, ConversationId, CustomerId, MessageId, Millis, OfferId, QueueId, SmolStr,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::contact::Unread;
use crate::rare::Rare;

/// How many outbound messages of a thread are remembered for receipts …
const OUTBOUND_MAX: usize = 128;
/// … and how many of which nothing was said yet: a channel that was held up has that many receipts to come.
const OUTBOUND_UNTOLD_MAX: usize = 512;

/// Where a conversation stands. It is in exactly one phase (R1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// In its queue.
    Waiting {
        /// When everybody may be asked again; absent: somebody has not been asked yet, or nobody was.
        next_round_at: Option<Timestamp>,
    },
    /// In its queue, and proposed to agents.
    Offered {
        /// The offers that stand, each with its agent; the first was made first. More than one only where the
        /// queue rings several.
        offers: Vec<(OfferId, AgentId)>,
    },
    /// With an agent.
    Active {
        /// The agent.
        agent: AgentId,
    },
    /// With an agent, waiting for the customer or a time; takes no capacity.
    Parked {
        /// The agent.
        agent: AgentId,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// Over, with after-interaction work left.
    Wrapping {
        /// The agent.
        agent: AgentId,
        /// When it ends by itself.
        until: Timestamp,
        /// The outcome code chosen so far.
        disposition: Option<SmolStr>,
    },
}

impl Phase {
    /// The agent that holds the conversation or is offered it, first.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Waiting { .. } => None,
            Self::Offered { offers } => offers.first().map(|(_, agent)| agent),
            Self::Active { agent } | Self::Parked { agent, .. } | Self::Wrapping { agent, .. } => Some(agent),
        }
    }

    /// The agent that holds the conversation.
    #[must_use]
    pub const fn holder(&self) -> Option<&AgentId> {
        match self {
            Self::Waiting { .. } | Self::Offered { .. } => None,
            Self::Active { agent } | Self::Parked { agent, .. } | Self::Wrapping { agent, .. } => Some(agent),
        }
    }

    /// Whether it stands in its queue.
    #[must_use]
    pub const fn queued(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Offered { .. })
    }

    /// The name of the phase on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Offered { .. } => "offered",
            Self::Active { .. } => "active",
            Self::Parked { .. } => "parked",
            Self::Wrapping { .. } => "wrapping",
        }
    }
}

/// An open conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Whose.
    pub customer: CustomerId,
    /// The channel kind that it runs on, which says what it costs.
    pub kind: ChannelKind,
    /// Where it stands.
    pub phase: Phase,
    /// The queue that it stands in or came through; set from the first enqueueing on.
    pub queue: Option<QueueId>,
    /// Urgency; higher goes first.
    pub priority: i32,
    /// What it asks of an agent.
    pub requirement: Arc<Requirement>,
    /// The step of it that is in force, from 0.
    pub step: u32,
    /// When that ends.
    pub step_ends_at: Option<Timestamp>,
    /// By what else it is routed, without the times in it, which stand here: many have the same.
    pub terms: Arc<Terms>,
    /// When its service level ends.
    pub due_at: Option<Timestamp>,
    /// How much of its wait was over when it came into its queue.
    pub waited_ms: Millis,
    /// Since when it waits; kept over every re-queueing.
    pub ready_at: Timestamp,
    /// Since when it stands in its queue; the wait before that is in `waited_ms`.
    pub queued_at: Option<Timestamp>,
    /// When it began.
    pub opened_at: Timestamp,
    /// When the customer wrote last.
    pub last_inbound_at: Option<Timestamp>,
    /// When either side wrote last.
    pub last_word_at: Timestamp,
    /// The newest message.
    pub last_message: Option<MessageId>,
    /// The threads it runs on; answers go by the last.
    pub threads: Vec<Arc<ThreadKey>>,
    /// The agents that refused it or let it lapse in this round.
    pub asked: Rare<BTreeSet<AgentId>>,
    /// Counts the rounds, from 1.
    pub round: u32,
    /// How many offers of it were made since it was enqueued.
    pub offers_made: u32,
    /// How many it could be offered to at once when that was last decided.
    pub ring_max: u8,
    /// The agent it is meant for, first.
    pub direct: Option<Box<AgentId>>,
    /// Who hands it over, and answers the customer until somebody has accepted.
    pub keeper: Option<Box<AgentId>>,
    /// Where it was before it was handed over, and what it asked there: for when that is called off.
    pub before: Option<Box<(QueueId, Arc<Requirement>)>>,
    /// It counts less, since the customer has been silent for long.
    pub idle: bool,
    /// What it takes of the capacity of its holder or keeper.
    pub units: u32,
    /// It takes of the interruptible part.
    pub interruptible: bool,
    /// The longest wait, of those on which something depends, that it has reached in its queue.
    pub reached: Millis,
    /// It is being found out what it is about.
    pub classifying: Option<Box<crate::classify::Classifying>>,
    /// The queue's fallback was taken.
    pub fell_back: bool,
    /// The program itself told the customer something, and no agent has come since.
    pub told: bool,
    /// Since when somebody has been told that nobody can take it.
    pub alarmed_at: Option<Timestamp>,
    /// Who reads along: `true` for advice, `false` to supervise.
    pub readers: Rare<BTreeMap<AgentId, bool>>,
    /// With an agent for the first time since.
    pub answered_at: Option<Timestamp>,
}

impl Conversation {
    /// Who answers the customer: the holder, or who is handing it over.
    #[must_use]
    pub fn responsible(&self) -> Option<&AgentId> {
        self.phase.holder().or(self.keeper.as_deref())
    }

    /// After the fallback, the end of the last step has no more meaning.
    pub(crate) fn end_last_step(&mut self) {
        if self.fell_back && self.step as usize + 1 >= self.requirement.steps.len() {
            self.step_ends_at = None;
        }
    }

    /// Whether an agent has it before it: answers the customer, is offered it, or reads along.
    #[must_use]
    pub fn concerns(&self, agent: &AgentId) -> bool {
        let offered = match &self.phase {
            Phase::Offered { offers } => offers.iter().any(|(_, to)| to == agent),
            _ => false,
        };
        offered || self.responsible() == Some(agent) || self.readers.contains_key(agent)
    }

    /// Whether it runs on a thread.
    #[must_use]
    pub fn runs_on(&self, key: &ThreadKey) -> bool {
        self.threads.iter().any(|known| **known == *key)
    }

    /// The step that is in force.
    #[must_use]
    pub fn step(&self) -> &contract::policy::Step {
        static ANYBODY: std::sync::LazyLock<contract::policy::Step> = std::sync::LazyLock::new(Default::default);
        self.requirement.step(self.step as usize).unwrap_or(&ANYBODY)
    }
}

/// A conversation that has ended, as far as the next one of the customer depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Which.
    pub conversation: ConversationId,
    /// Who had it last.
    pub agent: Option<AgentId>,
    /// Who had the customer last, in this conversation or one before it, and until when.
    pub known_to: Option<(AgentId, Timestamp)>,
    /// Where.
    pub queue: Option<QueueId>,
    /// On which channel.
    pub kind: ChannelKind,
    /// When it ended.
    pub closed_at: Timestamp,
    /// Its threads.
    pub threads: Vec<Arc<ThreadKey>>,
    /// When it began.
    pub opened_at: Timestamp,
}

impl Past {
    /// Whether it ran on a thread.
    #[must_use]
    pub fn ran_on(&self, key: &ThreadKey) -> bool {
        self.threads.iter().any(|known| **known == *key)
    }
}

/// A proposal of a conversation to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Of what.
    pub conversation: ConversationId,
    /// To whom.
    pub agent: AgentId,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// Names a thread within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ThreadKey {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The account.
    pub account: AccountId,
    /// The thread on it.
    pub key: SmolStr,
}

impl ThreadKey {
    /// The key of a thread on an account.
    #[must_use]
    pub fn new(account: &Account, key: &SmolStr) -> Self {
        Self { kind: account.kind.clone(), account: account.id.clone(), key: key.clone() }
    }
}

/// What is known of a thread; outlives its conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadState {
    /// The account, as it last came.
    pub account: Arc<Account>,
    /// What only some threads have.
    pub extra: Option<Box<Extra>>,
    /// Whose thread.
    pub customer: CustomerId,
    /// The newest number among its messages.
    pub seq: u64,
    /// The newest message that was sent on it.
    pub last_sent: Option<MessageId>,
    /// What was sent on it lately, oldest first.
    pub outbound: Rare<VecDeque<Outbound>>,
}

/// What only some threads have: most have nothing of it, so that it takes no more than a pointer then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The thread, as it last came, where there is more to it than its key.
    pub thread: Option<Thread>,
    /// When the provider stops taking free answers.
    pub window_until: Option<Timestamp>,
    /// The provider takes templates all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub templates: bool,
    /// Answers that lie on it unread.
    pub unread: Unread,
    /// Different customers have written on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// The phone call that it is.
    #[serde(default)]
    pub call: Option<Box<crate::call::LiveCall>>,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbound {
    /// Which.
    pub message: MessageId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Its number in the thread.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The best that is known of it.
    pub status: Option<ReceiptStatus>,
    /// The provider's ids of it.
    pub external_ids: Vec<SmolStr>,
}

impl ThreadState {
    /// The account and thread, as they last came.
    #[must_use]
    pub fn reference(&self, key: &ThreadKey) -> ThreadRef {
        let thread = self.extra.as_ref().and_then(|extra| extra.thread.clone()).unwrap_or_else(|| plain(&key.key));
        ThreadRef { account: (*self.account).clone(), thread }
    }

    /// When the provider stops taking free answers; absent: never.
    #[must_use]
    pub fn window_until(&self) -> Option<Timestamp> {
        self.extra.as_ref().and_then(|extra| extra.window_until)
    }

    /// Whether the provider takes templates, also when free answers have ended.
    #[must_use]
    pub fn takes_templates(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.templates)
    }

    /// Answers that lie on it unread.
    #[must_use]
    pub fn unread(&self) -> Option<&Unread> {
        self.extra.as_ref().map(|extra| &extra.unread)
    }

    /// When they go by another way.
    pub(crate) fn unread_due(&self) -> Option<Timestamp> {
        self.unread().filter(|unread| !unread.answers.is_empty()).map(|unread| unread.due_at)
    }

    /// Takes over how a thread came: what there is to it besides its key, and how long it can be answered.
    pub(crate) fn came(&mut self, thread: &Thread, window: Option<&ReplyWindow>) {
        let more = (*thread != plain(&thread.key)).then(|| thread.clone());
        let window_until = window.and_then(|window| window.open_until);
        let templates = window.map(|window| window.templates);
        if more.is_none() && window_until.is_none() && templates != Some(true) && self.extra.is_none() {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        extra.thread = more;
        // A message that does not say how long it can be answered leaves what an earlier one said.
        extra.window_until = window_until.or(extra.window_until);
        extra.templates = templates.unwrap_or(extra.templates);
    }

    /// Remembers what was sent, and forgets the oldest beyond the bound.
    pub(crate) fn remember(&mut self, sent: Outbound) {
        self.last_sent = Some(sent.message);
        self.outbound.change(|outbound| keep(outbound, sent));
    }
}

/// Remembers one more. Those of which something was said make room first, the oldest before the others.
fn keep(outbound: &mut VecDeque<Outbound>, sent: Outbound) {
    while outbound.len() >= OUTBOUND_MAX
        && let Some(told) = outbound.iter().position(|sent| sent.status.is_some())
    {
        outbound.remove(told);
    }
    if outbound.len() >= OUTBOUND_UNTOLD_MAX {
        outbound.pop_front();
    }
    outbound.push_back(sent);
}

/// A thread of which nothing is known but its key.
fn plain(key: &SmolStr) -> Thread {
    Thread {
        key: key.clone(),
        kind: ThreadKind::default(),
        external_id: None,
        sub_id: None,
        subject: None,
        reply_target: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(n: u64, status: Option<ReceiptStatus>) -> Outbound {
        let (message, conversation) = (MessageId(n), ConversationId(1));
        Outbound { message, conversation, seq: n, at: Timestamp(n), status, external_ids: Vec::new() }
    }

    #[test]
    fn what_nothing_was_said_of_is_remembered_longer() {
        let mut outbound = VecDeque::new();
        for n in 0..500 {
            // Of the first one nothing is ever said.
            keep(&mut outbound, sent(n, (n > 0).then_some(ReceiptStatus::Sent)));
            assert!(outbound.len() <= OUTBOUND_MAX);
        }
        let known: Vec<u64> = outbound.iter().map(|sent| sent.message.0).collect();
        assert_eq!(known.first(), Some(&0));
        assert_eq!(known[1..], (373..500).collect::<Vec<_>>());
        // A channel that is held up: as many as are bearable.
        for n in 500..2_000 {
            keep(&mut outbound, sent(n, None));
        }
        let known: Vec<u64> = outbound.iter().map(|sent| sent.message.0).collect();
        assert_eq!(known, (2_000 - OUTBOUND_UNTOLD_MAX as u64..2_000).collect::<Vec<_>>());
    }
}
