//! A whole daemon with many open conversations: what each costs in memory, and how long it takes until all are there
//! again after `kill -9` (from the journal) and after a good end (from a snapshot), as a ratio to reading the same
//! bytes from the stream and doing nothing with them.

use std::time::{Duration, Instant};

use adapter::Inbound;
use bus::Bus;
use contract::{AccountId, ChannelKind, TenantId};
use futures_util::StreamExt;
use throughline_tests::Daemon;

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

/// Seconds from the start of the daemon until it answers with all of its conversations.
async fn recovered(daemon: &mut Daemon, many: usize) -> f64 {
    let began = Instant::now();
    daemon.spawn();
    there(daemon, many).await;
    began.elapsed().as_secs_f64()
}

pub async fn run(many: usize) {
    let policy = "default_queue = \"support\"\n[queues.support]\n[channels.chat]\ncapacity_weight = 25\n\
                  [agents.anna]\nqueues = [\"support\"]\ncapacity = 100\n";
    let mut daemon = Daemon::builder()
        .policy(policy)
        .set("bus.sync_interval", "\"100ms\"")
        .set("log.filter", "\"warn\"")
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
    // What was only needed on the way has gone by then.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let each = resident(daemon.pid()).saturating_sub(before) / many as u64;
    println!("{many} conversations opened and waiting, {rate:.0}/s; {each} bytes of the daemon's memory each");

    daemon.kill9();
    let from_journal = recovered(&mut daemon, many).await;
    let bus = daemon.connect("router").await;
    let shard = contract::shard::of(&tenant, 8);
    let (bytes, read) = raw(&bus, &format!("JOURNAL-{shard}")).await;
    println!(
        "kill -9: all there after {from_journal:.2} s from {} MB of journal; raw {read:.2} s: ratio {:.2}",
        bytes / 1_000_000,
        from_journal / read
    );
    let each = resident(daemon.pid()).saturating_sub(before) / many as u64;
    println!("then {each} bytes each");

    daemon.terminate().await;
    let from_snapshot = recovered(&mut daemon, many).await;
    let bus = daemon.connect("router").await;
    let (bytes, read) = raw(&bus, &format!("OBJ_{}", bus::topology::SNAPSHOTS)).await;
    println!(
        "a good end: all there after {from_snapshot:.2} s from {} MB of snapshots; raw {read:.2} s: ratio {:.2}",
        bytes / 1_000_000,
        from_snapshot / read
    );
}
