//! The wire contract of Throughline: everything that two programs on the bus must agree on.
//!
//! Pure data: ids, the normalised [`envelope`], [`event`]s, [`command`]s, the agents' [`feed`], the
//! [`journal`], the [`policy`], the [`subject`]s and the [`codec`]. Nothing here does I/O, reads a
//! clock or knows a bus client. `CONTRACT.md` beside this crate is the normative text for authors in
//! other languages; `schema/` and `vectors/` are generated from these types and checked for drift.
//!
//! Rules of change: fields are only added, always optional; a new meaning is a new name; what is
//! published is decoded for ever (the golden vectors see to it).

pub mod answer;
pub mod base64;
pub mod call;
pub mod codec;
pub mod command;
pub mod envelope;
pub mod event;
pub mod feed;
pub mod id;
pub mod journal;
pub mod kin;
pub mod limits;
pub mod outbound;
pub mod policy;
mod several;
pub mod shard;
pub mod subject;
pub mod time;
pub mod token;

pub use codec::{CodecError, Encoding};
pub use envelope::Envelope;
pub use event::{Event, EventRecord};
pub use id::{
    AccountId, AgentId, ChannelKind, ConversationId, CustomerId, MessageId, OfferId, QueueId, SkillId, TenantId,
};
pub use smol_str::SmolStr;
pub use time::{Millis, Timestamp};
