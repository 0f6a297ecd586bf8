//! The bus is away for long while customers write by chat, by webhook and by mail: they are told, or what they wrote
//! waits where it is. Afterwards all of it is there once, in order and with an agent, and nobody storms the bus.
//!
//! `THROUGHLINE_AWAY_SECONDS` says for how long (15 when left out; `make chaos` says 180).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::{Event, EventRecord};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use throughline_tests::chat::RawSocket;
use throughline_tests::daemon::free_port;
use throughline_tests::mail::{ANN, BOB, SUPPORT};
use throughline_tests::{Daemon, MailServer, PATIENCE, Vendor, http, until};

use crate::audit;
use crate::crash::{Load, keeping_all, policy};
use crate::email::eml;

const CUSTOMERS: usize = 4;
const DEVICES: usize = 3;

/// What Bob sends at once, and what of it may be fetched while nothing can be stored: what one command fetches.
const MAILS: usize = 60;
const MAIL_BYTES: usize = 20_000;
const FETCHED_BYTES_MAX: u64 = 25 * 20_000 + 100_000;
/// The channel asks its mailbox again after two minutes at most.
const MAIL_WITHIN: Duration = Duration::from_secs(200);

/// The message of somebody who is told that it cannot be stored now.
const UNLUCKY: &str = "unlucky-1";

/// How often a part of the program may connect until it has what it had.
const CONNECTIONS_MAX: usize = 3;

/// A process that does nothing more until it is told to go on.
fn stands_still(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

/// How often each part of the daemon has connected to its bus server since a connection, by its number; and the number of
/// the newest. `None` when the server does not say.
async fn connections(daemon: &Daemon, monitor: u16, since: u64) -> Option<(BTreeMap<String, usize>, u64)> {
    let page = http::get(&format!("127.0.0.1:{monitor}"), "/connz?state=any&limit=100000").await.ok()?;
    let page: Value = serde_json::from_str(&page.body).ok()?;
    let own = format!("-{}", daemon.pid());
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    let mut newest = 0;
    for connection in page["connections"].as_array()? {
        let number = connection["cid"].as_u64()?;
        newest = newest.max(number);
        // Those that came to nothing have no name.
        if let Some(name) = connection["name"].as_str()
            && name.ends_with(&own)
            && number > since
        {
            *made.entry(name.to_owned()).or_default() += 1;
        }
    }
    Some((made, newest))
}

/// What a device was answered.
#[derive(Debug)]
struct Answer {
    asked: Instant,
    answered: Instant,
    status: u16,
    retry_after: bool,
}

#[derive(Debug, Default)]
struct Report {
    taken: Vec<String>,
    answers: Vec<Answer>,
}

/// A device reports one thing after the other, each until it is taken.
async fn reports(vendor: Arc<Vendor>, device: String, stopped: Arc<AtomicBool>) -> Report {
    let mut report = Report::default();
    loop {
        let id = format!("{device}-{}", report.taken.len());
        let asked = Instant::now();
        if let Ok(answer) = vendor.says(&id, &device, "Device", &format!("event {id}")).await {
            let retry_after = answer.head.to_lowercase().contains("\r\nretry-after: ");
            report.answers.push(Answer { asked, answered: Instant::now(), status: answer.status, retry_after });
            if answer.status == 200 {
                report.taken.push(id);
                if stopped.load(Ordering::Relaxed) {
                    return report;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A mail that no agent answers.
fn mail(server: &MailServer, from: &str, id: &str, text: &str) {
    let date = "Thu, 01 Jan 2026 10:00:00 +0000";
    server.put(SUPPORT, &eml(from, &format!("Matter {id}"), &format!("<{id}>"), date, &format!("event {text}")));
}

/// Ann writes one mail after the other. Their ids are in the order of the mailbox.
async fn ann_writes(server: &MailServer, end: Instant) -> Vec<String> {
    let mut ids = Vec::new();
    while Instant::now() < end {
        let id = format!("ann-{}@customer.example", ids.len());
        mail(server, ANN, &id, &id);
        ids.push(id);
        // Mails of one second have no order.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    ids
}

/// The ids of the mails that came in, in order.
fn mails(events: &[EventRecord]) -> Vec<String> {
    let ids = events.iter().filter_map(|record| match &*record.event {
        Event::MessageReceived { envelope, .. } => envelope.mail.as_ref()?.message_id.as_deref(),
        _ => None,
    });
    ids.map(|id| id.trim_matches(['<', '>']).to_owned()).collect()
}

/// What devices reported, by the device, in order.
fn reported(events: &[EventRecord]) -> BTreeMap<String, Vec<String>> {
    let mut reported: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in events {
        if let Event::MessageReceived { envelope, .. } = &*record.event
            && envelope.account.kind.as_str() == "webhook"
        {
            let id = envelope.external_id.as_deref().expect("the vendor's id");
            let (device, _) = id.rsplit_once('-').expect("a number");
            reported.entry(device.to_owned()).or_default().push(id.to_owned());
        }
    }
    reported
}

fn join(session: Option<&str>) -> String {
    json!({ "type": "join", "session": session, "after": 0 }).to_string()
}

/// A page that is in, and its session; `None` when it is sent away.
async fn enter(daemon: &Daemon, session: Option<&str>) -> Option<(RawSocket, String)> {
    let mut socket = RawSocket::connect(daemon).await;
    socket.send(&join(session)).await;
    loop {
        let frame = socket.next().await?;
        match frame["type"].as_str() {
            Some("joined") => return Some((socket, frame["session"].as_str()?.to_owned())),
            Some("error") => return None,
            _ => {}
        }
    }
}

/// The page is told to come again, or to send again what it sent.
async fn is_told(socket: &mut RawSocket, message: Option<&str>) {
    loop {
        let frame = socket.next().await.expect("a frame");
        if frame["type"] == "error" {
            assert_eq!(frame["code"], "busy", "{frame}");
            assert_eq!(frame["client_msg_id"].as_str(), message, "{frame}");
            assert!(frame["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{frame}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn away_for_long_the_bus_is_missed_and_nothing_else() {
    let seconds = std::env::var("THROUGHLINE_AWAY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let away = Duration::from_secs(seconds.unwrap_or(15));
    let (hook, monitor) = (free_port(), free_port());
    let (server, vendor) = (MailServer::start().await, Arc::new(Vendor::start(hook).await));
    let builder = keeping_all()
        .policy(&policy().replace("capacity = 1000", "capacity = 100000"))
        .account("email-support", &server.account(""))
        .set("bus.monitor_port", monitor);
    let mut daemon = vendor.join(builder).start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let stopped = Arc::new(AtomicBool::new(false));
    let devices: Vec<_> = (0..DEVICES)
        .map(|n| tokio::spawn(reports(Arc::clone(&vendor), format!("device-{n}"), Arc::clone(&stopped))))
        .collect();
    let (mut unlucky, session) = enter(&daemon, None).await.expect("the page is in");
    mail(&server, BOB, "before@customer.example", "before");
    until(PATIENCE, "a mail", async || (!mails(&daemon.events("main").await).is_empty()).then_some(())).await;
    until(PATIENCE, "answers", async || (load.answers() > CUSTOMERS).then_some(())).await;
    let (parts, newest) = connections(&daemon, monitor, 0).await.expect("the server's connections");
    assert!(parts.len() >= 4, "the router and three kinds of channels: {parts:?}");

    let pid = daemon.nats_pid().expect("the bus server");
    daemon.signal_nats(Signal::SIGSTOP);
    until(PATIENCE, "the bus server to stand still", async || stands_still(pid).then_some(())).await;
    let gone = Instant::now();
    let fetched = server.imap_line().brought();
    for n in 0..MAILS {
        mail(&server, BOB, &format!("bob-{n}@customer.example"), &"It squeaks. ".repeat(MAIL_BYTES / 12));
    }
    let message = json!({ "type": "message", "client_msg_id": UNLUCKY, "text": "is anybody there?" }).to_string();
    unlucky.send(&message).await;
    let mut newcomer = RawSocket::connect(&daemon).await;
    newcomer.send(&join(None)).await;
    let told = async {
        is_told(&mut unlucky, Some(UNLUCKY)).await;
        is_told(&mut newcomer, None).await;
        assert!(newcomer.next().await.is_none(), "who cannot come in is sent away");
    };
    let ((), of_ann) = tokio::join!(told, ann_writes(&server, gone + away));
    assert_eq!(http::get(&daemon.http(), "/healthz").await.expect("the pages").status, 200);
    let fetched = server.imap_line().brought() - fetched;
    let back = Instant::now();
    daemon.signal_nats(Signal::SIGCONT);
    assert!(fetched < FETCHED_BYTES_MAX, "{fetched} bytes of mail were fetched that could not be stored");
    daemon.ready().await;

    // What was refused is sent again.
    let in_again = async || enter(&daemon, Some(session.as_str())).await;
    let (mut unlucky, _) = until(PATIENCE * 2, "the page to be in again", in_again).await;
    unlucky.send(&message).await;
    loop {
        let frame = unlucky.next().await.expect("a frame");
        match frame["type"].as_str() {
            Some("ack") if frame["client_msg_id"] == UNLUCKY => break,
            Some("error") => unlucky.send(&message).await,
            _ => {}
        }
    }
    let count = load.answers();
    until(PATIENCE * 2, "answers again", async || (load.answers() > count + CUSTOMERS).then_some(())).await;
    let (made, _) = connections(&daemon, monitor, newest).await.expect("the server's connections");
    println!("connected after {:?}: {made:?}", back - gone);
    assert!(made.values().all(|times| *times <= CONNECTIONS_MAX), "{made:?}");

    // Nor does anybody storm a server that is another one.
    daemon.kill9_nats();
    until(PATIENCE, "another bus server", async || daemon.nats_pid().filter(|another| *another != pid)).await;
    daemon.ready().await;
    let made = until(PATIENCE, "every part to be connected", async || {
        let (made, _) = connections(&daemon, monitor, 0).await?;
        parts.keys().all(|part| made.contains_key(part)).then_some(made)
    })
    .await;
    let count = load.answers();
    until(PATIENCE * 2, "answers again", async || (load.answers() > count + CUSTOMERS).then_some(())).await;
    println!("connected to another server: {made:?}");
    let (made, _) = connections(&daemon, monitor, 0).await.expect("the server's connections");
    assert!(made.values().all(|times| *times <= CONNECTIONS_MAX), "{made:?}");
    let widget = http::get(&daemon.chat(), "/chat/web/widget.js").await.expect("the widget").body;
    let waits = |line: &&str| line.contains("setTimeout(connect") || line.contains("retry_after_ms *");
    let waits: Vec<&str> = widget.lines().filter(waits).collect();
    assert!(waits.len() > 1 && waits.iter().all(|line| line.contains("Math.random()")), "{waits:#?}");

    // Everybody comes to an end.
    stopped.store(true, Ordering::Relaxed);
    let mut taken = BTreeMap::new();
    for (n, device) in devices.into_iter().enumerate() {
        let report = device.await.expect("the device lives");
        let in_between = |answer: &&Answer| answer.answered > gone && answer.answered < back;
        // What was taken before may be answered just afterwards.
        let late = |answer: &Answer| answer.status == 200 && answer.asked < gone;
        let refused: Vec<&Answer> = report.answers.iter().filter(in_between).filter(|answer| !late(answer)).collect();
        let put_off = |answer: &&Answer| answer.status == 503 && answer.retry_after;
        assert!(!refused.is_empty() && refused.iter().all(put_off), "{refused:#?}");
        taken.insert(format!("device-{n}"), report.taken);
    }
    let (clients, tools) = load.settle().await;
    let of_bob = (0..MAILS).map(|n| format!("bob-{n}@customer.example")).chain(["before@customer.example".to_owned()]);
    let written: BTreeSet<String> = of_bob.chain(of_ann.iter().cloned()).collect();
    until(MAIL_WITHIN, "every mail", async || {
        let there: BTreeSet<String> = mails(&daemon.events("main").await).into_iter().collect();
        there.is_superset(&written).then_some(())
    })
    .await;
    until(PATIENCE, "everything to be with an agent", async || {
        let status = daemon.cli(&["--json", "status"]).await.json();
        let count = |state: &str| status["value"]["counts"]["conversations"][state].as_u64().unwrap_or(0);
        (count("waiting") == 0 && count("offered") == 0).then_some(())
    })
    .await;

    audit::quiet(&daemon).await;
    let (seq, live) = audit::live_digest(&daemon).await;
    let journal = daemon.journal(audit::SHARD).await;
    let journal: Vec<_> = journal.into_iter().filter(|record| record.seq <= seq).collect();
    let events = daemon.events("main").await;
    let mut events: Vec<_> = events.into_iter().filter(|record| record.position.seq <= seq).collect();
    let (stored, said) = audit::nothing_lost_or_doubled(&events, &clients, &tools);
    audit::transcript_is_exact(&journal, &events);
    assert_eq!(router::digest(&audit::replay(&journal)), live, "replaying the journal gives the live state");
    events.sort_by_key(|record| record.position);
    assert_eq!(reported(&events), taken, "what devices were told is stored is there once, and in order");
    let there = mails(&events);
    assert_eq!(there.len(), written.len(), "each mail is there once: {there:?}");
    let there: Vec<&String> = there.iter().filter(|id| id.starts_with("ann-")).collect();
    assert_eq!(there, of_ann.iter().collect::<Vec<_>>(), "and in the order of the mailbox");
    let (mut held, mut assigned, mut times) = (BTreeSet::new(), BTreeSet::new(), 0);
    for record in &events {
        match &*record.event {
            Event::MessageReceived { conversation, envelope, .. } => {
                held.insert(*conversation);
                times += usize::from(envelope.dedup_key.ends_with(UNLUCKY));
            }
            Event::ConversationAssigned { conversation, .. } => {
                assigned.insert(*conversation);
            }
            _ => {}
        }
    }
    assert_eq!(times, 1, "what was refused and sent again is there once");
    assert!(held.is_subset(&assigned), "never with an agent: {:?}", held.difference(&assigned));
    let (mails, reports) = (written.len(), taken.values().flatten().count());
    println!("{stored} messages, {said} answers, {mails} mails, {reports} reports: all there, once, in order");
}
