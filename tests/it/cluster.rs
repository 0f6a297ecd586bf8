//! Three bus servers, two routers: shards are shared and change hands, servers go and come, and nothing is lost,
//! doubled or taken over without need.

use std::time::{Duration, Instant};

use contract::command::AgentCommand;
use contract::{ConversationId, Event, OfferId};
use nix::sys::signal::Signal;
use throughline_tests::chat::Visit;
use throughline_tests::cluster::NAMES;
use throughline_tests::{AgentTool, ChatClient, Cluster, Companion, Daemon, PATIENCE, until};

use crate::audit;
use crate::crash::{Load, policy};

const CUSTOMERS: usize = 10;

/// How many shards a process leads, by its metric.
async fn led(address: &str) -> Option<u64> {
    let page = throughline_tests::http::get(address, "/metrics").await.ok()?.body;
    let line = page.lines().find(|line| line.starts_with("router_shards_led "))?;
    line.rsplit(' ').next()?.parse::<f64>().ok().map(|count| count as u64)
}

pub(crate) async fn leads(router: &Companion, wanted: std::ops::RangeInclusive<u64>) {
    let what = format!("a router to lead {wanted:?} shards");
    until(PATIENCE, &what, async || led(&router.http()).await.filter(|count| wanted.contains(count))).await;
}

async fn epoch(daemon: &Daemon) -> (String, u64) {
    until(PATIENCE, "an owner", async || {
        let output = daemon.cli(&["status", "--json"]).await;
        let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        let shard = &status["value"]["shard"];
        Some((shard["owner"].as_str()?.to_owned(), shard["epoch"].as_u64()?))
    })
    .await
}

/// Who says that it leads the shard of the load, asked over the bus.
async fn leading(bus: &bus::Bus) -> Option<String> {
    let ping = bus::Publish { subject: contract::subject::owner(audit::SHARD), ..bus::Publish::default() };
    let answer = bus.request(ping, Duration::from_millis(50)).await.ok()?;
    String::from_utf8(answer.payload.to_vec()).ok()
}

fn millis(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_millis();
    format!("p50 {} ms, worst {} ms of {}", at(50), at(100), times.len())
}

/// Checks everything that the load said against what the cluster holds.
pub(crate) async fn audit_all(daemon: &Daemon, load: Load) {
    let (clients, tools) = load.settle().await;
    audit::quiet(daemon).await;
    let (seq, live) = audit::live_digest(daemon).await;
    let journal = daemon.journal(audit::SHARD).await;
    let journal: Vec<_> = journal.into_iter().filter(|record| record.seq <= seq).collect();
    let events = daemon.events("main").await;
    let events: Vec<_> = events.into_iter().filter(|record| record.position.seq <= seq).collect();
    audit::nothing_lost_or_doubled(&events, &clients, &tools);
    audit::rest_is_exact(&journal, &events, &live);
    audit::facts_hold(daemon, &tools).await;
}

pub(crate) fn prepared() -> Daemon {
    prepared_by(&policy())
}

fn prepared_by(policy: &str) -> Daemon {
    Daemon::builder()
        .policy(policy)
        .set("router.checkpoint_every_records", 1_000_000_000_u64)
        .set("router.checkpoint_every_ms", 86_400_000_u64)
        .with_only(&["channels", "wall"])
        .on_a_cluster()
        .prepare()
}

/// Each agent ends the conversation that it was given last, so that offers are made again.
async fn some_end(load: &Load) {
    for tool in &load.tools {
        let held = tool.facts().iter().rev().find_map(|record| match &*record.event {
            Event::ConversationAssigned { conversation, .. } => Some(*conversation),
            _ => None,
        });
        if let Some(conversation) = held {
            // It may have ended already.
            let _ = tool.command(AgentCommand::ConversationClose { conversation, disposition: None }).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_shares_shards_and_hands_them_over() {
    let mut daemon = prepared();
    let _cluster = Cluster::start(&daemon).await;
    let mut first = daemon.companion(&["router"]);
    first.up().await;
    daemon.start().await;
    leads(&first, 8..=8).await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    // A second router gets its half, one shard after the other, while customers write.
    let mut second = daemon.companion(&["router"]);
    leads(&second, 4..=4).await;
    leads(&first, 4..=4).await;
    // Each in turn is drained, its shards go to the other, and back when it is there again.
    let mut pauses = Vec::new();
    for _ in 0..2 {
        for _ in 0..2 {
            let (before, _) = epoch(&daemon).await;
            some_end(&load).await;
            let began = Instant::now();
            let owner = if before.ends_with(&format!("-{}", first.pid())) { &mut first } else { &mut second };
            owner.signal(Signal::SIGTERM);
            until(PATIENCE, "another owner", async || (epoch(&daemon).await.0 != before).then_some(())).await;
            pauses.push(began.elapsed());
            owner.terminate().await;
            *owner = daemon.companion(&["router"]);
            leads(owner, 4..=4).await;
        }
    }
    println!("drained: another owner answers after {}", millis(pauses));
    // Each in turn is killed: nobody hands anything over.
    let mut pauses = Vec::new();
    let bus = daemon.connect("router").await;
    for _ in 0..4 {
        let (before, _) = epoch(&daemon).await;
        some_end(&load).await;
        let began = Instant::now();
        let owner = if before.ends_with(&format!("-{}", first.pid())) { &mut first } else { &mut second };
        owner.kill9();
        until(PATIENCE, "another owner", async || leading(&bus).await.filter(|owner| *owner != before)).await;
        pauses.push(began.elapsed());
        *owner = daemon.companion(&["router"]);
        leads(owner, 4..=4).await;
    }
    println!("killed: another owner answers after {}", millis(pauses));
    audit_all(&daemon, load).await;
    audit::no_offer_flapped(&daemon.events("main").await);
}

/// Whoever considers an offer may do so while the shard changes hands: it stands on, and nobody else is asked.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_hand_overs_leave_offers_as_they_are() {
    // The usual queue comes before by its name, so that it takes whatever no route fits.
    let unhurried = "[queues.unhurried]\n[agents.slow]\nqueues = [\"unhurried\"]\ncapacity = 1000\n\
                     [[routes]]\ntag = \"unhurried\"\nqueue = \"unhurried\"\n";
    let lasting = policy().replace("capacity_weight = 25", "capacity_weight = 25\noffer_lease_ms = 300000");
    let mut daemon = prepared_by(&(lasting + unhurried));
    let _cluster = Cluster::start(&daemon).await;
    let mut first = daemon.companion(&["router"]);
    first.up().await;
    daemon.start().await;
    let mut second = daemon.companion(&["router"]);
    leads(&second, 4..=4).await;
    leads(&first, 4..=4).await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let slow = AgentTool::open(&daemon, "slow").await;
    slow.available().await;
    let mut pages = Vec::new();
    let mut considered: Vec<(OfferId, ConversationId)> = Vec::new();
    for round in 0..4 {
        let mut page = ChatClient::open(&daemon, &format!("patient-{round}"), Visit::tagged("unhurried")).await;
        page.say("take your time").await;
        pages.push(page);
        let another = |event: &Event| match event {
            Event::OfferCreated { offer, conversation, .. } => {
                Some((*offer, *conversation)).filter(|offer| !considered.contains(offer))
            }
            _ => None,
        };
        let offer = slow.sees("another offer", another).await;
        considered.push(offer);
        let (before, _) = epoch(&daemon).await;
        let owner = if before.ends_with(&format!("-{}", first.pid())) { &mut first } else { &mut second };
        // Others are offered, accepted and ended meanwhile.
        let handed_over = async {
            // The last one dies, and hands nothing over.
            if round == 3 {
                owner.kill9();
            } else {
                owner.signal(Signal::SIGTERM);
            }
            until(PATIENCE, "another owner", async || (epoch(&daemon).await.0 != before).then_some(())).await;
            if round < 3 {
                owner.terminate().await;
            }
            *owner = daemon.companion(&["router"]);
            leads(owner, 4..=4).await;
        };
        tokio::join!(handed_over, some_end(&load));
    }
    // Each of them is still the agent's to accept: also the first, after four changes.
    for (offer, _) in &considered {
        slow.accept(*offer).await;
    }
    audit_all(&daemon, load).await;
    let events = daemon.events("main").await;
    audit::no_offer_flapped(&events);
    for (offer, of) in considered {
        let made = events.iter().filter_map(|record| match &*record.event {
            Event::OfferCreated { offer, conversation, .. } if *conversation == of => Some(*offer),
            _ => None,
        });
        assert_eq!(made.collect::<Vec<_>>(), [offer], "offers of {of}");
    }
    drop(pages);
}

/// In whatever order they start: channels before the first router, and while the bus has no majority.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_channels_wait_for_what_starts_beside_them() {
    const WAITING: &str = "not there yet; waiting";
    let mut daemon = prepared();
    let mut cluster = Cluster::start(&daemon).await;
    daemon.spawn();
    daemon.logged(WAITING).await;
    let _router = daemon.companion(&["router"]);
    daemon.ready().await;
    daemon.kill9();
    let waited = |daemon: &Daemon| daemon.logs().matches(WAITING).count();
    let before = waited(&daemon);
    (1..NAMES.len()).for_each(|at| cluster.kill9(at));
    daemon.spawn();
    until(PATIENCE, "channels that wait", async || (waited(&daemon) > before).then_some(())).await;
    (1..NAMES.len()).for_each(|at| cluster.run(at));
    daemon.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_elections_are_waited_for_and_nothing_is_taken_over() {
    let mut daemon = prepared();
    let mut cluster = Cluster::start(&daemon).await;
    let first = daemon.companion(&["router"]);
    first.up().await;
    daemon.start().await;
    let second = daemon.companion(&["router"]);
    leads(&second, 4..=4).await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let before = epoch(&daemon).await;
    let bus = daemon.connect("router").await;
    for stream in ["JOURNAL-0", "IN-0", "JOURNAL-0", "EVENTS", "OUT"] {
        let led_by = bus.leader(stream).await.expect("a cluster");
        bus.step_down(stream).await.expect("a cluster");
        until(PATIENCE, "another leader", async || bus.leader(stream).await.ok().flatten().filter(|_| true)).await;
        println!("{stream}: {led_by:?} stepped down");
    }
    assert_eq!(epoch(&daemon).await, before, "an election is no reason for a takeover");
    // The server that leads the journal dies, and comes back: a pause, and the same owner.
    for _ in 0..2 {
        let at = until(PATIENCE, "a leader", async || cluster.leader(&daemon, "JOURNAL-0").await).await;
        let count = load.answers();
        let began = Instant::now();
        cluster.kill9(at);
        until(PATIENCE, "answers again", async || (load.answers() > count + CUSTOMERS).then_some(())).await;
        println!("server of the journal's leader killed: answers again after {:?}", began.elapsed());
        cluster.run(at);
        cluster.ready(&daemon).await;
    }
    assert_eq!(epoch(&daemon).await, before, "the death of a server is no reason for a takeover");
    audit_all(&daemon, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_speaks_tls_everywhere() {
    let mut daemon = Daemon::builder().on_a_secure_cluster().prepare();
    let _cluster = Cluster::start(&daemon).await;
    daemon.start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    page.hears("agent", "re: hello").await;
    daemon.cli(&["status"]).await.ok();

    // Whoever speaks in clear, or does not trust the authority, gets nowhere.
    let reach = daemon.reach("router");
    let refused = async |options: bus::Options| bus::Bus::connect(options).await.expect_err("it is refused");
    let stranger = bus::Tls { required: true, ..bus::Tls::default() };
    refused(bus::Options { tls: stranger, ..reach.clone() }).await;
    let clear = reach.servers.iter().map(|server| server.replace("tls://", "nats://")).collect();
    refused(bus::Options { servers: clear, tls: bus::Tls::default(), ..reach }).await;
    drop(anna);
}
