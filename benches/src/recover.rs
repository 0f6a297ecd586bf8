//! A whole daemon with many open conversations: what each costs in memory, and how long it takes until all are there
//! again after `kill -9` (from the journal) and after a good end (from a snapshot), as a ratio to reading the same
//! bytes from the stream and doing nothing with them.

use std::time::{Duration, Instant};

use adapter::Inbound;
use bus::Bus;
use contract::{AccountId, ChannelKind, TenantId};
use futures_util::StreamExt;
use throughline_tests::{Daemon, http};

/// How long the state may take to come.
const WITHIN: Duration = Duration::from_secs(600);
/// Envelopes under way at a time.
const FLYING: usize = 512;

fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Waits until all of the conversations are there.
async fn there(daemon: &Daemon, many: usize) {
    throughline_tests::until(WITHIN, "every conversation to be there", || async {
        let output = daemon.cli(&["status", "--json"]).await;
        let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        let counts = status["value"]["counts"]["conversations"].as_object()?;
        let open: u64 = counts.values().filter_map(serde_json::Value::as_u64).sum();
        (open == many as u64).then_some(())
    })
    .await;
}

/// Reads a stream to its end; bytes and seconds.
async fn raw(bus: &Bus, stream: &str) -> (u64, f64) {
    let state = bus.stream_state(stream).await.expect("a stream");
    let began = Instant::now();
    let mut bytes = 0;
    let mut reader = bus.read(stream, state.first.max(1), None).await.expect("a reader");
    loop {
        let stored = reader.next().await.expect("a message");
        bytes += stored.payload.len() as u64;
        if stored.seq >= state.last {
            return (bytes, began.elapsed().as_secs_f64());
        }
    }
}

/// How long everything took to be there again.
struct Recovered {
    /// From the start of the process, with its server's own start and every question on the way.
    whole: f64,
    /// From the claim of the shard to its first input.
    takeover: f64,
}

/// Starts the daemon and waits until it answers with all of its conversations.
async fn recovered(daemon: &mut Daemon, many: usize) -> Recovered {
    let began = Instant::now();
    daemon.spawn();
    there(daemon, many).await;
    let whole = began.elapsed().as_secs_f64();
    let page = http::get(&daemon.http(), "/metrics").await.map(|page| page.body).unwrap_or_default();
    // The shards without a tenant take a few milliseconds.
    let takeover = page.lines().find_map(|line| line.strip_prefix("router_takeover_seconds_sum ")?.parse().ok());
    Recovered { whole, takeover: takeover.unwrap_or(f64::NAN) }
}

/// Waits until the key-value side is written, and says how long that took.
async fn written(daemon: &Daemon) {
    let began = Instant::now();
    throughline_tests::until(WITHIN, "the key-value side to be written", || async {
        let page = http::get(&daemon.http(), "/metrics").await.map(|page| page.body).unwrap_or_default();
        let queued = page.lines().filter_map(|line| line.strip_prefix("router_readside_queued{")?.split(' ').nth(1));
        let queued: f64 = queued.filter_map(|queued| queued.parse::<f64>().ok()).sum();
        (queued == 0.0).then_some(())
    })
    .await;
    println!("the key-value side is written {:.1} s later", began.elapsed().as_secs_f64());
}

fn say(what: &str, recovered: &Recovered, (bytes, read): (u64, f64), each: u64) {
    let Recovered { whole, takeover } = recovered;
    println!(
        "{what}: taken over in {takeover:.2} s from {} MB; raw {read:.2} s: ratio {:.2}; {whole:.2} s from the start of \
         the process; {each} bytes each",
        bytes / 1_000_000,
        takeover / read,
    );
}

pub async fn run(many: usize) {
    let policy = "default_queue = \"support\"\n[queues.support]\n[channels.chat]\ncapacity_weight = 25\n\
                  [agents.anna]\nqueues = [\"support\"]\ncapacity = 100\n";
    const NO_CHECKPOINT: &str = "checkpoint_every_ms = 86400000";
    let mut daemon = Daemon::builder()
        .policy(policy)
        .set("bus.sync_interval", "\"100ms\"")
        .set("log.filter", "\"warn,throughline_router=info\"")
        .set("router.checkpoint_every_records", 1_000_000_000_u64)
        .set("router.checkpoint_every_ms", 86_400_000_u64)
        .set("drain.deadline_ms", 600_000)
        .start()
        .await;
    let tenant = TenantId::new("main").expect("a name");
    let (kind, account) = (ChannelKind::new("chat").expect("a name"), AccountId::new("web").expect("a name"));
    let inbound = Inbound::over(daemon.connect("adapter-chat").await, 8, tenant.clone(), kind, account);
    let before = resident(daemon.pid());
    let began = Instant::now();
    let opening = (0..many).map(|customer| {
        let envelope = crate::path::envelope(&tenant, customer, format!("open/{customer}"));
        let inbound = &inbound;
        async move { inbound.accept(&envelope).await.expect("accepted") }
    });
    let mut opening = futures_util::stream::iter(opening).buffer_unordered(FLYING);
    while opening.next().await.is_some() {}
    drop(opening);
    there(&daemon, many).await;
    let rate = many as f64 / began.elapsed().as_secs_f64();
    let each = |daemon: &Daemon| resident(daemon.pid()).saturating_sub(before) / many as u64;
    println!("{many} conversations opened and waiting, {rate:.0}/s; {} bytes of memory each", each(&daemon));
    written(&daemon).await;
    println!("then {} bytes each", each(&daemon));

    daemon.kill9();
    let from_journal = recovered(&mut daemon, many).await;
    let journal = format!("JOURNAL-{}", contract::shard::of(&tenant, 8));
    let read = raw(&daemon.connect("router").await, &journal).await;
    say("kill -9, from the journal", &from_journal, read, each(&daemon));
    written(&daemon).await;

    daemon.kill9();
    let config = std::fs::read_to_string(daemon.config()).expect("the settings");
    assert!(config.contains(NO_CHECKPOINT), "{config}");
    std::fs::write(daemon.config(), config.replace(NO_CHECKPOINT, "checkpoint_every_ms = 1000")).expect("a disk");
    daemon.spawn();
    there(&daemon, many).await;
    // Something has to happen, or there is nothing to keep.
    let envelope = crate::path::envelope(&tenant, 0, "again".to_owned());
    inbound.accept(&envelope).await.expect("accepted");
    let took = Instant::now();
    throughline_tests::until(WITHIN, "a checkpoint", || async {
        daemon.logs().contains("took a checkpoint").then_some(())
    })
    .await;
    println!("a checkpoint is there after {:.1} s", took.elapsed().as_secs_f64());

    daemon.kill9();
    let from_snapshot = recovered(&mut daemon, many).await;
    let read = raw(&daemon.connect("router").await, &format!("OBJ_{}", bus::topology::SNAPSHOTS)).await;
    say("kill -9, from a snapshot", &from_snapshot, read, each(&daemon));
}
