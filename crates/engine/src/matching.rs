//! Which agent a waiting conversation is offered to.

use contract::event::{Candidate, Decision, Excluded, Exclusion, Requirement};
use contract::{AgentId, ConversationId, Event, OfferId, QueueId, SmolStr};

use crate::conversation::Phase;
use crate::index::{Class, ItemKey, Rank};
use crate::state::{State, Step};

/// Queues of at most this many members have every member explained in each decision; of larger ones
/// only those that were looked at.
const EXPLAINED_MEMBERS_MAX: usize = 32;
/// How many agents are looked at beyond the chosen one, to say what decided.
const RUNNERS_UP: usize = 2;
/// How many exclusions a decision lists at most.
const EXCLUDED_MAX: usize = 64;

impl State {
    /// Matches everything that became matchable, until nothing is left that fits (R4).
    pub(crate) fn settle(&mut self, step: &mut Step) {
        loop {
            // Agents first: a freed agent serves whoever waits longest, not what just came (R8).
            if let Some(agent) = self.index.dirty_agents.first().cloned() {
                match self.first_item_for(&agent) {
                    Some(conversation) => self.offer_best(step, conversation),
                    None => {
                        self.index.dirty_agents.remove(&agent);
                    }
                }
                continue;
            }
            let Some(item) = self.index.dirty_items.pop_first() else { return };
            self.offer_best(step, item.conversation);
            self.end_round(step, item);
        }
    }

    /// The first item, by [`ItemKey`], that the agent may take.
    fn first_item_for(&self, agent: &AgentId) -> Option<ConversationId> {
        let spec = self.policy.agents.get(agent)?;
        let state = self.agents.get(agent)?;
        if !state.takes_offers() {
            return None;
        }
        let room = spec.capacity.saturating_sub(state.load);
        let classes = spec.queues.iter().filter_map(|queue| self.index.waiting.get(queue)).flatten();
        let fitting = classes
            .filter(|(class, _)| class.weight <= room && missing_skill(&class.requirement, &spec.skills).is_none());
        let first = fitting.filter_map(|(_, items)| {
            items.iter().find(|item| {
                self.conversations.get(&item.conversation).is_some_and(|waiting| !waiting.asked.contains(agent))
            })
        });
        first.min().map(|item| item.conversation)
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
        let ready = self.index.ready.get(queue)?;
        let mut decision = Decision::default();
        for rank in ready {
            match self.exclusion(id, &rank.agent) {
                Some(because) if decision.excluded.len() < EXCLUDED_MAX => {
                    decision.excluded.push(Excluded { agent: rank.agent.clone(), because });
                }
                Some(_) => {}
                None => decision.eligible.extend(self.candidate(&rank.agent)),
            }
            if decision.eligible.len() > RUNNERS_UP {
                break;
            }
        }
        let chosen = decision.eligible.first()?.agent.clone();
        decision.tie_break = tie_break(&decision.eligible);
        self.explain_members(id, queue, &mut decision);
        Some((chosen, decision))
    }

    /// Lists the members of a small queue that were not looked at, since they are not even ready.
    pub(crate) fn explain_members(&self, id: ConversationId, queue: &QueueId, decision: &mut Decision) {
        let members = self.index.members.get(queue).map_or(&[][..], Vec::as_slice);
        if members.len() <= EXPLAINED_MEMBERS_MAX {
            for agent in members {
                let listed = decision.eligible.iter().any(|candidate| candidate.agent == *agent)
                    || decision.excluded.iter().any(|excluded| excluded.agent == *agent);
                if listed {
                    continue;
                }
                match self.exclusion(id, agent) {
                    Some(because) => decision.excluded.push(Excluded { agent: agent.clone(), because }),
                    None => decision.eligible.extend(self.candidate(agent)),
                }
            }
        }
        let listed = decision.eligible.len() + decision.excluded.len();
        decision.unlisted = u32::try_from(members.len().saturating_sub(listed)).unwrap_or(u32::MAX);
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
        (load.saturating_add(conversation.weight) > spec.capacity)
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

    /// Whether any ready agent could take any waiting conversation: the ground of R4.
    pub(crate) fn overlooked(&self) -> Option<(ConversationId, AgentId)> {
        self.index.waiting.iter().find_map(|(queue, classes)| {
            let ready = self.index.ready.get(queue)?;
            classes.iter().find_map(|(class, items)| {
                let able: Vec<&Rank> = ready.iter().filter(|rank| self.fits(class, &rank.agent)).collect();
                items.iter().find_map(|item| {
                    let agent = able.iter().find(|rank| self.exclusion(item.conversation, &rank.agent).is_none())?;
                    Some((item.conversation, agent.agent.clone()))
                })
            })
        })
    }

    fn fits(&self, class: &Class, agent: &AgentId) -> bool {
        let spec = self.policy.agents.get(agent);
        spec.is_some_and(|spec| missing_skill(&class.requirement, &spec.skills).is_none())
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

/// What set the first candidate before the second.
fn tie_break(eligible: &[Candidate]) -> SmolStr {
    let share = |candidate: &Candidate| u64::from(candidate.load) * 1_000_000 / u64::from(candidate.capacity.max(1));
    SmolStr::new_static(match eligible {
        [] | [_] => "only_candidate",
        [first, second, ..] if share(first) != share(second) => "load",
        [first, second, ..] if first.last_assigned_at != second.last_assigned_at => "longest_idle",
        _ => "agent_id",
    })
}
