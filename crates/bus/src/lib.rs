//! The only crate that talks to NATS.
//!
//! It knows bytes, subjects, streams and buckets; it knows nothing of routing. Every call has a
//! timeout, every error says whether the bus may have done it all the same, and nothing of the
//! client library shows in the interface.
//!
//! * [`Bus`]: a connection; publishing, requests, readers, jobs, buckets, a service.
//! * [`Topology`]: streams, consumers and buckets as data, made true by [`Bus::ensure`].
//! * [`embedded`]: a real `nats-server` as a supervised child.
//! * [`permissions`]: who may do what, as users of that server.
//!
//! What is deliberately absent: retries of a publish (only the caller knows whether twice does
//! harm), direct reads from replicas (what decides must be read by the leader), and acknowledgements
//! on the input streams (the router keeps its cursor in its journal).

mod api;
pub mod cluster;
mod connect;
pub mod embedded;
mod ensure;
mod error;
mod kv;
mod message;
mod metric;
mod objects;
pub mod permissions;
mod publish;
mod push;
mod read;
mod replies;
mod service;
mod snapshots;
mod time;
pub mod topology;
mod work;

pub use api::StreamState;
pub use connect::{Bus, Connection, Credentials, Options, StoreFailures, Tls, ending};
pub use error::{Error, ErrorKind};
pub use kv::{Kv, KvEntry};
pub use message::{Ack, Expect, Headers, Message, Publish, Stored};
pub use objects::Objects;
pub use publish::{PendingAck, Subscription};
pub use read::Reader;
pub use service::{Requests, Service};
pub use snapshots::Snapshot;
pub use topology::{Bucket, Consumer, Retention, Stream, Topology};
pub use work::{Job, Jobs};

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
