//! Webhook posts accepted per second: a body in WhatsApp's shape with three messages is verified, read, stored as three
//! envelopes and answered; as a ratio to a bare handler in the same run that publishes the same bytes to JetStream and
//! awaits the acknowledgement. 64 connections that are kept, client, handlers and server on one machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter::fetch::FetchSettings;
use adapter::http::StatusCode;
use adapter::runtime::redact::Redactor;
use adapter::runtime::secret::SecretString;
use adapter::verify::{self, Algorithm};
use adapter::webhook::{Hook, Item, Reply, Request, Settings, Siblings, Verdict, Webhooks};
use adapter::{
    AccountFile, BoxFuture, Channel, Channels, Context, Environment, Fetcher, Kind, OpenError, PartLedger, Prepared,
    Problem, SendFailure, Sent, Shutdown, toml,
};
use axum::extract::State;
use bus::embedded::{self, Server};
use bus::{Bus, Options, Publish, Retention, Stream, Topology, permissions};
use contract::envelope::{
    Account, AuthLevel, Identity, Part, Party, Role, Scope, SenderAuth, Text, Thread, ThreadKind,
};
use contract::outbound::{Capabilities, OutCommand};
use contract::{Envelope, TenantId, Timestamp};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CONNECTIONS: usize = 64;
const SECRET: &str = "bench-app-secret";
const KIND: &str = "bench";
const SHARDS: u16 = 8;

struct BenchKind;

struct BenchChannel(Context);

struct BenchHook {
    tenant: TenantId,
    secrets: Vec<SecretString>,
    trust: String,
}

impl Kind for BenchKind {
    fn name(&self) -> &'static str {
        KIND
    }

    fn prepare(&self, _: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        Ok(Box::new(Self))
    }
}

impl Prepared for BenchKind {
    fn has_hook(&self) -> bool {
        true
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            let secret = SecretString::new(SECRET);
            let trust = verify::fingerprint(&secret);
            context.hooks.claim(&trust, "106540352242922")?;
            let hook = BenchHook { tenant: context.tenant.clone(), secrets: vec![secret], trust };
            context.hooks.serve(Arc::new(hook))?;
            Ok(Arc::new(BenchChannel(context)) as Arc<dyn Channel>)
        })
    }
}

impl Channel for BenchChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn send<'a>(&'a self, _: &'a OutCommand, _: &'a mut PartLedger) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(async { Ok(Sent::accepted()) })
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            self.0.shutdown.draining().await;
            Ok(())
        })
    }
}

#[derive(Deserialize)]
struct Body {
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    value: Value,
}

#[derive(Deserialize)]
struct Value {
    metadata: Metadata,
    #[serde(default)]
    contacts: Vec<Contact>,
    #[serde(default)]
    messages: Vec<Box<serde_json::value::RawValue>>,
}

#[derive(Deserialize)]
struct Metadata {
    phone_number_id: String,
}

#[derive(Deserialize)]
struct Contact {
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    from: String,
    id: String,
    timestamp: String,
    text: Said,
}

#[derive(Deserialize)]
struct Said {
    body: String,
}

impl Hook for BenchHook {
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict {
        let given = request.header("x-hub-signature-256").and_then(|given| given.strip_prefix("sha256="));
        let Some(given) = given else { return Verdict::refuse(StatusCode::UNAUTHORIZED, "unsigned") };
        if !verify::hmac(Algorithm::Sha256, &self.secrets, &[&request.body], verify::Encoding::Hex, given) {
            return Verdict::refuse(StatusCode::FORBIDDEN, "signature");
        }
        let Ok(body) = serde_json::from_slice::<Body>(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "shape");
        };
        let mut items = Vec::new();
        for Change { value } in body.entry.into_iter().flat_map(|entry| entry.changes) {
            let Some(account) = accounts.resolve(&self.trust, &value.metadata.phone_number_id) else { continue };
            let name = value.contacts.first().map(|contact| contact.profile.name.as_str());
            for raw in value.messages {
                if let Ok(message) = serde_json::from_str(raw.get()) {
                    let envelope = self.envelope(&account, message, name, request.at);
                    items.push(Item::envelope(envelope, raw.get().to_owned()));
                }
            }
        }
        Verdict::Take { items, reply: Reply::ok() }
    }
}

impl BenchHook {
    fn envelope(&self, account: &Account, message: Message, name: Option<&str>, at: Timestamp) -> Envelope {
        let identity = Identity {
            scheme: "tel".into(),
            value: format!("+{}", message.from).into(),
            scope: Scope::Global,
            scope_id: None,
            raw: None,
            assurance: None,
        };
        let auth = SenderAuth { level: AuthLevel::SignedWebhook, detail: None };
        let thread = Thread::new(message.from, ThreadKind::Direct);
        let sender = Party { display: name.map(Into::into), ..Party::new(identity, Role::Customer) };
        let mut envelope = Envelope::new(self.tenant.clone(), account.clone(), thread, sender, auth, at);
        envelope.dedup_key = message.id.as_str().into();
        envelope.external_id = Some(message.id.into());
        envelope.sent_at_raw = Some(message.timestamp.into());
        envelope.content = vec![Part::Text(Text { body: message.text.body, ..Text::default() })];
        envelope
    }
}

/// One post: three messages of one customer.
fn post(path: &str, round: &str, n: usize) -> Vec<u8> {
    let from = format!("49170{:07}", n % 5000);
    let messages: Vec<_> = (0..3)
        .map(|part| {
            serde_json::json!({
                "from": from, "id": format!("wamid.HBgN{round}{n:08}{part}VmFsaWQ="), "timestamp": "1767225600", "type": "text",
                "text": { "body": "Good morning, my parcel has not come yet; could you have a look where it is, please?" },
            })
        })
        .collect();
    let body = serde_json::json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "102290129340398", "changes": [{ "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "15550783881", "phone_number_id": "106540352242922" },
            "contacts": [{ "profile": { "name": "Ann Example" }, "wa_id": from }],
            "messages": messages,
        } }] }],
    })
    .to_string();
    let signature =
        verify::sign(Algorithm::Sha256, &SecretString::new(SECRET), &[body.as_bytes()], verify::Encoding::Hex);
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-hub-signature-256: sha256={signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends every post by 64 connections, each waiting for its answers. Posts per second, and how long each took.
async fn load(address: SocketAddr, posts: Vec<Vec<u8>>) -> (f64, Vec<Duration>) {
    let count = posts.len();
    let mut shares: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS).map(|_| Vec::new()).collect();
    for (n, post) in posts.into_iter().enumerate() {
        shares[n % CONNECTIONS].push(post);
    }
    let began = Instant::now();
    let tasks: Vec<_> = shares
        .into_iter()
        .map(|share| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                stream.set_nodelay(true).expect("an option");
                let mut latencies = Vec::with_capacity(share.len());
                let mut answer = vec![0; 4096];
                for post in share {
                    let sent = Instant::now();
                    stream.write_all(&post).await.expect("sent");
                    let mut length = 0;
                    // Answers have no body.
                    while !answer[..length].ends_with(b"\r\n\r\n") {
                        let read = stream.read(&mut answer[length..]).await.expect("an answer");
                        assert!(read > 0, "hung up");
                        length += read;
                    }
                    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(count);
    for task in tasks {
        latencies.extend(task.await.expect("ended well"));
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    (rate, latencies)
}

async fn bare(State(bus): State<Bus>, body: axum::body::Bytes) -> axum::http::StatusCode {
    let publish = Publish { subject: "bench.in".to_owned(), payload: body, ..Publish::default() };
    bus.publish(publish).await.expect("stored");
    axum::http::StatusCode::OK
}

struct World {
    server: Server,
    folder: PathBuf,
    bare: SocketAddr,
    hook: SocketAddr,
    router: Bus,
    shutdown: Shutdown,
}

impl World {
    async fn start(sync_interval: &str, keep_raw: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("throughline-bench-hook-{}-{keep_raw}", std::process::id()));
        let options = embedded::Options {
            data_dir: folder.clone(),
            sync_interval: sync_interval.to_owned(),
            users: permissions::all(&[KIND], &[]),
            ..embedded::Options::default()
        };
        let server = Server::start(options).await.expect("a server");
        let connect = |user: String| {
            let credentials = server.credentials(&user).expect("a user");
            let options = Options { servers: vec![server.url().to_owned()], credentials, ..Options::default() };
            async move { Bus::connect(options).await.expect("a connection") }
        };
        let router = connect(permissions::ROUTER.to_owned()).await;
        let mut topology = Topology::throughline(SHARDS, 1, &[KIND]);
        topology.streams.push(Stream {
            name: "BENCH".to_owned(),
            subjects: vec!["bench.>".to_owned()],
            retention: Retention::Limits,
            full_refuses: true,
            bytes_max: None,
            age_max: None,
            message_bytes_max: None,
            duplicate_window: Duration::from_secs(120),
            replicas: 1,
        });
        router.ensure(&topology).await.expect("streams");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let bare_address = listener.local_addr().expect("an address");
        let app = axum::Router::new().route("/bare", axum::routing::post(bare)).with_state(router.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });

        let settings = Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            peer_per_second_max: 1e6,
            peer_burst_max: 1e6,
            keep_raw,
            ..Settings::default()
        };
        let webhooks = Webhooks::bind(settings).await.expect("a port");
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let environment = Environment {
            bus: connect(permissions::adapter_user(KIND)).await,
            shards: SHARDS,
            data_dir: folder.clone(),
            instance: "bench".into(),
            redactor: Arc::new(Redactor::new(true, &[]).expect("no patterns")),
            webhooks: webhooks.clone(),
            fetcher: Fetcher::new(&FetchSettings::default()).expect("certificates"),
            shutdown: shutdown.clone(),
        };
        let account = toml::from_str("kind = \"bench\"\naccount = \"wa\"").expect("an account");
        let file = AccountFile::from_table(&account, Path::new("bench.toml")).expect("an account");
        let kinds: Vec<Box<dyn Kind>> = vec![Box::new(BenchKind)];
        let ready = adapter::prepare(&kinds, vec![file]).unwrap_or_else(|problems| panic!("{problems:?}"));
        let channels = Channels::open(ready, environment).await.expect("open");
        let hook = webhooks.address().expect("an address");
        tokio::spawn(channels.run());
        tokio::spawn(webhooks.serve(shutdown.clone()));
        Self { server, folder, bare: bare_address, hook, router, shutdown }
    }

    async fn bare(&self, round: &str, count: usize) -> (f64, Vec<Duration>) {
        load(self.bare, (0..count).map(|n| post("/bare", round, n)).collect()).await
    }

    async fn ours(&self, round: &str, count: usize) -> (f64, Vec<Duration>) {
        load(self.hook, (0..count).map(|n| post("/hook/bench/wa", round, n)).collect()).await
    }
}

fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default().as_secs_f64() * 1000.0
}

/// Runs it for one setting of the server's `sync_interval`, with originals kept or not.
pub async fn run(sync_interval: &str, keep_raw: bool, quick: bool) {
    let world = World::start(sync_interval, keep_raw).await;
    let count = if quick { 6_000 } else { 20_000 };
    world.bare("w", count / 5).await;
    world.ours("w", count / 5).await;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    // In turns, so that a noisy minute hits both.
    for round in 0..3 {
        bare.push(world.bare(&format!("b{round}"), count).await);
        ours.push(world.ours(&format!("o{round}"), count).await);
    }
    bare.sort_by(|one, other| one.0.total_cmp(&other.0));
    ours.sort_by(|one, other| one.0.total_cmp(&other.0));
    let ((bare_rate, bare_spans), (rate, spans)) = (&bare[1], &ours[1]);
    let shard = contract::shard::of(&TenantId::new("main").expect("a name"), SHARDS);
    let stored = world.router.stream_state(&bus::topology::in_stream(shard)).await;
    let records = stored.expect("a stream").messages;
    println!(
        "webhooks, sync_interval {sync_interval}, originals {}: bare handler {bare_rate:.0} posts/s (p50 {:.2} ms, p99 {:.2} ms); three messages verified, read and stored {rate:.0} posts/s (p50 {:.2} ms, p99 {:.2} ms); ratio {:.2} (target 1.0); {:.1} envelopes a record",
        if keep_raw { "kept" } else { "not kept" },
        percentile(bare_spans, 0.5),
        percentile(bare_spans, 0.99),
        percentile(spans, 0.5),
        percentile(spans, 0.99),
        rate / bare_rate,
        (3 * (count / 5 + 3 * count)) as f64 / records as f64,
    );
    world.shutdown.drain();
    world.server.stop().await.expect("stopped");
    let _ = std::fs::remove_dir_all(&world.folder);
}

/// Our side alone, for a profiler: it has threads of its own, named `ours`, and nothing else is measured beside it.
pub fn alone(quick: bool) {
    let named = |name: &str| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.thread_name(name).enable_all().build().expect("a runtime")
    };
    let (ours, client) = (named("ours"), named("client"));
    let world = ours.block_on(async { tokio::spawn(World::start("100ms", false)).await.expect("a world") });
    println!("process {}", std::process::id());
    let count = if quick { 20_000 } else { 400_000 };
    let posts = (0..count).map(|n| post("/hook/bench/wa", "alone", n)).collect();
    let (rate, spans) = client.block_on(async { tokio::spawn(load(world.hook, posts)).await.expect("ended well") });
    println!(
        "our side alone, sync_interval 100ms: {rate:.0} posts/s, p50 {:.2} ms, p99 {:.2} ms",
        percentile(&spans, 0.5),
        percentile(&spans, 0.99)
    );
    world.shutdown.drain();
    ours.block_on(world.server.stop()).expect("stopped");
    let _ = std::fs::remove_dir_all(&world.folder);
}
