//! From a command to calls: WhatsApp. Pure.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Choice, ContactCard, Location, Media, ThreadKind};
use adapter::contract::outbound::OutCommand;
use adapter::failure::SendFailure;
use adapter::split::{Unit, measure, split};
use serde_json::{Map, Value, json};

use crate::meta::bits::{Bit, answer_of, as_lines, bits};
use crate::meta::ticket::Ticket;

/// Longest text, in characters.
pub(super) const TEXT_MAX: usize = 4096;
/// Longest text under a file or over what is offered, in characters.
const CAPTION_MAX: usize = 1024;
/// Most buttons under a question, and characters on one.
const BUTTONS_MAX: usize = 3;
const BUTTON_CHARS_MAX: usize = 20;
/// Most rows of a list, and characters in one.
const ROWS_MAX: usize = 10;
const ROW_CHARS_MAX: usize = 24;
/// Longest id of a button or row, in characters.
const ANSWER_CHARS_MAX: usize = 200;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// A telephone number, in digits.
    Number(SmolStr),
    /// Somebody without one that we know. Written where numbers go, it would be taken and lost.
    Person(SmolStr),
    /// A group.
    Group(SmolStr),
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// The type of the message.
    pub(super) kind: &'static str,
    /// What stands under the type.
    pub(super) of: Map<String, Value>,
    /// A file that is uploaded first; its id joins what stands under the type.
    pub(super) file: Option<Media>,
    /// The message that it answers.
    pub(super) answers: Option<SmolStr>,
}

impl To {
    /// What the limit of a pair counts.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Number(text) | Self::Person(text) | Self::Group(text) => text,
        }
    }
}

/// Where a command goes.
///
/// # Errors
/// Permanent, when it names nobody.
pub(super) fn target(command: &OutCommand) -> Result<To, SendFailure> {
    let thread = &command.thread;
    let address = thread.reply_target.as_ref().map_or(&thread.key, |target| &target.address);
    if thread.kind == ThreadKind::Group {
        return Ok(To::Group(address.clone()));
    }
    if is_person(address) {
        return Ok(To::Person(address.clone()));
    }
    let digits = address.strip_prefix('+').unwrap_or(address);
    if (5..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(To::Number(digits.into()));
    }
    Err(SendFailure::permanent("no_address", "the thread names nobody who can be written to"))
}

/// `DE.13491208655302741918`: a country, and up to 128 letters and digits.
fn is_person(address: &str) -> bool {
    address.split_once('.').is_some_and(|(country, id)| {
        country.len() == 2
            && country.bytes().all(|byte| byte.is_ascii_uppercase())
            && (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The calls of a command, in order.
///
/// # Errors
/// Permanent, when something of it cannot be sent; then nothing is.
pub(super) fn calls(command: &OutCommand) -> Result<Vec<Call>, SendFailure> {
    let mut calls = Vec::new();
    for bit in bits(&command.content)? {
        match bit {
            Bit::Text(text) => texts(&mut calls, &text),
            Bit::Ask(text, choices) => ask(&mut calls, &text, &choices),
            Bit::Media(media) => medium(&mut calls, media)?,
            Bit::Location(place) => calls.push(call("location", location(&place))),
            Bit::Contact(card) => calls.push(contact(&card)),
            Bit::Template(template) => calls.push(call("template", template.filled())),
        }
    }
    if let (Some(first), Some(answered)) = (calls.first_mut(), &command.reply_to) {
        first.answers = answered.external_id.clone();
    }
    Ok(calls)
}

/// Whether a file has a form here, and how large it may be.
pub(super) fn form(media: &Media) -> (&'static str, u64) {
    const MEGABYTE: u64 = 1024 * 1024;
    match media.mime.as_deref().unwrap_or_default() {
        "image/jpeg" | "image/png" => ("image", 5 * MEGABYTE),
        "video/mp4" | "video/3gpp" => ("video", 16 * MEGABYTE),
        "audio/aac" | "audio/amr" | "audio/mpeg" | "audio/mp4" | "audio/ogg" => ("audio", 16 * MEGABYTE),
        _ => ("document", 100 * MEGABYTE),
    }
}

/// The whole message.
pub(super) fn message(command: &OutCommand, part: u32, call: &Call, to: &To, file: Option<&str>) -> Value {
    let mut message = Map::new();
    message.insert("messaging_product".into(), "whatsapp".into());
    let (field, kind) = match to {
        To::Number(_) => ("to", "individual"),
        To::Person(_) => ("recipient", "individual"),
        To::Group(_) => ("to", "group"),
    };
    message.insert("recipient_type".into(), kind.into());
    message.insert(field.into(), to.as_str().into());
    if let Some(answers) = &call.answers {
        message.insert("context".into(), json!({ "message_id": answers.as_str() }));
    }
    message.insert("type".into(), call.kind.into());
    let mut of = call.of.clone();
    if let Some(id) = file {
        of.insert("id".into(), id.into());
    }
    let of = match of.remove("list") {
        Some(list) => list,
        None => Value::Object(of),
    };
    message.insert(call.kind.into(), of);
    if let Some(ticket) = Ticket::write(command, part) {
        message.insert("biz_opaque_callback_data".into(), ticket.into());
    }
    Value::Object(message)
}

fn call(kind: &'static str, of: Value) -> Call {
    let of = match of {
        Value::Object(of) => of,
        list => Map::from_iter([("list".to_owned(), list)]),
    };
    Call { kind, of, file: None, answers: None }
}

fn texts(calls: &mut Vec<Call>, text: &str) {
    for piece in split(text, TEXT_MAX, Unit::Chars) {
        let link = piece.contains("https://") || piece.contains("http://");
        calls.push(call("text", json!({ "body": piece, "preview_url": link })));
    }
}

fn ask(calls: &mut Vec<Call>, text: &str, choices: &[Choice]) {
    let short = |chars: usize| choices.iter().all(|choice| (1..=chars).contains(&measure(&choice.title, Unit::Chars)));
    let known = choices.iter().all(|choice| answer_of(choice).chars().count() <= ANSWER_CHARS_MAX);
    let mut answers: Vec<String> = choices.iter().map(answer_of).collect();
    answers.sort();
    answers.dedup();
    let fits = known && answers.len() == choices.len();
    let action = if fits && choices.len() <= BUTTONS_MAX && short(BUTTON_CHARS_MAX) {
        let button =
            |choice: &Choice| json!({ "type": "reply", "reply": { "id": answer_of(choice), "title": choice.title } });
        ("button", json!({ "buttons": choices.iter().map(button).collect::<Vec<_>>() }))
    } else if fits && choices.len() <= ROWS_MAX && short(ROW_CHARS_MAX) {
        let row = |choice: &Choice| json!({ "id": answer_of(choice), "title": choice.title });
        // The label that opens the list; words would need the customer's language.
        ("list", json!({ "button": "☰", "sections": [{ "rows": choices.iter().map(row).collect::<Vec<_>>() }] }))
    } else {
        texts(calls, &as_lines(text, choices));
        return;
    };
    let mut pieces = split(text, CAPTION_MAX, Unit::Chars);
    let last = pieces.pop().filter(|last| !last.trim().is_empty()).unwrap_or_else(|| "…".to_owned());
    let before = pieces.concat();
    if !before.is_empty() {
        texts(calls, &before);
    }
    let (kind, action) = action;
    calls.push(call("interactive", json!({ "type": kind, "body": { "text": last }, "action": action })));
}

fn medium(calls: &mut Vec<Call>, media: Media) -> Result<(), SendFailure> {
    let (kind, bytes_max) = form(&media);
    if media.bytes.is_some_and(|bytes| bytes > bytes_max) {
        return Err(SendFailure::permanent(
            "media_too_large",
            format!("a file of type {kind} may have {bytes_max} bytes"),
        ));
    }
    let mut of = Map::new();
    let caption = media.caption.clone().filter(|caption| !caption.trim().is_empty());
    let fits = kind != "audio" && caption.as_ref().is_some_and(|text| measure(text, Unit::Chars) <= CAPTION_MAX);
    if let (true, Some(caption)) = (fits, &caption) {
        of.insert("caption".into(), caption.as_str().into());
    }
    if kind == "document" {
        of.insert("filename".into(), media.name.as_deref().unwrap_or("file").into());
    }
    calls.push(Call { kind, of, file: Some(media), answers: None });
    if let (false, Some(caption)) = (fits, caption) {
        texts(calls, &caption);
    }
    Ok(())
}

fn location(place: &Location) -> Value {
    let degrees = |text: &str| text.parse::<f64>().ok().map_or_else(|| Value::from(text), Value::from);
    let mut of = Map::new();
    of.insert("latitude".into(), degrees(&place.latitude));
    of.insert("longitude".into(), degrees(&place.longitude));
    of.extend(place.name.as_ref().map(|name| ("name".to_owned(), Value::from(name.as_str()))));
    of.extend(place.address.as_ref().map(|address| ("address".to_owned(), Value::from(address.as_str()))));
    Value::Object(of)
}

fn contact(card: &ContactCard) -> Call {
    let all = || card.name.iter().chain(&card.phones).chain(&card.emails);
    let name = all().next().map_or("-", |name| name.as_str());
    call(
        "contacts",
        json!([{
            "name": { "formatted_name": name, "first_name": name },
            "phones": card.phones.iter().map(|phone| json!({ "phone": phone.as_str() })).collect::<Vec<_>>(),
            "emails": card.emails.iter().map(|email| json!({ "email": email.as_str() })).collect::<Vec<_>>(),
        }]),
    )
}

#[cfg(test)]
mod tests;
