//! The waiting lines.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Level, Step, Want, is_default};
use crate::id::{QueueId, SkillId};
use crate::time::Millis;

/// A waiting line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<SmolStr>,
    /// Which messages of a customer join a conversation of it that is open.
    #[serde(skip_serializing_if = "is_default")]
    pub continuity: super::Continuity,
    /// Skills that every conversation in it requires, with the least level.
    pub skills: BTreeMap<SkillId, Level>,
    /// Skills that are wanted: required for a while, or preferred.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub wants: BTreeMap<SkillId, Want>,
    /// The skill `lang:` and the language of the conversation, when that is known, is wanted so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Want>,
    /// The requirement step by step, where the above does not say it. `skills`, `wants` and `language` are
    /// required besides in each step that they reach into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What happens when the last step has ended, or `offers.conversation_max` is reached.
    #[serde(skip_serializing_if = "is_default")]
    pub fallback: Fallback,
    /// Urgency of its conversations; higher goes first.
    pub priority: i32,
    /// Its conversations are served as if they had come so much earlier; negative: later.
    #[serde(skip_serializing_if = "is_default")]
    pub adjust_s: i32,
    /// Which conversation goes first.
    #[serde(skip_serializing_if = "is_default")]
    pub order: Order,
    /// How much a point of priority is worth in waiting, where the order is `aged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_ms: Option<Millis>,
    /// How much nearing the service level's end moves a conversation forward, where the order is `aged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<Millis>,
    /// Conversations whose service level ends within its window go before all others.
    #[serde(skip_serializing_if = "is_default")]
    pub due_first: bool,
    /// Which agent gets it, among those who can take it and fit equally well.
    #[serde(skip_serializing_if = "is_default")]
    pub strategy: Strategy,
    /// Agents with higher levels of the required skills go before those with lower, whatever the strategy
    /// says. Absent: no.
    #[serde(skip_serializing_if = "is_default")]
    pub best_skilled: bool,
    /// Who knew the customer before.
    #[serde(skip_serializing_if = "is_default")]
    pub affinity: Affinity,
    /// How many agents are offered a conversation at once; the first to accept gets it. 0 and 1: one.
    #[serde(skip_serializing_if = "is_default")]
    pub ring: u8,
    /// The service level that is promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_level: Option<ServiceLevel>,
    /// Its opening hours. Absent: always open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<SmolStr>,
    /// What happens to conversations that come while it is closed.
    #[serde(skip_serializing_if = "is_default")]
    pub closed: Closed,
    /// How many and how long at most.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// Where its conversations go when it is too busy; the first that applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overflow: Vec<Overflow>,
    /// Conversations that were ready longer ago than this when an agent could have had them go to the queue
    /// `stale_queue` instead, for somebody to look through. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after_ms: Option<Millis>,
    /// See `stale_after_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_queue: Option<QueueId>,
    /// Who may hand what to it.
    #[serde(skip_serializing_if = "is_default")]
    pub transfer: TransferRules,
    /// The outcome codes to choose from at the end; empty: any.
    pub dispositions: BTreeSet<SmolStr>,
    /// A conversation cannot be closed without an outcome code.
    #[serde(skip_serializing_if = "is_default")]
    pub disposition_required: bool,
    /// After-interaction work; overrides `timing.wrap_up_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrap_up_ms: Option<Millis>,
}

/// What happens when nobody could be found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// What.
    pub action: FallbackAction,
    /// Where to, for `overflow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
    /// What the customer is told, for `message`; with any other action, besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<SmolStr>,
}

/// What happens when nobody could be found. It is never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FallbackAction {
    /// It goes on waiting in its last step, and an alarm is raised.
    #[default]
    Hold,
    /// Anybody of the queue, whatever their skills.
    AnyInQueue,
    /// To another queue.
    Overflow,
    /// It waits on, and the channel is told that the customer should be called back.
    Callback,
    /// It waits on, and the customer is told so.
    Message,
}

/// Which conversation goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Who has waited longest, a point of priority counting as a minute: nobody is passed for ever.
    #[default]
    Aged,
    /// The highest priority first, whatever the others wait.
    Strict,
}

/// Which agent gets a conversation, among those who fit equally well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The smallest part of the capacity in use.
    #[default]
    LeastLoaded,
    /// The fewest conversations.
    LeastActive,
    /// The longest time since the last conversation was given or ended.
    LongestIdle,
    /// The longest time since the last conversation was given.
    RoundRobin,
    /// The fewest conversations given since the agent signed in.
    FewestHandled,
    /// The least time with conversations since the agent signed in.
    LeastTalk,
    /// The most capacity in use, to keep others wholly free.
    FullLoad,
    /// By the agents' `position`.
    TopDown,
}

/// Who knew the customer before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Affinity {
    /// How much that counts.
    pub mode: AffinityMode,
    /// How long they are waited for, where the mode is `wait`.
    pub wait_ms: Millis,
    /// How long it is remembered who it was.
    pub window_ms: Millis,
    /// They are waited for even while they are offline.
    pub while_offline: bool,
    /// Also who does not work the queue.
    pub any_agent: bool,
}

impl Default for Affinity {
    fn default() -> Self {
        Self {
            mode: AffinityMode::Prefer,
            wait_ms: Millis::from_secs(60),
            window_ms: Millis::from_secs(72 * 3600),
            while_offline: false,
            any_agent: false,
        }
    }
}

/// How much it counts that an agent knew the customer before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AffinityMode {
    /// Not at all.
    None,
    /// They go before all others who can take it.
    #[default]
    Prefer,
    /// They are waited for, for a while.
    Wait,
    /// Nobody else.
    Only,
}

/// A promise how soon customers are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceLevel {
    /// A conversation should be with an agent within this.
    pub answer_within_ms: Millis,
    /// How many of a hundred should be.
    #[serde(default = "target_default")]
    pub target_percent: u8,
    /// How long before its end a conversation begins to move forward. Absent: `answer_within_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<Millis>,
    /// How it is counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub formula: ServiceLevelFormula,
    /// Who leaves sooner than this is not counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub short_abandon_ms: Millis,
}

const fn target_default() -> u8 {
    80
}

/// How a service level is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceLevelFormula {
    /// Answered in time, of those answered.
    OfAnswered,
    /// Answered in time, of those answered and abandoned.
    #[default]
    OfOffered,
    /// Answered or abandoned in time, of those answered and abandoned.
    AbandonedInTimeCounts,
}

/// What happens to conversations that come while the queue is closed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Closed {
    /// What.
    pub action: ClosedAction,
    /// Where to, for `overflow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
    /// What the customer is told. `{opens}` stands for the time at which the queue opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<SmolStr>,
}

/// What happens to conversations that come while the queue is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClosedAction {
    /// They wait until it opens; the time is not counted.
    #[default]
    Hold,
    /// They go to another queue.
    Overflow,
    /// They are closed, once the customer is told.
    Refuse,
}

/// How many and how long at most.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most that wait; what comes beyond goes the way of `overflow`, or waits in spite of it with an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_max: Option<u32>,
    /// Longest wait; what waits longer takes the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_max_ms: Option<Millis>,
    /// Longest wait while nobody who could ever take it is signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_without_agents_max_ms: Option<Millis>,
    /// Most that wait for one certain agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_max: Option<u32>,
    /// How long a conversation waits for the one agent it was handed to, before others are asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_wait_ms: Option<Millis>,
}

/// Where conversations go when a queue is too busy. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Overflow {
    /// Where to.
    pub queue: QueueId,
    /// Only after so much of the wait.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after_ms: Millis,
    /// The expected wait is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_wait_over_ms: Option<Millis>,
    /// The service level over the last hour is lower, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_level_below: Option<u8>,
    /// So many agents of the other queue have room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_agents_min: Option<u32>,
    /// The queue holds its `waiting_max`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_full: bool,
}

/// Who may hand what to a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TransferRules {
    /// Nothing can be handed to it.
    #[serde(skip_serializing_if = "is_default")]
    pub refuse: bool,
    /// Only from these queues; empty: from all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub from: BTreeSet<QueueId>,
    /// What comes by transfer waits from then on, not since the customer came.
    #[serde(skip_serializing_if = "is_default")]
    pub resets_wait: bool,
}
