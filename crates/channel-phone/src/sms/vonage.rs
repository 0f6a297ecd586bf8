//! Texts at Vonage (SMS API): parameters of its webhooks, fields of its API, and what its answers mean. Pure.

use std::time::Duration;

use adapter::contract::envelope::{Part, ReceiptStatus};
use adapter::contract::{SmolStr, Timestamp};
use adapter::failure::SendFailure;
use adapter::http::{HeaderMap, StatusCode};
use adapter::split::is_gsm7;
use serde_json::Value;

use super::normal::{self, Became, Incoming, Ours};
use super::number::Number;
use super::parts::Piece;
use crate::api;
use crate::read::At;

/// Longest reference of ours that comes back with a receipt.
const REFERENCE_CHARS_MAX: usize = 100;
/// Longest address for receipts that goes with a text.
pub(super) const CALLBACK_MAX: usize = 100;
/// Most parts of a text: what is kept of one fits into one value.
const PARTS_MAX: u32 = 64;
/// What comes before the reference's fields, which a command's id does not hold.
const BETWEEN: char = '#';

/// What a request tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// A whole text.
    Text(Box<Incoming>),
    /// A part of one.
    Part(Box<Piece>),
    /// What became of a text of ours.
    Became(Box<Became>),
    /// Nothing that anybody would want to know.
    Nothing,
}

/// Reads a text that came, or a part of it.
///
/// # Errors
/// With what is missing.
pub(super) fn incoming(event: &Value) -> Result<Told, &'static str> {
    let at = At::new(event);
    let id = at.id("messageId").and_then(|id| normal::id(&id)).ok_or("a text without an id")?;
    let from_raw = at.id("msisdn").ok_or("a text of nobody")?;
    let from = Number::read(&from_raw).ok_or("a text of nobody")?;
    let content = match (at.text("type"), at.text("text")) {
        (Some("binary"), _) => Part::Unsupported { kind: "binary".into() },
        (_, Some(text)) => Part::text(text),
        (_, None) if at.get("data").exists() => Part::Unsupported { kind: "binary".into() },
        (_, None) => Part::text(""),
    };
    let sent_at_raw = at.text("message-timestamp").filter(|text| text.len() <= 64).map(SmolStr::from);
    let mut text = Incoming {
        ids: vec![id.clone()],
        id,
        from,
        from_raw,
        content: vec![content],
        media: Vec::new(),
        sent_at: sent_at_raw.as_deref().and_then(time),
        sent_at_raw,
        wish: None,
        warnings: Vec::new(),
    };
    if !at.flag("concat") {
        return Ok(Told::Text(Box::new(text)));
    }
    let place = (at.id("concat-ref"), at.small("concat-part"), at.small("concat-total"));
    match place {
        (Some(reference), Some(number), Some(total))
            if reference.len() <= 32 && (1..=total).contains(&number) && (2..=PARTS_MAX).contains(&total) =>
        {
            let to = at.id("to").unwrap_or_default();
            Ok(Told::Part(Box::new(Piece { to, reference, number, total, text })))
        }
        _ => {
            text.warnings.push("it is a part of a text, and which one cannot be read".into());
            Ok(Told::Text(Box::new(text)))
        }
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::civil::DateTime = text.trim_end_matches(" UTC").parse().ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

/// Reads what became of a text of ours.
///
/// # Errors
/// With what is missing.
pub(super) fn became(event: &Value) -> Result<Told, &'static str> {
    let at = At::new(event);
    let id = at.id("messageId").and_then(|id| normal::id(&id)).ok_or("a text without an id")?;
    // Here the number is the customer's, too: whom the text was for.
    let to = at.id("msisdn").and_then(|number| Number::read(&number)).ok_or("a text to nobody")?;
    let word = at.text("status").ok_or("no status")?;
    let status = match word {
        "submitted" | "accepted" => ReceiptStatus::Accepted,
        "buffered" => ReceiptStatus::Delayed,
        "delivered" => ReceiptStatus::Delivered,
        "unknown" => ReceiptStatus::Unknown,
        "failed" | "rejected" | "expired" | "undelivered" | "deleted" => ReceiptStatus::Failed,
        _ => return Ok(Told::Nothing),
    };
    let code = at.id("err-code").and_then(|code| normal::id(&code)).filter(|code| code != "0");
    // Absent for now, busy, a network in trouble.
    let retryable = match &code {
        Some(code) if status == ReceiptStatus::Failed => Some(matches!(code.as_str(), "2" | "7" | "8")),
        _ => None,
    };
    let ours = at.text("client-ref").and_then(ours);
    let price = at.id("price").filter(|price| price.len() <= 32);
    let word = word.into();
    Ok(Told::Became(Box::new(Became { id, status, word, to, ours, code, retryable, price, stopped: false })))
}

/// What goes with a text and comes back; `None`: it is longer than Vonage takes.
pub(super) fn reference(ours: &Ours) -> Option<String> {
    let call = ours.call.as_ref().map(|call| format!("{BETWEEN}{call}")).unwrap_or_default();
    let text = format!("{}{BETWEEN}{}{call}", ours.command, ours.part);
    (text.chars().count() <= REFERENCE_CHARS_MAX).then_some(text)
}

/// Reads it.
fn ours(text: &str) -> Option<Ours> {
    let mut fields = text.split(BETWEEN);
    let command = fields.next().filter(|command| !command.is_empty())?;
    let part = fields.next()?.parse().ok()?;
    let call = fields.next().filter(|call| !call.is_empty()).map(SmolStr::from);
    if fields.next().is_some() { None } else { Some(Ours { command: command.into(), part, call }) }
}

/// The type of a text: what the GSM alphabet lacks goes as Unicode, or it would come as question marks.
pub(super) fn kind(text: &str) -> &'static str {
    if is_gsm7(text) { "text" } else { "unicode" }
}

/// The ids of a text that was taken: one for each part that the network sends.
///
/// # Errors
/// With what the answer says. Vonage does not know repeats, so what may have been done in part is unknown.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap, body: &Value) -> Result<Vec<SmolStr>, SendFailure> {
    let at = At::new(body);
    if !status.is_success() {
        let message = format!("the provider answered {}", status.as_u16());
        return Err(match status.as_u16() {
            401 => SendFailure::retryable("account_401", message),
            500.. if status != StatusCode::SERVICE_UNAVAILABLE => {
                SendFailure::unknown(status.as_u16().to_string(), message)
            }
            _ => api::failed_status(status, headers, &message),
        });
    }
    let parts: Vec<At<'_>> = at.list("messages").collect();
    let ids: Vec<SmolStr> =
        parts.iter().filter(|part| is_taken(**part)).filter_map(|part| normal::id(&part.id("message-id")?)).collect();
    let taken = parts.iter().filter(|part| is_taken(**part)).count();
    match parts.iter().find(|part| !is_taken(**part)) {
        None if parts.is_empty() => {
            Err(SendFailure::unknown("no_status", "the answer says nothing of what became of it"))
        }
        None if ids.is_empty() => Err(SendFailure::unknown("no_id", "the answer names no text")),
        None => Ok(ids),
        Some(part) if taken == 0 => Err(refused(*part)),
        // Some of it reached the customer: the whole again would be a repeat.
        Some(_) => Err(SendFailure::unknown("partly_sent", "only some parts of a text were taken")),
    }
}

fn is_taken(part: At<'_>) -> bool {
    part.id("status").as_deref() == Some("0")
}

fn refused(part: At<'_>) -> SendFailure {
    let Some(code) = part.id("status").and_then(|code| normal::id(&code)) else {
        return SendFailure::unknown("no_status", "the answer says nothing of what became of it");
    };
    // What Vonage writes may name the number, so it is left out.
    let message = format!("the provider refused it with {code}");
    match code.as_str() {
        "1" => match part.text("error-text").and_then(wait) {
            Some(after) => SendFailure::retryable_after(after, code, message),
            None => SendFailure::retryable(code, message),
        },
        "5" | "10" => SendFailure::retryable(code, message),
        // The account's own trouble (key, signature, barred, balance): a person mends it, and what waits goes out then.
        "4" | "8" | "9" | "11" | "14" | "32" => SendFailure::retryable(format!("account_{code}"), message),
        _ => SendFailure::permanent(code, message),
    }
}

/// `Throughput Rate Exceeded - please wait [ 250 ] and retry`: milliseconds.
fn wait(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once('[')?;
    let (number, _) = rest.split_once(']')?;
    number.trim().parse::<u32>().ok().map(|ms| Duration::from_millis(ms.min(60_000).into()))
}

#[cfg(test)]
mod tests {
    use adapter::failure::Class;
    use serde_json::json;

    use super::*;

    fn of(body: &Value) -> Result<Vec<SmolStr>, SendFailure> {
        answer(StatusCode::OK, &HeaderMap::new(), body)
    }

    #[test]
    fn every_part_of_an_answer_counts() {
        let part = |status: &str, id: &str| json!({ "to": "4930111222", "message-id": id, "status": status });
        let answer = |parts: Vec<Value>| json!({ "message-count": parts.len().to_string(), "messages": parts });
        assert_eq!(of(&answer(vec![part("0", "A"), part("0", "B")])), Ok(vec!["A".into(), "B".into()]));
        let failed = |parts: Vec<Value>| {
            let failure = of(&answer(parts)).unwrap_err();
            (failure.class, failure.code.to_string())
        };
        assert_eq!(failed(vec![part("0", "A"), part("1", "")]), (Class::Unknown, "partly_sent".into()));
        assert_eq!(failed(vec![]), (Class::Unknown, "no_status".into()));
        assert_eq!(failed(vec![json!({ "status": "0" })]), (Class::Unknown, "no_id".into()));
        assert_eq!(failed(vec![json!({ "error-text": "?" })]), (Class::Unknown, "no_status".into()));
        let retryable = Class::Retryable { after: None };
        for (status, class, code) in [
            ("1", retryable, "1"),
            ("5", retryable, "5"),
            ("4", retryable, "account_4"),
            ("9", retryable, "account_9"),
            ("2", Class::Permanent, "2"),
            ("3", Class::Permanent, "3"),
            ("6", Class::Permanent, "6"),
            ("7", Class::Permanent, "7"),
            ("15", Class::Permanent, "15"),
            ("29", Class::Permanent, "29"),
        ] {
            assert_eq!(failed(vec![part(status, "")]), (class, code.into()), "{status}");
        }
        let hint = json!({ "messages": [{ "status": "1", "error-text": "Throughput Rate Exceeded - please wait [ 250 ] and retry" }] });
        assert_eq!(of(&hint).unwrap_err().class, Class::Retryable { after: Some(Duration::from_millis(250)) });
    }

    #[test]
    fn a_status_alone_says_little() {
        let class = |status: u16| {
            answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &Value::Null).unwrap_err().class
        };
        let retryable = Class::Retryable { after: None };
        assert_eq!((class(429), class(503), class(401)), (retryable, retryable, retryable));
        assert_eq!((class(500), class(502), class(504)), (Class::Unknown, Class::Unknown, Class::Unknown));
        assert_eq!(class(420), Class::Permanent);
    }

    #[test]
    fn a_reference_comes_back_whole_or_not_at_all() {
        for call in [None, Some(SmolStr::from("aaaaaaaa-bbbb-cccc-dddd-0123456789ab"))] {
            let told = Ours { command: "main/m17".into(), part: 2, call };
            assert_eq!(ours(&reference(&told).unwrap()), Some(told));
        }
        let long = Ours { command: "m".repeat(100).into(), part: 0, call: None };
        assert_eq!(reference(&long), None);
        for bad in ["", "main/m17", "main/m17#x", "#1", "a#1#b#c"] {
            assert_eq!(ours(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_the_alphabet_lacks_goes_as_unicode() {
        assert_eq!((kind("Grüße für 5 €"), kind("привет"), kind("ok 👍")), ("text", "unicode", "unicode"));
    }
}
