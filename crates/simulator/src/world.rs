//! What happens outside the router, and in which order.

use std::collections::BTreeMap;

use contract::command::{AdminCommand, AgentCommand};
use contract::envelope::{Envelope, Receipt, ReceiptStatus};
use contract::event::{Presence, ThreadRef};
use contract::{AgentId, ConversationId, Event, MessageId, Millis, OfferId, SmolStr, Timestamp};
use engine::{Answer, CommandInput, Phase, Step};

use crate::check::Checker;
use crate::demo::{self, Customer};
use crate::process::{Process, Store};
use crate::random::Random;
use crate::report::{Options, Report};

const START: Timestamp = Timestamp(1_700_000_000_000);
const BEAT: Millis = Millis::from_secs(5);
const DAY: Millis = Millis::from_secs(24 * 3600);
/// How long everybody may take, once calm, to serve what waits.
const CALM: Millis = Millis::from_secs(2 * 3600);

/// Something that happens at a time of the world.
#[derive(Debug, Clone)]
enum Action {
    /// A customer writes, and will again.
    Write(u64),
    /// An input reaches the router.
    Arrive(Input),
    /// An agent's tool gives a sign of life, and will again.
    Beat(AgentId),
    /// An agent feels like something else, and will again.
    Mood(AgentId),
    /// An agent's tool comes back and looks at what its agent has.
    Return(AgentId),
    /// An agent makes up its mind about an offer.
    Answer(AgentId, OfferId),
    /// An agent does something about a conversation.
    Work(AgentId, ConversationId),
    /// The router's clock jumps.
    Jump,
    /// Somebody changes the policy.
    Reload,
    /// The router writes a snapshot.
    Checkpoint,
}

#[derive(Debug, Clone)]
enum Input {
    Envelope(Box<Envelope>),
    Command(CommandInput),
}

pub(crate) struct World {
    options: Options,
    random: Random,
    time: Timestamp,
    /// How far the router's clock is before the world's, or behind.
    offset_ms: i64,
    agenda: BTreeMap<(Timestamp, u64), Action>,
    serial: u64,
    customers: Vec<Customer>,
    /// Whether each agent's tool is there.
    tools: BTreeMap<AgentId, bool>,
    process: Process,
    store: Store,
    checker: Checker,
    inputs: u64,
    calm: bool,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed);
        let customers = (0..options.customers).map(|number| Customer::new(number, &mut random)).collect();
        let tenant = demo::tenant();
        let mut world = Self {
            options: options.clone(),
            random,
            time: START,
            offset_ms: 0,
            agenda: BTreeMap::new(),
            serial: 0,
            customers,
            tools: BTreeMap::new(),
            process: Process::default(),
            store: Store::new(tenant),
            checker: Checker::new(seed),
            inputs: 0,
            calm: false,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        let policy = demo::policy();
        let agents: Vec<AgentId> = policy.agents.keys().cloned().collect();
        let apply = self.admin(AdminCommand::PolicyApply { policy: Box::new(policy) });
        self.plan(Millis(0), Action::Arrive(apply));
        for agent in agents {
            self.tools.insert(agent.clone(), true);
            let (mood, beat) = (self.random.between(1, 30_000), self.random.between(1, BEAT.0));
            self.plan(Millis(mood), Action::Mood(agent.clone()));
            self.plan(Millis(beat), Action::Beat(agent));
        }
        for number in 0..self.options.customers {
            let first = self.random.between(1_000, 240_000);
            self.plan(Millis(first), Action::Write(number));
        }
        self.plan(Millis::from_secs(60), Action::Jump);
        self.plan(Millis::from_secs(150), Action::Reload);
        self.plan(Millis::from_secs(45), Action::Checkpoint);
    }

    pub(crate) fn run(mut self) -> Report {
        while self.inputs < self.options.inputs {
            self.next();
        }
        self.calm_down();
        let deadline = self.time + CALM;
        while self.time < deadline && self.unserved() > 0 {
            self.next();
        }
        let unserved = self.unserved();
        if unserved > 0 {
            self.checker.find("served_in_the_end", format!("{unserved} conversations were not served"));
        }
        // What is on its way still arrives.
        while let Some(((at, _), action)) = self.agenda.pop_first() {
            if matches!(action, Action::Arrive(_)) {
                self.time = at;
                self.act(action);
            }
        }
        self.checker.close(&self.process)
    }

    /// Conversations that are not over and not put off.
    fn unserved(&self) -> usize {
        let open = self.process.engine.conversations();
        open.filter(|(_, conversation)| !matches!(conversation.phase, Phase::Parked { .. })).count()
    }

    /// From now on nobody new comes, everybody is there and willing, and nothing goes wrong.
    fn calm_down(&mut self) {
        self.calm = true;
        self.offset_ms = self.offset_ms.max(0);
        let apply = self.admin(AdminCommand::PolicyApply { policy: Box::new(demo::policy()) });
        self.plan(Millis(0), Action::Arrive(apply));
        let agents: Vec<AgentId> = self.tools.keys().cloned().collect();
        for agent in agents {
            self.plan(Millis(1), Action::Return(agent.clone()));
            self.plan(Millis(2), Action::Mood(agent));
        }
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
        Timestamp(self.time.0.saturating_add_signed(self.offset_ms))
    }

    /// The next action, after all that falls due before it.
    fn next(&mut self) {
        let Some(((at, _), action)) = self.agenda.pop_first() else { return };
        let horizon = Timestamp(at.0.saturating_add_signed(self.offset_ms));
        while let Some(due) = self.process.next_deadline().filter(|due| *due <= horizon) {
            let due = Timestamp(due.0.saturating_add_signed(-self.offset_ms));
            self.time = self.time.max(due).min(at);
            self.wake();
        }
        self.time = self.time.max(at);
        self.act(action);
    }

    fn wake(&mut self) {
        while let Some(step) = self.process.time(self.now()) {
            self.store_step(&step);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write(number) => self.write(number),
            Action::Arrive(input) => self.arrive(input),
            Action::Beat(agent) => {
                if self.tools.get(&agent) == Some(&true) {
                    let step = self.process.heard(self.now(), &agent);
                    self.store_step(&step);
                }
                self.plan(BEAT, Action::Beat(agent));
            }
            Action::Mood(agent) => self.mood(agent),
            Action::Return(agent) => self.come_back(&agent),
            Action::Answer(agent, offer) => self.answer(agent, offer),
            Action::Work(agent, conversation) => self.work(agent, conversation),
            Action::Jump if self.calm => {}
            Action::Jump => {
                let jump = self.random.between(0, 120_000);
                self.offset_ms = i64::try_from(jump).unwrap_or(0) - 60_000;
                self.soon(30_000, 300_000, Action::Jump);
            }
            Action::Reload if self.calm => {}
            Action::Reload => {
                let changed =
                    if self.random.chance(500) { demo::changed_policy(&mut self.random) } else { demo::policy() };
                let apply = self.admin(AdminCommand::PolicyApply { policy: Box::new(changed) });
                self.arrive(apply);
                self.soon(60_000, 300_000, Action::Reload);
            }
            Action::Checkpoint => {
                self.store.checkpoint(&self.process);
                self.soon(20_000, 90_000, Action::Checkpoint);
            }
        }
    }

    fn admin(&mut self, command: AdminCommand) -> Input {
        Input::Command(CommandInput::Admin { id: self.id(), command })
    }

    fn id(&mut self) -> SmolStr {
        self.serial += 1;
        SmolStr::from(format!("id-{}", self.serial))
    }

    /// A customer writes, and goes on writing.
    fn write(&mut self, number: u64) {
        if self.calm {
            return;
        }
        let key = self.id();
        let customer = usize::try_from(number).ok().and_then(|at| self.customers.get(at)).cloned();
        if let Some(customer) = customer {
            let envelope = customer.message(key.to_string(), self.time, &mut self.random);
            self.send_in(Input::Envelope(Box::new(envelope)), Millis(20));
        }
        let pause = if self.random.chance(400) { 10_000 } else { 400_000 };
        self.soon(1_000, pause, Action::Write(number));
    }

    /// An input sets out for the router: at once or late, once or twice.
    fn send_in(&mut self, input: Input, after: Millis) {
        if !self.calm && self.random.chance(self.options.doubled) {
            // Providers deliver again for days, tools for as long as somebody waits for the answer.
            let late = matches!(input, Input::Envelope(_)) && self.random.chance(200);
            let later = if late { DAY.0 } else { 60_000 };
            let again = Millis(self.random.between(1, later));
            self.plan(Millis(after.0 + again.0), Action::Arrive(input.clone()));
        }
        let late = if !self.calm && self.random.chance(self.options.delayed) { 5_000 } else { 5 };
        let late = Millis(self.random.below(late));
        self.plan(Millis(after.0 + late.0), Action::Arrive(input));
    }

    fn command(&mut self, agent: &AgentId, command: AgentCommand) {
        let input = CommandInput::Agent { agent: agent.clone(), id: self.id(), command };
        self.send_in(Input::Command(input), Millis(1));
    }

    /// An input reaches the router, whose process may die before or after the decision is stored.
    fn arrive(&mut self, input: Input) {
        self.inputs += 1;
        let dies = !self.calm && self.random.chance(self.options.crashes);
        let stored = !dies || self.random.chance(500);
        let now = self.now();
        let step = match &input {
            Input::Envelope(envelope) => self.process.envelope(now, (**envelope).clone()),
            Input::Command(command) => match self.process.command(now, command.clone()) {
                Answer::Done(_, step) => Some(step),
                Answer::Repeated(_) => None,
                Answer::Refused(_) => {
                    self.checker.report.refusals += 1;
                    return;
                }
            },
        };
        match step {
            None => self.checker.report.repeats += 1,
            Some(step) if stored => {
                if let Input::Envelope(envelope) = &input {
                    self.checker.handed(envelope);
                }
                self.store_step(&step);
            }
            // Nobody was answered: whoever sent it sends it again.
            Some(_) => self.soon(200, 2_000, Action::Arrive(input)),
        }
        if dies {
            let by_snapshot = self.random.chance(500);
            self.process = self.store.recover(now, by_snapshot);
            self.checker.recovered(&self.process);
        }
    }

    /// A step goes into the journal, and what follows from it to those whom it concerns.
    fn store_step(&mut self, step: &Step) {
        use contract::journal::Cause;
        if step.is_empty() && matches!(step.cause, Cause::Notice | Cause::Timer) {
            return;
        }
        let entry = self.store.append(step);
        self.checker.step(&self.process, step, &entry);
        for emitted in &step.emitted {
            self.follow(&emitted.event);
        }
    }

    fn follow(&mut self, event: &Event) {
        match event {
            Event::OfferCreated { offer, agent, .. } => {
                self.soon(300, 40_000, Action::Answer(agent.clone(), *offer));
            }
            Event::ConversationAssigned { conversation, agent, .. }
            | Event::ConversationResumed { conversation, agent, .. } => {
                self.soon(500, 20_000, Action::Work(agent.clone(), *conversation));
            }
            Event::MessageSent { message, thread, .. } => self.report_on(*message, thread),
            _ => {}
        }
    }

    /// The provider says what became of a message, perhaps in no good order.
    fn report_on(&mut self, message: MessageId, thread: &ThreadRef) {
        let command_id = Some(SmolStr::from(format!("main/{message}")));
        let provider_id = SmolStr::from(format!("provider-{message}"));
        let accepted = Receipt { command_id, targets: vec![provider_id.clone()], ..demo::empty_receipt() };
        let later = |status| Receipt { status, targets: vec![provider_id.clone()], ..demo::empty_receipt() };
        let receipts = [(accepted, 600), (later(ReceiptStatus::Delivered), 2_000), (later(ReceiptStatus::Read), 8_000)];
        for (receipt, by_ms) in receipts {
            let (key, after) = (self.id(), Millis(self.random.between(50, by_ms)));
            let envelope = demo::receipt(thread, receipt, key.to_string());
            self.send_in(Input::Envelope(Box::new(envelope)), after);
        }
    }

    fn mood(&mut self, agent: AgentId) {
        if self.calm {
            self.command(&agent, AgentCommand::PresenceSet { presence: Presence::Available, reason: None });
            self.plan(Millis::from_secs(30), Action::Mood(agent));
            return;
        }
        if self.random.chance(self.options.vanishing) {
            self.tools.insert(agent.clone(), false);
            self.soon(3_000, 150_000, Action::Return(agent.clone()));
        } else if self.tools.get(&agent) == Some(&true) {
            let presence = match self.random.below(10) {
                0 => Presence::Away,
                1 => Presence::Busy,
                2 => Presence::Offline,
                _ => Presence::Available,
            };
            self.command(&agent, AgentCommand::PresenceSet { presence, reason: None });
        }
        self.soon(20_000, 180_000, Action::Mood(agent));
    }

    /// The tool is back, and reads what its agent has.
    fn come_back(&mut self, agent: &AgentId) {
        self.tools.insert(agent.clone(), true);
        if let Some(snapshot) = self.process.engine.snapshot(agent) {
            for offer in snapshot.offers {
                self.soon(300, 5_000, Action::Answer(agent.clone(), offer.offer));
            }
            for held in snapshot.conversations {
                self.soon(300, 5_000, Action::Work(agent.clone(), held.conversation));
            }
        }
    }

    fn answer(&mut self, agent: AgentId, offer: OfferId) {
        if self.tools.get(&agent) != Some(&true) {
            return;
        }
        match self.random.below(10) {
            0 if !self.calm => self.command(&agent, AgentCommand::OfferDecline { offer, reason: None }),
            1 if !self.calm => {}
            _ => self.command(&agent, AgentCommand::OfferAccept { offer }),
        }
    }

    fn work(&mut self, agent: AgentId, conversation: ConversationId) {
        let here = self.tools.get(&agent) == Some(&true);
        let phase = self.process.engine.conversation(conversation).map(|known| known.phase.clone());
        let Some(phase) = phase.filter(|phase| here && phase.holder() == Some(&agent)) else { return };
        match phase {
            Phase::Active { .. } => self.talk(agent, conversation),
            Phase::Parked { .. } => self.command(&agent, AgentCommand::ConversationResume { conversation }),
            Phase::Wrapping { .. } => {
                self.command(&agent, AgentCommand::WrapUpComplete { conversation, disposition: None });
            }
            Phase::Waiting { .. } | Phase::Offered { .. } => {}
        }
    }

    fn talk(&mut self, agent: AgentId, conversation: ConversationId) {
        let dice = if self.calm { 90 } else { self.random.below(100) };
        let command = match dice {
            0..=54 => AgentCommand::MessageSend { conversation, content: vec![demo::said("hello")], reply_to: None },
            55..=59 => AgentCommand::NoteAdd { conversation, text: "remember".to_owned() },
            60..=69 => {
                let until = self.random.chance(500).then(|| self.now() + Millis::from_secs(60));
                AgentCommand::ConversationPark { conversation, until, reason: None }
            }
            70..=79 => {
                let agents: Vec<&AgentId> = self.tools.keys().collect();
                let to_agent = self.random.pick(&agents).map(|agent| (*agent).clone());
                AgentCommand::ConversationTransfer { conversation, to_queue: None, to_agent, note: None }
            }
            80..=84 => {
                let queues: Vec<_> = self.process.engine.policy().0.queues.keys().cloned().collect();
                let to_queue = self.random.pick(&queues).cloned();
                AgentCommand::ConversationTransfer { conversation, to_queue, to_agent: None, note: None }
            }
            _ => AgentCommand::ConversationClose { conversation, disposition: None },
        };
        self.command(&agent, command);
        self.soon(2_000, 60_000, Action::Work(agent, conversation));
    }
}
