//! What is said in public: comments on what a page or account shows, and mentions elsewhere. Pure.
//!
//! One person under one post is one thread. It is public: what is answered there, everybody reads.

use adapter::contract::SmolStr;
use adapter::contract::envelope::{EnvelopeKind, Media, Part, Party, Reaction, ReplyTarget, Role, Thread, ThreadKind};
use adapter::webhook::Item;
use serde_json::{Map, Value, json};

use super::Product;
use super::normalize::{BY, is_link};
use crate::found::{Event, entry};
use crate::meta::{NOBODY, Ours, fingerprint, item, reference, time};
use crate::read::{At, shown};

/// Begins the key of a thread that is public.
pub(super) const PUBLIC: &str = "public/";

/// What a change of something public tells; `None`: what the page itself wrote there.
pub(super) fn read(ours: &Ours, product: Product, page: &str, about: At<'_>, change: At<'_>) -> Option<Item> {
    let value = change.get("value");
    let found = match (product, change.text("field")) {
        (Product::Messenger, Some("feed")) => feed(ours, page, value),
        (Product::Messenger, Some("mention")) => mention(ours, page, value),
        (Product::Instagram, Some("comments" | "live_comments")) => comment(ours, page, about, value),
        (Product::Instagram, Some("mentions")) => Ok(Some(mentioned(ours, about, value))),
        _ => Err("a change of a kind that is not known"),
    };
    match found {
        Ok(Some(event)) => Some(item(&ours.place, event, change)),
        Ok(None) => None,
        Err(why) => Some(ours.dead(why, change)),
    }
}

/// Somebody's words under a post.
struct Said<'a> {
    post: &'a str,
    id: &'a str,
    scheme: &'static str,
    who: Option<SmolStr>,
}

impl Said<'_> {
    fn event(&self, ours: &Ours, name: Option<&str>, username: Option<&str>) -> Event {
        let who = self.who.clone().unwrap_or_else(|| SmolStr::new_static(NOBODY));
        // Without a name, each is a thread of its own: who wrote it, nobody knows.
        let whose = self.who.as_ref().map_or(self.id, |who| who);
        let mut thread = Thread::new(format!("{PUBLIC}{}/{whose}", self.post), ThreadKind::Channel);
        thread.external_id = Some(self.post.into());
        thread.reply_target = Some(ReplyTarget { address: self.id.into(), token: None, token_until: None });
        let mut party = Party::new(ours.place.identity(self.scheme, who), Role::Customer);
        party.display = name.and_then(shown);
        party.username = username.and_then(shown);
        let mut event = ours.place.event(thread, party, BY, ours.now);
        event.envelope.tags.push("public".into());
        event
    }
}

fn timed(event: &mut Event, at: At<'_>, key: &str) {
    if let Some((sent, written)) = time(at, key) {
        event.envelope.sent_at = Some(sent);
        event.envelope.sent_at_raw = Some(written);
    }
}

/// What happened on a page.
fn feed(ours: &Ours, page: &str, value: At<'_>) -> Result<Option<Event>, &'static str> {
    let from = value.get("from");
    let who = from.id("id").or_else(|| value.id("sender_id"));
    if who.as_deref() == Some(page) {
        return Ok(None);
    }
    let kind = value.text("item").ok_or("something that is not named")?;
    let comment = value.id("comment_id");
    let post = value.id("post_id").or_else(|| value.id("parent_id")).ok_or("something on no post")?;
    let id = comment.clone().unwrap_or_else(|| post.clone());
    let name = from.text("name").or_else(|| value.text("sender_name"));
    let said = Said { post: &post, id: &id, scheme: "facebook_user", who };
    let mut event = said.event(ours, name, None);
    timed(&mut event, value, "created_time");
    let when = event.envelope.sent_at.map_or(0, |at| at.0);
    let verb = value.text("verb").unwrap_or("add");
    match (kind, verb) {
        ("comment" | "post" | "status" | "photo" | "video" | "share" | "album" | "link", "add") => {
            event = event.kind(EnvelopeKind::Message, format!("{kind}/{id}"));
            event.envelope.external_id = Some(id.clone());
            // An answer to another comment names that one; an answer to the post names the post.
            event.envelope.reply_to = value.id("parent_id").filter(|parent| *parent != post).map(reference);
            contents(&mut event, value);
        }
        ("reaction" | "like", "add" | "edit" | "remove") => {
            event = event.kind(EnvelopeKind::Reaction, format!("reaction/{id}/{verb}/{when}/{}", fingerprint(value)));
            event.envelope.target = Some(reference(id.clone()));
            event.envelope.reaction = Some(Reaction {
                emoji: None,
                name: Some(value.text("reaction_type").unwrap_or("like").into()),
                removed: verb == "remove",
            });
        }
        (_, "edited" | "edit") => {
            event = event.kind(EnvelopeKind::Edit, format!("edit/{id}/{when}/{}", fingerprint(value)));
            event.envelope.target = Some(reference(id.clone()));
            contents(&mut event, value);
        }
        (_, "remove" | "delete") => {
            event = event.kind(EnvelopeKind::Delete, format!("delete/{id}"));
            event.envelope.target = Some(reference(id.clone()));
        }
        (_, "hide" | "unhide" | "block" | "unblock" | "follow" | "mute") => {
            let data = entry("item", kind);
            event = event.kind(EnvelopeKind::ConversationEvent, format!("{verb}/{id}/{when}"));
            event = event.signal(&format!("public_{verb}"), data);
        }
        _ => return Err("something public of a kind that is not known"),
    }
    Ok(Some(event))
}

fn contents(event: &mut Event, value: At<'_>) {
    event.envelope.content.extend(value.text("message").map(Part::text));
    for (key, kind) in [("photo", "image"), ("video", "video")] {
        if let Some(url) = value.text(key).filter(|url| is_link(url)) {
            event.media(Media { kind: kind.into(), ..Media::default() }, json!({ "url": url }));
        }
    }
    let post = value.get("post").text("permalink_url").or_else(|| value.text("link")).filter(|url| is_link(url));
    if event.envelope.content.is_empty() {
        let kind = value.text("item").unwrap_or("comment");
        event.envelope.content.push(match post {
            Some(url) => Part::Link { kind: "url".into(), url: Some(url.to_owned()), title: None },
            None => Part::Unsupported { kind: kind.into() },
        });
    }
}

/// Somebody named the page elsewhere.
fn mention(ours: &Ours, page: &str, value: At<'_>) -> Result<Option<Event>, &'static str> {
    let who = value.id("sender_id").or_else(|| value.get("from").id("id"));
    if who.as_deref() == Some(page) {
        return Ok(None);
    }
    let post = value.id("post_id").ok_or("a mention nowhere")?;
    let id = value.id("comment_id").unwrap_or_else(|| post.clone());
    let said = Said { post: &post, id: &id, scheme: "facebook_user", who };
    let name = value.text("sender_name").or_else(|| value.get("from").text("name"));
    let mut event = said.event(ours, name, None);
    timed(&mut event, value, "created_time");
    event = event.kind(EnvelopeKind::Message, format!("mention/{id}"));
    event.envelope.external_id = Some(id.clone());
    event.envelope.content.push(Part::Link { kind: "mention".into(), url: None, title: None });
    event.envelope.content.extend(value.text("message").map(Part::text));
    Ok(Some(event))
}

/// A comment on what an Instagram account shows.
fn comment(ours: &Ours, page: &str, about: At<'_>, value: At<'_>) -> Result<Option<Event>, &'static str> {
    let from = value.get("from");
    let who = from.id("id");
    if who.as_deref() == Some(page) || from.get("self_ig_scoped_id").exists() {
        return Ok(None);
    }
    let id = value.id("id").or_else(|| value.id("comment_id")).ok_or("a comment without an id")?;
    let media = value.get("media");
    let post = media.id("id").or_else(|| value.id("media_id")).ok_or("a comment on nothing")?;
    let said = Said { post: &post, id: &id, scheme: "igsid", who };
    let mut event = said.event(ours, None, from.text("username"));
    timed(&mut event, about, "time");
    event = event.kind(EnvelopeKind::Message, format!("comment/{id}"));
    event.envelope.external_id = Some(id.clone());
    event.envelope.reply_to = value.id("parent_id").map(reference);
    event.envelope.content.extend(value.text("text").map(Part::text));
    if event.envelope.content.is_empty() {
        event.envelope.content.push(Part::Unsupported { kind: "comment".into() });
    }
    Ok(Some(event))
}

/// Somebody named the account; who, it does not say.
fn mentioned(ours: &Ours, about: At<'_>, value: At<'_>) -> Event {
    let post = value.id("media_id").unwrap_or_else(|| SmolStr::new_static(NOBODY));
    let id = value.id("comment_id").unwrap_or_else(|| post.clone());
    let mut event = Said { post: &post, id: &id, scheme: "igsid", who: None }.event(ours, None, None);
    timed(&mut event, about, "time");
    event = event.kind(EnvelopeKind::Message, format!("mention/{id}"));
    event.envelope.external_id = Some(id.clone());
    event.envelope.content.push(Part::Link { kind: "mention".into(), url: None, title: None });
    let ids = [("media_id", value.id("media_id")), ("comment_id", value.id("comment_id"))];
    let fields: Map<String, Value> =
        ids.into_iter().filter_map(|(key, id)| Some((key.to_owned(), id?.as_str().into()))).collect();
    event.envelope.content.push(Part::Form { fields });
    event
}
