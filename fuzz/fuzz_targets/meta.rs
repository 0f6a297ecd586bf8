//! Reads arbitrary bytes as signed events of an app with a WhatsApp number, a page and an Instagram account, and as
//! handshakes.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{Social, query, request};

/// The app, and the ids of the fixtures.
const APP: &str = "[settings.app]\nid = \"1517776481860111\"\nsecret = [{ env = \"X\" }]\n\
                   verify_token = [{ env = \"X\" }]\n[settings.graph]\naccess_token = { env = \"X\" }";

static ACCOUNTS: LazyLock<Social> = LazyLock::new(|| {
    let whatsapp = "provider = \"whatsapp\"\n[settings]\nphone_number_id = \"106540352242922\"\n\
                    business_account_id = \"102290129340398\"\nportfolio_id = \"88\"";
    let messenger = "provider = \"messenger\"\n[settings]\nid = \"106195825075770\"\nhuman_agent = true";
    let instagram = "provider = \"instagram\"\n[settings]\nid = \"17841405822304914\"";
    let accounts = [whatsapp, messenger, instagram].map(|account| format!("{account}\n{APP}"));
    Social::open(&accounts.each_ref().map(String::as_str))
});

fuzz_target!(|raw: &[u8]| {
    ACCOUNTS.hear(&request(raw));
    if let Some(handshake) = query(raw) {
        ACCOUNTS.hear(&handshake);
    }
});
