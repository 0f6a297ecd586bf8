//! Snapshots of the shard in the object store, so that recovery need not read the whole journal.

use bus::Bus;
use bytes::Bytes;
use contract::journal::{Checkpoint, VERSION};
use contract::{SmolStr, Timestamp};
use sha2::Digest;
use std::fmt::Write;
use tracing::warn;

use crate::error::Error;
use crate::progress::Watch;
use crate::recover::{SNAPSHOTS, aside};

/// Snapshots that are kept.
pub(crate) const KEEP: usize = 2;

/// SHA-256 of bytes, lower-case hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> SmolStr {
    let mut hex = String::with_capacity(64);
    for byte in sha2::Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.into()
}

fn name(shard: u16, seq: u64) -> String {
    // Zero-padded, so that names sort as the snapshots were taken.
    format!("{shard}/{seq:020}")
}

/// Stores a snapshot, and waits until everything that it reflects has been written elsewhere: only then
/// may it be announced, since the journal before it is purged.
pub(crate) async fn store(
    bus: Bus,
    shard: u16,
    snapshot: Vec<u8>,
    seq: u64,
    cursor: u64,
    at: Timestamp,
    (mut outputs, mut readside): (Watch, Watch),
) -> Result<Checkpoint, Error> {
    let object = name(shard, seq);
    let snapshot = Bytes::from(snapshot);
    // Of a large shard that takes long enough to be in the way of whatever else this thread would do.
    let whole = snapshot.clone();
    let sha256 = aside(move || digest(&whole)).await?;
    bus.objects(SNAPSHOTS).await?.put(&object, snapshot).await?;
    if !outputs.reached(seq).await || !readside.reached(seq).await {
        return Err(Error::new(crate::ErrorKind::Stopping, "the writers stopped"));
    }
    Ok(Checkpoint { v: VERSION, object: object.into(), sha256, seq, cursor, at })
}

/// Lets go of all but the newest snapshots of a shard.
pub(crate) async fn tidy(bus: &Bus, shard: u16, keep: usize) {
    let tidied = async {
        let objects = bus.objects(SNAPSHOTS).await?;
        let prefix = format!("{shard}/");
        let mut names: Vec<String> =
            objects.list().await?.into_iter().filter(|name| name.starts_with(&prefix)).collect();
        names.sort();
        for old in names.iter().rev().skip(keep) {
            objects.let_go(old).await?;
        }
        Ok::<(), bus::Error>(())
    };
    if let Err(error) = tidied.await {
        warn!(shard, %error, "old snapshots could not be deleted; trying again after the next");
    }
}
