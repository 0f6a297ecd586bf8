//! From the contract's messages to what a page shows. Pure.

use adapter::contract::envelope::Part;
use adapter::contract::event::{Event, EventRecord};
use adapter::contract::outbound::OutCommand;
use adapter::contract::{AgentId, SmolStr};

use crate::frames::Utterance;
use crate::normalize;

/// The message of a command.
pub(crate) fn command(command: &OutCommand) -> Utterance {
    Utterance {
        seq: command.thread_seq,
        id: command.message.to_string().into(),
        from: if command.mirrored.as_ref().is_some_and(|mirrored| mirrored.customer) { "customer" } else { "agent" },
        client_msg_id: None,
        by: command.mirrored.as_ref().map(|mirrored| SmolStr::from(mirrored.by.as_str())),
        name: command.author.display.clone(),
        text: text(&command.content),
        at: command.at,
    }
}

/// The message of a fact; `None` when the fact is no message. `name` knows agents' names.
pub(crate) fn record(record: &EventRecord, name: impl Fn(&AgentId) -> Option<SmolStr>) -> Option<Utterance> {
    match &*record.event {
        Event::MessageReceived { message, thread_seq, envelope, .. } => Some(Utterance {
            seq: *thread_seq,
            id: message.to_string().into(),
            from: "customer",
            client_msg_id: normalize::client_msg_id(&envelope.dedup_key),
            by: None,
            name: None,
            text: text(&envelope.content),
            at: record.at,
        }),
        Event::MessageSent { message, thread_seq, agent, content, .. } => Some(Utterance {
            seq: *thread_seq,
            id: message.to_string().into(),
            from: "agent",
            client_msg_id: None,
            by: None,
            name: name(agent),
            text: text(content),
            at: record.at,
        }),
        // It came or went by another channel.
        Event::MessageMirrored { message, thread_seq, agent, by, content, .. } => Some(Utterance {
            seq: *thread_seq,
            id: message.to_string().into(),
            from: if agent.is_some() { "agent" } else { "customer" },
            client_msg_id: None,
            by: Some(SmolStr::from(by.as_str())),
            name: agent.as_ref().and_then(&name),
            text: text(content),
            at: record.at,
        }),
        // The program speaks in nobody's name.
        Event::MessageNotified { message, thread_seq, content, .. } => Some(Utterance {
            seq: *thread_seq,
            id: message.to_string().into(),
            from: "agent",
            client_msg_id: None,
            by: None,
            name: None,
            text: text(content),
            at: record.at,
        }),
        _ => None,
    }
}

/// The parts as text; what text cannot show is named in brackets, never left out.
pub(crate) fn text(parts: &[Part]) -> String {
    parts.iter().map(part).collect::<Vec<_>>().join("\n")
}

fn part(part: &Part) -> String {
    let named = |kind: &str, name: Option<&str>| match name {
        Some(name) => format!("[{kind}: {name}]"),
        None => format!("[{kind}]"),
    };
    match part {
        // Of a mail, what is new in it.
        Part::Text(text) => text.visible.clone().unwrap_or_else(|| text.body.clone()),
        Part::System { body } => body.clone(),
        Part::Media(media) => {
            let shown = named(&media.kind, media.name.as_deref());
            match &media.caption {
                Some(caption) => format!("{shown}\n{caption}"),
                None => shown,
            }
        }
        Part::Location(place) => match &place.name {
            Some(name) => format!("[location: {name}, {}, {}]", place.latitude, place.longitude),
            None => format!("[location: {}, {}]", place.latitude, place.longitude),
        },
        Part::ContactCard(card) => named("contact", card.name.as_deref()),
        Part::Sticker { emoji, .. } => emoji.as_ref().map_or_else(|| "[sticker]".to_owned(), ToString::to_string),
        Part::Choice(choice) => choice.title.clone(),
        Part::Link { url, title, .. } => match (title, url) {
            (Some(title), Some(url)) => format!("{title} {url}"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => "[link]".to_owned(),
        },
        Part::Form { .. } => "[form]".to_owned(),
        Part::Order { .. } => "[order]".to_owned(),
        Part::Template { name, .. } => named("template", Some(name)),
        Part::Unsupported { kind } => named("unsupported", Some(kind)),
        Part::Unknown(fields) => named("unsupported", fields.get("type").and_then(serde_json::Value::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use adapter::contract::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_left_out() {
        let parts: Vec<Part> = serde_json::from_value(json!([
            { "type": "text", "body": "see this" },
            { "type": "media", "kind": "image", "name": "a.png", "caption": "our shop" },
            { "type": "link", "kind": "url", "url": "https://example.com" },
            { "type": "hologram", "depth": 3 },
        ]))
        .unwrap();
        assert_eq!(text(&parts), "see this\n[image: a.png]\nour shop\nhttps://example.com\n[unsupported: hologram]");
    }

    #[test]
    fn an_agents_message_is_the_same_live_and_replayed() {
        let sent: OutCommand = serde_json::from_value(json!({
            "v": 1, "command_id": "main/m17", "tenant": "main",
            "account": { "kind": "chat", "id": "web" }, "thread": { "key": "v" },
            "conversation": "c1", "customer": "u1", "message": "m17", "thread_seq": 4,
            "author": { "agent": "anna", "display": "Anna" },
            "content": [{ "type": "text", "body": "hello" }], "at": 1000,
        }))
        .unwrap();
        let fact: EventRecord = serde_json::from_value(json!({
            "position": "0.1.0", "tenant": "main", "at": 1000,
            "event": { "type": "message.sent", "data": {
                "conversation": "c1", "message": "m17", "agent": "anna", "thread_seq": 4,
                "thread": { "account": { "kind": "chat", "id": "web" }, "thread": { "key": "v" } },
                "content": [{ "type": "text", "body": "hello" }],
            } },
        }))
        .unwrap();
        let live = command(&sent);
        assert_eq!(record(&fact, |agent| (agent.as_str() == "anna").then(|| "Anna".into())), Some(live.clone()));
        assert_eq!((live.seq, live.at), (4, Timestamp(1000)));
    }
}
