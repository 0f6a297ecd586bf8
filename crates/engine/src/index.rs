//! What is derived from the state to find things fast: timers, waiting items, agents with room.
//!
//! Conversations and agents are changed only through [`State::change_conversation`] and
//! [`State::change_agent`], which keep the index, the agents' loads and what they hold in step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::envelope::Account;
use contract::event::{Requirement, Terms};
use contract::policy::{CapacityPool, Policy, Takes};
use contract::{AgentId, ConversationId, CustomerId, Millis, OfferId, QueueId, Timestamp};

use crate::agent::Agent;
use crate::conversation::{Conversation, Offer, Past, Phase, ThreadKey};
use crate::roster::{AgentNo, Live, Roster, Standing};
use crate::shared::Shared;
use crate::state::State;
use crate::timer::Timer;
use crate::waiting::Waiting;

#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// A journal is being replayed: what only decisions ask for (timers, what waits, who is ready) is not kept in step
    /// with each fact, and made from the state at the end.
    pub(crate) replaying: bool,
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    pub(crate) waiting: Waiting,
    pub(crate) roster: Roster,
    /// The open conversations of each person, by the customer that it goes under.
    pub(crate) by_customer: BTreeSet<(CustomerId, ConversationId)>,
    /// The queues that are closed.
    pub(crate) closed: BTreeSet<crate::roster::TeamNo>,
    /// How many queued conversations are meant for an agent.
    pub(crate) direct: BTreeMap<AgentId, u32>,
    /// Queued conversations that nobody who is signed in could take when that was last looked at.
    pub(crate) alarmed: BTreeSet<ConversationId>,
    /// Ended conversations that are remembered, by when they ended.
    pub(crate) past: BTreeSet<(Timestamp, CustomerId)>,
    /// By what conversations are routed; many by the same.
    pub(crate) terms: Shared<Terms>,
    /// What they ask of an agent, while a journal is replayed: else rules hand out the same one each time.
    pub(crate) requirements: Shared<Requirement>,
    /// The accounts that threads are on.
    pub(crate) accounts: Shared<Account>,
    /// The threads of each customer, in their order. Never `None`, which stands before the first.
    pub(crate) threads: BTreeSet<(CustomerId, Option<Arc<ThreadKey>>)>,
    /// What a step must still match.
    pub(crate) dirty_items: BTreeSet<ConversationId>,
    pub(crate) dirty_agents: BTreeSet<AgentNo>,
}

impl Index {
    /// The open conversations of a person, oldest first.
    pub(crate) fn open_of(&self, root: CustomerId) -> impl DoubleEndedIterator<Item = ConversationId> + '_ {
        self.by_customer.range((root, ConversationId(0))..=(root, ConversationId(u64::MAX))).map(|(_, id)| *id)
    }
}

/// What a conversation takes of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grip {
    agent: AgentId,
    units: u32,
    interruptible: bool,
    role: Role,
}

/// The timers of one conversation; those of waiting in the places of those of talking, which it cannot have too.
type Timers = [Option<(Timestamp, Timer)>; 6];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Offered,
    Holds,
    Keeps,
}

fn grips(conversation: &Conversation) -> Vec<Grip> {
    let grip = |agent: &AgentId, units, role| Grip {
        agent: agent.clone(),
        units,
        interruptible: conversation.interruptible,
        role,
    };
    let keeper = conversation.keeper.as_deref().into_iter().map(|agent| grip(agent, conversation.units, Role::Keeps));
    match &conversation.phase {
        Phase::Waiting { .. } => keeper.collect(),
        Phase::Offered { offers } => {
            let offered = offers.iter().map(|(_, agent)| grip(agent, conversation.terms.weight, Role::Offered));
            offered.chain(keeper).collect()
        }
        Phase::Active { agent } | Phase::Parked { agent, .. } | Phase::Wrapping { agent, .. } => {
            vec![grip(agent, conversation.units, Role::Holds)]
        }
    }
}

/// What a conversation takes: of whom, how many units, and whether of the interruptible part.
pub(crate) fn taken(conversation: &Conversation) -> impl Iterator<Item = (AgentId, u32, bool)> {
    grips(conversation).into_iter().map(|grip| (grip.agent, grip.units, grip.interruptible))
}

impl Grip {
    fn release(&self, id: ConversationId, conversation: &Conversation, agent: &mut Agent) {
        agent.load = agent.load.saturating_sub(self.units);
        if self.interruptible {
            agent.interruptible = agent.interruptible.saturating_sub(self.units);
        }
        take_from(&mut agent.by_channel, &conversation.kind);
        for label in &conversation.terms.labels {
            take_from(&mut agent.by_label, label);
        }
        match self.role {
            Role::Offered => false,
            Role::Holds => agent.holds.remove(&id),
            Role::Keeps => agent.keeps.remove(&id),
        };
    }

    fn take(&self, id: ConversationId, conversation: &Conversation, agent: &mut Agent) {
        agent.load = agent.load.saturating_add(self.units);
        if self.interruptible {
            agent.interruptible = agent.interruptible.saturating_add(self.units);
        }
        *agent.by_channel.entry(conversation.kind.clone()).or_default() += 1;
        for label in &conversation.terms.labels {
            *agent.by_label.entry(label.clone()).or_default() += 1;
        }
        match self.role {
            Role::Offered => false,
            Role::Holds => agent.holds.insert(id),
            Role::Keeps => agent.keeps.insert(id),
        };
    }
}

/// Counts one less, and forgets what is no more.
fn take_from<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl State {
    /// Rebuilds everything that is derived; for a state that was read from a snapshot.
    pub fn reindex(&mut self) {
        self.seen.reindex();
        self.rules = crate::state::Rules::of(&self.policy);
        self.rebuild_index();
        self.index.dirty_agents.clear();
        self.index.dirty_items.clear();
    }

    /// Rebuilds the index; everything is to be matched after it.
    pub(crate) fn rebuild_index(&mut self) {
        self.number_agents();
        if !self.index.replaying {
            self.index_kept();
            self.index_decisions();
        }
    }

    /// Makes the roster of the policy in force.
    fn number_agents(&mut self) {
        self.index.roster = Roster::of(&self.policy);
        for (id, agent) in self.agents.iter_mut() {
            agent.no = self.index.roster.numbers.get(id).copied();
        }
    }

    /// Makes what evolving facts needs, and nothing else.
    fn index_kept(&mut self) {
        let Index { roster, replaying, .. } = std::mem::take(&mut self.index);
        self.index = Index { roster, replaying, ..Index::default() };
        // Sorted and built as a whole, as below.
        let mut threads = Vec::new();
        for thread in self.threads.iter_mut() {
            self.index.accounts.join(&mut thread.state.account);
            threads.push((thread.state.customer, Some(Arc::clone(&thread.key))));
        }
        self.index.threads = threads.into_iter().collect();
        for (id, conversation) in &mut self.conversations {
            self.index.terms.join(&mut conversation.terms);
            self.index.by_customer.insert((self.kin.root(conversation.customer), *id));
            for key in &mut conversation.threads {
                if let Some(known) = self.threads.named(key) {
                    *key = Arc::clone(&known.key);
                }
            }
        }
        self.index.past = self.past.iter().map(|(customer, past)| (past.closed_at, *customer)).collect();
    }

    /// Begins a replay: until it ends, only what evolving facts needs is kept in step.
    pub(crate) fn begin_replay(&mut self) {
        self.index.replaying = true;
        self.seen.reindex();
        self.rules = crate::state::Rules::of(&self.policy);
        self.number_agents();
        self.index_kept();
    }

    /// Ends it, and makes what was left out.
    pub(crate) fn end_replay(&mut self) {
        self.index.replaying = false;
        self.index_decisions();
        self.index.requirements = Shared::default();
        self.index.dirty_agents.clear();
        self.index.dirty_items.clear();
    }

    /// Makes what a replay left out: what only decisions ask for.
    pub(crate) fn index_decisions(&mut self) {
        // Sorted and built as a whole: entered one by one they take twice as long.
        let mut timers: Vec<(Timestamp, Timer)> = Vec::new();
        let mut closed = BTreeSet::new();
        for (id, agent) in self.agents.iter() {
            timers.extend(timers_of_agent(id, agent).into_iter().flatten());
            if let Some(no) = agent.no {
                rank_agent(&mut self.index, &self.policy, no, agent);
            }
        }
        let mut conversations = std::mem::take(&mut self.conversations);
        for (id, conversation) in &mut conversations {
            timers.extend(self.timers_of(*id, conversation).into_iter().flatten());
            self.place(*id, conversation);
        }
        self.conversations = conversations;
        timers.extend(self.offers.iter().map(|(id, offer)| (offer.expires_at, Timer::Offer(*id))));
        for thread in self.threads.iter() {
            let due = thread.state.unread_due();
            timers.extend(due.map(|at| (at, Timer::Unread(Box::new((*thread.key).clone())))));
        }
        for (id, queue) in &self.queues {
            timers.extend(queue.changes_at.map(|at| (at, Timer::Hours(Box::new(id.clone())))));
            let team = self.index.roster.queues.get(id).filter(|_| queue.closed).copied();
            closed.extend(team);
        }
        self.index.closed = closed;
        self.index.timers = timers.into_iter().collect();
    }

    /// Enters what follows from a conversation alone. `before`: the timers that it had.
    fn enter(&mut self, id: ConversationId, conversation: &mut Conversation, before: Timers) {
        if self.index.replaying {
            return;
        }
        self.set_timers(before, self.timers_of(id, conversation));
        self.place(id, conversation);
    }

    /// Enters it where it is found, save for its timers.
    fn place(&mut self, id: ConversationId, conversation: &mut Conversation) {
        if conversation.phase.queued() {
            if let Some(direct) = &conversation.direct {
                *self.index.direct.entry((**direct).clone()).or_default() += 1;
            }
            if conversation.alarmed_at.is_some() {
                self.index.alarmed.insert(id);
            }
        }
        if matches!(conversation.phase, Phase::Waiting { .. }) && conversation.queue.is_some() {
            let Index { waiting, roster, .. } = &mut self.index;
            if let Some(requirement) = waiting.insert(id, conversation, &self.policy, roster, self.now) {
                // The same one as all that ask it.
                conversation.requirement = requirement;
            }
            self.index.dirty_items.insert(id);
        }
    }

    /// Takes out what [`State::enter`] entered, save for its timers, which it returns.
    fn leave(&mut self, id: ConversationId, conversation: &Conversation) -> Timers {
        if self.index.replaying {
            return Timers::default();
        }
        if conversation.phase.queued() {
            if let Some(direct) = &conversation.direct {
                take_from(&mut self.index.direct, direct);
            }
            if conversation.alarmed_at.is_some() {
                self.index.alarmed.remove(&id);
            }
        }
        if matches!(conversation.phase, Phase::Waiting { .. }) {
            self.index.waiting.remove(id, conversation.due_at);
            self.index.dirty_items.remove(&id);
        }
        self.timers_of(id, conversation)
    }

    /// The timers that a conversation sets.
    fn timers_of(&self, id: ConversationId, item: &Conversation) -> Timers {
        let (mut phase, mut first, mut second, mut third, mut fourth) = (None, None, None, None, None);
        match &item.phase {
            Phase::Waiting { next_round_at } => phase = next_round_at.map(|at| (at, Timer::Round(id))),
            Phase::Parked { until, .. } => phase = until.map(|at| (at, Timer::Park(id))),
            Phase::Wrapping { until, .. } => phase = Some((*until, Timer::WrapUp(id))),
            _ => {}
        }
        let classify = item.classifying.as_ref().map(|pending| (pending.until, Timer::Classify(id)));
        if item.phase.queued() {
            first = item.step_ends_at.map(|at| (at, Timer::Step(id)));
            if let Some(queue) = item.queue.as_ref().and_then(|queue| self.policy.queues.get(queue)) {
                // The fallback is taken once: a limit that is reached after it changes nothing.
                let limits = Some(&queue.limits).filter(|_| !item.fell_back);
                let longest = limits.and_then(|limits| limits.wait_max_ms);
                second = longest.and_then(|longest| Some((self.waited_at(item, longest)?, Timer::WaitMax(id))));
                let longest = limits.and_then(|limits| limits.wait_without_agents_max_ms);
                if let (Some(longest), Some(since), Some(queue)) = (longest, item.alarmed_at, &item.queue) {
                    // That nobody is there while it is closed is no wonder.
                    let end = self.rules.get().open_deadline(queue, since, longest);
                    fourth = end.map(|at| (at, Timer::NoAgents(id)));
                }
                let next = self.next_milestone(item).and_then(|next| self.waited_at(item, next));
                third = next.map(|at| (at, Timer::Waited(id)));
            }
        }
        if let Phase::Active { .. } | Phase::Parked { .. } = &item.phase
            && let Some(channel) = self.policy.channels.get(&item.kind)
        {
            let active = matches!(item.phase, Phase::Active { .. });
            if active
                && !item.idle
                && let (Some(after), Some(last)) = (channel.idle_after_ms, item.last_inbound_at)
            {
                first = Some((last + after, Timer::Idle(id)));
            }
            let park = channel.park_after_ms.filter(|_| active);
            second = park.map(|after| (item.last_word_at + after, Timer::ParkIdle(id)));
            third = channel.close_after_ms.map(|after| (item.last_word_at + after, Timer::CloseIdle(id)));
        }
        [phase, first, second, third, fourth, classify]
    }

    /// The next wait of a queued conversation on which something depends.
    pub(crate) fn next_milestone(&self, item: &Conversation) -> Option<Millis> {
        let queue = item.queue.as_ref()?;
        let roster = &self.index.roster;
        // Members of other queues that the step asks may be asked late too.
        let asked = std::iter::once(queue).chain(&item.step().pool.queues);
        let teams = asked.filter_map(|queue| roster.team(*roster.queues.get(queue)?));
        let delays = teams.flat_map(|team| &team.delays).map(|delay| Millis(*delay));
        let spec = self.policy.queues.get(queue);
        let overflows = spec.into_iter().flat_map(|queue| &queue.overflow).map(|overflow| overflow.after_ms);
        delays.chain(overflows).filter(|wait| *wait > item.reached).min()
    }

    /// When a queued conversation will have waited so long, of time that counts.
    pub(crate) fn waited_at(&self, item: &Conversation, span: Millis) -> Option<Timestamp> {
        let (queue, since) = (item.queue.as_ref()?, item.queued_at?);
        let left = Millis(span.0.saturating_sub(item.waited_ms.0));
        self.rules.get().open_deadline(queue, since, left)
    }

    /// How much of a conversation's wait is over, of time that counts.
    pub(crate) fn waited(&self, item: &Conversation, now: Timestamp) -> Millis {
        let current = match (&item.queue, item.queued_at) {
            (Some(queue), Some(since)) => self.rules.get().open_between(queue, since, now),
            _ => Millis(0),
        };
        Millis(item.waited_ms.0.saturating_add(current.0))
    }

    /// Changes an open conversation and everything that follows from it.
    pub(crate) fn change_conversation(&mut self, id: ConversationId, change: impl FnOnce(&mut Conversation)) {
        // Taken away as a whole, which moves three words: to take one out and put it back costs two walks through
        // the tree. Nothing of what follows looks at other conversations.
        let mut conversations = std::mem::take(&mut self.conversations);
        if let Some(conversation) = conversations.get_mut(&id) {
            let timers = self.leave(id, conversation);
            let before = (grips(conversation), conversation.kind.clone(), conversation.terms.labels.clone());
            change(conversation);
            let after = grips(conversation);
            self.shift(id, conversation, before, after);
            self.enter(id, conversation, timers);
        }
        self.conversations = conversations;
    }

    /// Sets timers in place of others; most changes leave most of them as they were.
    fn set_timers(&mut self, before: Timers, after: Timers) {
        for (before, after) in before.into_iter().zip(after) {
            if before != after {
                if let Some(before) = before {
                    self.index.timers.remove(&before);
                }
                self.index.timers.extend(after);
            }
        }
    }

    pub(crate) fn insert_conversation(&mut self, id: ConversationId, mut conversation: Conversation) {
        self.index.terms.join(&mut conversation.terms);
        self.index.by_customer.insert((self.kin.root(conversation.customer), id));
        self.enter(id, &mut conversation, Timers::default());
        self.conversations.insert(id, Box::new(conversation));
    }

    /// Two customers became one person, or two persons again: their conversations are found under whom they go now.
    pub(crate) fn change_kin(&mut self, concerned: CustomerId, change: impl FnOnce(&mut contract::kin::Kin)) {
        let members: Vec<CustomerId> = self.kin.members(concerned).collect();
        let root = self.kin.root(concerned);
        let open: Vec<ConversationId> = self.index.open_of(root).collect();
        change(&mut self.kin);
        let moved = members.iter().any(|member| self.kin.root(*member) != root);
        for id in open.into_iter().filter(|_| moved) {
            let Some(customer) = self.conversations.get(&id).map(|item| item.customer) else { continue };
            self.index.by_customer.remove(&(root, id));
            self.index.by_customer.insert((self.kin.root(customer), id));
        }
        // What was said to the one is not answered to the other.
        for id in self.open_with(&members) {
            let Some(customer) = self.conversations.get(&id).map(|item| self.kin.root(item.customer)) else { continue };
            let (threads, kin) = (&self.threads, &self.kin);
            let ours =
                |key: &Arc<ThreadKey>| threads.get(key).is_none_or(|thread| kin.root(thread.customer) == customer);
            if let Some(item) = self.conversations.get_mut(&id)
                && !item.threads.iter().all(ours)
            {
                item.threads.retain(ours);
            }
        }
    }

    fn open_with(&self, customers: &[CustomerId]) -> BTreeSet<ConversationId> {
        customers.iter().flat_map(|customer| self.index.open_of(self.kin.root(*customer))).collect()
    }

    pub(crate) fn remove_conversation(&mut self, id: ConversationId) {
        let Some(conversation) = self.conversations.remove(&id) else { return };
        let timers = self.leave(id, &conversation);
        self.set_timers(timers, Timers::default());
        self.index.terms.give_back(&conversation.terms);
        self.index.by_customer.remove(&(self.kin.root(conversation.customer), id));
        for grip in grips(&conversation) {
            self.change_agent(&grip.agent, |agent| grip.release(id, &conversation, agent));
        }
        for reader in conversation.readers.keys() {
            self.change_agent(reader, |agent| {
                agent.reads.remove(&id);
            });
        }
    }

    /// Moves what a conversation takes from some agents to others. Of the same agent it is one change: in
    /// between, the agent would seem to have room that it has not.
    fn shift(
        &mut self,
        id: ConversationId,
        conversation: &Conversation,
        (before, kind, labels): (Vec<Grip>, contract::ChannelKind, BTreeSet<contract::SmolStr>),
        after: Vec<Grip>,
    ) {
        let labelled = labels != conversation.terms.labels;
        if before == after && kind == conversation.kind && !labelled {
            return;
        }
        let mut agents: Vec<&AgentId> = before.iter().chain(&after).map(|grip| &grip.agent).collect();
        agents.sort_unstable();
        agents.dedup();
        for id_of_agent in agents {
            self.change_agent(id_of_agent, |agent| {
                for grip in before.iter().filter(|grip| grip.agent == *id_of_agent) {
                    // As it was: the channel and the labels may be others by now.
                    agent.load = agent.load.saturating_sub(grip.units);
                    if grip.interruptible {
                        agent.interruptible = agent.interruptible.saturating_sub(grip.units);
                    }
                    take_from(&mut agent.by_channel, &kind);
                    for label in &labels {
                        take_from(&mut agent.by_label, label);
                    }
                    match grip.role {
                        Role::Offered => false,
                        Role::Holds => agent.holds.remove(&id),
                        Role::Keeps => agent.keeps.remove(&id),
                    };
                }
                for grip in after.iter().filter(|grip| grip.agent == *id_of_agent) {
                    grip.take(id, conversation, agent);
                }
            });
            if labelled {
                // One label less may make room where no unit got free.
                self.rematch(id_of_agent);
            }
        }
    }

    pub(crate) fn insert_offer(&mut self, id: OfferId, offer: Offer) {
        if !self.index.replaying {
            self.index.timers.insert((offer.expires_at, Timer::Offer(id)));
        }
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

    /// Remembers an ended conversation, and forgets those that ended too long ago to matter.
    pub(crate) fn remember_past(&mut self, customer: CustomerId, past: Past, keep: Millis) {
        let now = past.closed_at;
        if let Some(before) = self.past.insert(customer, past) {
            self.index.past.remove(&(before.closed_at, customer));
        }
        self.index.past.insert((now, customer));
        while let Some((at, customer)) = self.index.past.first().copied().filter(|(at, _)| *at + keep < now) {
            self.index.past.remove(&(at, customer));
            self.past.remove(&customer);
        }
    }

    /// Notes that a queue is closed, or open: what waits in it may then be matched.
    pub(crate) fn mark_closed(&mut self, queue: &QueueId, closed: bool) {
        let Index { roster, closed: all, dirty_agents, waiting, .. } = &mut self.index;
        let Some(team) = roster.queues.get(queue).copied() else { return };
        if closed {
            all.insert(team);
        } else if all.remove(&team) {
            let asked = waiting.classes().filter(|class| class.home == team).flat_map(|class| &class.teams);
            let asked: BTreeSet<crate::roster::TeamNo> = asked.copied().collect();
            dirty_agents.extend(asked.into_iter().flat_map(|team| roster.ready(team)));
        }
    }

    pub(crate) fn change_queue(&mut self, id: &QueueId, change: impl FnOnce(&mut crate::queue::QueueState)) {
        let queue = match self.queues.get_mut(id) {
            Some(queue) => queue,
            None => self.queues.entry(id.clone()).or_default(),
        };
        let before = queue.changes_at;
        change(queue);
        if before != queue.changes_at && !self.index.replaying {
            let timer = |at| (at, Timer::Hours(Box::new(id.clone())));
            if let Some(before) = before {
                self.index.timers.remove(&timer(before));
            }
            self.index.timers.extend(queue.changes_at.map(timer));
        }
    }

    /// Changes an agent, and its place among those with room.
    pub(crate) fn change_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut Agent)) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let before = (!self.index.replaying).then(|| agent.times());
        change(agent);
        if agent.excess > 0 || agent.interruptible_excess > 0 {
            let (capacity, interruptible) = self.index.roster.capacities(agent.no);
            agent.excess = agent.excess.min(agent.primary().saturating_sub(capacity));
            agent.interruptible_excess =
                agent.interruptible_excess.min(agent.interruptible.saturating_sub(interruptible));
        }
        let Some(before) = before else { return };
        if before != agent.times() {
            for timer in timers_at(id, before).into_iter().flatten() {
                self.index.timers.remove(&timer);
            }
            self.index.timers.extend(timers_of_agent(id, agent).into_iter().flatten());
        }
        if let Some(no) = agent.no {
            rank_agent(&mut self.index, &self.policy, no, agent);
        }
    }

    /// What stands above the capacity now is allowed: the engine did not offer it.
    pub(crate) fn allow_excess(&mut self, id: &AgentId) {
        let Some(no) = self.agents.get(id).map(|agent| agent.no) else { return };
        let (capacity, interruptible) = self.index.roster.capacities(no);
        self.change_agent(id, |agent| {
            agent.excess = agent.primary().saturating_sub(capacity);
            agent.interruptible_excess = agent.interruptible.saturating_sub(interruptible);
        });
    }

    /// The part of the capacity that conversations of a channel kind take.
    pub(crate) fn interrupts(&self, kind: &contract::ChannelKind) -> bool {
        self.policy.channel(kind).pool == CapacityPool::Interruptible
    }
}

/// Puts an agent where it belongs among those that take offers and have room.
fn rank_agent(index: &mut Index, policy: &Policy, no: AgentNo, agent: &Agent) {
    let Some((capacity, position)) = index.roster.slot(no).map(|slot| (slot.capacity, slot.position)) else { return };
    let takes = policy.presence(agent.presence.as_str()).map_or(&Takes::Nothing, |spec| &spec.takes);
    let live = Live {
        signed_in: agent.signed_in(),
        takes: *takes != Takes::Nothing,
        takes_all: *takes == Takes::Everything,
        ready: agent.connected
            && *takes != Takes::Nothing
            && agent.rest_until.is_none()
            && agent.rate_until.is_none()
            && agent.not_responding_until.is_none()
            && agent.primary() < capacity,
        primary: agent.primary(),
        interruptible: agent.interruptible,
        items: agent.items(),
        standing: Standing::of(agent, capacity, position),
    };
    if index.roster.update(no, live) {
        index.dirty_agents.insert(no);
    }
}

/// The timers that an agent sets.
fn timers_of_agent(id: &AgentId, agent: &Agent) -> [Option<(Timestamp, Timer)>; 3] {
    timers_at(id, agent.times())
}

/// The timers of an agent that is due at such times.
fn timers_at(id: &AgentId, [grace, responding, rest]: [Option<Timestamp>; 3]) -> [Option<(Timestamp, Timer)>; 3] {
    [
        grace.map(|at| (at, Timer::Grace(Box::new(id.clone())))),
        responding.map(|at| (at, Timer::Responding(Box::new(id.clone())))),
        rest.map(|at| (at, Timer::Rest(Box::new(id.clone())))),
    ]
}
