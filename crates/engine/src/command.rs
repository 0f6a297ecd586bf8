//! What agents' tools and operators ask for, and what time and silence bring.

use contract::command::{AdminCommand, AgentCommand, Done, Refusal, RefusalKind};
use contract::event::{EnqueueReason, Presence, Requirement};
use contract::journal::Cause;
use contract::{AgentId, ConversationId, Event, MessageId, Millis, OfferId, QueueId, SmolStr, Timestamp};

use crate::conversation::{Phase, ThreadKey};
use crate::state::{State, Step};
use crate::timer::Timer;

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

fn refuse<T>(kind: RefusalKind, message: impl Into<String>) -> Result<T, Refusal> {
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
            CommandInput::Agent { agent, command, .. } => self.agent_command(&mut step, &agent, command),
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
            AdminCommand::PolicyApply { policy } => {
                let problems = policy.problems();
                if !problems.is_empty() {
                    return refuse(RefusalKind::Invalid, problems.join("; "));
                }
                self.apply_policy(step, *policy);
                Ok(Done::default())
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
                let agent = agent.clone();
                self.emit(step, Event::OfferDeclined { offer, conversation, agent, reason });
                Ok(concerning(conversation))
            }
            AgentCommand::MessageSend { conversation, content, reply_to } => {
                if content.is_empty() {
                    return refuse(RefusalKind::Invalid, "content: a message needs at least one part");
                }
                contract::envelope::validate_content("content", &content)
                    .map_err(|invalid| Refusal::new(RefusalKind::Invalid, invalid.to_string()))?;
                self.send(step, agent, conversation, content, reply_to)
            }
            AgentCommand::NoteAdd { conversation, text } => {
                self.held(agent, conversation)?;
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
                self.emit(step, Event::ConversationParked { conversation, agent, until, reason });
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
                self.emit(step, Event::ConversationClosed { conversation, by, disposition });
                Ok(concerning(conversation))
            }
        }
    }

    /// The phase of a conversation that the agent holds.
    fn held(&self, agent: &AgentId, id: ConversationId) -> Result<&Phase, Refusal> {
        let Some(conversation) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if conversation.phase.holder() != Some(agent) {
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
        self.emit(step, Event::OfferAccepted { offer, conversation, agent: agent.clone() });
        let assigned = Event::ConversationAssigned { conversation, agent: agent.clone(), offer: Some(offer) };
        self.emit(step, assigned);
        Ok(concerning(conversation))
    }

    fn set_presence(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        presence: Presence,
        reason: Option<SmolStr>,
    ) -> Result<Done, Refusal> {
        if let Presence::Other(word) = &presence {
            let message = format!("presence: {word:?} is not known; available, busy, away or offline");
            return refuse(RefusalKind::Invalid, message);
        }
        if presence == Presence::Available && !self.policy.agents.contains_key(agent) {
            return refuse(RefusalKind::Forbidden, "you are no longer in the policy");
        }
        self.connect(step, agent);
        let changed = self.agents.get(agent).is_some_and(|state| state.presence != presence);
        if changed {
            let event = Event::AgentPresenceChanged { agent: agent.clone(), presence: presence.clone(), reason };
            self.emit(step, event);
        }
        if presence != Presence::Available {
            self.rescind_offers(step, agent, "presence");
        }
        if presence == Presence::Offline {
            self.give_up_conversations(step, agent, EnqueueReason::AgentSignedOut);
        }
        Ok(Done::default())
    }

    fn send(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        content: Vec<contract::envelope::Part>,
        reply_to: Option<contract::envelope::MessageRef>,
    ) -> Result<Done, Refusal> {
        let parked = matches!(self.held(agent, id)?, Phase::Parked { .. });
        let key = self.conversations.get(&id).and_then(|conversation| conversation.threads.last()).cloned();
        let Some((thread, thread_seq, after)) = key.and_then(|key: ThreadKey| {
            let thread = self.threads.get(&key)?;
            Some((thread.reference.clone(), thread.seq + 1, thread.last_sent))
        }) else {
            return refuse(RefusalKind::Conflict, "there is no thread to answer on");
        };
        if parked {
            self.resume(step, agent, id)?;
        }
        let message = MessageId(self.last_message + 1);
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
        Ok(Done { conversation: Some(id), message: Some(message), thread_seq: Some(thread_seq) })
    }

    fn resume(&mut self, step: &mut Step, agent: &AgentId, id: ConversationId) -> Result<(), Refusal> {
        if !self.can_resume(id, agent) {
            return refuse(RefusalKind::Conflict, "you have no room for it now");
        }
        let cause = SmolStr::new_static("agent");
        self.emit(step, Event::ConversationResumed { conversation: id, agent: agent.clone(), cause });
        Ok(())
    }

    fn transfer(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        to_queue: Option<QueueId>,
        to_agent: Option<AgentId>,
        note: Option<String>,
    ) -> Result<Done, Refusal> {
        if let phase @ Phase::Wrapping { .. } = self.held(agent, id)? {
            return refuse(RefusalKind::Conflict, format!("it is {}", phase.name()));
        }
        if note.as_ref().is_some_and(|note| note.len() > contract::limits::TEXT_BYTES_MAX) {
            return refuse(RefusalKind::Invalid, "note: is too long");
        }
        let Some(conversation) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        let (ready_at, priority) = (conversation.ready_at, conversation.priority);
        let Some(queue) = to_queue.clone().or_else(|| conversation.queue.clone()) else {
            return refuse(RefusalKind::Invalid, "to_queue: is needed");
        };
        let Some(spec) = self.policy.queues.get(&queue) else {
            return refuse(RefusalKind::NotFound, format!("there is no queue {queue}"));
        };
        let requirement = match &to_queue {
            None => conversation.requirement.clone(),
            // The new queue's needs; the customer speaks the language that they spoke before.
            Some(_) => {
                let mut skills = spec.skills.clone();
                let spoken =
                    conversation.requirement.skills.iter().filter(|(skill, _)| skill.as_str().starts_with("lang:"));
                for (skill, level) in spoken {
                    let needed = skills.entry(skill.clone()).or_insert(0);
                    *needed = (*needed).max(*level);
                }
                Requirement { skills }
            }
        };
        if let Some(target) = &to_agent {
            self.check_target(agent, target, conversation.weight, &requirement)?;
        } else if to_queue.is_none() {
            return refuse(RefusalKind::Invalid, "to_queue or to_agent: one is needed");
        }
        let transferred = Event::ConversationTransferred {
            conversation: id,
            by: agent.clone(),
            to_queue: queue.clone(),
            to_agent: to_agent.clone(),
            note,
        };
        self.emit(step, transferred);
        let enqueued = Event::ConversationEnqueued {
            conversation: id,
            queue,
            priority,
            requirement,
            ready_at,
            reason: EnqueueReason::Transferred,
            from: Some(agent.clone()),
            direct: to_agent,
        };
        self.emit(step, enqueued);
        Ok(concerning(id))
    }

    /// Whether an agent can be handed a conversation now; refused before the old one lets go.
    fn check_target(
        &self,
        from: &AgentId,
        target: &AgentId,
        weight: u32,
        requirement: &Requirement,
    ) -> Result<(), Refusal> {
        let (Some(state), Some(spec)) = (self.agents.get(target), self.policy.agents.get(target)) else {
            return refuse(RefusalKind::NotFound, format!("there is no agent {target}"));
        };
        if target == from {
            return refuse(RefusalKind::Invalid, "to_agent: that is yourself");
        }
        if !state.takes_offers() {
            return refuse(RefusalKind::Conflict, format!("{target} takes no offers now"));
        }
        if let Some(contract::event::Exclusion::MissingSkill { skill, .. }) =
            crate::matching::missing_skill(requirement, &spec.skills)
        {
            return refuse(RefusalKind::Conflict, format!("{target} lacks the skill {skill}"));
        }
        if state.load.saturating_add(weight) > spec.capacity {
            return refuse(RefusalKind::Conflict, format!("{target} has no room now"));
        }
        Ok(())
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

    fn close(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        disposition: Option<SmolStr>,
    ) -> Result<Done, Refusal> {
        let parked = match self.held(agent, id)? {
            Phase::Wrapping { .. } => return refuse(RefusalKind::Conflict, "it is wrapping already"),
            phase => matches!(phase, Phase::Parked { .. }),
        };
        self.check_disposition(id, disposition.as_ref())?;
        let queue = self.conversations.get(&id).and_then(|conversation| conversation.queue.as_ref());
        let own = queue.and_then(|queue| self.policy.queues.get(queue)).and_then(|queue| queue.wrap_up_ms);
        let wrap_up = own.unwrap_or(self.policy.timing.wrap_up_ms);
        // A parked one took no capacity; wrapping it up must not take any without asking.
        let event = if wrap_up == Millis(0) || parked {
            Event::ConversationClosed { conversation: id, by: Some(agent.clone()), disposition }
        } else {
            let until = step.at + wrap_up;
            Event::ConversationWrapUpStarted { conversation: id, agent: agent.clone(), until, disposition }
        };
        self.emit(step, event);
        Ok(concerning(id))
    }

    fn rescind_offers(&mut self, step: &mut Step, agent: &AgentId, reason: &'static str) {
        let standing = self.agents.get(agent).map(|state| state.offers.clone()).unwrap_or_default();
        for offer in standing {
            let Some(conversation) = self.offers.get(&offer).map(|offer| offer.conversation) else { continue };
            let reason = SmolStr::new_static(reason);
            self.emit(step, Event::OfferRescinded { offer, conversation, agent: agent.clone(), reason });
        }
    }

    /// What a lost agent held goes on without it: active ones are offered to others, parked ones wait
    /// for the customer, wrap-ups end.
    fn give_up_conversations(&mut self, step: &mut Step, agent: &AgentId, reason: EnqueueReason) {
        let held = self.agents.get(agent).map(|state| state.holds.clone()).unwrap_or_default();
        for id in held {
            match self.conversations.get(&id).map(|conversation| conversation.phase.clone()) {
                Some(Phase::Active { .. }) => {
                    self.enqueue_again(step, id, reason.clone(), Some(agent.clone()), None);
                }
                Some(Phase::Wrapping { disposition, .. }) => {
                    self.emit(step, Event::ConversationClosed { conversation: id, by: None, disposition });
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self, step: &mut Step, agent: &AgentId) {
        if self.agents.get(agent).is_some_and(|state| !state.connected) {
            self.emit(step, Event::AgentConnected { agent: agent.clone() });
        }
    }

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
        let mut step = self.begin(now, Cause::Timer);
        while let Some((_, timer)) = self.index.timers.first().filter(|(due, _)| *due <= step.at).cloned() {
            self.fire(&mut step, timer);
        }
        if step.is_empty() {
            return None;
        }
        self.finish(&mut step);
        Some(step)
    }

    fn fire(&mut self, step: &mut Step, timer: Timer) {
        match timer {
            Timer::Offer(offer) => {
                let Some(standing) = self.offers.get(&offer).cloned() else { return };
                let event = Event::OfferExpired { offer, conversation: standing.conversation, agent: standing.agent };
                self.emit(step, event);
            }
            Timer::Grace(agent) => {
                self.emit(step, Event::AgentLost { agent: agent.clone() });
                self.give_up_conversations(step, &agent, EnqueueReason::AgentLost);
            }
            Timer::Round(conversation) => {
                let round = self.conversations.get(&conversation).map_or(0, |waiting| waiting.round) + 1;
                self.emit(step, Event::ConversationRoundStarted { conversation, round });
            }
            Timer::Park(conversation) => {
                let agent = self.conversations.get(&conversation).and_then(|parked| parked.phase.agent().cloned());
                if let Some(agent) = agent {
                    self.resume_or_enqueue(step, conversation, &agent, "time");
                }
            }
            Timer::WrapUp(conversation) => {
                let chosen = match self.conversations.get(&conversation).map(|wrapping| &wrapping.phase) {
                    Some(Phase::Wrapping { disposition, .. }) => disposition.clone(),
                    _ => None,
                };
                self.emit(step, Event::ConversationClosed { conversation, by: None, disposition: chosen });
            }
        }
    }
}

fn concerning(conversation: ConversationId) -> Done {
    Done { conversation: Some(conversation), ..Done::default() }
}
