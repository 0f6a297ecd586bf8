//! The routing policy: queues, the roster and the rules, as data that operators write and the
//! journal keeps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::id::{AccountId, AgentId, ChannelKind, QueueId, SkillId};
use crate::time::Millis;

/// Level of a skill, 0 (none) to 10.
pub type Level = u8;

/// Everything that routing decides by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The waiting lines.
    #[serde(default)]
    pub queues: BTreeMap<QueueId, Queue>,
    /// The roster.
    #[serde(default)]
    pub agents: BTreeMap<AgentId, Agent>,
    /// What a conversation costs, and how long an offer stands, by channel kind.
    #[serde(default)]
    pub channels: BTreeMap<ChannelKind, Channel>,
    /// Which conversation goes to which queue; the first rule that fits decides.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Where a conversation goes that no rule fits. Absent: the first queue by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue: Option<QueueId>,
    /// Spans of time.
    #[serde(default)]
    pub timing: Timing,
}

/// A waiting line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<SmolStr>,
    /// Skills that every conversation in it requires, with the least level.
    #[serde(default)]
    pub skills: BTreeMap<SkillId, Level>,
    /// Urgency of its conversations; higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// The outcome codes to choose from at the end; empty: any.
    #[serde(default)]
    pub dispositions: BTreeSet<SmolStr>,
    /// After-interaction work; overrides `timing.wrap_up_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrap_up_ms: Option<Millis>,
}

/// One agent of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The name that customers see. Absent: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// The queues that the agent works.
    #[serde(default)]
    pub queues: BTreeSet<QueueId>,
    /// The agent's abilities.
    #[serde(default)]
    pub skills: BTreeMap<SkillId, Level>,
    /// How much the agent can hold, in units that channel weights are counted in.
    #[serde(default = "capacity_default")]
    pub capacity: u32,
}

const fn capacity_default() -> u32 {
    100
}

/// What holds for all conversations of one channel kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What one conversation takes of an agent's capacity.
    #[serde(default = "weight_default")]
    pub capacity_weight: u32,
    /// How long an agent has to answer an offer.
    #[serde(default = "lease_default")]
    pub offer_lease_ms: Millis,
}

const fn weight_default() -> u32 {
    25
}

const fn lease_default() -> Millis {
    Millis::from_secs(30)
}

impl Default for Channel {
    fn default() -> Self {
        Self { capacity_weight: weight_default(), offer_lease_ms: lease_default() }
    }
}

/// A rule: conversations that fit every condition go to the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Only this channel kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelKind>,
    /// Only this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Only this language (ISO 639-1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// Only with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<SmolStr>,
    /// Where to.
    pub queue: QueueId,
    /// Skills required besides the queue's own.
    #[serde(default)]
    pub skills: BTreeMap<SkillId, Level>,
    /// Urgency; overrides the queue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// Spans of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// After this long without a sign of life from an agent's tool, the agent counts as disconnected.
    pub agent_silence_ms: Millis,
    /// How long a disconnected agent keeps its conversations.
    pub agent_grace_ms: Millis,
    /// How long a conversation rests after everybody who could take it was asked.
    pub round_pause_ms: Millis,
    /// After-interaction work; 0: none.
    pub wrap_up_ms: Millis,
    /// How long the ids of provider events are remembered to drop repeats.
    pub repeat_memory_ms: Millis,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            agent_silence_ms: Millis::from_secs(15),
            agent_grace_ms: Millis::from_secs(60),
            round_pause_ms: Millis::from_secs(10),
            wrap_up_ms: Millis(0),
            // WhatsApp redelivers for 7 days.
            repeat_memory_ms: Millis::from_secs(8 * 24 * 3600),
        }
    }
}

impl Policy {
    /// Every reference to a queue that does not exist and every value out of range, each with its
    /// path. An empty list means that the policy can be applied.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.queues.is_empty() {
            problems.push("queues: at least one is needed".to_owned());
        }
        let mut known = |path: String, queue: &QueueId| {
            if !self.queues.contains_key(queue) {
                problems.push(format!("{path}: there is no queue {queue:?}", queue = queue.as_str()));
            }
        };
        if let Some(queue) = &self.default_queue {
            known("default_queue".to_owned(), queue);
        }
        for (n, route) in self.routes.iter().enumerate() {
            known(format!("routes[{n}].queue"), &route.queue);
        }
        for (id, agent) in &self.agents {
            for queue in &agent.queues {
                known(format!("agents.{id}.queues"), queue);
            }
        }
        let levels = self.queues.iter().map(|(id, queue)| (format!("queues.{id}"), &queue.skills));
        let levels = levels.chain(self.agents.iter().map(|(id, agent)| (format!("agents.{id}"), &agent.skills)));
        let levels =
            levels.chain(self.routes.iter().enumerate().map(|(n, route)| (format!("routes[{n}]"), &route.skills)));
        for (path, skills) in levels {
            for (skill, level) in skills {
                if *level > 10 {
                    problems.push(format!("{path}.skills.{skill}: level {level} is above 10"));
                }
            }
        }
        for (kind, channel) in &self.channels {
            if channel.offer_lease_ms < Millis(1000) {
                problems.push(format!("channels.{kind}.offer_lease_ms: less than 1000 leaves nobody time to answer"));
            }
        }
        if self.timing.agent_silence_ms < Millis(1000) {
            problems.push("timing.agent_silence_ms: less than 1000 would lose agents between heartbeats".to_owned());
        }
        problems
    }

    /// The queue for conversations that no rule fits.
    #[must_use]
    pub fn default_queue(&self) -> Option<&QueueId> {
        self.default_queue.as_ref().or_else(|| self.queues.keys().next())
    }

    /// The settings of a channel kind.
    #[must_use]
    pub fn channel(&self, kind: &ChannelKind) -> Channel {
        self.channels.get(kind).cloned().unwrap_or_default()
    }
}
