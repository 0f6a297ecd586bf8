//! What an envelope leads to, once it is known whose it is.

use contract::envelope::{EnvelopeKind, Part};
use contract::event::{EnqueueReason, Requirement, ThreadRef};
use contract::journal::Fingerprint;
use contract::policy::Route;
use contract::{AgentId, ConversationId, CustomerId, Envelope, Event, MessageId, QueueId, Timestamp};

use crate::conversation::{Phase, ThreadKey};
use crate::state::{State, Step};

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

    /// Takes in an envelope. The step is open and may hold the profile's facts already; it is finished
    /// here.
    pub fn receive(&mut self, step: &mut Step, customer: Option<CustomerId>, envelope: Envelope) {
        match (&envelope.kind, customer) {
            (EnvelopeKind::Message, Some(customer)) => self.receive_message(step, customer, envelope),
            (EnvelopeKind::Receipt, _) => self.receive_receipt(step, envelope),
            (EnvelopeKind::Edit | EnvelopeKind::Delete | EnvelopeKind::Reaction, Some(customer)) => {
                match self.open_conversation(customer) {
                    Some(conversation) => {
                        self.emit(step, Event::MessageAmended { conversation, envelope: Box::new(envelope) });
                    }
                    None => self.signal(step, Some(customer), envelope),
                }
            }
            (_, customer) => self.signal(step, customer, envelope),
        }
        self.finish(step);
    }

    pub(crate) fn signal(&mut self, step: &mut Step, customer: Option<CustomerId>, envelope: Envelope) {
        let conversation = customer.and_then(|customer| self.open_conversation(customer));
        self.emit(step, Event::CustomerSignalled { customer, conversation, envelope: Box::new(envelope) });
    }

    fn receive_message(&mut self, step: &mut Step, customer: CustomerId, envelope: Envelope) {
        let open = self.open_conversation(customer);
        let conversation = open.unwrap_or(ConversationId(self.last_conversation + 1));
        let placed = self.route(&envelope);
        if open.is_none() {
            let thread = ThreadRef { account: envelope.account.clone(), thread: envelope.thread.clone() };
            self.emit(step, Event::ConversationOpened { conversation, customer, thread });
        }
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let thread_seq = self.threads.get(&key).map_or(0, |thread| thread.seq) + 1;
        let message = MessageId(self.last_message + 1);
        self.emit(step, Event::MessageReceived { conversation, message, thread_seq, envelope: Box::new(envelope) });
        if open.is_some() {
            self.wake(step, conversation);
        } else if let Some((queue, requirement, priority)) = placed {
            let event = Event::ConversationEnqueued {
                conversation,
                queue,
                priority,
                requirement,
                ready_at: step.at,
                reason: EnqueueReason::Opened,
                from: None,
                direct: None,
            };
            self.emit(step, event);
        }
    }

    /// The customer wrote: a parked or wrapping conversation goes on.
    fn wake(&mut self, step: &mut Step, id: ConversationId) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        match &conversation.phase {
            Phase::Parked { agent, .. } => {
                let agent = agent.clone();
                self.resume_or_enqueue(step, id, &agent, "message");
            }
            // It holds its capacity still.
            Phase::Wrapping { agent, .. } => {
                let agent = agent.clone();
                let cause = contract::SmolStr::new_static("message");
                self.emit(step, Event::ConversationResumed { conversation: id, agent, cause });
            }
            Phase::Waiting { .. } | Phase::Offered { .. } | Phase::Active { .. } => {}
        }
    }

    /// A parked conversation goes on with its agent when that has room, else with whom the queue finds.
    pub(crate) fn resume_or_enqueue(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        agent: &AgentId,
        cause: &'static str,
    ) {
        if self.can_resume(id, agent) {
            let cause = contract::SmolStr::new_static(cause);
            self.emit(step, Event::ConversationResumed { conversation: id, agent: agent.clone(), cause });
        } else {
            self.enqueue_again(step, id, EnqueueReason::Resumed, Some(agent.clone()), Some(agent.clone()));
        }
    }

    /// Whether a parked conversation fits its agent's capacity again and the agent is there.
    pub(crate) fn can_resume(&self, id: ConversationId, agent: &AgentId) -> bool {
        let (Some(conversation), Some(state)) = (self.conversations.get(&id), self.agents.get(agent)) else {
            return false;
        };
        let capacity = self.policy.agents.get(agent).map_or(0, |spec| spec.capacity);
        state.connected
            && state.presence != contract::event::Presence::Offline
            && state.load.saturating_add(conversation.weight) <= capacity
    }

    /// Puts a conversation back into its queue with the age and urgency that it had.
    pub(crate) fn enqueue_again(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        reason: EnqueueReason,
        from: Option<AgentId>,
        direct: Option<AgentId>,
    ) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let kept = conversation.queue.as_ref().filter(|queue| self.policy.queues.contains_key(*queue));
        let Some(queue) = kept.or_else(|| self.policy.default_queue()) else { return };
        // One that came before there was any policy asks what its first queue asks.
        let (priority, requirement) = match (&conversation.queue, self.policy.queues.get(queue)) {
            (None, Some(spec)) => (spec.priority, Requirement { skills: spec.skills.clone() }),
            _ => (conversation.priority, conversation.requirement.clone()),
        };
        let event = Event::ConversationEnqueued {
            conversation: id,
            queue: queue.clone(),
            priority,
            requirement,
            ready_at: conversation.ready_at,
            reason,
            from,
            direct,
        };
        self.emit(step, event);
    }

    /// The queue, requirement and priority of a new conversation: the first rule that fits, else the
    /// default queue. `None` only without any policy.
    fn route(&self, envelope: &Envelope) -> Option<(QueueId, Requirement, i32)> {
        let rule = self.policy.routes.iter().find(|route| fits(route, envelope));
        let queue = rule.map(|route| &route.queue).or_else(|| self.policy.default_queue())?;
        let spec = self.policy.queues.get(queue)?;
        let mut requirement = Requirement { skills: spec.skills.clone() };
        for (skill, level) in rule.iter().flat_map(|route| &route.skills) {
            let needed = requirement.skills.entry(skill.clone()).or_insert(0);
            *needed = (*needed).max(*level);
        }
        let priority = rule.and_then(|route| route.priority).unwrap_or(spec.priority);
        Some((queue.clone(), requirement, priority))
    }

    /// Time since which a conversation has been open to receive; for views.
    pub(crate) fn time(&self) -> Timestamp {
        self.now
    }
}

fn fits(route: &Route, envelope: &Envelope) -> bool {
    let language = || {
        envelope.language.as_ref().or_else(|| {
            envelope.content.iter().find_map(|part| match part {
                Part::Text(text) => text.language.as_ref(),
                _ => None,
            })
        })
    };
    route.channel.as_ref().is_none_or(|kind| *kind == envelope.account.kind)
        && route.account.as_ref().is_none_or(|account| *account == envelope.account.id)
        && route.tag.as_ref().is_none_or(|tag| envelope.tags.contains(tag))
        && route.language.as_ref().is_none_or(|wanted| language() == Some(wanted))
}
