//! What is known of an agent beyond what the policy says.

use std::collections::{BTreeSet, VecDeque};

use contract::command::Done;
use contract::event::Presence;
use contract::{ConversationId, OfferId, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

/// How many answered commands are remembered per sender, so that a repeat is answered and not done.
const COMMANDS_MAX: usize = 256;

/// An agent's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Whether it takes offers.
    pub presence: Presence,
    /// Its tool is there.
    pub connected: bool,
    /// Until when a disconnected agent keeps its conversations.
    pub grace_until: Option<Timestamp>,
    /// Units in use: offers, active and wrapping conversations.
    pub load: u32,
    /// Units that the load may stand above the capacity, since the policy lowered it; falls with the load.
    pub excess: u32,
    /// The conversations it holds.
    pub holds: BTreeSet<ConversationId>,
    /// The offers that stand.
    pub offers: BTreeSet<OfferId>,
    /// When it was last given a conversation.
    pub last_assigned_at: Option<Timestamp>,
    /// The newest sequence of its feed.
    pub feed_seq: u64,
    /// The commands it sent lately.
    pub commands: Commands,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            presence: Presence::Offline,
            connected: false,
            grace_until: None,
            load: 0,
            excess: 0,
            holds: BTreeSet::new(),
            offers: BTreeSet::new(),
            last_assigned_at: None,
            feed_seq: 0,
            commands: Commands::default(),
        }
    }
}

impl Agent {
    /// Whether offers may be made at all.
    #[must_use]
    pub fn takes_offers(&self) -> bool {
        self.connected && self.presence == Presence::Available
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
