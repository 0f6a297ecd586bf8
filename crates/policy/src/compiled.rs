//! A policy made ready to be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::policy::{Policy, Queue, Requirement, Route};
use contract::{AgentId, Millis, QueueId, Timestamp};
use smol_str::{SmolStr, format_smolstr};

use crate::facts::Facts;
use crate::hours::Hours;
use crate::rule::{self, Condition, Language, Seen};
use crate::steps;

/// A policy made ready to be asked. Cheap to ask, not to make: keep it as long as the policy is in force.
#[derive(Debug, Clone)]
pub struct Compiled {
    policy: Arc<Policy>,
    /// Something depends on the language of a conversation.
    asks_language: bool,
    language: Language,
    /// As many as there are rules.
    rules: Vec<Rule>,
    /// What the queues ask, and what the rules ask of theirs: of those queues that ask for no language.
    asked: BTreeMap<QueueId, Arc<Requirement>>,
    asked_by_rule: Vec<Option<Arc<Requirement>>>,
    /// Without those that cannot be read.
    hours: BTreeMap<SmolStr, Hours>,
}

/// The condition of a rule, read.
#[derive(Debug, Clone)]
enum Rule {
    /// There is none besides channel, account, language and tag.
    Plain,
    When(Condition),
    /// It cannot be read, or there is no such queue: never fits.
    Broken,
}

/// Where a conversation goes, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The number of the rule that fits, from 0. Absent: none does.
    pub rule: Option<usize>,
    /// The rule's name, or its number.
    pub name: Option<SmolStr>,
    /// Where to.
    pub queue: QueueId,
    /// What is asked of an agent; the same one for all that ask it, wherever that can be.
    pub requirement: Arc<Requirement>,
    /// Urgency: the rule's, else the queue's.
    pub priority: i32,
    /// Served as if it had come so much earlier: the queue's and the rule's together.
    pub adjust_ms: i64,
    /// Class, for the channel's weights.
    pub class: Option<SmolStr>,
    /// Labels, for the agents' caps.
    pub labels: BTreeSet<SmolStr>,
    /// The agent who owns such conversations.
    pub owner: Option<AgentId>,
}

impl Compiled {
    /// Makes a policy ready. Never fails: what is broken is said by [`check`](fn@crate::check); a broken rule
    /// never fits and a broken calendar is always open, so that an old policy of a journal can be replayed.
    #[must_use]
    pub fn new(policy: Arc<Policy>) -> Self {
        let hours = policy
            .hours
            .iter()
            .filter_map(|(name, calendar)| Some((name.clone(), Hours::read(calendar).ok()?)))
            .collect();
        let mut language = Language::new(policy.hours.keys().cloned());
        let rules = policy
            .routes
            .iter()
            .map(|route| match &route.when {
                _ if !policy.queues.contains_key(&route.queue) => Rule::Broken,
                None => Rule::Plain,
                Some(when) => language.read(when).map_or(Rule::Broken, Rule::When),
            })
            .collect();
        // A rule that only names the word in a string is taken for one that asks: that costs time, no more.
        let asks = |route: &contract::policy::Route| {
            route.language.is_some() || route.when.as_ref().is_some_and(|when| when.contains("language"))
        };
        let asks_language =
            policy.queues.values().any(|queue| queue.language.is_some()) || policy.routes.iter().any(asks);
        let asked = policy.queues.iter().filter_map(|(id, queue)| Some((id.clone(), of_all(queue, None)?))).collect();
        let of_rule = |route: &Route| of_all(policy.queues.get(&route.queue)?, Some(route));
        let asked_by_rule = policy.routes.iter().map(of_rule).collect();
        Self { policy, asks_language, language, rules, asked, asked_by_rule, hours }
    }

    /// The policy itself.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Finds out from the text which language it is in, where nobody said and the policy asks. It takes many times
    /// as long as everything else about routing.
    pub fn complete(&self, facts: &mut Facts) {
        if facts.language.is_none() && self.asks_language {
            facts.language = crate::detect_language(&facts.text);
        }
    }

    /// The first rule that fits, else the default queue. None only without queues.
    #[must_use]
    pub fn route(&self, facts: &Facts, now: Timestamp) -> Option<Routed> {
        let seen = Seen::new(&self.language, facts, |name| self.hours.get(name).is_none_or(|hours| hours.is_open(now)));
        let mut context = None;
        let fitting = self.policy.routes.iter().zip(&self.rules).position(|(route, rule)| {
            fits_plainly(route, facts)
                && match rule {
                    Rule::Plain => true,
                    Rule::Broken => false,
                    Rule::When(condition) => rule::fits(condition, context.get_or_insert_with(|| seen.context())),
                }
        });
        self.routed(fitting, facts)
    }

    /// What a rule says, whether or not it fits; without one, the default queue. None: there is no such rule or
    /// queue.
    #[must_use]
    pub fn routed(&self, rule: Option<usize>, facts: &Facts) -> Option<Routed> {
        let route = match rule {
            Some(number) => Some(self.policy.routes.get(number)?),
            None => None,
        };
        let queue_id = match route {
            Some(route) => &route.queue,
            None => {
                let named = self.policy.default_queue().filter(|queue| self.policy.queues.contains_key(*queue));
                named.or_else(|| self.policy.queues.keys().next())?
            }
        };
        let queue = self.policy.queues.get(queue_id)?;
        let adjust_s = i64::from(queue.adjust_s) + route.map_or(0, |route| i64::from(route.adjust_s));
        Some(Routed {
            rule,
            name: route.and_then(|route| route.name.clone()).or_else(|| rule.map(|number| format_smolstr!("{number}"))),
            queue: queue_id.clone(),
            requirement: self.requirement(queue_id, rule, facts.language.as_deref()),
            priority: route.and_then(|route| route.priority).unwrap_or(queue.priority),
            adjust_ms: adjust_s * 1000,
            class: route.and_then(|route| route.class.clone()),
            labels: route.map(|route| route.labels.clone()).unwrap_or_default(),
            owner: route.and_then(|route| route.owner.clone()),
        })
    }

    /// A moment on the wall clock of a queue's hours, for people: `2026-12-24 09:00`. UTC without hours.
    #[must_use]
    pub fn local_time(&self, queue: &QueueId, at: Timestamp) -> String {
        let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
        let zone = self.hours_of(queue).map_or(jiff::tz::TimeZone::UTC, |hours| hours.zone().clone());
        at.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// The requirement of a queue, with what a rule and the conversation's language add. Of a queue that there
    /// is not: anybody.
    #[must_use]
    pub fn requirement(&self, queue: &QueueId, rule: Option<usize>, language: Option<&str>) -> Arc<Requirement> {
        let route = rule.and_then(|number| self.policy.routes.get(number));
        let known = match (rule, route) {
            (Some(rule), Some(route)) if route.queue == *queue => self.asked_by_rule.get(rule).and_then(Option::as_ref),
            (_, Some(_)) => None,
            (_, None) => self.asked.get(queue),
        };
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let queue = self.policy.queues.get(queue);
        Arc::new(queue.map(|queue| steps::requirement(queue, route, language).0).unwrap_or_default())
    }

    /// Whether a queue is open; without hours it always is.
    #[must_use]
    pub fn is_open(&self, queue: &QueueId, now: Timestamp) -> bool {
        self.hours_of(queue).is_none_or(|hours| hours.is_open(now))
    }

    /// When a queue next opens or closes. None: not within a year, or it has no hours.
    #[must_use]
    pub fn next_change(&self, queue: &QueueId, now: Timestamp) -> Option<Timestamp> {
        self.hours_of(queue)?.next_change(now)
    }

    /// When `span` of open time will have passed since `from`: the earliest such moment. None: never in sight,
    /// which is thirty years.
    #[must_use]
    pub fn open_deadline(&self, queue: &QueueId, from: Timestamp, span: Millis) -> Option<Timestamp> {
        self.hours_of(queue).map_or(Some(from + span), |hours| hours.open_deadline(from, span))
    }

    /// Open time between two moments; zero when the second is not after the first.
    #[must_use]
    pub fn open_between(&self, queue: &QueueId, from: Timestamp, to: Timestamp) -> Millis {
        self.hours_of(queue).map_or_else(|| to.since(from), |hours| hours.open_between(from, to))
    }

    fn hours_of(&self, queue: &QueueId) -> Option<&Hours> {
        self.hours.get(self.policy.queues.get(queue)?.hours.as_ref()?)
    }
}

/// What a queue asks of all that come to it, whatever they speak.
fn of_all(queue: &Queue, route: Option<&Route>) -> Option<Arc<Requirement>> {
    queue.language.is_none().then(|| Arc::new(steps::requirement(queue, route, None).0))
}

/// The conditions that need no language.
fn fits_plainly(route: &Route, facts: &Facts) -> bool {
    route.channel.as_ref().is_none_or(|channel| channel.as_str() == facts.channel)
        && route.account.as_ref().is_none_or(|account| account.as_str() == facts.account)
        && route.language.as_ref().is_none_or(|language| facts.language.as_ref() == Some(language))
        && route.tag.as_ref().is_none_or(|tag| facts.tags.contains(tag))
}
