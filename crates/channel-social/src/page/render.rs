//! From a command to calls: Messenger and Instagram. Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Choice, Media, Thread};
use adapter::contract::outbound::OutCommand;
use adapter::failure::SendFailure;
use adapter::split::{Unit, measure, split};
use serde_json::{Map, Value, json};

use super::Product;
use super::comments::PUBLIC;
use super::normalize::USER_REF;
use crate::meta::bits::{Bit, answer_of, as_lines, bits};
use crate::meta::ticket::Ticket;
use crate::piece::{contact_in_words, place_in_words};

/// Most quick replies, characters on one, and bytes in what comes back.
const QUICK_MAX: usize = 13;
const QUICK_CHARS_MAX: usize = 20;
const QUICK_BYTES_MAX: usize = 1000;
/// Longest public answer, in characters: as much as both products take.
const PUBLIC_CHARS_MAX: usize = 2000;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// Somebody, by the id that the page knows them by.
    Person(SmolStr),
    /// Somebody who pressed a plugin of ours and has not written yet.
    Reference(SmolStr),
    /// In public, under a comment or post.
    Public(SmolStr),
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// The message.
    pub(super) message: Map<String, Value>,
    /// A file that goes along, and as what.
    pub(super) file: Option<(Media, &'static str)>,
    /// The message that it answers.
    pub(super) answers: Option<SmolStr>,
}

/// How a message is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// It answers within a day.
    Response,
    /// A person answers within seven days.
    HumanAgent,
}

impl To {
    /// What a limit counts.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Person(text) | Self::Reference(text) | Self::Public(text) => text,
        }
    }
}

/// Where an answer on a thread goes.
///
/// # Errors
/// Permanent, when it names nobody.
pub(super) fn target(thread: &Thread) -> Result<To, SendFailure> {
    let address = thread.reply_target.as_ref().map_or(&thread.key, |target| &target.address);
    let legal = |text: &str| {
        (1..=200).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let none = || SendFailure::permanent("no_address", "the thread names nobody who can be written to");
    if thread.key.starts_with(PUBLIC) {
        return if legal(address) { Ok(To::Public(address.clone())) } else { Err(none()) };
    }
    match address.strip_prefix(USER_REF) {
        Some(reference) if legal(reference) => Ok(To::Reference(reference.into())),
        None if legal(address) => Ok(To::Person(address.clone())),
        _ => Err(none()),
    }
}

/// Longest text, and what it counts.
pub(super) const fn text_max(product: Product) -> (usize, Unit) {
    match product {
        Product::Messenger => (2000, Unit::Chars),
        Product::Instagram => (1000, Unit::Bytes),
    }
}

/// The calls of a command, in order.
///
/// # Errors
/// Permanent, when something of it cannot be sent; then nothing is.
pub(super) fn calls(command: &OutCommand, product: Product, to: &To) -> Result<Vec<Call>, SendFailure> {
    let public = matches!(to, To::Public(_));
    let (max, unit) = if public { (PUBLIC_CHARS_MAX, Unit::Chars) } else { text_max(product) };
    let mut calls = Vec::new();
    let texts = |calls: &mut Vec<Call>, text: &str| {
        calls.extend(split(text, max, unit).into_iter().map(|piece| call(json!({ "text": piece }), None)));
    };
    for bit in bits(&command.content)? {
        match bit {
            Bit::Text(text) => texts(&mut calls, &text),
            Bit::Location(place) => texts(&mut calls, &place_in_words(&place)),
            Bit::Contact(card) => texts(&mut calls, &contact_in_words(&card)),
            Bit::Ask(text, choices) if public || !quick(&choices) => texts(&mut calls, &as_lines(&text, &choices)),
            Bit::Ask(text, choices) => {
                let mut pieces = split(&text, max, unit);
                let last = pieces.pop().filter(|last| !last.trim().is_empty()).unwrap_or_else(|| "…".to_owned());
                calls.extend(pieces.into_iter().map(|piece| call(json!({ "text": piece }), None)));
                let replies: Vec<Value> = choices
                    .iter()
                    .map(
                        |choice| json!({ "content_type": "text", "title": choice.title, "payload": answer_of(choice) }),
                    )
                    .collect();
                calls.push(call(json!({ "text": last, "quick_replies": replies }), None));
            }
            Bit::Media(_) if public => {
                return Err(SendFailure::permanent("unsupported", "in public, only text can be answered"));
            }
            Bit::Media(media) => {
                let caption = media.caption.clone().filter(|caption| !caption.trim().is_empty());
                calls.push(file(product, media)?);
                if let Some(caption) = caption {
                    texts(&mut calls, &caption);
                }
            }
            Bit::Template(template) if product == Product::Messenger && !public => {
                calls.push(call(json!({ "template": template.filled() }), None));
            }
            Bit::Template(_) => {
                return Err(SendFailure::permanent("unsupported", "there are no templates here"));
            }
        }
    }
    if let (Some(first), Some(answered)) = (calls.first_mut(), &command.reply_to) {
        first.answers = answered.external_id.clone();
    }
    Ok(calls)
}

fn call(message: Value, file: Option<(Media, &'static str)>) -> Call {
    let message = match message {
        Value::Object(message) => message,
        _ => Map::new(),
    };
    Call { message, file, answers: None }
}

fn quick(choices: &[Choice]) -> bool {
    choices.len() <= QUICK_MAX
        && choices.iter().all(|choice| {
            (1..=QUICK_CHARS_MAX).contains(&measure(&choice.title, Unit::Chars))
                && answer_of(choice).len() <= QUICK_BYTES_MAX
        })
}

/// Largest file, in bytes.
pub(super) fn bytes_max(product: Product, kind: &str) -> u64 {
    const MEGABYTE: u64 = 1024 * 1024;
    match (product, kind) {
        (Product::Instagram, "image") => 8 * MEGABYTE,
        _ => 25 * MEGABYTE,
    }
}

fn file(product: Product, media: Media) -> Result<Call, SendFailure> {
    let kind = match media.mime.as_deref().and_then(|mime| mime.split('/').next()) {
        Some("image") => "image",
        Some("video") => "video",
        Some("audio") => "audio",
        _ => "file",
    };
    let most = bytes_max(product, kind);
    if media.bytes.is_some_and(|bytes| bytes > most) {
        return Err(SendFailure::permanent("media_too_large", format!("a file of type {kind} may have {most} bytes")));
    }
    Ok(call(json!({}), Some((media, kind))))
}

/// The whole message. `file` is what stands for it: its id, or its address.
pub(super) fn message(
    (command, part): (&OutCommand, u32),
    product: Product,
    call: &Call,
    to: &To,
    manner: Manner,
    file: Option<&Value>,
) -> Value {
    let mut message = call.message.clone();
    if let (Some((_, kind)), Some(payload)) = (&call.file, file) {
        message.insert("attachment".into(), json!({ "type": kind, "payload": payload }));
    }
    if product == Product::Messenger
        && let Some(ticket) = Ticket::write(command, part)
    {
        // It comes back with the echo.
        message.insert("metadata".into(), ticket.into());
    }
    let recipient = match to {
        To::Reference(reference) => json!({ "user_ref": reference.as_str() }),
        to => json!({ "id": to.as_str() }),
    };
    let mut whole = Map::new();
    whole.insert("recipient".into(), recipient);
    match manner {
        // It is allowed whenever, so it needs no other permission.
        _ if call.message.contains_key("template") => whole.insert("messaging_type".into(), "UTILITY".into()),
        Manner::Response => whole.insert("messaging_type".into(), "RESPONSE".into()),
        Manner::HumanAgent => {
            whole.insert("tag".into(), "HUMAN_AGENT".into());
            whole.insert("messaging_type".into(), "MESSAGE_TAG".into())
        }
    };
    if let Some(answers) = &call.answers {
        whole.insert("reply_to".into(), json!({ "mid": answers.as_str() }));
    }
    whole.insert("message".into(), Value::Object(message));
    Value::Object(whole)
}

#[cfg(test)]
mod tests;
