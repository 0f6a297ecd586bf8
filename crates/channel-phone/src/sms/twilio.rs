//! Texts at Twilio: forms of its webhooks, fields of its API, and what its answers mean. Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Media, Part, ReceiptStatus};
use adapter::failure::SendFailure;
use adapter::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::normal::{self, Became, Incoming, Ours};
use super::number::Number;
use super::words::Wish;
use crate::api;
use crate::query;
use crate::twilio::is_id;

/// Most media of one text.
const MEDIA_MAX: usize = 10;
/// The code that says that the customer wants no texts.
pub(super) const STOPPED: &str = "21610";

fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    found.filter(|value| !value.is_empty())
}

fn sid(form: &[(String, String)]) -> Option<SmolStr> {
    ["MessageSid", "SmsSid"].into_iter().find_map(|name| field(form, name)).and_then(normal::id)
}

/// Reads a text that came.
///
/// # Errors
/// With what is missing.
pub(super) fn incoming(form: &[(String, String)]) -> Result<Incoming, &'static str> {
    let id = sid(form).ok_or("a text without an id")?;
    let from_raw = field(form, "From").ok_or("a text of nobody")?;
    let from = Number::read(from_raw).ok_or("a text of nobody")?;
    let count: usize = field(form, "NumMedia").and_then(|count| count.parse().ok()).unwrap_or(0);
    let media: Vec<(Media, Option<Value>)> = (0..count.min(MEDIA_MAX)).map(|n| medium(form, n)).collect();
    let mut warnings = Vec::new();
    if count > MEDIA_MAX {
        warnings.push(format!("{} media are not taken", count - MEDIA_MAX));
    }
    Ok(Incoming {
        ids: vec![id.clone()],
        id,
        from,
        from_raw: from_raw.into(),
        content: field(form, "Body").map(Part::text).into_iter().collect(),
        media,
        sent_at: None,
        sent_at_raw: None,
        wish: match field(form, "OptOutType") {
            Some("STOP") => Some(Wish::Stop),
            Some("START") => Some(Wish::Start),
            Some("HELP") => Some(Wish::Help),
            _ => None,
        },
        warnings,
    })
}

fn medium(form: &[(String, String)], n: usize) -> (Media, Option<Value>) {
    let mime = field(form, &format!("MediaContentType{n}"));
    let kind = mime.and_then(|mime| mime.split('/').next());
    let kind = kind.filter(|kind| matches!(*kind, "image" | "audio" | "video")).unwrap_or("file");
    let path = field(form, &format!("MediaUrl{n}")).and_then(path);
    let media = Media {
        kind: kind.into(),
        mime: mime.filter(|mime| mime.len() <= 100).map(SmolStr::from),
        external_id: path.as_ref().map(|(_, id)| id.clone()),
        ..Media::default()
    };
    (media, path.map(|(path, _)| json!({ "media": path })))
}

/// What an address of a medium names, behind the account: never the address itself, which anybody could have written.
fn path(url: &str) -> Option<(String, SmolStr)> {
    let (_, rest) = url.split_once("/Messages/")?;
    let (message, rest) = rest.split_once('/')?;
    let media = rest.strip_prefix("Media/")?;
    let right = (is_id("MM", message) || is_id("SM", message)) && is_id("ME", media);
    right.then(|| (format!("/Messages/{message}/Media/{media}"), media.into()))
}

/// Where a medium is, behind the account; `source` as [`incoming`] wrote it.
pub(super) fn source(source: &Value) -> Option<&str> {
    // It was kept in between.
    source.get("media").and_then(Value::as_str).filter(|path| self::path(path).is_some_and(|(same, _)| same == *path))
}

/// Reads what became of a text of ours. `None`: nothing that anybody would want to know.
///
/// # Errors
/// With what is missing.
pub(super) fn became(form: &[(String, String)], carried: Option<&str>) -> Result<Option<Became>, &'static str> {
    let id = sid(form).ok_or("a text without an id")?;
    let to = field(form, "To").and_then(Number::read).ok_or("a text to nobody")?;
    let word = ["MessageStatus", "SmsStatus"].into_iter().find_map(|name| field(form, name)).ok_or("no status")?;
    let status = match word {
        "accepted" | "scheduled" | "queued" | "sending" => ReceiptStatus::Accepted,
        "sent" => ReceiptStatus::Sent,
        "delivered" => ReceiptStatus::Delivered,
        "read" => ReceiptStatus::Read,
        "undelivered" | "failed" | "canceled" => ReceiptStatus::Failed,
        _ => return Ok(None),
    };
    let code = field(form, "ErrorCode").and_then(normal::id);
    let retryable = code.as_deref().filter(|_| status == ReceiptStatus::Failed).map(passes);
    let stopped = code.as_deref() == Some(STOPPED);
    let (word, ours) = (word.into(), carried.and_then(ours));
    Ok(Some(Became { id, status, word, to, ours, code, retryable, price: None, stopped }))
}

/// Whether a failure may be gone later: a full queue, a phone that is off, a network in trouble.
fn passes(code: &str) -> bool {
    matches!(code, "30001" | "30003" | "30008" | "30017" | "30022" | "63018")
}

/// Path and query, not signed yet, that a text's fate is told to.
pub(super) fn status(ours: &Ours) -> String {
    let call = ours.call.as_ref().map(|call| format!("&t={}", query::encode(call))).unwrap_or_default();
    format!("sms/status?c={}&p={}{call}", query::encode(&ours.command), ours.part)
}

/// Reads what such an address carries.
fn ours(query: &str) -> Option<Ours> {
    let value = |name: &str| query::parameter(query, name).filter(|value| !value.is_empty());
    Some(Ours { command: value("c")?.into(), part: value("p")?.parse().ok()?, call: value("t").map(SmolStr::from) })
}

/// The id of a text that was taken.
///
/// # Errors
/// With what the answer says. Twilio does not know repeats, so what may have been done is unknown.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: &Value) -> Result<SmolStr, SendFailure> {
    if status.is_success() {
        let id = body.get("sid").and_then(Value::as_str).and_then(normal::id);
        return id.ok_or_else(|| SendFailure::unknown("no_id", "the answer names no text"));
    }
    let number = body.get("code").and_then(Value::as_u64);
    let code = number.map_or_else(|| status.as_u16().to_string(), |code| code.to_string());
    // What Twilio writes may name the number, so it is left out.
    let message = format!("the provider answered {} with {code}", status.as_u16());
    let again = |code: String| match api::retry_after(headers) {
        Some(after) => SendFailure::retryable_after(after, code, message.clone()),
        None => SendFailure::retryable(code, message.clone()),
    };
    Err(match (status.as_u16(), number) {
        (429, _) | (_, Some(14_107 | 20_429 | 21_611 | 30_001 | 63_018)) => again(code),
        // The account's own trouble: a person mends it, and what waits goes out then.
        (401, _) | (_, Some(20_003 | 20_005 | 20_008 | 90_010)) => again(format!("account_{code}")),
        (408 | 425 | 503, _) => again(code),
        (500.., _) => SendFailure::unknown(code, message),
        _ => SendFailure::permanent(code, message),
    })
}

#[cfg(test)]
mod tests {
    use adapter::failure::Class;

    use super::*;

    fn class(status: u16, body: &Value) -> (Class, String) {
        let failure = answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body).unwrap_err();
        (failure.class, failure.code.to_string())
    }

    #[test]
    fn what_an_answer_means() {
        let taken = answer(StatusCode::CREATED, &HeaderMap::new(), &json!({ "sid": "SM1", "status": "queued" }));
        assert_eq!(taken, Ok("SM1".into()));
        let retryable = Class::Retryable { after: None };
        for (status, body, expected, code) in [
            (400, json!({ "code": 21610, "message": "unsubscribed" }), Class::Permanent, STOPPED),
            (400, json!({ "code": 21211 }), Class::Permanent, "21211"),
            (400, json!({ "code": 21617 }), Class::Permanent, "21617"),
            (403, json!({ "code": 21408 }), Class::Permanent, "21408"),
            (404, Value::Null, Class::Permanent, "404"),
            (429, json!({ "code": 20429 }), retryable, "20429"),
            (429, Value::Null, retryable, "429"),
            (400, json!({ "code": 21611 }), retryable, "21611"),
            (401, json!({ "code": 20003 }), retryable, "account_20003"),
            (503, Value::Null, retryable, "503"),
            // It may have been sent.
            (500, json!({ "code": 20500 }), Class::Unknown, "20500"),
            (502, Value::Null, Class::Unknown, "502"),
            (504, Value::Null, Class::Unknown, "504"),
        ] {
            assert_eq!(class(status, &body), (expected, code.to_owned()), "{status} {body}");
        }
        let empty = answer(StatusCode::CREATED, &HeaderMap::new(), &Value::Null).unwrap_err();
        assert_eq!(empty.class, Class::Unknown);
    }

    #[test]
    fn a_failure_says_nothing_of_whom_it_was_for() {
        let body = json!({ "code": 21211, "message": "The 'To' number +4930111222 is not a valid phone number." });
        let failure = answer(StatusCode::BAD_REQUEST, &HeaderMap::new(), &body).unwrap_err();
        assert_eq!(failure.message, "the provider answered 400 with 21211");
    }

    #[test]
    fn a_medium_is_fetched_from_the_account_alone() {
        let url = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1";
        assert_eq!(path(url).unwrap().0, "/Messages/MM1/Media/ME1");
        assert_eq!(source(&json!({ "media": "/Messages/MM1/Media/ME1" })), Some("/Messages/MM1/Media/ME1"));
        for bad in [
            "https://evil.example/x",
            "/Messages/MM1/Media/ME1/../..",
            "/Messages/../Media/ME1",
            "/Messages/MM1/Media/",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
        assert_eq!(source(&json!({ "media": "https://evil.example/Messages/MM1/Media/ME1" })), None);
    }

    #[test]
    fn what_an_address_carries_comes_back() {
        for call in [None, Some(SmolStr::from("CA1"))] {
            let told = Ours { command: "main/m 17".into(), part: 2, call };
            let target = status(&told);
            let (_, query) = target.split_once('?').unwrap();
            assert_eq!(ours(query), Some(told));
        }
        for bad in ["", "c=main%2Fm17", "c=main%2Fm17&p=x", "c=&p=1"] {
            assert_eq!(ours(bad), None, "{bad}");
        }
    }
}
