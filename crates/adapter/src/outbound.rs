//! The way out: works off the commands of one channel kind.
//!
//! Commands of one thread are carried out one after the other, those of different threads side by
//! side, bounded. A job is acknowledged after its outcome is in the ledger and its receipt is stored;
//! a failure that goes away gives it back to the stream with a delay. JetStream redelivers out of
//! order after a crash, so a command waits for the one it names as `after`.
//!
//! The accounts of a kind share one consumer, but not their troubles: each has a share of what is held and of what is
//! sent at once, and what is over it goes back to the stream for a while. What agents write goes before what the program
//! says by itself: that has half of the share at most, and waits for the rate limit while agents' answers do.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::{Bus, Job, Publish};
use contract::envelope::{
    Account, AdapterInfo, AuthLevel, Direction, Envelope, EnvelopeKind, Identity, Party, Receipt, ReceiptStatus, Role,
    Scope, SenderAuth,
};
use contract::limits::MESSAGE_BYTES_MAX;
use contract::outbound::{DeadLetter, DeadPayload, OutCommand};
use contract::{
    AccountId, ChannelKind, CodecError, Encoding, Millis, SmolStr, TenantId, Timestamp, codec, subject, token,
};
use futures_util::FutureExt;
use metrics::Gauge;
use runtime::drain::Shutdown;
use runtime::metrics::Counted;
use runtime::trace;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::channel::{Channel, LedgerMode};
use crate::clock;
use crate::failure::{Class, SendFailure, Sent};
use crate::inbound::Inbound;
use crate::ledger::{Entry, Ledger, Outcome, PartLedger, millis};
use crate::limit::TokenBucket;
use crate::telemetry::Metric;

/// A command of a channel without a ledger that was handed out so often takes its process down each time.
/// With a ledger, the send that was interrupted is found in it and ends as unknown.
const DELIVERIES_MAX: u64 = 1000;
/// Most commands held at once, over all accounts: those being sent and those that wait for their turn.
const HELD_MAX: usize = 512;
/// Most commands being sent at once, over all accounts.
const CONCURRENCY_MAX: usize = 256;
/// An account may hold and send at least so many, however many accounts there are.
const SHARE_MIN: usize = 4;
/// What is over an account's share comes again after so long.
const OVER_SHARE: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };
/// Most commands fetched before there is room for them; they must not get old there.
const AHEAD_MAX: usize = 64;
/// A command lives so long where no channel says otherwise.
const LIFE: Duration = Duration::from_secs(24 * 3600);
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) };
/// How often the stream is told that a send is still under way.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long a command waits for one before it that nobody has begun.
const AFTER_ABSENT_WITHIN: Duration = Duration::from_secs(60);
/// How long one before it may be silent: longer than the longest backoff.
const AFTER_SILENT_WITHIN: Millis = Millis::from_secs(360);
const AFTER_BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(5) };
/// A longer wait for the rate limit is spent in the stream.
const RATE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How many waiting commands are timed.
const WAITING_MAX: usize = 65_536;

/// An account that commands are carried out for.
pub(crate) struct Target {
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) account: Account,
    pub(crate) inbound: Inbound,
    pub(crate) rate: Option<Mutex<TokenBucket>>,
    pub(crate) share: Share,
}

/// What an account has of what its kind does at once.
#[derive(Clone)]
pub(crate) struct Share {
    held: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    /// What of it is for what nobody of ours wrote.
    automatic: Arc<Semaphore>,
    /// How many answers of agents wait for the rate limit.
    asking: Arc<AtomicUsize>,
}

impl Share {
    /// The share of one of `accounts`.
    pub(crate) fn of(accounts: usize) -> Self {
        let part = |all: usize| (all / accounts.max(1)).max(SHARE_MIN);
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            held: places(part(HELD_MAX)),
            sending: places(part(CONCURRENCY_MAX)),
            automatic: places(part(CONCURRENCY_MAX) / 2),
            asking: Arc::default(),
        }
    }
}

/// Somebody's answer waits for the rate limit.
struct Asking<'a>(&'a AtomicUsize);

impl<'a> Asking<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    fn room(&self, automatic: bool) -> Result<Room, TryAcquireError> {
        let place = automatic.then(|| Arc::clone(&self.automatic).try_acquire_owned()).transpose()?;
        Ok((Arc::clone(&self.held).try_acquire_owned()?, place))
    }
}

/// Works off one kind.
pub(crate) struct Outbound {
    pub(crate) kind: ChannelKind,
    pub(crate) bus: Bus,
    pub(crate) targets: HashMap<(TenantId, AccountId), Target>,
    pub(crate) ledger: Ledger,
    lanes: Mutex<HashMap<Lane, VecDeque<Work>>>,
    waiting: Mutex<HashMap<SmolStr, (Instant, u32)>>,
    /// Show how many commands are held, and how many of them are being sent.
    queued: Gauge,
    in_flight: Gauge,
}

type Lane = (TenantId, AccountId, SmolStr);

struct Work {
    job: Job,
    command: OutCommand,
    /// Held until the job is answered, so that what is held is bounded: of the kind, and of the account.
    _permits: (OwnedSemaphorePermit, Option<Room>),
    _counted: Counted,
}

/// What an account's share has for a command: its place among what is held, and among that what is automatic.
type Room = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// What the stream is told.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Again(Duration),
    Dead(String),
}

/// Whether a command may go before the one that it follows.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Now,
    Wait(Duration),
    Overtake,
}

// === impl Outbound ===

impl Outbound {
    pub(crate) fn new(
        kind: ChannelKind,
        bus: Bus,
        targets: HashMap<(TenantId, AccountId), Target>,
        ledger: Ledger,
    ) -> Self {
        let gauge = |metric: Metric| metrics::gauge!(metric.name(), "channel_kind" => kind.to_string());
        let (queued, in_flight) = (gauge(Metric::CommandsQueued), gauge(Metric::CommandsInFlight));
        Self { kind, bus, targets, ledger, lanes: Mutex::default(), waiting: Mutex::default(), queued, in_flight }
    }

    /// Works until the drain begins, then finishes what is held.
    pub(crate) async fn run(self: Arc<Self>, shutdown: &Shutdown) -> Result<(), bus::Error> {
        let mut jobs = self
            .bus
            .work_ahead(bus::topology::OUT, &bus::topology::out_consumer(self.kind.as_str()), AHEAD_MAX)
            .await?;
        let permits = Arc::new(Semaphore::new(HELD_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let job = tokio::select! {
                biased;
                () = shutdown.draining() => break,
                job = jobs.next() => job,
            };
            let Some(job) = job else { break };
            match decode(&job.subject, job.headers.get(codec::CONTENT_TYPE), &job.payload) {
                Ok(command) => Arc::clone(&self).admit(job, command, permit),
                Err(error) => self.answer(job, Verdict::Dead(error.to_string())).await,
            }
        }
        jobs.stop().await;
        let all = u32::try_from(HELD_MAX).unwrap_or(u32::MAX);
        let _ = permits.acquire_many(all).await;
        Ok(())
    }

    /// Takes a command on, as far as its account has room for it.
    fn admit(self: Arc<Self>, job: Job, command: OutCommand, permit: OwnedSemaphorePermit) {
        let room = match self.target(&command) {
            // What to do with it is found out without waiting for anything.
            None => Ok(None),
            Some(target) => target.share.room(command.automatic()).map(Some),
        };
        let counted = Counted::one(&self.queued);
        match room {
            Ok(own) => self.dispatch(Work { job, command, _permits: (permit, own), _counted: counted }),
            Err(_) => {
                self.count("over_share");
                let wait = OVER_SHARE.wait(deliveries_before(&job).min(5));
                tokio::spawn(async move {
                    self.answer(job, Verdict::Again(wait)).await;
                    drop((permit, counted));
                });
            }
        }
    }

    fn target(&self, command: &OutCommand) -> Option<&Target> {
        self.targets.get(&(command.tenant.clone(), command.account.id.clone()))
    }

    /// Waits for a place among what an account sends at once, telling the stream now and then that it takes longer.
    async fn place<'a>(&self, target: &'a Target, job: &Job) -> Option<SemaphorePermit<'a>> {
        let place = target.share.sending.acquire();
        tokio::pin!(place);
        loop {
            match tokio::time::timeout(PROGRESS, &mut place).await {
                // The semaphore is never closed.
                Ok(place) => return place.ok(),
                Err(_) => in_progress(job).await,
            }
        }
    }

    /// Puts the work behind what its thread has already.
    fn dispatch(self: Arc<Self>, work: Work) {
        let command = &work.command;
        let lane = (command.tenant.clone(), command.account.id.clone(), command.thread.key.clone());
        {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(queue) = lanes.get_mut(&lane) {
                queue.push_back(work);
                return;
            }
            lanes.insert(lane.clone(), VecDeque::new());
        }
        tokio::spawn(async move {
            let mut next = Some(work);
            while let Some(Work { job, command, _permits, _counted }) = next {
                let verdict = self.handle(&job, &command).await;
                self.answer(job, verdict).await;
                let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
                next = lanes.get_mut(&lane).and_then(VecDeque::pop_front);
                if next.is_none() {
                    lanes.remove(&lane);
                }
            }
        });
    }

    async fn handle(&self, job: &Job, command: &OutCommand) -> Verdict {
        let Some(target) = self.target(command) else {
            // Another process may run it, or will once somebody has mended the settings.
            if clock::now() > end_of_life(command, LIFE) {
                return Verdict::Dead("no process runs this account".into());
            }
            tracing::debug!(channel.kind = %self.kind, channel.account = %command.account.id, "a command for an account that does not run here");
            return Verdict::Again(Duration::from_secs(job.deliveries.clamp(1, 30)));
        };
        let _place = self.place(target, job).await;
        let _counted = Counted::one(&self.in_flight);
        let retry = target.channel.retry();
        let end_of_life = end_of_life(command, retry.life);
        let durable = target.channel.ledger() == LedgerMode::Durable;
        let mut ledger = if durable {
            match self.ledger.open(&command.command_id).await {
                Ok(ledger) => ledger,
                Err(error) => {
                    tracing::warn!(kind = ?error.kind, "the send ledger cannot be read");
                    return Verdict::Again(BACKOFF.wait(0));
                }
            }
        } else if job.deliveries > DELIVERIES_MAX {
            return Verdict::Dead(format!("was handed out {DELIVERIES_MAX} times and never came to an end"));
        } else {
            PartLedger::volatile()
        };
        if let Some(outcome) = ledger.entry().outcome.clone() {
            return self.report(target, command, &outcome).await;
        }
        // Given back with a delay, it comes earlier when that answer was lost.
        if let Some(rest) = rest(ledger.entry(), clock::now()) {
            return Verdict::Again(rest);
        }
        if durable {
            match self.turn(command).await {
                Turn::Now => {}
                Turn::Wait(wait) => return Verdict::Again(wait),
                Turn::Overtake => {
                    metrics::counter!(Metric::Overtook.name(), "channel_kind" => self.kind.to_string()).increment(1);
                    tracing::warn!(channel.kind = %self.kind, channel.account = %command.account.id, conversation.id = %command.conversation, "a command goes before the one it follows, which has not ended");
                }
            }
        }
        if let Some(rate) = &target.rate {
            let automatic = command.automatic();
            let _asking = (!automatic).then(|| Asking::of(&target.share.asking));
            let begun = Instant::now();
            loop {
                let took = if automatic && target.share.asking.load(Ordering::Relaxed) > 0 {
                    // As long as anybody has ever waited for a token without going back to the stream.
                    Err(if begun.elapsed() < RATE_WAIT_MAX { AFTER_BACKOFF.first } else { RATE_WAIT_MAX * 2 })
                } else {
                    rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
                };
                match took {
                    Ok(()) => break,
                    Err(wait) if wait > RATE_WAIT_MAX => return Verdict::Again(wait),
                    Err(wait) => tokio::time::sleep(wait).await,
                }
            }
        }
        let result = if clock::now() > end_of_life {
            Err(match ledger.pending_part() {
                None => SendFailure::permanent("expired", "it was not sent in time"),
                Some(_) => SendFailure::unknown("expired", "it was interrupted, and its time is over"),
            })
        } else {
            self.send(target, job, command, &mut ledger).await
        };
        let outcome = match result {
            Ok(Sent { status, external_ids, report }) => {
                Outcome { status, part: None, code: None, reason: None, external_ids, report }
            }
            Err(failure) => {
                let part = ledger.pending_part();
                tracing::warn!(channel.kind = %self.kind, channel.account = %command.account.id, conversation.id = %command.conversation, class = ?failure.class, code = %failure.code, message = %failure.message, "a command was not sent");
                let (status, failure) = match failure.class {
                    Class::Permanent => (ReceiptStatus::Failed, failure),
                    Class::Unknown => (ReceiptStatus::Unknown, failure),
                    Class::Retryable { after } => {
                        let tries = if durable { ledger.entry().tries } else { deliveries_before(job) };
                        let backoff = Backoff { max: retry.wait_max, ..BACKOFF };
                        let wait = backoff.wait(tries).max(after.unwrap_or_default());
                        if clock::now() + millis(wait) <= end_of_life {
                            ledger.try_failed(wait).await;
                            self.count("retried");
                            return Verdict::Again(wait);
                        }
                        (ReceiptStatus::Failed, failure)
                    }
                };
                Outcome {
                    status,
                    part,
                    code: Some(failure.code),
                    reason: Some(failure.message),
                    external_ids: ledger.external_ids(),
                    report: true,
                }
            }
        };
        self.count(match outcome.status {
            ReceiptStatus::Failed => "failed",
            ReceiptStatus::Unknown => "unknown",
            ReceiptStatus::Accepted => "accepted",
            _ => "sent",
        });
        ledger.finish(outcome.clone()).await;
        if durable {
            self.ledger.remember(&command.command_id, outcome.clone());
        }
        self.report(target, command, &outcome).await
    }

    /// Calls the channel, telling the stream now and then that it takes longer.
    async fn send(
        &self,
        target: &Target,
        job: &Job,
        command: &OutCommand,
        ledger: &mut PartLedger,
    ) -> Result<Sent, SendFailure> {
        let begun = Instant::now();
        let mut span = trace::start("send", trace::Kind::Client, job.headers.get(trace::PARENT));
        span.set("channel.kind", self.kind.to_string());
        span.set("channel.account", command.account.id.to_string());
        span.set("conversation.id", command.conversation.to_string());
        // Called inside, since a channel may fail before it has made a future.
        let send = AssertUnwindSafe(async { target.channel.send(command, ledger).await }).catch_unwind();
        tokio::pin!(send);
        let result = loop {
            match tokio::time::timeout(PROGRESS, &mut send).await {
                Ok(Ok(result)) => break result,
                Ok(Err(_)) => break Err(SendFailure::unknown("panic", "the channel failed while it was sending")),
                Err(_) => in_progress(job).await,
            }
        };
        metrics::histogram!(Metric::SendSeconds.name(), "channel_kind" => self.kind.to_string())
            .record(begun.elapsed());
        if let Err(failure) = &result {
            span.fail(match failure.class {
                Class::Permanent => "permanent",
                Class::Unknown => "unknown",
                Class::Retryable { .. } => "retryable",
            });
        }
        result
    }

    /// Whether the command that this one follows has ended.
    async fn turn(&self, command: &OutCommand) -> Turn {
        let Some(after) = &command.after else { return Turn::Now };
        let entry = match self.ledger.open(after).await {
            Ok(ledger) => ledger.entry().clone(),
            Err(_) => return Turn::Wait(AFTER_BACKOFF.first),
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.outcome.is_some() {
            waiting.remove(&command.command_id);
            return Turn::Now;
        }
        if waiting.len() >= WAITING_MAX {
            waiting.clear();
        }
        let now = Instant::now();
        let (since, tries) = waiting.entry(command.command_id.clone()).or_insert((now, 0));
        let in_time = if entry.updated_at > Timestamp(0) {
            // Begun, here or elsewhere: it has its own end, unless whoever began it is gone for good.
            let last_sign = entry.updated_at.max(entry.not_before.unwrap_or_default());
            clock::now().since(last_sign) <= AFTER_SILENT_WITHIN
        } else {
            now.duration_since(*since) < AFTER_ABSENT_WITHIN
        };
        if !in_time {
            waiting.remove(&command.command_id);
            return Turn::Overtake;
        }
        *tries += 1;
        Turn::Wait(AFTER_BACKOFF.wait(*tries - 1))
    }

    /// Stores the receipt; the job is done when it is.
    async fn report(&self, target: &Target, command: &OutCommand, outcome: &Outcome) -> Verdict {
        if !outcome.report {
            return Verdict::Done;
        }
        match target.inbound.accept(&receipt(&target.account, command, outcome, clock::now())).await {
            Ok(_) => Verdict::Done,
            Err(error) if error.is_retryable() => Verdict::Again(BACKOFF.wait(1)),
            Err(error) => {
                tracing::error!(%error, "a receipt cannot be stored");
                Verdict::Done
            }
        }
    }

    async fn answer(&self, job: Job, verdict: Verdict) {
        let answered = match verdict {
            Verdict::Done => job.ack().await,
            Verdict::Again(delay) => job.nak(delay).await,
            Verdict::Dead(reason) => match self.bury(&job, reason).await {
                Ok(()) => job.term().await,
                Err(error) => {
                    tracing::error!(kind = ?error.kind, "a dead letter cannot be stored");
                    job.nak(BACKOFF.wait(3)).await
                }
            },
        };
        if let Err(error) = answered {
            // It comes again, and the ledger knows what was done.
            tracing::debug!(kind = ?error.kind, "a job was not answered");
        }
    }

    async fn bury(&self, job: &Job, reason: String) -> Result<(), bus::Error> {
        let stage = bus::topology::out_consumer(self.kind.as_str());
        tracing::error!(subject = %job.subject, stage, reason, "a command goes to the dead letters");
        metrics::counter!(Metric::Dead.name(), "stage" => stage.clone()).increment(1);
        let letter = DeadLetter {
            stage: stage.as_str().into(),
            subject: job.subject.clone(),
            reason,
            content_type: job.headers.get(codec::CONTENT_TYPE).map(SmolStr::from),
            payload: DeadPayload::new(&job.payload),
            at: clock::now(),
        };
        let payload = Encoding::MsgPack
            .encode(&letter)
            .map_err(|error| bus::Error { kind: bus::ErrorKind::Other, source: error.into() })?;
        let tenant = tenant_of(&job.subject).unwrap_or_else(|| "main".into());
        let publish = Publish {
            subject: format!("{}.dead.{}.{}", subject::PREFIX, token::encode(&tenant), token::encode(&stage)),
            payload: payload.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            msg_id: Some(format!("{stage}/{}", job.seq)),
            ..Publish::default()
        };
        self.bus.publish(publish).await.map(|_| ())
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!(Metric::Sends.name(), "channel_kind" => self.kind.to_string(), "outcome" => outcome)
            .increment(1);
    }
}

/// Reads a command and checks that it came where it belongs.
fn decode(subject: &str, content_type: Option<&str>, payload: &[u8]) -> Result<OutCommand, CodecError> {
    let command: OutCommand = Encoding::detect(content_type, payload)?.decode(payload, MESSAGE_BYTES_MAX)?;
    if command.v != contract::outbound::VERSION {
        return Err(CodecError(format!("version {} of a command is not known", command.v)));
    }
    if subject::out(&command.tenant, &command.account.kind, &command.account.id) != subject {
        return Err(CodecError("the command is of another account than its subject".into()));
    }
    if command.command_id.is_empty() || command.thread.key.is_empty() {
        return Err(CodecError("the command lacks an id or a thread".into()));
    }
    contract::envelope::validate_content("content", &command.content).map_err(|e| CodecError(e.to_string()))?;
    Ok(command)
}

fn tenant_of(subject: &str) -> Option<String> {
    token::decode(subject.strip_prefix("tl.v1.out.")?.split('.').next()?)
}

fn end_of_life(command: &OutCommand, life: Duration) -> Timestamp {
    let own = command.at + millis(life);
    command.not_after.map_or(own, |not_after| not_after.min(own))
}

/// How long a command is not to be tried yet.
fn rest(entry: &Entry, now: Timestamp) -> Option<Duration> {
    let rest = entry.not_before?.since(now);
    (rest > Millis(0)).then(|| Duration::from_millis(rest.0))
}

/// Tells the stream that a command is still being worked on.
async fn in_progress(job: &Job) {
    if let Err(error) = job.progress().await {
        tracing::debug!(kind = ?error.kind, "the stream was not told that a send takes longer");
    }
}

fn deliveries_before(job: &Job) -> u32 {
    u32::try_from(job.deliveries.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// The envelope that tells the router what became of a command.
#[must_use]
pub fn receipt(account: &Account, command: &OutCommand, outcome: &Outcome, now: Timestamp) -> Envelope {
    let part = outcome.part.map_or_else(|| "all".to_owned(), |part| part.to_string());
    let mut receipt = system_receipt(account, command, now);
    receipt.dedup_key = format!("receipt/{}/{part}/{}", command.command_id, outcome.status).into();
    receipt.receipt = Some(Receipt {
        status: outcome.status.clone(),
        command_id: Some(command.command_id.clone()),
        part: outcome.part,
        targets: outcome.external_ids.clone(),
        watermark: None,
        through_seq: None,
        code: outcome.code.clone(),
        reason: outcome.reason.clone(),
        retryable: None,
        recipient: None,
        price: None,
    });
    receipt
}

fn system_receipt(account: &Account, command: &OutCommand, now: Timestamp) -> Envelope {
    let identity = Identity {
        scheme: "account".into(),
        value: SmolStr::from(account.id.clone()),
        scope: Scope::Account,
        scope_id: Some(SmolStr::from(account.id.clone())),
        raw: None,
        assurance: None,
    };
    let sender =
        Party { identity, aliases: Vec::new(), display: None, username: None, role: Role::System, named_as: None };
    Envelope {
        v: contract::envelope::VERSION,
        kind: EnvelopeKind::Receipt,
        tenant: command.tenant.clone(),
        account: account.clone(),
        dedup_key: SmolStr::default(),
        external_id: None,
        external_ids: Vec::new(),
        direction: Direction::In,
        thread: command.thread.clone(),
        sender,
        recipients: Vec::new(),
        sender_auth: SenderAuth { level: AuthLevel::Unverified, detail: None },
        sent_at: None,
        received_at: now,
        sent_at_raw: None,
        seq: None,
        content: Vec::new(),
        language: None,
        tags: Vec::new(),
        group: None,
        reply_to: None,
        forward: None,
        target: None,
        reaction: None,
        receipt: None,
        signal: None,
        referral: None,
        call: None,
        mail: None,
        window: None,
        raw_ref: None,
        adapter: Some(AdapterInfo {
            name: "throughline-adapter".into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            warnings: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests;
