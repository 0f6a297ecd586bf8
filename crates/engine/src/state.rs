//! The state of one tenant, and the step that an input makes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use contract::event::EventRecord;
use contract::feed::ConversationView;
use contract::journal::{Cause, Entry, Position};
use contract::kin::Kin;
use contract::policy::Policy;
use contract::{AgentId, ConversationId, CustomerId, Event, OfferId, QueueId, SmolStr, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::about::About;
use crate::agent::{Agent, Commands};
use crate::agents::Agents;
use crate::contact::Switch;
use crate::conversation::{Conversation, Offer, Past, ThreadKey, ThreadState};
use crate::index::Index;
use crate::queue::QueueState;
use crate::seen::Seen;
use crate::threads::Threads;
use crate::wish::Wished;

/// Everything that routing knows of one tenant.
///
/// What is serialised is the truth; the rest is derived from it, by [`State::reindex`] after a
/// snapshot was read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The latest time that an input came with; time never goes back.
    pub(crate) now: Timestamp,
    pub(crate) policy: Arc<Policy>,
    pub(crate) policy_version: u64,
    pub(crate) last_conversation: u64,
    pub(crate) last_offer: u64,
    pub(crate) last_message: u64,
    pub(crate) agents: Agents,
    /// Boxed: in the tree itself, each insertion moved kilobytes, and half the room was empty.
    pub(crate) conversations: BTreeMap<ConversationId, Box<Conversation>>,
    pub(crate) offers: BTreeMap<OfferId, Offer>,
    pub(crate) threads: Threads,
    pub(crate) queues: BTreeMap<QueueId, QueueState>,
    /// The newest conversation of each customer that has ended, as long as it may matter.
    pub(crate) past: BTreeMap<CustomerId, Past>,
    /// Which customers are one person.
    pub(crate) kin: Kin,
    /// What is known of customers, where anything is.
    pub(crate) about: BTreeMap<CustomerId, Box<About>>,
    /// Conversations that are to go on by another channel.
    pub(crate) switches: BTreeMap<SmolStr, Switch>,
    /// What customers asked for of the kind in the last day.
    #[serde(default)]
    pub(crate) wishes: VecDeque<Wished>,
    pub(crate) seen: Seen,
    pub(crate) admin_commands: Commands,
    /// Fingerprints of the threads of customers who are not in memory, and under whom these go.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) resting: BTreeSet<(u64, CustomerId)>,
    /// What the policy means.
    #[serde(skip)]
    pub(crate) rules: Rules,
    #[serde(skip)]
    pub(crate) index: Index,
}

/// What a policy means.
#[derive(Debug, Clone)]
pub(crate) struct Rules(Arc<policy::Compiled>);

impl Rules {
    pub(crate) fn of(policy: &Arc<Policy>) -> Self {
        Self(Arc::new(policy::Compiled::new(Arc::clone(policy))))
    }

    /// A handle of its own, so that what asks it can change the state.
    pub(crate) fn get(&self) -> Arc<policy::Compiled> {
        Arc::clone(&self.0)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::of(&Arc::default())
    }
}

/// What one input led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// The input.
    pub cause: Cause,
    /// The facts, in order.
    pub emitted: Vec<Emitted>,
}

/// A fact, and whom it reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// The fact.
    pub event: Arc<Event>,
    /// Whom it reaches.
    pub reach: Reach,
}

/// Whom and what a fact reaches; found out while it is evolved, the same in a replay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reach {
    /// The customer it concerns.
    pub customer: Option<CustomerId>,
    /// The agents it is shown to, with the sequence it has on each one's feed.
    pub feeds: Vec<(AgentId, u64)>,
    /// The last view of a conversation that it ended.
    pub closed: Option<Box<ConversationView>>,
}

impl Step {
    /// Nothing was decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.emitted.is_empty()
    }

    /// The step as the journal keeps it.
    #[must_use]
    pub fn entry(&self, tenant: &TenantId) -> Entry {
        Entry {
            tenant: tenant.clone(),
            at: self.at,
            cause: self.cause.clone(),
            events: self.emitted.iter().map(|emitted| Arc::clone(&emitted.event)).collect(),
        }
    }
}

impl Emitted {
    /// The fact as `EVENTS` and the feeds carry it.
    #[must_use]
    pub fn record(&self, tenant: &TenantId, at: Timestamp, position: Position) -> EventRecord {
        EventRecord {
            position,
            tenant: tenant.clone(),
            at,
            customer: self.reach.customer,
            conversation: self.event.conversation(),
            event: Arc::clone(&self.event),
        }
    }
}

impl State {
    /// A tenant without policy, agents or conversations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a step. Time does not go back, whatever the clock says.
    pub(crate) fn begin(&self, now: Timestamp, cause: Cause) -> Step {
        Step { at: now.max(self.now), cause, emitted: Vec::new() }
    }

    /// Decides a fact: evolves it at once, so that what is decided next sees it.
    pub(crate) fn emit(&mut self, step: &mut Step, event: Event) {
        let event = Arc::new(event);
        let reach = self.evolve(step.at, &event);
        step.emitted.push(Emitted { event, reach });
    }

    /// Adds a fact that somebody else decided (the profile), with whom it reaches.
    pub fn adopt(&mut self, step: &mut Step, event: Event) {
        self.emit(step, event);
    }

    /// Begins a step for facts that others decide; end it with [`State::finish`].
    #[must_use]
    pub fn open_step(&self, now: Timestamp, cause: Cause) -> Step {
        self.begin(now, cause)
    }

    /// Ends a step: matches what became matchable, and remembers the input.
    pub fn finish(&mut self, step: &mut Step) {
        self.settle(step);
        self.direct_calls(step);
        let cause = step.cause.clone();
        self.evolve_cause(step.at, &cause);
    }

    /// Does an entry of the journal again, and says whom each fact reaches.
    pub fn replay(&mut self, entry: &Entry) -> Vec<Emitted> {
        let emitted = entry
            .events
            .iter()
            .map(|event| Emitted { event: Arc::clone(event), reach: self.evolve(entry.at, event) })
            .collect();
        self.evolve_cause(entry.at, &entry.cause);
        self.index.dirty_agents.clear();
        self.index.dirty_items.clear();
        emitted
    }

    /// The policy in force, and its version (0: none was applied yet).
    #[must_use]
    pub fn policy(&self) -> (&Arc<Policy>, u64) {
        (&self.policy, self.policy_version)
    }

    /// An agent of the roster, or one that still holds something.
    #[must_use]
    pub fn agent(&self, agent: &AgentId) -> Option<&Agent> {
        self.agents.get(agent)
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.agents.iter()
    }

    /// An open conversation.
    #[must_use]
    pub fn conversation(&self, conversation: ConversationId) -> Option<&Conversation> {
        self.conversations.get(&conversation).map(Box::as_ref)
    }

    /// All open conversations.
    pub fn conversations(&self) -> impl Iterator<Item = (ConversationId, &Conversation)> {
        self.conversations.iter().map(|(id, conversation)| (*id, &**conversation))
    }

    /// A queue, as far as more is known of it than the policy says.
    #[must_use]
    pub fn queue(&self, queue: &QueueId) -> Option<&QueueState> {
        self.queues.get(queue)
    }

    /// The place of a waiting conversation among all at a moment, as its queue orders them.
    #[must_use]
    pub fn precedence(&self, conversation: ConversationId, now: Timestamp) -> Option<crate::order::Precedence> {
        let item = self.conversations.get(&conversation)?;
        let queue = self.policy.queues.get(item.queue.as_ref()?)?;
        let line = crate::order::Line::of(queue);
        let (nearness, key) = line.place(conversation, item, now);
        Some(line.precedence(nearness, &key, now))
    }

    /// The offers that stand.
    pub fn offers(&self) -> impl Iterator<Item = (OfferId, &Offer)> {
        self.offers.iter().map(|(id, offer)| (*id, offer))
    }

    /// A thread.
    #[must_use]
    pub fn thread(&self, key: &ThreadKey) -> Option<&ThreadState> {
        self.threads.get(key)
    }

    /// The person's open conversation that began last.
    #[must_use]
    pub fn open_conversation(&self, customer: CustomerId) -> Option<ConversationId> {
        self.open_conversations(customer).next()
    }

    /// The person's open conversations, newest first: one, unless the policy keeps topics or threads apart, or two
    /// customers were found to be one person while both had one.
    pub fn open_conversations(&self, customer: CustomerId) -> impl Iterator<Item = ConversationId> + '_ {
        self.index.open_of(self.kin.root(customer)).rev()
    }

    /// Which customers are one person.
    #[must_use]
    pub const fn kin(&self) -> &Kin {
        &self.kin
    }

    /// The person's newest conversation that has ended, as long as it may matter.
    #[must_use]
    pub fn past_of(&self, customer: CustomerId) -> Option<&Past> {
        let past = self.kin.members(customer).filter_map(|member| self.past.get(&member));
        past.max_by_key(|past| (past.closed_at, past.conversation))
    }

    /// The newest conversations of a person that have ended, one of each that was merged, newest first.
    #[must_use]
    pub fn pasts_of(&self, customer: CustomerId) -> Vec<&Past> {
        let mut past: Vec<&Past> = self.kin.members(customer).filter_map(|member| self.past.get(&member)).collect();
        past.sort_by_key(|past| std::cmp::Reverse((past.closed_at, past.conversation)));
        past
    }

    /// How many provider events are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }

    /// When something is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.index.timers.first().map(|(at, _)| *at)
    }
}
