//! From the platform's events to envelopes: what people and a page, or an Instagram account, write to each other. Pure.

use adapter::contract::envelope::{
    Choice, Direction, EnvelopeKind, Location, Media, MessageRef, Part, Party, Reaction, Receipt, ReceiptStatus,
    Referral, ReplyWindow, Role, Thread, ThreadKind,
};
use adapter::contract::{SmolStr, Timestamp};
use adapter::webhook::Item;
use serde_json::{Map, Value, json};

use super::{Product, comments};
use crate::found::{Event, entry};
use crate::meta::ticket::Ticket;
use crate::meta::{Desk, Ours, WINDOW, WINDOW_OF_AGENTS, dead, fingerprint, item, reference, report, time};
use crate::read::{At, shown};

/// What vouches for everything that is found here.
pub(super) const BY: &str = "the signature of the app";
/// Begins the key and address of somebody who is known by a reference of our own page only.
pub(super) const USER_REF: &str = "user_ref:";

/// Everything that a request tells.
pub(crate) fn read(desk: &Desk<'_>, product: Product, body: At<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    for entry in body.list("entry") {
        let page = entry.id("id");
        for event in entry.list("messaging") {
            items.push(messaging(desk, product, page.as_ref(), event, false));
        }
        for event in entry.list("standby") {
            items.push(messaging(desk, product, page.as_ref(), event, true));
        }
        for change in entry.list("changes") {
            let value = change.get("value");
            // Some of what is subscribed to comes in the other shape.
            if value.get("sender").exists() && value.get("recipient").exists() {
                items.push(messaging(desk, product, page.as_ref(), value, false));
                continue;
            }
            let ours = page.as_ref().and_then(|page| desk.ours(product.as_str(), page));
            items.extend(match ours {
                Some(ours) => comments::read(&ours, product, page.as_deref().unwrap_or_default(), entry, change),
                None => Some(dead(None, "it is for a page that is no account here", change)),
            });
        }
    }
    items
}

/// One event between somebody and a page.
fn messaging(desk: &Desk<'_>, product: Product, page: Option<&SmolStr>, event: At<'_>, standby: bool) -> Item {
    let echo = event.get("message").flag("is_echo");
    let (from, to) = (event.get("sender").id("id"), event.get("recipient").id("id"));
    // What we sent comes back with the sides exchanged.
    let ((customer, own), other) = if echo { ((to, from), "recipient") } else { ((from, to), "sender") };
    let user_ref = event.get(other).id("user_ref").or_else(|| event.get("optin").id("user_ref"));
    let natives = [own.as_ref(), page].into_iter().flatten();
    let Some(ours) = natives.into_iter().find_map(|native| desk.ours(product.as_str(), native)) else {
        return dead(None, "it is for a page that is no account here", event);
    };
    let reader = Reader { ours, product, customer, user_ref };
    let found = match standby {
        false => reader.event(event, echo),
        // Somebody else holds the thread: it is known here, and not for us to answer.
        true => reader.event(event, echo).map(Found::standby),
    };
    match found {
        Ok(Found::Event(event_)) => item(&reader.ours.place, event_, event),
        Ok(Found::Report(event_)) => report(&reader.ours.place, event_, event),
        Err(why) => reader.ours.dead(why, event),
    }
}

/// What one event is.
enum Found {
    /// Something of which the original is kept.
    Event(Event),
    /// What became of ours, or something whose original holds a token.
    Report(Event),
}

impl Found {
    fn standby(self) -> Self {
        match self {
            Self::Event(mut event) if event.envelope.kind == EnvelopeKind::Message => {
                let id = event.envelope.dedup_key.clone();
                event = event.kind(EnvelopeKind::ConversationEvent, format!("standby/{id}"));
                event.envelope.window = None;
                Self::Event(event.signal("standby", Map::new()))
            }
            other => other,
        }
    }
}

/// Reads one event.
struct Reader {
    ours: Ours,
    product: Product,
    customer: Option<SmolStr>,
    user_ref: Option<SmolStr>,
}

impl Reader {
    fn event(&self, event: At<'_>, echo: bool) -> Result<Found, &'static str> {
        let at = |key: &str| Some(event.get(key)).filter(|at| at.exists());
        if let Some(message) = at("message") {
            return if echo { self.echo(event, message) } else { self.message(event, message).map(Found::Event) };
        }
        if let Some(postback) = at("postback") {
            return self.postback(event, postback).map(Found::Event);
        }
        if let Some(reaction) = at("reaction") {
            return self.reaction(event, reaction).map(Found::Event);
        }
        if let Some(edit) = at("message_edit") {
            return self.edit(event, edit).map(Found::Event);
        }
        for (key, status) in [("delivery", ReceiptStatus::Delivered), ("read", ReceiptStatus::Read)] {
            if let Some(receipt) = at(key) {
                return self.receipt(event, receipt, status).map(Found::Report);
            }
        }
        if let Some(optin) = at("optin") {
            return self.optin(event, optin).map(Found::Report);
        }
        if let Some(referral) = at("referral") {
            let mut told = self.signal(event, EnvelopeKind::ConversationEvent, "referral", Map::new())?;
            told.envelope.referral = Some(led_here(referral));
            self.window(&mut told);
            return Ok(Found::Event(told));
        }
        for name in ["pass_thread_control", "take_thread_control", "request_thread_control"] {
            if let Some(control) = at(name) {
                let mut data = entry("event", name);
                data.extend(control.object().cloned().unwrap_or_default());
                return self.signal(event, EnvelopeKind::ConversationEvent, "handover", data).map(Found::Event);
            }
        }
        for name in ["app_roles", "policy_enforcement"] {
            if let Some(told) = at(name) {
                let data = told.object().cloned().unwrap_or_default();
                let sender = self.ours.place.platform(self.product.scheme(), "platform");
                let found =
                    self.ours.place.event(Thread::new("account", ThreadKind::Direct), sender, BY, self.ours.now);
                let found = found.kind(EnvelopeKind::AccountEvent, format!("account/{name}/{}", fingerprint(event)));
                return Ok(Found::Event(found.signal(name, data)));
            }
        }
        if let Some(linking) = at("account_linking") {
            // The code that comes with it is a secret.
            let name = if linking.text("status") == Some("linked") { "account_linked" } else { "account_unlinked" };
            return self.signal(event, EnvelopeKind::ContactEvent, name, Map::new()).map(Found::Report);
        }
        if let Some(feedback) = at("messaging_feedback") {
            let mut told = self.begun(event)?;
            told = told.kind(EnvelopeKind::Message, format!("feedback/{}", fingerprint(event)));
            told.envelope.content.extend(feedback.object().cloned().map(|fields| Part::Form { fields }));
            return Ok(Found::Event(told));
        }
        Err("an event of a kind that is not known")
    }

    // === Who, where and when ===

    fn person(&self) -> Option<(SmolStr, Party)> {
        let place = &self.ours.place;
        match (&self.customer, &self.user_ref) {
            (Some(id), _) => {
                Some((id.clone(), Party::new(place.identity(self.product.scheme(), id.clone()), Role::Customer)))
            }
            (None, Some(id)) => {
                let key = format!("{USER_REF}{id}");
                Some((key.into(), Party::new(place.identity("user_ref", id.clone()), Role::Customer)))
            }
            (None, None) => None,
        }
    }

    /// An event that says who, where and when.
    fn begun(&self, at: At<'_>) -> Result<Event, &'static str> {
        let (key, party) = self.person().ok_or("an event of nobody")?;
        let mut event = self.ours.place.event(Thread::new(key, ThreadKind::Direct), party, BY, self.ours.now);
        match time(at, "timestamp") {
            Some((sent, written)) => {
                event.envelope.sent_at = Some(sent);
                event.envelope.sent_at_raw = Some(written);
            }
            None => event.warn("the time cannot be read"),
        }
        Ok(event)
    }

    /// Names an event that has no id of its own.
    fn named(&self, at: At<'_>, what: &str) -> String {
        let who = self.customer.as_ref().or(self.user_ref.as_ref()).cloned().unwrap_or_default();
        let when = time(at, "timestamp").map_or(0, |(at, _)| at.0);
        format!("{what}/{who}/{when}")
    }

    fn signal(
        &self,
        at: At<'_>,
        kind: EnvelopeKind,
        name: &str,
        data: Map<String, Value>,
    ) -> Result<Event, &'static str> {
        let event = self.begun(at)?;
        Ok(event.kind(kind, self.named(at, name)).signal(name, data))
    }

    /// The customer did something to which an answer is allowed.
    fn window(&self, event: &mut Event) {
        let at = event.envelope.sent_at.unwrap_or(self.ours.now);
        let (span, policy) = match self.ours.facts.human_agent {
            true => (WINDOW_OF_AGENTS, "7d_agent"),
            false => (WINDOW, "24h"),
        };
        event.envelope.window = Some(ReplyWindow {
            open_until: Some(at + span),
            policy: Some(policy.into()),
            templates: self.product == Product::Messenger,
            ..ReplyWindow::default()
        });
    }

    // === What was said ===

    fn message(&self, at: At<'_>, message: At<'_>) -> Result<Event, &'static str> {
        let id = message.id("mid").ok_or("a message without an id")?;
        let mut event = self.begun(at)?;
        if message.flag("is_deleted") {
            event.envelope.target = Some(reference(id.clone()));
            return Ok(event.kind(EnvelopeKind::Delete, format!("delete/{id}")));
        }
        event = event.kind(EnvelopeKind::Message, id.clone());
        event.envelope.external_id = Some(id);
        self.window(&mut event);
        self.contents(&mut event, message);
        Ok(event)
    }

    fn contents(&self, event: &mut Event, message: At<'_>) {
        let reply = message.get("reply_to");
        let story = reply.get("story");
        if story.exists() {
            event.envelope.reply_to = Some(MessageRef { story: story.id("id"), ..MessageRef::default() });
            let url = story.text("url").filter(|url| is_link(url)).map(str::to_owned);
            event.envelope.content.push(Part::Link { kind: "story_reply".into(), url: url.clone(), title: None });
            // The address ends soon.
            if let Some(url) = url {
                event.media(Media { kind: "file".into(), ..Media::default() }, json!({ "url": url }));
            }
        } else {
            event.envelope.reply_to = reply.id("mid").map(reference);
        }
        let quick = message.get("quick_reply");
        match (message.text("text"), quick.text("payload")) {
            (Some(text), Some(payload)) => event.envelope.content.push(Part::Choice(Choice {
                id: None,
                title: text.to_owned(),
                payload: Some(payload.to_owned()),
                source: Some("quick_reply".into()),
            })),
            (Some(text), None) => event.envelope.content.push(Part::text(text)),
            _ => {}
        }
        for attachment in message.list("attachments") {
            self.attachment(event, attachment);
        }
        let referral = message.get("referral");
        if referral.exists() {
            event.envelope.referral = Some(led_here(referral));
            if let Some(product) = referral.get("product").object() {
                event.envelope.content.push(Part::Order { details: product.clone() });
            }
        }
        if event.envelope.content.is_empty() {
            let kind = if message.flag("is_unsupported") { "is_unsupported" } else { "message" };
            event.envelope.content.push(Part::Unsupported { kind: kind.into() });
        }
    }

    fn attachment(&self, event: &mut Event, attachment: At<'_>) {
        let kind = attachment.text("type").unwrap_or("unknown");
        let payload = attachment.get("payload");
        let url = payload.text("url").or_else(|| attachment.text("url")).filter(|url| is_link(url));
        let title = payload.text("title").or_else(|| attachment.text("title")).and_then(shown);
        match (kind, url) {
            ("image", _) if payload.get("sticker_id").exists() => {
                let id = payload.id("sticker_id").unwrap_or_else(|| "sticker".into());
                event.envelope.content.push(Part::Sticker { id, emoji: None });
            }
            ("like_heart", _) => {
                event.envelope.content.push(Part::Sticker { id: "like_heart".into(), emoji: Some("❤️".into()) });
            }
            ("image" | "video" | "audio" | "file", Some(url)) => {
                event.media(Media { kind: kind.into(), name: title, ..Media::default() }, json!({ "url": url }));
            }
            ("location", _) if payload.get("coordinates").exists() => {
                let place = payload.get("coordinates");
                let latitude = place.degrees("lat").or_else(|| place.degrees("latitude"));
                let longitude = place.degrees("long").or_else(|| place.degrees("longitude"));
                match (latitude, longitude) {
                    (Some(latitude), Some(longitude)) => event.envelope.content.push(Part::Location(Location {
                        latitude,
                        longitude,
                        name: title,
                        address: None,
                    })),
                    _ => event.envelope.content.push(Part::Unsupported { kind: kind.into() }),
                }
            }
            ("template", _) if payload.get("product").exists() => {
                event.envelope.content.extend(payload.object().cloned().map(|details| Part::Order { details }));
            }
            // What is shared on Instagram lies where its address ends soon.
            ("story_mention" | "share" | "ig_post" | "reel" | "ig_reel" | "ig_story", Some(url)) => {
                let shared = match kind {
                    "story_mention" => "story_mention",
                    "reel" | "ig_reel" => "reel",
                    _ => "share",
                };
                let title = title.map(|title| title.to_string());
                event.envelope.content.push(Part::Link { kind: shared.into(), url: Some(url.to_owned()), title });
                if self.product == Product::Instagram {
                    event.media(Media { kind: "file".into(), ..Media::default() }, json!({ "url": url }));
                }
            }
            // Whatever stands there may be no address at all.
            ("fallback", url) => event.envelope.content.push(Part::Link {
                kind: "url".into(),
                url: url.map(str::to_owned),
                title: title.map(|title| title.to_string()),
            }),
            (_, _) => {
                event.envelope.content.push(Part::Unsupported { kind: kind.into() });
                event.warn(format!("an attachment of type {kind}").chars().take(100).collect::<String>());
            }
        }
    }

    /// What the page itself wrote: by us, and then it says what became of it; or by somebody in another program.
    fn echo(&self, at: At<'_>, message: At<'_>) -> Result<Found, &'static str> {
        let id = message.id("mid").ok_or("an echo without an id")?;
        let mut event = self.begun(at)?;
        let ticket = message.text("metadata").and_then(Ticket::read);
        if ticket.is_some() || message.id("app_id").is_some_and(|app| app == self.ours.facts.app) {
            event = event.kind(EnvelopeKind::Receipt, format!("status/{id}/sent"));
            if let Some(ticket) = &ticket {
                event.envelope.thread = Thread::new(ticket.thread.clone(), ThreadKind::Direct);
            }
            event.envelope.receipt = Some(Receipt {
                command_id: ticket.as_ref().map(|ticket| ticket.command.clone()),
                part: ticket.as_ref().map(|ticket| ticket.part),
                ..receipt(ReceiptStatus::Sent, vec![id])
            });
            return Ok(Found::Report(event));
        }
        // It belongs to the customer's history; the direction says whose words they are.
        event = event.kind(EnvelopeKind::Echo, format!("echo/{id}"));
        event.envelope.direction = Direction::OutEcho;
        if message.flag("is_deleted") {
            event.envelope.dedup_key = format!("echo-delete/{id}").into();
            event.envelope.target = Some(reference(id));
            event.envelope.content.push(Part::System { body: "withdrawn".into() });
            return Ok(Found::Event(event));
        }
        event.envelope.external_id = Some(id);
        self.contents(&mut event, message);
        Ok(Found::Event(event))
    }

    fn postback(&self, at: At<'_>, postback: At<'_>) -> Result<Event, &'static str> {
        let mut event = self.begun(at)?;
        let id = postback.id("mid");
        let key = id.clone().map_or_else(|| self.named(at, "postback"), |id| id.to_string());
        event = event.kind(EnvelopeKind::Message, key);
        event.envelope.external_id = id;
        self.window(&mut event);
        let payload = postback.text("payload");
        event.envelope.content.push(Part::Choice(Choice {
            id: None,
            title: postback.text("title").or(payload).unwrap_or("postback").to_owned(),
            payload: payload.map(str::to_owned),
            source: Some("postback".into()),
        }));
        let referral = postback.get("referral");
        event.envelope.referral = referral.exists().then(|| led_here(referral));
        Ok(event)
    }

    fn reaction(&self, at: At<'_>, reaction: At<'_>) -> Result<Event, &'static str> {
        let target = reaction.id("mid").ok_or("a reaction to nothing")?;
        let mut event = self.begun(at)?;
        event = event.kind(EnvelopeKind::Reaction, self.named(at, &format!("reaction/{target}")));
        event.envelope.target = Some(reference(target));
        event.envelope.reaction = Some(Reaction {
            emoji: reaction.text("emoji").map(SmolStr::from),
            name: reaction.text("reaction").and_then(shown),
            removed: reaction.text("action") == Some("unreact"),
        });
        Ok(event)
    }

    fn edit(&self, at: At<'_>, edit: At<'_>) -> Result<Event, &'static str> {
        let target = edit.id("mid").ok_or("a change of nothing")?;
        let mut event = self.begun(at)?;
        let nth = edit.small("num_edit");
        let key = match nth {
            Some(nth) => format!("edit/{target}/{nth}"),
            None => self.named(at, &format!("edit/{target}")),
        };
        event = event.kind(EnvelopeKind::Edit, key);
        event.envelope.target = Some(MessageRef { revision: nth, ..reference(target) });
        event.envelope.content.push(Part::text(edit.text("text").unwrap_or_default()));
        Ok(event)
    }

    // === What became of ours ===

    fn receipt(&self, at: At<'_>, told: At<'_>, status: ReceiptStatus) -> Result<Event, &'static str> {
        let mut targets: Vec<SmolStr> = told.list("mids").filter_map(At::as_id).collect();
        targets.extend(told.id("mid"));
        let watermark: Option<Timestamp> = time(told, "watermark").map(|(at, _)| at);
        if targets.is_empty() && watermark.is_none() {
            return Err("a report about nothing");
        }
        let mut event = self.begun(at)?;
        let named = match (targets.first(), watermark) {
            (_, Some(watermark)) => format!("{}", watermark.0),
            (Some(first), None) => format!("mid/{first}"),
            (None, None) => String::new(),
        };
        let who = event.envelope.thread.key.clone();
        event = event.kind(EnvelopeKind::Receipt, format!("{status}/{who}/{named}"));
        event.envelope.receipt = Some(Receipt { watermark, ..receipt(status, targets) });
        Ok(event)
    }

    // === Beginnings ===

    fn optin(&self, at: At<'_>, optin: At<'_>) -> Result<Event, &'static str> {
        let stopped = ["STOP_NOTIFICATIONS", "STOP NOTIFICATIONS"];
        let status = optin.text("notification_messages_status");
        let name = if status.is_some_and(|status| stopped.contains(&status)) { "opt_out" } else { "opt_in" };
        let mut data = Map::new();
        // Tokens that come with it let whoever has them write: they are not kept.
        for key in
            ["type", "ref", "payload", "title", "notification_messages_frequency", "notification_messages_timezone"]
        {
            if let Some(text) = optin.text(key) {
                data.insert(key.to_owned(), text.into());
            }
        }
        if optin.text("type").is_some() {
            data.insert("purpose".into(), "marketing".into());
        }
        self.signal(at, EnvelopeKind::ContactEvent, name, data)
    }
}

/// A report of what became of these.
const fn receipt(status: ReceiptStatus, targets: Vec<SmolStr>) -> Receipt {
    Receipt {
        status,
        command_id: None,
        part: None,
        targets,
        watermark: None,
        through_seq: None,
        code: None,
        reason: None,
        retryable: None,
        recipient: None,
        price: None,
    }
}

/// What led somebody here.
fn led_here(referral: At<'_>) -> Referral {
    let source = match referral.text("source") {
        Some("ADS") => "ad",
        Some("SHORTLINK" | "IGME-SOURCE-LINK") => "link",
        Some("CUSTOMER_CHAT_PLUGIN") => "page",
        Some(other) => other,
        None if referral.id("ad_id").is_some() => "ad",
        None => "link",
    };
    Referral {
        source: source.into(),
        kind: referral.text("type").map(SmolStr::from),
        reference: referral.text("ref").or_else(|| referral.text("referer_uri")).map(str::to_owned),
        ad_id: referral.id("ad_id"),
        click_id: None,
    }
}

/// Whether a text is an address that can be opened.
pub(super) fn is_link(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}
