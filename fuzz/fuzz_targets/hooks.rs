//! Reads arbitrary bytes as requests of Telegram, LINE and Viber that each one's check has let through.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{Social, request};

static ACCOUNTS: LazyLock<Social> = LazyLock::new(|| {
    Social::open(&[
        "provider = \"telegram\"\n[settings]\ntoken = { env = \"X\" }\nsecret_token = [{ env = \"X\" }]",
        "provider = \"line\"\n[settings]\nchannel_secret = [{ env = \"X\" }]\naccess_token = { env = \"X\" }",
        "provider = \"viber\"\n[settings]\nname = \"Shop\"\nauth_token = [{ env = \"X\" }]\nwelcome = \"Hi\"",
    ])
});

fuzz_target!(|raw: &[u8]| ACCOUNTS.hear(&request(raw)));
