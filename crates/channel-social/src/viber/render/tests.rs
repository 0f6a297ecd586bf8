use super::*;
use crate::kit;

#[test]
fn text_is_cut_at_seven_thousand_characters_and_thirty_kilobytes() {
    let of = |body: String| {
        messages(&kit::command("viber", json!({ "key": "u=" }), json!([{ "type": "text", "body": body }]))).unwrap()
    };
    assert_eq!(of("x".repeat(7001)).len(), 2);
    for message in of("😀".repeat(7000)) {
        assert!(message.fields.to_string().len() < 30_000);
    }
}

#[test]
fn a_file_has_its_size_and_name() {
    let of = |part: Value| messages(&kit::command("viber", json!({ "key": "u=" }), json!([part]))).unwrap();
    let file = of(
        json!({ "type": "media", "kind": "file", "bytes": 7, "name": "a.pdf", "store_key": "k", "caption": "the bill" }),
    );
    assert_eq!(file[0].fields, json!({ "type": "file", "size": 7, "file_name": "a.pdf" }));
    assert_eq!(file[1].fields, json!({ "type": "text", "text": "the bill" }));
    let picture = of(json!({ "type": "media", "kind": "image", "mime": "image/png", "bytes": 7, "store_key": "k" }));
    assert_eq!(picture[0].fields, json!({ "type": "picture", "text": "" }));
}
