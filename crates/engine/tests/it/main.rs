//! The engine from outside: properties over random inputs, scenarios that a person can read, and the
//! answers to "why".

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod explain;
mod fixture;
mod naive;
mod properties;
mod scenarios;
mod world;
