//! Half an hour at a steady rate: whether memory, open files and streams grow though the work does not, and whether it
//! gets slower. Customers write, agents answer, end what is done, and the same customers come again.
//!
//! `THROUGHLINE_SOAK_RATE` and `THROUGHLINE_SOAK_SECONDS` change the plan; `THROUGHLINE_SOAK_SYNC` is the `sync_interval`.

use std::time::{Duration, Instant};

use bus::Bus;
use throughline_tests::{Daemon, http};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

const AGENTS: usize = 50;
const CUSTOMERS: usize = 2000;
const SAMPLE: Duration = Duration::from_secs(60);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Memory in KiB and open files of a process.
fn process(pid: i32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
    (kib, std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
}

/// Messages and bytes of some streams.
async fn streams(bus: &Bus) -> String {
    let mut told = Vec::new();
    for stream in ["IN-0", "JOURNAL-0", "OUT", "EVENTS", "KV_tl-conversations", "KV_tl-customers", "KV_tl-ledger"] {
        let size = match bus.stream_state(stream).await {
            Ok(state) => format!("{} {}/{} MB", stream, state.messages, state.bytes / 1_000_000),
            Err(error) => format!("{stream} {error}"),
        };
        told.push(size);
    }
    told.join(", ")
}

/// One value of the metrics page.
async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let page = http::get(&daemon.http(), "/metrics").await.map(|page| page.body).unwrap_or_default();
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn told(stream: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        println!("{line}");
    }
}

pub async fn run(quick: bool) {
    let rate = number("THROUGHLINE_SOAK_RATE", 500);
    let seconds = number("THROUGHLINE_SOAK_SECONDS", if quick { 130 } else { 1_860 });
    let sync = std::env::var("THROUGHLINE_SOAK_SYNC").unwrap_or_else(|_| "always".to_owned());
    at(rate, seconds, &sync).await;
}

/// The same for half a minute at several rates, each message answered.
pub async fn rates(quick: bool) {
    let seconds = if quick { 5 } else { 30 };
    for sync in ["100ms", "always"] {
        for rate in [250, 500, 750, 1_000, 1_500] {
            at(rate, seconds, sync).await;
        }
    }
}

async fn at(rate: u64, seconds: u64, sync: &str) {
    let agents: String =
        (0..AGENTS).map(|n| format!("[agents.a{n:02}]\nqueues = [\"support\"]\ncapacity = 100000\n")).collect();
    let policy = format!(
        "default_queue = \"support\"\n[queues.support]\n[channels.chat]\ncapacity_weight = 25\n\
         [timing]\nagent_silence_ms = 600000\nwrap_up_ms = 0\n{agents}"
    );
    let mut daemon = Daemon::builder()
        .policy(&policy)
        .set("bus.sync_interval", format!("{sync:?}"))
        .set("log.filter", "\"warn\"")
        .without_chat()
        .start()
        .await;
    let bus = daemon.connect("router").await;
    println!("{rate} messages/s for {seconds} s, sync_interval = {sync}, {CUSTOMERS} customers, {AGENTS} agents");
    let (rate, seconds, customers) = (rate.to_string(), seconds.to_string(), CUSTOMERS.to_string());
    let arguments = ["bench", "load", "--rate", &rate, "--seconds", &seconds, "--customers", &customers];
    let mut load = daemon.interactive(&[&arguments[..], &["--new", "0", "--turns", "20"]].concat());
    let began = Instant::now();
    // What it tells goes where ours does.
    let telling = tokio::spawn(told(load.stderr.take().expect("its stderr")));
    let reporting = tokio::spawn(told(load.stdout.take().expect("its stdout")));
    let mut sample = tokio::time::interval(SAMPLE);
    loop {
        tokio::select! {
            ended = load.wait() => {
                println!("the load ended: {}", ended.expect("a child of ours"));
                break;
            }
            _ = sample.tick() => {
                let (kib, files) = process(daemon.pid());
                let (server, server_files) = daemon.nats_pid().map_or((0, 0), process);
                println!(
                    "{:5} s: throughline {kib} KiB, {files} files; nats-server {server} KiB, {server_files} files; \
                     {} conversations; {}",
                    began.elapsed().as_secs(),
                    metric(&daemon, "router_conversations").await,
                    streams(&bus).await
                );
            }
        }
    }
    let _ = tokio::join!(telling, reporting);
    drop(bus);
    assert!(daemon.terminate().await.success());
}
