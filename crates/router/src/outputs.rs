//! What follows from the journal into streams: `EVENTS`, `OUT` and `DEAD`. Behind the journal,
//! pipelined, each exactly once.
//!
//! Outputs of one lane (the facts of one subject, the commands of one thread) are stored one after the
//! other; lanes run side by side. A fact carries the sequence that its subject must have before it, so
//! neither a retry nor an owner that was deposed and does not know it can store it twice or out of
//! order. Commands carry their command id, and channels keep a ledger.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, ErrorKind as BusKind, Expect, Publish};
use bytes::Bytes;
use contract::journal::Position;
use contract::limits::JOURNAL_BYTES_MAX;
use contract::outbound::{DeadLetter, DeadPayload, OutCommand};
use contract::{Encoding, EventRecord, TenantId, Timestamp, subject};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::metric::Metric;

/// How much is kept of an input that is too large for a dead letter.
const DEAD_HEAD_BYTES: usize = 64 * 1024;
/// Header with the position of the fact.
pub(crate) const POSITION: &str = "Tl-Position";
/// Header with the type of the fact.
pub(crate) const TYPE: &str = "Tl-Type";
/// Header with the conversation that the fact concerns.
pub(crate) const CONVERSATION: &str = "Tl-Conversation";

/// Outputs that wait or are on their way; beyond it the journal waits.
const QUEUED_MAX: usize = 8192;
/// Publishes on their way at once.
const IN_FLIGHT_MAX: usize = 1024;
/// Subjects whose newest sequence is remembered; forgetting one costs a round trip.
const SUBJECTS_MAX: usize = 200_000;

/// One thing to store.
pub(crate) enum Output {
    /// A fact, for `EVENTS`, and the same in MessagePack.
    Event(Arc<EventRecord>, Bytes),
    /// A message to send, for `OUT`.
    Command(Box<OutCommand>, Position),
    /// An input that could not be processed, for `DEAD`.
    Dead(Box<Dead>),
}

/// An input that could not be processed.
pub(crate) struct Dead {
    pub(crate) tenant: TenantId,
    pub(crate) position: Position,
    pub(crate) in_seq: u64,
    pub(crate) index: Option<u32>,
    pub(crate) subject: String,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    /// Its bytes and their type; absent when it is written again after a takeover: `IN` has them.
    pub(crate) payload: Option<(Bytes, Option<String>)>,
}

/// The outputs of one journal record.
pub(crate) struct Batch {
    pub(crate) seq: u64,
    pub(crate) outputs: Vec<Output>,
}

/// Where outputs go in.
pub(crate) struct Outputs {
    sender: mpsc::Sender<Batch>,
    done: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Outputs {
    /// Starts writing. Everything up to `done` is written already.
    pub(crate) fn start(bus: Bus, shard: u16, done: u64) -> Self {
        let (sender, receiver) = mpsc::channel(256);
        let (report, watcher) = watch::channel(done);
        let writer = Writer {
            bus,
            shard,
            lanes: HashMap::new(),
            newest: HashMap::new(),
            left: BTreeMap::new(),
            queued: 0,
            taken: done,
            depth: metrics::gauge!(Metric::OutputsQueued.name(), "shard" => shard.to_string()),
            report,
        };
        let task = tokio::spawn(writer.run(receiver));
        Self { sender, done: watcher, task }
    }

    /// Hands over the outputs of a record; waits while too many are queued. Records come in order.
    pub(crate) async fn push(&self, batch: Batch) {
        // The writer ends only when we do.
        let _ = self.sender.send(batch).await;
    }

    /// The record up to which everything is stored.
    pub(crate) fn done(&self) -> u64 {
        *self.done.borrow()
    }

    /// For those who wait until a record's outputs are stored.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.done.clone()
    }

    /// Stops taking; returns when everything is stored or the time is over.
    pub(crate) async fn drain(self, limit: Duration) -> u64 {
        drop(self.sender);
        let mut task = self.task;
        if tokio::time::timeout(limit, &mut task).await.is_err() {
            task.abort();
        }
        *self.done.borrow()
    }

    /// Stops at once: a newer owner writes them.
    pub(crate) fn abandon(self) {
        self.task.abort();
    }
}

/// An output of a lane, and the record that it belongs to.
struct Item {
    record: u64,
    output: Output,
}

/// A publish that ended: the lane, the record, and how far the lane's subject is now.
type Finished = (String, u64, Option<Newest>);

/// How far a subject of `EVENTS` is: the sequence of its newest fact, and that fact's position when it
/// is of this shard's journal.
#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    seq: u64,
    position: Option<Position>,
}

struct Writer {
    bus: Bus,
    shard: u16,
    /// What waits in each lane behind the item that is on its way.
    lanes: HashMap<String, VecDeque<Item>>,
    /// How far subjects of `EVENTS` are.
    newest: HashMap<String, Newest>,
    /// How many outputs of each record are not stored yet.
    left: BTreeMap<u64, usize>,
    queued: usize,
    /// The newest record that was handed over.
    taken: u64,
    /// Shows `queued`.
    depth: metrics::Gauge,
    report: watch::Sender<u64>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Batch>) {
        let mut flying: FuturesUnordered<BoxFuture<'static, Finished>> = FuturesUnordered::new();
        let mut open = true;
        while open || !flying.is_empty() {
            let room = self.queued < QUEUED_MAX && flying.len() < IN_FLIGHT_MAX;
            tokio::select! {
                batch = receiver.recv(), if open && room => match batch {
                    Some(batch) => flying.extend(self.take(batch)),
                    None => open = false,
                },
                Some(finished) = flying.next() => flying.extend(self.finish(finished)),
            }
        }
    }

    /// Puts the outputs of a record into their lanes; returns what can start at once.
    fn take(&mut self, batch: Batch) -> Vec<BoxFuture<'static, Finished>> {
        self.taken = batch.seq;
        self.queued += batch.outputs.len();
        if !batch.outputs.is_empty() {
            self.left.insert(batch.seq, batch.outputs.len());
        }
        let mut starting = Vec::new();
        for output in batch.outputs {
            let lane = output.lane();
            let item = Item { record: batch.seq, output };
            match self.lanes.get_mut(&lane) {
                Some(waiting) => waiting.push_back(item),
                None => {
                    self.lanes.insert(lane.clone(), VecDeque::new());
                    starting.push(self.store(lane, item));
                }
            }
        }
        self.announce();
        starting
    }

    /// One output is stored: the next of its lane may go.
    fn finish(&mut self, (lane, record, newest): Finished) -> Option<BoxFuture<'static, Finished>> {
        self.queued -= 1;
        if let Some(newest) = newest {
            if self.newest.len() >= SUBJECTS_MAX {
                self.newest.clear();
            }
            self.newest.insert(lane.clone(), newest);
        }
        if let Some(left) = self.left.get_mut(&record) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&record);
            }
        }
        self.announce();
        match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some(item) => Some(self.store(lane, item)),
            None => {
                self.lanes.remove(&lane);
                None
            }
        }
    }

    /// Says up to which record everything is stored.
    fn announce(&self) {
        let done = self.left.first_key_value().map_or(self.taken, |(oldest, _)| oldest - 1);
        self.report.send_if_modified(|reported| {
            let moved = *reported < done;
            *reported = done.max(*reported);
            moved
        });
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.depth.set(self.queued as f64);
    }

    fn store(&self, lane: String, item: Item) -> BoxFuture<'static, Finished> {
        let bus = self.bus.clone();
        let shard = self.shard;
        let newest = self.newest.get(&lane).copied().unwrap_or_default();
        Box::pin(async move {
            let stored = match item.output {
                Output::Event(record, encoded) => Some(store_event(&bus, &lane, &record, encoded, newest).await),
                Output::Command(command, position) => {
                    store_command(&bus, &command, position).await;
                    None
                }
                Output::Dead(dead) => {
                    store_dead(&bus, shard, *dead).await;
                    None
                }
            };
            (lane, item.record, stored)
        })
    }
}

impl Output {
    /// What it must not overtake.
    fn lane(&self) -> String {
        match self {
            Self::Event(record, _) => subject::event(&record.tenant, record.event.noun(), record.customer),
            Self::Command(command, _) => {
                let subject = subject::out(&command.tenant, &command.account.kind, &command.account.id);
                format!("{subject} {}", command.thread.key)
            }
            Self::Dead(dead) => subject::dead(&dead.tenant, "in"),
        }
    }
}

/// Waits a little longer each time.
struct Pause(Duration);

impl Pause {
    const fn new() -> Self {
        Self(Duration::from_millis(20))
    }

    /// It has been tried so often that somebody should know.
    const fn is_long(&self) -> bool {
        self.0.as_millis() >= 500
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}

/// Stores a fact, exactly once and after those before it on its subject; returns how far that is then.
async fn store_event(bus: &Bus, subject: &str, record: &EventRecord, payload: Bytes, mut newest: Newest) -> Newest {
    // Somebody who led after us has written on: what we still have is there, or is theirs to write.
    let written = |newest: &Newest| newest.position.is_some_and(|position| position >= record.position);
    if written(&newest) {
        return newest;
    }
    let mut headers = vec![(POSITION, record.position.to_string()), (TYPE, record.event.name().to_owned())];
    if let Some(conversation) = record.conversation {
        headers.push((CONVERSATION, conversation.to_string()));
    }
    let mut pause = Pause::new();
    loop {
        let publish = Publish {
            subject: subject.to_owned(),
            payload: payload.clone(),
            content_type: Some(Encoding::MsgPack.content_type()),
            headers: headers.clone(),
            expect: Some(Expect { subject: subject.to_owned(), seq: newest.seq }),
            ..Publish::default()
        };
        match bus.publish(publish).await {
            Ok(ack) => return Newest { seq: ack.seq, position: Some(record.position) },
            Err(error) if matches!(error.kind, BusKind::Fenced(_)) => {}
            Err(error) => {
                if pause.is_long() {
                    warn!(subject, %error, "a fact is not acknowledged; looking for it");
                }
                pause.wait().await;
            }
        }
        // The subject itself says how far it is.
        match bus.last("EVENTS", subject).await {
            Ok(None) => newest = Newest::default(),
            Ok(Some(stored)) => {
                let position = stored.headers.get(POSITION).and_then(|text| text.parse::<Position>().ok());
                let position = position.filter(|position| position.shard == record.position.shard);
                newest = Newest { seq: stored.seq, position };
                if written(&newest) {
                    return newest;
                }
            }
            Err(error) => {
                warn!(subject, %error, "the facts of a subject cannot be read; waiting");
                pause.wait().await;
            }
        }
    }
}

/// Stores a command to a channel. A repeat within the dedup window is dropped by the server, a later
/// one by the channel's ledger.
async fn store_command(bus: &Bus, command: &OutCommand, position: Position) {
    let payload = Bytes::from(Encoding::MsgPack.encode(command).unwrap_or_default());
    let publish = Publish {
        subject: subject::out(&command.tenant, &command.account.kind, &command.account.id),
        payload,
        content_type: Some(Encoding::MsgPack.content_type()),
        msg_id: Some(position.to_string()),
        ..Publish::default()
    };
    store_until_acked(bus, publish).await;
}

async fn store_until_acked(bus: &Bus, publish: Publish) {
    let mut pause = Pause::new();
    while let Err(error) = bus.publish(publish.clone()).await {
        if pause.is_long() {
            warn!(subject = %publish.subject, %error, "an output is not acknowledged; sending it again");
        }
        pause.wait().await;
    }
}

/// Stores an input that could not be processed where an operator finds it.
async fn store_dead(bus: &Bus, shard: u16, dead: Dead) {
    let (payload, content_type) = match dead.payload {
        Some(payload) => payload,
        None => fetch_dead(bus, shard, dead.in_seq, dead.index).await,
    };
    let mut letter = DeadLetter {
        stage: "in".into(),
        subject: dead.subject,
        reason: dead.reason,
        content_type: content_type.map(Into::into),
        payload: DeadPayload::new(&payload),
        at: dead.at,
    };
    let mut encoded = Encoding::Json.encode(&letter).unwrap_or_default();
    if encoded.len() > JOURNAL_BYTES_MAX {
        // Hexadecimal and escapes make more of it than a message can hold.
        let head = head_of(&payload);
        letter.reason = format!("{}; only the first {} of {} bytes are kept", letter.reason, head.len(), payload.len());
        letter.payload = DeadPayload::new(head);
        encoded = Encoding::Json.encode(&letter).unwrap_or_default();
    }
    let publish = Publish {
        subject: subject::dead(&dead.tenant, "in"),
        payload: encoded.into(),
        content_type: Some(Encoding::Json.content_type()),
        msg_id: Some(dead.position.to_string()),
        ..Publish::default()
    };
    store_until_acked(bus, publish).await;
}

/// The beginning of a payload, not cut within a character.
fn head_of(payload: &[u8]) -> &[u8] {
    let head = payload.get(..DEAD_HEAD_BYTES).unwrap_or(payload);
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => head.get(..error.valid_up_to()).unwrap_or(head),
        _ => head,
    }
}

/// The bytes of an input, from where it was read.
async fn fetch_dead(bus: &Bus, shard: u16, in_seq: u64, index: Option<u32>) -> (Bytes, Option<String>) {
    let mut pause = Pause::new();
    loop {
        match bus.get(&format!("IN-{shard}"), in_seq).await {
            Ok(None) => return (Bytes::new(), None),
            Ok(Some(stored)) => {
                let content_type = stored.headers.get(contract::codec::CONTENT_TYPE).map(str::to_owned);
                let one = index.and_then(|index| {
                    let read = contract::envelope::decode_record(&stored.payload, content_type.as_deref()).ok()?;
                    let rejected = read.into_iter().nth(index as usize)?.err()?;
                    Some(stored.payload.slice_ref(rejected.bytes))
                });
                return (one.unwrap_or_else(|| stored.payload.clone()), content_type);
            }
            Err(error) => {
                warn!(in_seq, %error, "a rejected input cannot be read again; waiting");
                pause.wait().await;
            }
        }
    }
}
