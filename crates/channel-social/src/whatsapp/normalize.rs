//! From the platform's events to envelopes: WhatsApp. Pure.

use adapter::contract::envelope::{
    Choice, ContactCard, Direction, EnvelopeKind, Forward, Identity, Location, Media, Part, Party, Reaction, Receipt,
    ReceiptStatus, Referral, ReplyTarget, ReplyWindow, Role, Scope, Thread, ThreadKind,
};
use adapter::contract::{SmolStr, Timestamp};
use adapter::verify::{self, Encoding};
use adapter::webhook::Item;
use serde_json::{Map, Value, json};

use crate::found::{Event, entry};
use crate::meta::ticket::Ticket;
use crate::meta::{Desk, Ours, WINDOW, classify, dead, fingerprint, item, reference, report, time};
use crate::read::{At, shown};

/// Keeps the ids of this product apart from those of others.
pub(crate) const PRODUCT: &str = "whatsapp";
/// What vouches for everything that is found here.
const BY: &str = "the signature of the app";

/// Everything that a request tells.
pub(crate) fn read(desk: &Desk<'_>, body: At<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    for entry in body.list("entry") {
        for change in entry.list("changes") {
            match change.get("value").get("metadata").id("phone_number_id") {
                Some(number) => match desk.ours(PRODUCT, &number) {
                    Some(ours) => Reader { ours, business: entry.id("id") }.change(change, &mut items),
                    None => items.push(dead(None, "it is for a number that is no account here", change)),
                },
                None => items.push(business(desk, entry, change)),
            }
        }
    }
    items
}

/// What concerns the business account and none of its numbers.
fn business(desk: &Desk<'_>, about: At<'_>, change: At<'_>) -> Item {
    let own = desk.own().filter(|ours| about.id("id").is_some() && ours.facts.business_account == about.id("id"));
    let Some(ours) = own else {
        return dead(None, "it is for a business account that no account here names", change);
    };
    let Some(field) = change.text("field") else { return ours.dead("a change without a field", change) };
    let mut data = change.get("value").object().cloned().unwrap_or_default();
    if let Some(at) = about.id("time") {
        data.insert("entry_time".into(), at.as_str().into());
    }
    let whole = Value::Object(data.clone());
    account_event(&ours, field, &fingerprint(At::new(&whole)), data, change)
}

/// Something about the account itself.
fn account_event(ours: &Ours, name: &str, id: &str, data: Map<String, Value>, raw: At<'_>) -> Item {
    let sender = ours.place.platform(PRODUCT, "platform");
    let event = ours.place.event(Thread::new("account", ThreadKind::Direct), sender, BY, ours.now);
    let event = event.kind(EnvelopeKind::AccountEvent, format!("account/{name}/{id}"));
    item(&ours.place, event.signal(name, data), raw)
}

/// Reads what concerns one number.
struct Reader {
    ours: Ours,
    /// The business account, as the entry names it.
    business: Option<SmolStr>,
}

/// Somebody on WhatsApp: a number, an id within the portfolio, or both.
#[derive(Default, Clone)]
struct Person {
    number: Option<SmolStr>,
    id: Option<SmolStr>,
    parent: Option<SmolStr>,
    name: Option<SmolStr>,
    username: Option<SmolStr>,
}

impl Person {
    /// Names the thread. The id comes with every event, whereas the number may come and go.
    fn key(&self) -> Option<&SmolStr> {
        self.id.as_ref().or(self.number.as_ref())
    }

    /// Where an answer goes: a number as long as there is one.
    fn address(&self) -> Option<&SmolStr> {
        self.number.as_ref().or(self.id.as_ref())
    }

    /// Fills in what the request's list of people says of the same one.
    fn described(mut self, contacts: &[At<'_>]) -> Self {
        let same = |contact: &&At<'_>| {
            let (number, id) = (contact.id("wa_id"), contact.id("user_id"));
            (number.is_some() && number == self.number) || (id.is_some() && id == self.id)
        };
        if let Some(contact) = contacts.iter().find(same).copied() {
            let profile = contact.get("profile");
            self.number = self.number.or_else(|| contact.id("wa_id"));
            self.id = self.id.or_else(|| contact.id("user_id"));
            self.parent = self.parent.or_else(|| contact.id("parent_user_id"));
            self.name = profile.text("name").and_then(shown);
            self.username = profile.text("username").or_else(|| contact.text("username")).and_then(shown);
        }
        self
    }
}

impl Reader {
    fn change(&self, change: At<'_>, items: &mut Vec<Item>) {
        let value = change.get("value");
        let before = items.len();
        let contacts: Vec<At<'_>> = value.list("contacts").collect();
        for message in value.list("messages") {
            items.push(self.ours.found(self.message(message, &contacts), message));
        }
        for echo in value.list("message_echoes") {
            items.push(self.ours.found(self.echo(echo, &contacts), echo));
        }
        for status in value.list("statuses") {
            items.push(match self.status(status) {
                Ok(event) => report(&self.ours.place, event, status),
                Err(why) => self.ours.dead(why, status),
            });
        }
        for preference in value.list("user_preferences") {
            items.push(self.ours.found(self.preference(preference, &contacts), preference));
        }
        for group in value.list("groups") {
            self.group(group, items);
        }
        for error in value.list("errors") {
            let code = error.id("code").unwrap_or_default();
            let mut data = entry("code", code.as_str());
            data.extend(error.text("title").map(|title| ("title".to_owned(), Value::from(title))));
            items.push(account_event(&self.ours, "webhook_error", &fingerprint(change), data, error));
        }
        if items.len() == before {
            items.push(match change.text("field") {
                // What the platform tells of the number itself.
                Some(field) if field != "messages" && is_account_field(field) => {
                    let data = value.object().cloned().unwrap_or_default();
                    account_event(&self.ours, field, &fingerprint(change), data, change)
                }
                _ => self.ours.dead("a change of a kind that is not known", change),
            });
        }
    }

    // === People ===

    fn identity(&self, scheme: &'static str, value: SmolStr, scope: Scope) -> Identity {
        let scope_id = match scope {
            Scope::Portfolio => {
                // Without a portfolio, the business account is the nearest thing that is the same at each event.
                let portfolio = self.ours.facts.portfolio.clone().or_else(|| self.business.clone());
                Some(portfolio.unwrap_or_else(|| self.ours.place.account.id.as_str().into()))
            }
            _ => None,
        };
        Identity { scheme: SmolStr::new_static(scheme), value, scope, scope_id, raw: None, assurance: None }
    }

    /// A number is the same everywhere; the provider leaves the plus away.
    fn number(&self, number: &SmolStr) -> Identity {
        let bare = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let value = if bare { format!("+{number}").into() } else { number.clone() };
        Identity { raw: Some(number.clone()), ..self.identity("tel", value, Scope::Global) }
    }

    fn party(&self, person: &Person) -> Option<Party> {
        let number = person.number.as_ref().map(|number| self.number(number));
        let id = person.id.clone().map(|id| self.identity("bsuid", id, Scope::Portfolio));
        let parent = person.parent.clone().map(|id| self.identity("bsuid_parent", id, Scope::Global));
        let mut identities = [number, id, parent].into_iter().flatten();
        let mut party = Party::new(identities.next()?, Role::Customer);
        party.aliases = identities.collect();
        party.display = person.name.clone();
        party.username = person.username.clone();
        Some(party)
    }

    fn direct(person: &Person) -> Option<Thread> {
        let mut thread = Thread::new(person.key()?.clone(), ThreadKind::Direct);
        thread.reply_target = person.address().map(|address| to(address.clone()));
        Some(thread)
    }

    // === Messages ===

    fn message(&self, message: At<'_>, contacts: &[At<'_>]) -> Result<Event, &'static str> {
        let person = Person {
            number: message.id("from"),
            id: message.id("from_user_id"),
            parent: message.id("from_parent_user_id"),
            ..Person::default()
        };
        let person = person.described(contacts);
        let id = message.id("id").ok_or("a message without an id")?;
        let sender = self.party(&person).ok_or("a message that is from nobody")?;
        let thread = match message.id("group_id") {
            // What is said in a group is no part of what the two say alone.
            Some(group) => {
                let mut thread = Thread::new(group.clone(), ThreadKind::Group);
                thread.reply_target = Some(to(group));
                thread
            }
            None => Self::direct(&person).ok_or("a message that is from nobody")?,
        };
        let mut event =
            self.ours.place.event(thread, sender, BY, self.ours.now).kind(EnvelopeKind::Message, id.clone());
        self.timed(&mut event, message);
        let answerable = event.envelope.sent_at.unwrap_or(self.ours.now) + WINDOW;
        event.envelope.window = Some(ReplyWindow {
            open_until: Some(answerable),
            policy: Some("24h".into()),
            templates: true,
            ..ReplyWindow::default()
        });
        match message.text("type") {
            Some("reaction") => return Self::reaction(event, message.get("reaction")),
            Some("revoke") => return Self::revoke(event, message.get("revoke")),
            Some("edit") => return Self::edit(event, message.get("edit")),
            Some("system") => return self.system(event, &person, message.get("system")),
            Some("request_welcome") => {
                return Ok(event.kind(EnvelopeKind::ConversationEvent, id).signal("start", Map::new()));
            }
            _ => {}
        }
        event.envelope.external_id = Some(id);
        Self::contents(&mut event, message);
        Self::about(&mut event, message);
        Ok(event)
    }

    /// When it was sent.
    fn timed(&self, event: &mut Event, at: At<'_>) {
        match time(at, "timestamp") {
            Some((sent, written)) => {
                event.envelope.sent_at = Some(sent);
                event.envelope.sent_at_raw = Some(written);
            }
            None => event.warn("the time cannot be read"),
        }
    }

    fn reaction(mut event: Event, reaction: At<'_>) -> Result<Event, &'static str> {
        let target = reaction.id("message_id").ok_or("a reaction to nothing")?;
        let emoji = reaction.text("emoji").map(SmolStr::from);
        event.envelope.kind = EnvelopeKind::Reaction;
        event.envelope.reaction = Some(Reaction { removed: emoji.is_none(), emoji, name: None });
        event.envelope.target = Some(reference(target));
        Ok(event)
    }

    fn revoke(mut event: Event, revoke: At<'_>) -> Result<Event, &'static str> {
        let target = revoke.id("original_message_id").ok_or("a withdrawal of nothing")?;
        event.envelope.kind = EnvelopeKind::Delete;
        event.envelope.target = Some(reference(target));
        Ok(event)
    }

    fn edit(mut event: Event, edit: At<'_>) -> Result<Event, &'static str> {
        let target = edit.id("original_message_id").ok_or("a change of nothing")?;
        event.envelope.kind = EnvelopeKind::Edit;
        event.envelope.target = Some(reference(target));
        Self::contents(&mut event, edit.get("message"));
        // Only the words under a file change; its bytes came with the message itself.
        event.fetch.clear();
        for part in &mut event.envelope.content {
            if let Part::Media(media) = part {
                media.status = None;
            }
        }
        Ok(event)
    }

    /// The platform tells that somebody's addresses changed: all that are named are that person's.
    fn system(&self, mut event: Event, before: &Person, system: At<'_>) -> Result<Event, &'static str> {
        let name = match system.text("type") {
            Some(kind @ ("user_changed_number" | "customer_changed_number")) => {
                if kind == "user_changed_number" {
                    kind
                } else {
                    "user_changed_number"
                }
            }
            Some("user_changed_user_id") => "user_changed_user_id",
            Some("user_identity_changed" | "customer_identity_changed") => "identity_changed",
            _ => {
                // Words for people, of whatever kind.
                let body = system.text("body").ok_or("a notice of a kind that is not known")?;
                event.envelope.content.push(Part::System { body: body.to_owned() });
                event.envelope.kind = EnvelopeKind::ConversationEvent;
                return Ok(event.signal(system.text("type").unwrap_or("notice"), Map::new()));
            }
        };
        let now = Person {
            number: system.id("wa_id").or_else(|| system.id("new_wa_id")),
            id: system.id("user_id"),
            parent: system.id("parent_user_id"),
            ..Person::default()
        };
        if let Some(mut party) = self.party(&now) {
            let old = Person {
                id: system.id("previous_user_id"),
                parent: system.id("previous_parent_user_id"),
                ..Person::default()
            };
            for old in [self.party(&old), self.party(before)].into_iter().flatten() {
                for identity in std::iter::once(old.identity).chain(old.aliases) {
                    if identity != party.identity && !party.aliases.contains(&identity) {
                        party.aliases.push(identity);
                    }
                }
            }
            party.display = before.name.clone();
            event.envelope.sender = party;
            event.envelope.thread = Self::direct(&now).ok_or("a notice about nobody")?;
        }
        event.envelope.window = None;
        event.envelope.kind = EnvelopeKind::ContactEvent;
        Ok(event.signal(name, Map::new()))
    }

    /// What a message says.
    fn contents(event: &mut Event, message: At<'_>) {
        let kind = message.text("type").unwrap_or("unknown");
        let of = message.get(kind);
        match kind {
            "text" => {
                if let Some(body) = of.text("body") {
                    event.envelope.content.push(Part::text(body));
                }
            }
            "image" | "video" | "audio" | "voice" | "document" | "sticker" => Self::medium(event, kind, of),
            "location" => {
                if let (Some(latitude), Some(longitude)) = (of.degrees("latitude"), of.degrees("longitude")) {
                    event.envelope.content.push(Part::Location(Location {
                        latitude,
                        longitude,
                        name: of.text("name").and_then(shown),
                        address: of.text("address").map(str::to_owned),
                    }));
                }
            }
            "contacts" => event.envelope.content.extend(message.list("contacts").map(card).map(Part::ContactCard)),
            "button" => event.envelope.content.push(Part::Choice(Choice {
                id: None,
                title: of.text("text").unwrap_or_default().to_owned(),
                payload: of.text("payload").map(str::to_owned),
                source: Some("button".into()),
            })),
            "interactive" => event.envelope.content.extend(interactive(of)),
            "order" => {
                event.envelope.content.extend(of.object().cloned().map(|details| Part::Order { details }));
                event.envelope.content.extend(of.text("text").map(Part::text));
            }
            _ => {}
        }
        if event.envelope.content.is_empty() {
            let error = message.list("errors").next();
            let said = error.and_then(|error| error.text("title"));
            event.envelope.content.push(Part::Unsupported { kind: kind.into() });
            event.warn(said.map_or_else(|| format!("a message of type {kind}"), str::to_owned));
        }
    }

    fn medium(event: &mut Event, kind: &str, of: At<'_>) {
        let Some(id) = of.id("id") else { return };
        let media = Media {
            kind: match kind {
                "voice" => "audio",
                "document" => "file",
                "sticker" => "image",
                kind => kind,
            }
            .into(),
            external_id: Some(id.clone()),
            mime: of.text("mime_type").and_then(|mime| mime.split(';').next()).and_then(shown),
            name: of.text("filename").and_then(shown),
            sha256: of.text("sha256").and_then(|text| {
                let bytes = verify::decode(Encoding::Base64, text).filter(|bytes| bytes.len() == 32)?;
                Some(verify::encode(Encoding::Hex, &bytes).into())
            }),
            caption: of.text("caption").map(str::to_owned),
            voice: kind == "voice" || of.flag("voice"),
            ..Media::default()
        };
        event.media(media, json!({ "id": id.as_str() }));
    }

    /// What a message says of others: which it answers, where it came from, what led here.
    fn about(event: &mut Event, message: At<'_>) {
        let context = message.get("context");
        event.envelope.reply_to = context.id("id").map(reference);
        if context.flag("forwarded") || context.flag("frequently_forwarded") {
            event.envelope.forward = Some(Forward::default());
        }
        if context.flag("frequently_forwarded") {
            event.envelope.tags.push("frequently_forwarded".into());
        }
        if let Some(details) = context.get("referred_product").object() {
            event.envelope.content.push(Part::Order { details: details.clone() });
        }
        let referral = message.get("referral");
        if referral.exists() {
            event.envelope.referral = Some(Referral {
                source: referral.text("source_type").unwrap_or("ad").into(),
                kind: referral.text("media_type").map(SmolStr::from),
                reference: referral.text("source_url").map(str::to_owned),
                ad_id: referral.id("source_id"),
                click_id: referral.id("ctwa_clid"),
            });
        }
    }

    /// The owner wrote in the app on the phone.
    fn echo(&self, echo: At<'_>, contacts: &[At<'_>]) -> Result<Event, &'static str> {
        let person =
            Person { number: echo.id("to"), id: echo.id("to_user_id"), ..Person::default() }.described(contacts);
        let id = echo.id("id").ok_or("an echo without an id")?;
        let customer = self.party(&person).ok_or("an echo to nobody")?;
        let thread = Self::direct(&person).ok_or("an echo to nobody")?;
        let mut event = self.ours.place.event(thread, customer, BY, self.ours.now);
        event = event.kind(EnvelopeKind::Echo, format!("echo/{id}"));
        // It belongs to the customer's history; the direction says whose words they are.
        event.envelope.direction = Direction::OutEcho;
        self.timed(&mut event, echo);
        match echo.text("type") {
            Some("revoke") => {
                event.envelope.target = echo.get("revoke").id("original_message_id").map(reference);
                event.envelope.content.push(Part::System { body: "withdrawn".into() });
            }
            Some("edit") => {
                let edit = echo.get("edit");
                event.envelope.target = edit.id("original_message_id").map(reference);
                Self::contents(&mut event, edit.get("message"));
            }
            _ => {
                event.envelope.external_id = Some(id);
                Self::contents(&mut event, echo);
                Self::about(&mut event, echo);
            }
        }
        Ok(event)
    }

    // === What became of ours ===

    fn status(&self, status: At<'_>) -> Result<Event, &'static str> {
        let id = status.id("id").ok_or("a status of nothing")?;
        let word = status.text("status").ok_or("a status without a word")?;
        let became = match word {
            "sent" => ReceiptStatus::Sent,
            "delivered" => ReceiptStatus::Delivered,
            "read" | "played" => ReceiptStatus::Read,
            "failed" => ReceiptStatus::Failed,
            other => ReceiptStatus::from(SmolStr::from(other)),
        };
        if status.text("type").is_some_and(|kind| kind != "message") {
            return Err("a status of something that is no message");
        }
        let group = status.text("recipient_type") == Some("group");
        let person = Person {
            number: if group { status.id("recipient_participant_id") } else { status.id("recipient_id") },
            id: if group { status.id("recipient_participant_user_id") } else { status.id("recipient_user_id") },
            ..Person::default()
        };
        let ticket = status.text("biz_opaque_callback_data").and_then(Ticket::read);
        let thread = match (&ticket, group) {
            (Some(ticket), _) => Thread::new(ticket.thread.clone(), ThreadKind::Direct),
            (None, true) => Thread::new(status.id("recipient_id").ok_or("a status for nobody")?, ThreadKind::Group),
            (None, false) => Thread::new(person.key().ok_or("a status for nobody")?.clone(), ThreadKind::Direct),
        };
        let sender = self.party(&person).unwrap_or_else(|| self.ours.place.platform(PRODUCT, "platform"));
        let whom = person.key().filter(|_| group).map(|who| format!("/{who}")).unwrap_or_default();
        let mut event = self.ours.place.event(thread, sender, BY, self.ours.now);
        event = event.kind(EnvelopeKind::Receipt, format!("status/{id}/{word}{whom}"));
        self.timed(&mut event, status);
        let error = status.list("errors").next();
        let code = error.and_then(|error| error.id("code"));
        let reason = error.and_then(|error| {
            let words = [error.get("error_data").text("details"), error.text("message"), error.text("title")];
            words.into_iter().flatten().next().map(crate::api::said)
        });
        event.envelope.receipt = Some(Receipt {
            status: became,
            command_id: ticket.as_ref().map(|ticket| ticket.command.clone()),
            part: ticket.as_ref().map(|ticket| ticket.part),
            targets: vec![id],
            watermark: None,
            through_seq: None,
            retryable: error.and_then(|error| error.number("code")).and_then(classify::retryable),
            code,
            reason,
            recipient: person.key().filter(|_| group).cloned(),
            price: status.get("pricing").text("category").map(SmolStr::from),
        });
        Ok(event)
    }

    // === Wishes and groups ===

    fn preference(&self, preference: At<'_>, contacts: &[At<'_>]) -> Result<Event, &'static str> {
        let person = Person { number: preference.id("wa_id"), id: preference.id("user_id"), ..Person::default() };
        let person = person.described(contacts);
        let customer = self.party(&person).ok_or("a preference of nobody")?;
        let thread = Self::direct(&person).ok_or("a preference of nobody")?;
        let name = match preference.text("value") {
            Some("stop") => "opt_out",
            Some("resume") => "opt_in",
            _ => return Err("a preference that is not known"),
        };
        // It is about one purpose: answers are wanted all the same.
        let purpose = match preference.text("category") {
            Some("marketing_messages") | None => "marketing",
            Some(other) => other,
        };
        let at = time(preference, "timestamp").map(|(at, _)| at).unwrap_or(Timestamp(0)).0;
        let who = person.key().cloned().unwrap_or_default();
        let mut event = self.ours.place.event(thread, customer, BY, self.ours.now);
        event = event.kind(EnvelopeKind::ContactEvent, format!("preference/{who}/{purpose}/{name}/{at}"));
        self.timed(&mut event, preference);
        Ok(event.signal(name, entry("purpose", purpose)))
    }

    fn group(&self, group: At<'_>, items: &mut Vec<Item>) {
        let Some(id) = group.id("group_id") else {
            items.push(self.ours.dead("an event of no group", group));
            return;
        };
        let print = fingerprint(group);
        let mut thread = Thread::new(id.clone(), ThreadKind::Group);
        thread.reply_target = Some(to(id));
        let before = items.len();
        for (list, name) in [("added_participants", "join"), ("removed_participants", "leave")] {
            for who in group.list(list) {
                let person = Person {
                    number: who.id("wa_id").or_else(|| who.id("input")),
                    id: who.id("user_id"),
                    ..Person::default()
                };
                let Some(party) = self.party(&person) else { continue };
                let key = person.key().cloned().unwrap_or_default();
                let mut event = self.ours.place.event(thread.clone(), party, BY, self.ours.now);
                event = event.kind(EnvelopeKind::ContactEvent, format!("group/{name}/{key}/{print}"));
                self.timed(&mut event, group);
                items.push(item(&self.ours.place, event.signal(name, Map::new()), group));
            }
        }
        if items.len() == before {
            let name = group.text("type").unwrap_or("group");
            let data = group.object().cloned().unwrap_or_default();
            items.push(account_event(&self.ours, name, &print, data, group));
        }
    }
}

/// Fields that tell something of the account, whatever it is.
fn is_account_field(field: &str) -> bool {
    [
        "account",
        "phone_number",
        "template",
        "message_template",
        "business",
        "security",
        "payment_configuration",
        "flows",
    ]
    .iter()
    .any(|begin| field.starts_with(begin))
}

fn to(address: SmolStr) -> ReplyTarget {
    ReplyTarget { address, token: None, token_until: None }
}

fn card(contact: At<'_>) -> ContactCard {
    let texts = |list: &str, key: &str| contact.list(list).filter_map(|at| at.text(key).and_then(shown)).collect();
    ContactCard {
        name: contact.get("name").text("formatted_name").and_then(shown),
        phones: texts("phones", "phone"),
        emails: texts("emails", "email"),
        raw: contact.text("vcard").map(str::to_owned),
    }
}

/// What was chosen, or filled in.
fn interactive(of: At<'_>) -> Option<Part> {
    let kind = of.text("type")?;
    let reply = of.get(kind);
    let choice = |source: &'static str| {
        Part::Choice(Choice {
            id: reply.id("id"),
            title: reply.text("title").unwrap_or_default().to_owned(),
            payload: None,
            source: Some(source.into()),
        })
    };
    match kind {
        "button_reply" => Some(choice("button")),
        "list_reply" => Some(choice("list")),
        "nfm_reply" => {
            let fields = reply.text("response_json").and_then(|text| serde_json::from_str(text).ok());
            let fields: Option<Map<String, Value>> = fields.or_else(|| reply.get("response_json").object().cloned());
            Some(Part::Form { fields: fields? })
        }
        _ => reply.object().cloned().map(|fields| Part::Form { fields }),
    }
}
