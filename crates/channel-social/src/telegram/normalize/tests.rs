use super::*;
use crate::kit;

#[test]
fn every_kind_of_update_is_read() {
    let place = kit::place("telegram");
    kit::check("telegram", &|raw| {
        let Ok(value) = serde_json::from_slice::<Value>(raw) else { return vec![Found::Dead("not JSON")] };
        let reader = Reader { place: &place, bot: "110201543", now: kit::NOW, raw_bytes: raw.len() };
        update(&reader, At::new(&value)).found
    });
}

#[test]
fn a_file_is_fetched_by_its_id_and_never_by_an_address() {
    let place = kit::place("telegram");
    let value = json!({ "update_id": 1, "message": { "message_id": 2, "chat": { "id": 3, "type": "private" },
        "from": { "id": 3 }, "date": 4, "voice": { "file_id": "AwAC1", "file_unique_id": "u", "duration": 7 } } });
    let reader = Reader { place: &place, bot: "1", now: kit::NOW, raw_bytes: 10 };
    let Found::Event(event) = update(&reader, At::new(&value)).found.remove(0) else { panic!("an event") };
    assert_eq!(event.fetch, [(0, json!({ "file_id": "AwAC1" }))]);
}
