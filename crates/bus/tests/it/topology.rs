//! What is there already is brought to what is wanted, and nothing stored is dropped unless somebody said so.

use std::time::Duration;

use serde_json::{Value, json};
use throughline_bus::topology::{Placement, Shape, Storage};
use throughline_bus::{Bus, ErrorKind, Publish, Stream, Topology};

use crate::support::{World, message, soon, stream};

/// A stream as the server has it.
async fn config(bus: &Bus, stream: &str) -> Value {
    let question = Publish { subject: format!("$JS.API.STREAM.INFO.{stream}"), ..Publish::default() };
    let answer = bus.request(question, Duration::from_secs(5)).await.unwrap();
    let info: Value = serde_json::from_slice(&answer.payload).unwrap();
    info["config"].clone()
}

async fn messages(bus: &Bus, stream: &str) -> u64 {
    bus.stream_state(stream).await.unwrap().messages
}

fn only(stream: Stream) -> Topology {
    Topology { streams: vec![stream], ..Topology::default() }
}

/// Changes that are refused, each with what its text must hold.
async fn refused(bus: &Bus, topology: &Topology, parts: &[&str]) {
    let error = bus.ensure(topology).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn fewer_bytes_than_are_stored_need_leave() {
    let world = World::start().await;
    let bus = world.bus().await;
    // A stream that refuses when it is full would lose messages as well: the server does not look at that here.
    for (name, full_refuses) in [("OLD", false), ("NEW", true)] {
        let subject = format!("tl.v1.{name}");
        let sized = |bytes_max| Stream { bytes_max, full_refuses, ..stream(name, &subject) };
        bus.ensure(&only(sized(None))).await.unwrap();
        for _ in 0..10 {
            bus.publish(message(&subject, "x".repeat(1000))).await.unwrap();
        }
        // What is above the contents is put into force, up and down.
        for bytes in [1 << 20, 1 << 16, 1 << 18] {
            bus.ensure(&only(sized(Some(bytes)))).await.unwrap();
            assert_eq!(config(&bus, name).await["max_bytes"], json!(bytes));
        }
        assert_eq!(messages(&bus, name).await, 10);
        let small = only(sized(Some(5000)));
        refused(&bus, &small, &[name, "262144", "5000", "streams.may_drop"]).await;
        assert_eq!((messages(&bus, name).await, &config(&bus, name).await["max_bytes"]), (10, &json!(1 << 18)));
        // An age is another matter.
        refused(&bus, &Topology { may_lapse: vec![name.to_owned()], ..small.clone() }, &["max_bytes"]).await;
        bus.ensure(&Topology { may_drop: vec![name.to_owned()], ..small.clone() }).await.unwrap();
        assert_eq!(config(&bus, name).await["max_bytes"], json!(5000));
        // And the leave is needed no longer.
        bus.ensure(&small).await.unwrap();
    }
    // The oldest went.
    soon(async {
        while messages(&bus, "OLD").await > 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_shorter_age_needs_leave_as_long_as_something_is_older() {
    let world = World::start().await;
    let bus = world.bus().await;
    let aged = |age_max| only(Stream { age_max, full_refuses: false, ..stream("A", "tl.v1.a") });
    bus.ensure(&aged(None)).await.unwrap();
    for _ in 0..3 {
        bus.publish(message("tl.v1.a", "old")).await.unwrap();
    }
    bus.ensure(&aged(Some(Duration::from_secs(3600)))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    bus.publish(message("tl.v1.a", "new")).await.unwrap();
    let short = aged(Some(Duration::from_secs(1)));
    refused(&bus, &short, &["stream A", "max_age", "3600.0 s", "1.0 s", "up to 3 messages"]).await;
    assert_eq!(messages(&bus, "A").await, 4);
    assert_eq!(config(&bus, "A").await["max_age"], json!(3_600_000_000_000_u64));
    bus.ensure(&Topology { may_lapse: vec!["A".to_owned()], ..short }).await.unwrap();
    soon(async {
        while messages(&bus, "A").await > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn one_refusal_leaves_everything_as_it_was() {
    let world = World::start().await;
    let bus = world.bus().await;
    let both = |first, second| {
        let streams = vec![
            Stream { bytes_max: first, ..stream("FIRST", "tl.v1.first") },
            Stream { bytes_max: second, ..stream("SECOND", "tl.v1.second") },
        ];
        Topology { streams, ..Topology::default() }
    };
    bus.ensure(&both(None, None)).await.unwrap();
    bus.publish(message("tl.v1.second", "x".repeat(3000))).await.unwrap();
    refused(&bus, &both(Some(1 << 20), Some(1000)), &["SECOND"]).await;
    assert_eq!(config(&bus, "FIRST").await["max_bytes"], json!(-1));
    let mut topology = both(Some(1 << 20), None);
    topology.streams.push(stream("THIRD", "tl.v1.third"));
    bus.ensure(&topology).await.unwrap();
    assert_eq!(config(&bus, "FIRST").await["max_bytes"], json!(1 << 20));
    assert_eq!(messages(&bus, "THIRD").await, 0);
    world.end().await;
}

#[tokio::test]
async fn streams_stay_on_what_they_were_made_on() {
    let world = World::start().await;
    let bus = world.bus().await;
    // The server sets memory aside for what may come.
    let on = |storage| {
        let shape = Shape { storage, in_bytes_max: 16 << 20, ..Shape::default() };
        Topology::shaped(1, &["chat"], &shape)
    };
    bus.ensure(&on(Storage::File)).await.unwrap();
    bus.publish(message("tl.v1.in.0.main.chat.web", "x")).await.unwrap();
    refused(&bus, &on(Storage::Memory), &["storage", "file", "memory", "backup", "more streams"]).await;
    assert_eq!(messages(&bus, "IN-0").await, 1);
    world.end().await;

    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&on(Storage::Memory)).await.unwrap();
    bus.ensure(&on(Storage::Memory)).await.unwrap();
    bus.publish(message("tl.v1.in.0.main.chat.web", "x")).await.unwrap();
    for name in on(Storage::Memory).stream_names() {
        assert_eq!(config(&bus, &name).await["storage"], json!("memory"), "{name}");
    }
    refused(&bus, &on(Storage::File), &["storage"]).await;
    world.end().await;
}

#[tokio::test]
async fn a_placement_is_told_and_taken_away() {
    let world = World::start().await;
    let bus = world.bus().await;
    let at = |placement| Topology::shaped(1, &["chat"], &Shape { placement, ..Shape::default() });
    let fast = Placement { cluster: None, tags: vec!["fast".to_owned()] };
    bus.ensure(&at(None)).await.unwrap();
    bus.ensure(&at(Some(fast.clone()))).await.unwrap();
    for name in at(None).stream_names() {
        assert_eq!(config(&bus, &name).await["placement"], json!({ "tags": ["fast"] }), "{name}");
    }
    // Who says nothing leaves it as it is.
    bus.ensure(&at(None)).await.unwrap();
    assert_eq!(config(&bus, "EVENTS").await["placement"], json!({ "tags": ["fast"] }));
    bus.ensure(&at(Some(Placement::default()))).await.unwrap();
    assert_eq!(config(&bus, "EVENTS").await["placement"], Value::Null);
    world.end().await;
}

#[tokio::test]
async fn what_operators_set_by_hand_stays() {
    let world = World::start().await;
    let bus = world.bus().await;
    let topology = Topology::throughline(1, 1, &[]);
    bus.ensure(&topology).await.unwrap();
    let mut by_hand = config(&bus, "EVENTS").await;
    by_hand["description"] = json!("ours");
    let subject = "$JS.API.STREAM.UPDATE.EVENTS".to_owned();
    let update = Publish { subject, payload: by_hand.to_string().into(), ..Publish::default() };
    bus.request(update, Duration::from_secs(5)).await.unwrap();
    let shape = Shape { events: throughline_bus::topology::Limits::default(), ..Shape::default() };
    bus.ensure(&Topology::shaped(1, &[], &shape)).await.unwrap();
    let config = config(&bus, "EVENTS").await;
    assert_eq!((&config["description"], config["max_age"].as_u64().unwrap_or_default()), (&json!("ours"), 0));
    world.end().await;
}
