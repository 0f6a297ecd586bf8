//! What a command says, in the forms that the platform's products have for it. Pure.

use adapter::contract::envelope::{Choice, ContactCard, Location, Media, Part};
use adapter::failure::SendFailure;
use serde_json::{Map, Value, json};

use crate::piece::{Piece, pieces};

/// Most bits of one command: a message that would be more calls is a mistake.
const BITS_MAX: usize = 128;

/// A bit of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bit {
    /// Text.
    Text(String),
    /// A question, and what to choose from.
    Ask(String, Vec<Choice>),
    /// A file from the store.
    Media(Media),
    /// A place.
    Location(Location),
    /// Somebody's details.
    Contact(ContactCard),
    /// A pre-approved template.
    Template(Template),
}

/// A pre-approved template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    /// Its name.
    pub(crate) name: String,
    /// Its language.
    pub(crate) language: Option<String>,
    /// What fills its gaps.
    pub(crate) parameters: Map<String, Value>,
}

impl Template {
    /// As the platform names it. Parameters are its own `components`, or what fills the gaps of the body, by number or by
    /// name.
    pub(crate) fn filled(&self) -> Value {
        let mut of = json!({
            "name": self.name,
            "language": { "code": self.language.as_deref().unwrap_or("en") },
        });
        let components = match self.parameters.get("components") {
            Some(components @ Value::Array(_)) => Some(components.clone()),
            _ if self.parameters.is_empty() => None,
            _ => {
                let numbered = self.parameters.keys().all(|key| key.parse::<u32>().is_ok());
                let mut gaps: Vec<(&String, &Value)> = self.parameters.iter().collect();
                if numbered {
                    gaps.sort_by_key(|(key, _)| key.parse::<u32>().unwrap_or(u32::MAX));
                }
                let gap = |(key, value): (&String, &Value)| {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    match numbered {
                        true => json!({ "type": "text", "text": text }),
                        false => json!({ "type": "text", "parameter_name": key, "text": text }),
                    }
                };
                Some(json!([{ "type": "body", "parameters": gaps.into_iter().map(gap).collect::<Vec<_>>() }]))
            }
        };
        if let (Some(components), Some(of)) = (components, of.as_object_mut()) {
            of.insert("components".into(), components);
        }
        of
    }
}

/// The bits of a message, in order. Texts that follow each other are one; what is offered belongs to the text before.
///
/// # Errors
/// Permanent, when a part cannot be sent, a file is not in the store, or nothing is left.
pub(crate) fn bits(parts: &[Part]) -> Result<Vec<Bit>, SendFailure> {
    let mut bits: Vec<Bit> = Vec::new();
    for part in parts {
        let bit = match part {
            Part::Choice(choice) => {
                match bits.last_mut() {
                    Some(Bit::Ask(_, choices)) => choices.push(choice.clone()),
                    Some(Bit::Text(_)) => {
                        let Some(Bit::Text(text)) = bits.pop() else { continue };
                        bits.push(Bit::Ask(text, vec![choice.clone()]));
                    }
                    _ => bits.push(Bit::Ask(String::new(), vec![choice.clone()])),
                }
                continue;
            }
            Part::Template { name, language, parameters } => Bit::Template(Template {
                name: name.to_string(),
                language: language.as_ref().map(ToString::to_string),
                parameters: parameters.clone(),
            }),
            part => match pieces(std::slice::from_ref(part)) {
                Ok(pieces) => match pieces.into_iter().next() {
                    Some(Piece::Text(text)) => Bit::Text(text),
                    Some(Piece::Media(media)) => Bit::Media(media),
                    Some(Piece::Location(place)) => Bit::Location(place),
                    Some(Piece::Contact(card)) => Bit::Contact(card),
                    None => continue,
                },
                Err(failure) if failure.code == "empty" => continue,
                Err(failure) => return Err(failure),
            },
        };
        match (bits.last_mut(), bit) {
            (Some(Bit::Text(before)), Bit::Text(text)) => {
                before.push('\n');
                before.push_str(&text);
            }
            (_, bit) => bits.push(bit),
        }
    }
    match bits.len() {
        0 => Err(SendFailure::permanent("empty", "there is nothing to send")),
        1..=BITS_MAX => Ok(bits),
        _ => Err(SendFailure::permanent("too_long", "the message has too many parts")),
    }
}

/// What is offered, as lines of text.
pub(crate) fn as_lines(text: &str, choices: &[Choice]) -> String {
    let lines = choices.iter().enumerate().map(|(nth, choice)| format!("{}. {}", nth + 1, choice.title));
    let text = Some(text.to_owned()).filter(|text| !text.is_empty());
    text.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// By what a choice is known when it comes back.
pub(crate) fn answer_of(choice: &Choice) -> String {
    let id = choice.payload.clone().or_else(|| choice.id.as_ref().map(ToString::to_string));
    id.unwrap_or_else(|| choice.title.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: Value) -> Result<Vec<Bit>, SendFailure> {
        bits(&serde_json::from_value::<Vec<Part>>(parts).unwrap())
    }

    #[test]
    fn what_is_offered_belongs_to_the_text_before() {
        let found = of(json!([
            { "type": "text", "body": "Which?" }, { "type": "choice", "title": "Red", "id": "r" },
            { "type": "choice", "title": "Blue" }, { "type": "text", "body": "Thanks" }, { "type": "text", "body": "Anna" },
        ]))
        .unwrap();
        let [Bit::Ask(text, choices), Bit::Text(after)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((text.as_str(), choices.len(), after.as_str()), ("Which?", 2, "Thanks\nAnna"));
        assert_eq!((answer_of(&choices[0]), answer_of(&choices[1])), ("r".into(), "Blue".into()));
        assert_eq!(as_lines(text, choices), "Which?\n1. Red\n2. Blue");
    }

    #[test]
    fn nothing_is_nothing_to_send() {
        assert_eq!(of(json!([{ "type": "text", "body": " " }])).unwrap_err().code, "empty");
        assert_eq!(of(json!([{ "type": "hologram" }])).unwrap_err().code, "unsupported");
    }
}
