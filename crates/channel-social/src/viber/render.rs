//! From a command to messages of the bot API. Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::Media;
use adapter::contract::outbound::OutCommand;
use adapter::failure::SendFailure;
use adapter::split::{Unit, split};
use serde_json::{Value, json};

use crate::piece::{self, Piece};

/// Longest text, in characters.
pub(super) const TEXT_MAX: usize = 7000;
/// Largest body of a call is 30 KB; some of it is not text.
const TEXT_BYTES_MAX: usize = 28_000;
/// Longest text under a picture, in characters.
const CAPTION_MAX: usize = 512;
const PICTURE_BYTES_MAX: u64 = 1024 * 1024;
const VIDEO_BYTES_MAX: u64 = 26 * 1024 * 1024;
/// Largest file.
pub(super) const FILE_BYTES_MAX: u64 = 50 * 1024 * 1024;

/// A message, and the file whose address it needs as `media`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// Its fields, without receiver and sender.
    pub(super) fields: Value,
    /// The file.
    pub(super) file: Option<Media>,
}

/// Where a command goes.
///
/// # Errors
/// Permanent, when it names nobody.
pub(super) fn target(command: &OutCommand) -> Result<SmolStr, SendFailure> {
    let to = command.thread.reply_target.as_ref().map_or(&command.thread.key, |target| &target.address);
    let legal = !to.is_empty() && to.len() <= 128 && to.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { Ok(to.clone()) } else { Err(SendFailure::permanent("unusable_address", "the thread names no user")) }
}

/// The messages of a command, in order.
///
/// # Errors
/// Permanent, when it holds what cannot be sent.
pub(super) fn messages(command: &OutCommand) -> Result<Vec<Message>, SendFailure> {
    let mut messages = Vec::new();
    for piece in piece::pieces(&command.content)? {
        match piece {
            Piece::Text(text) => messages.extend(texts(&text)),
            Piece::Location(place) => {
                let degrees = |text: &str| text.parse::<f64>().ok().filter(|degrees| degrees.is_finite());
                match (degrees(&place.latitude), degrees(&place.longitude)) {
                    (Some(lat), Some(lon)) => {
                        messages.push(whole(json!({ "type": "location", "location": { "lat": lat, "lon": lon } })));
                        let words = [place.name.as_deref(), place.address.as_deref()];
                        let words = words.into_iter().flatten().collect::<Vec<_>>().join("\n");
                        if !words.is_empty() {
                            messages.extend(texts(&words));
                        }
                    }
                    _ => return Err(SendFailure::permanent("unusable_location", "a place without degrees")),
                }
            }
            Piece::Contact(card) => match (card.name.as_deref(), card.phones.first()) {
                (Some(name), Some(phone)) if name.chars().count() <= 28 && phone.len() <= 18 => {
                    let contact = json!({ "name": name, "phone_number": phone.as_str() });
                    messages.push(whole(json!({ "type": "contact", "contact": contact })));
                }
                _ => messages.extend(texts(&piece::contact_in_words(&card))),
            },
            Piece::Media(media) => {
                let rest = file(media, &mut messages)?;
                messages.extend(rest.iter().flat_map(|text| texts(text)));
            }
        }
    }
    Ok(messages)
}

fn whole(fields: Value) -> Message {
    Message { fields, file: None }
}

fn texts(text: &str) -> Vec<Message> {
    let pieces = split(text, TEXT_MAX, Unit::Chars).into_iter();
    let pieces = pieces.flat_map(|piece| split(&piece, TEXT_BYTES_MAX, Unit::Bytes));
    pieces.map(|text| whole(json!({ "type": "text", "text": text }))).collect()
}

/// Adds the message of a file; returns the text that does not fit under it.
fn file(media: Media, messages: &mut Vec<Message>) -> Result<Option<String>, SendFailure> {
    let (mime, bytes) = (media.mime.as_deref().unwrap_or_default(), media.bytes.unwrap_or(u64::MAX));
    let caption = media.caption.clone().filter(|caption| !caption.trim().is_empty());
    let picture = media.kind == "image" && bytes <= PICTURE_BYTES_MAX && matches!(mime, "image/jpeg" | "image/png");
    let (fields, rest) = if picture {
        match caption {
            Some(caption) if caption.chars().count() <= CAPTION_MAX => {
                (json!({ "type": "picture", "text": caption }), None)
            }
            rest => (json!({ "type": "picture", "text": "" }), rest),
        }
    } else if media.kind == "video" && bytes <= VIDEO_BYTES_MAX && mime == "video/mp4" {
        (json!({ "type": "video", "size": bytes }), caption)
    } else if bytes <= FILE_BYTES_MAX {
        let name: String = media.name.as_deref().unwrap_or("file").chars().take(256).collect();
        (json!({ "type": "file", "size": bytes, "file_name": name }), caption)
    } else {
        return Err(SendFailure::permanent("media_too_large", "the file is larger than the platform takes"));
    };
    messages.push(Message { fields, file: Some(media) });
    Ok(rest)
}

#[cfg(test)]
mod tests;
