//! What WhatsApp, Messenger and Instagram have in common: they are products of one platform, whose apps sign all their
//! events with one secret, send them to one address in one shape, and are answered by one API.
//!
//! `ear` hears requests, `ticket` marks what we send so that it is known again, `graph` calls the API, `classify` reads
//! its answers.

pub(crate) mod bits;
pub(crate) mod classify;
pub(crate) mod ear;
pub(crate) mod graph;
pub(crate) mod settings;
pub(crate) mod ticket;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use adapter::bytes::Bytes;
use adapter::contract::envelope::{Account, MessageRef};
use adapter::contract::{AccountId, Millis, SmolStr, TenantId, Timestamp};
use adapter::webhook::{Item, Siblings};
use serde_json::Value;

use crate::found::{Event, Found, Place};
use crate::read::At;

/// How long a free answer is allowed after the customer's last message.
pub(crate) const WINDOW: Millis = Millis::from_secs(24 * 3600);
/// How long a person may answer, where the platform allowed the app to say that a person does.
pub(crate) const WINDOW_OF_AGENTS: Millis = Millis::from_secs(7 * 24 * 3600);

/// What reading an account's events takes besides the account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The app's id: what it sent itself comes back under it.
    pub(crate) app: SmolStr,
    /// The business portfolio in which WhatsApp's ids of people mean something.
    pub(crate) portfolio: Option<SmolStr>,
    /// The WhatsApp business account that the number belongs to.
    pub(crate) business_account: Option<SmolStr>,
    /// People may answer for seven days.
    pub(crate) human_agent: bool,
}

/// The facts of every account of a process: an app's events come to any of its accounts' addresses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Register(Arc<RwLock<ByAccount>>);

type ByAccount = HashMap<(TenantId, AccountId), Arc<Facts>>;

impl Register {
    /// Remembers an account.
    pub(crate) fn put(&self, place: &Place, facts: Facts) {
        let key = (place.tenant.clone(), place.account.id.clone());
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::new(facts));
    }

    fn get(&self, tenant: &TenantId, account: &AccountId) -> Option<Arc<Facts>> {
        let key = (tenant.clone(), account.clone());
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

/// What is at hand while one request is read.
pub(crate) struct Desk<'a> {
    /// The account whose address was called.
    pub(crate) own: &'a Place,
    /// Who may be spoken for.
    pub(crate) accounts: &'a Siblings,
    /// By which secret.
    pub(crate) trust: &'a str,
    /// What is known of them.
    pub(crate) register: &'a Register,
    /// When the request came.
    pub(crate) now: Timestamp,
}

/// An account that an item is for.
pub(crate) struct Ours {
    /// The account.
    pub(crate) place: Place,
    /// What is known of it.
    pub(crate) facts: Arc<Facts>,
    /// When the request came.
    pub(crate) now: Timestamp,
}

impl Desk<'_> {
    /// The account that claims `native` under the secret that signed; `product` keeps the ids of products apart.
    pub(crate) fn ours(&self, product: &str, native: &str) -> Option<Ours> {
        let account: Account = self.accounts.resolve(self.trust, &claim(product, native))?;
        let facts = self.register.get(&self.own.tenant, &account.id)?;
        Some(Ours { place: Place { tenant: self.own.tenant.clone(), account }, facts, now: self.now })
    }

    /// The account whose address was called.
    pub(crate) fn own(&self) -> Option<Ours> {
        let facts = self.register.get(&self.own.tenant, &self.own.account.id)?;
        Some(Ours { place: self.own.clone(), facts, now: self.now })
    }
}

/// What an account claims.
pub(crate) fn claim(product: &str, native: &str) -> String {
    format!("{product}:{native}")
}

/// Authentic, and for nobody we know or not understood.
pub(crate) fn dead(account: Option<&Place>, reason: &str, raw: At<'_>) -> Item {
    Item::Dead { account: account.map(|place| place.account.id.clone()), reason: reason.to_owned(), raw: bytes(raw) }
}

/// The original of one item.
pub(crate) fn bytes(at: At<'_>) -> Bytes {
    at.value().map(Value::to_string).unwrap_or_default().into()
}

/// Hands an event to the SDK with its original.
pub(crate) fn item(place: &Place, event: Event, raw: At<'_>) -> Item {
    let raw = bytes(raw);
    event.found(raw.len()).item(place, raw)
}

/// Hands a report of what became of our messages to the SDK. It says all that its original says, which is not kept.
pub(crate) fn report(place: &Place, event: Event, raw: At<'_>) -> Item {
    let raw = bytes(raw);
    match event.found(raw.len()).item(place, raw) {
        Item::Envelope { envelope, fetch, .. } => Item::Envelope { envelope, raw: None, fetch },
        dead @ Item::Dead { .. } => dead,
    }
}

/// Reads a time that is in seconds or in milliseconds, in digits or as a number: the time, and as it was written.
pub(crate) fn time(at: At<'_>, key: &str) -> Option<(Timestamp, SmolStr)> {
    /// Of seconds, this is the year 5138; of milliseconds, March 1973.
    const SECONDS_MAX: u64 = 100_000_000_000;
    let number = at.number(key)?;
    let millis = if number < SECONDS_MAX { number.saturating_mul(1000) } else { number };
    // A time that no calendar has is none.
    (number > 0 && millis < SECONDS_MAX * 1000).then(|| (Timestamp(millis), number.to_string().into()))
}

/// Points at a message by its id.
pub(crate) fn reference(id: impl Into<SmolStr>) -> MessageRef {
    MessageRef { external_id: Some(id.into()), ..MessageRef::default() }
}

/// A short name for a document that has no id, the same whenever it comes.
pub(crate) fn fingerprint(at: At<'_>) -> String {
    let text = at.value().map(Value::to_string).unwrap_or_default();
    format!("{:032x}", adapter::contract::envelope::fingerprint([text.as_str()]))
}

/// Stands where the platform does not say who it was: such a value belongs to nobody, so the sender is whoever writes on
/// the thread.
pub(crate) const NOBODY: &str = "unknown";

impl Ours {
    /// Nothing was understood.
    pub(crate) fn dead(&self, reason: &str, raw: At<'_>) -> Item {
        dead(Some(&self.place), reason, raw)
    }

    /// What was found, or why not.
    pub(crate) fn found(&self, found: Result<Event, &'static str>, raw: At<'_>) -> Item {
        match found {
            Ok(event) => item(&self.place, event, raw),
            Err(why) => Found::Dead(why).item(&self.place, bytes(raw)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_seconds_or_milliseconds_as_digits_or_number() {
        let value = json!({ "s": "1749416383", "n": 1_749_416_383, "ms": 1_749_416_383_123_u64, "t": "1749416383123",
            "zero": 0, "far": u64::MAX, "word": "now", "minus": -5 });
        let read = |key| time(At::new(&value), key).map(|(at, _)| at.0);
        assert_eq!((read("s"), read("n")), (Some(1_749_416_383_000), Some(1_749_416_383_000)));
        assert_eq!((read("ms"), read("t")), (Some(1_749_416_383_123), Some(1_749_416_383_123)));
        for none in ["zero", "far", "word", "minus", "absent"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(time(At::new(&value), "t").unwrap().1, "1749416383123");
    }
}

#[cfg(test)]
#[path = "meta/tests.rs"]
mod fixtures;
