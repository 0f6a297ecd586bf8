//! The policy in `config/policy`, which documents every field there is.

use std::collections::BTreeSet;

use contract::policy::{Offers, Policy, Timing};
use serde_json::Value;

use crate::{Loaded, load};

fn files() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/policy");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn said(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().chain(&loaded.warnings).map(ToString::to_string).collect()
}

#[test]
fn it_is_right() {
    let loaded = load(&files());
    assert_eq!(said(&loaded), Vec::<String>::new());
    let policy = loaded.policy.unwrap();
    assert_eq!((policy.queues.len(), policy.agents.len()), (2, 5));
    assert_eq!((policy.offers, policy.timing), (Offers::default(), Timing::default()), "they are shown as they are");
}

#[test]
fn examples_in_comments_are_right_too() {
    let without_comments = |text: &str| {
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let files: Vec<_> = files().into_iter().map(|(name, text)| (name, without_comments(&text))).collect();
    let loaded = load(&files);
    // One of the examples is what must be warned of.
    let said = said(&loaded);
    assert!(said.len() == 1 && said[0].contains("queues.support.due_first: with the priorities"), "{said:#?}");
    let policy = loaded.policy.unwrap();
    assert!(policy.classifier.is_some() && policy.presences.contains_key("focus"));
}

/// The names of all fields, and the words that can be their values.
fn names(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => found.extend(properties.keys().cloned()),
                    ("const", Value::String(word)) => {
                        found.insert(word.clone());
                    }
                    ("enum", Value::Array(words)) => {
                        found.extend(words.iter().filter_map(|word| word.as_str().map(str::to_owned)));
                    }
                    _ => {}
                }
                names(value, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_and_every_word_is_shown() {
    let schema = serde_json::to_value(schemars::schema_for!(Policy)).unwrap();
    let mut all = BTreeSet::new();
    names(&schema, &mut all);
    assert!(all.len() > 120 && all.contains("relax_after_ms") && all.contains("abandoned_in_time_counts"), "{all:?}");
    let text: String = files().into_iter().map(|(_, text)| text).collect();
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = all.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "config/policy does not show {missing:?}");
}
