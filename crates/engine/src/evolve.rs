//! What each fact changes. Total: a fact about something unknown changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::envelope::ReceiptStatus;
use contract::event::Presence;
use contract::journal::Cause;
use contract::policy::{FallbackAction, Policy};
use contract::{AgentId, ConversationId, CustomerId, Envelope, Event, MessageId, Millis, Timestamp};

use crate::conversation::{Conversation, Offer, Outbound, Past, Phase, ThreadKey, ThreadState};
use crate::rare::Rare;
use crate::state::{Reach, Rules, State};
use crate::threads::Named;

/// How long the newest conversation of a customer is remembered where nothing asks for longer.
const PAST_MIN: Millis = Millis::from_secs(72 * 3600);

/// A part of a weight, rounded up.
fn percent(weight: u32, percent: u8) -> u32 {
    let units = (u64::from(weight) * u64::from(percent)).div_ceil(100);
    u32::try_from(units).unwrap_or(u32::MAX)
}

impl State {
    /// Evolves a fact into the state.
    pub fn evolve(&mut self, at: Timestamp, event: &Event) -> Reach {
        self.now = self.now.max(at);
        let mut reach = self.reach(event);
        match event {
            Event::PolicyApplied { version, policy } => self.evolve_policy(*version, policy),
            Event::AgentPresenceChanged { agent, presence, .. } => {
                self.change_agent(agent, |agent| {
                    if !agent.signed_in() && *presence != Presence::Offline {
                        agent.signed_in_at = Some(at);
                        agent.handled = 0;
                        agent.talked_ms = 0;
                        agent.recent_offers.clear();
                    }
                    agent.presence = presence.clone();
                    agent.no_answers = 0;
                });
                self.rematch(agent);
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
            Event::AgentNotResponding { agent, until } => {
                self.change_agent(agent, |agent| agent.not_responding_until = Some(*until));
            }
            Event::AgentResponding { agent } => self.change_agent(agent, |agent| {
                agent.not_responding_until = None;
                agent.no_answers = 0;
            }),
            Event::AgentRested { agent } => self.change_agent(agent, |agent| {
                agent.rest_until = agent.rest_until.filter(|until| *until > at);
                agent.rate_until = agent.rate_until.filter(|until| *until > at);
            }),
            Event::AgentOverCapacity { agent, .. } => self.allow_excess(agent),
            Event::QueueOpened { queue, closes_at } => {
                self.change_queue(queue, |state| {
                    state.closed = false;
                    state.changes_at = *closes_at;
                });
                self.mark_closed(queue, false);
            }
            Event::QueueClosed { queue, opens_at } => {
                self.change_queue(queue, |state| {
                    state.closed = true;
                    state.changes_at = *opens_at;
                });
                self.mark_closed(queue, true);
            }
            Event::ConversationOpened { conversation, customer, thread } => {
                self.last_conversation = self.last_conversation.max(conversation.0);
                self.insert_conversation(*conversation, self.new_conversation(at, *customer, thread, at));
            }
            Event::ConversationReopened { conversation, customer, thread } => {
                let past = self.past_of(*customer).filter(|past| past.conversation == *conversation);
                let opened_at = past.map_or(at, |past| past.opened_at);
                let threads = past.map(|past| past.threads.clone()).unwrap_or_default();
                let mut reopened = self.new_conversation(at, *customer, thread, opened_at);
                let newest = reopened.threads.pop();
                reopened.threads.extend(threads.into_iter().filter(|known| Some(known) != newest.as_ref()));
                reopened.threads.extend(newest);
                self.insert_conversation(*conversation, reopened);
            }
            Event::ConversationEnqueued {
                conversation,
                queue,
                priority,
                requirement,
                ready_at,
                from,
                direct,
                kept,
                terms,
                ..
            } => {
                let mut shared = self.index.terms.take_like(terms);
                let mut requirement = Arc::clone(requirement);
                if self.index.replaying {
                    // Each came back from the journal by itself.
                    self.index.requirements.join(&mut requirement);
                }
                let known = self.conversations.get(conversation);
                let before = known.map(|item| item.interruptible);
                let interruptible = known.is_some_and(|item| self.interrupts(&item.kind));
                self.change_conversation(*conversation, |item| {
                    item.before = match (&item.queue, item.keeper.is_some()) {
                        _ if !*kept => None,
                        // Sent on while it is handed over: it goes back to where it was at first.
                        (_, true) => item.before.take(),
                        (before, false) => before.clone().map(|queue| Box::new((queue, Arc::clone(&item.requirement)))),
                    };
                    item.keeper = from.clone().filter(|_| *kept).map(Box::new);
                    if item.keeper.is_none() {
                        item.units = 0;
                    }
                    item.phase = Phase::Waiting { next_round_at: None };
                    item.queue = Some(queue.clone());
                    item.priority = *priority;
                    item.requirement = requirement;
                    item.step = 0;
                    item.step_ends_at = terms.step_ends_at;
                    std::mem::swap(&mut item.terms, &mut shared);
                    item.due_at = terms.due_at;
                    item.waited_ms = terms.waited_ms;
                    item.ready_at = *ready_at;
                    item.queued_at = Some(at);
                    item.reached = terms.waited_ms;
                    item.round = 1;
                    item.offers_made = 0;
                    item.classifying = None;
                    item.fell_back = false;
                    item.alarmed_at = None;
                    item.idle = false;
                    item.interruptible = interruptible;
                    // Who gives it away is not asked first, unless it is meant to come back.
                    let asked = from.iter().filter(|from| direct.as_ref() != Some(*from)).cloned();
                    item.asked = asked.collect::<BTreeSet<AgentId>>().into();
                    item.direct = direct.clone().map(Box::new);
                });
                // What it had before; the new ones, of a conversation that there is not.
                self.index.terms.give_back(&shared);
                if let Some(keeper) = from.as_ref().filter(|_| *kept && before != Some(interruptible)) {
                    // What it keeps counts to the other part now, which may be full.
                    self.allow_excess(keeper);
                }
            }
            Event::ConversationStepReached { conversation, step, ends_at, .. } => {
                self.change_conversation(*conversation, |item| {
                    item.step = *step;
                    item.step_ends_at = *ends_at;
                    item.end_last_step();
                });
            }
            Event::ConversationWaited { conversation, waited_ms } => {
                self.change_conversation(*conversation, |item| item.reached = *waited_ms);
            }
            Event::ConversationFellBack { conversation, action, .. } => {
                self.change_conversation(*conversation, |item| {
                    item.fell_back = true;
                    item.end_last_step();
                    if *action == FallbackAction::AnyInQueue {
                        item.requirement = Arc::default();
                        item.step = 0;
                        item.step_ends_at = None;
                    }
                });
            }
            Event::ConversationAlarmRaised { conversation, alarm } => {
                if alarm == "nobody_signed_in" {
                    self.change_conversation(*conversation, |item| item.alarmed_at = Some(at));
                }
            }
            Event::ConversationAlarmEnded { conversation } => {
                self.change_conversation(*conversation, |item| item.alarmed_at = None);
            }
            Event::ConversationPrioritized { conversation, priority, .. } => {
                self.change_conversation(*conversation, |item| item.priority = *priority);
            }
            Event::ConversationIdled { conversation, agent } => {
                let part =
                    self.conversations.get(conversation).map(|item| self.policy.channel(&item.kind).idle_percent);
                self.change_units(*conversation, agent, |item| {
                    item.idle = true;
                    item.units = percent(item.terms.weight, part.unwrap_or(100));
                });
            }
            Event::ConversationReactivated { conversation, agent } => {
                self.change_conversation(*conversation, |item| {
                    item.idle = false;
                    item.units = item.terms.weight;
                });
                self.allow_excess(agent);
            }
            Event::ConversationConsultStarted { conversation, agent, .. } => {
                self.change_readers(*conversation, agent, Some(true));
            }
            Event::ConversationMonitorStarted { conversation, agent } => {
                self.change_readers(*conversation, agent, Some(false));
            }
            Event::ConversationConsultEnded { conversation, agent }
            | Event::ConversationMonitorEnded { conversation, agent } => {
                self.change_readers(*conversation, agent, None);
            }
            Event::ConversationTakenBack { conversation, agent } => {
                self.change_conversation(*conversation, |item| {
                    item.phase = Phase::Active { agent: agent.clone() };
                    item.units = item.terms.weight;
                    item.keeper = None;
                    item.queued_at = None;
                    item.alarmed_at = None;
                    item.asked.clear();
                    item.direct = None;
                    if let Some((queue, requirement)) = item.before.take().map(|before| *before) {
                        item.queue = Some(queue);
                        item.requirement = requirement;
                        item.step = 0;
                        item.step_ends_at = None;
                    }
                });
                self.allow_excess(agent);
            }
            Event::ConversationAbandoned { conversation, waited_ms } => {
                let queue = self.conversations.get(conversation).and_then(|item| item.queue.clone());
                if let Some(queue) = queue {
                    let level = self.policy.queues.get(&queue).and_then(|queue| queue.service_level.clone());
                    self.change_queue(&queue, |state| state.abandoned(at, *waited_ms, level.as_ref()));
                }
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
            Event::ConversationAssigned { conversation, agent, over_capacity, .. } => {
                self.evolve_assigned(at, *conversation, agent, *over_capacity);
            }
            Event::ConversationResumed { conversation, agent, .. } => {
                self.change_conversation(*conversation, |conversation| {
                    conversation.phase = Phase::Active { agent: agent.clone() };
                    conversation.units = conversation.terms.weight;
                    conversation.idle = false;
                    conversation.asked.clear();
                    conversation.direct = None;
                });
                self.allow_excess(agent);
            }
            Event::ConversationClassifying { conversation, until } => {
                let reopened = self.conversations.get(conversation).is_some_and(|item| item.opened_at < at);
                let pending = crate::classify::Classifying {
                    until: *until,
                    since: at,
                    facts: policy::Facts::default(),
                    reopened,
                };
                self.change_conversation(*conversation, |item| item.classifying = Some(Box::new(pending)));
            }
            Event::ConversationTransferred { .. } | Event::ConversationClassified { .. } => {}
            Event::ConversationParked { conversation, agent, until, .. } => {
                let part =
                    self.conversations.get(conversation).map(|item| self.policy.channel(&item.kind).parked_percent);
                self.change_units(*conversation, agent, |conversation| {
                    conversation.phase = Phase::Parked { agent: agent.clone(), until: *until };
                    conversation.units = percent(conversation.terms.weight, part.unwrap_or(0));
                    conversation.idle = false;
                });
            }
            Event::ConversationWrapUpStarted { conversation, agent, until, disposition } => {
                let part =
                    self.conversations.get(conversation).map(|item| self.policy.channel(&item.kind).wrap_up_percent);
                self.change_units(*conversation, agent, |conversation| {
                    conversation.phase =
                        Phase::Wrapping { agent: agent.clone(), until: *until, disposition: disposition.clone() };
                    conversation.units = percent(conversation.terms.weight, part.unwrap_or(100));
                    conversation.idle = false;
                });
            }
            Event::ConversationClosed { conversation, disposition, .. } => {
                let view = self.closed_view(*conversation, at, disposition.clone());
                reach.closed = view.map(Box::new);
                self.evolve_closed(at, *conversation);
            }
            Event::OfferCreated { offer, conversation, agent, expires_at, .. } => {
                self.last_offer = self.last_offer.max(offer.0);
                let standing = Offer { conversation: *conversation, agent: agent.clone(), expires_at: *expires_at };
                self.insert_offer(*offer, standing);
                self.change_conversation(*conversation, |conversation| {
                    conversation.offers_made += 1;
                    let made = (*offer, agent.clone());
                    match &mut conversation.phase {
                        Phase::Offered { offers } => {
                            offers.push(made);
                            conversation.ring_max = u8::try_from(offers.len()).unwrap_or(u8::MAX);
                        }
                        phase => {
                            *phase = Phase::Offered { offers: vec![made] };
                            conversation.ring_max = 1;
                        }
                    }
                });
                self.note_offer(at, agent);
            }
            Event::OfferAccepted { offer, agent, .. } => {
                // The assignment that follows moves the conversation, and what it takes with it.
                self.remove_offer(*offer);
                self.change_agent(agent, |agent| agent.no_answers = 0);
            }
            Event::OfferDeclined { offer, conversation, agent, rest_until, .. } => {
                self.end_offer(*offer, *conversation, Some(agent));
                self.change_agent(agent, |agent| {
                    agent.no_answers = 0;
                    agent.rest_until = agent.rest_until.max(*rest_until);
                });
            }
            Event::OfferExpired { offer, conversation, agent, rest_until } => {
                self.end_offer(*offer, *conversation, Some(agent));
                self.change_agent(agent, |agent| {
                    agent.no_answers += 1;
                    agent.rest_until = agent.rest_until.max(*rest_until);
                });
            }
            Event::OfferRescinded { offer, conversation, .. } => self.end_offer(*offer, *conversation, None),
            Event::MessageReceived { conversation, message, thread_seq, envelope, customer } => {
                self.evolve_received(at, *conversation, *message, *thread_seq, envelope, *customer);
                self.evolve_call(envelope);
            }
            Event::ConversationCallDirected { conversation, message, thread, order, .. } => {
                self.evolve_call_directed(at, *conversation, *message, thread, order);
            }
            Event::MessageSent { conversation, message, thread, thread_seq, content, .. } => {
                self.evolve_sent(at, *conversation, *message, thread, *thread_seq, None);
                self.said(at, *conversation, |_| {});
                let key = ThreadKey::new(&thread.account, &thread.thread.key);
                self.evolve_unread(at, &key, *conversation, *message, content);
            }
            Event::MessageNotified { conversation, message, thread, thread_seq, notice, customer, .. } => {
                self.evolve_sent(at, *conversation, *message, thread, *thread_seq, *customer);
                if let ("switch_told" | "switch_refused", Some(customer)) = (notice.as_str(), customer) {
                    self.evolve_wished(at, *customer, None);
                }
                // The rest says that nobody can answer now; these go on with what was said.
                if !(notice == "unread" || notice.starts_with("switch"))
                    && let Some(conversation) = self.conversations.get_mut(conversation)
                {
                    conversation.told = true;
                }
            }
            Event::MessageMirrored { thread, thread_seq, .. } => {
                let key = ThreadKey::new(&thread.account, &thread.thread.key);
                if let Some(thread) = self.threads.get_mut(&key) {
                    thread.seq = *thread_seq;
                }
            }
            Event::MessageStatusChanged { thread, messages, status, external_ids, .. } => {
                self.evolve_status(thread, messages, status, external_ids);
                if matches!(status, ReceiptStatus::Delivered | ReceiptStatus::Read) {
                    let key = ThreadKey::new(&thread.account, &thread.thread.key);
                    self.evolve_fetched(&key, messages);
                }
            }
            Event::MessageLeftUnread { thread, told_by, .. } => {
                self.evolve_left_unread(at, thread, told_by.is_some());
            }
            Event::ConversationSwitchOffered { conversation, switch, thread, identity, expires_at, by } => {
                self.evolve_switch_offered(*conversation, switch, thread, identity, *expires_at, by.is_none());
            }
            Event::ConversationSwitchShown { conversation, switch, account, expires_at } => {
                self.evolve_switch_shown(*conversation, switch, account, *expires_at);
            }
            Event::ConversationSwitched { conversation, switch, thread } => {
                self.evolve_switched(*conversation, switch, thread.as_ref());
            }
            Event::CustomerMerged { customer, from, .. } => {
                self.change_kin(*from, |kin| kin.merge(*customer, *from));
            }
            Event::CustomerSplit { customer, .. } => self.change_kin(*customer, |kin| kin.split(*customer)),
            Event::CustomerUpdated { customer, change, .. } => {
                self.about.entry(*customer).or_default().change(change);
            }
            Event::CustomerConsentChanged { customer, consent, .. } => {
                self.about.entry(*customer).or_default().consent(consent);
            }
            Event::CustomerErased { customers, .. } => self.evolve_erased(customers),
            Event::CustomerRested { customer, customers, .. } => self.evolve_rested(*customer, customers),
            Event::CustomerRecalled { customer, routing, .. } => {
                // It was read before it became a fact.
                if let Some(kept) = crate::rest::read(routing) {
                    self.evolve_recalled(*customer, kept);
                }
            }
            Event::CustomerSignalled { envelope, .. } | Event::MessageAmended { envelope, .. } => {
                self.evolve_call(envelope);
            }
            Event::CustomerCreated { .. }
            | Event::CustomerIdentityLinked { .. }
            | Event::CustomerIdentityVerified { .. }
            | Event::CustomerIdentityUnlinked { .. }
            | Event::CustomerIdentitySeen { .. }
            | Event::CustomerMatchSuggested { .. }
            | Event::CustomerMatchDismissed { .. }
            | Event::CustomerRenamed { .. }
            | Event::NoteAdded { .. }
            | Event::InputRejected { .. }
            | Event::OperatorCommanded { .. } => {}
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
        // What was sent belongs to whom it was sent; of one person, each keeps what is theirs.
        let customer: Option<CustomerId> = event
            .customer()
            .or_else(|| self.sent_to(event))
            .or_else(|| known.map(|conversation| conversation.customer));
        let mut shown_to: Vec<AgentId> = event.agent().cloned().into_iter().collect();
        let show = |conversation: &Conversation, shown_to: &mut Vec<AgentId>| {
            let offered = match &conversation.phase {
                Phase::Offered { offers } => &offers[..],
                _ => &[],
            };
            let concerned = conversation.responsible().into_iter().chain(offered.iter().map(|(_, agent)| agent));
            for agent in concerned.chain(conversation.readers.keys()) {
                if !shown_to.contains(agent) {
                    shown_to.push(agent.clone());
                }
            }
        };
        if matches!(event, Event::MessageMirrored { .. }) {
            // Who is shown the message itself need not be told where else it is shown.
        } else if let Some(conversation) = known {
            show(conversation, &mut shown_to);
        } else if event.noun() == "customer" {
            let named = [event.customer(), other_customer(event)];
            for customer in named.into_iter().flatten() {
                for id in self.index.open_of(self.kin.root(customer)) {
                    if let Some(conversation) = self.conversations.get(&id) {
                        show(conversation, &mut shown_to);
                    }
                }
            }
        }
        let feeds = shown_to
            .into_iter()
            .filter_map(|id| {
                let agent = self.agents.get_mut(&id)?;
                agent.feed_seq += 1;
                Some((id, agent.feed_seq))
            })
            .collect();
        Reach { customer, feeds, closed: None }
    }

    /// The customer whose thread something was sent on.
    fn sent_to(&self, event: &Event) -> Option<CustomerId> {
        let (Event::MessageStatusChanged { thread, .. }
        | Event::MessageSent { thread, .. }
        | Event::MessageMirrored { thread, .. }
        | Event::MessageLeftUnread { thread, .. }
        | Event::ConversationCallDirected { thread, .. }
        | Event::MessageNotified { thread, .. }) = event
        else {
            return None;
        };
        self.threads.get(&ThreadKey::new(&thread.account, &thread.thread.key)).map(|thread| thread.customer)
    }

    fn evolve_policy(&mut self, version: u64, policy: &Arc<Policy>) {
        self.policy_version = version;
        self.policy = Arc::clone(policy);
        self.rules = Rules::of(policy);
        for id in policy.agents.keys() {
            self.agents.ensure(id);
        }
        self.queues.retain(|queue, _| policy.queues.contains_key(queue));
        self.rebuild_index();
        // What waits is found through the agents that have room.
        self.index.dirty_items.clear();
        let agents: Vec<AgentId> = self.agents.iter().map(|(id, _)| id.clone()).collect();
        for id in agents {
            // A capacity that was lowered below the load is no fault of the engine's: the excess is
            // allowed until it has gone.
            self.allow_excess(&id);
        }
    }

    /// Changes what a conversation takes of its holder. Where that is more than it was, as when an idle one is
    /// wrapped up, what then stands above the capacity was not offered by the engine.
    fn change_units(&mut self, id: ConversationId, holder: &AgentId, change: impl FnOnce(&mut Conversation)) {
        let units = |state: &Self| state.conversations.get(&id).map_or(0, |item| item.units);
        let before = units(self);
        self.change_conversation(id, change);
        if units(self) > before {
            self.allow_excess(holder);
        }
    }

    /// An agent may be offered what it could not before, though it got no room.
    pub(crate) fn rematch(&mut self, agent: &AgentId) {
        let no = self.agents.get(agent).and_then(|agent| agent.no);
        self.index.dirty_agents.extend(no);
    }

    fn new_conversation(
        &self,
        at: Timestamp,
        customer: CustomerId,
        thread: &contract::event::ThreadRef,
        opened_at: Timestamp,
    ) -> Conversation {
        let kind = &policy::kind_of(&thread.account, &thread.thread);
        let channel = self.policy.channel(kind);
        let terms = contract::event::Terms {
            weight: channel.weight(kind, None),
            lease_ms: channel.lease(kind),
            ..contract::event::Terms::default()
        };
        Conversation {
            customer,
            kind: kind.clone(),
            phase: Phase::Waiting { next_round_at: None },
            queue: None,
            priority: 0,
            requirement: Arc::default(),
            step: 0,
            step_ends_at: None,
            terms: Arc::new(terms),
            due_at: None,
            waited_ms: Millis(0),
            ready_at: at,
            queued_at: None,
            opened_at,
            last_inbound_at: None,
            last_word_at: at,
            last_message: None,
            threads: vec![Arc::new(ThreadKey::new(&thread.account, &thread.thread.key))],
            asked: Rare::default(),
            round: 1,
            offers_made: 0,
            ring_max: 1,
            direct: None,
            keeper: None,
            before: None,
            idle: false,
            units: 0,
            interruptible: self.interrupts(kind),
            reached: Millis(0),
            classifying: None,
            fell_back: false,
            told: false,
            alarmed_at: None,
            readers: Rare::default(),
            answered_at: None,
        }
    }

    fn evolve_assigned(&mut self, at: Timestamp, id: ConversationId, agent: &AgentId, over_capacity: bool) {
        if let Some(item) = self.conversations.get(&id) {
            let (queue, waited, queued) = (item.queue.clone(), self.waited(item, at), item.phase.queued());
            if let Some(queue) = queue.filter(|_| queued && item.keeper.is_none()) {
                let level = self.policy.queues.get(&queue).and_then(|queue| queue.service_level.clone());
                self.change_queue(&queue, |state| state.answered(at, waited, level.as_ref()));
            }
        }
        let waited = self.conversations.get(&id).map(|item| self.waited(item, at));
        self.change_conversation(id, |item| {
            item.phase = Phase::Active { agent: agent.clone() };
            item.keeper = None;
            item.before = None;
            item.units = item.terms.weight;
            item.waited_ms = waited.unwrap_or(item.waited_ms);
            item.queued_at = None;
            item.step_ends_at = None;
            item.alarmed_at = None;
            item.idle = false;
            item.told = false;
            item.asked.clear();
            item.direct = None;
            item.answered_at = item.answered_at.or(Some(at));
            item.last_word_at = item.last_word_at.max(at);
        });
        if over_capacity {
            self.allow_excess(agent);
        }
        self.change_agent(agent, |agent| {
            agent.last_assigned_at = Some(at);
            agent.handled = agent.handled.saturating_add(1);
        });
    }

    fn evolve_closed(&mut self, at: Timestamp, id: ConversationId) {
        let Some(item) = self.conversations.get(&id) else { return };
        let agent = item.responsible().cloned();
        // Who gives up before anybody came is still known to whom they talked to before.
        let before = self.past_of(item.customer).and_then(|past| past.known_to.clone());
        let past = Past {
            conversation: id,
            agent: agent.clone(),
            known_to: agent.clone().map(|agent| (agent, at)).or(before),
            queue: item.queue.clone(),
            kind: item.kind.clone(),
            closed_at: at,
            threads: item.threads.clone(),
            opened_at: item.opened_at,
        };
        let (customer, answered, queue) = (item.customer, item.answered_at, item.queue.clone());
        self.remove_conversation(id);
        let keep = self.past_kept();
        self.remember_past(customer, past, keep);
        if let (Some(agent), Some(since)) = (agent, answered) {
            let span = at.since(since);
            if let Some(queue) = queue.filter(|queue| self.policy.queues.contains_key(queue)) {
                self.change_queue(&queue, |state| state.handled(span));
            }
            self.change_agent(&agent, |agent| {
                agent.last_ended_at = Some(at);
                agent.talked_ms = agent.talked_ms.saturating_add(span.0);
            });
        }
    }

    /// How long ended conversations are remembered: as long as anything in the policy asks for one.
    fn past_kept(&self) -> Millis {
        let affinity = self.policy.queues.values().map(|queue| queue.affinity.window_ms);
        let reopening = self.policy.channels.values().map(|channel| match channel.reopen {
            contract::policy::Reopen::Never => Millis(0),
            contract::policy::Reopen::Always => Millis::from_secs(400 * 24 * 3600),
            contract::policy::Reopen::WithinMs(span) => span,
        });
        affinity.chain(reopening).max().unwrap_or(PAST_MIN).max(PAST_MIN)
    }

    fn change_readers(&mut self, id: ConversationId, reader: &AgentId, advice: Option<bool>) {
        let Some(item) = self.conversations.get_mut(&id) else { return };
        match advice {
            Some(advice) => {
                item.readers.change(|readers| readers.insert(reader.clone(), advice));
            }
            None => {
                item.readers.change(|readers| readers.remove(reader));
            }
        }
        self.change_agent(reader, |agent| {
            if advice.is_some() {
                agent.reads.insert(id);
            } else {
                agent.reads.remove(&id);
            }
        });
    }

    /// Remembers when an offer was made, as far as a rate is kept; an agent that has had enough is left alone.
    fn note_offer(&mut self, at: Timestamp, agent: &AgentId) {
        let offers = self.policy.offers.clone();
        if offers.agent_max == 0 && offers.ramp_ms.0 == 0 {
            return;
        }
        self.change_agent(agent, |agent| {
            let longest = offers.agent_window_ms.max(offers.ramp_every_ms);
            while agent.recent_offers.front().is_some_and(|first| *first + longest <= at) {
                agent.recent_offers.pop_front();
            }
            agent.offered(at);
            let full = |most: u32, window: Millis| {
                let recent: Vec<Timestamp> =
                    agent.recent_offers.iter().copied().filter(|made| *made + window > at).collect();
                let most = most.max(1) as usize;
                // Free again when the oldest of the last `most` has left the window.
                (recent.len() >= most).then(|| recent.get(recent.len() - most).map(|first| *first + window)).flatten()
            };
            let rate = if offers.agent_max > 0 { full(offers.agent_max, offers.agent_window_ms) } else { None };
            let ramping = agent.signed_in_at.is_some_and(|since| since + offers.ramp_ms > at);
            let ramp = if ramping { full(offers.ramp_max, offers.ramp_every_ms) } else { None };
            agent.rate_until = agent.rate_until.max(rate).max(ramp);
        });
    }

    /// An offer ended without a taker: the conversation waits again, unless it is still offered to others.
    fn end_offer(&mut self, offer: contract::OfferId, conversation: ConversationId, asked: Option<&AgentId>) {
        self.remove_offer(offer);
        self.change_conversation(conversation, |conversation| {
            if let Phase::Offered { offers } = &mut conversation.phase {
                offers.retain(|(standing, _)| *standing != offer);
                if offers.is_empty() {
                    conversation.phase = Phase::Waiting { next_round_at: None };
                    conversation.direct = None;
                }
            }
            if let Some(asked) = asked {
                conversation.asked.change(|all| all.insert(asked.clone()));
            }
        });
    }

    fn evolve_sent(
        &mut self,
        at: Timestamp,
        id: ConversationId,
        message: MessageId,
        thread: &contract::event::ThreadRef,
        thread_seq: u64,
        customer: Option<CustomerId>,
    ) {
        self.last_message = self.last_message.max(message.0);
        let key = ThreadKey::new(&thread.account, &thread.thread.key);
        // A thread that begins with us.
        if let Some(customer) = customer.filter(|_| !self.threads.contains_key(&key)) {
            let mut begun = self.index.new_thread(customer, &thread.account);
            begun.came(&thread.thread, None);
            let key = Arc::new(key.clone());
            self.index.note_thread(customer, &key);
            self.threads.insert(key, begun);
        }
        if let Some(state) = self.threads.get_mut(&key) {
            state.seq = thread_seq;
            state.remember(Outbound {
                message,
                conversation: id,
                seq: thread_seq,
                at,
                status: None,
                external_ids: Vec::new(),
            });
        }
        if let Some(conversation) = self.conversations.get_mut(&id) {
            conversation.last_message = Some(message);
        }
    }

    /// Somebody said something in a conversation: the timers that count silence begin anew.
    fn said(&mut self, at: Timestamp, id: ConversationId, change: impl FnOnce(&mut Conversation)) {
        let Some(item) = self.conversations.get_mut(&id) else { return };
        let said = |item: &mut Conversation| {
            item.last_word_at = at;
            change(item);
        };
        if item.phase.queued() || !self.policy.channels.contains_key(&item.kind) {
            said(item);
        } else {
            self.change_conversation(id, said);
        }
    }

    fn evolve_received(
        &mut self,
        at: Timestamp,
        id: ConversationId,
        message: MessageId,
        thread_seq: u64,
        envelope: &Envelope,
        customer: Option<CustomerId>,
    ) {
        self.last_message = self.last_message.max(message.0);
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        self.said(at, id, |item| {
            let first = item.last_inbound_at.is_none();
            if let Some(pending) = item.classifying.as_deref_mut().filter(|_| first) {
                pending.facts = policy::Facts::of(envelope, None);
            }
            item.last_inbound_at = Some(at);
        });
        let Some(conversation) = self.conversations.get_mut(&id) else { return };
        conversation.last_message = Some(message);
        let customer = customer.unwrap_or(conversation.customer);
        let newest = conversation.threads.last().filter(|known| ***known == key);
        let key = match self.threads.named_mut(&key) {
            Some(Named { key, state: thread }) => {
                if *thread.account != envelope.account {
                    self.index.accounts.give_back(&thread.account);
                    thread.account = self.index.accounts.take_like(&envelope.account);
                }
                thread.came(&envelope.thread, envelope.window.as_ref());
                thread.seq = thread_seq;
                if thread.customer != customer {
                    thread.extra.get_or_insert_default().shared = true;
                    self.index.lose_thread(thread.customer, key);
                    self.index.note_thread(customer, key);
                    thread.customer = customer;
                }
                Arc::clone(key)
            }
            None => {
                // The conversation began with it: it has its name.
                let key = newest.map_or_else(|| Arc::new(key), Arc::clone);
                let mut thread = self.index.new_thread(customer, &envelope.account);
                thread.came(&envelope.thread, envelope.window.as_ref());
                thread.seq = thread_seq;
                self.index.note_thread(customer, &key);
                self.threads.insert(Arc::clone(&key), thread);
                key
            }
        };
        // Answers go by the thread that the customer used last.
        match conversation.threads.last_mut() {
            Some(newest) if *newest == key => *newest = key,
            _ => {
                conversation.threads.retain(|known| *known != key);
                conversation.threads.push(key);
            }
        }
    }
}

impl crate::index::Index {
    fn new_thread(&mut self, customer: CustomerId, account: &contract::envelope::Account) -> ThreadState {
        ThreadState {
            account: self.accounts.take_like(account),
            extra: None,
            customer,
            seq: 0,
            last_sent: None,
            outbound: Rare::default(),
        }
    }
}

/// Who else a fact about a customer concerns.
const fn other_customer(event: &Event) -> Option<CustomerId> {
    match event {
        Event::CustomerMerged { from, .. } | Event::CustomerSplit { from, .. } => Some(*from),
        _ => None,
    }
}
