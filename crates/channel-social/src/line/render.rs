//! From a command to messages of the Messaging API. Pure.

use adapter::contract::envelope::{Location, Media, Thread};
use adapter::contract::outbound::OutCommand;
use adapter::contract::{SmolStr, Timestamp};
use adapter::failure::SendFailure;
use adapter::split::{Unit, split};
use serde_json::{Value, json};

use crate::piece::{self, Piece};

/// Longest text of a message, in UTF-16 units.
pub(super) const TEXT_MAX: usize = 5000;
/// Most messages of a call.
pub(super) const MESSAGES_MAX: usize = 5;
/// Largest picture.
const IMAGE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Largest picture that can stand for itself in small.
const PREVIEW_BYTES_MAX: u64 = 1024 * 1024;
/// Largest sound.
const AUDIO_BYTES_MAX: u64 = 200 * 1024 * 1024;

/// Where an answer on a thread goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The user, group or room.
    pub(super) to: SmolStr,
    /// What it may be answered with, while it lasts.
    pub(super) token: Option<(SmolStr, Timestamp)>,
}

/// Where a command goes.
///
/// # Errors
/// Permanent, when it names nobody.
pub(super) fn target(thread: &Thread) -> Result<Target, SendFailure> {
    let given = thread.reply_target.as_ref();
    let to = given.map_or(&thread.key, |target| &target.address);
    // U for users, C for groups, R for rooms, and 32 hexadecimal digits.
    let (first, rest) = to.split_at_checked(1).unwrap_or_default();
    let legal =
        matches!(first, "U" | "C" | "R") && rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !legal {
        return Err(SendFailure::permanent("unusable_address", "the thread names no user, group or room"));
    }
    let token = given.and_then(|target| Some((target.token.clone()?, target.token_until?)));
    Ok(Target { to: to.clone(), token })
}

/// A message, and the file whose address it needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// Complete.
    Whole(Value),
    /// A picture.
    Image(Media),
    /// A sound.
    Audio(Media),
    /// A file of a kind that there is no message for: its name and address as text.
    Link(Media),
}

/// The messages of a command, as many as a call takes in each.
///
/// # Errors
/// Permanent, when it holds what cannot be sent.
pub(super) fn calls(command: &OutCommand) -> Result<Vec<Vec<Message>>, SendFailure> {
    let mut messages = Vec::new();
    for piece in piece::pieces(&command.content)? {
        match piece {
            Piece::Text(text) => messages.extend(texts(&text)),
            Piece::Location(place) => messages.push(location(&place)),
            Piece::Contact(card) => messages.extend(texts(&piece::contact_in_words(&card))),
            Piece::Media(media) => {
                let caption = media.caption.clone();
                messages.push(file(media));
                messages
                    .extend(caption.iter().filter(|caption| !caption.trim().is_empty()).flat_map(|text| texts(text)));
            }
        }
    }
    if let Some(token) = command.reply_to.as_ref().and_then(|message| message.quote_token.as_deref())
        && let Some(Message::Whole(first)) = messages.first_mut()
        && first.get("type").and_then(Value::as_str) == Some("text")
        && let Some(fields) = first.as_object_mut()
    {
        fields.insert("quoteToken".into(), token.into());
    }
    Ok(messages.chunks(MESSAGES_MAX).map(<[Message]>::to_vec).collect())
}

fn texts(text: &str) -> Vec<Message> {
    split(text, TEXT_MAX, Unit::Utf16)
        .into_iter()
        .map(|text| Message::Whole(json!({ "type": "text", "text": text })))
        .collect()
}

fn location(place: &Location) -> Message {
    let degrees = |text: &str| text.parse::<f64>().ok().filter(|degrees| degrees.is_finite());
    let name = place.name.as_deref().or(place.address.as_deref());
    let address = place.address.as_deref().or(place.name.as_deref());
    match (degrees(&place.latitude), degrees(&place.longitude), name, address) {
        (Some(latitude), Some(longitude), Some(name), Some(address)) => Message::Whole(json!({
            "type": "location",
            "title": name.chars().take(100).collect::<String>(),
            "address": address.chars().take(100).collect::<String>(),
            "latitude": latitude,
            "longitude": longitude,
        })),
        // The platform takes no place without a name.
        _ => Message::Whole(json!({ "type": "text", "text": piece::place_in_words(place) })),
    }
}

fn file(media: Media) -> Message {
    let (mime, bytes) = (media.mime.as_deref().unwrap_or_default(), media.bytes.unwrap_or(u64::MAX));
    match media.kind.as_str() {
        // It must stand for itself in small, too: we make no smaller pictures.
        "image" if matches!(mime, "image/jpeg" | "image/png") && bytes <= PREVIEW_BYTES_MAX.min(IMAGE_BYTES_MAX) => {
            Message::Image(media)
        }
        "audio"
            if matches!(mime, "audio/mp4" | "audio/x-m4a" | "audio/mpeg")
                && bytes <= AUDIO_BYTES_MAX
                && media.duration.is_some() =>
        {
            Message::Audio(media)
        }
        _ => Message::Link(media),
    }
}

/// A message with the address of its file.
pub(super) fn with_address(
    message: &Message,
    address: &dyn Fn(&Media) -> Result<String, SendFailure>,
) -> Result<Value, SendFailure> {
    match message {
        Message::Whole(message) => Ok(message.clone()),
        Message::Image(media) => {
            let url = address(media)?;
            Ok(json!({ "type": "image", "originalContentUrl": url, "previewImageUrl": url }))
        }
        Message::Audio(media) => {
            let duration = media.duration.map_or(0, |duration| duration.0);
            Ok(json!({ "type": "audio", "originalContentUrl": address(media)?, "duration": duration }))
        }
        Message::Link(media) => {
            let name = media.name.as_deref().unwrap_or("file");
            Ok(json!({ "type": "text", "text": format!("{name}\n{}", address(media)?) }))
        }
    }
}

#[cfg(test)]
mod tests;
