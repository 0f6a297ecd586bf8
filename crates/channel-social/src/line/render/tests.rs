use super::*;
use crate::kit;

const USER: &str = "U4af4980629b3a1c2d3e4f5a6b7c8d9e0";

fn of(content: Value) -> Vec<Vec<Message>> {
    calls(&kit::command("line", json!({ "key": USER }), content)).unwrap()
}

#[test]
fn a_call_takes_five_messages() {
    let six = of(json!([{ "type": "text", "body": "x".repeat(25_001) }]));
    assert_eq!(six.iter().map(Vec::len).collect::<Vec<_>>(), [5, 1]);
}

#[test]
fn what_there_is_no_message_for_is_a_text_with_its_address() {
    let media = |kind: &str, mime: &str, bytes: u64| {
        let calls =
            of(json!([{ "type": "media", "kind": kind, "mime": mime, "name": "a", "bytes": bytes, "store_key": "k" }]));
        with_address(&calls[0][0], &|_| Ok("https://hooks.example/m".into())).unwrap()
    };
    assert_eq!(media("image", "image/png", 5)["previewImageUrl"], "https://hooks.example/m");
    assert_eq!(media("image", "image/png", 2 << 20), json!({ "type": "text", "text": "a\nhttps://hooks.example/m" }));
    assert_eq!(media("file", "application/pdf", 5)["type"], "text");
}

#[test]
fn a_quote_needs_its_token_and_a_target_its_shape() {
    let mut command = kit::command("line", json!({ "key": USER }), json!([{ "type": "text", "body": "a" }]));
    command.reply_to = serde_json::from_value(json!({ "external_id": "1", "quote_token": "q3Plxr4" })).unwrap();
    let quoted = calls(&command).unwrap();
    assert_eq!(quoted[0][0], Message::Whole(json!({ "type": "text", "text": "a", "quoteToken": "q3Plxr4" })));
    for bad in ["U1", "", "X4af4980629b3a1c2d3e4f5a6b7c8d9e0", "ü4af4980629b3a1c2d3e4f5a6b7c8d9e0"] {
        let command = kit::command("line", json!({ "key": bad }), json!([]));
        assert_eq!(target(&command.thread).unwrap_err().code, "unusable_address", "{bad}");
    }
}
