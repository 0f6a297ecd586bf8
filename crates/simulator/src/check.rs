//! Looks at every step: what must hold.

use std::collections::{BTreeMap, BTreeSet};

use contract::Event;
use contract::envelope::{Envelope, EnvelopeKind};
use contract::journal::Entry;
use engine::invariant::{Auditor, Invariant};
use engine::{Emitted, Phase, State, Step};

use crate::machine::Process;
use crate::random::hash;
use crate::report::Finding;

/// So many steps lie at least between two comparisons of whole states (R10) and two rounds of
/// explanations (R12). Larger states are compared less often, so that the cost of a step stays bounded.
const THOROUGH_EVERY: u64 = 32;
/// States of at most this many open conversations and agents are checked (R1 to R5) after every step.
const SMALL: usize = 64;

#[derive(Debug)]
pub(crate) struct Checker {
    seed: u64,
    /// Steps that went into the journal.
    pub(crate) steps: u64,
    /// Facts by name.
    pub(crate) facts: BTreeMap<&'static str, u64>,
    pub(crate) crashes: u64,
    pub(crate) repeats: u64,
    pub(crate) refusals: u64,
    pub(crate) findings: Vec<Finding>,
    /// Evolves what is in the journal, fact by fact.
    replica: State,
    auditor: Auditor,
    audited: usize,
    /// When the state is looked at next, and when it is compared next.
    look_at: u64,
    thorough_at: u64,
    /// Messages that were handed to the router, and those that it took into a conversation.
    handed: BTreeSet<u128>,
    received: BTreeSet<u128>,
}

impl Checker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: 0,
            facts: BTreeMap::new(),
            crashes: 0,
            repeats: 0,
            refusals: 0,
            findings: Vec::new(),
            replica: State::new(),
            auditor: Auditor::default(),
            audited: 0,
            look_at: 1,
            thorough_at: THOROUGH_EVERY,
            handed: BTreeSet::new(),
            received: BTreeSet::new(),
        }
    }

    pub(crate) fn first(&self) -> Option<Finding> {
        self.findings.first().cloned()
    }

    pub(crate) fn find(&mut self, broken: &'static str, detail: impl Into<String>) {
        self.findings.push(Finding { seed: self.seed, step: self.steps, broken, detail: detail.into() });
    }

    fn require(&mut self, holds: bool, invariant: Invariant, detail: &str) {
        if !holds {
            self.find(invariant.name(), detail);
        }
    }

    pub(crate) fn repeated(&mut self) {
        self.repeats += 1;
    }

    pub(crate) fn refused(&mut self) {
        self.refusals += 1;
    }

    /// An envelope was handed to the router and dealt with.
    pub(crate) fn handed(&mut self, envelope: &Envelope) {
        if envelope.kind == EnvelopeKind::Message {
            self.handed.insert(envelope.fingerprint());
        }
    }

    /// A step was decided, and stored as `entry`.
    pub(crate) fn step(&mut self, process: &Process, step: &Step, entry: &Entry) {
        self.steps += 1;
        for (event, emitted) in entry.events.iter().zip(&step.emitted) {
            let reach = self.replica.evolve(entry.at, event);
            let replayed = Emitted { event: event.clone(), reach };
            self.require(replayed == *emitted, Invariant::ReplayEqualsLive, "a fact reaches others in the replay");
            self.auditor.observe(&self.replica, &replayed);
            *self.facts.entry(event.name()).or_default() += 1;
            if let Event::MessageReceived { envelope, .. } = &**event {
                let fresh = self.received.insert(envelope.fingerprint());
                self.require(fresh, Invariant::OneHome, "a message is in two conversations");
            }
        }
        self.replica.evolve_cause(entry.at, &entry.cause);
        let fresh: Vec<_> = self.auditor.violations().iter().skip(self.audited).cloned().collect();
        self.audited += fresh.len();
        for violation in fresh {
            self.find(violation.invariant.name(), violation.detail);
        }
        if self.steps >= self.look_at {
            self.look(process);
            let size = process.engine.conversations().count() + process.engine.agents().count();
            self.look_at = self.steps + 1 + (size.saturating_sub(SMALL) / 4) as u64;
        }
        if self.steps >= self.thorough_at {
            self.thorough(process);
            let size = process.engine.remembered() + process.engine.conversations().count();
            self.thorough_at = self.steps + THOROUGH_EVERY.max(size as u64 / 4);
        }
    }

    fn look(&mut self, process: &Process) {
        for violation in process.engine.violations() {
            self.find(violation.invariant.name(), violation.detail);
        }
    }

    /// Compares whole states, and asks for explanations.
    pub(crate) fn thorough(&mut self, process: &Process) {
        let same = process.engine.fingerprint() == self.replica.fingerprint();
        self.require(same, Invariant::ReplayEqualsLive, "the replica's state differs");
        let due = process.engine.next_deadline() == self.replica.next_deadline();
        self.require(due, Invariant::ReplayEqualsLive, "the replica's timers differ");
        for (id, conversation) in process.engine.conversations() {
            let explained = process.engine.explain(id);
            let waits = matches!(conversation.phase, Phase::Waiting { .. });
            let sound = explained.is_some_and(|explained| !waits || explained.now.eligible.is_empty());
            self.require(sound, Invariant::Explained, "a conversation waits and nobody can say why");
        }
    }

    /// The process died; the new one must be as the old was after its last stored step.
    pub(crate) fn recovered(&mut self, process: &Process) {
        self.crashes += 1;
        self.thorough(process);
        if let Some(part) = process.engine.derived_otherwise(&self.replica) {
            self.find(Invariant::ReplayEqualsLive.name(), format!("a replay derives otherwise: {part}"));
        }
    }

    /// At the end: everything once more, and nothing that was handed over is missing. Returns a hash of
    /// the last state.
    pub(crate) fn close(&mut self, process: &Process) -> u64 {
        self.look(process);
        self.thorough(process);
        let lost = self.handed.difference(&self.received).count();
        self.require(lost == 0, Invariant::OneHome, "messages were lost");
        hash(&[process.engine.fingerprint(), process.profile.fingerprint()].concat())
    }
}
