//! The test kit: fixture tables and conformance checks for the pure half of a channel.
//!
//! A folder holds raw payloads as the provider sends them; beside each `name.ext` lies
//! `name.ext.expected.json`: what it normalises to, or why it is refused. `UPDATE=1` writes them.
//! The normaliser must take the time from the test, or nothing would match.

use std::path::{Path, PathBuf};

use contract::limits::MESSAGE_BYTES_MAX;
use contract::{Encoding, Envelope};
use serde_json::{Map, Value, json};

/// What turns raw bytes into envelopes, or says why not.
pub type Normalise<'a> = &'a dyn Fn(&str, &[u8]) -> Result<Vec<Envelope>, String>;

/// Ends the name of an expectation.
const EXPECTED: &str = ".expected.json";

/// Compares every fixture with its expectation.
///
/// # Errors
/// With every difference.
pub fn golden(dir: &Path, normalise: Normalise<'_>) -> Result<(), String> {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let mut differences = Vec::new();
    for (path, name, raw) in fixtures(dir)? {
        let actual = match normalise(&name, &raw) {
            Ok(envelopes) => json!({ "envelopes": envelopes }),
            Err(refusal) => json!({ "refused": refusal }),
        };
        let expected_path = PathBuf::from(format!("{}{EXPECTED}", path.display()));
        if update {
            let text = format!("{actual:#}\n");
            std::fs::write(&expected_path, text).map_err(|error| format!("{}: {error}", expected_path.display()))?;
            continue;
        }
        let expected: Value = match std::fs::read(&expected_path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{name}: expectation: {error}"))?,
            Err(error) => {
                differences.push(format!("{name}: no expectation ({error}); UPDATE=1 writes it"));
                continue;
            }
        };
        if actual != expected {
            differences.push(format!("{name}: expected {expected:#}\nbut it is {actual:#}"));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n\n")) }
}

/// Checks what every channel must keep, with the fixtures as samples: ids are the same on a
/// redelivery, fields that are not known are passed over, whatever is accepted keeps the contract's
/// bounds, and neither truncated nor garbled nor huge input does harm.
///
/// # Errors
/// With every breach.
pub fn conformance(dir: &Path, normalise: Normalise<'_>) -> Result<(), String> {
    let mut breaches = Vec::new();
    for (_, name, raw) in fixtures(dir)? {
        let first = normalise(&name, &raw);
        check_bounds(&name, &first, &mut breaches);
        if ids(&first) != ids(&normalise(&name, &raw)) {
            breaches.push(format!("{name}: a redelivery has other ids"));
        }
        if let Some(extended) = with_unknown_field(&raw)
            && normalise(&name, &extended) != first
        {
            breaches.push(format!("{name}: a field that is not known changes the outcome"));
        }
        for cut in (0..raw.len()).step_by(raw.len() / 512 + 1) {
            check_bounds(&name, &normalise(&name, raw.get(..cut).unwrap_or_default()), &mut breaches);
        }
        for at in (0..raw.len()).step_by(raw.len() / 256 + 1) {
            let mut garbled = raw.clone();
            if let Some(byte) = garbled.get_mut(at) {
                *byte ^= 0x55;
            }
            check_bounds(&name, &normalise(&name, &garbled), &mut breaches);
        }
        for huge in with_huge_texts(&raw) {
            check_bounds(&name, &normalise(&name, &huge), &mut breaches);
        }
    }
    if breaches.is_empty() { Ok(()) } else { Err(breaches.join("\n")) }
}

fn check_bounds(name: &str, outcome: &Result<Vec<Envelope>, String>, breaches: &mut Vec<String>) {
    for envelope in outcome.iter().flatten() {
        if let Err(invalid) = envelope.validate() {
            breaches.push(format!("{name}: an envelope is invalid: {invalid}"));
        }
        match Encoding::MsgPack.encode(envelope) {
            Ok(bytes) if bytes.len() <= MESSAGE_BYTES_MAX => {}
            Ok(bytes) => breaches.push(format!("{name}: an envelope has {} bytes", bytes.len())),
            Err(error) => breaches.push(format!("{name}: {error}")),
        }
    }
}

fn ids(outcome: &Result<Vec<Envelope>, String>) -> Vec<String> {
    outcome.iter().flatten().map(Envelope::msg_id).collect()
}

fn fixtures(dir: &Path) -> Result<Vec<(PathBuf, String, Vec<u8>)>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() && !name.ends_with(EXPECTED) && !name.starts_with('.') {
            let raw = std::fs::read(&path).map_err(fail)?;
            found.push((path, name, raw));
        }
    }
    found.sort();
    if found.is_empty() { Err(format!("{}: no fixtures", dir.display())) } else { Ok(found) }
}

/// The payload as JSON values: one, or one a line. `None` when it is something else.
fn values(raw: &[u8]) -> Option<Vec<Value>> {
    serde_json::Deserializer::from_slice(raw).into_iter().collect::<Result<Vec<Value>, _>>().ok()
}

fn bytes(values: &[Value]) -> Vec<u8> {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n").into_bytes()
}

fn with_unknown_field(raw: &[u8]) -> Option<Vec<u8>> {
    let mut values = values(raw)?;
    for object in values.iter_mut().filter_map(Value::as_object_mut) {
        object.insert("x_not_known".into(), json!({ "deep": [1, null, "x"] }));
    }
    Some(bytes(&values))
}

/// The payload with each text of it, in turn, blown up to a megabyte.
fn with_huge_texts(raw: &[u8]) -> Vec<Vec<u8>> {
    let Some(values) = values(raw) else { return vec![raw.repeat((1 << 20) / raw.len().max(1) + 1)] };
    let texts: usize = values.iter().map(count_texts).sum();
    (0..texts.min(32))
        .map(|nth| {
            let mut left = nth;
            bytes(&values.iter().map(|value| blow_up(value, &mut left)).collect::<Vec<_>>())
        })
        .collect()
}

fn count_texts(value: &Value) -> usize {
    match value {
        Value::String(_) => 1,
        Value::Array(items) => items.iter().map(count_texts).sum(),
        Value::Object(fields) => fields.values().map(count_texts).sum(),
        _ => 0,
    }
}

fn blow_up(value: &Value, left: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            let chosen = *left == 0;
            *left = left.wrapping_sub(1);
            if chosen { Value::String("x".repeat(1 << 20)) } else { Value::String(text.clone()) }
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| blow_up(item, left)).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, field)| (key.clone(), blow_up(field, left))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}
