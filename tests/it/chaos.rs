//! Three bus servers, two routers, a process of channels; chat and webhooks at once; and everything that can go wrong
//! between them, in an order that a seed repeats. Afterwards everything that was acknowledged is there once.
//!
//! `THROUGHLINE_CHAOS` says how many things happen (12 when left out; `make chaos` says 200), `THROUGHLINE_SEED` repeats
//! an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::Event;
use nix::sys::signal::Signal;
use throughline_tests::cluster::NAMES;
use throughline_tests::daemon::free_port;
use throughline_tests::{Cluster, Companion, Daemon, PATIENCE, http, until};

use crate::audit;
use crate::crash::{Dice, Load, policy};

const CUSTOMERS: usize = 12;
const STREAMS: [&str; 5] = ["JOURNAL-0", "IN-0", "EVENTS", "OUT", "KV_tl-ledger"];

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    RouterKilled(usize),
    RouterFrozen(usize, u64),
    RouterDrained(usize),
    ServerKilled(usize, u64),
    ServerFrozen(usize, u64),
    LeaderMoved(&'static str),
    ChannelsKilled,
}

impl Mishap {
    fn next(dice: &mut Dice) -> Self {
        let at = |dice: &mut Dice, count: usize| usize::try_from(dice.between(0, count as u64 - 1)).expect("few");
        match dice.between(0, 9) {
            0 | 1 => Self::RouterKilled(at(dice, 2)),
            2 => Self::RouterFrozen(at(dice, 2), dice.between(200, 3000)),
            3 => Self::RouterDrained(at(dice, 2)),
            4 | 5 => Self::ServerKilled(at(dice, NAMES.len()), dice.between(300, 3000)),
            6 => Self::ServerFrozen(at(dice, NAMES.len()), dice.between(200, 3000)),
            7 | 8 => Self::LeaderMoved(STREAMS[at(dice, STREAMS.len())]),
            _ => Self::ChannelsKilled,
        }
    }
}

/// A provider that posts each event up to three times, in parallel and out of order, until it is taken.
struct Provider {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeSet<String>>,
}

impl Provider {
    fn start(address: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut posts = tokio::task::JoinSet::new();
            let mut taken = BTreeSet::new();
            let mut count = 0_u32;
            while !stopped.load(Ordering::Relaxed) {
                for copy in 0..count % 3 + 1 {
                    let (address, id) = (address.clone(), format!("e{count}"));
                    let device = format!("device-{}", count % 7);
                    posts.spawn(async move {
                        tokio::time::sleep(Duration::from_millis(u64::from(copy) * 40)).await;
                        let body = format!(r#"{{"id":"{id}","from":"{device}","text":"event {id}"}}"#);
                        let limit = Duration::from_secs(10);
                        let said = http::request(&address, "POST", "/hook/webhook/devices", Some(&body), limit).await;
                        said.is_ok_and(|answer| answer.status == 200).then_some(id)
                    });
                }
                count += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            while let Some(post) = posts.join_next().await {
                taken.extend(post.expect("a post ends"));
            }
            taken
        });
        Self { stop, task }
    }

    async fn taken(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the provider lives")
    }
}

const DEVICES: &str = r#"
kind = "webhook"
account = "devices"
[settings]
[[settings.verify]]
scheme = "open"
[[settings.event]]
dedup_key = "/id"
external_id = "/id"
thread = "/from"
text = "/text"
sender = { identity = { scheme = "device", value = "/from" } }
"#;

async fn happen(what: Mishap, daemon: &mut Daemon, cluster: &mut Cluster, routers: &mut [Companion; 2]) {
    match what {
        Mishap::RouterKilled(at) => {
            routers[at].kill9();
            routers[at] = daemon.companion(&["router"]);
        }
        Mishap::RouterFrozen(at, ms) => {
            routers[at].signal(Signal::SIGSTOP);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            routers[at].signal(Signal::SIGCONT);
        }
        Mishap::RouterDrained(at) => {
            routers[at].up().await;
            assert!(routers[at].terminate().await.success());
            routers[at] = daemon.companion(&["router"]);
        }
        Mishap::ServerKilled(at, ms) => {
            cluster.kill9(at);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            cluster.run(at);
            cluster.ready(daemon).await;
        }
        Mishap::ServerFrozen(at, ms) => {
            cluster.signal(at, Signal::SIGSTOP);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            cluster.signal(at, Signal::SIGCONT);
        }
        Mishap::LeaderMoved(stream) => {
            let bus = until(PATIENCE, "the bus", async || daemon.try_connect("router").await).await;
            // There may be no leader just now: then it moves by itself.
            let _ = bus.step_down(stream).await;
        }
        Mishap::ChannelsKilled => daemon.restart().await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_over_a_cluster_loses_and_doubles_nothing() {
    let count = std::env::var("THROUGHLINE_CHAOS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let mut dice = Dice::new();
    let hook = free_port();
    let mut daemon = Daemon::builder()
        .policy(&policy())
        .account("devices", DEVICES)
        .set("webhook.listen", format!("\"127.0.0.1:{hook}\""))
        .set("router.checkpoint_every_records", 1_000_000_000_u64)
        .set("router.checkpoint_every_ms", 86_400_000_u64)
        .set("log.filter", "\"warn\"")
        .with_only(&["channels", "wall"])
        .on_a_cluster()
        .prepare();
    let mut cluster = Cluster::start(&daemon).await;
    let mut routers = [daemon.companion(&["router"]), daemon.companion(&["router"])];
    routers[0].up().await;
    daemon.start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let provider = Provider::start(format!("127.0.0.1:{hook}"));
    for n in 0..count {
        tokio::time::sleep(dice.pause(200, 1500)).await;
        let what = Mishap::next(&mut dice);
        println!("{n}: {what:?}");
        happen(what, &mut daemon, &mut cluster, &mut routers).await;
    }
    cluster.ready(&daemon).await;
    let taken = provider.taken().await;
    let (clients, tools) = load.settle().await;
    audit::quiet(&daemon).await;
    let (seq, live) = audit::live_digest(&daemon).await;
    let journal = daemon.journal(audit::SHARD).await;
    let journal: Vec<_> = journal.into_iter().filter(|record| record.seq <= seq).collect();
    let events = daemon.events("main").await;
    let events: Vec<_> = events.into_iter().filter(|record| record.position.seq <= seq).collect();
    let (stored, said) = audit::nothing_lost_or_doubled(&events, &clients, &tools);
    audit::rest_is_exact(&journal, &events, &live);
    let mut posted: BTreeMap<String, usize> = BTreeMap::new();
    for record in &events {
        if let Event::MessageReceived { envelope, .. } = &*record.event
            && envelope.account.kind.as_str() == "webhook"
        {
            *posted.entry(envelope.external_id.as_deref().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    let lost: Vec<_> = taken.iter().filter(|id| !posted.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged to the provider and not there: {lost:?}");
    assert!(posted.values().all(|times| *times == 1), "{posted:?}");
    assert!(taken.len() > count, "the provider got hardly anything through: {}", taken.len());
    println!("{stored} messages, {said} answers, {} webhook events: all there, once, in order", taken.len());
}
