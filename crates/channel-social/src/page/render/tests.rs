use super::*;
use crate::kit::command;

fn sent(product: Product, thread: Value, content: Value, manner: Manner) -> Vec<Value> {
    let command = command(product.as_str(), thread, content);
    let to = target(&command.thread).unwrap();
    let calls = calls(&command, product, &to).unwrap();
    let payload = json!({ "attachment_id": "a1" });
    (0..)
        .zip(&calls)
        .map(|(part, call)| message((&command, part), product, call, &to, manner, Some(&payload)))
        .collect()
}

#[test]
fn a_text_is_cut_by_what_the_product_counts() {
    let text = json!([{ "type": "text", "body": "ü".repeat(2500) }]);
    let page = sent(Product::Messenger, json!({ "key": "17" }), text.clone(), Manner::Response);
    assert_eq!((page.len(), page[0]["message"]["text"].as_str().unwrap().chars().count()), (2, 2000));
    assert_eq!(page[1]["message"]["metadata"], "tl1 1 17 main=2Fm17");
    assert_eq!(
        (page[0]["recipient"]["id"].as_str(), page[0]["messaging_type"].as_str()),
        (Some("17"), Some("RESPONSE"))
    );
    let insta = sent(Product::Instagram, json!({ "key": "17" }), text, Manner::HumanAgent);
    assert_eq!((insta.len(), insta[0]["message"]["text"].as_str().unwrap().len()), (5, 1000));
    assert_eq!(
        (insta[0]["tag"].as_str(), insta[0]["messaging_type"].as_str()),
        (Some("HUMAN_AGENT"), Some("MESSAGE_TAG"))
    );
}

#[test]
fn what_is_offered_becomes_quick_replies_or_lines() {
    let ask = |count: usize| {
        let mut content = vec![json!({ "type": "text", "body": "Which?" })];
        content.extend(
            (0..count).map(|n| json!({ "type": "choice", "payload": format!("p{n}"), "title": format!("t{n}") })),
        );
        sent(Product::Messenger, json!({ "key": "17" }), Value::Array(content), Manner::Response).remove(0)
    };
    assert_eq!(
        ask(13)["message"]["quick_replies"][12],
        json!({ "content_type": "text", "title": "t12", "payload": "p12" })
    );
    assert!(ask(14)["message"]["text"].as_str().unwrap().ends_with("14. t13"));
}

#[test]
fn a_file_goes_before_its_caption_and_nothing_but_text_goes_in_public() {
    let content =
        json!([{ "type": "media", "kind": "image", "store_key": "k", "mime": "image/png", "caption": "look" }]);
    let page = sent(Product::Messenger, json!({ "key": "17" }), content.clone(), Manner::Response);
    assert_eq!(page[0]["message"]["attachment"], json!({ "type": "image", "payload": { "attachment_id": "a1" } }));
    assert_eq!(page[1]["message"]["text"], "look");
    let public = json!({ "key": "public/1/2", "kind": "channel", "reply_target": { "address": "1_7" } });
    let command = command("messenger", public, content);
    let to = target(&command.thread).unwrap();
    assert_eq!(to, To::Public("1_7".into()));
    assert_eq!(calls(&command, Product::Messenger, &to).unwrap_err().code, "unsupported");
}

#[test]
fn somebody_known_by_a_reference_is_named_by_it() {
    let text = json!([{ "type": "text", "body": "Hi" }]);
    let sent = sent(Product::Messenger, json!({ "key": "user_ref:abc" }), text.clone(), Manner::Response);
    assert_eq!(sent[0]["recipient"], json!({ "user_ref": "abc" }));
    assert_eq!(target(&command("messenger", json!({ "key": "a b" }), text).thread).unwrap_err().code, "no_address");
}

#[test]
fn a_template_goes_as_what_it_is_and_only_where_there_are_such() {
    let content = json!([{ "type": "template", "name": "on_its_way", "language": "de", "parameters": { "1": "17" } }]);
    let sent = sent(Product::Messenger, json!({ "key": "17" }), content.clone(), Manner::HumanAgent);
    assert_eq!((sent.len(), sent[0]["messaging_type"].as_str(), sent[0].get("tag")), (1, Some("UTILITY"), None));
    let body = json!([{ "type": "body", "parameters": [{ "type": "text", "text": "17" }] }]);
    let template = json!({ "name": "on_its_way", "language": { "code": "de" }, "components": body });
    assert_eq!(sent[0]["message"]["template"], template);
    let command = command("instagram", json!({ "key": "17" }), content);
    let to = target(&command.thread).unwrap();
    assert_eq!(calls(&command, Product::Instagram, &to).unwrap_err().code, "unsupported");
}
