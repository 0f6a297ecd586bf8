//! Which conversation goes where.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Level, Want, is_default};
use crate::id::{AccountId, AgentId, ChannelKind, QueueId, SkillId};
use crate::time::Millis;

/// A rule: conversations that fit every condition go to the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// What explanations call it. Absent: its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// A condition in CEL. The variables: `channel`, `account`, `language`, `segment`, `intent`, `text`
    /// (strings, empty when unknown), `tags` (list of strings), `customer` (map of attributes), `verified`
    /// (the sender's identity is proven), `now_open` (map from the names of opening hours to whether they are
    /// open). The functions: those of CEL, and `keyword(word, …)`: one of the words stands in the text,
    /// whatever its case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<SmolStr>,
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
    /// Skills wanted besides the queue's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wants: BTreeMap<SkillId, Want>,
    /// Urgency; overrides the queue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Served as if it had come so much earlier; negative: later. Added to the queue's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adjust_s: i32,
    /// Class, for the channel's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<SmolStr>,
    /// Labels, for the agents' caps.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<SmolStr>,
    /// The agent who owns such conversations, first of all by affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<AgentId>,
}

/// A program that is asked what a conversation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Classifier {
    /// How long its answer is awaited, 50 to 5,000.
    pub budget_ms: Millis,
    /// Only for these channel kinds; empty: all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub channels: BTreeSet<ChannelKind>,
}

impl Default for Classifier {
    fn default() -> Self {
        Self { budget_ms: Millis(300), channels: BTreeSet::new() }
    }
}
