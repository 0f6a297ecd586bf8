//! Publishing, requests and plain subscriptions.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{HeaderMap, StatusCode, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::ApiError;
use crate::connect::{Disk, Shared};
use crate::replies::Outcome;
use crate::{Ack, Bus, Error, ErrorKind, Message, Publish};

/// How long after its round trip a subscription may still turn out to be forbidden: the refusal
/// and the answer arrive in order, but by two channels inside the client library.
const REFUSAL_WAIT: Duration = Duration::from_millis(10);

/// An acknowledgement on its way. Resolves within the timeout counted from its creation, whether
/// or not it is polled; dropping it does not take the publish back.
#[must_use = "only the acknowledgement tells whether the message is stored"]
#[derive(Debug)]
pub struct PendingAck {
    receiver: oneshot::Receiver<Outcome>,
    disk: Disk,
}

impl Future for PendingAck {
    type Output = Result<Ack, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.receiver).poll(context));
        Poll::Ready(match outcome {
            Ok(Outcome::Reply(message)) => read_ack(&message).inspect_err(|error| self.disk.note(error)),
            Ok(Outcome::Timeout) => Err(Error::new(ErrorKind::Ambiguous, "no acknowledgement in time")),
            Ok(Outcome::Disconnected) | Err(_) => {
                Err(Error::new(ErrorKind::Ambiguous, "connection lost before the acknowledgement"))
            }
            Ok(Outcome::Forbidden(text)) => Err(Error::new(ErrorKind::Forbidden, text)),
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

fn read_ack(message: &async_nats::Message) -> Result<Ack, Error> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(Error::unavailable("no stream listens on the subject, or it has no leader"));
    }
    let answer: Answer = serde_json::from_slice(&message.payload)
        .map_err(|error| Error::new(ErrorKind::Ambiguous, format!("unreadable acknowledgement: {error}")))?;
    match answer.error {
        Some(error) => Err(error.into()),
        None => Ok(Ack { seq: answer.seq, duplicate: answer.duplicate }),
    }
}

fn publish_error(error: &async_nats::client::PublishError, subject: &str) -> Error {
    let kind = match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => ErrorKind::TooLarge,
        PublishErrorKind::InvalidSubject => ErrorKind::Config,
        PublishErrorKind::Send => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("publishing on {subject}: {error}"))
}

impl Shared {
    /// Publishes with a reply subject of ours, and returns where the outcome will be told.
    pub(crate) async fn issue(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Outcome>, Error> {
        let deadline = Instant::now() + timeout;
        self.up(deadline).await?;
        let entry = self
            .replies
            .register(subject.clone(), deadline)
            .await
            .ok_or_else(|| Error::unavailable("too many publishes and requests in flight"))?;
        let reply = entry.reply.clone();
        let sent = tokio::time::timeout_at(deadline, async {
            match headers {
                Some(headers) => {
                    self.client.publish_with_reply_and_headers(subject.clone(), reply, headers, payload).await
                }
                None => self.client.publish_with_reply(subject.clone(), reply, payload).await,
            }
        })
        .await;
        let error = match sent {
            Ok(Ok(())) => return Ok(entry.receiver),
            Ok(Err(error)) => publish_error(&error, &subject),
            Err(_) => Error::unavailable("the connection's buffer stays full"),
        };
        self.replies.cancel(&entry);
        Err(error)
    }

    /// A request with the plain outcome: an answer of any kind, or why there is none.
    pub(crate) async fn ask(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<async_nats::Message, Error> {
        let receiver = self.issue(subject.clone(), headers, payload, timeout).await?;
        match receiver.await {
            Ok(Outcome::Reply(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(Error::new(ErrorKind::NoResponders, format!("nobody listens on {subject}")))
            }
            Ok(Outcome::Reply(message)) => Ok(message),
            Ok(Outcome::Timeout) => Err(Error::new(ErrorKind::Timeout, format!("no answer on {subject}"))),
            Ok(Outcome::Forbidden(text)) => Err(Error::new(ErrorKind::Forbidden, text)),
            Ok(Outcome::Disconnected) | Err(_) => {
                Err(Error::new(ErrorKind::Ambiguous, format!("connection lost before the answer on {subject}")))
            }
        }
    }
}

impl Bus {
    /// Core publish: fire and forget; fails only when the connection's buffer stays full.
    pub async fn send(&self, publish: Publish) -> Result<(), Error> {
        let headers = publish.header_map()?;
        let subject = Subject::from(publish.subject);
        let client = &self.shared.client;
        let sent = tokio::time::timeout(self.shared.timeout, async {
            match headers {
                Some(headers) => client.publish_with_headers(subject.clone(), headers, publish.payload).await,
                None => client.publish(subject.clone(), publish.payload).await,
            }
        });
        match sent.await {
            Ok(sent) => sent.map_err(|error| publish_error(&error, &subject)),
            Err(_) => Err(Error::unavailable("the connection's buffer stays full")),
        }
    }

    /// The same, with a subject of our own where answers go: for a question that many answer.
    pub async fn send_with_reply(&self, publish: Publish, reply: &str) -> Result<(), Error> {
        let headers = publish.header_map()?.unwrap_or_default();
        let subject = Subject::from(publish.subject);
        let reply = Subject::from(reply);
        let client = &self.shared.client;
        let sent = client.publish_with_reply_and_headers(subject.clone(), reply, headers, publish.payload);
        match tokio::time::timeout(self.shared.timeout, sent).await {
            Ok(sent) => sent.map_err(|error| publish_error(&error, &subject)),
            Err(_) => Err(Error::unavailable("the connection's buffer stays full")),
        }
    }

    /// JetStream publish; waits for the ack. `ErrorKind::Ambiguous` = may be stored.
    pub async fn publish(&self, publish: Publish) -> Result<Ack, Error> {
        self.publish_start(publish).await?.await
    }

    /// The first half of [`publish`](Self::publish): returns as soon as the message is queued for
    /// the wire, in the order of the calls, so that the caller can pipeline. Waits while the
    /// connection is down or too much is in flight, at most for the timeout; an error here means
    /// that the message is not stored.
    pub async fn publish_start(&self, publish: Publish) -> Result<PendingAck, Error> {
        let headers = publish.header_map()?;
        let receiver = self.shared.issue(publish.subject.into(), headers, publish.payload, self.shared.timeout).await?;
        Ok(PendingAck { receiver, disk: self.shared.disk() })
    }

    /// Request and reply over core NATS. `ErrorKind::Ambiguous`: the connection was lost after the
    /// request was sent.
    pub async fn request(&self, publish: Publish, timeout: Duration) -> Result<Message, Error> {
        let headers = publish.header_map()?;
        self.shared.ask(publish.subject.into(), headers, publish.payload, timeout).await.map(Message::from)
    }

    /// Subscribes; on return the server knows of it, and has not forbidden it.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, Error> {
        let mut violations = self.shared.violations();
        let inner = self.subscribe_raw(subject).await?;
        self.round_trip().await?;
        let refused = async {
            loop {
                match violations.recv().await {
                    Ok(violation) if violation.subscription && violation.subject == subject => break violation.text,
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        match tokio::time::timeout(REFUSAL_WAIT, refused).await {
            Ok(text) => Err(Error::new(ErrorKind::Forbidden, text)),
            Err(_) => Ok(Subscription { inner }),
        }
    }

    pub(crate) async fn subscribe_raw(&self, subject: &str) -> Result<async_nats::Subscriber, Error> {
        match tokio::time::timeout(self.shared.timeout, self.shared.client.subscribe(subject.to_owned())).await {
            Ok(subscribed) => subscribed.map_err(|error| Error::config(format!("subscribing to {subject}: {error}"))),
            Err(_) => Err(Error::unavailable("the connection's buffer stays full")),
        }
    }

    /// All pending writes are on the wire.
    pub async fn flush(&self) -> Result<(), Error> {
        match tokio::time::timeout(self.shared.timeout, self.shared.client.flush()).await {
            Ok(flushed) => flushed.map_err(|error| Error::unavailable(format!("flushing: {error}"))),
            Err(_) => Err(Error::unavailable("no connection to the server")),
        }
    }

    /// The server has seen everything sent so far. Asks an inbox of our own that nobody listens on:
    /// whatever the answer, even a refusal, it came after everything else.
    pub(crate) async fn round_trip(&self) -> Result<(), Error> {
        let nobody = self.shared.client.new_inbox();
        match self.shared.ask(nobody.into(), None, Bytes::new(), self.shared.timeout).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind, ErrorKind::NoResponders | ErrorKind::Forbidden) => Ok(()),
            Err(error) => Err(error.of_reading()),
        }
    }
}

/// What arrives on a subject from now on. Survives reconnects; messages sent meanwhile are lost, as
/// is what a reader too slow leaves behind beyond 65,536 messages.
pub struct Subscription {
    inner: async_nats::Subscriber,
}

impl Subscription {
    /// The next message; `None` when the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.inner.next().await.map(Message::from)
    }
}
