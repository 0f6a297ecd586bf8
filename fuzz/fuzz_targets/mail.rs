//! Reads arbitrary bytes as a mail. Whatever comes of it keeps the contract's bounds.

#![no_main]

use contract::codec::Encoding;
use contract::limits::MESSAGE_BYTES_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    for envelope in channel_email::fuzzing::envelopes(raw).expect("an account") {
        envelope.validate().expect("an envelope keeps the contract");
        let written = Encoding::MsgPack.encode(&envelope).expect("an envelope can be written");
        assert!(written.len() <= MESSAGE_BYTES_MAX);
    }
});
