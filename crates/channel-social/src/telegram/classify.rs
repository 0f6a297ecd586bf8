//! What an answer of the Bot API means. Pure.

use adapter::contract::SmolStr;
use adapter::failure::SendFailure;
use adapter::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::api::{after, failed_status, said};
use crate::read::At;

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It was done: the result.
    Done(Value),
    /// The group is another chat now.
    Moved(SmolStr),
    /// It failed.
    Failed(SendFailure),
}

/// The code of a failure that says that the customer wants no messages.
pub(super) const BLOCKED: &str = "blocked";

/// Reads an answer.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: &Value) -> Answer {
    let at = At::new(body);
    if status.is_success() && at.flag("ok") {
        return Answer::Done(body.get("result").cloned().unwrap_or(Value::Null));
    }
    let parameters = at.get("parameters");
    if let Some(chat) = parameters.id("migrate_to_chat_id") {
        return Answer::Moved(chat);
    }
    let description = said(at.text("description").unwrap_or("no description"));
    let code = at.number("error_code").unwrap_or_else(|| u64::from(status.as_u16()));
    let waits = parameters.number("retry_after").and_then(|seconds| u32::try_from(seconds).ok()).map(f64::from);
    Answer::Failed(match code {
        429 => match waits.and_then(after) {
            Some(after) => SendFailure::retryable_after(after, "429", description),
            None => failed_status(StatusCode::TOO_MANY_REQUESTS, headers, &description),
        },
        403 if blocked(&description) => SendFailure::permanent(BLOCKED, description),
        401 | 404 if !at.text("description").is_some_and(|text| text.contains("chat not found")) => {
            // The token is wrong: a person mends it, and what waits goes out then.
            SendFailure::retryable("auth_failed", "the bot's token is not accepted")
        }
        400 | 403 | 404 | 413 => SendFailure::permanent(code.to_string(), description),
        _ => failed_status(status, headers, &description),
    })
}

/// The customer blocked the bot, or is no more.
fn blocked(description: &str) -> bool {
    ["blocked by the user", "user is deactivated", "can't initiate conversation"]
        .into_iter()
        .any(|word| description.contains(word))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adapter::failure::Class;
    use serde_json::json;

    use super::*;

    fn of(status: u16, body: Value) -> Answer {
        answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &body)
    }

    fn failure(status: u16, body: Value) -> SendFailure {
        match of(status, body) {
            Answer::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_says_what_to_do() {
        assert_eq!(
            of(200, json!({ "ok": true, "result": { "message_id": 7 } })),
            Answer::Done(json!({ "message_id": 7 }))
        );
        let wait = failure(
            429,
            json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry after 17",
            "parameters": { "retry_after": 17 } }),
        );
        assert_eq!(wait.class, Class::Retryable { after: Some(Duration::from_secs(17)) });
        let blocked = failure(
            403,
            json!({ "ok": false, "error_code": 403, "description": "Forbidden: bot was blocked by the user" }),
        );
        assert_eq!((blocked.class, blocked.code.as_str()), (Class::Permanent, BLOCKED));
        let kicked = failure(
            403,
            json!({ "ok": false, "error_code": 403, "description": "Forbidden: bot was kicked from the group chat" }),
        );
        assert_eq!((kicked.class, kicked.code.as_str()), (Class::Permanent, "403"));
        let bad = failure(400, json!({ "ok": false, "error_code": 400, "description": "Bad Request: chat not found" }));
        assert_eq!(bad.class, Class::Permanent);
        let moved = json!({ "ok": false, "error_code": 400, "description": "Bad Request: group chat was upgraded to a supergroup chat",
            "parameters": { "migrate_to_chat_id": -1001234567890_i64 } });
        assert_eq!(of(400, moved), Answer::Moved("-1001234567890".into()));
        assert_eq!(
            failure(401, json!({ "ok": false, "error_code": 401, "description": "Unauthorized" })).code,
            "auth_failed"
        );
        assert_eq!(failure(502, json!(null)).class, Class::Unknown);
        assert_eq!(
            failure(500, json!({ "ok": false, "error_code": 500, "description": "Internal Server Error" })).class,
            Class::Retryable { after: None }
        );
        // Whatever is answered with success and is no answer may have been done.
        assert_eq!(failure(200, json!("<html>")).class, Class::Unknown);
    }
}
