//! A real `nats-server`, started, watched and stopped by the daemon.

use std::path::PathBuf;

/// Where and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary; absent: `THROUGHLINE_NATS_SERVER`, then PATH, then `.tools/nats-server` under the current folder and beside the executable.
    pub binary: Option<PathBuf>,
    /// `data_dir/nats` holds config, store, pid and ports; `data_dir/credentials` the passwords, one file per user, 0600.
    pub data_dir: PathBuf,
    /// Client port on loopback; 0: any free one.
    pub port: u16,
    /// WebSocket port on loopback; 0: any free one, `None`: no listener.
    pub websocket_port: Option<u16>,
    /// Monitoring port; `None`: none.
    pub monitor_port: Option<u16>,
    /// `always`, or an interval like `100ms`.
    pub sync_interval: String,
    /// Users with their permissions.
    pub users: Vec<User>,
    /// How many shards: the account mapping inserts the shard into unsharded inbound subjects.
    pub shards: u16,
}

/// A user of the bus. The password is generated on first start and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User { pub name: String, pub publish: Vec<String>, pub subscribe: Vec<String> }

/// A running server.
pub struct Server {}

impl Server {
    pub async fn start(_options: Options) -> Result<Self, crate::Error> { todo!() }
    /// `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> &str { todo!() }
    pub fn pid(&self) -> u32 { todo!() }
    /// Replaces the users (a roster changed): rewrites the config and signals the server to reload.
    pub async fn set_users(&self, _users: Vec<User>) -> Result<(), crate::Error> { todo!() }
    /// Stops it; waits until it is gone.
    pub async fn stop(self) -> Result<(), crate::Error> { todo!() }
}
