//! Finding out what a conversation is about before it is routed, by asking somebody outside.
//!
//! The engine notes that it waits for an answer and until when; the shell asks. The answer, or the end of
//! the time, routes the conversation. Nothing else waits for it.

use contract::event::Classification;
use contract::journal::Cause;
use contract::{ConversationId, Envelope, Event, Millis, SmolStr, Timestamp};
use policy::Facts;
use serde::{Deserialize, Serialize};

use crate::state::{State, Step};

/// A conversation of which it is being found out what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classifying {
    /// How long the answer is awaited.
    pub until: Timestamp,
    /// When it was asked.
    pub since: Timestamp,
    /// What rules decide by, as far as the first message says.
    pub(crate) facts: Facts,
    /// It had ended before, and goes on.
    pub(crate) reopened: bool,
}

impl State {
    /// Whether somebody is to be asked what a conversation is about that this message begins, and how long
    /// the answer is awaited.
    pub(crate) fn classifier_budget(&self, envelope: &Envelope) -> Option<Millis> {
        let classifier = self.policy.classifier.as_ref()?;
        let wanted = classifier.channels.is_empty() || classifier.channels.contains(&envelope.account.kind);
        wanted.then_some(classifier.budget_ms)
    }

    /// What a conversation is about has been found out, or cannot be. `None`: it is routed already.
    pub fn classified(&mut self, now: Timestamp, id: ConversationId, found: Classification) -> Option<Step> {
        self.conversations.get(&id)?.classifying.as_ref()?;
        let mut step = self.begin(now, Cause::Notice);
        self.route_classified(&mut step, id, found);
        self.finish(&mut step);
        Some(step)
    }

    /// The time is over: the rules decide alone.
    pub(crate) fn classify_late(&mut self, step: &mut Step, id: ConversationId) {
        let outcome = SmolStr::new_static("late");
        self.route_classified(step, id, Classification { outcome, ..Classification::default() });
    }

    fn route_classified(&mut self, step: &mut Step, id: ConversationId, mut found: Classification) {
        let Some(item) = self.conversations.get(&id) else { return };
        let Some(pending) = item.classifying.as_deref().cloned() else { return };
        let customer = item.customer;
        let mut facts = pending.facts;
        facts.learn(&found);
        found.took_ms = step.at.since(pending.since);
        self.emit(step, Event::ConversationClassified { conversation: id, classification: found });
        self.route_new(step, id, customer, pending.reopened, facts);
    }
}
