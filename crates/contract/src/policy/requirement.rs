//! What a conversation asks of an agent, and how it asks for less as time goes by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{LEVEL_MAX, Level, is_default};
use crate::id::{AgentId, QueueId, SkillId};
use crate::time::Millis;

/// What a conversation asks of an agent: steps, each for a part of the wait. It is never without a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(!from))]
#[serde(from = "EverWritten")]
pub struct Requirement {
    /// The steps, in their order; 1 to 8.
    pub steps: Vec<Step>,
}

/// A requirement as it was ever written: before there were steps, it was a table of skills.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EverWritten {
    steps: Vec<Step>,
    skills: BTreeMap<SkillId, Level>,
}

impl From<EverWritten> for Requirement {
    fn from(written: EverWritten) -> Self {
        match written.steps.is_empty() {
            true => Self::of_skills(&written.skills),
            false => Self { steps: written.steps },
        }
    }
}

impl Default for Requirement {
    /// Anybody of the queue, for ever.
    fn default() -> Self {
        Self { steps: vec![Step::default()] }
    }
}

impl Requirement {
    /// One step that asks for skills at a level or above.
    #[must_use]
    pub fn of_skills(skills: &BTreeMap<SkillId, Level>) -> Self {
        Self { steps: vec![Step { must: Expr::of_skills(skills), ..Step::default() }] }
    }

    /// A step; the last one for every number beyond.
    #[must_use]
    pub fn step(&self, number: usize) -> Option<&Step> {
        self.steps.get(number).or_else(|| self.steps.last())
    }
}

/// One step of a requirement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Until this much of the wait is over, counted from its beginning, not from the step before. Absent:
    /// for ever. What is paused (parked, out of hours) is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Millis>,
    /// What an agent must have.
    #[serde(skip_serializing_if = "is_default")]
    pub must: Expr,
    /// What is better to have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<Preference>,
    /// Who is asked.
    #[serde(skip_serializing_if = "is_default")]
    pub pool: Pool,
    /// Added to the priority while the step lasts.
    #[serde(skip_serializing_if = "is_default")]
    pub boost: i32,
    /// Stays in this step even when nobody who is signed in could ever satisfy it.
    #[serde(skip_serializing_if = "is_default")]
    pub no_skip: bool,
    /// This step asks fewer people than the one before, on purpose.
    #[serde(skip_serializing_if = "is_default")]
    pub narrows: bool,
}

/// Who is asked in a step: the members of the conversation's queue, and whom this names besides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Only members of the conversation's queue up to this tier. Absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_max: Option<u8>,
    /// Members of these queues too.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub queues: BTreeSet<QueueId>,
    /// Agents of these groups too.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<SmolStr>,
    /// These agents too.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub agents: BTreeSet<AgentId>,
    /// Nobody but those: not the members of the conversation's queue.
    #[serde(skip_serializing_if = "is_default")]
    pub only: bool,
}

/// A condition on an agent. Written as a table with one of the keys `all`, `any`, `not`, `skill` (with `min`
/// and `max`) and `attribute` (with `is`, `min` and `max`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Expr {
    /// Each of these; of none: always.
    All(Vec<Expr>),
    /// At least one of these; of none: never.
    Any(Vec<Expr>),
    /// Not this.
    Not(Box<Expr>),
    /// The level of a skill.
    Skill(SkillTest),
    /// An attribute.
    Attribute(AttributeTest),
}

/// A condition as it is written: exactly one of the first five keys.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Expr"))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    /// Each of these holds; of none: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Vec<Expr>>,
    /// At least one of these holds; of none: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    any: Option<Vec<Expr>>,
    /// This does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<Expr>>,
    /// The level of this skill is between `min` (1 when absent) and `max` (10 when absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    skill: Option<SkillId>,
    /// This attribute is one of `is`, or a number between `min` and `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    attribute: Option<SmolStr>,
    /// Values of the attribute.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    is: Vec<Value>,
    /// At least.
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<i64>,
    /// At most.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
}

impl TryFrom<Written> for Expr {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { all, any, not, skill, attribute, is, min, max } = written;
        let bounded = min.is_some() || max.is_some();
        let level = |bound: Option<i64>, absent: Level| match bound {
            None => Ok(absent),
            Some(level) => Level::try_from(level)
                .ok()
                .filter(|level| *level <= LEVEL_MAX)
                .ok_or_else(|| format!("level {level} is not between 0 and {LEVEL_MAX}")),
        };
        match (all, any, not, skill, attribute) {
            (Some(parts), None, None, None, None) if is.is_empty() && !bounded => Ok(Self::All(parts)),
            (None, Some(parts), None, None, None) if is.is_empty() && !bounded => Ok(Self::Any(parts)),
            (None, None, Some(part), None, None) if is.is_empty() && !bounded => Ok(Self::Not(part)),
            (None, None, None, Some(skill), None) if is.is_empty() => {
                Ok(Self::Skill(SkillTest { skill, min: level(min, 1)?, max: level(max, LEVEL_MAX)? }))
            }
            (None, None, None, None, Some(attribute)) => {
                if is.is_empty() && !bounded {
                    return Err(format!("attribute {attribute:?}: needs `is`, `min` or `max`"));
                }
                Ok(Self::Attribute(AttributeTest { attribute, is, min, max }))
            }
            _ => {
                Err("a condition has exactly one of `all`, `any`, `not`, `skill` (with `min`, `max`) and `attribute` \
                      (with `is`, `min`, `max`)"
                    .to_owned())
            }
        }
    }
}

impl From<Expr> for Written {
    fn from(expr: Expr) -> Self {
        match expr {
            Expr::All(parts) => Self { all: Some(parts), ..Self::default() },
            Expr::Any(parts) => Self { any: Some(parts), ..Self::default() },
            Expr::Not(part) => Self { not: Some(part), ..Self::default() },
            Expr::Skill(SkillTest { skill, min, max }) => Self {
                skill: Some(skill),
                min: (min != 1).then_some(i64::from(min)),
                max: (max != LEVEL_MAX).then_some(i64::from(max)),
                ..Self::default()
            },
            Expr::Attribute(AttributeTest { attribute, is, min, max }) => {
                Self { attribute: Some(attribute), is, min, max, ..Self::default() }
            }
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Expr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expr".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Written::json_schema(generator)
    }
}

impl Default for Expr {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Expr {
    /// Each of these skills at its level or above.
    #[must_use]
    pub fn of_skills(skills: &BTreeMap<SkillId, Level>) -> Self {
        Self::All(skills.iter().map(|(skill, level)| Self::skill(skill.clone(), *level)).collect())
    }

    /// A skill at a level or above.
    #[must_use]
    pub const fn skill(skill: SkillId, min: Level) -> Self {
        Self::Skill(SkillTest { skill, min, max: LEVEL_MAX })
    }

    /// Whether it holds of everybody.
    #[must_use]
    pub fn is_always(&self) -> bool {
        matches!(self, Self::All(parts) if parts.iter().all(Self::is_always))
    }
}

const fn level_default() -> Level {
    1
}

/// The level of a skill is between two bounds. Who does not have it has level 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkillTest {
    /// Which.
    pub skill: SkillId,
    /// At least.
    pub min: Level,
    /// At most.
    pub max: Level,
}

/// An attribute has one of some values, or a number between two bounds. Who lacks it does not pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeTest {
    /// Which.
    pub attribute: SmolStr,
    /// One of these.
    pub is: Vec<Value>,
    /// A number, at least.
    pub min: Option<i64>,
    /// A number, at most.
    pub max: Option<i64>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Number(i64),
    /// A word.
    Text(SmolStr),
}

/// What is better to have, and how much better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// What.
    pub when: Expr,
    /// Weights of what an agent has are added up.
    #[serde(default = "preference_weight")]
    pub weight: u32,
}

const fn preference_weight() -> u32 {
    1
}

/// How much a skill is wanted: required, required for a while, or preferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The level.
    #[serde(default = "level_default")]
    pub level: Level,
    /// After so much of the wait it is no longer required. Absent: required to the end, unless `prefer` is
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relax_after_ms: Option<Millis>,
    /// Not required: preferred, with this weight. With `relax_after_ms`: required until then, preferred
    /// after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<u32>,
}
