//! A policy coming into force.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::event::{EnqueueReason, Exclusion};
use contract::policy::Policy;
use contract::{AgentId, ConversationId, Event, OfferId, QueueId, SmolStr};

use crate::conversation::Phase;
use crate::enqueue::{Entry, facts_of};
use crate::state::{State, Step};

impl State {
    /// Puts a policy into force, when it differs from the one that is. With `waiting`, what waits is routed
    /// anew by it; else it keeps what it came with.
    pub(crate) fn apply_policy(&mut self, step: &mut Step, policy: Policy, waiting: bool) {
        let before: Vec<AgentId> = self.policy.agents.keys().cloned().collect();
        if policy != *self.policy {
            let version = self.policy_version + 1;
            self.emit(step, Event::PolicyApplied { version, policy: Arc::new(policy) });
            self.follow_hours(step);
            self.rescind_unmakeable(step);
            self.rehome(step);
            // Steps that nobody can meet any more are passed, as when somebody signs out.
            if before.iter().any(|agent| !self.policy.agents.contains_key(agent)) || self.policy_version > 1 {
                let items = self.index.waiting.classes().flat_map(|class| class.items());
                let queued: BTreeSet<ConversationId> = items.map(|item| item.conversation).collect();
                for id in queued {
                    self.advance_steps(step, id);
                    self.end_alarm(step, id);
                }
            }
        }
        if waiting {
            self.repolicy(step);
        }
    }

    /// Queues whose hours the new policy changed open or close.
    pub(crate) fn follow_hours(&mut self, step: &mut Step) {
        let queues: Vec<QueueId> = self.policy.queues.keys().cloned().collect();
        for queue in queues {
            self.turn(step, &queue);
        }
    }

    /// Opens or closes a queue, as its hours say.
    pub(crate) fn turn(&mut self, step: &mut Step, queue: &QueueId) {
        let open = self.rules.get().is_open(queue, step.at);
        let changes_at = self.rules.get().next_change(queue, step.at);
        let state = self.queues.get(queue);
        let (closed, known) = (state.is_some_and(|state| state.closed), state.and_then(|state| state.changes_at));
        if closed == open || known != changes_at {
            let event = if open {
                Event::QueueOpened { queue: queue.clone(), closes_at: changes_at }
            } else {
                Event::QueueClosed { queue: queue.clone(), opens_at: changes_at }
            };
            self.emit(step, event);
        }
        if closed && open {
            // That nobody was there did not matter while it was closed.
            let classes = self.index.waiting.classes().filter(|class| class.key.queue == *queue);
            let items: BTreeSet<ConversationId> =
                classes.flat_map(|class| class.items()).map(|item| item.conversation).collect();
            for id in items {
                self.advance_steps(step, id);
            }
        }
    }

    /// Offers that the new policy would not make are taken back.
    fn rescind_unmakeable(&mut self, step: &mut Step) {
        let standing: Vec<(OfferId, ConversationId, AgentId)> =
            self.offers.iter().map(|(id, offer)| (*id, offer.conversation, offer.agent.clone())).collect();
        for (offer, conversation, agent) in standing {
            if !self.offers.contains_key(&offer) {
                continue;
            }
            // A lowered capacity does not take back what was promised, nor does what has happened since.
            let excluded = self.exclusion(conversation, &agent, step.at).filter(|because| {
                !matches!(
                    because,
                    Exclusion::Full { .. }
                        | Exclusion::PrimaryFull { .. }
                        | Exclusion::ChannelCap { .. }
                        | Exclusion::LabelCap { .. }
                        | Exclusion::Blocked { .. }
                        | Exclusion::Delayed { .. }
                        | Exclusion::Resting { .. }
                        | Exclusion::OfferRate { .. }
                )
            });
            if excluded.is_some() || !self.concerns(conversation, &agent) {
                let reason = SmolStr::new_static("policy");
                self.emit(step, Event::OfferRescinded { offer, conversation, agent, reason });
            }
        }
    }

    /// Conversations in queues that are gone go where the rules say.
    fn rehome(&mut self, step: &mut Step) {
        let homeless: Vec<ConversationId> = self
            .conversations
            .iter()
            .filter(|(_, conversation)| matches!(conversation.phase, Phase::Waiting { .. }))
            .filter(|(_, waiting)| waiting.queue.as_ref().is_none_or(|queue| !self.policy.queues.contains_key(queue)))
            .map(|(id, _)| *id)
            .collect();
        for id in homeless {
            let keeper = self.conversations.get(&id).and_then(|item| item.keeper.as_deref().cloned());
            let entry = Entry { kept: keeper.is_some(), from: keeper, ..Entry::new(EnqueueReason::QueueGone) };
            self.enqueue_again(step, id, entry);
        }
    }

    /// Routes everything that waits anew. A rule that reads the text of the first message cannot be asked
    /// again, since the text is not kept: where the rule of that name is still there, it stays in force.
    fn repolicy(&mut self, step: &mut Step) {
        let waiting: Vec<ConversationId> = self
            .conversations
            .iter()
            .filter(|(_, conversation)| matches!(conversation.phase, Phase::Waiting { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.route_anew(step, id, EnqueueReason::Repolicied, None);
        }
    }

    /// Routes one conversation by the policy in force, as far as what it came with is still known; with this
    /// priority, where one is given.
    pub(crate) fn route_anew(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        reason: EnqueueReason,
        priority: Option<i32>,
    ) {
        let Some(item) = self.conversations.get(&id) else { return };
        let facts = facts_of(item);
        let rules = self.rules.get();
        let named = item
            .terms
            .route
            .as_ref()
            .and_then(|name| self.policy.routes.iter().position(|route| route.name.as_ref() == Some(name)));
        let routed = match named.and_then(|rule| rules.routed(Some(rule), &facts)) {
            Some(routed) => Some(routed),
            None => rules.route(&facts, step.at),
        };
        let (from, kept) = (item.responsible().cloned(), item.keeper.is_some());
        let entry = Entry { from, kept, direct: item.direct.as_deref().cloned(), ..Entry::new(reason) };
        if let Some(mut routed) = routed {
            routed.priority = priority.unwrap_or(routed.priority);
            self.enqueue(step, id, routed, &facts, entry);
        }
    }
}
