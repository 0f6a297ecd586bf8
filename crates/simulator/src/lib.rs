//! A small world around the real engine and the real profile.
//!
//! Customers write on two channels, under claimed and proven names; agents answer offers quickly, slowly
//! or not at all, talk, park, transfer and close; their tools vanish and come back; inputs are doubled and
//! overtake each other; the router's clock jumps; its process dies before or after a decision is in the
//! journal, and the next one reads the journal or a snapshot and goes on. All by chance, and all of that
//! from one seed: the same seed gives the same [`Report`].
//!
//! After every step the invariants R1 to R12 are checked, and in the end, once everybody is there and
//! willing, everything that waits must be served. What is absent: the bus, threads, real time.

mod check;
mod demo;
mod process;
mod random;
mod report;
mod world;

pub use report::{Finding, Options, Report};

/// Runs the world of a seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    world::World::new(seed, options).run()
}
