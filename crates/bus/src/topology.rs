//! Streams, consumers and buckets as data. Which ones Throughline has is declared by the router
//! (`Topology::throughline(shards)` lives here, since subjects and names are the contract's).

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention { Limits, WorkQueue }

#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    pub name: String,
    pub subjects: Vec<String>,
    pub retention: Retention,
    /// A full stream refuses (true) or drops the oldest (false).
    pub full_refuses: bool,
    pub bytes_max: Option<u64>,
    pub age_max: Option<Duration>,
    pub message_bytes_max: Option<u32>,
    pub duplicate_window: Duration,
    pub replicas: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    pub stream: String,
    pub durable: String,
    pub filter: Option<String>,
    pub ack_wait: Duration,
    pub ack_pending_max: u32,
    /// 0: unlimited.
    pub deliveries_max: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bucket { pub name: String, pub history: u8, pub age_max: Option<Duration>, pub per_message_ttl: bool, pub objects: bool, pub replicas: usize }

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Topology { pub streams: Vec<Stream>, pub consumers: Vec<Consumer>, pub buckets: Vec<Bucket> }
