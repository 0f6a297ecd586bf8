//! Signs of life, and questions to the router.

use std::time::Duration;

use throughline_adapter::bus::{Publish, Service};
use throughline_adapter::contract::command::{Refusal, RefusalKind, Reply};
use throughline_adapter::contract::outbound::ThreadHistory;
use throughline_adapter::contract::{Encoding, subject};
use throughline_adapter::history::HistoryError;

use crate::demo::Provider;
use crate::support::{PATIENT, World, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_tells_how_it_fares_to_its_end() {
    let world = World::start(PATIENT).await;
    let provider = Provider::that_breaks_once();
    let mut beats = world.beats().await;
    let process = world.run(&provider).await;
    // It breaks once, says why, and is run again.
    let down = loop {
        let beat = beats.until("down").await;
        if beat.last_error.is_some() {
            break beat;
        }
    };
    assert_eq!(down.last_error.as_deref(), Some("signing in: the provider is away"));
    let up = beats.until("up").await;
    assert_eq!((up.tenant.as_str(), up.kind.as_str(), up.instance.as_str()), ("main", "demo", "test"));
    assert_eq!((up.account.id.as_str(), up.last_error), ("web", None));
    assert!(up.capabilities.typing && up.at >= down.at);
    // A trouble of the channel's own.
    process.context.health.set(throughline_adapter::health::State::Degraded, Some("slow".into()));
    assert_eq!(beats.until("degraded").await.last_error.as_deref(), Some("slow"));
    process.drain().await;
    let bucket = world.router.bucket(throughline_adapter::bus::topology::CHANNELS).await.unwrap();
    assert_eq!(bucket.keys().await.unwrap(), ["main.demo.web"]);
    let last = bucket.get("main.demo.web").await.unwrap().unwrap();
    let last: serde_json::Value = serde_json::from_slice(&last.value).unwrap();
    assert_eq!(last["state"], "down");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_asked_until_somebody_answers() {
    let world = World::start(PATIENT).await;
    let process = world.run(&Provider::new()).await;
    let history = process.context.history.clone();
    let question = tokio::spawn(async move { history.thread("v1", 3, 50).await });
    // Nobody is there yet: it goes on asking.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!question.is_finished());
    let context = &process.context;
    let account = &context.account;
    let service = Service {
        name: "router".into(),
        version: "0.1.0".into(),
        description: String::new(),
        endpoints: vec![(
            "history".into(),
            subject::channel_query(&context.tenant, &account.kind, &account.id, "thread.history"),
        )],
    };
    let mut requests = world.router.service(service).await.unwrap();
    let answer = async |reply: Reply<ThreadHistory>, request: throughline_adapter::bus::Message| {
        let payload = Encoding::Json.encode(&reply).unwrap().into();
        let content_type = Some(Encoding::Json.content_type());
        let publish = Publish { subject: request.reply.unwrap(), payload, content_type, ..Publish::default() };
        world.router.send(publish).await.unwrap();
    };
    // A router that has just come is not ready: it is asked again.
    let request = soon(requests.next()).await.unwrap();
    answer(Reply::refused("".into(), Refusal::new(RefusalKind::Unavailable, "not yet")), request).await;
    let request = soon(requests.next()).await.unwrap();
    let asked: serde_json::Value = Encoding::MsgPack.decode(&request.payload, 1024).unwrap();
    assert_eq!(asked["args"], serde_json::json!({ "thread": "v1", "after": 3, "limit": 50 }));
    let known = ThreadHistory { records: vec![], head: 7, conversation: None, agent: None, ways: vec![] };
    answer(Reply::done("".into(), known), request).await;
    assert_eq!(soon(question).await.unwrap().unwrap().head, 7);
    // A refusal for good is an answer.
    let history = context.history.clone();
    let question = tokio::spawn(async move { history.thread("v1", 0, 1).await });
    let request = soon(requests.next()).await.unwrap();
    answer(Reply::refused("".into(), Refusal::new(RefusalKind::Invalid, "no")), request).await;
    assert!(matches!(soon(question).await.unwrap(), Err(HistoryError::Refused(_))));
    // Nobody at all: it gives up.
    drop(requests);
    world.router.flush().await.unwrap();
    assert_eq!(soon(context.history.thread("v1", 0, 1)).await, Err(HistoryError::Unavailable));
    process.drain().await;
    world.end().await;
}
