use super::*;
use crate::kit::command;

fn thread(address: &str) -> Value {
    json!({ "key": "DE.1", "reply_target": { "address": address } })
}

fn sent(address: &str, content: Value) -> Vec<Value> {
    let command = command("whatsapp", thread(address), content);
    let to = target(&command).unwrap();
    let calls = calls(&command).unwrap();
    (0..).zip(&calls).map(|(part, call)| message(&command, part, call, &to, call.file.as_ref().map(|_| "f1"))).collect()
}

#[test]
fn a_number_goes_to_to_and_a_person_to_recipient() {
    let text = json!([{ "type": "text", "body": "Hi" }]);
    let by_number = &sent("+4915112345678", text.clone())[0];
    assert_eq!((by_number["to"].as_str(), by_number.get("recipient")), (Some("4915112345678"), None));
    let by_id = &sent("DE.13491208655302741918", text.clone())[0];
    assert_eq!((by_id["recipient"].as_str(), by_id.get("to")), (Some("DE.13491208655302741918"), None));
    assert_eq!(by_id["biz_opaque_callback_data"], "tl1 0 DE=2E1 main=2Fm17");
    for nobody in ["DE.ENT.1", "D.1", "DE.", "anna", "+", "12"] {
        assert_eq!(
            target(&command("whatsapp", thread(nobody), text.clone())).unwrap_err().code,
            "no_address",
            "{nobody}"
        );
    }
    let group = json!({ "key": "g1", "kind": "group", "reply_target": { "address": "g1" } });
    let group = command("whatsapp", group, text);
    let call = &calls(&group).unwrap()[0];
    let message = message(&group, 0, call, &target(&group).unwrap(), None);
    assert_eq!((message["recipient_type"].as_str(), message["to"].as_str()), (Some("group"), Some("g1")));
}

#[test]
fn a_long_text_is_cut_between_what_readers_see_as_characters() {
    let flag = "🇩🇪";
    let pieces = sent("4915112345678", json!([{ "type": "text", "body": flag.repeat(3000) }]));
    assert_eq!(pieces.len(), 2);
    let bodies: Vec<&str> = pieces.iter().map(|piece| piece["text"]["body"].as_str().unwrap()).collect();
    assert!(bodies.iter().all(|body| body.chars().count() <= TEXT_MAX && body.chars().count() % 2 == 0));
    assert_eq!(bodies.concat(), flag.repeat(3000));
    assert_eq!(pieces[1]["biz_opaque_callback_data"], "tl1 1 DE=2E1 main=2Fm17");
}

#[test]
fn what_is_offered_becomes_buttons_a_list_or_lines() {
    let ask = |count: usize, title: &str| {
        let mut content = vec![json!({ "type": "text", "body": "Which?" })];
        content.extend(
            (0..count).map(|n| json!({ "type": "choice", "id": format!("c{n}"), "title": format!("{title}{n}") })),
        );
        sent("4915112345678", Value::Array(content)).remove(0)
    };
    let buttons = ask(3, "x");
    assert_eq!(buttons["interactive"]["action"]["buttons"][2]["reply"]["id"], "c2");
    assert_eq!(buttons["interactive"]["body"]["text"], "Which?");
    assert_eq!(ask(4, "x")["interactive"]["action"]["sections"][0]["rows"].as_array().unwrap().len(), 4);
    assert_eq!(ask(11, "x")["type"], "text");
    assert_eq!(ask(2, &"x".repeat(30))["type"], "text");
}

#[test]
fn files_go_as_what_the_platform_takes() {
    let media = |mime: &str, caption: &str| json!([{ "type": "media", "kind": "image", "store_key": "k", "mime": mime, "name": "a.b", "caption": caption }]);
    let image = sent("4915112345678", media("image/png", "look"));
    assert_eq!((image.len(), &image[0]["image"]), (1, &json!({ "id": "f1", "caption": "look" })));
    let odd = sent("4915112345678", media("image/tiff", "look"));
    assert_eq!(odd[0]["document"], json!({ "id": "f1", "caption": "look", "filename": "a.b" }));
    // Sound has no text under it.
    let sound = sent("4915112345678", media("audio/ogg", "look"));
    assert_eq!((sound[0]["audio"].clone(), sound[1]["text"]["body"].as_str()), (json!({ "id": "f1" }), Some("look")));
    let huge = json!([{ "type": "media", "kind": "image", "store_key": "k", "mime": "image/png", "bytes": 6_000_000 }]);
    assert_eq!(calls(&command("whatsapp", thread("4915112345678"), huge)).unwrap_err().code, "media_too_large");
}

#[test]
fn a_template_is_filled_by_number_by_name_or_by_hand() {
    let template = |parameters: Value| {
        let part = json!({ "type": "template", "name": "order", "language": "de", "parameters": parameters });
        sent("4915112345678", json!([part]))[0]["template"].clone()
    };
    let many = template(json!({ "10": "j", "2": "b", "1": "a" }));
    let texts: Vec<&str> =
        many["components"][0]["parameters"].as_array().unwrap().iter().map(|p| p["text"].as_str().unwrap()).collect();
    assert_eq!((texts, many["language"]["code"].as_str()), (vec!["a", "b", "j"], Some("de")));
    assert_eq!(template(json!({ "name": "Ann" }))["components"][0]["parameters"][0]["parameter_name"], "name");
    let own = json!([{ "type": "header", "parameters": [] }]);
    assert_eq!(template(json!({ "components": own }))["components"], own);
    assert_eq!(template(json!({})).get("components"), None);
}

#[test]
fn a_place_and_somebodys_details_have_forms() {
    let sent = sent(
        "4915112345678",
        json!([
            { "type": "location", "latitude": "52.5", "longitude": "13.4", "name": "Office" },
            { "type": "contact_card", "name": "Ann", "phones": ["+49301"] },
        ]),
    );
    assert_eq!(sent[0]["location"], json!({ "latitude": 52.5, "longitude": 13.4, "name": "Office" }));
    assert_eq!(sent[1]["contacts"][0]["name"]["formatted_name"], "Ann");
}

#[test]
fn only_the_first_call_answers() {
    let mut command =
        command("whatsapp", thread("4915112345678"), json!([{ "type": "text", "body": "x".repeat(5000) }]));
    command.reply_to = Some(crate::meta::reference("wamid.1"));
    let calls = calls(&command).unwrap();
    assert_eq!((calls[0].answers.as_deref(), calls[1].answers.as_deref()), (Some("wamid.1"), None));
}
