//! The channel against a bus that is real, and a mailbox and a mail server that play their parts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a surprise is a failure; clippy does not see that helpers belong to tests"
)]

mod imap;
mod receiving;
mod sending;
mod smtp;
mod world;
