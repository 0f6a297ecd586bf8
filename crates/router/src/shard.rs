//! The state of one shard: its tenants and how far its input is decided. Pure.

use std::collections::BTreeMap;

use contract::journal::Record;
use contract::{TenantId, Timestamp};
use engine::Emitted;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::tenant::Tenant;

/// The version of the snapshot that this crate writes.
const VERSION: u16 = 1;

/// The state of one shard.
#[derive(Debug, Default)]
pub struct Shard {
    /// Its tenants.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Everything in `IN` up to this sequence is decided.
    pub cursor: u64,
}

/// A fact of a replayed record, with what it needs to become outputs.
pub(crate) struct Replayed {
    pub(crate) tenant: TenantId,
    pub(crate) at: Timestamp,
    pub(crate) emitted: Emitted,
}

/// A shard as a checkpoint holds it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot<T> {
    /// Version of the snapshot.
    pub v: u16,
    /// The journal record that it reflects.
    pub seq: u64,
    /// Everything in `IN` up to this sequence is decided.
    pub cursor: u64,
    /// The tenants.
    pub tenants: T,
}

impl Shard {
    /// Does a record of the journal again.
    pub(crate) fn replay(&mut self, record: &Record) -> Vec<Replayed> {
        let mut replayed = Vec::new();
        for entry in &record.entries {
            let tenant = self.tenants.entry(entry.tenant.clone()).or_default();
            replayed.extend(tenant.replay(entry).into_iter().map(|emitted| Replayed {
                tenant: entry.tenant.clone(),
                at: entry.at,
                emitted,
            }));
        }
        self.cursor = self.cursor.max(record.cursor);
        replayed
    }

    /// When something is due next in any tenant.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.tenants.values().filter_map(|tenant| tenant.engine.next_deadline()).min()
    }

    /// Writes a snapshot that reflects the journal up to `seq`.
    ///
    /// # Errors
    /// Never for a state that this crate built.
    pub fn snapshot(&self, seq: u64) -> Result<Vec<u8>, Error> {
        let snapshot = Snapshot { v: VERSION, seq, cursor: self.cursor, tenants: &self.tenants };
        contract::Encoding::MsgPack.encode(&snapshot).map_err(|e| Error::unreadable("snapshot", e))
    }

    /// Reads a snapshot. Returns the shard and the journal sequence that it reflects.
    ///
    /// # Errors
    /// When it is malformed or of a version that this crate does not know.
    pub fn read(bytes: &[u8]) -> Result<(Self, u64), Error> {
        let snapshot: Snapshot<BTreeMap<TenantId, Tenant>> =
            contract::Encoding::MsgPack.decode(bytes, usize::MAX).map_err(|e| Error::unreadable("snapshot", e))?;
        if snapshot.v != VERSION {
            return Err(Error::unreadable("snapshot", format!("version {} is not known", snapshot.v)));
        }
        let mut shard = Self { tenants: snapshot.tenants, cursor: snapshot.cursor };
        for tenant in shard.tenants.values_mut() {
            tenant.reindex();
        }
        Ok((shard, snapshot.seq))
    }
}
