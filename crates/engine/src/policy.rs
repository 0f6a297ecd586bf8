//! A policy coming into force.

use std::sync::Arc;

use contract::event::{EnqueueReason, Exclusion};
use contract::policy::Policy;
use contract::{ConversationId, Event, OfferId, SmolStr};

use crate::conversation::Phase;
use crate::state::{State, Step};

impl State {
    /// Puts a policy into force, when it differs from the one that is.
    pub(crate) fn apply_policy(&mut self, step: &mut Step, policy: Policy) {
        if policy != *self.policy {
            let version = self.policy_version + 1;
            self.emit(step, Event::PolicyApplied { version, policy: Arc::new(policy) });
            self.rehome(step);
        }
    }

    /// Conversations in queues that are gone move to the default queue; offers that the new policy would
    /// not make are taken back.
    fn rehome(&mut self, step: &mut Step) {
        let standing: Vec<(OfferId, ConversationId)> =
            self.offers.iter().map(|(id, offer)| (*id, offer.conversation)).collect();
        for (offer, conversation) in standing {
            let Some(agent) = self.offers.get(&offer).map(|offer| offer.agent.clone()) else { continue };
            // A lowered capacity does not take back what was promised.
            let excluded =
                self.exclusion(conversation, &agent).filter(|because| !matches!(because, Exclusion::Full { .. }));
            if excluded.is_some() || !self.concerns(conversation, &agent) {
                let reason = SmolStr::new_static("policy");
                self.emit(step, Event::OfferRescinded { offer, conversation, agent, reason });
            }
        }
        let homeless: Vec<ConversationId> = self
            .conversations
            .iter()
            .filter(|(_, conversation)| matches!(conversation.phase, Phase::Waiting { .. }))
            .filter(|(_, waiting)| waiting.queue.as_ref().is_none_or(|queue| !self.policy.queues.contains_key(queue)))
            .map(|(id, _)| *id)
            .collect();
        for id in homeless {
            self.enqueue_again(step, id, EnqueueReason::Other(SmolStr::new_static("policy")), None, None);
        }
    }
}
