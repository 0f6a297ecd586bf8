//! The SDK against a real server: one binary, one server per test, and for everything that the SDK
//! does the adapter's own user with its few permissions.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a surprise is a failure; clippy does not see that helpers belong to tests"
)]

mod crash;
mod demo;
mod fetching;
mod hooked;
mod inbound;
mod life;
mod outbound;
mod support;
mod webhook;
