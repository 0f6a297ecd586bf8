//! How long calls took.

use std::time::Instant;

use nix::time::{ClockId, clock_gettime};

/// How long single calls took, by what they did.
pub struct Times {
    overhead: Took,
    rounds: Vec<Round>,
}

type Round = Vec<(&'static str, Vec<Took>)>;

/// Nanoseconds.
#[derive(Clone, Copy)]
pub struct Took {
    /// By the clock on the wall; what else runs on the machine counts too when it came in between.
    wall: u64,
    /// Of this thread on a core.
    core: u64,
}

/// When something began.
pub struct Clocks {
    core: u64,
    wall: Instant,
}

impl Clocks {
    pub fn now() -> Self {
        let core = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        let core = core.tv_sec() * 1_000_000_000 + core.tv_nsec();
        // The one that is quicker to read is read closer to the work.
        Self { core: core.unsigned_abs(), wall: Instant::now() }
    }

    pub fn since(self) -> Took {
        let wall = u64::try_from(self.wall.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Took { wall, core: Self::now().core.saturating_sub(self.core) }
    }
}

impl Times {
    /// What taking the time itself takes is left out: the least of many.
    pub fn new() -> Self {
        let nothing: Vec<Took> = (0..10_000).map(|_| Clocks::now().since()).collect();
        let least = |of: fn(&Took) -> u64| nothing.iter().map(of).min().unwrap_or(0);
        Self { overhead: Took { wall: least(|took| took.wall), core: least(|took| took.core) }, rounds: Vec::new() }
    }

    /// What follows is another round of the same.
    pub fn round(&mut self) {
        self.rounds.push(Vec::new());
    }

    /// Does it, and notes how long that took.
    pub fn of<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        self.of_either(|_| what, work)
    }

    /// Does it, and notes how long that took under a name that depends on what came of it.
    pub fn of_either<T>(&mut self, what: impl FnOnce(&T) -> &'static str, work: impl FnOnce() -> T) -> T {
        let start = Clocks::now();
        let outcome = work();
        let took = start.since();
        let took = Took {
            wall: took.wall.saturating_sub(self.overhead.wall),
            core: took.core.saturating_sub(self.overhead.core),
        };
        let what = what(&outcome);
        let Some(round) = self.rounds.last_mut() else { return outcome };
        match round.iter_mut().find(|(known, _)| *known == what) {
            Some((_, all)) => all.push(took),
            None => round.push((what, vec![took])),
        }
        outcome
    }

    /// A line for each kind of call. The machine may be busy with other things, which only ever adds: of each
    /// figure the round in which it was smallest counts, save for the greatest, which is that of all rounds.
    pub fn print(&self) {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in self.rounds.iter().flatten() {
            if !names.contains(name) {
                names.push(name);
            }
        }
        for name in names {
            let sorted = |of: fn(&Took) -> u64| -> Vec<Vec<u64>> {
                let rounds = self.rounds.iter().flatten().filter(|(known, _)| *known == name);
                rounds
                    .map(|(_, all)| {
                        let mut all: Vec<u64> = all.iter().map(of).collect();
                        all.sort_unstable();
                        all
                    })
                    .collect()
            };
            let (wall, core) = (sorted(|took| took.wall), sorted(|took| took.core));
            let at = |rounds: &[Vec<u64>], percent: usize| {
                let of_round = |all: &Vec<u64>| all.get((all.len() - 1) * percent / 100).copied().unwrap_or(0);
                us(rounds.iter().map(of_round).min().unwrap_or(0))
            };
            let max = |rounds: &[Vec<u64>]| us(rounds.iter().filter_map(|all| all.last().copied()).max().unwrap_or(0));
            let count: usize = wall.iter().map(Vec::len).sum();
            println!(
                "    {name:<26} {count:>6} {:>8.2} {:>8.2} {:>9.2} {:>10.2} {:>9.2} {:>9.2} {:>9.2}",
                at(&wall, 0),
                at(&wall, 50),
                at(&wall, 99),
                max(&wall),
                at(&core, 50),
                at(&core, 99),
                max(&core),
            );
        }
    }
}

/// By the clock on the wall, and of a core.
pub fn seconds(took: Took) -> (f64, f64) {
    (took.wall as f64 / 1e9, took.core as f64 / 1e9)
}

/// Nanoseconds as microseconds, for people.
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

pub fn head() {
    let [min, median, p99, max] = ["min", "median", "p99", "max"];
    println!(
        "    {:<26} {:>6} {min:>8} {median:>8} {p99:>9} {max:>10} {median:>9} {p99:>9} {max:>9}  (us: wall, core)",
        "", "calls"
    );
}
