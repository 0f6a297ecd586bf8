//! The JetStream API over our own requests: reads by the leader, and what streams answer.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Bus, Error, ErrorKind, Headers, Stored};

/// How the server says no.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let text = error.description.to_lowercase();
        let full = text.contains("maximum bytes exceeded")
            || text.contains("maximum messages exceeded")
            || text.contains("insufficient storage")
            || text.contains("no space left");
        // Numbers: the server's errors.json.
        let kind = match error.err_code {
            10071 => ErrorKind::Fenced(text.rsplit(' ').next().and_then(|actual| actual.parse().ok())),
            10164 => ErrorKind::Fenced(None),
            10054 => ErrorKind::TooLarge,
            10002 | 10023 | 10028 | 10047 | 10077 => ErrorKind::Full,
            10014 | 10037 | 10043 | 10059 => ErrorKind::NotFound,
            // The stream does not let its messages be deleted.
            10057 => ErrorKind::Forbidden,
            10039 | 10076 | 10052 => ErrorKind::Config,
            _ if full => ErrorKind::Full,
            _ if error.code == 503 => ErrorKind::Unavailable,
            _ if error.code == 404 => ErrorKind::NotFound,
            _ => ErrorKind::Other,
        };
        Self::new(kind, format!("{} (error code {})", error.description, error.err_code))
    }
}

/// Answers of the API are an error or something.
pub(crate) fn read_answer<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Failure {
        error: Option<ApiError>,
    }
    let unreadable = |error| Error::other(format!("unreadable answer of the server: {error}"));
    let failure: Failure = serde_json::from_slice(payload).map_err(unreadable)?;
    match failure.error {
        Some(error) => Err(error.into()),
        None => serde_json::from_slice(payload).map_err(unreadable),
    }
}

/// State of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamState {
    /// The lowest sequence still there; last + 1 when the stream is empty.
    pub first: u64,
    /// The highest sequence ever given.
    pub last: u64,
    /// How many messages are there.
    pub messages: u64,
    /// How many bytes they take.
    pub bytes: u64,
}

#[derive(Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: serde_json::Map<String, Value>,
    pub(crate) state: RawState,
    cluster: Option<RawCluster>,
}

#[derive(Deserialize)]
struct RawCluster {
    leader: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct RawState {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct RawGet {
    message: RawMessage,
}

#[derive(Deserialize)]
struct Done {}

impl Bus {
    /// Asks the JetStream API. A lost answer is `Ambiguous`; for what only reads, see
    /// [`Error::of_reading`].
    pub(crate) async fn api<T: DeserializeOwned>(&self, what: &str, body: Option<&Value>) -> Result<T, Error> {
        let payload = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let subject = format!("$JS.API.{what}");
        let answer = self.shared.ask(subject.into(), None, payload, self.shared.timeout).await;
        match answer {
            Ok(message) => read_answer(&message.payload).inspect_err(|error| self.shared.disk().note(error)),
            Err(error) => Err(match error.kind {
                // Nobody listens on the API: JetStream starts, or has no leader, or is off.
                ErrorKind::NoResponders => Error::unavailable("the server's JetStream does not answer"),
                ErrorKind::Timeout => Error::new(ErrorKind::Ambiguous, error.source),
                _ => error,
            }),
        }
    }

    pub(crate) async fn stream_info(&self, stream: &str) -> Result<StreamInfo, Error> {
        self.api(&format!("STREAM.INFO.{stream}"), None)
            .await
            .map_err(|error| error.of_reading().while_doing(format_args!("asking for stream {stream}")))
    }

    /// The server that leads a stream; `None`: none does just now, or there is no cluster.
    ///
    /// # Errors
    /// When nobody says.
    pub async fn leader(&self, stream: &str) -> Result<Option<String>, Error> {
        Ok(self.stream_info(stream).await?.cluster.and_then(|cluster| cluster.leader))
    }

    /// Has a stream's leader hand over to another server.
    ///
    /// # Errors
    /// When there is no cluster, or nobody answers.
    pub async fn step_down(&self, stream: &str) -> Result<(), Error> {
        self.api(&format!("STREAM.LEADER.STEPDOWN.{stream}"), None)
            .await
            .map(|Done {}| ())
            .map_err(|error| error.while_doing(format_args!("moving the leader of stream {stream}")))
    }

    /// (first sequence, last sequence, messages, bytes) of a stream.
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, Error> {
        let RawState { messages, bytes, first_seq, last_seq } = self.stream_info(stream).await?.state;
        Ok(StreamState { first: first_seq, last: last_seq, messages, bytes })
    }

    /// The newest message on a subject (may hold wildcards), by the leader. `None`: there is none.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Error> {
        self.message(stream, &json!({ "last_by_subj": subject })).await
    }

    /// One message by the leader.
    pub async fn get(&self, stream: &str, seq: u64) -> Result<Option<Stored>, Error> {
        self.message(stream, &json!({ "seq": seq })).await
    }

    /// The first message on a subject from a sequence on, by the leader. `None`: there is none.
    pub(crate) async fn next_on(&self, stream: &str, subject: &str, seq: u64) -> Result<Option<Stored>, Error> {
        self.message(stream, &json!({ "seq": seq, "next_by_subj": subject })).await
    }

    async fn message(&self, stream: &str, which: &Value) -> Result<Option<Stored>, Error> {
        #[derive(Deserialize)]
        struct Failure {
            error: Option<ApiError>,
        }
        let doing = |error: Error| error.of_reading().while_doing(format_args!("reading from stream {stream}"));
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let payload = Bytes::from(which.to_string());
        let answer = match self.shared.ask(subject.into(), None, payload, self.shared.timeout).await {
            Ok(answer) => answer,
            Err(error) => return Err(doing(error)),
        };
        // "No message found" is an answer; "stream not found" is an error. Both have the code 404.
        if let Ok(Failure { error: Some(error) }) = serde_json::from_slice(&answer.payload) {
            return if error.err_code == 10037 { Ok(None) } else { Err(doing(error.into())) };
        }
        let raw: RawGet = read_answer(&answer.payload).map_err(doing)?;
        let message = StreamMessage::try_from(raw.message).map_err(|error| doing(Error::other(error.to_string())))?;
        Ok(Some(Stored {
            seq: message.sequence,
            subject: message.subject.into_string(),
            headers: Headers::from(Some(message.headers)),
            payload: message.payload,
            at_ms: u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
        }))
    }

    /// Deletes everything below `seq`.
    pub async fn purge_below(&self, stream: &str, seq: u64) -> Result<(), Error> {
        self.purge(stream, &json!({ "seq": seq })).await
    }

    /// Deletes everything on a subject (may hold wildcards): how a customer is forgotten.
    pub async fn purge_subject(&self, stream: &str, subject: &str) -> Result<(), Error> {
        self.purge(stream, &json!({ "filter": subject })).await
    }

    async fn purge(&self, stream: &str, which: &Value) -> Result<(), Error> {
        self.api(&format!("STREAM.PURGE.{stream}"), Some(which))
            .await
            .map(|Done {}| ())
            .map_err(|error| error.while_doing(format_args!("purging stream {stream}")))
    }

    /// Deletes one message and overwrites its bytes in the store: how a customer is forgotten. No error when it is gone
    /// already.
    pub async fn erase(&self, stream: &str, seq: u64) -> Result<(), Error> {
        match self.api(&format!("STREAM.MSG.DELETE.{stream}"), Some(&json!({ "seq": seq }))).await {
            Ok(Done {}) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.while_doing(format_args!("erasing message {seq} of stream {stream}"))),
        }
    }

    /// Erases everything on a subject (may hold wildcards), message by message. Returns how many there were.
    pub async fn erase_subject(&self, stream: &str, subject: &str) -> Result<u64, Error> {
        let found = self.collect(stream, subject, None).await?;
        for message in &found {
            self.erase(stream, message.seq).await?;
        }
        Ok(found.len() as u64)
    }

    /// Deletes one message (operator's `dead` handling).
    pub async fn delete(&self, stream: &str, seq: u64) -> Result<(), Error> {
        self.api(&format!("STREAM.MSG.DELETE.{stream}"), Some(&json!({ "seq": seq, "no_erase": true })))
            .await
            .map(|Done {}| ())
            .map_err(|error| error.while_doing(format_args!("deleting message {seq} of stream {stream}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: u32, err_code: u32, description: &str) -> ErrorKind {
        Error::from(ApiError { code, err_code, description: description.into() }).kind
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(kind(400, 10071, "wrong last sequence: 42"), ErrorKind::Fenced(Some(42)));
        assert_eq!(kind(400, 10164, "wrong last sequence"), ErrorKind::Fenced(None));
        assert_eq!(kind(503, 10077, "maximum bytes exceeded"), ErrorKind::Full);
        assert_eq!(kind(500, 0, "write: no space left on device"), ErrorKind::Full);
        assert_eq!(kind(503, 10008, "JetStream system temporarily unavailable"), ErrorKind::Unavailable);
        assert_eq!(kind(404, 10059, "stream not found"), ErrorKind::NotFound);
        assert_eq!(kind(400, 10054, "message size exceeds maximum allowed"), ErrorKind::TooLarge);
    }
}
