//! A backup of a running daemon, put into an empty bus: the same state, the same transcripts, and it goes on.

use nix::sys::signal::Signal;
use throughline_tests::chat::Visit;
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, until};

use crate::audit;
use crate::crash::{Load, policy};

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_restores_to_the_same_state() {
    let daemon = Daemon::builder().policy(&policy()).start().await;
    let load = Load::start(&daemon, 10).await;
    let folder = daemon.folder().join("backup");
    let path = folder.display().to_string();
    // Two conversations' worth of answers, so that there is something to lose.
    until(PATIENCE, "some answers", async || (load.answers() > 20).then_some(())).await;
    let said = daemon.cli(&["backup", &path]).await;
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
    let before: Vec<_> = events.into_iter().filter(|record| record.position.seq <= held).collect();
    assert!(before.len() > 40, "{}", before.len());
    drop((clients, tools));

    // Another machine with the same settings.
    let mut other = Daemon::builder().policy(&policy()).prepare();
    let restored = other.cli(&["restore", &path]).await;
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    let again = other.cli(&["restore", &path]).await;
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("the bus holds something already"), "{}", again.stderr);
    other.start().await;
    let after = other.events("main").await;
    let known: Vec<_> = after.iter().filter(|record| record.position.seq <= held).cloned().collect();
    assert_eq!(known, before, "the same transcripts");
    let conversations = |list: serde_json::Value| list["value"].as_array().map(Vec::len);
    let list = other.cli(&["conversation", "list", "--json"]).await.json();
    assert_eq!(conversations(list), Some(10));
    // New customers are served, and what they say has its place behind what was restored.
    let agent = AgentTool::automatic(&other, "a0", |text| Some(format!("again: {text}"))).await;
    let mut customer = ChatClient::open(&other, "new", Visit::default()).await;
    customer.say("hello").await;
    customer.hears("agent", "again: hello").await;
    drop(agent);
    other.signal(Signal::SIGTERM);
    assert!(other.ended().await.success());
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
