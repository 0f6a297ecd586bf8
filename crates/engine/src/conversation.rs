//! Conversations, offers and threads.

use std::collections::{BTreeSet, VecDeque};

use contract::envelope::{Account, ReceiptStatus};
use contract::event::{Requirement, ThreadRef};
use contract::{
    AccountId, AgentId, ChannelKind, ConversationId, CustomerId, MessageId, Millis, OfferId, QueueId, SmolStr,
    Timestamp,
};
use serde::{Deserialize, Serialize};

/// How many outbound messages of a thread are remembered for receipts.
const OUTBOUND_MAX: usize = 128;

/// Where a conversation stands. It is in exactly one phase (R1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// In its queue.
    Waiting {
        /// When everybody may be asked again; absent: somebody has not been asked yet, or nobody was.
        next_round_at: Option<Timestamp>,
    },
    /// In its queue, and proposed to an agent.
    Offered {
        /// The offer.
        offer: OfferId,
        /// The agent.
        agent: AgentId,
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
    /// The agent that holds the conversation or is offered it.
    #[must_use]
    pub const fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Waiting { .. } => None,
            Self::Offered { agent, .. }
            | Self::Active { agent }
            | Self::Parked { agent, .. }
            | Self::Wrapping { agent, .. } => Some(agent),
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

    /// Whether it takes of its agent's capacity.
    #[must_use]
    pub const fn takes_capacity(&self) -> bool {
        matches!(self, Self::Offered { .. } | Self::Active { .. } | Self::Wrapping { .. })
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
    /// Where it stands.
    pub phase: Phase,
    /// The queue that it stands in or came through; set from the first enqueueing on.
    pub queue: Option<QueueId>,
    /// Urgency; higher goes first.
    pub priority: i32,
    /// What it asks of an agent.
    pub requirement: Requirement,
    /// What it takes of an agent's capacity.
    pub weight: u32,
    /// How long an offer of it stands.
    pub lease: Millis,
    /// Since when it waits; kept over every re-queueing.
    pub ready_at: Timestamp,
    /// When it began.
    pub opened_at: Timestamp,
    /// When the customer wrote last.
    pub last_inbound_at: Option<Timestamp>,
    /// The newest message.
    pub last_message: Option<MessageId>,
    /// The threads it runs on; answers go by the last.
    pub threads: Vec<ThreadKey>,
    /// The agents that refused it or let it lapse in this round.
    pub asked: BTreeSet<AgentId>,
    /// Counts the rounds, from 1.
    pub round: u32,
    /// The agent it is meant for, first.
    pub direct: Option<AgentId>,
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
    /// The account and thread, as they last came.
    pub reference: ThreadRef,
    /// Whose thread.
    pub customer: CustomerId,
    /// The newest number among its messages.
    pub seq: u64,
    /// The newest message that was sent on it.
    pub last_sent: Option<MessageId>,
    /// What was sent on it lately, oldest first.
    pub outbound: VecDeque<Outbound>,
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
    /// Remembers what was sent, and forgets the oldest beyond the bound.
    pub(crate) fn remember(&mut self, sent: Outbound) {
        if self.outbound.len() == OUTBOUND_MAX {
            self.outbound.pop_front();
        }
        self.last_sent = Some(sent.message);
        self.outbound.push_back(sent);
    }
}
