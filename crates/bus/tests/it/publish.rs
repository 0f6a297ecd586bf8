//! Publishing: deduplication, fences, limits, and what is in flight when the server dies.

use std::time::{Duration, Instant};

use throughline_bus::{ErrorKind, Expect, Publish, Stream, Topology};

use crate::support::{World, message, soon, stream, streams};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_twice_changes_nothing_and_differences_are_named() {
    let world = World::start().await;
    let bus = world.bus().await;
    let mut topology = Topology::throughline(2, 1, &["chat", "email"]);
    bus.ensure(&topology).await.unwrap();
    bus.publish(message("tl.v1.in.1.main.chat.web", "x")).await.unwrap();
    let again = Instant::now();
    bus.ensure(&topology).await.unwrap();
    assert!(again.elapsed() < Duration::from_secs(2), "{:?}", again.elapsed());

    // What can change is changed, and nothing is lost by it.
    topology.streams[2].bytes_max = Some(1 << 20);
    assert_eq!(topology.streams[2].name, "IN-1");
    bus.ensure(&topology).await.unwrap();
    assert_eq!(bus.stream_state("IN-1").await.unwrap().messages, 1);

    // What cannot is refused by name.
    topology.streams[2].retention = throughline_bus::Retention::WorkQueue;
    let error = bus.ensure(&topology).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.to_string().contains("IN-1") && error.to_string().contains("retention"), "{error}");
    world.end().await;
}

#[tokio::test]
async fn a_repeated_id_is_stored_once() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let publish = Publish { msg_id: Some("chat/web/1".into()), ..message("tl.v1.s.a", "x") };
    let first = bus.publish(publish.clone()).await.unwrap();
    let second = bus.publish(publish).await.unwrap();
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(first.seq, second.seq);
    assert_eq!(bus.stream_state("S").await.unwrap().messages, 1);
    world.end().await;
}

#[tokio::test]
async fn an_old_epoch_is_refused() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("J", "tl.v1.journal.0.*")])).await.unwrap();
    let epoch = "tl.v1.journal.0.epoch";
    let claim = |seq| Publish { expect: Some(Expect { subject: epoch.into(), seq }), ..message(epoch, "me") };
    let record = |seq| Publish {
        expect: Some(Expect { subject: epoch.into(), seq }),
        ..message("tl.v1.journal.0.log", "record")
    };
    let mine = bus.publish(claim(0)).await.unwrap().seq;
    bus.publish(record(mine)).await.unwrap();
    bus.publish(record(mine)).await.unwrap();
    let theirs = bus.publish(claim(mine)).await.unwrap().seq;
    let error = bus.publish(record(mine)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced(Some(theirs)));
    assert_eq!(bus.publish(claim(mine)).await.unwrap_err().kind, ErrorKind::Fenced(Some(theirs)));
    bus.publish(record(theirs)).await.unwrap();

    let last = bus.last("J", "tl.v1.journal.0.*").await.unwrap().unwrap();
    assert_eq!((last.seq, last.subject.as_str()), (theirs + 1, "tl.v1.journal.0.log"));
    let found = bus.last("J", epoch).await.unwrap().unwrap();
    assert_eq!((found.seq, &found.payload[..]), (theirs, &b"me"[..]));
    assert!(found.at_ms > 1_700_000_000_000);
    assert!(bus.last("J", "tl.v1.journal.0.checkpoint").await.unwrap().is_none());
    assert_eq!(bus.get("J", mine).await.unwrap().unwrap().subject, epoch);
    assert!(bus.get("J", 99).await.unwrap().is_none());
    assert_eq!(bus.get("NO", 1).await.unwrap_err().kind, ErrorKind::NotFound);
    world.end().await;
}

#[tokio::test]
async fn full_large_and_homeless_messages_are_told_apart() {
    let world = World::start().await;
    let bus = world.bus().await;
    let full = Stream { bytes_max: Some(4096), ..stream("FULL", "tl.v1.full") };
    bus.ensure(&Topology { streams: vec![full], ..Topology::default() }).await.unwrap();
    bus.publish(message("tl.v1.full", "x".repeat(3000))).await.unwrap();
    assert_eq!(bus.publish(message("tl.v1.full", "x".repeat(3000))).await.unwrap_err().kind, ErrorKind::Full);
    let large = message("tl.v1.full", "x".repeat(2_000_000));
    assert_eq!(bus.publish(large).await.unwrap_err().kind, ErrorKind::TooLarge);
    assert_eq!(bus.publish(message("tl.v1.nowhere", "x")).await.unwrap_err().kind, ErrorKind::Unavailable);
    let wait = Duration::from_secs(1);
    assert_eq!(bus.request(message("tl.v1.nobody", "x"), wait).await.unwrap_err().kind, ErrorKind::NoResponders);
    let _mute = bus.subscribe("tl.v1.mute").await.unwrap();
    let begin = Instant::now();
    let error = bus.request(message("tl.v1.mute", "x"), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(begin.elapsed() < Duration::from_millis(600), "{:?}", begin.elapsed());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_message_is_lost_when_the_server_dies() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let mut pending = Vec::new();
    for number in 0..2_000 {
        pending.push(bus.publish_start(message("tl.v1.s.a", number)).await.unwrap());
    }
    let begin = Instant::now();
    world.kill();
    let mut acknowledged = 0;
    for ack in pending {
        match soon(ack).await {
            Ok(_) => acknowledged += 1,
            Err(error) => assert_eq!(error.kind, ErrorKind::Ambiguous, "{error}"),
        }
    }
    assert!(begin.elapsed() < Duration::from_millis(1_900), "in flight must fail with the connection");
    // Waits for the connection and goes through.
    let next = crate::support::publish_surely(&bus, message("tl.v1.s.a", "after")).await;
    assert!(next > acknowledged, "{next} {acknowledged}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_more_than_may_be_in_flight_does_not_deadlock() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let begin = Instant::now();
    let mut pending = Vec::new();
    for number in 0..40_000 {
        pending.push(soon(bus.publish_start(message("tl.v1.s.a", number))).await.unwrap());
    }
    for ack in pending {
        ack.await.unwrap();
    }
    let rate = 40_000.0 / begin.elapsed().as_secs_f64();
    println!("{rate:.0} publishes a second");
    world.end().await;
}
