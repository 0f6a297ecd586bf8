//! What only some kinds of envelope carry.

use super::*;

/// The provider's own numbering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sequence {
    /// Within what it counts (a call leg, a socket).
    pub scope: SmolStr,
    /// The number.
    pub n: u64,
}

/// One of several events that make one utterance: an album, a concatenated SMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GroupRef {
    /// Names the whole.
    pub id: SmolStr,
    /// Which of them this is, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u32>,
}

/// Points at an earlier message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageRef {
    /// The provider's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<SmolStr>,
    /// What must be quoted to answer it (LINE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_token: Option<SmolStr>,
    /// The story it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub story: Option<SmolStr>,
    /// The number of the edit, where the provider counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
}

/// Set when a message was forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forward {
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// From whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SmolStr>,
}

/// A reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reaction {
    /// The emoji.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<SmolStr>,
    /// The platform's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// True when it was taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

open_enum! {
    /// What became of an outbound message. Later ranks win, whatever order they arrive in.
    ReceiptStatus {
        /// The provider took it.
        Accepted = "accepted",
        /// The provider sent it on.
        Sent = "sent",
        /// It is being tried again.
        Delayed = "delayed",
        /// It is on the customer's device.
        Delivered = "delivered",
        /// The customer saw it.
        Read = "read",
        /// It will not arrive.
        Failed = "failed",
        /// Nobody knows whether it was sent, and it cannot be tried again without risk.
        Unknown = "unknown",
        /// The customer reported it as abuse.
        Complained = "complained",
    }
}

impl ReceiptStatus {
    /// The order in which states supersede each other; equal or lower changes nothing.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Other(_) => 0,
            Self::Accepted => 1,
            Self::Delayed => 2,
            Self::Unknown => 3,
            Self::Sent => 4,
            Self::Delivered => 5,
            Self::Read => 6,
            Self::Failed => 7,
            Self::Complained => 8,
        }
    }
}

/// What became of outbound messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    /// What became of it.
    pub status: ReceiptStatus,
    /// Our command that it answers, where the adapter knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<SmolStr>,
    /// Which part of a message that was sent in several, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// The provider's ids of the messages concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<SmolStr>,
    /// Everything of ours in the thread up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Timestamp>,
    /// Everything of ours in the thread up to this `thread_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through_seq: Option<u64>,
    /// The provider's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SmolStr>,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether trying again can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Which recipient, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<SmolStr>,
    /// What it cost, as the provider writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<SmolStr>,
}

impl Receipt {
    /// Whether it says nothing of which messages it concerns.
    #[must_use]
    pub fn names_nothing(&self) -> bool {
        self.command_id.is_none() && self.targets.is_empty() && self.watermark.is_none() && self.through_seq.is_none()
    }
}

/// What happened to an address, a conversation or an account, in a word and its particulars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Signal {
    /// `follow`, `block`, `opt_in`, `opt_out`, `join`, `leave`, `start`, `referral`, `postback`,
    /// `handover`, `switch`, `closed`, `auth_failed`, `rate_limited`, `webhook_error`, …
    pub name: SmolStr,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the signal carries.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

/// The advertisement or link that led here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Referral {
    /// `ad`, `link`, `page`, …
    pub source: SmolStr,
    /// The provider's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SmolStr>,
    /// What the link carried; for a web page, its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Id of the advertisement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ad_id: Option<SmolStr>,
    /// Click id (click-to-WhatsApp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click_id: Option<SmolStr>,
}

/// The state of a phone call. Events are merged by [`Envelope::seq`]; terminal states are sticky.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Call {
    /// This leg.
    pub leg: SmolStr,
    /// The leg that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SmolStr>,
    /// `ringing`, `queued`, `answered`, `completed`, `missed`, `abandoned`, `voicemail`, `callback`, `failed`, `busy`, `no_answer`, `canceled`.
    pub state: SmolStr,
    /// The number that calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SmolStr>,
    /// The number called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<SmolStr>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Media>,
    /// What was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<String>,
    /// The provider's waiting line it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<SmolStr>,
    /// The agent whose leg it is; absent: the customer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Our command that began the leg.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<SmolStr>,
}

open_enum! {
    /// What kind of mail it is.
    MailClass {
        /// A person wrote it.
        Human = "human",
        /// A program answered.
        AutoReply = "auto_reply",
        /// It could not be delivered.
        Bounce = "bounce",
        /// A mailing list sent it.
        List = "list",
        /// Somebody reported our mail as abuse.
        Complaint = "complaint",
    }
}

/// What only mail has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mail {
    /// Message-ID, without brackets; absent where the sender gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<SmolStr>,
    /// In-Reply-To.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<SmolStr>,
    /// References, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<SmolStr>,
    /// Subject, decoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Key of the whole header in the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_ref: Option<SmolStr>,
    /// What kind of mail it is.
    pub class: MailClass,
    /// The trusted Authentication-Results, as they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_results: Option<String>,
    /// The domain that the authentication aligned with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aligned_domain: Option<SmolStr>,
    /// The addresses it was delivered to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub envelope_to: Vec<SmolStr>,
    /// Reply-To, which never names the sender.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply_to: Vec<SmolStr>,
    /// Size of the whole mail in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The mail shows a token that we signed for its thread: in the address that it was written to, or in a Message-ID
    /// of ours that it answers. It belongs to that thread then, whoever it is from; it says nothing of who that is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thread_proven: bool,
}

/// Until when, and how, an answer is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReplyWindow {
    /// When free answers end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Timestamp>,
    /// `24h`, `7d_agent`, `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<SmolStr>,
    /// Only a template may be sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template_required: bool,
    /// The provider takes templates at any time, also when free answers have ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub templates: bool,
}

/// The original bytes of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RawRef {
    /// Key in the object store.
    pub store_key: SmolStr,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: SmolStr,
    /// Their type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<SmolStr>,
    /// The request headers worth keeping.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
}

/// Which adapter normalised an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdapterInfo {
    /// Its name.
    pub name: SmolStr,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SmolStr>,
    /// What it could not represent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
