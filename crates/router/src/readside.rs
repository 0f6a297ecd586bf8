//! The key-value side that tools read: written behind the journal, coalesced, each entry with the
//! journal position that it reflects.
//!
//! What changed waits for a moment, since more mostly follows, and is then written a few entries at a time, the one that
//! has waited longest first. So neither the loop that decides nor the server ever has many of them to do at once, however
//! many there are after a takeover.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Kv};
use bytes::Bytes;
use contract::feed::ConversationView;
use contract::token::encode;
use contract::{AgentId, ConversationId, CustomerId, Event, TenantId};
use engine::Emitted;
use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::watch;
use tracing::warn;

use crate::metric::Metric;
use crate::progress::{Hurry, Watch};
use crate::shard::Shard;

/// Puts on their way at once …
const IN_FLIGHT: usize = 16;
/// … and while somebody waits for them.
const IN_FLIGHT_HURRIED: usize = 64;
/// How long an entry waits for more changes.
const SETTLES: Duration = Duration::from_millis(500);
/// Entries that are handed to the writer at a time …
const CHUNK: usize = 64;
/// … and while somebody waits for them.
const CHUNK_HURRIED: usize = 256;
/// How much longer the rest is than the writing of a chunk: what is left of the server is for what customers wait for.
const REST_FACTOR: u32 = 1;
/// No rest is longer.
const REST_MAX: Duration = Duration::from_millis(250);
/// So many entries that wait for their turn are no reason to rest.
const RESTS_UNTIL: usize = 10_000;

/// A value as it lies in a bucket.
#[derive(Serialize)]
struct Entry<'a, T: Serialize> {
    /// The journal record that it reflects.
    seq: u64,
    #[serde(flatten)]
    value: &'a T,
}

/// What has an entry. Small, since after a takeover there may be millions: tenants are numbers here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Conversation(u32, ConversationId),
    Customer(u32, CustomerId),
    Agent(u32, Box<AgentId>),
    Policy(u32),
}

/// What is to be written, in the order in which it changed first. Each thing once at most, so it is never more than there
/// is to read.
#[derive(Default)]
pub(crate) struct Dirty {
    tenants: Vec<TenantId>,
    numbers: BTreeMap<TenantId, u32>,
    /// With the record that changed it first, and when that was.
    queue: VecDeque<(u64, u32, What)>,
    /// What is in the queue, and whether the store may hold an older entry.
    queued: HashMap<What, bool>,
    /// Conversations that are not in the state any more.
    closed: HashMap<(u32, ConversationId), Box<ConversationView>>,
    began: Option<Instant>,
}

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was decided here just now.
    Decided,
    /// Whoever led before decided it, and may have written what it changed.
    Replayed,
}

impl Dirty {
    fn number(&mut self, tenant: &TenantId) -> u32 {
        if let Some(number) = self.numbers.get(tenant) {
            return *number;
        }
        let number = u32::try_from(self.tenants.len()).unwrap_or(u32::MAX);
        self.tenants.push(tenant.clone());
        self.numbers.insert(tenant.clone(), number);
        number
    }

    /// Milliseconds since the first change.
    fn now(&mut self) -> u32 {
        let began = *self.began.get_or_insert_with(Instant::now);
        u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    fn add(&mut self, seq: u64, what: What, replaces: bool) {
        if !self.queued.contains_key(&what) {
            let at = self.now();
            self.queue.push_back((seq, at, what.clone()));
            self.queued.insert(what, replaces);
        }
    }

    /// Notes what a fact of a record changes of what tools read.
    pub(crate) fn note(&mut self, seq: u64, tenant: &TenantId, emitted: &Emitted, origin: Origin) {
        let event = &*emitted.event;
        match event.noun() {
            "conversation" | "offer" => {
                let Some(id) = event.conversation() else { return };
                let of = self.number(tenant);
                match &emitted.reach.closed {
                    Some(view) => drop(self.closed.insert((of, id), Box::new((**view).clone()))),
                    None => drop(self.closed.remove(&(of, id))),
                }
                self.add(seq, What::Conversation(of, id), true);
                for (agent, _) in &emitted.reach.feeds {
                    self.add(seq, What::Agent(of, Box::new(agent.clone())), true);
                }
            }
            // Where it is kept changes nothing of what is known.
            "customer" if !matches!(event, Event::CustomerSignalled { .. }) && !event.is_internal() => {
                let of = self.number(tenant);
                // Whoever is new here has no older entry that would have to be overwritten.
                let replaces = origin == Origin::Replayed || !matches!(event, Event::CustomerCreated { .. });
                if let Some(customer) = event.customer() {
                    self.add(seq, What::Customer(of, customer), replaces);
                }
                match event {
                    Event::CustomerMerged { from, .. } | Event::CustomerSplit { from, .. } => {
                        self.add(seq, What::Customer(of, *from), true);
                    }
                    Event::CustomerErased { customers, .. } => {
                        for customer in customers {
                            self.add(seq, What::Customer(of, *customer), true);
                        }
                    }
                    _ => {}
                }
            }
            "agent" => {
                if let Some(agent) = event.agent() {
                    let of = self.number(tenant);
                    self.add(seq, What::Agent(of, Box::new(agent.clone())), true);
                }
            }
            "policy" => {
                let of = self.number(tenant);
                self.add(seq, What::Policy(of), true);
            }
            _ => {}
        }
    }

    /// Whether something changed of a person that is still to be written.
    pub(crate) fn names(&self, tenant_id: &TenantId, tenant: &crate::tenant::Tenant, person: CustomerId) -> bool {
        let Some(of) = self.numbers.get(tenant_id).filter(|_| !self.queued.is_empty()) else { return false };
        tenant.profile.kin().members(person).any(|one| self.queued.contains_key(&What::Customer(*of, one)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes what has waited longest: the entries, and the record up to which everything is written once they are. `seq`
    /// is the newest record.
    fn take(&mut self, shard: &Shard, seq: u64, most: usize, settled: Duration) -> Flush {
        let now = self.now();
        let settled = u32::try_from(settled.as_millis()).unwrap_or(u32::MAX);
        let mut puts = Vec::new();
        for _ in 0..most {
            let Some((_, _, what)) = self.queue.pop_front_if(|(_, at, _)| now.saturating_sub(*at) >= settled) else {
                break;
            };
            let replaces = self.queued.remove(&what).unwrap_or(true);
            self.entries(shard, seq, what, replaces, &mut puts);
        }
        if self.queue.is_empty() && self.queue.capacity() > CHUNK_HURRIED {
            // After a takeover it may have been large.
            (self.queue, self.queued) = (VecDeque::new(), HashMap::new());
        }
        let done = self.queue.front().map_or(seq, |(first, ..)| first - 1);
        Flush { done, hurried: most > CHUNK, puts }
    }

    /// The entries of one thing, as it is now.
    fn entries(&mut self, shard: &Shard, seq: u64, what: What, replaces: bool, puts: &mut Vec<Put>) {
        let (What::Conversation(of, _) | What::Customer(of, _) | What::Agent(of, _) | What::Policy(of)) = what;
        let Some(tenant_id) = self.tenants.get(of as usize) else { return };
        let Some(tenant) = shard.tenants.get(tenant_id) else { return };
        let name = encode(tenant_id.as_str());
        let mut add = |bucket, key, value: Option<Vec<u8>>, overwrites| {
            puts.extend(value.map(|value| Put { bucket, key, value: value.into(), overwrites }));
        };
        match what {
            What::Conversation(_, id) => {
                let closed = self.closed.remove(&(of, id)).map(|view| *view);
                let view = closed.or_else(|| tenant.engine.conversation_view(id)).map(impersonal);
                add("tl-conversations", format!("{name}.{id}"), view.and_then(|view| json(seq, &view)), false);
            }
            What::Customer(_, id) => {
                let Some(view) = tenant.customer_view(id) else { return };
                let own = view.identities.iter().filter(|held| held.of.is_none());
                for held in own.filter(|held| held.assurance == contract::envelope::Assurance::Verified) {
                    let key = crate::erase::identity_key(tenant_id, &held.identity);
                    add("tl-identities", key, json(seq, &serde_json::json!({ "customer": id })), replaces);
                }
                add("tl-customers", format!("{name}.{id}"), json(seq, &view), replaces);
            }
            What::Agent(_, agent) => {
                let key = format!("{name}.{}", encode(agent.as_str()));
                let view = tenant.engine.agent_view(&agent);
                add("tl-agents", key, view.and_then(|view| json(seq, &view)), false);
            }
            What::Policy(_) => {
                let (policy, version) = tenant.engine.policy();
                let value = json(seq, &serde_json::json!({ "version": version, "policy": **policy }));
                add("tl-policy", name, value, false);
            }
        }
    }
}

/// An entry without the record that it reflects, which is its first field.
fn content(entry: &[u8]) -> Option<&[u8]> {
    let (field, content) = entry.split_at_checked(entry.iter().position(|byte| *byte == b',')?)?;
    field.starts_with(b"{\"seq\":").then_some(content)
}

/// An entry to write.
struct Put {
    bucket: &'static str,
    key: String,
    value: Bytes,
    /// What was there before is overwritten, not only replaced: it tells of a person.
    overwrites: bool,
}

/// Some entries, and the record up to which everything is written once they are.
struct Flush {
    done: u64,
    /// Many wait, or somebody does.
    hurried: bool,
    puts: Vec<Put>,
}

/// A conversation without what tells who its customer is. Entries change all the time, and what was once written stays in
/// a store's files for a while: who is to be forgotten must not be in it.
fn impersonal(view: ConversationView) -> ConversationView {
    ConversationView { customer_name: None, threads: Vec::new(), ..view }
}

fn json<T: Serialize>(seq: u64, value: &T) -> Option<Vec<u8>> {
    serde_json::to_vec(&Entry { seq, value }).ok()
}

/// The writer of the read side.
pub(crate) struct ReadSide {
    sender: tokio::sync::mpsc::Sender<Flush>,
    done: watch::Receiver<u64>,
    hurry: Arc<Hurry>,
    task: tokio::task::JoinHandle<()>,
    /// Shows how many entries wait.
    depth: metrics::Gauge,
}

impl ReadSide {
    /// Starts writing. Everything up to `done` is written already.
    pub(crate) async fn start(bus: &Bus, shard: u16, done: u64) -> Result<Self, bus::Error> {
        let mut buckets = BTreeMap::new();
        for name in ["tl-conversations", "tl-customers", "tl-identities", "tl-agents", "tl-policy"] {
            buckets.insert(name, bus.bucket(name).await?);
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let (report, watcher) = watch::channel(done);
        let hurry: Arc<Hurry> = Arc::default();
        let task = tokio::spawn(write(buckets, receiver, report, Arc::clone(&hurry)));
        let depth = metrics::gauge!(Metric::ReadsideQueued.name(), "shard" => shard.to_string());
        Ok(Self { sender, done: watcher, hurry, task, depth })
    }

    /// Writes some of what is dirty, when the last of it is through. What changed just now waits for more, unless
    /// `all` is to be written or somebody waits.
    pub(crate) fn flush(&self, dirty: &mut Dirty, shard: &Shard, seq: u64, all: bool) {
        let Ok(permit) = self.sender.try_reserve() else { return };
        let settled = if all || self.hurry.is_on() { Duration::ZERO } else { SETTLES };
        let many = dirty.queue.len() > RESTS_UNTIL;
        if many {
            self.hurry.skip_rest();
        }
        let most = if many || settled.is_zero() { CHUNK_HURRIED } else { CHUNK };
        let flush = dirty.take(shard, seq, most, settled);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.depth.set(dirty.queue.len() as f64);
        if !flush.puts.is_empty() || flush.done > self.done() {
            permit.send(flush);
        }
    }

    /// Whether there is something to do for [`ReadSide::flush`].
    pub(crate) fn owes(&self, dirty: &Dirty, seq: u64) -> bool {
        !dirty.is_empty() || self.done() < seq
    }

    /// The record that every entry reflects.
    pub(crate) fn done(&self) -> u64 {
        *self.done.borrow()
    }

    /// For those who wait until what a record changed is written.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.hurry), self.done.clone())
    }

    pub(crate) fn abandon(self) {
        self.depth.set(0.0);
        self.task.abort();
    }
}

async fn write(
    buckets: BTreeMap<&'static str, Kv>,
    mut receiver: tokio::sync::mpsc::Receiver<Flush>,
    report: watch::Sender<u64>,
    hurry: Arc<Hurry>,
) {
    while let Some(Flush { done, hurried, puts }) = receiver.recv().await {
        let began = Instant::now();
        let in_flight = if hurried { IN_FLIGHT_HURRIED } else { IN_FLIGHT };
        let puts = puts.into_iter().filter_map(|one| Some(put(buckets.get(one.bucket)?.clone(), one)));
        futures_util::stream::iter(puts).buffer_unordered(in_flight).collect::<()>().await;
        report.send_replace(done);
        hurry.rest((began.elapsed() * REST_FACTOR).min(REST_MAX)).await;
    }
}

async fn put(bucket: Kv, put: Put) {
    let mut pause = Duration::from_millis(50);
    let write = async || {
        let Put { key, value, overwrites, .. } = &put;
        if *overwrites {
            bucket.replace(key, value.clone(), |before| content(before) == content(value)).await.map(drop)
        } else {
            bucket.put(key, value.clone()).await.map(drop)
        }
    };
    while let Err(error) = write().await {
        warn!(%error, "a read-side entry is not acknowledged; writing it again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(n: u64) -> What {
        What::Customer(0, CustomerId(n))
    }

    #[test]
    fn what_changed_first_is_written_first_and_a_few_at_a_time() {
        let (mut dirty, shard) = (Dirty::default(), Shard::default());
        for (seq, n) in [(3, 1), (4, 2), (5, 1), (6, 3)] {
            dirty.add(seq, customer(n), true);
        }
        let done = |dirty: &mut Dirty, most| dirty.take(&shard, 9, most, Duration::ZERO).done;
        // The second change of the first one is in the entry that its first change led to.
        assert_eq!(done(&mut dirty, 1), 3);
        // It changes again while that entry is on its way.
        dirty.add(8, customer(1), true);
        assert_eq!(done(&mut dirty, 2), 7);
        assert!(!dirty.is_empty());
        assert_eq!(done(&mut dirty, 64), 9);
        assert!(dirty.is_empty() && dirty.queued.is_empty());
    }

    #[test]
    fn an_entry_is_as_good_as_another_when_only_the_record_differs() {
        let one = json(7, &serde_json::json!({ "customer": 1 })).unwrap();
        let later = json(1234, &serde_json::json!({ "customer": 1 })).unwrap();
        let other = json(7, &serde_json::json!({ "customer": 2 })).unwrap();
        assert!(content(&one).is_some() && content(&one) == content(&later));
        assert_ne!(content(&one), content(&other));
        assert_eq!(content(b"{}"), None);
    }

    #[test]
    fn what_changed_just_now_waits_for_more() {
        let (mut dirty, shard) = (Dirty::default(), Shard::default());
        dirty.add(3, customer(1), true);
        assert_eq!(dirty.take(&shard, 9, 64, Duration::from_secs(60)).done, 2, "nothing is taken");
        assert!(!dirty.is_empty());
        assert_eq!(dirty.take(&shard, 9, 64, Duration::ZERO).done, 9);
    }
}
