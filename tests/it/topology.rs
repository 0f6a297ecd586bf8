//! What the settings say of the streams is put into force on what is there: more copies while customers write, other
//! servers, lower limits; and nothing is lost by it that nobody gave up.

use std::fs;
use std::time::Duration;

use bus::{Bus, Publish, Topology};
use serde_json::Value;
use throughline_tests::chat::Visit;
use throughline_tests::{AgentTool, ChatClient, Cluster, Daemon, PATIENCE, until};

use crate::cluster::audit_all;
use crate::crash::{Load, keeping_all};

const CUSTOMERS: usize = 5;

/// Another value in the settings file; the next start reads it.
fn change(daemon: &Daemon, from: &str, to: &str) {
    let text = fs::read_to_string(daemon.config()).expect("the settings");
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(daemon.config(), text.replace(from, to)).expect("the settings");
}

/// What the server says of a stream.
async fn info(bus: &Bus, stream: &str) -> Option<Value> {
    let question = Publish { subject: format!("$JS.API.STREAM.INFO.{stream}"), ..Publish::default() };
    let answer = bus.request(question, Duration::from_secs(2)).await.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}

/// The servers that have all of a stream, its leader first; `None` while one of them has not.
fn holders(info: &Value) -> Option<Vec<&str>> {
    let cluster = &info["cluster"];
    let mut holders = vec![cluster["leader"].as_str()?];
    for other in cluster["replicas"].as_array().into_iter().flatten() {
        holders.push(other["name"].as_str().filter(|_| other["current"].as_bool() == Some(true))?);
    }
    Some(holders)
}

/// Waits until every stream is on so many servers, and on these where they are named.
async fn all_on(daemon: &Daemon, shards: u16, copies: usize, servers: &[&str]) {
    let bus = daemon.connect("router").await;
    for name in Topology::throughline(shards, 1, &["chat"]).stream_names() {
        until(PATIENCE, &format!("{name} on {copies} of {servers:?}"), async || {
            let info = info(&bus, &name).await?;
            let holders = holders(&info)?;
            let there = holders.iter().all(|holder| servers.contains(holder));
            (there && holders.len() == copies && info["config"]["num_replicas"] == copies).then_some(())
        })
        .await;
    }
}

/// Starts it with settings that it does not put into force; returns what it says.
async fn refused(daemon: &Daemon) -> String {
    let said = daemon.cli(&["run"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    until(PATIENCE, "the end of its server", async || daemon.nats_pid().is_none().then_some(())).await;
    said.stderr
}

async fn goes_on(load: &Load) {
    let before = load.answers();
    until(PATIENCE, "answers", async || (load.answers() > before + 2 * CUSTOMERS).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_grows_to_three_copies_while_customers_write() {
    let mut daemon = keeping_all().set("router.replicas", 1).on_a_cluster().prepare();
    let _cluster = Cluster::start(&daemon).await;
    daemon.start().await;
    all_on(&daemon, 8, 1, &["a", "b", "c"]).await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    goes_on(&load).await;
    change(&daemon, "router.replicas = 1", "router.replicas = 3");
    daemon.terminate().await;
    daemon.start().await;
    all_on(&daemon, 8, 3, &["a", "b", "c"]).await;
    goes_on(&load).await;
    audit_all(&daemon, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_moves_to_the_servers_with_a_tag_and_back() {
    let mut daemon = Daemon::builder()
        .set("router.shards", 1)
        .set("router.replicas", 1)
        .set("streams.placement.tags", "[\"first\"]")
        .on_a_cluster()
        .prepare();
    let _cluster = Cluster::start_tagged(&daemon, [&["first", "any"], &["any"], &["any"]]).await;
    daemon.start().await;
    all_on(&daemon, 1, 1, &["a"]).await;
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("one").await;
    page.hears("agent", "re: one").await;

    // More copies, for which the tag has too few servers: they move before they grow.
    change(&daemon, "[\"first\"]", "[\"any\"]");
    change(&daemon, "router.replicas = 1", "router.replicas = 3");
    daemon.terminate().await;
    daemon.start().await;
    all_on(&daemon, 1, 3, &["a", "b", "c"]).await;
    page.say("two").await;
    page.hears("agent", "re: two").await;

    // And back.
    change(&daemon, "[\"any\"]", "[\"first\"]");
    change(&daemon, "router.replicas = 3", "router.replicas = 1");
    daemon.terminate().await;
    daemon.start().await;
    all_on(&daemon, 1, 1, &["a"]).await;
    page.say("three").await;
    page.hears("agent", "re: three").await;
    page.check();
    assert_eq!(page.texts(), ["one", "re: one", "two", "re: two", "three", "re: three"]);
    drop(anna);
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_that_would_drop_what_is_stored_is_refused_until_it_may() {
    let mut daemon = Daemon::builder().set("streams.may_drop", "[]").set("streams.storage", "\"file\"").start().await;
    let bus = daemon.connect("router").await;
    // Twenty megabytes of dead letters.
    for _ in 0..40 {
        let payload = vec![b'x'; 512 * 1024].into();
        let letter = Publish { subject: "tl.v1.dead.main.in".into(), payload, ..Publish::default() };
        bus.publish(letter).await.expect("stored");
    }
    drop(bus);
    daemon.terminate().await;

    change(&daemon, "streams.storage = \"file\"", "streams.storage = \"memory\"");
    let said = refused(&daemon).await;
    assert!(said.contains("storage is \"file\", wanted is \"memory\""), "{said}");
    change(&daemon, "streams.storage = \"memory\"", "streams.dead_bytes_max = 16777216");
    let said = refused(&daemon).await;
    assert!(said.contains("stream DEAD: max_bytes is unlimited, wanted is 16777216"), "{said}");

    change(&daemon, "streams.may_drop = []", "streams.may_drop = [\"dead\"]");
    let check = daemon.cli(&["check"]).await;
    assert!(check.code == 0 && check.stderr.contains("streams.may_drop"), "{check:?}");
    daemon.start().await;
    let bus = daemon.connect("router").await;
    let state = bus.stream_state("DEAD").await.expect("the dead letters");
    assert!(state.bytes <= 16 << 20 && state.messages > 25, "{state:?}");
}
