//! Every webhook of both providers.

use adapter::contract::Timestamp;

use super::*;
use crate::kit::{self, NOW};

fn place(provider: &str) -> Place {
    kit::place(provider)
}

/// What is found in a fixture; its name says which address it came to.
fn read(provider: &str, name: &str, raw: &[u8], now: Timestamp) -> Vec<Found> {
    let words = Words::new(&Settings::default());
    let (place, size) = (place(provider), raw.len());
    let is_status = name.starts_with("status");
    if provider == "twilio" {
        let text = std::str::from_utf8(raw).ok();
        let Some(form) = text.and_then(|text| crate::query::pairs(text, 512)) else {
            return vec![Found::Dead("not a form")];
        };
        let carried = Some("c=main%2Fm17&p=0");
        return match is_status {
            true => match twilio::became(&form, carried) {
                Ok(told) => told.map(|told| normal::became(&place, told, now, size)).unwrap_or_default(),
                Err(why) => vec![Found::Dead(why)],
            },
            false => match twilio::incoming(&form) {
                Ok(text) => normal::incoming(&place, &words, text, now, size),
                Err(why) => vec![Found::Dead(why)],
            },
        };
    }
    let Ok(event) = serde_json::from_slice::<Value>(raw) else { return vec![Found::Dead("not JSON")] };
    match if is_status { vonage::became(&event) } else { vonage::incoming(&event) } {
        Ok(Told::Text(text)) => normal::incoming(&place, &words, *text, now, size),
        Ok(Told::Part(piece)) => {
            let text = parts::Group::begin(&piece, now).text().unwrap();
            normal::incoming(&place, &words, text, now, size)
        }
        Ok(Told::Became(told)) => normal::became(&place, *told, now, size),
        Ok(Told::Nothing) => Vec::new(),
        Err(why) => vec![Found::Dead(why)],
    }
}

#[test]
fn every_webhook_of_twilio_means_what_is_expected() {
    kit::check("sms/twilio", &|name, raw| read("twilio", name, raw, NOW));
}

#[test]
fn every_webhook_of_vonage_means_what_is_expected() {
    kit::check("sms/vonage", &|name, raw| read("vonage", name, raw, NOW));
}

#[test]
fn a_request_that_is_tried_out_tells_what_it_means() {
    let ear = Ear::rehearsed(place("vonage"), &Settings::default());
    let body = include_bytes!("../../fixtures/sms/vonage/part.json");
    let request = kit::request(adapter::http::Method::POST, "sms", &[], body);
    let event: Value = serde_json::from_slice(body).unwrap();
    let Verdict::Take { items, reply } = ear.event(&request, &event) else { panic!("taken") };
    assert_eq!((kit::told(&items), reply), (vec!["message 0A0000000123ABCD2".to_owned()], Reply::ok()));
    let elsewhere = kit::request(adapter::http::Method::POST, "sms/elsewhere", &[], body);
    assert!(matches!(ear.event(&elsewhere, &event), Verdict::Refuse { .. }));
}
