//! What is wrong with a policy, as far as it can be seen without evaluating anything.

use std::collections::BTreeSet;

use super::{
    Affinity, AffinityMode, Agent, Channel, ClosedAction, Expr, FallbackAction, LEVEL_MAX, Level, Policy, Queue, Route,
    STEPS_MAX, Want,
};
use crate::id::{AgentId, QueueId, SkillId};
use crate::time::Millis;

/// Something wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The field, like `queues.support.skills`; numbers of lists from 0, like `routes[2].queue`.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl Problem {
    /// Something wrong with a field.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl Policy {
    /// Every reference to something that does not exist and every value out of range. An empty list does not
    /// yet mean that the policy can be applied: rules and calendars are read by the crate `policy`.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let skills = self.skills.keys().chain(self.agents.values().flat_map(|agent| agent.skills.keys()));
        let mut finder = Finder { policy: self, skills: skills.collect(), problems: Vec::new() };
        if self.queues.is_empty() {
            finder.add("queues", "at least one is needed");
        }
        finder.queue("default_queue", self.default_queue.as_ref());
        for (id, queue) in &self.queues {
            finder.queue_of(&format!("queues.{id}"), id, queue);
        }
        for (id, agent) in &self.agents {
            finder.agent_of(&format!("agents.{id}"), agent);
        }
        for (kind, channel) in &self.channels {
            finder.channel_of(&format!("channels.{kind}"), channel);
        }
        for (n, route) in self.routes.iter().enumerate() {
            finder.route_of(&format!("routes[{n}]"), route);
        }
        for (name, presence) in &self.presences {
            for reason in &presence.reasons {
                let path = format!("presences.{name}.reasons");
                finder.check(path, !reason.is_empty(), "a reason needs a name; leave reasons out to allow any");
            }
            finder.check("presences", !name.is_empty(), "a presence state needs a name");
        }
        if let Some(classifier) = &self.classifier {
            let within = (50..=5000).contains(&classifier.budget_ms.0);
            finder.check("classifier.budget_ms", within, "must be 50 to 5000: every new conversation waits that long");
        }
        finder.identity();
        finder.offers_and_timing();
        finder.contact();
        finder.problems
    }
}

struct Finder<'a> {
    policy: &'a Policy,
    /// Those that somebody has, or that are named.
    skills: BTreeSet<&'a SkillId>,
    problems: Vec<Problem>,
}

impl<'a> Finder<'a> {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn check(&mut self, path: impl Into<String>, right: bool, message: impl Into<String>) {
        if !right {
            self.add(path, message);
        }
    }

    /// References to queues.
    fn queue(&mut self, path: &str, names: impl IntoIterator<Item = &'a QueueId>) {
        for name in names {
            let message = format!("there is no queue {:?}", name.as_str());
            self.check(path, self.policy.queues.contains_key(name), message);
        }
    }

    /// References to agents.
    fn agent(&mut self, path: &str, names: impl IntoIterator<Item = &'a AgentId>) {
        for name in names {
            let message = format!("there is no agent {:?}", name.as_str());
            self.check(path, self.policy.agents.contains_key(name), message);
        }
    }

    fn percent(&mut self, path: String, percent: u8) {
        self.check(path, percent <= 100, format!("{percent} is above 100 per cent"));
    }

    fn skill(&mut self, path: &str, skill: &SkillId, level: Level) {
        let path = format!("{path}.{skill}");
        self.check(&path, level <= LEVEL_MAX, format!("level {level} is above {LEVEL_MAX}"));
        let known = self.skills.contains(skill);
        self.check(path, known, "nobody on the roster has this skill, and it is not named under skills either");
    }

    fn want(&mut self, path: &str, want: &Want) {
        let required = want.relax_after_ms.is_none_or(|after| after > Millis(0)) || want.prefer.is_some();
        self.check(path, required, "is relaxed at once and not preferred either: it asks for nothing");
        self.check(path, want.prefer != Some(0), "a weight of 0 prefers nobody");
    }

    fn expr(&mut self, path: &str, expr: &Expr) {
        match expr {
            Expr::All(parts) | Expr::Any(parts) => {
                let list = if matches!(expr, Expr::All(_)) { "all" } else { "any" };
                for (n, part) in parts.iter().enumerate() {
                    self.expr(&format!("{path}.{list}[{n}]"), part);
                }
            }
            Expr::Not(part) => self.expr(&format!("{path}.not"), part),
            Expr::Skill(test) => {
                if !self.skills.contains(&test.skill) {
                    let message = format!(
                        "nobody on the roster has the skill {:?}, and it is not named under skills either",
                        test.skill.as_str()
                    );
                    self.add(path, message);
                }
                let possible = test.min <= test.max;
                self.check(path, possible, format!("no level is at least {} and at most {}", test.min, test.max));
            }
            Expr::Attribute(test) => {
                let possible = test.min.zip(test.max).is_none_or(|(min, max)| min <= max);
                self.check(path, possible, "no number is at least `min` and at most `max`");
            }
        }
    }

    fn queue_of(&mut self, path: &str, id: &QueueId, queue: &'a Queue) {
        for (skill, level) in &queue.skills {
            self.skill(&format!("{path}.skills"), skill, *level);
        }
        for (skill, want) in &queue.wants {
            self.skill(&format!("{path}.wants"), skill, want.level);
            self.want(&format!("{path}.wants.{skill}"), want);
        }
        if let Some(want) = &queue.language {
            let message = format!("level {} is above {LEVEL_MAX}", want.level);
            self.check(format!("{path}.language.level"), want.level <= LEVEL_MAX, message);
            self.want(&format!("{path}.language"), want);
        }
        self.steps(path, queue);
        self.ways_out(path, id, queue);
        if let Some(hours) = &queue.hours {
            let known = self.policy.hours.contains_key(hours);
            self.check(format!("{path}.hours"), known, format!("there are no hours {:?}", hours.as_str()));
        }
        match &queue.service_level {
            Some(level) => {
                let path = format!("{path}.service_level");
                let target = (1..=100).contains(&level.target_percent);
                self.check(format!("{path}.target_percent"), target, "must be 1 to 100");
                let within = level.answer_within_ms > Millis(0);
                self.check(format!("{path}.answer_within_ms"), within, "nobody can be answered within 0");
            }
            None => {
                let message = "needs a service_level: that is what ends";
                self.check(format!("{path}.due_first"), !queue.due_first, message);
                self.check(format!("{path}.due_ms"), queue.due_ms.is_none(), message);
            }
        }
        let Affinity { mode, wait_ms, window_ms, .. } = &queue.affinity;
        let waits = *mode != AffinityMode::Wait || *wait_ms > Millis(0);
        self.check(format!("{path}.affinity.wait_ms"), waits, "the mode is `wait`, and 0 is no wait");
        let remembers = *mode == AffinityMode::None || *window_ms > Millis(0);
        self.check(format!("{path}.affinity.window_ms"), remembers, "0 remembers nobody; that is the mode `none`");
    }

    fn steps(&mut self, path: &str, queue: &'a Queue) {
        let count = queue.steps.len();
        self.check(format!("{path}.steps"), count <= STEPS_MAX, format!("more than {STEPS_MAX}"));
        let mut before = Millis(0);
        for (n, step) in queue.steps.iter().enumerate() {
            let path = format!("{path}.steps[{n}]");
            match step.until_ms {
                Some(until) => {
                    let message = format!(
                        "ends at {}, not after {}: times count from the beginning of the wait, not from the step before",
                        until.0, before.0
                    );
                    self.check(format!("{path}.until_ms"), until > before, message);
                    before = before.max(until);
                }
                None => self.check(&path, n + 1 == count, "never ends, so that the steps after it never begin"),
            }
            self.expr(&format!("{path}.must"), &step.must);
            for (n, preference) in step.prefer.iter().enumerate() {
                let path = format!("{path}.prefer[{n}]");
                self.expr(&format!("{path}.when"), &preference.when);
                self.check(format!("{path}.weight"), preference.weight > 0, "a weight of 0 prefers nobody");
            }
            self.queue(&format!("{path}.pool.queues"), &step.pool.queues);
            self.agent(&format!("{path}.pool.agents"), &step.pool.agents);
            let pool = &step.pool;
            let nobody = pool.only && pool.queues.is_empty() && pool.groups.is_empty() && pool.agents.is_empty();
            self.check(format!("{path}.pool.only"), !nobody, "names nobody besides, and so asks nobody at all");
        }
    }

    /// Where conversations of a queue go when it cannot serve them.
    fn ways_out(&mut self, path: &str, id: &QueueId, queue: &'a Queue) {
        let goes = queue.fallback.action == FallbackAction::Overflow;
        self.way_out(&format!("{path}.fallback"), id, goes, queue.fallback.queue.as_ref());
        let told = queue.fallback.action != FallbackAction::Message || queue.fallback.text.is_some();
        self.check(format!("{path}.fallback.text"), told, "is needed: it is what the customer is told");
        let goes = queue.closed.action == ClosedAction::Overflow;
        self.way_out(&format!("{path}.closed"), id, goes, queue.closed.queue.as_ref());
        for (n, overflow) in queue.overflow.iter().enumerate() {
            let path = format!("{path}.overflow[{n}]");
            self.queue(&format!("{path}.queue"), [&overflow.queue]);
            self.check(format!("{path}.queue"), overflow.queue != *id, "is this queue itself");
            self.percent(format!("{path}.service_level_below"), overflow.service_level_below.unwrap_or(0));
            let full = !overflow.when_full || queue.limits.waiting_max.is_some();
            self.check(
                format!("{path}.when_full"),
                full,
                "needs limits.waiting_max: without it the queue is never full",
            );
            let promised = overflow.service_level_below.is_none() || queue.service_level.is_some();
            self.check(
                format!("{path}.service_level_below"),
                promised,
                "needs a service_level: it is what is compared",
            );
        }
        let path_stale = format!("{path}.stale_queue");
        match (&queue.stale_after_ms, &queue.stale_queue) {
            (Some(_), None) => self.add(format!("{path}.stale_after_ms"), "needs stale_queue: where they go"),
            (None, Some(_)) => self.add(&path_stale, "needs stale_after_ms: after how long they go there"),
            _ => {}
        }
        self.queue(&path_stale, &queue.stale_queue);
        self.check(path_stale, queue.stale_queue.as_ref() != Some(id), "is this queue itself");
        self.queue(&format!("{path}.transfer.from"), &queue.transfer.from);
    }

    fn way_out(&mut self, path: &str, id: &QueueId, overflows: bool, to: Option<&'a QueueId>) {
        let path_queue = format!("{path}.queue");
        self.queue(&path_queue, to);
        match to {
            None => self.check(path_queue, !overflows, "is needed: where the action `overflow` takes it"),
            Some(_) if !overflows => self.add(path_queue, "is not used: the action is not `overflow`"),
            Some(to) => self.check(path_queue, to != id, "is this queue itself"),
        }
    }

    fn agent_of(&mut self, path: &str, agent: &'a Agent) {
        for (queue, membership) in agent.queues.iter() {
            let path = format!("{path}.queues");
            self.queue(&path, [queue]);
            let ranked = (1..=99).contains(&membership.rank);
            self.check(format!("{path}.{queue}.rank"), ranked, "must be 1 to 99");
            self.check(format!("{path}.{queue}.tier"), membership.tier > 0, "must be at least 1");
            let delayed = membership.delay_s <= 9999;
            self.check(format!("{path}.{queue}.delay_s"), delayed, "must be at most 9999");
        }
        for (skill, level) in &agent.skills {
            self.skill(&format!("{path}.skills"), skill, *level);
        }
    }

    fn channel_of(&mut self, path: &str, channel: &Channel) {
        let lease = channel.offer_lease_ms.is_none_or(|lease| lease >= Millis(1000));
        self.check(format!("{path}.offer_lease_ms"), lease, "less than 1000 leaves nobody time to answer");
        self.percent(format!("{path}.idle_percent"), channel.idle_percent);
        self.percent(format!("{path}.parked_percent"), channel.parked_percent);
        self.percent(format!("{path}.wrap_up_percent"), channel.wrap_up_percent);
        let (park, close) = (channel.park_after_ms, channel.close_after_ms);
        let parked = park.zip(close).is_none_or(|(park, close)| park < close);
        self.check(format!("{path}.park_after_ms"), parked, "is not before close_after_ms: it never comes to that");
    }

    fn route_of(&mut self, path: &str, route: &'a Route) {
        self.queue(&format!("{path}.queue"), [&route.queue]);
        self.agent(&format!("{path}.owner"), &route.owner);
        for (skill, level) in &route.skills {
            self.skill(&format!("{path}.skills"), skill, *level);
        }
        for (skill, want) in &route.wants {
            self.skill(&format!("{path}.wants"), skill, want.level);
            self.want(&format!("{path}.wants.{skill}"), want);
        }
        if let Some(language) = &route.language {
            let code = language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase());
            self.check(format!("{path}.language"), code, "must be two small letters, like \"de\" (ISO 639-1)");
        }
    }

    /// Countries are two letters, and what is limited is limited to something.
    fn identity(&mut self) {
        let identity = &self.policy.identity;
        let two = |region: &str| region.len() == 2 && region.bytes().all(|letter| letter.is_ascii_uppercase());
        let says = "must be a country by two capital letters (ISO 3166), like DE";
        if let Some(region) = &identity.region {
            self.check("identity.region", two(region), says);
        }
        for (account, region) in &identity.regions {
            self.check(format!("identity.regions.{account}"), two(region), says);
        }
        for (scheme, most) in &identity.most {
            self.check(format!("identity.most.{scheme}"), (1..=64).contains(most), "must be 1 to 64");
        }
        for domain in &identity.ignore_dots {
            let plain = !domain.is_empty() && !domain.contains('@');
            self.check("identity.ignore_dots", plain, "a domain is meant, like gmail.com");
        }
    }

    /// What customers are offered to go on by is few and told apart, and they are told what they need.
    fn contact(&mut self) {
        let contact = &self.policy.contact;
        self.check("contact.switch_to", contact.switch_to.len() <= 8, "at most 8 accounts");
        let mut seen = BTreeSet::new();
        for (n, way) in contact.switch_to.iter().enumerate() {
            let path = format!("contact.switch_to[{n}]");
            self.check(&path, seen.insert((&way.kind, &way.account)), "the same account stands there before");
            let told = way.address.as_ref().is_none_or(|address| {
                !address.trim().is_empty()
                    && (address.contains("{token}") || contact.switch_shown_text.contains("{token}"))
            });
            let message = "the customer needs the token: put {token} into it, or into contact.switch_shown_text";
            self.check(format!("{path}.address"), told, message);
        }
        let any = contact.switch_to.iter().any(|way| way.address.is_some());
        let whereto = !any || contact.switch_shown_text.contains("{address}");
        self.check("contact.switch_shown_text", whereto, "needs {address}, or nobody knows where to write to");
    }

    fn offers_and_timing(&mut self) {
        let offers = &self.policy.offers;
        let ramp = offers.ramp_ms == Millis(0) || (offers.ramp_max > 0 && offers.ramp_every_ms > Millis(0));
        self.check("offers.ramp_ms", ramp, "needs ramp_max and ramp_every_ms above 0, or nobody is offered anything");
        let window = offers.agent_max == 0 || offers.agent_window_ms > Millis(0);
        self.check("offers.agent_window_ms", window, "must be above 0: it is the time in which agent_max are allowed");
        let silence = self.policy.timing.agent_silence_ms >= Millis(1000);
        self.check("timing.agent_silence_ms", silence, "less than 1000 would lose agents between heartbeats");
    }
}
