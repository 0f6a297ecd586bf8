//! Random inputs in random order; what must hold is checked by [`World`] after each.

use contract::command::AgentCommand;
use contract::envelope::{Envelope, EnvelopeKind, Receipt, ReceiptStatus};
use contract::event::Presence;
use contract::policy::Policy;
use contract::{AgentId, ConversationId, CustomerId, MessageId, Millis, OfferId, SmolStr, Timestamp};
use proptest::prelude::*;

use crate::fixture;
use crate::world::{Outcome, World};

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
    Accept(Hand),
    AcceptAny { agent: usize, offer: u64 },
    Decline(Hand),
    Send(Hand),
    Note(Hand),
    Transfer { hand: Hand, queue: Option<usize>, to: Option<usize> },
    Park { hand: Hand, secs: Option<u64> },
    Resume(Hand),
    Close(Hand),
    WrapUp(Hand),
    SameId(Hand),
    Silent { agent: usize },
    Heard { agent: usize },
    Policy(Plan),
    Time { ms: i64, tick: bool },
    Tick,
    Snapshot,
    TakeOver,
}

/// Who does something, and with what: mostly what the one has, sometimes what another has.
#[derive(Debug, Clone, Copy)]
struct Hand {
    agent: usize,
    which: usize,
    own: bool,
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
        prop::collection::vec(prop::bool::weighted(0.08), 5),
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
    // The last is a stranger.
    let agent = || prop_oneof![20 => 0..AGENTS.len() - 1, 1 => Just(AGENTS.len() - 1)];
    let hand =
        || (agent(), 0..16_usize, prop::bool::weighted(0.9)).prop_map(|(agent, which, own)| Hand { agent, which, own });
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
        3 => (0..4_usize, status, 0..5_u8).prop_map(|(which, status, by)| Input::Receipt { which, status, by }),
        6 => (agent(), presence).prop_map(|(agent, presence)| Input::Presence { agent, presence }),
        14 => hand().prop_map(Input::Accept),
        1 => (agent(), 0..30_u64).prop_map(|(agent, offer)| Input::AcceptAny { agent, offer }),
        4 => hand().prop_map(Input::Decline),
        6 => hand().prop_map(Input::Send),
        1 => hand().prop_map(Input::Note),
        4 => (hand(), prop::option::of(0..QUEUES.len()), prop::option::of(agent()))
            .prop_map(|(hand, queue, to)| Input::Transfer { hand, queue, to }),
        4 => (hand(), prop::option::of(0..60_u64)).prop_map(|(hand, secs)| Input::Park { hand, secs }),
        2 => hand().prop_map(Input::Resume),
        5 => hand().prop_map(Input::Close),
        3 => hand().prop_map(Input::WrapUp),
        1 => hand().prop_map(Input::SameId),
        2 => agent().prop_map(|agent| Input::Silent { agent }),
        2 => agent().prop_map(|agent| Input::Heard { agent }),
        1 => plan().prop_map(Input::Policy),
        8 => (span, any::<bool>()).prop_map(|(ms, tick)| Input::Time { ms, tick }),
        3 => Just(Input::Tick),
        2 => Just(Input::Snapshot),
        1 => Just(Input::TakeOver),
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

    /// A standing offer, with its agent or with another.
    fn offer(&self, hand: Hand) -> (AgentId, OfferId) {
        let standing: Vec<(AgentId, OfferId)> =
            self.world.state.offers().map(|(id, offer)| (offer.agent.clone(), id)).collect();
        choose(hand, &standing).unwrap_or_else(|| (named(hand.agent), OfferId(1)))
    }

    /// An open conversation, with its holder or with another.
    fn held(&self, hand: Hand) -> (AgentId, ConversationId) {
        let agents = self.world.state.agents();
        let held: Vec<(AgentId, ConversationId)> =
            agents.flat_map(|(id, agent)| agent.holds.iter().map(move |held| (id.clone(), *held))).collect();
        choose(hand, &held).unwrap_or_else(|| (named(hand.agent), ConversationId(hand.which as u64)))
    }

    /// A command about an offer.
    fn answer(&mut self, hand: Hand, command: impl FnOnce(OfferId) -> AgentCommand) {
        let (agent, offer) = self.offer(hand);
        self.world.command(&agent, command(offer));
    }

    /// A command about a conversation.
    fn handle(&mut self, hand: Hand, command: impl FnOnce(ConversationId) -> AgentCommand) -> Outcome {
        let (agent, conversation) = self.held(hand);
        self.world.command(&agent, command(conversation))
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
                self.world.command(&named(agent), AgentCommand::PresenceSet { presence, reason: None });
            }
            Input::Accept(hand) => self.answer(hand, |offer| AgentCommand::OfferAccept { offer }),
            Input::AcceptAny { agent, offer } => {
                self.world.command(&named(agent), AgentCommand::OfferAccept { offer: OfferId(offer) });
            }
            Input::Decline(hand) => self.answer(hand, |offer| AgentCommand::OfferDecline { offer, reason: None }),
            Input::Send(hand) => self.send(hand),
            Input::Note(hand) => {
                let text = "remember".to_owned();
                self.handle(hand, |conversation| AgentCommand::NoteAdd { conversation, text });
            }
            Input::Transfer { hand, queue, to } => {
                let to_queue = queue.map(|queue| fixture::queue(QUEUES[queue]));
                let (to_agent, note) = (to.map(named), None);
                self.handle(hand, |conversation| AgentCommand::ConversationTransfer {
                    conversation,
                    to_queue,
                    to_agent,
                    note,
                });
            }
            Input::Park { hand, secs } => {
                let (until, reason) = (secs.map(|secs| at + Millis::from_secs(secs)), None);
                self.handle(hand, |conversation| AgentCommand::ConversationPark { conversation, until, reason });
            }
            Input::Resume(hand) => {
                self.handle(hand, |conversation| AgentCommand::ConversationResume { conversation });
            }
            Input::Close(hand) => {
                let disposition = None;
                self.handle(hand, |conversation| AgentCommand::ConversationClose { conversation, disposition });
            }
            Input::WrapUp(hand) => {
                let disposition = None;
                self.handle(hand, |conversation| AgentCommand::WrapUpComplete { conversation, disposition });
            }
            Input::SameId(hand) => {
                // A client that wrongly gives two commands one id: the second is not done.
                let (agent, conversation) = self.held(hand);
                let command = AgentCommand::ConversationClose { conversation, disposition: None };
                self.world.command_as(&agent, SmolStr::new_static("same"), command);
            }
            Input::Silent { agent } => {
                self.world.silent(&named(agent));
            }
            Input::Heard { agent } => {
                self.world.heard(&named(agent));
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
            Input::TakeOver => self.world.take_over(),
        }
    }

    fn send(&mut self, hand: Hand) {
        let content = vec![fixture::said("an answer")];
        let outcome =
            self.handle(hand, |conversation| AgentCommand::MessageSend { conversation, content, reply_to: None });
        if let Outcome::Done(step) = outcome {
            for emitted in &step.emitted {
                if let contract::Event::MessageSent { message, thread, .. } = &*emitted.event {
                    let number = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
                    let customer = number(&CUSTOMERS, &thread.thread.key);
                    let channel = number(&CHANNELS, thread.account.kind.as_str());
                    self.sent.extend(customer.zip(channel).map(|(customer, channel)| (*message, customer, channel)));
                }
            }
        }
    }
}

fn named(agent: usize) -> AgentId {
    fixture::agent(AGENTS[agent])
}

/// One of what agents have, with the one who has it or with another.
fn choose<T: Clone>(hand: Hand, from: &[(AgentId, T)]) -> Option<(AgentId, T)> {
    let (owner, what) = pick(from, hand.which)?;
    Some((if hand.own { owner } else { named(hand.agent) }, what))
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
        all_here in prop::bool::weighted(0.8),
        inputs in prop::collection::vec(input(), 1..120),
    ) {
        let mut run = Run::new(&first, all_here);
        for input in inputs {
            run.input(input);
        }
    }
}
