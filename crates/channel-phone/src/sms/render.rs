//! From a command to texts. Pure.

use adapter::contract::envelope::{Media, ThreadKind};
use adapter::contract::outbound::OutCommand;
use adapter::failure::SendFailure;
use adapter::split::{Unit, split};

use super::number::Number;
use super::segment::segments;
use crate::piece::{self, Piece};

/// Longest text in UTF-16 units: what both providers send as one.
pub(super) const TEXT_MAX: usize = 1600;
/// Largest file that goes out as MMS.
pub(super) const FILE_BYTES_MAX: u64 = 5 * 1024 * 1024;

/// A text, or a file with a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// Which one of the command, from 0.
    pub(super) part: u32,
    /// What it says; empty: only the file.
    pub(super) text: String,
    /// The file.
    pub(super) file: Option<Media>,
}

/// Where a command goes: texts on a call go to whoever called.
///
/// # Errors
/// Permanent, when it names nobody who can be written to.
pub(super) fn target(command: &OutCommand) -> Result<Number, SendFailure> {
    let address = command.thread.reply_target.as_ref().map(|target| target.address.as_str());
    let address = match command.thread.kind {
        ThreadKind::Call => address,
        _ => Some(address.unwrap_or(&command.thread.key)),
    };
    let number = address.and_then(Number::read).filter(Number::is_reachable);
    number.ok_or_else(|| SendFailure::permanent("unusable_address", "there is no number that could be written to"))
}

/// The texts of a command, in order.
///
/// # Errors
/// Permanent, when it holds what cannot be sent, or would cost too much.
pub(super) fn messages(command: &OutCommand, mms: bool, segments_max: u32) -> Result<Vec<Message>, SendFailure> {
    let mut all: Vec<(String, Option<Media>)> = Vec::new();
    for piece in piece::pieces(&command.content)? {
        match piece {
            Piece::Text(text) => all.extend(split(&text, TEXT_MAX, Unit::Utf16).into_iter().map(|text| (text, None))),
            Piece::Location(place) => all.push((piece::place_in_words(&place), None)),
            Piece::Contact(card) => {
                let words = piece::contact_in_words(&card);
                all.extend(split(&words, TEXT_MAX, Unit::Utf16).into_iter().map(|text| (text, None)));
            }
            Piece::Media(media) if !mms => {
                let kind = piece::named(&media.kind, None);
                return Err(SendFailure::permanent("unsupported", format!("{kind} cannot be sent as a text")));
            }
            Piece::Media(media) => {
                if media.bytes.is_some_and(|bytes| bytes > FILE_BYTES_MAX) {
                    return Err(SendFailure::permanent("media_too_large", "an attachment is too large for MMS"));
                }
                let mut texts = split(media.caption.as_deref().unwrap_or_default(), TEXT_MAX, Unit::Utf16).into_iter();
                all.push((texts.next().unwrap_or_default(), Some(media)));
                all.extend(texts.map(|text| (text, None)));
            }
        }
    }
    let cost: u64 = all.iter().map(|(text, _)| u64::from(segments(text))).sum();
    if cost > u64::from(segments_max) {
        let why = format!("it takes {cost} segments, and at most {segments_max} are paid for");
        return Err(SendFailure::permanent("too_long", why));
    }
    let message = |(part, (text, file)): (u32, (String, Option<Media>))| Message { part, text, file };
    Ok((0_u32..).zip(all).map(message).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kit;

    fn direct() -> Value {
        json!({ "key": "+4930111222", "kind": "direct" })
    }

    #[test]
    fn a_command_goes_to_the_customers_number() {
        let to = |thread: Value| target(&kit::command(thread, json!([]))).map(|number| number.as_str().to_owned());
        let reply = |address: &str| json!({ "key": "CA1", "kind": "call", "reply_target": { "address": address } });
        assert_eq!(to(direct()).unwrap(), "+4930111222");
        assert_eq!(to(reply("+4930111333")).unwrap(), "+4930111333");
        for nobody in [
            json!({ "key": "ACME", "kind": "direct" }),
            json!({ "key": "CA1", "kind": "call" }),
            json!({ "key": "4930111222", "kind": "call" }),
            reply("sip:ann@example.org"),
            reply("anonymous"),
        ] {
            assert_eq!(to(nobody.clone()).unwrap_err().code, "unusable_address", "{nobody}");
        }
    }

    #[test]
    fn a_long_text_is_several_and_loses_nothing() {
        let text = format!("{} {}", "wörter ".repeat(300), "👨‍👩‍👧".repeat(200));
        let command = kit::command(direct(), json!([{ "type": "text", "body": text }]));
        let texts = messages(&command, true, 500).unwrap();
        assert!(texts.len() > 2);
        assert!(texts.iter().all(|message| message.text.encode_utf16().count() <= TEXT_MAX));
        assert!(texts.iter().all(|message| !message.text.starts_with('\u{200d}')), "characters stay whole");
        assert_eq!(texts.iter().map(|message| message.text.as_str()).collect::<String>(), text);
        assert_eq!(
            texts.iter().map(|message| message.part).collect::<Vec<_>>(),
            (0..texts.len()).map(|n| u32::try_from(n).unwrap()).collect::<Vec<_>>()
        );
        assert_eq!(messages(&command, true, 10).unwrap_err().code, "too_long");
    }

    #[test]
    fn files_go_where_there_is_mms() {
        let media = |bytes: u64| json!({ "type": "media", "kind": "image", "store_key": "k", "bytes": bytes, "caption": "see" });
        let command = kit::command(direct(), json!([{ "type": "text", "body": "hello" }, media(10)]));
        let sent = messages(&command, true, 9).unwrap();
        assert_eq!((sent.len(), sent[0].text.as_str(), sent[1].text.as_str()), (2, "hello", "see"));
        assert!(sent[0].file.is_none() && sent[1].file.is_some());
        assert_eq!(messages(&command, false, 9).unwrap_err().code, "unsupported");
        let large = kit::command(direct(), json!([media(FILE_BYTES_MAX + 1)]));
        assert_eq!(messages(&large, true, 9).unwrap_err().code, "media_too_large");
        let place = json!([{ "type": "location", "latitude": "52.5", "longitude": "13.4", "name": "Shop" }]);
        let sent = messages(&kit::command(direct(), place), false, 9).unwrap();
        assert_eq!(sent[0].text, "Shop\nhttps://www.openstreetmap.org/?mlat=52.5&mlon=13.4");
    }
}
