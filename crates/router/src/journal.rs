//! The journal of one shard as its owner writes it: fenced, one record in flight, exact when an
//! acknowledgement is lost.

use std::time::Duration;

use bus::{Bus, ErrorKind as BusKind, Expect, Publish};
use contract::journal::{Checkpoint, Epoch, Record, VERSION};
use contract::subject::{self, Journal as Which};
use contract::{Encoding, SmolStr, Timestamp};
use serde::Serialize;
use tracing::{info, warn};

use crate::error::{Error, ErrorKind};
use crate::pack::Packed;

/// Most bytes of a record of the journal that is read back.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The name of a shard's journal stream.
pub(crate) fn stream(shard: u16) -> String {
    format!("JOURNAL-{shard}")
}

/// The journal of a shard, owned.
pub(crate) struct Journal {
    bus: Bus,
    stream: String,
    log: String,
    epoch_subject: String,
    checkpoint_subject: String,
    owner: SmolStr,
    /// Our epoch.
    pub(crate) epoch: u64,
    /// The sequence of our newest epoch record: what the server compares every append with.
    epoch_seq: u64,
    /// The newest sequence of the whole stream, as far as we know it. Only we write while we lead, so a
    /// resend of an append that was stored after all is refused instead of stored twice.
    last_seq: u64,
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    Encoding::MsgPack.encode(value).map_err(|e| Error::unreadable("journal", e))
}

impl Journal {
    /// Claims the shard: writes the next epoch by compare-and-set. From then on the server refuses the
    /// appends of whoever led before.
    ///
    /// # Errors
    /// [`ErrorKind::Deposed`] when somebody else was faster.
    pub(crate) async fn claim(bus: &Bus, shard: u16, owner: &str, now: Timestamp) -> Result<Self, Error> {
        let mut journal = Self {
            bus: bus.clone(),
            stream: stream(shard),
            log: subject::journal(shard, Which::Log),
            epoch_subject: subject::journal(shard, Which::Epoch),
            checkpoint_subject: subject::journal(shard, Which::Checkpoint),
            owner: owner.into(),
            epoch: 0,
            epoch_seq: 0,
            last_seq: 0,
        };
        if let Some((seq, newest)) = journal.newest_epoch().await? {
            journal.epoch = newest.epoch;
            journal.epoch_seq = seq;
        }
        journal.epoch += 1;
        journal.write_epoch(now).await?;
        info!(shard, epoch = journal.epoch, "claimed the shard");
        Ok(journal)
    }

    /// The sequence of our own epoch record: recovery reads the journal up to it.
    pub(crate) const fn epoch_seq(&self) -> u64 {
        self.epoch_seq
    }

    async fn newest_epoch(&self) -> Result<Option<(u64, Epoch)>, Error> {
        let Some(stored) = self.bus.last(&self.stream, &self.epoch_subject).await? else { return Ok(None) };
        let epoch: Epoch =
            Encoding::MsgPack.decode(&stored.payload, READ_BYTES_MAX).map_err(|e| Error::unreadable("epoch", e))?;
        if epoch.v != VERSION {
            return Err(Error::unreadable("epoch", format!("journal version {} is not known", epoch.v)));
        }
        Ok(Some((stored.seq, epoch)))
    }

    async fn write_epoch(&mut self, now: Timestamp) -> Result<(), Error> {
        let claim = Epoch { v: VERSION, epoch: self.epoch, owner: self.owner.clone(), at: now };
        let before = self.epoch_seq;
        let publish = Publish {
            subject: self.epoch_subject.clone(),
            payload: encode(&claim)?.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            expect: Some(Expect { subject: self.epoch_subject.clone(), seq: before }),
            ..Publish::default()
        };
        loop {
            match self.bus.publish(publish.clone()).await {
                Ok(ack) => {
                    self.epoch_seq = ack.seq;
                    self.last_seq = self.last_seq.max(ack.seq);
                    return Ok(());
                }
                // Ours may have been stored: the newest epoch says.
                Err(error) if matches!(error.kind, BusKind::Fenced(_) | BusKind::Ambiguous | BusKind::Unavailable) => {
                    match self.newest_epoch().await? {
                        Some((seq, newest)) if newest == claim => {
                            self.epoch_seq = seq;
                            self.last_seq = self.last_seq.max(seq);
                            return Ok(());
                        }
                        Some((seq, newest)) if seq != before => {
                            let message = format!("epoch {} of {} stands", newest.epoch, newest.owner);
                            return Err(Error::new(ErrorKind::Deposed, message));
                        }
                        _ => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The newest checkpoint that was announced.
    pub(crate) async fn newest_checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        let Some(stored) = self.bus.last(&self.stream, &self.checkpoint_subject).await? else { return Ok(None) };
        let checkpoint: Checkpoint = Encoding::MsgPack
            .decode(&stored.payload, READ_BYTES_MAX)
            .map_err(|e| Error::unreadable("checkpoint", e))?;
        Ok(Some(checkpoint))
    }

    /// The newest record of the log.
    pub(crate) async fn newest_record(&self) -> Result<Option<(u64, Record)>, Error> {
        match self.bus.last(&self.stream, &self.log).await? {
            Some(stored) => Ok(Some((stored.seq, read_record(&stored.payload)?))),
            None => Ok(None),
        }
    }

    /// Appends a record. Returns its sequence once the stream has stored it, however long that takes.
    ///
    /// # Errors
    /// [`ErrorKind::Deposed`] when a newer owner leads; [`ErrorKind::Bus`] for what waiting cannot mend.
    pub(crate) async fn append(&mut self, packed: &Packed) -> Result<u64, Error> {
        let log = self.log.clone();
        let id = packed.record.id.clone();
        self.store(&log, packed.bytes.clone(), move |payload| read_record(payload).is_ok_and(|record| record.id == id))
            .await
    }

    /// Announces a checkpoint.
    pub(crate) async fn announce(&mut self, checkpoint: &Checkpoint) -> Result<u64, Error> {
        let subject = self.checkpoint_subject.clone();
        let bytes = encode(checkpoint)?;
        let same = bytes.clone();
        self.store(&subject, bytes, move |payload| payload == same).await
    }

    /// Stores one message under the fence, exactly once.
    async fn store(&mut self, subject: &str, bytes: Vec<u8>, is_ours: impl Fn(&[u8]) -> bool) -> Result<u64, Error> {
        let payload = bytes::Bytes::from(bytes);
        let mut pause = Duration::from_millis(20);
        loop {
            let publish = Publish {
                subject: subject.to_owned(),
                payload: payload.clone(),
                content_type: Some(Encoding::MsgPack.content_type()),
                expect: Some(Expect { subject: self.epoch_subject.clone(), seq: self.epoch_seq }),
                expect_last: Some(self.last_seq),
                ..Publish::default()
            };
            let error = match self.bus.publish(publish).await {
                Ok(ack) => {
                    self.last_seq = ack.seq;
                    return Ok(ack.seq);
                }
                Err(error) => error,
            };
            match error.kind {
                BusKind::TooLarge | BusKind::Forbidden | BusKind::Config => return Err(error.into()),
                _ => warn!(stream = %self.stream, %error, "append is not acknowledged; looking for it"),
            }
            // Refused, or nobody knows: the stream itself says whether it holds ours, and who leads.
            loop {
                match self.settle(subject, &is_ours).await {
                    Ok(Some(seq)) => return Ok(seq),
                    Ok(None) => break,
                    Err(error) if error.kind == ErrorKind::Bus => {
                        warn!(stream = %self.stream, %error, "the journal cannot be read; waiting");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_millis(500));
                    }
                    Err(error) => return Err(error),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// After an append without acknowledgement: the sequence at which it was stored, or `None` when it
    /// was not and may be sent again.
    async fn settle(&mut self, subject: &str, is_ours: &impl Fn(&[u8]) -> bool) -> Result<Option<u64>, Error> {
        if let Some(stored) = self.bus.last(&self.stream, subject).await?
            && stored.seq > self.last_seq
            && is_ours(&stored.payload)
        {
            self.last_seq = stored.seq;
            return Ok(Some(stored.seq));
        }
        match self.newest_epoch().await? {
            Some((seq, _)) if seq == self.epoch_seq => {}
            Some((_, newest)) => {
                let message = format!("epoch {} of {} stands", newest.epoch, newest.owner);
                return Err(Error::new(ErrorKind::Deposed, message));
            }
            None => return Err(Error::new(ErrorKind::Deposed, "our epoch record is gone")),
        }
        // Nobody else writes here while our epoch stands, so what is newest was ours.
        self.last_seq = self.bus.stream_state(&self.stream).await?.last;
        Ok(None)
    }

    /// Writes the epoch anew, so that everything before can go.
    pub(crate) async fn renew_epoch(&mut self, now: Timestamp) -> Result<(), Error> {
        self.write_epoch(now).await.map(drop)
    }

    /// Deletes what a checkpoint made superfluous: everything below `seq`. The epoch is written anew
    /// first, since the fence compares with a record that must not be deleted.
    pub(crate) async fn purge_below(&mut self, seq: u64, now: Timestamp) -> Result<(), Error> {
        self.write_epoch(now).await?;
        self.bus.purge_below(&self.stream, seq).await?;
        Ok(())
    }
}

/// Reads a record of the log.
pub(crate) fn read_record(payload: &[u8]) -> Result<Record, Error> {
    let record: Record =
        Encoding::MsgPack.decode(payload, READ_BYTES_MAX).map_err(|e| Error::unreadable("journal record", e))?;
    if record.v != VERSION {
        return Err(Error::unreadable("journal record", format!("version {} is not known", record.v)));
    }
    Ok(record)
}
