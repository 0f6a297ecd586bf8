//! The normalised inbound envelope: one event of a provider, on any channel, in one shape.
//!
//! It is complete for every channel Throughline means to speak (email, chat, social, phone), so that
//! a later channel adds no field. Whatever is absent is left out of the encoding. Provider ids are
//! text end to end: some exceed 2^53.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::codec::open_enum;
use crate::id::{AccountId, AgentId, ChannelKind, TenantId};
use crate::limits::{KEY_BYTES_MAX, LIST_MAX, PARTS_MAX, TEXT_BYTES_MAX, VALUE_DEPTH_MAX};
use crate::time::{Millis, Timestamp};

mod details;
mod part;
mod record;
mod validate;

pub use details::*;
pub use part::*;
pub use record::{Rejected, decode_record, encode_record, record_msg_id};
pub use validate::{Invalid, content as validate_content};

/// The version of the envelope that this crate writes.
pub const VERSION: u16 = 1;

open_enum! {
    /// What happened.
    EnvelopeKind {
        /// The customer said something.
        Message = "message",
        /// The customer changed an earlier message; see `target`.
        Edit = "edit",
        /// The customer withdrew an earlier message; see `target`.
        Delete = "delete",
        /// A reaction to an earlier message; see `reaction` and `target`.
        Reaction = "reaction",
        /// What an earlier message was still missing was fetched, or is not to be had: `content` is the whole of that
        /// message again, its media `stored` or `unavailable`; see `target`.
        Media = "media",
        /// What became of an outbound message; see `receipt`.
        Receipt = "receipt",
        /// The account's owner wrote outside Throughline (native app); recorded, never routed.
        Echo = "echo",
        /// The address followed, blocked, opted in or out, joined or left; see `signal`.
        ContactEvent = "contact_event",
        /// A conversation was started, referred, handed over or closed by the provider; see `signal`.
        ConversationEvent = "conversation_event",
        /// A phone call changed state; see `call`.
        Call = "call",
        /// The account itself has trouble (authorisation, rate); see `signal`.
        AccountEvent = "account_event",
    }
}

open_enum! {
    /// Which way an utterance went.
    Direction default In {
        /// From the customer.
        In = "in",
        /// From the account's owner, outside Throughline.
        OutEcho = "out_echo",
        /// From Throughline.
        Out = "out",
    }
}

/// Which of our numbers, pages, mailboxes or widgets the event came by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Account {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The configured account.
    pub id: AccountId,
    /// The vendor behind it, where there is a choice (`twilio`, `vonage`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<SmolStr>,
    /// The account's own address (number, page id, mailbox).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SmolStr>,
}

impl Account {
    /// The provider, where each provider of the kind is a medium of its own to the customer, so that what is said of one
    /// says nothing of the others: social apps, and whatever comes by webhooks. Of mail, telephones and chats the provider
    /// is only who carries them.
    #[must_use]
    pub fn medium(&self) -> Option<&SmolStr> {
        self.provider.as_ref().filter(|_| matches!(self.kind.as_str(), "social" | "webhook"))
    }
}

open_enum! {
    /// What kind of provider-side thread it is.
    ThreadKind default Direct {
        /// One person and the account.
        Direct = "direct",
        /// Several people.
        Group = "group",
        /// A public or broadcast channel.
        Channel = "channel",
        /// A reply chain within something larger (mail thread, Slack thread).
        Thread = "thread",
        /// A phone call.
        Call = "call",
    }
}

/// The provider-side thread on one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Thread {
    /// Names the thread within the account; the same on every message of it.
    pub key: SmolStr,
    /// What kind of thread.
    #[serde(default)]
    pub kind: ThreadKind,
    /// The provider's id of the thread, where it differs from the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<SmolStr>,
    /// The sub-thread within it (Slack `thread_ts`, Telegram `message_thread_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_id: Option<SmolStr>,
    /// The subject line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SmolStr>,
    /// Where an answer goes; not the sender in groups. Absent: to the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_target: Option<ReplyTarget>,
}

impl Thread {
    /// A thread with nothing but its key.
    #[must_use]
    pub fn new(key: impl Into<SmolStr>, kind: ThreadKind) -> Self {
        Self { key: key.into(), kind, external_id: None, sub_id: None, subject: None, reply_target: None }
    }
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReplyTarget {
    /// The address to send to.
    pub address: SmolStr,
    /// A single-use token to answer with (LINE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SmolStr>,
    /// When the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_until: Option<Timestamp>,
}

/// How far an identity is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Assurance {
    /// The sender only says so: typed in a form, an unauthenticated From.
    Claimed,
    /// The carrier, platform, login or aligned DMARC vouches for it.
    Verified,
}

open_enum! {
    /// Within which bounds an identity's value is unique.
    Scope {
        /// This account only (page-scoped ids).
        Account = "account",
        /// The vendor's portfolio that the account belongs to (WhatsApp BSUID).
        Portfolio = "portfolio",
        /// Everywhere (phone numbers, mail addresses).
        Global = "global",
    }
}

open_enum! {
    /// What part somebody plays.
    Role default Customer {
        /// A customer.
        Customer = "customer",
        /// One of ours.
        Agent = "agent",
        /// A program.
        Bot = "bot",
        /// The platform itself.
        System = "system",
    }
}

/// One address of somebody: enough to find the same person again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// The kind of address: `email`, `tel`, `visitor`, `login`, `telegram`, `psid`, …
    pub scheme: SmolStr,
    /// The normalised value; compared byte by byte.
    pub value: SmolStr,
    /// Within which bounds the value is unique.
    pub scope: Scope,
    /// What the scope is bound to when it is not global: the account's or the portfolio's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<SmolStr>,
    /// The value as the provider wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<SmolStr>,
    /// How far this address is proven. Absent: as the envelope's `sender_auth` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<Assurance>,
}

/// Somebody who takes part in a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Party {
    /// The address they used.
    pub identity: Identity,
    /// Other addresses of the same person that came with the event (phone beside BSUID).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Identity>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<SmolStr>,
    /// The platform's user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<SmolStr>,
    /// What part they play.
    #[serde(default)]
    pub role: Role,
    /// As what they are named: `to`, `cc`, `bcc`, `mention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_as: Option<SmolStr>,
}

impl Party {
    /// Somebody of whom nothing but an address is known.
    #[must_use]
    pub fn new(identity: Identity, role: Role) -> Self {
        Self { identity, aliases: Vec::new(), display: None, username: None, role, named_as: None }
    }
}

open_enum! {
    /// What vouches for the sender.
    AuthLevel {
        /// The platform signed the request.
        SignedWebhook = "signed_webhook",
        /// A login token of the company's own site.
        VerifiedJwt = "verified_jwt",
        /// Aligned DMARC, judged by the configured receiver.
        DmarcPass = "dmarc_pass",
        /// Aligned SPF or DKIM.
        SpfDkimAligned = "spf_dkim_aligned",
        /// Nothing.
        Unverified = "unverified",
        /// A check was made and failed.
        Failed = "failed",
    }
}

/// What vouches for the sender, and how it was found out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SenderAuth {
    /// What vouches for the sender.
    pub level: AuthLevel,
    /// For a person who asks why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<SmolStr>,
}

impl SenderAuth {
    /// The assurance that this level gives to the sender's address.
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        match self.level {
            AuthLevel::SignedWebhook | AuthLevel::VerifiedJwt | AuthLevel::DmarcPass => Assurance::Verified,
            _ => Assurance::Claimed,
        }
    }
}

/// One event of a provider, normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Envelope {
    /// Version of the envelope, [`VERSION`].
    pub v: u16,
    /// What happened.
    pub kind: EnvelopeKind,
    /// Whose customer it is; must agree with the subject.
    pub tenant: TenantId,
    /// Which of our accounts it came by; must agree with the subject.
    pub account: Account,
    /// The provider's id of this event, the same on a redelivery; unique within the account.
    pub dedup_key: SmolStr,
    /// The provider's id of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<SmolStr>,
    /// Further ids by which a later event may name this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_ids: Vec<SmolStr>,
    /// Which way it went.
    #[serde(default)]
    pub direction: Direction,
    /// The provider-side thread.
    pub thread: Thread,
    /// Who it is from.
    pub sender: Party,
    /// Whom it is to, besides the account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Party>,
    /// What vouches for the sender.
    pub sender_auth: SenderAuth,
    /// When it was sent, by the provider's word; absent where the provider does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// When the adapter received it.
    pub received_at: Timestamp,
    /// The provider's time as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at_raw: Option<SmolStr>,
    /// The provider's own numbering, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Sequence>,
    /// What was said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<Part>,
    /// The language of the content as an ISO 639-1 code, where the adapter knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// Words that help to route: intent, form topic, page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<SmolStr>,
    /// The album or concatenation that this is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRef>,
    /// The message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageRef>,
    /// Set when it was forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
    /// The message that an edit, deletion, reaction or medium concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<MessageRef>,
    /// For [`EnvelopeKind::Reaction`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
    /// For [`EnvelopeKind::Receipt`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// For the `*_event` kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// The advertisement or link that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referral: Option<Referral>,
    /// For [`EnvelopeKind::Call`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// What only mail has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
    /// Until when, and how, an answer is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ReplyWindow>,
    /// The original bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_ref: Option<RawRef>,
    /// Which adapter normalised it, and what it could not represent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterInfo>,
}

/// 128 bits that are the same for the same texts in the same order and differ otherwise: the first half of SHA-256 over
/// them, each with its length in bytes before it as a 64-bit big-endian number.
#[must_use]
pub fn fingerprint<'a>(texts: impl IntoIterator<Item = &'a str>) -> u128 {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    u128::from_be_bytes(half)
}

/// Every text that somebody wrote in some parts, to be changed.
pub fn texts_mut(parts: &mut [Part], change: &mut dyn FnMut(&mut String)) {
    for part in parts {
        match part {
            Part::Text(text) => {
                change(&mut text.body);
                text.visible.iter_mut().chain(&mut text.quoted).for_each(&mut *change);
            }
            Part::Media(media) => media.caption.iter_mut().for_each(&mut *change),
            Part::Choice(choice) => change(&mut choice.title),
            _ => {}
        }
    }
}

impl Envelope {
    /// A message of `sender` that says nothing yet: whatever makes it this event and no other (`dedup_key` above all)
    /// is left to the caller.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        account: Account,
        thread: Thread,
        sender: Party,
        sender_auth: SenderAuth,
        received_at: Timestamp,
    ) -> Self {
        Self {
            v: VERSION,
            kind: EnvelopeKind::Message,
            tenant,
            account,
            dedup_key: SmolStr::default(),
            external_id: None,
            external_ids: Vec::new(),
            direction: Direction::In,
            thread,
            sender,
            recipients: Vec::new(),
            sender_auth,
            sent_at: None,
            received_at,
            sent_at_raw: None,
            seq: None,
            content: Vec::new(),
            language: None,
            tags: Vec::new(),
            group: None,
            reply_to: None,
            forward: None,
            target: None,
            reaction: None,
            receipt: None,
            signal: None,
            referral: None,
            call: None,
            mail: None,
            window: None,
            raw_ref: None,
            adapter: None,
        }
    }

    /// Every text that somebody wrote, to be changed.
    pub fn texts_mut(&mut self, change: &mut dyn FnMut(&mut String)) {
        texts_mut(&mut self.content, change);
        if let Some(mail) = &mut self.mail {
            mail.subject.iter_mut().for_each(&mut *change);
        }
        if let Some(call) = &mut self.call {
            call.transcript.iter_mut().for_each(&mut *change);
        }
        if let Some(subject) = &mut self.thread.subject {
            let mut text = subject.to_string();
            change(&mut text);
            *subject = text.into();
        }
    }

    /// 128 bits that are the same for every delivery of one provider event and differ between events:
    /// the first half of SHA-256 over tenant, channel kind, account and `dedup_key`, each with its
    /// length in bytes before it as a 64-bit big-endian number.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        fingerprint([
            self.tenant.as_str(),
            self.account.kind.as_str(),
            self.account.id.as_str(),
            self.dedup_key.as_str(),
        ])
    }

    /// The id under which JetStream is asked to drop repeats of this envelope for its short window.
    #[must_use]
    pub fn msg_id(&self) -> String {
        format!("{:032x}", self.fingerprint())
    }
}
