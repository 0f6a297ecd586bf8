//! The way in: what is accepted is stored.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use throughline_adapter::AcceptError;
use throughline_adapter::contract::envelope::ReceiptStatus;
use throughline_adapter::inbound::{Accepted, Ticket};

use crate::demo::Provider;
use crate::support::{PATIENT, World, command, envelope, in_stream, soon};

/// Where each message of each thread stands in the stream.
fn places(stored: &[(u64, u32, throughline_adapter::contract::Envelope)]) -> BTreeMap<String, Vec<(u64, u32)>> {
    let mut places = BTreeMap::<_, Vec<_>>::new();
    for (seq, index, envelope) in stored {
        places.entry(envelope.dedup_key.to_string()).or_default().push((*seq, *index));
    }
    places
}

/// Senders write on, each message after the one before it is accepted, as a customer's do; the server
/// is killed in the middle, three times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_stored_in_order_though_the_server_dies() {
    const LANES: usize = 40;
    const MESSAGES: usize = 60;
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let process = world.run(&provider).await;
    let progress = tokio::sync::watch::Sender::new(0);
    let mut senders = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (inbound, progress) = (process.context.inbound.clone(), progress.clone());
        senders.spawn(async move {
            let thread = format!("t{lane}");
            let mut accepted = Vec::new();
            for number in 0..MESSAGES {
                let envelope = envelope(&thread, number);
                loop {
                    match inbound.accept(&envelope).await {
                        Ok(place) => break accepted.push((envelope.dedup_key.to_string(), place)),
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
                progress.send_modify(|count| *count += 1);
            }
            accepted
        });
    }
    let mut watched = progress.subscribe();
    for kill in 1..=3 {
        soon(watched.wait_for(|count| *count >= kill * LANES * MESSAGES / 5)).await.unwrap();
        world.kill_server();
        // Not again before it is back.
        let reached = *watched.borrow();
        soon(watched.wait_for(|count| *count > reached + LANES)).await.unwrap();
    }
    let mut accepted = Vec::new();
    while let Some(lane) = soon(senders.join_next()).await {
        accepted.push(lane.unwrap());
    }
    let stored = world.inbox().await.rest(&world).await;
    let places = places(&stored);
    for lane in accepted {
        let mut before = None;
        for (key, Accepted { seq, index, .. }) in lane {
            let found = &places[&key];
            assert!(found.contains(&(seq, index)), "{key} was accepted as {seq}/{index} and lies at {found:?}");
            // A repeat after a refusal may lie in another record; the router knows it by its key.
            assert!(before < found.first().copied(), "{key} lies before its predecessor");
            before = found.first().copied();
        }
    }
    let doubled = stored.len() - LANES * MESSAGES;
    println!("{} envelopes, {doubled} of them twice", stored.len());
    assert_eq!(places.len(), LANES * MESSAGES);
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_grow_with_the_load() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let process = world.run(&provider).await;
    let inbound = &process.context.inbound;
    // One by one: a record each.
    for number in 0..10 {
        let place = inbound.accept(&envelope("quiet", number)).await.unwrap();
        assert_eq!((place.seq, place.index), (number as u64 + 1, 0));
    }
    // The same again is known.
    let again = inbound.accept(&envelope("quiet", 9)).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (10, true));
    // A thousand at once, faster than the server takes them.
    let paused = world.pause_server();
    let tickets: Vec<Ticket> =
        (0..1000).map(|number| inbound.submit(&envelope(&format!("t{}", number % 50), number)).unwrap()).collect();
    drop(paused);
    let mut seqs = HashSet::new();
    for ticket in tickets {
        seqs.insert(soon(ticket).await.unwrap().seq);
    }
    println!("1000 envelopes in {} records", seqs.len());
    assert!(seqs.len() <= 1000 / 16, "{} records", seqs.len());
    let stored = world.inbox().await.rest(&world).await;
    assert_eq!(stored.len(), 1010);
    assert!(stored.iter().map(|(_, index, _)| *index).max().unwrap() == 31);
    let mut last = BTreeMap::new();
    for (_, _, envelope) in stored {
        let number: i64 = envelope.dedup_key.split_once('/').unwrap().1.parse().unwrap();
        assert!(last.insert(envelope.thread.key, number).unwrap_or(-1) < number);
    }
    // What is not ours is refused before it is sent.
    let mut foreign = envelope("t", 1);
    foreign.tenant = "acme".parse().unwrap();
    assert_eq!(inbound.accept(&foreign).await, Err(AcceptError::Misaddressed));
    process.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_and_loses_nothing() {
    let small = |topology: &mut throughline_adapter::bus::Topology| {
        let stream = topology.streams.iter_mut().find(|stream| stream.name == in_stream()).unwrap();
        stream.bytes_max = Some(32 * 1024);
    };
    let world = World::start_with(PATIENT, small).await;
    let provider = Provider::new();
    let process = world.run(&provider).await;
    let inbound = &process.context.inbound;
    let mut accepted = 0;
    let refused = loop {
        match inbound.accept(&envelope("t", accepted)).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AcceptError::Full);
    assert!(refused.is_retryable());
    assert_eq!(world.inbox().await.rest(&world).await.len(), accepted);

    // A command is carried out once, and its receipt waits for room.
    world.command(&command("told-later", "t", 1)).await;
    provider.called("told-later", 1).await;
    assert_eq!(inbound.accept(&envelope("t", accepted)).await, Err(AcceptError::Full));
    let last = world.router.stream_state(&in_stream()).await.unwrap().last;
    world.router.purge_below(&in_stream(), last + 1).await.unwrap();
    // The waiting receipt is of the same thread: a try of it that was refused before there was room is refused together
    // with what came behind it.
    let again = soon(async {
        loop {
            match inbound.accept(&envelope("t", accepted)).await {
                Err(AcceptError::Full) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        }
    })
    .await;
    assert!(!again.duplicate);
    world.until_done().await;
    let mut told: Vec<_> = Vec::new();
    let mut reader = world.router.read(&in_stream(), 0, None).await.unwrap();
    while told.is_empty() {
        let stored = soon(reader.next()).await.unwrap();
        let record = throughline_adapter::contract::envelope::decode_record(&stored.payload, None).unwrap();
        told.extend(record.into_iter().filter_map(|envelope| envelope.unwrap().receipt));
    }
    assert_eq!((&told[0].status, provider.requests().len()), (&ReceiptStatus::Sent, 1));
    process.drain().await;
    world.end().await;
}

/// While the server stands still, the queue fills and refuses; a drain waits for what was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_a_drain_finishes_what_was_taken() {
    let world = World::start(PATIENT).await;
    let provider = Provider::new();
    let process = world.run(&provider).await;
    let inbound = process.context.inbound.clone();
    let paused = world.pause_server();
    let mut tickets = Vec::new();
    let refused = loop {
        match inbound.submit(&envelope(&format!("t{}", tickets.len() % 100), tickets.len())) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AcceptError::Busy);
    assert!(refused.is_retryable());
    // A few more than wait: what was under way, and stored before the server stood still.
    assert!((4096..5000).contains(&tickets.len()), "{}", tickets.len());
    let drained = tokio::spawn(process.drain());
    // The drain has to wait for the server.
    assert!(tokio::time::timeout(Duration::from_millis(300), inbound.idle()).await.is_err());
    assert!(!drained.is_finished());
    drop(paused);
    soon(drained).await.unwrap();
    let taken = tickets.len();
    let mut accepted = HashSet::new();
    for ticket in tickets {
        // Answered already: nothing is left to be done.
        let Accepted { seq, index, .. } = tokio::time::timeout(Duration::ZERO, ticket).await.unwrap().unwrap();
        accepted.insert((seq, index));
    }
    assert_eq!(accepted.len(), taken);
    let stored = world.inbox().await.rest(&world).await;
    let messages = stored.iter().filter(|(seq, index, _)| accepted.contains(&(*seq, *index))).count();
    assert_eq!(messages, taken);
    world.end().await;
}
