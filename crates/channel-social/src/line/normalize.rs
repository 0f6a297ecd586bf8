//! From a webhook's events to envelopes. Pure.

use adapter::contract::envelope::{
    Choice, Entity, EnvelopeKind, GroupRef, Location, Media, MessageRef, Part, Party, ReplyTarget, Role, Sequence,
    Text, Thread, ThreadKind,
};
use adapter::contract::limits::LIST_MAX;
use adapter::contract::{Millis, SmolStr, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::found::{Event, Found, Place, entry};
use crate::read::{At, Utf16, shown};

/// What vouches for everything that is found here.
const BY: &str = "the signature of the channel's webhook";
/// How long a reply token is tried. The platform promises a minute; a little is lost on the way.
const REPLY_TOKEN_LIFE: Millis = Millis::from_secs(50);
/// Most events of one request.
const EVENTS_MAX: usize = 1000;
/// How a quote token stands among the ids of a message.
pub(super) const QUOTE: &str = "quote:";

/// A webhook's body, its events as they came.
#[derive(Debug, Deserialize)]
pub(super) struct Body<'a> {
    /// The user id of the bot that it is for.
    #[serde(default)]
    pub(super) destination: Option<String>,
    /// None, when the console only tries the address.
    #[serde(borrow)]
    pub(super) events: Vec<&'a RawValue>,
}

/// Reads a body; `None`: it is none.
pub(super) fn body(raw: &[u8]) -> Option<Body<'_>> {
    serde_json::from_slice::<Body<'_>>(raw).ok().filter(|body| body.events.len() <= EVENTS_MAX)
}

/// Reads one event.
pub(super) fn event(place: &Place, raw: &RawValue, now: Timestamp) -> Vec<Found> {
    let Ok(value) = serde_json::from_str::<Value>(raw.get()) else { return vec![Found::Dead("it is no event")] };
    let reader = Reader { place, event: At::new(&value), now };
    match reader.read() {
        Ok(events) => events.into_iter().map(|event| event.found(raw.get().len())).collect(),
        Err(why) => vec![Found::Dead(why)],
    }
}

struct Reader<'a> {
    place: &'a Place,
    event: At<'a>,
    now: Timestamp,
}

impl Reader<'_> {
    fn read(&self) -> Result<Vec<Event>, &'static str> {
        let at = self.event;
        let kind = at.text("type").ok_or("an event without a type")?;
        let events = match kind {
            "message" => self.message(false),
            "messageEdited" => self.message(true),
            "unsend" => self.unsend(),
            "follow" => {
                let name = if at.get("follow").flag("isUnblocked") { "unblock" } else { "follow" };
                self.contact(name, Map::new())
            }
            // Nobody can tell whether the bot was blocked or removed; either way nothing arrives any more.
            "unfollow" => self.contact("block", Map::new()),
            "join" => self.contact("join", Map::new()),
            "leave" => self.contact("leave", Map::new()),
            "memberJoined" => self.members("joined", "join"),
            "memberLeft" => self.members("left", "leave"),
            "postback" => self.postback(),
            "accountLink" => self.contact("account_link", self.fields("link")),
            "membership" => self.contact("membership", self.fields("membership")),
            "beacon" => self.conversation("beacon", self.fields("beacon")),
            "videoPlayComplete" => self.conversation("video_play_complete", self.fields("videoPlayComplete")),
            "things" => self.conversation("things", self.fields("things")),
            "activated" | "deactivated" | "botSuspended" | "botResumed" | "module" => {
                let event = self.begin()?.kind(EnvelopeKind::AccountEvent, self.key("")?);
                Ok(vec![event.signal(kind, self.fields(kind))])
            }
            _ => Err("a kind of event that is not known"),
        }?;
        // Another program answers on this thread; what was said is kept, and nobody is asked to answer.
        if at.text("mode") == Some("standby") {
            return Ok(events.into_iter().map(standby).collect());
        }
        Ok(events)
    }

    /// The event's id, the same when it is delivered again. Old ones have none: then its own particulars.
    fn key(&self, part: &str) -> Result<SmolStr, &'static str> {
        let id = self.event.id("webhookEventId").or_else(|| {
            let (kind, time) = (self.event.text("type")?, self.event.id("timestamp")?);
            let what = self
                .event
                .get("message")
                .id("id")
                .or_else(|| self.event.id("replyToken"))
                .or_else(|| self.address())?;
            Some(format!("{kind}/{time}/{what}").into())
        });
        let id = id.ok_or("an event that cannot be told from others")?;
        Ok(if part.is_empty() { id } else { format!("{id}/{part}").into() })
    }

    fn address(&self) -> Option<SmolStr> {
        let source = self.event.get("source");
        match source.text("type")? {
            "group" => source.id("groupId"),
            "room" => source.id("roomId"),
            _ => source.id("userId"),
        }
    }

    fn begin(&self) -> Result<Event, &'static str> {
        let source = self.event.get("source");
        let address = self.address().or_else(|| self.event.get("source").id("userId"));
        // Events of the account itself have no source.
        let address = address.unwrap_or_else(|| self.place.account.id.as_str().into());
        let kind = match source.text("type") {
            Some("group" | "room") => ThreadKind::Group,
            _ => ThreadKind::Direct,
        };
        let mut thread = Thread::new(address.clone(), kind);
        let token = self.event.id("replyToken").filter(|_| self.event.text("mode") != Some("standby"));
        let token_until = token.as_ref().map(|_| self.now + REPLY_TOKEN_LIFE);
        thread.reply_target = Some(ReplyTarget { address: address.clone(), token, token_until });
        let sender = match source.id("userId") {
            Some(user) => Party::new(self.place.identity("line", user), Role::Customer),
            None => self.place.platform("line", address),
        };
        let mut event = self.place.event(thread, sender, BY, self.now);
        event.envelope.sent_at = self.event.number("timestamp").map(Timestamp);
        event.envelope.sent_at_raw = self.event.id("timestamp");
        Ok(event)
    }

    /// The particulars of an event, as they are.
    fn fields(&self, name: &str) -> Map<String, Value> {
        self.event.get(name).object().cloned().unwrap_or_default()
    }

    fn contact(&self, name: &str, data: Map<String, Value>) -> Result<Vec<Event>, &'static str> {
        Ok(vec![self.begin()?.kind(EnvelopeKind::ContactEvent, self.key("")?).signal(name, data)])
    }

    fn conversation(&self, name: &str, data: Map<String, Value>) -> Result<Vec<Event>, &'static str> {
        Ok(vec![self.begin()?.kind(EnvelopeKind::ConversationEvent, self.key("")?).signal(name, data)])
    }

    fn members(&self, list: &str, name: &str) -> Result<Vec<Event>, &'static str> {
        let members = self.event.get(list).list("members").filter_map(|member| member.id("userId"));
        let events = members.map(|user| {
            let mut event = self.begin()?;
            event.envelope.sender = Party::new(self.place.identity("line", user.clone()), Role::Customer);
            Ok(event.kind(EnvelopeKind::ContactEvent, self.key(&user)?).signal(name, Map::new()))
        });
        events.collect()
    }

    fn unsend(&self) -> Result<Vec<Event>, &'static str> {
        let message = self.event.get("unsend").id("messageId").ok_or("it names no message")?;
        let mut event = self.begin()?;
        event.envelope.target = Some(MessageRef { external_id: Some(message), ..MessageRef::default() });
        Ok(vec![event.kind(EnvelopeKind::Delete, self.key("")?)])
    }

    fn postback(&self) -> Result<Vec<Event>, &'static str> {
        let postback = self.event.get("postback");
        let data = postback.text("data").ok_or("a postback without data")?;
        let parameters = postback.get("params");
        // A date or time that was picked says more than what the button carries.
        let picked = ["datetime", "date", "time"].into_iter().find_map(|key| parameters.text(key));
        let mut event = self.begin()?;
        event.envelope.content.push(Part::Choice(Choice {
            id: None,
            title: picked.unwrap_or(data).to_owned(),
            payload: Some(data.to_owned()),
            source: Some("postback".into()),
        }));
        if picked.is_none()
            && let Some(fields) = parameters.object()
        {
            event.envelope.content.push(Part::Form { fields: fields.clone() });
        }
        Ok(vec![event.kind(EnvelopeKind::Message, self.key("")?)])
    }

    fn message(&self, edited: bool) -> Result<Vec<Event>, &'static str> {
        let message = self.event.get("message");
        let id = message.id("id").ok_or("a message without an id")?;
        let mut event = self.begin()?;
        self.say(&mut event, message, &id);
        let quoted = message.id("quotedMessageId");
        event.envelope.reply_to =
            quoted.map(|quoted| MessageRef { external_id: Some(quoted), ..MessageRef::default() });
        // What must be shown to answer this very message with a quote.
        let quote = message.id("quoteToken").map(|token| format!("{QUOTE}{token}").into());
        event.envelope.external_ids.extend(quote);
        let set = message.get("imageSet");
        if let Some(set_id) = set.id("id") {
            event.envelope.group = Some(GroupRef { id: set_id, index: set.small("index"), total: set.small("total") });
        }
        event.envelope.external_id = Some(id.clone());
        if !edited {
            return Ok(vec![event.kind(EnvelopeKind::Message, self.key("")?)]);
        }
        // Edits may overtake each other: the one of the latest time is what holds.
        event.envelope.seq = self.event.number("timestamp").map(|n| Sequence { scope: id.clone(), n });
        event.envelope.target = Some(MessageRef { external_id: Some(id), ..MessageRef::default() });
        Ok(vec![event.kind(EnvelopeKind::Edit, self.key("")?)])
    }

    fn say(&self, event: &mut Event, message: At<'_>, id: &SmolStr) {
        let content = &mut event.envelope.content;
        match message.text("type").unwrap_or_default() {
            "text" => {
                let body = message.text("text").unwrap_or_default();
                let entities = entities(body, message);
                content.push(Part::Text(Text { body: body.to_owned(), entities, ..Text::default() }));
            }
            kind @ ("image" | "video" | "audio" | "file") => {
                let media = Media {
                    kind: kind.into(),
                    external_id: Some(id.clone()),
                    name: message.text("fileName").and_then(shown),
                    bytes: message.number("fileSize"),
                    duration: message.number("duration").map(Millis),
                    ..Media::default()
                };
                let provider = message.get("contentProvider");
                let source = match provider.text("originalContentUrl") {
                    Some(url) if provider.text("type") == Some("external") => json!({ "url": url }),
                    _ => json!({ "message_id": id.as_str() }),
                };
                event.media(media, source);
            }
            "location" => match (message.degrees("latitude"), message.degrees("longitude")) {
                (Some(latitude), Some(longitude)) => content.push(Part::Location(Location {
                    latitude,
                    longitude,
                    name: message.text("title").and_then(shown),
                    address: message.text("address").map(str::to_owned),
                })),
                _ => content.push(Part::Unsupported { kind: "location".into() }),
            },
            "sticker" => {
                let sticker = match (message.id("packageId"), message.id("stickerId")) {
                    (Some(package), Some(sticker)) => format!("{package}/{sticker}"),
                    _ => "unknown".to_owned(),
                };
                content.push(Part::Sticker { id: sticker.into(), emoji: None });
                // The customer's own words on it, or what it is about: enough to know what was meant.
                let keywords: Vec<&str> = message.list("keywords").filter_map(At::as_text).take(20).collect();
                if let Some(words) = message.text("text") {
                    content.push(Part::text(words));
                } else if !keywords.is_empty() {
                    event.warn(format!("the sticker is about: {}", keywords.join(", ")));
                }
            }
            other => content.push(Part::Unsupported { kind: shown(other).unwrap_or_else(|| "message".into()) }),
        }
    }
}

/// Turns whatever happened into a signal that asks nobody for an answer.
fn standby(mut event: Event) -> Event {
    let kind = std::mem::replace(&mut event.envelope.kind, EnvelopeKind::ConversationEvent);
    let key = event.envelope.dedup_key.clone();
    let data = match &event.envelope.signal {
        Some(signal) => entry("event", signal.name.as_str()),
        None => entry("event", kind.as_str()),
    };
    event.kind(EnvelopeKind::ConversationEvent, key).signal("standby", data)
}

/// Mentions and the platform's own emojis, in bytes.
fn entities(body: &str, message: At<'_>) -> Vec<Entity> {
    let mentions = message.get("mention").list("mentionees");
    let emojis = message.list("emojis");
    if mentions.len() + emojis.len() == 0 {
        return Vec::new();
    }
    let utf16 = Utf16::new(body);
    let stretch = |at: At<'_>, kind: &'static str, value: Option<SmolStr>| {
        let (offset, length) = utf16.bytes(at.number("index")?, at.number("length")?)?;
        Some(Entity { kind: SmolStr::new_static(kind), offset, length, value })
    };
    let mentions = mentions.filter_map(|at| {
        let whom = if at.text("type") == Some("all") { Some("all".into()) } else { at.id("userId") };
        stretch(at, "mention", whom)
    });
    let emojis = emojis.filter_map(|at| {
        let which =
            at.id("productId").zip(at.id("emojiId")).map(|(product, emoji)| format!("{product}/{emoji}").into());
        stretch(at, "custom_emoji", which)
    });
    mentions.chain(emojis).take(LIST_MAX).collect()
}

#[cfg(test)]
mod tests;
