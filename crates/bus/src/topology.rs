//! Streams, consumers and buckets as data, and the ones Throughline has.

use std::time::Duration;

use contract::subject::PREFIX;
use contract::token;
use serde::Deserialize;

/// When a stream lets go of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// When a limit is reached, or somebody purges.
    Limits,
    /// When it is acknowledged.
    WorkQueue,
}

/// On what streams are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// On the servers' disks.
    #[default]
    File,
    /// In the servers' memory: what no server holds any more is gone.
    Memory,
}

/// On which servers of a cluster streams are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Those of this cluster; `None`: of the one that is asked.
    pub cluster: Option<String>,
    /// Those that have all these tags.
    pub tags: Vec<String>,
}

/// How much is kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// How many bytes; `None`: as the disk allows.
    pub bytes_max: Option<u64>,
    /// How long a message stays; `None`: for ever.
    pub age_max: Option<Duration>,
}

/// A stream.
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
    /// How many bytes its objects take (objects only); `None`: as the disk allows.
    pub bytes_max: Option<u64>,
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
    /// On what streams and buckets are kept.
    pub storage: Storage,
    /// On which servers they are. `None` leaves them where they are, and a placement that somebody else gave them;
    /// an empty one takes that away.
    pub placement: Option<Placement>,
    /// The streams, by their full names, that a lower limit may take messages out of. Of all others it is refused.
    pub may_drop: Vec<String>,
    /// The streams, by their full names, that a shorter age may take messages out of: nothing in them is still to be
    /// done.
    pub may_lapse: Vec<String>,
}

/// What is kept, as operators call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// What came in and is not decided yet.
    In,
    /// What is to be sent.
    Out,
    /// The facts.
    Events,
    /// What could not be processed.
    Dead,
    /// Attachments, and what providers sent as it was.
    Media,
}

/// What of Throughline's streams and buckets is for the operator to say. The journal is not: it is the truth, and its
/// owner lets go of what a checkpoint holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// On how many servers.
    pub replicas: usize,
    /// On what.
    pub storage: Storage,
    /// On which servers; see [`Topology::placement`].
    pub placement: Option<Placement>,
    /// How many bytes each `IN` holds before it refuses.
    pub in_bytes_max: u64,
    /// Of `OUT`, which refuses when it is full.
    pub out: Limits,
    /// Of `EVENTS`.
    pub events: Limits,
    /// Of `DEAD`.
    pub dead: Limits,
    /// Of the attachments.
    pub media: Limits,
    /// What a lower limit may take messages out of.
    pub may_drop: Vec<Kept>,
}

impl Default for Shape {
    fn default() -> Self {
        let for_days = |days: u32| Limits { bytes_max: None, age_max: Some(days * DAY) };
        Self {
            replicas: 1,
            storage: Storage::File,
            placement: None,
            in_bytes_max: 1 << 30,
            out: for_days(7),
            events: for_days(90),
            dead: for_days(30),
            media: Limits::default(),
            may_drop: Vec::new(),
        }
    }
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
/// How long it is known what was sent, at least.
const LEDGER_AGE: Duration = Duration::from_secs(7 * 86_400);
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
    Bucket { name, history: 1, age_max: None, bytes_max: None, per_message_ttl: false, objects: false, replicas }
}

fn key_value_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

fn object_stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

impl Bucket {
    /// The name of the stream behind it.
    pub(crate) fn stream_name(&self) -> String {
        if self.objects { object_stream(&self.name) } else { key_value_stream(&self.name) }
    }
}

impl Kept {
    /// The streams that hold it, by their full names.
    fn streams(self, shards: u16) -> Vec<String> {
        match self {
            Self::In => (0..shards).map(in_stream).collect(),
            Self::Out => vec![OUT.to_owned()],
            Self::Events => vec![EVENTS.to_owned()],
            Self::Dead => vec![DEAD.to_owned()],
            Self::Media => vec![object_stream(MEDIA)],
        }
    }
}

impl Topology {
    /// Everything behind the subjects of `CONTRACT.md`, section 2, and the buckets, as they are where nobody said
    /// otherwise.
    #[must_use]
    pub fn throughline(shards: u16, replicas: usize, kinds: &[&str]) -> Self {
        Self::shaped(shards, kinds, &Shape { replicas, ..Shape::default() })
    }

    /// The same, as the operator wants it.
    #[must_use]
    pub fn shaped(shards: u16, kinds: &[&str], shape: &Shape) -> Self {
        Self {
            streams: streams(shards, shape),
            consumers: consumers(kinds),
            buckets: buckets(shape),
            storage: shape.storage,
            placement: shape.placement.clone(),
            may_drop: shape.may_drop.iter().flat_map(|kept| kept.streams(shards)).collect(),
            // How long facts are kept is for the operator to say, and privacy asks for less rather than more. The ledger
            // follows OUT, and is lowered only with it.
            may_lapse: vec![EVENTS.to_owned(), key_value_stream(LEDGER)],
        }
    }
}

fn streams(shards: u16, shape: &Shape) -> Vec<Stream> {
    let replicas = shape.replicas;
    let mut streams = Vec::new();
    for shard in 0..shards {
        streams.push(Stream {
            bytes_max: Some(shape.in_bytes_max),
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
        bytes_max: shape.out.bytes_max,
        age_max: shape.out.age_max,
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
        bytes_max: shape.events.bytes_max,
        age_max: shape.events.age_max,
        duplicate_window: DUPLICATE_WINDOW_MIN,
        ..stream(EVENTS.into(), format!("{PREFIX}.event.*.*.*"), replicas)
    });
    streams.push(Stream {
        full_refuses: false,
        bytes_max: shape.dead.bytes_max,
        age_max: shape.dead.age_max,
        ..stream(DEAD.into(), format!("{PREFIX}.dead.*.*"), replicas)
    });
    streams
}

fn consumers(kinds: &[&str]) -> Vec<Consumer> {
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
    out.chain(fetch).collect()
}

fn buckets(shape: &Shape) -> Vec<Bucket> {
    let replicas = shape.replicas;
    let mut buckets: Vec<Bucket> = [CUSTOMERS, IDENTITIES, CONVERSATIONS, AGENTS, POLICY, CHANNELS]
        .into_iter()
        .map(|name| bucket(name, replicas))
        .collect();
    // So that a value is overwritten only when the next one is there.
    for named in buckets.iter_mut().filter(|bucket| [CUSTOMERS, IDENTITIES].contains(&bucket.name.as_str())) {
        named.history = 2;
    }
    buckets.push(Bucket { per_message_ttl: true, ..bucket(MEMBERS, replicas) });
    // Whatever may still come again is known to have been sent.
    let ledger_age = shape.out.age_max.map(|age| age.max(LEDGER_AGE));
    buckets.push(Bucket { age_max: ledger_age, ..bucket(LEDGER, replicas) });
    buckets.push(bucket(CURSORS, replicas));
    buckets.push(Bucket { age_max: Some(90 * DAY), ..bucket(MEMORY, replicas) });
    buckets.push(Bucket { objects: true, ..bucket(SNAPSHOTS, replicas) });
    let Limits { bytes_max, age_max } = shape.media;
    buckets.push(Bucket { objects: true, bytes_max, age_max, ..bucket(MEDIA, replicas) });
    buckets
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
        assert_eq!((topology.storage, &topology.placement), (Storage::File, &None));
    }

    #[test]
    fn what_the_operator_says_is_in_its_stream_and_in_no_other() {
        let usual = Topology::throughline(2, 1, &["chat"]);
        let days = |bytes_max, days: u32| Limits { bytes_max, age_max: Some(days * DAY) };
        let shape = Shape {
            in_bytes_max: 1,
            out: days(Some(2), 14),
            events: days(Some(3), 30),
            dead: days(Some(4), 60),
            media: days(Some(5), 365),
            may_drop: vec![Kept::In, Kept::Media],
            ..Shape::default()
        };
        let topology = Topology::shaped(2, &["chat"], &shape);
        let told = |name: &str| {
            let stream = topology.streams.iter().find(|stream| stream.name == name).unwrap();
            (stream.bytes_max, stream.age_max)
        };
        assert_eq!((told("IN-0"), told("IN-1")), ((Some(1), None), (Some(1), None)));
        assert_eq!(told(OUT), (Some(2), Some(14 * DAY)));
        assert_eq!(told(EVENTS), (Some(3), Some(30 * DAY)));
        assert_eq!(told(DEAD), (Some(4), Some(60 * DAY)));
        let named = |topology: &Topology, name: &str| {
            topology.buckets.iter().find(|bucket| bucket.name == name).cloned().unwrap()
        };
        let media = named(&topology, MEDIA);
        assert_eq!((media.bytes_max, media.age_max), (Some(5), Some(365 * DAY)));
        // What was sent is known for as long as it may come again.
        assert_eq!(named(&topology, LEDGER).age_max, Some(14 * DAY));
        assert_eq!(topology.may_drop, ["IN-0", "IN-1", "OBJ_tl-media"]);
        for name in ["JOURNAL-0", "JOURNAL-1", FETCH] {
            let find = |topology: &Topology| topology.streams.iter().find(|stream| stream.name == name).cloned();
            assert_eq!(find(&topology), find(&usual), "{name}");
        }
        for bucket in usual.buckets.iter().filter(|bucket| ![LEDGER, MEDIA].contains(&bucket.name.as_str())) {
            assert_eq!(&named(&topology, &bucket.name), bucket);
        }
    }
}
