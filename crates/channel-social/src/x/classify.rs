//! What an answer of the API means. Pure.

use std::time::Duration;

use adapter::contract::Timestamp;
use adapter::failure::SendFailure;
use adapter::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::api::{after, failed_status, said};
use crate::read::At;

/// The answer, when it says that it was done.
///
/// # Errors
/// With what the status says.
pub(super) fn answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: Value,
    now: Timestamp,
) -> Result<Value, SendFailure> {
    if status.is_success() {
        return Ok(body);
    }
    let at = At::new(&body);
    let first = at.list("errors").next();
    let detail =
        at.text("detail").or_else(|| first.and_then(|error| error.text("message"))).or_else(|| at.text("title"));
    let detail = said(detail.unwrap_or("no detail"));
    Err(match status.as_u16() {
        429 => match reset(headers, now) {
            Some(after) => SendFailure::retryable_after(after, "429", detail),
            None => failed_status(status, headers, &detail),
        },
        401 => SendFailure::retryable("auth_failed", "the account's tokens are not accepted"),
        _ => failed_status(status, headers, &detail),
    })
}

/// How long until there is room again.
fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    // The day may be full while the quarter of an hour is not.
    let day =
        text("x-user-limit-24hour-remaining").filter(|left| *left == 0).and_then(|_| text("x-user-limit-24hour-reset"));
    let at = day.or_else(|| text("x-rate-limit-reset"))?;
    after(at.saturating_sub(now.0 / 1000).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use adapter::failure::Class;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_waits_until_there_is_room() {
        let mut headers = HeaderMap::new();
        headers.insert("x-rate-limit-reset", "1764000900".parse().unwrap());
        let of = |status: u16, headers: &HeaderMap| {
            let status = StatusCode::from_u16(status).unwrap();
            answer(status, headers, json!({ "detail": "x", "status": 1 }), Timestamp(1_764_000_000_000))
                .map_err(|failure| failure.class)
        };
        assert_eq!(of(429, &headers), Err(Class::Retryable { after: Some(Duration::from_secs(900)) }));
        headers.insert("x-user-limit-24hour-remaining", "0".parse().unwrap());
        headers.insert("x-user-limit-24hour-reset", "1764003600".parse().unwrap());
        assert_eq!(of(429, &headers), Err(Class::Retryable { after: Some(Duration::from_secs(3600)) }));
        assert_eq!(of(403, &headers), Err(Class::Permanent));
        assert_eq!(of(401, &headers), Err(Class::Retryable { after: None }));
        assert_eq!(of(504, &headers), Err(Class::Unknown));
        assert!(of(201, &headers).is_ok());
    }
}
