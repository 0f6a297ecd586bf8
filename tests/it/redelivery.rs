//! A provider that delivers again, long after the stream has forgotten it.

use contract::{Encoding, Event};
use throughline_tests::daemon::TENANT;
use throughline_tests::{AgentTool, Daemon};

use crate::deadletters::{envelope, put};

const ACCOUNT: &str = "kind = \"demo\"\naccount = \"shop\"\nexternal = true\n";
const SUBJECT: &str = "tl.v1.in.main.demo.shop";

#[tokio::test(flavor = "multi_thread")]
async fn redelivery_of_the_same_provider_id_changes_nothing() {
    let mut daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let bus = daemon.connect("adapter-demo").await;
    let encode = |value: &serde_json::Value| value.to_string().into_bytes();
    let first = envelope("event-1", "once");
    put(&bus, SUBJECT, encode(&first), Some(Encoding::Json), "window/1").await;
    anna.hears("once").await;

    // Other ids, so that the stream takes each of them: as after its window.
    put(&bus, SUBJECT, encode(&first), Some(Encoding::Json), "window/2").await;
    let packed = Encoding::MsgPack.encode(&first).unwrap();
    put(&bus, SUBJECT, packed, Some(Encoding::MsgPack), "window/3").await;
    // In one record with something new, twice in one record, and with another content under the id.
    let mixed = serde_json::json!([first, envelope("event-2", "twice"), envelope("event-2", "twice"), first]);
    put(&bus, SUBJECT, encode(&mixed), Some(Encoding::Json), "window/4").await;
    put(&bus, SUBJECT, encode(&envelope("event-1", "something else")), Some(Encoding::Json), "window/5").await;
    anna.hears("twice").await;
    // And after the memory of the process is gone.
    daemon.restart().await;
    put(&bus, SUBJECT, encode(&first), Some(Encoding::Json), "window/6").await;
    put(&bus, SUBJECT, encode(&envelope("event-3", "the end")), Some(Encoding::Json), "window/7").await;
    anna.hears("the end").await;

    let events = daemon.events(TENANT).await;
    let texts: Vec<String> = events
        .iter()
        .filter_map(|record| match &*record.event {
            Event::MessageReceived { envelope, .. } => Some(throughline_tests::agent::text_of(&envelope.content)),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["once", "twice", "the end"]);
    let conversations =
        events.iter().filter(|record| matches!(*record.event, Event::ConversationOpened { .. })).count();
    assert_eq!(conversations, 1);
    assert!(daemon.dead_letters(TENANT).await.is_empty());
}
