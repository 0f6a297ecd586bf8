//! The router's process without its I/O: what is in memory, what outlives it, and the checks around it.

use contract::command::AgentCommand;
use contract::journal::{Cause, Entry, Fingerprint};
use contract::{AgentId, Encoding, Envelope, Event, QueueId, TenantId, Timestamp};
use engine::{Answer, CommandInput, State, Step};

use crate::check::Checker;
use crate::report::Finding;
use crate::script::{Book, Line, Op, Verb, Writer};
use crate::trace;

/// When every world begins.
pub(crate) const START: Timestamp = Timestamp(1_700_000_000_000);

/// A mistake that is built in on purpose, to show that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// None: the engine as it is.
    #[default]
    None,
    /// That an offer lapsed does not reach the journal.
    SwallowExpiry,
    /// A message with the tag `buy` is taken in twice.
    DoubleMessage,
    /// What an agent said is missing from the snapshot's journal: a replay knows less than the process.
    ForgetReply,
}

/// What is lost when the process dies.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) engine: State,
    pub(crate) profile: profile::State,
}

/// What became of an input.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was done.
    Done(Step),
    /// It was done before.
    Repeated,
    /// It cannot be done.
    Refused,
    /// It is about something that does not exist in this run, or is not an input of the router's.
    Nothing,
}

#[derive(Debug)]
struct Store {
    journal: Vec<Entry>,
    /// A snapshot, and how many entries it reflects.
    snapshot: Option<(Vec<u8>, Vec<u8>, usize)>,
    /// Customers who are not in memory.
    kept: crate::cold::Kept,
}

/// A process with its journal, watched.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) process: Process,
    store: Store,
    tenant: Option<TenantId>,
    pub(crate) checker: Checker,
    pub(crate) book: Book,
    sabotage: Sabotage,
}

impl Process {
    /// Takes in an envelope. `None`: it was taken in before.
    fn envelope(&mut self, now: Timestamp, envelope: &Envelope, again: bool) -> Option<Step> {
        if self.engine.has_seen(envelope) && !again {
            return None;
        }
        let mut step = self.engine.open_step(now, Cause::Envelope(Fingerprint(envelope.fingerprint())));
        let customer = State::needs_customer(envelope).then(|| {
            let (policy, version) = self.engine.policy();
            self.profile.follow(version, &policy.identity);
            let owner = self.engine.proven_thread(envelope);
            let (customer, facts) = self.profile.resolve(step.at, envelope, owner);
            for fact in facts {
                self.profile.evolve(step.at, &fact);
                self.engine.adopt(&mut step, fact);
            }
            customer
        });
        self.engine.receive(&mut step, customer, envelope.clone());
        Some(step)
    }
}

impl Store {
    /// A new process: from the snapshot and the entries after it, or from all entries.
    fn recover(&self, by_snapshot: bool) -> Process {
        let mut process = Process::default();
        let mut reflected = 0;
        if let Some((engine, profile, entries)) = self.snapshot.as_ref().filter(|_| by_snapshot)
            && let (Ok(engine), Ok(profile)) = (
                Encoding::MsgPack.decode::<State>(engine, usize::MAX),
                Encoding::MsgPack.decode::<profile::State>(profile, usize::MAX),
            )
        {
            (process.engine, process.profile, reflected) = (engine, profile, *entries);
            process.profile.reindex();
        }
        let mut replay = engine::Replay::new(process.engine);
        for entry in self.journal.iter().skip(reflected) {
            replay.entry(entry);
            for fact in &entry.events {
                process.profile.evolve(entry.at, fact);
            }
        }
        process.engine = replay.finish();
        process
    }
}

impl Machine {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        Self {
            process: Process::default(),
            store: Store { journal: Vec::new(), snapshot: None, kept: crate::cold::Kept::default() },
            tenant: crate::company::tenant(),
            checker: Checker::new(seed),
            book: Book::default(),
            sabotage,
        }
    }

    /// Gives an input to the process.
    pub(crate) fn apply(&mut self, at: Timestamp, op: &Op) -> Outcome {
        self.recall_named(at, op);
        let outcome = match op {
            Op::Checkpoint => {
                self.let_go(at);
                let profile = Encoding::MsgPack.encode(&self.process.profile).unwrap_or_default();
                self.store.snapshot = Some((self.process.engine.fingerprint(), profile, self.store.journal.len()));
                return Outcome::Nothing;
            }
            Op::Crash { before_storing, by_snapshot } => {
                if let Some(op) = before_storing {
                    self.decide(at, op);
                }
                self.process = self.store.recover(*by_snapshot);
                self.checker.recovered(&self.process);
                return Outcome::Nothing;
            }
            Op::Jump => self.process.engine.tick(at).map_or(Outcome::Nothing, Outcome::Done),
            op => self.decide(at, op),
        };
        match outcome {
            Outcome::Done(step) => {
                let step = self.keep(step);
                if let Op::Message(envelope) = op {
                    self.checker.handed(envelope);
                    if self.sabotage == Sabotage::DoubleMessage
                        && envelope.tags.iter().any(|tag| tag == "buy")
                        && let Some(again) = self.process.envelope(at, envelope, true)
                    {
                        self.keep(again);
                    }
                }
                Outcome::Done(step)
            }
            Outcome::Repeated => {
                self.checker.repeated();
                Outcome::Repeated
            }
            Outcome::Refused => {
                self.checker.refused();
                Outcome::Refused
            }
            Outcome::Nothing => Outcome::Nothing,
        }
    }

    /// Whoever has been silent leaves the process.
    fn let_go(&mut self, at: Timestamp) {
        for _ in 0..Process::leave_max() {
            let name = self.store.journal.len() as u64;
            let Some(step) = self.process.rest_one(at, name, &mut self.store.kept) else { return };
            self.keep(step);
        }
    }

    /// Whoever an input names and is not there comes back.
    fn recall_named(&mut self, at: Timestamp, op: &Op) {
        let steps = match op {
            Op::Message(envelope) => self.process.recall(at, envelope, &self.store.kept),
            Op::Receipt { key, sent, channel, status } => {
                let Some(message) = self.book.message(sent) else { return };
                let envelope = trace::receipt(&sent.customer, channel, key, status.clone(), message);
                self.process.recall(at, &envelope, &self.store.kept)
            }
            _ => return,
        };
        for step in steps {
            self.keep(step);
        }
    }

    /// The first thing that is due by `now`.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Option<Step> {
        let step = self.process.engine.tick(now)?;
        Some(self.keep(step))
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.process.engine.next_deadline()
    }

    fn decide(&mut self, at: Timestamp, op: &Op) -> Outcome {
        let command = |input: Option<CommandInput>, engine: &mut State| match input {
            None => Outcome::Nothing,
            Some(input) => match engine.command(at, input) {
                Answer::Done(_, step) => Outcome::Done(step),
                Answer::Repeated(_) => Outcome::Repeated,
                Answer::Refused(_) => Outcome::Refused,
            },
        };
        match op {
            Op::Policy { id, company } => {
                let input = CommandInput::Admin { id: id.clone(), command: company.command() };
                command(Some(input), &mut self.process.engine)
            }
            Op::Command { agent, id, verb } => {
                let wanted = verb_command(verb, &self.book);
                let input = wanted.map(|command| CommandInput::Agent { agent: agent.clone(), id: id.clone(), command });
                command(input, &mut self.process.engine)
            }
            Op::Message(envelope) => {
                self.process.envelope(at, envelope, false).map_or(Outcome::Repeated, Outcome::Done)
            }
            Op::Receipt { key, sent, channel, status } => {
                let Some(message) = self.book.message(sent) else { return Outcome::Nothing };
                let envelope = trace::receipt(&sent.customer, channel, key, status.clone(), message);
                self.process.envelope(at, &envelope, false).map_or(Outcome::Repeated, Outcome::Done)
            }
            Op::Heard(agent) => Outcome::Done(self.process.engine.agent_heard(at, agent)),
            Op::Silent(agent) => Outcome::Done(self.process.engine.agent_silent(at, agent)),
            Op::Jump | Op::Checkpoint | Op::Crash { .. } => Outcome::Nothing,
        }
    }

    /// A step goes into the journal, as it would be read back, and is looked at.
    fn keep(&mut self, mut step: Step) -> Step {
        if step.is_empty() && matches!(step.cause, Cause::Notice | Cause::Timer) {
            return step;
        }
        match self.sabotage {
            Sabotage::SwallowExpiry => {
                step.emitted.retain(|emitted| !matches!(&*emitted.event, Event::OfferExpired { .. }));
            }
            Sabotage::ForgetReply => {
                step.emitted.retain(|emitted| !matches!(&*emitted.event, Event::MessageSent { .. }));
            }
            Sabotage::None | Sabotage::DoubleMessage => {}
        }
        let Some(tenant) = &self.tenant else { return step };
        let entry = step.entry(tenant);
        let bytes = Encoding::MsgPack.encode(&entry).unwrap_or_default();
        let entry: Entry = Encoding::MsgPack.decode(&bytes, usize::MAX).unwrap_or(entry);
        self.checker.step(&self.process, &step, &entry);
        for event in &entry.events {
            self.book.note(event);
        }
        self.store.journal.push(entry);
        step
    }

    /// What the journal holds.
    pub(crate) fn into_journal(self) -> Vec<Entry> {
        self.store.journal
    }
}

/// Does a script from the beginning: the first thing that must not be, if anything is, and how long time
/// had to pass after the last input.
pub(crate) fn replay(
    lines: &[Line],
    until: Option<Timestamp>,
    sabotage: Sabotage,
) -> Option<(Finding, Option<Timestamp>)> {
    let mut machine = Machine::new(0, sabotage);
    let mut clock = START;
    for line in lines {
        pass(&mut machine, &mut clock, line);
        machine.apply(line.at, &line.op);
        if let Some(found) = machine.checker.first() {
            return Some((found, None));
        }
    }
    machine.checker.thorough(&machine.process);
    if let Some(found) = machine.checker.first() {
        return Some((found, None));
    }
    while let Some(due) = machine.next_deadline().filter(|due| until.is_some_and(|until| *due <= until)) {
        clock = clock.max(due);
        machine.tick(clock)?;
        machine.checker.thorough(&machine.process);
        if let Some(found) = machine.checker.first() {
            return Some((found, Some(clock)));
        }
    }
    None
}

/// A script in the language of the engine's scenarios.
pub(crate) fn write(lines: &[Line], until: Option<Timestamp>, sabotage: Sabotage) -> String {
    let mut machine = Machine::new(0, sabotage);
    let (mut clock, mut writer) = (START, Writer::new(START));
    for line in lines {
        pass(&mut machine, &mut clock, line);
        writer.line(line, &machine.book);
        machine.apply(line.at, &line.op);
    }
    if let Some(until) = until {
        writer.pass(until);
    }
    writer.finish()
}

/// Time passes until an input, as for a router that wakes whenever something is due.
fn pass(machine: &mut Machine, clock: &mut Timestamp, line: &Line) {
    if !matches!(line.op, Op::Jump) && line.at >= *clock {
        while let Some(due) = machine.next_deadline().filter(|due| *due <= line.at) {
            *clock = (*clock).max(due);
            if machine.tick(*clock).is_none() {
                break;
            }
        }
    }
    *clock = line.at;
}

fn verb_command(verb: &Verb, book: &Book) -> Option<AgentCommand> {
    let (reason, note, disposition) = (None, None, None);
    Some(match verb {
        Verb::Presence(presence) => AgentCommand::PresenceSet { presence: presence.clone(), reason },
        Verb::Accept(offer) => AgentCommand::OfferAccept { offer: book.offer(offer)? },
        Verb::Decline(offer) => AgentCommand::OfferDecline { offer: book.offer(offer)?, reason },
        Verb::Say(nth) => AgentCommand::MessageSend {
            conversation: book.conversation(nth)?,
            content: vec![trace::said("hello")],
            reply_to: None,
            via: None,
            purpose: None,
        },
        Verb::Note(nth) => AgentCommand::NoteAdd { conversation: book.conversation(nth)?, text: "remember".to_owned() },
        Verb::ToQueue(nth, queue) => AgentCommand::ConversationTransfer {
            conversation: book.conversation(nth)?,
            to_queue: Some(QueueId::new(queue.clone()).ok()?),
            to_agent: None,
            note,
        },
        Verb::ToAgent(nth, agent) => AgentCommand::ConversationTransfer {
            conversation: book.conversation(nth)?,
            to_queue: None,
            to_agent: Some(AgentId::clone(agent)),
            note,
        },
        Verb::Back(nth) => AgentCommand::ConversationTakeBack { conversation: book.conversation(nth)? },
        Verb::Park(nth, until) => {
            AgentCommand::ConversationPark { conversation: book.conversation(nth)?, until: *until, reason }
        }
        Verb::Resume(nth) => AgentCommand::ConversationResume { conversation: book.conversation(nth)? },
        Verb::Close(nth) => AgentCommand::ConversationClose { conversation: book.conversation(nth)?, disposition },
        Verb::Complete(nth) => AgentCommand::WrapUpComplete { conversation: book.conversation(nth)?, disposition },
    })
}
