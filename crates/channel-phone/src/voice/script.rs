//! What somebody on the phone hears and may do, whatever the provider: `twilio` writes it as TwiML, `vonage` as NCCO.

use adapter::contract::SmolStr;

/// A text that is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Say {
    /// What.
    pub(crate) text: String,
    /// In which language, as BCP 47 (`de-DE`).
    pub(crate) language: SmolStr,
}

/// What is done on a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// Somebody waits: texts, music or silence, and then `next` is asked. A key, where there is any to press, is told to
    /// `key`.
    Wait { say: Vec<Say>, music: Option<String>, seconds: u32, key: Option<String>, next: String },
    /// Texts, and the leg ends.
    End { say: Vec<Say> },
    /// A voicemail is taken.
    Record(Record),
    /// The leg is put through to an agent.
    Dial(Dial),
    /// An agent hears who calls, and presses a key to take it.
    Whisper { say: Vec<Say>, seconds: u32, take: String },
    /// An agent took it: whoever waits is joined.
    Join,
    /// An agent's leg that is being hung up hears nothing more.
    Hold { take: String },
}

/// A voicemail that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// What is said before the tone.
    pub(crate) say: Vec<Say>,
    /// What is said after it.
    pub(crate) thanks: Vec<Say>,
    /// How long it may be.
    pub(crate) seconds_max: u32,
    /// How much silence ends it.
    pub(crate) silence_seconds: u32,
    /// Asked when it has ended and the caller is still there.
    pub(crate) done: String,
    /// Told when the recording can be fetched.
    pub(crate) recorded: String,
    /// Told what was said, and in which language that was.
    pub(crate) transcript: Option<(String, SmolStr)>,
}

/// An agent who is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial {
    /// What is said before.
    pub(crate) say: Vec<Say>,
    /// Whom: a number or a SIP address.
    pub(crate) to: Callee,
    /// Which number of ours calls.
    pub(crate) from: SmolStr,
    /// How long it rings.
    pub(crate) ring_seconds: u32,
    /// Asked what the agent hears first; absent: who answers is joined.
    pub(crate) whisper: Option<String>,
    /// Told how the agent's leg goes.
    pub(crate) status: String,
    /// Asked what comes after.
    pub(crate) done: String,
    /// Told when the recording of the talk can be fetched; absent: it is not recorded.
    pub(crate) recorded: Option<String>,
}

/// Where somebody is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callee {
    /// A number with its plus sign.
    Number(SmolStr),
    /// A SIP address, `sip:` and all.
    Sip(SmolStr),
}

impl Callee {
    /// Reads an address; `None`: nobody can be called there.
    pub(crate) fn read(address: &str) -> Option<Self> {
        let address = address.trim();
        if ["sip:", "sips:"].iter().any(|scheme| address.starts_with(scheme)) {
            let fits = address.len() <= 255 && address.bytes().all(|byte| byte.is_ascii_graphic());
            return (fits && address.contains('@')).then(|| Self::Sip(address.into()));
        }
        let digits: String =
            address.chars().filter(|char| !matches!(char, ' ' | '-' | '(' | ')' | '/' | '.')).collect();
        let national = digits.strip_prefix('+').unwrap_or(&digits);
        let fits = (3..=15).contains(&national.len()) && national.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| Self::Number(format!("+{national}").into()))
    }

    /// As it is written in a request.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Number(address) | Self::Sip(address) => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_be_called() {
        let number = |text: &str| Some(Callee::Number(text.into()));
        assert_eq!(Callee::read("+49 (30) 123-4567"), number("+49301234567"));
        assert_eq!(Callee::read("49301234567"), number("+49301234567"));
        assert_eq!(Callee::read("sip:anna@example.com"), Some(Callee::Sip("sip:anna@example.com".into())));
        for bad in ["", "+", "12", "anonymous", "+4930x", "sip:anna", "sip:a b@c", "+1234567890123456"] {
            assert_eq!(Callee::read(bad), None, "{bad}");
        }
    }
}
