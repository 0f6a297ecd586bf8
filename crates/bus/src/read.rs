//! Reading a stream: for ever in order, or what is there now.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::metric::Metric;
use crate::push::{Begin, Item, Push};
use crate::{Bus, Error, ErrorKind, Stored};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often a scan is begun again before it gives up.
const SCAN_ATTEMPTS: usize = 5;

/// Doubles a pause.
pub(crate) fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(BACKOFF_MIN, BACKOFF_MAX)
}

type Opening = Pin<Box<dyn Future<Output = Result<Push, Error>> + Send>>;
type Checking = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Reads a stream in order, for ever; see [`Bus::read`].
pub struct Reader {
    bus: Bus,
    stream: String,
    filter: Option<String>,
    /// The lowest sequence not yet returned; 0: wherever the stream begins.
    next: u64,
    push: Option<Push>,
    /// Kept across calls, or a caller that polls in short turns would never get it done.
    opening: Option<Opening>,
    /// A message after a gap in the sequences, while it is found out whether something was purged.
    held: Option<(Stored, Checking)>,
    backoff: Duration,
}

/// Refuses a start where messages the reader never saw are gone.
async fn check(bus: Bus, stream: String, next: u64) -> Result<(), Error> {
    if next == 0 {
        return Ok(());
    }
    let state = bus.stream_state(&stream).await?;
    if state.first > next && state.last >= next {
        let text = format!("stream {stream} begins at {}, wanted was {next}", state.first);
        return Err(Error::new(ErrorKind::Purged, text));
    }
    if next > state.last + 1 {
        let text = format!("stream {stream} ends at {}, wanted was {next}: it is another, or lost its end", state.last);
        return Err(Error::new(ErrorKind::Purged, text));
    }
    Ok(())
}

async fn open(bus: Bus, stream: String, filter: Option<String>, next: u64, pause: Duration) -> Result<Push, Error> {
    tokio::time::sleep(pause).await;
    // First the consumer, then the look at the state: what is purged in between would go unnoticed
    // the other way round. Only a purge below what is read already can then be reported, never missed.
    let push = Push::open(bus.clone(), &stream, filter.as_deref(), Begin::At(next), false).await?;
    check(bus, stream, next).await?;
    Ok(push)
}

impl Reader {
    /// The next message; errors are retried inside with backoff (logged), a gap is impossible.
    /// `Err(ErrorKind::Purged)` when `from` lies before the first message and messages were purged that we never saw.
    ///
    /// Cancel safe: a message is either returned or still there.
    pub async fn next(&mut self) -> Result<Stored, Error> {
        loop {
            if self.held.is_some() {
                if let Some(stored) = self.release().await? {
                    return Ok(stored);
                }
            } else if let Some(push) = &mut self.push {
                let item = push.next().await;
                if let Some(stored) = self.accept(item) {
                    return Ok(stored);
                }
            } else {
                self.reopen().await?;
            }
        }
    }

    /// A message that has arrived already; `None`: nothing is here, or something wants [`next`](Self::next).
    pub fn try_next(&mut self) -> Option<Stored> {
        if self.held.is_some() {
            return None;
        }
        let item = self.push.as_mut()?.try_next()?;
        self.accept(item)
    }

    /// The lowest sequence that was not returned yet.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.next
    }

    fn accept(&mut self, item: Item) -> Option<Stored> {
        match item {
            Item::Message { stored, .. } if stored.seq < self.next => None,
            Item::Message { stored, .. } => {
                self.backoff = Duration::ZERO;
                // A filter leaves out most sequences: then only the check at opening speaks.
                if self.filter.is_none() && self.next > 0 && stored.seq > self.next {
                    let check = check(self.bus.clone(), self.stream.clone(), self.next);
                    self.held = Some((stored, Box::pin(check)));
                    return None;
                }
                self.next = stored.seq + 1;
                Some(stored)
            }
            Item::Lost(reason) => {
                tracing::debug!(stream = self.stream, next = self.next, reason, "reader starts anew");
                Metric::ReaderRestarts.count();
                self.push = None;
                None
            }
        }
    }

    /// Finds out whether the messages before the held one were purged or singly deleted.
    async fn release(&mut self) -> Result<Option<Stored>, Error> {
        let Some((_, check)) = &mut self.held else { return Ok(None) };
        let checked = check.as_mut().await;
        let held = self.held.take();
        match checked {
            Ok(()) => Ok(held.map(|(stored, _)| {
                self.next = stored.seq + 1;
                stored
            })),
            Err(error) => {
                self.push = None;
                self.retry(error).map(|()| None)
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        let opening = self.opening.get_or_insert_with(|| {
            let (bus, stream, filter) = (self.bus.clone(), self.stream.clone(), self.filter.clone());
            Box::pin(open(bus, stream, filter, self.next, self.backoff))
        });
        let opened = opening.await;
        self.opening = None;
        match opened {
            Ok(push) => {
                self.push = Some(push);
                Ok(())
            }
            Err(error) => self.retry(error),
        }
    }

    /// Errors that no waiting mends go to the caller, the others cost a longer pause.
    fn retry(&mut self, error: Error) -> Result<(), Error> {
        self.backoff = longer(self.backoff);
        if matches!(error.kind, ErrorKind::Purged | ErrorKind::Forbidden | ErrorKind::Config) {
            return Err(error);
        }
        tracing::warn!(stream = self.stream, %error, "reading is interrupted, trying again");
        Ok(())
    }
}

impl Bus {
    /// Reads a stream in order from `from` on (1: the beginning; 0: wherever it begins now), for ever,
    /// over reconnects and server restarts. A push consumer with flow control, so it resumes at once
    /// and holds a bounded number of messages.
    ///
    /// `Purged` when `from` is not 0 and messages from there on are gone; also when the stream ends
    /// before `from - 1`, for then it is not the stream that `from` was learnt from.
    pub async fn read(&self, stream: &str, from: u64, filter: Option<&str>) -> Result<Reader, Error> {
        let filter = filter.map(str::to_owned);
        let push = open(self.clone(), stream.to_owned(), filter.clone(), from, Duration::ZERO).await?;
        Ok(Reader {
            bus: self.clone(),
            stream: stream.to_owned(),
            filter,
            next: from,
            push: Some(push),
            opening: None,
            held: None,
            backoff: Duration::ZERO,
        })
    }

    /// Every stored message on `filter`, to the end as it was at the call; newest `limit` if given.
    /// For history: uses a short-lived consumer and always cleans up.
    ///
    /// The server counts what matches when the consumer is made, so exactly that many are read; with
    /// a limit the older ones are dropped as they come, and memory holds no more than the limit.
    pub async fn collect(&self, stream: &str, filter: &str, limit: Option<usize>) -> Result<Vec<Stored>, Error> {
        self.scan(stream, Some(filter), Begin::At(0), false, limit).await
    }

    pub(crate) async fn scan(
        &self,
        stream: &str,
        filter: Option<&str>,
        begin: Begin,
        headers_only: bool,
        limit: Option<usize>,
    ) -> Result<Vec<Stored>, Error> {
        let mut pause = Duration::ZERO;
        let mut attempt = 1;
        loop {
            let push = Push::open(self.clone(), stream, filter, begin, headers_only).await?;
            match drain(push, limit).await {
                Ok(found) => return Ok(found),
                Err(reason) if attempt == SCAN_ATTEMPTS => {
                    return Err(Error::unavailable(format!("reading from stream {stream}: {reason}")));
                }
                Err(_) => {}
            }
            attempt += 1;
            pause = longer(pause);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Reads to the end as it was when the consumer was opened.
async fn drain(mut push: Push, limit: Option<usize>) -> Result<Vec<Stored>, &'static str> {
    let mut found = VecDeque::new();
    let mut left = push.pending;
    while left > 0 {
        let Ok(item) = tokio::time::timeout(Duration::from_secs(2), push.next()).await else {
            if push.heard_lately() {
                break;
            }
            continue;
        };
        match item {
            Item::Message { stored, pending } => {
                if limit.is_some_and(|limit| found.len() >= limit) {
                    found.pop_front();
                }
                if limit != Some(0) {
                    found.push_back(stored);
                }
                // Messages may be deleted meanwhile: then the end is a message with none behind it, or
                // a heartbeat with nothing before it.
                left = if pending == 0 { 0 } else { left - 1 };
            }
            Item::Lost(reason) => return Err(reason),
        }
    }
    Ok(found.into())
}
