//! Three bus servers, two routers, a process of channels; chat, webhooks, social, text messages and mail at once; and
//! everything that can go wrong between them, in an order that a seed repeats. Afterwards everything that was
//! acknowledged is there once, and the rules of the design hold over all that was decided.
//!
//! `THROUGHLINE_CHAOS` says how many things happen (one of each kind when left out; `make chaos` says 200),
//! `THROUGHLINE_SEED` repeats an order. Kinds come as from a bag that is shuffled and emptied again and again, so that
//! chance leaves none out. The test says in the end which did not come: those that stay in the bag where fewer things
//! happen than there are kinds, and a full disk where none can be made (mostly only root can).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::envelope::ReceiptStatus;
use contract::{AgentId, Event, EventRecord, MessageId, subject};
use nix::sys::signal::Signal;
use serde_json::json;
use throughline_tests::agent::text_of;
use throughline_tests::cluster::NAMES;
use throughline_tests::daemon::{Builder, TENANT, free_port};
use throughline_tests::graph::{ACCESS_TOKEN, APP_SECRET, Graph, VERIFY_TOKEN};
use throughline_tests::mail::{ANN, BOB, SUPPORT};
use throughline_tests::phone::{ACCOUNT, BASE, OURS, TOKEN};
use throughline_tests::phone_sms::TwilioSms;
use throughline_tests::streams::tenant;
use throughline_tests::{Clock, Cluster, Companion, Daemon, Disk, MailServer, PATIENCE, Wires, http, until};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::audit;
use crate::crash::{Dice, Load, keeping_all};

const CUSTOMERS: usize = 12;
/// As many as the load has.
const AGENTS: usize = 6;
const STREAMS: [&str; 5] = ["JOURNAL-0", "IN-0", "EVENTS", "OUT", "KV_tl-ledger"];

/// The server whose store lies on a small disk, where there may be one.
const SMALL: usize = 2;

/// How many mails an account hands over at once.
const SMTP_CONNECTIONS: usize = 4;

/// How late a provider's post may be, at most: later events of the same thread come before it.
const LATE_MS: u64 = 2000;
/// How soon a post that was not taken is sent again, at first and after many times.
const AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// After so long a provider gives up.
const GIVEN_UP: Duration = Duration::from_secs(120);

/// What is drawn for one thing does not shift what is drawn for another.
const MISHAPS: u64 = 1;
const POSTS: u64 = 2;

/// splitmix64: numbers that a seed repeats.
struct Draws(u64);

impl Draws {
    fn of(seed: u64, what: u64) -> Self {
        Self(seed ^ what.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.number() % (most - least + 1)
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// One of so many.
    fn at(&mut self, count: usize) -> usize {
        usize::try_from(self.between(0, count as u64 - 1)).expect("few")
    }

    fn yes(&mut self) -> bool {
        self.between(0, 1) == 1
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let at = self.at(last + 1);
            all.swap(last, at);
        }
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    RouterKilled(usize),
    RouterFrozen(usize, u64),
    RouterDrained(usize),
    ServerKilled(usize, u64),
    ServerFrozen(usize, u64),
    /// From the other servers, for so many milliseconds; whether connections are hung up on at the end.
    ServerCutOff(usize, u64, bool),
    /// The program from a server.
    ProgramCutOff(usize, u64, bool),
    /// A router's clock goes wrong by so many seconds, for so many milliseconds.
    ClockJumped(usize, i64, u64),
    /// A server's disk is full for so many milliseconds; then there is room, and the server is started anew, since it
    /// stores nothing before that.
    DiskFull(u64),
    LeaderMoved(&'static str),
    ChannelsKilled,
    /// All channels, and a reader of the facts.
    ChannelsFrozen(u64),
    /// Somebody who listens to everything reads no more.
    ListenerStalled(usize),
    /// A further tool of an agent, on a server, follows the feed and reads nothing for so many milliseconds.
    ToolStalled(usize, usize, u64),
}

/// How often what takes long is looked at.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// Makes one of a kind.
type Draw = fn(&mut Draws) -> Mishap;

/// The kinds, with how one of each is drawn.
const KINDS: [(&str, Draw); 14] = [
    ("a router is killed", |draws| Mishap::RouterKilled(draws.at(2))),
    ("a router freezes", |draws| Mishap::RouterFrozen(draws.at(2), draws.between(200, 3000))),
    ("a router is drained", |draws| Mishap::RouterDrained(draws.at(2))),
    ("a server is killed", |draws| Mishap::ServerKilled(draws.at(NAMES.len()), draws.between(300, 3000))),
    ("a server freezes", |draws| Mishap::ServerFrozen(draws.at(NAMES.len()), draws.between(200, 3000))),
    ("a server is cut off", |draws| Mishap::ServerCutOff(draws.at(NAMES.len()), draws.between(200, 8000), draws.yes())),
    ("the program is cut off", |draws| {
        Mishap::ProgramCutOff(draws.at(NAMES.len()), draws.between(200, 8000), draws.yes())
    }),
    ("a clock jumps", |draws| {
        let by = [-86_400, -3_600, -5, 5, 3_600, 86_400][draws.at(6)];
        Mishap::ClockJumped(draws.at(2), by, draws.between(200, 3000))
    }),
    (FULL_DISK, |draws| Mishap::DiskFull(draws.between(500, 4000))),
    ("a stream's leader moves", |draws| Mishap::LeaderMoved(STREAMS[draws.at(STREAMS.len())])),
    ("the channels are killed", |_| Mishap::ChannelsKilled),
    ("the channels freeze", |draws| Mishap::ChannelsFrozen(draws.between(200, 3000))),
    ("a listener stalls", |draws| Mishap::ListenerStalled(draws.at(NAMES.len()))),
    ("a tool stalls", |draws| Mishap::ToolStalled(draws.at(AGENTS), draws.at(NAMES.len()), draws.between(1000, 4000))),
];
const FULL_DISK: &str = "a disk is full";

/// Something that is to happen, and after how long.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    kind: &'static str,
    after: Duration,
    what: Mishap,
}

/// What happens, as a seed has it: each kind once, in some order, and then all of them again in another.
fn schedule(seed: u64, count: usize) -> Vec<Planned> {
    let mut draws = Draws::of(seed, MISHAPS);
    let mut bag: Vec<usize> = Vec::new();
    let mut planned = Vec::new();
    for _ in 0..count {
        if bag.is_empty() {
            bag.extend(0..KINDS.len());
            draws.shuffle(&mut bag);
        }
        let (kind, draw) = KINDS[bag.pop().expect("it was filled")];
        let after = draws.millis(200, 1500);
        planned.push(Planned { kind, after, what: draw(&mut draws) });
    }
    planned
}

/// The kinds that are not among what was planned, and those that cannot come here.
fn left_out(planned: &[Planned], has_small_disk: bool) -> Vec<&'static str> {
    let came: BTreeSet<&str> = planned.iter().map(|planned| planned.kind).collect();
    let missed = |kind: &&str| !came.contains(kind) || *kind == FULL_DISK && !has_small_disk;
    KINDS.iter().map(|(kind, _)| *kind).filter(missed).collect()
}

/// Subscribes to something as a user of the bus, and reads nothing of it.
async fn stalled(daemon: &Daemon, user: &str, server: usize, subjects: &[&str]) -> Option<TcpStream> {
    let options = daemon.reach(user);
    let address = options.servers[server].strip_prefix("nats://").expect("no TLS here").to_owned();
    let (user, password) = match options.credentials {
        bus::Credentials::Password { user, password } => (user, password),
        bus::Credentials::PasswordFile { user, file } => {
            let password = std::fs::read_to_string(file).expect("the password");
            (user, password.trim().to_owned())
        }
        other => panic!("no password: {other:?}"),
    };
    let socket = TcpSocket::new_v4().expect("a socket");
    // What lies in buffers nobody notices.
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(address.parse().expect("an address")).await.ok()?;
    let hello =
        json!({ "verbose": false, "pedantic": false, "lang": "none", "version": "0", "user": user, "pass": password });
    let subscribed: String = (1..).zip(subjects).map(|(n, subject)| format!("SUB {subject} {n}\r\n")).collect();
    let said = format!("CONNECT {hello}\r\n{subscribed}PING\r\n");
    stream.write_all(said.as_bytes()).await.ok()?;
    Some(stream)
}

/// Waits so long at least, and until an agent other than this one has got messages and answered them.
async fn others_go_on(load: &Load, but: usize, least: Duration) {
    let said = || -> usize {
        let others = load.tools.iter().enumerate().filter(|(n, _)| *n != but);
        others.map(|(_, tool)| tool.said().len()).sum()
    };
    let (began, before) = (Instant::now(), said());
    while began.elapsed() < least || said() == before {
        assert!(began.elapsed() < least + PATIENCE * 2, "no other agent got a message while one tool read nothing");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Providers that post each event up to three times, in parallel and each time after a while of its own, so that they
/// come out of order, and again until it is taken: devices, whose events nobody answers, WhatsApp, and text messages
/// over Twilio. And customers who write mails.
///
/// The order of a thread is that in which its messages come to the listener: nothing is expected of the order in which
/// they are sent.
struct Providers {
    graph: Graph,
    twilio: Arc<TwilioSms>,
    mail: Arc<MailServer>,
    hook: u16,
    stop: Arc<AtomicBool>,
}

/// What a provider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Device,
    WhatsApp,
    Sms,
}

impl Way {
    /// The provider's id of the `n`th event.
    fn id(self, n: u32) -> String {
        match self {
            Self::Device => format!("e{n}"),
            Self::WhatsApp => format!("wamid.{n}"),
            Self::Sms => format!("SM{n:032x}"),
        }
    }
}

/// What was taken, by the provider's id.
struct Posting(tokio::task::JoinHandle<BTreeSet<String>>);

/// An event of a provider: the same, however often it is posted.
#[derive(Debug, Clone, Copy)]
struct Occurred {
    way: Way,
    n: u32,
    /// In seconds.
    at: u64,
}

/// Posts an event after a while, and again until it is taken, or for as long as a provider does.
async fn deliver(event: Occurred, after: Duration, hook: u16, twilio: Arc<TwilioSms>) -> Option<String> {
    tokio::time::sleep(after).await;
    let began = Instant::now();
    let [mut pause, longest] = AGAIN;
    while post(event, hook, &twilio).await != Some(200) {
        if began.elapsed() >= GIVEN_UP {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
    Some(event.way.id(event.n))
}

async fn post(event: Occurred, hook: u16, twilio: &TwilioSms) -> Option<u16> {
    let Occurred { way, n, at } = event;
    let (id, limit) = (way.id(n), Duration::from_secs(10));
    match way {
        Way::Device => {
            let device = n % 7;
            let body = format!(r#"{{"id":"{id}","from":"device-{device}","text":"event {id}"}}"#);
            let address = format!("127.0.0.1:{hook}");
            let said = http::request(&address, "POST", "/hook/webhook/devices", Some(&body), limit).await;
            said.ok().map(|answer| answer.status)
        }
        Way::WhatsApp => {
            let from = format!("1650555123{}", n % 3);
            let message = json!({ "id": id, "from": from, "timestamp": at.to_string(), "type": "text",
                "text": { "body": format!("whatsapp {n}") } });
            let value = json!({ "messaging_product": "whatsapp", "messages": [message],
                "contacts": [{ "wa_id": from, "profile": { "name": "Sheena" } }] });
            crate::social::say(hook, "wa", &crate::social::change(value)).await
        }
        Way::Sms => twilio.try_text(&id, &format!("+4930111{:03}", n % 3), &format!("sms {n}"), &[]).await,
    }
}

impl Providers {
    async fn ready(hook: u16) -> Self {
        let (graph, twilio) = (Graph::start().await, Arc::new(TwilioSms::start(hook).await));
        let mail = Arc::new(MailServer::start().await);
        Self { graph, twilio, mail, hook, stop: Arc::default() }
    }

    /// A daemon with an account of each.
    fn builder(&self) -> Builder {
        let phone = format!(
            "kind = \"phone\"\nprovider = \"twilio\"\naccount = \"berlin\"\naddress = \"{OURS}\"\n[settings]\n\
             account_sid = \"{ACCOUNT}\"\nauth_token = [{{ env = \"TWILIO_TOKEN\" }}]\n\
             api_base = \"http://127.0.0.1:{}\"\nhttp = {{ timeout_ms = 3000 }}\n\
             [settings.sms]\nper_second_max = 100.0\ncustomer_per_second_max = 100.0\n",
            self.twilio.api.port
        );
        keeping_all()
            .account("devices", DEVICES)
            .account("social-wa", &self.graph.whatsapp())
            .account("phone-berlin", &phone)
            .account("email-support", &self.mail.account(""))
            .env("META_SECRET", APP_SECRET)
            .env("META_TOKEN", ACCESS_TOKEN)
            .env("META_VERIFY", VERIFY_TOKEN)
            .env("TWILIO_TOKEN", TOKEN)
            .set("webhook.listen", format!("\"127.0.0.1:{}\"", self.hook))
            .set("webhook.public_base_url", format!("\"{BASE}\""))
    }

    /// Begins; how late each post is follows from the seed.
    fn start(&self, seed: u64) -> Posting {
        let (stopped, twilio, hook) = (Arc::clone(&self.stop), Arc::clone(&self.twilio), self.hook);
        let writing = self.write_mails();
        let mut draws = Draws::of(seed, POSTS);
        Posting(tokio::spawn(async move {
            let mut posts = tokio::task::JoinSet::new();
            let mut taken = BTreeSet::new();
            let mut count = 0_u32;
            while !stopped.load(Ordering::Relaxed) {
                let ways = [(Way::Device, 1), (Way::WhatsApp, 6), (Way::Sms, 9)];
                for (way, _) in ways.into_iter().filter(|(_, every)| count.is_multiple_of(*every)) {
                    let event = Occurred { way, n: count, at: runtime::clock::now() / 1000 };
                    for _ in 0..count % 3 + 1 {
                        posts.spawn(deliver(event, draws.millis(0, LATE_MS), hook, Arc::clone(&twilio)));
                    }
                }
                count += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let mut given_up = 0;
            while let Some(post) = posts.join_next().await {
                let id = post.expect("a post ends");
                given_up += usize::from(id.is_none());
                taken.extend(id);
            }
            println!("{given_up} posts were given up by their providers");
            taken.extend(writing.await.expect("the customers live"));
            taken
        }))
    }

    /// The ids of the mails that two customers write. They are in the mailbox, whatever happens to us.
    fn write_mails(&self) -> tokio::task::JoinHandle<Vec<String>> {
        let (stopped, server) = (Arc::clone(&self.stop), Arc::clone(&self.mail));
        tokio::spawn(async move {
            let mut written = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let n = written.len();
                let from = [ANN, BOB][n % 2];
                let id = server.writes(from, &format!("question {n}"), &format!("mail {n}")).await;
                written.push(bare(&id).to_owned());
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
            written
        })
    }

    /// What they stopped with.
    async fn taken(&self, posting: Posting) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        posting.0.await.expect("the providers live")
    }

    /// How often each answer arrived, by its text; and how many mails came again under the same Message-ID.
    fn arrived(&self) -> (BTreeMap<String, usize>, usize) {
        let mut arrived = BTreeMap::new();
        let whatsapp = self.graph.taken().into_iter().map(|taken| taken.said);
        let sms = self.twilio.api.taken().into_iter().map(|taken| taken.text);
        for text in whatsapp.chain(sms) {
            *arrived.entry(text).or_default() += 1;
        }
        let (mut ids, mut again) = (BTreeMap::new(), 0);
        let mails = [ANN, BOB].into_iter().flat_map(|customer| self.mail.mailbox(customer));
        for mail in mails.filter(|mail| mail.from.as_deref() == Some(SUPPORT)) {
            let (text, id) = (mail.text.trim().to_owned(), mail.message_id.expect("our mails have an id"));
            match ids.insert(id, text.clone()) {
                None => *arrived.entry(text).or_default() += 1,
                Some(other) => {
                    assert_eq!(other, text, "two mails have one Message-ID");
                    again += 1;
                }
            }
        }
        (arrived, again)
    }
}

/// A mail's id without its brackets.
fn bare(id: &str) -> &str {
    id.trim_matches(['<', '>'])
}

/// How many events of devices came after one that the same device sent later.
fn overtaken(events: &[EventRecord]) -> usize {
    let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
    let mut overtaken = 0;
    for record in events {
        let Event::MessageReceived { envelope, .. } = &*record.event else { continue };
        let id = envelope.external_id.as_deref().filter(|_| envelope.account.kind.as_str() == "webhook");
        let Some(n) = id.and_then(|id| id.strip_prefix('e')?.parse::<u32>().ok()) else { continue };
        let newest = newest.entry(envelope.thread.key.as_str()).or_default();
        overtaken += usize::from(n < *newest);
        *newest = n.max(*newest);
    }
    overtaken
}

/// Answers to WhatsApp, by text message and by mail, with what is known of their fate.
fn answers(events: &[EventRecord]) -> BTreeMap<MessageId, (String, Vec<ReceiptStatus>)> {
    let mut answers: BTreeMap<MessageId, (String, Vec<ReceiptStatus>)> = BTreeMap::new();
    for record in events {
        match &*record.event {
            Event::MessageSent { message, thread, content, .. } if thread.account.kind.as_str() != "chat" => {
                answers.insert(*message, (text_of(content), Vec::new()));
            }
            Event::MessageStatusChanged { messages, status, .. } => {
                for message in messages {
                    if let Some((_, states)) = answers.get_mut(message) {
                        states.push(status.clone());
                    }
                }
            }
            _ => {}
        }
    }
    answers
}

const DEVICES: &str = r#"
kind = "webhook"
account = "devices"
[settings]
[[settings.verify]]
scheme = "open"
[[settings.event]]
dedup_key = "/id"
external_id = "/id"
thread = "/from"
text = "/text"
sender = { identity = { scheme = "device", value = "/from" } }
"#;

/// Everything that something happens to.
struct World {
    daemon: Daemon,
    cluster: Cluster,
    wires: Wires,
    disk: Option<Disk>,
    clocks: [Clock; 2],
    routers: [Companion; 2],
    /// Who listens and does not read.
    stalled: Vec<TcpStream>,
}

impl World {
    async fn start(providers: &Providers) -> Self {
        let wires = Wires::lay().await;
        let mut daemon = providers.builder().with_only(&["channels", "wall"]).on_wires(&wires).prepare();
        let disk = Disk::on(&daemon.cluster_dir().join("store").join(NAMES[SMALL]), 256);
        let cluster = Cluster::start_on(&daemon, Some(&wires)).await;
        // Each to each, and by no other way than the lines.
        until(PATIENCE, "the servers to be connected over the lines", async || wires.in_use().then_some(())).await;
        let clocks = [0, 1].map(|at| Clock::new(&daemon.folder().join(format!("clock-{at}"))));
        let routers = [0, 1].map(|at: usize| daemon.companion_in(&["router"], &clocks[at].env()));
        routers[0].up().await;
        daemon.start().await;
        Self { daemon, cluster, wires, disk, clocks, routers, stalled: Vec::new() }
    }

    fn another_router(&mut self, at: usize) {
        self.routers[at] = self.daemon.companion_in(&["router"], &self.clocks[at].env());
    }

    async fn another_server(&mut self, at: usize, after: u64) {
        self.cluster.kill9(at);
        tokio::time::sleep(Duration::from_millis(after)).await;
        self.cluster.run(at);
        self.cluster.ready(&self.daemon).await;
    }

    async fn happen(&mut self, what: Mishap, load: &Load) {
        let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
        match what {
            Mishap::RouterKilled(at) => {
                self.routers[at].kill9();
                self.another_router(at);
            }
            Mishap::RouterFrozen(at, ms) => {
                self.routers[at].signal(Signal::SIGSTOP);
                pause(ms).await;
                self.routers[at].signal(Signal::SIGCONT);
            }
            Mishap::RouterDrained(at) => {
                self.routers[at].up().await;
                assert!(self.routers[at].terminate().await.success());
                self.another_router(at);
            }
            Mishap::ServerKilled(at, ms) => self.another_server(at, ms).await,
            Mishap::ServerFrozen(at, ms) => {
                self.cluster.signal(at, Signal::SIGSTOP);
                pause(ms).await;
                self.cluster.signal(at, Signal::SIGCONT);
            }
            Mishap::ServerCutOff(at, ms, hang_up) => {
                self.wires.cut_off(at);
                pause(ms).await;
                self.wires.mend(at, hang_up);
            }
            Mishap::ProgramCutOff(at, ms, hang_up) => {
                self.wires.cut_clients_off(at);
                pause(ms).await;
                self.wires.mend(at, hang_up);
            }
            Mishap::ClockJumped(at, seconds, ms) => {
                self.clocks[at].set(seconds);
                pause(ms).await;
                self.clocks[at].set(0);
            }
            Mishap::DiskFull(ms) => {
                if let Some(disk) = &self.disk {
                    disk.fill();
                    pause(ms).await;
                    disk.clear();
                }
                self.another_server(SMALL, 300).await;
            }
            Mishap::LeaderMoved(stream) => {
                let bus = until(PATIENCE, "the bus", async || self.daemon.try_connect("router").await).await;
                // There may be no leader just now: then it moves by itself.
                let _ = bus.step_down(stream).await;
            }
            Mishap::ChannelsKilled => self.daemon.restart().await,
            Mishap::ChannelsFrozen(ms) => {
                self.daemon.signal(Signal::SIGSTOP);
                pause(ms).await;
                self.daemon.signal(Signal::SIGCONT);
            }
            // It stays for as long as the server bears it.
            Mishap::ListenerStalled(at) => {
                let all = ["tl.v1.>", "$KV.>"];
                self.stalled.extend(stalled(&self.daemon, bus::permissions::ROUTER, at, &all).await);
            }
            Mishap::ToolStalled(agent, at, ms) => {
                let name = format!("a{agent}");
                let user = bus::permissions::agent_user(TENANT, &name);
                let feed = subject::feed_all(&tenant(TENANT), &AgentId::new(name).expect("a name"));
                let tool = until(PATIENCE, "the server to take a tool", async || {
                    stalled(&self.daemon, &user, at, &[feed.as_str()]).await
                })
                .await;
                others_go_on(load, agent, Duration::from_millis(ms)).await;
                drop(tool);
            }
        }
    }
}

/// The id of the mail that a fact says came in.
fn mail_of(record: &EventRecord) -> Option<String> {
    match &*record.event {
        Event::MessageReceived { envelope, .. } => {
            Some(bare(envelope.mail.as_ref()?.message_id.as_deref()?).to_owned())
        }
        _ => None,
    }
}

/// Everything that was acknowledged to customers, agents and the providers is there, once, in order; every answer arrived
/// once, or is told to have failed or to be of unknown fate; and the journal means the live state. Returns how much the
/// providers got through.
///
/// A mail that was being handed over when the channels were killed is handed over again under the same Message-ID: no
/// mail server tells whether it took it. So it may come twice, but not more often than they were `killed`, times the
/// connections that an account has.
async fn audit_all(daemon: &Daemon, load: Load, providers: &Providers, posting: Posting, killed: usize) -> usize {
    let taken = providers.taken(posting).await;
    let (clients, tools) = load.settle().await;
    // Nobody acknowledges a mail: it lies in the mailbox until it is fetched.
    let mailed = |id: &String| id.contains('@');
    until(PATIENCE * 4, "every mail to be fetched", async || {
        let events = daemon.events("main").await;
        let fetched: BTreeSet<String> = events.iter().filter_map(mail_of).collect();
        taken.iter().filter(|id| mailed(id)).all(|id| fetched.contains(id)).then_some(())
    })
    .await;
    let mails = taken.iter().filter(|id| mailed(id)).count();
    audit::quiet(daemon).await;
    let (seq, live) = audit::live_digest(daemon).await;
    let journal = daemon.journal(audit::SHARD).await;
    let journal: Vec<_> = journal.into_iter().filter(|record| record.seq <= seq).collect();
    let events = daemon.events("main").await;
    let events: Vec<_> = events.into_iter().filter(|record| record.position.seq <= seq).collect();
    let (stored, said) = audit::nothing_lost_or_doubled(&events, &clients, &tools);
    audit::rest_is_exact(&journal, &events, &live);
    let mut posted: BTreeMap<String, usize> = BTreeMap::new();
    for record in &events {
        if let Event::MessageReceived { envelope, .. } = &*record.event
            && envelope.account.kind.as_str() != "chat"
        {
            let mail = envelope.mail.as_ref().and_then(|mail| mail.message_id.as_deref());
            let id = mail.or(envelope.external_id.as_deref()).unwrap_or_default();
            *posted.entry(bare(id).to_owned()).or_default() += 1;
        }
    }
    let overtaken = overtaken(&events);
    assert!(overtaken > 0, "every device was heard in the order in which it spoke");
    let lost: Vec<_> = taken.iter().filter(|id| !posted.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged to the provider and not there: {lost:?}");
    assert!(posted.values().all(|times| *times == 1), "{posted:?}");
    let decided = |states: &[ReceiptStatus]| states.iter().any(|state| *state != ReceiptStatus::Delayed);
    // A channel waits up to five minutes before it tries again.
    let mut left: u32 = 210;
    let fates = loop {
        let fates = answers(&daemon.events("main").await);
        let open: Vec<_> = fates.iter().filter(|(_, (_, states))| !decided(states)).collect();
        if open.is_empty() {
            break fates;
        }
        if left.is_multiple_of(30) {
            println!("{left} tries until these should have a fate: {open:?}");
        }
        assert!(left > 0, "nothing is said of the fate of these: {open:#?}");
        left -= 1;
        tokio::time::sleep(TRY_EVERY).await;
    };
    let (arrived, again) = providers.arrived();
    assert!(
        again <= killed * SMTP_CONNECTIONS,
        "{again} mails came again, and the channels were killed {killed} times"
    );
    let (mut went, mut unknown) = (0, 0);
    for (text, states) in fates.values() {
        match arrived.get(text) {
            Some(1) => went += 1,
            Some(times) => {
                // Whether it was said once and sent twice, or said twice.
                let said: Vec<_> = fates.iter().filter(|(_, (other, _))| other == text).collect();
                panic!("{text:?} arrived {times} times; it was said as {said:?}")
            }
            None => {
                let told = |state: &ReceiptStatus| matches!(state, ReceiptStatus::Failed | ReceiptStatus::Unknown);
                assert!(states.iter().any(told), "{text:?} never arrived, and is said to be {states:?}");
                unknown += 1;
            }
        }
    }
    assert!(went > 0, "no answer arrived at a provider");
    audit::facts_hold(daemon, &tools).await;
    println!("{mails} mails among what came in, {overtaken} events overtaken by later ones");
    println!(
        "{went} answers by WhatsApp, SMS and mail arrived once, {unknown} are told not to have arrived, or perhaps not; \
         {again} mails came again under their Message-ID"
    );
    println!("{stored} messages, {said} answers, {} events of providers: all there, once, in order", taken.len());
    taken.len()
}

/// What everything is drawn from.
fn seed() -> u64 {
    Dice::new().between(0, u64::MAX - 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_over_a_cluster_loses_and_doubles_nothing() {
    let count = std::env::var("THROUGHLINE_CHAOS").ok().and_then(|count| count.parse().ok()).unwrap_or(KINDS.len());
    let seed = seed();
    let planned = schedule(seed, count);
    let hook = free_port();
    let providers = Providers::ready(hook).await;
    let mut world = World::start(&providers).await;
    let load = Load::start(&world.daemon, CUSTOMERS).await;
    assert_eq!(load.tools.len(), AGENTS);
    let posting = providers.start(seed);
    for (n, Planned { after, what, .. }) in planned.iter().enumerate() {
        tokio::time::sleep(*after).await;
        println!("{n}: {what:?}");
        world.happen(*what, &load).await;
    }
    world.cluster.ready(&world.daemon).await;
    let killed = planned.iter().filter(|planned| planned.what == Mishap::ChannelsKilled).count();
    let taken = audit_all(&world.daemon, load, &providers, posting, killed).await;
    assert!(taken > count, "the providers got hardly anything through: {taken}");
    let routers: Vec<String> = world.routers.iter().map(Companion::http).collect();
    audit::no_router_found_a_rule_broken(&world.daemon, &routers).await;
    println!("kinds that did not come: {:?}", left_out(&planned, world.disk.is_some()));
}

#[test]
fn chaos_of_the_same_seed_is_the_same() {
    let planned = schedule(7, 200);
    assert_eq!(planned, schedule(7, 200));
    assert_ne!(planned, schedule(8, 200));
    // Fewer things are the first of many.
    assert_eq!(planned[..50], schedule(7, 50)[..]);
    let late = |seed| {
        let mut draws = Draws::of(seed, POSTS);
        (0..200).map(|_| draws.millis(0, LATE_MS)).collect::<Vec<_>>()
    };
    assert_eq!(late(7), late(7));
    assert_ne!(late(7), late(8));
    assert!(late(7).iter().all(|late| *late <= Duration::from_millis(LATE_MS)));
}

#[test]
fn chaos_leaves_no_kind_out() {
    for seed in 0..200 {
        let planned = schedule(seed, 3 * KINDS.len() + 1);
        for bag in planned.chunks_exact(KINDS.len()) {
            assert!(left_out(bag, true).is_empty(), "seed {seed}: {bag:?}");
        }
        assert_eq!(left_out(&planned[..KINDS.len() - 2], true).len(), 2);
        assert_eq!(left_out(&planned, false), [FULL_DISK]);
    }
}

/// On one machine with a server of our own: while its disk is full nothing is acknowledged, and everybody is told; once
/// there is room it goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_full_disk_is_told_and_room_lets_it_go_on() {
    let hook = free_port();
    let providers = Providers::ready(hook).await;
    // It goes after what runs on it.
    let disk;
    let mut daemon = providers.builder().prepare();
    match Disk::on(&daemon.data_dir(), 256) {
        Some(small) => disk = small,
        None => return,
    }
    daemon.start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    let address = format!("127.0.0.1:{hook}");
    let posting = providers.start(seed());
    let report = async |id: &str| {
        let body = format!(r#"{{"id":"{id}","from":"device-x","text":"event {id}"}}"#);
        let limit = Duration::from_secs(20);
        http::request(&address, "POST", "/hook/webhook/devices", Some(&body), limit).await.ok()
    };
    for round in 0..2 {
        let before = load.answers();
        until(PATIENCE, "answers", async || (load.answers() > before).then_some(())).await;
        disk.fill();
        let refused = until(PATIENCE, "a webhook that is not taken", async || {
            disk.fill();
            report(&format!("while full {round}")).await.filter(|answer| answer.status == 503)
        })
        .await;
        assert!(refused.head.to_lowercase().contains("retry-after"), "{}", refused.head);
        let standing = async || http::get(&daemon.http(), "/readyz").await.ok().filter(|answer| answer.status == 503);
        let said = until(PATIENCE, "the disk in the readiness", async || {
            standing().await.filter(|answer| answer.body.contains("the bus cannot store"))
        })
        .await;
        assert!(said.body.contains("no space left on device"), "{}", said.body);
        let metrics = http::get(&daemon.http(), "/metrics").await.expect("the metrics").body;
        assert!(metrics.contains("\nbus_disk_free_bytes 0"), "{metrics}");
        disk.clear();
        daemon.ready().await;
        let taken = until(PATIENCE, "a webhook that is taken", async || report(&format!("after {round}")).await).await;
        assert_eq!(taken.status, 200, "{}", taken.body);
    }
    audit_all(&daemon, load, &providers, posting, 0).await;
    audit::no_router_found_a_rule_broken(&daemon, &[daemon.http()]).await;
}
