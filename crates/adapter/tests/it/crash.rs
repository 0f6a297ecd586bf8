//! What a process leaves when it is killed, and what the next one makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use throughline_adapter::bus::topology;
use throughline_adapter::contract::Millis;
use throughline_adapter::contract::envelope::ReceiptStatus;
use throughline_adapter::contract::outbound::OutCommand;
use throughline_adapter::{SendFailure, now};

use crate::demo::{Provider, Step};
use crate::support::{ACCOUNT, Line, QUICK, World, command};

/// The first process sends by a line that goes dead in front of `bytes`, and is killed; the second must
/// finish without sending.
async fn sent_once(bytes: &'static [u8], reported_before: bool) {
    let world = World::start(QUICK).await;
    let provider = Provider::new();
    let mut line = Line::dead_before(&world.server, bytes).await;
    let first = world.run_by(&line.url, &provider, ACCOUNT).await;
    let mut inbox = world.inbox().await;
    world.command(&command("once", "t", 2)).await;
    line.cut().await;
    first.kill();
    assert_eq!(inbox.rest(&world).await.len(), usize::from(reported_before));
    assert_eq!(world.router.stream_state(topology::OUT).await.unwrap().messages, 1);

    let second = world.run(&provider).await;
    world.until_done().await;
    assert_eq!(provider.requests(), ["once#0", "once#1"]);
    let mut inbox = world.inbox().await;
    let receipt = inbox.receipt().await;
    assert_eq!((receipt.status, receipt.targets.len()), (ReceiptStatus::Sent, 2));
    assert!(inbox.rest(&world).await.is_empty(), "it is reported twice");
    second.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_sending_before_the_acknowledgement() {
    sent_once(b"+ACK", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_sending_before_the_receipt() {
    sent_once(b"HPUB tl.v1.in.", false).await;
}

/// The provider's word outlives the process that heard it, though the stream never learnt of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_command_is_given_back_it_is_not_tried_too_early() {
    let world = World::start(QUICK).await;
    let provider = Provider::new();
    let wait = Duration::from_millis(3500);
    provider.script("told", [Step::Fail(SendFailure::retryable_after(wait, "429", "slow down"))]);
    let mut line = Line::dead_before(&world.server, b"-NAK").await;
    let first = world.run_by(&line.url, &provider, ACCOUNT).await;
    world.command(&command("told", "t", 1)).await;
    line.cut().await;
    first.kill();
    let second = world.run(&provider).await;
    assert_eq!(world.inbox().await.receipt().await.status, ReceiptStatus::Sent);
    let calls = provider.of("told");
    assert_eq!(calls.len(), 2);
    assert!(calls[1].at.duration_since(calls[0].at) >= wait, "{:?}", calls[1].at.duration_since(calls[0].at));
    second.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_the_last_part_before_the_command_is_finished() {
    let world = World::start(QUICK).await;
    let provider = Provider::new();
    let through = Arc::new(tokio::sync::Semaphore::new(1));
    provider.script("all", [Step::Hold(Arc::clone(&through)), Step::HangSent]);
    provider.script("half", [Step::HangSent]);
    let first = world.run(&provider).await;
    for name in ["all", "half"] {
        world.command(&command(name, name, 2)).await;
    }
    provider.called("all", 2).await;
    provider.called("half", 1).await;
    // The request is seen before the ledger has it: wait for the ledger.
    for (key, part) in [("demo.all", "1"), ("demo.half", "0")] {
        until_ledger(&world, key, |entry| entry["parts"][part]["state"] == "sent").await;
    }
    first.kill();

    let second = world.run(&provider).await;
    let mut inbox = world.inbox().await;
    let receipts = inbox.receipts(2).await;
    assert!(receipts.values().all(|receipt| receipt.status == ReceiptStatus::Sent), "{receipts:?}");
    assert_eq!(receipts["half"].targets, ["x-half#0", "x-half#1"]);
    world.until_done().await;
    assert_eq!(provider.of("all").len(), 2);
    assert_eq!(provider.of("half").len(), 2, "it goes on where it stopped");
    second.drain().await;
    world.end().await;
}

/// Waits for an entry of the send ledger.
async fn until_ledger(world: &World, key: &str, is: impl Fn(&serde_json::Value) -> bool) {
    let stream = format!("KV_{}", topology::LEDGER);
    let subject = format!("$KV.{}.{key}", topology::LEDGER);
    let mut writes = world.router.read(&stream, 0, Some(&subject)).await.unwrap();
    loop {
        let stored = crate::support::soon(writes.next()).await.unwrap();
        if is(&serde_json::from_slice(&stored.payload).unwrap()) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_send_it_is_unknown() {
    let world = World::start(QUICK).await;
    let provider = Provider::new();
    provider.script("torn", [Step::Hang]);
    provider.script("torn-and-late", [Step::Hang]);
    let first = world.run(&provider).await;
    world.command(&command("torn", "t", 2)).await;
    let late = OutCommand { not_after: Some(now() + Millis(1500)), ..command("torn-and-late", "l", 1) };
    world.command(&late).await;
    provider.called("torn", 1).await;
    provider.called("torn-and-late", 1).await;
    first.kill();
    tokio::time::sleep(Duration::from_millis(1500)).await;

    let second = world.run(&provider).await;
    let mut inbox = world.inbox().await;
    let receipts = inbox.receipts(2).await;
    assert_eq!((&receipts["torn"].status, receipts["torn"].part), (&ReceiptStatus::Unknown, Some(0)));
    // Its time is over, but the customer may have it.
    assert_eq!(receipts["torn-and-late"].status, ReceiptStatus::Unknown);
    world.until_done().await;
    assert_eq!(provider.requests().len(), 2);
    second.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_send_it_is_sent_again_where_that_does_no_harm() {
    let world = World::start(QUICK).await;
    let provider = Provider::that_recognises_repeats();
    provider.script("torn", [Step::Hang]);
    let first = world.run(&provider).await;
    world.command(&command("torn", "t", 1)).await;
    provider.called("torn", 1).await;
    first.kill();
    let second = world.run(&provider).await;
    assert_eq!(world.inbox().await.receipt().await.status, ReceiptStatus::Sent);
    assert_eq!(provider.requests(), ["torn#0", "torn#0"]);
    second.drain().await;
    world.end().await;
}

/// The server dies again and again while commands are carried out: none is sent twice, none is lost,
/// and none is called unknown, for every one of them is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_while_commands_are_carried_out() {
    const COMMANDS: usize = 300;
    let world = World::start(QUICK * 2).await;
    let provider = Provider::new();
    let process = world.run(&provider).await;
    let mut connection = world.router.connection();
    for number in 0..COMMANDS {
        world.command(&command(&format!("n{number}"), &format!("t{}", number % 30), 2)).await;
        if number % 100 == 50 {
            provider.called(&format!("n{}", number - 40), 1).await;
            world.kill_server();
            let up = throughline_adapter::bus::Connection::Up;
            crate::support::soon(connection.wait_for(|state| *state != up)).await.unwrap();
            crate::support::soon(connection.wait_for(|state| *state == up)).await.unwrap();
        }
    }
    world.until_done().await;
    // A receipt may lie there twice, since two records are not compared; the router knows it by its key.
    let mut keys = BTreeSet::new();
    for (_, _, envelope) in world.inbox().await.rest(&world).await {
        let receipt = envelope.receipt.unwrap();
        assert_eq!(receipt.status, ReceiptStatus::Sent, "{receipt:?}");
        keys.insert(envelope.dedup_key);
    }
    assert_eq!(keys.len(), COMMANDS);
    let requests = provider.requests();
    assert_eq!(requests.len(), COMMANDS * 2);
    assert_eq!(requests.iter().collect::<BTreeSet<_>>().len(), COMMANDS * 2);
    process.drain().await;
    world.end().await;
}
