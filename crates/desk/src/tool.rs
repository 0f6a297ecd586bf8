//! An agent's tool on the bus: follows the feed without gaps, sends commands safely.
//!
//! This is what `CONTRACT.md` asks of any tool, in Rust: subscribe, then `feed.sync`; drop what is old,
//! notice a gap or a higher head, and synchronise again; acknowledge every few seconds; send commands
//! with an id of our own and, when no answer comes, again with the same id.

use std::collections::VecDeque;
use std::time::Duration;

use bus::{Bus, ErrorKind, Publish, Subscription};
use contract::answer::{History, MediaPiece};
use contract::base64::{self, Alphabet};
use contract::codec::CONTENT_TYPE;
use contract::command::{AgentCommand, AgentQuery, Done, Refusal, RefusalKind, Reply};
use contract::feed::{FeedItem, HEARTBEAT_MS, Heartbeat, Since, Snapshot, Sync};
use contract::{AgentId, ConversationId, Encoding, EventRecord, SmolStr, TenantId, subject};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long one try waits for its answer.
const TRY: Duration = Duration::from_secs(2);
/// How long a command is tried: longer than any takeover.
const TRIES: Duration = Duration::from_secs(30);

/// What the feed brings.
#[derive(Debug)]
pub enum News {
    /// Everything the agent holds: what was known before is to be forgotten.
    Snapshot(Box<Snapshot>),
    /// A fact, in order and without gaps.
    Fact(Box<EventRecord>),
}

/// An agent's tool.
pub struct Tool {
    commander: Commander,
    feed: Subscription,
    seen: Seen,
    ready: VecDeque<News>,
    ack_at: Instant,
    silent_since: Instant,
}

/// How far the feed was followed. Pure.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    seq: u64,
}

/// What to do with something that came by the feed.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Take,
    Ignore,
    Synchronise,
}

impl Seen {
    /// An item: the next one is taken, an old one ignored, anything else is a gap.
    fn item(&mut self, epoch: u64, seq: u64) -> Step {
        if epoch < self.epoch || seq <= self.seq {
            return Step::Ignore;
        }
        if seq != self.seq + 1 {
            return Step::Synchronise;
        }
        *self = Self { epoch, seq };
        Step::Take
    }

    /// A heartbeat: a head that is not ours says that something was missed.
    fn heartbeat(&self, epoch: u64, head: u64) -> Step {
        if epoch < self.epoch || head == self.seq { Step::Ignore } else { Step::Synchronise }
    }
}

/// Sends an agent's commands. Cheap to clone.
#[derive(Clone)]
pub struct Commander {
    bus: Bus,
    tenant: TenantId,
    agent: AgentId,
}

fn unavailable(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, why.to_string())
}

/// 128 random bits, as an id.
fn new_id() -> Result<String, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(unavailable)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

impl Commander {
    /// For one agent, over a connection that may speak for it.
    #[must_use]
    pub const fn new(bus: Bus, tenant: TenantId, agent: AgentId) -> Self {
        Self { bus, tenant, agent }
    }

    /// Sends a command, and the same again until it is answered or 30 s are over.
    ///
    /// # Errors
    /// With the router's refusal, or [`RefusalKind::Unavailable`] when nobody answered: then it may or
    /// may not have been done.
    pub async fn command(&self, command: &AgentCommand) -> Result<Done, Refusal> {
        self.command_as(&new_id()?, command).await
    }

    /// Sends a command under an id of the caller's.
    ///
    /// # Errors
    /// As [`Commander::command`].
    pub async fn command_as(&self, id: &str, command: &AgentCommand) -> Result<Done, Refusal> {
        let payload = command.encode(id, Encoding::MsgPack).map_err(|e| Refusal::new(RefusalKind::Invalid, e.0))?;
        self.ask(command.verb(), payload).await
    }

    /// Asks a question.
    ///
    /// # Errors
    /// As [`Commander::command`].
    pub async fn query<T: DeserializeOwned>(&self, query: &AgentQuery) -> Result<T, Refusal> {
        let payload = query.encode("", Encoding::MsgPack).map_err(|e| Refusal::new(RefusalKind::Invalid, e.0))?;
        self.ask(query.verb(), payload).await
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &str, payload: Vec<u8>) -> Result<T, Refusal> {
        let request = Publish {
            subject: subject::agent_command(&self.tenant, &self.agent, verb),
            payload: payload.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            ..Publish::default()
        };
        let until = Instant::now() + TRIES;
        loop {
            let refusal = match self.bus.request(request.clone(), TRY).await {
                Ok(answer) => match read_reply(&answer.payload) {
                    Err(refusal) if refusal.kind == RefusalKind::Unavailable => refusal,
                    answered => return answered,
                },
                Err(error) if error.kind == ErrorKind::Forbidden => {
                    return Err(Refusal::new(RefusalKind::Forbidden, error.to_string()));
                }
                Err(error) => unavailable(error),
            };
            if Instant::now() >= until {
                return Err(refusal);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The messages of a conversation's customer, oldest first.
    ///
    /// # Errors
    /// As [`Commander::command`].
    pub async fn history(&self, conversation: ConversationId, limit: u32) -> Result<Vec<EventRecord>, Refusal> {
        let query = AgentQuery::ConversationHistory { conversation, limit: Some(limit) };
        Ok(self.query::<History>(&query).await?.records)
    }

    /// The bytes of a medium that came in a message of a conversation's customer; `bytes_max` at most. Whether they are
    /// what the part's `sha256` says is for whoever has the part to check.
    ///
    /// # Errors
    /// As [`Commander::command`]; when the agent may not read it, or it is not or no longer there.
    pub async fn media(
        &self,
        conversation: ConversationId,
        store_key: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Refusal> {
        let (mut bytes, mut after) = (Vec::new(), None);
        loop {
            let query = AgentQuery::MediaGet { conversation, store_key: store_key.into(), after };
            let piece: MediaPiece = self.query(&query).await?;
            if piece.size > bytes_max {
                let message = format!("it has {} bytes, at most {bytes_max} are wanted", piece.size);
                return Err(Refusal::new(RefusalKind::TooLarge, message));
            }
            let data = base64::decode(Alphabet::Standard, &piece.data);
            let data = data.ok_or_else(|| Refusal::new(RefusalKind::Invalid, "a piece is no Base64"))?;
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 > piece.size || (data.is_empty() && piece.next.is_some()) {
                return Err(Refusal::new(RefusalKind::Invalid, "the pieces are more than the whole"));
            }
            match piece.next {
                Some(next) => after = Some(next),
                None => return Ok(bytes),
            }
        }
    }
}

fn read_reply<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    let reply: Reply<T> = Encoding::MsgPack.decode(payload, ANSWER_BYTES_MAX).map_err(unavailable)?;
    match reply {
        Reply { ok: true, result: Some(result), .. } => Ok(result),
        Reply { refusal: Some(refusal), .. } => Err(refusal),
        _ => Err(unavailable("the answer holds nothing")),
    }
}

impl Tool {
    /// Connects to the feed and synchronises.
    ///
    /// # Errors
    /// When the feed cannot be subscribed to, or no router answers.
    pub async fn open(bus: Bus, tenant: TenantId, agent: AgentId) -> Result<Self, Refusal> {
        let feed = bus.subscribe(&subject::feed_all(&tenant, &agent)).await.map_err(unavailable)?;
        bus.flush().await.map_err(unavailable)?;
        let mut tool = Self {
            commander: Commander::new(bus, tenant, agent),
            feed,
            seen: Seen::default(),
            ready: VecDeque::new(),
            ack_at: Instant::now() + Duration::from_millis(HEARTBEAT_MS),
            silent_since: Instant::now(),
        };
        tool.synchronise(None).await?;
        Ok(tool)
    }

    /// For sending while the feed is followed.
    #[must_use]
    pub fn commander(&self) -> Commander {
        self.commander.clone()
    }

    async fn synchronise(&mut self, since: Option<Since>) -> Result<(), Refusal> {
        let sync: Sync = self.commander.query(&AgentQuery::FeedSync { since }).await?;
        if sync.epoch < self.seen.epoch {
            return Ok(());
        }
        if let Some(snapshot) = sync.snapshot {
            self.ready.push_back(News::Snapshot(Box::new(snapshot)));
        } else {
            let missed = sync.items.into_iter().filter(|item| item.seq > self.seen.seq);
            self.ready.extend(missed.map(|item| News::Fact(Box::new(item.record))));
        }
        self.seen = Seen { epoch: sync.epoch, seq: sync.head };
        self.silent_since = Instant::now();
        Ok(())
    }

    /// What comes next. Acknowledges and synchronises on the way. Cancel-safe between facts.
    ///
    /// # Errors
    /// When no router has answered for half a minute.
    pub async fn next(&mut self) -> Result<News, Refusal> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(news);
            }
            tokio::select! {
                message = self.feed.next() => {
                    let Some(message) = message else { return Err(unavailable("the connection is closed")) };
                    self.silent_since = Instant::now();
                    if self.take(&message)? == Step::Synchronise {
                        self.synchronise(Some(Since { seq: self.seen.seq })).await?;
                    }
                }
                () = tokio::time::sleep_until(self.ack_at) => {
                    self.ack_at = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
                    if self.silent_since.elapsed() > Duration::from_millis(HEARTBEAT_MS * 5 / 2) {
                        self.synchronise(Some(Since { seq: self.seen.seq })).await?;
                    } else {
                        self.acknowledge();
                    }
                }
            }
        }
    }

    /// A sign of life; nobody waits for its answer.
    fn acknowledge(&self) {
        let commander = self.commander.clone();
        let seq = self.seen.seq;
        tokio::spawn(async move {
            // The next one says the same and more.
            let _ = commander.query::<Done>(&AgentQuery::FeedAck { seq }).await;
        });
    }

    fn take(&mut self, message: &bus::Message) -> Result<Step, Refusal> {
        let encoding = Encoding::detect(message.headers.get(CONTENT_TYPE), &message.payload).map_err(unavailable)?;
        if message.subject.ends_with(subject::FEED_HEARTBEAT) {
            let beat: Heartbeat = encoding.decode(&message.payload, ANSWER_BYTES_MAX).map_err(unavailable)?;
            return Ok(self.seen.heartbeat(beat.epoch, beat.head));
        }
        let item: FeedItem = encoding.decode(&message.payload, ANSWER_BYTES_MAX).map_err(unavailable)?;
        let step = self.seen.item(item.epoch, item.seq);
        if step == Step::Take {
            self.ready.push_back(News::Fact(Box::new(item.record)));
        }
        Ok(step)
    }
}

/// A plain text as a message's content.
#[must_use]
pub fn text(body: &str) -> Vec<contract::envelope::Part> {
    vec![contract::envelope::Part::text(body)]
}

/// A reason as a command carries it.
#[must_use]
pub fn reason(text: &str) -> Option<SmolStr> {
    (!text.is_empty()).then(|| SmolStr::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_in_order_and_notices_gaps() {
        let mut seen = Seen { epoch: 2, seq: 5 };
        assert_eq!(seen.item(2, 5), Step::Ignore, "a repeat");
        assert_eq!(seen.item(1, 6), Step::Ignore, "an owner that was deposed");
        assert_eq!(seen.item(2, 6), Step::Take);
        assert_eq!(seen.item(2, 8), Step::Synchronise);
        assert_eq!(seen, Seen { epoch: 2, seq: 6 });
        assert_eq!(seen.item(3, 7), Step::Take, "a new owner goes on");
        assert_eq!(seen.heartbeat(2, 9), Step::Ignore);
        assert_eq!(seen.heartbeat(3, 7), Step::Ignore);
        assert_eq!(seen.heartbeat(3, 8), Step::Synchronise);
        assert_eq!(seen.heartbeat(4, 6), Step::Synchronise, "less than we have cannot be: ask");
    }
}
