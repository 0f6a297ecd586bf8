//! What every process of Throughline needs, whatever its role: layered [`settings`], [`secret`] references, [`telemetry`],
//! [`metrics`], [`memory`], what is [`redact`]ed, the [`health`] server, what the service manager is told ([`notify`]),
//! [`trace`]s, the [`drain`] that ends it in good order, and the one wall [`clock`].
//!
//! Nothing here knows a bus, a channel or a conversation, and nothing imports another crate of ours.
//! Nothing here is a global of ours either: a caller makes a [`drain::Shutdown`] or a
//! [`health::Health`] and hands it on. The exceptions belong to other libraries: the subscriber of
//! `tracing`, the recorder of `metrics` and the exporter of traces are installed once per process.

pub mod clock;
pub mod drain;
pub mod health;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod redact;
pub mod secret;
pub mod settings;
pub mod telemetry;
pub mod trace;
