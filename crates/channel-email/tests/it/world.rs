//! A bus of one's own per test, and the account on it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adapter::bus::embedded::{self, Server};
use adapter::bus::{Bus, Options, Publish, Reader, Topology, permissions, topology};
use adapter::contract::envelope::{EnvelopeKind, Receipt, Thread, decode_record};
use adapter::contract::outbound::{ChannelHealth, OutCommand};
use adapter::contract::{Encoding, Envelope, TenantId, codec, shard, subject};
use adapter::{AccountFile, Channels, Environment, Shutdown, now, prepare, toml};

use crate::imap::Mailbox;
use crate::smtp::MailServer;

const SHARDS: u16 = 8;

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("it takes too long"))
}

pub(crate) struct World {
    server: Server,
    pub(crate) router: Bus,
    folder: PathBuf,
    pub(crate) mailbox: Mailbox,
    pub(crate) mail_server: MailServer,
}

/// The running account.
pub(crate) struct Running {
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) async fn drain(self) {
        self.shutdown.drain();
        soon(self.task).await.unwrap();
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throughline-email-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let binary = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/nats-server/nats-server"));
        let options = embedded::Options {
            binary: binary.exists().then_some(binary),
            data_dir: folder.clone(),
            sync_interval: "100ms".into(),
            users: permissions::all(&["email"], &[]),
            ..embedded::Options::default()
        };
        let server = Server::start(options).await.unwrap();
        let router = connect(&server, permissions::ROUTER).await;
        router.ensure(&Topology::throughline(SHARDS, 1, &["email"])).await.unwrap();
        Self { server, router, folder, mailbox: Mailbox::start().await, mail_server: MailServer::start().await }
    }

    /// Runs the account with its own user's permissions. `extra` goes into `[settings.imap]`.
    pub(crate) async fn run(&self, extra: &str) -> Running {
        let secret = self.folder.join("password");
        if !secret.exists() {
            std::fs::write(&secret, "hunter2").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&secret, mode).unwrap();
        }
        let (imap, smtp, secret) = (self.mailbox.port, self.mail_server.port, secret.display());
        let text = format!(
            r#"
            kind = "email"
            account = "support"
            [settings]
            address = "support@shop.example"
            name = "Shop support"
            authserv_id = "mx.shop.example"
            [settings.imap]
            host = "127.0.0.1"
            port = {imap}
            security = "none"
            user = "support"
            password = {{ file = "{secret}" }}
            poll_seconds = 1
            timeout_seconds = 5
            {extra}
            [settings.smtp]
            host = "127.0.0.1"
            port = {smtp}
            security = "none"
            timeout_seconds = 5
            "#
        );
        let path = self.folder.join("email.toml");
        let file = AccountFile::from_table(&toml::from_str(&text).unwrap(), &path).unwrap();
        let ready = prepare(&[throughline_channel_email::register()], vec![file]).unwrap();
        let bus = connect(&self.server, &permissions::adapter_user("email")).await;
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let environment = Environment {
            bus,
            shards: SHARDS,
            data_dir: self.folder.clone(),
            instance: "test".into(),
            redactor: std::sync::Arc::default(),
            webhooks: adapter::webhook::Webhooks::none(),
            fetcher: adapter::Fetcher::new(&adapter::fetch::FetchSettings::default()).unwrap(),
            shutdown: shutdown.clone(),
        };
        let channels = Channels::open(ready, environment).await.unwrap();
        Running { shutdown, task: tokio::spawn(channels.run()) }
    }

    /// As the router does it.
    pub(crate) async fn command(&self, message: &str, thread: &Thread, text: &str, agent: bool) {
        let author = if agent { serde_json::json!({ "agent": "anna" }) } else { serde_json::json!({}) };
        let command: OutCommand = serde_json::from_value(serde_json::json!({
            "v": 1, "command_id": format!("main/{message}"), "tenant": "main",
            "account": { "kind": "email", "id": "support" }, "thread": thread,
            "conversation": "c1", "customer": "u1", "message": message, "thread_seq": 1, "author": author,
            "content": [{ "type": "text", "body": text }], "at": now(),
        }))
        .unwrap();
        let publish = Publish {
            subject: subject::out(&command.tenant, &command.account.kind, &command.account.id),
            payload: Encoding::MsgPack.encode(&command).unwrap().into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            msg_id: Some(command.command_id.to_string()),
            ..Publish::default()
        };
        self.router.publish(publish).await.unwrap();
    }

    pub(crate) async fn inbox(&self) -> Inbox {
        let stream = topology::in_stream(shard::of(&TenantId::new("main").unwrap(), SHARDS));
        Inbox { reader: self.router.read(&stream, 1, None).await.unwrap(), here: VecDeque::new() }
    }

    /// Waits for a state that the operator sees.
    pub(crate) async fn until_health(&self, state: &str) -> ChannelHealth {
        self.until_fares(|health| health.state == state).await
    }

    pub(crate) async fn until_fares(&self, is: impl Fn(&ChannelHealth) -> bool) -> ChannelHealth {
        let bucket = self.router.bucket(topology::CHANNELS).await.unwrap();
        soon(async {
            loop {
                if let Some(entry) = bucket.get("main.email.support").await.unwrap() {
                    let health: ChannelHealth = serde_json::from_slice(&entry.value).unwrap();
                    if is(&health) {
                        return health;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub(crate) async fn end(self) {
        self.server.stop().await.unwrap();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn connect(server: &Server, user: &str) -> Bus {
    let credentials = server.credentials(user).unwrap();
    Bus::connect(Options { servers: vec![server.url().into()], credentials, ..Options::default() }).await.unwrap()
}

pub(crate) struct Inbox {
    reader: Reader,
    here: VecDeque<Envelope>,
}

impl Inbox {
    pub(crate) async fn next(&mut self) -> Envelope {
        while self.here.is_empty() {
            let stored = soon(self.reader.next()).await.unwrap();
            let record = decode_record(&stored.payload, stored.headers.get(codec::CONTENT_TYPE)).unwrap();
            self.here.extend(record.into_iter().map(Result::unwrap));
        }
        self.here.pop_front().unwrap()
    }

    pub(crate) async fn receipt(&mut self) -> Receipt {
        let envelope = self.next().await;
        assert_eq!(envelope.kind, EnvelopeKind::Receipt);
        envelope.receipt.unwrap()
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1500), self.next()).await.is_err()
    }
}
