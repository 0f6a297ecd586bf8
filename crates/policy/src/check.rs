//! Everything that is wrong with a policy: what the contract sees in the data alone, and what takes reading
//! rules and calendars or going through the roster.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::POLICY_BYTES_MAX;
use contract::policy::{
    AffinityMode, Agent, CapacityPool, Closed, ClosedAction, Fallback, FallbackAction, Order, Policy, Pool, Problem,
    Queue, Reopen, Route, STEPS_MAX, Step,
};
use contract::time::Millis;
use contract::{AgentId, ChannelKind, Encoding, QueueId};
use smol_str::SmolStr;

use crate::expr;
use crate::hours::Hours;
use crate::rule::Language;
use crate::steps;

/// What is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// It cannot be applied because of these.
    pub problems: Vec<Problem>,
    /// It can be applied, and will hardly do what is meant.
    pub warnings: Vec<Problem>,
}

impl Report {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem::new(path, message));
    }
}

/// Everything that is wrong with a policy.
#[must_use]
pub fn check(policy: &Policy) -> Report {
    let mut report = Report { problems: policy.problems(), warnings: Vec::new() };
    size(policy, &mut report);
    calendars(policy, &mut report);
    rules(policy, &mut report);
    for (id, queue) in &policy.queues {
        of_queue(policy, id, queue, &mut report);
    }
    requirements(policy, &mut report);
    circles(policy, &mut report);
    roster(policy, &mut report);
    weights(policy, &mut report);
    silence(policy, &mut report);
    report
}

/// A policy is one fact, which has to fit into one record of the journal.
fn size(policy: &Policy, report: &mut Report) {
    let bytes = Encoding::Json.encode(policy).map_or(0, |json| json.len());
    if bytes > POLICY_BYTES_MAX {
        let message = format!(
            "the policy takes {bytes} bytes as JSON, at most {POLICY_BYTES_MAX} fit: it names {} agents; give what many \
             have alike to the queues, or spread the agents over several tenants",
            policy.agents.len()
        );
        report.problem("agents", message);
    }
}

// === customers ===

/// Whoever is forgotten too soon is lost to what the rest of the policy wants to know of them.
fn silence(policy: &Policy, report: &mut Report) {
    let after = policy.identity.forget_after_ms;
    if after.0 == 0 {
        return;
    }
    if after < Millis::from_secs(24 * 3600) {
        report.warn("identity.forget_after_ms", "customers are forgotten for good after less than a day of silence");
    }
    for (id, queue) in policy.queues.iter().filter(|(_, queue)| queue.affinity.mode != AffinityMode::None) {
        if queue.affinity.window_ms > after {
            let message = "is longer than customers are remembered (identity.forget_after_ms)";
            report.warn(format!("queues.{id}.affinity.window_ms"), message);
        }
    }
    for (kind, channel) in &policy.channels {
        if matches!(channel.reopen, Reopen::WithinMs(span) if span > after) {
            let message = "is longer than customers are remembered (identity.forget_after_ms)";
            report.warn(format!("channels.{kind}.reopen"), message);
        }
    }
}

// === calendars and rules ===

fn calendars(policy: &Policy, report: &mut Report) {
    for (name, calendar) in &policy.hours {
        let path = format!("hours.{name}");
        match Hours::read(calendar) {
            Ok(hours) if hours.never() => report.warn(path, "is never open"),
            Ok(_) => {}
            Err(problems) => report.problems.extend(
                problems.into_iter().map(|problem| Problem::new(format!("{path}.{}", problem.path), problem.message)),
            ),
        }
    }
}

fn rules(policy: &Policy, report: &mut Report) {
    let mut language = Language::new(policy.hours.keys().cloned());
    let mut always = Vec::new();
    for (n, route) in policy.routes.iter().enumerate() {
        let read = route.when.as_ref().map(|when| language.read(when));
        always.push(match &read {
            None => true,
            Some(Ok(condition)) => condition.is_always(),
            Some(Err(_)) => false,
        });
        if let Some(Err(messages)) = read {
            for message in messages {
                report.problem(format!("routes[{n}].when"), message);
            }
        }
        let before = policy.routes.iter().zip(&always).take(n).position(|(before, always)| {
            (*always || (before.when.is_some() && before.when == route.when)) && asks_no_more(before, route)
        });
        if let Some(before) = before {
            let name = policy.routes.get(before).and_then(|route| route.name.as_deref());
            let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
            report.warn(
                format!("routes[{n}]"),
                format!("is never reached: routes[{before}]{name} fits whatever fits it"),
            );
        }
        let weighs =
            |class: &SmolStr| policy.channels.values().any(|channel| channel.class_weights.contains_key(class));
        if let Some(class) = route.class.as_ref().filter(|class| !weighs(class)) {
            let message = format!("no channel has a weight for the class {class:?}");
            report.warn(format!("routes[{n}].class"), message);
        }
    }
}

/// Whether whatever meets the plain conditions of one rule meets those of another.
fn asks_no_more(one: &Route, other: &Route) -> bool {
    (one.channel.is_none() || one.channel == other.channel)
        && (one.account.is_none() || one.account == other.account)
        && (one.language.is_none() || one.language == other.language)
        && (one.tag.is_none() || one.tag == other.tag)
}

// === queues ===

fn of_queue(policy: &Policy, id: &QueueId, queue: &Queue, report: &mut Report) {
    let path = format!("queues.{id}");
    if let Some(last) = queue.steps.last()
        && last.until_ms.is_some()
        && queue.fallback == Fallback::default()
    {
        let path = format!("{path}.steps[{}].until_ms", queue.steps.len() - 1);
        report.warn(path, "nothing follows: it goes on waiting and raises an alarm; leave it out, or add a fallback");
    }
    let limits = &queue.limits;
    let ends = queue.steps.last().is_some_and(|last| last.until_ms.is_some())
        || limits.wait_max_ms.is_some()
        || limits.wait_without_agents_max_ms.is_some()
        || policy.offers.conversation_max > 0;
    if queue.fallback.action != FallbackAction::Hold && !ends {
        let message = "is never taken: the last step has no until_ms, and neither limits.wait_max_ms nor \
                       offers.conversation_max is given";
        report.warn(format!("{path}.fallback"), message);
    }
    if queue.hours.is_none() && queue.closed != Closed::default() {
        report.warn(format!("{path}.closed"), "never happens: the queue has no hours");
    }
    if queue.closed.action == ClosedAction::Refuse && queue.closed.text.is_none() {
        report.warn(format!("{path}.closed.text"), "customers are turned away without a word");
    }
    for (n, overflow) in queue.overflow.iter().enumerate() {
        let conditions = overflow.expected_wait_over_ms.is_some()
            || overflow.service_level_below.is_some()
            || overflow.idle_agents_min.is_some()
            || overflow.when_full
            || overflow.after_ms > Millis(0);
        if !conditions {
            report.warn(format!("{path}.overflow[{n}]"), "has no condition: everything goes there at once");
        }
    }
    if queue.order == Order::Strict {
        for (field, given) in [("priority_ms", queue.priority_ms.is_some()), ("due_ms", queue.due_ms.is_some())] {
            if given {
                report.warn(format!("{path}.{field}"), "counts only where the order is `aged`");
            }
        }
    }
    let starving = match (queue.order, queue.due_first) {
        (Order::Strict, _) => Some("order"),
        (Order::Aged, true) => Some("due_first"),
        (Order::Aged, false) => None,
    };
    let priorities = priorities(policy, id, queue);
    if let Some(field) = starving.filter(|_| priorities.len() > 1) {
        let list = priorities.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("with the priorities {list}, conversations of a low one can wait for ever");
        report.warn(format!("{path}.{field}"), message);
    }
    if queue.language.is_some() {
        let spoken = |agent: &Agent| agent.skills.keys().any(|skill| skill.as_str().starts_with("lang:"));
        if !members(policy, id).any(|(_, agent)| spoken(agent)) {
            report.warn(format!("{path}.language"), "nobody who works the queue has a skill like \"lang:de\"");
        }
    }
    for (n, step) in queue.steps.iter().enumerate() {
        for group in &step.pool.groups {
            if !policy.agents.values().any(|agent| agent.groups.contains(group)) {
                report.warn(format!("{path}.steps[{n}].pool.groups"), format!("nobody is of the group {group:?}"));
            }
        }
    }
}

/// The priorities that conversations of a queue can have.
fn priorities(policy: &Policy, id: &QueueId, queue: &Queue) -> BTreeSet<i32> {
    let given = policy.routes.iter().filter(|route| route.queue == *id).filter_map(|route| route.priority);
    let base: BTreeSet<i32> = given.chain([queue.priority]).collect();
    let boosts: BTreeSet<i32> = queue.steps.iter().map(|step| step.boost).chain([0]).collect();
    base.iter().flat_map(|base| boosts.iter().map(|boost| base.saturating_add(*boost))).collect()
}

// === requirements, against the roster ===

/// Who works a queue.
fn members<'a>(policy: &'a Policy, queue: &'a QueueId) -> impl Iterator<Item = (&'a AgentId, &'a Agent)> {
    policy.agents.iter().filter(move |(_, agent)| agent.queues.contains_key(queue))
}

/// Whether an agent is asked in a step of a queue.
fn is_asked(queue: &QueueId, pool: &Pool, id: &AgentId, agent: &Agent) -> bool {
    let own = agent.queues.get(queue).filter(|_| !pool.only);
    own.is_some_and(|own| pool.tier_max.is_none_or(|tier| own.tier <= tier))
        || pool.queues.iter().any(|queue| agent.queues.contains_key(queue))
        || pool.groups.iter().any(|group| agent.groups.contains(group))
        || pool.agents.contains(id)
}

/// Who is asked in a step and satisfies it, whatever room they have.
fn eligible<'a>(policy: &'a Policy, queue: &QueueId, step: &Step) -> BTreeSet<&'a AgentId> {
    let asked = policy.agents.iter().filter(|(id, agent)| is_asked(queue, &step.pool, id, agent));
    asked.filter(|(_, agent)| expr::holds(&step.must, agent)).map(|(id, _)| id).collect()
}

fn requirements(policy: &Policy, report: &mut Report) {
    let mut impossible: BTreeMap<&QueueId, BTreeSet<String>> = BTreeMap::new();
    for (id, queue) in &policy.queues {
        let path = format!("queues.{id}");
        narrowing(policy, id, queue, report);
        let found = unsatisfied(policy, id, queue, None, None, &path, report);
        for (step, message) in &found {
            let step = explicit(queue, *step).map(|n| format!(".steps[{n}]")).unwrap_or_default();
            report.warn(format!("{path}{step}"), message.clone());
        }
        impossible.insert(id, found.into_iter().map(|(_, message)| message).collect());
    }
    for (n, route) in policy.routes.iter().enumerate() {
        let Some(queue) = policy.queues.get(&route.queue) else { continue };
        let language = route.language.as_deref();
        let adds =
            !route.skills.is_empty() || !route.wants.is_empty() || (queue.language.is_some() && language.is_some());
        if !adds {
            continue;
        }
        let path = format!("routes[{n}]");
        for (_, message) in unsatisfied(policy, &route.queue, queue, Some(route), language, &path, report) {
            // What the queue asks by itself was said there.
            if !impossible.get(&route.queue).is_some_and(|said| said.contains(&message)) {
                report.warn(&path, message);
            }
        }
    }
}

/// The steps of a requirement that nobody on the roster satisfies: when each begins, and what is to be said.
fn unsatisfied(
    policy: &Policy,
    id: &QueueId,
    queue: &Queue,
    route: Option<&Route>,
    language: Option<&str>,
    path: &str,
    report: &mut Report,
) -> Vec<(Millis, String)> {
    let (requirement, merged) = steps::requirement(queue, route, language);
    if merged {
        let message = format!("steps and relaxed wants together make more than {STEPS_MAX} steps");
        report.problem(path, message);
    }
    let mut found = Vec::new();
    let mut from = Millis(0);
    for (n, step) in requirement.steps.iter().enumerate() {
        let asked = policy.agents.iter().filter(|(agent_id, agent)| is_asked(id, &step.pool, agent_id, agent));
        // That nobody is asked at all is said of the queue.
        if asked.count() > 0 && eligible(policy, id, step).is_empty() {
            let when = if from == Millis(0) { String::new() } else { format!(", from {} ms on", from.0) };
            let must = expr::describe(&step.must);
            found.push((from, format!("step {n} of queue {id}{when}: nobody on the roster who is asked has {must}")));
        }
        from = step.until_ms.unwrap_or(from);
    }
    found
}

/// The number of the step in the file that is in force at a moment of the wait.
fn explicit(queue: &Queue, at: Millis) -> Option<usize> {
    queue.steps.iter().position(|step| step.until_ms.is_none_or(|until| until > at))
}

/// Whom a step asks is asked in the next one too, unless that says that it narrows.
fn narrowing(policy: &Policy, id: &QueueId, queue: &Queue, report: &mut Report) {
    for (n, pair) in queue.steps.windows(2).enumerate() {
        let [before, after] = pair else { continue };
        let left: Vec<_> = eligible(policy, id, before)
            .difference(&eligible(policy, id, after))
            .map(|id| id.as_str().to_owned())
            .collect();
        if !left.is_empty() && !after.narrows {
            let message = format!("no longer asks {}; when that is meant, say narrows = true", left.join(", "));
            report.problem(format!("queues.{id}.steps[{}]", n + 1), message);
        }
    }
}

// === circles ===

fn circles(policy: &Policy, report: &mut Report) {
    let fallback = |queue: &Queue| match queue.fallback.action {
        FallbackAction::Overflow => queue.fallback.queue.iter().cloned().collect(),
        _ => Vec::new(),
    };
    let closed = |queue: &Queue| match queue.closed.action {
        ClosedAction::Overflow => queue.closed.queue.iter().cloned().collect(),
        _ => Vec::new(),
    };
    let overflow = |queue: &Queue| queue.overflow.iter().map(|overflow| overflow.queue.clone()).collect();
    for (queue, circle) in circles_of(policy, &fallback) {
        let message = format!("goes round in a circle: {circle}");
        report.problem(format!("queues.{queue}.fallback.queue"), message);
    }
    for (queue, circle) in circles_of(policy, &closed) {
        let message = format!("goes round in a circle when all are closed: {circle}");
        report.problem(format!("queues.{queue}.closed.queue"), message);
    }
    for (queue, circle) in circles_of(policy, &overflow) {
        let message = format!("goes round in a circle when all are busy: {circle}");
        report.warn(format!("queues.{queue}.overflow"), message);
    }
}

/// Circles of two queues or more, each once, told from its first queue by name.
fn circles_of(policy: &Policy, next: &dyn Fn(&Queue) -> Vec<QueueId>) -> Vec<(QueueId, String)> {
    let mut found = Vec::new();
    for start in policy.queues.keys() {
        // The shortest way back to the start over queues that come after it by name.
        let mut ways: Vec<Vec<QueueId>> = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        let mut at = 0;
        while let Some(way) = ways.get(at).cloned() {
            at += 1;
            let Some(queue) = way.last().and_then(|last| policy.queues.get(last)) else { continue };
            for to in next(queue) {
                if to == *start && way.len() > 1 {
                    let names: Vec<_> = way.iter().chain([start]).map(QueueId::as_str).collect();
                    found.push((start.clone(), names.join(" > ")));
                    ways.clear();
                    break;
                }
                if to > *start && seen.insert(to.clone()) {
                    ways.push(way.iter().cloned().chain([to]).collect());
                }
            }
        }
    }
    found
}

// === the roster ===

fn roster(policy: &Policy, report: &mut Report) {
    for (id, queue) in &policy.queues {
        let pools = || queue.steps.iter().map(|step| &step.pool);
        let asked = policy.agents.iter().any(|(agent_id, agent)| {
            agent.queues.contains_key(id) || pools().any(|pool| is_asked(id, pool, agent_id, agent))
        });
        if !asked {
            report.warn(format!("queues.{id}"), "nobody works it");
        }
    }
    let pools = || policy.queues.values().flat_map(|queue| &queue.steps).map(|step| &step.pool);
    for (id, agent) in &policy.agents {
        let named = pools()
            .any(|pool| pool.agents.contains(id) || pool.groups.iter().any(|group| agent.groups.contains(group)));
        if agent.queues.is_empty() && !named && !agent.supervisor {
            report.warn(format!("agents.{id}.queues"), "works no queue");
        }
        if agent.capacity == 0 && agent.interruptible_capacity.unwrap_or(0) == 0 {
            report.warn(format!("agents.{id}.capacity"), "0 holds nothing");
        }
        for label in agent.caps.labels.keys() {
            if !policy.routes.iter().any(|route| route.labels.contains(label)) {
                report.warn(format!("agents.{id}.caps.labels.{label}"), format!("no rule gives the label {label:?}"));
            }
        }
    }
    let calls = |kind: &Option<ChannelKind>| kind.as_ref().is_some_and(|kind| kind.as_str() == "voice");
    for (n, route) in policy.routes.iter().enumerate().filter(|(_, route)| calls(&route.channel)) {
        let mut asked = members(policy, &route.queue).peekable();
        if asked.peek().is_some() && asked.all(|(_, agent)| agent.phone.is_none()) {
            let message =
                format!("nobody who works the queue {} has a phone: callers are put through to nobody", route.queue);
            report.warn(format!("routes[{n}]"), message);
        }
    }
    let accepts = policy.agents.values().any(|agent| agent.auto_accept);
    for (kind, channel) in &policy.channels {
        if channel.auto_accept && !accepts {
            report.warn(format!("channels.{kind}.auto_accept"), "nobody on the roster has auto_accept");
        }
    }
}

/// Conversations that weigh more than anybody can hold.
fn weights(policy: &Policy, report: &mut Report) {
    let most = |pool: CapacityPool, agents: &mut dyn Iterator<Item = &Agent>| {
        let of = |agent: &Agent| match pool {
            CapacityPool::Primary => agent.capacity,
            CapacityPool::Interruptible => agent.interruptible_capacity.unwrap_or(agent.capacity),
        };
        agents.map(of).max()
    };
    for (kind, channel) in &policy.channels {
        let Some(most) = most(channel.pool, &mut policy.agents.values()) else { continue };
        let plain = ("capacity_weight".to_owned(), channel.weight(kind, None));
        let classes = channel.class_weights.iter().map(|(class, weight)| (format!("class_weights.{class}"), *weight));
        for (field, weight) in std::iter::once(plain).chain(classes).filter(|(_, weight)| *weight > most) {
            let message = format!("{weight} is more than anybody can hold; the most is {most}");
            report.warn(format!("channels.{kind}.{field}"), message);
        }
    }
    for (n, route) in policy.routes.iter().enumerate() {
        let Some(kind) = &route.channel else { continue };
        let channel = policy.channel(kind);
        let weight = channel.weight(kind, route.class.as_deref());
        let everybody = most(channel.pool, &mut policy.agents.values());
        let most = most(channel.pool, &mut members(policy, &route.queue).map(|(_, agent)| agent));
        // Heavier than for the whole roster is said of the channel.
        if most.is_some_and(|most| weight > most) && everybody.is_some_and(|everybody| weight <= everybody) {
            let message = format!(
                "{kind} weighs {weight}, more than anybody who works the queue {} can hold; the most is {}",
                route.queue,
                most.unwrap_or(0)
            );
            report.warn(format!("routes[{n}]"), message);
        }
    }
}
