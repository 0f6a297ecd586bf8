//! What is asked of an agent, step by step: `skills`, `wants`, `language` and `steps` of a queue and of a
//! rule, made one list.

use std::collections::{BTreeMap, BTreeSet};

use contract::SkillId;
use contract::policy::{Expr, Level, Preference, Queue, Requirement, Route, STEPS_MAX, Step, Want};
use contract::time::Millis;

use crate::facts::language_code;

/// A skill, and how it is wanted.
type Wanted<'a> = (SkillId, &'a Want);

/// The requirement, and whether steps had to be merged because there were more than can be.
pub(crate) fn requirement(queue: &Queue, route: Option<&Route>, language: Option<&str>) -> (Requirement, bool) {
    let mut skills = queue.skills.clone();
    for (skill, level) in route.into_iter().flat_map(|route| &route.skills) {
        raise(&mut skills, skill, *level);
    }
    let spoken = queue.language.as_ref().zip(language.and_then(language_code));
    let spoken = spoken.and_then(|(want, code)| Some((SkillId::new(format!("lang:{code}")).ok()?, want)));
    let of_route = route.into_iter().flat_map(|route| &route.wants);
    let wanted: Vec<Wanted<'_>> =
        queue.wants.iter().chain(of_route).map(|(skill, want)| (skill.clone(), want)).chain(spoken).collect();

    let explicit = explicit_steps(&queue.steps);
    let end = explicit.last().and_then(|(_, step)| step.until_ms);
    let mut bounds: BTreeSet<Millis> = explicit.iter().skip(1).map(|(from, _)| *from).collect();
    bounds
        .extend(wanted.iter().filter_map(|(_, want)| want.relax_after_ms).filter(|at| end.is_none_or(|end| *at < end)));
    bounds.insert(Millis(0));

    let mut steps: Vec<Step> = Vec::new();
    for from in bounds {
        let Some((begins, base)) = explicit.iter().rev().find(|(begins, _)| *begins <= from) else { continue };
        let mut step = at(from, base, &skills, &wanted);
        let Some(before) = steps.last_mut() else {
            steps.push(step);
            continue;
        };
        // A bound that changes nothing is none: a want that relaxes to what is required anyhow.
        step.until_ms = before.until_ms;
        if *begins == from || *before != step {
            before.until_ms = Some(from);
            step.until_ms = None;
            steps.push(step);
        }
    }
    let merged = steps.len() > STEPS_MAX;
    steps.truncate(STEPS_MAX);
    match steps.last_mut() {
        Some(last) => last.until_ms = end,
        None => steps.push(Step::default()),
    }
    (Requirement { steps }, merged)
}

/// The steps that can come into force, each with its beginning: not those that end before they begin, nor
/// those after one that never ends. Never empty.
fn explicit_steps(steps: &[Step]) -> Vec<(Millis, Step)> {
    let mut found = Vec::new();
    let mut from = Millis(0);
    for step in steps {
        match step.until_ms {
            Some(until) if until <= from => {}
            Some(until) => {
                found.push((from, step.clone()));
                from = until;
            }
            None => {
                found.push((from, step.clone()));
                return found;
            }
        }
    }
    if found.is_empty() {
        found.push((Millis(0), Step::default()));
    }
    found
}

/// The step that is in force from a moment of the wait on, with no end.
fn at(from: Millis, base: &Step, skills: &BTreeMap<SkillId, Level>, wanted: &[Wanted<'_>]) -> Step {
    let mut required = skills.clone();
    let mut prefer = base.prefer.clone();
    for (skill, want) in wanted {
        let requires = match (want.relax_after_ms, want.prefer) {
            (Some(until), _) => from < until,
            (None, prefer) => prefer.is_none(),
        };
        if requires {
            raise(&mut required, skill, want.level);
        } else if let Some(weight) = want.prefer {
            prefer.push(Preference { when: Expr::skill(skill.clone(), want.level), weight });
        }
    }
    // A level of 0 is had by everybody.
    let mut parts: Vec<Expr> =
        required.into_iter().filter(|(_, level)| *level > 0).map(|(skill, level)| Expr::skill(skill, level)).collect();
    match &base.must {
        Expr::All(more) => parts.extend(more.iter().cloned()),
        other => parts.push(other.clone()),
    }
    Step { until_ms: None, must: Expr::All(parts), prefer, ..base.clone() }
}

fn raise(skills: &mut BTreeMap<SkillId, Level>, skill: &SkillId, level: Level) {
    let required = skills.entry(skill.clone()).or_insert(level);
    *required = level.max(*required);
}
