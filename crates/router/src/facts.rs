//! Facts into `EVENTS`: each exactly once, in order on its subject, and in few messages.
//!
//! A message costs the server the same whether it holds one fact or twenty, and a sync of the disk where
//! every message is synced. So facts of one subject that wait share a message, and what makes them wait is
//! a pace: the writer stores a few messages, rests for several times as long as that took, and goes on. At
//! light load nothing waits and a fact is stored at once; under load the disk and the server belong to
//! `IN` and the journal, which customers wait for. The pace gives way when somebody waits for the facts,
//! when many wait, or when they grow old.
//!
//! A message carries the sequence that its subject must have before it, so neither a retry nor an owner
//! that was deposed and does not know it can store a fact twice or out of order. Whoever is refused looks
//! at the newest message, drops what is stored, and groups the rest anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, ErrorKind as BusKind, Expect, PendingAck, Publish};
use bytes::Bytes;
use contract::event::join_events;
use contract::journal::Position;
use contract::limits::{EVENTS_BYTES_MAX, EVENTS_RECORDS_MAX};
use contract::{ConversationId, CustomerId, Encoding, EventRecord, TenantId, subject};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tracing::warn;

use crate::outputs::Pause;
use crate::progress::{HURRIED_FROM, Progress};

/// Header with the position of a message's last fact.
pub(crate) const POSITION: &str = "Tl-Position";
/// Header with the number of facts, when there are several.
pub(crate) const COUNT: &str = "Tl-Count";
/// Header with the type of the facts, when all are of one.
pub(crate) const TYPE: &str = "Tl-Type";
/// Header with the conversation that the facts concern, when all concern the same.
pub(crate) const CONVERSATION: &str = "Tl-Conversation";

/// Messages on their way at once while there is a pace …
const ROUND: usize = 16;
/// … and while there is none.
const ROUND_HURRIED: usize = 256;
/// How much longer the rest is than the round before it: what is left of the disk is for others.
const REST_FACTOR: u32 = 4;
/// The least rest for each message of a round, so that a fast disk is not a reason to store every fact
/// alone.
const REST_PER_MESSAGE: Duration = Duration::from_micros(500);
/// No rest is longer.
const REST_MAX: Duration = Duration::from_millis(500);
/// Facts that have waited this long are not held back any more.
const AGE_MAX: Duration = Duration::from_secs(2);
/// Subjects that are looked up at once.
const LOOK_UPS_MAX: usize = 64;
/// Subjects whose newest sequence is remembered; forgetting one costs a round trip.
const SUBJECTS_MAX: usize = 200_000;

/// A fact to store.
pub(crate) struct Fact {
    key: Key,
    position: Position,
    name: &'static str,
    conversation: Option<ConversationId>,
    /// In MessagePack.
    encoded: Bytes,
}

/// What makes up a subject of `EVENTS`.
type Key = (TenantId, &'static str, Option<CustomerId>);

impl Fact {
    pub(crate) fn new(record: &EventRecord, encoded: Bytes) -> Self {
        Self {
            key: (record.tenant.clone(), record.event.noun(), record.customer),
            position: record.position,
            name: record.event.name(),
            conversation: record.conversation,
            encoded,
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.encoded.len()
    }
}

/// How far a subject is: the sequence of its newest message, and the position of that one's last fact when
/// it is of this shard's journal.
#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    seq: u64,
    position: Option<Position>,
}

/// A subject.
struct Lane {
    subject: String,
    newest: Newest,
    /// Something went wrong: the subject itself has to say how far it is before more is stored.
    unsure: bool,
    /// Facts that are not stored yet, with the time they came. The first ones may be on their way.
    waiting: VecDeque<(Fact, Instant)>,
}

/// A message on its way.
struct Flight {
    key: Key,
    /// How many of its lane's facts it holds.
    count: usize,
    position: Position,
    ack: PendingAck,
}

/// Writes the facts of a shard.
pub(crate) struct Facts {
    bus: Bus,
    shard: u16,
    progress: Arc<Progress>,
    lanes: HashMap<Key, Lane>,
    /// The lanes that have something to store, the one that has waited longest first.
    ready: VecDeque<Key>,
    /// What to wait when nothing can be stored.
    pause: Pause,
}

impl Facts {
    pub(crate) fn new(bus: Bus, shard: u16, progress: Arc<Progress>) -> Self {
        Self { bus, shard, progress, lanes: HashMap::new(), ready: VecDeque::new(), pause: Pause::new() }
    }

    /// Stores what comes, until nothing comes any more and everything is stored.
    pub(crate) async fn run(mut self, mut receiver: mpsc::Receiver<Vec<Fact>>) {
        loop {
            while let Ok(facts) = receiver.try_recv() {
                self.take(facts);
            }
            if self.ready.is_empty() {
                match receiver.recv().await {
                    Some(facts) => self.take(facts),
                    None => return,
                }
                continue;
            }
            let hurried = self.progress.is_hurried();
            let began = Instant::now();
            let stored = self.round(if hurried { ROUND_HURRIED } else { ROUND }).await;
            if let (false, Some(stored)) = (hurried, stored) {
                let rest = self.rest(began.elapsed(), stored);
                self.progress.rest(rest).await;
            }
        }
    }

    fn take(&mut self, facts: Vec<Fact>) {
        if self.lanes.len() >= SUBJECTS_MAX {
            self.lanes.retain(|_, lane| !lane.waiting.is_empty());
        }
        let came = Instant::now();
        for fact in facts {
            let lane = match self.lanes.get_mut(&fact.key) {
                Some(lane) => lane,
                None => self.lanes.entry(fact.key.clone()).or_insert_with_key(Lane::new),
            };
            if lane.waiting.is_empty() {
                self.ready.push_back(fact.key.clone());
            }
            lane.waiting.push_back((fact, came));
        }
    }

    /// How long to leave the server to others after a round.
    fn rest(&self, took: Duration, stored: usize) -> Duration {
        let least = REST_PER_MESSAGE * u32::try_from(stored).unwrap_or(u32::MAX);
        let rest = (took * REST_FACTOR).max(least).min(REST_MAX);
        let oldest = self.ready.front().and_then(|key| self.lanes.get(key)?.waiting.front());
        let age = oldest.map_or(0.0, |(_, came)| came.elapsed().as_secs_f64() / AGE_MAX.as_secs_f64());
        // Less and less the fuller the queue and the older what waits, so that it settles in between.
        let pressure = age.max(self.progress.fullness() / HURRIED_FROM);
        rest.mul_f64((1.0 - pressure).clamp(0.0, 1.0))
    }

    /// Stores one message of each of the first lanes; returns how many were tried, or `None` when something
    /// could not be done and was waited for already.
    async fn round(&mut self, most: usize) -> Option<usize> {
        let mut keys: Vec<Key> = self.ready.drain(..most.min(self.ready.len())).collect();
        let mut failed = self.look_up(&mut keys).await;
        let (mut flying, mut again) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            let Some(lane) = self.lanes.get(&key) else { continue };
            let (written, newest) = (lane.written(), lane.newest);
            if written > 0 && !self.stored(&key, written, newest) {
                continue;
            }
            let Some((publish, count, position)) = self.lanes.get(&key).and_then(Lane::message) else { continue };
            match self.bus.publish_start(publish).await {
                Ok(ack) => flying.push(Flight { key, count, position, ack }),
                Err(error) => {
                    failed = Some(error);
                    again.push(key);
                }
            }
        }
        let tried = flying.len();
        for Flight { key, count, position, ack } in flying {
            match ack.await {
                Ok(ack) => {
                    let newest = Newest { seq: ack.seq, position: Some(position) };
                    if self.stored(&key, count, newest) {
                        self.ready.push_back(key);
                    }
                }
                Err(error) => {
                    if !matches!(error.kind, BusKind::Fenced(_)) {
                        failed = Some(error);
                    }
                    again.push(key);
                }
            }
        }
        for key in again.into_iter().rev() {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.unsure = true;
            }
            self.ready.push_front(key);
        }
        let failed = self.wait_after(failed).await;
        (!failed).then_some(tried)
    }

    /// The first facts of a lane are stored, and its subject is so far. Returns whether more wait.
    fn stored(&mut self, key: &Key, count: usize, newest: Newest) -> bool {
        let Some(lane) = self.lanes.get_mut(key) else { return false };
        lane.newest = newest;
        lane.unsure = false;
        self.progress.stored(lane.waiting.drain(..count).map(|(fact, _)| (fact.position.seq, fact.bytes())));
        if lane.waiting.is_empty() {
            // Most lanes have nothing for long, and there are many.
            lane.waiting = VecDeque::new();
        }
        !lane.waiting.is_empty()
    }

    /// Finds out how far the subjects are of which we are not sure. Returns why that of some cannot be said
    /// now; they are taken out of `keys` and wait on.
    async fn look_up(&mut self, keys: &mut Vec<Key>) -> Option<bus::Error> {
        let unsure = keys.iter().filter_map(|key| {
            let lane = self.lanes.get(key).filter(|lane| lane.unsure)?;
            let (key, bus, subject) = (key.clone(), self.bus.clone(), lane.subject.clone());
            Some(async move { (key, bus.last(bus::topology::EVENTS, &subject).await) })
        });
        // Collected first: what borrows the lanes must be gone before they change.
        let unsure: Vec<_> = unsure.collect();
        if unsure.is_empty() {
            return None;
        }
        let found: Vec<_> = futures_util::stream::iter(unsure).buffer_unordered(LOOK_UPS_MAX).collect().await;
        let mut failed = None;
        for (key, newest) in found {
            match (newest, self.lanes.get_mut(&key)) {
                (Ok(newest), Some(lane)) => {
                    let position = newest.as_ref().and_then(|stored| stored.headers.get(POSITION)?.parse().ok());
                    let position = position.filter(|position: &Position| position.shard == self.shard);
                    lane.newest = Newest { seq: newest.map_or(0, |stored| stored.seq), position };
                    lane.unsure = false;
                }
                (Err(error), _) => {
                    failed = Some(error);
                    keys.retain(|other| *other != key);
                    self.ready.push_front(key);
                }
                (Ok(_), None) => {}
            }
        }
        failed
    }

    /// Waits after something could not be done, longer each time in a row. Returns whether it did.
    async fn wait_after(&mut self, failed: Option<bus::Error>) -> bool {
        let Some(error) = failed else {
            self.pause = Pause::new();
            return false;
        };
        if self.pause.is_long() {
            warn!(shard = self.shard, %error, "facts are not acknowledged; looking for them and trying again");
        }
        self.pause.wait().await;
        true
    }
}

impl Lane {
    fn new((tenant, noun, customer): &Key) -> Self {
        let subject = subject::event(tenant, noun, *customer);
        Self { subject, newest: Newest::default(), unsure: false, waiting: VecDeque::new() }
    }

    /// How many of the first facts are stored: somebody who led after us has written on, so what we still
    /// have is there, or is theirs to write.
    fn written(&self) -> usize {
        let newest = self.newest.position;
        self.waiting.iter().take_while(|(fact, _)| newest.is_some_and(|newest| newest >= fact.position)).count()
    }

    /// The first facts that fit into one message, their number, and the position of the last of them.
    fn message(&self) -> Option<(Publish, usize, Position)> {
        let mut bytes = 0;
        let facts = self.waiting.iter().map(|(fact, _)| fact).take(EVENTS_RECORDS_MAX);
        let facts: Vec<&Fact> = facts
            .take_while(|fact| {
                // Room for the array's header, too.
                let first = bytes == 0;
                bytes += fact.bytes();
                first || bytes + 3 <= EVENTS_BYTES_MAX
            })
            .collect();
        let (first, last) = (facts.first()?, facts.last()?);
        let payload = match facts.len() {
            1 => first.encoded.clone(),
            _ => {
                let encoded: Vec<&Bytes> = facts.iter().map(|fact| &fact.encoded).collect();
                join_events(&encoded, Encoding::MsgPack).ok()?.into()
            }
        };
        let mut headers = vec![(POSITION, last.position.to_string())];
        if facts.len() > 1 {
            headers.push((COUNT, facts.len().to_string()));
        }
        if facts.iter().all(|fact| fact.name == first.name) {
            headers.push((TYPE, first.name.to_owned()));
        }
        if let Some(conversation) = first.conversation
            && facts.iter().all(|fact| fact.conversation == Some(conversation))
        {
            headers.push((CONVERSATION, conversation.to_string()));
        }
        let publish = Publish {
            subject: self.subject.clone(),
            payload,
            content_type: Some(Encoding::MsgPack.content_type()),
            headers,
            expect: Some(Expect { subject: self.subject.clone(), seq: self.newest.seq }),
            ..Publish::default()
        };
        Some((publish, facts.len(), last.position))
    }
}
