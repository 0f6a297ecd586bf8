//! Random inputs in random order; what must hold is checked by [`World`] after each.

use contract::command::AgentCommand;
use contract::envelope::{Envelope, EnvelopeKind, Receipt, ReceiptStatus};
use contract::event::Presence;
use contract::policy::Policy;
use contract::{AgentId, ConversationId, CustomerId, MessageId, Millis, OfferId, SmolStr, Timestamp};
use proptest::prelude::*;

use crate::fixture;
use crate::world::World;

const CUSTOMERS: [&str; 6] = ["ann", "bob", "cem", "dee", "eva", "fay"];
const CHANNELS: [&str; 3] = ["chat", "email", "sms"];
const AGENTS: [&str; 6] = ["anna", "ben", "cara", "dora", "emil", "stranger"];
const QUEUES: [&str; 3] = ["sales", "support", "nowhere"];

/// An input with small numbers that are made sense of when its turn comes.
#[derive(Debug, Clone)]
enum Input {
    Message { customer: usize, channel: usize, german: bool, vip: bool },
    Repeat { which: usize },
    Other { kind: EnvelopeKind, customer: usize, channel: usize },
    Receipt { which: usize, status: ReceiptStatus, by: u8 },
    Presence { agent: usize, presence: Presence },
    Accept { agent: usize, which: usize },
    AcceptAny { agent: usize, offer: u64 },
    Decline { agent: usize, which: usize },
    Send { agent: usize, which: usize },
    Note { agent: usize, which: usize },
    Transfer { agent: usize, which: usize, queue: Option<usize>, to: Option<usize> },
    Park { agent: usize, which: usize, secs: Option<u64> },
    Resume { agent: usize, which: usize },
    Close { agent: usize, which: usize },
    WrapUp { agent: usize, which: usize },
    SameId { agent: usize, which: usize },
    Silent { agent: usize },
    Heard { agent: usize },
    Policy(Plan),
    Time { ms: i64, tick: bool },
    Tick,
    Snapshot,
}

/// How a policy differs from the usual one.
#[derive(Debug, Clone, Default)]
struct Plan {
    capacities: Vec<u32>,
    absent: Vec<bool>,
    no_sales: bool,
    skills_swapped: bool,
    wrap_up_secs: u64,
    weightless_sms: bool,
}

fn policy(plan: &Plan) -> Policy {
    let mut policy = fixture::policy(
        r#"
        default_queue = "support"
        routes = [
            { tag = "vip", queue = "sales", priority = 5 },
            { language = "de", queue = "support", skills = { "lang:de" = 3 } },
            { channel = "chat", queue = "sales" },
        ]
        [queues.sales]
        skills = { sales = 2 }
        [queues.support]
        [agents.anna]
        queues = ["sales"]
        skills = { sales = 5, "lang:de" = 5 }
        [agents.ben]
        queues = ["sales", "support"]
        skills = { sales = 2 }
        capacity = 50
        [agents.cara]
        queues = ["support"]
        skills = { "lang:de" = 3 }
        [agents.dora]
        queues = ["sales", "support"]
        skills = { sales = 9, "lang:de" = 9 }
        capacity = 25
        [agents.emil]
        queues = ["support"]
        capacity = 75
        [channels.email]
        capacity_weight = 50
        offer_lease_ms = 120000
        [channels.sms]
        capacity_weight = 10
        "#,
    );
    policy.timing.wrap_up_ms = Millis::from_secs(plan.wrap_up_secs);
    for (n, name) in AGENTS.iter().take(5).enumerate() {
        let id = fixture::agent(name);
        if let (Some(capacity), Some(spec)) = (plan.capacities.get(n), policy.agents.get_mut(&id)) {
            spec.capacity = *capacity;
        }
        if plan.absent.get(n) == Some(&true) {
            policy.agents.remove(&id);
        }
    }
    if plan.skills_swapped
        && let (Some(mut anna), Some(mut cara)) = (policy.agents.remove("anna"), policy.agents.remove("cara"))
    {
        std::mem::swap(&mut anna.skills, &mut cara.skills);
        policy.agents.insert(fixture::agent("anna"), anna);
        policy.agents.insert(fixture::agent("cara"), cara);
    }
    if plan.weightless_sms
        && let Some(sms) = policy.channels.get_mut("sms")
    {
        sms.capacity_weight = 0;
    }
    if plan.no_sales {
        let sales = fixture::queue("sales");
        policy.queues.remove(&sales);
        policy.routes.retain(|route| route.queue != sales);
        for spec in policy.agents.values_mut() {
            spec.queues.remove(&sales);
        }
    }
    assert_eq!(policy.problems(), Vec::<String>::new());
    policy
}

fn plan() -> impl Strategy<Value = Plan> {
    let capacity = prop_oneof![3 => Just(100_u32), 2 => Just(50), 1 => Just(25), 1 => Just(60), 1 => Just(0)];
    (
        prop::collection::vec(capacity, 5),
        prop::collection::vec(prop::bool::weighted(0.15), 5),
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop_oneof![Just(0_u64), Just(20)],
        prop::bool::weighted(0.2),
    )
        .prop_map(|(capacities, absent, no_sales, skills_swapped, wrap_up_secs, weightless_sms)| Plan {
            capacities,
            absent,
            no_sales,
            skills_swapped,
            wrap_up_secs,
            weightless_sms,
        })
}

fn input() -> impl Strategy<Value = Input> {
    let agent = || 0..AGENTS.len();
    let which = || 0..4_usize;
    let presence = prop_oneof![
        6 => Just(Presence::Available),
        1 => Just(Presence::Busy),
        1 => Just(Presence::Away),
        2 => Just(Presence::Offline),
        1 => Just(Presence::Other(SmolStr::new_static("asleep"))),
    ];
    let kind = prop_oneof![
        Just(EnvelopeKind::Edit),
        Just(EnvelopeKind::Reaction),
        Just(EnvelopeKind::Delete),
        Just(EnvelopeKind::Echo),
        Just(EnvelopeKind::ContactEvent),
        Just(EnvelopeKind::AccountEvent),
    ];
    let status = prop_oneof![
        Just(ReceiptStatus::Accepted),
        Just(ReceiptStatus::Delivered),
        Just(ReceiptStatus::Read),
        Just(ReceiptStatus::Failed),
    ];
    let span = prop_oneof![
        6 => 0..5_000_i64,
        3 => 5_000..40_000_i64,
        1 => 40_000..200_000_i64,
        1 => Just(9 * 24 * 3_600_000_i64),
        1 => -60_000..0_i64,
    ];
    prop_oneof![
        14 => (0..CUSTOMERS.len(), 0..CHANNELS.len(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(customer, channel, german, vip)| Input::Message { customer, channel, german, vip }),
        3 => (0..8_usize).prop_map(|which| Input::Repeat { which }),
        2 => (kind, 0..CUSTOMERS.len(), 0..CHANNELS.len())
            .prop_map(|(kind, customer, channel)| Input::Other { kind, customer, channel }),
        3 => (which(), status, 0..5_u8).prop_map(|(which, status, by)| Input::Receipt { which, status, by }),
        10 => (agent(), presence).prop_map(|(agent, presence)| Input::Presence { agent, presence }),
        14 => (agent(), which()).prop_map(|(agent, which)| Input::Accept { agent, which }),
        1 => (agent(), 0..30_u64).prop_map(|(agent, offer)| Input::AcceptAny { agent, offer }),
        4 => (agent(), which()).prop_map(|(agent, which)| Input::Decline { agent, which }),
        6 => (agent(), which()).prop_map(|(agent, which)| Input::Send { agent, which }),
        1 => (agent(), which()).prop_map(|(agent, which)| Input::Note { agent, which }),
        4 => (agent(), which(), prop::option::of(0..QUEUES.len()), prop::option::of(agent()))
            .prop_map(|(agent, which, queue, to)| Input::Transfer { agent, which, queue, to }),
        4 => (agent(), which(), prop::option::of(0..60_u64))
            .prop_map(|(agent, which, secs)| Input::Park { agent, which, secs }),
        2 => (agent(), which()).prop_map(|(agent, which)| Input::Resume { agent, which }),
        5 => (agent(), which()).prop_map(|(agent, which)| Input::Close { agent, which }),
        3 => (agent(), which()).prop_map(|(agent, which)| Input::WrapUp { agent, which }),
        1 => (agent(), which()).prop_map(|(agent, which)| Input::SameId { agent, which }),
        2 => agent().prop_map(|agent| Input::Silent { agent }),
        2 => agent().prop_map(|agent| Input::Heard { agent }),
        2 => plan().prop_map(Input::Policy),
        8 => (span, any::<bool>()).prop_map(|(ms, tick)| Input::Time { ms, tick }),
        3 => Just(Input::Tick),
        2 => Just(Input::Snapshot),
    ]
}

/// A world, and what an input's small numbers refer to.
struct Run {
    world: World,
    envelopes: Vec<(CustomerId, Envelope)>,
    sent: Vec<(MessageId, usize, usize)>,
}

impl Run {
    fn new(plan: &Plan, all_here: bool) -> Self {
        let mut world = World::new();
        world.policy(policy(plan));
        if all_here {
            for name in AGENTS.iter().take(5) {
                let presence = Presence::Available;
                world.command(&fixture::agent(name), AgentCommand::PresenceSet { presence, reason: None });
            }
        }
        Self { world, envelopes: Vec::new(), sent: Vec::new() }
    }

    fn envelope(&mut self, customer: usize, envelope: Envelope) {
        let customer = CustomerId(customer as u64 + 1);
        self.world.envelope(customer, &envelope);
        self.envelopes.push((customer, envelope));
    }

    fn key(&self) -> String {
        format!("e{}", self.envelopes.len())
    }

    /// An offer of the agent, else any.
    fn offer(&self, agent: &AgentId, which: usize) -> OfferId {
        let own: Vec<OfferId> =
            self.world.state.offers().filter(|(_, offer)| offer.agent == *agent).map(|(id, _)| id).collect();
        let any: Vec<OfferId> = self.world.state.offers().map(|(id, _)| id).collect();
        pick(&own, which).or_else(|| pick(&any, which)).unwrap_or(OfferId(1))
    }

    /// A conversation of the agent, else any.
    fn held(&self, agent: &AgentId, which: usize) -> ConversationId {
        let own: Vec<ConversationId> =
            self.world.state.agent(agent).into_iter().flat_map(|agent| agent.holds.iter().copied()).collect();
        let any: Vec<ConversationId> = self.world.state.conversations().map(|(id, _)| id).collect();
        pick(&own, which).or_else(|| pick(&any, which)).unwrap_or(ConversationId(1))
    }

    fn command(&mut self, agent: usize, command: impl FnOnce(&Self, &AgentId) -> AgentCommand) {
        let agent = fixture::agent(AGENTS[agent]);
        let command = command(self, &agent);
        self.world.command(&agent, command);
    }

    fn receipt(&mut self, which: usize, status: ReceiptStatus, by: u8) {
        let Some((message, customer, channel)) = pick(&self.sent, self.sent.len().saturating_sub(which + 1)) else {
            return;
        };
        let targets = vec![SmolStr::from(format!("p{message}"))];
        let receipt = Receipt { status, ..no_receipt() };
        let receipt = match by {
            0 => Receipt { command_id: Some(SmolStr::from(format!("main/{message}"))), targets, ..receipt },
            1 => Receipt { targets, ..receipt },
            2 => Receipt { targets: vec![targets[0].clone(), SmolStr::new_static("pm1")], ..receipt },
            3 => Receipt { through_seq: Some(message.0), ..receipt },
            _ => Receipt { watermark: Some(self.world.clock), ..receipt },
        };
        let (name, channel) = (CUSTOMERS[customer], CHANNELS[channel]);
        let envelope = fixture::receipt(receipt, name, channel, &self.key(), self.world.clock);
        self.envelope(customer, envelope);
    }

    fn input(&mut self, input: Input) {
        let at = self.world.clock;
        match input {
            Input::Message { customer, channel, german, vip } => {
                let (name, channel) = (CUSTOMERS[customer], CHANNELS[channel]);
                let mut envelope = fixture::message(name, channel, &self.key(), "hello", at);
                envelope.language = german.then(|| SmolStr::new_static("de"));
                envelope.tags.extend(vip.then(|| SmolStr::new_static("vip")));
                self.envelope(customer, envelope);
            }
            Input::Repeat { which } => {
                let which = self.envelopes.len().saturating_sub(which * which + 1);
                if let Some((customer, envelope)) = self.envelopes.get(which).cloned()
                    && self.world.state.has_seen(&envelope)
                {
                    let before = self.world.state.fingerprint();
                    assert!(self.world.envelope(customer, &envelope).is_none());
                    assert!(self.world.state.fingerprint() == before, "R7: a repeated envelope changes nothing");
                }
            }
            Input::Other { kind, customer, channel } => {
                let (name, channel) = (CUSTOMERS[customer], CHANNELS[channel]);
                let envelope = fixture::other(kind, name, channel, &self.key(), at);
                self.envelope(customer, envelope);
            }
            Input::Receipt { which, status, by } => self.receipt(which, status, by),
            Input::Presence { agent, presence } => {
                self.command(agent, |_, _| AgentCommand::PresenceSet { presence, reason: None });
            }
            Input::Accept { agent, which } => {
                self.command(agent, |run, agent| AgentCommand::OfferAccept { offer: run.offer(agent, which) });
            }
            Input::AcceptAny { agent, offer } => {
                self.command(agent, |_, _| AgentCommand::OfferAccept { offer: OfferId(offer) });
            }
            Input::Decline { agent, which } => self.command(agent, |run, agent| AgentCommand::OfferDecline {
                offer: run.offer(agent, which),
                reason: None,
            }),
            Input::Send { agent, which } => self.send(agent, which),
            Input::Note { agent, which } => self.command(agent, |run, agent| AgentCommand::NoteAdd {
                conversation: run.held(agent, which),
                text: "remember".to_owned(),
            }),
            Input::Transfer { agent, which, queue, to } => {
                self.command(agent, |run, agent| AgentCommand::ConversationTransfer {
                    conversation: run.held(agent, which),
                    to_queue: queue.map(|queue| fixture::queue(QUEUES[queue])),
                    to_agent: to.map(|to| fixture::agent(AGENTS[to])),
                    note: None,
                });
            }
            Input::Park { agent, which, secs } => self.command(agent, |run, agent| AgentCommand::ConversationPark {
                conversation: run.held(agent, which),
                until: secs.map(|secs| at + Millis::from_secs(secs)),
                reason: None,
            }),
            Input::Resume { agent, which } => self
                .command(agent, |run, agent| AgentCommand::ConversationResume { conversation: run.held(agent, which) }),
            Input::Close { agent, which } => self.command(agent, |run, agent| AgentCommand::ConversationClose {
                conversation: run.held(agent, which),
                disposition: None,
            }),
            Input::WrapUp { agent, which } => self.command(agent, |run, agent| AgentCommand::WrapUpComplete {
                conversation: run.held(agent, which),
                disposition: None,
            }),
            Input::SameId { agent, which } => {
                // A client that wrongly gives two commands one id: the second is not done.
                let agent = fixture::agent(AGENTS[agent]);
                let conversation = self.held(&agent, which);
                let id = SmolStr::new_static("same");
                let command = AgentCommand::ConversationClose { conversation, disposition: None };
                self.world.command_as(&agent, id, command);
            }
            Input::Silent { agent } => {
                self.world.silent(&fixture::agent(AGENTS[agent]));
            }
            Input::Heard { agent } => {
                self.world.heard(&fixture::agent(AGENTS[agent]));
            }
            Input::Policy(plan) => {
                self.world.policy(policy(&plan));
            }
            Input::Time { ms, tick } => {
                self.world.clock = Timestamp(at.0.saturating_add_signed(ms));
                if tick {
                    self.world.tick();
                }
            }
            Input::Tick => {
                self.world.tick();
            }
            Input::Snapshot => self.world.snapshot(),
        }
    }

    fn send(&mut self, agent: usize, which: usize) {
        let agent = fixture::agent(AGENTS[agent]);
        let conversation = self.held(&agent, which);
        let content = vec![fixture::said("an answer")];
        let command = AgentCommand::MessageSend { conversation, content, reply_to: None };
        if let crate::world::Outcome::Done(step) = self.world.command(&agent, command) {
            for emitted in &step.emitted {
                if let contract::Event::MessageSent { message, thread, .. } = &*emitted.event {
                    let named = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
                    let customer = named(&CUSTOMERS, &thread.thread.key);
                    let channel = named(&CHANNELS, thread.account.kind.as_str());
                    self.sent.extend(customer.zip(channel).map(|(customer, channel)| (*message, customer, channel)));
                }
            }
        }
    }
}

fn no_receipt() -> Receipt {
    serde_json::from_value(serde_json::json!({ "status": "accepted" })).unwrap()
}

fn pick<T: Clone>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()].clone())
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(
        first in plan(),
        all_here in any::<bool>(),
        inputs in prop::collection::vec(input(), 1..120),
    ) {
        let mut run = Run::new(&first, all_here);
        for input in inputs {
            run.input(input);
        }
    }
}
