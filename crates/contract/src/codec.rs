//! Two encodings of the same shapes: MessagePack with named fields, and JSON.
//!
//! The `content-type` header says which; without it, [`Encoding::MsgPack`] unless the first byte can
//! only be JSON. Positional MessagePack (arrays for structs) is refused by the decoder's types: a
//! field added in the middle would shift every later one.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::DEPTH_MAX;

/// Name of the header that carries the encoding.
pub const CONTENT_TYPE: &str = "content-type";

/// How a payload is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `application/msgpack`, with named fields.
    #[default]
    MsgPack,
    /// `application/json`.
    Json,
}

impl Encoding {
    /// The value of the `content-type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::MsgPack => "application/msgpack",
            Self::Json => "application/json",
        }
    }

    /// The encoding of a payload, from its header when it has one, else from its first byte: `{` and
    /// `[` begin JSON here, since in MessagePack they are bare integers, which no message of ours is.
    ///
    /// # Errors
    /// When the header names an encoding that this contract does not have.
    pub fn detect(content_type: Option<&str>, payload: &[u8]) -> Result<Self, CodecError> {
        match content_type.map(|value| value.split(';').next().unwrap_or("").trim()) {
            Some("application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack") => Ok(Self::MsgPack),
            Some("application/json") => Ok(Self::Json),
            Some(other) => Err(CodecError(format!("unknown content-type {other:?}"))),
            None if matches!(payload.first(), Some(b'{' | b'[' | b' ' | b'\n')) => Ok(Self::Json),
            None => Ok(Self::MsgPack),
        }
    }

    /// Encodes `value`.
    ///
    /// # Errors
    /// When the value cannot be represented, which no type of this contract brings about.
    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::MsgPack => rmp_serde::to_vec_named(value).map_err(|e| CodecError(e.to_string())),
            Self::Json => serde_json::to_vec(value).map_err(|e| CodecError(e.to_string())),
        }
    }

    /// Decodes a value of at most `bytes_max` bytes that fills the whole payload.
    ///
    /// # Errors
    /// When the payload is too large, malformed, too deep, or followed by other bytes.
    pub fn decode<T: DeserializeOwned>(self, payload: &[u8], bytes_max: usize) -> Result<T, CodecError> {
        if payload.len() > bytes_max {
            return Err(CodecError(format!("{} bytes, but at most {bytes_max} are allowed", payload.len())));
        }
        match self {
            Self::MsgPack => {
                let mut rest = payload;
                let mut decoder = rmp_serde::Deserializer::new(&mut rest);
                decoder.set_max_depth(DEPTH_MAX);
                let value = T::deserialize(&mut decoder).map_err(|e| CodecError(e.to_string()))?;
                if rest.is_empty() {
                    Ok(value)
                } else {
                    Err(CodecError(format!("{} bytes follow the message", rest.len())))
                }
            }
            // serde_json follows 128 levels at most and refuses what trails.
            Self::Json => serde_json::from_slice(payload).map_err(|e| CodecError(e.to_string())),
        }
    }
}

/// Why a payload could not be encoded or decoded. Holds no content of the payload beyond the names
/// of fields and variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(pub String);

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// An enum of text values that keeps values it does not know, so that a newer writer's word passes
/// through an older reader unchanged.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value that this version does not know, kept as it came.
            Other($crate::SmolStr),
        }

        impl $name {
            /// The value as it is on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<$crate::SmolStr> for $name {
            fn from(text: $crate::SmolStr) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$crate::SmolStr as serde::Deserialize>::deserialize(deserializer).map(Self::from)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": concat!("Known values: ", $($text, " ",)* "(others may be added)"),
                })
            }
        }
    };
}
pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_by_header_then_by_first_byte() {
        assert_eq!(Encoding::detect(Some("application/json; charset=utf-8"), b""), Ok(Encoding::Json));
        assert_eq!(Encoding::detect(None, b"{}"), Ok(Encoding::Json));
        assert_eq!(Encoding::detect(None, &[0x81]), Ok(Encoding::MsgPack));
        assert!(Encoding::detect(Some("text/plain"), b"").is_err());
    }

    #[test]
    fn refuses_trailing_bytes_size_and_depth() {
        assert!(Encoding::MsgPack.decode::<bool>(&[0xc3, 0xc3], 9).is_err());
        assert!(Encoding::MsgPack.decode::<bool>(&[0xc3], 0).is_err());
        let deep = vec![0x91; 100_000];
        assert!(Encoding::MsgPack.decode::<serde_json::Value>(&deep, 1 << 20).is_err());
        let deep = "[".repeat(100_000);
        assert!(Encoding::Json.decode::<serde_json::Value>(deep.as_bytes(), 1 << 20).is_err());
    }
}
