//! The transcript of a thread, asked of the router.

use std::time::Duration;

use bus::{Bus, ErrorKind, Publish};
use contract::command::{Refusal, RefusalKind, Reply, Request};
use contract::envelope::Account;
use contract::outbound::ThreadHistory;
use contract::{Encoding, SmolStr, TenantId, codec, subject};
use serde::Serialize;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::telemetry::Metric;

/// The verb.
const VERB: &str = "thread.history";
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
    subject: SmolStr,
}

/// The arguments on the wire; the verb is in the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Args<'a> {
    thread: &'a str,
    after: u64,
    limit: u32,
}

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
        let subject = subject::channel_query(tenant, &account.kind, &account.id, VERB).into();
        Self { bus, subject }
    }

    /// The next messages of a thread after `after`, at most `limit` of them, or the newest where `after` is 0.
    ///
    /// # Errors
    /// When no router answers for some seconds, or it refuses.
    pub async fn thread(&self, thread: &str, after: u64, limit: u32) -> Result<ThreadHistory, HistoryError> {
        let answer = self.ask(thread, after, limit.min(LIMIT_MAX)).await;
        let outcome = match &answer {
            Ok(_) => "answered",
            Err(HistoryError::Unavailable) => "unavailable",
            Err(HistoryError::Refused(_)) => "refused",
            Err(HistoryError::Malformed(_)) => "malformed",
        };
        metrics::counter!(Metric::HistoryQueries.name(), "outcome" => outcome).increment(1);
        answer
    }

    async fn ask(&self, thread: &str, after: u64, limit: u32) -> Result<ThreadHistory, HistoryError> {
        let payload = encode(thread, after, limit)?;
        let question = Publish {
            subject: self.subject.to_string(),
            payload: payload.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            ..Publish::default()
        };
        let deadline = Instant::now() + ASK_WITHIN;
        let mut tries = 0;
        loop {
            match self.bus.request(question.clone(), ANSWER_WITHIN).await {
                Ok(answer) => match decode(answer.headers.get(codec::CONTENT_TYPE), &answer.payload) {
                    Err(HistoryError::Refused(refusal)) if refusal.kind == RefusalKind::Unavailable => {}
                    answer => return answer,
                },
                Err(error) => match error.kind {
                    ErrorKind::NoResponders | ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Ambiguous => {}
                    kind => {
                        tracing::warn!(?kind, "the transcript cannot be asked for");
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

fn encode(thread: &str, after: u64, limit: u32) -> Result<Vec<u8>, HistoryError> {
    let request = Request { id: SmolStr::default(), args: Args { thread, after, limit } };
    Encoding::MsgPack.encode(&request).map_err(|error| HistoryError::Malformed(error.to_string()))
}

fn decode(content_type: Option<&str>, payload: &[u8]) -> Result<ThreadHistory, HistoryError> {
    let malformed = |error: contract::CodecError| HistoryError::Malformed(error.to_string());
    let encoding = Encoding::detect(content_type, payload).map_err(malformed)?;
    let reply: Reply<ThreadHistory> = encoding.decode(payload, ANSWER_BYTES_MAX).map_err(malformed)?;
    match (reply.result, reply.refusal) {
        (Some(history), _) if reply.ok => Ok(history),
        (_, Some(refusal)) => Err(HistoryError::Refused(refusal)),
        _ => Err(HistoryError::Malformed("neither result nor refusal".into())),
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_has_the_arguments_bare() {
        let bytes = encode("v1", 7, 50).unwrap();
        let value: serde_json::Value = Encoding::MsgPack.decode(&bytes, 1024).unwrap();
        assert_eq!(value, serde_json::json!({ "id": "", "args": { "thread": "v1", "after": 7, "limit": 50 } }));
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let done = Reply::done(
            "".into(),
            ThreadHistory { records: vec![], head: 3, conversation: None, agent: None, ways: vec![] },
        );
        let bytes = Encoding::MsgPack.encode(&done).unwrap();
        assert_eq!(decode(Some("application/msgpack"), &bytes).unwrap().head, 3);
        let refused = Reply::<ThreadHistory>::refused("".into(), Refusal::new(RefusalKind::Invalid, "no"));
        let bytes = Encoding::Json.encode(&refused).unwrap();
        assert!(matches!(decode(None, &bytes), Err(HistoryError::Refused(_))));
        assert!(matches!(decode(None, b"\xc1"), Err(HistoryError::Malformed(_))));
    }
}
