//! Reads arbitrary bytes as signed requests of Slack: events, and what forms carry.

#![no_main]

use std::fmt::Write as _;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{Social, form, request};

static ACCOUNTS: LazyLock<Social> = LazyLock::new(|| {
    // The ids of the fixtures.
    Social::open(&["provider = \"slack\"\n[settings]\nteam_id = \"T1\"\napp_id = \"A0WN\"\nbot_user_id = \"UB0T\"\n\
                    signing_secret = [{ env = \"X\" }]\nbot_token = { env = \"X\" }"])
});

fuzz_target!(|raw: &[u8]| {
    ACCOUNTS.hear(&request(raw));
    ACCOUNTS.hear(&form(raw));
    // What is interactive comes as JSON in a field of a form.
    let mut payload = String::from("payload=");
    for byte in raw {
        write!(payload, "%{byte:02X}").expect("a text grows");
    }
    ACCOUNTS.hear(&form(payload.as_bytes()));
});
