//! Which queue a conversation goes to, with what, and what happens to it while it waits: steps, limits,
//! overflow, fallback.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::envelope::{Part, Text};
use contract::event::{EnqueueReason, Requirement, Terms};
use contract::policy::{AffinityMode, ClosedAction, FallbackAction, Overflow, Pool, STEPS_MAX, Step as Want};
use contract::{AgentId, ConversationId, Event, MessageId, Millis, QueueId, SmolStr, Timestamp};
use policy::{Facts, Routed};

use crate::conversation::{Conversation, Phase};
use crate::state::{State, Step};
use crate::waiting::Class;

/// How a conversation comes into a queue.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) reason: EnqueueReason,
    /// Who held it until now.
    pub(crate) from: Option<AgentId>,
    /// Whom it is meant for, first.
    pub(crate) direct: Option<AgentId>,
    /// How long it is for that one alone; `None`: not at all.
    pub(crate) direct_for: Option<Millis>,
    /// `from` keeps it until somebody has accepted.
    pub(crate) kept: bool,
    /// It waits from now on, not since it came.
    pub(crate) anew: bool,
}

impl Entry {
    pub(crate) const fn new(reason: EnqueueReason) -> Self {
        Self { reason, from: None, direct: None, direct_for: None, kept: false, anew: false }
    }
}

impl State {
    /// Routes a conversation by the rules and puts it into its queue.
    pub(crate) fn route(&mut self, step: &mut Step, id: ConversationId, facts: &Facts, entry: Entry) {
        if let Some(routed) = self.rules.get().route(facts, step.at) {
            self.enqueue(step, id, routed, facts, entry);
        }
    }

    /// Puts a conversation back into its queue with the age, urgency and needs that it had.
    pub(crate) fn enqueue_again(&mut self, step: &mut Step, id: ConversationId, entry: Entry) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let facts = facts_of(conversation);
        let kept = conversation.queue.clone().filter(|queue| self.policy.queues.contains_key(queue));
        let Some(queue) = kept else {
            // One that came before there was any policy, or whose queue is gone: the rules say where it goes.
            return self.route(step, id, &facts, entry);
        };
        let routed = Routed {
            rule: None,
            name: conversation.terms.route.clone(),
            queue,
            requirement: self.own_requirement(conversation),
            priority: conversation.priority,
            adjust_ms: conversation.terms.adjust_ms,
            class: conversation.terms.class.clone(),
            labels: conversation.terms.labels.clone(),
            owner: None,
        };
        self.enqueue(step, id, routed, &facts, entry);
    }

    /// What a conversation asks for, without what was put before it for one agent.
    fn own_requirement(&self, conversation: &Conversation) -> Arc<Requirement> {
        let all = &conversation.requirement.steps;
        if !all.first().is_some_and(|first| is_for_one(0, first)) {
            return Arc::clone(&conversation.requirement);
        }
        let steps: Vec<Want> = all.iter().skip(1).cloned().collect();
        Arc::new(if steps.is_empty() { Requirement::default() } else { Requirement { steps } })
    }

    /// What a queue asks of a conversation that is sent there: its own needs, and the language spoken.
    pub(crate) fn requirement_in(&self, queue: &QueueId, conversation: &Conversation) -> Arc<Requirement> {
        let mut shared = self.rules.get().requirement(queue, None, conversation.terms.language.as_deref());
        // The customer speaks the language that they spoke before, whether or not the queue asks for one.
        let spoken = conversation.requirement.steps.last();
        let spoken = spoken.map(|step| policy::expr::required_skills(&step.must)).unwrap_or_default();
        for (skill, level) in spoken.into_iter().filter(|(skill, _)| skill.as_str().starts_with("lang:")) {
            for step in &mut Arc::make_mut(&mut shared).steps {
                let known = policy::expr::required_skills(&step.must);
                if !known.iter().any(|(known, least)| *known == skill && *least >= level) {
                    let must = std::mem::take(&mut step.must);
                    let language = contract::policy::Expr::skill(skill.clone(), level);
                    step.must = match must {
                        contract::policy::Expr::All(mut parts) => {
                            parts.push(language);
                            contract::policy::Expr::All(parts)
                        }
                        other => contract::policy::Expr::All(vec![other, language]),
                    };
                }
            }
        }
        shared
    }

    /// Puts a conversation into a queue, or where that one sends it.
    pub(crate) fn enqueue(&mut self, step: &mut Step, id: ConversationId, routed: Routed, facts: &Facts, entry: Entry) {
        let mut routed = routed;
        let mut reason = entry.reason.clone();
        let Some(conversation) = self.conversations.get(&id) else { return };
        // Queues that send on to each other must not do so for ever: each is asked once.
        let mut passed = BTreeSet::new();
        if matches!(reason, EnqueueReason::Overflowed | EnqueueReason::Stale) {
            passed.clone_from(&conversation.terms.passed);
            passed.extend(conversation.queue.clone());
        }
        // What an operator puts somewhere stays there.
        while reason != EnqueueReason::Forced {
            let Some(queue) = self.sends_away(&routed.queue, id, step, &passed) else { break };
            passed.insert(routed.queue.clone());
            let requirement = self.rules.get().requirement(&queue, routed.rule, facts.language.as_deref());
            routed = Routed { queue, requirement, ..routed };
            reason = EnqueueReason::Overflowed;
        }
        if matches!(entry.reason, EnqueueReason::Opened | EnqueueReason::Reopened) && self.refuses(&routed.queue) {
            return self.refuse_entry(step, id);
        }
        let Some(conversation) = self.conversations.get(&id) else { return };
        let (ready_at, waited) =
            if entry.anew { (step.at, Millis(0)) } else { (conversation.ready_at, self.waited(conversation, step.at)) };
        let terms = Terms { passed, ..self.terms(step.at, conversation, &routed, facts, waited) };
        let enqueued = Event::ConversationEnqueued {
            conversation: id,
            queue: routed.queue.clone(),
            priority: routed.priority,
            requirement: self.led_by(&routed, &terms, &entry, waited),
            ready_at,
            reason,
            from: entry.from,
            direct: entry.direct,
            kept: entry.kept,
            terms: Box::new(terms),
        };
        let enqueued = self.with_step_end(step.at, enqueued, waited);
        self.emit(step, enqueued);
        self.advance_steps(step, id);
    }

    /// When the first step ends goes into the fact: the calendar may be another when it is replayed.
    fn with_step_end(&self, at: Timestamp, mut enqueued: Event, waited: Millis) -> Event {
        if let Event::ConversationEnqueued { queue, requirement, terms, .. } = &mut enqueued {
            let until = requirement.steps.first().and_then(|first| first.until_ms);
            terms.step_ends_at = until
                .and_then(|until| self.rules.get().open_deadline(queue, at, Millis(until.0.saturating_sub(waited.0))));
        }
        enqueued
    }

    /// By what it is routed besides.
    fn terms(&self, at: Timestamp, item: &Conversation, routed: &Routed, facts: &Facts, waited: Millis) -> Terms {
        let channel = self.policy.channel(&item.kind);
        let level = self.policy.queues.get(&routed.queue).and_then(|queue| queue.service_level.as_ref());
        let due_at = level.and_then(|level| {
            let left = Millis(level.answer_within_ms.0.saturating_sub(waited.0));
            self.rules.get().open_deadline(&routed.queue, at, left)
        });
        Terms {
            policy: self.policy_version,
            route: routed.name.clone(),
            weight: channel.weight(&item.kind, routed.class.as_deref()),
            lease_ms: channel.lease(&item.kind),
            adjust_ms: routed.adjust_ms,
            due_at,
            waited_ms: waited,
            step_ends_at: None,
            passed: BTreeSet::new(),
            class: routed.class.clone(),
            labels: routed.labels.clone(),
            affinity: self.affinity(at, item, routed),
            language: facts.language.clone(),
            intent: facts.intent.clone(),
            tags: facts.tags.clone(),
            verified: facts.verified,
        }
    }

    /// Who knew the customer before, best first: who owns such conversations, who had this one last, who had
    /// the customer last.
    fn affinity(&self, at: Timestamp, item: &Conversation, routed: &Routed) -> Vec<AgentId> {
        let Some(queue) = self.policy.queues.get(&routed.queue) else { return Vec::new() };
        if queue.affinity.mode == AffinityMode::None {
            return Vec::new();
        }
        let past = self.past_of(item.customer).and_then(|past| past.known_to.as_ref());
        let past = past.filter(|(_, until)| *until + queue.affinity.window_ms >= at).map(|(agent, _)| agent);
        let known = routed.owner.iter().chain(past);
        let mut affinity: Vec<AgentId> = Vec::new();
        for agent in known {
            let spec = self.policy.agents.get(agent);
            let works = spec.is_some_and(|spec| queue.affinity.any_agent || spec.queues.contains_key(&routed.queue));
            if works && !affinity.contains(agent) {
                affinity.push(agent.clone());
            }
        }
        affinity
    }

    /// The requirement, led by a step for the one agent that it is meant or waited for.
    fn led_by(&self, routed: &Routed, terms: &Terms, entry: &Entry, waited: Millis) -> Arc<Requirement> {
        let only = |agent: &AgentId, until_ms: Option<Millis>, no_skip: bool| Want {
            until_ms,
            pool: Pool { agents: BTreeSet::from([agent.clone()]), only: true, ..Pool::default() },
            no_skip,
            narrows: true,
            ..Want::default()
        };
        let anybody = contract::policy::Expr::default();
        let first = routed.requirement.steps.first().map_or(&anybody, |first| &first.must);
        let lead = match (&entry.direct, entry.direct_for) {
            (Some(direct), Some(span)) => Some(only(direct, Some(waited + span), false)),
            (Some(_), None) => None,
            (None, _) => self.policy.queues.get(&routed.queue).and_then(|queue| {
                let affinity = &queue.affinity;
                let agent = terms.affinity.first()?;
                let fits = self.policy.agents.get(agent).is_some_and(|spec| policy::expr::holds(first, spec));
                let here = self.agents.get(agent).is_some_and(crate::agent::Agent::signed_in);
                if !fits || !(here || affinity.while_offline) {
                    return None;
                }
                match affinity.mode {
                    AffinityMode::None | AffinityMode::Prefer => None,
                    AffinityMode::Wait => Some(only(agent, Some(waited + affinity.wait_ms), affinity.while_offline)),
                    AffinityMode::Only => Some(only(agent, None, true)),
                }
            }),
        };
        let Some(mut lead) = lead else { return Arc::clone(&routed.requirement) };
        lead.must = first.clone();
        let after = routed.requirement.steps.iter().take(if lead.until_ms.is_some() { STEPS_MAX } else { 0 });
        let steps = std::iter::once(lead.clone()).chain(after.cloned()).collect();
        Arc::new(Requirement { steps })
    }

    /// Where a queue sends what would come now, if it takes nothing: to none of those that sent it on before.
    fn sends_away(
        &mut self,
        id: &QueueId,
        conversation: ConversationId,
        step: &mut Step,
        passed: &BTreeSet<QueueId>,
    ) -> Option<QueueId> {
        let policy = Arc::clone(&self.policy);
        let spec = policy.queues.get(id)?;
        let takes = |queue: &&QueueId| policy.queues.contains_key(*queue) && !passed.contains(*queue) && *queue != id;
        let state = self.queues.get(id);
        if state.is_some_and(|state| state.closed) {
            let opens = state.and_then(|state| state.changes_at);
            let told = spec.closed.text.as_ref().map(|text| {
                let when = opens.map_or_else(|| "?".to_owned(), |at| self.rules.get().local_time(id, at));
                text.replace("{opens}", &when)
            });
            if let (Some(text), false) = (told, self.was_told(conversation)) {
                self.notify(step, conversation, &text, "closed");
            }
            let to = spec.closed.queue.as_ref().filter(|_| spec.closed.action == ClosedAction::Overflow);
            return to.filter(takes).cloned();
        }
        let waiting = self.index.waiting.counts.get(id).copied().unwrap_or(0);
        let full = spec.limits.waiting_max.is_some_and(|max| waiting >= max);
        let item = self.conversations.get(&conversation)?;
        let waited = self.waited(item, step.at);
        let fitting = spec.overflow.iter().find(|overflow| {
            overflow.after_ms <= waited && self.overflows(id, overflow, full, step.at) && takes(&&overflow.queue)
        });
        match fitting {
            Some(overflow) => Some(overflow.queue.clone()),
            None => {
                if full {
                    let alarm = SmolStr::new_static("queue_full");
                    self.emit(step, Event::ConversationAlarmRaised { conversation, alarm });
                }
                None
            }
        }
    }

    /// Whether the conditions of an overflow hold.
    fn overflows(&self, queue: &QueueId, overflow: &Overflow, full: bool, now: Timestamp) -> bool {
        let state = self.queues.get(queue);
        let level = self.policy.queues.get(queue).and_then(|queue| queue.service_level.as_ref());
        let long = overflow.expected_wait_over_ms.is_none_or(|limit| {
            self.expected_wait(queue, u64::from(self.index.waiting.counts.get(queue).copied().unwrap_or(0)), None)
                .is_some_and(|wait| wait > limit)
        });
        let low = overflow.service_level_below.is_none_or(|limit| {
            let formula = level.map(|level| level.formula).unwrap_or_default();
            state.and_then(|state| state.service_level(now, formula)).is_some_and(|percent| percent < limit)
        });
        let idle = overflow.idle_agents_min.is_none_or(|least| {
            let other = self.index.roster.queues.get(&overflow.queue).and_then(|no| self.index.roster.team(*no));
            other.is_some_and(|team| team.ready.len() >= least as usize)
        });
        long && low && idle && (full || !overflow.when_full)
    }

    /// Whether the program said something in this conversation last.
    fn was_told(&self, id: ConversationId) -> bool {
        self.conversations.get(&id).is_some_and(|conversation| conversation.told)
    }

    /// Whether a queue is closed and takes nothing new. What somebody has had already waits there all the same:
    /// nobody is sent away in the middle.
    fn refuses(&self, queue: &QueueId) -> bool {
        self.queues.get(queue).is_some_and(|state| state.closed)
            && self.policy.queues.get(queue).is_some_and(|spec| spec.closed.action == ClosedAction::Refuse)
    }

    /// A closed queue refuses what comes.
    fn refuse_entry(&mut self, step: &mut Step, id: ConversationId) {
        let reason = Some(SmolStr::new_static("refused"));
        self.emit(step, Event::ConversationClosed { conversation: id, by: None, reason, disposition: None });
    }

    /// Tells the customer something in the policy's words.
    pub(crate) fn notify(&mut self, step: &mut Step, id: ConversationId, text: &str, notice: &'static str) {
        // By which way an answer would go; by none, if the customer does not want any.
        let Ok(key) = self.answer_by(step.at, id, None, crate::about::SERVICE, &[]) else { return };
        let Some(thread) = self.threads.get(&key) else { return };
        let event = Event::MessageNotified {
            conversation: id,
            message: MessageId(self.last_message + 1),
            thread: thread.reference(&key),
            customer: None,
            thread_seq: thread.seq + 1,
            after: thread.last_sent,
            content: vec![Part::Text(Text { body: text.to_owned(), ..Text::default() })],
            notice: SmolStr::new_static(notice),
        };
        self.emit(step, event);
    }

    // === While it waits ===

    /// Goes on to the step that the wait has reached, past those that nobody who is signed in could meet.
    pub(crate) fn advance_steps(&mut self, step: &mut Step, id: ConversationId) {
        for _ in 0..=STEPS_MAX + 1 {
            let Some(item) = self.conversations.get(&id).filter(|item| item.phase.queued()) else { return };
            let current = item.step();
            let more = (item.step as usize) + 1 < item.requirement.steps.len();
            // It is over when its end has come, which was decided when it began.
            let over = current.until_ms.is_some() && item.step_ends_at.is_some_and(|end| end <= step.at);
            if over && !more {
                return self.fall_back(step, id, "steps_ended");
            }
            let closed = item.queue.as_ref().and_then(|queue| self.queues.get(queue)).is_some_and(|queue| queue.closed);
            let possible = closed || self.somebody_could(id, item);
            // The one that it was meant for is not waited for any longer once it has said no.
            let refused = is_for_one(item.step as usize, current) && current.pool.agents.is_subset(&item.asked);
            let because = match (over, possible || current.no_skip) {
                (true, _) => "time",
                (false, false) if more => "nobody_signed_in",
                (false, _) if more && refused => "asked",
                (false, _) => {
                    if !possible && !more && item.alarmed_at.is_none() {
                        let alarm = SmolStr::new_static("nobody_signed_in");
                        self.emit(step, Event::ConversationAlarmRaised { conversation: id, alarm });
                    }
                    return;
                }
            };
            let next = item.step + 1;
            let until = item.requirement.step(next as usize).and_then(|next| next.until_ms);
            let ends_at = until.and_then(|until| self.waited_at(item, until));
            let because = SmolStr::new_static(because);
            self.emit(step, Event::ConversationStepReached { conversation: id, step: next, because, ends_at });
        }
    }

    /// After somebody signed in or out: what waits may have to go on to its next step, or no longer be an alarm.
    pub(crate) fn roster_changed(&mut self, step: &mut Step, agent: &AgentId) {
        let here = self.agents.get(agent).is_some_and(crate::agent::Agent::signed_in);
        let Some(no) = self.index.roster.numbers.get(agent).copied() else { return };
        let (waiting, roster) = (&self.index.waiting, &self.index.roster);
        let Some(slot) = roster.slot(no) else { return };
        let concerned =
            |class: &Class| class.must.holds(no, roster, &slot.id, &self.policy) && class.seat(&slot.seats).is_some();
        // In an order of their own: that of the classes is an accident. What is offered just now is in none of them.
        let items: BTreeSet<ConversationId> = if here {
            let alarmed = self.index.alarmed.iter().copied();
            alarmed.filter(|id| waiting.class_of(*id).is_none_or(concerned)).collect()
        } else {
            // What another who is here could take stays where it is.
            let classes = waiting.classes_for(slot).into_iter().filter_map(|no| waiting.class(no));
            let lost = classes.filter(|class| concerned(class) && !class.somebody_could(&self.policy, roster));
            let spec = self.policy.agents.get(agent);
            let could = |item: &Conversation| spec.is_some_and(|spec| policy::expr::holds(&item.step().must, spec));
            let offered = self.offers.values().map(|offer| offer.conversation);
            let offered = offered.filter(|id| self.conversations.get(id).is_some_and(|item| could(item)));
            lost.flat_map(|class| class.items().map(|item| item.conversation)).chain(offered).collect()
        };
        for id in items {
            if !here {
                self.advance_steps(step, id);
            }
            self.end_alarm(step, id);
        }
    }

    /// Somebody could take now what nobody could.
    pub(crate) fn end_alarm(&mut self, step: &mut Step, id: ConversationId) {
        let Some(item) = self.conversations.get(&id).filter(|item| item.alarmed_at.is_some()) else { return };
        if self.somebody_could(id, item) {
            self.emit(step, Event::ConversationAlarmEnded { conversation: id });
        }
    }

    /// Nobody could be found: does what the queue says.
    pub(crate) fn fall_back(&mut self, step: &mut Step, id: ConversationId, because: &'static str) {
        let Some(item) = self.conversations.get(&id).filter(|item| item.phase.queued() && !item.fell_back) else {
            return;
        };
        let spec = item.queue.as_ref().and_then(|queue| self.policy.queues.get(queue));
        let fallback = spec.map(|spec| spec.fallback.clone()).unwrap_or_default();
        let action = fallback.action;
        self.emit(
            step,
            Event::ConversationFellBack { conversation: id, action, because: SmolStr::new_static(because) },
        );
        if let Some(text) = &fallback.text {
            self.notify(step, id, text, "fallback");
        }
        let alarm = match action {
            FallbackAction::Hold => "fallback",
            FallbackAction::Callback => "callback",
            FallbackAction::Overflow => match fallback.queue.filter(|queue| self.may_go_to(id, queue)) {
                Some(queue) => return self.send_to(step, id, queue, EnqueueReason::Overflowed),
                // It has been there, or there is no such queue: somebody must look.
                None => "fallback",
            },
            FallbackAction::AnyInQueue => return self.end_alarm(step, id),
            FallbackAction::Message => return,
        };
        let alarm = SmolStr::new_static(alarm);
        self.emit(step, Event::ConversationAlarmRaised { conversation: id, alarm });
    }

    /// Whether what waits can be sent on to a queue: there is one, and it was not sent away by it before.
    fn may_go_to(&self, id: ConversationId, queue: &QueueId) -> bool {
        self.policy.queues.contains_key(queue)
            && self
                .conversations
                .get(&id)
                .is_some_and(|item| item.queue.as_ref() != Some(queue) && !item.terms.passed.contains(queue))
    }

    /// Moves what waits to another queue, with its age and urgency.
    pub(crate) fn send_to(&mut self, step: &mut Step, id: ConversationId, queue: QueueId, reason: EnqueueReason) {
        self.withdraw_offers(step, id, "overflowed");
        let Some(item) = self.conversations.get(&id) else { return };
        let facts = facts_of(item);
        let routed = Routed {
            rule: None,
            name: item.terms.route.clone(),
            requirement: self.requirement_in(&queue, item),
            queue,
            priority: item.priority,
            adjust_ms: item.terms.adjust_ms,
            class: item.terms.class.clone(),
            labels: item.terms.labels.clone(),
            owner: None,
        };
        // Whoever held it is not asked first to take it again.
        let entry = Entry { from: item.responsible().cloned(), kept: item.keeper.is_some(), ..Entry::new(reason) };
        self.enqueue(step, id, routed, &facts, entry);
    }

    /// A wait on which something depends is reached.
    pub(crate) fn wait_reached(&mut self, step: &mut Step, id: ConversationId) {
        let Some(item) = self.conversations.get(&id) else { return };
        let Some(reached) = self.next_milestone(item) else { return };
        self.emit(step, Event::ConversationWaited { conversation: id, waited_ms: reached });
        let Some(queue) = self.conversations.get(&id).and_then(|item| item.queue.clone()) else { return };
        let Some(spec) = self.policy.queues.get(&queue) else { return };
        let full = |state: &Self| {
            let waiting = state.index.waiting.counts.get(&queue).copied().unwrap_or(0);
            spec.limits.waiting_max.is_some_and(|max| waiting >= max)
        };
        let full = full(self);
        let to = spec.overflow.iter().find(|overflow| {
            overflow.after_ms <= reached
                && overflow.after_ms > Millis(0)
                && self.may_go_to(id, &overflow.queue)
                && self.overflows(&queue, overflow, full, step.at)
        });
        if let Some(to) = to.map(|overflow| overflow.queue.clone()) {
            self.send_to(step, id, to, EnqueueReason::Overflowed);
        }
    }

    /// What is so old when somebody could have it that it should be looked through first goes there.
    pub(crate) fn send_stale_away(&mut self, step: &mut Step, id: ConversationId) -> bool {
        let Some(item) = self.conversations.get(&id) else { return false };
        let Some(spec) = item.queue.as_ref().and_then(|queue| self.policy.queues.get(queue)) else { return false };
        let (Some(after), Some(to)) = (spec.stale_after_ms, spec.stale_queue.clone()) else { return false };
        let target = self.policy.queues.get(&to);
        let old = item.ready_at + after <= step.at;
        if !old || target.is_none_or(|target| target.stale_after_ms.is_some()) || !self.may_go_to(id, &to) {
            return false;
        }
        self.send_to(step, id, to, EnqueueReason::Stale);
        true
    }

    /// Takes back every offer of a conversation that stands.
    pub(crate) fn withdraw_offers(&mut self, step: &mut Step, id: ConversationId, reason: &'static str) {
        let Some(Phase::Offered { offers }) = self.phase(id) else { return };
        for (offer, agent) in offers {
            if self.offers.contains_key(&offer) {
                let reason = SmolStr::new_static(reason);
                self.emit(step, Event::OfferRescinded { offer, conversation: id, agent, reason });
            }
        }
    }
}

/// A step that was put before the others for one agent: only such a one comes first and narrows.
fn is_for_one(number: usize, step: &Want) -> bool {
    number == 0 && step.narrows && step.pool.only
}

/// What rules can be asked with again, when the message itself is no longer at hand.
pub(crate) fn facts_of(conversation: &Conversation) -> Facts {
    let thread = conversation.threads.last();
    Facts {
        channel: SmolStr::from(conversation.kind.as_str()),
        account: thread.map(|thread| SmolStr::from(thread.account.as_str())).unwrap_or_default(),
        language: conversation.terms.language.clone(),
        intent: conversation.terms.intent.clone(),
        tags: conversation.terms.tags.clone(),
        verified: conversation.terms.verified,
        ..Facts::default()
    }
}
