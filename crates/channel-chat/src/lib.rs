//! Live chat for web pages: a WebSocket per page, a widget in one script tag.
//!
//! The router's transcript is the truth; this crate holds only what is connected now. `README.md`
//! has the protocol.
//!
//! Invariants:
//! - A message is acknowledged to the page after JetStream has stored it; sent again with the same
//!   `client_msg_id` it stays one message.
//! - A socket is given every message of its thread once and in order of `thread_seq` ([`cursor`] sees
//!   to it); what cannot be queued ends the socket, which then comes back and is given the rest.
//! - Only a signed token says who a visitor is. Names and addresses that a page tells are claims.
//!
//! Absent: a transcript, a database, a queue for visitors who are away, files.

mod channel;
mod cursor;
mod frames;
mod hub;
mod limits;
mod login;
mod normalize;
mod origin;
mod render;
mod server;
mod session;
mod settings;
mod socket;
mod telemetry;

pub use channel::register;
