//! A policy that runs beside the one in force: sees the same facts, effects nothing, and counts where it would
//! decide otherwise.
//!
//! It keeps a state of its own that takes in what happened (who is there, who holds what) as the live one did,
//! under the other policy; what is routed goes where the other policy puts it. At each decision of the live
//! engine it is asked what it would have decided there and then, from what really had happened until then. What
//! would have followed from its own decisions is not played out: for that there is the simulator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use contract::answer::{ShadowExample, ShadowReport};
use contract::event::{EnqueueReason, Requirement};
use contract::journal::Cause;
use contract::policy::Policy;
use contract::{ConversationId, Event, QueueId, SmolStr, Timestamp};
use policy::Facts;

use crate::queue::QueueState;
use crate::state::State;

/// How many of the newest differences are kept as examples.
const EXAMPLES_MAX: usize = 20;

/// A policy that runs beside the one in force.
#[derive(Debug, Clone, Default)]
pub struct Shadow {
    state: State,
    report: ShadowReport,
    examples: VecDeque<ShadowExample>,
    /// What rules decide by, of conversations that have begun and are not routed yet.
    begun: BTreeMap<ConversationId, Facts>,
    /// Conversations that stand in another queue here, or ask for something else.
    elsewhere: BTreeSet<ConversationId>,
}

impl Shadow {
    /// Begins beside a live state, as that stands now. The policy has been checked.
    #[must_use]
    pub fn new(now: Timestamp, live: &State, policy: Policy) -> Self {
        let mut state = live.clone();
        let version = live.policy_version;
        state.evolve(now, &Event::PolicyApplied { version, policy: Arc::new(policy) });
        let mut step = state.open_step(now, Cause::Notice);
        state.follow_hours(&mut step);
        // What is just being found out is routed by what was said first, which went before.
        let pending = |(id, item): (contract::ConversationId, &crate::conversation::Conversation)| {
            Some((id, item.classifying.as_ref()?.facts.clone()))
        };
        let begun = live.conversations().filter_map(pending).collect();
        Self { state, begun, report: ShadowReport { since: now, ..ShadowReport::default() }, ..Self::default() }
    }

    /// Looks at a fact of the live engine. For a decision: whether it would have been the same.
    pub fn observe(&mut self, at: Timestamp, event: &Event) -> Option<bool> {
        self.turn(at);
        let mut same = None;
        match event {
            // Its own policy, and its own hours.
            Event::PolicyApplied { .. } | Event::QueueOpened { .. } | Event::QueueClosed { .. } => {}
            // A step of what it does not ask.
            Event::ConversationStepReached { conversation, .. } if self.elsewhere.contains(conversation) => {}
            Event::MessageReceived { conversation, envelope, .. } => {
                if self.state.conversation(*conversation).is_some_and(|item| item.queue.is_none()) {
                    self.begun.entry(*conversation).or_insert_with(|| Facts::of(envelope, None));
                }
                self.state.evolve(at, event);
            }
            Event::ConversationClassified { conversation, classification } => {
                if let Some(facts) = self.begun.get_mut(conversation) {
                    facts.learn(classification);
                }
                self.state.evolve(at, event);
            }
            Event::ConversationEnqueued { conversation, reason, .. } => {
                self.elsewhere.remove(conversation);
                // Where the live queue was closed or full, it was sent on to this one.
                let begins =
                    matches!(reason, EnqueueReason::Opened | EnqueueReason::Reopened | EnqueueReason::Overflowed);
                match self.begun.remove(conversation).filter(|_| begins) {
                    Some(facts) => same = Some(self.route(at, *conversation, facts, Some(event))),
                    None => drop(self.state.evolve(at, event)),
                }
            }
            Event::OfferCreated { conversation, agent, decision, .. } => {
                if decision.tie_break != "ring" {
                    same = Some(self.choose(at, *conversation, agent.as_str()));
                }
                self.state.evolve(at, event);
            }
            Event::ConversationClosed { conversation, reason, .. } => {
                let facts = self.begun.remove(conversation);
                if let Some(facts) = facts.filter(|_| reason.as_deref() == Some("refused")) {
                    same = Some(self.route(at, *conversation, facts, None));
                }
                self.elsewhere.remove(conversation);
                self.state.evolve(at, event);
            }
            _ => drop(self.state.evolve(at, event)),
        }
        self.state.index.dirty_agents.clear();
        self.state.index.dirty_items.clear();
        same
    }

    /// Queues open and close by the hours of this policy.
    fn turn(&mut self, at: Timestamp) {
        let due = |(_, queue): &(&QueueId, &QueueState)| queue.changes_at.is_some_and(|changes| changes <= at);
        let queues: Vec<QueueId> = self.state.queues.iter().filter(due).map(|(id, _)| id.clone()).collect();
        if !queues.is_empty() {
            let mut step = self.state.open_step(at, Cause::Notice);
            for queue in queues {
                self.state.turn(&mut step, &queue);
            }
        }
    }

    /// Routes a conversation that has begun, as this policy would, and compares that. Without the live fact: there
    /// it was refused.
    fn route(&mut self, at: Timestamp, id: ConversationId, facts: Facts, live: Option<&Event>) -> bool {
        let Some(customer) = self.state.conversation(id).map(|item| item.customer) else { return true };
        let reopened = matches!(live, Some(Event::ConversationEnqueued { reason, .. }) if *reason == EnqueueReason::Reopened)
            || self.state.past_of(customer).is_some_and(|past| past.conversation == id);
        let mut step = self.state.open_step(at, Cause::Notice);
        self.state.route_new(&mut step, id, customer, reopened, facts);
        let own = step.emitted.iter().rev().find(|own| matches!(&*own.event, Event::ConversationEnqueued { .. }));
        self.report.routed += 1;
        match (live, own.map(|own| &*own.event)) {
            (
                Some(Event::ConversationEnqueued { queue, priority, requirement, .. }),
                Some(Event::ConversationEnqueued {
                    queue: own_queue,
                    priority: own_priority,
                    requirement: own_requirement,
                    ..
                }),
            ) => {
                let differs = (queue != own_queue, priority != own_priority, requirement != own_requirement);
                if differs.0 {
                    self.report.other_queue += 1;
                    self.example(id, "queue", queue.as_str(), own_queue.as_str());
                }
                if differs.1 {
                    self.report.other_priority += 1;
                    self.example(id, "priority", &priority.to_string(), &own_priority.to_string());
                }
                if differs.2 {
                    self.report.other_requirement += 1;
                    self.example(id, "requirement", &words(requirement), &words(own_requirement));
                }
                if differs.0 || differs.2 {
                    self.elsewhere.insert(id);
                }
                differs == (false, false, false)
            }
            (None, None) => true,
            (live, own) => {
                let name = |event: Option<&Event>| match event {
                    Some(Event::ConversationEnqueued { queue, .. }) => queue.to_string(),
                    _ => "refused".to_owned(),
                };
                self.report.other_queue += 1;
                self.example(id, "queue", &name(live), &name(own));
                self.elsewhere.insert(id);
                // It goes on there, and here it does not.
                if own.is_none()
                    && let Some(live) = live
                {
                    self.state.evolve(at, live);
                }
                false
            }
        }
    }

    /// Compares whom a conversation is offered to.
    fn choose(&mut self, at: Timestamp, id: ConversationId, live: &str) -> bool {
        self.report.offers += 1;
        match self.state.best_agent(id, at) {
            Some(agent) if agent.as_str() == live => return true,
            Some(agent) => {
                self.report.other_agent += 1;
                self.example(id, "agent", live, agent.as_str());
            }
            None => {
                self.report.nobody += 1;
                self.example(id, "nobody", live, "");
            }
        }
        false
    }

    fn example(&mut self, conversation: ConversationId, what: &'static str, live: &str, shadow: &str) {
        if self.examples.len() == EXAMPLES_MAX {
            self.examples.pop_front();
        }
        let what = SmolStr::new_static(what);
        self.examples.push_back(ShadowExample { conversation, what, live: live.into(), shadow: shadow.into() });
    }

    /// How the two compare so far.
    #[must_use]
    pub fn report(&self) -> ShadowReport {
        ShadowReport { examples: self.examples.iter().cloned().collect(), ..self.report.clone() }
    }
}

fn words(requirement: &Requirement) -> String {
    requirement.steps.iter().map(policy::words::step).collect::<Vec<_>>().join("; then ")
}
