//! The examples that are delivered can be used, and do what they say.

use serde_json::json;

use crate::support::{envelope, items, post, prepare, root, taken, trusting};

fn example(name: &str) -> String {
    std::fs::read_to_string(root().join(format!("config/channels/webhook-{name}.toml.example"))).unwrap()
}

#[test]
fn every_example_is_in_order() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("config/channels")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("webhook-") && name.ends_with(".toml.example") {
            let problems = prepare(&std::fs::read_to_string(&path).unwrap()).err();
            assert!(problems.is_none(), "{name}: {problems:?}");
            found += 1;
        }
    }
    assert!(found >= 6, "{found}");
}

#[test]
fn a_contact_form_becomes_a_message_whose_addresses_are_claimed() {
    let hook = trusting(&example("form"));
    let body = b"name=Ann+Miller&email=Ann%40Example.com&phone=&topic=delivery&subject=Parcel&message=Where+is+it%3F&order=4711";
    let mut found = items(&hook, body);
    let found = found.remove(0).unwrap();
    assert_eq!(found["thread"], json!({"key": "ann@example.com", "kind": "direct", "subject": "Parcel"}));
    assert_eq!(found["sender"]["identity"]["assurance"], "claimed");
    assert_eq!(found["sender"]["identity"]["value"], "ann@example.com");
    assert!(found["sender"].get("aliases").is_none(), "an empty field is nobody's number");
    assert_eq!(found["sender_auth"]["level"], "unverified");
    assert_eq!(found["tags"], json!(["form", "delivery"]));
    assert_eq!(found["content"][0], json!({"type": "text", "body": "Where is it?"}));
    assert_eq!(found["content"][1]["fields"], json!({"topic": "delivery", "subject": "Parcel", "order": "4711"}));
    // Who is caught by the hidden field is answered like everybody.
    let (kept, reply) = taken(&hook, &post(b"email=a%40b.example&message=x&website=spam", &[]));
    assert!(kept.is_empty());
    assert_eq!(reply.status.as_u16(), 303);
    assert_eq!(reply.headers[0].1, "https://shop.example/thank-you");
}

#[test]
fn a_kiosk_is_answered_on_its_screen() {
    let hook = trusting(&example("kiosk"));
    let help = json!({"event": "help", "id": "h1", "visit": "v7", "kiosk": 3, "floor": 2, "card": "C-99"});
    let found = envelope(&hook, &help);
    assert_eq!(found.thread.reply_target.unwrap().address, "3");
    assert_eq!(found.sender.aliases[0].scope_id.as_deref(), Some("shop-cards"));
    assert_eq!(found.tags, ["counter", "floor-2"]);
    assert_eq!(found.sender_auth.detail.as_deref(), Some("mtls"));
    let left = envelope(&hook, &json!({"event": "left", "id": "h2", "visit": "v7", "kiosk": 3}));
    assert_eq!(left.signal.unwrap().name, "closed");
}

#[test]
fn a_vendors_batch_is_mapped_item_by_item() {
    let hook = trusting(&example("vendor"));
    let chat = json!({"id": "c1", "members": 2});
    let from = json!({"id": 17, "name": "Ann", "locale": "de"});
    let events = json!({"events": [
        {"type": "message", "id": "e1", "chat": chat, "from": from, "timestamp": 1_764_000_000,
         "message": {"id": 9_007_199_254_740_993_u64, "text": "hi", "quoted": "m0", "attachments": [
             {"url": "https://media.acme.example/a", "type": "image/png", "name": "a.png"}, {"type": "image/png"}]}},
        {"type": "seen", "id": "e2", "chat": chat, "from": from, "message_ids": ["m1", "m2"]},
        {"type": "reaction", "id": "e3", "chat": chat, "from": from, "message": {"id": "m1"}, "emoji": "👍", "action": "removed"},
        {"type": "ping", "id": "e4"},
        {"type": "novelty", "id": "e5", "chat": chat, "from": from},
        {"type": "message", "id": "e6", "chat": {"members": 2}, "from": from, "message": {"text": "who?"}},
    ]});
    let found = items(&hook, events.to_string().as_bytes());
    assert_eq!(found.len(), 5, "what is ignored leaves nothing: {found:?}");
    let message = found[0].as_ref().unwrap();
    assert_eq!(message["external_id"], "9007199254740993", "ids are exact");
    assert_eq!(
        message["sender"]["identity"],
        json!({"scheme": "acme", "value": "17", "scope": "account", "scope_id": "acme", "assurance": "verified"})
    );
    assert_eq!(message["reply_to"]["external_id"], "m0");
    assert_eq!(message["sent_at"], 1_764_000_000_000_u64);
    assert_eq!(message["window"]["open_until"], 1_764_086_400_000_u64);
    assert_eq!(message["content"].as_array().unwrap().len(), 2, "a medium without an address says nothing");
    assert_eq!(
        message["content"][1],
        json!({"type": "media", "kind": "image", "status": "pending", "mime": "image/png", "name": "a.png"})
    );
    let receipt = found[1].as_ref().unwrap();
    assert_eq!(receipt["receipt"], json!({"status": "read", "targets": ["m1", "m2"]}));
    assert_eq!(found[2].as_ref().unwrap()["reaction"], json!({"emoji": "👍", "removed": true}));
    assert_eq!(found[3].as_ref().unwrap_err(), "no event of the settings fits");
    assert_eq!(found[4].as_ref().unwrap_err(), "settings.event[0]: thread.key is not there");
}

#[test]
fn a_review_is_a_public_thread() {
    let hook = trusting(&example("reviews"));
    let review = json!({"event": "review.created", "review": {"id": 5, "version": 1, "stars": 1, "title": "Late",
        "text": "Never again.", "url": "https://stars.example/r/5", "updated_at": "2025-11-24T16:00:00Z",
        "author": {"id": "a1", "name": "Bob", "email": "bob@example.com"}}});
    let found = envelope(&hook, &review);
    assert_eq!(found.thread.subject.as_deref(), Some("1 of 5 stars: Late"));
    assert_eq!(found.tags, ["review", "stars-1", "unhappy"]);
    assert_eq!(found.dedup_key, "5/1");
    assert_eq!(found.sent_at.unwrap().0, 1_764_000_000_000);
    let assurance = serde_json::to_value(found.sender.aliases[0].assurance).unwrap();
    assert_eq!(assurance, "claimed", "an address that is good everywhere was only told");
}
