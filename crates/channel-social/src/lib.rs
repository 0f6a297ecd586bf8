//! Social channels: WhatsApp Cloud, Messenger, Instagram, Telegram, LINE, Viber, Slack, X direct messages.
//!
//! One kind, `social`; the account's `provider` says which. Each provider is a module with a pure half
//! (`normalize`, `render`, `classify`: bytes and settings in, envelopes and requests out) and a thin half
//! that carries requests. `README.md` says what each provider does and why.
//!
//! Invariants:
//! - Nothing is read before its signature or secret was checked over the bytes as they came.
//! - The account is found for each item, never for the request: a batch may speak of several.
//! - An event has the same id at every delivery, whatever it was delivered with.
//! - A send of unknown outcome is not repeated, except where the provider knows the repeat.
//! - Ids are text end to end.
//!
//! Absent: the listener and the fetching of media, which are the SDK's.

mod api;
mod found;
mod instagram;
#[cfg(test)]
mod kit;
mod line;
mod messenger;
mod meta;
mod multipart;
mod page;
mod piece;
mod query;
mod read;
mod serve;
mod slack;
mod telegram;
mod viber;
mod whatsapp;
mod x;

use adapter::{AccountFile, Kind, Prepared, Problem};

/// Its name.
const KIND: &str = "social";
/// What `provider` may say.
const PROVIDERS: &str = "whatsapp, messenger, instagram, telegram, line, viber, slack, x";

/// Social channels, to be registered with the daemon.
#[must_use]
pub fn register() -> Box<dyn Kind> {
    Box::new(Social::default())
}

#[derive(Default)]
struct Social {
    /// The accounts of Meta's products: an app's events come to any of their addresses.
    meta: meta::Register,
}

impl Kind for Social {
    fn name(&self) -> &'static str {
        KIND
    }

    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        match file.provider.as_deref() {
            Some("whatsapp") => whatsapp::prepare(file, &self.meta),
            Some("messenger") => messenger::prepare(file, &self.meta),
            Some("instagram") => instagram::prepare(file, &self.meta),
            Some("telegram") => telegram::prepare(file),
            Some("line") => line::prepare(file),
            Some("viber") => viber::prepare(file),
            Some("slack") => slack::prepare(file),
            Some("x") => x::prepare(file),
            Some(_) => Err(vec![file.problem("provider", format!("must be one of {PROVIDERS}"))]),
            None => Err(vec![file.problem("provider", format!("is missing: one of {PROVIDERS}"))]),
        }
    }
}
