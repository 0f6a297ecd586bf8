//! Why is this still waiting?

use contract::ConversationId;
use contract::answer::Explanation;
use contract::event::Decision;

use crate::conversation::Phase;
use crate::state::State;

/// How many members of its queue an explanation lists.
const LISTED_MAX: usize = 64;

impl State {
    /// Explains where an open conversation stands.
    #[must_use]
    pub fn explain(&self, id: ConversationId) -> Option<Explanation> {
        let conversation = self.conversations.get(&id)?;
        let mut now = Decision::default();
        if let Some(queue) = &conversation.queue {
            self.explain_members(id, queue, LISTED_MAX, &mut now);
        }
        let position = self.position(id);
        let summary = match &conversation.phase {
            Phase::Waiting { .. } if conversation.queue.is_none() => "waits: there is no policy yet".to_owned(),
            Phase::Waiting { .. } if now.eligible.is_empty() && now.excluded.is_empty() && now.unlisted == 0 => {
                "waits: its queue has no members".to_owned()
            }
            Phase::Waiting { next_round_at: Some(_) } => {
                "waits: nobody is left to ask in this round; all are asked again after a pause".to_owned()
            }
            Phase::Waiting { .. } => {
                format!("waits: none of {} members can take it now", now.excluded.len() + now.unlisted as usize)
            }
            Phase::Offered { agent, offer } => format!("is offered to {agent} ({offer})"),
            Phase::Active { agent } => format!("is with {agent}"),
            Phase::Parked { agent, .. } => format!("is parked by {agent}"),
            Phase::Wrapping { agent, .. } => format!("is being wrapped up by {agent}"),
        };
        Some(Explanation {
            conversation: self.conversation_view(id)?,
            waiting_ms: self.time().since(conversation.ready_at),
            position,
            asked: conversation.asked.iter().cloned().collect(),
            round: conversation.round,
            now,
            summary: summary.into(),
        })
    }

    fn position(&self, id: ConversationId) -> Option<u64> {
        let conversation = self.conversations.get(&id)?;
        let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) else { return None };
        let own = crate::index::ItemKey::of(id, conversation);
        let items = self.index.waiting.get(queue)?.values().flatten();
        Some(items.filter(|item| **item < own).count() as u64)
    }
}
