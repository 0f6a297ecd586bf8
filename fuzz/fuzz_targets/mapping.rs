//! Reads arbitrary bytes as the file of a webhook account and, behind a line of three dashes, as a request that it maps.

#![no_main]

use channel_webhook::fuzzing;
use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{check, form, query, request};

fuzz_target!(|raw: &[u8]| {
    let Ok(text) = std::str::from_utf8(raw) else { return };
    let Some((file, body)) = text.split_once("\n---\n") else { return };
    let Some(endpoint) = fuzzing::endpoint(file) else { return };
    for request in [Some(request(body.as_bytes())), Some(form(body.as_bytes())), query(body.as_bytes())] {
        check(endpoint(&request.expect("it is text")));
    }
});
