//! The way in: an envelope is accepted when JetStream has stored it.
//!
//! Everything of one account goes on one subject. Envelopes of one thread are a lane and are stored
//! in the order in which they were handed in; lanes are pipelined; under load several envelopes share
//! a record (see `batch`).

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bus::{Ack, Bus, ErrorKind, Publish};
use bytes::Bytes;
use contract::envelope::{EnvelopeKind, Invalid};
use contract::limits::{MESSAGE_BYTES_MAX, RECORD_BYTES_MAX, RECORD_ENVELOPES_MAX};
use contract::{AccountId, ChannelKind, Encoding, Envelope, TenantId};
use metrics::{Counter, Gauge, Histogram};
use runtime::redact::Redactor;
use runtime::trace;
use sha2::Digest;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::BoxFuture;
use crate::backoff::Backoff;
use crate::batch::{Batcher, Bounds, Class};
use crate::telemetry::Metric;

/// How long a record is tried before its envelopes are refused.
const STORE_WITHIN: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };
const BOUNDS: Bounds = Bounds {
    in_flight_max: 4,
    record_max: RECORD_ENVELOPES_MAX,
    // Room for the head of the array.
    record_bytes_max: RECORD_BYTES_MAX - 8,
    waiting_max: 4096,
    waiting_bytes_max: 32 * 1024 * 1024,
};

/// Where an envelope was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The sequence of its record in the shard's `IN`.
    pub seq: u64,
    /// Its place within the record.
    pub index: u32,
    /// The record was there already.
    pub duplicate: bool,
}

/// Why an envelope was not accepted. It may be handed in again with the same `dedup_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptError {
    /// It breaks the contract; handing it in again does not help.
    Invalid(Invalid),
    /// It is larger than the contract allows.
    TooLarge {
        /// Its size, encoded.
        bytes: usize,
    },
    /// It names another tenant or account than this one.
    Misaddressed,
    /// Too much waits already; try again soon.
    Busy,
    /// The bus could not store it in time; try again soon.
    Unavailable,
    /// The stream is full; try again later.
    Full,
    /// The bus refuses it; somebody must change settings or permissions.
    Refused(String),
}

impl AcceptError {
    /// Whether the same envelope may be accepted later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::Full)
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::TooLarge { .. } => "too_large",
            Self::Misaddressed => "misaddressed",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Refused(_) => "refused",
        }
    }
}

impl std::fmt::Display for AcceptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(invalid) => write!(f, "invalid envelope: {invalid}"),
            Self::TooLarge { bytes } => write!(f, "envelope of {bytes} bytes, at most {MESSAGE_BYTES_MAX} are allowed"),
            Self::Misaddressed => f.write_str("envelope of another tenant or account"),
            Self::Busy => f.write_str("too much waits to be stored"),
            Self::Unavailable => f.write_str("the bus does not answer"),
            Self::Full => f.write_str("the stream is full"),
            Self::Refused(why) => write!(f, "the bus refuses it: {why}"),
        }
    }
}

impl std::error::Error for AcceptError {}

/// What stores records: the bus, or a test's.
pub(crate) trait Store: Send + Sync + 'static {
    fn store(&self, publish: Publish) -> BoxFuture<'_, Result<Ack, bus::Error>>;
}

impl Store for Bus {
    fn store(&self, publish: Publish) -> BoxFuture<'_, Result<Ack, bus::Error>> {
        Box::pin(self.publish(publish))
    }
}

/// Takes envelopes of one account. Cheap to clone.
#[derive(Clone)]
pub struct Inbound {
    shared: Arc<Shared>,
    redactor: Option<Arc<Redactor>>,
}

/// An envelope on its way. Dropping it does not call it back.
#[derive(Debug)]
pub struct Ticket {
    answer: oneshot::Receiver<Result<Accepted, AcceptError>>,
}

struct Shared {
    store: Box<dyn Store>,
    tenant: TenantId,
    kind: ChannelKind,
    account: AccountId,
    subject: String,
    batcher: Mutex<Batcher<Item>>,
    /// Somebody was started to carry what waits, and has not yet begun.
    beginning: AtomicBool,
    idle: Notify,
    accepted: Counter,
    accept_seconds: Histogram,
    records: Counter,
    retried: Counter,
    waiting: Gauge,
}

struct Item {
    encoded: Vec<u8>,
    fingerprint: u128,
    span: trace::Span,
    handed_in: Instant,
    answer: oneshot::Sender<Result<Accepted, AcceptError>>,
}

// === impl Inbound ===

impl Inbound {
    /// The way in of one account over a connection, for programs that are not run by
    /// [`Channels`](crate::Channels): an adapter in a process of its own, a bench.
    #[must_use]
    pub fn over(bus: Bus, shards: u16, tenant: TenantId, kind: ChannelKind, account: AccountId) -> Self {
        Self::new(bus, shards, tenant, kind, account)
    }

    /// What must not be stored is taken out of every envelope from now on.
    #[must_use]
    pub fn redacting(self, redactor: Arc<Redactor>) -> Self {
        Self { redactor: Some(redactor), ..self }
    }

    pub(crate) fn new(store: impl Store, shards: u16, tenant: TenantId, kind: ChannelKind, account: AccountId) -> Self {
        let shard = contract::shard::of(&tenant, shards);
        let subject = contract::subject::inbound(shard, &tenant, &kind, &account);
        let labels = [
            metrics::Label::new("channel_kind", kind.to_string()),
            metrics::Label::new("channel_account", account.to_string()),
        ];
        let shared = Shared {
            store: Box::new(store),
            tenant,
            kind,
            account,
            subject,
            batcher: Mutex::new(Batcher::new(BOUNDS)),
            beginning: AtomicBool::new(false),
            idle: Notify::new(),
            accepted: metrics::counter!(Metric::Accepted.name(), labels.iter()),
            accept_seconds: metrics::histogram!(Metric::AcceptSeconds.name(), labels.iter()),
            records: metrics::counter!(Metric::Records.name(), labels.iter()),
            retried: metrics::counter!(Metric::Retried.name(), labels.iter()),
            waiting: metrics::gauge!(Metric::InboundQueued.name(), labels.iter()),
        };
        Self { shared: Arc::new(shared), redactor: None }
    }

    /// Returns when the envelope is stored.
    ///
    /// # Errors
    /// When it is not, as far as anybody knows. It may be handed in again.
    pub async fn accept(&self, envelope: &Envelope) -> Result<Accepted, AcceptError> {
        self.submit(envelope)?.await
    }

    /// Puts the envelope in its place among those of its thread, now; the ticket says when it is
    /// stored.
    ///
    /// # Errors
    /// When it is refused at once.
    pub fn submit(&self, envelope: &Envelope) -> Result<Ticket, AcceptError> {
        let shared = &self.shared;
        if let Some(redactor) = &self.redactor {
            let mut without = envelope.clone();
            let mut found = false;
            without.texts_mut(&mut |text| found |= redactor.redact_in(text));
            if found {
                return shared.submit(&without, None).inspect_err(|error| shared.count_refusal(error));
            }
        }
        shared.submit(envelope, None).inspect_err(|error| shared.count_refusal(error))
    }

    /// Takes out what must not be stored. Returns whether there was anything.
    pub(crate) fn redact(&self, envelope: &mut Envelope) -> bool {
        let Some(redactor) = &self.redactor else { return false };
        let mut found = false;
        envelope.texts_mut(&mut |text| found |= redactor.redact_in(text));
        found
    }

    /// [`submit`](Self::submit) of an envelope that went through [`redact`](Self::redact).
    /// `parent` is the trace that it is part of.
    pub(crate) fn submit_redacted(&self, envelope: &Envelope, parent: Option<&str>) -> Result<Ticket, AcceptError> {
        self.shared.submit(envelope, parent).inspect_err(|error| self.shared.count_refusal(error))
    }

    /// Returns when nothing waits and nothing is in flight.
    pub async fn idle(&self) {
        loop {
            let notified = self.shared.idle.notified();
            tokio::pin!(notified);
            // Registered before the look, so that what ends between is not missed.
            notified.as_mut().enable();
            if self.shared.batcher().is_idle() {
                return;
            }
            notified.await;
        }
    }
}

impl Future for Ticket {
    type Output = Result<Accepted, AcceptError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        // A sender that is gone means a runtime that is being torn down.
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or(Err(AcceptError::Unavailable)))
    }
}

// === impl Shared ===

impl Shared {
    fn submit(self: &Arc<Self>, envelope: &Envelope, parent: Option<&str>) -> Result<Ticket, AcceptError> {
        let ours =
            envelope.tenant == self.tenant && envelope.account.kind == self.kind && envelope.account.id == self.account;
        if !ours {
            return Err(AcceptError::Misaddressed);
        }
        envelope.validate().map_err(AcceptError::Invalid)?;
        let encoded = Encoding::MsgPack.encode(envelope).map_err(|e| AcceptError::Refused(e.to_string()))?;
        let bytes = encoded.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(AcceptError::TooLarge { bytes });
        }
        let (answer, answered) = oneshot::channel();
        let mut span = trace::start("accept", trace::Kind::Producer, parent);
        if trace::is_on() {
            span.set("channel.kind", self.kind.to_string());
            span.set("channel.account", self.account.to_string());
            span.set("tenant", self.tenant.to_string());
        }
        let item = Item { encoded, fingerprint: envelope.fingerprint(), span, handed_in: Instant::now(), answer };
        let depth = {
            let mut batcher = self.batcher();
            let key = envelope.thread.key.clone();
            batcher.push(key, class_of(envelope), bytes, item).map_err(|_| AcceptError::Busy)?;
            batcher.depth()
        };
        self.gauge(depth);
        self.pump();
        Ok(Ticket { answer: answered })
    }

    /// Has somebody carry what waits, unless somebody is about to. What goes is taken when he begins, so that what is
    /// handed in meanwhile, as by others that are just being served, goes with it.
    fn pump(self: &Arc<Self>) {
        if self.batcher().may_begin() && !self.beginning.swap(true, Ordering::AcqRel) {
            tokio::spawn(Arc::clone(self).carry());
        }
    }

    /// Stores one record and answers for everything in it.
    async fn carry(self: Arc<Self>) {
        self.beginning.store(false, Ordering::Release);
        let (batch, depth) = {
            let mut batcher = self.batcher();
            (batcher.take(), batcher.depth())
        };
        self.gauge(depth);
        let Some(batch) = batch else { return };
        // Too much for one record, perhaps.
        self.pump();
        let outcome = self.store(record(&batch.items, &self.subject)).await;
        let (behind, depth) = {
            let mut batcher = self.batcher();
            (batcher.finish(batch.lanes, outcome.is_err()), batcher.depth())
        };
        self.gauge(depth);
        match &outcome {
            Ok(ack) => {
                self.records.increment(1);
                self.accepted.increment(batch.items.len() as u64);
                for (index, item) in (0..).zip(batch.items) {
                    self.accept_seconds.record(item.handed_in.elapsed());
                    // Nobody has to wait for the answer.
                    let _ = item.answer.send(Ok(Accepted { seq: ack.seq, index, duplicate: ack.duplicate }));
                }
            }
            Err(error) => {
                for mut item in batch.items.into_iter().chain(behind) {
                    self.count_refusal(error);
                    item.span.fail(error.reason());
                    let _ = item.answer.send(Err(error.clone()));
                }
            }
        }
        self.pump();
        if self.batcher().is_idle() {
            self.idle.notify_waiters();
        }
    }

    /// Publishes until it is stored, refused, or too late. A repeat has the same id, so that the
    /// stream keeps one of them.
    async fn store(&self, publish: Publish) -> Result<Ack, AcceptError> {
        let deadline = Instant::now() + STORE_WITHIN;
        let mut tries = 0;
        loop {
            let error = match tokio::time::timeout_at(deadline, self.store.store(publish.clone())).await {
                Ok(Ok(ack)) => return Ok(ack),
                Ok(Err(error)) => error,
                Err(_) => return Err(AcceptError::Unavailable),
            };
            match error.kind {
                ErrorKind::Full => {
                    tracing::error!(subject = %self.subject, "the inbound stream is full");
                    return Err(AcceptError::Full);
                }
                ErrorKind::TooLarge | ErrorKind::Forbidden | ErrorKind::Config => {
                    tracing::error!(subject = %self.subject, kind = ?error.kind, "the bus refuses inbound records");
                    return Err(AcceptError::Refused(format!("{:?}", error.kind)));
                }
                _ => {}
            }
            let wait = BACKOFF.wait(tries);
            if Instant::now() + wait >= deadline {
                tracing::warn!(subject = %self.subject, kind = ?error.kind, tries, "inbound record not stored in time");
                return Err(AcceptError::Unavailable);
            }
            self.retried.increment(1);
            tries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    fn gauge(&self, waiting: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.waiting.set(waiting as f64);
    }

    fn count_refusal(&self, error: &AcceptError) {
        metrics::counter!(
            Metric::Refused.name(),
            "channel_kind" => self.kind.to_string(),
            "channel_account" => self.account.to_string(),
            "reason" => error.reason(),
        )
        .increment(1);
    }

    fn batcher(&self) -> MutexGuard<'_, Batcher<Item>> {
        // The batcher does not panic half-way through a change.
        self.batcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody waits for what became of a message, while a customer waits for an answer to one.
fn class_of(envelope: &Envelope) -> Class {
    if envelope.kind == EnvelopeKind::Receipt { Class::Bulk } else { Class::Interactive }
}

/// One envelope as it is, several as an array of envelopes.
fn record(items: &[Item], subject: &str) -> Publish {
    let (payload, msg_id) = match items {
        [item] => (Bytes::copy_from_slice(&item.encoded), format!("{:032x}", item.fingerprint)),
        several => {
            let mut payload = Vec::with_capacity(several.iter().map(|item| item.encoded.len()).sum::<usize>() + 3);
            let mut hasher = sha2::Sha256::new();
            // The head of a MessagePack array of up to 65,535 items.
            payload.push(0xdc);
            payload.extend(u16::try_from(several.len()).unwrap_or(u16::MAX).to_be_bytes());
            for item in several {
                payload.extend_from_slice(&item.encoded);
                hasher.update(item.fingerprint.to_be_bytes());
            }
            let id: String = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            (Bytes::from(payload), id)
        }
    };
    Publish {
        subject: subject.to_owned(),
        payload,
        content_type: Some(Encoding::MsgPack.content_type()),
        msg_id: Some(msg_id),
        headers: traced(items),
        ..Publish::default()
    }
}

/// The traces that the envelopes are part of.
fn traced(items: &[Item]) -> Vec<(&'static str, String)> {
    if let [item] = items {
        return item.span.context().map(|context| (trace::PARENT, context)).into_iter().collect();
    }
    if !trace::is_on() {
        return Vec::new();
    }
    let contexts: Vec<_> = items.iter().map(|item| item.span.context()).collect();
    trace::join(&contexts).map(|contexts| (trace::PARENTS, contexts)).into_iter().collect()
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").field("subject", &self.shared.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
