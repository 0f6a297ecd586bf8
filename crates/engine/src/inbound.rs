//! What an envelope leads to, once it is known whose it is.

use contract::envelope::EnvelopeKind;
use contract::event::{Classification, EnqueueReason, ThreadRef};
use contract::journal::Fingerprint;
use contract::policy::{Continuity, Reopen};
use contract::{AgentId, ConversationId, CustomerId, Envelope, Event, MessageId, SmolStr, Timestamp};
use policy::Facts;

use crate::conversation::{Phase, ThreadKey};
use crate::enqueue::Entry;
use crate::state::{State, Step};

/// Signals by which a channel says that the customer has gone.
const GONE: [&str; 2] = ["leave", "closed"];

impl State {
    /// Whether this provider event was taken in before (R7).
    #[must_use]
    pub fn has_seen(&self, envelope: &Envelope) -> bool {
        self.seen.contains(Fingerprint(envelope.fingerprint()))
    }

    /// Whether an envelope of this kind says something of a customer, so that one must be found or made
    /// for it. Receipts speak of our messages, account events of ourselves.
    #[must_use]
    pub fn needs_customer(envelope: &Envelope) -> bool {
        !matches!(envelope.kind, EnvelopeKind::Receipt | EnvelopeKind::AccountEvent)
    }

    /// Whether a message of the customer would begin a conversation, so that it is worth asking what it is
    /// about.
    #[must_use]
    pub fn begins(&self, customer: Option<CustomerId>, envelope: &Envelope) -> bool {
        envelope.kind == EnvelopeKind::Message
            && customer.is_none_or(|customer| self.joins(customer, envelope, None).is_none())
    }

    /// Takes in an envelope. The step is open and may hold the profile's facts already; it is finished
    /// here.
    pub fn receive(&mut self, step: &mut Step, customer: Option<CustomerId>, envelope: Envelope) {
        self.receive_classified(step, customer, envelope, None);
    }

    /// Takes in an envelope of which it was asked what it is about.
    pub fn receive_classified(
        &mut self,
        step: &mut Step,
        customer: Option<CustomerId>,
        envelope: Envelope,
        classification: Option<Classification>,
    ) {
        match (&envelope.kind, customer) {
            (EnvelopeKind::Message, Some(customer)) => self.receive_message(step, customer, envelope, classification),
            (EnvelopeKind::Receipt, _) => {
                let undone = self.undone_order(&envelope);
                self.receive_receipt(step, envelope);
                if let Some((conversation, agent)) = undone {
                    self.call_failed(step, conversation, &agent);
                }
            }
            (EnvelopeKind::Call, Some(customer)) => self.receive_call(step, customer, envelope),
            (
                EnvelopeKind::Edit | EnvelopeKind::Delete | EnvelopeKind::Reaction | EnvelopeKind::Media,
                Some(customer),
            ) => match self.joins(customer, &envelope, None) {
                Some(conversation) => {
                    self.emit(step, Event::MessageAmended { conversation, envelope: Box::new(envelope) });
                }
                None => self.signal(step, Some(customer), envelope),
            },
            (_, customer) => {
                let gone = matches!(envelope.kind, EnvelopeKind::ContactEvent | EnvelopeKind::ConversationEvent)
                    && envelope.signal.as_ref().is_some_and(|signal| GONE.contains(&signal.name.as_str()));
                let open = customer.and_then(|customer| self.joins(customer, &envelope, None));
                self.signal(step, customer, envelope);
                if let (true, Some(conversation)) = (gone, open) {
                    self.abandon(step, conversation);
                }
            }
        }
        self.finish(step);
    }

    /// The customer has gone: what still waits is withdrawn at once.
    pub(crate) fn abandon(&mut self, step: &mut Step, id: ConversationId) {
        let Some(item) = self.conversations.get(&id).filter(|item| item.phase.queued() && item.keeper.is_none()) else {
            return;
        };
        let waited_ms = self.waited(item, step.at);
        self.withdraw_offers(step, id, "withdrawn");
        self.emit(step, Event::ConversationAbandoned { conversation: id, waited_ms });
        let reason = Some(SmolStr::new_static("abandoned"));
        self.emit(step, Event::ConversationClosed { conversation: id, by: None, reason, disposition: None });
    }

    pub(crate) fn signal(&mut self, step: &mut Step, customer: Option<CustomerId>, envelope: Envelope) {
        let conversation = customer.and_then(|customer| self.joins(customer, &envelope, None));
        self.emit(step, Event::CustomerSignalled { customer, conversation, envelope: Box::new(envelope) });
    }

    pub(crate) fn receive_message(
        &mut self,
        step: &mut Step,
        customer: CustomerId,
        envelope: Envelope,
        classification: Option<Classification>,
    ) {
        let open = self.joins(customer, &envelope, classification.as_ref());
        let thread = ThreadRef { account: envelope.account.clone(), thread: envelope.thread.clone() };
        let reopened = if open.is_none() { self.reopens(step.at, customer, &envelope) } else { None };
        let conversation = open.or(reopened).unwrap_or(ConversationId(self.last_conversation + 1));
        // Rules are asked only of what is new.
        let facts = open.is_none().then(|| Facts::of(&envelope, classification.as_ref()));
        // A call says nothing that anybody could be asked about.
        let silent = envelope.kind == EnvelopeKind::Call || classification.is_some();
        let budget = if open.is_none() && !silent { self.classifier_budget(&envelope) } else { None };
        match (open, reopened) {
            (Some(_), _) => {}
            (None, Some(conversation)) => {
                self.emit(step, Event::ConversationReopened { conversation, customer, thread });
            }
            (None, None) => self.emit(step, Event::ConversationOpened { conversation, customer, thread }),
        }
        if let Some(budget) = budget {
            self.emit(step, Event::ConversationClassifying { conversation, until: step.at + budget });
        }
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let thread_seq = self.threads.get(&key).map_or(0, |thread| thread.seq) + 1;
        let message = MessageId(self.last_message + 1);
        let of = self.conversations.get(&conversation).map(|item| item.customer);
        let content = open.filter(|id| self.shows_elsewhere(*id, &key.kind)).map(|_| envelope.content.clone());
        self.emit(
            step,
            Event::MessageReceived {
                conversation,
                message,
                thread_seq,
                envelope: Box::new(envelope),
                customer: Some(customer).filter(|customer| of != Some(*customer)),
            },
        );
        if let Some(content) = content {
            self.mirror(step, conversation, message, &key, None, &content);
        }
        if let Some(classification) = classification.filter(|_| open.is_none()) {
            self.emit(step, Event::ConversationClassified { conversation, classification });
        }
        match facts {
            None => self.wake(step, conversation),
            // It is routed when the answer comes.
            Some(_) if budget.is_some() => {}
            Some(facts) => self.route_new(step, conversation, customer, reopened.is_some(), facts),
        }
    }

    /// The open conversation that a message belongs to: the one that its thread runs in, else the newest that its queue
    /// lets it join.
    pub(crate) fn joins(
        &self,
        customer: CustomerId,
        envelope: &Envelope,
        classification: Option<&Classification>,
    ) -> Option<ConversationId> {
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let open =
            || self.open_conversations(customer).filter_map(|id| Some((id, self.conversations.get(&id)?.as_ref())));
        if let Some((id, _)) = open().find(|(_, item)| item.runs_on(&key)) {
            return Some(id);
        }
        let mut route = None;
        let fits = |(id, item): (ConversationId, &crate::conversation::Conversation)| {
            let queue = item.queue.as_ref().and_then(|queue| self.policy.queues.get(queue));
            let joins = match queue.map(|queue| queue.continuity).unwrap_or_default() {
                Continuity::Customer => true,
                Continuity::Thread => false,
                Continuity::Topic => {
                    let route = route.get_or_insert_with(|| {
                        let mut facts = Facts::of(envelope, classification);
                        self.tell(customer, &mut facts);
                        let rules = self.rules.get();
                        rules.complete(&mut facts);
                        rules.route(&facts, self.now).and_then(|routed| routed.name)
                    });
                    *route == item.terms.route
                }
            };
            joins.then_some(id)
        };
        open().find_map(fits)
    }

    /// Routes what has just begun, or goes on after its end.
    pub(crate) fn route_new(
        &mut self,
        step: &mut Step,
        conversation: ConversationId,
        customer: CustomerId,
        reopened: bool,
        mut facts: Facts,
    ) {
        self.tell(customer, &mut facts);
        self.rules.get().complete(&mut facts);
        if reopened {
            self.route_reopened(step, conversation, customer, &facts);
        } else {
            self.route(step, conversation, &facts, Entry::new(EnqueueReason::Opened));
        }
    }

    /// The conversation that goes on when the customer writes after its end, if one does.
    fn reopens(&self, at: Timestamp, customer: CustomerId, envelope: &Envelope) -> Option<ConversationId> {
        let past = self.past_of(customer)?;
        let goes_on = match self.policy.channel(&envelope.account.kind).reopen {
            Reopen::Never => false,
            Reopen::Always => true,
            Reopen::WithinMs(span) => past.closed_at + span >= at,
        };
        (goes_on && past.kind == envelope.account.kind).then_some(past.conversation)
    }

    /// What was reopened goes to whoever had it, where that can be, else where the rules say.
    pub(crate) fn route_reopened(&mut self, step: &mut Step, id: ConversationId, customer: CustomerId, facts: &Facts) {
        let before = self.past_of(customer).and_then(|past| past.agent.clone());
        let direct = before.filter(|agent| self.policy.agents.contains_key(agent));
        self.route(step, id, facts, Entry { direct, ..Entry::new(EnqueueReason::Reopened) });
    }

    /// The customer wrote: a parked or wrapping conversation goes on, an idle one counts in full again.
    fn wake(&mut self, step: &mut Step, id: ConversationId) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        match &conversation.phase {
            Phase::Parked { agent, .. } => {
                let agent = agent.clone();
                self.resume_or_enqueue(step, id, &agent, "message");
            }
            Phase::Wrapping { agent, .. } => {
                let agent = agent.clone();
                let cause = SmolStr::new_static("message");
                self.emit(step, Event::ConversationResumed { conversation: id, agent: agent.clone(), cause });
                self.note_excess(step, &agent);
            }
            Phase::Active { agent } if conversation.idle => {
                let agent = agent.clone();
                self.emit(step, Event::ConversationReactivated { conversation: id, agent: agent.clone() });
                self.note_excess(step, &agent);
            }
            Phase::Waiting { .. } | Phase::Offered { .. } | Phase::Active { .. } => {}
        }
    }

    /// Says that an agent has more than it should, since work that counted less came back.
    pub(crate) fn note_excess(&mut self, step: &mut Step, id: &AgentId) {
        let (Some(agent), Some(spec)) = (self.agents.get(id), self.policy.agents.get(id)) else { return };
        let over = agent.primary() > spec.capacity
            || agent.interruptible > spec.interruptible_capacity.unwrap_or(spec.capacity);
        if over {
            let (load, capacity) = (agent.load, spec.capacity);
            self.emit(step, Event::AgentOverCapacity { agent: id.clone(), load, capacity });
        }
    }

    /// A parked conversation goes on with its agent where that is there, even if it then has more than it
    /// should: else with whom the queue finds.
    pub(crate) fn resume_or_enqueue(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        agent: &AgentId,
        cause: &'static str,
    ) {
        if self.is_here(agent) {
            let cause = SmolStr::new_static(cause);
            self.emit(step, Event::ConversationResumed { conversation: id, agent: agent.clone(), cause });
            self.note_excess(step, agent);
        } else {
            let (from, direct) = (Some(agent.clone()), Some(agent.clone()));
            self.enqueue_again(step, id, Entry { from, direct, ..Entry::new(EnqueueReason::Resumed) });
        }
    }

    /// Whether an agent is there and signed in.
    pub(crate) fn is_here(&self, agent: &AgentId) -> bool {
        self.policy.agents.contains_key(agent)
            && self.agents.get(agent).is_some_and(|state| state.connected && state.signed_in())
    }

    /// Time since which a conversation has been open to receive; for views.
    pub(crate) fn time(&self) -> Timestamp {
        self.now
    }
}
