//! Two routers: the owner of a shard is killed or frozen, another takes over, nothing is doubled.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use throughline_tests::{Companion, Daemon, PATIENCE, until};

use crate::audit;
use crate::crash::{Load, policy};

const CUSTOMERS: usize = 20;

async fn owner(daemon: &Daemon) -> Option<(String, u64)> {
    let output = daemon.cli(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
    let shard = &status["value"]["shard"];
    Some((shard["owner"].as_str()?.to_owned(), shard["epoch"].as_u64()?))
}

async fn owned_by_another(daemon: &Daemon, before: &str) -> String {
    let what = format!("another owner than {before}");
    until(PATIENCE, &what, || async { owner(daemon).await.map(|(owner, _)| owner).filter(|owner| owner != before) })
        .await
}

fn is(companion: &Companion, owner: &str) -> bool {
    owner.ends_with(&format!("-{}", companion.pid()))
}

/// The longest time between two records of the journal around a moment.
async fn longest_pause(daemon: &Daemon, around_ms: u64) -> u64 {
    let journal = daemon.journal(audit::SHARD).await;
    let near = journal.windows(2).filter(|pair| pair[1].at_ms >= around_ms && pair[0].at_ms <= around_ms + 3000);
    near.map(|pair| pair[1].at_ms - pair[0].at_ms).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn takeover_from_a_killed_or_frozen_router_doubles_nothing() {
    let daemon = Daemon::builder()
        .policy(&policy())
        .set("router.checkpoint_every_records", 1_000_000_000_u64)
        .set("router.checkpoint_every_ms", 86_400_000_u64)
        .with_only(&["bus", "channels", "wall"]);
    let daemon = daemon.start().await;
    let mut routers = vec![daemon.companion(&["router"]), daemon.companion(&["router"])];
    for router in &routers {
        router.up().await;
    }
    let load = Load::start(&daemon, CUSTOMERS).await;
    let (mut pauses_killed, mut pauses_frozen) = (Vec::new(), Vec::new());

    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let (before, _) = owner(&daemon).await.expect("an owner");
        let at = routers.iter().position(|router| is(router, &before)).expect("one of ours owns the shard");
        let (when, began) = (runtime::clock::now(), Instant::now());
        routers[at].kill9();
        owned_by_another(&daemon, &before).await;
        println!("killed: another owner answers after {:?}", began.elapsed());
        pauses_killed.push(when);
        routers[at] = daemon.companion(&["router"]);
        routers[at].up().await;
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let (before, _) = owner(&daemon).await.expect("an owner");
        let at = routers.iter().position(|router| is(router, &before)).expect("one of ours owns the shard");
        let (when, began) = (runtime::clock::now(), Instant::now());
        routers[at].signal(Signal::SIGSTOP);
        owned_by_another(&daemon, &before).await;
        println!("frozen: another owner answers after {:?}", began.elapsed());
        pauses_frozen.push(when);
        tokio::time::sleep(Duration::from_millis(500)).await;
        // It wakes with a head full of yesterday, and tries to write it.
        routers[at].signal(Signal::SIGCONT);
        let log = || async { routers[at].log().contains("another process leads the shard").then_some(()) };
        until(PATIENCE, "the frozen router to be told that it is deposed", log).await;
    }
    for (what, moments) in [("killed", pauses_killed), ("frozen", pauses_frozen)] {
        let mut pauses = Vec::new();
        for moment in moments {
            pauses.push(longest_pause(&daemon, moment).await);
        }
        println!("{what}: the journal paused for {pauses:?} ms");
    }

    let (clients, tools) = load.settle().await;
    audit::quiet(&daemon).await;
    let (seq, live) = audit::live_digest(&daemon).await;
    let journal = daemon.journal(audit::SHARD).await;
    let journal: Vec<_> = journal.into_iter().filter(|record| record.seq <= seq).collect();
    let events = daemon.events("main").await;
    let events: Vec<_> = events.into_iter().filter(|record| record.position.seq <= seq).collect();
    audit::nothing_lost_or_doubled(&events, &clients, &tools);
    audit::transcript_is_exact(&journal, &events);
    assert_eq!(router::digest(&audit::replay(&journal)), live);
}
