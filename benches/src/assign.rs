//! From a customer's first message to the agent who has the conversation: with few agents and with many, with one tenant
//! and with many, and how fast a backlog goes when the agents come.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use adapter::Inbound;
use bus::{Bus, Publish, Retention, Stream, Topology};
use contract::command::AgentCommand;
use contract::event::Presence;
use contract::feed::FeedItem;
use contract::{AccountId, AgentId, ChannelKind, Encoding, Event, TenantId};
use desk::tool::Commander;
use futures_util::StreamExt;
use throughline_tests::{Daemon, http};
use tokio::sync::Semaphore;

use crate::cpu::Cpu;

/// New conversations in a second.
const RATE: f64 = 1000.0;
/// How long an agent works on a conversation of the backlog.
const WORK: Duration = Duration::from_millis(200);

/// Agents who are given what comes without being asked.
fn policy(agents: usize, capacity: u32) -> String {
    let agents: String = (0..agents)
        .map(|n| format!("[agents.a{n:04}]\nqueues = [\"q\"]\ncapacity = {capacity}\nauto_accept = true\n"))
        .collect();
    format!(
        "default_queue = \"q\"\n[queues.q]\n[channels.chat]\ncapacity_weight = 25\nauto_accept = true\n\
         [timing]\nagent_silence_ms = 600000\nwrap_up_ms = 0\n{agents}"
    )
}

struct World {
    daemon: Daemon,
    bus: Bus,
    doors: Vec<Inbound>,
    tenants: Vec<TenantId>,
    pending: Arc<Mutex<HashMap<String, Instant>>>,
    latencies: Arc<Mutex<Vec<Duration>>>,
    assigned: Arc<Semaphore>,
}

impl World {
    async fn start(sync_interval: &str, tenants: usize, agents: usize, capacity: u32) -> Self {
        let text = policy(agents, capacity);
        let daemon = Daemon::builder()
            .policy(&text)
            .set("bus.sync_interval", format!("\"{sync_interval}\""))
            .set("log.filter", "\"warn\"")
            .start()
            .await;
        let bus = daemon.connect("router").await;
        let names = (0..tenants).map(|n| if n == 0 { "main".to_owned() } else { format!("t{n}") });
        let tenants: Vec<TenantId> = names.map(|name| TenantId::new(name).expect("a name")).collect();
        let kind = ChannelKind::new("chat").expect("a name");
        let account = AccountId::new("web").expect("a name");
        let doors = tenants
            .iter()
            .map(|tenant| Inbound::over(bus.clone(), 8, tenant.clone(), kind.clone(), account.clone()))
            .collect();
        let (pending, latencies, assigned) = (Arc::default(), Arc::default(), Arc::new(Semaphore::new(0)));
        let world = Self { daemon, bus, doors, tenants, pending, latencies, assigned };
        // The first has its policy from the files; the others get the same.
        for tenant in world.tenants.iter().skip(1) {
            let tenant = format!("policy.tenant={tenant}");
            world.daemon.cli(&["policy", "apply", "--set", &tenant]).await.ok();
        }
        world
    }

    fn agent(&self, tenant: usize, n: usize) -> Commander {
        let agent = AgentId::new(format!("a{n:04}")).expect("a name");
        Commander::new(self.bus.clone(), self.tenants[tenant].clone(), agent)
    }

    async fn sign_in(&self, agents: usize) {
        let all = (0..self.tenants.len()).flat_map(|tenant| (0..agents).map(move |n| (tenant, n)));
        let signing = all.map(|(tenant, n)| async move {
            let available = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
            self.agent(tenant, n).command(&available).await.expect("signed in");
        });
        futures_util::stream::iter(signing).buffer_unordered(64).for_each(|()| std::future::ready(())).await;
    }

    /// Notes when each conversation is with an agent; with `work`, the agent ends it after that long.
    async fn listen(&self, work: Option<Duration>) {
        let every = "tl.v1.agent.*.*.conversation.assigned";
        let mut feed = self.bus.subscribe(every).await.expect("a subscription");
        let (pending, latencies, assigned) =
            (Arc::clone(&self.pending), Arc::clone(&self.latencies), Arc::clone(&self.assigned));
        let (bus, tenant) = (self.bus.clone(), self.tenants[0].clone());
        tokio::spawn(async move {
            while let Some(message) = feed.next().await {
                let now = Instant::now();
                // Nobody has asked for another encoding.
                let item: FeedItem = Encoding::Json.decode(&message.payload, 1 << 20).expect("an item");
                let Event::ConversationAssigned { conversation, agent, .. } = &*item.record.event else { continue };
                for record in item.context.iter().flat_map(|context| &context.messages) {
                    if let Event::MessageReceived { envelope, .. } = &*record.event
                        && let Some(sent) = pending.lock().expect("lock").remove(envelope.dedup_key.as_str())
                    {
                        latencies.lock().expect("lock").push(now - sent);
                    }
                }
                assigned.add_permits(1);
                if let Some(work) = work {
                    let commander = Commander::new(bus.clone(), tenant.clone(), agent.clone());
                    let close = AgentCommand::ConversationClose { conversation: *conversation, disposition: None };
                    tokio::spawn(async move {
                        tokio::time::sleep(work).await;
                        commander.command(&close).await.expect("closed");
                    });
                }
            }
        });
    }

    async fn arrive(&self, n: usize, key: String, due: Instant) {
        let tenant = n % self.tenants.len();
        let envelope = crate::path::envelope(&self.tenants[tenant], n, key.clone());
        self.pending.lock().expect("lock").insert(key, due);
        self.doors[tenant].accept(&envelope).await.expect("accepted");
    }

    /// New conversations at a steady rate; their latencies in order.
    async fn steady(&self, rate: f64, seconds: u64) -> Vec<Duration> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = (rate * seconds as f64) as usize;
        let began = tokio::time::Instant::now();
        let mut flying = futures_util::stream::FuturesUnordered::new();
        for n in 0..count {
            let due = began + Duration::from_secs_f64(n as f64 / rate);
            while tokio::time::timeout_at(due, flying.next()).await.is_ok_and(|done: Option<()>| done.is_some()) {}
            tokio::time::sleep_until(due).await;
            flying.push(self.arrive(n, format!("new/{n}"), due.into_std()));
        }
        while flying.next().await.is_some() {}
        self.wait_for(count).await;
        let mut latencies = std::mem::take(&mut *self.latencies.lock().expect("lock"));
        latencies.sort_unstable();
        latencies
    }

    /// The same bytes at the same rate, only stored, by a client that does nothing else: what this machine can do.
    async fn bare(&self, rate: f64, seconds: u64) -> Vec<Duration> {
        let stream = Stream {
            name: "BENCH".to_owned(),
            subjects: vec!["bench.>".to_owned()],
            retention: Retention::Limits,
            full_refuses: true,
            bytes_max: None,
            age_max: None,
            message_bytes_max: None,
            duplicate_window: Duration::from_secs(120),
            replicas: 1,
        };
        self.bus.ensure(&Topology { streams: vec![stream], ..Topology::default() }).await.expect("a stream");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
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
            let envelope = crate::path::envelope(&self.tenants[0], n, format!("bare/{n}"));
            let publish = Publish {
                subject: "bench.in".to_owned(),
                payload: Encoding::MsgPack.encode(&envelope).expect("encoded").into(),
                content_type: Some(Encoding::MsgPack.content_type()),
                msg_id: Some(format!("bare/{n}")),
                ..Publish::default()
            };
            flying.push(async move {
                self.bus.publish(publish).await.expect("stored");
                due.into_std().elapsed()
            });
        }
        while let Some(latency) = flying.next().await {
            latencies.push(latency);
        }
        latencies.sort_unstable();
        latencies
    }

    async fn wait_for(&self, count: usize) {
        let count = u32::try_from(count).expect("a count");
        let all = tokio::time::timeout(Duration::from_secs(120), self.assigned.acquire_many(count)).await;
        all.expect("every conversation gets an agent in time").expect("open").forget();
    }
}

/// What held the loops of the shards meanwhile: of each kind of turn, and of the appends among them, how many there were,
/// and below what 99 % and all of them were.
async fn turns(daemon: &Daemon) -> String {
    let page = http::get(&daemon.http(), "/metrics").await.map(|page| page.body).unwrap_or_default();
    let mut kinds: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in page.lines() {
        let turn = line.strip_prefix("router_turn_seconds_bucket{turn=\"").and_then(|rest| rest.split_once("\",le=\""));
        let append = line.strip_prefix("router_append_seconds_bucket{le=\"").map(|rest| ("append", rest));
        if let Some((kind, rest)) = turn.or(append)
            && let Some((le, count)) = rest.split_once("\"} ")
            && let (Ok(le), Ok(count)) = (le.replace("+Inf", "inf").parse(), count.parse())
        {
            kinds.entry(kind.to_owned()).or_default().push((le, count));
        }
    }
    let kinds = kinds.into_iter().filter_map(|(kind, buckets)| {
        let all = buckets.last()?.1;
        let below =
            |share: f64| buckets.iter().find(|(_, count)| *count >= all * share).map_or(f64::NAN, |(le, _)| *le);
        (all > 0.0)
            .then(|| format!("{kind} {all} (p99 < {:.1} ms, all < {:.1} ms)", below(0.99) * 1e3, below(1.0) * 1e3))
    });
    kinds.collect::<Vec<_>>().join(", ")
}

fn told(latencies: &[Duration]) -> String {
    let at = |share: f64| crate::path::milliseconds(crate::path::percentile(latencies, share));
    format!("p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", at(0.5), at(0.99), at(0.999))
}

pub async fn run(quick: bool) {
    let seconds = if quick { 3 } else { 10 };
    for sync_interval in ["100ms", "always"] {
        for (rate, agents) in
            [(RATE / 4.0, 10), (RATE / 2.0, 10), (RATE, 10), (RATE, 100), (RATE, 1_000), (RATE, 10_000)]
        {
            let world = World::start(sync_interval, 1, agents, 100_000).await;
            world.sign_in(agents).await;
            world.listen(None).await;
            let before = Cpu::of(&world.daemon);
            let latencies = world.steady(rate, seconds).await;
            let spent = Cpu::of(&world.daemon).since(&before, latencies.len());
            println!(
                "sync_interval {sync_interval}: {agents} agents, {rate:.0} new conversations/s: posted -> assigned {} (target p99 20 ms)",
                told(&latencies)
            );
            println!("  CPU of each: {spent}");
            println!("  turns: {}", turns(&world.daemon).await);
            println!("  the same only stored: {}", told(&world.bare(rate, seconds).await));
            drop(world.daemon);
        }
    }
    for tenants in [1, 10, 100] {
        let world = World::start("100ms", tenants, 10, 100_000).await;
        world.sign_in(10).await;
        world.listen(None).await;
        let latencies = world.steady(RATE, seconds).await;
        println!(
            "{tenants} tenants of 10 agents, {RATE:.0} new conversations/s: posted -> assigned {}",
            told(&latencies)
        );
        drop(world.daemon);
    }
    // A hundred agents with room for one each: so much they can do, if nobody makes them wait.
    let (agents, waiting) = (100, if quick { 1_000 } else { 10_000 });
    let world = World::start("100ms", 1, agents, 25).await;
    let opening = (0..waiting).map(|n| world.arrive(n, format!("waiting/{n}"), Instant::now()));
    futures_util::stream::iter(opening).buffer_unordered(256).for_each(|()| std::future::ready(())).await;
    world.listen(Some(WORK)).await;
    let began = Instant::now();
    world.sign_in(agents).await;
    world.wait_for(waiting).await;
    let took = began.elapsed().as_secs_f64();
    let best = waiting as f64 / agents as f64 * WORK.as_secs_f64();
    println!(
        "a backlog of {waiting}, {agents} agents of {} ms each: {took:.2} s, at best {best:.2} s: {:.2} of the agents' own speed (target 0.8)",
        WORK.as_millis(),
        best / took
    );
}
