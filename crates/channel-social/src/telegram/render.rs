//! From a command to calls of the Bot API. Pure.
//!
//! Texts go as plain text: what a customer of an agent reads is what the agent wrote, whatever signs are in it.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Media, Thread};
use adapter::contract::outbound::OutCommand;
use adapter::failure::SendFailure;
use adapter::split::{Unit, measure, split};
use serde_json::{Map, Value, json};

use super::address::{Address, number};
use crate::piece::{self, Piece};

/// Longest text of a message, in UTF-16 units.
pub(super) const TEXT_MAX: usize = 4096;
/// Longest text under a medium, in UTF-16 units.
const CAPTION_MAX: usize = 1024;
/// Largest photograph; a larger one goes as a document.
const PHOTO_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Largest file.
pub(super) const FILE_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// A call to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// The method's name.
    pub(super) method: &'static str,
    /// Its parameters, without the chat.
    pub(super) parameters: Map<String, Value>,
    /// The file to send along, and the parameter that it is.
    pub(super) file: Option<(&'static str, Media)>,
}

/// Where an answer on a thread goes.
///
/// # Errors
/// Permanent, when it names no chat.
pub(super) fn target(thread: &Thread) -> Result<Address, SendFailure> {
    let target = thread.reply_target.as_ref().map_or(&thread.key, |target| &target.address);
    Address::parse(target).ok_or_else(|| SendFailure::permanent("unusable_address", "the thread names no chat"))
}

/// The calls of a command, in order.
///
/// # Errors
/// Permanent, when it holds what cannot be sent.
pub(super) fn calls(command: &OutCommand) -> Result<Vec<Call>, SendFailure> {
    let mut calls = Vec::new();
    for piece in piece::pieces(&command.content)? {
        match piece {
            Piece::Text(text) => calls.extend(texts(&text)),
            Piece::Media(media) => {
                let (call, rest) = file(media)?;
                calls.push(call);
                calls.extend(rest.iter().flat_map(|text| texts(text)));
            }
            Piece::Location(place) => {
                let mut parameters = Map::from_iter([
                    ("latitude".to_owned(), degrees(&place.latitude)?),
                    ("longitude".to_owned(), degrees(&place.longitude)?),
                ]);
                let method = match (&place.name, &place.address) {
                    (None, None) => "sendLocation",
                    (name, address) => {
                        let name = name.as_ref().map_or_else(String::new, ToString::to_string);
                        parameters.insert("title".into(), name.into());
                        parameters.insert("address".into(), address.clone().unwrap_or_default().into());
                        "sendVenue"
                    }
                };
                calls.push(Call { method, parameters, file: None });
            }
            Piece::Contact(card) => {
                // Without a number the platform takes no contact.
                let Some(phone) = card.phones.first() else {
                    calls.extend(texts(&piece::named("contact", card.name.as_deref())));
                    continue;
                };
                let mut parameters = Map::from_iter([
                    ("phone_number".to_owned(), Value::from(phone.as_str())),
                    ("first_name".to_owned(), card.name.as_deref().unwrap_or(phone).into()),
                ]);
                if let Some(raw) = &card.raw {
                    parameters.insert("vcard".into(), raw.as_str().into());
                }
                calls.push(Call { method: "sendContact", parameters, file: None });
            }
        }
    }
    let answered = command.reply_to.as_ref().and_then(|message| message.external_id.as_deref()).and_then(number);
    if let (Some(first), Some(message)) = (calls.first_mut(), answered.and_then(|number| number.parse::<u64>().ok())) {
        // What was answered may be gone; the answer goes all the same.
        let reply = json!({ "message_id": message, "allow_sending_without_reply": true });
        first.parameters.insert("reply_parameters".into(), reply);
    }
    Ok(calls)
}

fn texts(text: &str) -> Vec<Call> {
    let parts = split(text, TEXT_MAX, Unit::Utf16).into_iter();
    let call = |text: String| Call {
        method: "sendMessage",
        parameters: Map::from_iter([("text".to_owned(), Value::from(text))]),
        file: None,
    };
    parts.map(call).collect()
}

/// The call that sends a file, and the text that did not fit under it.
fn file(media: Media) -> Result<(Call, Option<String>), SendFailure> {
    if media.bytes.is_some_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(SendFailure::permanent("media_too_large", "the file is larger than the platform takes"));
    }
    let mime = media.mime.as_deref().unwrap_or_default();
    let small = media.bytes.is_some_and(|bytes| bytes <= PHOTO_BYTES_MAX);
    let (method, field) = match (media.kind.as_str(), media.voice) {
        ("image", _) if mime == "image/gif" => ("sendAnimation", "animation"),
        ("image", _) if small && matches!(mime, "image/jpeg" | "image/png" | "image/webp") => ("sendPhoto", "photo"),
        ("video", _) if mime == "video/mp4" => ("sendVideo", "video"),
        ("audio", true) if matches!(mime, "audio/ogg" | "audio/mpeg" | "audio/mp4") => ("sendVoice", "voice"),
        ("audio", false) if matches!(mime, "audio/mpeg" | "audio/mp4") => ("sendAudio", "audio"),
        _ => ("sendDocument", "document"),
    };
    let mut parameters = Map::new();
    let mut rest = None;
    match media.caption.as_deref().map(str::trim).filter(|caption| !caption.is_empty()) {
        Some(caption) if measure(caption, Unit::Utf16) <= CAPTION_MAX => {
            parameters.insert("caption".into(), caption.into());
        }
        caption => rest = caption.map(str::to_owned),
    }
    Ok((Call { method, parameters, file: Some((field, media)) }, rest))
}

fn degrees(text: &str) -> Result<Value, SendFailure> {
    let degrees = text.parse::<f64>().ok().filter(|degrees| degrees.is_finite()).map(Value::from);
    degrees.ok_or_else(|| SendFailure::permanent("unusable_location", "a place without degrees"))
}

/// The parameters of a call for one chat.
pub(super) fn addressed(call: &Call, to: &Address, chat: &SmolStr) -> Map<String, Value> {
    let mut parameters = call.parameters.clone();
    // A chat's id is a number on the wire; as text it would be taken for a channel's name.
    parameters.insert("chat_id".into(), chat.parse::<i64>().map_or_else(|_| chat.as_str().into(), Value::from));
    if let Some(topic) = to.topic.as_ref().and_then(|topic| topic.parse::<u64>().ok()) {
        parameters.insert("message_thread_id".into(), topic.into());
    }
    if let Some(business) = &to.business {
        parameters.insert("business_connection_id".into(), business.as_str().into());
    }
    parameters
}

#[cfg(test)]
mod tests;
