//! A real provider by a file alone, compared with what the channel that was written for it makes of the same requests.

use serde_json::{Value, json};

use crate::support::{items, root, trusting};

/// What both must agree on. What a file cannot say (entities of a text, album) is left out.
const ESSENTIAL: [&str; 10] =
    ["kind", "dedup_key", "external_id", "thread", "sent_at", "language", "reply_to", "target", "direction", "tags"];

fn essential(envelope: &Value) -> Value {
    let mut kept = serde_json::Map::new();
    for field in ESSENTIAL {
        if let Some(value) = envelope.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    let sender = &envelope["sender"];
    let identity = &sender["identity"];
    kept.insert(
        "sender".to_owned(),
        json!([
            sender["display"],
            sender["username"],
            identity["scheme"],
            identity["value"],
            identity["scope"],
            identity["scope_id"]
        ]),
    );
    kept.insert("level".to_owned(), envelope["sender_auth"]["level"].clone());
    let mut content = envelope.get("content").cloned().unwrap_or_else(|| json!([]));
    for part in content.as_array_mut().unwrap() {
        part.as_object_mut().unwrap().remove("entities");
    }
    kept.insert("content".to_owned(), content);
    kept.insert("signal".to_owned(), envelope["signal"]["name"].clone());
    Value::Object(kept)
}

fn compare(provider: &str, names: &[&str]) {
    let example = root().join(format!("config/channels/webhook-{provider}.toml.example"));
    let hook = trusting(&std::fs::read_to_string(example).unwrap());
    let fixtures = root().join(format!("crates/channel-social/fixtures/{provider}"));
    for name in names {
        let raw = std::fs::read(fixtures.join(format!("{name}.json"))).unwrap();
        let expected = std::fs::read(fixtures.join(format!("{name}.json.expected.json"))).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let expected: Vec<Value> = expected["envelopes"].as_array().unwrap().iter().map(essential).collect();
        let found: Vec<Value> = items(&hook, &raw).into_iter().map(|item| essential(&item.unwrap())).collect();
        assert_eq!(found, expected, "{provider}/{name}");
    }
}

#[test]
fn telegram_by_a_file_is_what_the_channel_makes_of_it() {
    compare(
        "telegram",
        &["text", "text-big-ids", "reply", "edited", "group-message", "location", "contact", "callback", "blocked"],
    );
}

#[test]
fn viber_by_a_file_tells_messages_receipts_and_consent() {
    let example = root().join("config/channels/webhook-viber.toml.example");
    let hook = trusting(&std::fs::read_to_string(example).unwrap());
    let message = json!({"event": "message", "timestamp": 1_764_000_000_123_u64, "message_token": 4_912_661_846_656_238_145_u64,
        "sender": {"id": "01234567890A=", "name": "Ann", "language": "en"},
        "message": {"type": "picture", "text": "look", "media": "https://media.example/1.jpg", "file_name": "1.jpg", "size": 10000}});
    let found = items(&hook, message.to_string().as_bytes()).remove(0).unwrap();
    assert_eq!(found["external_id"], "4912661846656238145");
    assert_eq!(found["dedup_key"], "message/4912661846656238145");
    assert_eq!(
        found["content"][1],
        json!({"type": "media", "kind": "image", "status": "pending", "name": "1.jpg", "bytes": 10000})
    );
    let seen = json!({"event": "seen", "timestamp": 1_764_000_000_123_u64, "message_token": 4_912_661_846_656_238_145_u64, "user_id": "01234567890A="});
    let found = items(&hook, seen.to_string().as_bytes()).remove(0).unwrap();
    assert_eq!(found["receipt"], json!({"status": "read", "targets": ["4912661846656238145"]}));
    let gone = json!({"event": "unsubscribed", "timestamp": 1, "message_token": 5, "user_id": "x"});
    assert_eq!(items(&hook, gone.to_string().as_bytes()).remove(0).unwrap()["signal"]["name"], "opt_out");
    assert!(items(&hook, br#"{"event": "webhook", "timestamp": 1, "message_token": 6}"#).is_empty());
}
