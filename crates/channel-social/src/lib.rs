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

#[cfg(test)]
mod kit;
mod line;
mod meta;
mod multipart;
mod page;
mod provider;
mod slack;
mod telegram;
mod telemetry;
mod typing;
mod viber;
mod whatsapp;
mod x;

use adapter::provider::{api, found, piece, query, read, serve};
use adapter::{AccountFile, Kind, Prepared, Problem};

use crate::page::{Pages, Product};
use crate::provider::prepare;

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

impl Social {
    fn pages(&self, product: Product) -> Pages {
        Pages { product, register: self.meta.clone() }
    }
}

impl Kind for Social {
    fn name(&self) -> &'static str {
        KIND
    }

    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        match file.provider.as_deref() {
            Some("whatsapp") => prepare(whatsapp::WhatsApp { register: self.meta.clone() }, file),
            Some("messenger") => prepare(self.pages(Product::Messenger), file),
            Some("instagram") => prepare(self.pages(Product::Instagram), file),
            Some("telegram") => prepare(telegram::Telegram, file),
            Some("line") => prepare(line::Line, file),
            Some("viber") => prepare(viber::Viber, file),
            Some("slack") => prepare(slack::Slack, file),
            Some("x") => prepare(x::X, file),
            Some(_) => Err(vec![file.problem("provider", format!("must be one of {PROVIDERS}"))]),
            None => Err(vec![file.problem("provider", format!("is missing: one of {PROVIDERS}"))]),
        }
    }
}
