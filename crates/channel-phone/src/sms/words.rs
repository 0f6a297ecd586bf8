//! What a customer can ask for with a word alone. Pure.

use super::settings::Settings;

/// What a word asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// No more texts.
    Stop,
    /// Texts again.
    Start,
    /// To know what this is.
    Help,
}

/// The words of an account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words(Vec<(String, Wish)>);

impl Words {
    /// Those of the settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let lists = [
            (&settings.stop_words, Wish::Stop),
            (&settings.start_words, Wish::Start),
            (&settings.help_words, Wish::Help),
        ];
        let words = lists.into_iter().flat_map(|(words, wish)| words.iter().map(move |word| (plain(word), wish)));
        Self(words.collect())
    }

    /// What a text asks for that is one of the words and nothing else.
    pub(crate) fn wish(&self, text: &str) -> Option<Wish> {
        // No word is that long.
        if text.len() > 400 {
            return None;
        }
        let text = plain(text);
        self.0.iter().find(|(word, _)| *word == text).map(|(_, wish)| *wish)
    }
}

/// Without case, and without what people put around a word.
fn plain(text: &str) -> String {
    text.trim_matches(|char: char| !char.is_alphanumeric()).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_when_it_is_alone() {
        let words = Words::new(&Settings::default());
        for (text, wish) in [
            ("STOP", Some(Wish::Stop)),
            (" stop. ", Some(Wish::Stop)),
            ("\"Stopall\"", Some(Wish::Stop)),
            ("Unsubscribe!", Some(Wish::Stop)),
            ("cancel", Some(Wish::Stop)),
            ("End", Some(Wish::Stop)),
            ("quit", Some(Wish::Stop)),
            ("start", Some(Wish::Start)),
            ("unstop", Some(Wish::Start)),
            ("Yes", Some(Wish::Start)),
            ("help?", Some(Wish::Help)),
            ("please stop", None),
            ("stop it", None),
            ("", None),
            ("!", None),
        ] {
            assert_eq!(words.wish(text), wish, "{text}");
        }
        assert_eq!(words.wish(&format!("stop{}", " ".repeat(400))), None);
    }

    #[test]
    fn the_settings_say_which_words() {
        let settings = Settings { stop_words: vec!["Arrêt".into()], ..Settings::default() };
        let words = Words::new(&settings);
        assert_eq!((words.wish("ARRÊT"), words.wish("stop")), (Some(Wish::Stop), None));
    }
}
