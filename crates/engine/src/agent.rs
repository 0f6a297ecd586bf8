//! What is known of an agent beyond what the policy says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use contract::command::Done;
use contract::event::Presence;
use contract::{ChannelKind, ConversationId, OfferId, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

/// How many answered commands are remembered per sender, so that a repeat is answered and not done.
const COMMANDS_MAX: usize = 256;
/// How many offers are remembered of each agent, for the rates.
const RECENT_MAX: usize = 1000;

/// An agent's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Whether it takes offers.
    pub presence: Presence,
    /// Its tool is there.
    pub connected: bool,
    /// Until when a disconnected agent keeps its conversations.
    pub grace_until: Option<Timestamp>,
    /// Units in use: offers, and what conversations it holds or keeps take.
    pub load: u32,
    /// Of them, those of interruptible work.
    pub interruptible: u32,
    /// Units that the load may stand above the capacity, since the policy lowered it, a supervisor forced it, or
    /// work that counted less came back; falls with the load.
    pub excess: u32,
    /// The same of the interruptible part.
    pub interruptible_excess: u32,
    /// How many conversations and offers, by channel kind, whatever they weigh.
    pub by_channel: BTreeMap<ChannelKind, u32>,
    /// The same by label.
    pub by_label: BTreeMap<SmolStr, u32>,
    /// The conversations it holds.
    pub holds: BTreeSet<ConversationId>,
    /// The conversations it is handing over.
    pub keeps: BTreeSet<ConversationId>,
    /// The conversations it reads along.
    pub reads: BTreeSet<ConversationId>,
    /// The offers that stand.
    pub offers: BTreeSet<OfferId>,
    /// When it was last given a conversation.
    pub last_assigned_at: Option<Timestamp>,
    /// When a conversation of its last ended.
    pub last_ended_at: Option<Timestamp>,
    /// Since when it is signed in.
    pub signed_in_at: Option<Timestamp>,
    /// Conversations given since then.
    pub handled: u32,
    /// Time that those took that have ended, in milliseconds.
    pub talked_ms: u64,
    /// Until when it is left alone after an offer that came to nothing.
    pub rest_until: Option<Timestamp>,
    /// Until when it has had as many offers as are allowed.
    pub rate_until: Option<Timestamp>,
    /// Until when it counts as not responding.
    pub not_responding_until: Option<Timestamp>,
    /// Offers in a row that it let lapse.
    pub no_answers: u32,
    /// When offers were made to it, as far as a rate depends on it.
    pub recent_offers: VecDeque<Timestamp>,
    /// The newest sequence of its feed.
    pub feed_seq: u64,
    /// The commands it sent lately.
    pub commands: Commands,
    /// Its number in the roster, where it is in that; derived.
    #[serde(skip)]
    pub(crate) no: Option<crate::roster::AgentNo>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            presence: Presence::Offline,
            connected: false,
            grace_until: None,
            load: 0,
            interruptible: 0,
            excess: 0,
            interruptible_excess: 0,
            by_channel: BTreeMap::new(),
            by_label: BTreeMap::new(),
            holds: BTreeSet::new(),
            keeps: BTreeSet::new(),
            reads: BTreeSet::new(),
            offers: BTreeSet::new(),
            last_assigned_at: None,
            last_ended_at: None,
            signed_in_at: None,
            handled: 0,
            talked_ms: 0,
            rest_until: None,
            rate_until: None,
            not_responding_until: None,
            no_answers: 0,
            recent_offers: VecDeque::new(),
            feed_seq: 0,
            commands: Commands::default(),
            no: None,
        }
    }
}

impl Agent {
    /// Whether it is signed in: in any state but offline.
    #[must_use]
    pub fn signed_in(&self) -> bool {
        self.presence != Presence::Offline
    }

    /// Units of work that is not interrupted.
    #[must_use]
    pub const fn primary(&self) -> u32 {
        self.load.saturating_sub(self.interruptible)
    }

    /// Conversations and offers.
    #[must_use]
    pub fn items(&self) -> u32 {
        u32::try_from(self.holds.len() + self.keeps.len() + self.offers.len()).unwrap_or(u32::MAX)
    }

    /// When something is due of it: the end of its grace, of not responding, of its rests.
    pub(crate) fn times(&self) -> [Option<Timestamp>; 3] {
        [self.grace_until, self.not_responding_until, self.rest_until.max(self.rate_until)]
    }

    /// Remembers that an offer was made, as far as rates need it.
    pub(crate) fn offered(&mut self, at: Timestamp) {
        if self.recent_offers.len() == RECENT_MAX {
            self.recent_offers.pop_front();
        }
        self.recent_offers.push_back(at);
    }

    /// Since when it has had nothing new, for those who are preferred the longer they have not.
    #[must_use]
    pub fn idle_since(&self) -> Option<Timestamp> {
        self.last_assigned_at.max(self.last_ended_at)
    }
}

/// The commands of one sender that were done lately, with their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands(VecDeque<(SmolStr, Done)>);

impl Commands {
    /// The answer that was given to `id`.
    #[must_use]
    pub fn answer(&self, id: &str) -> Option<&Done> {
        self.0.iter().rev().find(|(known, _)| known == id).map(|(_, done)| done)
    }

    /// Remembers an answer, and forgets the oldest beyond the bound.
    pub fn remember(&mut self, id: SmolStr, done: Done) {
        if self.0.len() == COMMANDS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, done));
    }
}
