//! The clairvoyant bound: how little customers could have waited, had somebody known beforehand when each
//! comes and how long each takes. Found by looking at every schedule that could be best, so for small
//! instances only.
//!
//! A job runs on one machine without a break, from its release on; the sum of the waits is least. Every
//! best schedule starts its jobs, taken in the order of their starts, as early as their machines allow: so
//! it is enough to append jobs, none of which starts before the one appended last. Of two ways to have done
//! the same jobs with machines free at the same times only the one with less waiting is gone on from.

use std::collections::BTreeMap;

use contract::Millis;

use crate::company::Company;
use crate::peers::{self, System};
use crate::random::{Random, millis};
use crate::report::{percent, row, table};
use crate::scenario::{Curve, Faults, Scenario, Shifts};
use crate::seeds::Seeds;
use crate::trace::{Arrival, Duty, DutyKind, Habits, Trace};
use crate::world::span;

/// A job, and the machines that can do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// When it may start.
    pub ready: u64,
    /// How long it takes.
    pub takes: u64,
    /// The machines.
    pub able: Vec<usize>,
}

/// The least sum of waits of up to 16 jobs; `None` for more of them, or when one can be done by nobody.
/// When `in_order`, only of schedules that start jobs which the same machines can do in the order of their
/// release: nobody is passed over, which is what we promise (R8).
#[must_use]
pub fn least_wait(jobs: &[Job], machines: usize, in_order: bool) -> Option<u64> {
    let sound = |job: &Job| !job.able.is_empty() && job.able.iter().all(|machine| *machine < machines);
    if jobs.len() > 16 || !jobs.iter().all(sound) {
        return None;
    }
    let mut search = Search { jobs, in_order, best: u64::MAX, known: BTreeMap::new() };
    search.go_on(0, &vec![0; machines], 0, 0);
    Some(search.best)
}

struct Search<'a> {
    jobs: &'a [Job],
    in_order: bool,
    best: u64,
    /// The least waiting with which these jobs were done and these machines free at these times.
    known: BTreeMap<(u16, Vec<u64>), u64>,
}

impl Search<'_> {
    fn go_on(&mut self, done: u16, free: &[u64], last_start: u64, waited: u64) {
        let left = || self.jobs.iter().enumerate().filter(|(n, _)| done & (1 << n) == 0);
        let start =
            |job: &Job, machine: usize| free.get(machine).map_or(u64::MAX, |free| job.ready.max(*free)).max(last_start);
        // Nobody can start before the first machine that can do the job is free.
        let least: u64 = left()
            .map(|(_, job)| job.able.iter().map(|machine| start(job, *machine)).min().unwrap_or(0) - job.ready)
            .sum();
        if waited.saturating_add(least) >= self.best {
            return;
        }
        if left().next().is_none() {
            self.best = waited;
            return;
        }
        // Being free earlier than the last start is of no use.
        let state: Vec<u64> = free.iter().map(|free| (*free).max(last_start)).collect();
        match self.known.get_mut(&(done, state.clone())) {
            Some(known) if *known <= waited => return,
            Some(known) => *known = waited,
            None => {
                self.known.insert((done, state), waited);
            }
        }
        let passes_over = |n: usize, job: &Job| {
            self.in_order && left().any(|(m, other)| (other.ready, m) < (job.ready, n) && other.able == job.able)
        };
        let mut next: Vec<(u64, usize, usize)> = left()
            .filter(|(n, job)| !passes_over(*n, job))
            .flat_map(|(n, job)| job.able.iter().map(move |machine| (n, job, *machine)))
            .map(|(n, job, machine)| (start(job, machine), n, machine))
            .collect();
        // What can start soonest first: a good schedule early cuts off the bad ones.
        next.sort_unstable();
        for (start, n, machine) in next {
            let Some(job) = self.jobs.get(n) else { continue };
            let mut then = free.to_vec();
            if let Some(free) = then.get_mut(machine) {
                *free = start + job.takes;
            }
            self.go_on(done | 1 << n, &then, start, waited + start - job.ready);
        }
    }
}

/// How far systems are from the bound, in mean wait over small instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Distance {
    /// Whether one customer in four needs the one agent who speaks German.
    pub skilled: bool,
    /// How many instances.
    pub instances: u64,
    /// The least mean wait that is possible, in milliseconds.
    pub bound_ms: f64,
    /// The least when nobody may be passed over by somebody who needs the same and came later.
    pub in_order_ms: f64,
    /// Each system's mean wait, in milliseconds.
    pub systems: Vec<(String, f64)>,
}

const SMALL: &str = r#"
default_queue = "support"
routes = [{ language = "de", queue = "support", skills = { "lang:de" = 1 } }]
[queues.support]
[agents.anna]
queues = ["support"]
skills = { "lang:de" = 5 }
capacity = 25
[agents.ben]
queues = ["support"]
capacity = 25
[agents.cara]
queues = ["support"]
capacity = 25
[channels.chat]
capacity_weight = 25
"#;

/// Customers of one small instance.
const CUSTOMERS: u64 = 9;

/// A small instance as a trace: three agents, one at a time each, nine customers within some ten minutes,
/// one in four of whom needs the one agent who speaks German when `skilled`; nobody declines, leaves or
/// hesitates.
fn instance(seed: u64, company: &Company, skilled: bool) -> Trace {
    let mut random = Random::keyed(seed, &[31]);
    let mut at = 0.0;
    let arrival = |n: u64| {
        at += random.exponential(65.0);
        Arrival {
            language: Some(if random.chance(250) && skilled { "de".into() } else { "en".into() }),
            handle: millis(random.lognormal(150.0, 0.8)),
            ..Arrival::new(millis(at), &format!("k{n}"))
        }
    };
    let arrivals = (0..CUSTOMERS).map(arrival).collect();
    let habits = Habits { answer: Millis(0), answer_sigma: 0.0, ..Habits::default() };
    let duty = |worker: &crate::Worker| Duty { at: Millis(0), agent: worker.agent.clone(), what: DutyKind::Available };
    let duties = company.workers().iter().map(duty).collect();
    Trace { name: "small".to_owned(), span: Millis::from_secs(6 * 3600), arrivals, duties, habits }
}

/// The jobs of a trace in which every agent does one thing at a time.
fn jobs(trace: &Trace, company: &Company) -> Vec<Job> {
    let job = |arrival: &Arrival| {
        let needs = company.needs(&arrival.envelope("key", contract::Timestamp(1)));
        let able = company.workers().iter().enumerate().filter(|(_, worker)| worker.able(&needs));
        Job { ready: arrival.at.0, takes: arrival.handle.0, able: able.map(|(n, _)| n).collect() }
    };
    trace.arrivals.iter().map(job).collect()
}

/// Runs all systems on small instances and compares them with the bound.
///
/// # Errors
/// When the instances' policy cannot be applied, which is a mistake of this crate.
pub fn distance(instances: u64, skilled: bool) -> Result<Distance, String> {
    let company = Company::from_toml(SMALL)?;
    let scenario = Scenario {
        curve: Curve::Flat,
        shifts: Shifts::Always,
        faults: Faults::default(),
        ..Scenario::named("calm").ok_or("the world calm is gone")?
    };
    let ours = Seeds { to_the_end: false, ..Seeds::with_policy(scenario, company.clone()) };
    let mut systems: Vec<Box<dyn System>> = peers::all(&ours);
    let mut sums = vec![0.0; systems.len()];
    let (mut bound, mut in_order) = (0.0, 0.0);
    for seed in 0..instances {
        let trace = instance(seed, &company, skilled);
        let jobs = jobs(&trace, &company);
        let least = |in_order| least_wait(&jobs, company.workers().len(), in_order).ok_or("an instance is too large");
        bound += least(false)? as f64 / CUSTOMERS as f64;
        in_order += least(true)? as f64 / CUSTOMERS as f64;
        for (system, sum) in systems.iter_mut().zip(&mut sums) {
            let log = system.run(seed, &trace, &company);
            let waits = log.cases.iter().map(|case| case.answered.unwrap_or(log.span).0 - case.arrived.0);
            *sum += waits.sum::<u64>() as f64 / CUSTOMERS as f64;
        }
    }
    let n = instances.max(1) as f64;
    let systems = systems.iter().zip(sums).map(|(system, sum)| (system.name(), sum / n)).collect();
    Ok(Distance { skilled, instances, bound_ms: bound / n, in_order_ms: in_order / n, systems })
}

impl Distance {
    /// As a table for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rows = vec![row(&["system", "mean wait", "above the bound", "above it in order"])];
        let above = |mean: f64, bound: f64| percent(mean / bound.max(1.0) - 1.0);
        let mut add = |name: &str, mean: f64| {
            rows.push(row(&[name, &span(mean), &above(mean, self.bound_ms), &above(mean, self.in_order_ms)]));
        };
        add("clairvoyant", self.bound_ms);
        add("clairvoyant, in order", self.in_order_ms);
        for (name, mean) in &self.systems {
            add(name, *mean);
        }
        format!(
            "{} instances of {CUSTOMERS} customers and 3 agents who do one thing at a time{}\n\n{}",
            self.instances,
            if self.skilled { "; one customer in four needs one of them" } else { "; all can do all" },
            table(&rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every order of every assignment of jobs to machines.
    fn by_looking_at_everything(jobs: &[Job], machines: usize, in_order: bool) -> u64 {
        fn orders(left: &[usize], order: &mut Vec<usize>, each: &mut impl FnMut(&[usize])) {
            if left.is_empty() {
                each(order);
            }
            for (at, job) in left.iter().enumerate() {
                let mut rest = left.to_vec();
                rest.remove(at);
                order.push(*job);
                orders(&rest, order, each);
                order.pop();
            }
        }
        let mut best = u64::MAX;
        let n = jobs.len();
        for code in 0..machines.pow(u32::try_from(n).unwrap()) {
            let machine = |job: usize| code / machines.pow(u32::try_from(job).unwrap()) % machines;
            if (0..n).any(|job| !jobs[job].able.contains(&machine(job))) {
                continue;
            }
            orders(&(0..n).collect::<Vec<_>>(), &mut Vec::new(), &mut |order| {
                let (mut free, mut starts) = (vec![0; machines], vec![0; n]);
                for job in order {
                    starts[*job] = jobs[*job].ready.max(free[machine(*job)]);
                    free[machine(*job)] = starts[*job] + jobs[*job].takes;
                }
                let passed_over = (0..n).any(|a| {
                    (0..n).any(|b| {
                        let first = (jobs[a].ready, a) < (jobs[b].ready, b);
                        first && jobs[a].able == jobs[b].able && starts[a] > starts[b]
                    })
                });
                if !(in_order && passed_over) {
                    best = best.min((0..n).map(|job| starts[job] - jobs[job].ready).sum());
                }
            });
        }
        best
    }

    #[test]
    fn the_bound_is_what_looking_at_everything_finds() {
        for seed in 0..150 {
            let mut random = Random::keyed(seed, &[41]);
            let machines = usize::try_from(random.between(1, 4)).unwrap();
            let jobs: Vec<Job> = (0..random.between(1, 6))
                .map(|_| {
                    let mut able: Vec<usize> = (0..machines).filter(|_| random.chance(700)).collect();
                    if able.is_empty() {
                        able.push(0);
                    }
                    Job { ready: random.below(20), takes: random.between(1, 15), able }
                })
                .collect();
            for in_order in [false, true] {
                let expected = by_looking_at_everything(&jobs, machines, in_order);
                assert_eq!(least_wait(&jobs, machines, in_order), Some(expected), "{in_order} {jobs:?} on {machines}");
            }
        }
    }

    #[test]
    fn it_pays_to_wait_for_a_short_job() {
        // The long one is there first; the short one comes a moment later and would wait for all of it.
        let job = |ready, takes| Job { ready, takes, able: vec![0] };
        assert_eq!(least_wait(&[job(0, 100), job(1, 1)], 1, false), Some(2));
        assert_eq!(least_wait(&[job(0, 100), job(1, 1)], 1, true), Some(99));
        assert_eq!(least_wait(&[Job { able: vec![3], ..job(0, 1) }], 1, false), None);
    }

    #[test]
    fn nobody_is_better_than_the_bound_and_we_are_not_far() {
        for skilled in [false, true] {
            let distance = distance(20, skilled).unwrap();
            assert!(distance.systems.iter().all(|(_, mean)| *mean >= distance.bound_ms), "{}", distance.text());
            // Where all can do all, serving in order without delay is the best that order allows.
            let ours = distance.systems[0].1;
            let near = if skilled { 3.0 } else { 1.1 };
            assert!(ours < near * distance.in_order_ms + 100.0, "{}", distance.text());
        }
    }
}
