//! Calling a provider: what an answer means for a send, how fast calls may go, and the parts of a message one by one.

use std::path::Path;
use std::time::Duration;

use crate::failure::{Class, SendFailure, Sent};
use crate::health::State;
use crate::http::{CallError, Client, ClientSettings, HeaderMap, Request, Response, StatusCode};
use crate::ledger::{Begin, PartState};
use crate::limit::Keyed;
use crate::media::MediaError;
use crate::{Context, OpenError, PartLedger};
use bytes::Bytes;
use contract::envelope::{EnvelopeKind, Media};
use contract::outbound::OutCommand;
use contract::{SmolStr, Timestamp};
use runtime::secret::{Secret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::provider::found::{Found, Place};

/// A longer wait for a limit is spent in the stream, where it holds nothing up.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// No provider is believed that it wants to be left alone for longer.
const AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often an account is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(300);
/// How many chats have a bucket of their own.
pub const CHATS_MAX: usize = 50_000;

// === Settings that every provider has ===

/// How the provider is called.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// How long a call may take, in milliseconds.
    pub timeout_ms: u64,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Largest answer in bytes.
    pub answer_bytes_max: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self { timeout_ms: 20_000, connect_timeout_ms: 5_000, answer_bytes_max: 1024 * 1024 }
    }
}

impl Http {
    /// Everything that is wrong with it.
    pub fn problems(&self, found: &mut Vec<(String, String)>) {
        let mut within = |key: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                found.push((format!("http.{key}"), format!("must be from {min} to {max}")));
            }
        };
        within("timeout_ms", self.timeout_ms, 100, 120_000);
        within("connect_timeout_ms", self.connect_timeout_ms, 100, 60_000);
        within("answer_bytes_max", self.answer_bytes_max as u64, 1024, 64 * 1024 * 1024);
    }

    /// A client with these bounds.
    pub fn client(&self) -> Result<Client, OpenError> {
        self.client_taking(self.answer_bytes_max)
    }

    /// A client that takes larger answers: files.
    pub fn client_taking(&self, body_bytes_max: usize) -> Result<Client, OpenError> {
        Client::new(ClientSettings {
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            timeout: Duration::from_millis(self.timeout_ms),
            body_bytes_max,
            ca_pem: None,
        })
    }
}

/// What is wrong with the address of an API: it must be HTTPS, save on this machine, where stand-ins and local
/// servers are.
pub fn api_base_problem(base: &str) -> Option<&'static str> {
    let (secure, rest) = match (base.strip_prefix("https://"), base.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Some("must begin with https://"),
    };
    let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
    let local = matches!(host, "127.0.0.1" | "localhost") || rest.starts_with("[::1]");
    let plain = rest.bytes().all(|byte| byte.is_ascii_graphic()) && !rest.contains(['@', '?', '#']);
    match () {
        () if host.is_empty() && !local || !plain || base.ends_with('/') => {
            Some("must be like https://api.example, without a slash at the end")
        }
        () if !secure && !local => Some("must be https, save on this machine"),
        () => None,
    }
}

/// What is wrong with a list of secrets that are valid side by side.
pub fn secrets_problem(secrets: &[Secret]) -> Option<&'static str> {
    match secrets.len() {
        1 | 2 => None,
        0 => Some("is missing: nothing could be verified"),
        _ => Some("takes one secret, or two while it is changed"),
    }
}

/// Takes relative paths of secrets from the folder of the account's file.
pub fn relative_to<'a>(secrets: impl IntoIterator<Item = &'a mut Secret>, dir: Option<&Path>) {
    let Some(dir) = dir else { return };
    for secret in secrets {
        *secret = secret.clone().relative_to(dir);
    }
}

/// Reads secrets.
pub fn resolve(secrets: &[Secret], setting: &str) -> Result<Vec<SecretString>, OpenError> {
    secrets.iter().map(|secret| secret.resolve().map_err(|error| OpenError::new(setting, error))).collect()
}

/// Reads one secret.
pub fn resolve_one(secret: &Secret, setting: &str) -> Result<SecretString, OpenError> {
    secret.resolve().map_err(|error| OpenError::new(setting, error))
}

// === What an answer means ===

/// Makes a call.
///
/// # Errors
/// Retryable when nothing went out, unknown when it did and there is no whole answer.
pub async fn call(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, SendFailure> {
    client.send(request).await.map_err(|error| match error {
        CallError::NotSent(why) => SendFailure::retryable("not_sent", why),
        CallError::Unknown(why) => SendFailure::unknown("no_answer", why),
        CallError::TooLarge => SendFailure::unknown("answer_too_large", "the answer is too large"),
    })
}

/// A request that holds JSON.
///
/// # Errors
/// Permanent, when an address or a header cannot be written.
pub fn json_request(url: &str, headers: &[(&'static str, &str)], body: &Value) -> Result<Request<Bytes>, SendFailure> {
    let mut all = vec![("content-type", "application/json; charset=utf-8")];
    all.extend_from_slice(headers);
    request("POST", url, &all, Bytes::from(body.to_string()))
}

/// A request.
///
/// # Errors
/// Permanent, when an address or a header cannot be written. What it says holds neither.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Request<Bytes>, SendFailure> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).map_err(|_| SendFailure::permanent("unusable_request", "an address or secret cannot be written"))
}

/// The answer of a provider that failed, as far as its status alone says.
pub fn failed_status(status: StatusCode, headers: &HeaderMap, what: &str) -> SendFailure {
    let code = status.as_u16().to_string();
    match status.as_u16() {
        429 => match retry_after(headers) {
            Some(after) => SendFailure::retryable_after(after, code, what),
            None => SendFailure::retryable(code, what),
        },
        // Refused before it did anything.
        408 | 425 | 500 | 503 => match retry_after(headers) {
            Some(after) => SendFailure::retryable_after(after, code, what),
            None => SendFailure::retryable(code, what),
        },
        // Something in between gave up, and knows as little as we do.
        501.. => SendFailure::unknown(code, what),
        200..=299 => SendFailure::unknown(code, what),
        _ => SendFailure::permanent(code, what),
    }
}

/// `Retry-After` in seconds.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse::<f64>().ok()?;
    after(seconds)
}

/// A span that a provider told, in seconds, within reason.
pub fn after(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().map(|after| after.min(AFTER_MAX))
}

/// The body of an answer as JSON, whatever it is.
pub fn body(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or(Value::Null)
}

/// What a provider wrote of an error: cut, since it is for a person.
pub fn said(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

// === How fast ===

/// Takes a token, waiting a little for it.
///
/// # Errors
/// Retryable, when it takes longer.
pub async fn take(limit: &Keyed, key: &str) -> Result<(), SendFailure> {
    loop {
        match limit.take(key, Instant::now()) {
            Ok(()) => return Ok(()),
            Err(wait) if wait > WAIT_MAX => {
                return Err(SendFailure::retryable_after(wait, "own_limit", "as fast as the provider allows"));
            }
            Err(wait) => tokio::time::sleep(wait).await,
        }
    }
}

/// Leaves a key alone for as long as a failure says.
pub fn pause(limit: &Keyed, key: &str, failure: &SendFailure) {
    if let Class::Retryable { after: Some(after) } = failure.class {
        limit.pause(key, Instant::now() + after);
    }
}

// === How an account fares ===

/// Looks at an account again and again until the process drains, and says how it fares. A look says what is wrong, if
/// anything is; a failure with a code of which `is_down` is true means that the provider no longer takes us.
///
/// # Errors
/// Never: it goes on looking.
pub async fn watch<F>(
    context: &Context,
    is_down: impl Fn(&str) -> bool + Send,
    look: impl Fn() -> F + Send,
) -> Result<(), OpenError>
where
    F: Future<Output = Result<Option<String>, SendFailure>> + Send,
{
    loop {
        let (state, why) = match look().await {
            Ok(None) => (State::Up, None),
            Ok(why) => (State::Degraded, why),
            Err(failure) if is_down(&failure.code) => (State::Down, Some(failure.to_string())),
            Err(failure) => (State::Degraded, Some(failure.to_string())),
        };
        context.health.set(state, why);
        tokio::select! {
            () = context.shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

// === The parts of a message ===

/// Who carries the calls of one command.
pub trait Carrier: Sync {
    /// One call.
    type Call: Sync;
    /// What a call needs and its making of which the customer sees nothing: bytes, an upload.
    type Ready: Send;

    /// Whether the provider recognises a repeat of the call that was begun then.
    fn repeatable(&self, part: u32, begun_at: Timestamp) -> bool {
        let _ = (part, begun_at);
        false
    }

    /// Waits for its turn and gets what a call needs. Nothing of it reaches the customer.
    fn ready(&self, call: &Self::Call) -> impl Future<Output = Result<Self::Ready, SendFailure>> + Send;

    /// Makes a call; returns the provider's ids of what was sent.
    fn carry(
        &self,
        part: u32,
        call: &Self::Call,
        ready: Self::Ready,
    ) -> impl Future<Output = Result<Vec<SmolStr>, SendFailure>> + Send;
}

/// Carries the calls of a command that were not carried yet, in order.
///
/// # Errors
/// With the first that failed; unknown, when one was interrupted and the provider would not know the repeat.
pub async fn carry<C: Carrier>(carrier: &C, calls: &[C::Call], ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
    for (part, call) in (0_u32..).zip(calls) {
        if matches!(ledger.entry().parts.get(&part), Some(PartState::Sent { .. })) {
            continue;
        }
        let interrupted = || SendFailure::unknown("interrupted", "it was being sent when this program ended");
        let begun_at = ledger.entry().updated_at;
        let open = matches!(ledger.entry().parts.get(&part), Some(PartState::Pending | PartState::Unknown));
        if open && !carrier.repeatable(part, begun_at) {
            return Err(interrupted());
        }
        let ready = carrier.ready(call).await?;
        match ledger.begin(part).await? {
            Begin::Sent { .. } => continue,
            Begin::Interrupted if !carrier.repeatable(part, begun_at) => return Err(interrupted()),
            Begin::Interrupted | Begin::Fresh => {}
        }
        let ids = carrier.carry(part, call, ready).await?;
        ledger.sent(part, ids).await;
    }
    Ok(Sent::with_ids(ledger.external_ids()))
}

/// The bytes of a file that a command sends.
///
/// # Errors
/// Permanent when they are gone or too large, retryable when the store does not answer.
pub async fn load(context: &Context, media: &Media, bytes_max: u64) -> Result<Bytes, SendFailure> {
    let gone = || SendFailure::permanent("media_gone", "an attachment is not in the store");
    let key = media.store_key.as_deref().ok_or_else(gone)?;
    let max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let read = context.media.get(key, max).await.map_err(|error| match error {
        MediaError::Unavailable(_) => SendFailure::retryable("media", "the object store does not answer"),
        MediaError::Foreign => SendFailure::permanent("media_foreign", "an attachment is another tenant's"),
        MediaError::Refused(_) => SendFailure::permanent("media_too_large", "an attachment is too large"),
    })?;
    read.ok_or_else(gone)
}

/// Says that the customer wants no more messages: the provider refused one because of that.
///
/// Stored under the command's id, so that a retry says it once.
pub async fn refused_by_customer(
    context: &Context,
    place: &Place,
    command: &OutCommand,
    (scheme, value): (&'static str, &str),
    now: Timestamp,
) {
    let mut customer = place.platform(scheme, value);
    customer.role = contract::envelope::Role::Customer;
    let event = place.event(command.thread.clone(), customer, "the provider's answer to a message of ours", now);
    let event = event.kind(EnvelopeKind::ContactEvent, format!("block/{}", command.command_id));
    let Found::Event(event) = event.signal("block", Map::new()).found(0) else { return };
    if let Err(error) = context.inbound.accept(&event.envelope).await {
        tracing::warn!(channel.account = %place.account.id, %error, "it was not stored that a customer wants no messages");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_called_by_https_or_on_this_machine() {
        for good in ["https://api.telegram.org", "http://127.0.0.1:9", "http://localhost:1/x", "http://[::1]:2"] {
            assert_eq!(api_base_problem(good), None, "{good}");
        }
        for bad in [
            "api.telegram.org",
            "http://api.telegram.org",
            "http://127.0.0.1.example",
            "https://",
            "https://a/",
            "https://user@a",
            "https://a b",
            "ftp://a",
        ] {
            assert!(api_base_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_status_alone_says_whether_to_try_again() {
        let class = |status: u16| failed_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), "x").class;
        assert_eq!(class(429), Class::Retryable { after: None });
        assert_eq!(class(503), Class::Retryable { after: None });
        assert_eq!(class(400), Class::Permanent);
        // A gateway that gave up may have passed it on.
        assert_eq!((class(502), class(504)), (Class::Unknown, Class::Unknown));
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        let failure = failed_status(StatusCode::TOO_MANY_REQUESTS, &headers, "x");
        assert_eq!(failure.class, Class::Retryable { after: Some(Duration::from_secs(7)) });
        headers.insert("retry-after", "1e300".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
