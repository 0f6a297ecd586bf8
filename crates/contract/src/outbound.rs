//! What goes to a channel: commands to send on `OUT`, capabilities, live signals, thread history.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::call::CallOrder;
use crate::envelope::{Account, MessageRef, Part, Thread};
use crate::event::EventRecord;
use crate::id::{AccountId, AgentId, ChannelKind, ConversationId, CustomerId, MessageId, QueueId, TenantId};
use crate::time::{Millis, Timestamp};

/// The version of the outbound command that this crate writes.
pub const VERSION: u16 = 1;

/// Who speaks to the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Author {
    /// The agent; absent: the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The name that the customer sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<SmolStr>,
}

/// A message to be sent by a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutCommand {
    /// Version, [`VERSION`].
    pub v: u16,
    /// Names this send for ever: an adapter that has seen it does not send again. It is
    /// `<tenant>/<message>`.
    pub command_id: SmolStr,
    /// Whose.
    pub tenant: TenantId,
    /// The account to send by.
    pub account: Account,
    /// The thread to send on; its `reply_target` is where to.
    pub thread: Thread,
    /// In which conversation.
    pub conversation: ConversationId,
    /// To which customer.
    pub customer: CustomerId,
    /// The message.
    pub message: MessageId,
    /// Its number among the messages of its thread.
    pub thread_seq: u64,
    /// The command that must be finished before this one is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<SmolStr>,
    /// Who speaks.
    pub author: Author,
    /// What to say.
    pub content: Vec<Part>,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageRef>,
    /// When it was written.
    pub at: Timestamp,
    /// The program says it, and why: `closed`, `fallback`, `unread` (agents' answers that nobody fetched elsewhere),
    /// `switch` (an agent asked to go on here), `switch_asked` (somebody typed this address who wants to go on here),
    /// `switch_told`, `switch_refused` (what becomes of the wish to go on elsewhere).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<SmolStr>,
    /// It came or went by another medium, and is shown here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<Mirrored>,
    /// Not to be sent after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Nothing is said: this is to happen with the call that the thread is. `content` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallOrder>,
}

/// Where a message came or went that a channel is to show too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mirrored {
    /// By which kind of medium.
    pub by: ChannelKind,
    /// The customer said it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub customer: bool,
}

impl OutCommand {
    /// Nobody of ours wrote it: a channel marks it so, and brakes it, lest it talk with another program.
    #[must_use]
    pub fn automatic(&self) -> bool {
        self.author.agent.is_none() && !matches!(self.notice.as_deref(), Some("unread" | "switch"))
    }
}

/// What a channel account can do, so that tools need not find out by failing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Capabilities {
    /// Longest text of one message, in `text_unit`; absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_max: Option<u32>,
    /// `bytes`, `utf16`, `chars`, `gsm7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_unit: Option<SmolStr>,
    /// Media kinds it sends, with the largest size in bytes.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub media_bytes_max: std::collections::BTreeMap<SmolStr, u64>,
    /// Reports delivery.
    pub delivered: bool,
    /// Reports reading.
    pub read: bool,
    /// Shows typing.
    pub typing: bool,
    /// Carries reactions.
    pub reactions: bool,
    /// Carries edits.
    pub edits: bool,
    /// A repeated send is recognised by the provider.
    pub idempotent_send: bool,
    /// How long a free answer is allowed after the customer's last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_window_ms: Option<Millis>,
}

/// A channel account's sign of life: the value in the `channels` bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelHealth {
    /// Whose.
    pub tenant: TenantId,
    /// Kind of medium.
    pub kind: ChannelKind,
    /// The account.
    pub account: Account,
    /// Which process.
    pub instance: SmolStr,
    /// `up`, `degraded`, `down`.
    pub state: SmolStr,
    /// What the provider said last, when it was an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What the account can do.
    pub capabilities: Capabilities,
    /// When this was written.
    pub at: Timestamp,
}

/// A live, lossy signal about a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Live {
    /// The conversation.
    pub conversation: ConversationId,
    /// The threads that it runs on, for adapters that know threads and not conversations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<crate::event::ThreadRef>,
    /// Who.
    pub author: Author,
    /// True when the customer is the one.
    #[serde(default)]
    pub customer: bool,
    /// `typing`, `stopped`; `joined`, `left`, `waiting`, `closed`.
    pub what: SmolStr,
    /// When.
    pub at: Timestamp,
}

/// The answer to `thread.history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ThreadHistory {
    /// The messages, oldest first; `message.received`, `message.sent` and `message.status_changed`.
    pub records: Vec<EventRecord>,
    /// The newest `thread_seq`.
    pub head: u64,
    /// The open conversation, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Author>,
    /// By what the customer may go on when it asks for it, as the policy says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<Way>,
}

/// An account that a customer may go on by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Way {
    /// The kind of medium.
    pub kind: ChannelKind,
    /// The account.
    pub account: AccountId,
    /// What the customer is shown; absent: the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// The customer is asked for an address, which is written to. Otherwise it is shown where to write to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_address: bool,
}

/// The answer to `shard.lag`: how far what is decided is behind what has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ShardLag {
    /// How long ago the input that is decided next was stored; 0 where none waits.
    pub behind_ms: Millis,
}

/// The answer to `thread.wait`: how it stands with whoever waits on a thread.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ThreadWait {
    /// The open conversation that runs on the thread; absent: there is none (yet, or any more).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// How it stands: `waiting`, `offered`, `active`, `parked`, `wrapping`; absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SmolStr>,
    /// How many are served before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How long it will wait from now on, as far as anybody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_ms: Option<Millis>,
    /// How long it has waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<Millis>,
    /// Its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
    /// The queue is closed now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// What is to happen with the call, as it was ordered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<CallOrder>,
}

/// A message that could not be processed: the payload of `DEAD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// Where it failed: `in`, `out`, an adapter's stage.
    pub stage: SmolStr,
    /// The subject that it came on, and goes back to when it is replayed.
    pub subject: String,
    /// What was wrong; never the content.
    pub reason: String,
    /// The `content-type` of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<SmolStr>,
    /// The payload: as text when it is UTF-8, else in hexadecimal.
    pub payload: DeadPayload,
    /// When it failed.
    pub at: Timestamp,
}

/// A payload that cannot be trusted to be text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeadPayload {
    /// It is UTF-8.
    Text(String),
    /// It is not.
    Hex(String),
}

impl DeadPayload {
    /// Wraps bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        use std::fmt::Write;
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })),
        }
    }

    /// The bytes; `None` when the hexadecimal is malformed.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.as_bytes().to_vec()),
            Self::Hex(hex) if hex.len().is_multiple_of(2) && hex.is_ascii() => (0..hex.len())
                .step_by(2)
                .map(|at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect(),
            Self::Hex(_) => None,
        }
    }
}

/// Shared facts: one allocation for `EVENTS` and every feed.
pub type SharedRecord = Arc<EventRecord>;
