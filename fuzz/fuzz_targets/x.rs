//! Reads arbitrary bytes as signed activity of X, and as challenges.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{Social, query, request};

static ACCOUNTS: LazyLock<Social> = LazyLock::new(|| {
    // The ids of the fixtures.
    Social::open(&["provider = \"x\"\n[settings]\nuser_id = \"3001969357\"\napp_id = \"13090192\"\n\
                    consumer_secret = [{ env = \"X\" }]\naccess_token = { env = \"X\" }"])
});

fuzz_target!(|raw: &[u8]| {
    ACCOUNTS.hear(&request(raw));
    if let Some(challenge) = query(raw) {
        ACCOUNTS.hear(&challenge);
    }
});
