//! Other systems' rules on the same traces: the same customers, agents and handle times.
//!
//! Each rule is a small model of what its system's sources and manuals say of when it looks, what it
//! looks at first, whom it chooses and whether it asks. What is not modelled: their channels, their
//! failures, their skill systems (every system is given the eligibility that our policy decided).

mod desk;
mod rules;

use contract::Millis;

use crate::company::Company;
use crate::log::RunLog;
use crate::seeds::Seeds;
use crate::trace::Trace;

pub use desk::{Item, Rule, Seat};
pub use rules::{Chatwoot, Genesys, Libredesk, RocketChat, TaskRouter};

/// Something that brings customers to agents.
pub trait System {
    /// What to call it.
    fn name(&self) -> String;
    /// What it does, and where that is known from.
    fn about(&self) -> &'static str;
    /// Runs a trace.
    fn run(&mut self, seed: u64, trace: &Trace, company: &Company) -> RunLog;
}

/// Our engine, as it is.
#[derive(Debug)]
pub struct Throughline(pub Seeds);

impl System for Throughline {
    fn name(&self) -> String {
        "throughline".to_owned()
    }

    fn about(&self) -> &'static str {
        "decides at every change; priority, then age; the least loaded, then the longest idle; offers with a lease"
    }

    fn run(&mut self, seed: u64, trace: &Trace, _: &Company) -> RunLog {
        self.0.run_trace(seed, trace).log
    }
}

/// A rule at a desk.
struct AtDesk<R>(R);

impl<R: Rule> System for AtDesk<R> {
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    fn about(&self) -> &'static str {
        self.0.about()
    }

    fn run(&mut self, seed: u64, trace: &Trace, company: &Company) -> RunLog {
        desk::run(&mut self.0, seed, trace, company)
    }
}

/// All systems, ours first.
#[must_use]
pub fn all(ours: &Seeds) -> Vec<Box<dyn System>> {
    vec![
        Box::new(Throughline(Seeds { to_the_end: false, ..ours.clone() })),
        Box::new(AtDesk(Genesys)),
        Box::new(AtDesk(TaskRouter)),
        Box::new(AtDesk(RocketChat)),
        Box::new(AtDesk(Libredesk::default())),
        Box::new(AtDesk(Chatwoot::default())),
    ]
}

/// Every system on the traces of the same seeds.
#[must_use]
pub fn compare(ours: &Seeds, seeds: std::ops::Range<u64>, threshold: Millis) -> Vec<crate::Report> {
    let mut reports = Vec::new();
    for mut system in all(ours) {
        let mut whole: Option<RunLog> = None;
        for seed in seeds.clone() {
            let log = system.run(seed, &ours.trace(seed), &ours.company);
            match &mut whole {
                Some(whole) => whole.merge(log),
                None => whole = Some(log),
            }
        }
        reports.extend(whole.map(|log| crate::Report::of(&log, threshold)));
    }
    reports
}
