//! What came of a run: findings, and how well customers and agents fared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use contract::journal::Entry;
use contract::{Millis, SmolStr};
use serde::Serialize;

use crate::log::{Case, RunLog};
use crate::random::whole;
use crate::shrink::Shrunk;
use crate::world::span;

/// Points of the curves in a report.
const POINTS: u64 = 96;
/// Upper bounds of the histogram of waits, in seconds.
const BOUNDS: &[u64] = &[2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The seed to run again.
    pub seed: u64,
    /// The step after which it was seen.
    pub step: u64,
    /// What does not hold: the name of an invariant, or `served_in_the_end`.
    pub broken: &'static str,
    /// Where, for a person.
    pub detail: String,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Steps that went into the journal.
    pub steps: u64,
    /// Facts by name.
    pub facts: BTreeMap<&'static str, u64>,
    /// Deaths of the process.
    pub crashes: u64,
    /// Envelopes and commands that came again and changed nothing.
    pub repeats: u64,
    /// Commands that were refused.
    pub refusals: u64,
    /// A hash of the last state; the same for the same seed.
    pub digest: u64,
    /// What must not be.
    pub findings: Vec<Finding>,
    /// The first of them, made small.
    pub shrunk: Option<Shrunk>,
    /// What happened to every customer and agent while customers came.
    pub log: RunLog,
    /// The journal.
    pub journal: Vec<Entry>,
}

impl Run {
    /// What to print when something broke: how to see it again, what it was, and the smallest script.
    #[must_use]
    pub fn failure(&self, scenario: &str, commit: Option<&str>) -> Option<String> {
        let first = self.findings.first()?;
        let mut text = format!("seed {} of world {scenario}", self.seed);
        if let Some(commit) = commit {
            let _ = write!(text, " at commit {commit}");
        }
        let _ = writeln!(text, ": {} does not hold after step {}: {}", first.broken, first.step, first.detail);
        let _ = writeln!(text, "again: throughline simulate --scenario {scenario} --seed {}", self.seed);
        match &self.shrunk {
            Some(shrunk) => {
                let _ = writeln!(text, "{} of {} inputs are enough ({}):\n", shrunk.inputs, shrunk.of, shrunk.detail);
                text.push_str(&shrunk.script);
            }
            None => text.push_str("its inputs alone do not bring it about; run the seed again to see it\n"),
        }
        Some(text)
    }
}

/// How customers and agents fared.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Which system.
    pub system: String,
    /// Within how many seconds somebody should be there.
    pub threshold_s: u64,
    /// Everybody.
    pub overall: Metrics,
    /// By the queue that they waited in first.
    pub queues: BTreeMap<SmolStr, Metrics>,
    /// By the kind of channel.
    pub channels: BTreeMap<SmolStr, Metrics>,
    /// Agents, by name.
    pub agents: Vec<AgentLoad>,
    /// Units in use as a share of the units of those who were there.
    pub occupancy: f64,
    /// How unevenly work is spread.
    pub spread: Spread,
    /// How it went over time.
    pub curve: Vec<Point>,
    /// How many waited up to so many seconds.
    pub histogram: Vec<Bar>,
}

/// How a group of customers fared. Waits are milliseconds until somebody was there.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// How many came.
    pub arrived: u64,
    /// How many somebody was there for.
    pub answered: u64,
    /// How many left before that.
    pub abandoned: u64,
    /// How many still waited at the end.
    pub waiting: u64,
    /// Answered within the threshold, as a share of all whose wait is known to be within it or not.
    pub service_level: f64,
    /// Left, as a share of all that came.
    pub abandonment: f64,
    /// Mean wait of the answered.
    pub wait_mean_ms: f64,
    /// Half waited no longer.
    pub wait_p50_ms: u64,
    /// Nine of ten waited no longer.
    pub wait_p90_ms: u64,
    /// Ninety-nine of a hundred waited no longer.
    pub wait_p99_ms: u64,
    /// The longest.
    pub wait_max_ms: u64,
    /// Until somebody was first asked: half no longer.
    pub first_offer_p50_ms: u64,
    /// Until somebody was first asked: nine of ten no longer.
    pub first_offer_p90_ms: u64,
    /// Offers for each that was offered.
    pub offers_each: f64,
    /// How often a matter went back into a queue.
    pub requeues: u64,
}

/// What an agent did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentLoad {
    /// Who.
    pub agent: SmolStr,
    /// Matters that it was the first to be there for.
    pub handled: u64,
    /// Units times hours in use.
    pub busy_hours: f64,
    /// Hours for which it was there.
    pub staffed_hours: f64,
    /// Units in use as a share of its units while it was there.
    pub occupancy: f64,
}

/// How unevenly work is spread over agents, in proportion to the time for which they were there: 0 is even.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Coefficient of variation of matters handled in an hour.
    pub handled_cv: f64,
    /// Gini coefficient of them.
    pub handled_gini: f64,
    /// Coefficient of variation of the occupancies.
    pub busy_cv: f64,
    /// Gini coefficient of them.
    pub busy_gini: f64,
}

/// How it stood at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Point {
    /// When it begins.
    pub at_ms: u64,
    /// How many waited, on average.
    pub waiting: f64,
    /// Units in use as a share of the units of those who were there.
    pub occupancy: f64,
    /// Median wait of those who came then and were answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_p50_ms: Option<u64>,
    /// Nine of ten of them waited no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_p90_ms: Option<u64>,
}

/// A bar of the histogram of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Up to so many seconds; absent: longer than all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_s: Option<u64>,
    /// How many.
    pub count: u64,
}

/// The value below which so many hundredths lie.
pub(crate) fn percentile(sorted: &[u64], hundredths: usize) -> u64 {
    let at = sorted.len().saturating_sub(1) * hundredths / 100;
    sorted.get(at).copied().unwrap_or_default()
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 0.0 }
}

/// Coefficient of variation: the standard deviation as a part of the mean.
fn variation(values: &[f64]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    share(variance.sqrt(), mean)
}

/// Gini coefficient: 0 when all have the same, towards 1 when one has all.
fn gini(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let ranked: f64 = sorted.iter().enumerate().map(|(at, value)| (2.0 * (at as f64 + 1.0) - n - 1.0) * value).sum();
    share(ranked, n * sorted.iter().sum::<f64>())
}

/// How much of a span lies in another.
fn overlap(a: (u64, u64), b: (u64, u64)) -> u64 {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

impl Metrics {
    fn of<'a>(cases: impl Iterator<Item = &'a Case>, threshold: Millis) -> Self {
        let mut metrics = Self::default();
        let (mut waits, mut first, mut in_time, mut known, mut offered) = (Vec::new(), Vec::new(), 0, 0, 0);
        for case in cases.filter(|case| case.counts()) {
            metrics.arrived += 1;
            metrics.requeues += u64::from(case.requeues);
            metrics.offers_each += f64::from(case.offers);
            offered += u64::from(case.offers > 0);
            first.extend(case.offered.map(|at| at.0.saturating_sub(case.arrived.0)));
            match (case.wait(), case.abandoned) {
                (Some(wait), _) => {
                    metrics.answered += 1;
                    known += 1;
                    in_time += u64::from(wait <= threshold);
                    waits.push(wait.0);
                }
                (None, Some(_)) => {
                    metrics.abandoned += 1;
                    known += 1;
                }
                (None, None) => {
                    metrics.waiting += 1;
                    known += u64::from(case.watched_until.0.saturating_sub(case.arrived.0) > threshold.0);
                }
            }
        }
        waits.sort_unstable();
        first.sort_unstable();
        metrics.service_level = if known == 0 { 1.0 } else { share(in_time as f64, known as f64) };
        metrics.abandonment = share(metrics.abandoned as f64, metrics.arrived as f64);
        metrics.wait_mean_ms = share(waits.iter().sum::<u64>() as f64, waits.len() as f64);
        metrics.wait_p50_ms = percentile(&waits, 50);
        metrics.wait_p90_ms = percentile(&waits, 90);
        metrics.wait_p99_ms = percentile(&waits, 99);
        metrics.wait_max_ms = waits.last().copied().unwrap_or_default();
        metrics.first_offer_p50_ms = percentile(&first, 50);
        metrics.first_offer_p90_ms = percentile(&first, 90);
        metrics.offers_each = share(metrics.offers_each, offered as f64);
        metrics
    }

    /// The metrics with the names under which two systems are compared.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("service_level", self.service_level),
            ("abandonment", self.abandonment),
            ("wait_mean_ms", self.wait_mean_ms),
            ("wait_p50_ms", self.wait_p50_ms as f64),
            ("wait_p90_ms", self.wait_p90_ms as f64),
            ("wait_p99_ms", self.wait_p99_ms as f64),
            ("wait_max_ms", self.wait_max_ms as f64),
            ("first_offer_p90_ms", self.first_offer_p90_ms as f64),
            ("offers_each", self.offers_each),
            ("requeues", self.requeues as f64),
            ("answered", self.answered as f64),
            ("waiting", self.waiting as f64),
        ]
    }
}

impl Report {
    /// Reckons up a run. Somebody should be there within the threshold.
    #[must_use]
    pub fn of(log: &RunLog, threshold: Millis) -> Self {
        let group = |by: fn(&Case) -> &SmolStr| {
            let mut names: Vec<&SmolStr> =
                log.cases.iter().filter(|case| case.counts()).map(by).filter(|name| !name.is_empty()).collect();
            names.sort_unstable();
            names.dedup();
            let metrics = |name: &SmolStr| {
                let cases = log.cases.iter().filter(|case| by(case) == name);
                (name.clone(), Metrics::of(cases, threshold))
            };
            names.into_iter().map(metrics).collect()
        };
        let agents = agents(log);
        let staffed: Vec<&AgentLoad> = agents.iter().filter(|agent| agent.staffed_hours > 0.0).collect();
        let rates: Vec<f64> = staffed.iter().map(|agent| agent.handled as f64 / agent.staffed_hours).collect();
        let busy: Vec<f64> = staffed.iter().map(|agent| agent.occupancy).collect();
        let curve = curve(log);
        let (used, room) = totals(log, (0, log.span.0));
        Self {
            system: log.system.clone(),
            threshold_s: threshold.0 / 1000,
            overall: Metrics::of(log.cases.iter(), threshold),
            queues: group(|case| &case.queue),
            channels: group(|case| &case.channel),
            occupancy: share(used, room),
            spread: Spread {
                handled_cv: variation(&rates),
                handled_gini: gini(&rates),
                busy_cv: variation(&busy),
                busy_gini: gini(&busy),
            },
            agents,
            curve,
            histogram: histogram(log),
        }
    }

    /// As a table for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let heading = format!("in {} s", self.threshold_s);
        let mut rows = vec![row(&[
            "",
            "came",
            "answered",
            "left",
            "waiting",
            &heading,
            "p50",
            "p90",
            "p99",
            "max",
            "offer p90",
            "offers",
            "requeued",
        ])];
        rows.push(metrics_row("all", &self.overall));
        rows.extend(self.queues.iter().map(|(name, metrics)| metrics_row(&format!("queue {name}"), metrics)));
        rows.extend(self.channels.iter().map(|(name, metrics)| metrics_row(&format!("by {name}"), metrics)));
        let mut text = format!("{}\n\n{}", self.system, table(&rows));
        let mut rows = vec![row(&["agent", "there", "handled", "occupancy"])];
        for agent in &self.agents {
            let there = format!("{:.1} h", agent.staffed_hours);
            rows.push(row(&[&agent.agent, &there, &agent.handled.to_string(), &percent(agent.occupancy)]));
        }
        let spread = &self.spread;
        let _ = write!(
            text,
            "\noccupancy {}; spread of load: handled an hour CV {:.2}, Gini {:.2}; occupancy CV {:.2}, Gini {:.2}\n\n{}",
            percent(self.occupancy),
            spread.handled_cv,
            spread.handled_gini,
            spread.busy_cv,
            spread.busy_gini,
            table(&rows)
        );
        text
    }
}

/// Several systems, a row each.
#[must_use]
pub fn comparison(reports: &[Report]) -> String {
    let threshold = reports.first().map_or(0, |report| report.threshold_s);
    let heading = format!("in {threshold} s");
    let mut rows =
        vec![row(&["system", &heading, "p50", "p90", "max", "left", "waiting", "occupancy", "busy CV", "handled CV"])];
    for report in reports {
        let all = &report.overall;
        rows.push(row(&[
            &report.system,
            &percent(all.service_level),
            &span(all.wait_p50_ms as f64),
            &span(all.wait_p90_ms as f64),
            &span(all.wait_max_ms as f64),
            &percent(all.abandonment),
            &all.waiting.to_string(),
            &percent(report.occupancy),
            &format!("{:.2}", report.spread.busy_cv),
            &format!("{:.2}", report.spread.handled_cv),
        ]));
    }
    table(&rows)
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

pub(crate) fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn metrics_row(name: &str, metrics: &Metrics) -> Vec<String> {
    let ms = |ms: u64| span(ms as f64);
    vec![
        name.to_owned(),
        metrics.arrived.to_string(),
        metrics.answered.to_string(),
        metrics.abandoned.to_string(),
        metrics.waiting.to_string(),
        percent(metrics.service_level),
        ms(metrics.wait_p50_ms),
        ms(metrics.wait_p90_ms),
        ms(metrics.wait_p99_ms),
        ms(metrics.wait_max_ms),
        ms(metrics.first_offer_p90_ms),
        format!("{:.2}", metrics.offers_each),
        metrics.requeues.to_string(),
    ]
}

/// Columns that are as wide as they need to be; the first to the left, numbers to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if n == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Units times milliseconds in use, and there to be used, within a window.
fn totals(log: &RunLog, window: (u64, u64)) -> (f64, f64) {
    let mut used = 0;
    for case in &log.cases {
        for stretch in &case.stretches {
            used += case.weight * overlap(window, (stretch.from.0, stretch.to.unwrap_or(log.span).0));
        }
    }
    let room = log.staff.iter().map(|staff| {
        let there: u64 = staff.shifts.iter().map(|(from, to)| overlap(window, (from.0, to.0))).sum();
        staff.capacity * there
    });
    (used as f64, room.sum::<u64>() as f64)
}

fn agents(log: &RunLog) -> Vec<AgentLoad> {
    const HOUR: f64 = 3_600_000.0;
    let mut used: BTreeMap<&SmolStr, (u64, u64)> = BTreeMap::new();
    for case in &log.cases {
        for stretch in &case.stretches {
            let lasted = overlap((0, log.span.0), (stretch.from.0, stretch.to.unwrap_or(log.span).0));
            used.entry(&stretch.agent).or_default().0 += case.weight * lasted;
        }
        if let Some(agent) = &case.agent {
            used.entry(agent).or_default().1 += 1;
        }
    }
    let load = |staff: &crate::log::Staff| {
        let (busy, handled) = used.get(&staff.agent).copied().unwrap_or_default();
        let there: u64 = staff.shifts.iter().map(|(from, to)| to.0.saturating_sub(from.0)).sum();
        AgentLoad {
            agent: staff.agent.clone(),
            handled,
            busy_hours: busy as f64 / HOUR,
            staffed_hours: there as f64 / HOUR,
            occupancy: share(busy as f64, (staff.capacity * there) as f64),
        }
    };
    log.staff.iter().map(load).collect()
}

fn curve(log: &RunLog) -> Vec<Point> {
    let width = (log.span.0 / POINTS).max(1);
    let points = (0..POINTS).map(|n| {
        let window = (n * width, (n + 1) * width);
        let (mut waited, mut waits) = (0, Vec::new());
        for case in log.cases.iter().filter(|case| case.counts()) {
            let until = case.answered.or(case.abandoned).unwrap_or(case.watched_until).0;
            waited += overlap(window, (case.arrived.0, until));
            if (window.0..window.1).contains(&case.arrived.0) {
                waits.extend(case.wait().map(|wait| wait.0));
            }
        }
        waits.sort_unstable();
        let (used, room) = totals(log, window);
        let some = |hundredths| (!waits.is_empty()).then(|| percentile(&waits, hundredths));
        Point {
            at_ms: window.0,
            waiting: waited as f64 / width as f64,
            occupancy: share(used, room),
            wait_p50_ms: some(50),
            wait_p90_ms: some(90),
        }
    });
    points.collect()
}

fn histogram(log: &RunLog) -> Vec<Bar> {
    let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
    let mut bars: Vec<Bar> = bounds.map(|up_to_s| Bar { up_to_s, count: 0 }).collect();
    for wait in log.cases.iter().filter(|case| case.counts()).filter_map(Case::wait) {
        let fits = |bar: &&mut Bar| bar.up_to_s.is_none_or(|bound| wait.0 <= bound * 1000);
        if let Some(bar) = bars.iter_mut().find(fits) {
            bar.count += 1;
        }
    }
    bars
}

/// A share rounded to thousandths, for reports that are compared.
#[must_use]
pub fn thousandths(share: f64) -> u64 {
    whole(share * 1000.0 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Staff, Stretch};

    #[test]
    fn spreads_of_known_values() {
        assert!(gini(&[1.0, 1.0, 1.0]).abs() < 1e-12);
        assert!((gini(&[0.0, 0.0, 3.0]) - 2.0 / 3.0).abs() < 1e-12);
        assert!((variation(&[1.0, 3.0]) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_run_is_reckoned_up() {
        let case = |arrived, answered: Option<u64>, abandoned: Option<u64>| Case {
            queue: "support".into(),
            channel: "chat".into(),
            weight: 50,
            arrived: Millis(arrived),
            watched_until: Millis(100_000),
            answered: answered.map(Millis),
            agent: answered.map(|_| "anna".into()),
            abandoned: abandoned.map(Millis),
            stretches: answered
                .map(|at| Stretch { agent: "anna".into(), from: Millis(at), to: Some(Millis(at + 10_000)) })
                .into_iter()
                .collect(),
            ..Case::default()
        };
        let staff = Staff { agent: "anna".into(), capacity: 100, shifts: vec![(Millis(0), Millis(100_000))] };
        let cases = vec![
            case(0, Some(5_000), None),
            case(0, Some(50_000), None),
            case(0, None, Some(9_000)),
            case(95_000, None, None),
        ];
        let log = RunLog { system: "x".into(), span: Millis(100_000), cases, staff: vec![staff] };
        let report = Report::of(&log, Millis(20_000));
        assert!((report.overall.service_level - 1.0 / 3.0).abs() < 1e-9, "who came just now may yet be in time");
        assert_eq!((report.overall.waiting, report.overall.abandoned), (1, 1));
        assert!((report.occupancy - 0.1).abs() < 1e-9, "{}", report.occupancy);
        assert_eq!(report.overall.wait_max_ms, 50_000);
        assert_eq!(report.histogram.iter().map(|bar| bar.count).sum::<u64>(), 2);
        assert!(report.text().contains("queue support"));
    }
}
