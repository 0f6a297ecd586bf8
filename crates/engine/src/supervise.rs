//! Advice, supervision, and what goes past the rules.

use contract::command::{Done, Refusal, RefusalKind};
use contract::event::EnqueueReason;
use contract::{AgentId, ConversationId, Event, QueueId, SmolStr};

use crate::command::{concerning, refuse};
use crate::conversation::Phase;
use crate::state::{State, Step};

/// Most agents that read along in one conversation.
const READERS_MAX: usize = 16;

impl State {
    /// Asks another agent for advice.
    pub(crate) fn consult(
        &mut self,
        step: &mut Step,
        by: &AgentId,
        id: ConversationId,
        agent: AgentId,
        note: Option<String>,
    ) -> Result<Done, Refusal> {
        self.held(by, id)?;
        if agent == *by {
            return refuse(RefusalKind::Invalid, "agent: that is yourself");
        }
        if !self.is_here(&agent) {
            return refuse(RefusalKind::Conflict, format!("{agent} is not there"));
        }
        check_note(note.as_deref())?;
        self.may_read(id, &agent)?;
        self.emit(step, Event::ConversationConsultStarted { conversation: id, agent, by: by.clone(), note });
        Ok(concerning(id))
    }

    /// Ends the advice: by who asked, or by who was asked.
    pub(crate) fn consult_end(
        &mut self,
        step: &mut Step,
        by: &AgentId,
        id: ConversationId,
        agent: Option<AgentId>,
    ) -> Result<Done, Refusal> {
        let asked = agent.unwrap_or_else(|| by.clone());
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if asked != *by && item.responsible() != Some(by) {
            return refuse(RefusalKind::Gone, format!("conversation {id} is not with you"));
        }
        if item.readers.get(&asked) != Some(&true) {
            return refuse(RefusalKind::Gone, format!("{asked} is not asked for advice in {id}"));
        }
        self.emit(step, Event::ConversationConsultEnded { conversation: id, agent: asked });
        Ok(concerning(id))
    }

    pub(crate) fn monitor(&mut self, step: &mut Step, agent: &AgentId, id: ConversationId) -> Result<Done, Refusal> {
        self.supervisor(agent)?;
        self.may_read(id, agent)?;
        self.emit(step, Event::ConversationMonitorStarted { conversation: id, agent: agent.clone() });
        Ok(concerning(id))
    }

    pub(crate) fn monitor_end(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
    ) -> Result<Done, Refusal> {
        let reads = self.conversations.get(&id).is_some_and(|item| item.readers.get(agent) == Some(&false));
        if !reads {
            return refuse(RefusalKind::Gone, format!("you do not monitor {id}"));
        }
        self.emit(step, Event::ConversationMonitorEnded { conversation: id, agent: agent.clone() });
        Ok(concerning(id))
    }

    /// Ends whatever made an agent read along.
    pub(crate) fn stop_reading(&mut self, step: &mut Step, conversation: ConversationId, agent: &AgentId) {
        let agent = agent.clone();
        match self.conversations.get(&conversation).and_then(|item| item.readers.get(&agent)) {
            Some(true) => self.emit(step, Event::ConversationConsultEnded { conversation, agent }),
            Some(false) => self.emit(step, Event::ConversationMonitorEnded { conversation, agent }),
            None => {}
        }
    }

    fn may_read(&self, id: ConversationId, agent: &AgentId) -> Result<(), Refusal> {
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if item.responsible() == Some(agent) || item.readers.contains_key(agent) {
            return refuse(RefusalKind::Conflict, format!("{agent} has {id} before it already"));
        }
        if item.readers.len() >= READERS_MAX {
            return refuse(RefusalKind::Conflict, format!("{READERS_MAX} agents read along already"));
        }
        Ok(())
    }

    fn supervisor(&self, agent: &AgentId) -> Result<(), Refusal> {
        if self.policy.agents.get(agent).is_some_and(|spec| spec.supervisor) {
            return Ok(());
        }
        refuse(RefusalKind::Forbidden, "only supervisors may do this")
    }

    /// A supervisor's word.
    pub(crate) fn force_by_agent(
        &mut self,
        step: &mut Step,
        by: &AgentId,
        id: ConversationId,
        agent: AgentId,
        ignore_capacity: bool,
    ) -> Result<Done, Refusal> {
        self.supervisor(by)?;
        self.force(step, SmolStr::from(by.as_str()), id, agent, ignore_capacity)
    }

    /// Gives an open conversation to an agent, whatever the rules say; room is a rule of its own.
    pub(crate) fn force(
        &mut self,
        step: &mut Step,
        by: SmolStr,
        id: ConversationId,
        agent: AgentId,
        ignore_capacity: bool,
    ) -> Result<Done, Refusal> {
        let (Some(state), Some(spec)) = (self.agents.get(&agent), self.policy.agents.get(&agent)) else {
            return refuse(RefusalKind::NotFound, format!("there is no agent {agent}"));
        };
        if !self.is_here(&agent) {
            return refuse(RefusalKind::Conflict, format!("{agent} is not there"));
        }
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if item.phase.holder() == Some(&agent) {
            return refuse(RefusalKind::Conflict, format!("conversation {id} is with {agent} already"));
        }
        if item.queue.is_none() {
            return refuse(RefusalKind::Conflict, format!("conversation {id} is in no queue yet"));
        }
        let over_capacity = self.crowded(item, &agent, state, spec).is_some();
        if over_capacity && !ignore_capacity {
            return refuse(RefusalKind::Conflict, format!("{agent} has no room; `ignore_capacity` goes past it"));
        }
        self.withdraw_offers(step, id, "forced");
        if self.conversations.get(&id).is_some_and(|item| item.readers.contains_key(&agent)) {
            self.stop_reading(step, id, &agent);
        }
        let forced_by = Some(by);
        self.emit(step, Event::ConversationAssigned { conversation: id, agent, offer: None, forced_by, over_capacity });
        Ok(concerning(id))
    }

    /// Makes a conversation more urgent, and hands it on when a queue is named.
    pub(crate) fn escalate(
        &mut self,
        step: &mut Step,
        by: &AgentId,
        id: ConversationId,
        priority: i32,
        to_queue: Option<QueueId>,
        note: Option<String>,
    ) -> Result<Done, Refusal> {
        if self.held(by, id).is_err() {
            self.supervisor(by)?;
            if !self.conversations.contains_key(&id) {
                return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
            }
            if to_queue.is_some() {
                return refuse(RefusalKind::Gone, format!("conversation {id} is not with you"));
            }
        }
        check_note(note.as_deref())?;
        let Some(to_queue) = to_queue else {
            self.emit(step, Event::ConversationPrioritized { conversation: id, priority, by: Some(by.clone()) });
            return Ok(concerning(id));
        };
        // Refused before anything changes.
        self.check_transfer(by, id, Some(&to_queue), None)?;
        self.emit(step, Event::ConversationPrioritized { conversation: id, priority, by: Some(by.clone()) });
        self.transfer(step, by, id, Some(to_queue), None, note)
    }

    /// An operator puts a conversation into a queue.
    pub(crate) fn enqueue_by_operator(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        queue: Option<QueueId>,
        priority: Option<i32>,
    ) -> Result<Done, Refusal> {
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if let phase @ Phase::Wrapping { .. } = &item.phase {
            return refuse(RefusalKind::Conflict, format!("it is {}", phase.name()));
        }
        if let Some(queue) = queue.as_ref().filter(|queue| !self.policy.queues.contains_key(*queue)) {
            return refuse(RefusalKind::NotFound, format!("there is no queue {queue}"));
        }
        self.withdraw_offers(step, id, "forced");
        if let Some(priority) = priority {
            self.emit(step, Event::ConversationPrioritized { conversation: id, priority, by: None });
        }
        match queue {
            Some(queue) => self.send_to(step, id, queue, EnqueueReason::Forced),
            None => self.route_anew(step, id, EnqueueReason::Forced, priority),
        }
        Ok(concerning(id))
    }

    /// A handover is called off.
    pub(crate) fn take_back(&mut self, step: &mut Step, agent: &AgentId, id: ConversationId) -> Result<Done, Refusal> {
        let Some(item) = self.conversations.get(&id) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if item.keeper.as_deref() != Some(agent) {
            return refuse(RefusalKind::Gone, format!("you are not handing {id} over"));
        }
        self.withdraw_offers(step, id, "taken_back");
        self.emit(step, Event::ConversationTakenBack { conversation: id, agent: agent.clone() });
        // It was parked before, perhaps, and took less.
        self.note_excess(step, agent);
        Ok(concerning(id))
    }
}

pub(crate) fn check_note(note: Option<&str>) -> Result<(), Refusal> {
    if note.is_some_and(|note| note.len() > contract::limits::TEXT_BYTES_MAX) {
        return refuse(RefusalKind::Invalid, "note: is too long");
    }
    Ok(())
}
