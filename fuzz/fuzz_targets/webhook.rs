//! Reads arbitrary bytes as requests of an account that is a file, as that file, and as an expression. Whatever comes of
//! it keeps the contract's bounds.

#![no_main]

use std::sync::LazyLock;

use channel_webhook::fuzzing;
use contract::codec::Encoding;
use contract::limits::MESSAGE_BYTES_MAX;
use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{envelopes, request};

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
        for envelope in envelopes(endpoint(&request(raw))) {
            envelope.validate().expect("an envelope keeps the contract");
            let written = Encoding::MsgPack.encode(&envelope).expect("an envelope can be written");
            assert!(written.len() <= MESSAGE_BYTES_MAX || raw.len() > MESSAGE_BYTES_MAX / 8);
        }
    }
    let Ok(text) = std::str::from_utf8(raw) else { return };
    fuzzing::settings(text);
    let (expression, value) = text.split_once('\n').unwrap_or((text, "{}"));
    fuzzing::expression(expression, &serde_json::from_str(value).unwrap_or_default());
});
