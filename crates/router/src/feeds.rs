//! The agents' feeds: pushed over core NATS, made good by `feed.sync` from a ring or a snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bus::{Bus, Publish};
use contract::answer::Context;
use contract::feed::{FeedItem, Heartbeat, RING_ITEMS, Since, Sync};
use contract::{AgentId, Encoding, EventRecord, TenantId, Timestamp, subject};
use serde::Serialize;
use tracing::debug;

/// A [`FeedItem`] of what lies elsewhere: an item is written once for each agent, and a record can be large.
#[derive(Serialize)]
struct ItemOf<'a> {
    epoch: u64,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a Context>,
    record: &'a EventRecord,
}

/// One agent's feed as its router keeps it.
#[derive(Default)]
struct Feed {
    /// The newest items, oldest first, without gaps.
    ring: VecDeque<(u64, Arc<EventRecord>)>,
    /// MessagePack, once every tool that synchronised asked in it; until then JSON, which all read.
    encoding: Option<Encoding>,
    head: u64,
}

/// The feeds of a shard's agents.
pub(crate) struct Feeds {
    bus: Bus,
    epoch: u64,
    feeds: BTreeMap<(TenantId, AgentId), Feed>,
}

impl Feeds {
    pub(crate) fn new(bus: Bus, epoch: u64) -> Self {
        Self { bus, epoch, feeds: BTreeMap::new() }
    }

    /// Keeps an item without pushing it: what was replayed is on the wire already, or is asked for.
    pub(crate) fn keep(&mut self, agent: &AgentId, seq: u64, record: &Arc<EventRecord>) -> Encoding {
        let feed = self.feeds.entry((record.tenant.clone(), agent.clone())).or_default();
        if seq != feed.head + 1 {
            feed.ring.clear();
        }
        feed.head = seq;
        if feed.ring.len() == RING_ITEMS {
            feed.ring.pop_front();
        }
        feed.ring.push_back((seq, Arc::clone(record)));
        feed.encoding.unwrap_or(Encoding::Json)
    }

    /// Pushes an item. Lossy: a tool that misses it sees the gap.
    /// `encoded` is the record in MessagePack, `context` what goes with it.
    pub(crate) async fn push(
        &mut self,
        agent: &AgentId,
        seq: u64,
        record: &Arc<EventRecord>,
        encoded: &[u8],
        context: Option<&Context>,
        trace: Option<&str>,
    ) {
        let encoding = self.keep(agent, seq, record);
        let payload = match encoding {
            Encoding::MsgPack => FeedItem::wrap(self.epoch, seq, context, encoded),
            Encoding::Json => {
                let item = ItemOf { epoch: self.epoch, seq, context, record };
                encoding.encode(&item).unwrap_or_default()
            }
        };
        let publish = Publish {
            subject: subject::feed(&record.tenant, agent, record.event.name()),
            payload: payload.into(),
            content_type: Some(encoding.content_type()),
            headers: trace.map(|trace| (runtime::trace::PARENT, trace.to_owned())).into_iter().collect(),
            ..Publish::default()
        };
        self.send(publish).await;
    }

    async fn send(&self, publish: Publish) {
        if let Err(error) = self.bus.send(publish).await {
            debug!(%error, "a push was dropped; the tool will ask");
        }
    }

    /// Pushes the newest item again with our epoch; after a takeover nobody knows whether it arrived.
    pub(crate) async fn push_again(&mut self, agent: &AgentId, seq: u64, record: &Arc<EventRecord>) {
        let item = ItemOf { epoch: self.epoch, seq, context: None, record };
        let publish = Publish {
            subject: subject::feed(&record.tenant, agent, record.event.name()),
            payload: Encoding::Json.encode(&item).unwrap_or_default().into(),
            content_type: Some(Encoding::Json.content_type()),
            ..Publish::default()
        };
        self.send(publish).await;
    }

    /// Tells each of these agents' tools how far its feed is.
    pub(crate) async fn beat(&self, agents: &[(TenantId, AgentId, u64)], at: Timestamp) {
        for (tenant, agent, head) in agents {
            let beat = Heartbeat { epoch: self.epoch, head: *head, at };
            let publish = Publish {
                subject: subject::feed(tenant, agent, subject::FEED_HEARTBEAT),
                payload: Encoding::Json.encode(&beat).unwrap_or_default().into(),
                content_type: Some(Encoding::Json.content_type()),
                ..Publish::default()
            };
            self.send(publish).await;
        }
    }

    /// Answers `feed.sync`: what was missed when the ring still has it, else everything the agent holds.
    pub(crate) fn sync(
        &mut self,
        tenant: &TenantId,
        agent: &AgentId,
        state: &engine::State,
        since: Option<Since>,
        encoding: Encoding,
    ) -> Sync {
        let head = state.agent(agent).map_or(0, |agent| agent.feed_seq);
        let feed = self.feeds.entry((tenant.clone(), agent.clone())).or_default();
        feed.head = head;
        // A tool that reads MessagePack reads JSON; the other way round it may not.
        if encoding == Encoding::Json || feed.encoding.is_none() {
            feed.encoding = Some(encoding);
        }
        let missed = since.filter(|since| since.seq <= head).and_then(|since| {
            let first = feed.ring.front().map_or(head + 1, |(seq, _)| *seq);
            (first <= since.seq + 1).then(|| {
                let items = feed.ring.iter().filter(|(seq, _)| *seq > since.seq);
                items
                    .map(|(seq, record)| FeedItem {
                        epoch: self.epoch,
                        seq: *seq,
                        context: None,
                        record: (**record).clone(),
                    })
                    .collect()
            })
        });
        match missed {
            Some(items) => Sync { epoch: self.epoch, head, items, snapshot: None },
            None => Sync { epoch: self.epoch, head, items: Vec::new(), snapshot: state.snapshot(agent) },
        }
    }
}
