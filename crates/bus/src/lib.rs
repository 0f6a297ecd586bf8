//! The only crate that talks to NATS.
//!
//! It knows bytes, subjects, streams and buckets; it knows nothing of routing. Every call has a
//! timeout, every error says whether the bus may have done it all the same, and nothing of the
//! client library shows in the interface.

pub mod embedded;
mod error;
mod topology;

pub use error::{Error, ErrorKind};
pub use topology::{Bucket, Consumer, Retention, Stream, Topology};

use std::time::Duration;
use bytes::Bytes;

/// How to reach the bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses, `nats://host:port` or `tls://host:port`; never with credentials in them.
    pub servers: Vec<String>,
    /// Name shown in the server's connection list.
    pub name: String,
    /// Who we are. The inbox prefix becomes `_INBOX_<user>`, which the permissions keep private.
    pub credentials: Credentials,
    /// Root certificates to trust besides the system's, and a client certificate.
    pub tls: Tls,
    /// How long a publish waits for its acknowledgement, and an API request for its answer.
    pub timeout: Duration,
}

/// Who we are on the bus.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A user with a password.
    Password { user: String, password: String },
    /// A `.creds` file.
    File(std::path::PathBuf),
    /// An nkey seed.
    Nkey(String),
    /// A token.
    Token(String),
}

/// TLS particulars; all empty means: as the address says, with the system's roots.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    pub ca_file: Option<std::path::PathBuf>,
    pub cert_file: Option<std::path::PathBuf>,
    pub key_file: Option<std::path::PathBuf>,
    pub required: bool,
}

/// A connection. Cheap to clone.
#[derive(Clone)]
pub struct Bus {}

/// Something to publish.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    pub subject: String,
    pub payload: Bytes,
    /// `content-type` header.
    pub content_type: Option<&'static str>,
    /// `Nats-Msg-Id`.
    pub msg_id: Option<String>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Only if the newest message on a subject of the stream has this sequence (0: there is none).
    pub expect: Option<Expect>,
}

/// A fence: (subject, its newest sequence). The subject may be another than the one published on.
#[derive(Debug, Clone)]
pub struct Expect {
    pub subject: String,
    pub seq: u64,
}

/// What the stream answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub seq: u64,
    /// It was there already, by its msg id.
    pub duplicate: bool,
}

/// A core message.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    pub reply: Option<String>,
    pub headers: Headers,
    pub payload: Bytes,
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    pub seq: u64,
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    /// When the server stored it, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Headers of a received message.
#[derive(Debug, Clone, Default)]
pub struct Headers {}

impl Headers {
    pub fn get(&self, _name: &str) -> Option<&str> { todo!() }
}

/// State of the connection, for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection { Up, Down }

impl Bus {
    pub async fn connect(_options: Options) -> Result<Self, Error> { todo!() }
    /// Changes when the connection goes up or down.
    pub fn connection(&self) -> tokio::sync::watch::Receiver<Connection> { todo!() }
    /// Creates what is missing and updates what differs; never deletes or recreates a stream.
    pub async fn ensure(&self, _topology: &Topology) -> Result<(), Error> { todo!() }
    /// Core publish: fire and forget; fails only when the connection's buffer stays full.
    pub async fn send(&self, _publish: Publish) -> Result<(), Error> { todo!() }
    /// JetStream publish; waits for the ack. `ErrorKind::Ambiguous` = may be stored.
    pub async fn publish(&self, _publish: Publish) -> Result<Ack, Error> { todo!() }
    /// Request and reply over core NATS.
    pub async fn request(&self, _publish: Publish, _timeout: Duration) -> Result<Message, Error> { todo!() }
    pub async fn subscribe(&self, _subject: &str) -> Result<Subscription, Error> { todo!() }
    /// All pending writes are on the wire.
    pub async fn flush(&self) -> Result<(), Error> { todo!() }
    /// Reads a stream in order from `from` on (1: the beginning), for ever, over reconnects and server
    /// restarts. Push ordered consumer (see nats.md section 5: pull ordered resumes 15 s late).
    pub async fn read(&self, _stream: &str, _from: u64, _filter: Option<&str>) -> Result<Reader, Error> { todo!() }
    /// The newest message on a subject (may hold wildcards), by the leader. `None`: there is none.
    pub async fn last(&self, _stream: &str, _subject: &str) -> Result<Option<Stored>, Error> { todo!() }
    /// One message by the leader.
    pub async fn get(&self, _stream: &str, _seq: u64) -> Result<Option<Stored>, Error> { todo!() }
    /// (first sequence, last sequence, messages, bytes) of a stream.
    pub async fn stream_state(&self, _stream: &str) -> Result<StreamState, Error> { todo!() }
    /// Every stored message on `filter` with sequence >= from, to the end as it was at the call; newest `limit` if given.
    /// For history: uses a short-lived consumer and always cleans up.
    pub async fn collect(&self, _stream: &str, _filter: &str, _limit: Option<usize>) -> Result<Vec<Stored>, Error> { todo!() }
    /// Deletes everything below `seq`.
    pub async fn purge_below(&self, _stream: &str, _seq: u64) -> Result<(), Error> { todo!() }
    /// Deletes one message (operator's `dead` handling).
    pub async fn delete(&self, _stream: &str, _seq: u64) -> Result<(), Error> { todo!() }
    /// Work off a durable pull consumer declared in the topology.
    pub async fn work(&self, _stream: &str, _durable: &str) -> Result<Jobs, Error> { todo!() }
    pub async fn bucket(&self, _name: &str) -> Result<Kv, Error> { todo!() }
    pub async fn objects(&self, _name: &str) -> Result<Objects, Error> { todo!() }
    /// Registers with the NATS Service API (ADR-32) so that `nats micro ls` finds it. Every instance
    /// must get every request (own queue group per instance): the owner of a shard alone answers.
    pub async fn service(&self, _description: Service) -> Result<Requests, Error> { todo!() }
}

/// A service for discovery.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub version: String,
    pub description: String,
    /// (endpoint name, subject with wildcards)
    pub endpoints: Vec<(String, String)>,
}

/// Requests to a service; `Message.reply` is where the answer goes (use `Bus::send`).
pub struct Requests {}
impl Requests { pub async fn next(&mut self) -> Option<Message> { todo!() } }

pub struct Subscription {}
impl Subscription { pub async fn next(&mut self) -> Option<Message> { todo!() } }

pub struct Reader {}
impl Reader {
    /// The next message; errors are retried inside with backoff (logged), a gap is impossible.
    /// `Err(ErrorKind::Purged)` when `from` lies before the first message and messages were purged that we never saw.
    pub async fn next(&mut self) -> Result<Stored, Error> { todo!() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamState { pub first: u64, pub last: u64, pub messages: u64, pub bytes: u64 }

pub struct Jobs {}
impl Jobs {
    /// The next job; survives reconnects. `None` only after `stop`.
    pub async fn next(&mut self) -> Option<Job> { todo!() }
}
pub struct Job {
    pub subject: String, pub headers: Headers, pub payload: Bytes,
    pub seq: u64,
    /// Deliveries so far, 1 the first time.
    pub deliveries: u64,
}
impl Job {
    pub async fn ack(self) -> Result<(), Error> { todo!() }
    /// Again, after a delay.
    pub async fn nak(self, _delay: Duration) -> Result<(), Error> { todo!() }
    /// Still working on it.
    pub async fn progress(&self) -> Result<(), Error> { todo!() }
    /// Never again.
    pub async fn term(self) -> Result<(), Error> { todo!() }
}

/// A value in a bucket with its revision.
#[derive(Debug, Clone)]
pub struct KvEntry { pub key: String, pub value: Bytes, pub revision: u64 }

#[derive(Clone)]
pub struct Kv {}
impl Kv {
    pub async fn get(&self, _key: &str) -> Result<Option<KvEntry>, Error> { todo!() }
    pub async fn put(&self, _key: &str, _value: Bytes) -> Result<u64, Error> { todo!() }
    /// Compare-and-set on the revision (0: must not exist). `ErrorKind::Fenced` when it differs.
    pub async fn update(&self, _key: &str, _value: Bytes, _revision: u64) -> Result<u64, Error> { todo!() }
    /// Put that lapses by itself (whole seconds): published raw with Nats-TTL, see nats.md 0.8.
    pub async fn put_for(&self, _key: &str, _value: Bytes, _ttl: Duration) -> Result<u64, Error> { todo!() }
    pub async fn delete(&self, _key: &str) -> Result<(), Error> { todo!() }
    pub async fn keys(&self) -> Result<Vec<String>, Error> { todo!() }
    pub async fn entries(&self) -> Result<Vec<KvEntry>, Error> { todo!() }
}

#[derive(Clone)]
pub struct Objects {}
impl Objects {
    pub async fn put(&self, _name: &str, _bytes: Bytes) -> Result<(), Error> { todo!() }
    pub async fn get(&self, _name: &str, _bytes_max: usize) -> Result<Option<Bytes>, Error> { todo!() }
    pub async fn delete(&self, _name: &str) -> Result<(), Error> { todo!() }
    pub async fn list(&self) -> Result<Vec<String>, Error> { todo!() }
}
