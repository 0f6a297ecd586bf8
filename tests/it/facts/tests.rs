//! A history in which everything is right passes; and each rule can be broken, and is seen to be.

use std::sync::Arc;

use contract::journal::Position;
use contract::{CustomerId, Event, EventRecord, TenantId, Timestamp};
use serde_json::{Value, json};

use super::{Rule, read};

/// Facts of one tenant, record by record, a second apart.
#[derive(Clone, Default)]
struct History(Vec<EventRecord>);

impl History {
    /// Adds a record of the journal.
    fn add(mut self, facts: &[(&str, Value)]) -> Self {
        let seq = self.0.last().map_or(0, |last| last.position.seq) + 1;
        for (index, (name, data)) in (0..).zip(facts) {
            let event: Event = serde_json::from_value(json!({ "type": name, "data": data })).expect(name);
            let conversation = event.conversation();
            self.0.push(EventRecord {
                position: Position { shard: 0, seq, index },
                tenant: TenantId::new("main").expect("a name"),
                at: Timestamp(seq * 1000),
                customer: event.customer().or(conversation.map(|_| CustomerId(1))),
                conversation,
                event: Arc::new(event),
            });
        }
        self
    }

    /// The first so many records.
    fn first(&self, records: u64) -> Self {
        Self(self.0.iter().filter(|record| record.position.seq <= records).cloned().collect())
    }

    fn broken(&self) -> Vec<String> {
        read(&self.0).violations.iter().map(ToString::to_string).collect()
    }

    /// Checks that a rule is seen to be broken.
    #[track_caller]
    fn breaks(&self, rule: Rule) {
        assert!(read(&self.0).violations.iter().any(|found| found.rule == rule), "{rule:?}: {:#?}", self.broken());
    }
}

fn policy() -> (&'static str, Value) {
    let policy = json!({
        "queues": { "support": {} },
        "agents": {
            "anna": { "queues": ["support"], "skills": { "lang:de": 5 }, "capacity": 50 },
            "ben": { "queues": ["support"], "capacity": 25 },
        },
        "channels": { "chat": { "capacity_weight": 25 } },
    });
    ("policy.applied", json!({ "version": 1, "policy": policy }))
}

fn comes(agent: &str) -> [(&'static str, Value); 2] {
    [
        ("agent.connected", json!({ "agent": agent })),
        ("agent.presence_changed", json!({ "agent": agent, "presence": "available" })),
    ]
}

fn thread() -> Value {
    json!({ "account": { "kind": "chat", "id": "web" }, "thread": { "key": "t1" } })
}

fn opened(conversation: &str) -> (&'static str, Value) {
    ("conversation.opened", json!({ "conversation": conversation, "customer": "u1", "thread": thread() }))
}

fn received(conversation: &str, n: u64, thread_seq: u64, key: &str) -> (&'static str, Value) {
    let envelope = json!({
        "v": 1,
        "kind": "message",
        "tenant": "main",
        "account": { "kind": "chat", "id": "web" },
        "dedup_key": key,
        "thread": { "key": "t1" },
        "sender": { "identity": { "scheme": "visitor", "value": "1", "scope": "account", "scope_id": "web" } },
        "sender_auth": { "level": "unverified" },
        "received_at": 0,
    });
    let message = format!("m{n}");
    let data = json!({ "conversation": conversation, "message": message, "thread_seq": thread_seq,
        "envelope": envelope });
    ("message.received", data)
}

/// Into the queue, with some of the fact otherwise.
fn enqueued(conversation: &str, ready_at: u64, otherwise: Value) -> (&'static str, Value) {
    let mut data = json!({
        "conversation": conversation,
        "queue": "support",
        "priority": 0,
        "requirement": { "steps": [{}] },
        "ready_at": ready_at,
        "reason": "opened",
        "terms": { "policy": 1, "weight": 25, "lease_ms": 30_000 },
    });
    for (name, value) in otherwise.as_object().into_iter().flatten() {
        data[name.as_str()] = value.clone();
    }
    ("conversation.enqueued", data)
}

fn offered(n: u64, conversation: &str, agent: &str, load: u32) -> (&'static str, Value) {
    let capacity = if agent == "anna" { 50 } else { 25 };
    let eligible = json!([{ "agent": agent, "load": load, "capacity": capacity }]);
    let decision = json!({ "eligible": eligible, "tie_break": "only_candidate" });
    let offer = format!("o{n}");
    let data = json!({ "offer": offer, "conversation": conversation, "agent": agent, "expires_at": 60_000,
        "decision": decision });
    ("offer.created", data)
}

/// What an agent does with an offer.
fn answered(name: &'static str, n: u64, conversation: &str, agent: &str) -> (&'static str, Value) {
    let offer = format!("o{n}");
    (name, json!({ "offer": offer, "conversation": conversation, "agent": agent }))
}

fn assigned(n: u64, conversation: &str, agent: &str) -> (&'static str, Value) {
    answered("conversation.assigned", n, conversation, agent)
}

fn sent(n: u64, thread_seq: u64, after: Option<&str>) -> (&'static str, Value) {
    let message = format!("m{n}");
    let mut data = json!({ "conversation": "c1", "message": message, "agent": "anna", "thread": thread(),
        "thread_seq": thread_seq, "content": [] });
    if let Some(after) = after {
        data["after"] = json!(after);
    }
    ("message.sent", data)
}

fn became(status: &str) -> (&'static str, Value) {
    let data = json!({ "conversation": "c1", "thread": thread(), "messages": ["m2"], "status": status });
    ("message.status_changed", data)
}

/// A fact that names a conversation and an agent, and perhaps more.
fn with(name: &'static str, agent: &str, otherwise: Value) -> (&'static str, Value) {
    let mut data = json!({ "conversation": "c1", "agent": agent });
    for (name, value) in otherwise.as_object().into_iter().flatten() {
        data[name.as_str()] = value.clone();
    }
    (name, data)
}

fn none() -> Value {
    json!({})
}

/// A conversation from its beginning to what is known of it after its end.
fn good() -> History {
    let created = ("customer.created", json!({ "customer": "u1" }));
    let transferred =
        ("conversation.transferred", json!({ "conversation": "c1", "by": "anna", "to_queue": "support" }));
    let kept = json!({ "reason": "transferred", "from": "anna", "kept": true });
    let [connected, available] = comes("ben");
    let exhausted = ("conversation.round_exhausted", json!({ "conversation": "c1", "next_round_at": 19_000 }));
    let closed = ("conversation.closed", json!({ "conversation": "c1", "reason": "wrap_up_ended" }));
    History::default()
        .add(&[policy()])
        .add(&comes("anna"))
        .add(&[
            created,
            opened("c1"),
            received("c1", 1, 1, "first"),
            enqueued("c1", 3000, none()),
            offered(1, "c1", "anna", 0),
        ])
        .add(&[answered("offer.accepted", 1, "c1", "anna"), assigned(1, "c1", "anna")])
        .add(&[sent(2, 2, None)])
        .add(&[became("accepted")])
        .add(&[transferred, enqueued("c1", 3000, kept)])
        .add(&[connected, available, offered(2, "c1", "ben", 0)])
        .add(&[answered("offer.declined", 2, "c1", "ben"), exhausted])
        .add(&[with("conversation.taken_back", "anna", none())])
        .add(&[with("conversation.parked", "anna", none())])
        .add(&[received("c1", 3, 3, "second"), with("conversation.resumed", "anna", json!({ "cause": "message" }))])
        .add(&[with("conversation.wrap_up_started", "anna", json!({ "until": 20_000 }))])
        .add(&[closed])
        .add(&[became("delivered")])
}

#[test]
fn facts_of_a_good_history_pass_and_add_up() {
    let report = read(&good().0);
    assert!(report.violations.is_empty(), "{:#?}", good().broken());
    let shown: Vec<(&str, usize)> =
        report.feeds.iter().map(|((_, agent), shown)| (agent.as_str(), shown.len())).collect();
    assert_eq!(shown, [("anna", 18), ("ben", 4)]);
    assert!(report.hands.values().all(|hand| hand.load == 0 && hand.conversations.is_empty()));
    // In whatever order they are read.
    let mut turned = good();
    turned.0.reverse();
    assert!(turned.broken().is_empty(), "{:#?}", turned.broken());
    // In the middle, anna has it, and ben is asked.
    let report = read(&good().first(8).0);
    let hands: Vec<(u32, usize, usize)> =
        report.hands.values().map(|hand| (hand.load, hand.conversations.len(), hand.offers.len())).collect();
    assert_eq!(hands, [(25, 1, 0), (25, 0, 1)]);
}

#[test]
fn facts_show_a_conversation_in_two_places() {
    let held = good().first(4);
    held.clone().add(&[assigned(1, "c1", "ben")]).breaks(Rule::R1);
    held.clone().add(&[with("conversation.parked", "ben", none())]).breaks(Rule::R1);
    held.clone().add(&[with("conversation.resumed", "anna", json!({ "cause": "agent" }))]).breaks(Rule::R1);
    // It leaves somebody who does not have it, and nobody who has it.
    for from in [json!({ "from": "ben" }), none()] {
        held.clone().add(&[enqueued("c1", 3000, from)]).breaks(Rule::R1);
    }
    // Somebody answers who does not have it any more.
    let ended = good().first(14);
    ended.clone().add(&[sent(4, 4, Some("m2"))]).breaks(Rule::R1);
    ended.add(&[with("note.added", "anna", json!({ "text": "late" }))]).breaks(Rule::R1);
    // What was accepted is with nobody.
    good().first(3).add(&[answered("offer.accepted", 1, "c1", "anna")]).breaks(Rule::R1);
}

#[test]
fn facts_show_an_agent_with_too_much() {
    let heavy = json!({ "terms": { "policy": 1, "weight": 30, "lease_ms": 30_000 } });
    let held = good().first(4);
    held.clone().add(&[opened("c2"), enqueued("c2", 5000, heavy), offered(2, "c2", "anna", 25)]).breaks(Rule::R2);
    // Nobody said that it was too much.
    let forced = with("conversation.assigned", "ben", json!({ "forced_by": "operator" }));
    let heavy = json!({ "from": "anna", "terms": { "policy": 1, "weight": 30, "lease_ms": 30_000 } });
    held.clone().add(&[enqueued("c1", 3000, heavy), forced]).breaks(Rule::R2);
    // The decision reckoned with another load.
    held.add(&[opened("c2"), enqueued("c2", 5000, none()), offered(2, "c2", "anna", 0)]).breaks(Rule::R2);
}

#[test]
fn facts_show_an_offer_to_somebody_who_cannot_take_it() {
    let held = good().first(4);
    // Ben is not there.
    held.clone().add(&[opened("c2"), enqueued("c2", 5000, none()), offered(2, "c2", "ben", 0)]).breaks(Rule::R3);
    // Ben does not speak it.
    let spoken = json!({ "requirement": { "steps": [{ "must": { "skill": "lang:de", "min": 5 } }] } });
    let german = [opened("c2"), enqueued("c2", 6000, spoken), offered(2, "c2", "ben", 0)];
    held.clone().add(&comes("ben")).add(&german).breaks(Rule::R3);
    // It stands although she has gone.
    let gone = ("agent.disconnected", json!({ "agent": "anna", "grace_until": 60_000 }));
    good().first(3).add(&[gone]).breaks(Rule::R3);
}

#[test]
fn facts_show_what_waits_although_somebody_has_room() {
    good().first(7).add(&comes("ben")).breaks(Rule::R4);
}

#[test]
fn facts_show_two_offers_at_once() {
    good().first(3).add(&comes("ben")).add(&[offered(2, "c1", "ben", 0)]).breaks(Rule::R5);
    // One stands when another has it.
    let forced = with("conversation.assigned", "ben", json!({ "forced_by": "operator" }));
    good().first(3).add(&comes("ben")).add(&[forced]).breaks(Rule::R5);
}

#[test]
fn facts_show_an_offer_that_ends_twice_or_was_never_made() {
    good().first(4).add(&[answered("offer.declined", 1, "c1", "anna")]).breaks(Rule::R6);
    good().first(4).add(&[answered("offer.expired", 7, "c1", "anna")]).breaks(Rule::R6);
    // Before its time.
    good().first(3).add(&[answered("offer.expired", 1, "c1", "anna")]).breaks(Rule::R6);
    // The conversation has ended, and it stands.
    let closed = ("conversation.closed", json!({ "conversation": "c1", "reason": "erased" }));
    good().first(3).add(&[closed]).breaks(Rule::R6);
}

#[test]
fn facts_show_a_repeat_that_changed_something() {
    good().first(5).add(&[received("c1", 3, 3, "first")]).breaks(Rule::R7);
    good().first(4).add(&[("agent.connected", json!({ "agent": "anna" }))]).breaks(Rule::R7);
    good().first(6).add(&[became("accepted")]).breaks(Rule::R7);
}

#[test]
fn facts_show_who_was_passed_over() {
    let created = ("customer.created", json!({ "customer": "u1" }));
    let two = [created, opened("c1"), enqueued("c1", 2000, none()), opened("c2"), enqueued("c2", 2500, none())];
    let waiting = History::default().add(&[policy()]).add(&two);
    let [connected, available] = comes("anna");
    waiting.clone().add(&[connected.clone(), available.clone(), offered(1, "c2", "anna", 0)]).breaks(Rule::R8);
    let in_turn = waiting.add(&[connected, available, offered(1, "c1", "anna", 0), offered(2, "c2", "anna", 25)]);
    assert!(in_turn.broken().is_empty(), "{:#?}", in_turn.broken());
}

#[test]
fn facts_show_messages_out_of_order() {
    good().first(4).add(&[sent(2, 5, None)]).breaks(Rule::R9);
    good().first(5).add(&[sent(3, 3, None)]).breaks(Rule::R9);
}

#[test]
fn facts_show_a_successor_that_did_not_go_on_where_it_was() {
    good().first(4).add(&[sent(7, 2, None)]).breaks(Rule::R10);
    good().first(4).add(&[opened("c1")]).breaks(Rule::R10);
    let mut back = good();
    back.0.last_mut().expect("a fact").at = Timestamp(1);
    back.breaks(Rule::R10);
}

#[test]
fn facts_show_a_message_without_one_home() {
    let mut foreign = good().first(3);
    let said = foreign.0.iter_mut().find(|record| record.event.name() == "message.received").expect("a message");
    said.customer = Some(CustomerId(2));
    foreign.breaks(Rule::R11);
    good().first(4).add(&[received("c7", 2, 2, "second")]).breaks(Rule::R11);
    good().first(4).add(&[became("read")]).breaks(Rule::R11);
    // Two people have proven the same.
    let proven = |customer: &str| {
        let identity = json!({ "scheme": "email", "value": "ann@shop.example", "scope": "global" });
        let data = json!({ "customer": customer, "identity": identity, "assurance": "verified" });
        ("customer.identity_linked", data)
    };
    let created = ("customer.created", json!({ "customer": "u2" }));
    good().add(&[proven("u1"), created, proven("u2")]).breaks(Rule::R11);
    let split = ("customer.split", json!({ "customer": "u2", "from": "u1", "by": "operator" }));
    good().add(&[split]).breaks(Rule::R11);
}

#[test]
fn facts_show_a_decision_that_nobody_can_explain() {
    let mut silent = offered(2, "c1", "ben", 0);
    silent.1["decision"] = none();
    let [connected, available] = comes("ben");
    good().first(7).add(&[connected, available, silent]).breaks(Rule::R12);
    // Neither offered nor forced; and by an offer that nobody accepted.
    good().first(7).add(&[with("conversation.assigned", "ben", none())]).breaks(Rule::R12);
    good().first(3).add(&[assigned(1, "c1", "anna")]).breaks(Rule::R12);
}

#[test]
fn facts_show_a_transcript_with_gaps_or_repeats() {
    let mut short = good();
    // The message of the third record.
    short.0.remove(5);
    short.breaks(Rule::D6);
    let mut long = good();
    let again = long.0.first().expect("a fact").clone();
    long.0.push(again);
    long.breaks(Rule::D6);
}
