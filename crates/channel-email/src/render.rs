//! From a command to the bytes of a mail. Pure.
//!
//! The same command gives the same mail at every try: its Message-ID, Date and boundary follow from it.

use std::time::{Duration, SystemTime};

use adapter::contract::envelope::{Part, ReplyTarget};
use adapter::contract::outbound::OutCommand;
use adapter::failure::SendFailure;
use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox as Named, Message, MultiPart, SinglePart};

use crate::address::Mailbox;
use crate::classify::LOOP;
use crate::normalize::{OWN, plain_subject};
use crate::token::Tokens;

/// Longest id that is repeated in References.
const ID_BYTES_MAX: usize = 250;
const SUBJECT_CHARS_MAX: usize = 300;

/// Who writes.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) address: Mailbox,
    pub(crate) name: Option<String>,
    pub(crate) plus_addressing: bool,
    pub(crate) verp: bool,
    pub(crate) tokens: Tokens,
}

/// A file to send along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enclosure {
    pub(crate) name: String,
    pub(crate) mime: String,
    pub(crate) bytes: Vec<u8>,
}

/// A mail that is ready to go.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// The return path, and the one to take where a server refuses a foreign detail in it.
    pub(crate) from: Address,
    pub(crate) from_plain: Address,
    pub(crate) to: Address,
    /// Without brackets.
    pub(crate) message_id: String,
    pub(crate) bytes: Vec<u8>,
}

/// Writes the mail of a command.
///
/// # Errors
/// Permanent, when the command cannot be a mail.
pub(crate) fn mail(writer: &Writer, command: &OutCommand, enclosures: Vec<Enclosure>) -> Result<Outgoing, SendFailure> {
    let to = target(command)?;
    let unusable = |what: &str| SendFailure::permanent("unusable_address", format!("{what} is no address to send by"));
    let address = |text: &str, what: &str| text.parse::<Address>().map_err(|_| unusable(what));
    let from_plain = address(writer.address.as_str(), "the account's address")?;
    let thread = &command.thread;
    let message_id = writer.tokens.message_id(&thread.key, &command.command_id, writer.address.domain());
    let detailed = |detail: String| format!("{}+{detail}@{}", writer.address.local(), writer.address.domain());
    let message = writer.tokens.message_of(&command.command_id);
    let bounce = message
        .filter(|_| writer.verp && writer.plus_addressing)
        .and_then(|message| writer.tokens.bounce(writer.address.local(), &thread.key, message));
    let from = match bounce {
        Some(detail) => address(&detailed(detail), "the return path")?,
        None => from_plain.clone(),
    };
    let shown = writer.name.clone().or_else(|| command.author.display.as_ref().map(ToString::to_string));
    let mut builder = Message::builder()
        .from(Named::new(shown.clone(), from_plain.clone()))
        .to(Named::new(None, to.clone()))
        .subject(subject(command))
        .message_id(Some(format!("<{message_id}>")))
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(command.at.0));
    if let Some(detail) = writer.tokens.reply(&thread.key).filter(|_| writer.plus_addressing) {
        builder = builder.reply_to(Named::new(shown, address(&detailed(detail), "the reply address")?));
    }
    if let Some(id) = thread.sub_id.as_deref().or(thread.external_id.as_deref()).filter(|id| is_id(id)) {
        builder = builder.in_reply_to(format!("<{id}>"));
    }
    let references = references(thread.external_id.as_deref(), thread.sub_id.as_deref());
    if !references.is_empty() {
        builder = builder.references(references);
    }
    let mut raw = vec![(LOOP, writer.address.as_str()), (OWN, message_id.as_str())];
    if command.automatic() {
        // Nobody's answer: other programs shall not answer it. What a person wrote is never marked.
        raw.extend([("Auto-Submitted", "auto-replied"), ("X-Auto-Response-Suppress", "All")]);
    }
    for (name, value) in raw {
        builder = builder.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned()));
    }
    let body = SinglePart::plain(text(&command.content));
    let built = if enclosures.is_empty() {
        builder.singlepart(body)
    } else {
        let mut parts = MultiPart::mixed().boundary(boundary(&message_id)).singlepart(body);
        for Enclosure { name, mime, bytes } in enclosures {
            let octets = || ContentType::parse("application/octet-stream");
            // A text that is declared as such would be read in a charset that nobody knows.
            let kind = ContentType::parse(&mime).or_else(|_| octets());
            let kind = kind.map_err(|_| SendFailure::permanent("unusable_file", "the file has no type"))?;
            parts = parts.singlepart(Attachment::new(name).body(bytes, kind));
        }
        builder.multipart(parts)
    };
    let built = built.map_err(|error| SendFailure::permanent("unusable_mail", error.to_string()))?;
    Ok(Outgoing { from, from_plain, to, message_id, bytes: built.formatted() })
}

/// Where a command goes.
///
/// # Errors
/// Permanent, when it names no address.
pub(crate) fn target(command: &OutCommand) -> Result<Address, SendFailure> {
    let none = || SendFailure::permanent("no_address", "the thread has no address that a mail can be sent to");
    let ReplyTarget { address, .. } = command.thread.reply_target.as_ref().ok_or_else(none)?;
    let address = Mailbox::parse(address).ok_or_else(none)?;
    address.as_str().parse().map_err(|_| none())
}

/// `Re: ` before the thread's subject, or the subject alone where the mail begins a thread.
fn subject(command: &OutCommand) -> String {
    let thread = &command.thread;
    let begun = thread.external_id.is_some() || thread.sub_id.is_some();
    let given = thread.subject.as_deref().unwrap_or_default();
    let subject = if begun { format!("Re: {}", plain_subject(given)) } else { given.to_owned() };
    let line: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT_CHARS_MAX).collect();
    line.trim_end().to_owned()
}

/// The root and the newest mail; ids that would be encoded are left out, since then they are none.
fn references(root: Option<&str>, newest: Option<&str>) -> String {
    let mut ids: Vec<&str> = [root, newest].into_iter().flatten().filter(|id| is_id(id)).collect();
    ids.dedup();
    ids.iter().map(|id| format!("<{id}>")).collect::<Vec<_>>().join(" ")
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>')
}

fn boundary(message_id: &str) -> String {
    let word: String = message_id.chars().filter(char::is_ascii_alphanumeric).take(48).collect();
    format!("=_{word}")
}

/// The parts as text. Files go along and are not named; what text cannot show is.
pub(crate) fn text(parts: &[Part]) -> String {
    parts.iter().filter_map(part).collect::<Vec<_>>().join("\n\n")
}

fn part(part: &Part) -> Option<String> {
    let named = |kind: &str, name: Option<&str>| match name {
        Some(name) => format!("[{kind}: {name}]"),
        None => format!("[{kind}]"),
    };
    Some(match part {
        Part::Text(text) => text.body.clone(),
        Part::System { body } => body.clone(),
        Part::Media(media) => return media.caption.clone(),
        Part::Location(place) => named("location", Some(&format!("{}, {}", place.latitude, place.longitude))),
        Part::ContactCard(card) => named("contact", card.name.as_deref()),
        Part::Sticker { emoji, .. } => emoji.as_ref()?.to_string(),
        Part::Choice(choice) => choice.title.clone(),
        Part::Link { url, title, .. } => match (title, url) {
            (Some(title), Some(url)) => format!("{title} {url}"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => return None,
        },
        Part::Form { .. } => "[form]".to_owned(),
        Part::Order { .. } => "[order]".to_owned(),
        Part::Template { name, .. } => named("template", Some(name)),
        Part::Unsupported { kind } => named("unsupported", Some(kind)),
        Part::Unknown(fields) => named("unsupported", fields.get("type").and_then(serde_json::Value::as_str)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::headers::Headers;

    const KEY: &str = "ordersthread2222222222222a";

    fn writer() -> Writer {
        Writer {
            address: Mailbox::parse("support@shop.example").unwrap(),
            name: Some("Shop support".into()),
            plus_addressing: true,
            verp: true,
            tokens: Tokens::new(b"0123456789abcdef0123456789abcdef", "main", "support").unwrap(),
        }
    }

    fn command(thread: &Value, agent: bool) -> OutCommand {
        let author = if agent { json!({ "agent": "anna", "display": "Anna" }) } else { json!({}) };
        serde_json::from_value(json!({
            "v": 1, "command_id": "main/m17", "tenant": "main",
            "account": { "kind": "email", "id": "support" }, "thread": thread,
            "conversation": "c1", "customer": "u1", "message": "m17", "thread_seq": 4, "author": author,
            "content": [{ "type": "text", "body": "It left yesterday.\nGrüße" }], "at": 1_741_000_000_000_u64,
        }))
        .unwrap()
    }

    fn answer() -> Value {
        json!({
            "key": KEY, "kind": "thread", "external_id": "root@example.com", "sub_id": "newest@example.com",
            "subject": "AW: Order 4711", "reply_target": { "address": "ann@example.com" },
        })
    }

    fn write(command: &OutCommand) -> (Outgoing, Headers) {
        let mail = mail(&writer(), command, Vec::new()).unwrap();
        let headers = Headers::parse(&mail.bytes);
        (mail, headers)
    }

    #[test]
    fn an_answer_names_what_it_answers() {
        let (mail, headers) = write(&command(&answer(), true));
        assert_eq!(headers.first("subject"), Some("Re: Order 4711"));
        assert_eq!(headers.ids("in-reply-to"), ["newest@example.com"]);
        assert_eq!(headers.ids("references"), ["root@example.com", "newest@example.com"]);
        assert_eq!(headers.first("to"), Some("ann@example.com"));
        assert!(headers.first("from").unwrap().contains("support@shop.example"));
        assert_eq!(headers.ids("message-id"), [mail.message_id.as_str()]);
        let reply_to = Mailbox::parse(headers.first("reply-to").unwrap().rsplit(' ').next().unwrap()).unwrap();
        let token = writer().tokens.read_detail(reply_to.detail(&writer().address).unwrap()).unwrap();
        assert_eq!(token.thread, KEY);
        let path = Mailbox::parse(mail.from.as_ref()).unwrap();
        let token = writer().tokens.read_detail(path.detail(&writer().address).unwrap()).unwrap();
        assert_eq!(token.message.as_deref(), Some("m17"));
    }

    #[test]
    fn the_same_command_is_the_same_mail_at_every_try() {
        let enclosed = || vec![Enclosure { name: "a.pdf".into(), mime: "application/pdf".into(), bytes: vec![1, 2] }];
        let one = mail(&writer(), &command(&answer(), true), enclosed()).unwrap();
        let two = mail(&writer(), &command(&answer(), true), enclosed()).unwrap();
        assert_eq!(one.bytes, two.bytes);
        let text = String::from_utf8(one.bytes).unwrap();
        assert!(text.contains("a.pdf") && text.contains("Date: Mon, 03 Mar 2025 11:06:40 +0000"), "{text}");
    }

    #[test]
    fn a_mail_that_begins_a_thread_keeps_its_subject() {
        let thread =
            json!({ "key": KEY, "subject": "About your order", "reply_target": { "address": "ann@example.com" } });
        let (_, headers) = write(&command(&thread, true));
        assert_eq!(headers.first("subject"), Some("About your order"));
        assert!(!headers.has("in-reply-to") && !headers.has("references"));
    }

    #[test]
    fn only_what_no_person_wrote_is_marked_as_automatic() {
        let (_, headers) = write(&command(&answer(), true));
        assert!(!headers.has("auto-submitted") && !headers.has("x-auto-response-suppress"));
        let (_, headers) = write(&command(&answer(), false));
        assert_eq!(headers.first("auto-submitted"), Some("auto-replied"));
        assert_eq!(headers.first("x-auto-response-suppress"), Some("All"));
        assert_eq!(headers.first("x-loop"), Some("support@shop.example"));
    }

    #[test]
    fn ids_that_would_be_encoded_or_too_long_are_left_out() {
        let mut thread = answer();
        thread["external_id"] = json!("größe@example.com");
        thread["sub_id"] = json!(format!("{}@example.com", "a".repeat(300)));
        let (mail, headers) = write(&command(&thread, true));
        assert!(!headers.has("references") && !headers.has("in-reply-to"));
        thread["sub_id"] = json!(format!("{}@example.com", "b".repeat(200)));
        let (long, headers) = write(&command(&thread, true));
        assert_eq!(headers.ids("references").len(), 1);
        for mail in [mail, long] {
            let text = String::from_utf8(mail.bytes).unwrap();
            assert!(text.lines().all(|line| line.len() <= 998), "{text}");
        }
    }

    #[test]
    fn nothing_in_a_command_adds_a_header() {
        let mut thread = answer();
        thread["subject"] = json!("x\r\nBcc: everybody@example.com");
        let (_, headers) = write(&command(&thread, true));
        assert!(!headers.has("bcc"));
        thread["reply_target"] = json!({ "address": "ann@example.com\r\nRCPT TO:<x@example.com>" });
        assert_eq!(mail(&writer(), &command(&thread, true), Vec::new()).unwrap_err().code, "no_address");
    }

    #[test]
    fn without_plus_addressing_the_token_is_in_the_message_id_alone() {
        let plain = Writer { plus_addressing: false, ..writer() };
        let mail = mail(&plain, &command(&answer(), true), Vec::new()).unwrap();
        assert!(!Headers::parse(&mail.bytes).has("reply-to"));
        assert_eq!(mail.from, mail.from_plain);
        assert_eq!(plain.tokens.read_message_id(&mail.message_id).unwrap().thread, KEY);
    }
}
