//! Webhooks of whoever nobody wrote a channel for: apps, devices, forms, kiosks, review sites, vendors.
//!
//! An account is a file that says how a request is verified (`verify`), what it becomes (`mapping`, by the `plan` of
//! each event over the `shape` of the envelope), what it is answered (`answer`) and how a reply goes out (`send`).
//! Values are literals, JSON pointers or expressions (`source`, `expr`). `README.md` has examples.
//!
//! Invariants:
//! - Raw bytes are verified before anything is parsed, and without a secret nothing is verified.
//! - Everything in a file is checked when it is read; what a request then costs has a budget.
//! - What is authentic and not understood is set aside whole, with the reason, and never with its content in it.
//! - Nothing of a request says where we call, and no secret goes where the file does not say.
//!
//! Absent: XML, multipart forms, handshakes that compute something, answers to an address that the request names.

mod answer;
mod channel;
mod expr;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hook;
mod input;
mod mapping;
mod plan;
mod send;
mod settings;
mod shape;
mod source;
mod table;
mod time;
mod verify;

pub use channel::register;
