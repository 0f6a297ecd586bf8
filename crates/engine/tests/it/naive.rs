//! The assignment problem solved by looking at everything: what the indexes are checked against.

use contract::event::{Candidate, Presence};
use contract::{AgentId, ConversationId, Timestamp};
use throughline_engine::{Conversation, Phase, State};

/// Whether the agent may be offered the conversation now.
fn eligible(state: &State, conversation: &Conversation, id: &AgentId) -> bool {
    let (policy, _) = state.policy();
    let (Some(agent), Some(spec)) = (state.agent(id), policy.agents.get(id)) else { return false };
    let member = conversation.queue.as_ref().is_some_and(|queue| spec.queues.contains(queue));
    let meant = conversation.direct.as_ref() == Some(id);
    let skilled =
        conversation.requirement.skills.iter().all(|(skill, level)| spec.skills.get(skill).unwrap_or(&0) >= level);
    (member || meant)
        && agent.connected
        && agent.presence == Presence::Available
        && !conversation.asked.contains(id)
        && skilled
        && agent.load < spec.capacity
        && agent.load + conversation.weight <= spec.capacity
}

/// By what agents are ranked: the share of the capacity in use, the last assignment, the name.
fn rank(state: &State, id: &AgentId) -> (u64, Option<Timestamp>, AgentId) {
    let capacity = state.policy().0.agents.get(id).map_or(1, |spec| spec.capacity);
    let agent = state.agent(id).unwrap();
    ((u64::from(agent.load) << 32) / u64::from(capacity), agent.last_assigned_at, id.clone())
}

/// The agent that a waiting conversation should be offered to.
pub(crate) fn best_agent(state: &State, conversation: &Conversation) -> Option<AgentId> {
    let able: Vec<&AgentId> = state.policy().0.agents.keys().filter(|id| eligible(state, conversation, id)).collect();
    match &conversation.direct {
        Some(direct) if able.contains(&direct) => Some(direct.clone()),
        _ => able.into_iter().min_by_key(|id| rank(state, id)).cloned(),
    }
}

/// The next offer that should be made, if any: the first waiting conversation, by priority, age and id,
/// that somebody can take, and the best agent for it.
pub(crate) fn next_offer(state: &State) -> Option<(ConversationId, AgentId)> {
    let waiting = state.conversations().filter(|(_, conversation)| matches!(conversation.phase, Phase::Waiting { .. }));
    let takeable = waiting.filter_map(|(id, conversation)| {
        let key = (-i64::from(conversation.priority), conversation.ready_at, id);
        best_agent(state, conversation).map(|agent| (key, agent))
    });
    takeable.min().map(|((_, _, id), agent)| (id, agent))
}

/// Whether the candidates of a decision are in the order in which they are preferred.
pub(crate) fn in_order(eligible: &[Candidate]) -> bool {
    let key = |candidate: &Candidate| {
        let share = (u64::from(candidate.load) << 32) / u64::from(candidate.capacity);
        (share, candidate.last_assigned_at, candidate.agent.clone())
    };
    eligible.is_sorted_by_key(key)
}
