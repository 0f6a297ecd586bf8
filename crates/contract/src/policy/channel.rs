//! What holds for all conversations of one channel kind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::is_default;
use crate::id::ChannelKind;
use crate::time::Millis;

/// What holds for all conversations of one channel kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Channel {
    /// What one conversation takes of an agent's capacity. Absent: 25; of voice 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_weight: Option<u32>,
    /// The same, by the class that a rule gave the conversation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub class_weights: BTreeMap<SmolStr, u32>,
    /// How long an agent has to answer an offer. Absent: 30 s for chat, 20 s for voice, 120 s for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_lease_ms: Option<Millis>,
    /// Most conversations of this kind that one agent holds, whatever they weigh. Absent: no bound but the
    /// capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<u32>,
    /// Which part of the agent's capacity it takes.
    #[serde(skip_serializing_if = "is_default")]
    pub pool: CapacityPool,
    /// Who holds one of this kind is not offered conversations of these kinds.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub blocks: BTreeSet<ChannelKind>,
    /// Agents with `auto_accept` are not asked.
    #[serde(skip_serializing_if = "is_default")]
    pub auto_accept: bool,
    /// After so long without a word from the customer a conversation takes only `idle_percent` of its
    /// weight. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_after_ms: Option<Millis>,
    /// Part of its weight that an idle conversation takes.
    pub idle_percent: u8,
    /// Part of its weight that a parked conversation takes.
    pub parked_percent: u8,
    /// Part of its weight that a conversation takes while it is wrapped up.
    pub wrap_up_percent: u8,
    /// After so long without a word from either side it is parked. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub park_after_ms: Option<Millis>,
    /// After so long without a word from either side it is closed. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_after_ms: Option<Millis>,
    /// What happens when a customer writes after the end.
    #[serde(skip_serializing_if = "is_default")]
    pub reopen: Reopen,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            capacity_weight: None,
            class_weights: BTreeMap::new(),
            offer_lease_ms: None,
            cap: None,
            pool: CapacityPool::Primary,
            blocks: BTreeSet::new(),
            auto_accept: false,
            idle_after_ms: None,
            idle_percent: 100,
            parked_percent: 0,
            wrap_up_percent: 100,
            park_after_ms: None,
            close_after_ms: None,
            reopen: Reopen::default(),
        }
    }
}

impl Channel {
    /// What a conversation of this kind and class takes of an agent's capacity.
    #[must_use]
    pub fn weight(&self, kind: &ChannelKind, class: Option<&str>) -> u32 {
        let of_class = class.and_then(|class| self.class_weights.get(class)).copied();
        of_class.or(self.capacity_weight).unwrap_or(if kind.as_str() == "voice" { 100 } else { 25 })
    }

    /// How long an agent has to answer an offer: whoever chats waits now, whoever calls waits with a phone in
    /// hand.
    #[must_use]
    pub fn lease(&self, kind: &ChannelKind) -> Millis {
        self.offer_lease_ms.unwrap_or_else(|| {
            Millis::from_secs(match kind.as_str() {
                "chat" => 30,
                "voice" => 20,
                _ => 120,
            })
        })
    }
}

/// A part of an agent's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CapacityPool {
    /// Work that is not interrupted.
    #[default]
    Primary,
    /// Work that primary work may interrupt: offered only while the primary part is not full.
    Interruptible,
}

/// What happens when a customer writes after the end of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reopen {
    /// A new conversation begins.
    #[default]
    Never,
    /// The old one goes on, however long ago it ended.
    Always,
    /// The old one goes on when it ended no longer ago than this.
    WithinMs(Millis),
}
