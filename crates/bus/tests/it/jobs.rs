//! Jobs: answered, given back, redelivered.

use std::time::Duration;

use throughline_bus::{Consumer, ErrorKind, Retention, Topology};

use crate::support::{World, message, publish_surely, soon, streams};

fn topology(ack_wait: Duration) -> Topology {
    let mut topology = streams(&[("W", "tl.v1.w.*")]);
    topology.streams[0].retention = Retention::WorkQueue;
    topology.consumers.push(Consumer {
        stream: "W".into(),
        durable: "out-chat".into(),
        filter: Some("tl.v1.w.chat".into()),
        ack_wait,
        ack_pending_max: 1024,
        deliveries_max: 0,
    });
    topology
}

#[tokio::test]
async fn jobs_are_done_once_or_come_back() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&topology(Duration::from_secs(1))).await.unwrap();
    for name in ["done", "again", "never", "forgotten"] {
        bus.publish(message("tl.v1.w.chat", name)).await.unwrap();
    }
    let mut jobs = bus.work("W", "out-chat").await.unwrap();
    let mut names = Vec::new();
    for _ in 0..4 {
        let job = soon(jobs.next()).await.unwrap();
        assert_eq!(job.deliveries, 1);
        names.push(job.seq);
        match &job.payload[..] {
            b"done" => job.ack().await.unwrap(),
            b"again" => job.nak(Duration::from_millis(100)).await.unwrap(),
            b"never" => job.term().await.unwrap(),
            // Not answered: comes back after ack_wait.
            _ => job.progress().await.unwrap(),
        }
    }
    assert_eq!(names, [1, 2, 3, 4]);
    let job = soon(jobs.next()).await.unwrap();
    assert_eq!((&job.payload[..], job.deliveries), (&b"again"[..], 2));
    job.ack().await.unwrap();
    let job = soon(jobs.next()).await.unwrap();
    assert_eq!((&job.payload[..], job.deliveries), (&b"forgotten"[..], 2));
    job.ack().await.unwrap();
    assert_eq!(bus.stream_state("W").await.unwrap().messages, 0);
    assert_eq!(bus.work("W", "out-fax").await.err().unwrap().kind, ErrorKind::NotFound);
    world.end().await;
}

#[tokio::test]
async fn stopping_gives_back_what_was_fetched_ahead() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&topology(Duration::from_secs(60))).await.unwrap();
    for number in 0..20 {
        bus.publish(message("tl.v1.w.chat", number)).await.unwrap();
    }
    let mut jobs = bus.work("W", "out-chat").await.unwrap();
    soon(jobs.next()).await.unwrap().ack().await.unwrap();
    bus.flush().await.unwrap();
    jobs.stop().await;
    assert!(jobs.next().await.is_none());
    // Long before ack_wait.
    let mut others = bus.work("W", "out-chat").await.unwrap();
    for _ in 0..19 {
        soon(others.next()).await.unwrap().ack().await.unwrap();
    }
    assert_eq!(bus.stream_state("W").await.unwrap().messages, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_on_after_the_server_was_killed() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&topology(Duration::from_secs(2))).await.unwrap();
    for number in 0..10 {
        bus.publish(message("tl.v1.w.chat", number)).await.unwrap();
    }
    let mut jobs = bus.work("W", "out-chat").await.unwrap();
    for _ in 0..5 {
        soon(jobs.next()).await.unwrap().ack().await.unwrap();
    }
    world.kill_and_return(&bus).await;
    publish_surely(&bus, message("tl.v1.w.chat", 10)).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 6 {
        let job = soon(jobs.next()).await.unwrap();
        let number: u32 = std::str::from_utf8(&job.payload).unwrap().parse().unwrap();
        assert!(number >= 5, "an acknowledged job came back: {number}");
        // What was fetched before the kill may be answered late: then it comes again.
        if job.ack().await.is_ok() {
            seen.insert(number);
        }
    }
    assert_eq!(bus.stream_state("W").await.unwrap().messages, 0);
    world.end().await;
}
