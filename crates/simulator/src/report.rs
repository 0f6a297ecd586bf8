//! What to simulate, and what came of it.

use std::collections::BTreeMap;

use contract::Millis;

/// How much happens, and how much goes wrong. Rates are cases in a thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Inputs until everybody calms down.
    pub inputs: u64,
    /// Customers.
    pub customers: u64,
    /// Inputs that are delivered twice, from moments to days later.
    pub doubled: u64,
    /// Inputs that are held up, so that later ones overtake them.
    pub delayed: u64,
    /// Inputs at which the process dies.
    pub crashes: u64,
    /// Moods of agents in which the tool vanishes.
    pub vanishing: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { inputs: 300, customers: 20, doubled: 60, delayed: 100, crashes: 20, vanishing: 120 }
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
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
    /// From the opening to the first assignment: the median.
    pub wait_p50: Millis,
    /// From the opening to the first assignment: nine of ten waited no longer.
    pub wait_p90: Millis,
    /// A hash of the last state; the same for the same seed.
    pub digest: u64,
    /// What must not be.
    pub findings: Vec<Finding>,
}

/// The value below which so many hundredths lie.
pub(crate) fn percentile(sorted: &[Millis], hundredths: usize) -> Millis {
    let at = sorted.len().saturating_sub(1) * hundredths / 100;
    sorted.get(at).copied().unwrap_or_default()
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
