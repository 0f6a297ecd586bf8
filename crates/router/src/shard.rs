//! The state of one shard: its tenants and how far its input is decided. Pure.

use std::collections::BTreeMap;

use contract::journal::Record;
use contract::{TenantId, Timestamp};
use engine::Emitted;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::tenant::{Tenant, TenantReplay};

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

/// A shard that is being made again: nothing can be decided in it yet.
#[derive(Debug, Default)]
pub(crate) struct Recovering {
    pub(crate) tenants: BTreeMap<TenantId, TenantReplay>,
    cursor: u64,
}

impl Recovering {
    /// Begins with a snapshot. Returns the journal sequence that it reflects, too.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, u64), Error> {
        let snapshot = decode(bytes)?;
        let tenants = snapshot.tenants.into_iter().map(|(id, tenant)| (id, TenantReplay::new(tenant)));
        Ok((Self { tenants: tenants.collect(), cursor: snapshot.cursor }, snapshot.seq))
    }

    /// Does a record of the journal again.
    pub(crate) fn replay(&mut self, record: &Record) -> Vec<Replayed> {
        let mut replayed = Vec::new();
        for entry in &record.entries {
            let tenant = self.tenants.entry(entry.tenant.clone()).or_default();
            replayed.extend(tenant.entry(entry).into_iter().map(|emitted| Replayed {
                tenant: entry.tenant.clone(),
                at: entry.at,
                emitted,
            }));
        }
        self.cursor = self.cursor.max(record.cursor);
        replayed
    }

    /// All of the journal has been replayed.
    pub(crate) fn finish(self) -> Shard {
        let tenants = self.tenants.into_iter().map(|(id, tenant)| (id, tenant.finish())).collect();
        Shard { tenants, cursor: self.cursor }
    }
}

/// A snapshot, with nothing derived yet.
fn decode(bytes: &[u8]) -> Result<Snapshot<BTreeMap<TenantId, Tenant>>, Error> {
    let snapshot: Snapshot<BTreeMap<TenantId, Tenant>> =
        contract::Encoding::MsgPack.decode(bytes, usize::MAX).map_err(|e| Error::unreadable("snapshot", e))?;
    if snapshot.v != VERSION {
        return Err(Error::unreadable("snapshot", format!("version {} is not known", snapshot.v)));
    }
    Ok(snapshot)
}

impl Shard {
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
        let snapshot = decode(bytes)?;
        let mut shard = Self { tenants: snapshot.tenants, cursor: snapshot.cursor };
        for tenant in shard.tenants.values_mut() {
            tenant.reindex();
        }
        Ok((shard, snapshot.seq))
    }
}
