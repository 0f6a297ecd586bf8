//! The channel SDK: everything that a channel needs to live on the bus, so that a channel crate holds
//! its protocol and nothing else.
//!
//! A channel implements three small traits: [`Kind`] (its name, and how a settings table is checked
//! without side effects), [`Prepared`] (how it opens) and [`Channel`] (send, receive until drained).
//! The SDK does the rest: [`Inbound`] stores envelopes in order and in batches, [`outbound`] works off
//! commands with retry, order, rate limit and the send [`ledger`], [`health`] beats, [`history`] asks
//! the router, [`live`] carries typing and presence, `kit` tests. For
//! providers that call us there is [`webhook`] with [`verify`]; for calling them [`http`] and [`fetch`], [`split`] and
//! [`limit`], and what most of them need in [`provider`].
//!
//! Invariants:
//! - An envelope is [`Accepted`] only after JetStream has stored it; a sender's next envelope is not
//!   published before the one before it is stored.
//! - A part that the [`ledger`] knows as sent is not sent again.
//! - Every queue has a bound, and what is over it is refused, never dropped.
//!
//! Absent on purpose: truth. Whatever is kept here can be lost without losing a message.

pub mod account;
pub mod backoff;
mod batch;
pub mod channel;
mod channels;
mod clock;
pub mod cursor;
mod describing;
pub mod failure;
pub mod fetch;
mod fetching;
pub mod health;
pub mod history;
pub mod http;
pub mod inbound;
#[cfg(feature = "kit")]
pub mod kit;
pub mod ledger;
pub mod limit;
pub mod live;
pub mod media;
pub mod outbound;
pub mod provider;
pub mod secrets;
pub mod split;
mod telemetry;
pub mod verify;
pub mod webhook;

pub use account::AccountFile;
pub use bus;
pub use bytes;
pub use channel::{BoxFuture, Channel, Context, Described, Kind, LedgerMode, OpenError, Prepared, Rehearsal, Retry};
pub use channels::{Channels, Environment, Ready, prepare};
pub use clock::now;
pub use contract;
pub use failure::{SendFailure, Sent};
pub use fetch::{Fetched, Fetcher};
pub use inbound::{AcceptError, Accepted, Inbound};
pub use ledger::PartLedger;
pub use runtime;
pub use runtime::drain::Shutdown;
pub use runtime::settings::Problem;
pub use serde_json;
pub use toml;
