//! Two encodings of the same shapes: MessagePack with named fields, and JSON.
//!
//! The `content-type` header says which; without it, [`Encoding::MsgPack`] unless the first byte can
//! only be JSON. Positional MessagePack (arrays for structs) is never written: a field added in the
//! middle would shift every later one. No reader may rely on it, although nested ones happen to be
//! understood.

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny};
use serde::{Deserialize as _, Serialize};

use crate::limits::DEPTH_MAX;

/// Name of the header that carries the encoding.
pub const CONTENT_TYPE: &str = "content-type";

/// Name of the header in which an operator's tool says who asks.
pub const OPERATOR: &str = "tl-operator";

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
        self.decode_seed(payload, bytes_max, std::marker::PhantomData)
    }

    /// As [`decode`](Self::decode), with a seed that knows how to read the value.
    pub(crate) fn decode_seed<'de, S: DeserializeSeed<'de>>(
        self,
        payload: &'de [u8],
        bytes_max: usize,
        seed: S,
    ) -> Result<S::Value, CodecError> {
        if payload.len() > bytes_max {
            return Err(CodecError(format!("{} bytes, but at most {bytes_max} are allowed", payload.len())));
        }
        match self {
            Self::MsgPack => {
                // Texts are read where they lie; a reader would copy each once more.
                let mut decoder = rmp_serde::Deserializer::from_read_ref(payload);
                decoder.set_max_depth(DEPTH_MAX);
                let value = seed.deserialize(&mut decoder).map_err(CodecError::reading)?;
                // The decoder does not say how far it came: what can be read after the end is too much.
                match IgnoredAny::deserialize(&mut decoder) {
                    Err(rmp_serde::decode::Error::InvalidMarkerRead(error))
                        if error.kind() == std::io::ErrorKind::UnexpectedEof =>
                    {
                        Ok(value)
                    }
                    _ => Err(CodecError("more bytes follow the message".to_owned())),
                }
            }
            // serde_json follows 128 levels at most.
            Self::Json => {
                let mut decoder = serde_json::Deserializer::from_slice(payload);
                let value = seed.deserialize(&mut decoder).map_err(CodecError::reading)?;
                decoder.end().map_err(CodecError::reading)?;
                Ok(value)
            }
        }
    }
}

/// Reads the MessagePack value that `rest` begins with, and leaves what follows it in `rest`.
pub(crate) fn next_msgpack<'de, S: DeserializeSeed<'de>>(rest: &mut &[u8], seed: S) -> Result<S::Value, CodecError> {
    let mut decoder = rmp_serde::Deserializer::new(rest);
    decoder.set_max_depth(DEPTH_MAX);
    seed.deserialize(&mut decoder).map_err(CodecError::reading)
}

/// Why a payload could not be encoded or decoded. Holds no content of the payload: it is logged, and
/// kept in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError(pub String);

impl CodecError {
    /// What a decoder says, without what it quotes from the payload.
    pub(crate) fn reading(error: impl std::fmt::Display) -> Self {
        let text = error.to_string();
        // The decoders' words are `invalid type: string "…", expected …` and `unknown field `…`,
        // expected …`; what is expected is ours and comes last.
        let (what, rest) = match text.split_once(": ") {
            Some((what @ ("invalid type" | "invalid value"), rest)) => (what, rest),
            _ => match text.split_once(" `") {
                Some((what @ ("unknown variant" | "unknown field"), rest)) => (what, rest),
                _ => return Self(text),
            },
        };
        let found = match rest.split(' ').next() {
            Some(kind @ ("string" | "integer" | "boolean" | "character" | "sequence" | "map" | "null" | "unit")) => {
                format!(": {kind}")
            }
            Some("floating") => ": number".to_owned(),
            _ => String::new(),
        };
        let expected = rest.rfind(", expected ").and_then(|at| rest.get(at..)).unwrap_or_default();
        Self(format!("{what}{found}{expected}"))
    }
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// An enum of text values that keeps values it does not know, so that a newer writer's word passes
/// through an older reader unchanged. `default` names the value of an absent field.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident $(default $default:ident)? { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A value that this version does not know, kept as it came.
            Other($crate::SmolStr),
        }

        $(impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        })?

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
    fn errors_quote_nothing_of_the_payload() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Shape {
            #[serde(rename = "n")]
            _n: u8,
        }
        for (text, expected) in [
            (r#"{"n":"secret, expected x"}"#, "invalid type: string, expected u8 at line 1"),
            (r#"{"n":6789}"#, "invalid value: integer, expected u8 at line 1"),
            (r#"{"secret":1}"#, "unknown field, expected `n` at line 1"),
            (r#""secret""#, "invalid type: string, expected struct Shape at line 1"),
            ("{}", "missing field `n` at line 1"),
        ] {
            let error = Encoding::Json.decode::<Shape>(text.as_bytes(), 99).unwrap_err().0;
            assert!(error.starts_with(expected), "{error}");
        }
        let error = Encoding::MsgPack.decode::<u8>(b"\xa6secret", 99).unwrap_err().0;
        assert!(!error.contains("secret"), "{error}");
        let error =
            Encoding::Json.decode::<crate::policy::Policy>(br#"{"queues":{"secret":{"x":1}}}"#, 99).unwrap_err();
        assert!(error.0.starts_with("unknown field, expected one of `title`"), "{error}");
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
