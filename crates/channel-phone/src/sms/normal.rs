//! Envelopes of texts, whatever the provider. Pure.

use adapter::contract::envelope::{
    Assurance, AuthLevel, EnvelopeKind, Identity, Media, Part, Party, Receipt, ReceiptStatus, ReplyTarget, Role, Scope,
    SenderAuth, Thread, ThreadKind,
};
use adapter::contract::{SmolStr, Timestamp};
use serde_json::{Map, Value};

use super::number::Number;
use super::words::{Wish, Words};
use crate::found::{Event, Found, Place};

/// What vouches for what a provider itself says.
const BY: &str = "the provider signed the request";
/// The same of what a customer says.
const BY_SENDER: &str = "the provider signed the request; nobody vouches for the sender of a text";
/// Longest id that a provider gives a text.
const ID_BYTES_MAX: usize = 128;

/// A text that came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incoming {
    /// The provider's id.
    pub(crate) id: SmolStr,
    /// The ids of everything that it was joined of.
    pub(crate) ids: Vec<SmolStr>,
    /// Who sent it.
    pub(crate) from: Number,
    /// The same as it was written.
    pub(crate) from_raw: SmolStr,
    /// What it says.
    pub(crate) content: Vec<Part>,
    /// Its media, and by what each is fetched; `None`: it is not to be had.
    pub(crate) media: Vec<(Media, Option<Value>)>,
    /// When it was sent.
    pub(crate) sent_at: Option<Timestamp>,
    /// The same as it was written.
    pub(crate) sent_at_raw: Option<SmolStr>,
    /// What the provider says that it asks for, which it has seen to.
    pub(crate) wish: Option<Wish>,
    /// What could not be represented.
    pub(crate) warnings: Vec<String>,
}

/// What became of a text of ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Became {
    /// The provider's id of the text.
    pub(crate) id: SmolStr,
    /// What became of it.
    pub(crate) status: ReceiptStatus,
    /// The provider's word for it: the same at every delivery of the event.
    pub(crate) word: SmolStr,
    /// Whom it was for.
    pub(crate) to: Number,
    /// Which text of ours it is, where that is known.
    pub(crate) ours: Option<Ours>,
    /// The provider's code.
    pub(crate) code: Option<SmolStr>,
    /// Whether trying again can help.
    pub(crate) retryable: Option<bool>,
    /// What it cost.
    pub(crate) price: Option<SmolStr>,
    /// The customer wants no texts.
    pub(crate) stopped: bool,
}

/// Which text of ours it is: what goes with it to the provider and comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ours {
    /// The command.
    pub(crate) command: SmolStr,
    /// Which part of it.
    pub(crate) part: u32,
    /// The call that it was sent on; absent: the thread of texts.
    pub(crate) call: Option<SmolStr>,
}

/// An id of a provider's: printable, without what would mean something in a path.
pub(crate) fn id(text: &str) -> Option<SmolStr> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(plain)).then(|| text.into())
}

/// Somebody by their number. Networks pass on any sender, so it is only claimed.
fn customer(number: &Number, raw: Option<&SmolStr>) -> Party {
    let identity = Identity {
        scheme: SmolStr::new_static("tel"),
        value: number.as_str().into(),
        scope: Scope::Global,
        scope_id: None,
        raw: raw.filter(|raw| *raw != number.as_str()).cloned(),
        assurance: Some(Assurance::Claimed),
    };
    Party::new(identity, Role::Customer)
}

fn begin(place: &Place, number: &Number, raw: Option<&SmolStr>, now: Timestamp) -> Event {
    let mut thread = Thread::new(number.as_str(), ThreadKind::Direct);
    if number.is_reachable() {
        thread.reply_target = Some(ReplyTarget { address: number.as_str().into(), token: None, token_until: None });
    }
    place.event(thread, customer(number, raw), BY, now)
}

/// That somebody wants no more texts, or wants them again.
pub(crate) fn wished(place: &Place, number: &Number, name: &str, key: &str, now: Timestamp) -> Event {
    begin(place, number, None, now).kind(EnvelopeKind::ContactEvent, format!("{name}/{key}")).signal(name, Map::new())
}

/// What a text means.
pub(crate) fn incoming(place: &Place, words: &Words, text: Incoming, now: Timestamp, raw_bytes: usize) -> Vec<Found> {
    let alone = match text.content.as_slice() {
        [Part::Text(only)] if text.media.is_empty() => Some(only.body.as_str()),
        _ => None,
    };
    let seen_to = text.wish.is_some();
    let wish = text.wish.or_else(|| alone.and_then(|text| words.wish(text)));
    let signal = |name: &str| wished(place, &text.from, name, &text.id, now).found(raw_bytes);
    let mut found = match wish {
        Some(Wish::Stop) => return vec![signal("opt_out")],
        Some(Wish::Start) if seen_to => return vec![signal("opt_in")],
        // It may be the answer to a question.
        Some(Wish::Start) => vec![signal("opt_in")],
        Some(Wish::Help) | None => Vec::new(),
    };
    let mut event = begin(place, &text.from, Some(&text.from_raw), now).kind(EnvelopeKind::Message, text.id.clone());
    let envelope = &mut event.envelope;
    envelope.sender_auth = SenderAuth { level: AuthLevel::Unverified, detail: Some(SmolStr::new_static(BY_SENDER)) };
    envelope.external_ids = text.ids.into_iter().filter(|id| *id != text.id).collect();
    envelope.external_id = Some(text.id);
    (envelope.sent_at, envelope.sent_at_raw) = (text.sent_at, text.sent_at_raw);
    envelope.content = text.content;
    if wish == Some(Wish::Help) {
        envelope.tags.push(SmolStr::new_static("help"));
    }
    for (media, source) in text.media {
        match source {
            Some(source) => event.media(media, source),
            None => event.envelope.content.push(Part::Unsupported { kind: media.kind }),
        }
    }
    if event.envelope.content.is_empty() {
        event.envelope.content.push(Part::text(""));
    }
    for warning in text.warnings {
        event.warn(warning);
    }
    found.push(event.found(raw_bytes));
    found
}

/// What became of a text of ours.
pub(crate) fn became(place: &Place, told: Became, now: Timestamp, raw_bytes: usize) -> Vec<Found> {
    let mut event = begin(place, &told.to, None, now);
    let call = told.ours.as_ref().and_then(|ours| ours.call.clone());
    if let Some(call) = call {
        event.envelope.thread = Thread::new(call, ThreadKind::Call);
    }
    event.envelope.receipt = Some(Receipt {
        status: told.status,
        command_id: told.ours.as_ref().map(|ours| ours.command.clone()),
        part: told.ours.as_ref().map(|ours| ours.part),
        targets: vec![told.id.clone()],
        watermark: None,
        through_seq: None,
        code: told.code,
        reason: None,
        retryable: told.retryable,
        recipient: None,
        price: told.price,
    });
    let mut found =
        vec![event.kind(EnvelopeKind::Receipt, format!("receipt/{}/{}", told.id, told.word)).found(raw_bytes)];
    if told.stopped {
        found.push(wished(place, &told.to, "opt_out", &told.id, now).found(raw_bytes));
    }
    found
}
