//! Worlds to measure in: everybody busy, and many waiting.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::command::{AdminCommand, AgentCommand};
use contract::envelope::Envelope;
use contract::event::{EnqueueReason, Presence, Requirement, Terms, ThreadRef};
use contract::journal::{Cause, Entry, Fingerprint};
use contract::policy::{
    Agent, Expr, Membership, MembershipTable as Table, Policy, Queue, Route, ServiceLevel, Step as Want, Want as Wish,
};
use contract::{
    AgentId, ConversationId, CustomerId, Encoding, Event, Millis, OfferId, QueueId, SkillId, SmolStr, Timestamp,
};
use engine::{Answer, CommandInput, Phase, State, Step};

/// What is the same everywhere.
pub const AGENTS: usize = 10_000;
const SKILLS: usize = 200;
const QUEUES: usize = 20;
/// The last queues, whose agents have room: what comes there is assigned at once.
const FREE_QUEUES: usize = 2;
/// Of the agents, those who work these.
const FREE_AGENTS: usize = 1_000;
const RULES_OF_QUEUE: usize = 10;
/// What each agent can hold at once.
const ROOM: u32 = 2;

/// How a world differs from the usual one.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    pub name: &'static str,
    /// Every conversation asks for something else.
    pub own: bool,
    /// Everybody has one skill and everybody asks for it, and for nothing else.
    pub hot: bool,
    /// All agents work all queues.
    pub all_queues: bool,
    pub best_skilled: bool,
    /// Each waiting conversation was declined by so many.
    pub asked: usize,
    /// Service levels of which about a third are near their ends and a third past.
    pub levels: bool,
    pub ring: u8,
    /// Members of many tiers, ranks and delays.
    pub tiers: bool,
}

/// Chance that is the same each time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most.max(1) as u64) as usize
    }
}

pub struct World {
    pub state: State,
    pub shape: Shape,
    pub now: Timestamp,
    pub dice: Dice,
    pub template: Envelope,
    rules: policy::Compiled,
    /// What each agent holds.
    pub held: Vec<(AgentId, ConversationId)>,
    customers: u64,
    commands: u64,
}

fn queue_id(n: usize) -> QueueId {
    QueueId::new(format!("queue-{n:02}")).expect("a name")
}

fn skill_id(n: usize) -> SkillId {
    SkillId::new(format!("skill-{n:03}")).expect("a name")
}

pub fn agent_id(n: usize) -> AgentId {
    AgentId::new(format!("agent-{n:05}")).expect("a name")
}

/// The queues of an agent: 1 to 3 of the busy ones, or the free ones.
fn queues_of(n: usize, shape: Shape, dice: &mut Dice) -> Vec<usize> {
    let busy = QUEUES - FREE_QUEUES;
    if n >= AGENTS - FREE_AGENTS {
        return if shape.all_queues { (busy..QUEUES).collect() } else { vec![busy + n % FREE_QUEUES] };
    }
    if shape.all_queues {
        return (0..busy).collect();
    }
    let many = 1 + dice.below(3);
    let mut queues: Vec<usize> = (0..many).map(|_| dice.below(busy)).collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

fn level(dice: &mut Dice) -> u8 {
    1 + u8::try_from(dice.below(10)).unwrap_or(0)
}

/// Some of the skills of an agent that the queue is about, at levels that it has.
fn some_skills(agent: &Agent, queue: usize, dice: &mut Dice) -> Vec<(SkillId, u8)> {
    let about = |skill: &SkillId| (0..SKILLS / QUEUES).any(|n| skill_id(queue * SKILLS / QUEUES + n) == *skill);
    let mut skills: Vec<(SkillId, u8)> =
        agent.skills.iter().filter(|(skill, _)| about(skill)).map(|(skill, level)| (skill.clone(), *level)).collect();
    let many = 1 + dice.below(3);
    while skills.len() > many {
        skills.swap_remove(dice.below(skills.len()));
    }
    for (_, level) in &mut skills {
        *level = 1 + u8::try_from(dice.below(usize::from(*level))).unwrap_or(0);
    }
    skills
}

pub fn policy(shape: Shape) -> Policy {
    let mut dice = Dice::new(1);
    let mut policy = Policy::default();
    for n in 0..AGENTS {
        let works = queues_of(n, shape, &mut dice);
        let queues = works.iter().map(|queue| {
            let membership = if shape.tiers {
                let small = |n: usize| u8::try_from(n).unwrap_or(0);
                Membership {
                    tier: 1 + small(dice.below(20)),
                    rank: 1 + small(dice.below(3)),
                    delay_s: u16::try_from(dice.below(20) * 10).unwrap_or(0),
                }
            } else {
                Membership::default()
            };
            (queue_id(*queue), membership)
        });
        let queues = queues.collect();
        let mut skills = std::collections::BTreeMap::new();
        if shape.hot {
            skills.insert(skill_id(0), level(&mut dice));
        }
        // 3 to 10: of each queue some of those that it is about, and others.
        for n in 0..3 + dice.below(8) {
            let own = works.get(n / 2).map(|queue| queue * SKILLS / QUEUES + dice.below(SKILLS / QUEUES));
            skills.insert(skill_id(own.unwrap_or_else(|| dice.below(SKILLS))), level(&mut dice));
        }
        let spec = Agent { skills, queues: Table(queues), capacity: ROOM * 25, ..Agent::default() };
        policy.agents.insert(agent_id(n), spec);
    }
    for n in 0..QUEUES {
        let mut queue = Queue { best_skilled: shape.best_skilled, ring: shape.ring, ..Queue::default() };
        if shape.levels {
            // What waits came over 100 s.
            queue.service_level = Some(ServiceLevel {
                answer_within_ms: Millis::from_secs(66),
                target_percent: 80,
                window_ms: Some(Millis::from_secs(33)),
                formula: Default::default(),
                short_abandon_ms: Millis(0),
            });
        }
        policy.queues.insert(queue_id(n), queue);
        let members: Vec<&Agent> =
            policy.agents.values().filter(|agent| agent.queues.contains_key(&queue_id(n))).collect();
        for rule in 0..RULES_OF_QUEUE {
            let mut wants = std::collections::BTreeMap::new();
            if shape.hot {
                wants.insert(skill_id(0), Wish { level: 1, relax_after_ms: None, prefer: None });
            } else {
                // The first is needed for ever, the second for two minutes, the third for one.
                for (place, (skill, level)) in
                    some_skills(members[dice.below(members.len())], n, &mut dice).into_iter().enumerate()
                {
                    let relax = [None, Some(Millis::from_secs(120)), Some(Millis::from_secs(60))];
                    wants.insert(skill, Wish { level, relax_after_ms: relax[place], prefer: None });
                }
            }
            policy.routes.push(Route {
                name: None,
                when: None,
                channel: None,
                account: None,
                language: None,
                tag: Some(SmolStr::from(format!("kind-{n}-{rule}"))),
                queue: queue_id(n),
                skills: Default::default(),
                wants,
                priority: Some(i32::try_from(dice.below(4)).unwrap_or(0)),
                adjust_s: 0,
                class: None,
                labels: BTreeSet::new(),
                owner: None,
            });
        }
    }
    policy
}

/// A first message.
pub fn template() -> Envelope {
    let json = br#"{"v":1,"kind":"message","tenant":"main","account":{"kind":"chat","id":"web"},"dedup_key":"k",
        "thread":{"key":"t"},"sender":{"identity":{"scheme":"visitor","value":"v","scope":"account"}},
        "sender_auth":{"level":"unverified"},"received_at":1700000000000,"language":"en",
        "content":[{"type":"text","body":"Hello, my order has not arrived yet. Can you help?"}]}"#;
    Encoding::Json.decode(json, usize::MAX).expect("the template is an envelope")
}

impl World {
    /// Everybody signed in; all but those of the free queues busy.
    pub fn new(shape: Shape) -> Self {
        let template = template();
        let now = Timestamp(1_700_000_000_000);
        let policy = policy(shape);
        let mut world = Self {
            state: State::new(),
            rules: policy::Compiled::new(Arc::new(policy.clone())),
            shape,
            now,
            dice: Dice::new(2),
            template,
            held: Vec::new(),
            customers: 0,
            commands: 0,
        };
        let apply = AdminCommand::PolicyApply { policy: Box::new(policy), waiting: false };
        match world.state.command(now, CommandInput::Admin { id: SmolStr::new_static("policy"), command: apply }) {
            Answer::Done(..) => {}
            other => panic!("{other:?}"),
        }
        for n in 0..AGENTS {
            world.command(&agent_id(n), AgentCommand::PresenceSet { presence: Presence::Available, reason: None });
        }
        for n in 0..AGENTS - FREE_AGENTS {
            for _ in 0..ROOM {
                world.give(&agent_id(n));
            }
        }
        world
    }

    /// Gives an agent a conversation, as a supervisor would.
    fn give(&mut self, agent: &AgentId) {
        let (customer, envelope) = self.envelope(0);
        let queue = self.state.policy().0.agents.get(agent).and_then(|spec| spec.queues.keys().next().cloned());
        let mut step = self.open(&envelope);
        let conversation = self.adopt_opened(&mut step, customer, envelope);
        self.adopt_enqueued(&mut step, conversation, queue.expect("a queue"), Arc::default());
        let (agent_given, offer) = (agent.clone(), None);
        self.state.adopt(
            &mut step,
            Event::ConversationAssigned {
                conversation,
                agent: agent_given,
                offer,
                forced_by: None,
                over_capacity: false,
            },
        );
        self.state.finish(&mut step);
        self.held.push((agent.clone(), conversation));
    }

    /// A message of a customer who has not written before, on a rule of a queue that is busy or free.
    pub fn envelope(&mut self, queue: usize) -> (CustomerId, Envelope) {
        self.customers += 1;
        let mut envelope = self.template.clone();
        envelope.dedup_key = SmolStr::from(format!("key-{}", self.customers));
        envelope.thread.key = SmolStr::from(format!("thread-{}", self.customers));
        envelope.tags = vec![SmolStr::from(format!("kind-{queue}-{}", self.dice.below(RULES_OF_QUEUE)))];
        (CustomerId(self.customers), envelope)
    }

    pub fn busy_queue(&mut self) -> usize {
        self.dice.below(QUEUES - FREE_QUEUES)
    }

    pub fn free_queue(&mut self) -> usize {
        QUEUES - FREE_QUEUES + self.dice.below(FREE_QUEUES)
    }

    fn open(&self, envelope: &Envelope) -> Step {
        self.state.open_step(self.now, Cause::Envelope(Fingerprint(envelope.fingerprint())))
    }

    fn adopt_opened(&mut self, step: &mut Step, customer: CustomerId, envelope: Envelope) -> ConversationId {
        // Numbers are handed out one after the other, and each customer here has one conversation.
        let conversation = ConversationId(customer.0);
        let thread = ThreadRef { account: envelope.account.clone(), thread: envelope.thread.clone() };
        self.state.adopt(step, Event::ConversationOpened { conversation, customer, thread });
        let message = contract::MessageId(customer.0);
        self.state.adopt(
            step,
            Event::MessageReceived {
                conversation,
                message,
                thread_seq: 1,
                envelope: Box::new(envelope),
                customer: None,
            },
        );
        conversation
    }

    fn adopt_enqueued(
        &mut self,
        step: &mut Step,
        conversation: ConversationId,
        queue: QueueId,
        requirement: Arc<Requirement>,
    ) {
        let until = requirement.steps.first().and_then(|first| first.until_ms);
        let terms = Terms {
            weight: 25,
            lease_ms: Millis::from_secs(30),
            step_ends_at: until.map(|until| self.now + until),
            ..Terms::default()
        };
        self.state.adopt(
            step,
            Event::ConversationEnqueued {
                conversation,
                queue,
                priority: 0,
                requirement,
                ready_at: self.now,
                reason: EnqueueReason::Opened,
                from: None,
                direct: None,
                kept: false,
                terms: Box::new(terms),
            },
        );
    }

    /// What a customer asks for when every one asks for something else.
    fn own_requirement(&mut self, number: usize) -> Arc<Requirement> {
        let queue = queue_id(number);
        let policy = Arc::clone(self.state.policy().0);
        // Somebody there can meet it.
        let spec = loop {
            let found = policy.agents.get(&agent_id(self.dice.below(AGENTS))).expect("an agent");
            if found.queues.contains_key(&queue) {
                break found;
            }
        };
        let skills: Vec<Expr> = some_skills(spec, number, &mut self.dice)
            .into_iter()
            .map(|(skill, level)| Expr::skill(skill, level))
            .collect();
        let boost = i32::try_from(self.customers).unwrap_or(0);
        let steps = (0..skills.len())
            .map(|n| Want {
                until_ms: (n + 1 < skills.len()).then(|| Millis::from_secs(60 * (n as u64 + 1))),
                must: Expr::All(skills.iter().take(skills.len() - n).cloned().collect()),
                // No two are equal.
                prefer: vec![contract::policy::Preference {
                    when: Expr::All(Vec::new()),
                    weight: 1 + boost.unsigned_abs(),
                }],
                ..Want::default()
            })
            .collect();
        Arc::new(Requirement { steps: if skills.is_empty() { vec![Want::default()] } else { steps } })
    }

    /// A new conversation comes; what is measured is all that the engine does.
    pub fn arrive(
        &mut self,
        queue: usize,
        measure: impl FnOnce(&mut dyn FnMut() -> Step) -> Step,
    ) -> (ConversationId, Step) {
        let (customer, envelope) = self.envelope(queue);
        if self.shape.own {
            let requirement = self.own_requirement(queue);
            let queue = queue_id(queue);
            let mut input = Some((envelope, queue, requirement));
            let step = measure(&mut || {
                let (envelope, queue, requirement) = input.take().expect("once");
                let mut step = self.open(&envelope);
                let conversation = self.adopt_opened(&mut step, customer, envelope);
                self.adopt_enqueued(&mut step, conversation, queue, requirement);
                self.state.finish(&mut step);
                step
            });
            return (ConversationId(customer.0), step);
        }
        let mut input = Some(envelope);
        let fingerprint = Fingerprint(input.as_ref().map_or(0, Envelope::fingerprint));
        let step = measure(&mut || {
            let envelope = input.take().expect("once");
            let mut step = self.state.open_step(self.now, Cause::Envelope(fingerprint));
            self.state.receive(&mut step, Some(customer), envelope);
            step
        });
        (ConversationId(customer.0), step)
    }

    /// A new conversation comes into a queue; what is measured is the decision alone: whom it is offered to, and why.
    pub fn arrive_to_be_decided(&mut self, queue: usize, measure: impl FnOnce(&mut dyn FnMut())) -> Step {
        let (customer, envelope) = self.envelope(queue);
        let facts = policy::Facts::of(&envelope, None);
        let routed = self.rules.route(&facts, self.now).expect("a queue");
        let requirement = if self.shape.own { self.own_requirement(queue) } else { routed.requirement };
        let mut step = self.open(&envelope);
        let conversation = self.adopt_opened(&mut step, customer, envelope);
        self.adopt_enqueued(&mut step, conversation, routed.queue, requirement);
        measure(&mut || self.state.finish(&mut step));
        step
    }

    /// An agent has ended a conversation; what is measured is the decision alone: what it is offered next, and why.
    pub fn free_to_be_decided(
        &mut self,
        agent: &AgentId,
        conversation: ConversationId,
        measure: impl FnOnce(&mut dyn FnMut()),
    ) -> Step {
        let mut step = self.state.open_step(self.now, Cause::Notice);
        let closed =
            Event::ConversationClosed { conversation, by: Some(agent.clone()), disposition: None, reason: None };
        self.state.adopt(&mut step, closed);
        measure(&mut || self.state.finish(&mut step));
        step
    }

    /// So many come, and wait.
    pub fn crowd(&mut self, many: usize) {
        for n in 0..many {
            let queue = self.busy_queue();
            let (conversation, step) = self.arrive(queue, |work| work());
            assert!(offers(&step).next().is_none(), "all wait");
            drop(step);
            for other in 0..self.shape.asked {
                self.decline_by(conversation, &agent_id((n * 7 + other * 13) % (AGENTS - FREE_AGENTS)));
            }
            // They came over 100 s, however many they are.
            let came = |n: usize| 100_000 * n as u64 / many as u64;
            self.pass(came(n + 1) - came(n));
        }
    }

    /// Somebody was asked, and did not want it.
    fn decline_by(&mut self, conversation: ConversationId, agent: &AgentId) {
        let offer = OfferId(conversation.0 * 1000 + 1_000_000);
        let expires_at = self.now + Millis::from_secs(30);
        let agent = agent.clone();
        let created =
            Event::OfferCreated { offer, conversation, agent: agent.clone(), expires_at, decision: Default::default() };
        let declined = Event::OfferDeclined { offer, conversation, agent, reason: None, rest_until: None };
        // Replayed, and not decided: its round would end, since nobody has room.
        self.state.replay(&Entry {
            tenant: self.template.tenant.clone(),
            at: self.now,
            cause: Cause::Notice,
            events: vec![Arc::new(created), Arc::new(declined)],
        });
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = Timestamp(self.now.0 + ms);
        if self.state.next_deadline().is_some_and(|due| due <= self.now) {
            self.state.tick(self.now);
        }
    }

    pub fn input(&mut self, agent: &AgentId, command: AgentCommand) -> CommandInput {
        self.commands += 1;
        CommandInput::Agent { agent: agent.clone(), id: SmolStr::from(format!("k{}", self.commands)), command }
    }

    pub fn command(&mut self, agent: &AgentId, command: AgentCommand) -> Step {
        let input = self.input(agent, command);
        done(self.state.command(self.now, input))
    }

    pub fn waiting(&self) -> usize {
        self.state.conversations().filter(|(_, item)| matches!(item.phase, Phase::Waiting { .. })).count()
    }
}

pub fn done(answer: Answer) -> Step {
    match answer {
        Answer::Done(_, step) => step,
        other => panic!("{other:?}"),
    }
}

pub fn offers(step: &Step) -> impl Iterator<Item = (AgentId, OfferId, ConversationId)> {
    step.emitted.iter().filter_map(|emitted| match &*emitted.event {
        Event::OfferCreated { offer, conversation, agent, .. } => Some((agent.clone(), *offer, *conversation)),
        _ => None,
    })
}
