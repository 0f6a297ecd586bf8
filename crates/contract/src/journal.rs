//! The journal: the truth of a shard. Written by the shard's one owner, read by whoever takes over.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::command::Done;
use crate::event::Event;
use crate::id::{InvalidId, TenantId};
use crate::time::Timestamp;

/// The version of the journal that this crate writes.
pub const VERSION: u16 = 1;

/// How much of what may stand in a journal this crate understands: it grows with every kind of fact, and with every
/// field that must not be overlooked. What is new at a level is written only while every router that is there
/// understands that level, so that an older one beside it can take over at any time.
///
/// 1: `operator.commanded`.
pub const LEVEL: u32 = 1;

/// A place in the journal: shard, sequence of the record in the shard's stream, index of the event in
/// the record. Written `shard.sequence.index`; ordered within a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The shard.
    pub shard: u16,
    /// Sequence of the record.
    pub seq: u64,
    /// Index of the event within the record.
    pub index: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.seq, self.index)
    }
}

impl FromStr for Position {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const EXPECTED: InvalidId = InvalidId { expected: "shard.sequence.index" };
        let mut parts = text.split('.');
        let (Some(shard), Some(seq), Some(index), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EXPECTED);
        };
        Ok(Self {
            shard: shard.parse().map_err(|_| EXPECTED)?,
            seq: seq.parse().map_err(|_| EXPECTED)?,
            index: index.parse().map_err(|_| EXPECTED)?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SmolStr::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Position {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Position".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$" })
    }
}

/// How far what follows from the journal had been written when a record was appended. A new owner
/// writes again what lies behind it; each output is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Behind {
    /// Outputs of every record up to this sequence are stored in `EVENTS`, `OUT` and `DEAD`.
    pub outputs: u64,
    /// Key-value entries reflect every record up to this sequence.
    pub kv: u64,
}

/// One append: every decision of a batch, and how far the input has been read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record {
    /// Version of the journal, [`VERSION`].
    pub v: u16,
    /// Names this append, so that one whose acknowledgement was lost can be recognised.
    pub id: SmolStr,
    /// The epoch of the owner that wrote it.
    pub epoch: u64,
    /// Everything in `IN` up to this sequence is decided.
    pub cursor: u64,
    /// How far the outputs were.
    pub behind: Behind,
    /// The decisions, in order.
    pub entries: Vec<Entry>,
}

/// What one input led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entry {
    /// Whose.
    pub tenant: TenantId,
    /// When it was decided.
    pub at: Timestamp,
    /// The input.
    pub cause: Cause,
    /// The decisions.
    pub events: Vec<Arc<Event>>,
}

/// The input that an entry answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An envelope, by its fingerprint.
    Envelope(Fingerprint),
    /// An inbound record that could not be processed.
    Rejected,
    /// A command, by who sent it and the id it was given, with the answer.
    Command {
        /// `agent.<id>` or `admin`.
        by: SmolStr,
        /// The client's id.
        id: SmolStr,
        /// The answer.
        done: Done,
    },
    /// Time passed.
    Timer,
    /// The shell noticed something: an agent's silence, a policy file.
    Notice,
}

/// An envelope's [`fingerprint`](crate::Envelope::fingerprint), written as 32 hexadecimal digits.
///
/// Packed to the alignment of everything else: millions of them stand in trees, whose nodes allocators give out
/// more slowly and with waste where 16 bytes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct Fingerprint(pub u128);

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", { self.0 }))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SmolStr::deserialize(deserializer)?;
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(serde::de::Error::custom("not 32 lower-case hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Fingerprint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fingerprint".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

/// A new owner's claim. From its sequence on, the server refuses records of older epochs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Epoch {
    /// Version of the journal.
    pub v: u16,
    /// Counts the owners, from 1.
    pub epoch: u64,
    /// Which process.
    pub owner: SmolStr,
    /// When.
    pub at: Timestamp,
}

/// Where a snapshot of the shard is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checkpoint {
    /// Version of the journal.
    pub v: u16,
    /// Name of the object.
    pub object: SmolStr,
    /// SHA-256 of its bytes, lower-case hexadecimal.
    pub sha256: SmolStr,
    /// The record up to which it reflects the journal.
    pub seq: u64,
    /// Everything in `IN` up to this sequence is decided.
    pub cursor: u64,
    /// When.
    pub at: Timestamp,
}
