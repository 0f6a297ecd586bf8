//! The assignment problem solved by looking at everything: what the indexes are checked against.

use contract::event::{Candidate, Presence};
use contract::policy::{Policy, Strategy};
use contract::{AgentId, ConversationId, Timestamp};
use throughline_engine::{Agent, Conversation, Phase, Precedence, State};

/// Tier, rank and delay of an agent in what the conversation's step asks; `None`: it is not asked.
fn seat(policy: &Policy, conversation: &Conversation, id: &AgentId) -> Option<(u8, u8, u64)> {
    let spec = policy.agents.get(id)?;
    let pool = &conversation.step().pool;
    let mut seats = Vec::new();
    for (queue, membership) in &spec.queues.0 {
        let home = conversation.queue.as_ref() == Some(queue)
            && !pool.only
            && pool.tier_max.is_none_or(|max| membership.tier <= max);
        if policy.queues.contains_key(queue) && (home || pool.queues.contains(queue)) {
            seats.push((membership.tier, membership.rank, u64::from(membership.delay_s) * 1000));
        }
    }
    let named = pool.agents.contains(id) || conversation.direct.as_deref() == Some(id);
    if named || spec.groups.iter().any(|group| pool.groups.contains(group)) {
        seats.push((u8::MAX, 1, 0));
    }
    let least = |of: fn(&(u8, u8, u64)) -> u64| seats.iter().map(of).min();
    Some((
        u8::try_from(least(|seat| u64::from(seat.0))?).unwrap(),
        u8::try_from(least(|seat| u64::from(seat.1))?).unwrap(),
        least(|seat| seat.2)?,
    ))
}

fn has_room(policy: &Policy, conversation: &Conversation, agent: &Agent, id: &AgentId) -> bool {
    let Some(spec) = policy.agents.get(id) else { return false };
    let channel = policy.channel(&conversation.kind);
    let weight = conversation.terms.weight;
    let primary = agent.load - agent.interruptible;
    let room = if conversation.interruptible {
        agent.interruptible + weight <= spec.interruptible_capacity.unwrap_or(spec.capacity)
    } else {
        primary + weight <= spec.capacity
    };
    let held = agent.by_channel.get(&conversation.kind).copied().unwrap_or(0);
    let cap = spec.caps.channels.get(&conversation.kind).copied().or(channel.cap);
    let labels = conversation.terms.labels.iter().all(|label| {
        let held = agent.by_label.get(label).copied().unwrap_or(0);
        spec.caps.labels.get(label).is_none_or(|cap| held < *cap)
    });
    let blocked = agent.by_channel.keys().any(|held| policy.channel(held).blocks.contains(&conversation.kind));
    primary < spec.capacity && room && cap.is_none_or(|cap| held < cap) && labels && !blocked
}

/// Whether the agent may be offered the conversation now.
pub(crate) fn eligible(state: &State, conversation: &Conversation, id: &AgentId) -> bool {
    let (policy, _) = state.policy();
    let (Some(agent), Some(spec)) = (state.agent(id), policy.agents.get(id)) else { return false };
    let Some((_, _, delay)) = seat(policy, conversation, id) else { return false };
    let queue = conversation.queue.as_ref();
    let open = queue.is_some_and(|queue| !state.queue(queue).is_some_and(|queue| queue.closed));
    let takes = match policy.presences.get(agent.presence.as_str()) {
        Some(presence) => presence.takes.channel(&conversation.kind),
        None => agent.presence == Presence::Available,
    };
    open && delay <= conversation.reached.0
        && takes
        && agent.connected
        && agent.not_responding_until.is_none()
        && agent.rest_until.is_none()
        && agent.rate_until.is_none()
        && !conversation.asked.contains(id)
        && conversation.keeper.as_deref() != Some(id)
        && policy::expr::holds(&conversation.step().must, spec)
        && has_room(policy, conversation, agent, id)
}

fn strategy_key(policy: &Policy, strategy: Strategy, agent: &Agent, id: &AgentId) -> i64 {
    let capacity = policy.agents.get(id).map_or(1, |spec| spec.capacity.max(1));
    let share = i64::try_from((u64::from(agent.load) << 32) / u64::from(capacity)).unwrap();
    let since = |at: Option<Timestamp>| at.map_or(0, |at| i64::try_from(at.0).unwrap() + 1);
    match strategy {
        Strategy::LeastLoaded => share,
        Strategy::FullLoad => -share,
        Strategy::LeastActive => i64::try_from(agent.holds.len() + agent.keeps.len() + agent.offers.len()).unwrap(),
        Strategy::LongestIdle => since(agent.last_assigned_at.max(agent.last_ended_at)),
        Strategy::RoundRobin => since(agent.last_assigned_at),
        Strategy::FewestHandled => i64::from(agent.handled),
        Strategy::LeastTalk => i64::try_from(agent.talked_ms).unwrap(),
        Strategy::TopDown => policy.agents.get(id).map_or(0, |spec| i64::from(spec.position)),
    }
}

type Rank = (usize, u8, i64, i64, i64, Option<Timestamp>, usize, AgentId);

/// By what agents are ranked for a conversation.
fn rank(state: &State, conversation: &Conversation, id: &AgentId) -> Rank {
    let (policy, _) = state.policy();
    let (agent, spec) = (state.agent(id).unwrap(), policy.agents.get(id).unwrap());
    let queue = conversation.queue.as_ref().and_then(|queue| policy.queues.get(queue)).unwrap();
    let known: Vec<&AgentId> = conversation.direct.as_deref().into_iter().chain(&conversation.terms.affinity).collect();
    let affinity = known.iter().position(|known| *known == id).unwrap_or(usize::MAX);
    let step = conversation.step();
    let preferred: i64 = step
        .prefer
        .iter()
        .filter(|preference| policy::expr::holds(&preference.when, spec))
        .map(|preference| i64::from(preference.weight))
        .sum();
    let required = policy::expr::required_skills(&step.must);
    let levels: i64 = required.iter().map(|(skill, _)| i64::from(*spec.skills.get(skill).unwrap_or(&0))).sum();
    let skill = if queue.best_skilled && !required.is_empty() {
        levels * 1000 / i64::try_from(required.len()).unwrap()
    } else {
        0
    };
    let tier = seat(policy, conversation, id).map_or(u8::MAX, |seat| seat.0);
    let key = strategy_key(policy, queue.strategy, agent, id);
    (affinity, tier, -preferred, -skill, key, agent.last_assigned_at, agent.recent_offers.len(), id.clone())
}

/// The agent that a waiting conversation should be offered to.
pub(crate) fn best_agent(state: &State, conversation: &Conversation) -> Option<AgentId> {
    let agents = state.policy().0.agents.keys();
    agents.filter(|id| eligible(state, conversation, id)).min_by_key(|id| rank(state, conversation, id)).cloned()
}

/// What an agent should serve first: by the rank of its queues, then by precedence.
fn first_item(state: &State, id: &AgentId, now: Timestamp) -> Option<Precedence> {
    let waiting = state.conversations().filter(|(_, conversation)| matches!(conversation.phase, Phase::Waiting { .. }));
    let mine = waiting.filter(|(_, conversation)| eligible(state, conversation, id));
    let ranked = mine.filter_map(|(item, conversation)| {
        let (_, rank, _) = seat(state.policy().0, conversation, id)?;
        Some((rank, state.precedence(item, now)?))
    });
    ranked.min().map(|(_, precedence)| precedence)
}

/// The next offer that should be made, if any: of the items that agents should serve first, the first one, to
/// the best agent for it.
pub(crate) fn next_offer(state: &State, now: Timestamp) -> Option<(ConversationId, AgentId)> {
    let firsts = state.policy().0.agents.keys().filter_map(|id| first_item(state, id, now));
    let first = firsts.min()?.conversation;
    Some((first, best_agent(state, state.conversation(first)?)?))
}

/// Whether any agent ranks its queues.
pub(crate) fn ranked(state: &State) -> bool {
    state.policy().0.agents.values().any(|agent| agent.queues.values().any(|membership| membership.rank != 1))
}

/// Whether the candidates of a decision are in the order in which they are preferred.
pub(crate) fn in_order(eligible: &[Candidate]) -> bool {
    let key = |candidate: &Candidate| {
        let affinity = if candidate.affinity == 0 { u32::MAX } else { candidate.affinity };
        (
            affinity,
            candidate.tier,
            u32::MAX - candidate.preferred,
            u32::MAX - candidate.skill_milli,
            candidate.strategy_key,
            candidate.last_assigned_at,
        )
    };
    eligible.is_sorted_by_key(key)
}
