//! Keeps the parts of texts on the bus until they are whole, so that nothing is lost with this program.
//!
//! A part is answered for once it is kept. The names of the groups that wait are kept in one value beside them: whoever
//! starts goes on with those.

use std::collections::BTreeMap;
use std::time::Duration;

use adapter::bus::{self, ErrorKind};
use adapter::contract::{Millis, Timestamp};
use adapter::{AcceptError, Context};

use super::normal;
use super::parts::{Fit, Group, Piece, Stage};
use super::words::Words;
use crate::found::{Found, Place};

/// The names of the groups that wait, with the time of their first parts.
const INDEX: &str = "sms.groups";
/// Most groups that wait: what fits into one value. Whatever comes beyond is left to the provider for a while.
const GROUPS_MAX: usize = 1000;
/// How often a write that another was faster than is tried again.
const TRIES_MAX: usize = 16;

/// Why a part is not kept: the provider is to send it again.
#[derive(Debug)]
pub(crate) enum Unkept {
    /// The bus does not answer.
    Bus(ErrorKind),
    /// It does not store the message.
    Store(AcceptError),
    /// There is too much of it.
    Busy,
}

impl From<bus::Error> for Unkept {
    fn from(error: bus::Error) -> Self {
        Self::Bus(error.kind)
    }
}

impl std::fmt::Display for Unkept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bus(kind) => write!(f, "the bus: {kind:?}"),
            Self::Store(error) => write!(f, "the message: {error}"),
            Self::Busy => f.write_str("too many parts at once"),
        }
    }
}

/// The groups of one account.
pub(crate) struct Keeper {
    context: Context,
    place: Place,
    words: Words,
    /// How long parts are awaited.
    wait: Millis,
}

fn name(group: &str) -> String {
    format!("sms.group/{group}")
}

impl Keeper {
    /// Of an account.
    pub(crate) fn new(context: Context, place: Place, words: Words, wait: Duration) -> Self {
        let wait = Millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Self { context, place, words, wait }
    }

    /// Keeps a part, and stores the message that it completes.
    ///
    /// # Errors
    /// When it is not kept, or the message not stored: the part is to come again.
    pub(crate) async fn take(&self, piece: &Piece, now: Timestamp) -> Result<(), Unkept> {
        let id = piece.group();
        for _ in 0..TRIES_MAX {
            let held = self.context.memory.get::<Group>(&name(&id)).await?;
            let (group, fit) = match held.value {
                None => (Group::begin(piece, now), Fit::Waits),
                Some(mut group) => {
                    let fit = group.put(piece);
                    (group, fit)
                }
            };
            let group = match fit {
                // It is whole, or one before it did not come to its end.
                Fit::Known if group.stage == Stage::Closed => return self.settle(&id, now).await,
                Fit::Known => return Ok(()),
                // Whatever waited under this name is done with first.
                Fit::Other if group.stage == Stage::Stored => Group::begin(piece, now),
                Fit::Other => {
                    self.settle(&id, now).await?;
                    continue;
                }
                Fit::Waits | Fit::Whole => group,
            };
            self.note(&id, group.since).await?;
            match self.context.memory.update(&name(&id), &group, held.revision).await {
                Ok(_) if group.stage == Stage::Closed => return self.settle(&id, now).await,
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.kind, ErrorKind::Fenced(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Unkept::Busy)
    }

    /// Closes a group, makes a message of it, and forgets that it waits.
    async fn settle(&self, id: &str, now: Timestamp) -> Result<(), Unkept> {
        for _ in 0..TRIES_MAX {
            let held = self.context.memory.get::<Group>(&name(id)).await?;
            let mut group = match held.value {
                None => return self.forget(id, None).await,
                Some(group) if group.stage == Stage::Stored => return self.forget(id, Some(group.since)).await,
                Some(group) => group,
            };
            let was = group.stage;
            if was == Stage::Closed {
                self.store(&group, now).await?;
            }
            group.stage = if was == Stage::Open { Stage::Closed } else { Stage::Stored };
            match self.context.memory.update(&name(id), &group, held.revision).await {
                Ok(_) => {}
                Err(error) if matches!(error.kind, ErrorKind::Fenced(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Unkept::Busy)
    }

    async fn store(&self, group: &Group, now: Timestamp) -> Result<(), Unkept> {
        let Some(text) = group.text() else { return Ok(()) };
        for found in normal::incoming(&self.place, &self.words, text, now, 0) {
            let Found::Event(event) = found else {
                tracing::error!(channel.account = %self.place.account.id, "a text in parts breaks the bounds of the contract");
                continue;
            };
            match self.context.inbound.accept(&event.envelope).await {
                Ok(_) => {}
                Err(error) if error.is_retryable() => return Err(Unkept::Store(error)),
                Err(error) => {
                    tracing::error!(channel.account = %self.place.account.id, %error, "a text in parts is refused");
                }
            }
        }
        Ok(())
    }

    /// Notes that a group waits since then.
    async fn note(&self, id: &str, since: Timestamp) -> Result<(), Unkept> {
        self.change(|index| match index.get(id) {
            Some(noted) if *noted == since => Ok(false),
            None if index.len() >= GROUPS_MAX => Err(Unkept::Busy),
            _ => Ok(index.insert(id.to_owned(), since) != Some(since)),
        })
        .await
    }

    /// Notes that it waits no longer, unless another one has begun under its name.
    async fn forget(&self, id: &str, since: Option<Timestamp>) -> Result<(), Unkept> {
        self.change(|index| match index.get(id) {
            Some(noted) if since.is_none_or(|since| since == *noted) => Ok(index.remove(id).is_some()),
            _ => Ok(false),
        })
        .await
    }

    /// Changes the names of the groups that wait, where there is anything to change.
    async fn change(
        &self,
        change: impl Fn(&mut BTreeMap<String, Timestamp>) -> Result<bool, Unkept>,
    ) -> Result<(), Unkept> {
        for _ in 0..TRIES_MAX {
            let held = self.context.memory.get::<BTreeMap<String, Timestamp>>(INDEX).await?;
            let mut index = held.value.unwrap_or_default();
            if !change(&mut index)? {
                return Ok(());
            }
            match self.context.memory.update(INDEX, &index, held.revision).await {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.kind, ErrorKind::Fenced(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Unkept::Busy)
    }

    /// Makes messages of the groups that have waited long enough, or were left in the middle.
    ///
    /// # Errors
    /// When the bus does not answer; they are there at the next time.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<(), Unkept> {
        let held = self.context.memory.get::<BTreeMap<String, Timestamp>>(INDEX).await?;
        for (id, noted) in held.value.unwrap_or_default() {
            let group = self.context.memory.get::<Group>(&name(&id)).await?.value;
            let due = |since: Timestamp| now.since(since) >= self.wait;
            let ready = match &group {
                Some(group) => group.stage != Stage::Open || due(group.since),
                // Its first part is being kept this moment, or never was.
                None => due(noted),
            };
            if ready {
                self.settle(&id, now).await?;
            }
        }
        Ok(())
    }

    /// How often to look.
    pub(crate) fn pace(&self) -> Duration {
        Duration::from_millis((self.wait.0 / 4).clamp(500, 15_000))
    }
}
