//! The router: the shell around `engine` and `profile`.
//!
//! For each shard, one process at a time leads: it claims an epoch, rebuilds the state from the newest
//! checkpoint and the journal's tail, reads `IN` from the cursor that the journal holds, lets the pure
//! core decide, appends one record for each batch, and only then publishes what follows. Nothing here
//! decides anything about customers, conversations or agents.
//!
//! ```text
//! IN ─► Leader ─► Tenant (engine + profile) ─► Journal.append ─► feeds, replies ─► Outputs ─► EVENTS, OUT, DEAD
//!          ▲                                                                        └─► ReadSide ─► KV
//!       commands                                                       Checkpoint ─► object store
//! ```
//!
//! What keeps it exact: the journal is fenced by the epoch (a stale owner's append is refused by the
//! server), the input cursor is inside the record, every output is idempotent and is written again by
//! the next owner from where the journal says it had got to.

mod audit;
mod checkpoint;
mod classify;
mod commands;
mod control;
mod election;
mod erase;
mod error;
mod facts;
mod feeds;
mod fit;
mod history;
mod journal;
mod leader;
mod lookup;
mod media;
mod membership;
mod metric;
mod outputs;
mod pack;
mod progress;
mod readside;
mod recover;
mod rest;
mod shard;
mod tenant;
#[cfg(test)]
mod tests;
mod transcript;

pub use commands::digest;
pub use contract::answer::{AdminAnswer, ConversationDetail, CustomerDetail, ShardStatus, StatusView};
pub use control::{Held, hold, release};
pub use election::{Leadership, Router};
pub use error::{Error, ErrorKind};
pub use metric::Metric;
pub use rest::Silent;
pub use shard::{Shard, Snapshot};
pub use tenant::Tenant;

use std::time::Duration;

/// How the router works.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many shards the deployment has; the same everywhere.
    pub shards: u16,
    /// Names this process in epochs and logs.
    pub instance: String,
    /// Most inputs in one journal record.
    pub batch_messages_max: usize,
    /// A checkpoint is taken after so many records …
    pub checkpoint_records: u64,
    /// … or after this time, when there was any.
    pub checkpoint_every: Duration,
    /// How often a standby asks after a shard's owner.
    pub ping_every: Duration,
    /// How long it waits for the answer.
    pub ping_timeout: Duration,
    /// What must not be stored.
    pub redactor: std::sync::Arc<runtime::redact::Redactor>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: contract::shard::SHARDS_DEFAULT,
            instance: "router".to_owned(),
            batch_messages_max: 256,
            checkpoint_records: 20_000,
            checkpoint_every: Duration::from_secs(300),
            ping_every: Duration::from_millis(100),
            ping_timeout: Duration::from_millis(200),
            redactor: std::sync::Arc::default(),
        }
    }
}
