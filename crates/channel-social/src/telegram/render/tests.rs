use adapter::contract::envelope::MessageRef;

use super::*;
use crate::kit;

fn of(content: Value) -> Vec<Call> {
    calls(&kit::command("telegram", json!({ "key": "17" }), content)).unwrap()
}

#[test]
fn text_goes_as_it_is_and_in_pieces_of_utf16() {
    let signs = "*bold* _not_ [x](y) <b>&amp;</b>";
    let calls = of(json!([{ "type": "text", "body": signs }]));
    assert_eq!(calls[0].parameters.get("text"), Some(&Value::from(signs)));
    assert!(!calls[0].parameters.contains_key("parse_mode"));
    // 4,095 units, then a face of two that does not fit, joined to a skin tone that must stay with it.
    let calls = of(json!([{ "type": "text", "body": format!("{}👋🏽", "x".repeat(4095)) }]));
    let texts: Vec<&str> = calls.iter().map(|call| call.parameters["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["x".repeat(4095).as_str(), "👋🏽"]);
}

#[test]
fn a_long_caption_follows_its_picture() {
    let media = |caption: String| json!([{ "type": "media", "kind": "image", "mime": "image/png", "bytes": 5, "store_key": "k", "caption": caption }]);
    let calls = of(media("c".repeat(1024)));
    assert_eq!((calls.len(), calls[0].method), (1, "sendPhoto"));
    let calls = of(media("c".repeat(1025)));
    assert_eq!(calls.iter().map(|call| call.method).collect::<Vec<_>>(), ["sendPhoto", "sendMessage"]);
    assert!(!calls[0].parameters.contains_key("caption"));
}

#[test]
fn a_file_goes_as_what_the_platform_takes() {
    let method = |kind: &str, mime: &str, bytes: u64, voice: bool| {
        let calls = of(
            json!([{ "type": "media", "kind": kind, "mime": mime, "bytes": bytes, "voice": voice, "store_key": "k" }]),
        );
        calls[0].method
    };
    assert_eq!(method("image", "image/jpeg", 5, false), "sendPhoto");
    assert_eq!(method("image", "image/jpeg", 11 << 20, false), "sendDocument");
    assert_eq!(method("image", "image/tiff", 5, false), "sendDocument");
    assert_eq!(method("image", "image/gif", 5, false), "sendAnimation");
    assert_eq!(method("video", "video/mp4", 5, false), "sendVideo");
    assert_eq!(method("audio", "audio/ogg", 5, true), "sendVoice");
    assert_eq!(method("audio", "audio/mpeg", 5, false), "sendAudio");
    let large = json!([{ "type": "media", "kind": "file", "bytes": FILE_BYTES_MAX + 1, "store_key": "k" }]);
    let failure = calls(&kit::command("telegram", json!({ "key": "17" }), large)).unwrap_err();
    assert_eq!(failure.code, "media_too_large");
}

#[test]
fn the_answer_goes_to_the_chat_and_names_what_it_answers() {
    let thread = json!({ "key": "conn:17", "reply_target": { "address": "conn:17#3" } });
    let mut command = kit::command("telegram", thread, json!([{ "type": "text", "body": "a" }]));
    command.reply_to = Some(MessageRef { external_id: Some("conn:17/1365".into()), ..MessageRef::default() });
    let to = target(&command.thread).unwrap();
    let calls = calls(&command).unwrap();
    let parameters = addressed(&calls[0], &to, &to.chat);
    assert_eq!(
        Value::Object(parameters),
        json!({ "chat_id": 17, "text": "a", "message_thread_id": 3, "business_connection_id": "conn",
            "reply_parameters": { "message_id": 1365, "allow_sending_without_reply": true } })
    );
    let nowhere = kit::command("telegram", json!({ "key": "@channel" }), json!([{ "type": "text", "body": "a" }]));
    assert_eq!(target(&nowhere.thread).unwrap_err().code, "unusable_address");
}
