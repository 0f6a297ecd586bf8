//! When a customer is to be forgotten: one after the other, between checkpoints, beside the loop.

use contract::journal::Checkpoint;
use contract::{CustomerId, EventRecord, TenantId};
use tokio::task::JoinError;
use tracing::{error, warn};

use super::{Leader, now};
use crate::erase::{self, Erasure};
use crate::error::Error;

impl Leader {
    /// A customer is to be forgotten, once everything that was decided of it is written.
    pub(super) fn note_erasure(&mut self, tenant: &TenantId, customers: &[CustomerId], seq: u64) {
        let gone = |record: &EventRecord| record.customer.is_some_and(|customer| customers.contains(&customer));
        self.transcripts.forget(tenant, gone);
        let known = customers.iter().filter_map(|customer| self.known_by.remove(&(tenant.clone(), *customer)));
        let identities = known.flatten().collect();
        let (tenant, customers) = (tenant.clone(), customers.to_vec());
        self.erasures.push_back(Erasure { tenant, customers, seq, identities });
    }

    /// Begins with the next one.
    pub(super) fn next_erasure(&mut self) {
        if self.erasing.is_some() || self.checkpointing.is_some() {
            return;
        }
        if let Some(erasure) = self.erasures.front() {
            let watches = (self.outputs.watch(), self.readside.watch());
            self.erasing = Some(tokio::spawn(erase::erase(self.bus.clone(), erasure.clone(), watches)));
        }
    }

    /// A customer is forgotten everywhere but in the journal and `IN`: the next checkpoint does that. It is not taken
    /// while anybody is still to be forgotten, or that would be forgotten itself.
    pub(super) fn erased(&mut self, done: Result<Result<(), Error>, JoinError>) {
        self.erasing = None;
        match done {
            Ok(Ok(())) => {
                self.erasures.pop_front();
                self.overwrite = true;
                self.maybe_checkpoint();
            }
            Ok(Err(error)) => warn!(shard = self.shard_no, %error, "a customer could not be erased; trying again"),
            Err(error) => error!(shard = self.shard_no, %error, "erasing a customer failed; trying again"),
        }
    }

    /// Overwrites what a checkpoint that was just announced made superfluous. Beside the loop: it may be many records.
    pub(super) async fn start_overwriting(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        // The fence compares with a record that must not be overwritten.
        self.journal.renew_epoch(now()).await?;
        let (bus, shard, seq, cursor) = (self.bus.clone(), self.shard_no, checkpoint.seq, checkpoint.cursor);
        self.overwriting = Some(tokio::spawn(async move { erase::overwrite_before(&bus, shard, seq, cursor).await }));
        Ok(())
    }

    /// What is before the last checkpoint is overwritten, or the next one tries again.
    pub(super) fn overwritten(&mut self, done: bool) {
        self.overwriting = None;
        self.overwrite |= !done;
    }
}
