//! The whole path: an envelope accepted by the adapter's SDK → the message in its agent's feed, through a
//! real daemon and a real server; as a ratio to a bare loop in the same run that only publishes the same
//! bytes to JetStream with a dedup id and awaits the acknowledgements.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapter::Inbound;
use bus::{Bus, Publish, Retention, Stream, Topology};
use contract::command::{AgentCommand, AgentQuery};
use contract::event::Presence;
use contract::feed::{FeedItem, Sync};
use contract::{AccountId, AgentId, ChannelKind, Encoding, Envelope, Event, TenantId, subject};
use desk::tool::Commander;
use futures_util::StreamExt;
use throughline_tests::{Cluster, Daemon};

use crate::cpu::Cpu;

const AGENTS: usize = 50;
const CUSTOMERS: usize = 1000;
/// The stream that the bare loop publishes to.
const BARE: &str = "BENCH";

struct World {
    daemon: Daemon,
    /// Three servers instead of one of its own.
    cluster: Option<Cluster>,
    adapter: Bus,
    router: Bus,
    inbound: Inbound,
    tenant: TenantId,
    /// When each message was handed in, by its dedup key, and what became of it.
    pending: Arc<Mutex<HashMap<String, Instant>>>,
    arrived: Arc<tokio::sync::Semaphore>,
    latencies: Arc<Mutex<Vec<Latency>>>,
    /// Each message is a record of its own.
    single: AtomicBool,
    /// Handed in → stored in `IN`.
    stored: Mutex<Vec<Duration>>,
}

/// One message's way.
#[derive(Clone, Copy)]
struct Latency {
    /// Handed in → in the agent's feed.
    whole: Duration,
    /// Handed in → decided by the router, to the millisecond.
    decided: Duration,
}

pub(crate) fn envelope(tenant: &TenantId, customer: usize, key: String) -> Envelope {
    let visitor = format!("visitor-{customer:04}");
    serde_json::from_value(serde_json::json!({
        "v": 1, "kind": "message", "tenant": tenant, "account": { "kind": "chat", "id": "web" }, "dedup_key": key,
        "thread": { "key": visitor },
        "sender": { "identity": { "scheme": "visitor", "value": visitor, "scope": "account", "scope_id": "web", "assurance": "verified" }, "display": "Ann" },
        "sender_auth": { "level": "unverified" }, "received_at": runtime::clock::now(),
        "content": [{ "type": "text", "body": "Good morning, my parcel has not come yet; could you have a look where it is, please? ".repeat(3) }],
    }))
    .expect("a valid envelope")
}

impl World {
    async fn start(sync_interval: &str, replicas: u8) -> Self {
        let agents: String =
            (0..AGENTS).map(|n| format!("[agents.a{n:02}]\nqueues = [\"support\"]\ncapacity = 100000\n")).collect();
        let policy = format!(
            "default_queue = \"support\"\n[queues.support]\n[channels.chat]\ncapacity_weight = 25\n[timing]\nagent_silence_ms = 600000\n{agents}"
        );
        let builder = Daemon::builder()
            .policy(&policy)
            .set("bus.sync_interval", format!("\"{sync_interval}\""))
            .set("log.filter", "\"warn\"");
        let builder = if replicas > 1 { builder.on_a_cluster() } else { builder };
        let mut daemon = builder.prepare();
        let cluster = if replicas > 1 { Some(Cluster::start(&daemon).await) } else { None };
        daemon.start().await;
        let adapter = daemon.connect("adapter-chat").await;
        let router = daemon.connect("router").await;
        let tenant = TenantId::new("main").expect("a name");
        let (kind, account) = (ChannelKind::new("chat").expect("a name"), AccountId::new("web").expect("a name"));
        let inbound = Inbound::over(adapter.clone(), 8, tenant.clone(), kind, account);
        let world = Self {
            daemon,
            cluster,
            adapter,
            router,
            inbound,
            tenant,
            pending: Arc::default(),
            arrived: Arc::new(tokio::sync::Semaphore::new(0)),
            latencies: Arc::default(),
            single: AtomicBool::new(false),
            stored: Mutex::default(),
        };
        world.sign_in().await;
        world.listen().await;
        world
    }

    /// Fifty agents, each accepting whatever it is offered.
    async fn sign_in(&self) {
        for n in 0..AGENTS {
            let agent = AgentId::new(format!("a{n:02}")).expect("a name");
            let commander = Commander::new(self.router.clone(), self.tenant.clone(), agent.clone());
            let mut feed = self
                .router
                .subscribe(&format!("{}.offer.created", subject::feed_all(&self.tenant, &agent).trim_end_matches(".>")))
                .await
                .expect("a subscription");
            commander.query::<Sync>(&AgentQuery::FeedSync { since: None }).await.expect("an answer");
            let available = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
            commander.command(&available).await.expect("signed in");
            tokio::spawn(async move {
                while let Some(message) = feed.next().await {
                    let item: FeedItem = Encoding::MsgPack.decode(&message.payload, 1 << 20).expect("an item");
                    if let Event::OfferCreated { offer, .. } = &*item.record.event {
                        let commander = commander.clone();
                        let offer = *offer;
                        tokio::spawn(async move { commander.command(&AgentCommand::OfferAccept { offer }).await });
                    }
                }
            });
        }
    }

    /// One subscription for all feeds: what arrives is what agents have.
    async fn listen(&self) {
        let mut feed = self.router.subscribe("tl.v1.agent.main.*.message.received").await.expect("a subscription");
        let (pending, arrived, latencies) =
            (Arc::clone(&self.pending), Arc::clone(&self.arrived), Arc::clone(&self.latencies));
        tokio::spawn(async move {
            while let Some(message) = feed.next().await {
                let item: FeedItem = Encoding::MsgPack.decode(&message.payload, 1 << 20).expect("an item");
                let Event::MessageReceived { envelope, .. } = &*item.record.event else { continue };
                let sent = pending.lock().expect("lock").remove(envelope.dedup_key.as_str());
                if let Some(sent) = sent {
                    let decided = Duration::from_millis(item.record.at.0.saturating_sub(envelope.received_at.0));
                    latencies.lock().expect("lock").push(Latency { whole: sent.elapsed(), decided });
                    arrived.add_permits(1);
                }
            }
        });
    }

    async fn accept(&self, customer: usize, key: String) {
        let envelope = envelope(&self.tenant, customer, key.clone());
        self.pending.lock().expect("lock").insert(key.clone(), Instant::now());
        let began = Instant::now();
        if self.single.load(Ordering::Relaxed) {
            self.router.publish(self.alone(&envelope, key)).await.expect("stored");
        } else {
            self.inbound.accept(&envelope).await.expect("accepted");
        }
        self.stored.lock().expect("lock").push(began.elapsed());
    }

    /// A record with one message, as an adapter writes it that does without the SDK.
    fn alone(&self, envelope: &Envelope, key: String) -> Publish {
        Publish {
            subject: subject::inbound(
                contract::shard::of(&self.tenant, 8),
                &self.tenant,
                &envelope.account.kind,
                &envelope.account.id,
            ),
            payload: Encoding::MsgPack.encode(envelope).expect("encoded").into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            msg_id: Some(key),
            ..Publish::default()
        }
    }

    /// Every customer has a conversation, and it is with an agent.
    async fn open(&self) {
        let opening = (0..CUSTOMERS).map(|customer| {
            let envelope = envelope(&self.tenant, customer, format!("open/{customer}"));
            async move { self.inbound.accept(&envelope).await.expect("accepted") }
        });
        futures_util::stream::iter(opening).buffer_unordered(64).collect::<Vec<_>>().await;
        throughline_tests::until(Duration::from_secs(60), "every conversation to be with an agent", || async {
            let status = self.daemon.cli(&["status", "--json"]).await.json();
            (status["value"]["counts"]["conversations"]["active"] == CUSTOMERS).then_some(())
        })
        .await;
    }

    /// As fast as it goes, one message of each customer in flight. Returns messages per second.
    async fn saturate(&self, count: usize, round: &str) -> f64 {
        let began = Instant::now();
        let each = count / CUSTOMERS;
        let customers = (0..CUSTOMERS).map(|customer| async move {
            for n in 0..each {
                self.accept(customer, format!("{round}/{customer}/{n}")).await;
            }
        });
        futures_util::future::join_all(customers).await;
        let wanted = u32::try_from(each * CUSTOMERS).expect("a count");
        let all = tokio::time::timeout(Duration::from_secs(120), self.arrived.acquire_many(wanted)).await;
        all.expect("every message arrives in time").expect("open").forget();
        f64::from(wanted) / began.elapsed().as_secs_f64()
    }

    /// At a steady rate.
    async fn steady(&self, rate: f64, seconds: u64, round: &str) -> Vec<Latency> {
        self.latencies.lock().expect("lock").clear();
        self.stored.lock().expect("lock").clear();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of messages")]
        let count = (rate * seconds as f64) as usize;
        let began = tokio::time::Instant::now();
        let mut flying = futures_util::stream::FuturesUnordered::new();
        for n in 0..count {
            let due = began + Duration::from_secs_f64(n as f64 / rate);
            // Open loop: what is due is sent whether or not the earlier ones are through.
            while tokio::time::timeout_at(due, flying.next()).await.is_ok_and(|done: Option<()>| done.is_some()) {}
            tokio::time::sleep_until(due).await;
            flying.push(self.accept(n % CUSTOMERS, format!("{round}/{n}")));
        }
        while flying.next().await.is_some() {}
        let wanted = u32::try_from(count).expect("a count");
        let all = tokio::time::timeout(Duration::from_secs(60), self.arrived.acquire_many(wanted)).await;
        all.expect("every message arrives in time").expect("open").forget();
        std::mem::take(&mut *self.latencies.lock().expect("lock"))
    }

    async fn bare_stream(&self) {
        let stream = Stream {
            name: BARE.to_owned(),
            subjects: vec!["bench.>".to_owned()],
            retention: Retention::Limits,
            full_refuses: true,
            bytes_max: None,
            age_max: None,
            message_bytes_max: None,
            duplicate_window: Duration::from_secs(120),
            replicas: if self.cluster.is_some() { 3 } else { 1 },
        };
        let topology = Topology { streams: vec![stream], ..Topology::default() };
        self.router.ensure(&topology).await.expect("a stream");
    }

    fn bare_publish(&self, n: usize, round: &str) -> Publish {
        let key = format!("{round}/{n}");
        let envelope = envelope(&self.tenant, n % CUSTOMERS, key.clone());
        Publish {
            subject: "bench.in".to_owned(),
            payload: Encoding::MsgPack.encode(&envelope).expect("encoded").into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            msg_id: Some(key),
            ..Publish::default()
        }
    }

    /// The same bytes, only published, `window` at a time. Returns messages per second.
    async fn bare(&self, count: usize, window: usize, round: &str) -> f64 {
        let began = Instant::now();
        let publishes = (0..count).map(|n| {
            let publish = self.bare_publish(n, round);
            async move { self.router.publish(publish).await.expect("stored") }
        });
        futures_util::stream::iter(publishes).buffer_unordered(window).for_each(|_| std::future::ready(())).await;
        count as f64 / began.elapsed().as_secs_f64()
    }

    /// The same bytes, only published, at a steady rate.
    async fn bare_steady(&self, rate: f64, seconds: u64) -> Vec<Duration> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of messages")]
        let count = (rate * seconds as f64) as usize;
        let began = tokio::time::Instant::now();
        let mut flying = futures_util::stream::FuturesUnordered::new();
        let mut latencies = Vec::with_capacity(count);
        for n in 0..count {
            let due = began + Duration::from_secs_f64(n as f64 / rate);
            while let Ok(Some(latency)) = tokio::time::timeout_at(due, flying.next()).await {
                latencies.push(latency);
            }
            tokio::time::sleep_until(due).await;
            let publish = self.bare_publish(n, "steady");
            flying.push(async move {
                let sent = Instant::now();
                self.router.publish(publish).await.expect("stored");
                sent.elapsed()
            });
        }
        while let Some(latency) = flying.next().await {
            latencies.push(latency);
        }
        latencies.sort_unstable();
        latencies
    }
}

pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Runs it for one setting of the server's `sync_interval`.
pub async fn run(sync_interval: &str, replicas: u8, quick: bool) {
    let world = World::start(sync_interval, replicas).await;
    let name = format!("sync_interval {sync_interval}, {replicas} server{}", if replicas > 1 { "s" } else { "" });
    world.bare_stream().await;
    world.open().await;
    let count = if quick { 20_000 } else { 60_000 };
    let bare_count = if sync_interval == "always" { count / 4 } else { count };
    // Warm up both, then alternate, so that a noisy minute hits both.
    world.bare(bare_count / 10, 256, "warm").await;
    let rounds = if quick { 1 } else { 3 };
    let (mut bare_rates, mut path_rates, mut single_rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut spent = None;
    for round in 0..rounds {
        bare_rates.push(world.bare(bare_count, 256, &format!("bare{round}")).await);
        let before = Cpu::of(&world.daemon);
        path_rates.push(world.saturate(count, &format!("s{round}")).await);
        spent = Some(Cpu::of(&world.daemon).since(&before, count));
        world.single.store(true, Ordering::Relaxed);
        single_rates.push(world.saturate(count / 2, &format!("alone{round}")).await);
        world.single.store(false, Ordering::Relaxed);
    }
    bare_rates.sort_by(f64::total_cmp);
    path_rates.sort_by(f64::total_cmp);
    single_rates.sort_by(f64::total_cmp);
    let (bare, path) = (bare_rates[rounds / 2], path_rates[rounds / 2]);
    println!("{name}: bare loop (window 256, dedup ids)   {bare:>9.0} msg/s");
    println!("{name}: accepted -> in the agent's feed    {path:>9.0} msg/s   ratio {:.2} (target 1.5)", path / bare);
    let single = single_rates[rounds / 2];
    println!(
        "{name}: the same, one message a record     {single:>9.0} msg/s   ratio {:.2} (target 0.6)",
        single / bare
    );
    if let Some(spent) = spent {
        println!("{name}: CPU per message: {spent}");
    }
    // What both can do: the bare loop syncs every message, the path many at once.
    let rate = path.min(bare) / 2.0;
    let seconds = if quick { 5 } else { 10 };
    let latencies = world.steady(rate, seconds, "half").await;
    let sorted = |of: fn(&Latency) -> Duration| {
        let mut spans: Vec<Duration> = latencies.iter().map(of).collect();
        spans.sort_unstable();
        spans
    };
    let (ours, decided) = (sorted(|it| it.whole), sorted(|it| it.decided));
    let mut stored = std::mem::take(&mut *world.stored.lock().expect("lock"));
    stored.sort_unstable();
    let after = sorted(|it| it.whole.saturating_sub(it.decided));
    let theirs = world.bare_steady(rate, seconds).await;
    println!(
        "{name}: at half load ({rate:.0} msg/s): path p50 {:.2} ms p99 {:.2} ms; bare publish p50 {:.2} ms p99 {:.2} ms; ratio of p99 {:.2} (target under 5)",
        milliseconds(percentile(&ours, 0.5)),
        milliseconds(percentile(&ours, 0.99)),
        milliseconds(percentile(&theirs, 0.5)),
        milliseconds(percentile(&theirs, 0.99)),
        percentile(&ours, 0.99).as_secs_f64() / percentile(&theirs, 0.99).as_secs_f64(),
    );
    println!("{name}: p99.9 at half load {:.2} ms", milliseconds(percentile(&ours, 0.999)));
    println!(
        "{name}: of which until stored p50 {:.2} ms p99 {:.2} ms, until decided p50 {:.0} ms p99 {:.0} ms, from there to the feed p50 {:.0} ms p99 {:.0} ms",
        milliseconds(percentile(&stored, 0.5)),
        milliseconds(percentile(&stored, 0.99)),
        milliseconds(percentile(&decided, 0.5)),
        milliseconds(percentile(&decided, 0.99)),
        milliseconds(percentile(&after, 0.5)),
        milliseconds(percentile(&after, 0.99)),
    );
    for share in [0.25, 0.75] {
        let rate = path.min(bare) * share;
        let mut spans: Vec<Duration> =
            world.steady(rate, seconds, &format!("at{share}")).await.iter().map(|it| it.whole).collect();
        spans.sort_unstable();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| milliseconds(percentile(&spans, share)));
        println!("{name}: at {share} of that ({rate:.0} msg/s): p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms");
    }
    drop(world.adapter);
}
