//! Looks at every step: what must hold, and what is counted.

use std::collections::{BTreeMap, BTreeSet};

use contract::envelope::{Envelope, EnvelopeKind};
use contract::journal::Entry;
use contract::{ConversationId, Event, Millis, Timestamp};
use engine::invariant::{Auditor, Invariant};
use engine::{Emitted, Phase, State, Step};

use crate::process::Process;
use crate::report::{Finding, Report, hash, percentile};

/// So many steps lie between two comparisons of whole states (R10) and two rounds of explanations (R12).
const THOROUGH_EVERY: u64 = 16;

#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) report: Report,
    /// Evolves what is in the journal, fact by fact.
    replica: State,
    auditor: Auditor,
    audited: usize,
    /// Messages that were handed to the router, and those that it took into a conversation.
    handed: BTreeSet<u128>,
    received: BTreeSet<u128>,
    opened_at: BTreeMap<ConversationId, Timestamp>,
    waits: Vec<Millis>,
}

impl Checker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            report: Report { seed, ..Report::default() },
            replica: State::new(),
            auditor: Auditor::default(),
            audited: 0,
            handed: BTreeSet::new(),
            received: BTreeSet::new(),
            opened_at: BTreeMap::new(),
            waits: Vec::new(),
        }
    }

    pub(crate) fn find(&mut self, broken: &'static str, detail: impl Into<String>) {
        let (seed, step) = (self.report.seed, self.report.steps);
        self.report.findings.push(Finding { seed, step, broken, detail: detail.into() });
    }

    fn require(&mut self, holds: bool, invariant: Invariant, detail: &str) {
        if !holds {
            self.find(invariant.name(), detail);
        }
    }

    /// An envelope was handed to the router and dealt with.
    pub(crate) fn handed(&mut self, envelope: &Envelope) {
        if envelope.kind == EnvelopeKind::Message {
            self.handed.insert(envelope.fingerprint());
        }
    }

    /// A step was decided, and stored as `entry`.
    pub(crate) fn step(&mut self, process: &Process, step: &Step, entry: &Entry) {
        self.report.steps += 1;
        for (event, emitted) in entry.events.iter().zip(&step.emitted) {
            let reach = self.replica.evolve(entry.at, event);
            let replayed = Emitted { event: event.clone(), reach };
            self.require(replayed == *emitted, Invariant::ReplayEqualsLive, "a fact reaches others in the replay");
            self.auditor.observe(&self.replica, &replayed);
            self.count(entry.at, event);
        }
        self.replica.evolve_cause(entry.at, &entry.cause);
        let fresh: Vec<_> = self.auditor.violations().iter().skip(self.audited).cloned().collect();
        self.audited += fresh.len();
        for violation in fresh.into_iter().chain(process.engine.violations()) {
            self.find(violation.invariant.name(), violation.detail);
        }
        if self.report.steps.is_multiple_of(THOROUGH_EVERY) {
            self.thorough(process);
        }
    }

    fn count(&mut self, at: Timestamp, event: &Event) {
        *self.report.facts.entry(event.name()).or_default() += 1;
        match event {
            Event::ConversationOpened { conversation, .. } => {
                self.opened_at.insert(*conversation, at);
            }
            Event::ConversationAssigned { conversation, .. } => {
                self.waits.extend(self.opened_at.remove(conversation).map(|opened| at.since(opened)));
            }
            Event::MessageReceived { envelope, .. } => {
                let fresh = self.received.insert(envelope.fingerprint());
                self.require(fresh, Invariant::OneHome, "a message is in two conversations");
            }
            _ => {}
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
        self.report.crashes += 1;
        self.thorough(process);
    }

    pub(crate) fn close(mut self, process: &Process) -> Report {
        self.thorough(process);
        let lost = self.handed.difference(&self.received).count();
        self.require(lost == 0, Invariant::OneHome, "messages were lost");
        self.waits.sort_unstable();
        self.report.wait_p50 = percentile(&self.waits, 50);
        self.report.wait_p90 = percentile(&self.waits, 90);
        let states = [process.engine.fingerprint(), process.profile.fingerprint()];
        self.report.digest = hash(&states.concat());
        self.report
    }
}
