//! Phone calls: what the channel is told for the agent's ear, and what it hears of whoever waits.

use contract::command::{ChannelQuery, Reply};
use contract::outbound::{ShardLag, ThreadWait};

use super::*;

fn called(key: &str, state: &str) -> Envelope {
    serde_json::from_value(serde_json::json!({
        "v": 1, "kind": "call", "tenant": "main", "account": { "kind": "chat", "id": "web" }, "dedup_key": key,
        "thread": { "key": "CA1", "kind": "call" },
        "sender": { "identity": { "scheme": "tel", "value": "+4930111222", "scope": "global" }, "display": "Ann" },
        "sender_auth": { "level": "signed_webhook" }, "received_at": 1, "call": { "leg": "CA1", "state": state },
    }))
    .unwrap()
}

async fn publish(bus: &Bus, envelope: &Envelope) {
    let publish = Publish {
        subject: subject::inbound(SHARD, &main(), &envelope.account.kind, &envelope.account.id),
        payload: Encoding::MsgPack.encode(envelope).unwrap().into(),
        content_type: Some(Encoding::MsgPack.content_type()),
        msg_id: Some(envelope.msg_id()),
        ..Publish::default()
    };
    bus.publish(publish).await.unwrap();
}

async fn answer<T: serde::de::DeserializeOwned>(bus: &Bus, query: ChannelQuery) -> T {
    let account = called("x", "ringing").account;
    let request = Publish {
        subject: subject::channel_query(&main(), &account.kind, &account.id, query.verb()),
        payload: query.encode("", Encoding::MsgPack).unwrap().into(),
        content_type: Some(Encoding::MsgPack.content_type()),
        ..Publish::default()
    };
    loop {
        if let Ok(answer) = bus.request(request.clone(), Duration::from_secs(1)).await {
            let reply: Reply<T> = Encoding::MsgPack.decode(&answer.payload, 1 << 20).unwrap();
            return reply.result.unwrap();
        }
    }
}

async fn wait(bus: &Bus, thread: &str) -> ThreadWait {
    answer(bus, ChannelQuery::ThreadWait { thread: thread.into() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_waits_and_is_put_through_by_name_also_after_a_takeover() {
    let world = World::start().await;
    let bus = world.bus().await;
    let router = Router::start(bus.clone(), options("first")).await.unwrap();
    let mut policy = policy();
    let anna = contract::AgentId::new("anna").unwrap();
    policy.agents.get_mut(&anna).unwrap().phone = Some("+4930100".into());
    let command = AdminCommand::PolicyApply { policy: Box::new(policy), waiting: false };
    let payload = command.encode("policy", Encoding::MsgPack).unwrap();
    assert!(ask(&bus, subject::admin_command(&main(), command.verb()), payload).await.ok);
    assert_eq!(wait(&bus, "CA1").await, ThreadWait::default(), "nobody knows of it");

    publish(&bus, &called("CA1/ringing", "ringing")).await;
    eventually("the caller waits", async || wait(&bus, "CA1").await.state.as_deref() == Some("waiting")).await;
    let lag: ShardLag = answer(&bus, ChannelQuery::ShardLag {}).await;
    assert_eq!(lag, ShardLag::default(), "nothing that came is undecided");
    let waiting = wait(&bus, "CA1").await;
    assert_eq!(
        (waiting.before, waiting.queue.as_ref().map(|queue| queue.as_str()), waiting.closed),
        (Some(0), Some("support"), false)
    );
    assert_eq!((waiting.order, waiting.expected_ms), (None, None), "what nobody can tell is not guessed");

    let mut event = called("A/ringing", "ringing");
    let command = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
    let payload = command.encode("available", Encoding::MsgPack).unwrap();
    assert!(ask(&bus, subject::agent_command(&main(), &anna, command.verb()), payload).await.ok);
    let command = AgentCommand::OfferAccept { offer: contract::OfferId(1) };
    let payload = command.encode("accept", Encoding::MsgPack).unwrap();
    assert!(ask(&bus, subject::agent_command(&main(), &anna, command.verb()), payload).await.ok);
    eventually("the order goes out", async || commands(&bus).await.len() == 1).await;
    let order = commands(&bus).await.remove(0).call.unwrap();
    assert_eq!((order.customer_name.as_deref(), order.to.as_deref()), (Some("Ann"), Some("+4930100")));
    assert_eq!(wait(&bus, "CA1").await.order, Some(order), "whoever asks hears the same");

    // An event of the agent's leg names nobody: it is of the caller whose call it is, and makes no other customer.
    event.sender.identity.value = "unknown".into();
    event.sender.display = None;
    let call = event.call.as_mut().unwrap();
    (call.leg, call.agent) = ("A".into(), Some(anna.clone()));
    publish(&bus, &event).await;
    eventually("it is taken in", async || {
        facts(&bus).await.iter().any(|fact| matches!(&*fact.event, Event::MessageAmended { .. }))
    })
    .await;
    let created = facts(&bus).await.iter().filter(|fact| fact.event.name() == "customer.created").count();
    assert_eq!(created, 1);

    router.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_next_owner_has_to_send_has_the_name_too() {
    let world = World::start().await;
    let bus = world.bus().await;
    let mut journal = Journal::claim(&bus, SHARD, "dies", Timestamp(1)).await.unwrap();
    let anna = contract::AgentId::new("anna").unwrap();
    let mut policy = policy();
    policy.agents.get_mut(&anna).unwrap().phone = Some("+4930100".into());
    let mut tenant = Tenant::default();
    let mut entries = Vec::new();
    let mut apply = |tenant: &mut Tenant, at, input| match tenant.engine.command(Timestamp(at), input) {
        Answer::Done(_, step) => entries.push(step.entry(&main())),
        other => panic!("{other:?}"),
    };
    let command = AdminCommand::PolicyApply { policy: Box::new(policy), waiting: false };
    apply(&mut tenant, 1, CommandInput::Admin { id: "p".into(), command });
    let command = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
    apply(&mut tenant, 2, CommandInput::Agent { agent: anna.clone(), id: "a".into(), command });
    let step = tenant.receive(Timestamp(3), called("CA1/ringing", "ringing"), SmolStr::default).unwrap();
    entries.push(step.entry(&main()));
    let command = AgentCommand::OfferAccept { offer: contract::OfferId(1) };
    match tenant.engine.command(Timestamp(4), CommandInput::Agent { agent: anna, id: "b".into(), command }) {
        Answer::Done(_, step) => entries.push(step.entry(&main())),
        other => panic!("{other:?}"),
    }
    journal.append(&record(entries, journal.epoch, "one")).await.unwrap();
    let recovered = take_over(&bus, SHARD, "second", Timestamp(9)).await.unwrap();
    recovered.outputs.drain(Duration::from_secs(5)).await;
    let order = commands(&bus).await.remove(0).call.unwrap();
    assert_eq!(order.customer_name.as_deref(), Some("Ann"));
    recovered.readside.abandon();
    world.end().await;
}
