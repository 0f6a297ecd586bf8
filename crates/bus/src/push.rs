//! A short-lived push consumer: the one mechanism under readers, scans and object reads.
//!
//! It has no acknowledgements, is checked for gaps by the consumer's own sequence, watched by idle
//! heartbeats and bounded by the server's flow control. It ends at the first doubt; whoever uses it
//! opens another from the last message seen.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{StatusCode, Subject};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::{Bus, Error, Headers, Stored};

/// The server says something at least this often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Quiet for so long, the consumer is taken for lost.
const QUIET_MAX: Duration = Duration::from_secs(3);
/// The server forgets a consumer nobody listens to after this.
const INACTIVE_MAX: Duration = Duration::from_secs(10);

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begin {
    /// At a sequence, or at the first one above it.
    At(u64),
    /// With the newest message of each subject.
    LastPerSubject,
}

/// One of two things.
pub(crate) enum Item {
    /// A message, and how many more of them there were when the server sent it.
    Message { stored: Stored, pending: u64 },
    /// The consumer is of no use any more.
    Lost(&'static str),
}

pub(crate) struct Push {
    bus: Bus,
    subscriber: async_nats::Subscriber,
    /// Deletes the consumer when it is dropped.
    delete: String,
    /// Messages that matched when it was opened.
    pub(crate) pending: u64,
    delivered: u64,
    last_heard: Instant,
    alarm: Pin<Box<Sleep>>,
    generation: watch::Receiver<u64>,
    flow: Option<Subject>,
}

impl Drop for Push {
    fn drop(&mut self) {
        // If the buffer is full, the server forgets the consumer by itself soon after.
        let _ = self.publish_now(Subject::from(self.delete.as_str()), Some(self.bus.shared.client.new_inbox().into()));
    }
}

impl Push {
    pub(crate) async fn open(
        bus: Bus,
        stream: &str,
        filter: Option<&str>,
        begin: Begin,
        headers_only: bool,
    ) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Info {
            #[serde(default)]
            num_pending: u64,
        }
        let generation = bus.shared.generation();
        let inbox = bus.shared.client.new_inbox();
        let subscriber = bus.subscribe_raw(&inbox).await?;
        let name = crate::connect::unique();
        let mut config = json!({
            "name": name,
            "description": "throughline reader",
            "deliver_subject": inbox,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "flow_control": true,
            "idle_heartbeat": crate::time::nanos(HEARTBEAT),
            "inactive_threshold": crate::time::nanos(INACTIVE_MAX),
            "num_replicas": 1,
            "mem_storage": true,
            "headers_only": headers_only,
        });
        if let Some(config) = config.as_object_mut() {
            let policy = match begin {
                Begin::At(0 | 1) => "all",
                Begin::At(seq) => {
                    config.insert("opt_start_seq".into(), seq.into());
                    "by_start_sequence"
                }
                Begin::LastPerSubject => "last_per_subject",
            };
            config.insert("deliver_policy".into(), policy.into());
            if let Some(filter) = filter {
                config.insert("filter_subject".into(), filter.into());
            } else if matches!(begin, Begin::LastPerSubject) {
                config.insert("filter_subject".into(), ">".into());
            }
        }
        let what = match filter {
            Some(filter) => format!("CONSUMER.CREATE.{stream}.{name}.{filter}"),
            None if matches!(begin, Begin::LastPerSubject) => format!("CONSUMER.CREATE.{stream}.{name}.>"),
            None => format!("CONSUMER.CREATE.{stream}.{name}"),
        };
        let request = json!({ "stream_name": stream, "config": config, "action": "create" });
        let info: Info = bus
            .api(&what, Some(&request))
            .await
            .map_err(|error| error.of_reading().while_doing(format_args!("reading from stream {stream}")))?;
        Ok(Self {
            bus,
            subscriber,
            delete: format!("$JS.API.CONSUMER.DELETE.{stream}.{name}"),
            pending: info.num_pending,
            delivered: 0,
            last_heard: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(QUIET_MAX)),
            generation,
            flow: None,
        })
    }

    /// Queues a publish unless the connection's buffer is full.
    fn publish_now(&self, subject: Subject, reply: Option<Subject>) -> bool {
        let client = &self.bus.shared.client;
        let sent = match reply {
            Some(reply) => client.publish_with_reply(subject, reply, Bytes::new()).now_or_never(),
            None => client.publish(subject, Bytes::new()).now_or_never(),
        };
        matches!(sent, Some(Ok(())))
    }

    /// Answers a flow control request, once everything before it has been taken out.
    fn answer_flow(&mut self) {
        if let Some(reply) = self.flow.take()
            && !self.publish_now(reply.clone(), None)
        {
            self.flow = Some(reply);
        }
    }

    /// The next item. Cancel safe: nothing is taken out before it is returned.
    pub(crate) async fn next(&mut self) -> Item {
        // What is here already costs nothing but the poll.
        let here = std::future::poll_fn(|context| {
            Poll::Ready(match self.poll_messages(context) {
                Poll::Ready(item) => Some(item),
                Poll::Pending => None,
            })
        });
        if let Some(item) = here.await {
            return item;
        }
        // What was set up on an older connection missed messages, and is gone if the server is new.
        let mut generation = self.generation.clone();
        tokio::select! {
            biased;
            item = std::future::poll_fn(|context| self.poll(context)) => item,
            _ = generation.changed() => Item::Lost("reconnected"),
        }
    }

    /// Something was heard of the server so lately that a heartbeat stands for "there is no more".
    pub(crate) fn heard_lately(&self) -> bool {
        self.last_heard.elapsed() < HEARTBEAT + HEARTBEAT / 2
    }

    /// What is here already, without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Item> {
        loop {
            // Unconstrained, or the runtime's budget would end a batch at 128 messages.
            let message = tokio::task::coop::unconstrained(self.subscriber.next()).now_or_never()?;
            if let Some(item) = self.take(message) {
                return Some(item);
            }
        }
    }

    fn poll_messages(&mut self, context: &mut Context<'_>) -> Poll<Item> {
        loop {
            let message = std::task::ready!(self.subscriber.poll_next_unpin(context));
            if let Some(item) = self.take(message) {
                return Poll::Ready(item);
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Item> {
        loop {
            if let Poll::Ready(item) = self.poll_messages(context) {
                return Poll::Ready(item);
            }
            if self.alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            // The alarm is not wound up at every message, that would cost more than the message.
            let quiet_until = self.last_heard + QUIET_MAX;
            if quiet_until <= Instant::now() {
                // Nobody may have asked for a while: only an empty queue is a sign of loss.
                return match self.try_next() {
                    Some(item) => Poll::Ready(item),
                    None if self.last_heard + QUIET_MAX > Instant::now() => continue,
                    None => Poll::Ready(Item::Lost("no heartbeat")),
                };
            }
            self.alarm.as_mut().reset(quiet_until);
        }
    }

    fn take(&mut self, message: Option<async_nats::Message>) -> Option<Item> {
        self.last_heard = Instant::now();
        self.answer_flow();
        let Some(message) = message else { return Some(Item::Lost("connection closed")) };
        if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
            return self.take_status(message);
        }
        let Some(position) = message.reply.as_deref().and_then(Position::parse) else {
            // An error the server sends instead of a message, such as "consumer deleted".
            return Some(Item::Lost("consumer ended"));
        };
        if position.delivered != self.delivered + 1 {
            return Some(Item::Lost("gap in the delivery"));
        }
        self.delivered = position.delivered;
        let stored = Stored {
            seq: position.seq,
            subject: message.subject.into_string(),
            headers: Headers::from(message.headers),
            payload: message.payload,
            at_ms: position.at_ms,
        };
        Some(Item::Message { stored, pending: position.pending })
    }

    fn take_status(&mut self, message: async_nats::Message) -> Option<Item> {
        let headers = Headers::from(message.headers);
        // A flow control request has a reply subject; a heartbeat of a stalled consumer names it.
        let flow = message.reply.or_else(|| headers.get("Nats-Consumer-Stalled").map(Subject::from));
        if flow.is_some() {
            self.flow = flow;
            self.answer_flow();
        }
        let delivered = headers.get("Nats-Last-Consumer").and_then(|value| value.parse::<u64>().ok());
        match delivered {
            Some(delivered) if delivered > self.delivered => Some(Item::Lost("gap before a heartbeat")),
            _ => None,
        }
    }
}

/// What the reply subject of a delivered message tells about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) deliveries: u64,
    pub(crate) seq: u64,
    delivered: u64,
    at_ms: u64,
    pending: u64,
}

impl Position {
    /// Reads `$JS.ACK.[domain.account.]stream.consumer.deliveries.seq.delivered.time.pending[.random]`.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let skip = match rest.split('.').count() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut numbers = rest.split('.').skip(skip).map(str::parse::<u64>);
        let mut number = || numbers.next()?.ok();
        Some(Self {
            deliveries: number()?,
            seq: number()?,
            delivered: number()?,
            at_ms: number()? / 1_000_000,
            pending: number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Position;

    #[test]
    fn both_forms_of_the_reply_are_read() {
        let expected = Position { deliveries: 1, seq: 20, delivered: 7, at_ms: 1_700_000_000_000, pending: 3 };
        assert_eq!(Position::parse("$JS.ACK.IN-0.abc.1.20.7.1700000000000000000.3"), Some(expected));
        let expected = Position { deliveries: 1, seq: 20, delivered: 7, at_ms: 1_700_000_000_000, pending: 3 };
        assert_eq!(Position::parse("$JS.ACK._.hash.IN-0.abc.1.20.7.1700000000000000000.3.x"), Some(expected));
        assert_eq!(Position::parse("$JS.ACK.IN-0.abc"), None);
    }
}
