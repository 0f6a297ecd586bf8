//! Why is this still waiting, and how long will it?

use contract::answer::{ExpectedWait, Explanation};
use contract::event::{Candidate, Decision};
use contract::{ConversationId, Millis, QueueId};

use crate::conversation::{Conversation, Phase};
use crate::state::State;

/// How many members of its queue an explanation lists.
const LISTED_MAX: usize = 64;

impl State {
    /// Explains where an open conversation stands.
    #[must_use]
    pub fn explain(&self, id: ConversationId) -> Option<Explanation> {
        let conversation = self.conversations.get(&id)?;
        let mut now = Decision { step: conversation.step, ..Decision::default() };
        if conversation.queue.is_some() {
            now.eligible = match conversation.phase {
                Phase::Waiting { .. } => self.eligible_now(id),
                _ => self.free_members(id, conversation),
            };
            self.explain_members(id, LISTED_MAX, &mut now, self.now);
        }
        let position = self.position(id);
        let closed = conversation.queue.as_ref().and_then(|queue| self.queues.get(queue)).filter(|queue| queue.closed);
        let summary = match &conversation.phase {
            Phase::Waiting { .. } if conversation.classifying.is_some() => {
                "waits: somebody is asked what it is about".to_owned()
            }
            Phase::Waiting { .. } if conversation.queue.is_none() => "waits: there is no policy yet".to_owned(),
            Phase::Waiting { .. } if closed.is_some() => "waits: its queue is closed".to_owned(),
            Phase::Waiting { .. } if now.eligible.is_empty() && now.excluded.is_empty() && now.unlisted == 0 => {
                "waits: its queue has no members".to_owned()
            }
            Phase::Waiting { .. } if conversation.alarmed_at.is_some() => {
                "waits: nobody who is signed in could ever take it".to_owned()
            }
            Phase::Waiting { next_round_at: Some(_) } => {
                "waits: nobody is left to ask in this round; all are asked again after a pause".to_owned()
            }
            Phase::Waiting { .. } => {
                format!("waits: none of {} members can take it now", now.excluded.len() + now.unlisted as usize)
            }
            Phase::Offered { offers } => {
                let offers: Vec<String> = offers.iter().map(|(offer, agent)| format!("{agent} ({offer})")).collect();
                format!("is offered to {}", offers.join(", "))
            }
            Phase::Active { agent } if conversation.idle => format!("is with {agent}, and the customer is silent"),
            Phase::Active { agent } => format!("is with {agent}"),
            Phase::Parked { agent, .. } => format!("is parked by {agent}"),
            Phase::Wrapping { agent, .. } => format!("is being wrapped up by {agent}"),
        };
        let summary = match &conversation.keeper {
            Some(keeper) => format!("{summary}; until somebody accepts, {keeper} answers the customer"),
            None => summary,
        };
        Some(Explanation {
            conversation: self.conversation_view(id)?,
            waiting_ms: self.time().since(conversation.ready_at),
            position,
            expected_wait: self.expected(conversation, position),
            step: conversation.step,
            steps: u32::try_from(conversation.requirement.steps.len()).unwrap_or(u32::MAX),
            step_ends_at: conversation.step_ends_at,
            asked: conversation.asked.iter().cloned().collect(),
            round: conversation.round,
            now,
            summary: summary.into(),
        })
    }

    /// The members of its queue who could take what is elsewhere already, by name.
    fn free_members(&self, id: ConversationId, conversation: &Conversation) -> Vec<Candidate> {
        let roster = &self.index.roster;
        let home = conversation.queue.as_ref().and_then(|queue| roster.queues.get(queue));
        let members = home.and_then(|no| roster.team(*no)).into_iter().flat_map(|team| &team.members);
        let free = members.take(LISTED_MAX).filter_map(|no| roster.slot(*no)).filter_map(|slot| {
            let state = self.agents.get(&slot.id).filter(|_| self.exclusion(id, &slot.id, self.now).is_none())?;
            Some(Candidate {
                agent: slot.id.clone(),
                load: state.load,
                capacity: slot.capacity,
                last_assigned_at: state.last_assigned_at,
                affinity: 0,
                tier: 0,
                preferred: 0,
                skill_milli: 0,
                strategy_key: 0,
            })
        });
        free.collect()
    }

    pub(crate) fn position(&self, id: ConversationId) -> Option<u64> {
        let own = self.index.waiting.precedence(id, self.now)?;
        let queue = self.conversations.get(&id)?.queue.as_ref()?;
        let classes = self.index.waiting.classes().filter(|class| class.key.queue == *queue);
        let before = classes
            .flat_map(|class| class.items())
            .filter(|item| self.index.waiting.precedence(item.conversation, self.now).is_some_and(|other| other < own));
        Some(before.count() as u64)
    }

    pub(crate) fn expected(&self, conversation: &Conversation, position: Option<u64>) -> ExpectedWait {
        let (Some(position), Some(queue)) = (position, &conversation.queue) else { return ExpectedWait::default() };
        let state = self.queues.get(queue);
        ExpectedWait {
            reckoned_ms: self.expected_wait(queue, position, Some(conversation)),
            p50_ms: state.and_then(|state| state.wait_percentile(50)),
            p90_ms: state.and_then(|state| state.wait_percentile(90)),
        }
    }

    /// How long the item after `before` others will wait: so many, each for as long as one takes, over as many
    /// as the agents who could take it can hold at once. `None`: nobody could, or nothing was observed.
    pub(crate) fn expected_wait(&self, queue: &QueueId, before: u64, item: Option<&Conversation>) -> Option<Millis> {
        let handling = self.queues.get(queue)?.handling_time()?;
        let roster = &self.index.roster;
        let team = roster.team(*roster.queues.get(queue)?)?;
        let places = match item {
            // Asked at each arrival where a queue overflows by it: counted as people come and go.
            None => team.places,
            Some(item) => team.members.iter().map(|no| self.places(*no, item)).sum(),
        };
        (places > 0).then(|| Millis((before + 1).saturating_mul(handling.0) / places))
    }

    /// How many like this one an agent can hold at once, if it is there and could take it.
    fn places(&self, no: crate::roster::AgentNo, item: &Conversation) -> u64 {
        let Some(slot) = self.index.roster.slot(no).filter(|slot| slot.live.signed_in) else { return 0 };
        let (Some(state), Some(spec)) = (self.agents.get(&slot.id), self.policy.agents.get(&slot.id)) else { return 0 };
        let presence = self.policy.presence(state.presence.as_str());
        let takes = presence.is_some_and(|presence| presence.takes.channel(&item.kind));
        if !takes || !policy::expr::holds(&item.step().must, spec) {
            return 0;
        }
        let own = spec.caps.channels.get(&item.kind).copied();
        let cap = own.or_else(|| self.policy.channels.get(&item.kind)?.cap);
        u64::from((spec.capacity / item.terms.weight.max(1)).min(cap.unwrap_or(u32::MAX)))
    }
}
