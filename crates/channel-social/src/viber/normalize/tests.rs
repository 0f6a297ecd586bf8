use super::*;
use crate::kit;

#[test]
fn every_kind_of_callback_is_read() {
    let place = kit::place("viber");
    kit::check("viber", &|raw| {
        let Ok(value) = serde_json::from_slice(raw) else { return vec![Found::Dead("not JSON")] };
        match callback(&place, At::new(&value), kit::NOW, raw.len()) {
            Read::Hello => Vec::new(),
            Read::Opened(found) | Read::Told(found) => found,
        }
    });
}
