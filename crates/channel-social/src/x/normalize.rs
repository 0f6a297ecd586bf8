//! From what the Account Activity API sends to envelopes. Pure.

use std::collections::BTreeMap;

use adapter::contract::envelope::{
    Choice, Direction, Entity, EnvelopeKind, Location, Media, MessageRef, Part, Party, Receipt, ReceiptStatus,
    Referral, ReplyTarget, Role, Text, Thread, ThreadKind,
};
use adapter::contract::limits::LIST_MAX;
use adapter::contract::{SmolStr, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::found::{Event, Found, Place, entry};
use crate::read::{At, shown};

/// What vouches for everything that is found here.
const BY: &str = "the signature of the app's webhook";
/// Most events of one request.
const EVENTS_MAX: usize = 1000;
/// When ids of the platform begin to count milliseconds.
const EPOCH: u64 = 1_288_834_974_657;
/// What a thread about a post begins with.
pub(super) const POST: &str = "post/";

/// A request's fields, as they came.
pub(super) type Body<'a> = BTreeMap<String, &'a RawValue>;

/// What is read.
pub(super) struct Read {
    /// What was found, each with its own original.
    pub(super) found: Vec<(Found, String)>,
    /// Who is typing.
    pub(super) typing: Vec<SmolStr>,
}

/// Who reads.
pub(super) struct Reader<'a> {
    pub(super) place: &'a Place,
    /// The account's id.
    pub(super) own: &'a str,
    /// The app's id.
    pub(super) app: Option<&'a str>,
    pub(super) now: Timestamp,
}

impl Reader<'_> {
    /// Reads a body.
    pub(super) fn read(&self, body: &Body<'_>) -> Read {
        let users: Value =
            body.get("users").and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null);
        let mut read = Read { found: Vec::new(), typing: Vec::new() };
        // The other fields say whose they are and who is named in them.
        for (kind, raw) in body.iter().filter(|(kind, _)| kind.ends_with("_events") || kind.as_str() == "user_event") {
            let whole = [*raw];
            let list = serde_json::from_str::<Vec<&RawValue>>(raw.get());
            let events: &[&RawValue] = list.as_deref().unwrap_or(&whole);
            for raw in events.iter().take(EVENTS_MAX) {
                let value: Value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
                let at = At::new(&value);
                if kind == "direct_message_indicate_typing_events" {
                    read.typing.extend(at.id("sender_id").filter(|who| who != self.own));
                    continue;
                }
                match self.one(kind, at, At::new(&users)) {
                    Ok(Some(event)) => read.found.push((event.found(raw.get().len()), raw.get().to_owned())),
                    Ok(None) => {}
                    Err(why) => read.found.push((Found::Dead(why), raw.get().to_owned())),
                }
            }
        }
        read
    }

    fn one(&self, kind: &str, at: At<'_>, users: At<'_>) -> Result<Option<Event>, &'static str> {
        match kind {
            "direct_message_events" => self.message(at, users),
            "direct_message_mark_read_events" => self.mark_read(at),
            "tweet_create_events" => self.post(at),
            "tweet_delete_events" => self.deleted(at),
            "follow_events" => self.relation(at, &[("follow", "follow"), ("unfollow", "unfollow")]),
            "block_events" => self.relation(at, &[("block", "block"), ("unblock", "unblock")]),
            "user_event" => {
                let revoked = at.get("revoke");
                let when = revoked.id("date_time").ok_or("an event that cannot be told from others")?;
                let event = self.begin(self.thread(self.own.into()), self.place.platform("x", self.own));
                let event = event.kind(EnvelopeKind::AccountEvent, format!("revoke/{when}"));
                Ok(Some(event.signal("auth_failed", entry("event", "revoke"))))
            }
            _ => Err("a kind of event that is not known"),
        }
    }

    fn begin(&self, thread: Thread, sender: Party) -> Event {
        self.place.event(thread, sender, BY, self.now)
    }

    fn person(&self, id: SmolStr, user: At<'_>) -> Party {
        let mut party = Party::new(self.place.identity("x", id), Role::Customer);
        party.display = user.text("name").and_then(shown);
        party.username = user.text("screen_name").and_then(shown);
        party
    }

    fn thread(&self, with: SmolStr) -> Thread {
        let mut thread = Thread::new(with.clone(), ThreadKind::Direct);
        thread.reply_target = Some(ReplyTarget { address: with, token: None, token_until: None });
        thread
    }

    fn message(&self, at: At<'_>, users: At<'_>) -> Result<Option<Event>, &'static str> {
        if at.text("type") != Some("message_create") {
            return Err("a kind of direct message that is not known");
        }
        let id = at.id("id").ok_or("a message without an id")?;
        let create = at.get("message_create");
        let from = create.id("sender_id").ok_or("a message of nobody")?;
        let to = create.get("target").id("recipient_id").ok_or("a message to nobody")?;
        let own = from == self.own;
        // What we sent is known already; what was sent by hand is not.
        if own && self.app.is_some() && create.id("source_app_id").as_deref() == self.app {
            return Ok(None);
        }
        if !own && to != self.own {
            return Err("a message between others");
        }
        let other = if own { to } else { from };
        let sender = self.person(other.clone(), users.get(&other));
        let mut event = self.begin(self.thread(other), sender);
        let time = at.number("created_timestamp");
        event.envelope.sent_at = time.map(Timestamp);
        event.envelope.sent_at_raw = at.id("created_timestamp");
        say(&mut event, create.get("message_data"));
        let via = create.get("initiated_via");
        let reference = via.id("tweet_id").or_else(|| via.id("welcome_message_id"));
        event.envelope.referral = reference.map(|reference| Referral {
            source: "page".into(),
            kind: Some(if via.get("tweet_id").exists() { "tweet".into() } else { "welcome_message".into() }),
            reference: Some(reference.to_string()),
            ..Referral::default()
        });
        event.envelope.external_id = Some(id.clone());
        if own {
            // It belongs to the customer's history; the direction says whose words they are.
            event.envelope.direction = Direction::OutEcho;
            return Ok(Some(event.kind(EnvelopeKind::Echo, id)));
        }
        Ok(Some(event.kind(EnvelopeKind::Message, id)))
    }

    /// Everything up to an event was read. Ids of events hold their time.
    fn mark_read(&self, at: At<'_>) -> Result<Option<Event>, &'static str> {
        let reader = at.id("sender_id").ok_or("a receipt of nobody")?;
        if reader == self.own {
            return Ok(None);
        }
        let last = at.id("last_read_event_id").ok_or("a receipt of nothing")?;
        let watermark = last.parse::<u64>().ok().map(|id| Timestamp((id >> 22).saturating_add(EPOCH)));
        let mut event = self
            .begin(self.thread(reader.clone()), Party::new(self.place.identity("x", reader.clone()), Role::Customer));
        event.envelope.sent_at = at.number("created_timestamp").map(Timestamp);
        event.envelope.receipt = Some(Receipt {
            status: ReceiptStatus::Read,
            command_id: None,
            part: None,
            targets: vec![last.clone()],
            watermark,
            through_seq: None,
            code: None,
            reason: None,
            retryable: None,
            recipient: None,
            price: None,
        });
        Ok(Some(event.kind(EnvelopeKind::Receipt, format!("read/{reader}/{last}"))))
    }

    /// Somebody mentions us, or answers, for all to see.
    fn post(&self, at: At<'_>) -> Result<Option<Event>, &'static str> {
        let id = at.id("id_str").ok_or("a post without an id")?;
        let author = at.get("user").id("id_str").ok_or("a post of nobody")?;
        if author == self.own {
            return Ok(None);
        }
        let full = at.get("extended_tweet");
        let text = full.text("full_text").or_else(|| at.text("text")).unwrap_or_default();
        let mentions = if full.exists() { full.get("entities") } else { at.get("entities") };
        let concerns = mentions.list("user_mentions").any(|user| user.id("id_str").as_deref() == Some(self.own))
            || at.id("in_reply_to_user_id_str").as_deref() == Some(self.own);
        // Somebody passed on what we wrote: nobody asked us anything.
        if at.get("retweeted_status").exists() || !concerns {
            return Ok(None);
        }
        let key = SmolStr::from(format!("{POST}{id}"));
        let mut thread = Thread::new(key.clone(), ThreadKind::Thread);
        thread.external_id = Some(id.clone());
        thread.reply_target = Some(ReplyTarget { address: key.clone(), token: None, token_until: None });
        let mut event = self.begin(thread, self.person(author, at.get("user")));
        event.envelope.sent_at = at.number("timestamp_ms").map(Timestamp);
        event.envelope.sent_at_raw = at.id("timestamp_ms").or_else(|| at.id("created_at"));
        event.envelope.content.push(Part::text(unescape(text)));
        let answered = at.id("in_reply_to_status_id_str").map(|id| format!("{POST}{id}").into());
        event.envelope.reply_to = answered.map(|id| MessageRef { external_id: Some(id), ..MessageRef::default() });
        event.envelope.tags.push("mention".into());
        event.envelope.external_id = Some(key.clone());
        Ok(Some(event.kind(EnvelopeKind::Message, key)))
    }

    fn deleted(&self, at: At<'_>) -> Result<Option<Event>, &'static str> {
        let status = at.get("status");
        let id = status.id("id").ok_or("it names no post")?;
        let author = status.id("user_id").ok_or("a post of nobody")?;
        if author == self.own {
            return Ok(None);
        }
        let key = SmolStr::from(format!("{POST}{id}"));
        let mut event =
            self.begin(Thread::new(key.clone(), ThreadKind::Thread), self.person(author, At::new(&Value::Null)));
        event.envelope.target = Some(MessageRef { external_id: Some(key), ..MessageRef::default() });
        Ok(Some(event.kind(EnvelopeKind::Delete, format!("delete/{id}"))))
    }

    fn relation(&self, at: At<'_>, names: &[(&str, &str)]) -> Result<Option<Event>, &'static str> {
        let source = at.get("source");
        let who = source.id("id").ok_or("an event of nobody")?;
        // What we do ourselves is nothing that a customer did.
        if who == self.own {
            return Ok(None);
        }
        let kind = at.text("type").unwrap_or_default();
        let (_, name) = names.iter().find(|(given, _)| *given == kind).ok_or("a kind of event that is not known")?;
        let when = at.id("created_timestamp").ok_or("an event that cannot be told from others")?;
        let event = self.begin(self.thread(who.clone()), self.person(who.clone(), source));
        let event = event.kind(EnvelopeKind::ContactEvent, format!("{kind}/{who}/{when}"));
        Ok(Some(event.signal(name, Map::new())))
    }
}

fn say(event: &mut Event, data: At<'_>) {
    let attachment = data.get("attachment");
    let media = attachment.get("media");
    let raw = data.text("text").unwrap_or_default();
    // The attachment's short address stands at the end of the text.
    let raw = match media.text("url") {
        Some(url) => raw.strip_suffix(url).unwrap_or(raw).trim_end(),
        None => raw,
    };
    let body = unescape(raw);
    let response = data.get("quick_reply_response");
    let content = &mut event.envelope.content;
    if response.exists() {
        content.push(Part::Choice(Choice {
            id: None,
            title: body,
            payload: response.text("metadata").map(str::to_owned),
            source: Some("quick_reply".into()),
        }));
    } else if !body.is_empty() {
        let entities = entities(&body, data.get("entities"));
        content.push(Part::Text(Text { body, entities, ..Text::default() }));
    }
    match attachment.text("type") {
        Some("media") => attached(event, media),
        Some("location") => {
            let shared = attachment.get("location");
            let mut degrees = shared.get("shared_coordinate").get("coordinates").list("coordinates");
            let place = shared.get("shared_place").get("place");
            // Longitude comes first.
            let number =
                |at: Option<At<'_>>| at.and_then(At::value).filter(|value| value.is_number()).map(ToString::to_string);
            let (longitude, latitude) = (number(degrees.next()), number(degrees.next()));
            content.push(match (latitude, longitude) {
                (Some(latitude), Some(longitude)) => Part::Location(Location {
                    latitude: latitude.into(),
                    longitude: longitude.into(),
                    ..Location::default()
                }),
                _ => match place.text("full_name").or_else(|| place.text("name")) {
                    Some(name) => Part::text(name),
                    None => Part::Unsupported { kind: "location".into() },
                },
            });
        }
        Some(other) => content.push(Part::Unsupported { kind: shown(other).unwrap_or_else(|| "attachment".into()) }),
        None if content.is_empty() => content.push(Part::Unsupported { kind: "message".into() }),
        None => {}
    }
}

fn attached(event: &mut Event, media: At<'_>) {
    let kind = match media.text("type") {
        Some("photo") => "image",
        Some("video" | "animated_gif") => "video",
        _ => "file",
    };
    // The best of what a film comes in.
    let variants = media.get("video_info").list("variants").filter(|at| at.text("content_type") == Some("video/mp4"));
    let best = variants.max_by_key(|at| at.number("bitrate").unwrap_or_default());
    let url = best.and_then(|at| at.text("url")).or_else(|| media.text("media_url_https"));
    let part = Media {
        kind: kind.into(),
        external_id: media.id("id_str").or_else(|| media.id("id")),
        mime: best.and_then(|at| at.text("content_type")).and_then(shown),
        ..Media::default()
    };
    match url {
        Some(url) => event.media(part, json!({ "url": url })),
        None => event.envelope.content.push(Part::Unsupported { kind: kind.into() }),
    }
}

/// Short addresses and what they lead to.
fn entities(body: &str, given: At<'_>) -> Vec<Entity> {
    let mut from = 0;
    let found = given.list("urls").filter_map(|at| {
        let url = at.text("url")?;
        let at_byte = body.get(from..)?.find(url)? + from;
        from = at_byte + url.len();
        let (offset, length) = (u32::try_from(at_byte).ok()?, u32::try_from(url.len()).ok()?);
        Some(Entity { kind: "url".into(), offset, length, value: at.text("expanded_url").map(SmolStr::from) })
    });
    found.take(LIST_MAX).collect()
}

/// Undoes the three signs that are escaped, once.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests;
