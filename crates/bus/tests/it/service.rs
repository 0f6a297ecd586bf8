//! Services: found by discovery, and heard by every instance.

use std::time::Duration;

use throughline_bus::{Bus, Publish, Requests, Service};

use crate::support::{World, message, soon};

async fn service(bus: &Bus) -> Requests {
    let endpoints = vec![
        ("agent".to_owned(), "tl.v1.cmd.*.agent.*.*.*".to_owned()),
        ("admin".to_owned(), "tl.v1.cmd.*.admin.*.*".to_owned()),
    ];
    let description = "takes commands".to_owned();
    bus.service(Service { name: "throughline".into(), version: "0.1.0".into(), description, endpoints }).await.unwrap()
}

#[tokio::test]
async fn every_instance_hears_every_request_and_is_found() {
    let world = World::start().await;
    let (bus, second) = (world.bus().await, world.bus().await);
    let mut owner = service(&bus).await;
    let mut other = service(&second).await;
    let anna = world.bus_of("agent-main-anna").await;
    let command = message("tl.v1.cmd.main.agent.anna.offer.accept", "o1");
    let asked = tokio::spawn(async move { anna.request(command, Duration::from_secs(5)).await });
    let heard = soon(other.next()).await.unwrap();
    assert_eq!(heard.subject, "tl.v1.cmd.main.agent.anna.offer.accept");
    let request = soon(owner.next()).await.unwrap();
    bus.send(Publish { subject: request.reply.unwrap(), payload: "yes".into(), ..Publish::default() }).await.unwrap();
    assert_eq!(&asked.await.unwrap().unwrap().payload[..], b"yes");

    // Discovery, as `nats micro ls`, `info` and `stats` ask.
    let admin = world.bus_of("admin").await;
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.throughline")] {
            let answer = admin.request(message(&subject, ""), Duration::from_secs(2)).await.unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!(answer["name"], "throughline");
            if verb != "PING" {
                assert_eq!(answer["endpoints"][0]["subject"], "tl.v1.cmd.*.agent.*.*.*");
            }
            if verb == "STATS" {
                assert_eq!(answer["endpoints"][0]["num_requests"], 1);
            }
        }
    }
    // Both answer a ping that everybody may answer.
    let mut answers = admin.subscribe("_INBOX_admin.all").await.unwrap();
    let ask = bus_ping(&admin).await;
    let mut ids = std::collections::BTreeSet::new();
    while ids.len() < 2 {
        let answer = soon(answers.next()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        ids.insert(answer["id"].as_str().unwrap().to_owned());
    }
    drop(ask);
    world.end().await;
}

/// A ping whose answers go to a subject of our own; the crate's requests take one answer only.
async fn bus_ping(bus: &Bus) -> Bus {
    let ping = Publish { subject: "$SRV.PING".into(), ..Publish::default() };
    bus.send_with_reply(ping, "_INBOX_admin.all").await.unwrap();
    bus.clone()
}
