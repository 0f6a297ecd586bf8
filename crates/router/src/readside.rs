//! The key-value side that tools read: written behind the journal, coalesced, each entry with the
//! journal position that it reflects.

use std::collections::{BTreeMap, BTreeSet};

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

use crate::shard::Shard;

/// Puts on their way at once.
const IN_FLIGHT_MAX: usize = 64;

/// A value as it lies in a bucket.
#[derive(Serialize)]
struct Entry<'a, T: Serialize> {
    /// The journal record that it reflects.
    seq: u64,
    #[serde(flatten)]
    value: &'a T,
}

/// What changed since the last flush.
#[derive(Default)]
pub(crate) struct Dirty {
    conversations: BTreeSet<(TenantId, ConversationId)>,
    closed: BTreeMap<(TenantId, ConversationId), ConversationView>,
    customers: BTreeSet<(TenantId, CustomerId)>,
    agents: BTreeSet<(TenantId, AgentId)>,
    policies: BTreeSet<TenantId>,
}

impl Dirty {
    /// Notes what a fact changes of what tools read.
    pub(crate) fn note(&mut self, tenant: &TenantId, emitted: &Emitted) {
        let event = &*emitted.event;
        match event.noun() {
            "conversation" | "offer" => {
                let Some(id) = event.conversation() else { return };
                let key = (tenant.clone(), id);
                if let Some(view) = &emitted.reach.closed {
                    self.conversations.remove(&key);
                    self.closed.insert(key, (**view).clone());
                } else {
                    self.conversations.insert(key);
                }
                self.agents.extend(emitted.reach.feeds.iter().map(|(agent, _)| (tenant.clone(), agent.clone())));
            }
            // Where it is kept changes nothing of what is known.
            "customer" if !matches!(event, Event::CustomerSignalled { .. }) && !event.is_internal() => {
                let mut named: Vec<CustomerId> = event.customer().into_iter().collect();
                match event {
                    Event::CustomerMerged { from, .. } | Event::CustomerSplit { from, .. } => named.push(*from),
                    Event::CustomerErased { customers, .. } => named.extend(customers),
                    _ => {}
                }
                self.customers.extend(named.into_iter().map(|customer| (tenant.clone(), customer)));
            }
            "agent" => {
                self.agents.extend(event.agent().map(|agent| (tenant.clone(), agent.clone())));
            }
            "policy" => {
                self.policies.insert(tenant.clone());
            }
            _ => {}
        }
    }

    /// Whether something changed of a person that the next flush writes.
    pub(crate) fn names(&self, tenant_id: &TenantId, tenant: &crate::tenant::Tenant, person: CustomerId) -> bool {
        !self.customers.is_empty()
            && tenant.profile.kin().members(person).any(|one| self.customers.contains(&(tenant_id.clone(), one)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conversations.is_empty()
            && self.closed.is_empty()
            && self.customers.is_empty()
            && self.agents.is_empty()
            && self.policies.is_empty()
    }

    /// The entries that a flush writes: bucket, key, value.
    fn entries(self, shard: &Shard, seq: u64) -> Vec<(&'static str, String, Bytes)> {
        let mut entries = Vec::new();
        let mut add = |bucket, key, value: Option<Vec<u8>>| {
            if let Some(value) = value {
                entries.push((bucket, key, Bytes::from(value)));
            }
        };
        for (key, view) in self.closed {
            let view = impersonal(view);
            add("tl-conversations", format!("{}.{}", encode(key.0.as_str()), key.1), json(seq, &view));
        }
        for (tenant_id, id) in self.conversations {
            let Some(tenant) = shard.tenants.get(&tenant_id) else { continue };
            let view = tenant.engine.conversation_view(id).map(impersonal);
            let key = format!("{}.{id}", encode(tenant_id.as_str()));
            add("tl-conversations", key, view.and_then(|view| json(seq, &view)));
        }
        for (tenant_id, id) in self.customers {
            let Some(tenant) = shard.tenants.get(&tenant_id) else { continue };
            let Some(view) = tenant.customer_view(id) else { continue };
            let own = view.identities.iter().filter(|held| held.of.is_none());
            for held in own.filter(|held| held.assurance == contract::envelope::Assurance::Verified) {
                let key = crate::erase::identity_key(&tenant_id, &held.identity);
                add("tl-identities", key, json(seq, &serde_json::json!({ "customer": id })));
            }
            add("tl-customers", format!("{}.{id}", encode(tenant_id.as_str())), json(seq, &view));
        }
        for (tenant_id, agent) in self.agents {
            let view = shard.tenants.get(&tenant_id).and_then(|tenant| tenant.engine.agent_view(&agent));
            let key = format!("{}.{}", encode(tenant_id.as_str()), encode(agent.as_str()));
            add("tl-agents", key, view.and_then(|view| json(seq, &view)));
        }
        for tenant_id in self.policies {
            let Some(tenant) = shard.tenants.get(&tenant_id) else { continue };
            let (policy, version) = tenant.engine.policy();
            let value = json(seq, &serde_json::json!({ "version": version, "policy": **policy }));
            add("tl-policy", encode(tenant_id.as_str()), value);
        }
        entries
    }
}

/// A conversation without what tells who its customer is. Entries change all the time, and what was once written stays in
/// a store's files for a while: who is to be forgotten must not be in it.
fn impersonal(view: ConversationView) -> ConversationView {
    ConversationView { customer_name: None, threads: Vec::new(), ..view }
}

fn json<T: Serialize>(seq: u64, value: &T) -> Option<Vec<u8>> {
    serde_json::to_vec(&Entry { seq, value }).ok()
}

/// The record that a flush reflects, and its entries by bucket and key.
type Flush = (u64, Vec<(&'static str, String, Bytes)>);

/// The writer of the read side.
pub(crate) struct ReadSide {
    sender: tokio::sync::mpsc::Sender<Flush>,
    done: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl ReadSide {
    /// Starts writing. Everything up to `done` is written already.
    pub(crate) async fn start(bus: &Bus, done: u64) -> Result<Self, bus::Error> {
        let mut buckets = BTreeMap::new();
        for name in ["tl-conversations", "tl-customers", "tl-identities", "tl-agents", "tl-policy"] {
            buckets.insert(name, bus.bucket(name).await?);
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let (report, watcher) = watch::channel(done);
        let task = tokio::spawn(write(buckets, receiver, report));
        Ok(Self { sender, done: watcher, task })
    }

    /// Writes what is dirty, when the last flush is through; `false` when it is not yet.
    pub(crate) fn flush(&self, dirty: &mut Dirty, shard: &Shard, seq: u64) -> bool {
        let Ok(permit) = self.sender.try_reserve() else { return false };
        permit.send((seq, std::mem::take(dirty).entries(shard, seq)));
        true
    }

    /// The record that every entry reflects.
    pub(crate) fn done(&self) -> u64 {
        *self.done.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.done.clone()
    }

    pub(crate) fn abandon(self) {
        self.task.abort();
    }
}

async fn write(
    buckets: BTreeMap<&'static str, Kv>,
    mut receiver: tokio::sync::mpsc::Receiver<Flush>,
    report: watch::Sender<u64>,
) {
    while let Some((seq, entries)) = receiver.recv().await {
        let mut puts = Vec::with_capacity(entries.len());
        for (bucket, key, value) in entries {
            let personal = matches!(bucket, "tl-customers" | "tl-identities");
            if let Some(bucket) = buckets.get(bucket) {
                puts.push(put(bucket.clone(), key, value, personal));
            }
        }
        futures_util::stream::iter(puts).buffer_unordered(IN_FLIGHT_MAX).collect::<()>().await;
        report.send_replace(seq);
    }
}

/// `personal`: what was there before is overwritten, not only replaced.
async fn put(bucket: Kv, key: String, value: Bytes, personal: bool) {
    let mut pause = std::time::Duration::from_millis(50);
    let write = async || {
        if personal { bucket.replace(&key, value.clone()).await } else { bucket.put(&key, value.clone()).await }
    };
    while let Err(error) = write().await {
        warn!(%error, "a read-side entry is not acknowledged; writing it again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(std::time::Duration::from_secs(1));
    }
}
