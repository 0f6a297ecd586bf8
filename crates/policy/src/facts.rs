//! What rules decide by.

use std::collections::{BTreeMap, BTreeSet};

use contract::envelope::{Account, Assurance, Part, TextFormat, Thread, ThreadKind};
use contract::event::Classification;
use contract::policy::Value;
use contract::{ChannelKind, Envelope};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use whatlang::Lang;

/// What kind of medium a conversation runs on: the account's, save that a call, whatever account it came by, is `voice`.
#[must_use]
pub fn kind_of(account: &Account, thread: &Thread) -> ChannelKind {
    match thread.kind {
        ThreadKind::Call => ChannelKind::new("voice").unwrap_or_else(|_| account.kind.clone()),
        _ => account.kind.clone(),
    }
}

/// Most of a message's text that rules look at, in bytes; what is beyond is not read.
const TEXT_MAX: usize = 4096;
/// Most tags that rules look at.
const TAGS_MAX: usize = 64;
/// Most of a text that is read to find out its language, in bytes.
const DETECT_MAX: usize = 1024;
/// Letters that it takes to tell a language by its words.
const LETTERS_MIN: usize = 24;

/// What rules decide by. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The channel kind.
    pub channel: SmolStr,
    /// The account that the message came by.
    pub account: SmolStr,
    /// The language, ISO 639-1.
    pub language: Option<SmolStr>,
    /// The customer's segment.
    pub segment: Option<SmolStr>,
    /// What the customer wants, by the classifier's word.
    pub intent: Option<SmolStr>,
    /// What the customer wrote.
    pub text: String,
    /// The envelope's tags and the classifier's.
    pub tags: BTreeSet<SmolStr>,
    /// What is known of the customer.
    pub customer: BTreeMap<SmolStr, Value>,
    /// The sender's identity is proven.
    pub verified: bool,
}

impl Facts {
    /// From an envelope and, when there is one, its classification. The language is the envelope's, else its
    /// first text's, else the classification's; [`Compiled::complete`](crate::Compiled::complete) finds it out
    /// from the text where it matters. What is known of the customer is not in either, and left empty.
    #[must_use]
    pub fn of(envelope: &Envelope, classification: Option<&Classification>) -> Self {
        let text = text_of(envelope);
        let of_parts = envelope.content.iter().find_map(|part| match part {
            Part::Text(text) => text.language.as_deref(),
            _ => None,
        });
        let said = envelope.language.as_deref().and_then(language_code);
        let language = said
            .or_else(|| of_parts.and_then(language_code))
            .or_else(|| classification.and_then(|found| found.language.as_deref()).and_then(language_code));
        let sender = envelope.sender.identity.assurance.unwrap_or_else(|| envelope.sender_auth.assurance());
        Self {
            channel: kind_of(&envelope.account, &envelope.thread).into(),
            account: envelope.account.id.clone().into(),
            language,
            segment: None,
            intent: classification.and_then(|found| found.intent.clone()),
            text,
            tags: envelope
                .tags
                .iter()
                .chain(classification.into_iter().flat_map(|found| &found.tags))
                .cloned()
                .collect(),
            customer: BTreeMap::new(),
            verified: sender == Assurance::Verified,
        }
    }

    /// Adds what a classifier found. A language that somebody said stands.
    pub fn learn(&mut self, found: &Classification) {
        self.intent.clone_from(&found.intent);
        self.tags.extend(found.tags.iter().cloned());
        if self.language.is_none() {
            self.language = found.language.as_deref().and_then(language_code);
        }
    }

    /// The part of the text that rules look at.
    pub(crate) fn text_read(&self) -> &str {
        start(&self.text, TEXT_MAX)
    }

    /// The tags that rules look at.
    pub(crate) fn tags_read(&self) -> impl Iterator<Item = &SmolStr> {
        self.tags.iter().take(TAGS_MAX)
    }
}

/// The first `max` bytes of a text, not cutting a character.
fn start(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// What the customer said: the subject, the texts, what stands under pictures, what was chosen.
fn text_of(envelope: &Envelope) -> String {
    let mut all = String::new();
    let mut add = |text: &str| {
        if !text.is_empty() && all.len() < TEXT_MAX {
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(text);
        }
    };
    if let Some(subject) = &envelope.thread.subject {
        add(subject);
    }
    for part in &envelope.content {
        match part {
            Part::Text(text) => {
                let body = text.visible.as_ref().unwrap_or(&text.body);
                if text.format == TextFormat::Html { add(&without_tags(body)) } else { add(body) }
            }
            Part::Media(media) => add(media.caption.as_deref().unwrap_or_default()),
            Part::Choice(choice) => add(&choice.title),
            Part::Link { title, .. } => add(title.as_deref().unwrap_or_default()),
            _ => {}
        }
    }
    all.truncate(start(&all, TEXT_MAX).len());
    all
}

/// The text of HTML, roughly: enough to find words in.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len().min(TEXT_MAX));
    let mut within = false;
    for c in html.chars() {
        match c {
            '<' => within = true,
            '>' if within => {
                within = false;
                text.push(' ');
            }
            _ if !within => text.push(c),
            _ => {}
        }
        if text.len() >= TEXT_MAX {
            break;
        }
    }
    text
}

/// The two letters of a language out of `de`, `de-AT`, `DE_de`; none of what is not in ISO 639-1 form.
pub(crate) fn language_code(text: &str) -> Option<SmolStr> {
    let code = text.split(['-', '_']).next().unwrap_or_default();
    let is_code = code.len() == 2 && code.bytes().all(|b| b.is_ascii_alphabetic());
    is_code.then(|| SmolStr::from(code.to_ascii_lowercase()))
}

/// The language of a text as ISO 639-1, when there is enough of it to be sure. A wrong language is worse than
/// none: it sends the customer to somebody who does not understand them.
#[must_use]
pub fn detect_language(text: &str) -> Option<SmolStr> {
    // Addresses are in no language.
    let words: Vec<&str> = start(text, DETECT_MAX)
        .split_whitespace()
        .filter(|word| !word.contains("://") && !word.contains('@'))
        .collect();
    let text = words.join(" ");
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    // A letter of a script that only few languages use says more than one of Latin.
    let plain = text.chars().filter(|c| c.is_alphabetic() && *c < '\u{370}').count();
    let needed = if plain * 2 > letters { LETTERS_MIN } else { LETTERS_MIN / 3 };
    if letters < needed {
        return None;
    }
    if let Some(told) = by_letters(&text) {
        return told.map(SmolStr::new_static);
    }
    let found = whatlang::detect(&text).filter(whatlang::Info::is_reliable)?;
    two_letters(found.lang()).map(SmolStr::new_static)
}

/// The languages in Cyrillic letters resemble each other too much for their words to tell in a short text, but
/// each has letters that the others lack. None: the letters do not tell; none within: a language that is not
/// known here.
fn by_letters(text: &str) -> Option<Option<&'static str>> {
    let count = |letters: &str| text.chars().filter(|c| c.to_lowercase().any(|c| letters.contains(c))).count();
    let cyrillic = text.chars().filter(|c| matches!(c, '\u{400}'..='\u{52f}')).count();
    if cyrillic < LETTERS_MIN / 3 {
        return None;
    }
    let (belarusian, ukrainian, russian) = (count("ў"), count("їєґ"), count("ыэё"));
    if count("әөүұқғңһҳҷӣӯ") > 0 {
        return Some(None);
    }
    match (belarusian, ukrainian, russian) {
        (1.., 0, _) => Some(Some("be")),
        (0, 2.., 0) => Some(Some("uk")),
        (0, 0, 1..) if count("і") == 0 => Some(Some("ru")),
        _ => None,
    }
}

fn two_letters(language: Lang) -> Option<&'static str> {
    Some(match language {
        Lang::Afr => "af",
        Lang::Aka => "ak",
        Lang::Amh => "am",
        Lang::Ara => "ar",
        Lang::Aze => "az",
        Lang::Bel => "be",
        Lang::Ben => "bn",
        Lang::Bul => "bg",
        Lang::Cat => "ca",
        Lang::Ces => "cs",
        Lang::Cmn => "zh",
        Lang::Cym => "cy",
        Lang::Dan => "da",
        Lang::Deu => "de",
        Lang::Ell => "el",
        Lang::Eng => "en",
        Lang::Epo => "eo",
        Lang::Est => "et",
        Lang::Fin => "fi",
        Lang::Fra => "fr",
        Lang::Guj => "gu",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Hrv => "hr",
        Lang::Hun => "hu",
        Lang::Hye => "hy",
        Lang::Ind => "id",
        Lang::Ita => "it",
        Lang::Jav => "jv",
        Lang::Jpn => "ja",
        Lang::Kan => "kn",
        Lang::Kat => "ka",
        Lang::Khm => "km",
        Lang::Kor => "ko",
        Lang::Lat => "la",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Mal => "ml",
        Lang::Mar => "mr",
        Lang::Mkd => "mk",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Nld => "nl",
        Lang::Nob => "nb",
        Lang::Ori => "or",
        Lang::Pan => "pa",
        Lang::Pes => "fa",
        Lang::Pol => "pl",
        Lang::Por => "pt",
        Lang::Ron => "ro",
        Lang::Rus => "ru",
        Lang::Sin => "si",
        Lang::Slk => "sk",
        Lang::Slv => "sl",
        Lang::Sna => "sn",
        Lang::Spa => "es",
        Lang::Srp => "sr",
        Lang::Swe => "sv",
        Lang::Tam => "ta",
        Lang::Tel => "te",
        Lang::Tgl => "tl",
        Lang::Tha => "th",
        Lang::Tuk => "tk",
        Lang::Tur => "tr",
        Lang::Ukr => "uk",
        Lang::Urd => "ur",
        Lang::Uzb => "uz",
        Lang::Vie => "vi",
        Lang::Yid => "yi",
        Lang::Zul => "zu",
    })
}
