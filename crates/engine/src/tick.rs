//! What time and silence bring.

use contract::event::EnqueueReason;
use contract::journal::Cause;
use contract::{AgentId, ConversationId, Event, SmolStr, Timestamp};

use crate::contact::{Addresses, NoAddresses};
use crate::conversation::Phase;
use crate::enqueue::Entry;
use crate::state::{State, Step};
use crate::timer::Timer;

impl State {
    /// An agent's tool gave a sign of life.
    pub fn agent_heard(&mut self, now: Timestamp, agent: &AgentId) -> Step {
        let mut step = self.begin(now, Cause::Notice);
        self.connect(&mut step, agent);
        if !step.is_empty() {
            self.finish(&mut step);
        }
        step
    }

    /// An agent's tool has been silent for `timing.agent_silence_ms`.
    pub fn agent_silent(&mut self, now: Timestamp, agent: &AgentId) -> Step {
        let mut step = self.begin(now, Cause::Notice);
        if self.agents.get(agent).is_some_and(|state| state.connected) {
            let grace_until = step.at + self.policy.timing.agent_grace_ms;
            self.emit(&mut step, Event::AgentDisconnected { agent: agent.clone(), grace_until });
            self.rescind_offers(&mut step, agent, "agent_disconnected");
            self.finish(&mut step);
        }
        step
    }

    /// An inbound record could not be processed.
    pub fn reject(&mut self, now: Timestamp, in_seq: u64, index: Option<u32>, subject: String, reason: String) -> Step {
        let mut step = self.begin(now, Cause::Rejected);
        self.emit(&mut step, Event::InputRejected { in_seq, index, subject, reason });
        step
    }

    /// Time has come to `now`: everything that was due happens, in the order in which it was due.
    /// `None`: nothing was.
    pub fn tick(&mut self, now: Timestamp) -> Option<Step> {
        self.tick_with(now, &NoAddresses)
    }

    /// The same, where somebody knows by which addresses customers are reached.
    pub fn tick_with(&mut self, now: Timestamp, addresses: &dyn Addresses) -> Option<Step> {
        let mut step = self.begin(now, Cause::Timer);
        loop {
            while self.is_due(step.at) {
                // Taken out before it fires: what it brings about may set the same one anew.
                let Some((_, timer)) = self.index.timers.pop_first() else { break };
                self.fire(&mut step, timer, addresses);
            }
            if step.is_empty() {
                return None;
            }
            // What is matched may come where it has waited too long already.
            self.settle(&mut step);
            if !self.is_due(step.at) {
                break;
            }
        }
        self.finish(&mut step);
        Some(step)
    }

    fn is_due(&self, at: Timestamp) -> bool {
        self.index.timers.first().is_some_and(|(due, _)| *due <= at)
    }

    fn fire(&mut self, step: &mut Step, timer: Timer, addresses: &dyn Addresses) {
        match timer {
            Timer::Unread(thread) => self.send_unread(step, &thread, addresses),
            Timer::Offer(offer) => {
                let Some(standing) = self.offers.get(&offer).cloned() else { return };
                let rest = self.policy.offers.rest_after_no_answer_ms;
                let rest_until = (rest.0 > 0).then(|| step.at + rest);
                let (conversation, agent) = (standing.conversation, standing.agent);
                self.emit(step, Event::OfferExpired { offer, conversation, agent: agent.clone(), rest_until });
                self.note_no_answer(step, &agent);
                self.note_offers(step, conversation);
            }
            Timer::Grace(agent) => {
                let agent = *agent;
                self.emit(step, Event::AgentLost { agent: agent.clone() });
                self.give_up_conversations(step, &agent, EnqueueReason::AgentLost);
                self.roster_changed(step, &agent);
            }
            Timer::Responding(agent) => self.emit(step, Event::AgentResponding { agent: *agent }),
            Timer::Rest(agent) => self.emit(step, Event::AgentRested { agent: *agent }),
            Timer::Hours(queue) => self.turn(step, &queue),
            Timer::Round(conversation) => {
                let round = self.conversations.get(&conversation).map_or(0, |waiting| waiting.round) + 1;
                self.emit(step, Event::ConversationRoundStarted { conversation, round });
            }
            Timer::Classify(conversation) => self.classify_late(step, conversation),
            Timer::Step(conversation) => self.advance_steps(step, conversation),
            Timer::WaitMax(conversation) => self.fall_back(step, conversation, "wait"),
            Timer::NoAgents(conversation) => self.fall_back(step, conversation, "no_agents"),
            Timer::Waited(conversation) => self.wait_reached(step, conversation),
            Timer::Park(conversation) => {
                let agent = self.conversations.get(&conversation).and_then(|parked| parked.phase.agent().cloned());
                if let Some(agent) = agent {
                    self.resume_or_enqueue(step, conversation, &agent, "time");
                }
            }
            Timer::WrapUp(conversation) => self.close_by_itself(step, conversation, "wrap_up_ended"),
            Timer::Idle(conversation) => {
                if let Some(Phase::Active { agent }) = self.phase(conversation) {
                    self.emit(step, Event::ConversationIdled { conversation, agent });
                }
            }
            Timer::ParkIdle(conversation) => {
                if let Some(Phase::Active { agent }) = self.phase(conversation) {
                    let reason = Some(SmolStr::new_static("idle"));
                    self.emit(
                        step,
                        Event::ConversationParked { conversation, agent: agent.clone(), until: None, reason },
                    );
                    self.note_excess(step, &agent);
                }
            }
            Timer::CloseIdle(conversation) => self.close_by_itself(step, conversation, "idle"),
        }
    }

    pub(crate) fn phase(&self, id: ConversationId) -> Option<Phase> {
        self.conversations.get(&id).map(|conversation| conversation.phase.clone())
    }

    /// Nobody ends a conversation; it has come to its end.
    pub(crate) fn close_by_itself(&mut self, step: &mut Step, conversation: ConversationId, reason: &'static str) {
        let disposition = match self.phase(conversation) {
            Some(Phase::Wrapping { disposition, .. }) => disposition,
            _ => None,
        };
        let reason = Some(SmolStr::new_static(reason));
        self.emit(step, Event::ConversationClosed { conversation, by: None, reason, disposition });
    }

    /// An agent let an offer lapse: after too many in a row it counts as not responding.
    fn note_no_answer(&mut self, step: &mut Step, agent: &AgentId) {
        let most = self.policy.offers.no_answer_max;
        let Some(state) = self.agents.get(agent) else { return };
        if most > 0 && state.no_answers >= most && state.not_responding_until.is_none() {
            let until = step.at + self.policy.offers.not_responding_ms;
            self.emit(step, Event::AgentNotResponding { agent: agent.clone(), until });
            self.rescind_offers(step, agent, "not_responding");
        }
    }

    /// An offer came to nothing. When no other stands, it goes on: to the next step, where this one was for the
    /// one agent who said no, and after too many offers to the queue's fallback.
    pub(crate) fn note_offers(&mut self, step: &mut Step, id: ConversationId) {
        let Some(item) = self.conversations.get(&id).filter(|item| matches!(item.phase, Phase::Waiting { .. })) else {
            return;
        };
        let most = self.policy.offers.conversation_max;
        if most > 0 && item.offers_made >= most {
            self.fall_back(step, id, "offers");
        }
        self.advance_steps(step, id);
    }

    pub(crate) fn rescind_offers(&mut self, step: &mut Step, agent: &AgentId, reason: &'static str) {
        let standing = self.agents.get(agent).map(|state| state.offers.clone()).unwrap_or_default();
        for offer in standing {
            let Some(conversation) = self.offers.get(&offer).map(|offer| offer.conversation) else { continue };
            let reason = SmolStr::new_static(reason);
            self.emit(step, Event::OfferRescinded { offer, conversation, agent: agent.clone(), reason });
        }
    }

    /// What a lost agent held goes on without it: active ones are offered to others, parked ones wait
    /// for the customer, wrap-ups end, handovers go on without it, and it reads along no longer.
    pub(crate) fn give_up_conversations(&mut self, step: &mut Step, agent: &AgentId, reason: EnqueueReason) {
        let Some(state) = self.agents.get(agent) else { return };
        let (held, kept, read) = (state.holds.clone(), state.keeps.clone(), state.reads.clone());
        for id in held {
            match self.phase(id) {
                Some(Phase::Active { .. }) => {
                    self.enqueue_again(step, id, Entry { from: Some(agent.clone()), ..Entry::new(reason.clone()) });
                }
                Some(Phase::Wrapping { .. }) => self.close_by_itself(step, id, "wrap_up_ended"),
                _ => {}
            }
        }
        for id in kept {
            let direct = self.conversations.get(&id).and_then(|conversation| conversation.direct.as_deref().cloned());
            self.withdraw_offers(step, id, "agent_lost");
            let from = Some(agent.clone());
            self.enqueue_again(step, id, Entry { from, direct, ..Entry::new(reason.clone()) });
        }
        for conversation in read {
            self.stop_reading(step, conversation, agent);
        }
    }

    pub(crate) fn connect(&mut self, step: &mut Step, agent: &AgentId) {
        if self.agents.get(agent).is_some_and(|state| !state.connected) {
            self.emit(step, Event::AgentConnected { agent: agent.clone() });
        }
    }

    /// Whatever an agent does shows that it responds.
    pub(crate) fn responds(&mut self, step: &mut Step, agent: &AgentId) {
        if self.agents.get(agent).is_some_and(|state| state.not_responding_until.is_some()) {
            self.emit(step, Event::AgentResponding { agent: agent.clone() });
        }
    }
}
