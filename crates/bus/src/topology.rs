//! Streams, consumers and buckets as data, and the ones Throughline has.

use std::time::Duration;

use contract::subject::PREFIX;
use contract::token;

/// When a stream lets go of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// When a limit is reached, or somebody purges.
    Limits,
    /// When it is acknowledged.
    WorkQueue,
}

/// A stream, always on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// What it stores.
    pub subjects: Vec<String>,
    /// How long.
    pub retention: Retention,
    /// A full stream refuses (true) or drops the oldest (false).
    pub full_refuses: bool,
    /// How many bytes; `None`: as the disk allows.
    pub bytes_max: Option<u64>,
    /// How long a message stays; `None`: for ever.
    pub age_max: Option<Duration>,
    /// The largest message; `None`: as the server allows.
    pub message_bytes_max: Option<u32>,
    /// How long a `Nats-Msg-Id` is remembered; at least 100 ms.
    pub duplicate_window: Duration,
    /// On how many servers.
    pub replicas: usize,
}

/// A durable pull consumer with explicit acknowledgements.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Of which stream.
    pub stream: String,
    /// Its name.
    pub durable: String,
    /// Which subjects; `None`: all.
    pub filter: Option<String>,
    /// How long a job may take before it is delivered again.
    pub ack_wait: Duration,
    /// How many jobs may be out at once.
    pub ack_pending_max: u32,
    /// 0: unlimited.
    pub deliveries_max: u32,
}

/// A key-value or object bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// How many values of a key stay (key-value only).
    pub history: u8,
    /// How long a value stays; `None`: for ever.
    pub age_max: Option<Duration>,
    /// Single values may lapse (key-value only).
    pub per_message_ttl: bool,
    /// An object bucket instead of a key-value one.
    pub objects: bool,
    /// On how many servers.
    pub replicas: usize,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology {
    /// The streams.
    pub streams: Vec<Stream>,
    /// The durable consumers.
    pub consumers: Vec<Consumer>,
    /// The buckets.
    pub buckets: Vec<Bucket>,
}

/// The stream of what channels send to customers.
pub const OUT: &str = "OUT";
/// The stream of what channels are still to fetch from their providers.
pub const FETCH: &str = "FETCH";
/// The stream of facts.
pub const EVENTS: &str = "EVENTS";
/// The stream of what could not be processed.
pub const DEAD: &str = "DEAD";

/// Bucket of customers.
pub const CUSTOMERS: &str = "tl-customers";
/// Bucket of identities.
pub const IDENTITIES: &str = "tl-identities";
/// Bucket of conversations.
pub const CONVERSATIONS: &str = "tl-conversations";
/// Bucket of agents.
pub const AGENTS: &str = "tl-agents";
/// Bucket of queues, skills and hours.
pub const POLICY: &str = "tl-policy";
/// Bucket of channel accounts; keys are `<tenant>.<kind>.<account>`, so that an adapter writes only its own.
pub const CHANNELS: &str = "tl-channels";
/// Bucket of running instances; its values lapse.
pub const MEMBERS: &str = "tl-members";
/// Bucket of what adapters have sent; keys begin with the kind, for the same reason.
pub const LEDGER: &str = "tl-ledger";
/// Bucket of how far adapters have read their providers; keys begin with the kind.
pub const CURSORS: &str = "tl-cursors";
/// Bucket of what adapters remember of single messages (ids, repeats); keys begin with the kind, values lapse.
pub const MEMORY: &str = "tl-memory";
/// Object bucket of shards' snapshots.
pub const SNAPSHOTS: &str = "tl-snapshots";
/// Object bucket of attachments.
pub const MEDIA: &str = "tl-media";

/// How many commands of a kind may be handed out and not yet done, those that are to be tried again later among them.
const OUT_PENDING_MAX: u32 = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// The least the server takes: where ids are not used for deduplication, they cost nothing.
const DUPLICATE_WINDOW_MIN: Duration = Duration::from_millis(100);

/// `IN-<shard>`: what comes from the channels.
#[must_use]
pub fn in_stream(shard: u16) -> String {
    format!("IN-{shard}")
}

/// `JOURNAL-<shard>`: the truth.
#[must_use]
pub fn journal_stream(shard: u16) -> String {
    format!("JOURNAL-{shard}")
}

/// `out-<kind>`: the durable consumer of what one kind of channel is to send.
#[must_use]
pub fn out_consumer(kind: &str) -> String {
    format!("out-{}", token::encode(kind))
}

/// `fetch-<kind>`: the durable consumer of what one kind of channel is to fetch.
#[must_use]
pub fn fetch_consumer(kind: &str) -> String {
    format!("fetch-{}", token::encode(kind))
}

/// `tl.v1.fetch.<tenant>.<kind>.<account>`: where an account's adapter puts what it is to fetch.
#[must_use]
pub fn fetch_subject(tenant: &str, kind: &str, account: &str) -> String {
    let [tenant, kind, account] = [tenant, kind, account].map(token::encode);
    format!("{PREFIX}.fetch.{tenant}.{kind}.{account}")
}

fn stream(name: String, subject: String, replicas: usize) -> Stream {
    Stream {
        name,
        subjects: vec![subject],
        retention: Retention::Limits,
        full_refuses: true,
        bytes_max: None,
        age_max: None,
        message_bytes_max: None,
        duplicate_window: 2 * MINUTE,
        replicas,
    }
}

fn bucket(name: &str, replicas: usize) -> Bucket {
    let name = name.to_owned();
    Bucket { name, history: 1, age_max: None, per_message_ttl: false, objects: false, replicas }
}

impl Topology {
    /// Everything behind the subjects of `CONTRACT.md`, section 2, and the buckets.
    #[must_use]
    pub fn throughline(shards: u16, replicas: usize, kinds: &[&str]) -> Self {
        let mut streams = Vec::new();
        for shard in 0..shards {
            streams.push(Stream {
                bytes_max: Some(1 << 30),
                // A larger one would be refused by its reader anyway, and would not fit into a dead letter.
                message_bytes_max: Some(contract::limits::RECORD_MESSAGE_BYTES_MAX),
                ..stream(in_stream(shard), contract::subject::inbound_all(shard), replicas)
            });
            // Nothing is ever dropped from the truth; its owner purges behind the checkpoint.
            streams.push(Stream {
                duplicate_window: DUPLICATE_WINDOW_MIN,
                ..stream(journal_stream(shard), contract::subject::journal_all(shard), replicas)
            });
        }
        streams.push(Stream {
            retention: Retention::WorkQueue,
            age_max: Some(7 * DAY),
            ..stream(OUT.into(), format!("{PREFIX}.out.*.*.*"), replicas)
        });
        // What a provider said while the router was away may be older than that, not what is to be fetched for it:
        // providers keep media for some days at most.
        streams.push(Stream {
            retention: Retention::WorkQueue,
            age_max: Some(7 * DAY),
            ..stream(FETCH.into(), format!("{PREFIX}.fetch.*.*.*"), replicas)
        });
        // Order and uniqueness of the facts are kept by their expected sequences.
        streams.push(Stream {
            full_refuses: false,
            age_max: Some(90 * DAY),
            duplicate_window: DUPLICATE_WINDOW_MIN,
            ..stream(EVENTS.into(), format!("{PREFIX}.event.*.*.*"), replicas)
        });
        streams.push(Stream {
            full_refuses: false,
            age_max: Some(30 * DAY),
            ..stream(DEAD.into(), format!("{PREFIX}.dead.*.*"), replicas)
        });

        let consumer = |stream: &str, noun: &str, durable: String, kind: &str| Consumer {
            stream: stream.into(),
            durable,
            filter: Some(format!("{PREFIX}.{noun}.*.{}.*", token::encode(kind))),
            ack_wait: Duration::from_secs(30),
            // What one account cannot send now counts until it comes again, and must not hold up the others of its
            // kind: an adapter takes what it has room for and gives the rest back with a delay.
            ack_pending_max: OUT_PENDING_MAX,
            // The adapter's SDK decides when to give up, and says so.
            deliveries_max: 0,
        };
        let out = kinds.iter().map(|kind| consumer(OUT, "out", out_consumer(kind), kind));
        let fetch = kinds.iter().map(|kind| consumer(FETCH, "fetch", fetch_consumer(kind), kind));
        let consumers = out.chain(fetch).collect();

        let mut buckets: Vec<Bucket> = [CUSTOMERS, IDENTITIES, CONVERSATIONS, AGENTS, POLICY, CHANNELS]
            .into_iter()
            .map(|name| bucket(name, replicas))
            .collect();
        // So that a value is overwritten only when the next one is there.
        for named in buckets.iter_mut().filter(|bucket| [CUSTOMERS, IDENTITIES].contains(&bucket.name.as_str())) {
            named.history = 2;
        }
        buckets.push(Bucket { per_message_ttl: true, ..bucket(MEMBERS, replicas) });
        buckets.push(Bucket { age_max: Some(7 * DAY), ..bucket(LEDGER, replicas) });
        buckets.push(bucket(CURSORS, replicas));
        buckets.push(Bucket { age_max: Some(90 * DAY), ..bucket(MEMORY, replicas) });
        buckets.push(Bucket { objects: true, ..bucket(SNAPSHOTS, replicas) });
        buckets.push(Bucket { objects: true, ..bucket(MEDIA, replicas) });
        Self { streams, consumers, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughline_has_two_streams_per_shard() {
        let topology = Topology::throughline(8, 1, &["chat", "e.mail"]);
        assert_eq!(topology.streams.len(), 8 * 2 + 4);
        assert_eq!(topology.consumers[1].durable, "out-e=2Email");
        assert_eq!(topology.consumers[1].filter.as_deref(), Some("tl.v1.out.*.e=2Email.*"));
        assert_eq!(topology.consumers[3].durable, "fetch-e=2Email");
        assert_eq!(topology.consumers[3].filter.as_deref(), Some("tl.v1.fetch.*.e=2Email.*"));
        assert_eq!(fetch_subject("main", "e.mail", "a"), "tl.v1.fetch.main.e=2Email.a");
        assert_eq!(topology.streams[0].subjects, ["tl.v1.in.0.*.*.*"]);
        let lapsing: Vec<_> = topology.buckets.iter().filter(|bucket| bucket.per_message_ttl).collect();
        assert_eq!(lapsing.len(), 1);
    }
}
