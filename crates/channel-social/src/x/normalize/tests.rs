use super::*;
use crate::kit;

#[test]
fn every_kind_of_activity_is_read() {
    let place = kit::place("x");
    kit::check("x", &|raw| {
        let Ok(body) = serde_json::from_slice::<Body<'_>>(raw) else { return vec![Found::Dead("not JSON")] };
        let reader = Reader { place: &place, own: "3001969357", app: Some("13090192"), now: kit::NOW };
        reader.read(&body).found.into_iter().map(|(found, _)| found).collect()
    });
}

#[test]
fn who_is_typing_is_told_apart() {
    let raw = r#"{"for_user_id":"3001969357","direct_message_indicate_typing_events":[{"created_timestamp":"1518127183443","sender_id":"3284025577","target":{"recipient_id":"3001969357"}}]}"#;
    let body: Body<'_> = serde_json::from_str(raw).unwrap();
    let place = kit::place("x");
    let read = Reader { place: &place, own: "3001969357", app: None, now: kit::NOW }.read(&body);
    assert_eq!((read.found.len(), read.typing), (0, vec![SmolStr::from("3284025577")]));
}
