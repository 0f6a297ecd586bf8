//! What a provider tells of a call, in one shape. Nothing of it is trusted beyond that the provider signed it.

use adapter::contract::{Millis, SmolStr, Timestamp};

/// Longest id that a provider gives anything.
const ID_BYTES_MAX: usize = 128;
/// Longest transcript that is taken over, in bytes: what an envelope holds besides.
const TRANSCRIPT_BYTES_MAX: usize = 64 * 1024;

/// What a webhook tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The leg that it is about.
    pub(crate) leg: SmolStr,
    /// The leg that this one was begun from.
    pub(crate) parent: Option<SmolStr>,
    /// Who calls.
    pub(crate) from: Option<SmolStr>,
    /// Who is called.
    pub(crate) to: Option<SmolStr>,
    /// The caller is on our side: the leg goes out.
    pub(crate) outbound: bool,
    /// How the leg stands, in the words of [`Call::state`](adapter::contract::envelope::Call::state).
    pub(crate) state: Option<&'static str>,
    /// The provider's number of this event of the leg.
    pub(crate) seq: Option<u64>,
    /// When it happened.
    pub(crate) at: Option<Timestamp>,
    /// The same as it was written.
    pub(crate) at_raw: Option<SmolStr>,
    /// How long the leg lasted.
    pub(crate) duration: Option<Millis>,
    /// The keys that were pressed; empty: none in time.
    pub(crate) digits: SmolStr,
    /// What the caller is called, by the carrier's word.
    pub(crate) name: Option<SmolStr>,
    /// The caller's carrier vouches for the number (STIR/SHAKEN, full attestation).
    pub(crate) attested: bool,
    /// What was recorded.
    pub(crate) recording: Option<Recording>,
    /// What was said.
    pub(crate) transcript: Option<Transcript>,
    /// The leg that was dialled from this one, and how it ended.
    pub(crate) dialed: Option<(SmolStr, &'static str)>,
    /// Whether whoever answered there was joined, where the provider says.
    pub(crate) bridged: Option<bool>,
}

/// A recording that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recording {
    /// Its id.
    pub(crate) id: SmolStr,
    /// By what it is fetched: its id, or its address, as the provider wants it.
    pub(crate) source: SmolStr,
    /// How long it is.
    pub(crate) duration: Option<Millis>,
    /// How large it is.
    pub(crate) bytes: Option<u64>,
    /// There is none: nobody spoke, or it could not be made.
    pub(crate) absent: bool,
}

/// What was said in a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// Of which recording.
    pub(crate) recording: SmolStr,
    /// Where it is.
    pub(crate) of: Spoken,
}

/// A transcript itself, or where it is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// This was said.
    Text(String),
    /// The provider keeps it at this address.
    At(SmolStr),
    /// It could not be made.
    Failed,
}

/// An id as providers give them: printable, without what would mean something in a path.
pub(crate) fn id(text: &str) -> Option<SmolStr> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(plain)).then(|| text.into())
}

/// An address or a number, as it came.
pub(crate) fn address(text: &str) -> Option<SmolStr> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)).then(|| text.into())
}

/// A transcript that is not too long.
pub(crate) fn transcript(text: &str) -> Spoken {
    let text = text.trim();
    let end = text.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= TRANSCRIPT_BYTES_MAX);
    match text.get(..end.last().unwrap_or(0)).filter(|text| !text.is_empty()) {
        Some(text) => Spoken::Text(text.to_owned()),
        None => Spoken::Failed,
    }
}

/// Seconds, written as a number or as text.
pub(crate) fn seconds(text: &str) -> Option<Millis> {
    text.trim().parse::<u32>().ok().map(|seconds| Millis::from_secs(seconds.into()))
}
