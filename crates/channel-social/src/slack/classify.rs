//! What an answer of the Web API means: the HTTP status is mostly 200, what counts is `ok`. Pure.

use adapter::failure::SendFailure;
use adapter::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::api::{failed_status, retry_after, said};
use crate::read::At;

/// The answer, when it says that it was done.
///
/// # Errors
/// With what `error` says.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: Value) -> Result<Value, SendFailure> {
    let at = At::new(&body);
    if status.is_success() && at.flag("ok") {
        return Ok(body);
    }
    let Some(error) = at.text("error").map(said) else {
        return Err(failed_status(status, headers, "no answer of the API"));
    };
    Err(match error.as_str() {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => match retry_after(headers) {
            Some(after) => SendFailure::retryable_after(after, error, "too fast"),
            None => SendFailure::retryable(error, "too fast"),
        },
        "service_unavailable" | "team_added_to_org" | "accesslimited" => SendFailure::retryable(error, "not now"),
        // Some of it may have been done, the platform says.
        "internal_error" | "fatal_error" | "request_timeout" => SendFailure::unknown(error, "it failed on the way"),
        _ => SendFailure::permanent(error.clone(), format!("the platform refuses: {error}")),
    })
}

/// Whether it is the token that is refused.
pub(super) fn is_auth(code: &str) -> bool {
    matches!(code, "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adapter::failure::Class;
    use serde_json::json;

    use super::*;

    #[test]
    fn success_is_what_ok_says() {
        let class = |status: u16, body: Value| {
            answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body).map_err(|failure| failure.class)
        };
        assert!(class(200, json!({ "ok": true, "ts": "1.2" })).is_ok());
        for error in ["channel_not_found", "is_archived", "not_in_channel", "invalid_auth", "msg_too_long"] {
            assert_eq!(class(200, json!({ "ok": false, "error": error })), Err(Class::Permanent), "{error}");
        }
        assert_eq!(class(200, json!({ "ok": false, "error": "fatal_error" })), Err(Class::Unknown));
        assert_eq!(class(200, json!("<html>")), Err(Class::Unknown));
        assert_eq!(class(503, json!(null)), Err(Class::Retryable { after: None }));
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "30".parse().unwrap());
        let failure = answer(StatusCode::TOO_MANY_REQUESTS, &headers, json!({ "ok": false, "error": "ratelimited" }))
            .unwrap_err();
        assert_eq!(failure.class, Class::Retryable { after: Some(Duration::from_secs(30)) });
    }
}
