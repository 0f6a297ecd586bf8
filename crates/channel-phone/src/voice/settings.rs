//! The settings of calls: the section `[settings.voice]` of an account's file.

use std::collections::BTreeMap;

use adapter::contract::SmolStr;
use serde::Deserialize;

use super::script::Say;
use super::texts::{self, Line, Texts};

/// How calls are answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The language that is spoken, as BCP 47.
    pub(crate) language: SmolStr,
    /// The language by the beginning of the caller's number; the longest that fits counts.
    pub(crate) languages: BTreeMap<SmolStr, SmolStr>,
    /// Texts by language and name, instead of those built in.
    pub(crate) texts: Texts,
    /// What whoever waits hears: the address of a sound file.
    pub(crate) music: Option<String>,
    /// How long a round of waiting is where there is no music, in seconds.
    pub(crate) wait_seconds: u32,
    /// Position and keys are said every so many rounds.
    pub(crate) announce_every: u32,
    /// The key for being called back; empty: nobody is offered that.
    pub(crate) callback_key: SmolStr,
    /// The key for leaving a message; empty: no voicemail is taken, also when closed.
    pub(crate) voicemail_key: SmolStr,
    /// Longest voicemail in seconds.
    pub(crate) voicemail_seconds_max: u32,
    /// How much silence ends a voicemail, in seconds.
    pub(crate) voicemail_silence_seconds: u32,
    /// The provider writes down what was said in a voicemail, at its price.
    pub(crate) transcribe: bool,
    /// The key by which an agent takes a call; empty: whoever answers takes it, a voicemail box too.
    pub(crate) take_key: SmolStr,
    /// How long an agent may think about it, in seconds.
    pub(crate) take_seconds: u32,
    /// How long an agent's phone rings, in seconds.
    pub(crate) ring_seconds: u32,
    /// Talks with agents are recorded.
    pub(crate) record_calls: bool,
    /// The number that agents and customers are called from; absent: the account's.
    pub(crate) caller_id: Option<SmolStr>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            language: "en-US".into(),
            languages: BTreeMap::new(),
            texts: Texts::new(),
            music: None,
            wait_seconds: 20,
            announce_every: 2,
            callback_key: "1".into(),
            voicemail_key: "2".into(),
            voicemail_seconds_max: 120,
            voicemail_silence_seconds: 5,
            transcribe: false,
            take_key: "1".into(),
            take_seconds: 10,
            ring_seconds: 20,
            record_calls: false,
            caller_id: None,
        }
    }
}

impl Settings {
    /// Everything that is wrong with it, by path within the section.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let languages = self.languages.iter().map(|(prefix, language)| (format!("languages.{prefix}"), language));
        for (path, language) in std::iter::once(("language".to_owned(), &self.language)).chain(languages) {
            if !texts::is_language(language) {
                found.push((path, "must be like \"de-DE\"".to_owned()));
            }
        }
        for prefix in self.languages.keys() {
            let digits = prefix.strip_prefix('+').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                found.push((format!("languages.{prefix}"), "must be the beginning of a number, like \"+49\"".into()));
            }
        }
        texts::problems(&self.texts, &mut found);
        let music = self.music.as_deref().unwrap_or("https://");
        if !music.starts_with("https://") || music.len() > 1024 || !music.bytes().all(|byte| byte.is_ascii_graphic()) {
            found.push(("music".into(), "must be an https address".into()));
        }
        for (path, key) in
            [("callback_key", &self.callback_key), ("voicemail_key", &self.voicemail_key), ("take_key", &self.take_key)]
        {
            // Of the other keys, `#` ends input with one provider, `*` with another.
            let digit = key.len() == 1 && key.bytes().all(|byte| byte.is_ascii_digit());
            if !key.is_empty() && !digit {
                found.push((path.into(), "must be a digit, or empty".into()));
            }
        }
        if !self.callback_key.is_empty() && self.callback_key == self.voicemail_key {
            found.push(("voicemail_key".into(), "is the key for being called back already".into()));
        }
        for (path, value, range) in [
            ("wait_seconds", self.wait_seconds, 2..=60),
            ("announce_every", self.announce_every, 1..=100),
            ("voicemail_seconds_max", self.voicemail_seconds_max, 3..=3600),
            ("voicemail_silence_seconds", self.voicemail_silence_seconds, 3..=10),
            ("take_seconds", self.take_seconds, 2..=10),
            ("ring_seconds", self.ring_seconds, 5..=120),
        ] {
            if !range.contains(&value) {
                found.push((path.into(), format!("must be from {} to {}", range.start(), range.end())));
            }
        }
        if self.caller_id.as_deref().is_some_and(|number| super::script::Callee::read(number).is_none()) {
            found.push(("caller_id".into(), "must be a number of ours".into()));
        }
        found
    }

    /// The language for a number, and whether the number says so.
    pub(crate) fn language_of(&self, number: Option<&str>) -> (&SmolStr, bool) {
        let fits = |prefix: &&SmolStr| number.is_some_and(|number| number.starts_with(prefix.as_str()));
        let longest = self.languages.keys().filter(fits).max_by_key(|prefix| prefix.len());
        match longest.and_then(|prefix| self.languages.get(prefix)) {
            Some(language) => (language, true),
            None => (&self.language, false),
        }
    }

    /// A text in a language; none where nothing is to be said.
    pub(crate) fn say(&self, language: &str, line: Line, values: &[(&str, &str)]) -> Option<Say> {
        texts::say(&self.texts, language, line, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_the_longest_prefix_counts() {
        let mut settings = Settings::default();
        assert_eq!(settings.problems(), []);
        settings.languages.insert("+4".into(), "fr-FR".into());
        settings.languages.insert("+49".into(), "de-DE".into());
        assert_eq!(settings.language_of(Some("+4930123")), (&"de-DE".into(), true));
        assert_eq!(settings.language_of(Some("+4130123")), (&"fr-FR".into(), true));
        assert_eq!(settings.language_of(Some("+1202")), (&"en-US".into(), false));
        assert_eq!(settings.language_of(None), (&"en-US".into(), false));
    }

    #[test]
    fn what_is_wrong_with_settings() {
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "language": "german", "languages": { "49": "de" }, "music": "http://x", "callback_key": "2",
            "take_key": "#", "ring_seconds": 1, "caller_id": "us",
        }))
        .unwrap();
        let found = settings.problems();
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        let wanted = ["language", "languages.49", "music", "take_key", "voicemail_key", "ring_seconds", "caller_id"];
        assert_eq!(paths, wanted);
    }
}
