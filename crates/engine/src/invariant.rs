//! What must always hold, named once: the same predicates run in property tests, in the simulator, over
//! whole journals, and sampled in the running router.

use std::collections::{BTreeMap, BTreeSet};

use contract::envelope::EnvelopeKind;
use contract::{ConversationId, Event, OfferId};

use crate::conversation::{Phase, ThreadKey};
use crate::state::{Emitted, State};

/// The invariants, by the numbers of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// R1: a conversation is in exactly one state, with at most one queue or holder.
    OnePlace,
    /// R2: an agent's load never exceeds its capacity, save where the policy lowered it.
    WithinCapacity,
    /// R3: no offer without what the step in force requires.
    Skilled,
    /// R4: when quiet, no waiting conversation has an eligible agent with room.
    NoneOverlooked,
    /// R5: at most one live offer per conversation.
    OneOffer,
    /// R6: each offer ends exactly once.
    OfferEndsOnce,
    /// R7: a repeated input changes nothing.
    RepeatsChangeNothing,
    /// R8: equal priority and needs are served in order of arrival.
    FirstComeFirstServed,
    /// R9: the messages of a conversation reach the agent in the order of the journal.
    MessagesInOrder,
    /// R10: replaying the journal gives the live state.
    ReplayEqualsLive,
    /// R11: every accepted message is in exactly one conversation of exactly one customer.
    OneHome,
    /// R12: every decision can be explained.
    Explained,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::OnePlace,
        Self::WithinCapacity,
        Self::Skilled,
        Self::NoneOverlooked,
        Self::OneOffer,
        Self::OfferEndsOnce,
        Self::RepeatsChangeNothing,
        Self::FirstComeFirstServed,
        Self::MessagesInOrder,
        Self::ReplayEqualsLive,
        Self::OneHome,
        Self::Explained,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OnePlace => "r1_one_place",
            Self::WithinCapacity => "r2_within_capacity",
            Self::Skilled => "r3_skilled",
            Self::NoneOverlooked => "r4_none_overlooked",
            Self::OneOffer => "r5_one_offer",
            Self::OfferEndsOnce => "r6_offer_ends_once",
            Self::RepeatsChangeNothing => "r7_repeats_change_nothing",
            Self::FirstComeFirstServed => "r8_first_come_first_served",
            Self::MessagesInOrder => "r9_messages_in_order",
            Self::ReplayEqualsLive => "r10_replay_equals_live",
            Self::OneHome => "r11_one_home",
            Self::Explained => "r12_explained",
        }
    }
}

/// An invariant that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Where, for a person.
    pub detail: String,
}

fn violated(invariant: Invariant, detail: String) -> Violation {
    Violation { invariant, detail }
}

impl State {
    /// Checks what can be seen of a quiet state: R1 to R5.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_places(&mut found);
        self.check_agents(&mut found);
        self.check_offers(&mut found);
        if let Some((conversation, agent)) = self.overlooked() {
            found.push(violated(Invariant::NoneOverlooked, format!("{conversation} waits and {agent} could take it")));
        }
        found
    }

    fn check_places(&self, found: &mut Vec<Violation>) {
        let mut holders: BTreeMap<ConversationId, usize> = BTreeMap::new();
        for id in self.agents.values().flat_map(|agent| &agent.holds) {
            *holders.entry(*id).or_default() += 1;
        }
        let mut keepers: BTreeMap<ConversationId, usize> = BTreeMap::new();
        for id in self.agents.values().flat_map(|agent| &agent.keeps) {
            *keepers.entry(*id).or_default() += 1;
        }
        let mut standing = 0;
        for (id, conversation) in &self.conversations {
            let queued = self.index.waiting.contains(*id);
            standing += usize::from(queued);
            let waiting = matches!(conversation.phase, Phase::Waiting { .. }) && conversation.queue.is_some();
            if queued != waiting {
                found.push(violated(
                    Invariant::OnePlace,
                    format!("{id} is {} and queued: {queued}", conversation.phase.name()),
                ));
            }
            if waiting && conversation.queue.as_ref().is_none_or(|queue| !self.policy.queues.contains_key(queue)) {
                found.push(violated(Invariant::OnePlace, format!("{id} waits in a queue that there is not")));
            }
            let holders = holders.remove(id).unwrap_or(0);
            if holders != usize::from(conversation.phase.holder().is_some()) {
                found.push(violated(Invariant::OnePlace, format!("{id} is held by {holders} agents")));
            }
            let keepers = keepers.remove(id).unwrap_or(0);
            if keepers != usize::from(conversation.keeper.is_some())
                || conversation.keeper.is_some() && conversation.phase.holder().is_some()
            {
                found.push(violated(Invariant::OnePlace, format!("{id} is kept by {keepers} agents")));
            }
        }
        for id in holders.keys().chain(keepers.keys()) {
            found.push(violated(Invariant::OnePlace, format!("{id} is held, and not open")));
        }
        let entered = self.index.waiting.len();
        if entered != standing {
            found.push(violated(Invariant::OnePlace, format!("{entered} stand in queues, {standing} should")));
        }
    }

    fn check_agents(&self, found: &mut Vec<Violation>) {
        let mut loads: BTreeMap<contract::AgentId, (u32, u32)> = BTreeMap::new();
        for (agent, units, interruptible) in self.conversations.values().flat_map(|item| crate::index::taken(item)) {
            let load = loads.entry(agent).or_default();
            load.0 += units;
            load.1 += if interruptible { units } else { 0 };
        }
        for (id, agent) in self.agents.iter() {
            let (load, interruptible) = loads.get(id).copied().unwrap_or_default();
            let spec = self.policy.agents.get(id);
            let capacity = spec.map_or(0, |spec| spec.capacity);
            let second = spec.map_or(0, |spec| spec.interruptible_capacity.unwrap_or(spec.capacity));
            let over = load - interruptible > capacity.saturating_add(agent.excess)
                || interruptible > second.saturating_add(agent.interruptible_excess);
            if (agent.load, agent.interruptible) != (load, interruptible) || over {
                let detail = format!(
                    "{id} holds {load} ({interruptible} of it interruptible), counts {} ({}), may hold {capacity} + {} and {second} + {}",
                    agent.load, agent.interruptible, agent.excess, agent.interruptible_excess
                );
                found.push(violated(Invariant::WithinCapacity, detail));
            }
        }
    }

    fn check_offers(&self, found: &mut Vec<Violation>) {
        let mut offered: BTreeMap<ConversationId, usize> = BTreeMap::new();
        for (id, offer) in &self.offers {
            *offered.entry(offer.conversation).or_default() += 1;
            let phase = self.conversations.get(&offer.conversation).map(|conversation| &conversation.phase);
            let standing = (*id, offer.agent.clone());
            if !matches!(phase, Some(Phase::Offered { offers }) if offers.contains(&standing)) {
                found.push(violated(
                    Invariant::OneOffer,
                    format!("{id} stands, but {} is not offered by it", offer.conversation),
                ));
            }
        }
        for (id, conversation) in &self.conversations {
            let made = offered.remove(id).unwrap_or(0);
            let Phase::Offered { offers } = &conversation.phase else { continue };
            let queue = conversation.queue.as_ref().and_then(|queue| self.policy.queues.get(queue));
            // A ring that the policy narrowed since goes on with the offers it had.
            let most = queue.map_or(1, |queue| usize::from(queue.ring).max(1)).max(conversation.ring_max as usize);
            let mut agents: Vec<_> = offers.iter().map(|(_, agent)| agent).collect();
            agents.sort_unstable();
            agents.dedup();
            if offers.is_empty() || offers.len() != made || offers.len() > most || agents.len() != offers.len() {
                found.push(violated(Invariant::OneOffer, format!("{id} has {} offers of {most}", offers.len())));
            }
        }
    }

    /// The state as bytes that are equal for equal states: the ground of R10.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        contract::Encoding::MsgPack.encode(self).unwrap_or_default()
    }

    /// The first part of what is derived that differs between two states that are equal: the other ground of R10.
    /// Between steps, and at the same time.
    #[must_use]
    pub fn derived_otherwise(&self, other: &Self) -> Option<&'static str> {
        let at = self.now.max(other.now);
        let (a, b) = (&self.index, &other.index);
        [
            ("the timers", a.timers == b.timers),
            ("what waits", a.waiting.at(at, &self.conversations) == b.waiting.at(at, &other.conversations)),
            ("how many wait", a.waiting.queued() == b.waiting.queued()),
            ("the agents", a.roster.slots == b.roster.slots),
            ("who is ready", a.roster.teams == b.roster.teams),
            ("the conversations of persons", a.by_customer == b.by_customer),
            ("the closed queues", a.closed == b.closed),
            ("what is meant for agents", a.direct == b.direct),
            ("the alarms", a.alarmed == b.alarmed),
            ("the past", a.past == b.past),
            ("the threads of customers", a.threads == b.threads),
            ("the terms", a.terms == b.terms),
            ("the accounts", a.accounts == b.accounts),
            ("what was taken in", self.seen == other.seen),
            (
                "the numbers of agents",
                self.agents.values().map(|agent| agent.no).eq(other.agents.values().map(|agent| agent.no)),
            ),
        ]
        .into_iter()
        .find_map(|(part, same)| (!same).then_some(part))
    }
}

/// Checks what can only be seen over the facts in their order: R6, R8, R9, R11, R12.
#[derive(Debug, Default)]
pub struct Auditor {
    offers: BTreeMap<OfferId, bool>,
    /// The newest sequence seen on each feed.
    feeds: BTreeMap<contract::AgentId, u64>,
    threads: BTreeMap<ThreadKey, u64>,
    homes: BTreeMap<ConversationId, contract::CustomerId>,
    kin: contract::kin::Kin,
    inputs: BTreeSet<u128>,
    found: Vec<Violation>,
}

impl Auditor {
    /// Looks at one fact, in journal order, after `state` evolved it.
    pub fn observe(&mut self, state: &State, emitted: &Emitted) {
        for (agent, seq) in &emitted.reach.feeds {
            let last = self.feeds.insert(agent.clone(), *seq);
            if last.is_some_and(|last| *seq != last + 1) {
                self.fail(Invariant::MessagesInOrder, format!("feed of {agent} goes from {last:?} to {seq}"));
            }
        }
        match &*emitted.event {
            Event::OfferCreated { offer, agent, decision, conversation, .. } => {
                if self.offers.insert(*offer, false).is_some() {
                    self.fail(Invariant::OfferEndsOnce, format!("{offer} was made twice"));
                }
                if decision.eligible.first().map(|candidate| &candidate.agent) != Some(agent)
                    || decision.tie_break.is_empty()
                {
                    self.fail(Invariant::Explained, format!("{offer} does not say why it went to {agent}"));
                }
                let asked = state.conversations.get(conversation).zip(state.policy.agents.get(agent));
                if asked.is_none_or(|(item, spec)| !policy::expr::holds(&item.step().must, spec)) {
                    self.fail(Invariant::Skilled, format!("{offer} went to {agent} without the skills"));
                }
                self.check_order(state, *conversation, agent);
            }
            Event::OfferAccepted { offer, .. }
            | Event::OfferDeclined { offer, .. }
            | Event::OfferExpired { offer, .. }
            | Event::OfferRescinded { offer, .. } => {
                let before = self.offers.insert(*offer, true);
                self.require(before == Some(false), Invariant::OfferEndsOnce, || {
                    format!("{offer} ended twice, or was never made")
                });
            }
            Event::CustomerMerged { customer, from, .. } => self.kin.merge(*customer, *from),
            Event::CustomerSplit { customer, .. } => self.kin.split(*customer),
            Event::ConversationOpened { conversation, customer, .. } => {
                let before = self.homes.insert(*conversation, *customer);
                self.require(before.is_none(), Invariant::OneHome, || format!("{conversation} was opened twice"));
            }
            Event::MessageReceived { conversation, thread_seq, envelope, .. } => {
                if envelope.kind == EnvelopeKind::Message && !self.inputs.insert(envelope.fingerprint()) {
                    self.fail(Invariant::RepeatsChangeNothing, format!("{conversation} took a message in twice"));
                }
                let person = |customer: Option<contract::CustomerId>| customer.map(|customer| self.kin.root(customer));
                let home = person(self.homes.get(conversation).copied());
                if home.is_none() || person(emitted.reach.customer) != home {
                    self.fail(Invariant::OneHome, format!("a message of {conversation} has no customer, or another's"));
                }
                self.check_thread(ThreadKey::new(&envelope.account, &envelope.thread.key), *thread_seq);
            }
            Event::CustomerErased { customers, .. } => {
                customers.iter().for_each(|customer| self.kin.forget(*customer));
                // A thread that comes again counts from 1 again.
                self.threads.retain(|key, _| state.threads.contains_key(key));
            }
            Event::MessageSent { thread, thread_seq, .. }
            | Event::MessageMirrored { thread, thread_seq, .. }
            | Event::MessageNotified { thread, thread_seq, .. } => {
                self.check_thread(ThreadKey::new(&thread.account, &thread.thread.key), *thread_seq);
            }
            _ => {}
        }
    }

    /// R8: nobody who asks the same of an agent, came earlier and is as urgent still waits for that agent.
    fn check_order(&mut self, state: &State, offered: ConversationId, agent: &contract::AgentId) {
        let Some(served) = state.conversations.get(&offered) else { return };
        // What is meant for somebody goes before its turn, and who has been a ring's second was not chosen.
        if served.direct.as_deref() == Some(agent)
            || served.terms.affinity.contains(agent)
            || matches!(&served.phase, Phase::Offered { offers } if offers.len() > 1)
        {
            return;
        }
        let (Some(key), Some(own)) = (crate::waiting::ClassKey::of(served), state.precedence(offered, state.now))
        else {
            return;
        };
        let items = state.index.waiting.find(&key).into_iter().flat_map(crate::waiting::Class::items);
        let passed = items.map(|item| item.conversation).find(|item| {
            let earlier = state.precedence(*item, state.now).is_some_and(|other| other < own);
            earlier
                && state.conversations.get(item).is_some_and(|waiting| {
                    !waiting.asked.contains(agent) && waiting.reached >= served.reached && waiting.keeper.is_none()
                })
        });
        if let Some(passed) = passed {
            self.fail(Invariant::FirstComeFirstServed, format!("{offered} went to {agent} before {passed}"));
        }
    }

    fn check_thread(&mut self, key: ThreadKey, seq: u64) {
        let last = self.threads.insert(key.clone(), seq);
        if last.is_some_and(|last| seq != last + 1) {
            self.fail(Invariant::MessagesInOrder, format!("thread {} goes from {last:?} to {seq}", key.key));
        }
    }

    fn require(&mut self, holds: bool, invariant: Invariant, detail: impl FnOnce() -> String) {
        if !holds {
            self.fail(invariant, detail());
        }
    }

    fn fail(&mut self, invariant: Invariant, detail: String) {
        self.found.push(violated(invariant, detail));
    }

    /// What was found so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.found
    }
}

#[cfg(test)]
mod tests;
