//! What was sent: one entry per command in the bucket `tl-ledger`, so that a command that comes again
//! resumes at the part that was not sent, and one that is finished is not sent again.
//!
//! A channel calls [`PartLedger::begin`] before it hands a part to its provider and
//! [`PartLedger::sent`] after. A part that was begun and has no outcome was interrupted: the provider
//! may have it. Every write is a compare-and-set, so two processes that hold the same command cannot
//! both begin it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::{ErrorKind, Kv};
use bytes::Bytes;
use contract::envelope::ReceiptStatus;
use contract::{ChannelKind, Encoding, Millis, SmolStr, Timestamp, token};
use serde::{Deserialize, Serialize};

use crate::failure::SendFailure;
use crate::{BoxFuture, clock};

/// Largest entry.
const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// How many finished commands are remembered in memory.
const RECENT_MAX: usize = 8192;

/// What became of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PartState {
    /// Handed to the provider, no outcome known.
    Pending,
    /// Sent.
    Sent {
        /// The provider's ids.
        #[serde(default)]
        external_ids: Vec<SmolStr>,
    },
    /// Refused for good.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub status: ReceiptStatus,
    /// The part that it ended at, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// The provider's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SmolStr>,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The provider's ids of everything that was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_ids: Vec<SmolStr>,
    /// Whether a receipt is published.
    #[serde(default = "yes")]
    pub report: bool,
}

const fn yes() -> bool {
    true
}

/// The entry of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// The parts that were begun.
    #[serde(default)]
    pub parts: BTreeMap<u32, PartState>,
    /// How it ended; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How often it was tried.
    #[serde(default)]
    pub tries: u32,
    /// When the entry was last written.
    #[serde(default)]
    pub updated_at: Timestamp,
    /// Not to be tried before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Whose hand wrote it, by chance: tells a writer its own writes, when nobody told it of them.
    #[serde(default)]
    pub hand: u32,
}

/// Whether a part is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Send it.
    Fresh,
    /// It was begun and has no outcome: send it only if the provider recognises a repeat, else fail
    /// with [`SendFailure::unknown`].
    Interrupted,
    /// It was sent: do not send it.
    Sent {
        /// The provider's ids.
        external_ids: Vec<SmolStr>,
    },
}

/// Where entries are kept: a bucket, or a test's map.
pub(crate) trait Entries: Send + Sync + 'static {
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<(Bytes, u64)>, bus::Error>>;
    /// Compare-and-set on the revision, 0 for none.
    fn write<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> BoxFuture<'a, Result<u64, bus::Error>>;
}

impl Entries for Kv {
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<(Bytes, u64)>, bus::Error>> {
        Box::pin(async move { Ok(self.get(key).await?.map(|entry| (entry.value, entry.revision))) })
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> BoxFuture<'a, Result<u64, bus::Error>> {
        Box::pin(self.update(key, value, revision))
    }
}

/// The entries of one channel kind.
pub(crate) struct Ledger {
    kind: ChannelKind,
    entries: Arc<dyn Entries>,
    /// Commands that are finished, lest the bucket be asked about each predecessor.
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    outcomes: HashMap<SmolStr, Outcome>,
    order: VecDeque<SmolStr>,
}

/// The entry of one command while it is worked on.
pub struct PartLedger {
    entries: Option<Arc<dyn Entries>>,
    key: String,
    revision: u64,
    entry: Entry,
}

// === impl Ledger ===

impl Ledger {
    pub(crate) fn new(kind: ChannelKind, entries: impl Entries) -> Self {
        Self { kind, entries: Arc::new(entries), recent: Mutex::default() }
    }

    /// Opens the entry of a command.
    pub(crate) async fn open(&self, command_id: &SmolStr) -> Result<PartLedger, bus::Error> {
        if let Some(outcome) = self.recall(command_id) {
            let entry = Entry { outcome: Some(outcome), ..Entry::default() };
            return Ok(PartLedger { entries: None, key: String::new(), revision: 0, entry });
        }
        let key = format!("{}.{}", token::encode(self.kind.as_str()), token::encode(command_id));
        let (entry, revision) = match self.entries.read(&key).await? {
            None => (Entry::default(), 0),
            Some((value, revision)) => match Encoding::Json.decode(&value, ENTRY_BYTES_MAX) {
                Ok(entry) => (entry, revision),
                Err(error) => {
                    // Somebody else's hand. What it said about sending is lost: the outcome is unknown.
                    tracing::error!(%key, %error, "a ledger entry cannot be read");
                    let outcome = Outcome {
                        status: ReceiptStatus::Unknown,
                        part: None,
                        code: Some("ledger_unreadable".into()),
                        reason: Some("the ledger entry of this command cannot be read".into()),
                        external_ids: Vec::new(),
                        report: true,
                    };
                    (Entry { outcome: Some(outcome), ..Entry::default() }, revision)
                }
            },
        };
        // Without randomness no write is known again, which is safe.
        let entry = Entry { hand: getrandom::u32().unwrap_or_default(), ..entry };
        Ok(PartLedger { entries: Some(Arc::clone(&self.entries)), key, revision, entry })
    }

    pub(crate) fn remember(&self, command_id: &SmolStr, outcome: Outcome) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.outcomes.insert(command_id.clone(), outcome).is_none() {
            recent.order.push_back(command_id.clone());
            if recent.order.len() > RECENT_MAX
                && let Some(oldest) = recent.order.pop_front()
            {
                recent.outcomes.remove(&oldest);
            }
        }
    }

    fn recall(&self, command_id: &SmolStr) -> Option<Outcome> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).outcomes.get(command_id).cloned()
    }
}

// === impl PartLedger ===

impl PartLedger {
    /// A ledger that keeps nothing, for a channel whose send may be repeated freely, and for tests.
    #[must_use]
    pub fn volatile() -> Self {
        Self { entries: None, key: String::new(), revision: 0, entry: Entry::default() }
    }

    /// What is known of the command.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Says that a part is about to be handed to the provider, durably.
    ///
    /// # Errors
    /// Retryable, when the ledger cannot be written or another process has the command.
    pub async fn begin(&mut self, part: u32) -> Result<Begin, SendFailure> {
        match self.entry.parts.get(&part) {
            Some(PartState::Sent { external_ids }) => return Ok(Begin::Sent { external_ids: external_ids.clone() }),
            Some(PartState::Pending | PartState::Unknown) => return Ok(Begin::Interrupted),
            Some(PartState::Failed) | None => {}
        }
        self.entry.parts.insert(part, PartState::Pending);
        match self.write().await {
            Ok(()) => Ok(Begin::Fresh),
            Err(error) => {
                self.entry.parts.remove(&part);
                Err(SendFailure::retryable("ledger", format!("the send ledger cannot be written: {:?}", error.kind)))
            }
        }
    }

    /// Says that a part was sent. The write is tried several times; when all fail, this process still
    /// remembers, and only a crash in the next moments would make the part count as interrupted.
    pub async fn sent(&mut self, part: u32, external_ids: Vec<SmolStr>) {
        self.entry.parts.insert(part, PartState::Sent { external_ids });
        self.write_stubbornly().await;
    }

    /// The provider's ids of everything that was sent so far.
    #[must_use]
    pub fn external_ids(&self) -> Vec<SmolStr> {
        let ids = self.entry.parts.values().filter_map(|state| match state {
            PartState::Sent { external_ids } => Some(external_ids),
            _ => None,
        });
        ids.flatten().cloned().collect()
    }

    /// The part that was begun and has no outcome.
    pub(crate) fn pending_part(&self) -> Option<u32> {
        self.entry.parts.iter().find(|(_, state)| **state == PartState::Pending).map(|(part, _)| *part)
    }

    /// A try failed in a way that says that the pending part was not sent: the next try begins it anew,
    /// after `wait`.
    pub(crate) async fn try_failed(&mut self, wait: Duration) {
        self.entry.parts.retain(|_, state| *state != PartState::Pending);
        self.entry.tries += 1;
        self.entry.not_before = Some(clock::now() + millis(wait));
        self.write_stubbornly().await;
    }

    /// The command ended.
    pub(crate) async fn finish(&mut self, outcome: Outcome) {
        let state = match outcome.status {
            ReceiptStatus::Failed => PartState::Failed,
            _ => PartState::Unknown,
        };
        for pending in self.entry.parts.values_mut().filter(|state| **state == PartState::Pending) {
            *pending = state.clone();
        }
        self.entry.outcome = Some(outcome);
        self.write_stubbornly().await;
    }

    async fn write_stubbornly(&mut self) {
        for wait_ms in [100, 500, 2000, 0] {
            match self.write().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(key = %self.key, kind = ?error.kind, "the send ledger cannot be written");
                    if matches!(error.kind, ErrorKind::Fenced(_)) {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    async fn write(&mut self) -> Result<(), bus::Error> {
        self.entry.updated_at = clock::now();
        let Some(entries) = &self.entries else { return Ok(()) };
        let value = serde_json::to_vec(&self.entry)
            .map_err(|error| bus::Error { kind: ErrorKind::Other, source: error.into() })?;
        let value = Bytes::from(value);
        let error = match entries.write(&self.key, value.clone(), self.revision).await {
            Ok(revision) => {
                self.revision = revision;
                return Ok(());
            }
            Err(error) => error,
        };
        // It may have been written all the same, now or the last time: then what stands there is ours.
        if !matches!(error.kind, ErrorKind::Ambiguous | ErrorKind::Fenced(_)) {
            return Err(error);
        }
        let Ok(Some((found, revision))) = entries.read(&self.key).await else { return Err(error) };
        if found == value {
            self.revision = revision;
            return Ok(());
        }
        let hand = Encoding::Json.decode::<Entry>(&found, ENTRY_BYTES_MAX).map_or(0, |entry| entry.hand);
        if hand == 0 || hand != self.entry.hand || revision == self.revision {
            return Err(error);
        }
        self.revision = entries.write(&self.key, value, revision).await?;
        Ok(())
    }
}

pub(crate) fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

impl std::fmt::Debug for PartLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartLedger").field("key", &self.key).field("entry", &self.entry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
