use super::*;
use crate::kit;

#[test]
fn every_kind_of_event_is_read() {
    let place = kit::place("line");
    kit::check("line", &|raw| match body(raw) {
        Some(body) => body.events.iter().flat_map(|raw| event(&place, raw, kit::NOW)).collect(),
        None => vec![Found::Dead("no body of events")],
    });
}

#[test]
fn files_are_fetched_where_they_are() {
    let of = |provider: &str| {
        let raw = format!(
            r#"{{"type":"message","webhookEventId":"01A","timestamp":1,"source":{{"type":"user","userId":"U1"}},"message":{{"type":"image","id":"354718705033693861","contentProvider":{provider}}}}}"#
        );
        let raw: Box<RawValue> = serde_json::from_str(&raw).unwrap();
        match event(&kit::place("line"), &raw, kit::NOW).remove(0) {
            Found::Event(event) => event.fetch[0].1.clone(),
            Found::Dead(why) => panic!("{why}"),
        }
    };
    assert_eq!(of(r#"{"type":"line"}"#), json!({ "message_id": "354718705033693861" }));
    let external = r#"{"type":"external","originalContentUrl":"https://example.com/a.jpg"}"#;
    assert_eq!(of(external), json!({ "url": "https://example.com/a.jpg" }));
}
