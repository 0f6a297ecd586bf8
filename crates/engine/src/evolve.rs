//! What each fact changes. Total: a fact about something unknown changes nothing.

use std::sync::Arc;

use contract::event::Presence;
use contract::journal::Cause;
use contract::policy::Policy;
use contract::{AgentId, ConversationId, CustomerId, Envelope, Event, MessageId, Timestamp};

use crate::conversation::{Conversation, Offer, Outbound, Phase, ThreadKey, ThreadState};
use crate::state::{Reach, State};

impl State {
    /// Evolves a fact into the state.
    pub fn evolve(&mut self, at: Timestamp, event: &Event) -> Reach {
        self.now = self.now.max(at);
        let mut reach = self.reach(event);
        match event {
            Event::PolicyApplied { version, policy } => self.evolve_policy(*version, policy),
            Event::AgentPresenceChanged { agent, presence, .. } => {
                self.change_agent(agent, |agent| agent.presence = presence.clone());
            }
            Event::AgentConnected { agent } => self.change_agent(agent, |agent| {
                agent.connected = true;
                agent.grace_until = None;
            }),
            Event::AgentDisconnected { agent, grace_until } => self.change_agent(agent, |agent| {
                agent.connected = false;
                agent.grace_until = Some(*grace_until);
            }),
            Event::AgentLost { agent } => self.change_agent(agent, |agent| {
                agent.grace_until = None;
                agent.presence = Presence::Offline;
            }),
            Event::ConversationOpened { conversation, customer, thread } => {
                self.last_conversation = self.last_conversation.max(conversation.0);
                let channel = self.policy.channel(&thread.account.kind);
                let opened = Conversation {
                    customer: *customer,
                    phase: Phase::Waiting { next_round_at: None },
                    queue: None,
                    priority: 0,
                    requirement: contract::event::Requirement::default(),
                    weight: channel.capacity_weight,
                    lease: channel.offer_lease_ms,
                    ready_at: at,
                    opened_at: at,
                    last_inbound_at: None,
                    last_message: None,
                    threads: vec![ThreadKey::new(&thread.account, &thread.thread.key)],
                    asked: std::collections::BTreeSet::new(),
                    round: 1,
                    direct: None,
                };
                self.insert_conversation(*conversation, opened);
            }
            Event::ConversationEnqueued {
                conversation, queue, priority, requirement, ready_at, from, direct, ..
            } => {
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Waiting { next_round_at: None };
                    conversation.queue = Some(queue.clone());
                    conversation.priority = *priority;
                    conversation.requirement = requirement.clone();
                    conversation.ready_at = *ready_at;
                    conversation.round = 1;
                    // Who gives it away is not asked first, unless it is meant to come back.
                    conversation.asked = from.iter().filter(|from| direct.as_ref() != Some(*from)).cloned().collect();
                    conversation.direct = direct.clone();
                });
            }
            Event::ConversationRoundExhausted { conversation, next_round_at } => {
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Waiting { next_round_at: Some(*next_round_at) };
                });
            }
            Event::ConversationRoundStarted { conversation, round } => {
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Waiting { next_round_at: None };
                    conversation.asked.clear();
                    conversation.round = *round;
                });
            }
            Event::ConversationAssigned { conversation, agent, .. }
            | Event::ConversationResumed { conversation, agent, .. } => {
                let resumed = matches!(event, Event::ConversationResumed { .. });
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Active { agent: agent.clone() };
                    conversation.asked.clear();
                    conversation.direct = None;
                });
                if !resumed {
                    self.change_agent(agent, |agent| agent.last_assigned_at = Some(at));
                }
            }
            Event::ConversationTransferred { .. } => {}
            Event::ConversationParked { conversation, agent, until, .. } => {
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Parked { agent: agent.clone(), until: *until };
                });
            }
            Event::ConversationWrapUpStarted { conversation, agent, until, disposition } => {
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase =
                        Phase::Wrapping { agent: agent.clone(), until: *until, disposition: disposition.clone() };
                });
            }
            Event::ConversationClosed { conversation, disposition, .. } => {
                let view = self.closed_view(*conversation, at, disposition.clone());
                reach.closed = view.map(Box::new);
                self.remove_conversation(*conversation);
            }
            Event::OfferCreated { offer, conversation, agent, expires_at, .. } => {
                self.last_offer = self.last_offer.max(offer.0);
                let standing = Offer { conversation: *conversation, agent: agent.clone(), expires_at: *expires_at };
                self.insert_offer(*offer, standing);
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Offered { offer: *offer, agent: agent.clone() };
                });
            }
            Event::OfferAccepted { offer, .. } => {
                // The assignment that follows moves the conversation.
                self.remove_offer(*offer);
            }
            Event::OfferDeclined { offer, conversation, agent, .. }
            | Event::OfferExpired { offer, conversation, agent } => {
                self.end_offer(*offer, *conversation, Some(agent));
            }
            Event::OfferRescinded { offer, conversation, .. } => self.end_offer(*offer, *conversation, None),
            Event::MessageReceived { conversation, message, thread_seq, envelope } => {
                self.evolve_received(at, *conversation, *message, *thread_seq, envelope);
            }
            Event::MessageSent { conversation, message, thread, thread_seq, .. } => {
                self.last_message = self.last_message.max(message.0);
                let key = ThreadKey::new(&thread.account, &thread.thread.key);
                if let Some(state) = self.threads.get_mut(&key) {
                    state.seq = *thread_seq;
                    state.remember(Outbound {
                        message: *message,
                        conversation: *conversation,
                        seq: *thread_seq,
                        at,
                        status: None,
                        external_ids: Vec::new(),
                    });
                }
                if let Some(conversation) = self.conversations.get_mut(conversation) {
                    conversation.last_message = Some(*message);
                }
            }
            Event::MessageStatusChanged { thread, messages, status, external_ids, .. } => {
                self.evolve_status(thread, messages, status, external_ids);
            }
            Event::CustomerCreated { .. }
            | Event::CustomerIdentityLinked { .. }
            | Event::CustomerIdentityVerified { .. }
            | Event::CustomerRenamed { .. }
            | Event::CustomerSignalled { .. }
            | Event::MessageAmended { .. }
            | Event::NoteAdded { .. }
            | Event::InputRejected { .. } => {}
        }
        reach
    }

    /// Evolves the input itself: what was taken in is not taken in again.
    pub fn evolve_cause(&mut self, at: Timestamp, cause: &Cause) {
        self.now = self.now.max(at);
        match cause {
            Cause::Envelope(fingerprint) => {
                self.seen.insert(*fingerprint, at, self.policy.timing.repeat_memory_ms);
            }
            Cause::Command { by, id, done } => {
                let agent = by.strip_prefix("agent.").and_then(|name| self.agents.get_mut(name));
                match agent {
                    Some(agent) => agent.commands.remember(id.clone(), done.clone()),
                    None => self.admin_commands.remember(id.clone(), done.clone()),
                }
            }
            Cause::Rejected | Cause::Timer | Cause::Notice => {}
        }
    }

    /// Whom a fact reaches, as things stood before it, and its number on their feeds.
    fn reach(&mut self, event: &Event) -> Reach {
        let known = event.conversation().and_then(|id| self.conversations.get(&id));
        let customer: Option<CustomerId> = event.customer().or_else(|| known.map(|conversation| conversation.customer));
        let customer = customer.or_else(|| self.sent_to(event));
        let shown = known.or_else(|| {
            let id = self.index.by_customer.get(&event.customer()?)?;
            self.conversations.get(id)
        });
        let named = event.agent().cloned();
        let holder = shown
            .and_then(|conversation| conversation.phase.agent().cloned())
            .filter(|holder| Some(holder) != named.as_ref());
        let feeds = named
            .into_iter()
            .chain(holder)
            .filter_map(|id| {
                let agent = self.agents.get_mut(&id)?;
                agent.feed_seq += 1;
                Some((id, agent.feed_seq))
            })
            .collect();
        Reach { customer, feeds, closed: None }
    }

    /// The customer of a status that came after the conversation was closed.
    fn sent_to(&self, event: &Event) -> Option<CustomerId> {
        let Event::MessageStatusChanged { thread, .. } = event else { return None };
        self.threads.get(&ThreadKey::new(&thread.account, &thread.thread.key)).map(|thread| thread.customer)
    }

    fn evolve_policy(&mut self, version: u64, policy: &Arc<Policy>) {
        self.policy_version = version;
        self.policy = Arc::clone(policy);
        for id in policy.agents.keys() {
            self.agents.entry(id.clone()).or_default();
        }
        self.index_roster();
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for id in agents {
            // A capacity that was lowered below the load is no fault of the engine's: the excess is
            // allowed until it has gone.
            let capacity = policy.agents.get(&id).map_or(0, |spec| spec.capacity);
            self.change_agent(&id, |agent| agent.excess = agent.load.saturating_sub(capacity));
        }
    }

    /// An offer ended without a taker: the conversation waits again.
    fn end_offer(&mut self, offer: contract::OfferId, conversation: ConversationId, asked: Option<&AgentId>) {
        self.remove_offer(offer);
        self.change_conversation(conversation, |conversation| {
            if matches!(&conversation.phase, Phase::Offered { offer: standing, .. } if *standing == offer) {
                conversation.phase = Phase::Waiting { next_round_at: None };
                conversation.direct = None;
            }
            conversation.asked.extend(asked.cloned());
        });
    }

    fn evolve_received(
        &mut self,
        at: Timestamp,
        id: ConversationId,
        message: MessageId,
        thread_seq: u64,
        envelope: &Envelope,
    ) {
        self.last_message = self.last_message.max(message.0);
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.last_inbound_at = Some(at);
        conversation.last_message = Some(message);
        // Answers go by the thread that the customer used last.
        if conversation.threads.last() != Some(&key) {
            conversation.threads.retain(|known| *known != key);
            conversation.threads.push(key.clone());
        }
        let reference =
            contract::event::ThreadRef { account: envelope.account.clone(), thread: envelope.thread.clone() };
        let customer = conversation.customer;
        match self.threads.get_mut(&key) {
            Some(thread) => {
                thread.reference = reference;
                thread.customer = customer;
                thread.seq = thread_seq;
            }
            None => {
                let thread = ThreadState {
                    reference,
                    customer,
                    seq: thread_seq,
                    last_sent: None,
                    outbound: std::collections::VecDeque::new(),
                };
                self.threads.insert(key, thread);
            }
        }
    }
}
