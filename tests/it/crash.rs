//! Under steady load, everything that can die is killed again and again; then everything is checked.
//!
//! `THROUGHLINE_CRASHES` says how often the daemon dies (60 when left out; `make crash` says 500), and
//! `THROUGHLINE_SEED` repeats a schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::Event;
use contract::command::AgentCommand;
use throughline_tests::chat::Visit;
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, until};

use crate::audit;

const CUSTOMERS: usize = 50;
const AGENTS: usize = 6;
/// How long one customer waits between two messages, about. The daemon is down most of the time here, and what the
/// customers write in that time has to be answered in what is left, or five hundred crashes heap up a quarter of an
/// hour of answers.
const BETWEEN: Duration = Duration::from_millis(500);

/// xorshift64*: a schedule that a seed repeats.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let clock = runtime::clock::now() | 1;
        let seed = std::env::var("THROUGHLINE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(clock);
        println!("THROUGHLINE_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        least + self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % (most - least + 1)
    }

    pub(crate) fn pause(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}

fn times(default: usize) -> usize {
    std::env::var("THROUGHLINE_CRASHES").ok().and_then(|times| times.parse().ok()).unwrap_or(default)
}

/// Six agents with room for everybody.
pub(crate) fn policy() -> String {
    let agents: String =
        (0..AGENTS).map(|n| format!("[agents.a{n}]\nqueues = [\"support\"]\ncapacity = 1000\n")).collect();
    format!(
        "[queues.support]\n[channels.chat]\ncapacity_weight = 25\n[timing]\nagent_silence_ms = 30000\nround_pause_ms = 500\n{agents}"
    )
}

/// What devices report is taken note of; everybody else is answered.
fn answer(text: &str) -> Option<String> {
    (!text.starts_with("event ")).then(|| format!("re: {text}"))
}

/// Customers that write, agents that answer.
pub(crate) struct Load {
    clients: Vec<tokio::task::JoinHandle<ChatClient>>,
    pub(crate) tools: Vec<AgentTool>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub(crate) async fn start(daemon: &Daemon, customers: usize) -> Self {
        let mut tools = Vec::new();
        for n in 0..AGENTS {
            tools.push(AgentTool::automatic(daemon, &format!("a{n}"), answer).await);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for n in 0..customers {
            let mut client = ChatClient::open(daemon, &format!("customer-{n}"), Visit::default()).await;
            let stop = Arc::clone(&stop);
            clients.push(tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.send(&format!("{n}/{count}")).await;
                    count += 1;
                    tokio::time::sleep(BETWEEN).await;
                }
                client
            }));
        }
        Self { clients, tools, stop }
    }

    /// How many answers the agents have given.
    pub(crate) fn answers(&self) -> usize {
        self.tools.iter().map(|tool| tool.said().len()).sum()
    }

    /// One agent ends one of its conversations, so that new ones begin all the time.
    async fn close_one(&self, dice: &mut Dice) {
        let at = usize::try_from(dice.between(0, self.tools.len() as u64 - 1)).expect("few");
        let tool = &self.tools[at];
        let held = tool.facts().iter().rev().find_map(|record| match &*record.event {
            Event::ConversationAssigned { conversation, .. } => Some(*conversation),
            _ => None,
        });
        if let Some(conversation) = held {
            // It may be closed already.
            let _ = tool.command(AgentCommand::ConversationClose { conversation, disposition: None }).await;
        }
    }

    /// The customers stop, and everything that is on its way arrives.
    pub(crate) async fn settle(self) -> (Vec<ChatClient>, Vec<AgentTool>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut clients = Vec::new();
        for client in self.clients {
            clients.push(client.await.expect("the customer lives"));
        }
        for client in &mut clients {
            client.say("the last").await;
            client.settled().await;
        }
        for client in &clients {
            client.hears_in_the_end("agent", "re: the last").await;
        }
        (clients, self.tools)
    }
}

fn millis(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() - 1) * share / 100).copied().unwrap_or_default().as_millis();
    format!("p50 {} ms, p99 {} ms, worst {} ms", at(50), at(99), at(100))
}

async fn audit_all(daemon: &Daemon, clients: &[ChatClient], tools: &[AgentTool]) {
    audit::quiet(daemon).await;
    let (live_seq, live) = audit::live_digest(daemon).await;
    let journal = daemon.journal(audit::SHARD).await;
    let journal: Vec<_> = journal.into_iter().filter(|record| record.seq <= live_seq).collect();
    let events = daemon.events("main").await;
    let events: Vec<_> = events.into_iter().filter(|record| record.position.seq <= live_seq).collect();
    let (stored, said) = audit::nothing_lost_or_doubled(&events, clients, tools);
    audit::transcript_is_exact(&journal, &events);
    let state = audit::replay(&journal);
    assert_eq!(router::digest(&state), live, "replaying the journal gives the live state");
    let epochs: std::collections::BTreeSet<_> = journal.iter().map(|record| record.record.epoch).collect();
    println!(
        "{stored} messages acknowledged to customers, {said} answers acknowledged to agents, {} facts, {} records, {} epochs: all there, once, in order",
        events.len(),
        journal.len(),
        epochs.len()
    );
}

fn builder() -> throughline_tests::daemon::Builder {
    Daemon::builder().policy(&policy()).set("log.filter", "\"warn\"")
}

/// The whole journal is kept, so that all of it can be read back.
pub(crate) fn keeping_all() -> throughline_tests::daemon::Builder {
    builder()
        .set("router.checkpoint_every_records", 1_000_000_000_u64)
        .set("router.checkpoint_every_ms", 86_400_000_u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_the_daemon_loses_and_doubles_nothing() {
    let mut dice = Dice::new();
    let mut daemon = keeping_all().start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let mut back = Vec::new();
    for _ in 0..times(60) {
        tokio::time::sleep(dice.pause(100, 900)).await;
        let died = Instant::now();
        daemon.kill9();
        daemon.start().await;
        back.push(died.elapsed());
        load.close_one(&mut dice).await;
    }
    println!("{} times killed; ready again after {}", back.len(), millis(back));
    let (clients, tools) = load.settle().await;
    audit_all(&daemon, &clients, &tools).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_of_the_bus_server_loses_and_doubles_nothing() {
    let mut dice = Dice::new();
    let mut daemon = keeping_all().start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    for _ in 0..times(60) / 3 {
        tokio::time::sleep(dice.pause(300, 1500)).await;
        let before = until(PATIENCE, "the bus server", || async { daemon.nats_pid() }).await;
        daemon.kill9_nats();
        until(PATIENCE, "another bus server", || async { daemon.nats_pid().filter(|pid| *pid != before) }).await;
        daemon.ready().await;
    }
    let (clients, tools) = load.settle().await;
    audit_all(&daemon, &clients, &tools).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_between_checkpoints_loses_and_doubles_nothing() {
    let mut dice = Dice::new();
    let mut daemon =
        builder().set("router.checkpoint_every_records", 50).set("router.checkpoint_every_ms", 1000).start().await;
    let load = Load::start(&daemon, CUSTOMERS / 2).await;
    for _ in 0..times(60) / 4 {
        tokio::time::sleep(dice.pause(500, 2500)).await;
        daemon.kill9();
        daemon.start().await;
    }
    let (clients, tools) = load.settle().await;
    audit::quiet(&daemon).await;
    let (seq, live) = audit::live_digest(&daemon).await;
    let events = daemon.events("main").await;
    audit::transcript_is_ordered(&events);
    let (stored, said) = audit::nothing_lost_or_doubled(&events, &clients, &tools);
    let kept = daemon.journal(audit::SHARD).await;
    assert!(kept.first().is_some_and(|first| first.seq > 10), "checkpoints were taken and the journal purged");
    // Whoever comes back from a checkpoint and the tail is where the one before it was.
    daemon.kill9();
    daemon.start().await;
    let (seq_after, after) = audit::live_digest(&daemon).await;
    if seq_after == seq {
        assert_eq!(after, live);
    }
    println!("{stored} messages, {said} answers, {} records left of the journal's {seq}", kept.len());
}
