//! The settings of texts: the section `[settings.sms]` of an account's file.

use adapter::contract::SmolStr;
use serde::Deserialize;

use super::number::Number;

/// Longest word that a customer may send instead of a text.
const WORD_CHARS_MAX: usize = 40;
/// Most words of one kind.
const WORDS_MAX: usize = 100;

/// How texts are read and sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Who texts go out from, instead of the account's number: another number, a short code or a name.
    pub(crate) sender: Option<SmolStr>,
    /// Most texts a second; absent: what the provider lets a plain number send.
    pub(crate) per_second_max: Option<f64>,
    /// Most texts a second to one customer.
    pub(crate) customer_per_second_max: f64,
    /// How long the parts of a text are awaited, in seconds.
    pub(crate) join_seconds: u64,
    /// Most segments of one message, which is what it costs: a longer one is not sent.
    pub(crate) segments_max: u32,
    /// Whether pictures and files go out as MMS, where the provider has that.
    pub(crate) mms: bool,
    /// A customer who sends one of these alone wants no more texts.
    pub(crate) stop_words: Vec<String>,
    /// A customer who sends one of these alone wants texts again.
    pub(crate) start_words: Vec<String>,
    /// A customer who sends one of these alone asks what this is.
    pub(crate) help_words: Vec<String>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sender: None,
            per_second_max: None,
            customer_per_second_max: 1.0,
            join_seconds: 120,
            segments_max: 50,
            mms: true,
            stop_words: words(&["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"]),
            start_words: words(&["START", "UNSTOP", "YES"]),
            help_words: words(&["HELP", "INFO"]),
        }
    }
}

impl Settings {
    /// Everything that is wrong with it, by path within the section.
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut check = |path: &str, holds: bool, why: &str| {
            if !holds {
                found.push((path.to_owned(), why.to_owned()));
            }
        };
        let sender = self.sender.as_deref().is_none_or(Number::is_sender);
        check("sender", sender, "must be a number with its +, a short code, or at most 11 letters, digits and spaces");
        let rate = |rate: f64| rate > 0.0 && rate <= 10_000.0;
        check("per_second_max", self.per_second_max.is_none_or(rate), "must be more than 0 and at most 10000");
        check("customer_per_second_max", rate(self.customer_per_second_max), "must be more than 0 and at most 10000");
        check("join_seconds", (5..=3600).contains(&self.join_seconds), "must be from 5 to 3600");
        check("segments_max", (1..=1000).contains(&self.segments_max), "must be from 1 to 1000");
        for (path, words) in
            [("stop_words", &self.stop_words), ("start_words", &self.start_words), ("help_words", &self.help_words)]
        {
            let word = |word: &String| !word.trim().is_empty() && word.chars().count() <= WORD_CHARS_MAX;
            check(
                path,
                words.len() <= WORDS_MAX && words.iter().all(word),
                "must be at most 100 words of 1 to 40 characters",
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_what_is_wrong_is_told() {
        assert_eq!(Settings::default().problems(), []);
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "sender": "a name that is long", "per_second_max": 0.0, "join_seconds": 1, "stop_words": [" "],
        }))
        .unwrap();
        let found = settings.problems();
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["sender", "per_second_max", "join_seconds", "stop_words"]);
    }
}
