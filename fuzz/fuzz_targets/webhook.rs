//! Reads arbitrary bytes as requests of an account that is a file, as that file, and as an expression. Whatever comes of
//! it keeps the contract's bounds.

#![no_main]

use std::sync::LazyLock;

use channel_webhook::fuzzing;
use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{check, request};

const FILES: [&str; 5] = [
    include_str!("../../config/channels/webhook-vendor.toml.example"),
    include_str!("../../config/channels/webhook-telegram.toml.example"),
    include_str!("../../config/channels/webhook-viber.toml.example"),
    include_str!("../../config/channels/webhook-reviews.toml.example"),
    include_str!("../../config/channels/webhook-form.toml.example"),
];

type Endpoint = Box<dyn Fn(&adapter::webhook::Request) -> adapter::webhook::Verdict + Send + Sync>;

static ENDPOINTS: LazyLock<Vec<Endpoint>> = LazyLock::new(|| {
    let open = |file: &&str| Box::new(fuzzing::endpoint(file).expect("an example in order")) as Endpoint;
    FILES.iter().map(open).collect()
});

fuzz_target!(|raw: &[u8]| {
    for endpoint in &*ENDPOINTS {
        check(endpoint(&request(raw)));
    }
    let Ok(text) = std::str::from_utf8(raw) else { return };
    fuzzing::settings(text);
    let (expression, value) = text.split_once('\n').unwrap_or((text, "{}"));
    fuzzing::expression(expression, &serde_json::from_str(value).unwrap_or_default());
});
