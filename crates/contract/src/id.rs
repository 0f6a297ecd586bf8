//! Identifiers: names that people choose, and numbers that the engine hands out.
//!
//! Names are any text of 1 to [`NAME_BYTES_MAX`](crate::limits::NAME_BYTES_MAX) bytes without
//! control characters. Numbers are written with a letter in front (`c17`), are unique within a
//! tenant, and come from counters in the engine's state, so that a replay hands out the same ones.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::limits::NAME_BYTES_MAX;

/// Why a text is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid id: expected {}", self.expected)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! name_id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(try_from = "SmolStr", into = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            /// Takes a name.
            ///
            /// # Errors
            /// When it is empty, longer than 128 bytes or holds a control character.
            pub fn new(name: impl Into<SmolStr>) -> Result<Self, InvalidId> {
                let name = name.into();
                if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                    return Err(InvalidId { expected: "1 to 128 bytes of text without control characters" });
                }
                Ok(Self(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = InvalidId;
            fn try_from(name: SmolStr) -> Result<Self, InvalidId> {
                Self::new(name)
            }
        }

        impl From<$name> for SmolStr {
            fn from(id: $name) -> SmolStr {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

name_id! {
    /// A company, brand or site whose agents, queues and customers belong together.
    TenantId
    /// A human agent or a bot that takes conversations.
    AgentId
    /// A waiting line.
    QueueId
    /// An ability that an agent has and a queue may require; languages are skills (`lang:de`).
    SkillId
    /// One configured mailbox, page, number or widget, unique within its channel kind.
    AccountId
    /// A kind of medium: `chat`, `email`, `whatsapp`, `sms`, `voice`, …
    ChannelKind
}

macro_rules! number_id {
    ($($(#[$doc:meta])* $name:ident $prefix:literal)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                const EXPECTED: InvalidId = InvalidId { expected: concat!("'", $prefix, "' and a number") };
                let digits = text.strip_prefix($prefix).ok_or(EXPECTED)?;
                // One spelling per id: "c017" and "c+17" are not ids.
                let canonical = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
                if digits.is_empty() || !canonical {
                    return Err(EXPECTED);
                }
                digits.parse().map(Self).map_err(|_| EXPECTED)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("an id like \"", $prefix, "17\""))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": concat!("^", $prefix, "(0|[1-9][0-9]*)$") })
            }
        }
    )*};
}

number_id! {
    /// One matter of a customer across all channels.
    ConversationId "c"
    /// A person, whatever addresses they write from.
    CustomerId "u"
    /// A time-limited proposal of a conversation to one agent.
    OfferId "o"
    /// One utterance, inbound or outbound.
    MessageId "m"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!("c17".parse(), Ok(ConversationId(17)));
        for bad in ["c", "c017", "c+1", "17", "u17", "c-1", "c1x", "c99999999999999999999"] {
            assert!(bad.parse::<ConversationId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_refuse_emptiness_length_and_control() {
        assert!(AgentId::new("anna").is_ok());
        assert!(AgentId::new("").is_err());
        assert!(AgentId::new("a".repeat(129)).is_err());
        assert!(AgentId::new("a\nb").is_err());
        assert!(serde_json::from_str::<AgentId>("\"\"").is_err());
    }
}
