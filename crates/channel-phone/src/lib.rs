//! Phone numbers: text messages and calls, over Twilio and Vonage.
//!
//! One kind, `phone`: an account is one number of ours, whose texts and calls go both ways; its `provider` says over
//! whom. `sms` has the texts, `voice` the calls; `twilio` and `vonage` have what both need of a provider: whether a
//! request is its, and its API with our credentials. `README.md` and `VOICE.md` say what is done and why.
//!
//! Invariants:
//! - Nothing is read before its signature was checked over what came; without a secret nothing is taken.
//! - A text of unknown outcome is not sent again: neither provider would know it.
//! - A part of a text is answered for once it is kept, and the text becomes a message once.
//! - What an address of ours carries is signed by us, and the request that comes by it by the provider.
//!
//! Absent: the listener and the fetching of media, which are the SDK's.

mod hook;
#[cfg(test)]
mod kit;
mod phone;
mod settings;
mod signer;
mod sms;
mod twilio;
mod voice;
mod vonage;

use adapter::provider::{api, found, piece, query, read, serve};
use adapter::{AccountFile, Kind, Prepared, Problem};

/// Its name.
const KIND: &str = "phone";
/// What `provider` may say.
const PROVIDERS: &str = "twilio, vonage";

/// Phone numbers, to be registered with the daemon.
#[must_use]
pub fn register() -> Box<dyn Kind> {
    Box::new(Phone)
}

struct Phone;

impl Kind for Phone {
    fn name(&self) -> &'static str {
        KIND
    }

    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        match file.provider.as_deref() {
            Some("twilio" | "vonage") => phone::prepare(file),
            Some(_) => Err(vec![file.problem("provider", format!("must be one of {PROVIDERS}"))]),
            None => Err(vec![file.problem("provider", format!("is missing: one of {PROVIDERS}"))]),
        }
    }
}
