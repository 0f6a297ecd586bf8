//! What a command says, in the few forms that providers have for it. Pure.
//!
//! Nothing is left out: what a provider has no form for is said in words, and what cannot be said either fails the
//! command before anything of it was sent.

use crate::failure::SendFailure;
use contract::envelope::{ContactCard, Location, Media, MediaStatus, Part};

/// Most pieces of one command: a message that would be more calls is a mistake.
const PIECES_MAX: usize = 128;

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// A file from the store.
    Media(Media),
    /// A place.
    Location(Location),
    /// Somebody's details.
    Contact(ContactCard),
}

/// The pieces of a message, in order. Texts that follow each other are one.
///
/// # Errors
/// Permanent, when a part is of a type that cannot be sent, a file is not in the store, or nothing is left.
pub fn pieces(parts: &[Part]) -> Result<Vec<Piece>, SendFailure> {
    let mut pieces: Vec<Piece> = Vec::new();
    for part in parts {
        let piece = match part {
            Part::Text(text) => Piece::Text(text.visible.clone().unwrap_or_else(|| text.body.clone())),
            Part::System { body } => Piece::Text(body.clone()),
            Part::Choice(choice) => Piece::Text(choice.title.clone()),
            Part::Link { url, title, .. } => {
                let words = [title.as_deref(), url.as_deref()];
                Piece::Text(words.into_iter().flatten().collect::<Vec<_>>().join(" "))
            }
            Part::Sticker { emoji: Some(emoji), .. } => Piece::Text(emoji.to_string()),
            Part::Location(place) => Piece::Location(place.clone()),
            Part::ContactCard(card) => Piece::Contact(card.clone()),
            Part::Media(media) => {
                if media.store_key.is_none() || media.status == Some(MediaStatus::Unavailable) {
                    return Err(SendFailure::permanent("media_gone", "an attachment is not in the store"));
                }
                Piece::Media(media.clone())
            }
            Part::Template { .. } => {
                return Err(SendFailure::permanent("unsupported", "this provider has no templates"));
            }
            Part::Sticker { .. }
            | Part::Form { .. }
            | Part::Order { .. }
            | Part::Unsupported { .. }
            | Part::Unknown(_) => {
                return Err(SendFailure::permanent("unsupported", "a part of a type that cannot be sent here"));
            }
        };
        match (pieces.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => {
                before.push('\n');
                before.push_str(&text);
            }
            (_, piece) => pieces.push(piece),
        }
    }
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.trim().is_empty()));
    if pieces.is_empty() {
        return Err(SendFailure::permanent("empty", "there is nothing to send"));
    }
    if pieces.len() > PIECES_MAX {
        return Err(SendFailure::permanent("too_long", "the message has too many parts"));
    }
    Ok(pieces)
}

/// Something in brackets, with its name.
pub fn named(kind: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("[{kind}: {name}]"),
        None => format!("[{kind}]"),
    }
}

/// A place in words, with an address that every map opens.
pub fn place_in_words(place: &Location) -> String {
    let link = format!("https://www.openstreetmap.org/?mlat={0}&mlon={1}", place.latitude, place.longitude);
    let words = [place.name.as_deref(), place.address.as_deref(), Some(link.as_str())];
    words.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Somebody's details in words.
pub fn contact_in_words(card: &ContactCard) -> String {
    let name = card.name.iter().map(ToString::to_string);
    let rest = card.phones.iter().chain(&card.emails).map(ToString::to_string);
    let words: Vec<String> = name.chain(rest).collect();
    if words.is_empty() { "[contact]".to_owned() } else { words.join("\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(parts: serde_json::Value) -> Result<Vec<Piece>, SendFailure> {
        pieces(&serde_json::from_value::<Vec<Part>>(parts).unwrap())
    }

    #[test]
    fn texts_that_follow_each_other_are_one() {
        let found = of(json!([
            { "type": "text", "body": "see" },
            { "type": "link", "kind": "url", "url": "https://shop.example", "title": "Shop" },
            { "type": "media", "kind": "image", "store_key": "k" },
            { "type": "text", "body": "  " },
        ]))
        .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Piece::Text("see\nShop https://shop.example".into()));
    }

    #[test]
    fn what_cannot_be_said_fails_before_anything_is_sent() {
        let template = json!([{ "type": "text", "body": "a" }, { "type": "template", "name": "t" }]);
        for (parts, code) in [
            (template, "unsupported"),
            (json!([{ "type": "hologram" }]), "unsupported"),
            (json!([{ "type": "media", "kind": "image", "status": "unavailable", "store_key": "k" }]), "media_gone"),
            (json!([{ "type": "text", "body": " " }]), "empty"),
        ] {
            assert_eq!(of(parts).unwrap_err().code, code);
        }
    }
}
