//! What is derived from the state to find things fast: timers, waiting items, agents with room.
//!
//! Conversations and agents are changed only through [`State::change_conversation`] and
//! [`State::change_agent`], which keep the index, the agents' loads and what they hold in step.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::Requirement;
use contract::policy::Level;
use contract::{AgentId, ConversationId, CustomerId, OfferId, QueueId, SkillId, Timestamp};

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

/// Agents of the same capacity and skills: whoever of them has room may take what any of them may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) capacity: u32,
    pub(crate) skills: BTreeMap<SkillId, Level>,
}

/// The order in which agents are preferred: least loaded, then longest without a new conversation,
/// then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) share: Share,
    pub(crate) last_assigned_at: Option<Timestamp>,
    pub(crate) agent: AgentId,
    /// What the share was reckoned from.
    pub(crate) load: u32,
}

/// A load as a part of the capacity, in units of 2^-32: among agents of one capacity, different loads
/// are different shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u64);

#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    pub(crate) waiting: BTreeMap<QueueId, BTreeMap<Class, BTreeSet<ItemKey>>>,
    /// Waiting items by the agent that they are meant for, who need not work their queue.
    pub(crate) meant: BTreeMap<AgentId, BTreeSet<ItemKey>>,
    /// Agents that take offers and have room, by queue and the number of their kind.
    pub(crate) ready: BTreeMap<QueueId, BTreeMap<usize, BTreeSet<Rank>>>,
    /// Where each of them stands in `ready`.
    ranked: BTreeMap<AgentId, Rank>,
    /// The kinds of agents that the policy names, and the number of each agent's.
    pub(crate) kinds: Vec<Kind>,
    kind_of: BTreeMap<AgentId, usize>,
    /// The members of each queue, by name.
    pub(crate) members: BTreeMap<QueueId, Vec<AgentId>>,
    pub(crate) by_customer: BTreeMap<CustomerId, ConversationId>,
    /// What a step must still match.
    pub(crate) dirty_items: BTreeSet<ItemKey>,
    pub(crate) dirty_agents: BTreeSet<AgentId>,
}

impl Share {
    pub(crate) fn of(load: u32, capacity: u32) -> Self {
        Self((u64::from(load) << 32) / u64::from(capacity.max(1)))
    }
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

/// What a conversation takes of an agent.
#[derive(PartialEq, Eq)]
struct Grip {
    agent: AgentId,
    units: u32,
    held: bool,
}

impl Grip {
    fn of(conversation: &Conversation) -> Option<Self> {
        let phase = &conversation.phase;
        let units = if phase.takes_capacity() { conversation.weight } else { 0 };
        phase.agent().map(|agent| Self { agent: agent.clone(), units, held: phase.holder().is_some() })
    }

    fn release(&self, id: ConversationId, agent: &mut Agent) {
        agent.load = agent.load.saturating_sub(self.units);
        agent.holds.remove(&id);
    }

    fn take(&self, id: ConversationId, agent: &mut Agent) {
        agent.load = agent.load.saturating_add(self.units);
        if self.held {
            agent.holds.insert(id);
        }
    }
}

impl Index {
    /// Enters what follows from a conversation alone.
    fn enter(&mut self, id: ConversationId, conversation: &Conversation) {
        if let Some(timer) = timer_of(id, &conversation.phase) {
            self.timers.insert(timer);
        }
        if let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) {
            let key = ItemKey::of(id, conversation);
            let classes = self.waiting.entry(queue.clone()).or_default();
            classes.entry(Class::of(conversation)).or_default().insert(key);
            if let Some(direct) = &conversation.direct {
                self.meant.entry(direct.clone()).or_default().insert(key);
            }
            self.dirty_items.insert(key);
        }
    }

    /// Takes out what [`Index::enter`] entered, and what is empty then.
    fn leave(&mut self, id: ConversationId, conversation: &Conversation) {
        if let Some(timer) = timer_of(id, &conversation.phase) {
            self.timers.remove(&timer);
        }
        if let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) {
            let key = ItemKey::of(id, conversation);
            if let Some(classes) = self.waiting.get_mut(queue) {
                remove_from(classes, &Class::of(conversation), &key);
                if classes.is_empty() {
                    self.waiting.remove(queue);
                }
            }
            if let Some(direct) = &conversation.direct {
                remove_from(&mut self.meant, direct, &key);
            }
            self.dirty_items.remove(&key);
        }
    }
}

/// Takes a value out of the set that a key names, and the set with it when it is empty.
fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

impl State {
    /// Rebuilds everything that is derived; for a state that was read from a snapshot.
    pub fn reindex(&mut self) {
        self.index = Index::default();
        self.seen.reindex();
        self.index_roster();
        for (id, conversation) in &self.conversations {
            self.index.enter(*id, conversation);
            self.index.by_customer.insert(conversation.customer, *id);
        }
        for (id, offer) in &self.offers {
            self.index.timers.insert((offer.expires_at, Timer::Offer(*id)));
        }
        for (id, agent) in &self.agents {
            self.index.timers.extend(agent.grace_until.map(|at| (at, Timer::Grace(id.clone()))));
        }
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for id in agents {
            self.rank_agent(&id);
        }
        self.index.dirty_agents.clear();
        self.index.dirty_items.clear();
    }

    /// The members of each queue and the kinds of agents, from the policy. Nobody is ranked after it.
    pub(crate) fn index_roster(&mut self) {
        let index = &mut self.index;
        index.members.clear();
        index.ready.clear();
        index.ranked.clear();
        index.kind_of.clear();
        let mut kinds: BTreeMap<Kind, Vec<&AgentId>> = BTreeMap::new();
        for (id, spec) in &self.policy.agents {
            for queue in &spec.queues {
                index.members.entry(queue.clone()).or_default().push(id.clone());
            }
            kinds.entry(Kind { capacity: spec.capacity, skills: spec.skills.clone() }).or_default().push(id);
        }
        for (number, agents) in kinds.values().enumerate() {
            index.kind_of.extend(agents.iter().map(|id| ((*id).clone(), number)));
        }
        index.kinds = kinds.into_keys().collect();
    }

    /// Changes an open conversation and everything that follows from it.
    pub(crate) fn change_conversation(&mut self, id: ConversationId, change: impl FnOnce(&mut Conversation)) {
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        self.index.leave(id, conversation);
        let before = Grip::of(conversation);
        change(conversation);
        let after = Grip::of(conversation);
        self.index.enter(id, conversation);
        self.shift(id, before, after);
    }

    pub(crate) fn insert_conversation(&mut self, id: ConversationId, conversation: Conversation) {
        self.index.enter(id, &conversation);
        self.index.by_customer.insert(conversation.customer, id);
        let grip = Grip::of(&conversation);
        self.conversations.insert(id, conversation);
        self.shift(id, None, grip);
    }

    pub(crate) fn remove_conversation(&mut self, id: ConversationId) {
        let Some(conversation) = self.conversations.remove(&id) else { return };
        self.index.leave(id, &conversation);
        if self.index.by_customer.get(&conversation.customer) == Some(&id) {
            self.index.by_customer.remove(&conversation.customer);
        }
        self.shift(id, Grip::of(&conversation), None);
    }

    /// Moves what a conversation takes from one agent to another. With the same agent it is one change:
    /// in between, the agent would seem to have room that it has not.
    fn shift(&mut self, id: ConversationId, before: Option<Grip>, after: Option<Grip>) {
        match (before, after) {
            (before, after) if before == after => {}
            (Some(before), Some(after)) if before.agent == after.agent => self.change_agent(&before.agent, |agent| {
                before.release(id, agent);
                after.take(id, agent);
            }),
            (before, after) => {
                if let Some(before) = before {
                    self.change_agent(&before.agent, |agent| before.release(id, agent));
                }
                if let Some(after) = after {
                    self.change_agent(&after.agent, |agent| after.take(id, agent));
                }
            }
        }
    }

    pub(crate) fn insert_offer(&mut self, id: OfferId, offer: Offer) {
        self.index.timers.insert((offer.expires_at, Timer::Offer(id)));
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.insert(id);
        }
        self.offers.insert(id, offer);
    }

    pub(crate) fn remove_offer(&mut self, id: OfferId) {
        let Some(offer) = self.offers.remove(&id) else { return };
        self.index.timers.remove(&(offer.expires_at, Timer::Offer(id)));
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.remove(&id);
        }
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
    fn rank_agent(&mut self, id: &AgentId) {
        let after = self.rank_of(id);
        if self.index.ranked.get(id) == after.as_ref() {
            return;
        }
        let index = &mut self.index;
        let before = index.ranked.remove(id);
        // Whoever is or was ranked is in the policy, with the same queues and kind: see `index_roster`.
        let (Some(spec), Some(kind)) = (self.policy.agents.get(id), index.kind_of.get(id)) else { return };
        for queue in &spec.queues {
            let kinds = index.ready.entry(queue.clone()).or_default();
            if let Some(rank) = &before {
                remove_from(kinds, kind, rank);
            }
            if let Some(rank) = &after {
                kinds.entry(*kind).or_default().insert(rank.clone());
            }
        }
        let Some(rank) = after else { return };
        // More room than before, or room where there was none: something may fit now.
        if before.is_none_or(|old| old.load > rank.load) {
            index.dirty_agents.insert(id.clone());
        }
        index.ranked.insert(id.clone(), rank);
    }

    fn rank_of(&self, id: &AgentId) -> Option<Rank> {
        let agent = self.agents.get(id)?;
        let spec = self.policy.agents.get(id)?;
        (agent.takes_offers() && agent.load < spec.capacity).then(|| Rank {
            share: Share::of(agent.load, spec.capacity),
            last_assigned_at: agent.last_assigned_at,
            agent: id.clone(),
            load: agent.load,
        })
    }
}
