//! What follows from the journal into streams: `EVENTS`, `OUT` and `DEAD`. Behind the journal,
//! pipelined, each exactly once.
//!
//! Facts go to `EVENTS` by a writer of their own, see [`facts`](crate::facts). Commands to channels and
//! dead letters go at once. Those of one lane (the commands of one thread) are stored one after the other;
//! lanes run side by side. Commands carry their command id, and channels keep a ledger.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Publish};
use bytes::Bytes;
use contract::journal::Position;
use contract::outbound::{DeadLetter, DeadPayload, OutCommand};
use contract::{Encoding, TenantId, Timestamp, subject};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::facts::{Fact, Facts};
use crate::progress::{Progress, Watch};

/// Largest dead letter: what any server takes, less room for headers.
const DEAD_BYTES_MAX: usize = 1024 * 1024 - 8 * 1024;
/// How much is kept of an input that is too large for a dead letter.
const DEAD_HEAD_BYTES: usize = 64 * 1024;
/// Publishes of commands and dead letters on their way at once.
const IN_FLIGHT_MAX: usize = 1024;
/// Records whose facts or jobs wait for their writer. Each has at least one, so what bounds them is the
/// [progress](crate::progress).
const RECORDS_MAX: usize = 65_536;

/// One thing to store at once.
pub(crate) enum Job {
    /// A message to send, for `OUT`, and the trace that it is part of.
    Command(Box<OutCommand>, Position, Option<String>),
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
    /// For `EVENTS`.
    pub(crate) facts: Vec<Fact>,
    /// For `OUT` and `DEAD`.
    pub(crate) jobs: Vec<Job>,
}

/// Where outputs go in.
pub(crate) struct Outputs {
    progress: Arc<Progress>,
    facts: mpsc::Sender<Vec<Fact>>,
    jobs: mpsc::Sender<(u64, Vec<Job>)>,
    tasks: [JoinHandle<()>; 2],
}

impl Outputs {
    /// Starts writing. Everything up to `done` is written already.
    pub(crate) fn start(bus: Bus, shard: u16, done: u64) -> Self {
        let (facts, of_facts) = mpsc::channel(RECORDS_MAX);
        let (jobs, of_jobs) = mpsc::channel(RECORDS_MAX);
        let progress = Arc::new(Progress::new(shard, done));
        let writer = Facts::new(bus.clone(), shard, Arc::clone(&progress));
        let jobber = Jobs { bus, shard, lanes: HashMap::new(), progress: Arc::clone(&progress) };
        let tasks = [tokio::spawn(writer.run(of_facts)), tokio::spawn(jobber.run(of_jobs))];
        Self { progress, facts, jobs, tasks }
    }

    /// Hands over the outputs of a record; waits while too many are queued. Records come in order.
    pub(crate) async fn push(&self, batch: Batch) {
        let Batch { seq, facts, jobs } = batch;
        let bytes = facts.iter().map(Fact::bytes).sum();
        self.progress.take(seq, facts.len() + jobs.len(), bytes).await;
        // The writers end only when we do.
        if !jobs.is_empty() {
            let _ = self.jobs.send((seq, jobs)).await;
        }
        if !facts.is_empty() {
            let _ = self.facts.send(facts).await;
        }
    }

    /// The record up to which everything is stored.
    pub(crate) fn done(&self) -> u64 {
        self.progress.done()
    }

    /// For those who wait until a record's outputs are stored.
    pub(crate) fn watch(&self) -> Watch {
        self.progress.watch()
    }

    /// Stops taking; returns when everything is stored or the time is over.
    #[cfg(test)]
    pub(crate) async fn drain(self, limit: Duration) -> u64 {
        let Self { progress, facts, jobs, mut tasks } = self;
        drop((facts, jobs));
        progress.hurry();
        let ended = futures_util::future::join_all(&mut tasks);
        if tokio::time::timeout(limit, ended).await.is_err() {
            tasks.iter().for_each(JoinHandle::abort);
        }
        progress.done()
    }

    /// Stops at once: a newer owner writes them.
    pub(crate) fn abandon(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A publish that ended: the lane, and the record.
type Finished = (String, u64);

/// Writes commands and dead letters.
struct Jobs {
    bus: Bus,
    shard: u16,
    /// What waits in each lane behind the job that is on its way.
    lanes: HashMap<String, VecDeque<(u64, Job)>>,
    progress: Arc<Progress>,
}

impl Jobs {
    async fn run(mut self, mut receiver: mpsc::Receiver<(u64, Vec<Job>)>) {
        let mut flying: FuturesUnordered<BoxFuture<'static, Finished>> = FuturesUnordered::new();
        let mut open = true;
        while open || !flying.is_empty() {
            let room = flying.len() < IN_FLIGHT_MAX;
            tokio::select! {
                batch = receiver.recv(), if open && room => match batch {
                    Some((record, jobs)) => flying.extend(self.take(record, jobs)),
                    None => open = false,
                },
                Some(finished) = flying.next() => flying.extend(self.finish(finished)),
            }
        }
    }

    /// Puts the jobs of a record into their lanes; returns what can start at once.
    fn take(&mut self, record: u64, jobs: Vec<Job>) -> Vec<BoxFuture<'static, Finished>> {
        let mut starting = Vec::new();
        for job in jobs {
            let lane = job.lane();
            match self.lanes.get_mut(&lane) {
                Some(waiting) => waiting.push_back((record, job)),
                None => {
                    self.lanes.insert(lane.clone(), VecDeque::new());
                    starting.push(self.store(lane, record, job));
                }
            }
        }
        starting
    }

    /// One job is done: the next of its lane may go.
    fn finish(&mut self, (lane, record): Finished) -> Option<BoxFuture<'static, Finished>> {
        self.progress.stored(std::iter::once((record, 0)));
        match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some((record, job)) => Some(self.store(lane, record, job)),
            None => {
                self.lanes.remove(&lane);
                None
            }
        }
    }

    fn store(&self, lane: String, record: u64, job: Job) -> BoxFuture<'static, Finished> {
        let bus = self.bus.clone();
        let shard = self.shard;
        Box::pin(async move {
            match job {
                Job::Command(command, position, trace) => store_command(&bus, &command, position, trace).await,
                Job::Dead(dead) => store_dead(&bus, shard, *dead).await,
            }
            (lane, record)
        })
    }
}

impl Job {
    /// What it must not overtake.
    fn lane(&self) -> String {
        match self {
            Self::Command(command, ..) => {
                let subject = subject::out(&command.tenant, &command.account.kind, &command.account.id);
                format!("{subject} {}", command.thread.key)
            }
            Self::Dead(dead) => subject::dead(&dead.tenant, "in"),
        }
    }
}

/// Waits a little longer each time.
pub(crate) struct Pause(Duration);

impl Pause {
    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(20))
    }

    /// It has been tried so often that somebody should know.
    pub(crate) const fn is_long(&self) -> bool {
        self.0.as_millis() >= 500
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}

/// Stores a command to a channel. A repeat within the dedup window is dropped by the server, a later
/// one by the channel's ledger.
async fn store_command(bus: &Bus, command: &OutCommand, position: Position, trace: Option<String>) {
    let payload = Bytes::from(Encoding::MsgPack.encode(command).unwrap_or_default());
    let publish = Publish {
        subject: subject::out(&command.tenant, &command.account.kind, &command.account.id),
        payload,
        content_type: Some(Encoding::MsgPack.content_type()),
        msg_id: Some(position.to_string()),
        headers: trace.map(|trace| (runtime::trace::PARENT, trace)).into_iter().collect(),
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
    // JSON is easier to look at, but escapes may make more of a text than a message can hold.
    let mut encoding = Encoding::Json;
    let mut encoded = encoding.encode(&letter).unwrap_or_default();
    if encoded.len() > DEAD_BYTES_MAX {
        encoding = Encoding::MsgPack;
        encoded = encoding.encode(&letter).unwrap_or_default();
    }
    if encoded.len() > DEAD_BYTES_MAX {
        // So may hexadecimal.
        let head = head_of(&payload);
        letter.reason = format!("{}; only the first {} of {} bytes are kept", letter.reason, head.len(), payload.len());
        letter.payload = DeadPayload::new(head);
        encoded = encoding.encode(&letter).unwrap_or_default();
    }
    let publish = Publish {
        subject: subject::dead(&dead.tenant, "in"),
        payload: encoded.into(),
        content_type: Some(encoding.content_type()),
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
