//! A seeded world around the real engine and the real profile, and what can be learnt from it.
//!
//! A [`Scenario`] and a seed make a [`Trace`]: who writes when, who works when, how long everything takes.
//! A world gives the trace to the engine, with repeats, losses, crashes and clock jumps if asked to, and
//! checks the invariants R1 to R12 on the way; what breaks is shrunk to a script that a person can read. A
//! [`Report`] reckons up how customers and agents fared; the same trace can be given to other policies and
//! to the rules of other systems, or be made from a journal.
//!
//! What is absent: the bus, real time, any chance but that of the seed. Threads only run whole seeds.

pub mod bound;
mod check;
mod cold;
mod company;
mod html;
mod infer;
mod journal;
mod log;
mod machine;
pub mod peers;
mod random;
mod report;
mod scenario;
mod script;
mod seeds;
mod shrink;
mod trace;
mod whatif;
mod world;

pub use company::{Company, Needs, Worker};
pub use html::page;
pub use infer::{Inferred, infer};
pub use journal::{read_journal, records, write_journal};
pub use log::{Case, RunLog, Staff, Stretch};
pub use machine::Sabotage;
pub use report::{AgentLoad, Bar, Finding, Metrics, Point, Report, Run, Spread, comparison, thousandths};
pub use scenario::{Curve, Faults, Scenario, Shifts};
pub use seeds::Seeds;
pub use shrink::Shrunk;
pub use trace::{Arrival, Duty, DutyKind, Habits, More, Trace};
pub use whatif::{Changed, Difference, WhatIf, what_if};
pub use world::Setting;

/// Runs a trace with a seed for all that the trace leaves to chance.
#[must_use]
pub fn run(seed: u64, setting: Setting<'_>) -> Run {
    world::World::new(seed, setting).run()
}
