//! What would have happened under another policy.

use contract::Millis;
use contract::journal::Record;
use serde::Serialize;

use crate::company::Company;
use crate::infer::infer;
use crate::log::{Case, RunLog};
use crate::report::{Report, comparison, row, table};
use crate::scenario::Scenario;
use crate::seeds::Seeds;
use crate::trace::{Duty, DutyKind};
use crate::world::span;

/// A journal under the policy that was in force and under another one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIf {
    /// What the journal says, the model of it under the same policy where the journal holds that, and under
    /// the other policy: how far the first two are apart is how far the model can be trusted.
    pub reports: Vec<Report>,
    /// Each metric under the policy of the journal, and under the other.
    pub differences: Vec<Difference>,
    /// The conversations for which it makes the greatest difference.
    pub changed: Vec<Changed>,
}

/// A metric, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which.
    pub metric: &'static str,
    /// Under the policy of the journal.
    pub before: f64,
    /// Under the other.
    pub after: f64,
}

/// A conversation, before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// The customer as the journal names it.
    pub customer: String,
    /// How long after the beginning of the journal it came.
    pub arrived_ms: u64,
    /// How long it waited under the policy of the journal; absent: it was not answered.
    pub wait_before_ms: Option<u64>,
    /// How long under the other.
    pub wait_after_ms: Option<u64>,
    /// Who was there for it.
    pub agent_before: Option<String>,
    /// Who would have been.
    pub agent_after: Option<String>,
}

/// Runs a journal's customers and agents under another policy.
///
/// # Errors
/// When the journal tells nothing.
pub fn what_if(records: &[Record], policy: &Company, threshold: Millis, listed: usize) -> Result<WhatIf, String> {
    let inferred = infer(records, None, 1)?;
    let scenario = Scenario::named("calm").ok_or("the world calm is gone")?;
    let run = |company: &Company, system: &str| {
        let seeds = Seeds { to_the_end: false, ..Seeds::with_policy(scenario.clone(), company.clone()) };
        // Whoever the journal never saw is there all the time: that is what adding somebody asks.
        let mut trace = inferred.trace.clone();
        let new = company.workers().iter().filter(|worker| {
            let known =
                inferred.policy.as_ref().is_some_and(|old| old.workers().iter().any(|w| w.agent == worker.agent));
            !known && trace.duties.iter().all(|duty| duty.agent != worker.agent)
        });
        let new = new.map(|worker| Duty { at: Millis(0), agent: worker.agent.clone(), what: DutyKind::Available });
        let new: Vec<Duty> = new.collect();
        trace.duties.splice(0..0, new);
        let mut log = seeds.run_trace(1, &trace).log;
        system.clone_into(&mut log.system);
        log
    };
    let before = inferred.policy.as_ref().map(|company| run(company, "same policy, modelled"));
    let after = run(policy, "other policy, modelled");
    let logs: Vec<&RunLog> = [Some(&inferred.recorded), before.as_ref(), Some(&after)].into_iter().flatten().collect();
    let reports: Vec<Report> = logs.iter().map(|log| Report::of(log, threshold)).collect();
    let before = before.as_ref().unwrap_or(&inferred.recorded);
    let (was, is) = (Report::of(before, threshold), Report::of(&after, threshold));
    let of = |report: &Report| {
        let mut named = report.overall.named();
        named.extend([("occupancy", report.occupancy), ("busy_cv", report.spread.busy_cv)]);
        named
    };
    let difference = |((metric, before), (_, after))| Difference { metric, before, after };
    let differences = of(&was).into_iter().zip(of(&is)).map(difference).collect();
    let mut changed: Vec<(u64, Changed)> = before
        .cases
        .iter()
        .zip(&after.cases)
        .map(|(before, after)| (weight(before, after, before.arrived, inferred.trace.span), changed(before, after)))
        .filter(|(weight, _)| *weight > 0)
        .collect();
    changed.sort_by_key(|(weight, changed)| (std::cmp::Reverse(*weight), changed.arrived_ms));
    changed.truncate(listed);
    Ok(WhatIf { reports, differences, changed: changed.into_iter().map(|(_, changed)| changed).collect() })
}

/// How much of a difference it makes: the change of the wait, and a little for another agent.
fn weight(before: &Case, after: &Case, arrived: Millis, span: Millis) -> u64 {
    let wait = |case: &Case| case.answered.unwrap_or(span).0.saturating_sub(arrived.0);
    wait(before).abs_diff(wait(after)) + u64::from(before.agent != after.agent)
}

fn changed(before: &Case, after: &Case) -> Changed {
    let agent = |case: &Case| case.agent.as_ref().map(ToString::to_string);
    Changed {
        customer: before.customer.to_string(),
        arrived_ms: before.arrived.0,
        wait_before_ms: before.wait().map(|wait| wait.0),
        wait_after_ms: after.wait().map(|wait| wait.0),
        agent_before: agent(before),
        agent_after: agent(after),
    }
}

impl WhatIf {
    /// As tables for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let number = |name: &str, value: f64| match name {
            name if name.ends_with("_ms") => span(value),
            "service_level" | "abandonment" | "occupancy" => crate::report::percent(value),
            _ => format!("{value:.2}"),
        };
        let mut rows = vec![row(&["metric", "before", "after", "difference"])];
        for Difference { metric, before, after } in &self.differences {
            let sign = if after < before { "-" } else { "+" };
            let difference = format!("{sign}{}", number(metric, (after - before).abs()));
            let difference = if (after - before).abs() < 1e-9 { String::new() } else { difference };
            rows.push(row(&[metric, &number(metric, *before), &number(metric, *after), &difference]));
        }
        let mut text = format!("{}\n{}", comparison(&self.reports), table(&rows));
        if !self.changed.is_empty() {
            let mut rows = vec![row(&["customer", "came at", "wait before", "after", "agent before", "after"])];
            let wait = |wait: Option<u64>| wait.map_or_else(|| "never".to_owned(), |ms| span(ms as f64));
            for one in &self.changed {
                rows.push(row(&[
                    &one.customer,
                    &span(one.arrived_ms as f64),
                    &wait(one.wait_before_ms),
                    &wait(one.wait_after_ms),
                    one.agent_before.as_deref().unwrap_or("nobody"),
                    one.agent_after.as_deref().unwrap_or("nobody"),
                ]));
            }
            text.push_str("\nMost changed\n\n");
            text.push_str(&table(&rows));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_day_can_be_had_again_and_otherwise() {
        let seeds = Seeds::new(Scenario { hours: 2.0, ..Scenario::named("overload").unwrap() }).unwrap();
        let run = Seeds { to_the_end: false, ..seeds.clone() }.run(5);
        let direct = Report::of(&run.log, Millis::from_secs(30));
        let records = crate::journal::records(run.journal);
        let other = Company::team(7).unwrap();
        let what_if = what_if(&records, &other, Millis::from_secs(30), 5).unwrap();
        let [recorded, same, more] = what_if.reports.as_slice() else { panic!("three reports") };
        // Whoever writes again after the end is a matter of its own in the journal, and was not before.
        for came in [recorded.overall.arrived, same.overall.arrived] {
            let apart = came.abs_diff(direct.overall.arrived);
            assert!(apart * 10 < direct.overall.arrived, "{}", what_if.text());
        }
        // What is inferred is near to what it was inferred from.
        let apart = (recorded.overall.wait_p50_ms as f64 - same.overall.wait_p50_ms as f64).abs();
        assert!(apart < 30_000.0, "{}", what_if.text());
        assert!((recorded.overall.service_level - same.overall.service_level).abs() < 0.15, "{}", what_if.text());
        // Three more agents are of help.
        assert!(more.overall.service_level > same.overall.service_level, "{}", what_if.text());
        assert!(!what_if.changed.is_empty());
        assert!(what_if.text().contains("service_level"));
    }
}
