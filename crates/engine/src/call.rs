//! Phone calls: what their events do to a conversation, and what is ordered of the channel.
//!
//! A call is a thread of a conversation, which it opens or joins as a message does. While it waits, whoever hangs up is
//! gone, unless a voicemail or the wish to be called back was left. Once an agent has it, the caller is put through; an
//! agent who is not reached loses it, and it goes back to where it stood in the queue.

use std::sync::Arc;

use contract::call::{CallOrder, CallState, CallStep};
use contract::envelope::{EnvelopeKind, ReceiptStatus, ThreadKind};
use contract::event::{EnqueueReason, ThreadRef};
use contract::outbound::ThreadWait;
use contract::{AgentId, ConversationId, CustomerId, Envelope, Event, MessageId, SmolStr, Timestamp};
use policy::Facts;
use serde::{Deserialize, Serialize};

use crate::conversation::{Outbound, Phase, ThreadKey, ThreadState};
use crate::enqueue::Entry;
use crate::state::{State, Step};

/// A call, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCall {
    /// What its events add up to.
    pub state: CallState,
    /// What was ordered of the channel last.
    pub order: Option<(MessageId, CallOrder)>,
}

impl ThreadState {
    /// The phone call that the thread is.
    #[must_use]
    pub fn call(&self) -> Option<&LiveCall> {
        self.extra.as_ref()?.call.as_deref()
    }
}

impl State {
    fn call(&self, key: &ThreadKey) -> Option<&LiveCall> {
        self.threads.get(key)?.call()
    }

    /// The open conversation that a thread runs in.
    fn running_on(&self, key: &ThreadKey) -> Option<ConversationId> {
        let customer = self.threads.get(key)?.customer;
        let mut open = self.open_conversations(customer);
        open.find(|id| self.conversations.get(id).is_some_and(|item| item.runs_on(key)))
    }

    /// A call changed state.
    pub(crate) fn receive_call(&mut self, step: &mut Step, customer: CustomerId, envelope: Envelope) {
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let Some(call) = envelope.call.clone() else { return self.signal(step, Some(customer), envelope) };
        let before = self.call(&key).map(|known| known.state.clone());
        let Some(before) = before else {
            // Only its own leg begins a call; what is said of another's comes too late or was never ours.
            if call.agent.is_some() || call.leg != key.key || envelope.thread.kind != ThreadKind::Call {
                return self.signal(step, Some(customer), envelope);
            }
            self.receive_message(step, customer, envelope, None);
            if let (Some(id), Some(known)) = (self.running_on(&key), self.call(&key)) {
                let after = known.state.clone();
                if !after.is_live() {
                    self.hung_up(step, id, &after);
                }
            }
            return;
        };
        let mut after = before.clone();
        let changed = after.merge(&call, envelope.seq.as_ref());
        let news = changed || call.recording.is_some() || call.transcript.is_some() || !envelope.content.is_empty();
        if !news {
            return;
        }
        let Some(id) = self.running_on(&key) else {
            return self.came_late(step, customer, envelope, &before, &after);
        };
        self.emit(step, Event::MessageAmended { conversation: id, envelope: Box::new(envelope) });
        if before.is_live() && !after.is_live() {
            return self.hung_up(step, id, &after);
        }
        let Some(agent) = call.agent else { return };
        let unreached = after.legs.get(&call.leg).is_some_and(|leg| leg.is_over() && !leg.answered);
        let ordered = self.call(&key).and_then(|known| known.order.as_ref()).is_some_and(|(message, order)| {
            order.agent.as_ref() == Some(&agent) && call.command_id.as_deref().is_none_or(|id| names(id, *message))
        });
        if unreached && ordered && after.is_live() {
            self.call_failed(step, id, &agent);
        }
    }

    /// Something of a call whose conversation has ended: what was left for an agent opens it again.
    fn came_late(
        &mut self,
        step: &mut Step,
        customer: CustomerId,
        envelope: Envelope,
        before: &CallState,
        after: &CallState,
    ) {
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let past = self.past_of(customer).filter(|past| past.ran_on(&key)).map(|past| past.conversation);
        let left = after.left_something() && !before.left_something() && !after.was_answered();
        let Some(conversation) = past.filter(|_| left) else {
            return self.signal(step, Some(customer), envelope);
        };
        let thread = ThreadRef { account: envelope.account.clone(), thread: envelope.thread.clone() };
        let mut facts = Facts::of(&envelope, None);
        self.emit(step, Event::ConversationReopened { conversation, customer, thread });
        self.emit(step, Event::MessageAmended { conversation, envelope: Box::new(envelope) });
        self.tell(customer, &mut facts);
        self.rules.get().complete(&mut facts);
        self.route_reopened(step, conversation, customer, &facts);
    }

    /// The customer is no longer on the line.
    fn hung_up(&mut self, step: &mut Step, id: ConversationId, call: &CallState) {
        // A conversation that began elsewhere goes on there.
        let Some(item) = self.conversations.get(&id).filter(|item| item.kind.as_str() == "voice") else { return };
        if call.left_something() && !call.was_answered() {
            return;
        }
        match (&item.phase, item.keeper.as_deref()) {
            (Phase::Waiting { .. } | Phase::Offered { .. }, None) => self.abandon(step, id),
            (Phase::Active { agent }, _) | (Phase::Waiting { .. } | Phase::Offered { .. }, Some(agent)) => {
                let agent = agent.clone();
                // Where an outcome must be named first, it stays with the agent until it is.
                let _ = self.close(step, &agent, id, None);
            }
            (Phase::Parked { .. } | Phase::Wrapping { .. }, _) => {}
        }
    }

    /// The agent who took a call was not reached: others are asked.
    pub(crate) fn call_failed(&mut self, step: &mut Step, id: ConversationId, agent: &AgentId) {
        let with = self
            .conversations
            .get(&id)
            .is_some_and(|item| matches!(&item.phase, Phase::Active { agent: a } if a == agent));
        if with {
            let from = Some(agent.clone());
            self.enqueue_again(step, id, Entry { from, ..Entry::new(EnqueueReason::CallFailed) });
        }
    }

    /// The conversation and the agent whose call could not be put through, by a receipt.
    pub(crate) fn undone_order(&self, envelope: &Envelope) -> Option<(ConversationId, AgentId)> {
        let receipt = envelope.receipt.as_ref().filter(|receipt| receipt.status == ReceiptStatus::Failed)?;
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let known = self.call(&key).filter(|known| known.state.is_live())?;
        let (message, order) = known.order.as_ref().filter(|(_, order)| order.step == CallStep::Connect)?;
        receipt.command_id.as_deref().filter(|id| names(id, *message))?;
        Some((self.running_on(&key)?, order.agent.clone()?))
    }

    /// Orders what follows for calls from what was decided in a step.
    pub(crate) fn direct_calls(&mut self, step: &mut Step) {
        for at in 0..step.emitted.len() {
            let Some(emitted) = step.emitted.get(at) else { return };
            match &*emitted.event {
                Event::ConversationAssigned { conversation, .. } => self.connect_call(step, *conversation, true),
                Event::ConversationResumed { conversation, .. } => self.connect_call(step, *conversation, false),
                Event::MessageReceived { conversation, envelope, .. }
                | Event::MessageAmended { conversation, envelope }
                    if envelope.kind == EnvelopeKind::Call =>
                {
                    self.connect_call(step, *conversation, false);
                }
                Event::ConversationWrapUpStarted { conversation, .. } => {
                    let threads = self.conversations.get(conversation).map(|item| item.threads.clone());
                    self.end_calls(step, *conversation, &threads.unwrap_or_default());
                }
                // Who is turned away is told so by the channel, before it hangs up.
                Event::ConversationClosed { conversation, reason, .. } if reason.as_deref() != Some("refused") => {
                    let view = emitted.reach.closed.as_deref();
                    let threads = view.into_iter().flat_map(|view| &view.threads);
                    let threads: Vec<Arc<ThreadKey>> =
                        threads.map(|thread| Arc::new(ThreadKey::new(&thread.account, &thread.thread.key))).collect();
                    self.end_calls(step, *conversation, &threads);
                }
                _ => {}
            }
        }
    }

    /// Puts a caller through to the agent who has the conversation. `anew`: it has just been given it.
    fn connect_call(&mut self, step: &mut Step, id: ConversationId, anew: bool) {
        let Some(item) = self.conversations.get(&id) else { return };
        let Phase::Active { agent } = &item.phase else { return };
        let found = item.threads.iter().rev().find_map(|key| {
            let known = self.call(key)?;
            let callback = known.state.wants_callback() && !known.state.was_answered();
            (known.state.is_live() || callback).then_some((key, known))
        });
        let Some((key, known)) = found else { return };
        let to_agent = |(_, order): &(MessageId, CallOrder)| order.agent.as_ref() == Some(agent);
        if !anew && known.order.as_ref().is_some_and(to_agent) {
            return;
        }
        let Some(phone) = self.policy.agents.get(agent).and_then(|spec| spec.phone.clone()) else {
            if anew {
                let alarm = SmolStr::new_static("agent_without_phone");
                self.emit(step, Event::ConversationAlarmRaised { conversation: id, alarm });
            }
            return;
        };
        let order = CallOrder {
            step: if known.state.is_live() { CallStep::Connect } else { CallStep::CallBack },
            agent: Some(agent.clone()),
            to: Some(phone),
            customer_name: None,
            queue: item.queue.clone(),
        };
        let key = key.clone();
        self.order_call(step, id, &key, order);
    }

    /// A conversation is over: so are the calls of it.
    fn end_calls(&mut self, step: &mut Step, id: ConversationId, threads: &[Arc<ThreadKey>]) {
        for key in threads {
            let live = self.call(key).is_some_and(|known| {
                let over = known.order.as_ref().is_some_and(|(_, order)| order.step == CallStep::HangUp);
                known.state.is_live() && !over
            });
            if live {
                let step_of = CallStep::HangUp;
                let order = CallOrder { step: step_of, agent: None, to: None, customer_name: None, queue: None };
                self.order_call(step, id, key, order);
            }
        }
    }

    fn order_call(&mut self, step: &mut Step, conversation: ConversationId, key: &ThreadKey, order: CallOrder) {
        let Some(thread) = self.threads.get(key) else { return };
        let event = Event::ConversationCallDirected {
            conversation,
            message: MessageId(self.last_message + 1),
            thread: thread.reference(key),
            after: thread.last_sent,
            order,
        };
        self.emit(step, event);
    }

    pub(crate) fn evolve_call(&mut self, envelope: &Envelope) {
        let Some(call) = envelope.call.as_ref().filter(|_| envelope.kind == EnvelopeKind::Call) else { return };
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        if let Some(thread) = self.threads.get_mut(&key) {
            let known = thread.extra.get_or_insert_default().call.get_or_insert_default();
            known.state.merge(call, envelope.seq.as_ref());
        }
    }

    pub(crate) fn evolve_call_directed(
        &mut self,
        at: Timestamp,
        conversation: ConversationId,
        message: MessageId,
        thread: &ThreadRef,
        order: &CallOrder,
    ) {
        self.last_message = self.last_message.max(message.0);
        let key = ThreadKey::new(&thread.account, &thread.thread.key);
        let Some(thread) = self.threads.get_mut(&key) else { return };
        let seq = thread.seq;
        thread.remember(Outbound { message, conversation, seq, at, status: None, external_ids: Vec::new() });
        let known = thread.extra.get_or_insert_default().call.get_or_insert_default();
        known.order = Some((message, order.clone()));
    }

    /// How it stands with whoever waits on a thread, at `now`: that time passes is no fact.
    #[must_use]
    pub fn thread_wait(&self, now: Timestamp, key: &ThreadKey) -> ThreadWait {
        let order = self.call(key).and_then(|known| known.order.as_ref()).map(|(_, order)| order.clone());
        let Some((id, item)) = self.running_on(key).and_then(|id| Some((id, self.conversations.get(&id)?))) else {
            return ThreadWait { order, ..ThreadWait::default() };
        };
        let queued = item.phase.queued();
        // What is offered stands in no line: it is next.
        let before = if queued { self.position(id).or(Some(0)) } else { None };
        let expected = self.expected(item, before);
        let queue = item.queue.as_ref().and_then(|queue| self.queues.get(queue));
        ThreadWait {
            conversation: Some(id),
            state: Some(SmolStr::new_static(item.phase.name())),
            before,
            expected_ms: expected.reckoned_ms.or(expected.p50_ms),
            waited_ms: queued.then(|| self.now.max(now).since(item.ready_at)),
            queue: item.queue.clone(),
            closed: queued && queue.is_some_and(|queue| queue.closed),
            order,
        }
    }
}

/// Whether a command's id is that of a message.
fn names(command_id: &str, message: MessageId) -> bool {
    command_id.rsplit('/').next().and_then(|id| id.parse().ok()) == Some(message)
}
