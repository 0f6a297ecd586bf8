//! Each invariant can fail: something is broken on purpose, and it is seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::command::{AdminCommand, AgentCommand};
use contract::envelope::Envelope;
use contract::event::{Candidate, Decision, EnqueueReason, Presence, Terms, ThreadRef};
use contract::journal::{Cause, Fingerprint};
use contract::policy::Policy;
use contract::{AgentId, ConversationId, CustomerId, Event, MessageId, OfferId, SmolStr, Timestamp};

use super::{Auditor, Invariant};
use crate::conversation::{Offer, Phase};
use crate::state::{Emitted, Reach, State};
use crate::{Answer, CommandInput};

const C1: ConversationId = ConversationId(1);
const C2: ConversationId = ConversationId(2);
const NOW: Timestamp = Timestamp(1_000_000);

const POLICY: &str = r#"
    default_queue = "support"
    routes = [
        { tag = "urgent", queue = "support", priority = 1 },
        { tag = "earlier", queue = "support", adjust_s = 60 },
        { tag = "tax", queue = "tax" },
    ]
    [queues.support]
    [queues.tax]
    skills = { tax = 5 }
    service_level = { answer_within_ms = 20000 }
    [agents.anna]
    queues = ["support", "tax"]
    skills = { tax = 9 }
    capacity = 50
    [agents.ben]
    queues = ["support", "tax"]
    skills = { tax = 1 }
"#;

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn command(state: &mut State, input: CommandInput) {
    assert!(matches!(state.command(state.now.max(NOW), input), Answer::Done(..)));
}

fn id(state: &State) -> SmolStr {
    SmolStr::from(format!("{}", state.last_message * 1000 + state.last_offer + state.agents.values().count() as u64))
}

fn presence(state: &mut State, name: &str, presence: Presence) {
    let id = SmolStr::from(format!("{name}-{presence}-{}", id(state)));
    let command_ = AgentCommand::PresenceSet { presence, reason: None };
    command(state, CommandInput::Agent { agent: agent(name), id, command: command_ });
}

fn operator(state: &mut State, command_: AdminCommand) {
    let id = SmolStr::from(format!("operator-{}", id(state)));
    command(state, CommandInput::Admin { id, command: command_ });
}

fn accept(state: &mut State, name: &str, offer: u64) {
    let command_ = AgentCommand::OfferAccept { offer: OfferId(offer) };
    let id = SmolStr::from(format!("accept-{offer}"));
    command(state, CommandInput::Agent { agent: agent(name), id, command: command_ });
}

fn envelope(customer: u64, tag: &str) -> Envelope {
    let name = format!("customer-{customer}");
    let tags: &[&str] = if tag.is_empty() { &[] } else { &[tag] };
    serde_json::from_value(serde_json::json!({
        "v": 1,
        "kind": "message",
        "tenant": "main",
        "account": { "kind": "chat", "id": "web" },
        "dedup_key": name,
        "thread": { "key": name },
        "tags": tags,
        "sender": { "identity": { "scheme": "visitor", "value": name, "scope": "account", "scope_id": "web" } },
        "sender_auth": { "level": "unverified" },
        "received_at": 0,
    }))
    .unwrap()
}

fn write(state: &mut State, at: Timestamp, customer: u64, tag: &str) {
    let envelope = envelope(customer, tag);
    let mut step = state.open_step(at, Cause::Envelope(Fingerprint(envelope.fingerprint())));
    state.receive(&mut step, Some(CustomerId(customer)), envelope);
}

/// Nobody is there; two wait, the second a second younger.
fn two_wait(first: &str, second: &str) -> State {
    let mut state = State::new();
    let policy: Policy = toml::from_str(POLICY).unwrap();
    operator(&mut state, AdminCommand::PolicyApply { policy: Box::new(policy), waiting: false });
    write(&mut state, NOW, 1, first);
    write(&mut state, Timestamp(NOW.0 + 1000), 2, second);
    assert_eq!(state.violations(), []);
    state
}

/// The first one is with anna.
fn one_is_held() -> State {
    let mut state = two_wait("", "tax");
    presence(&mut state, "anna", Presence::Available);
    accept(&mut state, "anna", 1);
    assert_eq!(state.violations(), []);
    state
}

fn found(state: &State) -> Vec<Invariant> {
    let mut found: Vec<Invariant> = state.violations().iter().map(|violation| violation.invariant).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn every_invariant_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
    assert_eq!(names.len(), 12);
    for (n, invariant) in Invariant::ALL.iter().enumerate() {
        assert!(invariant.name().starts_with(&format!("r{}_", n + 1)));
    }
}

#[test]
fn r1_one_place() {
    // Two hold it.
    let mut state = one_is_held();
    state.agents.get_mut("ben").unwrap().holds.insert(C1);
    assert_eq!(found(&state), [Invariant::OnePlace]);
    // It is held, and handed over by somebody.
    let mut state = one_is_held();
    state.agents.get_mut("ben").unwrap().keeps.insert(C1);
    assert_eq!(found(&state), [Invariant::OnePlace]);
    // Somebody holds what is not open.
    let mut state = one_is_held();
    state.agents.get_mut("ben").unwrap().holds.insert(ConversationId(9));
    assert_eq!(found(&state), [Invariant::OnePlace]);
    // It waits and stands in no line.
    let mut state = two_wait("", "");
    state.index.waiting.remove(C1, None);
    assert_eq!(found(&state), [Invariant::OnePlace]);
    // Its queue is gone.
    let mut state = two_wait("", "tax");
    let mut policy = (*state.policy).clone();
    policy.queues.remove("tax");
    state.policy = Arc::new(policy);
    assert_eq!(found(&state), [Invariant::OnePlace]);
    // It stands in a line, and there is no such conversation.
    let mut state = two_wait("", "");
    state.conversations.remove(&C1);
    assert_eq!(found(&state), [Invariant::OnePlace]);
}

#[test]
fn r2_within_capacity() {
    // The count is wrong.
    let mut state = one_is_held();
    state.agents.get_mut("anna").unwrap().load += 1;
    assert_eq!(found(&state), [Invariant::WithinCapacity]);
    // The count is right, and it is too much.
    let mut state = one_is_held();
    state.conversations.get_mut(&C1).unwrap().units += 50;
    state.agents.get_mut("anna").unwrap().load += 50;
    assert_eq!(found(&state), [Invariant::WithinCapacity]);
    // The same, and it was allowed.
    state.agents.get_mut("anna").unwrap().excess = 50;
    assert_eq!(found(&state), []);
    // Of the interruptible part.
    let mut state = one_is_held();
    state.conversations.get_mut(&C1).unwrap().interruptible = true;
    state.conversations.get_mut(&C1).unwrap().units = 60;
    let anna = state.agents.get_mut("anna").unwrap();
    (anna.load, anna.interruptible) = (anna.load + 35, 60);
    assert!(found(&state).contains(&Invariant::WithinCapacity));
}

#[test]
fn r2_lets_what_was_forced_pass() {
    let mut state = one_is_held();
    accept(&mut state, "anna", 2);
    write(&mut state, NOW, 3, "tax");
    let assign = |ignore_capacity| AdminCommand::ConversationAssign {
        conversation: ConversationId(3),
        agent: agent("anna"),
        ignore_capacity,
    };
    let refused = CommandInput::Admin { id: SmolStr::new_static("not so"), command: assign(false) };
    assert!(matches!(state.command(NOW, refused), Answer::Refused(_)));
    operator(&mut state, assign(true));
    assert_eq!((state.agents.get("anna").unwrap().load, state.agents.get("anna").unwrap().excess), (75, 25));
    assert_eq!(found(&state), []);
    // What is allowed above falls with the load, and does not come back.
    let close = AgentCommand::ConversationClose { conversation: C1, disposition: None };
    command(&mut state, CommandInput::Agent { agent: agent("anna"), id: "close".into(), command: close });
    assert_eq!(state.agents.get("anna").unwrap().excess, 0);
}

#[test]
fn r4_none_overlooked() {
    let mut state = two_wait("", "");
    for event in [
        Event::AgentConnected { agent: agent("anna") },
        Event::AgentPresenceChanged { agent: agent("anna"), presence: Presence::Available, reason: None },
    ] {
        // As facts only: nothing is matched after them.
        state.evolve(NOW, &event);
    }
    assert_eq!(found(&state), [Invariant::NoneOverlooked]);
}

#[test]
fn r5_one_offer() {
    let mut state = two_wait("", "");
    presence(&mut state, "anna", Presence::Available);
    let twice = Offer { conversation: C1, agent: agent("ben"), expires_at: NOW };
    state.offers.insert(OfferId(9), twice);
    assert_eq!(found(&state), [Invariant::OneOffer]);
    // More than the queue rings.
    let mut state = two_wait("", "");
    presence(&mut state, "anna", Presence::Available);
    let ben = Offer { conversation: C1, agent: agent("ben"), expires_at: NOW };
    state.offers.insert(OfferId(9), ben);
    if let Phase::Offered { offers } = &mut state.conversations.get_mut(&C1).unwrap().phase {
        offers.push((OfferId(9), agent("ben")));
    }
    assert!(found(&state).contains(&Invariant::OneOffer));
}

#[test]
fn r10_replay_equals_live() {
    let (mut state, other) = (one_is_held(), one_is_held());
    assert_eq!(state.fingerprint(), other.fingerprint());
    state.agents.get_mut("ben").unwrap().no_answers = 1;
    assert_ne!(state.fingerprint(), other.fingerprint());
}

/// Lets an auditor see facts in their order, each after the state evolved it.
fn audit(state: &mut State, events: &[Event]) -> Vec<Invariant> {
    let mut auditor = Auditor::default();
    for event in events {
        let reach = state.evolve(state.now.max(NOW), event);
        auditor.observe(state, &Emitted { event: Arc::new(event.clone()), reach });
    }
    auditor.violations().iter().map(|violation| violation.invariant).collect()
}

fn offered(offer: u64, conversation: ConversationId, to: &str) -> Event {
    let candidate = Candidate {
        agent: agent(to),
        load: 0,
        capacity: 50,
        last_assigned_at: None,
        affinity: 0,
        tier: 0,
        preferred: 0,
        skill_milli: 0,
        strategy_key: 0,
    };
    let decision = Decision { eligible: vec![candidate], tie_break: "only_candidate".into(), ..Decision::default() };
    Event::OfferCreated { offer: OfferId(offer), conversation, agent: agent(to), expires_at: NOW, decision }
}

#[test]
fn r3_skilled() {
    assert_eq!(audit(&mut two_wait("tax", ""), &[offered(1, C1, "ben")]), [Invariant::Skilled]);
    assert_eq!(audit(&mut two_wait("tax", ""), &[offered(1, C1, "anna")]), []);
    assert_eq!(audit(&mut two_wait("tax", ""), &[offered(1, C1, "stranger")]), [Invariant::Skilled]);
}

#[test]
fn r6_offer_ends_once() {
    let ends = Event::OfferRescinded {
        offer: OfferId(1),
        conversation: C1,
        agent: agent("anna"),
        reason: SmolStr::new_static("policy"),
    };
    let once = [offered(1, C1, "anna"), ends.clone()];
    assert_eq!(audit(&mut two_wait("", ""), &once), []);
    let twice = [offered(1, C1, "anna"), ends.clone(), ends.clone()];
    assert_eq!(audit(&mut two_wait("", ""), &twice), [Invariant::OfferEndsOnce]);
    assert_eq!(audit(&mut two_wait("", ""), std::slice::from_ref(&ends)), [Invariant::OfferEndsOnce]);
    let again = [offered(1, C1, "anna"), ends, offered(1, C1, "anna")];
    assert_eq!(audit(&mut two_wait("", ""), &again), [Invariant::OfferEndsOnce]);
}

fn opened(conversation: u64, customer: u64) -> Event {
    let envelope = envelope(customer, "");
    let thread = ThreadRef { account: envelope.account, thread: envelope.thread };
    Event::ConversationOpened { conversation: ConversationId(conversation), customer: CustomerId(customer), thread }
}

fn received(conversation: u64, customer: u64, thread_seq: u64) -> Event {
    Event::MessageReceived {
        conversation: ConversationId(conversation),
        message: MessageId(9),
        thread_seq,
        envelope: Box::new(envelope(customer, "")),
        customer: None,
    }
}

#[test]
fn r7_repeats_change_nothing() {
    let events = [opened(5, 5), received(5, 5, 1), received(5, 5, 2)];
    assert_eq!(audit(&mut two_wait("", ""), &events), [Invariant::RepeatsChangeNothing]);
}

#[test]
fn r8_first_come_first_served() {
    let younger_first = [offered(1, C2, "anna")];
    assert_eq!(audit(&mut two_wait("", ""), &younger_first), [Invariant::FirstComeFirstServed]);
    assert_eq!(audit(&mut two_wait("", ""), &[offered(1, C1, "anna")]), []);
    // The younger is more urgent, or counts as having come earlier: and the other way round.
    for tag in ["urgent", "earlier"] {
        assert_eq!(audit(&mut two_wait("", tag), &younger_first), []);
        assert_eq!(audit(&mut two_wait("", tag), &[offered(1, C1, "anna")]), [Invariant::FirstComeFirstServed]);
        assert_eq!(audit(&mut two_wait(tag, tag), &younger_first), [Invariant::FirstComeFirstServed]);
    }
    // Who was asked in vain is passed.
    let mut state = two_wait("", "");
    state.change_conversation(C1, |item| item.asked = BTreeSet::from([agent("anna")]).into());
    assert_eq!(audit(&mut state, &younger_first), []);
    // Nearing the end of the service level: the younger is due sooner.
    let mut state = two_wait("tax", "tax");
    state.change_conversation(C2, |item| item.due_at = Some(NOW));
    assert_eq!(audit(&mut state, &younger_first), []);
}

#[test]
fn r9_messages_in_order() {
    let gap = [opened(5, 5), received(5, 5, 1), received(5, 5, 3)];
    let found = audit(&mut two_wait("", ""), &gap);
    assert_eq!(found, [Invariant::RepeatsChangeNothing, Invariant::MessagesInOrder]);
    // On an agent's feed.
    let state = two_wait("", "");
    let mut auditor = Auditor::default();
    for seq in [1, 2, 4] {
        let reach = Reach { feeds: vec![(agent("anna"), seq)], ..Reach::default() };
        let event = Arc::new(Event::AgentConnected { agent: agent("anna") });
        auditor.observe(&state, &Emitted { event, reach });
    }
    let found: Vec<Invariant> = auditor.violations().iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, [Invariant::MessagesInOrder]);
}

#[test]
fn r11_one_home() {
    assert_eq!(audit(&mut two_wait("", ""), &[opened(5, 5), opened(5, 6)]), [Invariant::OneHome]);
    // A message in a conversation that was never opened.
    assert_eq!(audit(&mut two_wait("", ""), &[received(9, 5, 1)]), [Invariant::OneHome]);
}

#[test]
fn r12_explained() {
    let Event::OfferCreated { offer, conversation, agent, expires_at, .. } = offered(1, C1, "anna") else { return };
    let decision = Decision::default();
    let unexplained = Event::OfferCreated { offer, conversation, agent, expires_at, decision };
    assert_eq!(audit(&mut two_wait("", ""), &[unexplained]), [Invariant::Explained]);
}

#[test]
fn a_fact_about_nothing_changes_nothing() {
    let mut state = two_wait("", "");
    let before = state.fingerprint();
    let enqueued = Event::ConversationEnqueued {
        conversation: ConversationId(9),
        queue: "support".parse().unwrap(),
        priority: 0,
        requirement: std::sync::Arc::default(),
        ready_at: NOW,
        reason: EnqueueReason::Opened,
        from: None,
        direct: None,
        kept: false,
        terms: Box::new(Terms::default()),
    };
    let nobody = AgentId::new("nobody").unwrap();
    let conversation = ConversationId(9);
    let facts = [
        enqueued,
        Event::AgentConnected { agent: nobody.clone() },
        Event::ConversationTakenBack { conversation, agent: nobody.clone() },
        Event::ConversationIdled { conversation, agent: nobody.clone() },
        Event::ConversationConsultStarted { conversation, agent: nobody.clone(), by: nobody.clone(), note: None },
        Event::ConversationClosed { conversation, by: None, reason: None, disposition: None },
        Event::ConversationAbandoned { conversation, waited_ms: contract::Millis(0) },
    ];
    for fact in facts {
        state.evolve(state.now, &fact);
        assert!(state.fingerprint() == before, "{}", fact.name());
    }
}
