//! The router's process, without its I/O: what is in memory, and what outlives it.

use contract::envelope::Envelope;
use contract::journal::{Cause, Entry, Fingerprint};
use contract::{AgentId, Encoding, TenantId, Timestamp};
use engine::{Answer, CommandInput, Liveness, State, Step};

/// What is lost when the process dies.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) engine: State,
    pub(crate) profile: profile::State,
    pub(crate) liveness: Liveness,
}

/// What is not.
#[derive(Debug)]
pub(crate) struct Store {
    tenant: TenantId,
    pub(crate) journal: Vec<Entry>,
    /// A snapshot, and how many entries it reflects.
    snapshot: Option<(Vec<u8>, Vec<u8>, usize)>,
}

impl Process {
    /// Takes in an envelope. `None`: it was taken in before.
    pub(crate) fn envelope(&mut self, now: Timestamp, envelope: Envelope) -> Option<Step> {
        if self.engine.has_seen(&envelope) {
            return None;
        }
        let mut step = self.engine.open_step(now, Cause::Envelope(Fingerprint(envelope.fingerprint())));
        let customer = State::needs_customer(&envelope).then(|| {
            let (customer, facts) = self.profile.resolve(&envelope);
            for fact in facts {
                self.profile.evolve(step.at, &fact);
                self.engine.adopt(&mut step, fact);
            }
            customer
        });
        self.engine.receive(&mut step, customer, envelope);
        Some(step)
    }

    pub(crate) fn command(&mut self, now: Timestamp, input: CommandInput) -> Answer {
        self.engine.command(now, input)
    }

    /// The agent's tool gave a sign of life.
    pub(crate) fn heard(&mut self, now: Timestamp, agent: &AgentId) -> Step {
        self.liveness.touch(agent, now);
        self.engine.agent_heard(now, agent)
    }

    /// The first thing that is due by `now`, if anything is.
    pub(crate) fn time(&mut self, now: Timestamp) -> Option<Step> {
        if let Some(step) = self.engine.tick(now) {
            return Some(step);
        }
        let silence = self.engine.policy().0.timing.agent_silence_ms;
        let agent = self.liveness.silent(now, silence).into_iter().next()?;
        self.liveness.forget(&agent);
        Some(self.engine.agent_silent(now, &agent))
    }

    /// When something is due next.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let silence = self.engine.policy().0.timing.agent_silence_ms;
        let deadlines = [self.engine.next_deadline(), self.liveness.next_deadline(silence)];
        deadlines.into_iter().flatten().min()
    }

    fn replay(&mut self, entry: &Entry) {
        self.engine.replay(entry);
        for fact in &entry.events {
            self.profile.evolve(entry.at, fact);
        }
    }
}

impl Store {
    pub(crate) fn new(tenant: TenantId) -> Self {
        Self { tenant, journal: Vec::new(), snapshot: None }
    }

    /// Appends a step as it would be read back.
    pub(crate) fn append(&mut self, step: &Step) -> Entry {
        let entry = step.entry(&self.tenant);
        let bytes = Encoding::MsgPack.encode(&entry).unwrap_or_default();
        let stored: Entry = Encoding::MsgPack.decode(&bytes, usize::MAX).unwrap_or(entry);
        self.journal.push(stored.clone());
        stored
    }

    pub(crate) fn checkpoint(&mut self, process: &Process) {
        let profile = Encoding::MsgPack.encode(&process.profile).unwrap_or_default();
        self.snapshot = Some((process.engine.fingerprint(), profile, self.journal.len()));
    }

    /// A new process: from the snapshot and the entries after it, or from all entries.
    pub(crate) fn recover(&self, now: Timestamp, by_snapshot: bool) -> Process {
        let mut process = Process::default();
        let mut reflected = 0;
        if let Some((engine, profile, entries)) = self.snapshot.as_ref().filter(|_| by_snapshot)
            && let (Ok(engine), Ok(profile)) = (
                Encoding::MsgPack.decode::<State>(engine, usize::MAX),
                Encoding::MsgPack.decode::<profile::State>(profile, usize::MAX),
            )
        {
            (process.engine, process.profile, reflected) = (engine, profile, *entries);
            process.engine.reindex();
            process.profile.reindex();
        }
        for entry in self.journal.iter().skip(reflected) {
            process.replay(entry);
        }
        let connected = process.engine.agents().filter(|(_, agent)| agent.connected);
        let connected: Vec<AgentId> = connected.map(|(id, _)| id.clone()).collect();
        for agent in connected {
            process.liveness.touch(&agent, now);
        }
        process
    }
}
