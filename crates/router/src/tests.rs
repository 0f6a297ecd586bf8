//! The router against a real server: what a crash, a lost acknowledgement or a second owner leaves, and
//! who repairs it. The rows of the crash matrix that need one's hands inside; the whole processes are
//! killed in the system tests.

mod calls;
mod rest;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::embedded::{self, Server};
use bus::{Bus, Options as BusOptions, Publish, Topology, permissions};
use contract::command::{AdminCommand, AgentCommand, Done, Reply};
use contract::event::{Presence, decode_events, join_events};
use contract::journal::{Behind, Position};
use contract::outbound::OutCommand;
use contract::{Encoding, Envelope, Event, EventRecord, SmolStr, TenantId, Timestamp, subject};
use engine::{Answer, CommandInput};

use crate::election::Router;
use crate::error::ErrorKind;
use crate::facts::Fact;
use crate::journal::{Journal, read_record, stream};
use crate::membership::Common;
use crate::outputs::{Batch, Outputs};
use crate::pack::{Frame, Packed, pack};
use crate::recover::take_over;
use crate::shard::Shard;
use crate::{Options, Tenant};

/// The shard of the tenant "main" among eight.
const SHARD: u16 = 0;

struct World {
    server: Option<Server>,
    folder: PathBuf,
}

impl World {
    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throughline-router-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/nats-server/nats-server");
        let server = Server::start(embedded::Options {
            binary: binary.exists().then_some(binary),
            data_dir: folder.clone(),
            sync_interval: "100ms".to_owned(),
            users: permissions::all(&["chat"], &[("main", "anna")]),
            ..embedded::Options::default()
        })
        .await
        .unwrap();
        let world = Self { server: Some(server), folder };
        world.bus().await.ensure(&Topology::throughline(8, 1, &["chat"])).await.unwrap();
        assert_eq!(contract::shard::of(&main(), 8), SHARD);
        world
    }

    async fn bus(&self) -> Bus {
        let server = self.server.as_ref().unwrap();
        let credentials = server.credentials(permissions::ROUTER).unwrap();
        Bus::connect(BusOptions { servers: vec![server.url().into()], credentials, ..BusOptions::default() })
            .await
            .unwrap()
    }

    async fn end(mut self) {
        self.server.take().unwrap().stop().await.unwrap();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn main() -> TenantId {
    TenantId::new("main").unwrap()
}

pub(crate) fn policy() -> contract::policy::Policy {
    serde_json::from_value(serde_json::json!({
        "queues": { "support": {} },
        "agents": { "anna": { "queues": ["support"] } },
    }))
    .unwrap()
}

fn envelope(key: &str) -> Envelope {
    serde_json::from_value(serde_json::json!({
        "v": 1, "kind": "message", "tenant": "main", "account": { "kind": "chat", "id": "web" }, "dedup_key": key,
        "thread": { "key": "v1" },
        "sender": { "identity": { "scheme": "visitor", "value": "v1", "scope": "global", "assurance": "verified" } },
        "sender_auth": { "level": "unverified" }, "received_at": 1, "content": [{ "type": "text", "body": key }],
    }))
    .unwrap()
}

/// A tenant in which anna is there and has a conversation, with the entries that led there.
fn tenant() -> (Tenant, Vec<contract::journal::Entry>) {
    let mut tenant = Tenant::default();
    let mut entries = Vec::new();
    let anna = contract::AgentId::new("anna").unwrap();
    let command = AdminCommand::PolicyApply { policy: Box::new(policy()), waiting: false };
    let admin = CommandInput::Admin { id: "p".into(), command };
    let agent = |id: &str, command| CommandInput::Agent { agent: anna.clone(), id: id.into(), command };
    let mut apply = |tenant: &mut Tenant, at, input| match tenant.engine.command(Timestamp(at), input) {
        Answer::Done(_, step) => entries.push(step.entry(&main())),
        other => panic!("{other:?}"),
    };
    apply(&mut tenant, 1, admin);
    let available = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
    apply(&mut tenant, 2, agent("a", available));
    let step = tenant.receive(Timestamp(3), envelope("hello"), SmolStr::default).unwrap();
    entries.push(step.entry(&main()));
    let mut apply = |at, input| match tenant.engine.command(Timestamp(at), input) {
        Answer::Done(_, step) => entries.push(step.entry(&main())),
        other => panic!("{other:?}"),
    };
    apply(4, agent("b", AgentCommand::OfferAccept { offer: contract::OfferId(1) }));
    let conversation = contract::ConversationId(1);
    let content = vec![contract::envelope::Part::text("good morning")];
    apply(5, agent("c", AgentCommand::MessageSend { conversation, content, reply_to: None, via: None, purpose: None }));
    (tenant, entries)
}

fn record(entries: Vec<contract::journal::Entry>, epoch: u64, id: &str) -> Packed {
    let frame = Frame { epoch, behind: Behind::default(), cursor_before: 0, cursor_after: 0 };
    let id = SmolStr::from(id);
    pack(entries, &frame, || id.clone()).unwrap().pop().unwrap()
}

async fn facts(bus: &Bus) -> Vec<EventRecord> {
    let stored = bus.collect("EVENTS", "tl.v1.event.>", None).await.unwrap();
    let facts = stored.iter().flat_map(|stored| decode_events(&stored.payload, None).unwrap());
    facts.map(Result::unwrap).collect()
}

/// Every fact of the journal is in `EVENTS` once, and in order on its subject.
async fn facts_are_exact(bus: &Bus) {
    let log = bus.collect(&stream(SHARD), &subject::journal(SHARD, subject::Journal::Log), None).await.unwrap();
    let mut expected = Vec::new();
    for stored in &log {
        let record = read_record(&stored.payload).unwrap();
        let events = record.entries.into_iter().flat_map(|entry| entry.events);
        expected.extend(events.enumerate().map(|(index, event)| {
            let index = u32::try_from(index).unwrap();
            (Position { shard: SHARD, seq: stored.seq, index }, event)
        }));
    }
    let mut found = facts(bus).await;
    let mut last = std::collections::BTreeMap::new();
    for fact in &found {
        let subject = subject::event(&fact.tenant, fact.event.noun(), fact.customer);
        assert!(last.insert(subject, fact.position).is_none_or(|before| before < fact.position));
    }
    found.sort_by_key(|fact| fact.position);
    let found: Vec<_> = found.into_iter().map(|fact| (fact.position, fact.event)).collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
}

async fn positions(bus: &Bus) -> Vec<String> {
    facts(bus).await.iter().map(|fact| fact.position.to_string()).collect()
}

/// A fact of a customer.
fn rename(position: Position, customer: u64, display: &str) -> EventRecord {
    let customer = contract::CustomerId(customer);
    EventRecord {
        position,
        tenant: main(),
        at: Timestamp(1),
        customer: Some(customer),
        conversation: None,
        event: Arc::new(Event::CustomerRenamed { customer, display: display.into() }),
    }
}

/// A record with facts of one customer.
fn renamed(seq: u64, indices: std::ops::Range<u32>, customer: u64) -> Batch {
    let facts = indices.map(|index| {
        let record = rename(Position { shard: SHARD, seq, index }, customer, "Ann");
        let encoded = Encoding::MsgPack.encode(&record).unwrap();
        Fact::new(&record, encoded.into())
    });
    Batch { seq, facts: facts.collect(), jobs: Vec::new() }
}

/// A message of `EVENTS` with facts of customer 1, as an owner stores it that knows the subject.
async fn store_renamed(bus: &Bus, before: u64, positions: &[(u64, u32)]) {
    let records = positions.iter().map(|(seq, index)| Position { shard: SHARD, seq: *seq, index: *index });
    let records: Vec<EventRecord> = records.map(|position| rename(position, 1, "Ann")).collect();
    let encoded: Vec<_> = records.iter().map(|record| Encoding::MsgPack.encode(record).unwrap()).collect();
    let subject = subject::event(&main(), "customer", Some(contract::CustomerId(1)));
    let publish = Publish {
        subject: subject.clone(),
        payload: join_events(&encoded, Encoding::MsgPack).unwrap().into(),
        content_type: Some(Encoding::MsgPack.content_type()),
        headers: vec![("Tl-Position", records.last().unwrap().position.to_string())],
        expect: Some(bus::Expect { subject, seq: before }),
        ..Publish::default()
    };
    bus.publish(publish).await.unwrap();
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let tried = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(tried.await.is_ok(), "not in time: {what}");
}

async fn commands(bus: &Bus) -> Vec<OutCommand> {
    let state = bus.stream_state("OUT").await.unwrap();
    let mut found = Vec::new();
    for seq in state.first..=state.last {
        let stored = bus.get("OUT", seq).await.unwrap().unwrap();
        found.push(Encoding::MsgPack.decode(&stored.payload, 1 << 20).unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_acknowledgement_was_lost_is_found_and_not_repeated() {
    let world = World::start().await;
    let bus = world.bus().await;
    let mut journal = Journal::claim(&bus, SHARD, "a", Timestamp(1)).await.unwrap();
    let (_, entries) = tenant();
    let packed = record(entries, journal.epoch, "one");
    // The first try was stored, and nobody told us.
    let stored = Publish {
        subject: subject::journal(SHARD, subject::Journal::Log),
        payload: packed.bytes.clone().into(),
        ..Publish::default()
    };
    let first = bus.publish(stored).await.unwrap().seq;
    assert_eq!(journal.append(&packed).await.unwrap(), first);
    let next = record(Vec::new(), journal.epoch, "two");
    assert_eq!(journal.append(&next).await.unwrap(), first + 1);
    assert_eq!(bus.stream_state(&stream(SHARD)).await.unwrap().messages, 3, "the epoch and two records");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_owner_is_refused_whatever_it_tries() {
    let world = World::start().await;
    let (ours, theirs) = (world.bus().await, world.bus().await);
    let mut old = Journal::claim(&ours, SHARD, "old", Timestamp(1)).await.unwrap();
    let empty = |journal: &Journal, id: &str| record(Vec::new(), journal.epoch, id);
    let packed = empty(&old, "1");
    old.append(&packed).await.unwrap();
    let mut new = Journal::claim(&theirs, SHARD, "new", Timestamp(2)).await.unwrap();
    assert_eq!(new.epoch, old.epoch + 1);
    for attempt in ["2", "3", "4"] {
        let packed = empty(&old, attempt);
        assert_eq!(old.append(&packed).await.unwrap_err().kind, ErrorKind::Deposed);
        let packed = empty(&new, attempt);
        new.append(&packed).await.unwrap();
    }
    let log = ours.collect(&stream(SHARD), &subject::journal(SHARD, subject::Journal::Log), None).await.unwrap();
    let epochs: Vec<u64> = log.iter().map(|stored| read_record(&stored.payload).unwrap().epoch).collect();
    assert_eq!(epochs, [1, 2, 2, 2]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_left_undone_after_its_append_is_done_by_the_next_once() {
    let world = World::start().await;
    let bus = world.bus().await;
    let mut journal = Journal::claim(&bus, SHARD, "dies", Timestamp(1)).await.unwrap();
    let (tenant, entries) = tenant();
    let packed = record(entries, journal.epoch, "one");
    journal.append(&packed).await.unwrap();
    assert!(facts(&bus).await.is_empty(), "it died before it published anything");

    for owner in ["second", "third"] {
        let recovered = take_over(&bus, SHARD, owner, Timestamp(9)).await.unwrap();
        let outputs = recovered.outputs.drain(Duration::from_secs(5)).await;
        assert_eq!(outputs, recovered.seq);
        facts_are_exact(&bus).await;
        let sent = commands(&bus).await;
        assert_eq!(sent.len(), 1, "one command, whoever sent it");
        assert_eq!(sent[0].command_id, "main/m2");
        let replayed = &recovered.shard.tenants[&main()];
        assert_eq!(replayed.engine.fingerprint(), tenant.engine.fingerprint());
        assert_eq!(replayed.profile.fingerprint(), tenant.profile.fingerprint());
        recovered.readside.abandon();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_a_deposed_owner_still_sends_are_not_doubled() {
    let world = World::start().await;
    let bus = world.bus().await;
    let new = Outputs::start(bus.clone(), SHARD, 0);
    for seq in [2, 3] {
        new.push(renamed(seq, 0..2, 1)).await;
    }
    assert_eq!(new.drain(Duration::from_secs(5)).await, 3);
    // The old one wakes, long after any dedup window, and sends what it had left.
    let old = Outputs::start(bus.clone(), SHARD, 0);
    old.push(renamed(2, 0..2, 1)).await;
    assert_eq!(old.drain(Duration::from_secs(5)).await, 2);
    assert_eq!(positions(&bus).await, ["0.2.0", "0.2.1", "0.3.0", "0.3.1"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_one_subject_share_messages_under_load_and_stay_in_order() {
    const RECORDS: u64 = 500;
    const CUSTOMERS: u64 = 10;
    let world = World::start().await;
    let bus = world.bus().await;
    let outputs = Outputs::start(bus.clone(), SHARD, 0);
    for seq in 1..=RECORDS {
        outputs.push(renamed(seq, 0..3, seq % CUSTOMERS)).await;
    }
    assert!(outputs.watch().reached(RECORDS).await);
    assert_eq!(outputs.done(), RECORDS);

    let stored = bus.collect("EVENTS", "tl.v1.event.>", None).await.unwrap();
    let mut found = facts(&bus).await;
    assert!(stored.len() * 4 < found.len(), "{} messages for {} facts", stored.len(), found.len());
    let mut newest = std::collections::BTreeMap::new();
    for fact in &found {
        assert!(newest.insert(fact.customer, fact.position) < Some(fact.position), "in order on its subject");
    }
    found.sort_by_key(|fact| fact.position);
    let expected = (1..=RECORDS).flat_map(|seq| (0..3).map(move |index| Position { shard: SHARD, seq, index }));
    assert!(found.iter().map(|fact| fact.position).eq(expected), "each once");

    // What the headers say is what is in the message.
    for stored in &stored {
        let facts: Vec<_> = decode_events(&stored.payload, None).unwrap().into_iter().map(Result::unwrap).collect();
        assert!(facts.len() <= contract::limits::EVENTS_RECORDS_MAX);
        let header = |name: &str| stored.headers.get(name).map(str::to_owned);
        assert_eq!(header("Tl-Position"), facts.last().map(|fact| fact.position.to_string()));
        assert_eq!(header("Tl-Count"), (facts.len() > 1).then(|| facts.len().to_string()));
        assert_eq!(header("Tl-Type").as_deref(), Some("customer.renamed"));
    }
    outputs.abandon();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fact_goes_alone_and_a_message_has_a_bound() {
    let world = World::start().await;
    let bus = world.bus().await;
    let outputs = Outputs::start(bus.clone(), SHARD, 0);
    let named = |seq, bytes: usize| {
        let record = rename(Position { shard: SHARD, seq, index: 0 }, 1, &"x".repeat(bytes));
        let encoded = Encoding::MsgPack.encode(&record).unwrap();
        Batch { seq, facts: vec![Fact::new(&record, encoded.into())], jobs: Vec::new() }
    };
    for (seq, bytes) in [100_000, 100_000, 100_000, 600_000, 10, 10].into_iter().enumerate() {
        outputs.push(named(seq as u64 + 1, bytes)).await;
    }
    assert_eq!(outputs.drain(Duration::from_secs(5)).await, 6);
    let stored = bus.collect("EVENTS", "tl.v1.event.>", None).await.unwrap();
    for stored in &stored {
        let several = stored.headers.get("Tl-Count").is_some();
        assert!(!several || stored.payload.len() <= contract::limits::EVENTS_BYTES_MAX);
    }
    let expected: Vec<String> = (1..=6).map(|seq| format!("0.{seq}.0")).collect();
    assert_eq!(positions(&bus).await, expected);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_groups_otherwise_doubles_nothing() {
    let world = World::start().await;
    let bus = world.bus().await;
    // What the first owner stored: one fact alone, then three together, the last of them of a record
    // that it did not finish.
    store_renamed(&bus, 0, &[(2, 0)]).await;
    store_renamed(&bus, 1, &[(2, 1), (2, 2), (3, 0)]).await;
    // The next one has all of it, and hands it over at once.
    let next = Outputs::start(bus.clone(), SHARD, 1);
    for seq in 2..=4 {
        next.push(renamed(seq, 0..3, 1)).await;
    }
    assert_eq!(next.drain(Duration::from_secs(5)).await, 4);
    let expected: Vec<String> = (2..=4).flat_map(|seq| (0..3).map(move |index| format!("0.{seq}.{index}"))).collect();
    assert_eq!(positions(&bus).await, expected);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_group_of_a_deposed_owner_is_refused() {
    let world = World::start().await;
    let bus = world.bus().await;
    let old = Outputs::start(bus.clone(), SHARD, 0);
    old.push(renamed(1, 0..1, 1)).await;
    assert!(old.watch().reached(1).await);
    // It freezes here. The next owner writes what the old one had left, and goes on.
    let next = Outputs::start(bus.clone(), SHARD, 1);
    for seq in 2..=5 {
        next.push(renamed(seq, 0..1, 1)).await;
        assert!(next.watch().reached(seq).await);
    }
    // It wakes: what it believes of the subject is long over.
    for seq in 2..=4 {
        old.push(renamed(seq, 0..1, 1)).await;
    }
    assert_eq!(old.drain(Duration::from_secs(5)).await, 4, "nothing of it is missing");
    assert_eq!(positions(&bus).await, ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"]);
    next.push(renamed(6, 0..1, 1)).await;
    assert_eq!(next.drain(Duration::from_secs(5)).await, 6);
    assert_eq!(positions(&bus).await.len(), 6);
    world.end().await;
}

async fn ask(bus: &Bus, subject: String, payload: Vec<u8>) -> Reply<Done> {
    let request = Publish {
        subject,
        payload: payload.into(),
        content_type: Some(Encoding::MsgPack.content_type()),
        ..Publish::default()
    };
    loop {
        if let Ok(answer) = bus.request(request.clone(), Duration::from_secs(1)).await {
            return Encoding::MsgPack.decode(&answer.payload, 1 << 20).unwrap();
        }
    }
}

async fn sign_in(bus: &Bus) {
    let command = AdminCommand::PolicyApply { policy: Box::new(policy()), waiting: false };
    let payload = command.encode("policy", Encoding::MsgPack).unwrap();
    assert!(ask(bus, subject::admin_command(&main(), command.verb()), payload).await.ok);
    let anna = contract::AgentId::new("anna").unwrap();
    let command = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
    let payload = command.encode("available", Encoding::MsgPack).unwrap();
    assert!(ask(bus, subject::agent_command(&main(), &anna, command.verb()), payload).await.ok);
}

async fn say(bus: &Bus, key: &str) {
    let envelope = envelope(key);
    let publish = Publish {
        subject: subject::inbound(SHARD, &main(), &envelope.account.kind, &envelope.account.id),
        payload: Encoding::MsgPack.encode(&envelope).unwrap().into(),
        content_type: Some(Encoding::MsgPack.content_type()),
        msg_id: Some(envelope.msg_id()),
        ..Publish::default()
    };
    bus.publish(publish).await.unwrap();
}

async fn messages(bus: &Bus) -> Vec<SmolStr> {
    let facts = facts(bus).await;
    let keys = facts.iter().filter_map(|fact| match &*fact.event {
        Event::MessageReceived { envelope, .. } => Some(envelope.dedup_key.clone()),
        _ => None,
    });
    keys.collect()
}

fn options(instance: &str) -> Options {
    Options { instance: instance.to_owned(), checkpoint_records: 10, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_on_purpose_do_no_harm() {
    let world = World::start().await;
    let (ours, theirs) = (world.bus().await, world.bus().await);
    let first =
        Router::start(ours.clone(), Options { checkpoint_records: u64::MAX, ..options("first") }).await.unwrap();
    let mut led = first.leadership();
    led.wait_for(|leadership| leadership.led[0]).await.unwrap();
    sign_in(&theirs).await;
    for n in 0..50 {
        say(&theirs, &format!("a{n}")).await;
    }
    // A second owner that asks nobody: it claims while the first is alive and busy.
    let stop = tokio::sync::watch::channel(false);
    let (_requests, mut requests) = tokio::sync::mpsc::channel(1);
    let recovered = take_over(&theirs, SHARD, "second", Timestamp(runtime::clock::now())).await.unwrap();
    let second = crate::leader::Leader::new(theirs.clone(), SHARD, options("second"), Common::default(), recovered);
    let (_controls, mut controls) = tokio::sync::mpsc::channel(1);
    let leading = tokio::spawn(async move { second.lead(&mut requests, &mut controls, stop.1, || true).await });
    for n in 0..50 {
        say(&ours, &format!("b{n}")).await;
    }
    let expected: Vec<SmolStr> =
        (0..50).map(|n| format!("a{n}").into()).chain((0..50).map(|n| format!("b{n}").into())).collect();
    eventually("every message is taken in once and in order", async || messages(&ours).await == expected).await;
    led.wait_for(|leadership| !leadership.led[0]).await.unwrap();
    stop.0.send_replace(true);
    leading.await.unwrap().unwrap();
    let log = ours.collect(&stream(SHARD), &subject::journal(SHARD, subject::Journal::Log), None).await.unwrap();
    let epochs: Vec<u64> = log.iter().map(|stored| read_record(&stored.payload).unwrap().epoch).collect();
    assert!(epochs.is_sorted(), "once a newer epoch stands, nothing of an older one follows: {epochs:?}");
    first.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_comes_back_from_its_checkpoint_and_the_tail() {
    let world = World::start().await;
    let bus = world.bus().await;
    let router = Router::start(bus.clone(), options("first")).await.unwrap();
    sign_in(&bus).await;
    for n in 0..40 {
        say(&bus, &format!("a{n}")).await;
        eventually("it is taken in", async || messages(&bus).await.len() == n + 1).await;
    }
    router.drain().await;
    let state = bus.stream_state(&stream(SHARD)).await.unwrap();
    assert!(state.messages < 10, "the journal behind the checkpoint is purged: {state:?}");
    let input = bus.stream_state("IN-0").await.unwrap();
    assert_eq!(input.messages, 0, "and so is the input");

    let bytes = bus.objects(crate::recover::SNAPSHOTS).await.unwrap();
    let names = bytes.list().await.unwrap();
    let newest = names.iter().filter(|name| name.starts_with("0/")).max().unwrap();
    let snapshot = bytes.get(newest, 1 << 30).await.unwrap().unwrap();
    let (before, _) = Shard::read(&snapshot).unwrap();

    let recovered = take_over(&bus, SHARD, "second", Timestamp(9)).await.unwrap();
    assert_eq!(recovered.shard.cursor, 40);
    let (was, is) = (&before.tenants[&main()], &recovered.shard.tenants[&main()]);
    assert_eq!(was.engine.fingerprint(), is.engine.fingerprint());
    recovered.readside.abandon();
    recovered.outputs.abandon();

    let second = Router::start(bus.clone(), options("third")).await.unwrap();
    say(&bus, "a0").await;
    say(&bus, "new").await;
    eventually("the new one is taken in", async || messages(&bus).await.len() == 41).await;
    assert_eq!(messages(&bus).await.iter().filter(|key| *key == "a0").count(), 1, "a repeat changes nothing");
    second.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_refused_once_the_journal_is_purged() {
    let world = World::start().await;
    let bus = world.bus().await;
    let router = Router::start(bus.clone(), options("first")).await.unwrap();
    sign_in(&bus).await;
    say(&bus, "a").await;
    eventually("it is taken in", async || messages(&bus).await.len() == 1).await;
    router.drain().await;
    let objects = bus.objects(crate::recover::SNAPSHOTS).await.unwrap();
    for name in objects.list().await.unwrap() {
        objects.put(&name, vec![0_u8; 10].into()).await.unwrap();
    }
    let refused = take_over(&bus, SHARD, "second", Timestamp(9)).await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unreadable);
    assert!(error.message.contains("restore a backup"), "{error}");
    world.end().await;
}
