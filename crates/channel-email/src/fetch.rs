//! The receiving half: looks into every folder, again and again, and waits in between.

use std::sync::Arc;
use std::time::Duration;

use adapter::backoff::Backoff;
use adapter::bus::ErrorKind;
use adapter::health::State;
use adapter::runtime::secret::SecretString;
use rustls::ClientConfig;

use crate::cursor::{Plan, Position, imap_date};
use crate::imap::{ImapFailure, Listed, Login, Mailbox};
use crate::intake::{Halt, Intake};
use crate::oauth;
use crate::settings::Imap;
use crate::telemetry::Metric;

const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(120) };
/// Most UIDs of one batch; the cursor is written after each.
const BATCH_MAX: u32 = 500;
/// A longer stretch is searched for the UIDs that exist, since numbers have holes.
const STRETCH_MAX: u32 = 2000;
/// Most mails and bytes that are fetched with one command.
const TOGETHER_MAX: usize = 25;
const TOGETHER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of a mail that is too large is read.
const BEGINNING_BYTES: usize = 256 * 1024;
/// A mail that could not be fetched so often is passed over, if those around it can be.
const MISSES_MAX: u32 = 3;

/// Fetches the mail of one account.
pub(crate) struct Fetcher {
    pub(crate) intake: Arc<Intake>,
    pub(crate) settings: Imap,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) password: Option<SecretString>,
    pub(crate) tokens: Option<Arc<oauth::Tokens>>,
    pub(crate) mail_bytes_max: usize,
}

/// Why a look ended early.
enum Stop {
    Mailbox(ImapFailure),
    Bus(String),
    /// Others go first: the mail waits in its mailbox.
    Behind(String),
    /// Another process reads the folder and was faster; begin anew.
    Overtaken,
}

impl From<ImapFailure> for Stop {
    fn from(failure: ImapFailure) -> Self {
        Self::Mailbox(failure)
    }
}

impl From<Halt> for Stop {
    fn from(Halt(why): Halt) -> Self {
        Self::Bus(why)
    }
}

/// Mails whose fetch broke the connection.
#[derive(Default)]
struct Misses {
    place: Option<(String, u32)>,
    count: u32,
}

impl Fetcher {
    /// Fetches until the drain begins. Trouble is told and tried again; it never ends this.
    pub(crate) async fn run(&self) {
        let context = &self.intake.context;
        let mut tries = 0;
        let mut misses = Misses::default();
        let mut locked_out = false;
        while !context.shutdown.is_draining() {
            let mut looked = false;
            let failure = tokio::select! {
                failure = self.connection(&mut looked, &mut misses) => failure,
                () = context.shutdown.draining() => return,
            };
            // Trouble after a good look is new trouble.
            tries = if looked { 0 } else { tries + 1 };
            locked_out &= !looked;
            let (why, wait, state) = match failure {
                Stop::Mailbox(failure) => {
                    Metric::Reconnects.count(if failure.auth { "auth" } else { "mailbox" });
                    let why = format!("mailbox: {failure}");
                    // Once for all the tries until it works again. It is tried on: whoever mends it is not here.
                    if failure.auth && !locked_out {
                        locked_out = true;
                        self.intake.auth_failed(&why).await;
                    }
                    let state = if failure.auth { State::Down } else { State::Degraded };
                    (why, BACKOFF.wait(tries), state)
                }
                Stop::Bus(why) => {
                    Metric::Reconnects.count("bus");
                    (why, BACKOFF.wait(tries), State::Degraded)
                }
                Stop::Behind(why) => {
                    Metric::Reconnects.count("behind");
                    (why, BACKOFF.wait(tries), State::Degraded)
                }
                Stop::Overtaken => continue,
            };
            tracing::warn!(channel.account = %context.account.id, why, tries, "the mailbox is not being read");
            context.health.set(state, Some(why));
            // Whichever comes first.
            let _ = tokio::time::timeout(wait, context.shutdown.draining()).await;
        }
    }

    async fn open(&self) -> Result<Mailbox, ImapFailure> {
        let Some(tokens) = &self.tokens else {
            let password = self.password.as_ref().map_or("", SecretString::expose);
            return Mailbox::open(&self.settings, self.tls.as_ref(), Login::Password(password)).await;
        };
        let token = tokens.get(None).await?;
        match Mailbox::open(&self.settings, self.tls.as_ref(), Login::Token(&token)).await {
            // It may have been withdrawn before its time.
            Err(failure) if failure.auth => {
                let token = tokens.get(Some(&token)).await?;
                Mailbox::open(&self.settings, self.tls.as_ref(), Login::Token(&token)).await
            }
            opened => opened,
        }
    }

    /// One connection until it fails.
    async fn connection(&self, looked: &mut bool, misses: &mut Misses) -> Stop {
        let mut mailbox = match self.open().await {
            Ok(mailbox) => mailbox,
            Err(failure) => return Stop::Mailbox(failure),
        };
        loop {
            // The folder that is waited in comes last, so that it is the one that is open.
            let folders = self.settings.folders.iter().skip(1).map(|folder| (folder, false));
            let sent = self.settings.sent_folder.iter().map(|folder| (folder, true));
            let first = self.settings.folders.first().map(|folder| (folder, false));
            for (folder, only_ids) in folders.chain(sent).chain(first) {
                loop {
                    match self.look(&mut mailbox, folder, only_ids, misses).await {
                        Ok(()) => break,
                        Err(Stop::Overtaken) => {
                            tokio::time::sleep(BACKOFF.wait(0)).await;
                        }
                        Err(stop) => {
                            if matches!(stop, Stop::Bus(_) | Stop::Behind(_)) {
                                mailbox.close().await;
                            }
                            return stop;
                        }
                    }
                }
            }
            *looked = true;
            *misses = Misses::default();
            self.intake.context.health.set(State::Up, None);
            let poll = Duration::from_secs(self.settings.poll_seconds);
            if self.settings.idle && mailbox.idles() {
                let limit = poll.min(Duration::from_secs(self.settings.idle_seconds_max));
                mailbox = match mailbox.wait(limit).await {
                    Ok(mailbox) => mailbox,
                    Err(failure) => return Stop::Mailbox(failure),
                };
            } else {
                tokio::time::sleep(poll).await;
            }
        }
    }

    /// Reads what is new in a folder.
    async fn look(&self, mailbox: &mut Mailbox, name: &str, only_ids: bool, misses: &mut Misses) -> Result<(), Stop> {
        let folder = mailbox.examine(name).await?;
        let held = self.intake.context.cursors.get::<Position>(name).await;
        let held = held.map_err(|error| Stop::Bus(format!("the bus: {}", error.kind)))?;
        let now = adapter::now();
        let Plan { mut position, anew } = Plan::new(held.value, folder, self.settings.first_run, now);
        let mut revision = held.revision;
        let mut written = held.value;
        if anew {
            Metric::Rescans.count("folder");
            tracing::warn!(channel.account = %self.intake.context.account.id, "a folder's numbers began anew; what was taken is known by its content");
        }
        while position.uid_next < folder.uid_next {
            let last = folder.uid_next - 1;
            let batch = self.batch(mailbox, position, last).await?;
            self.take_batch(mailbox, name, &batch.mails, only_ids, misses).await?;
            position = position.read_to(batch.up_to);
            revision = self.write(name, position, revision).await?;
            written = Some(position);
        }
        position = position.caught_up(adapter::now());
        if written.is_none_or(|before| position.is_noteworthy(before)) {
            self.write(name, position, revision).await?;
        }
        Ok(())
    }

    async fn write(&self, name: &str, position: Position, revision: u64) -> Result<u64, Stop> {
        let written = self.intake.context.cursors.update(name, &position, revision).await;
        written.map_err(|error| match error.kind {
            ErrorKind::Fenced(_) => Stop::Overtaken,
            kind => Stop::Bus(format!("the cursor is not written: {kind}")),
        })
    }

    /// The next mails to read, and the UID up to which that is everything.
    async fn batch(&self, mailbox: &mut Mailbox, position: Position, last: u32) -> Result<Batch, Stop> {
        let first = position.uid_next;
        let (first, end) = if last - first >= STRETCH_MAX || position.since.is_some() {
            let since = position.since.map(imap_date);
            let uids = mailbox.search(first, last, since.as_deref()).await?;
            let Some(found) = uids.first() else {
                return Ok(Batch { mails: Vec::new(), up_to: last.saturating_add(1) });
            };
            let nth = uids.get(BATCH_MAX as usize - 1).or(uids.last()).unwrap_or(found);
            (*found, *nth)
        } else {
            (first, last.min(first.saturating_add(BATCH_MAX - 1)))
        };
        // Never open-ended: servers answer that with their last mail, new or not.
        let mut mails = Vec::new();
        let mut at = first;
        while at <= end {
            let upper = end.min(at.saturating_add(STRETCH_MAX * 50));
            mails.extend(mailbox.list_range(at, upper).await?);
            at = upper.saturating_add(1);
            if at == u32::MAX {
                break;
            }
        }
        mails.retain(|mail| position.takes(mail.arrived_at));
        Ok(Batch { mails, up_to: end.saturating_add(1) })
    }

    async fn take_batch(
        &self,
        mailbox: &mut Mailbox,
        folder: &str,
        mails: &[Listed],
        only_ids: bool,
        misses: &mut Misses,
    ) -> Result<(), Stop> {
        let mut rest = mails;
        while let Some(first) = rest.first() {
            let (mut count, mut bytes) = (0, 0);
            for mail in rest {
                bytes += mail.bytes;
                if count > 0
                    && (count >= TOGETHER_MAX || bytes > TOGETHER_BYTES_MAX || mail.bytes > self.mail_bytes_max)
                {
                    break;
                }
                count += 1;
                if mail.bytes > self.mail_bytes_max || misses.is(folder, first.uid) {
                    break;
                }
            }
            if let Some(why) = self.intake.context.history.bulk_waits().await {
                return Err(Stop::Behind(why));
            }
            let (together, behind) = rest.split_at(count);
            self.take_some(mailbox, folder, together, only_ids, misses).await?;
            rest = behind;
            if self.intake.context.shutdown.is_draining() {
                return Err(Stop::Bus("shutting down".to_owned()));
            }
        }
        Ok(())
    }

    async fn take_some(
        &self,
        mailbox: &mut Mailbox,
        folder: &str,
        mails: &[Listed],
        only_ids: bool,
        misses: &mut Misses,
    ) -> Result<(), Stop> {
        let Some(first) = mails.first() else { return Ok(()) };
        let uids: Vec<u32> = mails.iter().map(|mail| mail.uid).collect();
        let large = mails.iter().any(|mail| mail.bytes > self.mail_bytes_max);
        if misses.is(folder, first.uid) && misses.count >= MISSES_MAX {
            // Those before and behind it can be fetched; this one breaks every connection.
            let why = format!("the mail with UID {} of folder {folder} cannot be fetched", first.uid);
            tracing::error!(why, "a mail is passed over");
            let name = format!("{folder}\u{0}{}", first.uid);
            self.intake.park(&name.into_bytes().into(), &why, adapter::now()).await?;
            *misses = Misses::default();
            return Ok(());
        }
        let read = match mailbox.read(&uids, large.then_some(BEGINNING_BYTES)).await {
            Ok(read) => read,
            Err(failure) => {
                misses.note(folder, first.uid);
                return Err(failure.into());
            }
        };
        for (uid, raw) in read {
            let bytes = mails.iter().find(|mail| mail.uid == uid).map_or(0, |mail| mail.bytes);
            let full = if large { bytes.max(raw.len()) } else { raw.len() };
            self.intake.take(raw.into(), full, only_ids).await?;
        }
        // What was listed and not given was deleted in between.
        mailbox.noop().await?;
        Ok(())
    }
}

struct Batch {
    mails: Vec<Listed>,
    up_to: u32,
}

impl Misses {
    fn is(&self, folder: &str, uid: u32) -> bool {
        self.place.as_ref().is_some_and(|(name, missed)| name == folder && *missed == uid)
    }

    fn note(&mut self, folder: &str, uid: u32) {
        if self.is(folder, uid) {
            self.count += 1;
        } else {
            *self = Self { place: Some((folder.to_owned(), uid)), count: 1 };
        }
    }
}
