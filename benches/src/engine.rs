//! What a decision of the engine costs, by how many agents there are and how many conversations wait.

use std::time::Instant;

use contract::command::{AdminCommand, AgentCommand};
use contract::envelope::Envelope;
use contract::event::Presence;
use contract::journal::{Cause, Fingerprint};
use contract::policy::{Agent, Policy, Queue, Route};
use contract::{AgentId, ConversationId, CustomerId, Encoding, Event, OfferId, QueueId, SkillId, SmolStr, Timestamp};
use engine::{Answer, CommandInput, State, Step};

/// One row of the table.
pub struct Line {
    pub what: &'static str,
    pub agents: usize,
    pub waiting: usize,
    /// Median over the runs, of the mean over the inputs of a run.
    pub us_per_input: f64,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, agents, waiting, us_per_input } = self;
        let per_second = 1e6 / us_per_input;
        write!(f, "{what:<44} {agents:>6} agents {waiting:>7} waiting {us_per_input:>9.2} us {per_second:>11.0}/s")
    }
}

const QUEUES: usize = 4;
const LANGUAGES: [&str; 3] = ["en", "de", "tr"];

/// Measures every kind of input at every size.
pub fn run(quick: bool) -> Vec<Line> {
    let (runs, inputs) = if quick { (3, 200) } else { (9, 500) };
    let mut lines = Vec::new();
    for agents in [1_000, 10_000] {
        for waiting in [1_000, 100_000] {
            let mut bench = Bench { agents, waiting, runs, inputs, lines: &mut lines };
            bench.all();
        }
    }
    lines
}

struct Bench<'a> {
    agents: usize,
    waiting: usize,
    runs: usize,
    inputs: usize,
    lines: &'a mut Vec<Line>,
}

impl Bench<'_> {
    fn all(&mut self) {
        let mut world = World::new(self.agents);
        self.measure("new conversation, offered to one of all", &world, |world, n| {
            let envelope = world.envelope(1_000_000 + n);
            Box::new(move |world| drop(world.receive(envelope.clone())))
        });
        if let Some(line) = self.lines.last_mut() {
            line.waiting = 0;
        }
        world.occupy();
        for n in 0..self.waiting {
            let envelope = world.envelope(100_000 + n);
            let step = world.receive(envelope);
            assert_eq!(offers(&step).count(), 0, "all wait");
        }
        self.measure("message into a conversation that waits", &world, |world, n| {
            let mut envelope = world.envelope(100_000 + n);
            envelope.dedup_key = SmolStr::from(format!("again-{n}"));
            Box::new(move |world| drop(world.receive(envelope.clone())))
        });
        self.measure("message into an active conversation", &world, |world, n| {
            let mut envelope = world.envelope(n);
            envelope.dedup_key = SmolStr::from(format!("again-{n}"));
            Box::new(move |world| drop(world.receive(envelope.clone())))
        });
        self.measure("new conversation that waits", &world, |world, n| {
            let envelope = world.envelope(1_000_000 + n);
            Box::new(move |world| drop(world.receive(envelope.clone())))
        });
        let busy = world.busy.clone();
        self.measure("agent freed by a close, is offered the first", &world, |_, n| {
            let (agent, conversation) = busy[n].clone();
            Box::new(move |world| {
                let offers = world.close(&agent, conversation);
                assert_eq!(offers.len(), 1);
            })
        });
        self.measure("accept and close (two inputs; per input)", &world, |world, n| {
            let (agent, conversation) = busy[n].clone();
            let (offer, next) = world.close(&agent, conversation)[0];
            Box::new(move |world| {
                world.accept(&agent, offer);
                world.close(&agent, next);
            })
        });
        if let Some(line) = self.lines.last_mut() {
            line.us_per_input /= 2.0;
        }
        self.measure("tick with nothing due", &world, |_, _| {
            Box::new(|world| assert!(world.state.tick(world.now).is_none()))
        });
    }

    /// Prepares the inputs of each run on a copy of the world, then times them.
    fn measure(&mut self, what: &'static str, world: &World, prepare: impl Fn(&mut World, usize) -> Input) {
        let mut means: Vec<f64> = (0..self.runs)
            .map(|_| {
                let mut world = world.clone();
                let inputs: Vec<Input> = (0..self.inputs).map(|n| prepare(&mut world, n)).collect();
                let start = Instant::now();
                for input in &inputs {
                    input(&mut world);
                }
                start.elapsed().as_secs_f64() * 1e6 / self.inputs as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        let us_per_input = means[means.len() / 2];
        let line = Line { what, agents: self.agents, waiting: self.waiting, us_per_input };
        self.lines.push(line);
    }
}

type Input = Box<dyn Fn(&mut World)>;

/// Agents who hold one conversation each, in queues that ask for skills and languages.
#[derive(Clone)]
struct World {
    state: State,
    now: Timestamp,
    commands: u64,
    template: Envelope,
    busy: Vec<(AgentId, ConversationId)>,
}

impl World {
    fn new(agents: usize) -> Self {
        let template =
            br#"{"v":1,"kind":"message","tenant":"main","account":{"kind":"chat","id":"web"},"dedup_key":"k",
            "thread":{"key":"t"},"sender":{"identity":{"scheme":"visitor","value":"v","scope":"account"}},
            "sender_auth":{"level":"unverified"},"received_at":1700000000000,
            "content":[{"type":"text","body":"Hello, my order has not arrived yet. Can you help?"}]}"#;
        let template = Encoding::Json.decode(template, usize::MAX).expect("the template is an envelope");
        let now = Timestamp(1_700_000_000_000);
        let mut world = Self { state: State::new(), now, commands: 0, template, busy: Vec::new() };
        let policy = policy(agents);
        assert_eq!(policy.problems(), Vec::<String>::new());
        let names: Vec<AgentId> = policy.agents.keys().cloned().collect();
        let apply = AdminCommand::PolicyApply { policy: Box::new(policy) };
        world.state.command(now, CommandInput::Admin { id: SmolStr::new_static("policy"), command: apply });
        for name in names {
            world.command(&name, AgentCommand::PresenceSet { presence: Presence::Available, reason: None });
        }
        world
    }

    /// A message of the customer's own thread; what it asks for follows from the number.
    fn envelope(&self, customer: usize) -> Envelope {
        let mut envelope = self.template.clone();
        envelope.dedup_key = SmolStr::from(format!("key-{customer}"));
        envelope.thread.key = SmolStr::from(format!("thread-{customer}"));
        envelope.tags = vec![SmolStr::from(format!("q{}-{}", customer % QUEUES, LANGUAGES[customer / QUEUES % 3]))];
        envelope
    }

    fn receive(&mut self, envelope: Envelope) -> Step {
        assert!(!self.state.has_seen(&envelope));
        let customer = envelope.thread.key.rsplit('-').next().and_then(|number| number.parse().ok());
        let cause = Cause::Envelope(Fingerprint(envelope.fingerprint()));
        let mut step = self.state.open_step(self.now, cause);
        self.state.receive(&mut step, customer.map(CustomerId), envelope);
        step
    }

    /// Every agent gets a conversation.
    fn occupy(&mut self) {
        let mut customer = 0;
        let agents = self.state.agents().count();
        while self.busy.len() < agents {
            let envelope = self.envelope(customer);
            customer += 1;
            let step = self.receive(envelope);
            let Some((agent, offer, conversation)) = offers(&step).next() else { continue };
            self.accept(&agent, offer);
            self.busy.push((agent, conversation));
        }
    }

    fn command(&mut self, agent: &AgentId, command: AgentCommand) -> Step {
        self.commands += 1;
        let id = SmolStr::from(format!("k{}", self.commands));
        match self.state.command(self.now, CommandInput::Agent { agent: agent.clone(), id, command }) {
            Answer::Done(_, step) => step,
            other => panic!("{other:?}"),
        }
    }

    fn accept(&mut self, agent: &AgentId, offer: OfferId) {
        self.command(agent, AgentCommand::OfferAccept { offer });
    }

    /// Closes, and returns what was offered then.
    fn close(&mut self, agent: &AgentId, conversation: ConversationId) -> Vec<(OfferId, ConversationId)> {
        let step = self.command(agent, AgentCommand::ConversationClose { conversation, disposition: None });
        offers(&step).map(|(_, offer, conversation)| (offer, conversation)).collect()
    }
}

fn offers(step: &Step) -> impl Iterator<Item = (AgentId, OfferId, ConversationId)> {
    step.emitted.iter().filter_map(|emitted| match &*emitted.event {
        Event::OfferCreated { offer, conversation, agent, .. } => Some((agent.clone(), *offer, *conversation)),
        _ => None,
    })
}

/// Agents of one slot each: every one works two of four queues and speaks one or two of three languages,
/// at one of three levels.
fn policy(agents: usize) -> Policy {
    let queue = |n: usize| QueueId::new(format!("q{}", n % QUEUES)).expect("a name");
    let language = |n: usize| SkillId::new(format!("lang:{}", LANGUAGES[n % 3])).expect("a name");
    let mut policy = Policy::default();
    for n in 0..QUEUES {
        policy.queues.insert(queue(n), Queue::default());
        for (spoken, code) in LANGUAGES.iter().enumerate() {
            policy.routes.push(Route {
                channel: None,
                account: None,
                language: None,
                tag: Some(SmolStr::from(format!("q{n}-{code}"))),
                queue: queue(n),
                skills: [(language(spoken), 2)].into(),
                priority: None,
            });
        }
    }
    for n in 0..agents {
        let level = 2 + u8::try_from(n % 7 % 3).unwrap_or(0);
        let spec = Agent {
            name: None,
            queues: [queue(n), queue(n / QUEUES + n + 1)].into(),
            skills: [(language(n / 3), level), (language(n / 5), 2)].into(),
            capacity: 25,
        };
        policy.agents.insert(AgentId::new(format!("agent-{n:05}")).expect("a name"), spec);
    }
    policy
}
