//! Which agent a waiting conversation is offered to.

use std::collections::BTreeSet;

use contract::event::{Candidate, Decision, Excluded, Exclusion, Requirement};
use contract::{AgentId, ConversationId, Event, OfferId, QueueId, SmolStr, Timestamp};

use crate::conversation::Phase;
use crate::index::{ItemKey, Rank, Share};
use crate::state::{State, Step};

/// Queues of at most this many members have every member explained in each decision; of larger ones
/// only those that came into question.
const EXPLAINED_MEMBERS_MAX: usize = 32;
/// How many agents are looked at beyond the chosen one in a large queue, to say what decided.
const RUNNERS_UP: usize = 2;
/// How many exclusions a decision lists at most.
const EXCLUDED_MAX: usize = 64;

impl State {
    /// Matches everything that became matchable, until nothing is left that fits (R4): the first item,
    /// by [`ItemKey`], that somebody can take goes to the best agent for it, then the next.
    ///
    /// Only items that changed and agents that got room can make a pair; while pairs are made, room only
    /// shrinks, so that what an agent would serve first only moves back.
    pub(crate) fn settle(&mut self, step: &mut Step) {
        let freed = std::mem::take(&mut self.index.dirty_agents);
        let mut freed: BTreeSet<(ItemKey, AgentId)> =
            freed.into_iter().filter_map(|agent| Some((self.first_item_for(&agent)?, agent))).collect();
        loop {
            let item = self.index.dirty_items.first().copied();
            match freed.pop_first() {
                Some((key, agent)) if item.is_none_or(|item| key < item) => {
                    let first = self.first_item_for(&agent);
                    if first == Some(key) {
                        self.offer_best(step, key.conversation);
                        let next = self.first_item_for(&agent).filter(|next| *next > key);
                        freed.extend(next.map(|next| (next, agent)));
                    } else {
                        freed.extend(first.map(|first| (first, agent)));
                    }
                }
                later => {
                    freed.extend(later);
                    let Some(item) = self.index.dirty_items.pop_first() else { return };
                    self.offer_best(step, item.conversation);
                    self.end_round(step, item);
                }
            }
        }
    }

    /// The first item that the agent may take.
    fn first_item_for(&self, agent: &AgentId) -> Option<ItemKey> {
        let spec = self.policy.agents.get(agent)?;
        let state = self.agents.get(agent)?;
        if !state.takes_offers() || state.load >= spec.capacity {
            return None;
        }
        let room = spec.capacity - state.load;
        let classes = spec.queues.iter().filter_map(|queue| self.index.waiting.get(queue)).flatten();
        let fitting = classes
            .filter(|(class, _)| class.weight <= room && missing_skill(&class.requirement, &spec.skills).is_none());
        let first = fitting.filter_map(|(_, items)| {
            items.iter().find(|item| {
                self.conversations.get(&item.conversation).is_some_and(|waiting| !waiting.asked.contains(agent))
            })
        });
        let meant = self.index.meant.get(agent).into_iter().flatten();
        let meant = meant.filter(|item| self.exclusion(item.conversation, agent).is_none());
        first.chain(meant).min().copied()
    }

    /// Offers a waiting conversation to the best agent there is for it, if there is one.
    fn offer_best(&mut self, step: &mut Step, id: ConversationId) {
        let Some((agent, decision)) = self.choose(id) else { return };
        let Some(conversation) = self.conversations.get(&id) else { return };
        let offer = Event::OfferCreated {
            offer: OfferId(self.last_offer + 1),
            conversation: id,
            agent,
            expires_at: step.at + conversation.lease,
            decision,
        };
        self.emit(step, offer);
    }

    /// After a waiting conversation found nobody: when somebody was asked in vain, all may be asked
    /// again after a pause.
    fn end_round(&mut self, step: &mut Step, item: ItemKey) {
        let Some(conversation) = self.conversations.get(&item.conversation) else { return };
        if conversation.phase == (Phase::Waiting { next_round_at: None }) && !conversation.asked.is_empty() {
            let next_round_at = step.at + self.policy.timing.round_pause_ms;
            self.emit(step, Event::ConversationRoundExhausted { conversation: item.conversation, next_round_at });
            // Evolving it marked it as matchable once more, which it is not.
            self.index.dirty_items.remove(&item);
        }
    }

    /// The best eligible agent for a waiting conversation, and why. `None`: there is none now.
    fn choose(&self, id: ConversationId) -> Option<(AgentId, Decision)> {
        let conversation = self.conversations.get(&id)?;
        let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) else { return None };
        if let Some(direct) = &conversation.direct
            && self.exclusion(id, direct).is_none()
        {
            let eligible = self.candidate(direct).into_iter().collect();
            let decision = Decision { eligible, tie_break: SmolStr::new_static("direct"), ..Decision::default() };
            return Some((direct.clone(), decision));
        }
        let small = self.index.members.get(queue).map_or(0, Vec::len) <= EXPLAINED_MEMBERS_MAX;
        let looked_at = if small { usize::MAX } else { 1 + RUNNERS_UP };
        let kinds = self.able(queue, conversation.weight, &conversation.requirement);
        let unasked = |rank: &&Rank| !conversation.asked.contains(&rank.agent);
        let mut able: Vec<&Rank> = kinds.flat_map(|ranks| ranks.filter(unasked).take(looked_at)).collect();
        able.sort_unstable();
        able.truncate(looked_at);
        let chosen = able.first()?.agent.clone();
        let eligible: Vec<Candidate> = able.into_iter().filter_map(|rank| self.candidate(&rank.agent)).collect();
        let mut decision = Decision { tie_break: tie_break(&eligible), eligible, ..Decision::default() };
        self.explain_members(id, queue, if small { usize::MAX } else { 0 }, &mut decision);
        Some((chosen, decision))
    }

    /// The ready members of a queue that could take an item of this weight and these needs if they were
    /// not asked yet, kind by kind, each kind in the order of preference.
    fn able<'a>(
        &'a self,
        queue: &QueueId,
        weight: u32,
        requirement: &'a Requirement,
    ) -> impl Iterator<Item = impl Iterator<Item = &'a Rank>> {
        let kinds = self.index.ready.get(queue).into_iter().flatten();
        kinds.filter_map(move |(kind, ranks)| {
            let kind = self.index.kinds.get(*kind)?;
            // Within a kind, whoever comes later has no more room.
            let has_room = move |rank: &&Rank| rank.load.saturating_add(weight) <= kind.capacity;
            missing_skill(requirement, &kind.skills).is_none().then(|| ranks.iter().take_while(has_room))
        })
    }

    /// Lists members that the decision does not name yet: those that were asked, and the first `more`
    /// by name.
    pub(crate) fn explain_members(&self, id: ConversationId, queue: &QueueId, more: usize, decision: &mut Decision) {
        let members = self.index.members.get(queue).map_or(&[][..], Vec::as_slice);
        let asked = self.conversations.get(&id).map(|conversation| &conversation.asked).into_iter().flatten();
        let asked = asked.filter(|agent| members.binary_search(agent).is_ok());
        let mut named: BTreeSet<AgentId> = decision.eligible.iter().map(|candidate| candidate.agent.clone()).collect();
        for agent in asked.take(EXCLUDED_MAX).chain(members.iter().take(more)) {
            if !named.insert(agent.clone()) {
                continue;
            }
            match self.exclusion(id, agent) {
                Some(because) => decision.excluded.push(Excluded { agent: agent.clone(), because }),
                None => decision.eligible.extend(self.candidate(agent)),
            }
        }
        decision.eligible.sort_by_cached_key(preference);
        decision.unlisted = u32::try_from(members.len().saturating_sub(named.len())).unwrap_or(u32::MAX);
    }

    /// The first rule that keeps an agent from a conversation. `None`: it is eligible.
    pub(crate) fn exclusion(&self, id: ConversationId, agent: &AgentId) -> Option<Exclusion> {
        let offline = Exclusion::Presence { presence: contract::event::Presence::Offline };
        let (Some(state), Some(spec)) = (self.agents.get(agent), self.policy.agents.get(agent)) else {
            return Some(offline);
        };
        let Some(conversation) = self.conversations.get(&id) else { return Some(offline) };
        if state.presence != contract::event::Presence::Available {
            return Some(Exclusion::Presence { presence: state.presence.clone() });
        }
        if !state.connected {
            return Some(Exclusion::Disconnected);
        }
        if conversation.asked.contains(agent) {
            return Some(Exclusion::AlreadyAsked);
        }
        if let Some(missing) = missing_skill(&conversation.requirement, &spec.skills) {
            return Some(missing);
        }
        // What it holds of this agent's capacity already (it is offered it) does not count against it.
        let own = if conversation.phase.agent() == Some(agent) && conversation.phase.takes_capacity() {
            conversation.weight
        } else {
            0
        };
        let load = state.load.saturating_sub(own);
        // Who has no room at all takes nothing, even if it weighs nothing.
        (load >= spec.capacity || load.saturating_add(conversation.weight) > spec.capacity)
            .then_some(Exclusion::Full { load, capacity: spec.capacity })
    }

    fn candidate(&self, agent: &AgentId) -> Option<Candidate> {
        let state = self.agents.get(agent)?;
        let spec = self.policy.agents.get(agent)?;
        Some(Candidate {
            agent: agent.clone(),
            load: state.load,
            capacity: spec.capacity,
            last_assigned_at: state.last_assigned_at,
        })
    }

    /// Whether the agent may be offered the conversation at all: it works the queue, or is meant.
    pub(crate) fn concerns(&self, id: ConversationId, agent: &AgentId) -> bool {
        let (Some(conversation), Some(spec)) = (self.conversations.get(&id), self.policy.agents.get(agent)) else {
            return false;
        };
        conversation.queue.as_ref().is_some_and(|queue| {
            spec.queues.contains(queue)
                || conversation.direct.as_ref() == Some(agent) && self.policy.queues.contains_key(queue)
        })
    }

    /// A waiting conversation and a ready agent that could take it: the ground of R4.
    pub(crate) fn overlooked(&self) -> Option<(ConversationId, AgentId)> {
        let mut meant = self.index.meant.iter().flat_map(|(agent, items)| items.iter().map(move |item| (item, agent)));
        if let Some((item, agent)) = meant.find(|(item, agent)| self.exclusion(item.conversation, agent).is_none()) {
            return Some((item.conversation, agent.clone()));
        }
        self.index.waiting.iter().find_map(|(queue, classes)| {
            classes.iter().find_map(|(class, items)| {
                let able: Vec<&Rank> = self.able(queue, class.weight, &class.requirement).flatten().collect();
                // Who is able was asked already, so that none of these searches is long.
                items.iter().find_map(|item| {
                    let asked = &self.conversations.get(&item.conversation)?.asked;
                    let overlooked = able.iter().find(|rank| !asked.contains(&rank.agent))?;
                    Some((item.conversation, overlooked.agent.clone()))
                })
            })
        })
    }
}

/// The first skill that is required and not had.
pub(crate) fn missing_skill(
    requirement: &Requirement,
    has: &std::collections::BTreeMap<contract::SkillId, contract::policy::Level>,
) -> Option<Exclusion> {
    requirement.skills.iter().find_map(|(skill, needed)| {
        let has = has.get(skill).copied().unwrap_or(0);
        (has < *needed).then(|| Exclusion::MissingSkill { skill: skill.clone(), needed: *needed, has })
    })
}

/// By what candidates are ranked; as [`Rank`].
fn preference(candidate: &Candidate) -> (Share, Option<Timestamp>, AgentId) {
    let share = Share::of(candidate.load, candidate.capacity);
    (share, candidate.last_assigned_at, candidate.agent.clone())
}

/// What set the first candidate before the second.
fn tie_break(eligible: &[Candidate]) -> SmolStr {
    SmolStr::new_static(match eligible {
        [] | [_] => "only_candidate",
        [first, second, ..] if preference(first).0 != preference(second).0 => "load",
        [first, second, ..] if first.last_assigned_at != second.last_assigned_at => "longest_idle",
        _ => "agent_id",
    })
}
