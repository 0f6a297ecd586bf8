//! What an answer of the Graph API means for a send. Pure.

use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::failure::{Class, SendFailure};
use adapter::http::{HeaderMap, Response};
use serde_json::Value;

use crate::api::{self, after, failed_status, retry_after, said};
use crate::read::At;

/// The token is no longer good: an operator must renew it.
pub(crate) const TOKEN: &str = "190";
/// WhatsApp's limit for one pair of number and person.
pub(crate) const PAIR: &str = "131056";

/// How long the platform wants to be left alone where it does not say.
const PAIR_WAIT: Duration = Duration::from_secs(6);
const RATE_WAIT: Duration = Duration::from_secs(5);
const ACCOUNT_WAIT: Duration = Duration::from_secs(60);

/// The answer's JSON, or why the call failed.
///
/// # Errors
/// Retryable, permanent or unknown, with the platform's code and words.
pub(crate) fn read(answer: &Response<Bytes>) -> Result<Value, SendFailure> {
    let body = api::body(answer);
    let error = At::new(&body).get("error");
    if error.exists() {
        return Err(failure(answer.status().as_u16(), answer.headers(), error));
    }
    if answer.status().is_success() {
        return Ok(body);
    }
    Err(failed_status(answer.status(), answer.headers(), "the platform refused and did not say why"))
}

fn failure(status: u16, headers: &HeaderMap, error: At<'_>) -> SendFailure {
    let code = error.number("code").unwrap_or_default();
    let subcode = error.number("error_subcode").unwrap_or_default();
    let details = error.get("error_data").text("details");
    let words = [error.text("error_user_msg"), details, error.text("message")];
    let words = said(words.into_iter().flatten().next().unwrap_or("it did not say why"));
    let told = retry_after(headers).or_else(|| regain(headers));
    let id = code.to_string();
    let again = |wait: Duration| SendFailure::retryable_after(told.unwrap_or(wait), id.clone(), words.clone());
    let never = |what: &str| SendFailure::permanent(id.clone(), format!("{what}: {words}"));
    match (code, subcode) {
        (131_056, _) => again(PAIR_WAIT),
        (130_429 | 131_048 | 4 | 17 | 32 | 613 | 80_007, _) => {
            again(if code == 130_429 { RATE_WAIT } else { ACCOUNT_WAIT })
        }
        (1 | 2 | 1200 | 131_000 | 131_016 | 131_053 | 131_057 | 133_004 | 133_016, _) => match told {
            Some(_) => again(RATE_WAIT),
            None => SendFailure::retryable(id, words),
        },
        (10, 2_018_278 | 2_534_022 | 2_018_065) | (131_047, _) => never("the time to answer freely is over"),
        (190, _) => never("the access token is no longer good"),
        (3 | 10 | 200..=299, _) => never("the app may not do this"),
        (131_026, _) => never("it cannot be delivered to this person"),
        (131_049 | 131_050, _) => never("the platform keeps it from this person"),
        (131_062, _) => never("it needs a telephone number"),
        (551, _) => never("this person cannot be written to now"),
        _ if error.flag("is_transient") || status == 429 => match told {
            Some(_) => again(RATE_WAIT),
            None => SendFailure::retryable(id, words),
        },
        _ if status >= 500 => SendFailure::retryable(id, words),
        _ => never("refused"),
    }
}

/// Whether a free answer was refused because it came too late.
pub(crate) fn is_late(failure: &SendFailure) -> bool {
    failure.class == Class::Permanent && failure.message.starts_with("the time to answer freely is over")
}

/// What a code of a report means: whether trying again can help, where that is known.
pub(crate) fn retryable(code: u64) -> Option<bool> {
    match code {
        130_429 | 131_048 | 131_056 | 131_000 | 131_016 | 131_053 | 131_057 | 80_007 | 4 => Some(true),
        131_026 | 131_047 | 131_049 | 131_050 | 131_051 | 131_062 | 130_472 | 131_021 | 131_031 | 368 => Some(false),
        _ => None,
    }
}

/// When the account regains access, from the header that says how much of it is used; in minutes there.
fn regain(headers: &HeaderMap) -> Option<Duration> {
    let value: Value = serde_json::from_slice(headers.get("x-business-use-case-usage")?.as_bytes()).ok()?;
    let uses = value.as_object()?.values().filter_map(Value::as_array).flatten();
    let minutes = uses.filter_map(|used| At::new(used).number("estimated_time_to_regain_access")).max()?;
    let minutes = u32::try_from(minutes).ok().filter(|minutes| *minutes > 0)?;
    after(f64::from(minutes) * 60.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn classify(status: u16, body: &Value, headers: &[(&'static str, &'static str)]) -> SendFailure {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        read(&answer.body(Bytes::from(body.to_string())).unwrap()).unwrap_err()
    }

    fn class(status: u16, code: u64, subcode: u64) -> Class {
        classify(status, &json!({ "error": { "code": code, "error_subcode": subcode, "message": "x" } }), &[]).class
    }

    #[test]
    fn every_code_of_the_table_is_sorted() {
        for code in [2, 4, 613, 1200, 80_007, 130_429, 131_048, 131_053, 131_056, 133_016] {
            assert!(matches!(class(400, code, 0), Class::Retryable { .. }), "{code}");
        }
        for code in [10, 100, 190, 200, 368, 551, 131_026, 131_047, 131_049, 131_051, 131_062, 132_000, 999_999] {
            assert_eq!(class(400, code, 0), Class::Permanent, "{code}");
        }
        assert_eq!(class(400, 10, 2_018_278), Class::Permanent);
        assert!(matches!(class(500, 999_999, 0), Class::Retryable { .. }));
    }

    #[test]
    fn a_status_without_a_reason_is_judged_by_itself() {
        assert!(matches!(classify(503, &json!({}), &[]).class, Class::Retryable { .. }));
        assert!(matches!(classify(429, &json!("x"), &[]).class, Class::Retryable { .. }));
        assert_eq!(classify(504, &json!({}), &[]).class, Class::Unknown);
        assert_eq!(classify(404, &json!({}), &[]).class, Class::Permanent);
    }

    #[test]
    fn what_the_platform_says_of_the_time_is_obeyed() {
        let error = json!({ "error": { "code": 4, "message": "x" } });
        let after = |headers: &[(&'static str, &'static str)]| classify(400, &error, headers).class;
        assert_eq!(after(&[]), Class::Retryable { after: Some(ACCOUNT_WAIT) });
        assert_eq!(after(&[("retry-after", "7")]), Class::Retryable { after: Some(Duration::from_secs(7)) });
        let usage = r#"{"1":[{"type":"messenger","call_count":100,"estimated_time_to_regain_access":3}]}"#;
        assert_eq!(
            after(&[("x-business-use-case-usage", usage)]),
            Class::Retryable { after: Some(Duration::from_secs(180)) }
        );
    }

    #[test]
    fn what_came_too_late_is_told_apart() {
        let late = |code: u64, subcode: u64| {
            is_late(&classify(
                400,
                &json!({ "error": { "code": code, "error_subcode": subcode, "message": "m" } }),
                &[],
            ))
        };
        assert!(late(10, 2_018_278) && late(131_047, 0) && !late(10, 0) && !late(190, 0));
    }
}
