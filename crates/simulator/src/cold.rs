//! Customers who have been silent leave the process and lie in a store of their own, as the router lets them; whoever is
//! named comes back before it is decided.

use std::collections::{BTreeMap, BTreeSet};

use contract::journal::Cause;
use contract::{CustomerId, Encoding, Envelope, Event, Millis, Timestamp};
use engine::{State, Step};

use crate::machine::Process;

/// How long a customer is silent before it leaves: worlds are short.
const SILENT: Millis = Millis::from_secs(120);
/// How many leave at once.
const LEAVE_MAX: usize = 50;

/// What is known of those who left; outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Kept(BTreeMap<(CustomerId, u64), (String, String)>);

fn text<T: serde::Serialize>(value: &T) -> Option<String> {
    String::from_utf8(Encoding::Json.encode(value).ok()?).ok()
}

impl Process {
    fn fact(&mut self, at: Timestamp, fact: Event) -> Step {
        let mut step = self.engine.open_step(at, Cause::Notice);
        self.profile.evolve(step.at, &fact);
        self.engine.adopt(&mut step, fact);
        self.engine.finish(&mut step);
        step
    }

    /// The next who leaves, if anybody is to: what is known of it is written first. `name` names the entry.
    pub(crate) fn rest_one(&mut self, at: Timestamp, name: u64, kept: &mut Kept) -> Option<Step> {
        let undecided = self.profile.undecided();
        let (persons, _) = self.profile.silent(CustomerId(0), usize::MAX);
        let (person, silent_since) = persons.into_iter().find_map(|(person, since)| {
            let ended = self.engine.nothing_open(person).filter(|_| !undecided.contains(&person))?;
            let since = since.max(ended);
            (since + SILENT <= at).then_some((person, since))
        })?;
        let entry = (text(&self.profile.kept(person)?)?, text(&self.engine.kept(person))?);
        kept.0.insert((person, name), entry);
        let customers = self.profile.kin().members(person).collect();
        Some(self.fact(at, Event::CustomerRested { customer: person, customers, kept: name, silent_since }))
    }

    /// How many leave at once.
    pub(crate) const fn leave_max() -> usize {
        LEAVE_MAX
    }

    /// Who an envelope names comes back.
    pub(crate) fn recall(&mut self, at: Timestamp, envelope: &Envelope, kept: &Kept) -> Vec<Step> {
        let mut named = BTreeSet::new();
        self.engine.resting_on_thread(envelope, &mut named);
        if State::needs_customer(envelope) {
            let (policy, version) = self.engine.policy();
            self.profile.follow(version, &policy.identity);
            self.profile.resting_senders(envelope, &mut named);
        }
        let mut steps = Vec::new();
        for person in named {
            let Some((person, rest)) = self.profile.rests(person) else { continue };
            let Some((profile, routing)) = kept.0.get(&(person, rest.kept)).cloned() else { continue };
            let customers = self.profile.kin().members(person).collect();
            let fact = Event::CustomerRecalled { customer: person, customers, kept: rest.kept, profile, routing };
            steps.push(self.fact(at, fact));
        }
        steps
    }
}
