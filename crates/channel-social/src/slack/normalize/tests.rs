use super::*;
use crate::kit;

#[test]
fn every_kind_of_event_is_read() {
    let place = kit::place("slack");
    kit::check("slack", &|raw| {
        let Ok(value) = serde_json::from_slice::<Value>(raw) else { return vec![Found::Dead("not JSON")] };
        let reader = Reader {
            place: &place,
            team: "T1",
            app: "A0WN",
            bot_user: Some("UB0T"),
            now: kit::NOW,
            raw_bytes: raw.len(),
        };
        let at = At::new(&value);
        match at.text("type") {
            Some("event_callback") => reader.callback(at),
            Some("app_rate_limited") => reader.limited(at),
            _ => reader.interaction(at),
        }
    });
}
