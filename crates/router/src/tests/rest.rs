//! Customers who leave memory, on a real server: what a crash, a new owner and a bucket that does not answer leave.

use contract::{CustomerId, OfferId};

use super::*;
use crate::rest::key;

const ANN: CustomerId = CustomerId(1);

async fn admin(bus: &Bus, id: &str, command: AdminCommand) -> Reply<Done> {
    let payload = command.encode(id, Encoding::MsgPack).unwrap();
    ask(bus, subject::admin_command(&main(), command.verb()), payload).await
}

async fn anna(bus: &Bus, id: &str, command: AgentCommand) {
    let payload = command.encode(id, Encoding::MsgPack).unwrap();
    let anna = contract::AgentId::new("anna").unwrap();
    let reply = ask(bus, subject::agent_command(&main(), &anna, command.verb()), payload).await;
    assert!(reply.ok, "{reply:?}");
}

/// After how many milliseconds of silence customers leave memory, and are forgotten.
async fn apply(bus: &Bus, id: &str, rest_after_ms: u64, forget_after_ms: u64) {
    let mut policy = policy();
    policy.identity.rest_after_ms = contract::Millis(rest_after_ms);
    policy.identity.forget_after_ms = contract::Millis(forget_after_ms);
    let command = AdminCommand::PolicyApply { policy: Box::new(policy), waiting: false };
    assert!(admin(bus, id, command).await.ok);
}

/// The customer has talked to anna, and that is over.
async fn talked(bus: &Bus) {
    sign_in(bus).await;
    say(bus, "hello").await;
    eventually("it is taken in", async || !messages(bus).await.is_empty()).await;
    anna(bus, "accept", AgentCommand::OfferAccept { offer: OfferId(1) }).await;
    let conversation = contract::ConversationId(1);
    anna(bus, "close", AgentCommand::ConversationClose { conversation, disposition: None }).await;
}

/// The facts of the journal by which customers leave and come back, and others of a name.
async fn journal(bus: &Bus, wanted: &str) -> Vec<Event> {
    let log = bus.collect(&stream(SHARD), &subject::journal(SHARD, subject::Journal::Log), None).await.unwrap();
    let records = log.iter().map(|stored| read_record(&stored.payload).unwrap());
    let events = records.flat_map(|record| record.entries).flat_map(|entry| entry.events);
    events.map(|event| (*event).clone()).filter(|event| event.name() == wanted).collect()
}

async fn rested(bus: &Bus) -> u64 {
    eventually("the customer leaves memory", async || !journal(bus, "customer.rested").await.is_empty()).await;
    match journal(bus, "customer.rested").await.last() {
        Some(Event::CustomerRested { customer: ANN, kept, .. }) => *kept,
        other => panic!("{other:?}"),
    }
}

fn forever(instance: &str) -> Options {
    Options { checkpoint_records: u64::MAX, ..options(instance) }
}

async fn owners(bus: &Bus) -> Vec<(SmolStr, Option<CustomerId>)> {
    let facts = facts(bus).await.into_iter();
    let said = facts.filter_map(|fact| match &*fact.event {
        Event::MessageReceived { envelope, .. } => Some((envelope.dedup_key.clone(), fact.customer)),
        _ => None,
    });
    said.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_memory_is_the_same_customer_for_the_next_owner() {
    let world = World::start().await;
    let bus = world.bus().await;
    let first = Router::start(bus.clone(), options("first")).await.unwrap();
    talked(&bus).await;
    apply(&bus, "rest", 1, 0).await;
    let kept = rested(&bus).await;
    let bucket = bus.bucket(bus::topology::CUSTOMERS).await.unwrap();
    assert!(bucket.get(&key(&main(), ANN, kept)).await.unwrap().is_some(), "what is known of it is kept");
    let view = bucket.get("main.u1").await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&view.value).contains("v1"), "and what tools read is still there");
    first.drain().await;
    // A new owner knows it from the checkpoint.
    let recovered = take_over(&bus, SHARD, "second", Timestamp(runtime::clock::now())).await.unwrap();
    let tenant = &recovered.shard.tenants[&main()];
    assert_eq!((tenant.profile.len(), tenant.profile.resting()), (0, (1, 1)));
    recovered.readside.abandon();
    recovered.outputs.abandon();
    let third = Router::start(bus.clone(), options("third")).await.unwrap();
    apply(&bus, "stay", 0, 0).await;
    say(&bus, "again").await;
    eventually("the next message is taken in", async || messages(&bus).await == ["hello", "again"]).await;
    assert!(owners(&bus).await.iter().all(|(_, owner)| *owner == Some(ANN)), "{:?}", owners(&bus).await);
    let created = facts(&bus).await.into_iter().filter(|fact| fact.event.name() == "customer.created").count();
    assert_eq!(created, 1, "nobody is made twice");
    let told = facts(&bus).await.iter().any(|fact| fact.event.is_internal());
    assert!(!told, "where customers are kept is nobody else's business");
    eventually("its entry is of no use any more", async || {
        bucket.get(&key(&main(), ANN, kept)).await.unwrap().is_none()
    })
    .await;
    third.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_an_entry_and_its_fact_or_after_a_return_does_no_harm() {
    let world = World::start().await;
    let bus = world.bus().await;
    let first = Router::start(bus.clone(), forever("first")).await.unwrap();
    talked(&bus).await;
    // An entry that was written, and its owner died before it was a fact: nobody looks for it.
    let bucket = bus.bucket(bus::topology::CUSTOMERS).await.unwrap();
    bucket.put(&key(&main(), ANN, 3), "{}".into()).await.unwrap();
    apply(&bus, "rest", 1, 0).await;
    let kept = rested(&bus).await;
    assert!(kept > 3);
    let entry = bucket.get(&key(&main(), ANN, kept)).await.unwrap().unwrap().value;
    first.drain().await;
    // The next owner recalls it, and dies with the record in the journal and nothing else done.
    let mut recovered = take_over(&bus, SHARD, "second", Timestamp(runtime::clock::now())).await.unwrap();
    let tenant = recovered.shard.tenants.get_mut(&main()).unwrap();
    let step = tenant.recall(Timestamp(runtime::clock::now()), ANN, &entry).unwrap().unwrap();
    let frame = Frame { epoch: recovered.journal.epoch, behind: Behind::default(), cursor_before: 0, cursor_after: 0 };
    let packed = pack(vec![step.entry(&main())], &frame, || "recalled".into()).unwrap().pop().unwrap();
    recovered.journal.append(&packed).await.unwrap();
    let was = (tenant.engine.fingerprint(), tenant.profile.fingerprint());
    recovered.readside.abandon();
    recovered.outputs.abandon();
    // Without the entry, too, the fact alone gives everything back.
    let recovered = take_over(&bus, SHARD, "third", Timestamp(runtime::clock::now())).await.unwrap();
    let tenant = &recovered.shard.tenants[&main()];
    assert_eq!((tenant.engine.fingerprint(), tenant.profile.fingerprint()), was);
    assert_eq!(tenant.profile.resting(), (0, 0));
    assert!(recovered.stale.contains(&key(&main(), ANN, kept)), "{:?}", recovered.stale);
    recovered.readside.abandon();
    recovered.outputs.abandon();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_does_not_answer_the_batch_waits_and_nobody_is_made_twice() {
    let world = World::start().await;
    let bus = world.bus().await;
    let router = Router::start(bus.clone(), forever("first")).await.unwrap();
    talked(&bus).await;
    apply(&bus, "rest", 1, 0).await;
    let kept = rested(&bus).await;
    let bucket = bus.bucket(bus::topology::CUSTOMERS).await.unwrap();
    let entry = bucket.get(&key(&main(), ANN, kept)).await.unwrap().unwrap().value;
    // The bucket is gone for a while, and the message waits.
    let gone = Publish { subject: "$JS.API.STREAM.DELETE.KV_tl-customers".into(), ..Publish::default() };
    bus.request(gone, Duration::from_secs(5)).await.unwrap();
    say(&bus, "waits").await;
    let waited = tokio::time::timeout(Duration::from_millis(1500), async {
        while messages(&bus).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_err(), "it must not be decided without knowing whose it is");
    assert!(journal(&bus, "input.rejected").await.is_empty());
    // It is back, but the entry was lost: whose message it is cannot be told, so it is kept with the dead letters.
    bus.ensure(&Topology::throughline(8, 1, &["chat"])).await.unwrap();
    eventually("it is put aside", async || !journal(&bus, "input.rejected").await.is_empty()).await;
    // A question about the customer is refused, not answered as if there were none.
    let command = AdminCommand::CustomerUpdate { customer: ANN, change: contract::event::ProfileChange::default() };
    let refused = admin(&bus, "lost", command.clone()).await;
    let kind = refused.refusal.map(|refusal| refusal.kind);
    assert_eq!(kind, Some(contract::command::RefusalKind::Unavailable));
    // Restored, it is the same customer.
    let bucket = bus.bucket(bus::topology::CUSTOMERS).await.unwrap();
    bucket.put(&key(&main(), ANN, kept), entry).await.unwrap();
    assert!(admin(&bus, "found", command).await.ok);
    say(&bus, "again").await;
    eventually("the next message is taken in", async || messages(&bus).await.len() == 2).await;
    assert!(owners(&bus).await.iter().all(|(_, owner)| *owner == Some(ANN)), "{:?}", owners(&bus).await);
    assert_eq!(journal(&bus, "customer.created").await.len(), 1);
    router.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_for_as_long_as_the_policy_allows_is_forgotten_by_itself() {
    let world = World::start().await;
    let bus = world.bus().await;
    let router = Router::start(bus.clone(), forever("first")).await.unwrap();
    talked(&bus).await;
    // It rests first, so that it is fetched to be forgotten.
    apply(&bus, "rest", 1, 0).await;
    let kept = rested(&bus).await;
    apply(&bus, "forget", 1, 2).await;
    eventually("it is said", async || facts(&bus).await.iter().any(|fact| fact.event.name() == "customer.erased"))
        .await;
    let erased = facts(&bus).await.into_iter().find(|fact| fact.event.name() == "customer.erased").unwrap();
    let Event::CustomerErased { customers, by, .. } = &*erased.event else { unreachable!() };
    assert_eq!((customers.as_slice(), by.as_str()), (&[ANN][..], "retention"));
    let bucket = bus.bucket(bus::topology::CUSTOMERS).await.unwrap();
    eventually("nothing is left of it", async || {
        let left = bucket.entries_below("main.u1").await.unwrap().len();
        left == 0 && bucket.get("main.u1").await.unwrap().is_none() && messages(&bus).await.is_empty()
    })
    .await;
    assert!(bucket.get(&key(&main(), ANN, kept)).await.unwrap().is_none());
    // What was received before comes too late; whoever writes then is somebody new.
    say(&bus, "late").await;
    let mut new = envelope("new");
    new.received_at = Timestamp(runtime::clock::now());
    let publish = Publish {
        subject: subject::inbound(SHARD, &main(), &new.account.kind, &new.account.id),
        payload: Encoding::MsgPack.encode(&new).unwrap().into(),
        content_type: Some(Encoding::MsgPack.content_type()),
        ..Publish::default()
    };
    bus.publish(publish).await.unwrap();
    eventually("it is taken in", async || owners(&bus).await == [("new".into(), Some(CustomerId(2)))]).await;
    router.drain().await;
    world.end().await;
}
