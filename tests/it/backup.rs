//! A backup of a running daemon, put into an empty bus: the same state, the same transcripts, and it goes on.

use std::path::{Path, PathBuf};

use contract::EventRecord;
use nix::sys::signal::Signal;
use throughline_tests::chat::Visit;
use throughline_tests::streams::{Journalled, tenant};
use throughline_tests::{AgentTool, ChatClient, Cluster, Daemon, PATIENCE, until};

use crate::audit;
use crate::crash::{Load, keeping_all};

/// How many agents the policy has.
const AGENTS: usize = 6;

/// A machine that is gone, with what was known of it when its backup was taken.
struct Lost {
    /// Holds the folder.
    _daemon: Daemon,
    folder: PathBuf,
    /// The record at which it rested for the backup.
    held: u64,
    /// What it was then, as it wrote it down itself.
    snapshot: Vec<u8>,
    transcript: Vec<EventRecord>,
}

/// The newest snapshot of the shard.
async fn newest_snapshot(daemon: &Daemon) -> Vec<u8> {
    let bus = daemon.connect(bus::permissions::ROUTER).await;
    let snapshots = bus.objects(bus::topology::SNAPSHOTS).await.expect("the snapshots");
    let prefix = format!("{}/", audit::SHARD);
    let names = snapshots.list().await.expect("their names");
    let newest = names.into_iter().filter(|name| name.starts_with(&prefix)).max().expect("a snapshot");
    snapshots.get(&newest, 1 << 30).await.expect("an answer").expect("it is there").to_vec()
}

/// The digest of the state that a journal makes of a snapshot, after a record.
fn meant(snapshot: &[u8], journal: &[Journalled], after: u64) -> String {
    let (mut shard, from) = router::Shard::read(snapshot).expect("a snapshot");
    let mut state = shard.tenants.remove(&tenant("main")).expect("the tenant");
    for record in journal.iter().filter(|record| record.seq > from && record.seq <= after) {
        for entry in &record.record.entries {
            state.replay(entry);
        }
    }
    let violations = state.engine.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    router::digest(&state).to_string()
}

impl Lost {
    /// One that was saved in the middle of its work.
    async fn under_load() -> Self {
        let mut daemon = keeping_all().start().await;
        let load = Load::start(&daemon, 10).await;
        let folder = daemon.folder().join("backup");
        // Two conversations' worth of answers, so that there is something to lose.
        until(PATIENCE, "some answers", async || (load.answers() > 20).then_some(())).await;
        let said = daemon.cli(&["backup", &folder.display().to_string()]).await;
        println!("{}{}", said.stderr, said.stdout);
        assert_eq!(said.code, 0, "{}", said.stderr);
        // It goes on at once, and nothing is lost by the rest.
        let (clients, tools) = load.settle().await;
        audit::quiet(&daemon).await;
        let events = daemon.events("main").await;
        audit::nothing_lost_or_doubled(&events, &clients, &tools);
        let manifest: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("throughline-backup.json")).unwrap()).unwrap();
        let held = manifest["held"][usize::from(audit::SHARD)]["seq"].as_u64().unwrap();
        let transcript: Vec<_> = events.into_iter().filter(|record| record.position.seq <= held).collect();
        assert!(transcript.len() > 40, "{}", transcript.len());
        // What it wrote down then is what it was: with what was decided since, it is what it says of itself now.
        let snapshot = newest_snapshot(&daemon).await;
        assert_eq!(router::Shard::read(&snapshot).unwrap().1, held);
        let (seq, live) = audit::live_digest(&daemon).await;
        let journal = daemon.journal(audit::SHARD).await;
        assert_eq!(meant(&snapshot, &journal, seq), live);
        assert_ne!(meant(&snapshot, &journal, held), live, "it went on");
        drop((clients, tools));
        assert!(daemon.terminate().await.success());
        Self { _daemon: daemon, folder, held, snapshot, transcript }
    }

    /// Another machine, which has everything and nothing else, and goes on.
    async fn is_back(&self, other: &mut Daemon) {
        other.start().await;
        // Nobody has written anything: what it began with is all that follows.
        let (seq, live) = audit::live_digest(other).await;
        let journal = other.journal(audit::SHARD).await;
        assert_eq!(meant(&self.snapshot, &journal, seq), live, "the same state");
        let after = other.events("main").await;
        let known: Vec<_> = after.into_iter().filter(|record| record.position.seq <= self.held).collect();
        assert_eq!(known, self.transcript, "the same transcripts");
        let conversations = |list: serde_json::Value| list["value"].as_array().map(Vec::len);
        let list = other.cli(&["conversation", "list", "--json"]).await.json();
        assert_eq!(conversations(list), Some(10));
        // What is said now has its place behind what was restored.
        serves(other, "new").await;
    }
}

/// All agents are there again, and a new customer is served by one of them.
async fn serves(daemon: &Daemon, customer: &str) {
    let mut tools = Vec::new();
    for n in 0..AGENTS {
        let answer = |text: &str| text.strip_prefix("new here: ").map(str::to_owned);
        tools.push(AgentTool::automatic(daemon, &format!("a{n}"), answer).await);
    }
    let mut customer = ChatClient::open(daemon, customer, Visit::default()).await;
    customer.say("new here: hello").await;
    customer.hears("agent", "hello").await;
}

async fn restored(other: &Daemon, folder: &Path) {
    let said = other.cli(&["restore", &folder.display().to_string()]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_restores_to_the_same_state() {
    let lost = Lost::under_load().await;
    // Another machine with the same settings.
    let mut other = keeping_all().prepare();
    restored(&other, &lost.folder).await;
    let again = other.cli(&["restore", &lost.folder.display().to_string()]).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("the bus holds something already"), "{}", again.stderr);
    lost.is_back(&mut other).await;
    other.signal(Signal::SIGTERM);
    assert!(other.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_of_one_machine_restores_into_a_cluster() {
    let lost = Lost::under_load().await;
    let mut other = keeping_all().on_a_cluster().prepare();
    let mut cluster = Cluster::start(&other).await;
    // Where a stream was does not matter where there are no such servers.
    let path = lost.folder.join("JOURNAL-0").join("backup.json");
    let mut described: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    described["config"]["placement"] = serde_json::json!({ "cluster": "gone", "tags": ["gone"] });
    std::fs::write(&path, described.to_string()).expect("a file");
    restored(&other, &lost.folder).await;
    lost.is_back(&mut other).await;
    // Each server has it all: it does without any of them.
    let leader = until(PATIENCE, "a leader", async || cluster.leader(&other, "JOURNAL-0").await).await;
    cluster.kill9(leader);
    serves(&other, "later").await;
    let (seq, live) = audit::live_digest(&other).await;
    let journal = other.journal(audit::SHARD).await;
    assert_eq!(meant(&lost.snapshot, &journal, seq), live, "the same state");
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_that_is_damaged_or_unfinished_is_not_restored() {
    let daemon = Daemon::builder().start().await;
    let folder = daemon.folder().join("backup");
    let path = folder.display().to_string();
    daemon.cli(&["backup", &path]).await.ok();
    let twice = daemon.cli(&["backup", &path]).await;
    assert_eq!(twice.code, 1, "a folder that is there is not written into");
    let other = Daemon::builder().prepare();
    let file = folder.join("JOURNAL-0/stream.tar.s2");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let said = other.cli(&["restore", &path]).await;
    assert!(said.code == 1 && said.stderr.contains("is damaged"), "{}", said.stderr);
    std::fs::write(&file, whole).unwrap();
    std::fs::rename(folder.join("throughline-backup.json"), folder.join("x")).unwrap();
    let said = other.cli(&["restore", &path]).await;
    assert!(said.code == 1 && said.stderr.contains("a backup that was broken off has none"), "{}", said.stderr);
    assert!(!other.data_dir().join("nats/store").exists(), "nothing was begun");
}
