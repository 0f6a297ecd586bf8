//! A trace from a journal: who came when, who worked when, and how long things took.

use std::collections::BTreeMap;

use contract::event::{EnqueueReason, Presence};
use contract::journal::{Entry, Record};
use contract::{AgentId, ConversationId, Event, Millis, OfferId, SmolStr, Timestamp};

use crate::company::Company;
use crate::log::RunLog;
use crate::random::{Random, millis, whole};
use crate::trace::{Arrival, Duty, DutyKind, Habits, Trace};

/// A conversation that was closed within this long after it was assigned, without an answer: the customer
/// had left.
const EMPTY_MAX: Millis = Millis::from_secs(20);
/// How long a conversation takes that was not over when the journal ended, where no other tells.
const UNKNOWN: Millis = Millis::from_secs(300);

/// What a journal tells.
#[derive(Debug)]
pub struct Inferred {
    /// Who came, who worked, and how long things took.
    pub trace: Trace,
    /// How it went.
    pub recorded: RunLog,
    /// The policy that was in force last, when the journal holds it.
    pub policy: Option<Company>,
}

#[derive(Default)]
struct Reader {
    start: Option<Timestamp>,
    now: Millis,
    arrivals: Vec<Arrival>,
    log: RunLog,
    /// The matter of each conversation, whether an agent said something in it, and since when one works on it.
    open: BTreeMap<ConversationId, Open>,
    offers: BTreeMap<OfferId, Millis>,
    duties: Vec<Duty>,
    met: BTreeMap<AgentId, bool>,
    reactions: Vec<f64>,
    declined: u64,
    lapsed: u64,
    policy: Option<Company>,
    finished: Vec<bool>,
}

struct Open {
    case: usize,
    said: bool,
    since: Option<Millis>,
}

/// Reads what a journal tells of one tenant: of the given one, or of the first that it names.
///
/// # Errors
/// When it tells nothing.
pub fn infer(records: &[Record], tenant: Option<&str>, seed: u64) -> Result<Inferred, String> {
    let mut entries = records.iter().flat_map(|record| &record.entries);
    let first = entries.clone().next().ok_or("the journal is empty")?;
    let tenant = tenant.unwrap_or(first.tenant.as_str());
    let mut reader = Reader::default();
    for entry in entries.by_ref().filter(|entry| entry.tenant.as_str() == tenant) {
        reader.entry(entry);
    }
    if reader.arrivals.is_empty() {
        return Err(format!("the journal opens no conversation of tenant {tenant}"));
    }
    Ok(reader.finish(seed))
}

impl Reader {
    fn entry(&mut self, entry: &Entry) {
        let start = *self.start.get_or_insert(entry.at);
        self.now = entry.at.since(start);
        for event in &entry.events {
            self.fact(event);
        }
    }

    fn duty(&mut self, agent: &AgentId, what: DutyKind) {
        self.met.insert(agent.clone(), true);
        self.duties.push(Duty { at: self.now, agent: agent.clone(), what });
    }

    /// Whoever works without having signed in did so before the journal began.
    fn works(&mut self, agent: &AgentId) {
        if !self.met.contains_key(agent) {
            self.met.insert(agent.clone(), true);
            self.duties.insert(0, Duty { at: Millis(0), agent: agent.clone(), what: DutyKind::Available });
        }
    }

    /// An agent's work on a conversation is over, or interrupted.
    fn pause(&mut self, conversation: ConversationId) {
        let Some(open) = self.open.get_mut(&conversation) else { return };
        if let Some(since) = open.since.take()
            && let Some(arrival) = self.arrivals.get_mut(open.case)
        {
            arrival.handle = Millis(arrival.handle.0 + self.now.0 - since.0);
        }
    }

    fn fact(&mut self, event: &Event) {
        let now = self.now;
        let case_at = event.conversation().and_then(|id| self.open.get(&id)).map(|open| open.case);
        match event {
            Event::PolicyApplied { policy, .. } => self.policy = Company::from_policy(policy).ok(),
            Event::AgentPresenceChanged { agent, presence, .. } => {
                let what = match presence {
                    Presence::Available => DutyKind::Available,
                    Presence::Away => DutyKind::Away,
                    Presence::Offline => DutyKind::Offline,
                    _ => DutyKind::Busy,
                };
                self.duty(agent, what);
            }
            Event::AgentConnected { agent } => self.duty(agent, DutyKind::Back),
            Event::AgentDisconnected { agent, .. } => self.duty(agent, DutyKind::Gone),
            Event::ConversationOpened { conversation, customer, thread } => {
                let case = self.arrivals.len();
                let name = SmolStr::from(customer.to_string());
                let channel = SmolStr::new(thread.account.kind.as_str());
                self.arrivals.push(Arrival {
                    at: now,
                    customer: name.clone(),
                    channel: channel.clone(),
                    ..Arrival::default()
                });
                self.finished.push(false);
                self.log.cases.push(crate::Case { customer: name, channel, arrived: now, ..crate::Case::default() });
                self.open.insert(*conversation, Open { case, said: false, since: None });
            }
            Event::MessageReceived { envelope, .. } => {
                if let Some(arrival) = case_at.and_then(|case| self.arrivals.get_mut(case)) {
                    arrival.recorded.get_or_insert_with(|| envelope.clone());
                }
            }
            Event::MessageSent { conversation, .. } => {
                if let Some(open) = self.open.get_mut(conversation) {
                    open.said = true;
                }
            }
            Event::OfferAccepted { offer, .. } => {
                let reaction = self.offers.remove(offer).map(|made| (now.0 - made.0) as f64 / 1000.0);
                self.reactions.extend(reaction);
            }
            Event::OfferDeclined { .. } => self.declined += 1,
            Event::OfferExpired { .. } => self.lapsed += 1,
            Event::OfferCreated { offer, agent, .. } => {
                self.offers.insert(*offer, now);
                self.works(agent);
                if let Some(case) = case_at.and_then(|case| self.log.cases.get_mut(case)) {
                    case.offers += 1;
                    case.offered.get_or_insert(now);
                }
            }
            _ => self.course(event, case_at),
        }
    }

    /// What happens to a conversation.
    fn course(&mut self, event: &Event, case_at: Option<usize>) {
        let (now, Some(at)) = (self.now, case_at) else { return };
        let Some(case) = self.log.cases.get_mut(at) else { return };
        match event {
            Event::ConversationEnqueued { conversation, queue, reason, .. } => {
                if *reason != EnqueueReason::Opened {
                    case.requeues += 1;
                }
                if case.queue.is_empty() {
                    case.queue = SmolStr::new(queue.as_str());
                }
                case.end(now);
                self.pause(*conversation);
            }
            Event::ConversationAssigned { conversation, agent, .. }
            | Event::ConversationResumed { conversation, agent, .. } => {
                case.begin(agent.as_str(), now);
                if case.answered.is_none() {
                    case.answered = Some(now);
                    case.agent = Some(SmolStr::new(agent.as_str()));
                }
                if let Some(open) = self.open.get_mut(conversation) {
                    open.since.get_or_insert(now);
                }
                self.works(agent);
            }
            Event::ConversationParked { conversation, .. } | Event::ConversationTransferred { conversation, .. } => {
                case.end(now);
                self.pause(*conversation);
            }
            Event::ConversationWrapUpStarted { conversation, .. } => {
                self.pause(*conversation);
                self.finished(*conversation, at);
            }
            Event::ConversationClosed { conversation, .. } => {
                case.end(now);
                case.ended = Some(now);
                self.pause(*conversation);
                self.finished(*conversation, at);
                self.open.remove(conversation);
            }
            _ => {}
        }
    }

    fn finished(&mut self, conversation: ConversationId, at: usize) {
        let said = self.open.get(&conversation).is_some_and(|open| open.said);
        let (Some(case), Some(arrival)) = (self.log.cases.get_mut(at), self.arrivals.get(at)) else { return };
        if let Some(finished) = self.finished.get_mut(at) {
            *finished = true;
        }
        if !said && arrival.handle <= EMPTY_MAX {
            case.abandoned = case.abandoned.or(case.answered.take()).or(Some(self.now));
            case.agent = None;
        }
    }

    fn finish(mut self, seed: u64) -> Inferred {
        let span = Millis(self.now.0 + 1);
        self.duties.sort_by_key(|duty| duty.at);
        let mut handled: Vec<u64> =
            self.arrivals.iter().zip(&self.finished).filter(|(_, done)| **done).map(|(one, _)| one.handle.0).collect();
        handled.sort_unstable();
        let usual = handled.get(handled.len() / 2).map_or(UNKNOWN, |median| Millis(*median));
        // Patience: exponential, by its maximum likelihood where most who were answered had patience left.
        let waited = |case: &crate::Case| {
            let until = case.abandoned.or(case.answered).unwrap_or(span);
            until.0.saturating_sub(case.arrived.0) as f64 / 1000.0
        };
        let left = self.log.cases.iter().filter(|case| case.abandoned.is_some()).count();
        let mean = (left > 0).then(|| self.log.cases.iter().map(waited).sum::<f64>() / left as f64);
        for (n, (arrival, case)) in self.arrivals.iter_mut().zip(&mut self.log.cases).enumerate() {
            let lasted = waited(case);
            arrival.patience = match (case.abandoned, mean) {
                (Some(_), _) => Some(millis(lasted)),
                // What is left of it does not depend on how long somebody has waited.
                (None, Some(mean)) => Some(millis(lasted + Random::keyed(seed, &[51, n as u64]).exponential(mean))),
                (None, None) => None,
            };
            let done = self.finished.get(n).copied().unwrap_or(false);
            if !done || case.abandoned.is_some() {
                arrival.handle = arrival.handle.max(usual);
            }
            let needs = self.policy.as_ref().zip(arrival.recorded.as_ref());
            case.watched_until = span;
            case.weight = needs.map_or(25, |(policy, envelope)| policy.needs(envelope).weight);
        }
        let offers = (self.reactions.len() as u64 + self.declined + self.lapsed).max(1);
        let habits = Habits {
            declines: self.declined * 1000 / offers,
            silent: self.lapsed * 1000 / offers,
            ..reaction_habits(&mut self.reactions)
        };
        let trace = Trace { name: "journal".to_owned(), span, arrivals: self.arrivals, duties: self.duties, habits };
        let company = self.policy.clone().or_else(|| Company::from_toml("[queues.unknown]\n").ok());
        if let Some(company) = &company {
            let begun = RunLog::begin("as recorded", &trace, company);
            self.log = RunLog { cases: self.log.cases, ..begun };
        }
        Inferred { trace, recorded: self.log, policy: self.policy }
    }
}

/// How agents react: median and spread of the logarithm.
fn reaction_habits(reactions: &mut [f64]) -> Habits {
    reactions.sort_by(f64::total_cmp);
    let Some(median) = reactions.get(reactions.len() / 2).copied() else { return Habits::default() };
    let median = median.max(0.001);
    let deviations = reactions.iter().map(|reaction| (reaction.max(0.001) / median).ln().powi(2));
    let sigma = (deviations.sum::<f64>() / reactions.len() as f64).sqrt();
    Habits { answer: Millis(whole(median * 1000.0)), answer_sigma: sigma.min(2.0), ..Habits::default() }
}
