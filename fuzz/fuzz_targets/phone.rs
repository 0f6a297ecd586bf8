//! Reads arbitrary bytes as requests about texts and calls that each provider's check has let through: forms and JSON, to
//! every address. Whatever comes of it keeps the contract's bounds.

#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use adapter::AccountFile;
use adapter::webhook::{Hook, Request, Siblings};
use contract::codec::Encoding;
use contract::limits::MESSAGE_BYTES_MAX;
use libfuzzer_sys::fuzz_target;
use throughline_fuzz::{envelopes, request};

/// What every form of Twilio's begins with, or it is another account's.
const FORM: &[u8] = b"AccountSid=AC00000000000000000000000000000001&";
/// Numbers whose hooks can be had without their secrets, and what their requests begin with.
const ACCOUNTS: [(&str, &[u8]); 2] = [
    (
        "provider = \"twilio\"\n[settings]\naccount_sid = \"AC00000000000000000000000000000001\"\nauth_token = [{ env = \"X\" }]",
        FORM,
    ),
    (
        "provider = \"vonage\"\n[settings]\napi_key = \"abcd1234\"\napi_secret = { env = \"X\" }\nsignature_secret = [{ env = \"X\" }]",
        b"",
    ),
];
/// The addresses that the consoles are told.
const ADDRESSES: [&str; 4] = ["sms", "sms/status", "voice/incoming", "voice/event"];

static HOOKS: LazyLock<Vec<(Arc<dyn Hook>, &[u8])>> = LazyLock::new(|| {
    let kind = channel_phone::register();
    let open = |(account, begin): (&str, &'static [u8])| {
        let text = format!("kind = \"phone\"\naccount = \"fuzz\"\naddress = \"+4930900100\"\n{account}");
        let table = adapter::toml::from_str(&text).expect("TOML");
        let file = AccountFile::from_table(&table, Path::new("fuzz.toml")).expect("an account");
        let prepared = kind.prepare(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
        let rehearsal = prepared.rehearse(&file.tenant, &file.envelope_account(), true).expect("a hook");
        (rehearsal.unwrap_or_else(|error| panic!("{error}")).hook, begin)
    };
    ACCOUNTS.into_iter().map(open).collect()
});

fuzz_target!(|raw: &[u8]| {
    for (hook, begin) in &*HOOKS {
        for suffix in ADDRESSES {
            let asked = Request { suffix: suffix.to_owned(), ..request(&[*begin, raw].concat()) };
            for envelope in envelopes(hook.receive(&asked, &Siblings::of([]))) {
                envelope.validate().expect("an envelope keeps the contract");
                let written = Encoding::MsgPack.encode(&envelope).expect("an envelope can be written");
                assert!(written.len() <= MESSAGE_BYTES_MAX);
            }
        }
    }
});
