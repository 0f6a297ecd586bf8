//! From an update to envelopes. Pure.

use adapter::contract::envelope::{
    Choice, ContactCard, Direction, EnvelopeKind, Forward, GroupRef, Location, Media, MediaStatus, MessageRef, Part,
    Party, Reaction, Referral, ReplyTarget, Role, Text, Thread, ThreadKind,
};
use adapter::contract::{Millis, SmolStr, Timestamp};
use serde_json::{Map, Value, json};

use super::address::Address;
use super::text;
use crate::found::{Event, Found, Place, entry, seconds};
use crate::read::{At, language, shown};

/// What vouches for everything that is found here.
const BY: &str = "the secret token of the bot's webhook";
/// Larger files are not given to bots.
pub(super) const FILE_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// Fields of messages by which the platform tells what was done to a chat.
const NOTICES: [&str; 25] = [
    "new_chat_title",
    "new_chat_photo",
    "delete_chat_photo",
    "group_chat_created",
    "supergroup_chat_created",
    "channel_chat_created",
    "message_auto_delete_timer_changed",
    "pinned_message",
    "forum_topic_created",
    "forum_topic_edited",
    "forum_topic_closed",
    "forum_topic_reopened",
    "general_forum_topic_hidden",
    "general_forum_topic_unhidden",
    "video_chat_scheduled",
    "video_chat_started",
    "video_chat_ended",
    "video_chat_participants_invited",
    "write_access_allowed",
    "connected_website",
    "proximity_alert_triggered",
    "boost_added",
    "chat_background_set",
    "users_shared",
    "chat_shared",
];

/// Who reads, and what for.
pub(super) struct Reader<'a> {
    pub(super) place: &'a Place,
    /// The bot's own id: the first half of its token.
    pub(super) bot: &'a str,
    pub(super) now: Timestamp,
    /// Size of the original in bytes.
    pub(super) raw_bytes: usize,
}

/// Reads one kind of update, named by its id.
type ReadOne = fn(&Reader<'_>, &SmolStr, At<'_>) -> Option<Vec<Event>>;

/// What an update tells, and the callback query that waits for a sign that it was heard.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) found: Vec<Found>,
    pub(super) callback: Option<SmolStr>,
}

/// Reads an update. Whatever is not understood is among what is found, as dead.
pub(super) fn update(reader: &Reader<'_>, update: At<'_>) -> Read {
    let Some(id) = update.id("update_id") else {
        return Read { found: vec![Found::Dead("it is no update")], callback: None };
    };
    let kinds: [(&str, ReadOne); 13] = [
        ("message", |reader, id, at| reader.message(id, at, false)),
        ("edited_message", |reader, id, at| reader.message(id, at, true)),
        ("channel_post", |reader, id, at| reader.message(id, at, false)),
        ("edited_channel_post", |reader, id, at| reader.message(id, at, true)),
        ("business_message", |reader, id, at| reader.message(id, at, false)),
        ("edited_business_message", |reader, id, at| reader.message(id, at, true)),
        ("deleted_business_messages", |reader, id, at| reader.deleted(id, at)),
        ("business_connection", |reader, id, at| reader.connection(id, at)),
        ("message_reaction", |reader, id, at| reader.reaction(id, at)),
        ("callback_query", |reader, id, at| reader.callback(id, at)),
        ("my_chat_member", |reader, id, at| reader.own_membership(id, at)),
        ("chat_member", |reader, id, at| reader.membership(id, at)),
        ("chat_join_request", |reader, id, at| reader.join_request(id, at)),
    ];
    for (kind, read) in kinds {
        let at = update.get(kind);
        if at.exists() {
            let found = match read(reader, &id, at) {
                Some(events) => events.into_iter().map(|event| event.found(reader.raw_bytes)).collect(),
                None => vec![Found::Dead("a field is missing that it cannot be read without")],
            };
            let callback = (kind == "callback_query").then(|| at.id("id")).flatten();
            return Read { found, callback };
        }
    }
    Read { found: vec![Found::Dead("a kind of update that is not known")], callback: None }
}

impl Reader<'_> {
    fn event(&self, thread: Thread, sender: Party) -> Event {
        self.place.event(thread, sender, BY, self.now)
    }

    fn person(&self, user: At<'_>) -> Option<Party> {
        let id = user.id("id")?;
        let role = if user.flag("is_bot") { Role::Bot } else { Role::Customer };
        let mut party = Party::new(self.place.identity("telegram", id), role);
        let name = [user.text("first_name"), user.text("last_name")];
        party.display = shown(&name.into_iter().flatten().collect::<Vec<_>>().join(" "));
        party.username = user.text("username").and_then(shown);
        Some(party)
    }

    /// A chat that speaks for itself: a channel, an anonymous administrator.
    fn chat_as_person(&self, chat: At<'_>) -> Option<Party> {
        let mut party = Party::new(self.place.identity("telegram", chat.id("id")?), Role::Customer);
        party.display = chat.text("title").and_then(shown);
        party.username = chat.text("username").and_then(shown);
        Some(party)
    }

    fn thread(&self, chat: At<'_>, address: &Address) -> Thread {
        let kind = match chat.text("type") {
            Some("group" | "supergroup") => ThreadKind::Group,
            Some("channel") => ThreadKind::Channel,
            _ => ThreadKind::Direct,
        };
        let key = SmolStr::from(address.to_string());
        let mut thread = Thread::new(key.clone(), kind);
        thread.subject = chat.text("title").and_then(shown);
        thread.sub_id = address.topic.clone();
        if address.topic.is_some() || address.business.is_some() {
            thread.external_id = Some(address.chat.clone());
        }
        thread.reply_target = Some(ReplyTarget { address: key, token: None, token_until: None });
        thread
    }

    /// A message, or the new state of one that was edited.
    fn message(&self, update: &SmolStr, message: At<'_>, edited: bool) -> Option<Vec<Event>> {
        let chat = message.get("chat");
        let address = Address::of(message)?;
        let external = address.message(&message.id("message_id")?);
        let thread = self.thread(chat, &address);
        let from = message.get("from");
        let spoken_by = message.get("sender_chat");
        let sender = if spoken_by.exists() { self.chat_as_person(spoken_by) } else { self.person(from) };
        let sender = match sender {
            Some(sender) => sender,
            None => self.chat_as_person(chat)?,
        };
        let own = from.id("id").is_some_and(|id| id == self.bot)
            || message.get("sender_business_bot").id("id").is_some_and(|id| id == self.bot);
        let mut event = self.event(thread, sender);
        let date = if edited { message.number("edit_date") } else { None }.or_else(|| message.number("date"));
        event.envelope.sent_at = date.map(seconds);
        event.envelope.sent_at_raw = date.map(|date| date.to_string().into());
        event.envelope.language = from.text("language_code").and_then(language);
        if let Some(service) = self.service(update, message, &event) {
            return Some(service);
        }
        self.say(&mut event, message);
        let answered = message.get("reply_to_message");
        if let Some(id) = answered.id("message_id").filter(|_| !answered.get("forum_topic_created").exists()) {
            let reference = MessageRef { external_id: Some(address.message(&id)), ..MessageRef::default() };
            event.envelope.reply_to = Some(reference);
        }
        let origin = message.get("forward_origin");
        if origin.exists() {
            let from = [origin.get("sender_user"), origin.get("sender_chat"), origin.get("chat")];
            let mut names = from.into_iter().filter_map(|at| at.text("title").or_else(|| at.text("first_name")));
            let from = origin.text("sender_user_name").or_else(|| names.next()).and_then(shown);
            event.envelope.forward = Some(Forward { count: None, from });
        }
        if let Some(id) = message.id("media_group_id") {
            event.envelope.group = Some(GroupRef { id, index: None, total: None });
        }
        // The business's owner wrote by hand, or this bot did: nothing that a customer said.
        let by_owner = address.business.is_some() && from.id("id").is_some_and(|id| id != address.chat);
        if own {
            return Some(Vec::new());
        }
        let kind = if edited { EnvelopeKind::Edit } else { EnvelopeKind::Message };
        let kind = if by_owner && !edited { EnvelopeKind::Echo } else { kind };
        if by_owner {
            // It belongs to the customer's history; the direction says whose words they are.
            event.envelope.direction = Direction::OutEcho;
            event.envelope.sender = self.person(chat)?;
        }
        if edited {
            event.envelope.target = Some(MessageRef { external_id: Some(external.clone()), ..MessageRef::default() });
        }
        event.envelope.external_id = Some(external);
        if event.envelope.content.is_empty() {
            let kind = message.object().and_then(|fields| odd_field(fields)).unwrap_or("message");
            event.envelope.content.push(Part::Unsupported { kind: kind.into() });
        }
        // What a link carried to the bot is a beginning, not something the customer said.
        if let (false, Some(start)) = (edited, started(message)) {
            event.envelope.content.clear();
            if !start.is_empty() {
                event.envelope.referral = Some(Referral {
                    source: "link".into(),
                    kind: Some("start".into()),
                    reference: Some(start.to_owned()),
                    ..Referral::default()
                });
            }
            let data = if start.is_empty() { Map::new() } else { entry("parameter", start) };
            return Some(vec![event.kind(EnvelopeKind::ConversationEvent, update.clone()).signal("start", data)]);
        }
        Some(vec![event.kind(kind, update.clone())])
    }

    /// Who came, who went, and where the group went; `None` when the message is of another kind.
    fn service(&self, update: &SmolStr, message: At<'_>, event: &Event) -> Option<Vec<Event>> {
        let mut came = message.list("new_chat_members").filter_map(|user| self.person(user)).peekable();
        if came.peek().is_some() {
            let joined = came.enumerate().map(|(nth, party)| {
                let mut joined = event.clone();
                joined.envelope.sender = party;
                joined.kind(EnvelopeKind::ContactEvent, format!("{update}/{nth}")).signal("join", Map::new())
            });
            return Some(joined.collect());
        }
        if let Some(party) = self.person(message.get("left_chat_member")) {
            let mut left = event.clone();
            left.envelope.sender = party;
            return Some(vec![left.kind(EnvelopeKind::ContactEvent, update.clone()).signal("leave", Map::new())]);
        }
        let moved = [("migrate_to_chat_id", "migrated_to"), ("migrate_from_chat_id", "migrated_from")];
        for (field, name) in moved {
            if let Some(chat) = message.id(field) {
                let data = entry("chat_id", chat.as_str());
                let event = event.clone().kind(EnvelopeKind::ConversationEvent, update.clone());
                return Some(vec![event.signal(name, data)]);
            }
        }
        // The platform tells what was done to the chat; nobody said anything.
        let notice = NOTICES.into_iter().find(|field| message.get(field).exists())?;
        let event = event.clone().kind(EnvelopeKind::ConversationEvent, update.clone());
        Some(vec![event.signal(notice, Map::new())])
    }

    /// Adds what a message says.
    fn say(&self, event: &mut Event, message: At<'_>) {
        if let Some(body) = message.text("text") {
            let entities = text::entities(body, message.list("entities"));
            event.envelope.content.push(Part::Text(Text { body: body.to_owned(), entities, ..Text::default() }));
        }
        let caption = message.text("caption").map(str::to_owned);
        let mut captioned = caption.clone();
        let mut file = |kind: &str, at: At<'_>, voice: bool| {
            let Some(id) = at.id("file_id") else { return };
            let media = Media {
                kind: kind.into(),
                external_id: at.id("file_unique_id"),
                mime: at.text("mime_type").and_then(shown),
                name: at.text("file_name").and_then(shown),
                bytes: at.number("file_size"),
                duration: at.number("duration").map(|seconds| Millis::from_secs(seconds.min(u64::from(u32::MAX)))),
                width: at.small("width").or_else(|| at.small("length")),
                height: at.small("height").or_else(|| at.small("length")),
                caption: captioned.take(),
                voice,
                ..Media::default()
            };
            if media.bytes.is_some_and(|bytes| bytes > FILE_BYTES_MAX) {
                let reason = Some("larger than what the platform gives to bots".into());
                let media = Media { status: Some(MediaStatus::Unavailable), reason, ..media };
                event.envelope.content.push(Part::Media(media));
            } else {
                event.media(media, json!({ "file_id": id.as_str() }));
            }
        };
        // Of a photo come several sizes; the last is the largest.
        if let Some(photo) = message.list("photo").next_back() {
            file("image", photo, false);
        }
        // An animation comes with itself as a document, for programs that know no animations.
        if message.get("animation").exists() {
            file("video", message.get("animation"), false);
        } else {
            let document = message.get("document");
            let kind = document.text("mime_type").and_then(|mime| mime.split('/').next()).unwrap_or_default();
            file(if kind == "image" { "image" } else { "file" }, document, false);
        }
        file("video", message.get("video"), false);
        file("video", message.get("video_note"), false);
        file("audio", message.get("audio"), false);
        file("audio", message.get("voice"), true);
        let content = &mut event.envelope.content;
        let sticker = message.get("sticker");
        if let Some(id) = sticker.id("file_unique_id").or_else(|| sticker.id("file_id")) {
            content.push(Part::Sticker { id, emoji: sticker.text("emoji").map(SmolStr::from) });
        }
        // A venue comes with its location beside it.
        let venue = message.get("venue");
        let place = if venue.exists() { venue.get("location") } else { message.get("location") };
        if let (Some(latitude), Some(longitude)) = (place.degrees("latitude"), place.degrees("longitude")) {
            let (name, address) = (venue.text("title").and_then(shown), venue.text("address").map(str::to_owned));
            content.push(Part::Location(Location { latitude, longitude, name, address }));
        }
        let contact = message.get("contact");
        if let Some(phone) = contact.id("phone_number") {
            let name = [contact.text("first_name"), contact.text("last_name")];
            content.push(Part::ContactCard(ContactCard {
                name: shown(&name.into_iter().flatten().collect::<Vec<_>>().join(" ")),
                phones: vec![phone],
                emails: Vec::new(),
                raw: contact.text("vcard").map(str::to_owned),
            }));
        }
        let dice = message.get("dice");
        if let (Some(emoji), Some(value)) = (dice.text("emoji"), dice.number("value")) {
            content.push(Part::text(format!("{emoji} {value}")));
        }
        if let Some(data) = message.get("web_app_data").text("data") {
            let title = message.get("web_app_data").text("button_text").unwrap_or_default();
            content.push(Part::Form {
                fields: Map::from_iter([("button".to_owned(), title.into()), ("data".to_owned(), data.into())]),
            });
        }
        // Nothing carried it: then it stands for itself.
        if let Some(caption) = captioned {
            content.push(Part::text(caption));
        }
        let entities = message.list("caption_entities");
        for url in entities.filter(|entity| entity.text("type") == Some("text_link")).filter_map(|at| at.text("url")) {
            content.push(Part::Link { kind: "url".into(), url: Some(url.to_owned()), title: None });
        }
    }

    fn deleted(&self, update: &SmolStr, deleted: At<'_>) -> Option<Vec<Event>> {
        let chat = deleted.get("chat");
        let address = Address::of(deleted)?;
        let sender = Party::new(self.place.identity("telegram", address.chat.clone()), Role::Customer);
        let events = deleted.list("message_ids").filter_map(At::as_id).map(|message| {
            let mut event = self.event(self.thread(chat, &address), sender.clone());
            let external_id = Some(address.message(&message));
            event.envelope.target = Some(MessageRef { external_id, ..MessageRef::default() });
            event.kind(EnvelopeKind::Delete, format!("{update}/{message}"))
        });
        Some(events.collect())
    }

    fn connection(&self, update: &SmolStr, connection: At<'_>) -> Option<Vec<Event>> {
        let mut owner = self.person(connection.get("user"))?;
        owner.role = Role::Agent;
        let address = Address::direct(connection.id("user_chat_id").unwrap_or_else(|| owner.identity.value.clone()));
        let event = self.event(self.thread(connection, &address), owner);
        let data = Map::from_iter([
            ("connection".to_owned(), Value::from(connection.id("id")?.as_str())),
            ("enabled".to_owned(), Value::from(connection.flag("is_enabled"))),
        ]);
        Some(vec![event.kind(EnvelopeKind::AccountEvent, update.clone()).signal("business_connection", data)])
    }

    /// What is new among the reactions was added, what is missing was taken back.
    fn reaction(&self, update: &SmolStr, changed: At<'_>) -> Option<Vec<Event>> {
        let address = Address::of(changed)?;
        let target = address.message(&changed.id("message_id")?);
        let chat = changed.get("chat");
        let sender = self.person(changed.get("user")).or_else(|| self.chat_as_person(changed.get("actor_chat")))?;
        let named = |list: &str| changed.list(list).filter_map(reaction_named).collect::<Vec<_>>();
        let (before, after) = (named("old_reaction"), named("new_reaction"));
        let gone = before.iter().filter(|one| !after.contains(one)).map(|one| (one, true));
        let new = after.iter().filter(|one| !before.contains(one)).map(|one| (one, false));
        let events = gone.chain(new).enumerate().map(|(nth, ((emoji, name), removed))| {
            let mut event = self.event(self.thread(chat, &address), sender.clone());
            event.envelope.sent_at = changed.number("date").map(seconds);
            event.envelope.target = Some(MessageRef { external_id: Some(target.clone()), ..MessageRef::default() });
            event.envelope.reaction = Some(Reaction { emoji: emoji.clone(), name: name.clone(), removed });
            event.kind(EnvelopeKind::Reaction, format!("{update}/{nth}"))
        });
        Some(events.collect())
    }

    /// A button under a message was pressed.
    fn callback(&self, update: &SmolStr, pressed: At<'_>) -> Option<Vec<Event>> {
        let sender = self.person(pressed.get("from"))?;
        let message = pressed.get("message");
        let chat = message.get("chat");
        let address = Address::of(message).unwrap_or_else(|| Address::direct(sender.identity.value.clone()));
        let mut event = self.event(self.thread(chat, &address), sender);
        let payload = pressed.text("data").or_else(|| pressed.text("game_short_name"))?;
        let buttons = message.get("reply_markup").list("inline_keyboard");
        let mut buttons = buttons.filter_map(|row| row.value().and_then(Value::as_array)).flatten().map(At::new);
        let title = buttons.find(|button| button.text("callback_data") == Some(payload)).and_then(|at| at.text("text"));
        event.envelope.content.push(Part::Choice(Choice {
            id: None,
            title: title.unwrap_or(payload).to_owned(),
            payload: Some(payload.to_owned()),
            source: Some("button".into()),
        }));
        event.envelope.external_id = Some(format!("callback/{}", pressed.id("id")?).into());
        let message_id = message.id("message_id").map(|id| address.message(&id));
        event.envelope.reply_to = message_id.map(|id| MessageRef { external_id: Some(id), ..MessageRef::default() });
        event.envelope.language = pressed.get("from").text("language_code").and_then(language);
        Some(vec![event.kind(EnvelopeKind::Message, update.clone())])
    }

    /// The bot was blocked, let back in, added or thrown out.
    fn own_membership(&self, update: &SmolStr, changed: At<'_>) -> Option<Vec<Event>> {
        let direct = changed.get("chat").text("type") == Some("private");
        let (was, is) = (status(changed, "old_chat_member")?, status(changed, "new_chat_member")?);
        let name = match (direct, within(was), within(is)) {
            (true, _, false) => "block",
            (true, false, true) => "unblock",
            (false, false, true) => "join",
            (false, true, false) => "leave",
            _ => "member_changed",
        };
        // Whoever threw the bot out of a group has not left themselves.
        let sender = if direct {
            self.person(changed.get("from"))?
        } else {
            self.place.platform("telegram", changed.get("chat").id("id")?)
        };
        let event = self.membership_event(changed, sender)?;
        let data = Map::from_iter([("was".to_owned(), was.into()), ("is".to_owned(), is.into())]);
        Some(vec![event.kind(EnvelopeKind::ContactEvent, update.clone()).signal(name, data)])
    }

    fn membership(&self, update: &SmolStr, changed: At<'_>) -> Option<Vec<Event>> {
        let (was, is) = (status(changed, "old_chat_member")?, status(changed, "new_chat_member")?);
        let name = match (within(was), within(is)) {
            (false, true) => "join",
            (true, false) => "leave",
            _ => "member_changed",
        };
        let event = self.membership_event(changed, self.person(changed.get("new_chat_member").get("user"))?)?;
        let data = Map::from_iter([("was".to_owned(), was.into()), ("is".to_owned(), is.into())]);
        Some(vec![event.kind(EnvelopeKind::ContactEvent, update.clone()).signal(name, data)])
    }

    fn join_request(&self, update: &SmolStr, asked: At<'_>) -> Option<Vec<Event>> {
        let event = self.membership_event(asked, self.person(asked.get("from"))?)?;
        let data = asked.text("bio").map(|bio| entry("bio", bio)).unwrap_or_default();
        Some(vec![event.kind(EnvelopeKind::ContactEvent, update.clone()).signal("join_request", data)])
    }

    fn membership_event(&self, changed: At<'_>, sender: Party) -> Option<Event> {
        let address = Address::of(changed)?;
        let mut event = self.event(self.thread(changed.get("chat"), &address), sender);
        event.envelope.sent_at = changed.number("date").map(seconds);
        Some(event)
    }
}

fn status<'a>(changed: At<'a>, which: &str) -> Option<&'a str> {
    changed.get(which).text("status")
}

fn within(status: &str) -> bool {
    !matches!(status, "left" | "kicked")
}

/// An emoji, or the name of what is none.
fn reaction_named(reaction: At<'_>) -> Option<(Option<SmolStr>, Option<SmolStr>)> {
    match reaction.text("type")? {
        "emoji" => Some((Some(reaction.text("emoji")?.into()), None)),
        "custom_emoji" => Some((None, Some(format!("custom:{}", reaction.id("custom_emoji_id")?).into()))),
        other => Some((None, Some(other.into()))),
    }
}

/// What a link carried to the bot: `abc` of `/start abc`, nothing of a bare `/start`.
fn started(message: At<'_>) -> Option<&str> {
    if message.get("chat").text("type") != Some("private") {
        return None;
    }
    let rest = message.text("text")?.strip_prefix("/start")?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix(' ').map(str::trim) }
}

/// The field that says what a message is about, when nothing here knows it: the first that is an object or list and
/// is not one that every message may have.
fn odd_field(fields: &Map<String, Value>) -> Option<&str> {
    const COMMON: [&str; 13] = [
        "from",
        "chat",
        "sender_chat",
        "via_bot",
        "reply_to_message",
        "external_reply",
        "quote",
        "reply_markup",
        "entities",
        "caption_entities",
        "link_preview_options",
        "forward_origin",
        "sender_business_bot",
    ];
    let odd = fields.iter().filter(|(_, value)| value.is_object() || value.is_array());
    odd.map(|(key, _)| key.as_str()).find(|key| !COMMON.contains(key))
}

#[cfg(test)]
mod tests;
