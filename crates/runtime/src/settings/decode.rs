//! From the merged layers to a struct, with every problem at its path and source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use config::{Value, ValueKind};
use serde::de::DeserializeOwned;

use super::Problem;

/// How often a bad value is set aside to look for the next one.
const ROUNDS_MAX: usize = 100;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    Index(usize),
}

/// Where in the settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Place(Vec<Step>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if n > 0 {
                        f.write_str(".")?;
                    }
                    let bare =
                        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                    if bare { f.write_str(key)? } else { write!(f, "{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Reads `tree` into a `T`. When a value does not fit, it is noted, the default takes its place and
/// the reading starts over, so that the next one is found too.
///
/// `texts` holds the original text of values that came as text, by source: one that was taken for a
/// number or a truth value is tried as text before it counts as wrong.
pub(super) fn decode<T: DeserializeOwned>(
    mut tree: Value,
    defaults: &Value,
    texts: &BTreeMap<String, String>,
) -> (Option<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut unknown = BTreeSet::new();
    let mut removed = BTreeSet::new();
    let mut outcome = None;
    for _ in 0..ROUNDS_MAX {
        let (place, message) = match attempt::<T>(&tree, &mut unknown) {
            Ok(value) => {
                outcome = Some(value);
                break;
            }
            Err(error) => error,
        };
        let text = original_text(&tree, &place, texts).filter(|_| message.starts_with("invalid type"));
        if let Some(text) = text {
            replace(&mut tree, &place, Some(ValueKind::String(text)));
            continue;
        }
        // A field is missing because it was set aside for being wrong: that was said already.
        let consequence = missing_field(&message).is_some_and(|field| {
            let mut child = place.clone();
            child.0.push(Step::Key(field.to_owned()));
            removed.contains(&child)
        });
        if !consequence {
            problems.push(Problem::new(place.to_string(), source_of(&tree, &place), message));
        }
        let aside = recoverable(place);
        let default = get(defaults, &aside).map(|value| value.kind.clone());
        let default = default.filter(|kind| get(&tree, &aside).is_some_and(|value| value.kind != *kind));
        if aside.0.is_empty() || get(&tree, &aside).is_none() {
            break;
        }
        if default.is_none() {
            removed.insert(aside.clone());
        }
        replace(&mut tree, &aside, default);
    }
    let unknown =
        unknown.into_iter().map(|(place, source)| Problem::new(place.to_string(), source, "there is no such setting"));
    problems.extend(unknown);
    (outcome, problems)
}

fn attempt<T: DeserializeOwned>(tree: &Value, unknown: &mut BTreeSet<(Place, String)>) -> Result<T, (Place, String)> {
    let mut track = serde_path_to_error::Track::new();
    let plain = toml_of(tree);
    let deserializer = serde_path_to_error::Deserializer::new(plain, &mut track);
    let outcome = serde_ignored::deserialize(deserializer, |path| {
        let place = place_of_ignored(&path);
        let source = source_of(tree, &place);
        unknown.insert((place, source));
    });
    outcome.map_err(|error: toml::de::Error| {
        let path = track.path();
        let steps = path.iter().filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Step::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Step::Key(key.clone())),
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
        });
        let place = Place(steps.collect());
        (place, error.message().trim_end().to_owned())
    })
}

fn place_of_ignored(path: &serde_ignored::Path<'_>) -> Place {
    use serde_ignored::Path;
    match path {
        Path::Root => Place::default(),
        Path::Seq { parent, index } => {
            let mut place = place_of_ignored(parent);
            place.0.push(Step::Index(*index));
            place
        }
        Path::Map { parent, key } => {
            let mut place = place_of_ignored(parent);
            place.0.push(Step::Key(key.clone()));
            place
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            place_of_ignored(parent)
        }
    }
}

/// What to set aside for an error at `place`: elements of an array would shift their neighbours, so
/// the whole array goes.
fn recoverable(mut place: Place) -> Place {
    if let Some(first) = place.0.iter().position(|step| matches!(step, Step::Index(_))) {
        place.0.truncate(first);
    }
    place
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn original_text(tree: &Value, place: &Place, texts: &BTreeMap<String, String>) -> Option<String> {
    let value = get(tree, place)?;
    if matches!(value.kind, ValueKind::String(_) | ValueKind::Table(_)) {
        return None;
    }
    texts.get(value.origin()?).cloned()
}

/// The source of the value at a written path; indices are taken for the whole array.
pub(super) fn source_of_path(tree: &Value, path: &str) -> String {
    let keys = path.split('.').map(|key| Step::Key(key.split('[').next().unwrap_or_default().to_owned()));
    source_of(tree, &Place(keys.collect()))
}

/// The source of the value at `place`, or of the nearest table above it that has one.
fn source_of(tree: &Value, place: &Place) -> String {
    let mut place = place.clone();
    loop {
        if let Some(origin) = get(tree, &place).and_then(source_within) {
            return origin.to_owned();
        }
        if place.0.pop().is_none() {
            return String::new();
        }
    }
}

/// A merged table has no source of its own: what all its parts agree on.
fn source_within(value: &Value) -> Option<&str> {
    if let Some(origin) = value.origin() {
        return Some(origin);
    }
    let ValueKind::Table(table) = &value.kind else { return None };
    let mut sources = table.values().map(source_within);
    let first = sources.next()??;
    sources.all(|source| source == Some(first)).then_some(first)
}

fn get<'a>(tree: &'a Value, place: &Place) -> Option<&'a Value> {
    place.0.iter().try_fold(tree, |value, step| match (step, &value.kind) {
        (Step::Key(key), ValueKind::Table(table)) => table.get(key),
        (Step::Index(index), ValueKind::Array(values)) => values.get(*index),
        _ => None,
    })
}

/// Puts another value at `place`, or takes away what is there.
fn replace(tree: &mut Value, place: &Place, kind: Option<ValueKind>) {
    let Some((last, parents)) = place.0.split_last() else { return };
    let mut value = tree;
    for step in parents {
        let next = match (step, &mut value.kind) {
            (Step::Key(key), ValueKind::Table(table)) => table.get_mut(key),
            (Step::Index(index), ValueKind::Array(values)) => values.get_mut(*index),
            _ => None,
        };
        let Some(next) = next else { return };
        value = next;
    }
    match (last, &mut value.kind, kind) {
        (Step::Key(key), ValueKind::Table(table), Some(kind)) => {
            if let Some(slot) = table.get_mut(key) {
                slot.kind = kind;
            }
        }
        (Step::Key(key), ValueKind::Table(table), None) => {
            table.remove(key);
        }
        (Step::Index(index), ValueKind::Array(values), Some(kind)) => {
            if let Some(slot) = values.get_mut(*index) {
                slot.kind = kind;
            }
        }
        _ => {}
    }
}

fn toml_of(value: &Value) -> toml::Value {
    let wide = |number: String, fits: Option<i64>| fits.map_or(toml::Value::String(number), toml::Value::Integer);
    match &value.kind {
        ValueKind::Nil => toml::Value::Table(toml::Table::new()),
        ValueKind::Boolean(truth) => toml::Value::Boolean(*truth),
        ValueKind::I64(number) => toml::Value::Integer(*number),
        ValueKind::I128(number) => wide(number.to_string(), i64::try_from(*number).ok()),
        ValueKind::U64(number) => wide(number.to_string(), i64::try_from(*number).ok()),
        ValueKind::U128(number) => wide(number.to_string(), i64::try_from(*number).ok()),
        ValueKind::Float(number) => toml::Value::Float(*number),
        ValueKind::String(text) => toml::Value::String(text.clone()),
        ValueKind::Array(values) => toml::Value::Array(values.iter().map(toml_of).collect()),
        ValueKind::Table(table) => {
            toml::Value::Table(table.iter().map(|(key, value)| (key.clone(), toml_of(value))).collect())
        }
    }
}
