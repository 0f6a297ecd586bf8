//! The bus against a real server: one binary, one server per test on free ports.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a surprise is a failure; clippy does not see that helpers belong to tests"
)]

mod embedded;
mod jobs;
mod permissions;
mod publish;
mod read;
mod secure;
mod service;
mod stores;
mod support;
mod topology;
