//! What is found in a provider's request, before it is handed to the SDK.

use crate::Context;
use crate::webhook::{Fetch, Item};
use bytes::Bytes;
use contract::envelope::{
    Account, AdapterInfo, AuthLevel, EnvelopeKind, Identity, Media, MediaStatus, Part, Party, Role, Scope, SenderAuth,
    Signal, Thread,
};
use contract::limits::MESSAGE_BYTES_MAX;
use contract::{Encoding, Envelope, SmolStr, TenantId, Timestamp};
use serde_json::{Map, Value};

/// An original that is smaller cannot make an envelope that is too large.
const SURELY_SMALL: usize = 32 * 1024;

/// Which account of ours something came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whose customers.
    pub tenant: TenantId,
    /// The account.
    pub account: Account,
}

/// One thing that a request tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// An event, and what of its content is to be fetched.
    Event(Box<Event>),
    /// Authentic, and not understood.
    Dead(&'static str),
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub envelope: Envelope,
    /// Where the bytes of parts are: the part's index, and what the channel fetches it by.
    pub fetch: Vec<(usize, Value)>,
}

impl Place {
    /// The account that a context is for.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        Self { tenant: context.tenant.clone(), account: context.account.clone() }
    }

    /// An event of this account that says nothing yet.
    pub fn event(&self, thread: Thread, sender: Party, by: &'static str, now: Timestamp) -> Event {
        let auth = SenderAuth { level: AuthLevel::SignedWebhook, detail: Some(by.into()) };
        let mut envelope = Envelope::new(self.tenant.clone(), self.account.clone(), thread, sender, auth, now);
        envelope.adapter = Some(AdapterInfo {
            name: format!("throughline-channel-{}", self.account.kind).into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            warnings: Vec::new(),
        });
        Event { envelope, fetch: Vec::new() }
    }

    /// An address that means somebody on this account only.
    pub fn identity(&self, scheme: &'static str, value: impl Into<SmolStr>) -> Identity {
        Identity {
            scheme: SmolStr::new_static(scheme),
            value: value.into(),
            scope: Scope::Account,
            scope_id: Some(self.account.id.as_str().into()),
            raw: None,
            assurance: None,
        }
    }

    /// The platform itself, where nobody in particular did it.
    pub fn platform(&self, scheme: &'static str, value: impl Into<SmolStr>) -> Party {
        Party::new(self.identity(scheme, value), Role::System)
    }
}

impl Event {
    /// Says what happened.
    pub fn kind(mut self, kind: EnvelopeKind, dedup_key: impl Into<SmolStr>) -> Self {
        self.envelope.kind = kind;
        self.envelope.dedup_key = dedup_key.into();
        self
    }

    /// Says it with a word.
    pub fn signal(mut self, name: &str, data: Map<String, Value>) -> Self {
        self.envelope.signal = Some(Signal { name: name.into(), detail: None, data });
        self
    }

    /// Adds a medium whose bytes are fetched by `source`.
    pub fn media(&mut self, media: Media, source: Value) {
        self.fetch.push((self.envelope.content.len(), source));
        self.envelope.content.push(Part::Media(Media { status: Some(MediaStatus::Pending), ..media }));
    }

    /// Says that something could not be represented.
    pub fn warn(&mut self, what: impl Into<String>) {
        if let Some(info) = &mut self.envelope.adapter {
            info.warnings.push(what.into());
        }
    }

    /// Checks the contract's bounds. `raw_bytes` is the size of the original.
    pub fn found(self, raw_bytes: usize) -> Found {
        if self.envelope.validate().is_err() {
            return Found::Dead("it breaks the bounds of the contract");
        }
        if raw_bytes > SURELY_SMALL {
            match Encoding::MsgPack.encode(&self.envelope) {
                Ok(bytes) if bytes.len() <= MESSAGE_BYTES_MAX => {}
                _ => return Found::Dead("it is larger than the contract allows"),
            }
        }
        Found::Event(Box::new(self))
    }
}

/// Seconds since the epoch as a time.
pub const fn seconds(seconds: u64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1000))
}

/// A map with one entry.
pub fn entry(key: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value.into())])
}

/// Hands what was found to the SDK: everything came in one original.
pub fn items(place: &Place, found: Vec<Found>, raw: &Bytes) -> Vec<Item> {
    found.into_iter().map(|found| found.item(place, raw.clone())).collect()
}

impl Found {
    /// Hands it to the SDK, with its original.
    pub fn item(self, place: &Place, raw: Bytes) -> Item {
        match self {
            Self::Event(event) => {
                let Event { envelope, fetch } = *event;
                let fetch = fetch.into_iter().map(|(part, source)| Fetch { part, source }).collect();
                Item::Envelope { envelope: Box::new(envelope), raw: Some(raw), fetch }
            }
            Self::Dead(reason) => Item::Dead { account: Some(place.account.id.clone()), reason: reason.into(), raw },
        }
    }
}
