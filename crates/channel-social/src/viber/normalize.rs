//! From a callback to envelopes. Pure.

use adapter::contract::envelope::{
    ContactCard, EnvelopeKind, Location, Media, MediaStatus, Part, Party, Receipt, ReceiptStatus, Referral,
    ReplyTarget, Role, Thread, ThreadKind,
};
use adapter::contract::{Millis, SmolStr, Timestamp};
use serde_json::{Map, json};

use crate::found::{Event, Found, Place, entry};
use crate::read::{At, language, shown};

/// What vouches for everything that is found here.
const BY: &str = "the signature of the bot's callback";

/// What a callback is.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// The platform tries whether we are there.
    Hello,
    /// Somebody opened the chat: the answer may be a welcome.
    Opened(Vec<Found>),
    /// Everything else.
    Told(Vec<Found>),
}

/// Reads a callback.
pub(super) fn callback(place: &Place, at: At<'_>, now: Timestamp, raw_bytes: usize) -> Read {
    let reader = Reader { place, at, now };
    let told = |found: Result<Option<Event>, &'static str>| match found {
        Ok(event) => event.map(|event| event.found(raw_bytes)).into_iter().collect(),
        Err(why) => vec![Found::Dead(why)],
    };
    match at.text("event").unwrap_or_default() {
        "webhook" => Read::Hello,
        "conversation_started" => Read::Opened(told(reader.opened().map(Some))),
        "message" => Read::Told(told(reader.message().map(Some))),
        "delivered" => Read::Told(told(reader.receipt(ReceiptStatus::Delivered).map(Some))),
        "seen" => Read::Told(told(reader.receipt(ReceiptStatus::Read).map(Some))),
        "failed" => Read::Told(told(reader.receipt(ReceiptStatus::Failed).map(Some))),
        "subscribed" => Read::Told(told(reader.contact("unblock").map(Some))),
        "unsubscribed" => Read::Told(told(reader.contact("block").map(Some))),
        "client_status" => Read::Told(told(reader.status().map(Some))),
        _ => Read::Told(vec![Found::Dead("a kind of event that is not known")]),
    }
}

struct Reader<'a> {
    place: &'a Place,
    at: At<'a>,
    now: Timestamp,
}

impl Reader<'_> {
    /// The callback's own number; where it has none, what it tells of whom and when.
    fn key(&self) -> Result<SmolStr, &'static str> {
        let event = self.at.text("event").unwrap_or_default();
        if let Some(token) = self.at.id("message_token") {
            return Ok(format!("{event}/{token}").into());
        }
        let who = self.who().ok_or("an event of nobody")?;
        let when = self.at.id("timestamp").ok_or("an event that cannot be told from others")?;
        Ok(format!("{event}/{who}/{when}").into())
    }

    fn who(&self) -> Option<SmolStr> {
        let named = [self.at.get("sender"), self.at.get("user")];
        named.into_iter().find_map(|at| at.id("id")).or_else(|| self.at.id("user_id"))
    }

    fn begin(&self) -> Result<Event, &'static str> {
        let id = self.who().ok_or("an event of nobody")?;
        let user = if self.at.get("sender").exists() { self.at.get("sender") } else { self.at.get("user") };
        let mut sender = Party::new(self.place.identity("viber", id.clone()), Role::Customer);
        sender.display = user.text("name").and_then(shown);
        let mut thread = Thread::new(id.clone(), ThreadKind::Direct);
        thread.reply_target = Some(ReplyTarget { address: id, token: None, token_until: None });
        let mut event = self.place.event(thread, sender, BY, self.now);
        event.envelope.sent_at = self.at.number("timestamp").map(Timestamp);
        event.envelope.sent_at_raw = self.at.id("timestamp");
        event.envelope.language = user.text("language").and_then(language);
        Ok(event)
    }

    fn contact(&self, name: &str) -> Result<Event, &'static str> {
        Ok(self.begin()?.kind(EnvelopeKind::ContactEvent, self.key()?).signal(name, Map::new()))
    }

    fn status(&self) -> Result<Event, &'static str> {
        let status = self.at.get("status").object().cloned().unwrap_or_default();
        Ok(self.begin()?.kind(EnvelopeKind::ConversationEvent, self.key()?).signal("client_status", status))
    }

    fn opened(&self) -> Result<Event, &'static str> {
        let mut event = self.begin()?;
        let context = self.at.text("context");
        event.envelope.referral = context.map(|context| Referral {
            source: "link".into(),
            kind: self.at.text("type").map(SmolStr::from),
            reference: Some(context.to_owned()),
            ..Referral::default()
        });
        let data = entry("subscribed", self.at.flag("subscribed"));
        Ok(event.kind(EnvelopeKind::ConversationEvent, self.key()?).signal("start", data))
    }

    /// It is sent for the customer's own messages too: what no message of ours has the number of concerns nobody.
    fn receipt(&self, status: ReceiptStatus) -> Result<Event, &'static str> {
        let token = self.at.id("message_token").ok_or("a receipt of nothing")?;
        let mut event = self.begin()?;
        event.envelope.receipt = Some(Receipt {
            status,
            command_id: None,
            part: None,
            targets: vec![token],
            watermark: None,
            through_seq: None,
            code: None,
            reason: self.at.text("desc").map(|why| why.chars().take(300).collect()),
            retryable: None,
            recipient: None,
            price: None,
        });
        Ok(event.kind(EnvelopeKind::Receipt, self.key()?))
    }

    fn message(&self) -> Result<Event, &'static str> {
        let message = self.at.get("message");
        let token = self.at.id("message_token").ok_or("a message without a number")?;
        let mut event = self.begin()?;
        let text = message.text("text");
        let file = |event: &mut Event, kind: &str| {
            let media = Media {
                kind: kind.into(),
                name: message.text("file_name").and_then(shown),
                // Written in both ways.
                bytes: message.number("size").or_else(|| message.number("file_size")),
                duration: message.number("duration").map(|seconds| Millis::from_secs(seconds.min(u64::from(u32::MAX)))),
                caption: text.map(str::to_owned),
                ..Media::default()
            };
            match message.text("media") {
                Some(url) => event.media(media, json!({ "url": url })),
                None => {
                    let reason = Some("the platform gives no address".into());
                    let gone = Media { status: Some(MediaStatus::Unavailable), reason, ..media };
                    event.envelope.content.push(Part::Media(gone));
                }
            }
        };
        let kind = message.text("type").unwrap_or_default();
        match kind {
            "text" if text.is_some() => event.envelope.content.push(Part::text(text.unwrap_or_default())),
            "picture" => file(&mut event, "image"),
            "video" => file(&mut event, "video"),
            "file" => file(&mut event, "file"),
            "audio" => file(&mut event, "audio"),
            "sticker" => match message.id("sticker_id") {
                Some(id) => event.envelope.content.push(Part::Sticker { id, emoji: None }),
                None => event.envelope.content.push(Part::Unsupported { kind: "sticker".into() }),
            },
            "url" => {
                let url = message.text("media").map(str::to_owned);
                event.envelope.content.push(Part::Link { kind: "url".into(), url, title: text.map(str::to_owned) });
            }
            "location" => {
                let place = message.get("location");
                event.envelope.content.push(match (place.degrees("lat"), place.degrees("lon")) {
                    (Some(latitude), Some(longitude)) => {
                        Part::Location(Location { latitude, longitude, ..Location::default() })
                    }
                    _ => Part::Unsupported { kind: "location".into() },
                });
            }
            "contact" if message.get("contact").exists() => {
                let contact = message.get("contact");
                event.envelope.content.push(Part::ContactCard(ContactCard {
                    name: contact.text("name").and_then(shown),
                    phones: contact.id("phone_number").into_iter().collect(),
                    ..ContactCard::default()
                }));
            }
            other => {
                let kind = shown(other).unwrap_or_else(|| "message".into());
                event.envelope.content.push(Part::Unsupported { kind });
            }
        }
        event.envelope.external_id = Some(token);
        Ok(event.kind(EnvelopeKind::Message, self.key()?))
    }
}

#[cfg(test)]
mod tests;
