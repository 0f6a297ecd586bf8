//! Three bus servers, two routers, a process of channels; chat and webhooks at once; and everything that can go wrong
//! between them, in an order that a seed repeats. Afterwards everything that was acknowledged is there once.
//!
//! `THROUGHLINE_CHAOS` says how many things happen (16 when left out; `make chaos` says 200), `THROUGHLINE_SEED` repeats
//! an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::Event;
use nix::sys::signal::Signal;
use throughline_tests::cluster::NAMES;
use throughline_tests::daemon::{Builder, free_port};
use throughline_tests::{Clock, Cluster, Companion, Daemon, Disk, PATIENCE, Wires, http, until};

use crate::audit;
use crate::crash::{Dice, Load, keeping_all};

const CUSTOMERS: usize = 12;
const STREAMS: [&str; 5] = ["JOURNAL-0", "IN-0", "EVENTS", "OUT", "KV_tl-ledger"];

/// The server whose store lies on a small disk, where there may be one.
const SMALL: usize = 2;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    RouterKilled(usize),
    RouterFrozen(usize, u64),
    RouterDrained(usize),
    ServerKilled(usize, u64),
    ServerFrozen(usize, u64),
    /// From the other servers, for so many milliseconds; whether connections are hung up on at the end.
    ServerCutOff(usize, u64, bool),
    /// The program from a server.
    ProgramCutOff(usize, u64, bool),
    /// A router's clock goes wrong by so many seconds, for so many milliseconds.
    ClockJumped(usize, i64, u64),
    /// A server's disk is full for so many milliseconds; then there is room, and the server is started anew, since it
    /// stores nothing before that.
    DiskFull(u64),
    LeaderMoved(&'static str),
    ChannelsKilled,
}

impl Mishap {
    fn next(dice: &mut Dice) -> Self {
        let at = |dice: &mut Dice, count: usize| usize::try_from(dice.between(0, count as u64 - 1)).expect("few");
        match dice.between(0, 15) {
            0 | 1 => Self::RouterKilled(at(dice, 2)),
            2 => Self::RouterFrozen(at(dice, 2), dice.between(200, 3000)),
            3 => Self::RouterDrained(at(dice, 2)),
            4 | 5 => Self::ServerKilled(at(dice, NAMES.len()), dice.between(300, 3000)),
            6 => Self::ServerFrozen(at(dice, NAMES.len()), dice.between(200, 3000)),
            7 | 8 => Self::LeaderMoved(STREAMS[at(dice, STREAMS.len())]),
            9 | 10 => Self::ServerCutOff(at(dice, NAMES.len()), dice.between(200, 8000), dice.between(0, 1) == 1),
            11 => Self::ProgramCutOff(at(dice, NAMES.len()), dice.between(200, 8000), dice.between(0, 1) == 1),
            12 | 13 => {
                let by = [-86_400, -3_600, -5, 5, 3_600, 86_400][at(dice, 6)];
                Self::ClockJumped(at(dice, 2), by, dice.between(200, 3000))
            }
            14 => Self::DiskFull(dice.between(500, 4000)),
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

/// Everything that something happens to.
struct World {
    daemon: Daemon,
    cluster: Cluster,
    wires: Wires,
    disk: Option<Disk>,
    clocks: [Clock; 2],
    routers: [Companion; 2],
}

impl World {
    async fn start(hook: u16) -> Self {
        let wires = Wires::lay().await;
        let mut daemon = builder(hook).with_only(&["channels", "wall"]).on_wires(&wires).prepare();
        let disk = Disk::on(&daemon.cluster_dir().join("store").join(NAMES[SMALL]), 256);
        let cluster = Cluster::start_on(&daemon, Some(&wires)).await;
        assert!(wires.in_use(), "the servers found each other by other ways");
        let clocks = [0, 1].map(|at| Clock::new(&daemon.folder().join(format!("clock-{at}"))));
        let routers = [0, 1].map(|at: usize| daemon.companion_in(&["router"], &clocks[at].env()));
        routers[0].up().await;
        daemon.start().await;
        Self { daemon, cluster, wires, disk, clocks, routers }
    }

    fn another_router(&mut self, at: usize) {
        self.routers[at] = self.daemon.companion_in(&["router"], &self.clocks[at].env());
    }

    async fn another_server(&mut self, at: usize, after: u64) {
        self.cluster.kill9(at);
        tokio::time::sleep(Duration::from_millis(after)).await;
        self.cluster.run(at);
        self.cluster.ready(&self.daemon).await;
    }

    async fn happen(&mut self, what: Mishap) {
        let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
        match what {
            Mishap::RouterKilled(at) => {
                self.routers[at].kill9();
                self.another_router(at);
            }
            Mishap::RouterFrozen(at, ms) => {
                self.routers[at].signal(Signal::SIGSTOP);
                pause(ms).await;
                self.routers[at].signal(Signal::SIGCONT);
            }
            Mishap::RouterDrained(at) => {
                self.routers[at].up().await;
                assert!(self.routers[at].terminate().await.success());
                self.another_router(at);
            }
            Mishap::ServerKilled(at, ms) => self.another_server(at, ms).await,
            Mishap::ServerFrozen(at, ms) => {
                self.cluster.signal(at, Signal::SIGSTOP);
                pause(ms).await;
                self.cluster.signal(at, Signal::SIGCONT);
            }
            Mishap::ServerCutOff(at, ms, hang_up) => {
                self.wires.cut_off(at);
                pause(ms).await;
                self.wires.mend(at, hang_up);
            }
            Mishap::ProgramCutOff(at, ms, hang_up) => {
                self.wires.cut_clients_off(at);
                pause(ms).await;
                self.wires.mend(at, hang_up);
            }
            Mishap::ClockJumped(at, seconds, ms) => {
                self.clocks[at].set(seconds);
                pause(ms).await;
                self.clocks[at].set(0);
            }
            Mishap::DiskFull(ms) => {
                if let Some(disk) = &self.disk {
                    disk.fill();
                    pause(ms).await;
                    disk.clear();
                }
                self.another_server(SMALL, 300).await;
            }
            Mishap::LeaderMoved(stream) => {
                let bus = until(PATIENCE, "the bus", async || self.daemon.try_connect("router").await).await;
                // There may be no leader just now: then it moves by itself.
                let _ = bus.step_down(stream).await;
            }
            Mishap::ChannelsKilled => self.daemon.restart().await,
        }
    }
}

fn builder(hook: u16) -> Builder {
    keeping_all().account("devices", DEVICES).set("webhook.listen", format!("\"127.0.0.1:{hook}\""))
}

/// Everything that was acknowledged to customers, agents and the provider is there, once, in order, and the journal means
/// the live state. Returns how much the provider got through.
async fn audit_all(daemon: &Daemon, load: Load, provider: Provider) -> usize {
    let taken = provider.taken().await;
    let (clients, tools) = load.settle().await;
    audit::quiet(daemon).await;
    let (seq, live) = audit::live_digest(daemon).await;
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
    println!("{stored} messages, {said} answers, {} webhook events: all there, once, in order", taken.len());
    taken.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_over_a_cluster_loses_and_doubles_nothing() {
    let count = std::env::var("THROUGHLINE_CHAOS").ok().and_then(|count| count.parse().ok()).unwrap_or(16);
    let mut dice = Dice::new();
    let hook = free_port();
    let mut world = World::start(hook).await;
    let load = Load::start(&world.daemon, CUSTOMERS).await;
    let provider = Provider::start(format!("127.0.0.1:{hook}"));
    for n in 0..count {
        tokio::time::sleep(dice.pause(200, 1500)).await;
        let what = Mishap::next(&mut dice);
        println!("{n}: {what:?}");
        world.happen(what).await;
    }
    world.cluster.ready(&world.daemon).await;
    let taken = audit_all(&world.daemon, load, provider).await;
    assert!(taken > count, "the provider got hardly anything through: {taken}");
}

/// On one machine with a server of our own: while its disk is full nothing is acknowledged, and everybody is told; once
/// there is room it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_full_disk_is_told_and_room_lets_it_go_on() {
    let hook = free_port();
    let mut daemon = builder(hook).prepare();
    let Some(disk) = Disk::on(&daemon.data_dir(), 256) else { return };
    daemon.start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let address = format!("127.0.0.1:{hook}");
    let provider = Provider::start(address.clone());
    let post = async |id: &str| {
        let body = format!(r#"{{"id":"{id}","from":"device-x","text":"event {id}"}}"#);
        let limit = Duration::from_secs(20);
        http::request(&address, "POST", "/hook/webhook/devices", Some(&body), limit).await.ok()
    };
    for round in 0..2 {
        let before = load.answers();
        until(PATIENCE, "answers", async || (load.answers() > before).then_some(())).await;
        disk.fill();
        let refused = until(PATIENCE, "a webhook that is not taken", async || {
            disk.fill();
            post(&format!("while full {round}")).await.filter(|answer| answer.status == 503)
        })
        .await;
        assert!(refused.head.to_lowercase().contains("retry-after"), "{}", refused.head);
        let standing = async || http::get(&daemon.http(), "/readyz").await.ok().filter(|answer| answer.status == 503);
        let said = until(PATIENCE, "the disk in the readiness", async || {
            standing().await.filter(|answer| answer.body.contains("the bus cannot store"))
        })
        .await;
        assert!(said.body.contains("no space left on device"), "{}", said.body);
        let metrics = http::get(&daemon.http(), "/metrics").await.expect("the metrics").body;
        assert!(metrics.contains("\nbus_disk_free_bytes 0"), "{metrics}");
        disk.clear();
        daemon.ready().await;
        let taken = until(PATIENCE, "a webhook that is taken", async || post(&format!("after {round}")).await).await;
        assert_eq!(taken.status, 200, "{}", taken.body);
    }
    audit_all(&daemon, load, provider).await;
}
