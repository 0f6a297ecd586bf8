//! Customers who have been silent for long leave memory, and are the same when they are back.

use contract::{ConversationId, Event};
use throughline_tests::agent::text_of;
use throughline_tests::chat::Visit;
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, until};

/// How often the customer has left memory, by the journal.
async fn left(daemon: &Daemon) -> usize {
    let journal = daemon.journal(0).await;
    let entries = journal.iter().flat_map(|one| &one.record.entries);
    let events = entries.flat_map(|entry| &entry.events);
    events.filter(|event| matches!(***event, Event::CustomerRested { customer, .. } if customer.0 == 1)).count()
}

async fn leaves(daemon: &Daemon, times: usize) {
    until(PATIENCE, "the customer to leave memory", async || (left(daemon).await >= times).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_a_customer_is_the_same_after_leaving_memory_and_a_crash() {
    let mut daemon = Daemon::builder()
        .amend("[queues.support]", "[identity]\nrest_after_ms = 300\n[queues.support]")
        .amend("dispositions =", "affinity = { mode = \"prefer\", window_ms = 86400000 }\ndispositions =")
        .start()
        .await;
    let anna = AgentTool::open(&daemon, "anna").await;
    anna.available().await;
    let mut ann = ChatClient::open(&daemon, "ann", Visit::in_language("en")).await;
    ann.say("The lamp is broken.").await;
    let (offer, first) = anna.offered(None).await;
    anna.accept(offer).await;
    anna.say(first, "We send another.").await;
    ann.hears("agent", "We send another.").await;
    anna.close(first, "solved").await;
    // Ben has waited longer from here on.
    let ben = AgentTool::open(&daemon, "ben").await;
    ben.available().await;
    leaves(&daemon, 1).await;

    daemon.kill9();
    daemon.start().await;
    ann.say("It came, and it is lovely.").await;
    let (offer, second) = anna.offered(Some(ConversationId(2))).await;
    anna.accept(offer).await;
    let history = anna.commander().history(second, 100).await.expect("the history");
    let said: Vec<String> = history
        .iter()
        .filter_map(|record| match &*record.event {
            Event::MessageReceived { envelope, .. } => Some(text_of(&envelope.content)),
            Event::MessageSent { content, .. } => Some(text_of(content)),
            _ => None,
        })
        .collect();
    assert_eq!(said, ["The lamp is broken.", "We send another.", "It came, and it is lovely."]);
    anna.close(second, "solved").await;
    let facts = daemon.events("main").await;
    let made = facts.iter().filter(|record| record.event.name() == "customer.created").count();
    assert_eq!(made, 1, "nobody is made twice");
    let mut offers = facts.iter().filter_map(|record| match &*record.event {
        Event::OfferCreated { agent, decision, .. } => Some((agent.to_string(), decision.tie_break.to_string())),
        _ => None,
    });
    assert_eq!(
        offers.next_back(),
        Some(("anna".to_owned(), "affinity".to_owned())),
        "who knew the customer has it again"
    );

    // Gone again, and asked for by an operator.
    leaves(&daemon, 2).await;
    let shown = daemon.cli(&["--json", "customer", "show", "u1"]).await.json();
    assert_eq!(shown["value"]["customer"]["customer"], "u1", "{shown}");
    assert!(shown["value"]["facts"].as_array().is_some_and(|facts| !facts.is_empty()), "with its history: {shown}");
    let status = daemon.cli(&["--json", "status"]).await.json();
    assert_eq!(status["value"]["customers"], 1, "who rests is a customer too: {status}");
    // And forgotten, though it is not in memory.
    leaves(&daemon, 3).await;
    daemon.cli(&["customer", "erase", "u1", "--yes"]).await.ok();
    daemon.logged("erased a customer").await;
    let bus = daemon.connect(bus::permissions::ADMIN).await;
    let bucket = bus.bucket(bus::topology::CUSTOMERS).await.expect("the bucket");
    let keys = bucket.keys().await.expect("its keys");
    assert!(!keys.iter().any(|key| key.starts_with("main.u1")), "nothing of it is kept: {keys:?}");
}
