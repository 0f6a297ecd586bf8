//! A server of one's own per test, adapter processes that can be killed, and a line that can be cut.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use throughline_adapter::bus::embedded::{self, Server};
use throughline_adapter::bus::{Bus, Options, Publish, Reader, Topology, permissions, topology};
use throughline_adapter::contract::envelope::{EnvelopeKind, Receipt, decode_record};
use throughline_adapter::contract::outbound::{ChannelHealth, DeadLetter, OutCommand};
use throughline_adapter::contract::{Encoding, Envelope, TenantId, codec, shard, subject};
use throughline_adapter::fetch::FetchSettings;
use throughline_adapter::runtime::redact::Redactor;
use throughline_adapter::webhook::{self, Webhooks};
use throughline_adapter::{AccountFile, Channels, Context, Environment, Fetcher, Kind, Shutdown, prepare, toml};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::demo::{DemoKind, Provider};
use crate::hooked::HookedKind;

const SHARDS: u16 = 8;
/// A killed process's commands come back so soon.
pub(crate) const QUICK: Duration = Duration::from_secs(1);
/// What the topology says.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);
/// The account of the tests.
pub(crate) const ACCOUNT: &str = "kind = \"demo\"\naccount = \"web\"\n";

/// Nothing here takes longer than this.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throughline-adapter-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The pinned server, wherever the tests run from.
fn binary() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/nats-server/nats-server");
    path.exists().then_some(path)
}

/// A server with the whole topology, and the router's connection to it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) router: Bus,
    folder: Folder,
}

impl World {
    /// A command that nobody answers for is delivered again after `ack_wait`.
    pub(crate) async fn start(ack_wait: Duration) -> Self {
        Self::start_with(ack_wait, |_| ()).await
    }

    pub(crate) async fn start_with(ack_wait: Duration, change: impl FnOnce(&mut Topology)) -> Self {
        let folder = Folder::new();
        let options = embedded::Options {
            binary: binary(),
            data_dir: folder.0.clone(),
            sync_interval: "100ms".into(),
            users: permissions::all(&["demo"], &[]),
            ..embedded::Options::default()
        };
        let server = Server::start(options).await.unwrap();
        let router = connect(server.url(), &server, permissions::ROUTER).await;
        let mut topology = Topology::throughline(SHARDS, 1, &["demo"]);
        topology.consumers[0].ack_wait = ack_wait;
        change(&mut topology);
        router.ensure(&topology).await.unwrap();
        Self { server, router, folder }
    }

    /// Runs the account in a process of its own.
    pub(crate) async fn run(&self, provider: &Arc<Provider>) -> Process {
        self.run_by(self.server.url(), provider, ACCOUNT).await
    }

    /// The same over another way to the server, or with other settings.
    pub(crate) async fn run_by(&self, url: &str, provider: &Arc<Provider>, account: &str) -> Process {
        self.run_all(url, provider, &[account]).await
    }

    /// Several accounts in one process.
    pub(crate) async fn run_all(&self, url: &str, provider: &Arc<Provider>, accounts: &[&str]) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let (opened, is_open) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let file = |account: &&str| AccountFile::from_table(&toml::from_str(account).unwrap(), Path::new("demo.toml"));
        let files = accounts.iter().map(|account| file(account).unwrap()).collect();
        let kinds: Vec<Box<dyn Kind>> = vec![Box::new(DemoKind(Arc::clone(provider)))];
        let ready = prepare(&kinds, files).unwrap();
        let options = options(url, &self.server, &permissions::adapter_user("demo"));
        let (data_dir, theirs) = (self.folder.0.clone(), shutdown.clone());
        runtime.spawn(async move {
            let bus = Bus::connect(options).await.unwrap();
            let environment = Environment {
                bus,
                shards: SHARDS,
                data_dir,
                instance: "test".into(),
                redactor: Arc::default(),
                webhooks: Webhooks::none(),
                fetcher: Fetcher::new(&FetchSettings::default()).unwrap(),
                shutdown: theirs,
            };
            let channels = Channels::open(ready, environment).await.unwrap();
            opened.send(()).unwrap();
            channels.run().await;
            let _ = over.send(());
        });
        soon(is_open).await.unwrap();
        Process { runtime: Some(runtime), shutdown, ended, context: provider.context() }
    }

    /// Runs accounts whose provider calls them, in a process of its own.
    pub(crate) async fn run_hooks(
        &self,
        accounts: &[&str],
        settings: webhook::Settings,
        fetch: FetchSettings,
    ) -> Hooked {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let (opened, is_open) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let files = accounts
            .iter()
            .map(|text| AccountFile::from_table(&toml::from_str(text).unwrap(), Path::new("demo.toml")).unwrap());
        let kinds: Vec<Box<dyn Kind>> = vec![Box::new(HookedKind)];
        let ready = prepare(&kinds, files.collect()).unwrap();
        assert!(ready.iter().all(|account| account.has_hook()));
        let options = options(self.server.url(), &self.server, &permissions::adapter_user("demo"));
        let (data_dir, theirs) = (self.folder.0.clone(), shutdown.clone());
        runtime.spawn(async move {
            let bus = Bus::connect(options).await.unwrap();
            let webhooks = Webhooks::bind(settings).await.unwrap();
            let environment = Environment {
                bus,
                shards: SHARDS,
                data_dir,
                instance: "test".into(),
                redactor: Arc::new(Redactor::new(true, &[]).unwrap()),
                webhooks: webhooks.clone(),
                fetcher: Fetcher::new(&fetch).unwrap(),
                shutdown: theirs.clone(),
            };
            let channels = Channels::open(ready, environment).await.unwrap();
            opened.send(webhooks.address().unwrap()).unwrap();
            let serving = tokio::spawn(webhooks.serve(theirs));
            channels.run().await;
            serving.await.unwrap().unwrap();
            let _ = over.send(());
        });
        let address = soon(is_open).await.unwrap();
        Hooked { runtime: Some(runtime), shutdown, ended, address }
    }

    /// The dead letters, from the first one.
    pub(crate) async fn letters(&self, count: usize) -> Vec<DeadLetter> {
        let mut reader = self.router.read(topology::DEAD, 1, None).await.unwrap();
        let mut letters = Vec::new();
        while letters.len() < count {
            let stored = soon(reader.next()).await.unwrap();
            letters.push(Encoding::MsgPack.decode(&stored.payload, 1 << 20).unwrap());
        }
        letters
    }

    /// As the router does it: stored, with an id of its own.
    pub(crate) async fn command(&self, command: &OutCommand) {
        let subject = subject::out(&command.tenant, &command.account.kind, &command.account.id);
        let publish = Publish {
            subject,
            payload: Encoding::MsgPack.encode(command).unwrap().into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            msg_id: Some(command.command_id.to_string()),
            ..Publish::default()
        };
        self.router.publish(publish).await.unwrap();
    }

    /// What comes in, from the beginning.
    pub(crate) async fn inbox(&self) -> Inbox {
        Inbox { reader: self.router.read(&in_stream(), 1, None).await.unwrap(), here: VecDeque::new() }
    }

    /// The signs of life, from the first one.
    pub(crate) async fn beats(&self) -> Beats {
        let stream = format!("KV_{}", topology::CHANNELS);
        Beats(self.router.read(&stream, 0, None).await.unwrap())
    }

    /// Waits until no command is left.
    pub(crate) async fn until_done(&self) {
        soon(async {
            while self.router.stream_state(topology::OUT).await.unwrap().messages > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// `kill -9` of the server that this test started, by its number.
    pub(crate) fn kill_server(&self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
    }

    /// The server stands still until this is dropped.
    pub(crate) fn pause_server(&self) -> Paused {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        Paused(self.pid())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.server.pid()).unwrap())
    }

    pub(crate) async fn end(self) {
        self.server.stop().await.unwrap();
    }
}

#[must_use = "it goes on when this is dropped"]
pub(crate) struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn options(url: &str, server: &Server, user: &str) -> Options {
    let credentials = server.credentials(user).unwrap();
    Options { servers: vec![url.into()], credentials, ..Options::default() }
}

pub(crate) async fn connect(url: &str, server: &Server, user: &str) -> Bus {
    Bus::connect(options(url, server, user)).await.unwrap()
}

/// The stream that the tests' tenant comes in by.
pub(crate) fn in_stream() -> String {
    topology::in_stream(shard::of(&TenantId::new("main").unwrap(), SHARDS))
}

/// An adapter's process: a runtime of its own, so that it can end in the middle of everything.
pub(crate) struct Process {
    runtime: Option<Runtime>,
    pub(crate) shutdown: Shutdown,
    ended: oneshot::Receiver<()>,
    pub(crate) context: Context,
}

impl Process {
    /// Nothing of it is carried on from where it stands.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// In good order.
    pub(crate) async fn drain(mut self) {
        self.shutdown.drain();
        soon(&mut self.ended).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A process with a listener.
pub(crate) struct Hooked {
    runtime: Option<Runtime>,
    shutdown: Shutdown,
    ended: oneshot::Receiver<()>,
    pub(crate) address: std::net::SocketAddr,
}

impl Hooked {
    /// Nothing of it is carried on from where it stands.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// In good order.
    pub(crate) async fn drain(mut self) {
        self.shutdown.drain();
        soon(&mut self.ended).await.unwrap();
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Envelopes with the sequence of their record and their place in it.
pub(crate) struct Inbox {
    reader: Reader,
    here: VecDeque<(u64, u32, Envelope)>,
}

impl Inbox {
    pub(crate) async fn next(&mut self) -> (u64, u32, Envelope) {
        while self.here.is_empty() {
            let stored = soon(self.reader.next()).await.unwrap();
            let record = decode_record(&stored.payload, stored.headers.get(codec::CONTENT_TYPE)).unwrap();
            self.here.extend((0..).zip(record).map(|(index, envelope)| (stored.seq, index, envelope.unwrap())));
        }
        self.here.pop_front().unwrap()
    }

    /// The next envelope, which must be a receipt.
    pub(crate) async fn receipt(&mut self) -> Receipt {
        let (_, _, envelope) = self.next().await;
        assert_eq!(envelope.kind, EnvelopeKind::Receipt);
        envelope.receipt.unwrap()
    }

    /// The receipts of so many commands. One may come again in another record, as it was: the router
    /// knows it by its key.
    pub(crate) async fn receipts(&mut self, count: usize) -> BTreeMap<String, Receipt> {
        let mut receipts = BTreeMap::new();
        while receipts.len() < count {
            let receipt = self.receipt().await;
            let command = receipt.command_id.clone().unwrap().to_string();
            if let Some(before) = receipts.insert(command, receipt.clone()) {
                assert_eq!(before, receipt);
            }
        }
        receipts
    }

    /// Everything that is there now, to the stream's end.
    pub(crate) async fn rest(&mut self, world: &World) -> Vec<(u64, u32, Envelope)> {
        let last = world.router.stream_state(&in_stream()).await.unwrap().last;
        let mut rest = Vec::new();
        while self.reader.position() <= last || !self.here.is_empty() {
            rest.push(self.next().await);
        }
        rest
    }
}

pub(crate) struct Beats(Reader);

impl Beats {
    /// Waits for a state.
    pub(crate) async fn until(&mut self, state: &str) -> ChannelHealth {
        soon(async {
            loop {
                let stored = self.0.next().await.unwrap();
                let health: ChannelHealth = Encoding::Json.decode(&stored.payload, 65_536).unwrap();
                if health.state == state {
                    return health;
                }
            }
        })
        .await
    }
}

/// A command `main/<name>` of a thread, with so many pieces of content.
pub(crate) fn command(name: &str, thread: &str, parts: usize) -> OutCommand {
    let content: Vec<_> = (0..parts).map(|part| json!({ "type": "text", "body": format!("part {part}") })).collect();
    serde_json::from_value(json!({
        "v": 1,
        "command_id": name,
        "tenant": "main",
        "account": { "kind": "demo", "id": "web" },
        "thread": { "key": thread },
        "conversation": "c1",
        "customer": "u1",
        "message": "m1",
        "thread_seq": 1,
        "author": { "agent": "anna" },
        "content": content,
        "at": throughline_adapter::now(),
    }))
    .unwrap()
}

/// A message of a thread.
pub(crate) fn envelope(thread: &str, number: usize) -> Envelope {
    serde_json::from_value(json!({
        "v": 1,
        "kind": "message",
        "tenant": "main",
        "account": { "kind": "demo", "id": "web" },
        "dedup_key": format!("{thread}/{number}"),
        "thread": { "key": thread },
        "sender": { "identity": { "scheme": "visitor", "value": thread, "scope": "account", "scope_id": "web" } },
        "sender_auth": { "level": "unverified" },
        "received_at": throughline_adapter::now(),
        "content": [{ "type": "text", "body": format!("{number}") }],
    }))
    .unwrap()
}

/// A line to the server that goes dead in front of the first piece that holds some bytes.
pub(crate) struct Line {
    pub(crate) url: String,
    cut: watch::Receiver<bool>,
}

impl Line {
    pub(crate) async fn dead_before(server: &Server, bytes: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let server = server.url().trim_start_matches("nats://").to_owned();
        let (cutter, cut) = watch::channel(false);
        let cutter = Arc::new(cutter);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let back = tokio::spawn(carry(from_server, to_client, Arc::clone(&cutter), None));
                let cutter = Arc::clone(&cutter);
                tokio::spawn(async move {
                    carry(from_client, to_server, cutter, Some(bytes)).await;
                    // Whoever hangs up is known to be gone.
                    back.abort();
                });
            }
        });
        Self { url, cut }
    }

    /// Waits until it is dead.
    pub(crate) async fn cut(&mut self) {
        soon(self.cut.wait_for(|cut| *cut)).await.unwrap();
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    cutter: Arc<watch::Sender<bool>>,
    cut_before: Option<&'static [u8]>,
) {
    let mut bytes = vec![0; 256 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let piece = &bytes[..count];
        if cut_before.is_some_and(|wanted| piece.windows(wanted.len()).any(|window| window == wanted)) {
            cutter.send_replace(true);
        }
        // Dead, it swallows what it is given.
        if !*cutter.borrow() && to.write_all(piece).await.is_err() {
            return;
        }
    }
}
