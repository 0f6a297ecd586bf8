//! Working off a durable consumer.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use crate::push::Position;
use crate::read::longer;
use crate::{Bus, Error, ErrorKind, Headers, Publish};

/// Jobs fetched ahead.
const AHEAD_MAX: usize = 256;
const HEARTBEAT: Duration = Duration::from_secs(1);
const EXPIRES: Duration = Duration::from_secs(30);

type Opening = Pin<Box<dyn Future<Output = Result<pull::Stream, Error>> + Send>>;

/// The jobs of a durable consumer, in the order of the stream save for redeliveries.
pub struct Jobs {
    bus: Bus,
    stream: String,
    durable: String,
    ahead: usize,
    inner: Option<pull::Stream>,
    opening: Option<Opening>,
    backoff: Duration,
    stopped: bool,
}

async fn open(bus: Bus, stream: String, durable: String, ahead: usize, pause: Duration) -> Result<pull::Stream, Error> {
    tokio::time::sleep(pause).await;
    let doing = |error: Error| error.while_doing(format_args!("working off {durable} of stream {stream}"));
    // Ours first: it tells a forbidden or missing consumer at once, the library would run into a timeout.
    let found: Result<serde_json::Value, Error> = bus.api(&format!("CONSUMER.INFO.{stream}.{durable}"), None).await;
    found.map_err(|error| doing(error.of_reading()))?;
    let consumer: async_nats::jetstream::consumer::Consumer<pull::Config> = bus
        .shared
        .jetstream
        .get_consumer_from_stream(&durable, &stream)
        .await
        .map_err(|error| doing(Error::unavailable(error.to_string())))?;
    let builder = consumer.stream().max_messages_per_batch(ahead).expires(EXPIRES).heartbeat(HEARTBEAT);
    builder.messages().await.map_err(|error| doing(Error::unavailable(error.to_string())))
}

impl Jobs {
    /// The next job; survives reconnects. `None` only after `stop`. Cancel safe.
    pub async fn next(&mut self) -> Option<Job> {
        while !self.stopped {
            let Some(inner) = &mut self.inner else {
                self.reopen().await;
                continue;
            };
            match inner.next().await {
                Some(Ok(message)) => {
                    self.backoff = Duration::ZERO;
                    if let Some(job) = Job::new(&self.bus, message) {
                        return Some(job);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(durable = self.durable, %error, "fetching jobs is interrupted");
                    self.again();
                }
                None => self.again(),
            }
        }
        None
    }

    /// A job that has arrived already.
    pub fn try_next(&mut self) -> Option<Job> {
        let next = tokio::task::coop::unconstrained(self.inner.as_mut()?.next()).now_or_never()?;
        next?.ok().and_then(|message| Job::new(&self.bus, message))
    }

    /// Takes no more; what was fetched ahead goes back at once for somebody else.
    pub async fn stop(&mut self) {
        self.stopped = true;
        // What the server has sent us by now has arrived then.
        let reached = self.bus.round_trip().await.is_ok();
        let held: Vec<Job> = std::iter::from_fn(|| self.try_next()).collect();
        self.inner = None;
        self.opening = None;
        if reached {
            // And now it knows that nobody listens: else it would send us again what we give back.
            let _ = self.bus.round_trip().await;
        }
        for job in held {
            // If it fails, the server delivers it again after ack_wait.
            let _ = job.tell("-NAK").await;
        }
    }

    fn again(&mut self) {
        self.inner = None;
        self.backoff = longer(self.backoff);
    }

    async fn reopen(&mut self) {
        let opening = self.opening.get_or_insert_with(|| {
            let (bus, stream, durable) = (self.bus.clone(), self.stream.clone(), self.durable.clone());
            Box::pin(open(bus, stream, durable, self.ahead, self.backoff))
        });
        let opened = opening.await;
        self.opening = None;
        match opened {
            Ok(inner) => self.inner = Some(inner),
            Err(error) => {
                tracing::warn!(stream = self.stream, durable = self.durable, %error, "no jobs, trying again");
                self.again();
            }
        }
    }
}

/// One job. Dropping it without an answer brings it back after the consumer's `ack_wait`.
pub struct Job {
    bus: Bus,
    reply: String,
    /// Where it was published.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its bytes.
    pub payload: Bytes,
    /// Its sequence in the stream.
    pub seq: u64,
    /// Deliveries so far, 1 the first time.
    pub deliveries: u64,
}

impl Job {
    fn new(bus: &Bus, message: async_nats::jetstream::Message) -> Option<Self> {
        let message = message.message;
        let reply = message.reply?.into_string();
        let position = Position::parse(&reply)?;
        Some(Self {
            bus: bus.clone(),
            reply,
            subject: message.subject.into_string(),
            headers: Headers::from(message.headers),
            payload: message.payload,
            seq: position.seq,
            deliveries: position.deliveries,
        })
    }

    /// Done. Waits until the server has noted it: afterwards it is not delivered again, not even
    /// after a crash. An error means it may be.
    pub async fn ack(self) -> Result<(), Error> {
        self.confirm("+ACK".into()).await
    }

    /// Again, after a delay.
    pub async fn nak(self, delay: Duration) -> Result<(), Error> {
        let body = format!("-NAK {{\"delay\": {}}}", delay.as_nanos());
        self.confirm(body).await
    }

    /// Still working on it: `ack_wait` begins anew.
    pub async fn progress(&self) -> Result<(), Error> {
        self.tell("+WPI").await
    }

    /// Never again.
    pub async fn term(self) -> Result<(), Error> {
        self.confirm("+TERM".into()).await
    }

    async fn confirm(self, body: String) -> Result<(), Error> {
        let timeout = self.bus.shared.timeout;
        let answer = self.bus.shared.ask(self.reply.into(), None, Bytes::from(body), timeout).await;
        answer.map(|_| ()).map_err(|mut error| {
            if matches!(error.kind, ErrorKind::Timeout | ErrorKind::NoResponders) {
                error.kind = ErrorKind::Ambiguous;
            }
            error.while_doing("answering a job")
        })
    }

    async fn tell(&self, body: &'static str) -> Result<(), Error> {
        let payload = Bytes::from_static(body.as_bytes());
        self.bus.send(Publish { subject: self.reply.clone(), payload, ..Publish::default() }).await
    }
}

impl Bus {
    /// Work off a durable pull consumer declared in the topology. Fetches up to 256 jobs ahead.
    pub async fn work(&self, stream: &str, durable: &str) -> Result<Jobs, Error> {
        self.work_ahead(stream, durable, AHEAD_MAX).await
    }

    /// The same with another number of jobs fetched ahead. What waits here longer than the
    /// consumer's `ack_wait` is delivered again: fetch no more than is done in that time.
    pub async fn work_ahead(&self, stream: &str, durable: &str, ahead: usize) -> Result<Jobs, Error> {
        let ahead = ahead.max(1);
        let inner = open(self.clone(), stream.into(), durable.into(), ahead, Duration::ZERO).await?;
        Ok(Jobs {
            bus: self.clone(),
            stream: stream.into(),
            durable: durable.into(),
            ahead,
            inner: Some(inner),
            opening: None,
            backoff: Duration::ZERO,
            stopped: false,
        })
    }
}
