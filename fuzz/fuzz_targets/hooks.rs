//! Reads arbitrary bytes as requests that each provider's check has let through. Whatever comes of it keeps the
//! contract's bounds.

#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use adapter::AccountFile;
use adapter::webhook::{Hook, Siblings};
use contract::codec::Encoding;
use contract::limits::MESSAGE_BYTES_MAX;
use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{envelopes, request};

/// Accounts whose hooks can be had without their secrets.
const ACCOUNTS: [&str; 3] = [
    "provider = \"telegram\"\n[settings]\ntoken = { env = \"X\" }\nsecret_token = [{ env = \"X\" }]",
    "provider = \"line\"\n[settings]\nchannel_secret = [{ env = \"X\" }]\naccess_token = { env = \"X\" }",
    "provider = \"viber\"\n[settings]\nname = \"Shop\"\nauth_token = [{ env = \"X\" }]",
];

static HOOKS: LazyLock<Vec<Arc<dyn Hook>>> = LazyLock::new(|| {
    let kind = channel_social::register();
    let open = |account: &&str| {
        let text = format!("kind = \"social\"\naccount = \"fuzz\"\n{account}");
        let table = adapter::toml::from_str(&text).expect("TOML");
        let file = AccountFile::from_table(&table, Path::new("fuzz.toml")).expect("an account");
        let prepared = kind.prepare(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
        let rehearsal = prepared.rehearse(&file.tenant, &file.envelope_account(), true)?;
        Some(rehearsal.unwrap_or_else(|error| panic!("{error}")).hook)
    };
    ACCOUNTS.iter().filter_map(open).collect()
});

fuzz_target!(|raw: &[u8]| {
    for hook in &*HOOKS {
        for envelope in envelopes(hook.receive(&request(raw), &Siblings::of([]))) {
            envelope.validate().expect("an envelope keeps the contract");
            let written = Encoding::MsgPack.encode(&envelope).expect("an envelope can be written");
            assert!(written.len() <= MESSAGE_BYTES_MAX);
        }
    }
});
