//! What is to be fetched for a message, durably: put aside in the stream `FETCH` before the provider is answered, worked
//! off with retry, and reported by an envelope of kind `media`.
//!
//! One job is all that is missing of one message, so that the envelope tells the whole of it. What was fetched while
//! something else failed is written into the job anew, and not fetched twice.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Job, Publish, topology};
use contract::envelope::{EnvelopeKind, Media as MediaPart, MediaStatus, MessageRef, Part};
use contract::limits::MESSAGE_BYTES_MAX;
use contract::{AccountId, ChannelKind, Encoding, Envelope, SmolStr, TenantId, Timestamp};
use futures_util::FutureExt;
use runtime::drain::Shutdown;
use runtime::metrics::Counted;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::backoff::Backoff;
use crate::channel::Channel;
use crate::clock;
use crate::failure::{Class, SendFailure};
use crate::fetch::Fetched;
use crate::inbound::Inbound;
use crate::ledger::millis;
use crate::media::{Media, MediaError};
use crate::telemetry::Metric;
use crate::webhook::{Fetch, Way};

/// The version of a job that this crate writes.
const VERSION: u16 = 1;
/// Most jobs at once.
const CONCURRENCY_MAX: usize = 8;
/// Most jobs fetched before there is room for them; they must not get old there.
const AHEAD_MAX: usize = 8;
/// A medium that cannot be had for so long is given up.
const LIFE: Duration = Duration::from_secs(24 * 3600);
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) };
/// How often the stream is told that a job is still under way.
const PROGRESS: Duration = Duration::from_secs(10);
/// A job that was handed out so often takes its process down each time.
const DELIVERIES_MAX: u64 = 1000;

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    v: u16,
    /// Whose.
    tenant: TenantId,
    /// The envelope that is published in the end, its content as it stands now.
    envelope: Envelope,
    /// What is still missing.
    missing: Vec<Missing>,
    /// When it was put aside.
    at: Timestamp,
    /// How often it was written anew.
    #[serde(default)]
    round: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Missing {
    part: usize,
    source: serde_json::Value,
}

/// What one kind fetches for.
pub(crate) struct Fetching {
    pub(crate) kind: ChannelKind,
    pub(crate) bus: Bus,
    pub(crate) targets: HashMap<(TenantId, AccountId), Target>,
}

/// An account that is fetched for.
pub(crate) struct Target {
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) inbound: Inbound,
    pub(crate) media: Media,
}

/// What the stream is told.
#[derive(Debug)]
enum Verdict {
    Done,
    Again(Duration),
}

/// Writes down what is to be fetched for an envelope that is stored.
pub(crate) async fn put_aside(way: &Way, envelope: Envelope, fetch: Vec<Fetch>) -> Result<(), bus::Error> {
    let missing: Vec<_> = fetch.into_iter().map(|Fetch { part, source }| Missing { part, source }).collect();
    let msg_id = format!("{}/0", envelope.msg_id());
    let work = Work {
        v: VERSION,
        tenant: way.tenant.clone(),
        envelope: amendment(envelope),
        missing,
        at: clock::now(),
        round: 0,
    };
    write(&way.bus, &work, msg_id).await
}

async fn write(bus: &Bus, work: &Work, msg_id: String) -> Result<(), bus::Error> {
    let payload =
        serde_json::to_vec(work).map_err(|error| bus::Error { kind: bus::ErrorKind::Other, source: error.into() })?;
    let account = &work.envelope.account;
    let publish = Publish {
        subject: topology::fetch_subject(work.tenant.as_str(), account.kind.as_str(), account.id.as_str()),
        payload: payload.into(),
        content_type: Some(Encoding::Json.content_type()),
        msg_id: Some(msg_id),
        ..Publish::default()
    };
    bus.publish(publish).await.map(|_| ())
}

/// The envelope that tells what became of a message's media.
fn amendment(message: Envelope) -> Envelope {
    let external_id = message.external_id.clone();
    let target = MessageRef { external_id, ..message.target.clone().unwrap_or_default() };
    Envelope {
        kind: EnvelopeKind::Media,
        dedup_key: format!("{}/media", message.dedup_key).into(),
        target: Some(target),
        reply_to: None,
        forward: None,
        reaction: None,
        receipt: None,
        signal: None,
        referral: None,
        seq: None,
        raw_ref: None,
        ..message
    }
}

// === impl Fetching ===

impl Fetching {
    /// Works until the drain begins, then lets go of what is held: it comes again.
    pub(crate) async fn run(self: Arc<Self>, shutdown: &Shutdown) -> Result<(), bus::Error> {
        let durable = topology::fetch_consumer(self.kind.as_str());
        let mut jobs = self.bus.work_ahead(topology::FETCH, &durable, AHEAD_MAX).await?;
        let permits = Arc::new(Semaphore::new(CONCURRENCY_MAX));
        let mut tasks = tokio::task::JoinSet::new();
        let in_flight = metrics::gauge!(Metric::FetchesInFlight.name(), "channel_kind" => self.kind.to_string());
        loop {
            while tasks.try_join_next().is_some() {}
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let job = tokio::select! {
                biased;
                () = shutdown.draining() => break,
                job = jobs.next() => job,
            };
            let Some(job) = job else { break };
            let (this, counted) = (Arc::clone(&self), Counted::one(&in_flight));
            tasks.spawn(async move {
                let _held = (permit, counted);
                this.work(job).await;
            });
        }
        jobs.stop().await;
        // A download may take long; it is begun again elsewhere.
        tasks.shutdown().await;
        Ok(())
    }

    async fn work(&self, job: Job) {
        let verdict = match serde_json::from_slice::<Work>(&job.payload) {
            Ok(work) if work.v == VERSION && job.payload.len() <= MESSAGE_BYTES_MAX * 2 => {
                self.handle(&job, work).await
            }
            _ => {
                tracing::error!(channel.kind = %self.kind, "what is to be fetched cannot be read");
                self.count("unreadable");
                Verdict::Done
            }
        };
        let answered = match verdict {
            Verdict::Done => job.ack().await,
            Verdict::Again(wait) => job.nak(wait).await,
        };
        if let Err(error) = answered {
            // It comes again, and what is stored twice is the same.
            tracing::debug!(kind = ?error.kind, "a job was not answered");
        }
    }

    async fn handle(&self, job: &Job, mut work: Work) -> Verdict {
        let too_old = clock::now() > work.at + millis(LIFE) || job.deliveries > DELIVERIES_MAX;
        let Some(target) = self.targets.get(&(work.tenant.clone(), work.envelope.account.id.clone())) else {
            if too_old {
                tracing::error!(channel.kind = %self.kind, channel.account = %work.envelope.account.id, "no process runs the account that something is to be fetched for");
                self.count("given_up");
                return Verdict::Done;
            }
            return Verdict::Again(Duration::from_secs(job.deliveries.clamp(1, 30)));
        };
        let mut wait = None;
        let mut progress = false;
        let mut missing = Vec::new();
        for item in std::mem::take(&mut work.missing) {
            let Some(Part::Media(part)) = work.envelope.content.get(item.part) else {
                tracing::error!(channel.kind = %self.kind, "what is to be fetched is no medium");
                continue;
            };
            match self.fetch(target, job, &work.envelope.thread.key, part, &item).await {
                Ok(stored) => {
                    self.count(if stored.store_key.is_some() { "stored" } else { "unavailable" });
                    if let Some(place) = work.envelope.content.get_mut(item.part) {
                        *place = Part::Media(stored);
                    }
                    progress = true;
                }
                Err(failure) if too_old => {
                    self.count("given_up");
                    if let Some(Part::Media(part)) = work.envelope.content.get_mut(item.part) {
                        *part = without(part, &format!("it was tried for long: {}", failure.message));
                    }
                    progress = true;
                }
                Err(failure) => {
                    self.count("retried");
                    tracing::info!(channel.kind = %self.kind, channel.account = %work.envelope.account.id, code = %failure.code, message = %failure.message, "a medium was not fetched yet");
                    let after = match failure.class {
                        Class::Retryable { after } => after.unwrap_or_default(),
                        _ => Duration::ZERO,
                    };
                    wait = Some(wait.unwrap_or(Duration::ZERO).max(after));
                    missing.push(item);
                }
            }
        }
        work.missing = missing;
        let Some(after) = wait else { return self.report(target, work).await };
        let again = Verdict::Again(BACKOFF.wait(deliveries_before(job)).max(after));
        if !progress {
            return again;
        }
        // In a job of its own, so that what is done stays done. The old one goes when the new one stands.
        work.round += 1;
        let msg_id = format!("{}/{}", work.envelope.msg_id(), work.round);
        match write(&self.bus, &work, msg_id).await {
            Ok(()) => Verdict::Done,
            Err(error) => {
                tracing::warn!(kind = ?error.kind, "what is still to be fetched cannot be written down");
                again
            }
        }
    }

    /// Fetches and stores one medium; the part as it then is. An error: not yet.
    async fn fetch(
        &self,
        target: &Target,
        job: &Job,
        thread_key: &SmolStr,
        part: &MediaPart,
        item: &Missing,
    ) -> Result<MediaPart, SendFailure> {
        let fetch = AssertUnwindSafe(async { target.channel.fetch(&item.source).await }).catch_unwind();
        tokio::pin!(fetch);
        let fetched = loop {
            match tokio::time::timeout(PROGRESS, &mut fetch).await {
                Ok(Ok(fetched)) => break fetched,
                Ok(Err(_)) => break Err(SendFailure::permanent("panic", "the channel failed while it was fetching")),
                Err(_) => {
                    // What is not told now is told the next time.
                    let _ = job.progress().await;
                }
            }
        };
        let Fetched { bytes, mime, name } = match fetched {
            Ok(fetched) => fetched,
            Err(failure) if matches!(failure.class, Class::Retryable { .. }) => return Err(failure),
            Err(failure) => {
                tracing::warn!(channel.kind = %self.kind, code = %failure.code, message = %failure.message, "a medium is not to be had");
                return Ok(without(part, &failure.message));
            }
        };
        let mime = part.mime.as_deref().or(mime.as_deref());
        let name = part.name.as_deref().or(name.as_deref());
        match target.media.put(thread_key, bytes, mime, name).await {
            Ok(stored) => Ok(MediaPart {
                store_key: stored.store_key,
                status: stored.status,
                sha256: stored.sha256,
                bytes: stored.bytes,
                mime: stored.mime,
                name: stored.name,
                reason: None,
                ..part.clone()
            }),
            Err(MediaError::Unavailable(error)) => Err(SendFailure::retryable("store", error.to_string())),
            Err(error) => Ok(without(part, &error.to_string())),
        }
    }

    /// Tells the router.
    async fn report(&self, target: &Target, work: Work) -> Verdict {
        let mut envelope = work.envelope;
        envelope.received_at = clock::now();
        match target.inbound.accept(&envelope).await {
            Ok(_) => Verdict::Done,
            Err(error) if error.is_retryable() => Verdict::Again(BACKOFF.wait(1)),
            Err(error) => {
                tracing::error!(%error, "what was fetched cannot be told");
                Verdict::Done
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        metrics::counter!(Metric::Fetches.name(), "channel_kind" => self.kind.to_string(), "outcome" => outcome)
            .increment(1);
    }
}

fn without(part: &MediaPart, reason: &str) -> MediaPart {
    MediaPart { status: Some(MediaStatus::Unavailable), reason: Some(reason.into()), store_key: None, ..part.clone() }
}

fn deliveries_before(job: &Job) -> u32 {
    u32::try_from(job.deliveries.saturating_sub(1)).unwrap_or(u32::MAX)
}
