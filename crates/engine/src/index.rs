//! What is derived from the state to find things fast: timers, waiting items, agents with room.
//!
//! Conversations and agents are changed only through [`State::change_conversation`] and
//! [`State::change_agent`], which keep the index, the agents' loads and what they hold in step.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::Requirement;
use contract::{AgentId, ConversationId, CustomerId, OfferId, QueueId, Timestamp};

use crate::agent::Agent;
use crate::conversation::{Conversation, Offer, Phase};
use crate::state::State;
use crate::timer::Timer;

/// The order in which waiting items are served: priority, then age, then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ItemKey {
    /// The negated priority, so that the highest comes first.
    pub(crate) urgency: i64,
    pub(crate) ready_at: Timestamp,
    pub(crate) conversation: ConversationId,
}

/// Items that ask the same of an agent: whoever may take one may take all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) weight: u32,
    pub(crate) requirement: Requirement,
}

/// The order in which agents are preferred: least loaded, then longest without a new conversation,
/// then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Load as millionths of the capacity.
    pub(crate) share: u64,
    pub(crate) last_assigned_at: Option<Timestamp>,
    pub(crate) agent: AgentId,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    pub(crate) waiting: BTreeMap<QueueId, BTreeMap<Class, BTreeSet<ItemKey>>>,
    /// Agents that take offers and have room, by queue.
    pub(crate) ready: BTreeMap<QueueId, BTreeSet<Rank>>,
    /// Where each agent stands in `ready`, and in which queues.
    ranked: BTreeMap<AgentId, (Rank, BTreeSet<QueueId>)>,
    /// The members of each queue, by name.
    pub(crate) members: BTreeMap<QueueId, Vec<AgentId>>,
    pub(crate) by_customer: BTreeMap<CustomerId, ConversationId>,
    /// What a step must still match.
    pub(crate) dirty_items: BTreeSet<ItemKey>,
    pub(crate) dirty_agents: BTreeSet<AgentId>,
}

impl ItemKey {
    pub(crate) fn of(id: ConversationId, conversation: &Conversation) -> Self {
        Self { urgency: -i64::from(conversation.priority), ready_at: conversation.ready_at, conversation: id }
    }
}

impl Class {
    pub(crate) fn of(conversation: &Conversation) -> Self {
        Self { weight: conversation.weight, requirement: conversation.requirement.clone() }
    }
}

/// The timer that a phase sets.
fn timer_of(id: ConversationId, phase: &Phase) -> Option<(Timestamp, Timer)> {
    match phase {
        Phase::Waiting { next_round_at: Some(at) } => Some((*at, Timer::Round(id))),
        Phase::Parked { until: Some(at), .. } => Some((*at, Timer::Park(id))),
        Phase::Wrapping { until, .. } => Some((*until, Timer::WrapUp(id))),
        _ => None,
    }
}

impl State {
    /// Rebuilds everything that is derived; for a state that was read from a snapshot.
    pub fn reindex(&mut self) {
        self.index = Index::default();
        self.seen.reindex();
        self.index_members();
        for agent in self.agents.values_mut() {
            agent.load = 0;
            agent.holds.clear();
            agent.offers.clear();
        }
        for (id, offer) in std::mem::take(&mut self.offers) {
            self.insert_offer(id, offer);
        }
        for (id, conversation) in std::mem::take(&mut self.conversations) {
            self.insert_conversation(id, conversation);
        }
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for id in agents {
            self.change_agent(&id, |_| {});
        }
        self.index.dirty_agents.clear();
        self.index.dirty_items.clear();
    }

    /// The members of each queue, from the policy.
    pub(crate) fn index_members(&mut self) {
        self.index.members.clear();
        for (id, spec) in &self.policy.agents {
            for queue in &spec.queues {
                self.index.members.entry(queue.clone()).or_default().push(id.clone());
            }
        }
    }

    /// Changes an open conversation and everything that follows from it.
    pub(crate) fn change_conversation(&mut self, id: ConversationId, change: impl FnOnce(&mut Conversation)) {
        if let Some(mut conversation) = self.remove_conversation(id) {
            change(&mut conversation);
            self.insert_conversation(id, conversation);
        }
    }

    pub(crate) fn insert_conversation(&mut self, id: ConversationId, conversation: Conversation) {
        if let Some(timer) = timer_of(id, &conversation.phase) {
            self.index.timers.insert(timer);
        }
        if let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) {
            let key = ItemKey::of(id, &conversation);
            let classes = self.index.waiting.entry(queue.clone()).or_default();
            classes.entry(Class::of(&conversation)).or_default().insert(key);
            self.index.dirty_items.insert(key);
        }
        if let Some(agent) = conversation.phase.agent() {
            let weight = if conversation.phase.takes_capacity() { conversation.weight } else { 0 };
            let holds = conversation.phase.holder().is_some();
            self.change_agent(&agent.clone(), |agent| {
                agent.load = agent.load.saturating_add(weight);
                if holds {
                    agent.holds.insert(id);
                }
            });
        }
        self.index.by_customer.insert(conversation.customer, id);
        self.conversations.insert(id, conversation);
    }

    pub(crate) fn remove_conversation(&mut self, id: ConversationId) -> Option<Conversation> {
        let conversation = self.conversations.remove(&id)?;
        if let Some(timer) = timer_of(id, &conversation.phase) {
            self.index.timers.remove(&timer);
        }
        if let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) {
            let key = ItemKey::of(id, &conversation);
            self.index.dirty_items.remove(&key);
            self.unindex_waiting(queue, &Class::of(&conversation), &key);
        }
        if let Some(agent) = conversation.phase.agent() {
            let weight = if conversation.phase.takes_capacity() { conversation.weight } else { 0 };
            self.change_agent(&agent.clone(), |agent| {
                agent.load = agent.load.saturating_sub(weight);
                agent.holds.remove(&id);
            });
        }
        if self.index.by_customer.get(&conversation.customer) == Some(&id) {
            self.index.by_customer.remove(&conversation.customer);
        }
        Some(conversation)
    }

    /// Takes an item out of its class, and the class and queue with it when they are empty.
    fn unindex_waiting(&mut self, queue: &QueueId, class: &Class, key: &ItemKey) {
        let Some(classes) = self.index.waiting.get_mut(queue) else { return };
        if let Some(items) = classes.get_mut(class) {
            items.remove(key);
            if items.is_empty() {
                classes.remove(class);
            }
        }
        if classes.is_empty() {
            self.index.waiting.remove(queue);
        }
    }

    pub(crate) fn insert_offer(&mut self, id: OfferId, offer: Offer) {
        self.index.timers.insert((offer.expires_at, Timer::Offer(id)));
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.insert(id);
        }
        self.offers.insert(id, offer);
    }

    pub(crate) fn remove_offer(&mut self, id: OfferId) -> Option<Offer> {
        let offer = self.offers.remove(&id)?;
        self.index.timers.remove(&(offer.expires_at, Timer::Offer(id)));
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.remove(&id);
        }
        Some(offer)
    }

    /// Changes an agent, and its place among those with room.
    pub(crate) fn change_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut Agent)) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if let Some(at) = agent.grace_until {
            self.index.timers.remove(&(at, Timer::Grace(id.clone())));
        }
        change(agent);
        let capacity = self.policy.agents.get(id).map_or(0, |spec| spec.capacity);
        agent.excess = agent.excess.min(agent.load.saturating_sub(capacity));
        if let Some(at) = agent.grace_until {
            self.index.timers.insert((at, Timer::Grace(id.clone())));
        }
        self.rank_agent(id);
    }

    /// Puts an agent where it belongs among those that take offers and have room.
    pub(crate) fn rank_agent(&mut self, id: &AgentId) {
        let before = self.index.ranked.remove(id);
        let after = self.rank_of(id);
        if let Some((rank, queues)) = &before {
            for queue in queues {
                if let Some(ready) = self.index.ready.get_mut(queue) {
                    ready.remove(rank);
                    if ready.is_empty() {
                        self.index.ready.remove(queue);
                    }
                }
            }
        }
        let Some((rank, queues)) = after else { return };
        for queue in &queues {
            self.index.ready.entry(queue.clone()).or_default().insert(rank.clone());
        }
        // More room than before, or room where there was none: something may fit now.
        if before.is_none_or(|(old, old_queues)| old.share > rank.share || old_queues != queues) {
            self.index.dirty_agents.insert(id.clone());
        }
        self.index.ranked.insert(id.clone(), (rank, queues));
    }

    fn rank_of(&self, id: &AgentId) -> Option<(Rank, BTreeSet<QueueId>)> {
        let agent = self.agents.get(id)?;
        let spec = self.policy.agents.get(id)?;
        (agent.takes_offers() && agent.load < spec.capacity).then(|| {
            let share = u64::from(agent.load) * 1_000_000 / u64::from(spec.capacity);
            let rank = Rank { share, last_assigned_at: agent.last_assigned_at, agent: id.clone() };
            (rank, spec.queues.clone())
        })
    }
}
