//! What is said on the phone, by language. Settings replace any of it.

use std::collections::BTreeMap;

use adapter::contract::SmolStr;

use super::script::Say;

/// Longest text of the settings, in characters: what every provider speaks.
const CHARS_MAX: usize = 1000;

/// Every text: its name, what may stand in it, and what is said when the settings say nothing.
const TEXTS: &[(Line, &str, &[&str], &str, &str)] = &[
    (
        Line::Greeting,
        "greeting",
        &[],
        "Thank you for calling. Please hold the line.",
        "Vielen Dank für Ihren Anruf. Bitte bleiben Sie in der Leitung.",
    ),
    (Line::Next, "next", &[], "You are next.", "Sie sind als Nächstes an der Reihe."),
    (
        Line::Position,
        "position",
        &["position"],
        "There are {position} callers before you.",
        "Vor Ihnen sind {position} Anrufer.",
    ),
    (Line::PositionOne, "position_one", &[], "There is one caller before you.", "Vor Ihnen ist ein Anrufer."),
    (
        Line::Expected,
        "expected",
        &["minutes"],
        "You will wait about {minutes} minutes.",
        "Die Wartezeit beträgt etwa {minutes} Minuten.",
    ),
    (
        Line::ExpectedOne,
        "expected_one",
        &[],
        "You will wait about one minute.",
        "Die Wartezeit beträgt etwa eine Minute.",
    ),
    (
        Line::PressCallback,
        "press_callback",
        &["key"],
        "To be called back without losing your place, press {key}.",
        "Für einen Rückruf, ohne Ihren Platz zu verlieren, drücken Sie die {key}.",
    ),
    (
        Line::PressVoicemail,
        "press_voicemail",
        &["key"],
        "To leave a message, press {key}.",
        "Um eine Nachricht zu hinterlassen, drücken Sie die {key}.",
    ),
    (Line::Callback, "callback", &[], "We will call you back. Goodbye.", "Wir rufen Sie zurück. Auf Wiederhören."),
    (
        Line::NoCallback,
        "no_callback",
        &[],
        "Your number is not shown to us, so we cannot call you back.",
        "Ihre Nummer wird nicht übermittelt. Wir können Sie leider nicht zurückrufen.",
    ),
    (
        Line::Closed,
        "closed",
        &[],
        "We cannot take your call at the moment.",
        "Wir können Ihren Anruf zurzeit nicht annehmen.",
    ),
    (
        Line::Voicemail,
        "voicemail",
        &[],
        "Please leave a message after the tone.",
        "Bitte hinterlassen Sie nach dem Ton eine Nachricht.",
    ),
    (Line::Thanks, "thanks", &[], "Thank you. Goodbye.", "Vielen Dank. Auf Wiederhören."),
    (Line::Goodbye, "goodbye", &[], "Goodbye.", "Auf Wiederhören."),
    (
        Line::NotReached,
        "not_reached",
        &[],
        "Please hold the line a little longer.",
        "Bitte haben Sie noch einen Augenblick Geduld.",
    ),
    (
        Line::CallingBack,
        "calling_back",
        &[],
        "You asked us to call you. We are putting you through.",
        "Sie hatten um einen Rückruf gebeten. Wir verbinden Sie.",
    ),
    (Line::Whisper, "whisper", &["customer"], "Call from {customer}.", "Anruf von {customer}."),
    (Line::WhisperUnknown, "whisper_unknown", &[], "A call.", "Ein Anruf."),
    (Line::WhisperQueue, "whisper_queue", &["queue"], "Queue {queue}.", "Warteschlange {queue}."),
    (Line::PressTake, "press_take", &["key"], "Press {key} to take it.", "Drücken Sie die {key}, um ihn anzunehmen."),
];

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Greeting,
    Next,
    Position,
    PositionOne,
    Expected,
    ExpectedOne,
    PressCallback,
    PressVoicemail,
    Callback,
    NoCallback,
    Closed,
    Voicemail,
    Thanks,
    Goodbye,
    NotReached,
    CallingBack,
    Whisper,
    WhisperUnknown,
    WhisperQueue,
    PressTake,
}

/// The texts of the settings: by language (`de`), by name.
pub(crate) type Texts = BTreeMap<SmolStr, BTreeMap<SmolStr, String>>;

/// `de` of `de-DE`.
pub(crate) fn primary(language: &str) -> &str {
    language.split(['-', '_']).next().unwrap_or(language)
}

/// Whether a language is written as providers want it: `de` or `de-DE`.
pub(crate) fn is_language(language: &str) -> bool {
    let mut parts = language.split('-');
    let letters = |part: &str, count: std::ops::RangeInclusive<usize>| {
        count.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    parts.next().is_some_and(|first| letters(first, 2..=3)) && parts.all(|part| letters(part, 2..=8))
}

/// Everything that is wrong with the texts of the settings.
pub(crate) fn problems(texts: &Texts, found: &mut Vec<(String, String)>) {
    for (language, lines) in texts {
        if primary(language) != language || !is_language(language) {
            found.push((format!("texts.{language}"), "must be a language like \"de\"".into()));
        }
        for (name, text) in lines {
            let path = || format!("texts.{language}.{name}");
            let Some((_, _, places, ..)) = TEXTS.iter().find(|(_, known, ..)| known == name) else {
                found.push((path(), "is no text that is ever said".into()));
                continue;
            };
            if text.chars().count() > CHARS_MAX || text.chars().any(char::is_control) {
                found.push((path(), format!("must be one line of at most {CHARS_MAX} characters")));
            }
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once('{') {
                let (place, after) = after.split_once('}').unwrap_or((after, ""));
                if !places.contains(&place) {
                    found.push((path(), format!("{{{place}}} means nothing in it")));
                }
                rest = after;
            }
        }
    }
}

/// A text in a language, with what stands in it; English where there is none in the language. Nothing where the settings
/// want nothing said.
pub(crate) fn say(texts: &Texts, language: &str, line: Line, values: &[(&str, &str)]) -> Option<Say> {
    let (_, name, _, english, german) = TEXTS.iter().find(|(known, ..)| *known == line)?;
    let given = texts.get(primary(language)).and_then(|lines| lines.get(*name));
    let (text, language) = match (given, primary(language)) {
        (Some(text), _) => (text.as_str(), language),
        (None, "de") => (*german, language),
        (None, "en") => (*english, language),
        // A text in another language than the voice's is not understood.
        (None, _) => (*english, "en-US"),
    };
    let mut text = text.to_owned();
    for (place, value) in values {
        text = text.replace(&format!("{{{place}}}"), value);
    }
    let text = text.trim();
    (!text.is_empty()).then(|| Say { text: text.to_owned(), language: language.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_said_in_the_language_or_in_english() {
        let mut texts = Texts::new();
        let said = |texts: &Texts, language: &str| say(texts, language, Line::Position, &[("position", "3")]).unwrap();
        assert_eq!(said(&texts, "de-AT").text, "Vor Ihnen sind 3 Anrufer.");
        assert_eq!(
            (said(&texts, "fr-FR").text.as_str(), said(&texts, "fr-FR").language.as_str()),
            ("There are 3 callers before you.", "en-US")
        );
        texts.entry("fr".into()).or_default().insert("position".into(), "Il y a {position} appels avant vous.".into());
        texts.entry("fr".into()).or_default().insert("next".into(), String::new());
        assert_eq!(said(&texts, "fr-FR").text, "Il y a 3 appels avant vous.");
        assert_eq!(say(&texts, "fr-FR", Line::Next, &[]), None, "an empty text is not said");
    }

    #[test]
    fn every_text_is_there_once_and_says_what_it_is_given() {
        for (line, name, places, english, german) in TEXTS {
            assert_eq!(TEXTS.iter().filter(|(other, other_name, ..)| other == line || other_name == name).count(), 1);
            for text in [english, german] {
                for place in *places {
                    assert!(text.contains(&format!("{{{place}}}")), "{name}: {place}");
                }
                assert_eq!(text.matches('{').count(), places.len(), "{name}");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_texts() {
        let texts: Texts = serde_json::from_value(serde_json::json!({
            "de-DE": {}, "fr": { "position": "{minutes}", "hello": "x", "next": "a\nb", "whisper": "{customer" },
        }))
        .unwrap();
        let mut found = Vec::new();
        problems(&texts, &mut found);
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["texts.de-DE", "texts.fr.hello", "texts.fr.next", "texts.fr.position"]);
    }
}
