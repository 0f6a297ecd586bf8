//! The published vectors, `vectors/<kind>.<name>.{json,msgpack}`; of requests,
//! `<kind>.<noun>.<verb>[-variant]`.

use std::collections::BTreeMap;

use serde_json::Value;
use throughline_contract::Event;
use throughline_contract::codec::Encoding::{Json, MsgPack};

use crate::kinds::{KINDS, recode, verbs};
use crate::{folder, schemas, update};

struct Vector {
    kind: &'static str,
    verb: &'static str,
    name: String,
    json: String,
}

fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for entry in std::fs::read_dir(folder("vectors")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = file.strip_suffix(".json") else { continue };
        let (kind, rest) = name.split_once('.').unwrap();
        let kind = KINDS.iter().find(|known| **known == kind).unwrap_or_else(|| panic!("{name}: no such kind"));
        let verb = verbs(kind).iter().find(|verb| rest.split('-').next() == Some(verb) || verb.is_empty());
        let verb = verb.unwrap_or_else(|| panic!("{name}: no such verb"));
        vectors.push(Vector { kind, verb, name: name.to_owned(), json: std::fs::read_to_string(&path).unwrap() });
    }
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    vectors
}

#[test]
fn vectors_decode_and_encode_to_the_same_bytes() {
    for Vector { kind, verb, name, json } in vectors() {
        let path = folder("vectors").join(format!("{name}.msgpack"));
        let recode =
            |from, payload: &[u8], to| recode(kind, verb, from, payload, to).unwrap_or_else(|e| panic!("{name}: {e}"));
        if update() {
            let compact = String::from_utf8(recode(Json, json.as_bytes(), Json)).unwrap();
            std::fs::write(folder("vectors").join(format!("{name}.json")), pretty(&compact)).unwrap();
            std::fs::write(&path, recode(Json, json.as_bytes(), MsgPack)).unwrap();
            continue;
        }
        let msgpack = std::fs::read(&path).unwrap_or_else(|e| panic!("{name}.msgpack: {e}; UPDATE=1 writes it"));
        assert_eq!(pretty(&String::from_utf8(recode(Json, json.as_bytes(), Json)).unwrap()), json, "{name}: JSON");
        assert!(recode(Json, json.as_bytes(), MsgPack) == msgpack, "{name}: JSON to MessagePack");
        assert!(recode(MsgPack, &msgpack, MsgPack) == msgpack, "{name}: MessagePack");
        assert_eq!(pretty(&String::from_utf8(recode(MsgPack, &msgpack, Json)).unwrap()), json, "{name}: back to JSON");
    }
}

#[test]
fn nothing_is_without_a_vector() {
    let vectors = vectors();
    for kind in KINDS {
        for verb in verbs(kind) {
            assert!(vectors.iter().any(|v| v.kind == *kind && v.verb == *verb), "{kind} {verb} has no vector");
        }
    }
    for event in Event::NAMES {
        assert!(vectors.iter().any(|v| v.name == format!("event-record.{event}")), "{event} has no vector");
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for vector in vectors.iter().filter(|v| v.kind == "envelope") {
        let envelope: Value = serde_json::from_str(&vector.json).unwrap();
        *kinds.entry(envelope["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    // The eleven that are known, and one that is not.
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[test]
fn vectors_fit_their_schemas() {
    if update() {
        return;
    }
    for Vector { kind, verb, name, json } in vectors() {
        let value = serde_json::from_str(&json).unwrap();
        schemas::validate(kind, verb, &value).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn the_normative_text_names_everything() {
    let text = std::fs::read_to_string(folder("CONTRACT.md")).unwrap();
    let verbs = KINDS.iter().flat_map(|kind| verbs(kind)).filter(|verb| !verb.is_empty());
    for name in Event::NAMES.iter().chain(verbs) {
        assert!(text.contains(&format!("`{name}`")), "CONTRACT.md does not name {name}");
    }
}

/// Objects in which every name means something: free values, maps by id, and enums of one field.
const CLOSED: [&str; 14] = [
    "attributes",
    "policy",
    "skills",
    "fields",
    "details",
    "parameters",
    "headers",
    "media_bytes_max",
    "payload",
    "cause",
    "queues",
    "agents",
    "waiting",
    "oldest_ready_at",
];

/// Whether the object is the `conversations` of a status, which counts by state.
fn kind_of_counts(root: &Value, at: &[String]) -> bool {
    at.last().is_some_and(|name| name == "conversations") && root.pointer("/result/value/counts").is_some()
}

/// Puts an unknown field into one object after the other, and hands each result to `check`.
fn with_unknown_field(root: &Value, at: &mut Vec<String>, check: &mut impl FnMut(Value, &str)) {
    let path = format!("/{}", at.join("/"));
    let path = path.trim_end_matches('/');
    match root.pointer(path).unwrap() {
        Value::Object(map) => {
            let unknown_part =
                map.get("type").and_then(Value::as_str).is_some_and(|t| ["hologram", "aura"].contains(&t));
            let signal =
                at.last().is_some_and(|name| name == "data") && at.iter().rev().nth(1).is_some_and(|n| n == "signal");
            let counts = kind_of_counts(root, at);
            // The steps of a requirement are the policy's own, and as strict.
            let step = at.iter().any(|name| name == "steps");
            let closed = at.last().is_some_and(|name| CLOSED.contains(&name.as_str()));
            if unknown_part || signal || counts || step || closed {
                return;
            }
            let mut changed = root.clone();
            let object = changed.pointer_mut(path).unwrap().as_object_mut().unwrap();
            object.insert("x_new".to_owned(), serde_json::json!({"deep": [1, {"a": null}]}));
            check(changed, path);
            for key in map.keys() {
                at.push(key.clone());
                with_unknown_field(root, at, check);
                at.pop();
            }
        }
        Value::Array(items) => {
            for n in 0..items.len() {
                at.push(n.to_string());
                with_unknown_field(root, at, check);
                at.pop();
            }
        }
        _ => {}
    }
}

#[test]
fn unknown_fields_are_ignored() {
    if update() {
        return;
    }
    for Vector { kind, verb, name, json } in vectors() {
        if kind == "policy" {
            // Written by people: an unknown field there is a mistake to be told about.
            continue;
        }
        let expected = recode(kind, verb, Json, json.as_bytes(), Json).unwrap();
        let value: Value = serde_json::from_str(&json).unwrap();
        with_unknown_field(&value, &mut Vec::new(), &mut |changed, path| {
            let json = recode(kind, verb, Json, changed.to_string().as_bytes(), Json);
            assert!(json.as_ref() == Ok(&expected), "{name}: with an unknown field in {path:?}: {json:?}");
            let msgpack = recode(kind, verb, MsgPack, &MsgPack.encode(&changed).unwrap(), Json);
            assert!(msgpack.as_ref() == Ok(&expected), "{name}: with an unknown field in {path:?}: {msgpack:?}");
            schemas::validate(kind, verb, &changed).unwrap_or_else(|e| panic!("{name}: {path}: {e}"));
        });
    }
}

/// Lays out JSON for reading, without touching the order of its fields.
fn pretty(compact: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut chars = compact.chars().peekable();
    let newline =
        |out: &mut String, depth: usize| out.extend(std::iter::once('\n').chain(" ".repeat(depth * 2).chars()));
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                quoted = true;
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out.push('\n');
    out
}
