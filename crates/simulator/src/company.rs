//! The company that is simulated: its policy, its roster and what its customers' messages ask for.
//!
//! The one place that makes policies, always from the TOML that operators write, and that looks into
//! one, always by the names of that TOML: the structs behind it may change without this crate noticing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use contract::command::AdminCommand;
use contract::journal::{Cause, Fingerprint};
use contract::policy::Policy;
use contract::{AgentId, CustomerId, Envelope, Millis, SmolStr, TenantId, Timestamp};
use engine::{CommandInput, State};
use serde_json::Value;

/// A policy with what the world must know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Company {
    text: Arc<str>,
    policy: Arc<Policy>,
    workers: Vec<Worker>,
}

/// An agent as the policy describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Who.
    pub agent: AgentId,
    /// The queues that the agent works.
    pub queues: BTreeSet<SmolStr>,
    /// Abilities with their level.
    pub skills: BTreeMap<SmolStr, u64>,
    /// How much the agent can hold.
    pub capacity: u64,
}

/// What a conversation asks for, as the policy in force decided it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Where it waits.
    pub queue: SmolStr,
    /// Skills with the least level.
    pub skills: BTreeMap<SmolStr, u64>,
    /// Urgency; higher goes first.
    pub priority: i32,
    /// What it takes of an agent's capacity.
    pub weight: u64,
    /// How long an offer of it stands.
    pub lease: Millis,
}

/// What a generated team and its queues are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Change {
    /// As it should be.
    #[default]
    None,
    /// Everybody holds half of what they used to.
    HalfCapacity,
    /// The second agent is gone.
    WithoutAgent,
    /// The queue `sales` is gone.
    WithoutSales,
    /// No work after conversations.
    WithoutWrapUp,
}

/// What agents of a team are like, in turn: queues, skills, capacity.
const KINDS: &[(&str, &str, u32)] = &[
    (r#""support""#, r#""lang:de" = 8, "lang:en" = 5"#, 100),
    (r#""support", "billing""#, r#""lang:en" = 9, billing = 5"#, 75),
    (r#""support", "sales""#, r#""lang:de" = 5, "lang:en" = 5, sales = 4"#, 100),
    (r#""sales""#, r#""lang:en" = 5, sales = 9"#, 100),
    (r#""support", "sales", "billing""#, r#""lang:de" = 4, "lang:en" = 4, sales = 3, billing = 3"#, 50),
    (r#""support""#, r#""lang:en" = 3"#, 50),
];

const NAMES: &[&str] = &["anna", "ben", "cara", "dora", "emil", "fay"];

pub(crate) fn tenant() -> Option<TenantId> {
    TenantId::new("main").ok()
}

/// The policy of a team of so many agents.
pub(crate) fn team_text(agents: u32, change: Change) -> String {
    let sales = change != Change::WithoutSales;
    let mut text = String::from("default_queue = \"support\"\nroutes = [\n");
    if sales {
        text.push_str("  { tag = \"buy\", queue = \"sales\" },\n");
    }
    text.push_str("  { tag = \"bill\", queue = \"billing\" },\n");
    text.push_str("  { language = \"de\", queue = \"support\", skills = { \"lang:de\" = 4 } },\n]\n");
    let wrap_up = if change == Change::WithoutWrapUp { 0 } else { 15_000 };
    let _ = writeln!(text, "timing = {{ wrap_up_ms = {wrap_up} }}\n[queues.support]\n[queues.billing]");
    text.push_str("skills = { billing = 2 }\n");
    if sales {
        text.push_str("[queues.sales]\nskills = { sales = 3 }\npriority = 1\n");
    }
    // They are asked for even while nobody who has them is there.
    text.push_str("[skills]\nbilling = \"Billing\"\nsales = \"Sales\"\n\"lang:de\" = \"German\"\n");
    text.push_str("[channels.chat]\ncapacity_weight = 25\noffer_lease_ms = 30000\n");
    text.push_str("[channels.email]\ncapacity_weight = 25\noffer_lease_ms = 60000\n");
    text.push_str("[channels.phone]\ncapacity_weight = 50\noffer_lease_ms = 20000\n");
    for number in 0..agents {
        if change == Change::WithoutAgent && number == 1 {
            continue;
        }
        let at = usize::try_from(number).unwrap_or_default();
        let Some((queues, skills, capacity)) = KINDS.get(at % KINDS.len()) else { continue };
        let queues = if sales { (*queues).to_owned() } else { queues.replace(", \"sales\"", "") };
        let queues = if sales { queues } else { queues.replace("\"sales\"", "\"support\"") };
        let capacity = if change == Change::HalfCapacity { capacity / 2 } else { *capacity };
        let name = NAMES.get(at).map_or_else(|| format!("agent{number:03}"), |name| (*name).to_owned());
        let _ = writeln!(text, "[agents.{name}]\nqueues = [{queues}]\nskills = {{ {skills} }}\ncapacity = {capacity}");
    }
    text
}

impl Company {
    /// Reads a policy.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let policy: Policy = toml::from_str(text).map_err(|error| error.to_string())?;
        Self::new(text.to_owned(), policy)
    }

    /// Takes a policy that was read elsewhere.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn from_policy(policy: &Policy) -> Result<Self, String> {
        let text = toml::to_string(policy).map_err(|error| error.to_string())?;
        Self::new(text, policy.clone())
    }

    /// A team of so many agents with three queues and three channels.
    ///
    /// # Errors
    /// When the policy that is generated cannot be applied, which is a mistake of this crate.
    pub fn team(agents: u32) -> Result<Self, String> {
        Self::from_toml(&team_text(agents, Change::None))
    }

    fn new(text: String, policy: Policy) -> Result<Self, String> {
        let problems: Vec<String> = policy::check(&policy).problems.iter().map(ToString::to_string).collect();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let value = serde_json::to_value(&policy).map_err(|error| error.to_string())?;
        let agents = value.get("agents").and_then(Value::as_object).into_iter().flatten();
        let workers = agents.filter_map(|(name, agent)| worker(name, agent)).collect();
        Ok(Self { text: text.into(), policy: Arc::new(policy), workers })
    }

    /// The policy as TOML.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The agents, by name.
    #[must_use]
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// How long the work after a conversation takes where the queue does not say.
    pub(crate) fn wrap_up(&self) -> Millis {
        let policy = serde_json::to_value(&*self.policy).unwrap_or_default();
        let span = policy.get("timing").and_then(|timing| timing.get("wrap_up_ms")).and_then(Value::as_u64);
        Millis(span.unwrap_or_default())
    }

    /// The command that puts the policy into force.
    pub(crate) fn command(&self) -> AdminCommand {
        AdminCommand::PolicyApply { policy: Box::new(Policy::clone(&self.policy)), waiting: false }
    }

    /// Policies that are simpler by one thing: an agent, a queue, a route, a channel or a section.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        let Ok(table) = toml::from_str::<toml::Table>(&self.text) else { return Vec::new() };
        let mut simpler = Vec::new();
        for (name, section) in &table {
            let mut without = table.clone();
            without.remove(name);
            simpler.push(without);
            let keys: Vec<String> =
                section.as_table().map(|section| section.keys().cloned().collect()).unwrap_or_default();
            for key in keys {
                let mut without = table.clone();
                if let Some(section) = without.get_mut(name).and_then(toml::Value::as_table_mut) {
                    section.remove(&key);
                    simpler.push(without);
                }
            }
        }
        simpler.iter().filter_map(|table| Self::from_toml(&toml::to_string(table).ok()?).ok()).collect()
    }

    /// What a message asks for when it opens a conversation: the engine itself is asked, in a state in
    /// which nobody works.
    #[must_use]
    pub fn needs(&self, envelope: &Envelope) -> Needs {
        let mut scratch = State::new();
        let command = CommandInput::Admin { id: SmolStr::new_static("policy"), command: self.command() };
        scratch.command(Timestamp(1), command);
        let cause = Cause::Envelope(Fingerprint(envelope.fingerprint()));
        let mut step = scratch.open_step(Timestamp(1), cause);
        scratch.receive(&mut step, Some(CustomerId(1)), envelope.clone());
        scratch.conversations().next().map(|(_, conversation)| needs(conversation)).unwrap_or_default()
    }
}

/// How long an agent's tool may be silent, by the policy in force.
pub(crate) fn silence(engine: &State) -> Millis {
    engine.policy().0.timing.agent_silence_ms
}

/// The queues of the policy in force.
pub(crate) fn queues(engine: &State) -> Vec<SmolStr> {
    engine.policy().0.queues.keys().map(|queue| SmolStr::new(queue.as_str())).collect()
}

/// What a conversation asks for.
pub(crate) fn needs(conversation: &engine::Conversation) -> Needs {
    // What is asked for at last: the peers know no steps.
    let last = conversation.requirement.steps.last().map(|step| policy::expr::required_skills(&step.must));
    let skills = last.into_iter().flatten().map(|(skill, level)| (SmolStr::new(skill.as_str()), u64::from(level)));
    Needs {
        queue: conversation.queue.as_ref().map(|queue| SmolStr::new(queue.as_str())).unwrap_or_default(),
        skills: skills.collect(),
        priority: conversation.priority,
        weight: u64::from(conversation.terms.weight),
        lease: conversation.terms.lease_ms,
    }
}

fn levels(value: Option<&Value>) -> BTreeMap<SmolStr, u64> {
    let levels = value.and_then(Value::as_object).into_iter().flatten();
    levels.filter_map(|(skill, level)| Some((SmolStr::new(skill), level.as_u64()?))).collect()
}

/// An agent's table. Its queues are a list of names, or a table with a name for a key.
fn worker(name: &str, agent: &Value) -> Option<Worker> {
    let queues = match agent.get("queues") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(SmolStr::new).collect(),
        Some(Value::Object(table)) => table.keys().map(SmolStr::new).collect(),
        _ => BTreeSet::new(),
    };
    let capacity = agent.get("capacity").and_then(Value::as_u64).unwrap_or(100);
    Some(Worker { agent: AgentId::new(name).ok()?, queues, skills: levels(agent.get("skills")), capacity })
}

impl Worker {
    /// Whether the agent could ever take such a conversation.
    #[must_use]
    pub fn able(&self, needs: &Needs) -> bool {
        self.queues.contains(&needs.queue)
            && needs.skills.iter().all(|(skill, level)| self.skills.get(skill).is_some_and(|has| has >= level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_have_policies_that_can_be_applied() {
        let changes =
            [Change::None, Change::HalfCapacity, Change::WithoutAgent, Change::WithoutSales, Change::WithoutWrapUp];
        for change in changes {
            let company = Company::from_toml(&team_text(9, change)).unwrap();
            assert_eq!(company.workers().len(), if change == Change::WithoutAgent { 8 } else { 9 });
            assert!(company.workers().iter().all(|worker| !worker.queues.is_empty() && worker.capacity > 0));
        }
    }

    #[test]
    fn policies_can_be_made_simpler() {
        let company = Company::team(3).unwrap();
        let simpler = company.simpler();
        assert!(simpler.iter().any(|simpler| simpler.workers().len() == 2));
        assert!(simpler.iter().all(|simpler| simpler != &company));
    }

    #[test]
    fn the_engine_says_what_a_message_needs() {
        let company = Company::team(3).unwrap();
        let arrival = crate::trace::Arrival {
            language: Some("de".into()),
            channel: "phone".into(),
            ..crate::trace::Arrival::new(Millis(0), "ann")
        };
        let needs = company.needs(&arrival.envelope("k", Timestamp(1)));
        assert_eq!((needs.queue.as_str(), needs.weight, needs.lease), ("support", 50, Millis(20_000)));
        assert_eq!(needs.skills.get("lang:de"), Some(&4));
        assert_eq!(company.workers().iter().filter(|worker| worker.able(&needs)).count(), 2);
    }
}
