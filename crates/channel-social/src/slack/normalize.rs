//! From what the Events API and interactivity send to envelopes. Pure.

use adapter::contract::envelope::{
    Choice, EnvelopeKind, Identity, Media, MediaStatus, MessageRef, Part, Party, Reaction, ReplyTarget, Role, Scope,
    Thread, ThreadKind,
};
use adapter::contract::{Millis, SmolStr, Timestamp};
use serde_json::{Map, Value, json};

use super::mrkdwn;
use crate::found::{Event, Found, Place, entry, seconds};
use crate::meta::NOBODY;
use crate::read::{At, shown};

/// What vouches for everything that is found here.
const BY: &str = "the signature of the app's requests";
/// Somebody left a channel. It is not the `leave` that says that the customer has gone: they still write directly.
const LEFT: &str = "left_channel";
/// What comes with something else that is read, or concerns the app alone.
const QUIET: [&str; 5] = ["file_shared", "file_created", "file_public", "file_change", "user_typing"];

/// Who reads, and who the app is.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) place: &'a Place,
    /// The workspace.
    pub(super) team: &'a str,
    /// The app's id, and its own user's.
    pub(super) app: &'a str,
    pub(super) bot_user: Option<&'a str>,
    pub(super) now: Timestamp,
    pub(super) raw_bytes: usize,
}

impl Reader<'_> {
    /// Reads what an `event_callback` tells.
    pub(super) fn callback(&self, body: At<'_>) -> Vec<Found> {
        let event = body.get("event");
        // Whom the event is shown to: in each workspace the bot is another user.
        let mut shown_to = body.list("authorizations").filter(|one| one.flag("is_bot"));
        let bot_user = shown_to.find_map(|one| one.text("user_id")).or(self.bot_user);
        let reader = Reader { bot_user, ..*self };
        let found = body.id("event_id").ok_or("an event without an id").and_then(|id| reader.event(&id, event));
        self.found(found)
    }

    /// Reads that events of a minute were left out, because there were too many.
    pub(super) fn limited(&self, body: At<'_>) -> Vec<Found> {
        let minute = body.id("minute_rate_limited").ok_or("a limit without a time");
        self.found(minute.map(|minute| {
            let mut event = self.account(&format!("rate_limited/{minute}"), "rate_limited", "minute", minute.as_str());
            event.envelope.sent_at = body.number("minute_rate_limited").map(seconds);
            vec![event]
        }))
    }

    /// Reads what a person did with something interactive.
    pub(super) fn interaction(&self, payload: At<'_>) -> Vec<Found> {
        self.found(self.pressed(payload))
    }

    fn found(&self, read: Result<Vec<Event>, &'static str>) -> Vec<Found> {
        match read {
            Ok(events) => events.into_iter().map(|event| event.found(self.raw_bytes)).collect(),
            Err(why) => vec![Found::Dead(why)],
        }
    }

    fn event(&self, id: &SmolStr, event: At<'_>) -> Result<Vec<Event>, &'static str> {
        match event.text("type").unwrap_or_default() {
            "message" | "app_mention" => self.message(id, event),
            "reaction_added" => self.reaction(id, event, false),
            "reaction_removed" => self.reaction(id, event, true),
            "member_joined_channel" => self.signal(id, event, EnvelopeKind::ContactEvent, "join"),
            "member_left_channel" => self.signal(id, event, EnvelopeKind::ContactEvent, LEFT),
            "app_home_opened" => self.signal(id, event, EnvelopeKind::ConversationEvent, "start"),
            "pin_added" | "pin_removed" => {
                let name = event.text("type").unwrap_or_default();
                self.signal(id, event, EnvelopeKind::ConversationEvent, name)
            }
            // Tokens of people are no concern of ours: the bot's is used.
            "tokens_revoked" if event.get("tokens").exists() && event.get("tokens").list("bot").len() == 0 => {
                Ok(Vec::new())
            }
            kind @ ("app_uninstalled" | "tokens_revoked") => Ok(vec![self.account(id, "auth_failed", "event", kind)]),
            quiet if QUIET.contains(&quiet) => Ok(Vec::new()),
            _ => Err("a kind of event that is not known"),
        }
    }

    /// Something that concerns the account alone.
    fn account(&self, id: &str, name: &str, key: &str, value: &str) -> Event {
        let team = self.place.platform("slack", self.team);
        let event = self.place.event(Thread::new(self.team, ThreadKind::Channel), team, BY, self.now);
        event.kind(EnvelopeKind::AccountEvent, id).signal(name, entry(key, value))
    }

    /// Somebody of the workspace. Ids mean a person within it, whatever app hears of them.
    fn person(&self, id: SmolStr, at: At<'_>) -> Party {
        let team = ["user_team", "team", "team_id"].into_iter().find_map(|key| at.id(key));
        let team = team.unwrap_or_else(|| self.team.into());
        let identity = Identity { scope: Scope::Portfolio, scope_id: Some(team), ..self.place.identity("slack", id) };
        Party::new(identity, Role::Customer)
    }

    /// A message of ours, or of another program.
    fn is_program(&self, message: At<'_>) -> bool {
        message.text("subtype") == Some("bot_message")
            || message.get("bot_id").exists()
            || message.text("app_id") == Some(self.app)
            || message.text("user").is_some_and(|user| Some(user) == self.bot_user)
    }

    fn message(&self, id: &SmolStr, event: At<'_>) -> Result<Vec<Event>, &'static str> {
        let subtype = event.text("subtype").unwrap_or_default();
        match subtype {
            "message_changed" => return self.changed(id, event),
            "message_deleted" => return self.gone(id, event, event.id("deleted_ts")),
            "" | "file_share" | "thread_broadcast" | "me_message" => {}
            "bot_message" | "message_replied" => return Ok(Vec::new()),
            "channel_join" | "group_join" => return self.signal(id, event, EnvelopeKind::ContactEvent, "join"),
            "channel_leave" | "group_leave" => return self.signal(id, event, EnvelopeKind::ContactEvent, LEFT),
            other => {
                let name: String = other.chars().take(60).collect();
                return self.signal(id, event, EnvelopeKind::ConversationEvent, &name);
            }
        }
        if self.is_program(event) {
            return Ok(Vec::new());
        }
        let channel = event.id("channel").ok_or("a message without a channel")?;
        let ts = event.id("ts").ok_or("a message without a time")?;
        let mut said = self.said(&channel, event.text("channel_type"), event)?;
        said.envelope.external_id = Some(format!("{channel}/{ts}").into());
        // A mention comes as two events: as a message and as a mention. It is one message.
        Ok(vec![said.kind(EnvelopeKind::Message, format!("{channel}/{ts}"))])
    }

    /// A message as it stands in a channel: who, where, what.
    fn said(&self, channel: &SmolStr, kind: Option<&str>, message: At<'_>) -> Result<Event, &'static str> {
        let user = message.id("user").ok_or("a message of nobody")?;
        let thread = thread(channel, kind, message);
        let mut event = self.place.event(thread, self.person(user, message), BY, self.now);
        event.envelope.sent_at = message.text("ts").and_then(time);
        event.envelope.sent_at_raw = message.id("ts");
        if let Some(text) = message.text("text") {
            event.envelope.content.push(Part::Text(mrkdwn::decode(text)));
        }
        for file in message.list("files") {
            self.file(&mut event, file);
        }
        // What somebody passed on is no word of their own.
        for passed in message.list("attachments").filter(|one| one.flag("is_share")) {
            let title = passed.text("text").or_else(|| passed.text("fallback")).map(|text| mrkdwn::decode(text).body);
            let url = passed.text("from_url").map(str::to_owned);
            event.envelope.content.push(Part::Link { kind: "share".into(), url, title });
        }
        if event.envelope.content.is_empty() {
            let kind = if message.list("blocks").len() > 0 { "blocks" } else { "message" };
            event.envelope.content.push(Part::Unsupported { kind: kind.into() });
        }
        let (root, own) = (message.id("thread_ts"), message.id("ts"));
        if let Some(root) = root.filter(|root| Some(root) != own.as_ref()) {
            let external_id = Some(format!("{channel}/{root}").into());
            event.envelope.reply_to = Some(MessageRef { external_id, ..MessageRef::default() });
        }
        Ok(event)
    }

    fn file(&self, event: &mut Event, file: At<'_>) {
        let mime = file.text("mimetype").and_then(shown);
        let kind = mime.as_deref().and_then(|mime| mime.split('/').next()).unwrap_or_default();
        let kind = if matches!(kind, "image" | "audio" | "video") { kind } else { "file" };
        let media = Media {
            kind: kind.into(),
            external_id: file.id("id"),
            name: file.text("name").or_else(|| file.text("title")).and_then(shown),
            bytes: file.number("size"),
            width: file.small("original_w"),
            height: file.small("original_h"),
            duration: file.number("duration_ms").map(Millis),
            voice: file.text("subtype") == Some("slack_audio"),
            mime,
            ..Media::default()
        };
        let url = file.text("url_private_download").or_else(|| file.text("url_private"));
        match (file.text("mode"), url, file.id("id")) {
            // It lies elsewhere; whoever may see it, sees it there.
            (Some("external"), Some(url), _) => {
                let title = media.name.map(|name| name.to_string());
                event.envelope.content.push(Part::Link { kind: "url".into(), url: Some(url.to_owned()), title });
            }
            (Some("tombstone" | "hidden_by_limit"), ..) | (_, None, None) => {
                let (status, reason) =
                    (Some(MediaStatus::Unavailable), Some("the platform does not give it out".into()));
                event.envelope.content.push(Part::Media(Media { status, reason, ..media }));
            }
            (_, Some(url), _) => event.media(media, json!({ "url": url })),
            (_, None, Some(id)) => event.media(media, json!({ "file_id": id.as_str() })),
        }
    }

    fn changed(&self, id: &SmolStr, event: At<'_>) -> Result<Vec<Event>, &'static str> {
        let (message, before) = (event.get("message"), event.get("previous_message"));
        // Somebody had answered it, so its place is kept; it is the platform that says so.
        if message.text("subtype") == Some("tombstone") {
            return self.gone(id, event, message.id("ts"));
        }
        // A preview was added, or somebody answered in the thread: nobody changed what was said.
        let same = message.text("text") == before.text("text") && files(message).eq(files(before));
        if self.is_program(message) || same {
            return Ok(Vec::new());
        }
        let channel = event.id("channel").ok_or("a message without a channel")?;
        let ts = message.id("ts").ok_or("a message without a time")?;
        let mut said = self.said(&channel, event.text("channel_type"), message)?;
        said.envelope.sent_at = event.text("ts").and_then(time);
        said.envelope.sent_at_raw = event.id("ts");
        said.envelope.target =
            Some(MessageRef { external_id: Some(format!("{channel}/{ts}").into()), ..MessageRef::default() });
        Ok(vec![said.kind(EnvelopeKind::Edit, id.clone())])
    }

    /// A message that is there no more.
    fn gone(&self, id: &SmolStr, event: At<'_>, ts: Option<SmolStr>) -> Result<Vec<Event>, &'static str> {
        let before = event.get("previous_message");
        if self.is_program(before) {
            return Ok(Vec::new());
        }
        let channel = event.id("channel").ok_or("a message without a channel")?;
        let ts = ts.ok_or("it names no message")?;
        let sender = match before.id("user") {
            Some(user) => self.person(user, before),
            None => self.place.platform("slack", NOBODY),
        };
        let bare = json!({ "ts": ts.as_str() });
        let was = if before.exists() { before } else { At::new(&bare) };
        let mut gone = self.place.event(thread(&channel, event.text("channel_type"), was), sender, BY, self.now);
        gone.envelope.sent_at = event.text("ts").and_then(time);
        gone.envelope.sent_at_raw = event.id("ts");
        gone.envelope.target =
            Some(MessageRef { external_id: Some(format!("{channel}/{ts}").into()), ..MessageRef::default() });
        Ok(vec![gone.kind(EnvelopeKind::Delete, id.clone())])
    }

    fn reaction(&self, id: &SmolStr, event: At<'_>, removed: bool) -> Result<Vec<Event>, &'static str> {
        let item = event.get("item");
        if item.text("type") != Some("message") || self.is_program(event) {
            return Ok(Vec::new());
        }
        let channel = item.id("channel").ok_or("a reaction without a channel")?;
        let ts = item.id("ts").ok_or("a reaction to nothing")?;
        let user = event.id("user").ok_or("a reaction of nobody")?;
        let thread = thread(&channel, None, item);
        let mut event_read = self.place.event(thread, self.person(user, event), BY, self.now);
        event_read.envelope.sent_at = event.text("event_ts").and_then(time);
        event_read.envelope.target =
            Some(MessageRef { external_id: Some(format!("{channel}/{ts}").into()), ..MessageRef::default() });
        event_read.envelope.reaction = Some(Reaction { emoji: None, name: event.id("reaction"), removed });
        Ok(vec![event_read.kind(EnvelopeKind::Reaction, id.clone())])
    }

    fn signal(&self, id: &SmolStr, event: At<'_>, kind: EnvelopeKind, name: &str) -> Result<Vec<Event>, &'static str> {
        let item = event.get("item").get("channel");
        let channel = event.id("channel").or_else(|| event.id("channel_id")).or_else(|| item.as_id());
        let channel = channel.ok_or("an event without a channel")?;
        // That the app itself came or went is nothing that a customer did.
        let (kind, sender) = match event.id("user") {
            Some(user) if Some(user.as_str()) == self.bot_user => {
                (EnvelopeKind::AccountEvent, self.place.platform("slack", user))
            }
            Some(user) => (kind, self.person(user, event)),
            None => (kind, self.place.platform("slack", NOBODY)),
        };
        let mut thread = Thread::new(
            channel.clone(),
            if channel.starts_with('D') { ThreadKind::Direct } else { ThreadKind::Channel },
        );
        thread.reply_target = Some(ReplyTarget { address: channel, token: None, token_until: None });
        let mut told = self.place.event(thread, sender, BY, self.now);
        told.envelope.sent_at = event.text("event_ts").or_else(|| event.text("ts")).and_then(time);
        Ok(vec![told.kind(kind, id.clone()).signal(name, Map::new())])
    }

    /// A button, a menu, a form.
    fn pressed(&self, payload: At<'_>) -> Result<Vec<Event>, &'static str> {
        let user = payload.get("user").id("id").ok_or("an interaction of nobody")?;
        let channel = payload.get("channel").id("id").or_else(|| payload.get("container").id("channel_id"));
        let message = payload.get("message");
        let person = self.person(user.clone(), payload.get("user"));
        // A form is nowhere, and what only one person sees is no place in a channel: it is answered directly.
        let channel = channel.filter(|channel| channel.starts_with('D') || message.exists()).unwrap_or(user);
        let begin = || self.place.event(thread(&channel, None, message), person.clone(), BY, self.now);
        match payload.text("type").unwrap_or_default() {
            "block_actions" => {
                let events = payload.list("actions").map(|action| {
                    let id = action.id("action_id").ok_or("an action without an id")?;
                    let when = action.id("action_ts").or_else(|| payload.id("trigger_id"));
                    let when = when.ok_or("an action that cannot be told from others")?;
                    let selected = action.get("selected_option");
                    let title = [action.get("text"), selected.get("text")].into_iter().find_map(|at| at.text("text"));
                    let value = action.text("value").or_else(|| selected.text("value"));
                    let value = value.or_else(|| action.text("selected_date")).or_else(|| action.text("selected_user"));
                    let mut event = begin();
                    event.envelope.content.push(Part::Choice(Choice {
                        id: Some(id.clone()),
                        title: title.or(value).unwrap_or(&id).to_owned(),
                        payload: value.map(str::to_owned),
                        source: Some("button".into()),
                    }));
                    let target = message.id("ts").map(|ts| format!("{channel}/{ts}").into());
                    event.envelope.reply_to =
                        target.map(|id| MessageRef { external_id: Some(id), ..MessageRef::default() });
                    Ok(event.kind(EnvelopeKind::Message, format!("action/{channel}/{when}/{id}")))
                });
                events.collect()
            }
            "view_submission" => {
                let view = payload.get("view");
                let id = view.id("id").zip(view.id("hash")).ok_or("a form that cannot be told from others")?;
                let mut event = begin();
                let values = view.get("state").get("values").object().cloned().unwrap_or_default();
                event.envelope.content.push(Part::Form { fields: values });
                Ok(vec![event.kind(EnvelopeKind::Message, format!("view/{}/{}", id.0, id.1))])
            }
            "shortcut" | "message_action" => {
                let id =
                    payload.id("action_ts").or_else(|| payload.id("trigger_id")).ok_or("a shortcut without a time")?;
                let name = payload.text("callback_id").unwrap_or_default();
                let event = begin().kind(EnvelopeKind::ConversationEvent, format!("shortcut/{channel}/{id}"));
                Ok(vec![event.signal("shortcut", entry("callback_id", name))])
            }
            _ => Err("a kind of interaction that is not known"),
        }
    }

    /// A command that begins with a slash.
    pub(super) fn command(&self, field: &dyn Fn(&str) -> Option<String>) -> Vec<Found> {
        let read = || {
            let text = |name: &str| field(name).filter(|text| !text.is_empty());
            let (command, trigger) = (text("command")?, text("trigger_id")?);
            let user = SmolStr::from(text("user_id")?);
            let said = format!("{command} {}", text("text").unwrap_or_default());
            let nothing = Value::Null;
            let mut party = self.person(user.clone(), At::new(&nothing));
            party.username = text("user_name").as_deref().and_then(shown);
            // Nobody else saw it, and the app need not be where it was written: it is answered directly.
            let mut event = self.place.event(thread(&user, None, At::new(&nothing)), party, BY, self.now);
            event.envelope.content.push(Part::text(said.trim_end()));
            Some(event.kind(EnvelopeKind::Message, format!("command/{trigger}")))
        };
        self.found(read().map(|event| vec![event]).ok_or("a command that lacks a field"))
    }
}

/// In a channel each message begins a thread, in which it is answered; what is direct is one. `kind` is what the event
/// says of the channel; a person's id instead of a channel means the direct one.
fn thread(channel: &SmolStr, kind: Option<&str>, message: At<'_>) -> Thread {
    let direct = match kind {
        Some(kind) => kind == "im",
        None => channel.starts_with(['D', 'U', 'W']),
    };
    let root = message.id("thread_ts");
    let mut thread = if direct {
        Thread { sub_id: root, ..Thread::new(channel.clone(), ThreadKind::Direct) }
    } else if kind == Some("mpim") {
        Thread { sub_id: root, ..Thread::new(channel.clone(), ThreadKind::Group) }
    } else {
        let root = root.or_else(|| message.id("ts"));
        let key = root.as_ref().map_or_else(|| channel.clone(), |root| format!("{channel}/{root}").into());
        Thread { sub_id: root, external_id: Some(channel.clone()), ..Thread::new(key, ThreadKind::Thread) }
    };
    thread.reply_target = Some(ReplyTarget { address: channel.clone(), token: None, token_until: None });
    thread
}

/// The files of a message, and how each is there: one that was taken away keeps its place.
fn files<'a>(message: At<'a>) -> impl Iterator<Item = (Option<SmolStr>, Option<&'a str>)> {
    message.list("files").map(|file| (file.id("id"), file.text("mode")))
}

/// `1503435956.000247`: seconds and a number that makes them unlike.
fn time(ts: &str) -> Option<Timestamp> {
    let (whole, rest) = ts.split_once('.')?;
    let whole: u64 = whole.parse().ok()?;
    let millis: u64 = rest.get(..3)?.parse().ok()?;
    Some(Timestamp(seconds(whole).0.saturating_add(millis)))
}

#[cfg(test)]
mod tests;
