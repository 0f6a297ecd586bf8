//! The overview: numbers of everything, texts of nothing.

use std::collections::BTreeMap;

use contract::answer::{AgentView, StatusView};
use contract::command::AdminCommand;
use contract::event::Presence;
use contract::feed::ConversationView;
use contract::{AgentId, ChannelKind, ConversationId, CustomerId, QueueId, SmolStr, TenantId, Timestamp};
use futures_util::future::try_join3;
use serde::Serialize;

use crate::ask::{Answer, Ask, Failure, answer};

/// Most open conversations that the router is asked for.
const CONVERSATIONS_MAX: u32 = 500;

/// Would be offered something now, if it has the skills.
fn ready(agent: &AgentView) -> bool {
    agent.presence == Presence::Available && agent.connected && agent.load < agent.capacity
}

/// What the page shows.
#[derive(Serialize)]
pub(crate) struct Overview {
    tenant: TenantId,
    shard: ShardLine,
    policy_version: u64,
    customers: u64,
    /// Open conversations by state.
    states: BTreeMap<SmolStr, u64>,
    /// How many are open; `conversations` may hold fewer.
    open: u64,
    queues: BTreeMap<QueueId, Queue>,
    agents: Vec<AgentView>,
    conversations: Vec<Row>,
}

#[derive(Serialize)]
struct ShardLine {
    shard: u16,
    owner: String,
    epoch: u64,
    seq: u64,
    /// Journal records whose outputs are not all stored yet.
    outputs_behind: u64,
    /// Journal records that the key-value side does not reflect yet.
    views_behind: u64,
}

#[derive(Default, Serialize)]
struct Queue {
    waiting: u64,
    oldest_ready_at: Option<Timestamp>,
    members: u64,
    ready: u64,
}

/// A conversation in the table: where it stands, never what is said in it. A thread's subject line is
/// the customer's words too.
#[derive(Serialize)]
pub(crate) struct Row {
    conversation: ConversationId,
    customer: CustomerId,
    customer_name: Option<SmolStr>,
    state: SmolStr,
    queue: Option<QueueId>,
    agent: Option<AgentId>,
    priority: i32,
    /// What the step in force requires.
    skills: BTreeMap<contract::SkillId, contract::policy::Level>,
    /// The kinds of its channels, the one answers go by last.
    channels: Vec<ChannelKind>,
    opened_at: Timestamp,
    ready_at: Timestamp,
    until: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    disposition: Option<SmolStr>,
}

/// The skills that a step requires in any case.
fn skills(step: &contract::policy::Step) -> BTreeMap<contract::SkillId, contract::policy::Level> {
    fn add(expr: &contract::policy::Expr, found: &mut BTreeMap<contract::SkillId, contract::policy::Level>) {
        match expr {
            contract::policy::Expr::All(parts) => parts.iter().for_each(|part| add(part, found)),
            contract::policy::Expr::Skill(test) if test.min > 0 => {
                let level = found.entry(test.skill.clone()).or_default();
                *level = (*level).max(test.min);
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    add(&step.must, &mut found);
    found
}

impl From<ConversationView> for Row {
    fn from(view: ConversationView) -> Self {
        let mut channels: Vec<ChannelKind> = Vec::new();
        for thread in view.threads {
            channels.retain(|kind| *kind != thread.account.kind);
            channels.push(thread.account.kind);
        }
        Self {
            conversation: view.conversation,
            customer: view.customer,
            customer_name: view.customer_name,
            state: view.state,
            queue: view.queue,
            agent: view.agent,
            priority: view.priority,
            skills: view.requirement.step(view.step as usize).map(skills).unwrap_or_default(),
            channels,
            opened_at: view.opened_at,
            ready_at: view.ready_at,
            until: view.until,
            closed_at: view.closed_at,
            disposition: view.disposition,
        }
    }
}

impl Row {
    /// Who needs somebody comes first; among equals the one that has waited longest.
    fn order(&self) -> (u8, Timestamp, ConversationId) {
        let rank = match self.state.as_str() {
            "waiting" => 0,
            "offered" => 1,
            "active" => 2,
            "wrapping" => 3,
            "parked" => 4,
            _ => 5,
        };
        (rank, self.ready_at, self.conversation)
    }
}

/// Asks for everything at once.
pub(crate) async fn fetch(ask: &Ask, tenant: &TenantId) -> Result<Overview, Failure> {
    let (status, agents, conversations) = try_join3(
        answer(ask, AdminCommand::StatusShow { digest: false }, |answer| match answer {
            Answer::Status(status) => Some(*status),
            _ => None,
        }),
        answer(ask, AdminCommand::AgentList {}, |answer| match answer {
            Answer::Agents(agents) => Some(agents),
            _ => None,
        }),
        answer(ask, AdminCommand::ConversationList { limit: Some(CONVERSATIONS_MAX) }, |answer| match answer {
            Answer::Conversations(conversations) => Some(conversations),
            _ => None,
        }),
    )
    .await?;
    Ok(compose(tenant, status, agents, conversations))
}

fn compose(tenant: &TenantId, status: StatusView, agents: Vec<AgentView>, views: Vec<ConversationView>) -> Overview {
    let StatusView { counts, customers, shard, .. } = status;
    let mut conversations: Vec<Row> = views.into_iter().map(Row::from).collect();
    conversations.sort_by_cached_key(Row::order);

    // A queue is shown when anybody works it, waits in it or came through it.
    let mut queues: BTreeMap<QueueId, Queue> = BTreeMap::new();
    for agent in &agents {
        for queue in &agent.queues {
            let queue = queues.entry(queue.clone()).or_default();
            queue.members += 1;
            queue.ready += u64::from(ready(agent));
        }
    }
    for queue in conversations.iter().filter_map(|row| row.queue.as_ref()) {
        queues.entry(queue.clone()).or_default();
    }
    for (queue, waiting) in counts.waiting {
        queues.entry(queue).or_default().waiting = waiting;
    }
    for (queue, at) in counts.oldest_ready_at {
        queues.entry(queue).or_default().oldest_ready_at = Some(at);
    }

    Overview {
        tenant: tenant.clone(),
        shard: ShardLine {
            shard: shard.shard,
            owner: shard.owner,
            epoch: shard.epoch,
            seq: shard.seq,
            outputs_behind: shard.seq.saturating_sub(shard.outputs_done),
            views_behind: shard.seq.saturating_sub(shard.kv_done),
        },
        policy_version: counts.policy_version,
        customers,
        open: counts.conversations.values().sum(),
        states: counts.conversations,
        queues,
        agents,
        conversations,
    }
}
