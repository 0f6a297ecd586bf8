//! What the system tests stand on: the built program as a child process with its own folder and
//! ports, customers' pages and mail programs, agents' tools, real mail servers, and the streams read back.
//!
//! Nothing here reaches into the program: it is driven by its command line, its bus, its sockets and
//! signals, as its users drive it. Every wait has an end and says what it waited for.

pub mod agent;
pub mod chat;
pub mod clock;
pub mod cluster;
pub mod daemon;
pub mod disk;
pub mod graph;
pub mod http;
pub mod line;
pub mod mail;
pub mod phone;
pub mod phone_sms;
pub mod phone_vonage;
pub mod standin;
pub mod streams;
pub mod vendor;
pub mod wires;

use std::future::Future;
use std::time::Duration;

pub use agent::AgentTool;
pub use chat::ChatClient;
pub use clock::Clock;
pub use cluster::Cluster;
pub use daemon::{Companion, Daemon, Output};
pub use disk::Disk;
pub use line::{Line, Manner};
pub use mail::{Mail, MailServer};
pub use vendor::Vendor;
pub use wires::Wires;

/// How long anything may take that should take moments: machines that run tests are busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that has to come.
///
/// # Panics
/// With what was waited for, when it does not come in time.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}

/// Looks again and again until something is there: for what only can be asked for.
///
/// # Panics
/// With what was waited for, when it does not come in time.
pub async fn until<T, F: Future<Output = Option<T>>>(limit: Duration, what: &str, mut look: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
