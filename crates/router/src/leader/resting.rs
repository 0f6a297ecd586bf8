//! Customers who are not in memory: fetched before what concerns them is decided, and let go of when they have been
//! silent for long.
//!
//! Letting go takes three steps. Who has been silent is found a few at a time, and what is known of them is written into
//! entries beside the loop, together with what the key-value side still owes. When that is acknowledged and nothing has
//! changed meanwhile, it is a fact, and leaves memory. An entry whose owner dies in between is one that nobody looks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bus::{Bus, Kv, topology};
use bytes::Bytes;
use contract::command::{Refusal, RefusalKind};
use contract::{CustomerId, TenantId, Timestamp};
use futures_util::StreamExt;
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info, warn};

use super::{Decided, Leader, now};
use crate::error::{Error, ErrorKind};
use crate::metric::Metric;
use crate::progress::Watch;
use crate::rest::{Silent, key};
use crate::tenant::Tenant;

/// Entries that are read or written at once.
const IN_FLIGHT_MAX: usize = 64;
/// Customers of a tenant that are looked at in one round, of those in memory and of those that are not.
const LOOKED_AT_MAX: usize = 2_000;
/// Persons that leave memory in one round, of all tenants.
const RESTS_MAX: usize = 256;
/// Persons that are forgotten in one round: each is searched for in all streams, and the journal is rewritten after it.
const FORGOTTEN_MAX: usize = 100;
/// Whoever was recalled stays for so long, even where nothing was heard of it: somebody looks at it.
const STAYS: Duration = Duration::from_secs(3600);
/// Persons of whom it is remembered when they were recalled.
const RECALLED_MAX: usize = 100_000;
/// How long a round waits for the key-value side.
const WRITTEN_WAIT: Duration = Duration::from_secs(30);
/// How often a read that fails is said in the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

type Person = (TenantId, CustomerId);

/// What is under way with customers who leave memory, or are not in it.
#[derive(Default)]
pub(super) struct Resting {
    bucket: Option<Kv>,
    /// Entries that were fetched for this batch; `None`: there is no such entry.
    fetched: BTreeMap<Person, Option<Bytes>>,
    /// From whom the next round goes on, of those in memory and of those that are not.
    next: BTreeMap<TenantId, (CustomerId, CustomerId)>,
    pub(super) round: Option<JoinHandle<Vec<Ready>>>,
    recalled: BTreeMap<Person, Timestamp>,
    /// Entries that nobody needs any more.
    stale: Vec<String>,
}

/// Somebody who is to leave memory or to be forgotten.
pub(super) struct Ready {
    tenant: TenantId,
    person: CustomerId,
    /// The record that the entry reflects.
    seq: u64,
    what: What,
}

enum What {
    /// The entry is to be written.
    Rest(Bytes),
    /// The entry is to be read, where it is not in memory.
    Forget(Option<Bytes>),
}

/// Reads an entry, for as long as it takes.
async fn fetch(bucket: Kv, key: String) -> Option<Bytes> {
    let (mut pause, mut said) = (Duration::from_millis(50), None::<Instant>);
    loop {
        match bucket.get(&key).await {
            Ok(entry) => return entry.map(|entry| entry.value),
            Err(error) => {
                if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                    warn!(%error, "what is known of a customer cannot be read yet; the batch waits");
                    said = Some(Instant::now());
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

impl Leader {
    // === Coming back ===

    /// Fetches the entries of customers that a batch names, all at once. A bucket that does not answer holds the batch
    /// back: what is not known must not be guessed.
    ///
    /// # Errors
    /// When the process is to stop before they are there.
    pub(super) async fn fetch(&mut self, wanted: impl IntoIterator<Item = Person>) -> Result<(), Error> {
        let mut missing = Vec::new();
        for (tenant_id, person) in wanted {
            let rest = self.shard.tenants.get(&tenant_id).and_then(|tenant| tenant.profile.rests(person));
            if let Some((person, rest)) = rest
                && !self.resting.fetched.contains_key(&(tenant_id.clone(), person))
            {
                missing.push((key(&tenant_id, person, rest.kept), (tenant_id, person)));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let (bus, mut stop, known) = (self.bus.clone(), self.stop.clone(), self.resting.bucket.clone());
        let all = async move {
            let bucket = match known {
                Some(bucket) => bucket,
                None => bucket(&bus).await,
            };
            let reads = missing.into_iter().map(|(key, person)| {
                let bucket = bucket.clone();
                async move { (person, fetch(bucket, key).await) }
            });
            let read: Vec<(Person, Option<Bytes>)> =
                futures_util::stream::iter(reads).buffer_unordered(IN_FLIGHT_MAX).collect().await;
            (bucket, read)
        };
        let stopping = || Error::new(ErrorKind::Stopping, "the process ends");
        let (bucket, read) = tokio::select! {
            biased;
            read = all => read,
            _ = stop.wait_for(|stop| *stop) => return Err(stopping()),
        };
        self.resting.bucket = Some(bucket);
        self.resting.fetched.extend(read);
        metrics::histogram!(Metric::RecallSeconds.name()).record(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Customers are in memory again, before what concerns them is decided.
    ///
    /// # Errors
    /// The outer: when the process is to stop. The inner: with why one of them cannot be.
    pub(super) async fn recall(
        &mut self,
        decided: &mut Decided,
        tenant_id: &TenantId,
        persons: BTreeSet<CustomerId>,
    ) -> Result<Result<(), Refusal>, Error> {
        if persons.is_empty() {
            return Ok(Ok(()));
        }
        self.fetch(persons.iter().map(|person| (tenant_id.clone(), *person))).await?;
        let mut outcome = Ok(());
        for person in persons {
            let entry = self.resting.fetched.remove(&(tenant_id.clone(), person)).flatten();
            if let Err(why) = self.recall_by(decided, tenant_id, person, entry.as_deref()) {
                error!(shard = self.shard_no, tenant = %tenant_id, customer.id = %person, why, "what is known of a customer is not where it was kept; restore the bucket tl-customers");
                let message = format!("what is known of {person} cannot be read: {why}");
                outcome = Err(Refusal::new(RefusalKind::Unavailable, message));
            }
        }
        Ok(outcome)
    }

    fn recall_by(
        &mut self,
        decided: &mut Decided,
        tenant_id: &TenantId,
        person: CustomerId,
        entry: Option<&[u8]>,
    ) -> Result<(), String> {
        let at = now();
        let Some(tenant) = self.shard.tenants.get_mut(tenant_id) else { return Ok(()) };
        let Some((person, rest)) = tenant.profile.rests(person) else { return Ok(()) };
        let entry = entry.ok_or_else(|| "there is no such entry".to_owned())?;
        let Some(step) = tenant.recall(at, person, entry)? else { return Ok(()) };
        decided.add(tenant_id, step, None);
        metrics::counter!(Metric::Recalled.name()).increment(1);
        self.resting.stale.push(key(tenant_id, person, rest.kept));
        if self.resting.recalled.len() < RECALLED_MAX {
            self.resting.recalled.insert((tenant_id.clone(), person), at);
        }
        Ok(())
    }

    /// What a batch fetched and did not need is not kept for the next.
    pub(super) fn fetched_is_over(&mut self) {
        self.resting.fetched.clear();
    }

    // === Leaving ===

    /// Entries that a replay found to be superfluous.
    pub(super) fn note_stale(&mut self, entries: Vec<String>) {
        self.resting.stale.extend(entries);
    }

    /// Begins a round: who has been silent for long leaves memory, or is forgotten.
    pub(super) fn next_rests(&mut self) {
        self.clear_stale();
        if self.resting.round.is_some() || !self.erasures.is_empty() {
            return;
        }
        let at = now();
        let forgets = self.erasing.is_none() && !self.overwrite && self.overwriting.is_none();
        let mut ready = Vec::new();
        let mut room = (RESTS_MAX, if forgets { FORGOTTEN_MAX } else { 0 });
        for (tenant_id, tenant) in &self.shard.tenants {
            let identity = &tenant.engine.policy().0.identity;
            if identity.rest_after_ms.0 == 0 && identity.forget_after_ms.0 == 0 {
                continue;
            }
            let stays = identity.rest_after_ms.0.min(u64::try_from(STAYS.as_millis()).unwrap_or(u64::MAX));
            self.resting.recalled.retain(|(of, _), back| of != tenant_id || back.0 + stays > at.0);
            let next = self.resting.next.entry(tenant_id.clone()).or_insert((CustomerId(0), CustomerId(0)));
            let recalled = &self.resting.recalled;
            let kept_back = |person: CustomerId| {
                recalled.contains_key(&(tenant_id.clone(), person)) || self.dirty.names(tenant_id, tenant, person)
            };
            let found = silent(tenant, at, next, &mut room, &kept_back);
            ready.extend(found.into_iter().filter_map(|(person, seq, what)| {
                let (seq, what) = match what {
                    Silent::Rest => (self.seq, What::Rest(tenant.entry_of(person, self.seq)?.into())),
                    Silent::Forget => (seq.unwrap_or_default(), What::Forget(None)),
                };
                Some(Ready { tenant: tenant_id.clone(), person, seq, what })
            }));
        }
        if !ready.is_empty() {
            let written = self.readside.watch();
            self.resting.round = Some(tokio::spawn(prepare(self.bus.clone(), ready, self.seq, written)));
        }
    }

    /// The entries are written: whoever is still as it was leaves memory; whoever is to be forgotten is.
    pub(super) async fn rested(&mut self, done: Result<Vec<Ready>, JoinError>) -> Result<(), Error> {
        self.resting.round = None;
        let ready = match done {
            Ok(ready) => ready,
            Err(error) => {
                error!(shard = self.shard_no, %error, "letting customers go failed; trying again");
                return Ok(());
            }
        };
        let at = now();
        let mut decided = self.nothing_decided();
        let busy: BTreeMap<TenantId, BTreeSet<CustomerId>> =
            self.shard.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.busy(at))).collect();
        let (mut rested, mut forgotten) = (0_u64, 0_u64);
        for Ready { tenant: tenant_id, person, seq, what } in ready {
            let Some(busy) = busy.get(&tenant_id) else { continue };
            let read = match what {
                What::Rest(entry) => {
                    let Some(tenant) = self.shard.tenants.get_mut(&tenant_id) else { continue };
                    let step = if self.dirty.names(&tenant_id, tenant, person) {
                        None
                    } else {
                        tenant.rest(at, person, seq, &entry, busy)
                    };
                    match step {
                        Some(step) => {
                            decided.add(&tenant_id, step, None);
                            rested += 1;
                        }
                        // The next round writes another, unless nothing was decided meanwhile: then it is this one.
                        None if seq < self.seq => self.resting.stale.push(key(&tenant_id, person, seq)),
                        None => {}
                    }
                    continue;
                }
                What::Forget(read) => read,
            };
            if let Err(why) = self.recall_by(&mut decided, &tenant_id, person, read.as_deref()) {
                warn!(shard = self.shard_no, tenant = %tenant_id, customer.id = %person, why, "a customer cannot be forgotten");
                continue;
            }
            let Some(tenant) = self.shard.tenants.get_mut(&tenant_id) else { continue };
            let identities = tenant.profile.view(person).map(|view| view.identities).unwrap_or_default();
            if let Some(step) = tenant.forget(at, person, busy) {
                self.known_by
                    .insert((tenant_id.clone(), person), identities.into_iter().map(|held| held.identity).collect());
                decided.add(&tenant_id, step, None);
                forgotten += 1;
            }
        }
        if decided.entries.is_empty() {
            return Ok(());
        }
        self.commit(decided).await?;
        metrics::counter!(Metric::Rested.name()).increment(rested);
        metrics::counter!(Metric::Forgotten.name()).increment(forgotten);
        if forgotten > 0 {
            info!(
                shard = self.shard_no,
                forgotten, "customers who have been silent for as long as the policy allows are forgotten"
            );
        }
        Ok(())
    }

    /// Entries that nobody needs any more are erased beside the loop; one that is left over goes when its customer is
    /// erased.
    fn clear_stale(&mut self) {
        let stale = std::mem::take(&mut self.resting.stale);
        if stale.is_empty() {
            return;
        }
        let bus = self.bus.clone();
        tokio::spawn(async move {
            let erased = async {
                let bucket = bus.bucket(topology::CUSTOMERS).await?;
                let all = stale.into_iter().map(|key| {
                    let bucket = bucket.clone();
                    async move { bucket.erase(&key).await }
                });
                let mut all = futures_util::stream::iter(all).buffer_unordered(IN_FLIGHT_MAX);
                while let Some(erased) = all.next().await {
                    erased?;
                }
                Ok::<(), bus::Error>(())
            };
            if let Err(error) = erased.await {
                warn!(%error, "entries of customers who are in memory again are left over");
            }
        });
    }

    pub(super) fn stop_resting(&mut self) {
        if let Some(round) = self.resting.round.take() {
            round.abort();
        }
    }
}

/// Who of a tenant has been silent for long, of the next few: who, where it lies if it is not in memory, and what is to
/// become of it.
fn silent(
    tenant: &Tenant,
    at: Timestamp,
    next: &mut (CustomerId, CustomerId),
    room: &mut (usize, usize),
    kept_back: &dyn Fn(CustomerId) -> bool,
) -> Vec<(CustomerId, Option<u64>, Silent)> {
    let mut found = Vec::new();
    let (persons, ahead) = tenant.profile.silent(next.0, LOOKED_AT_MAX);
    next.0 = ahead.unwrap_or(CustomerId(0));
    let mut busy = None;
    for (person, since) in persons {
        // What the profile alone knows is enough to pass most.
        if tenant.due(at, since).is_none() || kept_back(person) {
            continue;
        }
        let busy = busy.get_or_insert_with(|| tenant.busy(at));
        let Some(due) = tenant.silent_since(person, busy).and_then(|since| tenant.due(at, since)) else { continue };
        let left = if due == Silent::Rest { &mut room.0 } else { &mut room.1 };
        if *left == 0 {
            // The next round begins with it.
            next.0 = person;
            break;
        }
        *left -= 1;
        found.push((person, None, due));
    }
    let mut resting = tenant.profile.resting_from(next.1);
    for (person, rest) in resting.by_ref().take(LOOKED_AT_MAX) {
        next.1 = person;
        if tenant.due(at, rest.silent_since) == Some(Silent::Forget) {
            if room.1 == 0 {
                return found;
            }
            room.1 -= 1;
            found.push((person, Some(rest.kept), Silent::Forget));
        }
    }
    next.1 = resting.next().map_or(CustomerId(0), |(person, _)| person);
    found
}

/// Writes the entries of those who leave, and reads those of who is to be forgotten and is not in memory. What could not be
/// done in time is left for another round.
async fn prepare(bus: Bus, ready: Vec<Ready>, seq: u64, mut written: Watch) -> Vec<Ready> {
    let bucket = match bus.bucket(topology::CUSTOMERS).await {
        Ok(bucket) => bucket,
        Err(error) => {
            warn!(%error, "customers stay in memory: their entries cannot be written");
            return Vec::new();
        }
    };
    let all = ready.into_iter().map(|mut one| {
        let bucket = bucket.clone();
        async move {
            let key = key(&one.tenant, one.person, one.seq);
            let done = match &mut one.what {
                What::Rest(entry) => bucket.put(&key, entry.clone()).await.map(drop),
                // It is in memory.
                What::Forget(_) if one.seq == 0 => Ok(()),
                What::Forget(read) => bucket.get(&key).await.map(|entry| *read = entry.map(|entry| entry.value)),
            };
            match done {
                Ok(()) => Some(one),
                Err(error) => {
                    warn!(%error, "a customer stays where it is: its entry is neither written nor read");
                    None
                }
            }
        }
    });
    let done: Vec<Option<Ready>> = futures_util::stream::iter(all).buffer_unordered(IN_FLIGHT_MAX).collect().await;
    // What the buckets still owe of them is written too, or a takeover would not know it any more.
    let owed = tokio::time::timeout(WRITTEN_WAIT, written.reached(seq)).await;
    if owed.unwrap_or(false) { done.into_iter().flatten().collect() } else { Vec::new() }
}

/// The bucket, for as long as it takes.
async fn bucket(bus: &Bus) -> Kv {
    let mut pause = Duration::from_millis(50);
    loop {
        match bus.bucket(topology::CUSTOMERS).await {
            Ok(bucket) => return bucket,
            Err(error) => warn!(%error, "what is known of customers cannot be read yet; the batch waits"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
