//! Takeover: epoch first, then the newest checkpoint, then the journal's tail up to our own epoch
//! record, then what the last owner may have left undone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::Bus;
use contract::journal::{Behind, Position};
use contract::subject::{self, Journal as Which};
use contract::{Timestamp, subject as subjects};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::commands::addressed;
use crate::error::{Error, ErrorKind};
use crate::facts::Fact;
use crate::feeds::Feeds;
use crate::journal::{Journal, read_record, stream};
use crate::outputs::{Batch, Dead, Job, Outputs};
use crate::readside::{Dirty, Origin, ReadSide};
use crate::shard::{Recovering, Replayed, Shard};
use crate::transcript::Transcripts;

/// Largest snapshot that is read.
const SNAPSHOT_BYTES_MAX: usize = 8 * 1024 * 1024 * 1024;

/// How often it is said how far the journal is read.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A shard that was taken over.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    pub(crate) shard: Shard,
    pub(crate) feeds: Feeds,
    pub(crate) transcripts: Transcripts,
    pub(crate) dirty: Dirty,
    pub(crate) outputs: Outputs,
    pub(crate) readside: ReadSide,
    /// Customers that are to be forgotten.
    pub(crate) erasures: std::collections::VecDeque<crate::erase::Erasure>,
    /// The one before was to overwrite what is before the checkpoint, and did not.
    pub(crate) overwrite: bool,
    /// Entries of customers that are in memory again.
    pub(crate) stale: Vec<String>,
    /// The newest record of the log.
    pub(crate) seq: u64,
}

/// The bucket with the snapshots.
pub(crate) const SNAPSHOTS: &str = "tl-snapshots";

/// Takes a shard over.
pub(crate) async fn take_over(bus: &Bus, shard_no: u16, owner: &str, now: Timestamp) -> Result<Recovered, Error> {
    let journal = Journal::claim(bus, shard_no, owner, now).await?;
    let newest = journal.newest_record().await?;
    let (mut shard, from) = read_checkpoint(bus, &journal, shard_no).await?;
    let behind = newest.as_ref().map(|(_, record)| record.behind).unwrap_or_default();
    // What a checkpoint reflects was written before it was announced.
    let behind = Behind { outputs: behind.outputs.max(from), kv: behind.kv.max(from) };

    let mut recovered = Recovered {
        feeds: Feeds::new(bus.clone(), journal.epoch),
        transcripts: Transcripts::default(),
        erasures: std::collections::VecDeque::new(),
        stale: Vec::new(),
        overwrite: from > 0 && bus.stream_state(&stream(shard_no)).await?.first < from,
        dirty: Dirty::default(),
        outputs: Outputs::start(bus.clone(), shard_no, behind.outputs),
        readside: ReadSide::start(bus, shard_no, behind.kv).await?,
        seq: newest.as_ref().map_or(from, |(seq, _)| *seq),
        journal,
        shard: Shard::default(),
    };
    let last = replay_tail(bus, shard_no, &mut shard, from, behind, &mut recovered).await?;
    recovered.shard = aside(move || shard.finish()).await?;
    // The last record's pushes may not have left; the older ones were on the wire before it.
    for fact in last {
        for (agent, seq) in &fact.feeds {
            recovered.feeds.push_again(agent, *seq, &fact.record).await;
        }
    }
    info!(
        shard = shard_no,
        epoch = recovered.journal.epoch,
        from,
        to = recovered.seq,
        cursor = recovered.shard.cursor,
        "recovered the shard"
    );
    Ok(recovered)
}

/// Reads the newest checkpoint that can be read. Returns the shard and the record it reflects.
async fn read_checkpoint(bus: &Bus, journal: &Journal, shard_no: u16) -> Result<(Recovering, u64), Error> {
    let Some(checkpoint) = journal.newest_checkpoint().await? else { return Ok((Recovering::default(), 0)) };
    let objects = bus.objects(SNAPSHOTS).await?;
    let Some(bytes) = objects.get(&checkpoint.object, SNAPSHOT_BYTES_MAX).await? else {
        return without_checkpoint(bus, shard_no, "is gone").await;
    };
    // Seconds of a core when there are many conversations: not on a thread that carries heartbeats too.
    let read =
        aside(move || (crate::checkpoint::digest(&bytes) == checkpoint.sha256).then(|| Recovering::read(&bytes)));
    match read.await? {
        Some(read) => read,
        None => without_checkpoint(bus, shard_no, "does not have the digest that was announced").await,
    }
}

/// Does what takes long on a thread of its own.
///
/// # Errors
/// When the process ends first.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::new(ErrorKind::Stopping, "the process ends"))
}

/// The journal alone is enough, when nothing of it was purged.
async fn without_checkpoint(bus: &Bus, shard_no: u16, why: &str) -> Result<(Recovering, u64), Error> {
    if bus.stream_state(&stream(shard_no)).await?.first > 1 {
        let message =
            format!("the snapshot of shard {shard_no} {why}, and the journal before it is purged: restore a backup");
        return Err(Error::new(ErrorKind::Unreadable, message));
    }
    warn!(shard = shard_no, why, "the snapshot cannot be used; reading the whole journal");
    Ok((Recovering::default(), 0))
}

/// A fact of the last record, to be pushed again.
struct LastFact {
    record: Arc<contract::EventRecord>,
    feeds: Vec<(contract::AgentId, u64)>,
}

/// Records of the journal that are read before the one before them is done again.
const READ_AHEAD: usize = 32;

/// What the reader of a journal found.
enum Read {
    Record(u64, Box<contract::journal::Record>),
    /// All of it has been read.
    End,
}

/// Reads the log of a journal after `from` and before `until`: beside those who do it again, since decoding takes about as
/// long as that.
fn read_log(mut reader: bus::Reader, log: String, until: u64) -> (mpsc::Receiver<Result<Read, Error>>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let reading = tokio::spawn(async move {
        loop {
            let read = match reader.next().await {
                Ok(stored) if stored.seq >= until => Ok(Read::End),
                Ok(stored) if stored.subject != log => continue,
                Ok(stored) => read_record(&stored.payload).map(|record| Read::Record(stored.seq, Box::new(record))),
                Err(error) => Err(error.into()),
            };
            let over = !matches!(read, Ok(Read::Record(..)));
            if sender.send(read).await.is_err() || over {
                return;
            }
        }
    });
    (receiver, reading)
}

/// Replays the journal after `from` until our own epoch record.
async fn replay_tail(
    bus: &Bus,
    shard_no: u16,
    shard: &mut Recovering,
    from: u64,
    behind: Behind,
    recovered: &mut Recovered,
) -> Result<Vec<LastFact>, Error> {
    let mut last = Vec::new();
    if recovered.seq <= from {
        return Ok(last);
    }
    let reader = bus.read(&stream(shard_no), from + 1, None).await?;
    let log = subject::journal(shard_no, Which::Log);
    // Its end is not waited for: without a receiver it has nothing to do any more.
    let (mut records, _reading) = read_log(reader, log, recovered.journal.epoch_seq());
    let mut said = Instant::now();
    loop {
        let read = records.recv().await;
        let read = read.unwrap_or_else(|| Err(Error::new(ErrorKind::Unreadable, "the reader of the journal ended")))?;
        let Read::Record(seq, record) = read else { return Ok(last) };
        debug!(shard = shard_no, seq, "replaying");
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            info!(shard = shard_no, seq, of = recovered.seq, "reading the journal");
        }
        last.clear();
        let (mut facts, mut jobs) = (Vec::new(), Vec::new());
        for (index, replayed) in shard.replay(&record).into_iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let position = Position { shard: shard_no, seq, index };
            let fact = Arc::new(replayed.emitted.record(&replayed.tenant, replayed.at, position));
            if seq > behind.outputs {
                jobs.extend(jobs_of(shard, &replayed, &fact, position));
                if !fact.event.is_internal() {
                    let encoded = contract::Encoding::MsgPack.encode(&*fact).unwrap_or_default();
                    facts.push(Fact::new(&fact, encoded.into()));
                }
            }
            if seq > behind.kv {
                recovered.dirty.note(seq, &replayed.tenant, &replayed.emitted, Origin::Replayed);
            }
            match &*fact.event {
                contract::Event::CustomerRecalled { customer, kept, .. } => {
                    recovered.stale.push(crate::rest::key(&replayed.tenant, *customer, *kept));
                }
                // Whether it was carried out is not known: it is done again.
                contract::Event::CustomerErased { customers, .. } => {
                    let (tenant, customers) = (replayed.tenant.clone(), customers.clone());
                    let erasure = crate::erase::Erasure { tenant, customers, seq, identities: Vec::new() };
                    recovered.erasures.push_back(erasure);
                }
                _ => {}
            }
            recovered.transcripts.keep(&fact);
            for (agent, seq) in &replayed.emitted.reach.feeds {
                recovered.feeds.keep(agent, *seq, &fact);
            }
            last.push(LastFact { record: fact, feeds: replayed.emitted.reach.feeds });
        }
        if seq > behind.outputs {
            recovered.outputs.push(Batch { seq, facts, jobs }).await;
        }
    }
}

/// The commands and dead letters of a replayed fact.
fn jobs_of(shard: &Recovering, replayed: &Replayed, record: &contract::EventRecord, position: Position) -> Vec<Job> {
    let event = &record.event;
    let command = shard.tenants.get(&replayed.tenant).and_then(|tenant| {
        let command = tenant.engine.out_command(&replayed.tenant, replayed.at, event, &replayed.emitted.reach)?;
        Some(addressed(command, &tenant.profile))
    });
    let mut jobs = Vec::new();
    if let contract::Event::InputRejected { in_seq, index, subject, reason } = &**event {
        jobs.push(Job::Dead(Box::new(Dead {
            tenant: replayed.tenant.clone(),
            position,
            in_seq: *in_seq,
            index: *index,
            subject: unsharded(subject),
            reason: reason.clone(),
            at: replayed.at,
            payload: None,
        })));
    }
    jobs.extend(command.map(|command| Job::Command(Box::new(command), position, None)));
    jobs
}

/// The subject that a rejected input goes back to: the shard is found anew.
pub(crate) fn unsharded(subject: &str) -> String {
    subjects::parse_inbound(subject).map_or_else(
        || subject.to_owned(),
        |inbound| subjects::inbound_unsharded(&inbound.tenant, &inbound.kind, &inbound.account),
    )
}
