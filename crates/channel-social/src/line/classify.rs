//! What an answer of the Messaging API means. Pure.

use adapter::contract::SmolStr;
use adapter::failure::{Class, SendFailure};
use adapter::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::api::{failed_status, said};
use crate::read::At;

/// By which way a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// With a reply token: once.
    Reply,
    /// With a retry key: a repeat is known.
    Push,
}

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It was accepted, now or before: the ids of the messages.
    Sent(Vec<SmolStr>),
    /// The reply token is used up or too old.
    TokenGone,
    /// It failed.
    Failed(SendFailure),
}

/// Reads an answer.
pub(super) fn answer(way: Way, status: StatusCode, headers: &HeaderMap, body: &Value) -> Answer {
    let at = At::new(body);
    let message = said(at.text("message").unwrap_or("no message"));
    let ids = || at.list("sentMessages").filter_map(|sent| sent.id("id")).collect();
    let failed = match (status.as_u16(), way) {
        (200..=299, _) | (409, Way::Push) => return Answer::Sent(ids()),
        (400, Way::Reply) if message.to_ascii_lowercase().contains("reply token") => return Answer::TokenGone,
        (429, _) if message.to_ascii_lowercase().contains("monthly limit") => SendFailure::permanent("quota", message),
        (401, _) => SendFailure::retryable("auth_failed", "the channel access token is not accepted"),
        // It may have been accepted all the same; nobody knows a repeated reply.
        (500.., Way::Reply) => SendFailure::unknown(status.as_u16().to_string(), message),
        _ => failed_status(status, headers, &message),
    };
    Answer::Failed(if way == Way::Push { again(failed) } else { failed })
}

/// What is unknown of a push can be tried again: its retry key is accepted once.
pub(super) fn again(failure: SendFailure) -> SendFailure {
    match failure.class {
        Class::Unknown => SendFailure { class: Class::Retryable { after: None }, ..failure },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(way: Way, status: u16, body: &Value) -> Answer {
        answer(way, StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body)
    }

    fn class(way: Way, status: u16, body: &Value) -> Class {
        match of(way, status, body) {
            Answer::Failed(failure) => failure.class,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_push_that_was_accepted_before_is_sent() {
        let body =
            json!({ "message": "The retry key is already accepted", "sentMessages": [{ "id": "461230966842064897" }] });
        assert_eq!(of(Way::Push, 409, &body), Answer::Sent(vec!["461230966842064897".into()]));
        assert_eq!(
            of(Way::Push, 200, &json!({ "sentMessages": [{ "id": "1", "quoteToken": "q" }] })),
            Answer::Sent(vec!["1".into()])
        );
    }

    #[test]
    fn a_reply_of_unknown_outcome_is_not_repeated_and_a_push_is() {
        let nothing = json!(null);
        assert_eq!(class(Way::Reply, 500, &nothing), Class::Unknown);
        assert_eq!(class(Way::Push, 500, &nothing), Class::Retryable { after: None });
        assert_eq!(class(Way::Push, 502, &nothing), Class::Retryable { after: None });
        assert_eq!(of(Way::Reply, 400, &json!({ "message": "Invalid reply token" })), Answer::TokenGone);
        assert_eq!(
            class(Way::Push, 400, &json!({ "message": "The property, 'to', in the request body is invalid" })),
            Class::Permanent
        );
    }

    #[test]
    fn too_fast_passes_and_too_many_does_not() {
        let fast = json!({ "message": "The API rate limit has been exceeded. Try again later." });
        assert_eq!(class(Way::Push, 429, &fast), Class::Retryable { after: None });
        let many = json!({ "message": "You have reached your monthly limit." });
        assert_eq!(class(Way::Push, 429, &many), Class::Permanent);
        assert_eq!(class(Way::Reply, 401, &json!(null)), Class::Retryable { after: None });
    }
}
