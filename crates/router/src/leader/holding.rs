//! A rest: nothing is decided for a while, and everything that follows from what was decided is stored, so that all
//! streams can be copied as of one moment.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Leader;
use crate::control::{Answer, Ask, HOLD_MAX, Held, REST_WITHIN};
use crate::error::{Error, ErrorKind};

impl Leader {
    /// Answers what the owner of the shard is asked.
    ///
    /// # Errors
    /// When the shard is no longer ours.
    pub(super) async fn asked(&mut self, question: &Ask) -> Result<Answer, Error> {
        match question {
            Ask::Hold { ms } => {
                if self.held_until.is_none() {
                    let rested = tokio::time::timeout(REST_WITHIN, self.come_to_rest()).await;
                    match rested.unwrap_or_else(|_| Err(refusal("what was decided is not stored in time"))) {
                        Ok(()) => info!(shard = self.shard_no, seq = self.seq, "resting"),
                        Err(error) if error.kind == ErrorKind::Deposed => return Err(error),
                        Err(error) => return Ok(Answer::Refused(error.to_string())),
                    }
                }
                self.held_until = Some(Instant::now() + Duration::from_millis(*ms).min(HOLD_MAX));
                Ok(Answer::Held(Held { epoch: self.journal.epoch, seq: self.seq, cursor: self.shard.cursor }))
            }
            Ask::Release => {
                self.go_on();
                Ok(Answer::Released)
            }
        }
    }

    /// The rest is over.
    pub(super) fn go_on(&mut self) {
        if self.held_until.take().is_some() {
            info!(shard = self.shard_no, seq = self.seq, "going on");
        }
    }

    /// Stores what is owed, and leaves nothing running that would write.
    async fn come_to_rest(&mut self) -> Result<(), Error> {
        if !self.erasures.is_empty() || self.erasing.is_some() || self.overwriting.is_some() || self.overwrite {
            return Err(refusal("a customer is being erased; try again in a minute"));
        }
        self.stop_resting();
        if let Some(running) = self.checkpointing.take() {
            let done = running.await;
            self.checkpointed(done).await?;
        }
        while self.readside.done() < self.seq {
            self.flush(true);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if !self.outputs.watch().reached(self.seq).await {
            return Err(refusal("the writers stopped"));
        }
        if self.records_since_checkpoint > 0 {
            self.start_checkpoint();
            if let Some(running) = self.checkpointing.take() {
                let done = running.await;
                self.checkpointed(done).await?;
            }
        }
        Ok(())
    }
}

fn refusal(why: &str) -> Error {
    Error::new(ErrorKind::Bus, why)
}
