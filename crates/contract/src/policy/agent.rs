//! The roster and the presence states.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Level, Value, is_default};
use crate::id::{ChannelKind, QueueId, SkillId};

/// One agent of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The name that customers see. Absent: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// The queues that the agent works: a list of names, or a table with how.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Written"))]
    pub queues: Memberships,
    /// The groups that the agent is of, for steps that ask a group.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<SmolStr>,
    /// The agent's abilities.
    #[serde(default)]
    pub skills: BTreeMap<SkillId, Level>,
    /// Whatever else rules ask for: site, seniority, clearance.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<SmolStr, Value>,
    /// How much the agent can hold, in units that channel weights are counted in.
    #[serde(default = "capacity_default")]
    pub capacity: u32,
    /// How much of interruptible work. Absent: as `capacity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interruptible_capacity: Option<u32>,
    /// How many of what at most, whatever they weigh.
    #[serde(default, skip_serializing_if = "is_default")]
    pub caps: Caps,
    /// Place in a queue with the strategy `top_down`: smaller first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub position: u32,
    /// Takes offers of the channels that are accepted automatically without being asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto_accept: bool,
    /// May force, monitor and hand on what others hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub supervisor: bool,
    /// Where the agent is called: a number (`+49301234567`) or a SIP address (`sip:anna@example.com`). Absent: calls
    /// are not connected; the agent's tool must take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<SmolStr>,
}

const fn capacity_default() -> u32 {
    100
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            name: None,
            queues: Memberships::default(),
            groups: BTreeSet::new(),
            skills: BTreeMap::new(),
            attributes: BTreeMap::new(),
            capacity: capacity_default(),
            interruptible_capacity: None,
            caps: Caps::default(),
            position: 0,
            auto_accept: false,
            supervisor: false,
            phone: None,
        }
    }
}

/// The queues that an agent works.
pub type Memberships = MembershipTable;

/// The queues that an agent works, each with how. Written as a table, or as a list of names where nothing
/// else is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct MembershipTable(pub BTreeMap<QueueId, Membership>);

/// The queues that an agent works, as they are written.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged, rename = "Memberships")]
#[expect(dead_code, reason = "only says what may be written")]
enum Written {
    /// Names, where nothing else is to be said.
    List(Vec<QueueId>),
    /// Each with how.
    Table(MembershipTable),
}

impl std::ops::Deref for MembershipTable {
    type Target = BTreeMap<QueueId, Membership>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<QueueId> for MembershipTable {
    fn from_iter<I: IntoIterator<Item = QueueId>>(queues: I) -> Self {
        Self(queues.into_iter().map(|queue| (queue, Membership::default())).collect())
    }
}

impl<'de> Deserialize<'de> for MembershipTable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = MembershipTable;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of queues, or a table of queues")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut table = BTreeMap::new();
                while let Some(queue) = list.next_element::<QueueId>()? {
                    table.insert(queue, Membership::default());
                }
                Ok(MembershipTable(table))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut table = BTreeMap::new();
                while let Some((queue, membership)) = map.next_entry()? {
                    table.insert(queue, membership);
                }
                Ok(MembershipTable(table))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// How an agent works a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Membership {
    /// Ring of the membership: all of a lower tier who can take a conversation go before those of a higher.
    #[serde(skip_serializing_if = "is_one")]
    pub tier: u8,
    /// Among the queues of the agent: 1 to 99, smaller first.
    #[serde(skip_serializing_if = "is_one")]
    pub rank: u8,
    /// The agent is asked only for conversations that have waited so many seconds; 0 to 9,999.
    #[serde(skip_serializing_if = "is_default")]
    pub delay_s: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_one(n: &u8) -> bool {
    *n == 1
}

impl Default for Membership {
    fn default() -> Self {
        Self { tier: 1, rank: 1, delay_s: 0 }
    }
}

/// How many of what an agent holds at most, whatever they weigh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// By channel kind. Overrides the channel's own.
    pub channels: BTreeMap<ChannelKind, u32>,
    /// By label.
    pub labels: BTreeMap<SmolStr, u32>,
}

/// What a presence state means.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PresenceSpec {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<SmolStr>,
    /// What is offered in it.
    pub takes: Takes,
    /// The reason codes to choose from; empty: any, or none.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub reasons: BTreeSet<SmolStr>,
    /// What the agent holds is offered to others when it enters the state.
    #[serde(skip_serializing_if = "is_default")]
    pub gives_up: bool,
}

/// What is offered in a presence state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything.
    Everything,
    /// Conversations of these channel kinds.
    Channels(BTreeSet<ChannelKind>),
}

impl Takes {
    /// Whether conversations of a channel kind are offered.
    #[must_use]
    pub fn channel(&self, kind: &ChannelKind) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Channels(kinds) => kinds.contains(kind),
        }
    }
}

impl PresenceSpec {
    /// The states that there are without any policy.
    #[must_use]
    pub fn built_in(name: &str) -> Option<&'static Self> {
        const fn spec(takes: Takes, gives_up: bool) -> PresenceSpec {
            PresenceSpec { title: None, takes, reasons: BTreeSet::new(), gives_up }
        }
        static AVAILABLE: PresenceSpec = spec(Takes::Everything, false);
        static AWAY: PresenceSpec = spec(Takes::Nothing, false);
        static OFFLINE: PresenceSpec = spec(Takes::Nothing, true);
        match name {
            "available" => Some(&AVAILABLE),
            "busy" | "away" => Some(&AWAY),
            "offline" => Some(&OFFLINE),
            _ => None,
        }
    }
}
