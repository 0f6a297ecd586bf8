//! The state as tools see it.

use std::collections::BTreeMap;

use contract::answer::{AgentView, Counts};
use contract::event::{Presence, ThreadRef};
use contract::feed::{ConversationView, OfferView, Snapshot};
use contract::outbound::{Author, Mirrored, OutCommand};
use contract::{AgentId, ConversationId, Event, QueueId, SmolStr, TenantId, Timestamp};

use crate::conversation::{Conversation, Phase};
use crate::state::{Reach, State};

impl State {
    /// The name that customers see.
    #[must_use]
    pub fn display_name(&self, agent: &AgentId) -> SmolStr {
        let named = self.policy.agents.get(agent).and_then(|spec| spec.name.clone());
        named.unwrap_or_else(|| SmolStr::from(agent.as_str()))
    }

    /// An agent.
    #[must_use]
    pub fn agent_view(&self, id: &AgentId) -> Option<AgentView> {
        let agent = self.agents.get(id)?;
        let spec = self.policy.agents.get(id);
        Some(AgentView {
            agent: id.clone(),
            name: self.display_name(id),
            presence: agent.presence.clone(),
            connected: agent.connected,
            load: agent.load,
            capacity: spec.map_or(0, |spec| spec.capacity),
            queues: spec.map(|spec| spec.queues.keys().cloned().collect()).unwrap_or_default(),
            conversations: agent.holds.clone(),
        })
    }

    /// An open conversation. The customer's name is the profile's to add.
    #[must_use]
    pub fn conversation_view(&self, id: ConversationId) -> Option<ConversationView> {
        self.conversations.get(&id).map(|conversation| self.view(id, conversation))
    }

    pub(crate) fn closed_view(
        &self,
        id: ConversationId,
        at: Timestamp,
        disposition: Option<SmolStr>,
    ) -> Option<ConversationView> {
        let view = self.conversation_view(id)?;
        Some(ConversationView {
            state: SmolStr::new_static("closed"),
            until: None,
            closed_at: Some(at),
            disposition,
            ..view
        })
    }

    fn view(&self, id: ConversationId, conversation: &Conversation) -> ConversationView {
        let (until, disposition) = match &conversation.phase {
            Phase::Parked { until, .. } => (*until, None),
            Phase::Wrapping { until, disposition, .. } => (Some(*until), disposition.clone()),
            _ => (None, None),
        };
        ConversationView {
            conversation: id,
            customer: self.kin.root(conversation.customer),
            customer_name: None,
            state: SmolStr::new_static(conversation.phase.name()),
            queue: conversation.queue.clone(),
            agent: conversation.responsible().or(conversation.phase.agent()).cloned(),
            priority: conversation.priority,
            requirement: (*conversation.requirement).clone(),
            step: conversation.step,
            handing_over: conversation.keeper.is_some(),
            idle: conversation.idle,
            readers: conversation.readers.keys().cloned().collect(),
            threads: self.thread_refs(conversation),
            opened_at: conversation.opened_at,
            ready_at: conversation.ready_at,
            last_inbound_at: conversation.last_inbound_at,
            last_message: conversation.last_message,
            until,
            closed_at: None,
            disposition,
        }
    }

    fn thread_refs(&self, conversation: &Conversation) -> Vec<ThreadRef> {
        let known = conversation.threads.iter().filter_map(|key| Some((key, self.threads.get(key)?)));
        known.map(|(key, thread)| thread.reference(key)).collect()
    }

    /// Everything that an agent holds.
    #[must_use]
    pub fn snapshot(&self, id: &AgentId) -> Option<Snapshot> {
        let agent = self.agents.get(id)?;
        let offers = agent.offers.iter().filter_map(|offer| {
            let standing = self.offers.get(offer)?;
            let conversation = self.conversation_view(standing.conversation)?;
            Some(OfferView { offer: *offer, conversation, expires_at: standing.expires_at })
        });
        Some(Snapshot {
            agent: id.clone(),
            presence: agent.presence.clone(),
            load: agent.load,
            capacity: self.policy.agents.get(id).map_or(0, |spec| spec.capacity),
            offers: offers.collect(),
            conversations: agent
                .holds
                .iter()
                .chain(&agent.keeps)
                .chain(&agent.reads)
                .filter_map(|held| self.conversation_view(*held))
                .collect(),
        })
    }

    /// The command to a channel that follows from a fact: only what is said to a customer has one.
    #[must_use]
    pub fn out_command(&self, tenant: &TenantId, at: Timestamp, event: &Event, reach: &Reach) -> Option<OutCommand> {
        let (mut mirrored, mut said, mut call) = (None, None, None);
        let mut command_id = None;
        let (conversation, message, author, thread, thread_seq, after, content, reply_to) = match event {
            Event::MessageSent { conversation, message, agent, thread, thread_seq, after, content, reply_to } => {
                let author = Author { agent: Some(agent.clone()), display: Some(self.display_name(agent)) };
                (conversation, message, author, thread, thread_seq, after, content, reply_to.clone())
            }
            Event::MessageNotified { conversation, message, thread, thread_seq, after, content, notice, .. } => {
                said = Some(notice.clone());
                let author = Author { agent: None, display: None };
                (conversation, message, author, thread, thread_seq, after, content, None)
            }
            Event::ConversationCallDirected { conversation, message, thread, after, order } => {
                call = Some(order.clone());
                let author = Author { agent: None, display: None };
                (conversation, message, author, thread, &0, after, &Vec::new(), None)
            }
            Event::MessageMirrored { conversation, message, thread, thread_seq, after, agent, by, content } => {
                let display = agent.as_ref().map(|agent| self.display_name(agent));
                mirrored = Some(Mirrored { by: by.clone(), customer: agent.is_none() });
                // The message has its own command already.
                command_id = Some(SmolStr::from(format!("{tenant}/{message}/{thread_seq}")));
                let author = Author { agent: agent.clone(), display };
                (conversation, message, author, thread, thread_seq, after, content, None)
            }
            _ => return None,
        };
        Some(OutCommand {
            v: contract::outbound::VERSION,
            command_id: command_id.unwrap_or_else(|| SmolStr::from(format!("{tenant}/{message}"))),
            notice: said,
            mirrored,
            tenant: tenant.clone(),
            account: thread.account.clone(),
            thread: thread.thread.clone(),
            conversation: *conversation,
            customer: reach.customer?,
            message: *message,
            thread_seq: *thread_seq,
            after: after.map(|after| SmolStr::from(format!("{tenant}/{after}"))),
            author,
            content: content.clone(),
            reply_to,
            at,
            not_after: None,
            call,
        })
    }

    /// How much there is of what.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { policy_version: self.policy_version, ..Counts::default() };
        // In one pass and with nothing made for each: there may be a million.
        let mut phases: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut waiting: BTreeMap<&QueueId, (u64, Timestamp)> = BTreeMap::new();
        for conversation in self.conversations.values() {
            *phases.entry(conversation.phase.name()).or_default() += 1;
            if let (Phase::Waiting { .. }, Some(queue)) = (&conversation.phase, &conversation.queue) {
                let (count, oldest) = waiting.entry(queue).or_insert((0, conversation.ready_at));
                *count += 1;
                *oldest = (*oldest).min(conversation.ready_at);
            }
        }
        counts.conversations = phases.into_iter().map(|(phase, count)| (SmolStr::new_static(phase), count)).collect();
        for (queue, (count, oldest)) in waiting {
            counts.waiting.insert(queue.clone(), count);
            counts.oldest_ready_at.insert(queue.clone(), oldest);
        }
        for agent in self.agents.values() {
            let word = if agent.connected || agent.presence == Presence::Offline {
                SmolStr::from(agent.presence.as_str())
            } else {
                SmolStr::new_static("disconnected")
            };
            *counts.agents.entry(word).or_default() += 1;
        }
        counts
    }
}
