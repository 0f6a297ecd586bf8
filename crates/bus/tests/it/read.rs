//! Readers and scans.

use std::time::Instant;

use throughline_bus::ErrorKind;

use crate::support::{World, message, publish_surely, soon, streams};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_everything_in_order_over_a_killed_server() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let mut reader = bus.read("S", 1, None).await.unwrap();
    let writer = tokio::spawn({
        let bus = bus.clone();
        async move {
            let mut last = 0;
            for number in 0..3_000 {
                last = publish_surely(&bus, message("tl.v1.s.a", number)).await;
            }
            last
        }
    });
    let mut seen = 0;
    let mut number_before = None;
    let mut killed = None;
    let mut writer = Some(writer);
    let mut last = u64::MAX;
    while seen < last {
        let stored = tokio::select! {
            stored = soon(reader.next()) => stored.unwrap(),
            written = async { writer.as_mut().unwrap().await }, if writer.is_some() => {
                last = written.unwrap();
                writer = None;
                continue;
            }
        };
        assert_eq!(stored.seq, seen + 1);
        seen = stored.seq;
        let number: u64 = std::str::from_utf8(&stored.payload).unwrap().parse().unwrap();
        // A publish whose ack was lost may be there twice, but never out of order.
        assert!(number_before.is_none_or(|before| number == before || number == before + 1), "{number}");
        number_before = Some(number);
        if seen == 1_000 {
            world.kill();
            killed = Some(Instant::now());
        }
        if seen == 1_500 {
            println!("500 messages later {:?} after the kill", killed.unwrap().elapsed());
        }
    }
    assert_eq!(number_before, Some(2_999));
    assert_eq!(reader.position(), last + 1);
    world.end().await;
}

#[tokio::test]
async fn what_is_buffered_is_taken_without_waiting() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    for number in 0..1_000 {
        bus.publish(message("tl.v1.s.a", number)).await.unwrap();
    }
    let mut reader = bus.read("S", 1, None).await.unwrap();
    let mut seen = 0;
    let mut longest = 0;
    while seen < 1_000 {
        let stored = soon(reader.next()).await.unwrap();
        seen += 1;
        assert_eq!(stored.seq, seen);
        let mut batch = 1;
        while let Some(stored) = reader.try_next() {
            seen += 1;
            batch += 1;
            assert_eq!(stored.seq, seen);
        }
        longest = longest.max(batch);
    }
    assert!(longest > 128, "the runtime's budget must not cut batches: {longest}");
    assert!(reader.try_next().is_none());
    world.end().await;
}

#[tokio::test]
async fn a_reader_is_told_of_a_purge_it_did_not_see() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    for number in 0..10 {
        bus.publish(message("tl.v1.s.a", number)).await.unwrap();
    }
    bus.purge_below("S", 6).await.unwrap();
    assert_eq!(bus.stream_state("S").await.unwrap().first, 6);
    assert_eq!(bus.read("S", 3, None).await.err().unwrap().kind, ErrorKind::Purged);
    // Purged behind the reader, or wherever it begins: fine.
    assert_eq!(bus.read("S", 6, None).await.unwrap().next().await.unwrap().seq, 6);
    assert_eq!(bus.read("S", 0, None).await.unwrap().next().await.unwrap().seq, 6);
    // All of it purged: from its end is fine, from within is not, from beyond is another stream.
    bus.purge_below("S", 11).await.unwrap();
    let mut reader = bus.read("S", 11, None).await.unwrap();
    assert_eq!(bus.read("S", 10, None).await.err().unwrap().kind, ErrorKind::Purged);
    assert_eq!(bus.read("S", 12, None).await.err().unwrap().kind, ErrorKind::Purged);
    bus.publish(message("tl.v1.s.a", "next")).await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().seq, 11);
    // A single deleted message is no purge.
    for number in 0..3 {
        bus.publish(message("tl.v1.s.a", number)).await.unwrap();
    }
    bus.delete("S", 13).await.unwrap();
    let mut reader = bus.read("S", 12, None).await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().seq, 12);
    assert_eq!(soon(reader.next()).await.unwrap().seq, 14);
    assert_eq!(bus.read("NO", 1, None).await.err().unwrap().kind, ErrorKind::NotFound);
    world.end().await;
}

#[tokio::test]
async fn history_is_the_newest_of_what_matches() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("E", "tl.v1.event.*.*.*")])).await.unwrap();
    for number in 0..300 {
        let subject = format!("tl.v1.event.main.message.c{}", number % 3);
        bus.publish(message(&subject, number)).await.unwrap();
    }
    let text = |stored: &throughline_bus::Stored| String::from_utf8(stored.payload.to_vec()).unwrap();
    let all = bus.collect("E", "tl.v1.event.main.*.c1", None).await.unwrap();
    assert_eq!(all.len(), 100);
    let newest = bus.collect("E", "tl.v1.event.main.*.c1", Some(3)).await.unwrap();
    assert_eq!(newest.iter().map(text).collect::<Vec<_>>(), ["292", "295", "298"]);
    assert!(bus.collect("E", "tl.v1.event.main.*.c9", Some(3)).await.unwrap().is_empty());
    assert!(bus.collect("E", "tl.v1.event.main.*.c1", Some(0)).await.unwrap().is_empty());
    bus.purge_subject("E", "tl.v1.event.main.*.c1").await.unwrap();
    assert!(bus.collect("E", "tl.v1.event.main.*.c1", None).await.unwrap().is_empty());
    assert_eq!(bus.stream_state("E").await.unwrap().messages, 200);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_pass_under_flow_control() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let body = "x".repeat(512);
    let mut pending = Vec::new();
    for _ in 0..100_000 {
        pending.push(bus.publish_start(message("tl.v1.s.a", &body)).await.unwrap());
    }
    for ack in pending {
        ack.await.unwrap();
    }
    let mut reader = bus.read("S", 1, None).await.unwrap();
    let begin = Instant::now();
    for seq in 1..=100_000 {
        assert_eq!(soon(reader.next()).await.unwrap().seq, seq);
    }
    println!("{:.0} messages read a second", 100_000.0 / begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    assert_eq!(bus.collect("S", "tl.v1.s.*", Some(5)).await.unwrap().len(), 5);
    println!("the newest 5 of 100000 in {:?}", begin.elapsed());
    world.end().await;
}
