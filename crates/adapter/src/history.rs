//! What the router knows of a thread: its transcript, and how it stands with whoever waits on it.

use std::time::Duration;

use bus::{Bus, ErrorKind, Publish};
use contract::command::{Refusal, RefusalKind, Reply, Request};
use contract::envelope::Account;
use contract::outbound::{ShardLag, ThreadHistory, ThreadWait};
use contract::{Encoding, Millis, SmolStr, TenantId, codec, subject};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::telemetry::Metric;

/// The verbs.
const HISTORY: &str = "thread.history";
const WAIT: &str = "thread.wait";
const LAG: &str = "shard.lag";
/// What can wait where it is, as mail in its mailbox, waits there while the router is this far behind: what somebody waits
/// for goes first.
const BULK_WAITS_FROM: Millis = Millis::from_secs(5);
/// How long one question waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long it is asked again; a takeover of a shard takes less than a second.
const ASK_WITHIN: Duration = Duration::from_secs(6);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_millis(800) };
/// Largest answer: what the server lets through.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Most messages in one answer.
pub const LIMIT_MAX: u32 = 200;

/// Asks for the transcripts of one account. Cheap to clone.
#[derive(Clone)]
pub struct History {
    bus: Bus,
    history: SmolStr,
    wait: SmolStr,
    lag: SmolStr,
}

/// The arguments on the wire; the verb is in the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Args<'a> {
    thread: &'a str,
    after: u64,
    limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct WaitArgs<'a> {
    thread: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LagArgs {}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryError {
    /// Nobody answered in time; try again.
    Unavailable,
    /// The router refuses.
    Refused(Refusal),
    /// The answer cannot be read.
    Malformed(String),
}

impl std::fmt::Display for HistoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable => f.write_str("no router answers"),
            Self::Refused(refusal) => write!(f, "the router refuses: {refusal}"),
            Self::Malformed(why) => write!(f, "the answer cannot be read: {why}"),
        }
    }
}

impl std::error::Error for HistoryError {}

impl History {
    pub(crate) fn new(bus: Bus, tenant: &TenantId, account: &Account) -> Self {
        let subject = |verb| SmolStr::from(subject::channel_query(tenant, &account.kind, &account.id, verb));
        Self { bus, history: subject(HISTORY), wait: subject(WAIT), lag: subject(LAG) }
    }

    /// The next messages of a thread after `after`, at most `limit` of them, or the newest where `after` is 0.
    ///
    /// # Errors
    /// When no router answers for some seconds, or it refuses.
    pub async fn thread(&self, thread: &str, after: u64, limit: u32) -> Result<ThreadHistory, HistoryError> {
        let args = Args { thread, after, limit: limit.min(LIMIT_MAX) };
        counted(self.ask(&self.history, args, ASK_WITHIN).await)
    }

    /// How it stands with whoever waits on a thread. Takes no longer than `budget`: somebody is listening.
    ///
    /// # Errors
    /// When no router answers within the budget, or it refuses.
    pub async fn wait(&self, thread: &str, budget: Duration) -> Result<ThreadWait, HistoryError> {
        counted(self.ask(&self.wait, WaitArgs { thread }, budget).await)
    }

    /// Why what can wait where it is should wait now, if it should: for channels whose senders do not expect an answer within
    /// the minute, and whose messages are safe where they are. Where no router runs there is nobody to be slowed down: what
    /// comes waits in the stream then, as far as there is room.
    pub async fn bulk_waits(&self) -> Option<String> {
        let question = Publish {
            subject: self.lag.to_string(),
            payload: encode(LagArgs {}).ok()?.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            ..Publish::default()
        };
        let answer = match self.bus.request(question, ANSWER_WITHIN).await {
            Ok(answer) => answer,
            // Or a router of an earlier version, which knows no such question.
            Err(error) if error.kind == ErrorKind::NoResponders => return None,
            Err(error) => return Some(format!("the router does not say how far behind it is: {}", error.kind)),
        };
        let lag = decode::<ShardLag>(answer.headers.get(codec::CONTENT_TYPE), &answer.payload);
        match counted(lag) {
            Ok(ShardLag { behind_ms }) if behind_ms < BULK_WAITS_FROM => None,
            Ok(ShardLag { behind_ms }) => {
                let behind = behind_ms.0 / 1000;
                Some(format!("the router is {behind} s behind, and those who wait for an answer go first"))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        subject: &SmolStr,
        args: impl Serialize,
        within: Duration,
    ) -> Result<T, HistoryError> {
        let question = Publish {
            subject: subject.to_string(),
            payload: encode(args)?.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            ..Publish::default()
        };
        let deadline = Instant::now() + within;
        let mut tries = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.bus.request(question.clone(), ANSWER_WITHIN.min(left)).await {
                Ok(answer) => match decode(answer.headers.get(codec::CONTENT_TYPE), &answer.payload) {
                    Err(HistoryError::Refused(refusal)) if refusal.kind == RefusalKind::Unavailable => {}
                    answer => return answer,
                },
                Err(error) => match error.kind {
                    ErrorKind::NoResponders | ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Ambiguous => {}
                    kind => {
                        tracing::warn!(?kind, "the router cannot be asked about a thread");
                        return Err(HistoryError::Unavailable);
                    }
                },
            }
            let wait = BACKOFF.wait(tries);
            if Instant::now() + wait >= deadline {
                return Err(HistoryError::Unavailable);
            }
            tries += 1;
            tokio::time::sleep(wait).await;
        }
    }
}

fn counted<T>(answer: Result<T, HistoryError>) -> Result<T, HistoryError> {
    let outcome = match &answer {
        Ok(_) => "answered",
        Err(HistoryError::Unavailable) => "unavailable",
        Err(HistoryError::Refused(_)) => "refused",
        Err(HistoryError::Malformed(_)) => "malformed",
    };
    metrics::counter!(Metric::HistoryQueries.name(), "outcome" => outcome).increment(1);
    answer
}

fn encode(args: impl Serialize) -> Result<Vec<u8>, HistoryError> {
    let request = Request { id: SmolStr::default(), args };
    Encoding::MsgPack.encode(&request).map_err(|error| HistoryError::Malformed(error.to_string()))
}

fn decode<T: DeserializeOwned>(content_type: Option<&str>, payload: &[u8]) -> Result<T, HistoryError> {
    let malformed = |error: contract::CodecError| HistoryError::Malformed(error.to_string());
    let encoding = Encoding::detect(content_type, payload).map_err(malformed)?;
    let reply: Reply<T> = encoding.decode(payload, ANSWER_BYTES_MAX).map_err(malformed)?;
    match (reply.result, reply.refusal) {
        (Some(result), _) if reply.ok => Ok(result),
        (_, Some(refusal)) => Err(HistoryError::Refused(refusal)),
        _ => Err(HistoryError::Malformed("neither result nor refusal".into())),
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("subject", &self.history).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_has_the_arguments_bare() {
        let bytes = encode(Args { thread: "v1", after: 7, limit: 50 }).unwrap();
        let value: serde_json::Value = Encoding::MsgPack.decode(&bytes, 1024).unwrap();
        assert_eq!(value, serde_json::json!({ "id": "", "args": { "thread": "v1", "after": 7, "limit": 50 } }));
        let bytes = encode(WaitArgs { thread: "v1" }).unwrap();
        let value: serde_json::Value = Encoding::MsgPack.decode(&bytes, 1024).unwrap();
        assert_eq!(value, serde_json::json!({ "id": "", "args": { "thread": "v1" } }));
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let done = Reply::done(
            "".into(),
            ThreadHistory { records: vec![], head: 3, conversation: None, agent: None, ways: vec![] },
        );
        let bytes = Encoding::MsgPack.encode(&done).unwrap();
        assert_eq!(decode::<ThreadHistory>(Some("application/msgpack"), &bytes).unwrap().head, 3);
        let refused = Reply::<ThreadHistory>::refused("".into(), Refusal::new(RefusalKind::Invalid, "no"));
        let bytes = Encoding::Json.encode(&refused).unwrap();
        assert!(matches!(decode::<ThreadHistory>(None, &bytes), Err(HistoryError::Refused(_))));
        assert!(matches!(decode::<ThreadWait>(None, b"\xc1"), Err(HistoryError::Malformed(_))));
        assert_eq!(
            encode(LagArgs {}).map(|bytes| Encoding::MsgPack.decode::<serde_json::Value>(&bytes, 64).unwrap()),
            Ok(serde_json::json!({ "id": "", "args": {} }))
        );
    }
}
