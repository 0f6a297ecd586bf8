//! What a request becomes when it is odd, hostile or huge.

use adapter::webhook::Item;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{envelope, items, post, taken, trusting};

fn account(event: &str) -> String {
    format!(
        "[[settings.verify]]\nscheme = \"open\"\n[[settings.event]]\ndedup_key = \"/id\"\nthread = \"/from\"\n\
         sender = {{ identity = {{ scheme = \"x\", value = \"/from\" }} }}\n{event}"
    )
}

#[test]
fn a_number_that_was_rounded_is_no_id() {
    let hook = trusting(&account("text = \"/text\""));
    let exact = br#"{"id": 18446744073709551615, "from": 9007199254740993, "text": "x"}"#;
    let found = items(&hook, exact).remove(0).unwrap();
    assert_eq!(
        (&found["dedup_key"], &found["thread"]["key"]),
        (&json!("18446744073709551615"), &json!("9007199254740993"))
    );
    let rounded = br#"{"id": 18446744073709551616, "from": "a", "text": "x"}"#;
    assert_eq!(
        items(&hook, rounded),
        [Err("settings.event[0]: dedup_key: a number is too large to be exact".to_owned())]
    );
}

#[test]
fn what_cannot_be_read_and_is_no_content_is_told_and_the_message_kept() {
    let hook = trusting(&account("text = \"/text\"\nsent_at = \"/at\"\ntags = [\"/tags\", \"= item.more\"]"));
    let found = envelope(
        &hook,
        &json!({"id": "1", "from": "a", "text": "x", "at": "yesterday", "tags": ["t", 5], "more": {"a": 1}}),
    );
    assert_eq!(found.sent_at, None);
    let warnings = found.adapter.unwrap().warnings;
    assert_eq!(warnings, ["sent_at: is no time", "tags[1]: a text is needed where something else stands"]);
    // But what was said is not dropped in silence.
    let lost = items(&hook, br#"{"id": "1", "from": "a", "text": {"deep": 1}}"#);
    assert_eq!(lost, [Err("settings.event[0]: text: a text is needed where something else stands".to_owned())]);
}

#[test]
fn reasons_never_hold_what_somebody_wrote() {
    let hook = trusting(&account("text = \"/text\"\nreceipt = { status = \"/status\" }"));
    for body in [
        json!({"id": "1", "from": "hunter2", "text": ["hunter2"]}),
        json!({"id": "1", "from": {"hunter2": 1}, "text": "hunter2"}),
        json!({"id": "hunter2", "text": "hunter2"}),
        json!({"id": "1", "from": "x".repeat(2000), "text": "hunter2"}),
        json!(["hunter2"]),
    ] {
        let reason = items(&hook, body.to_string().as_bytes()).remove(0).unwrap_err();
        assert!(!reason.contains("hunter2") && !reason.contains("xxxx"), "{reason}");
    }
}

#[test]
fn an_expression_costs_no_more_than_its_budget() {
    let hook = trusting(&account("text = \"= json(item.list.map(a, item.list.map(b, item.text + item.text)))\""));
    let body = json!({"id": "1", "from": "a", "text": "x".repeat(100_000), "list": vec![0; 10_000]});
    let begun = std::time::Instant::now();
    let found = items(&hook, body.to_string().as_bytes());
    assert_eq!(found, [Err("settings.event[0]: costs more than is allowed".to_owned())]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_batch_is_bounded_and_an_empty_one_is_nothing() {
    let text = format!("[settings]\nitems = \"/list\"\n{}", account("text = \"/text\""));
    let hook = trusting(&text);
    assert!(items(&hook, br#"{"list": []}"#).is_empty());
    assert_eq!(items(&hook, b"{}"), [Err("settings.items: /list is not there".to_owned())]);
    assert_eq!(items(&hook, br#"{"list": {}}"#), [Err("settings.items: is no list".to_owned())]);
    let many = json!({"list": vec![json!({"id": 1, "from": "a", "text": "x"}); 1001]});
    assert_eq!(
        items(&hook, many.to_string().as_bytes()),
        [Err("has 1001 items, and at most 1000 are taken".to_owned())]
    );
    // The same event twice is the same key twice: who reads knows it.
    let twice =
        items(&hook, br#"{"list": [{"id": 1, "from": "a", "text": "x"}, {"id": 1, "from": "a", "text": "x"}]}"#);
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn an_item_of_a_batch_keeps_its_own_original() {
    let text = format!("[settings]\nitems = \"/list\"\n{}", account("text = \"/text\""));
    let hook = trusting(&text);
    let body = br#"{"list": [{"id": 1, "from": "a", "text": "x"}, {"odd": 1}]}"#;
    let (found, _) = taken(&hook, &post(body, &[]));
    let raws: Vec<&[u8]> = found
        .iter()
        .map(|item| match item {
            Item::Envelope { raw, .. } => raw.as_deref().unwrap(),
            Item::Dead { raw, .. } => &**raw,
        })
        .collect();
    assert_eq!(raws[1], br#"{"odd":1}"#);
    assert_eq!(serde_json::from_slice::<Value>(raws[0]).unwrap()["id"], 1);
}

#[test]
fn a_form_that_gives_a_field_twice_has_the_first() {
    let text = format!("[settings]\nformat = \"form\"\n{}", account("text = \"/text\"\ntags = \"= fields.tag\""));
    let hook = trusting(&text);
    let found = items(&hook, b"id=1&from=a&text=one&text=two&tag=x&tag=y").remove(0).unwrap();
    assert_eq!((&found["content"][0]["body"], &found["tags"]), (&json!("one"), &json!(["x", "y"])));
    let many: String = (0..1100).map(|n| format!("f{n}=1&")).collect();
    assert_eq!(items(&hook, many.as_bytes()), [Err("has more than 1000 fields".to_owned())]);
}

#[test]
fn secrets_of_a_request_are_seen_by_no_expression() {
    let hook = trusting(
        "[[settings.verify]]\nscheme = \"header\"\nheader = \"X-Token\"\nsecrets = { file = \"secret\" }\n[[settings.event]]\n\
         dedup_key = \"1\"\nthread = \"t\"\nsender = { identity = { scheme = \"x\", value = \"v\" } }\ntext = \"= json(header)\"",
    );
    let headers = [("x-token", "hunter2"), ("authorization", "hunter2"), ("cookie", "hunter2"), ("x-other", "seen")];
    let (found, _) = taken(&hook, &post(b"{}", &headers));
    let text = format!("{found:?}");
    assert!(text.contains("seen") && !text.contains("hunter2"), "{text}");
}

#[test]
fn cel_means_what_it_says() {
    for (expression, value) in [
        ("item.n + 1", json!("3")),
        ("string(item.n * 2.5)", json!("5.0")),
        ("item.list.filter(x, x > 1).map(x, string(x)).join('-')", json!("2-3")),
        ("item.list.exists(x, x == 2) ? 'yes' : 'no'", json!("yes")),
        ("item.list.all(x, x < 3) || has(item.none) ? 'yes' : 'no'", json!("no")),
        ("first(item.none, item.text).upper()", json!("HI")),
        ("'a' in item.map && !('b' in item.map) ? item.map.a : ''", json!("1")),
        ("item.map['a']", json!("1")),
        ("item.text.substring(1, 2) + item.list[0]", Value::Null),
        ("item.text.matches('^h.$') ? 'm' : ''", json!("m")),
        ("split('a,b', ',')[1].replace('b', 'c')", json!("c")),
        ("parse_json(item.json).deep[0]", json!("true")),
        ("item.none == 1 || true ? 'either' : ''", json!("either")),
        ("string(time('2025-11-24T16:00:00Z'))", json!("1764000000000")),
        ("item.list.map(x, x > 1, x * x)[1]", json!("9")),
        ("encode_uri('a/b ü')", json!("a%2Fb%20%C3%BC")),
        ("1 / 0", Value::Null),
        ("9223372036854775807 + 9223372036854775807 + 2", Value::Null),
    ] {
        let hook = trusting(&account(&format!(
            "text = \"x\"\nexternal_id = \"/no\"\nsignal = {{ name = '''= {expression}''' }}"
        )));
        let body = json!({"id": "1", "from": "a", "n": 2, "list": [1, 2, 3], "text": "hi", "map": {"a": 1}, "json": "{\"deep\": [true]}"});
        let found = items(&hook, body.to_string().as_bytes()).remove(0);
        let found = found.map_or(Value::Null, |envelope| envelope["signal"]["name"].clone());
        assert_eq!(found, value, "{expression}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_taken_keeps_the_contract(text in "[ -~]{0,40}", id in any::<i64>(), deep in 0_usize..40, cut in 0_usize..200) {
        let hook = trusting(&account("text = \"/text\"\n[[settings.event.content]]\ntype = \"form\"\nfields = \"= item\""));
        let mut nested = json!(text);
        for _ in 0..deep {
            nested = json!([nested]);
        }
        let mut body = json!({"id": id, "from": text, "text": text, "nested": nested}).to_string().into_bytes();
        body.truncate(body.len().saturating_sub(cut));
        // `items` validates each.
        let _ = items(&hook, &body);
    }
}
