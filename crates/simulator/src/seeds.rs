//! Many seeds of one world.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use crate::company::{Change, Company, team_text};
use crate::machine::Sabotage;
use crate::report::Run;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::world::{Setting, World};

/// A world that can be run for any seed.
#[derive(Debug, Clone)]
pub struct Seeds {
    /// The world.
    pub scenario: Scenario,
    /// Under which policy.
    pub company: Company,
    /// Policies that are in force now and then, where the faults say so.
    pub changes: Vec<Company>,
    /// A mistake that is built in.
    pub sabotage: Sabotage,
    /// Whether what waits at the end is served, and that is checked.
    pub to_the_end: bool,
}

impl Seeds {
    /// A world with a team of its own.
    ///
    /// # Errors
    /// When the team's policy cannot be applied, which is a mistake of this crate.
    pub fn new(scenario: Scenario) -> Result<Self, String> {
        let change = |change| Company::from_toml(&team_text(scenario.agents, change));
        let changes = [Change::HalfCapacity, Change::WithoutAgent, Change::WithoutSales, Change::WithoutWrapUp];
        let changes = changes.into_iter().map(change).collect::<Result<_, _>>()?;
        let company = change(Change::None)?;
        Ok(Self { scenario, company, changes, sabotage: Sabotage::None, to_the_end: true })
    }

    /// A world with a given policy, which stays in force.
    #[must_use]
    pub fn with_policy(scenario: Scenario, company: Company) -> Self {
        Self { scenario, company, changes: Vec::new(), sabotage: Sabotage::None, to_the_end: true }
    }

    /// The trace of a seed.
    #[must_use]
    pub fn trace(&self, seed: u64) -> Trace {
        self.scenario.trace(seed, &self.company)
    }

    /// Runs a seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Run {
        self.run_trace(seed, &self.trace(seed))
    }

    /// Runs a trace in this world.
    #[must_use]
    pub fn run_trace(&self, seed: u64, trace: &Trace) -> Run {
        let setting = Setting {
            trace,
            company: &self.company,
            changes: &self.changes,
            faults: &self.scenario.faults,
            sabotage: self.sabotage,
            to_the_end: self.to_the_end,
        };
        World::new(seed, setting).run()
    }

    /// Runs many seeds on so many threads, and hands each run over as it is done, in the order of the
    /// seeds. Stops early when `each` says so (false).
    pub fn run_all(&self, seeds: Range<u64>, threads: usize, mut each: impl FnMut(Run) -> bool) {
        let next = AtomicU64::new(seeds.start);
        let threads = threads.max(1);
        // Bounded: a slow reader holds the workers up instead of filling memory.
        let (sender, receiver) = mpsc::sync_channel::<Run>(threads * 2);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (sender, next, end) = (sender.clone(), &next, seeds.end);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || sender.send(self.run(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut early = std::collections::BTreeMap::new();
            let mut expected = seeds.start;
            'all: while let Ok(run) = receiver.recv() {
                early.insert(run.seed, run);
                while let Some(run) = early.remove(&expected) {
                    expected += 1;
                    if !each(run) {
                        break 'all;
                    }
                }
            }
            // Workers that still send find nobody, and end.
            next.store(seeds.end, Ordering::Relaxed);
            drop(receiver);
        });
    }
}
