//! What an answer of the bot API means: the HTTP status is 200, what counts is `status`. Pure.

use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::failure::SendFailure;
use adapter::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::api::{failed_status, said};
use crate::read::At;

/// The code of a failure that says that the customer wants no messages.
pub(super) const BLOCKED: &str = "blocked";

/// The code of too many messages.
pub(super) const BUSY: &str = "12";
/// How long one person is left alone then. Who answers is written to at once.
const BUSY_WAIT: Duration = Duration::from_secs(300);

/// The number of the message that was sent.
///
/// # Errors
/// With what the status says.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: &Value) -> Result<Option<SmolStr>, SendFailure> {
    let at = At::new(body);
    let message = said(at.text("status_message").unwrap_or("no message"));
    if !status.is_success() {
        return Err(failed_status(status, headers, &message));
    }
    let Some(code) = at.get("status").as_id() else {
        return Err(SendFailure::unknown("no_status", "the answer says nothing of what became of it"));
    };
    match code.as_str() {
        "0" => Ok(at.id("message_token")),
        // Too much for the bot, or for one person who has not answered: which it does not say.
        BUSY => Err(SendFailure::retryable_after(BUSY_WAIT, code, message)),
        // Whoever unsubscribed is sent nothing until they write again.
        "6" => Err(SendFailure::permanent(BLOCKED, message)),
        // The account's own trouble: a person mends it, and what waits goes out then.
        "2" | "7" | "8" | "9" | "10" | "24" => Err(SendFailure::retryable(format!("account_{code}"), message)),
        _ => Err(SendFailure::permanent(code, message)),
    }
}

#[cfg(test)]
mod tests {
    use adapter::failure::Class;
    use serde_json::json;

    use super::*;

    fn of(status: u16, body: &Value) -> Result<Option<SmolStr>, SendFailure> {
        answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body)
    }

    #[test]
    fn the_status_within_counts() {
        let sent: Value =
            serde_json::from_str(r#"{"status":0,"status_message":"ok","message_token":5741311803571721087}"#).unwrap();
        assert_eq!(of(200, &sent), Ok(Some("5741311803571721087".into())));
        let class = |body: Value| of(200, &body).unwrap_err().class;
        assert_eq!(
            class(json!({ "status": 12, "status_message": "tooManyRequests" })),
            Class::Retryable { after: Some(BUSY_WAIT) }
        );
        assert_eq!(class(json!({ "status": 3, "status_message": "badData" })), Class::Permanent);
        assert_eq!(
            class(json!({ "status": 2, "status_message": "invalidAuthToken" })),
            Class::Retryable { after: None }
        );
        assert_eq!(class(json!("<html>")), Class::Unknown);
        assert_eq!(of(200, &json!({ "status": 6 })).unwrap_err().code, BLOCKED);
        assert_eq!(of(504, &json!(null)).unwrap_err().class, Class::Unknown);
    }
}
