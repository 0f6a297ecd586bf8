//! What agents' tools and operators ask for.

use std::sync::Arc;

use contract::command::{AdminCommand, AgentCommand, Done, Refusal, RefusalKind};
use contract::event::{EnqueueReason, Presence, Requirement};
use contract::journal::Cause;
use contract::policy::Takes;
use contract::{AgentId, ConversationId, Event, MessageId, Millis, OfferId, QueueId, SmolStr, Timestamp};
use policy::Routed;

use crate::conversation::Phase;
use crate::enqueue::{Entry, facts_of};
use crate::state::{State, Step};
use crate::supervise::check_note;

/// A command with who sent it and the id it was given.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandInput {
    /// Of an agent's tool.
    Agent {
        /// Who.
        agent: AgentId,
        /// The client's id.
        id: SmolStr,
        /// What.
        command: AgentCommand,
    },
    /// Of an operator.
    Admin {
        /// The client's id.
        id: SmolStr,
        /// What.
        command: AdminCommand,
    },
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It was done now.
    Done(Done, Step),
    /// It was done before; nothing changes.
    Repeated(Done),
    /// It cannot be done. The step holds what was noticed on the way (a sign of life).
    Refused(Refusal),
}

pub(crate) fn refuse<T>(kind: RefusalKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(kind, message))
}

impl State {
    /// Decides a command.
    pub fn command(&mut self, now: Timestamp, input: CommandInput) -> Answer {
        let (by, id) = match &input {
            CommandInput::Agent { agent, id, .. } => (SmolStr::from(format!("agent.{agent}")), id.clone()),
            CommandInput::Admin { id, .. } => (SmolStr::new_static("admin"), id.clone()),
        };
        let answered = match &input {
            CommandInput::Agent { agent, .. } => match self.agents.get(agent) {
                Some(state) => state.commands.answer(&id),
                None => {
                    let message = format!("there is no agent {agent:?} in the policy", agent = agent.as_str());
                    return Answer::Refused(Refusal::new(RefusalKind::Forbidden, message));
                }
            },
            CommandInput::Admin { .. } => self.admin_commands.answer(&id),
        };
        if let Some(done) = answered {
            return Answer::Repeated(done.clone());
        }
        let mut step = self.begin(now, Cause::Command { by, id, done: Done::default() });
        let done = match input {
            CommandInput::Agent { agent, command, .. } => {
                let done = self.agent_command(&mut step, &agent, command);
                if done.is_ok() {
                    self.responds(&mut step, &agent);
                }
                done
            }
            CommandInput::Admin { command, .. } => self.admin_command(&mut step, command),
        };
        match done {
            Ok(done) => {
                if let Cause::Command { done: kept, .. } = &mut step.cause {
                    kept.clone_from(&done);
                }
                self.finish(&mut step);
                Answer::Done(done, step)
            }
            // A refusal is found before anything is decided.
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn admin_command(&mut self, step: &mut Step, command: AdminCommand) -> Result<Done, Refusal> {
        match command {
            AdminCommand::PolicyApply { policy, waiting } => {
                let problems: Vec<String> = policy::check(&policy).problems.iter().map(ToString::to_string).collect();
                if !problems.is_empty() {
                    return refuse(RefusalKind::Invalid, problems.join("; "));
                }
                self.apply_policy(step, *policy, waiting);
                Ok(Done::default())
            }
            AdminCommand::ConversationAssign { conversation, agent, ignore_capacity } => {
                self.force(step, SmolStr::new_static("operator"), conversation, agent, ignore_capacity)
            }
            AdminCommand::ConversationEnqueue { conversation, queue, priority } => {
                self.enqueue_by_operator(step, conversation, queue, priority)
            }
            _ => refuse(RefusalKind::Invalid, "is a question, not a command"),
        }
    }

    fn agent_command(&mut self, step: &mut Step, agent: &AgentId, command: AgentCommand) -> Result<Done, Refusal> {
        match command {
            AgentCommand::PresenceSet { presence, reason } => self.set_presence(step, agent, presence, reason),
            AgentCommand::OfferAccept { offer } => self.accept(step, agent, offer),
            AgentCommand::OfferDecline { offer, reason } => {
                let conversation = self.standing(step.at, agent, offer)?;
                let offers = &self.policy.offers;
                let rest = match reason.as_deref() {
                    Some("busy") => offers.rest_after_busy_ms,
                    Some("unreachable") => offers.rest_after_unreachable_ms,
                    _ => offers.rest_after_decline_ms,
                };
                let rest_until = (rest.0 > 0).then(|| step.at + rest);
                let agent = agent.clone();
                self.emit(step, Event::OfferDeclined { offer, conversation, agent, reason, rest_until });
                self.note_offers(step, conversation);
                Ok(concerning(conversation))
            }
            AgentCommand::ConversationSwitch { .. } | AgentCommand::CustomerUpdate { .. } => {
                refuse(RefusalKind::Invalid, "is decided with the profile")
            }
            AgentCommand::MessageSend { conversation, content, reply_to, via, purpose } => {
                if content.is_empty() {
                    return refuse(RefusalKind::Invalid, "content: a message needs at least one part");
                }
                contract::envelope::validate_content("content", &content)
                    .map_err(|invalid| Refusal::new(RefusalKind::Invalid, invalid.to_string()))?;
                let purpose = purpose.as_deref().unwrap_or(crate::about::SERVICE);
                self.send(step, agent, conversation, content, reply_to, via.as_ref(), purpose)
            }
            AgentCommand::NoteAdd { conversation, text } => {
                if !self.conversations.get(&conversation).is_some_and(|item| item.readers.contains_key(agent)) {
                    self.held(agent, conversation)?;
                }
                if text.is_empty() || text.len() > contract::limits::TEXT_BYTES_MAX {
                    return refuse(RefusalKind::Invalid, "text: is empty or too long");
                }
                self.emit(step, Event::NoteAdded { conversation, agent: agent.clone(), text });
                Ok(concerning(conversation))
            }
            AgentCommand::ConversationTransfer { conversation, to_queue, to_agent, note } => {
                self.transfer(step, agent, conversation, to_queue, to_agent, note)
            }
            AgentCommand::ConversationPark { conversation, until, reason } => {
                match self.held(agent, conversation)? {
                    Phase::Active { .. } => {}
                    phase => return refuse(RefusalKind::Conflict, format!("it is {}, not active", phase.name())),
                }
                if until.is_some_and(|until| until <= step.at) {
                    return refuse(RefusalKind::Invalid, "until: is not in the future");
                }
                let agent = agent.clone();
                self.emit(step, Event::ConversationParked { conversation, agent: agent.clone(), until, reason });
                self.note_excess(step, &agent);
                Ok(concerning(conversation))
            }
            AgentCommand::ConversationResume { conversation } => {
                match self.held(agent, conversation)? {
                    Phase::Parked { .. } => self.resume(step, agent, conversation)?,
                    phase => return refuse(RefusalKind::Conflict, format!("it is {}, not parked", phase.name())),
                }
                Ok(concerning(conversation))
            }
            AgentCommand::ConversationClose { conversation, disposition } => {
                self.close(step, agent, conversation, disposition)
            }
            AgentCommand::WrapUpComplete { conversation, disposition } => {
                let chosen = match self.held(agent, conversation)? {
                    Phase::Wrapping { disposition, .. } => disposition.clone(),
                    phase => return refuse(RefusalKind::Conflict, format!("it is {}, not wrapping", phase.name())),
                };
                self.check_disposition(conversation, disposition.as_ref())?;
                let by = Some(agent.clone());
                let disposition = disposition.or(chosen);
                self.emit(step, Event::ConversationClosed { conversation, by, reason: None, disposition });
                Ok(concerning(conversation))
            }
            AgentCommand::ConversationTakeBack { conversation } => self.take_back(step, agent, conversation),
            AgentCommand::ConversationConsult { conversation, agent: asked, note } => {
                self.consult(step, agent, conversation, asked, note)
            }
            AgentCommand::ConversationConsultEnd { conversation, agent: asked } => {
                self.consult_end(step, agent, conversation, asked)
            }
            AgentCommand::ConversationEscalate { conversation, priority, to_queue, note } => {
                self.escalate(step, agent, conversation, priority, to_queue, note)
            }
            AgentCommand::ConversationForce { conversation, agent: to, ignore_capacity } => {
                self.force_by_agent(step, agent, conversation, to, ignore_capacity)
            }
            AgentCommand::ConversationMonitor { conversation } => self.monitor(step, agent, conversation),
            AgentCommand::ConversationMonitorEnd { conversation } => self.monitor_end(step, agent, conversation),
        }
    }

    /// The phase of a conversation that the agent answers for: it holds it, or is handing it over.
    pub(crate) fn held(&self, agent: &AgentId, id: ConversationId) -> Result<&Phase, Refusal> {
        let Some(conversation) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if conversation.responsible() != Some(agent) {
            return refuse(RefusalKind::Gone, format!("conversation {id} is not with you"));
        }
        Ok(&conversation.phase)
    }

    /// The conversation of an offer that stands and is the agent's.
    fn standing(&self, at: Timestamp, agent: &AgentId, id: OfferId) -> Result<ConversationId, Refusal> {
        match self.offers.get(&id) {
            // Late is late, even when the lapse has not been written down yet.
            Some(offer) if offer.agent == *agent && at < offer.expires_at => Ok(offer.conversation),
            _ => refuse(RefusalKind::Gone, format!("offer {id} does not stand")),
        }
    }

    fn accept(&mut self, step: &mut Step, agent: &AgentId, offer: OfferId) -> Result<Done, Refusal> {
        let conversation = self.standing(step.at, agent, offer)?;
        self.connect(step, agent);
        self.take_offer(step, agent, offer, conversation);
        Ok(concerning(conversation))
    }

    /// An offer is taken: what else was offered of the conversation is taken back.
    pub(crate) fn take_offer(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        offer: OfferId,
        conversation: ConversationId,
    ) {
        self.emit(step, Event::OfferAccepted { offer, conversation, agent: agent.clone() });
        self.withdraw_offers(step, conversation, "answered");
        if self.conversations.get(&conversation).is_some_and(|item| item.readers.contains_key(agent)) {
            self.stop_reading(step, conversation, agent);
        }
        let (agent, offer) = (agent.clone(), Some(offer));
        self.emit(
            step,
            Event::ConversationAssigned { conversation, agent, offer, forced_by: None, over_capacity: false },
        );
    }

    fn set_presence(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        presence: Presence,
        reason: Option<SmolStr>,
    ) -> Result<Done, Refusal> {
        let policy = Arc::clone(&self.policy);
        let Some(spec) = policy.presence(presence.as_str()) else {
            let known = self.policy.presences.keys().map(|name| format!(", {name}")).collect::<String>();
            let message =
                format!("presence: {:?} is not known; available, busy, away or offline{known}", presence.as_str());
            return refuse(RefusalKind::Invalid, message);
        };
        if !spec.reasons.is_empty() && reason.as_ref().is_none_or(|reason| !spec.reasons.contains(reason)) {
            let known: Vec<&str> = spec.reasons.iter().map(SmolStr::as_str).collect();
            return refuse(RefusalKind::Invalid, format!("reason: one of {} is needed", known.join(", ")));
        }
        if spec.takes != Takes::Nothing && !self.policy.agents.contains_key(agent) {
            return refuse(RefusalKind::Forbidden, "you are no longer in the policy");
        }
        self.connect(step, agent);
        let before = self.agents.get(agent).map(|state| (state.presence.clone(), state.signed_in()));
        if before.as_ref().is_some_and(|(before, _)| *before != presence) {
            let event = Event::AgentPresenceChanged { agent: agent.clone(), presence: presence.clone(), reason };
            self.emit(step, event);
        }
        let standing = self.agents.get(agent).map(|state| state.offers.clone()).unwrap_or_default();
        for offer in standing {
            let Some(conversation) = self.offers.get(&offer).map(|offer| offer.conversation) else { continue };
            let kind = self.conversations.get(&conversation).map(|conversation| conversation.kind.clone());
            if kind.is_none_or(|kind| !spec.takes.channel(&kind)) {
                let (agent, reason) = (agent.clone(), SmolStr::new_static("presence"));
                self.emit(step, Event::OfferRescinded { offer, conversation, agent, reason });
            }
        }
        if spec.gives_up {
            self.give_up_conversations(step, agent, EnqueueReason::AgentSignedOut);
        }
        if before.is_some_and(|(_, signed_in)| signed_in != (presence != Presence::Offline)) {
            self.roster_changed(step, agent);
        }
        Ok(Done::default())
    }

    #[expect(clippy::too_many_arguments, reason = "each says one thing of the same message")]
    fn send(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        content: Vec<contract::envelope::Part>,
        reply_to: Option<contract::envelope::MessageRef>,
        via: Option<&contract::command::Via>,
        purpose: &str,
    ) -> Result<Done, Refusal> {
        let parked = matches!(self.held(agent, id)?, Phase::Parked { .. });
        let key = self.answer_by(step.at, id, via, purpose, &content)?;
        let Some((thread, thread_seq, after)) =
            self.threads.get(&key).map(|thread| (thread.reference(&key), thread.seq + 1, thread.last_sent))
        else {
            return refuse(RefusalKind::Conflict, "there is no thread to answer on");
        };
        if parked {
            self.resume(step, agent, id)?;
        }
        let message = MessageId(self.last_message + 1);
        let shown = self.shows_elsewhere(id, &key.kind).then(|| content.clone());
        let event = Event::MessageSent {
            conversation: id,
            message,
            agent: agent.clone(),
            thread,
            thread_seq,
            after,
            content,
            reply_to,
        };
        self.emit(step, event);
        if let Some(shown) = shown {
            self.mirror(step, id, message, &key, Some(agent), &shown);
        }
        Ok(Done { conversation: Some(id), message: Some(message), thread_seq: Some(thread_seq), customer: None })
    }

    fn resume(&mut self, step: &mut Step, agent: &AgentId, id: ConversationId) -> Result<(), Refusal> {
        let room = match (self.conversations.get(&id), self.agents.get(agent), self.policy.agents.get(agent)) {
            (Some(item), Some(state), Some(spec)) => self.crowded(item, agent, state, spec).is_none(),
            _ => false,
        };
        if !room {
            return refuse(RefusalKind::Conflict, "you have no room for it now");
        }
        let cause = SmolStr::new_static("agent");
        self.emit(step, Event::ConversationResumed { conversation: id, agent: agent.clone(), cause });
        Ok(())
    }

    /// Whether a conversation can be handed over; refused before the old one lets go. Returns the queue, and
    /// how long it is for the agent alone that it is handed to.
    pub(crate) fn check_transfer(
        &self,
        agent: &AgentId,
        id: ConversationId,
        to_queue: Option<&QueueId>,
        to_agent: Option<&AgentId>,
    ) -> Result<(QueueId, Arc<Requirement>, Option<Millis>), Refusal> {
        match self.held(agent, id)? {
            Phase::Active { .. } | Phase::Parked { .. } => {}
            phase if phase.queued() => return refuse(RefusalKind::Conflict, "it is being handed over already"),
            phase => return refuse(RefusalKind::Conflict, format!("it is {}", phase.name())),
        }
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if to_queue.is_none() && to_agent.is_none() {
            return refuse(RefusalKind::Invalid, "to_queue or to_agent: one is needed");
        }
        let Some(queue) = to_queue.or(item.queue.as_ref()) else {
            return refuse(RefusalKind::Invalid, "to_queue: is needed");
        };
        let Some(spec) = self.policy.queues.get(queue) else {
            return refuse(RefusalKind::NotFound, format!("there is no queue {queue}"));
        };
        if to_queue.is_some() {
            let from_allowed = spec.transfer.from.is_empty()
                || item.queue.as_ref().is_some_and(|from| spec.transfer.from.contains(from));
            if spec.transfer.refuse || !from_allowed {
                return refuse(RefusalKind::Forbidden, format!("nothing can be handed to {queue} from here"));
            }
            if self.queues.get(queue).is_some_and(|state| state.closed) {
                return refuse(RefusalKind::Conflict, format!("{queue} is closed"));
            }
            let waiting = self.index.waiting.counts.get(queue).copied().unwrap_or(0);
            if spec.limits.waiting_max.is_some_and(|max| waiting >= max) {
                return refuse(RefusalKind::Conflict, format!("{queue} is full"));
            }
        }
        let requirement = match to_queue {
            None => Arc::clone(&item.requirement),
            Some(queue) => self.requirement_in(queue, item),
        };
        let alone = match to_agent {
            None => None,
            Some(target) => self.check_target(agent, target, id, spec, &requirement)?,
        };
        Ok((queue.clone(), requirement, alone))
    }

    /// Whether an agent can be handed a conversation now, or soon; how long it is then for that one alone.
    fn check_target(
        &self,
        from: &AgentId,
        target: &AgentId,
        id: ConversationId,
        queue: &contract::policy::Queue,
        requirement: &Requirement,
    ) -> Result<Option<Millis>, Refusal> {
        let (Some(state), Some(spec)) = (self.agents.get(target), self.policy.agents.get(target)) else {
            return refuse(RefusalKind::NotFound, format!("there is no agent {target}"));
        };
        if target == from {
            return refuse(RefusalKind::Invalid, "to_agent: that is yourself");
        }
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        let unmet = requirement.steps.last().and_then(|step| policy::expr::unmet(&step.must, spec));
        match unmet {
            Some(contract::event::Exclusion::MissingSkill { skill, .. }) => {
                return refuse(RefusalKind::Conflict, format!("{target} lacks the skill {skill}"));
            }
            Some(_) => return refuse(RefusalKind::Conflict, format!("{target} does not meet what it asks for")),
            None => {}
        }
        let takes = self.policy.presence(state.presence.as_str()).is_some_and(|spec| spec.takes.channel(&item.kind));
        let room = self.crowded(item, target, state, spec).is_none();
        let now = takes && state.connected && room;
        match queue.limits.direct_max {
            // A personal queue: whoever is busy gets it when there is room, others after a while.
            Some(most) if state.signed_in() => {
                let waiting = self.index.direct.get(target).copied().unwrap_or(0);
                if !now && waiting >= most {
                    return refuse(RefusalKind::Conflict, format!("{most} wait for {target} already"));
                }
                Ok(queue.limits.direct_wait_ms)
            }
            _ if !(takes && state.connected) => refuse(RefusalKind::Conflict, format!("{target} takes no offers now")),
            _ if !room => refuse(RefusalKind::Conflict, format!("{target} has no room now")),
            _ => Ok(queue.limits.direct_wait_ms),
        }
    }

    /// Hands a conversation over; whoever held it answers the customer until somebody has accepted.
    pub(crate) fn transfer(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        to_queue: Option<QueueId>,
        to_agent: Option<AgentId>,
        note: Option<String>,
    ) -> Result<Done, Refusal> {
        check_note(note.as_deref())?;
        let (queue, requirement, alone) = self.check_transfer(agent, id, to_queue.as_ref(), to_agent.as_ref())?;
        let transferred = Event::ConversationTransferred {
            conversation: id,
            by: agent.clone(),
            to_queue: queue.clone(),
            to_agent: to_agent.clone(),
            note,
        };
        self.emit(step, transferred);
        let Some(item) = self.conversations.get(&id) else { return Ok(concerning(id)) };
        let facts = facts_of(item);
        let routed = Routed {
            rule: None,
            name: item.terms.route.clone(),
            queue: queue.clone(),
            requirement,
            priority: item.priority,
            adjust_ms: item.terms.adjust_ms,
            class: item.terms.class.clone(),
            labels: item.terms.labels.clone(),
            owner: None,
        };
        let anew = self.policy.queues.get(&queue).is_some_and(|queue| queue.transfer.resets_wait);
        let entry = Entry {
            from: Some(agent.clone()),
            direct: to_agent,
            direct_for: alone,
            kept: self.is_here(agent),
            anew,
            ..Entry::new(EnqueueReason::Transferred)
        };
        self.enqueue(step, id, routed, &facts, entry);
        Ok(concerning(id))
    }

    fn check_disposition(&self, id: ConversationId, disposition: Option<&SmolStr>) -> Result<(), Refusal> {
        let queue = self.conversations.get(&id).and_then(|conversation| conversation.queue.as_ref());
        let known = queue.and_then(|queue| self.policy.queues.get(queue)).map(|queue| &queue.dispositions);
        match (disposition, known) {
            (Some(chosen), Some(known)) if !known.is_empty() && !known.contains(chosen) => {
                let known: Vec<&str> = known.iter().map(SmolStr::as_str).collect();
                refuse(RefusalKind::Invalid, format!("disposition: is none of {}", known.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// Some queues want to know what came of each; it can still be said during the wrap-up.
    fn check_required(&self, id: ConversationId, disposition: Option<&SmolStr>) -> Result<(), Refusal> {
        let queue = self.conversations.get(&id).and_then(|item| item.queue.as_ref());
        let spec = queue.and_then(|queue| self.policy.queues.get(queue));
        let wrap_up = spec.and_then(|spec| spec.wrap_up_ms).unwrap_or(self.policy.timing.wrap_up_ms);
        if disposition.is_none() && wrap_up == Millis(0) && spec.is_some_and(|spec| spec.disposition_required) {
            return refuse(RefusalKind::Invalid, "disposition: is needed");
        }
        Ok(())
    }

    pub(crate) fn close(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        disposition: Option<SmolStr>,
    ) -> Result<Done, Refusal> {
        let parked = match self.held(agent, id)? {
            Phase::Wrapping { .. } => return refuse(RefusalKind::Conflict, "it is wrapping already"),
            phase => !matches!(phase, Phase::Active { .. }),
        };
        self.check_disposition(id, disposition.as_ref())?;
        self.check_required(id, disposition.as_ref())?;
        self.withdraw_offers(step, id, "closed");
        let queue = self.conversations.get(&id).and_then(|conversation| conversation.queue.as_ref());
        let own = queue.and_then(|queue| self.policy.queues.get(queue)).and_then(|queue| queue.wrap_up_ms);
        let wrap_up = own.unwrap_or(self.policy.timing.wrap_up_ms);
        // A parked one took little capacity; wrapping it up must not take more without asking. One that is
        // being handed over ends at once.
        let event = if wrap_up == Millis(0) || parked {
            Event::ConversationClosed { conversation: id, by: Some(agent.clone()), reason: None, disposition }
        } else {
            let until = step.at + wrap_up;
            Event::ConversationWrapUpStarted { conversation: id, agent: agent.clone(), until, disposition }
        };
        self.emit(step, event);
        self.note_excess(step, agent);
        Ok(concerning(id))
    }
}

pub(crate) fn concerning(conversation: ConversationId) -> Done {
    Done { conversation: Some(conversation), ..Done::default() }
}
