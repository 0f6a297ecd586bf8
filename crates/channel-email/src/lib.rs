//! Mailboxes: mail comes in by IMAP, answers go out by SMTP.
//!
//! The pure half (`normalize`, `render`, `token`, `authres`, `classify`, `dsn`, `html`, `quote`) turns
//! bytes into envelopes and commands into bytes; the other half (`imap`, `smtp`, `oauth`, `channel`)
//! carries them. `README.md` says what is done with a mail and why.
//!
//! Invariants:
//! - The cursor of a folder moves only behind what JetStream has stored. Nothing is marked, moved or
//!   deleted in the mailbox.
//! - One mail that cannot be read is told to the operator, and what is behind it comes in.
//! - From is what the sender writes; only the results of the configured receiver vouch for it. A thread is
//!   proven only by a token that we signed.
//! - A mail of ours has the same Message-ID at every try.
//!
//! Absent: a mail server, HTML that is safe to show, rules about spam.

mod address;
mod authres;
mod brake;
mod channel;
mod classify;
mod cursor;
mod dsn;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod html;
mod imap;
mod intake;
mod net;
mod normalize;
mod oauth;
mod quote;
mod render;
mod settings;
mod smtp;
mod telemetry;
mod token;

pub use channel::register;
