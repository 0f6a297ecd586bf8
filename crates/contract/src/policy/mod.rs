//! The routing policy: queues, the roster and the rules, as data that operators write and the
//! journal keeps.
//!
//! Everything has a default, so that a policy of one queue and one agent works. What each field means to
//! an operator, with an example, stands in `config/policy/`; the semantics in the crate `engine`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::id::{AgentId, ChannelKind, QueueId, SkillId};
use crate::time::Millis;

mod agent;
mod channel;
mod contact;
mod hours;
mod identity;
mod problems;
mod queue;
mod requirement;
mod route;

pub use agent::{Agent, Caps, Membership, MembershipTable, Memberships, PresenceSpec, Takes};
pub use channel::{CapacityPool, Channel, Reopen};
pub use contact::{Contact, ContactAccount, Continuity, SwitchWay};
pub use hours::{Calendar, Holiday, Week};
pub use identity::Identities;
pub use problems::Problem;
pub use queue::{
    Affinity, AffinityMode, Closed, ClosedAction, Fallback, FallbackAction, Limits, Order, Overflow, Queue,
    ServiceLevel, ServiceLevelFormula, Strategy, TransferRules,
};
pub use requirement::{AttributeTest, Expr, Pool, Preference, Requirement, SkillTest, Step, Value, Want};
pub use route::{Classifier, Route};

/// Level of a skill, 0 (none) to 10.
pub type Level = u8;

/// The highest level of a skill.
pub const LEVEL_MAX: Level = 10;
/// Most steps that a requirement can have.
pub const STEPS_MAX: usize = 8;

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
    /// What a conversation costs, how long an offer stands, when it is reopened, by channel kind.
    #[serde(default)]
    pub channels: BTreeMap<ChannelKind, Channel>,
    /// Which conversation goes to which queue; the first rule that fits decides.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Where a conversation goes that no rule fits. Absent: the first queue by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue: Option<QueueId>,
    /// The skills that there are, with what people call them. A skill that is neither named here nor had by
    /// anybody on the roster is refused wherever it is asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skills: BTreeMap<SkillId, SmolStr>,
    /// Opening hours, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hours: BTreeMap<SmolStr, Calendar>,
    /// Presence states: those of the program (`available`, `busy`, `away`, `offline`), where they should be
    /// other than they are, and more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub presences: BTreeMap<SmolStr, PresenceSpec>,
    /// Asks a program of yours what a conversation is about, before the rules decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<Classifier>,
    /// What makes two addresses the same.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: Identities,
    /// How a customer is reached, over all channels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub contact: Contact,
    /// Asks a program of yours who a customer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
    /// Offers: how often, how long somebody is left alone after one.
    #[serde(default)]
    pub offers: Offers,
    /// Spans of time.
    #[serde(default)]
    pub timing: Timing,
}

/// Asks a program of the company's who a customer is (a CRM), by NATS request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Lookup {
    /// How long it may take.
    pub budget_ms: Millis,
    /// How long an answer, or that there was none, is believed.
    pub cache_ms: Millis,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { budget_ms: Millis(1000), cache_ms: Millis::from_secs(3600) }
    }
}

/// Offers: how often, and how long somebody is left alone after one that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Offers {
    /// After an agent declined: no offer for so long.
    pub rest_after_decline_ms: Millis,
    /// After an agent declined with the reason `busy`.
    pub rest_after_busy_ms: Millis,
    /// After an agent let an offer lapse.
    pub rest_after_no_answer_ms: Millis,
    /// After an agent's tool said that the device cannot be reached (a decline with the reason `unreachable`).
    pub rest_after_unreachable_ms: Millis,
    /// After so many offers in a row without an answer the agent counts as not responding; 0: never.
    pub no_answer_max: u32,
    /// How long that lasts, unless the agent does something before.
    pub not_responding_ms: Millis,
    /// After so many offers of one conversation its step's fallback is taken; 0: never.
    pub conversation_max: u32,
    /// Most offers to one agent in `agent_window_ms`; 0: no bound.
    pub agent_max: u32,
    /// See `agent_max`.
    pub agent_window_ms: Millis,
    /// After an agent came back from offline, so long at most `ramp_max` offers in each `ramp_every_ms`.
    /// 0: no ramp.
    pub ramp_ms: Millis,
    /// See `ramp_ms`.
    pub ramp_max: u32,
    /// See `ramp_ms`.
    pub ramp_every_ms: Millis,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            rest_after_decline_ms: Millis(0),
            rest_after_busy_ms: Millis::from_secs(30),
            rest_after_no_answer_ms: Millis(0),
            rest_after_unreachable_ms: Millis::from_secs(60),
            no_answer_max: 2,
            not_responding_ms: Millis::from_secs(300),
            conversation_max: 0,
            agent_max: 0,
            agent_window_ms: Millis::from_secs(3600),
            ramp_ms: Millis(0),
            ramp_max: 2,
            ramp_every_ms: Millis::from_secs(60),
        }
    }
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
    /// The queue for conversations that no rule fits.
    #[must_use]
    pub fn default_queue(&self) -> Option<&QueueId> {
        self.default_queue.as_ref().or_else(|| self.queues.keys().next())
    }

    /// The settings of a channel kind.
    #[must_use]
    pub fn channel(&self, kind: &ChannelKind) -> &Channel {
        static OTHERS: LazyLock<Channel> = LazyLock::new(Channel::default);
        self.channels.get(kind).unwrap_or(&OTHERS)
    }

    /// What a presence state means.
    #[must_use]
    pub fn presence(&self, name: &str) -> Option<&PresenceSpec> {
        self.presences.get(name).or_else(|| PresenceSpec::built_in(name))
    }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
