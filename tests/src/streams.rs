//! The streams, read back.

use contract::event::decode_events;
use contract::journal::Record;
use contract::outbound::DeadLetter;
use contract::{Encoding, EventRecord, TenantId, subject};

use crate::{Daemon, PATIENCE, until};

const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One record of a shard's journal.
#[derive(Debug, Clone)]
pub struct Journalled {
    /// Its sequence in the stream.
    pub seq: u64,
    /// When the server stored it, milliseconds since the epoch.
    pub at_ms: u64,
    /// What it says.
    pub record: Record,
}

fn decode<T: serde::de::DeserializeOwned>(stored: &bus::Stored) -> T {
    let encoding = Encoding::detect(stored.headers.get(contract::codec::CONTENT_TYPE), &stored.payload);
    let value = encoding.and_then(|encoding| encoding.decode(&stored.payload, RECORD_BYTES_MAX));
    value.unwrap_or_else(|error| panic!("{} number {}: {error}", stored.subject, stored.seq))
}

/// A tenant's name.
///
/// # Panics
/// When it is none.
pub fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a name")
}

impl Daemon {
    /// Every fact of a tenant in `EVENTS`, in the order of the stream: at least those that were decided
    /// before.
    ///
    /// # Panics
    /// When the stream cannot be read.
    pub async fn events(&self, name: &str) -> Vec<EventRecord> {
        // The stream is written behind the journal.
        let shard = async || {
            let output = self.cli(&["--json", "status"]).await;
            (output.code == 0).then(|| output.json()["value"]["shard"].clone())
        };
        let decided = until(PATIENCE, "a status", async || shard().await?["seq"].as_u64()).await;
        until(PATIENCE, "EVENTS to hold what is decided", async || {
            (shard().await?["outputs_done"].as_u64()? >= decided).then_some(())
        })
        .await;
        let bus = self.connect(bus::permissions::ADMIN).await;
        let filter = format!("{}.event.{}.>", subject::PREFIX, contract::token::encode(name));
        let found = bus.collect(bus::topology::EVENTS, &filter, None).await.expect("the events");
        let facts = found.iter().flat_map(|stored| {
            let facts = decode_events(&stored.payload, stored.headers.get(contract::codec::CONTENT_TYPE));
            let facts = facts.unwrap_or_else(|error| panic!("{} number {}: {error}", stored.subject, stored.seq));
            facts.into_iter().map(|fact| fact.expect("a fact"))
        });
        facts.collect()
    }

    /// Every record that is left of a shard's journal, in order.
    ///
    /// # Panics
    /// When the stream cannot be read.
    pub async fn journal(&self, shard: u16) -> Vec<Journalled> {
        let bus = self.connect(bus::permissions::ROUTER).await;
        let stream = bus::topology::journal_stream(shard);
        let log = subject::journal(shard, subject::Journal::Log);
        let found = bus.collect(&stream, &log, None).await.expect("the journal");
        found.iter().map(|stored| Journalled { seq: stored.seq, at_ms: stored.at_ms, record: decode(stored) }).collect()
    }

    /// Every dead letter of a tenant with its number, in order.
    ///
    /// # Panics
    /// When the stream cannot be read.
    pub async fn dead_letters(&self, name: &str) -> Vec<(u64, DeadLetter)> {
        let bus = self.connect(bus::permissions::ADMIN).await;
        let filter = subject::dead_all(&tenant(name));
        let found = bus.collect(bus::topology::DEAD, &filter, None).await.expect("the dead letters");
        found.iter().map(|stored| (stored.seq, decode(stored))).collect()
    }
}
