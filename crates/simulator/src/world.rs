//! What happens outside the router, and in which order.

use std::collections::BTreeMap;

use contract::envelope::ReceiptStatus;
use contract::event::{EnqueueReason, Presence};
use contract::{AgentId, ConversationId, Event, Millis, OfferId, SmolStr, Timestamp};
use engine::{Liveness, Phase, Step};

use crate::company::{self, Company};
use crate::log::RunLog;
use crate::machine::{Machine, Outcome, START, Sabotage};
use crate::random::{Random, millis, whole};
use crate::report::Run;
use crate::scenario::Faults;
use crate::script::{Line, Nth, Op, Verb};
use crate::shrink;
use crate::trace::{DutyKind, Trace};

const DAY: Millis = Millis::from_secs(24 * 3600);
/// How long everybody may take, once calm, to serve what waits.
const CALM: Millis = Millis::from_secs(6 * 3600);
/// How long an agent needs to see that the customer has left.
pub(crate) const EMPTY: Millis = Millis::from_secs(5);
/// After this long an agent looks again whether what it wanted was done.
const AGAIN: Millis = Millis::from_secs(60);
/// An agent who leaves signs out after so many minutes, whatever is left.
const SIGN_OFF_MAX: u32 = 30;

/// What is to be done with a trace.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Who comes and who works.
    pub trace: &'a Trace,
    /// Under which policy.
    pub company: &'a Company,
    /// Policies that are in force for a while now and then, where the faults say so.
    pub changes: &'a [Company],
    /// What goes wrong.
    pub faults: &'a Faults,
    /// A mistake that is built in.
    pub sabotage: Sabotage,
    /// Whether everything that waits at the end is served, and that is checked.
    pub to_the_end: bool,
}

/// Something that happens at a time of the world.
#[derive(Debug, Clone)]
enum Action {
    /// A customer comes.
    Arrive(usize),
    /// A customer says more.
    More(usize, usize),
    /// A customer's patience is over.
    Leave(usize),
    /// An agent does what the trace says.
    Duty(usize),
    /// An input reaches the router.
    Input(Box<Op>),
    /// An agent makes up its mind about an offer.
    Answer(AgentId, Nth, ConversationId),
    /// An agent does something about a conversation.
    Work(AgentId, ConversationId),
    /// An agent who leaves signs out, if it has nothing left.
    SignOff(AgentId, u32),
    /// The router's clock jumps.
    Jump,
    /// Somebody changes the policy.
    Reload,
    /// The router writes a snapshot.
    Checkpoint,
}

/// An agent as a person with a tool.
#[derive(Debug, Clone, Default)]
struct Person {
    /// The tool is there.
    here: bool,
    leaving: bool,
}

/// A conversation that somebody works on.
#[derive(Debug, Clone, Copy)]
struct Task {
    /// When it will have taken as long as it takes.
    done_at: Timestamp,
    greeted: bool,
}

pub(crate) struct World<'a> {
    setting: Setting<'a>,
    seed: u64,
    random: Random,
    time: Timestamp,
    /// How far the router's clock is before the world's, or behind.
    offset_ms: i64,
    agenda: BTreeMap<(Timestamp, u64), Action>,
    serial: u64,
    people: BTreeMap<AgentId, Person>,
    machine: Machine,
    liveness: Liveness,
    script: Vec<Line>,
    log: RunLog,
    /// The matter that each conversation is about.
    about: BTreeMap<ConversationId, usize>,
    tasks: BTreeMap<ConversationId, Task>,
    calm: bool,
    /// How much of the script there was, and what the clock said, when something was first found.
    found_at: Option<(usize, Timestamp)>,
}

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, setting: Setting<'a>) -> Self {
        let people = setting.company.workers().iter().map(|worker| (worker.agent.clone(), Person::default()));
        let mut world = Self {
            setting,
            seed,
            random: Random::keyed(seed, &[7]),
            time: START,
            offset_ms: 0,
            agenda: BTreeMap::new(),
            serial: 0,
            people: people.collect(),
            machine: Machine::new(seed, setting.sabotage),
            liveness: Liveness::default(),
            script: Vec::new(),
            log: RunLog::begin("throughline", setting.trace, setting.company),
            about: BTreeMap::new(),
            tasks: BTreeMap::new(),
            calm: false,
            found_at: None,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        self.apply_policy(self.setting.company.clone());
        for (n, duty) in self.setting.trace.duties.iter().enumerate() {
            self.plan(duty.at, Action::Duty(n));
        }
        for (n, arrival) in self.setting.trace.arrivals.iter().enumerate() {
            self.plan(arrival.at, Action::Arrive(n));
        }
        if self.setting.faults.jumps {
            self.plan(Millis::from_secs(60), Action::Jump);
        }
        if self.setting.faults.reloads && !self.setting.changes.is_empty() {
            self.plan(Millis::from_secs(150), Action::Reload);
        }
        if self.setting.faults.crashes > 0 {
            self.plan(Millis::from_secs(45), Action::Checkpoint);
        }
    }

    pub(crate) fn run(mut self) -> Run {
        let end = START + self.setting.trace.span;
        while self.agenda.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.next();
        }
        self.pass(end);
        let log = self.log.clone();
        if self.setting.to_the_end {
            self.serve_the_rest();
        }
        let digest = self.machine.checker.close(&self.machine.process);
        self.note_finding();
        let checker = &mut self.machine.checker;
        let findings = std::mem::take(&mut checker.findings);
        let (lines, until) = self.found_at.unwrap_or_default();
        self.script.truncate(lines);
        let shrunk = findings.first().and_then(|first| {
            shrink::shrink(first.broken, std::mem::take(&mut self.script), until, self.setting.sabotage)
        });
        Run {
            seed: self.seed,
            steps: checker.steps,
            facts: std::mem::take(&mut checker.facts),
            crashes: checker.crashes,
            repeats: checker.repeats,
            refusals: checker.refusals,
            digest,
            findings,
            shrunk,
            log,
            journal: self.machine.into_journal(),
        }
    }

    /// From now on nobody new comes, everybody is there and willing, and nothing goes wrong: whatever
    /// waits must be served.
    fn serve_the_rest(&mut self) {
        self.calm = true;
        let offset = self.offset_ms.max(0);
        self.jump(offset);
        self.apply_policy(self.setting.company.clone());
        let agents: Vec<AgentId> = self.people.keys().cloned().collect();
        for agent in &agents {
            self.duty(agent, DutyKind::Back);
            self.duty(agent, DutyKind::Available);
        }
        let deadline = self.time + CALM;
        let mut look = self.time;
        while self.time < deadline && !self.agenda.is_empty() {
            self.next();
            // Looking at everything is dear.
            if self.time >= look {
                if self.unserved() == 0 {
                    break;
                }
                for agent in &agents {
                    // What somebody wanted before the calm may arrive in it: that they go, for one.
                    self.duty(agent, DutyKind::Available);
                    self.come_back(agent);
                }
                look = self.time + Millis::from_secs(120);
            }
        }
        let unserved = self.unserved();
        if unserved > 0 {
            let open = self.machine.process.engine.conversations();
            let open = open.filter(|(_, conversation)| !matches!(conversation.phase, Phase::Parked { .. }));
            let named: Vec<String> = open.take(5).map(|(id, one)| format!("{id} is {}", one.phase.name())).collect();
            let detail = format!("{unserved} conversations were not served: {}", named.join(", "));
            self.machine.checker.find("served_in_the_end", detail);
        }
        // What is on its way still arrives.
        while let Some(((at, _), action)) = self.agenda.pop_first() {
            if matches!(action, Action::Input(_)) {
                self.time = self.time.max(at);
                self.act(action);
            }
        }
    }

    /// Conversations that are not over and not put off.
    fn unserved(&self) -> usize {
        let open = self.machine.process.engine.conversations();
        open.filter(|(_, conversation)| !matches!(conversation.phase, Phase::Parked { .. })).count()
    }

    fn plan(&mut self, after: Millis, action: Action) {
        self.serial += 1;
        self.agenda.insert((self.time + after, self.serial), action);
    }

    fn soon(&mut self, from_ms: u64, to_ms: u64, action: Action) {
        let after = Millis(self.random.between(from_ms, to_ms));
        self.plan(after, action);
    }

    /// The router's clock.
    fn now(&self) -> Timestamp {
        self.clock(self.time)
    }

    fn clock(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add_signed(self.offset_ms))
    }

    /// How long the world has lasted.
    fn elapsed(&self) -> Millis {
        self.time.since(START)
    }

    /// When something is due next, by the router's clock.
    fn next_deadline(&self) -> Option<Timestamp> {
        let silence = company::silence(&self.machine.process.engine);
        let deadlines = [self.machine.next_deadline(), self.liveness.next_deadline(silence)];
        deadlines.into_iter().flatten().min()
    }

    /// The next action, after all that falls due before it.
    fn next(&mut self) {
        let Some(((at, _), action)) = self.agenda.pop_first() else { return };
        self.pass(at);
        self.act(action);
    }

    /// Time passes.
    fn pass(&mut self, to: Timestamp) {
        let horizon = self.clock(to);
        while let Some(due) = self.next_deadline().filter(|due| *due <= horizon) {
            let due = Timestamp(due.0.saturating_add_signed(-self.offset_ms));
            self.time = self.time.max(due).min(to);
            self.wake();
        }
        self.time = self.time.max(to);
    }

    fn wake(&mut self) {
        let now = self.now();
        while let Some(step) = self.machine.tick(now) {
            self.note_finding();
            self.follow(&step);
        }
        let silence = company::silence(&self.machine.process.engine);
        for agent in self.liveness.silent(now, silence) {
            self.liveness.forget(&agent);
            self.apply(Op::Silent(agent));
        }
    }

    /// Gives an input to the router.
    fn apply(&mut self, op: Op) {
        let at = self.now();
        let outcome = self.machine.apply(at, &op);
        self.script.push(Line { at, op });
        self.note_finding();
        if let Outcome::Done(step) = outcome {
            self.follow(&step);
        }
    }

    fn note_finding(&mut self) {
        if self.found_at.is_none() && !self.machine.checker.findings.is_empty() {
            self.found_at = Some((self.script.len(), self.now()));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Arrive(n) => self.write(n, None),
            Action::More(n, more) => self.write(n, Some(more)),
            Action::Leave(n) => self.leave(n),
            Action::Duty(n) => {
                if let Some(duty) = self.setting.trace.duties.get(n).filter(|_| !self.calm) {
                    self.duty(&duty.agent, duty.what);
                }
            }
            Action::Input(op) => self.arrive(*op),
            Action::Answer(agent, offer, conversation) => self.answer(&agent, offer, conversation),
            Action::Work(agent, conversation) => self.work(&agent, conversation),
            Action::SignOff(agent, tries) => self.sign_off(agent, tries),
            Action::Jump if self.calm => {}
            Action::Jump => {
                let jump = self.random.between(0, 120_000);
                self.jump(i64::try_from(jump).unwrap_or(0) - 60_000);
                self.soon(30_000, 300_000, Action::Jump);
            }
            Action::Reload if self.calm => {}
            Action::Reload => {
                let changed = self.random.chance(500).then(|| self.random.pick(self.setting.changes)).flatten();
                let company = changed.unwrap_or(self.setting.company).clone();
                self.apply_policy(company);
                self.soon(60_000, 300_000, Action::Reload);
            }
            Action::Checkpoint => {
                self.apply(Op::Checkpoint);
                self.soon(20_000, 90_000, Action::Checkpoint);
            }
        }
    }

    fn jump(&mut self, offset_ms: i64) {
        if offset_ms != self.offset_ms {
            self.offset_ms = offset_ms;
            self.apply(Op::Jump);
        }
    }

    fn apply_policy(&mut self, company: Company) {
        let id = self.id();
        self.apply(Op::Policy { id, company });
    }

    fn id(&mut self) -> SmolStr {
        self.serial += 1;
        SmolStr::from(format!("id{}", self.serial))
    }

    /// A customer writes: for the first time in a matter, or once more.
    fn write(&mut self, n: usize, more: Option<usize>) {
        let Some(arrival) = self.setting.trace.arrivals.get(n).filter(|_| !self.calm) else { return };
        let (channel, key) = match more {
            None => (&arrival.channel, format!("{n}.0")),
            Some(at) => match arrival.more.get(at) {
                Some(more) => (&more.channel, format!("{n}.{}", at + 1)),
                None => return,
            },
        };
        // A recorded matter has one message; it cannot be said by another channel.
        if more.is_some() && arrival.recorded.is_some() {
            return;
        }
        let envelope = arrival.message(channel, &key, self.time);
        self.send_in(Op::Message(Box::new(envelope)), Millis(20));
        if more.is_none() {
            for (at, more) in arrival.more.iter().enumerate() {
                self.plan(more.after, Action::More(n, at));
            }
            if let Some(patience) = arrival.patience {
                self.plan(patience, Action::Leave(n));
            }
        }
    }

    /// A customer has waited long enough. The engine has no input for it: the world remembers, and whoever
    /// is given the conversation finds nobody there and closes it. An input for it goes here.
    fn leave(&mut self, n: usize) {
        let elapsed = self.elapsed();
        if let Some(case) = self.log.cases.get_mut(n)
            && case.answered.is_none()
            && !case.joined
            && !self.calm
        {
            case.abandoned = Some(elapsed);
        }
    }

    /// An input sets out for the router: at once or late, once or twice.
    fn send_in(&mut self, op: Op, after: Millis) {
        let Faults { doubled, delayed, lost, .. } = *self.setting.faults;
        let mut after = after;
        if !self.calm && lost > 0 && self.random.chance(lost) {
            if matches!(op, Op::Receipt { .. }) {
                return;
            }
            // Whoever is owed an answer asks again, with the same id.
            after = Millis(after.0 + self.random.between(2_000, 10_000));
        }
        if !self.calm && doubled > 0 && self.random.chance(doubled) {
            // Providers deliver again for days, tools for as long as somebody waits for the answer.
            let late = !matches!(op, Op::Command { .. }) && self.random.chance(200);
            let again = Millis(after.0 + self.random.between(1, if late { DAY.0 } else { 60_000 }));
            self.plan(again, Action::Input(Box::new(op.clone())));
        }
        if !self.calm && delayed > 0 {
            let late = if self.random.chance(delayed) { 5_000 } else { 5 };
            after = Millis(after.0 + self.random.below(late));
        }
        self.plan(after, Action::Input(Box::new(op)));
    }

    fn command(&mut self, agent: &AgentId, verb: Verb) {
        let id = self.id();
        self.send_in(Op::Command { agent: agent.clone(), id, verb }, Millis(1));
    }

    /// An input reaches the router, whose process may die before or after the decision is stored.
    fn arrive(&mut self, op: Op) {
        let dies = !self.calm && self.setting.faults.crashes > 0 && self.random.chance(self.setting.faults.crashes);
        if !dies {
            self.apply(op);
            return;
        }
        let by_snapshot = self.random.chance(500);
        if self.random.chance(500) {
            self.apply(op);
            self.apply(Op::Crash { before_storing: None, by_snapshot });
        } else {
            // Nobody was answered: whoever sent it sends it again.
            self.apply(Op::Crash { before_storing: Some(Box::new(op.clone())), by_snapshot });
            self.soon(200, 2_000, Action::Input(Box::new(op)));
        }
        // The new process gives every tool that is thought to be there the full silence.
        let now = self.now();
        let connected = self.machine.process.engine.agents().filter(|(_, agent)| agent.connected);
        let gone = connected.filter(|(id, _)| self.people.get(*id).is_some_and(|person| !person.here));
        for agent in gone.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.liveness.touch(&agent, now);
        }
    }

    /// What follows from a step for those whom it concerns.
    fn follow(&mut self, step: &Step) {
        for emitted in &step.emitted {
            self.follow_fact(&emitted.event);
        }
    }

    fn follow_fact(&mut self, event: &Event) {
        let elapsed = self.elapsed();
        let about = event.conversation().and_then(|id| self.about.get(&id).copied());
        let case = about.and_then(|n| self.log.cases.get_mut(n));
        match event {
            Event::MessageReceived { conversation, envelope, .. } => {
                let Some(n) = envelope.dedup_key.split('.').next().and_then(|n| n.parse().ok()) else { return };
                let first = *self.about.entry(*conversation).or_insert(n);
                if let Some(case) = self.log.cases.get_mut(n).filter(|_| first != n) {
                    case.joined = true;
                }
            }
            Event::ConversationEnqueued { conversation, queue, reason, .. } => {
                let Some(case) = case else { return };
                case.end(elapsed);
                if *reason != EnqueueReason::Opened {
                    case.requeues += 1;
                }
                if case.queue.is_empty() {
                    case.queue = SmolStr::new(queue.as_str());
                    let conversation = self.machine.process.engine.conversation(*conversation);
                    case.weight = conversation.map_or(0, |conversation| company::needs(conversation).weight);
                }
            }
            Event::OfferCreated { offer, agent, conversation, .. } => {
                let nth = case.map_or(0, |case| {
                    case.offers += 1;
                    case.offered.get_or_insert(elapsed);
                    case.offers
                });
                self.offered(agent.clone(), *offer, *conversation, about, nth);
            }
            Event::ConversationAssigned { conversation, agent, .. } => {
                if let Some(case) = case {
                    case.begin(agent.as_str(), elapsed);
                    if case.abandoned.is_none() && case.answered.is_none() {
                        case.answered = Some(elapsed);
                        case.agent = Some(SmolStr::new(agent.as_str()));
                    }
                }
                self.begin_task(agent.clone(), *conversation, about);
            }
            Event::ConversationResumed { conversation, agent, .. } => {
                if let Some(case) = case {
                    case.begin(agent.as_str(), elapsed);
                }
                self.soon(500, 20_000, Action::Work(agent.clone(), *conversation));
            }
            Event::ConversationParked { .. } | Event::ConversationTransferred { .. } => {
                if let Some(case) = case {
                    case.end(elapsed);
                }
            }
            Event::ConversationWrapUpStarted { conversation, agent, .. } if self.setting.trace.habits.fidgets > 0 => {
                self.soon(500, 30_000, Action::Work(agent.clone(), *conversation));
            }
            Event::ConversationClosed { conversation, .. } => {
                if let Some(case) = case {
                    case.end(elapsed);
                    case.ended = Some(elapsed);
                }
                self.about.remove(conversation);
                self.tasks.remove(conversation);
            }
            Event::MessageSent { conversation, thread, .. } if self.setting.faults.receipts && !self.calm => {
                self.report_on(*conversation, &SmolStr::new(thread.account.kind.as_str()));
            }
            _ => {}
        }
    }

    /// An agent sees an offer, and will make up its mind.
    fn offered(&mut self, agent: AgentId, offer: OfferId, id: ConversationId, about: Option<usize>, nth: u32) {
        let Some(name) = self.machine.book.name_of_offer(id, offer) else { return };
        let habits = &self.setting.trace.habits;
        let mut random = answer_chance(self.seed, about.unwrap_or_default(), nth);
        let after = millis(random.lognormal(habits.answer.0 as f64 / 1000.0, habits.answer_sigma));
        if !self.calm && random.chance(habits.silent) {
            return;
        }
        self.plan(after, Action::Answer(agent, name, id));
    }

    fn answer(&mut self, agent: &AgentId, offer: Nth, conversation: ConversationId) {
        if self.people.get(agent).is_none_or(|person| !person.here) {
            return;
        }
        let about = self.about.get(&conversation).copied().unwrap_or_default();
        let mut random = Random::keyed(self.seed, &[12, about as u64, offer.n as u64]);
        let declines = !self.calm && random.chance(self.setting.trace.habits.declines);
        self.command(agent, if declines { Verb::Decline(offer) } else { Verb::Accept(offer) });
    }

    fn begin_task(&mut self, agent: AgentId, conversation: ConversationId, about: Option<usize>) {
        let arrival = about.and_then(|n| self.setting.trace.arrivals.get(n));
        let left = about.and_then(|n| self.log.cases.get(n)).is_some_and(|case| case.abandoned.is_some());
        let whole_time = arrival.map_or(Millis::from_secs(60), |arrival| arrival.handle);
        let takes = match self.tasks.get(&conversation) {
            _ if left => EMPTY,
            // Somebody has begun already.
            Some(_) => Millis(whole_time.0 / 2),
            None => whole_time,
        };
        let task = Task { done_at: self.time + takes, greeted: left };
        self.tasks.insert(conversation, task);
        self.plan(Millis(500), Action::Work(agent, conversation));
    }

    fn work(&mut self, agent: &AgentId, id: ConversationId) {
        let here = self.people.get(agent).is_some_and(|person| person.here);
        let Some(known) = self.machine.process.engine.conversation(id).filter(|_| here) else { return };
        let Some(name) = self.machine.book.name_of(id) else { return };
        let (mine, handed_over) = (known.phase.holder() == Some(agent), known.keeper.as_deref() == Some(agent));
        match known.phase.clone() {
            // Nobody took what this agent would hand over, until now.
            Phase::Waiting { .. } | Phase::Offered { .. } if handed_over => {
                self.command(agent, Verb::Back(name));
                self.plan(AGAIN, Action::Work(agent.clone(), id));
            }
            _ if !mine => {}
            Phase::Active { .. } => self.talk(agent, id, name),
            Phase::Parked { .. } => self.command(agent, Verb::Resume(name)),
            Phase::Wrapping { .. } => self.command(agent, Verb::Complete(name)),
            Phase::Waiting { .. } | Phase::Offered { .. } => {}
        }
    }

    fn talk(&mut self, agent: &AgentId, id: ConversationId, name: Nth) {
        let time = self.time;
        let task = self.tasks.entry(id).or_insert(Task { done_at: time, greeted: true });
        let (done_at, greeted) = (task.done_at, std::mem::replace(&mut task.greeted, true));
        if self.calm || time >= done_at {
            self.command(agent, Verb::Close(name));
            self.plan(AGAIN, Action::Work(agent.clone(), id));
            return;
        }
        let about = self.about.get(&id).copied().unwrap_or_default() as u64;
        let fidgets = self.setting.trace.habits.fidgets;
        let restless = fidgets > 0 && Random::keyed(self.seed, &[13, about]).chance(fidgets);
        if !greeted {
            self.command(agent, Verb::Say(name));
        } else if restless {
            self.fidget(agent, name);
        }
        let pause = done_at.since(time);
        let pause = if restless { Millis(pause.0.min(self.random.between(2_000, 60_000))) } else { pause };
        self.plan(pause, Action::Work(agent.clone(), id));
    }

    fn fidget(&mut self, agent: &AgentId, name: Nth) {
        let verb = match self.random.below(100) {
            0..=59 => Verb::Say(name),
            60..=65 => Verb::Note(name),
            66..=77 => {
                let until = self.random.chance(500).then(|| self.now() + Millis::from_secs(60));
                Verb::Park(name, until)
            }
            78..=88 => {
                let agents: Vec<&AgentId> = self.people.keys().collect();
                match self.random.pick(&agents) {
                    Some(other) => Verb::ToAgent(name, (*other).clone()),
                    None => return,
                }
            }
            89..=94 => match self.random.pick(&company::queues(&self.machine.process.engine)) {
                Some(queue) => Verb::ToQueue(name, queue.clone()),
                None => return,
            },
            _ => Verb::Close(name),
        };
        self.command(agent, verb);
    }

    /// The provider says what became of a message, perhaps in no good order.
    fn report_on(&mut self, conversation: ConversationId, channel: &SmolStr) {
        let Some(sent) = self.machine.book.name_of_sent(conversation) else { return };
        let receipts =
            [(ReceiptStatus::Accepted, 600), (ReceiptStatus::Delivered, 2_000), (ReceiptStatus::Read, 8_000)];
        for (status, by_ms) in receipts {
            let (key, after) = (self.id(), Millis(self.random.between(50, by_ms)));
            self.send_in(Op::Receipt { key, sent: sent.clone(), channel: channel.clone(), status }, after);
        }
    }

    fn duty(&mut self, agent: &AgentId, what: DutyKind) {
        let now = self.now();
        let Some(person) = self.people.get_mut(agent) else { return };
        person.leaving = what == DutyKind::Leave;
        match what {
            DutyKind::Gone => {
                person.here = false;
                // The last that was heard of it.
                self.liveness.touch(agent, now);
            }
            DutyKind::Back => {
                person.here = true;
                self.liveness.forget(agent);
                self.apply(Op::Heard(agent.clone()));
                self.come_back(agent);
            }
            _ => {
                person.here = true;
                self.liveness.forget(agent);
                let presence = match what {
                    DutyKind::Available => Presence::Available,
                    DutyKind::Away => Presence::Away,
                    DutyKind::Offline => Presence::Offline,
                    _ => Presence::Busy,
                };
                self.command(agent, Verb::Presence(presence));
                if what == DutyKind::Leave {
                    self.plan(AGAIN, Action::SignOff(agent.clone(), 1));
                }
            }
        }
    }

    fn sign_off(&mut self, agent: AgentId, tries: u32) {
        if self.calm || self.people.get(&agent).is_none_or(|person| !person.leaving) {
            return;
        }
        let holds = self.machine.process.engine.agent(&agent).is_some_and(|known| !known.holds.is_empty());
        if holds && tries < SIGN_OFF_MAX {
            self.plan(AGAIN, Action::SignOff(agent, tries + 1));
        } else {
            self.command(&agent, Verb::Presence(Presence::Offline));
        }
    }

    /// The tool reads what its agent has.
    fn come_back(&mut self, agent: &AgentId) {
        let Some(snapshot) = self.machine.process.engine.snapshot(agent) else { return };
        for offer in snapshot.offers {
            let id = offer.conversation.conversation;
            if let Some(name) = self.machine.book.name_of_offer(id, offer.offer) {
                self.soon(300, 5_000, Action::Answer(agent.clone(), name, id));
            }
        }
        for held in snapshot.conversations {
            self.soon(300, 5_000, Action::Work(agent.clone(), held.conversation));
        }
    }
}

/// How an agent takes the n-th offer of a matter: the same for every system.
pub(crate) fn answer_chance(seed: u64, about: usize, nth: u32) -> Random {
    Random::keyed(seed, &[11, about as u64, u64::from(nth)])
}

/// So many days, hours and minutes as a person says it.
pub(crate) fn span(ms: f64) -> String {
    let seconds = ms / 1000.0;
    match seconds {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => {
            let whole = whole(seconds + 0.5);
            format!("{}:{:02} min", whole / 60, whole % 60)
        }
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
