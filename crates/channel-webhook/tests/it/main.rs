//! The pure half of the channel from outside: files, requests, verdicts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a surprise is a failure; clippy does not see that helpers belong to tests"
)]

mod examples;
mod files;
mod mapping;
mod providers;
mod support;
mod verifying;
