//! Conditions on agents: whether they hold, why not, and what they say about skills.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use contract::SkillId;
use contract::event::Exclusion;
use contract::policy::{Agent, AttributeTest, Expr, LEVEL_MAX, Level, SkillTest, Value};
use smol_str::SmolStr;

/// The level of an agent's skill; 0 when it has none.
#[must_use]
pub fn level(agent: &Agent, skill: &SkillId) -> Level {
    agent.skills.get(skill).copied().unwrap_or(0)
}

/// Whether a condition holds of an agent.
#[must_use]
pub fn holds(expr: &Expr, agent: &Agent) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| holds(part, agent)),
        Expr::Any(parts) => parts.iter().any(|part| holds(part, agent)),
        Expr::Not(part) => !holds(part, agent),
        Expr::Skill(test) => (test.min..=test.max).contains(&level(agent, &test.skill)),
        Expr::Attribute(test) => agent.attributes.get(&test.attribute).is_some_and(|value| passes(test, value)),
    }
}

fn passes(test: &AttributeTest, value: &Value) -> bool {
    let bounded = test.min.is_some() || test.max.is_some();
    let within = match value {
        Value::Number(n) => test.min.is_none_or(|min| *n >= min) && test.max.is_none_or(|max| *n <= max),
        Value::Bool(_) | Value::Text(_) => false,
    };
    test.is.contains(value) || (bounded && within)
}

/// The first part of a condition that keeps an agent out; none when it holds. A skill that is asked for at a
/// level or above is named as such, everything else in the words of [`describe`].
#[must_use]
pub fn unmet(expr: &Expr, agent: &Agent) -> Option<Exclusion> {
    if holds(expr, agent) {
        return None;
    }
    match expr {
        Expr::All(parts) => parts.iter().find_map(|part| unmet(part, agent)),
        Expr::Any(parts) if parts.len() == 1 => parts.iter().find_map(|part| unmet(part, agent)),
        Expr::Skill(SkillTest { skill, min, max }) if *max >= LEVEL_MAX => {
            Some(Exclusion::MissingSkill { skill: skill.clone(), needed: *min, has: level(agent, skill) })
        }
        _ => Some(Exclusion::Unfit { condition: SmolStr::from(describe(expr)) }),
    }
}

/// A condition in words, like `product>=3 and (site is berlin or not lang:de>=1)`.
#[must_use]
pub fn describe(expr: &Expr) -> String {
    let mut words = String::new();
    write_words(expr, false, &mut words);
    words
}

/// `inner`: what has several parts is put in brackets.
fn write_words(expr: &Expr, inner: bool, to: &mut String) {
    // Writing to a string cannot fail.
    match expr {
        Expr::All(parts) => join(parts, " and ", "anybody", inner, to),
        Expr::Any(parts) => join(parts, " or ", "nobody", inner, to),
        Expr::Not(part) => {
            to.push_str("not ");
            write_words(part, true, to);
        }
        Expr::Skill(SkillTest { skill, min, max }) => {
            let _ = match (*min, *max) {
                (min, max) if max >= LEVEL_MAX => write!(to, "{skill}>={min}"),
                (0, max) => write!(to, "{skill}<={max}"),
                (min, max) if min == max => write!(to, "{skill}={min}"),
                (min, max) => write!(to, "{skill} from {min} to {max}"),
            };
        }
        Expr::Attribute(AttributeTest { attribute, is, min, max }) => {
            let mut ways: Vec<String> =
                is.iter().map(|value| format!("{attribute} is {}", value_words(value))).collect();
            match (min, max) {
                (Some(min), Some(max)) => ways.push(format!("{attribute} from {min} to {max}")),
                (Some(min), None) => ways.push(format!("{attribute}>={min}")),
                (None, Some(max)) => ways.push(format!("{attribute}<={max}")),
                (None, None) => {}
            }
            let several = inner && ways.len() > 1;
            let _ =
                write!(to, "{}{}{}", if several { "(" } else { "" }, ways.join(" or "), if several { ")" } else { "" });
        }
    }
}

fn join(parts: &[Expr], by: &str, none: &str, inner: bool, to: &mut String) {
    match parts {
        [] => to.push_str(none),
        [only] => write_words(only, inner, to),
        [first, rest @ ..] => {
            to.push_str(if inner { "(" } else { "" });
            write_words(first, true, to);
            for part in rest {
                to.push_str(by);
                write_words(part, true, to);
            }
            to.push_str(if inner { ")" } else { "" });
        }
    }
}

fn value_words(value: &Value) -> String {
    match value {
        Value::Bool(yes) => yes.to_string(),
        Value::Number(n) => n.to_string(),
        Value::Text(text) => text.to_string(),
    }
}

/// Skills of which everybody who satisfies the condition has at least one, each with its least level, 1 or
/// above; the set whose members `cost` least together, so that an index over them finds all candidates. None:
/// there is no such set, and everybody must be looked at. An empty set: nobody satisfies the condition.
#[must_use]
pub fn cover(expr: &Expr, cost: &dyn Fn(&SkillId, Level) -> usize) -> Option<Vec<(SkillId, Level)>> {
    covering(expr, cost).map(|(set, _)| set.into_iter().collect())
}

type Cover = (BTreeMap<SkillId, Level>, usize);

fn covering(expr: &Expr, cost: &dyn Fn(&SkillId, Level) -> usize) -> Option<Cover> {
    match expr {
        // The first of several equally good, so that the answer does not hang on anything else.
        Expr::All(parts) => {
            parts.iter().filter_map(|part| covering(part, cost)).min_by_key(|(set, cost)| (*cost, set.len()))
        }
        Expr::Any(parts) => {
            let mut union = BTreeMap::new();
            for part in parts {
                for (skill, level) in covering(part, cost)?.0 {
                    union.entry(skill).and_modify(|least: &mut Level| *least = level.min(*least)).or_insert(level);
                }
            }
            let total = union.iter().map(|(skill, level)| cost(skill, *level)).fold(0, usize::saturating_add);
            Some((union, total))
        }
        Expr::Skill(test) if test.min >= 1 => {
            Some(([(test.skill.clone(), test.min)].into(), cost(&test.skill, test.min)))
        }
        Expr::Skill(_) | Expr::Not(_) | Expr::Attribute(_) => None,
    }
}

/// The skills that everybody who satisfies the condition has, each with the level that is required at least.
#[must_use]
pub fn required_skills(expr: &Expr) -> Vec<(SkillId, Level)> {
    let mut required = BTreeMap::new();
    require(expr, &mut required);
    required.into_iter().collect()
}

fn require(expr: &Expr, required: &mut BTreeMap<SkillId, Level>) {
    match expr {
        Expr::All(parts) => parts.iter().for_each(|part| require(part, required)),
        Expr::Any(parts) => {
            if let [only] = parts.as_slice() {
                require(only, required);
            }
        }
        Expr::Skill(test) if test.min >= 1 => {
            let level = required.entry(test.skill.clone()).or_insert(test.min);
            *level = test.min.max(*level);
        }
        Expr::Skill(_) | Expr::Not(_) | Expr::Attribute(_) => {}
    }
}
