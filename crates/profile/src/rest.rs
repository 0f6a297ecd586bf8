//! Customers who have been silent for long: they leave memory, and come back as they were.
//!
//! Of a customer that rests, a few bytes stay: a short fingerprint of each identity, and which entry of the key-value side
//! holds the rest. So whatever is not found in memory and has no such fingerprint is nobody's, without asking anybody, and
//! whatever has one is to be fetched before anything is decided. Fingerprints may be wrong in one direction only: somebody
//! is fetched in vain.

use std::collections::{BTreeMap, BTreeSet};

use contract::envelope::Identity;
use contract::{CustomerId, Envelope, Timestamp};
use serde::{Deserialize, Serialize};

use crate::index::CLAIMS_MAX;
use crate::resolve::stand_in;
use crate::state::{Customer, IdentityKey, State};

/// Customers that rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resting {
    /// Those under which a person goes.
    persons: BTreeMap<CustomerId, Rest>,
    /// Fingerprints of their identities, each with how it is held in its last bits, and whose.
    keys: BTreeSet<(u64, CustomerId)>,
    /// How many customers that are, with everybody merged into somebody.
    customers: u64,
}

/// A person that rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The journal record that its entry in the key-value side reflects.
    pub kept: u64,
    /// Since when it has been silent.
    pub silent_since: Timestamp,
}

/// How an identity is held: what the index of those in memory tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Verified = 0,
    Met = 1,
    Named = 2,
}

/// A person as its entry holds it: who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// It, and everybody merged into it, each as it came.
    pub customers: Vec<(CustomerId, Customer)>,
}

fn short(key: &IdentityKey, how: How) -> u64 {
    // The lower half is as good as any.
    #[expect(clippy::cast_possible_truncation, reason = "half of it is enough to be rarely wrong")]
    let half = key.fingerprint() as u64;
    (half & !3) | how as u64
}

impl Resting {
    pub(crate) fn is_empty(&self) -> bool {
        self.persons.is_empty()
    }

    /// Who may hold an identity: as many of each kind as the index of those in memory would tell.
    fn holders(&self, identity: &Identity, found: &mut BTreeSet<CustomerId>) {
        let key = IdentityKey::of(identity);
        for how in [How::Verified, How::Met, How::Named] {
            let short = short(&key, how);
            let of_key = self.keys.range((short, CustomerId(0))..=(short, CustomerId(u64::MAX)));
            found.extend(of_key.take(CLAIMS_MAX).map(|(_, customer)| *customer));
        }
    }
}

impl State {
    /// How many customers rest, and how many persons they are.
    #[must_use]
    pub fn resting(&self) -> (u64, usize) {
        (self.resting.customers, self.resting.persons.len())
    }

    /// Under whom a customer that rests goes, and where it lies; `None`: it is in memory, or nobody.
    #[must_use]
    pub fn rests(&self, customer: CustomerId) -> Option<(CustomerId, Rest)> {
        let root = self.kin.root(customer);
        self.resting.persons.get(&root).map(|rest| (root, *rest))
    }

    /// Those that rest, from a customer on, in the order of their numbers.
    pub fn resting_from(&self, from: CustomerId) -> impl Iterator<Item = (CustomerId, Rest)> + '_ {
        self.resting.persons.range(from..).map(|(customer, rest)| (*customer, *rest))
    }

    /// Who rests and may be concerned by an envelope, by who sent it. Whom its thread concerns is not the profile's.
    pub fn resting_senders(&self, envelope: &Envelope, found: &mut BTreeSet<CustomerId>) {
        if self.resting.is_empty() {
            return;
        }
        let written = std::iter::once(&envelope.sender.identity).chain(&envelope.sender.aliases);
        let mut none = true;
        for identity in written.filter_map(|identity| self.rules.1.normal(identity, Some(&envelope.account))) {
            none = false;
            self.resting.holders(&identity, found);
        }
        if none {
            self.resting.holders(&stand_in(envelope), found);
        }
    }

    /// Who rests and may have an identity, written in any way.
    pub fn resting_holders(
        &self,
        identity: &Identity,
        account: Option<&contract::envelope::Account>,
        found: &mut BTreeSet<CustomerId>,
    ) {
        if !self.resting.is_empty()
            && let Some(identity) = self.rules.1.normal(identity, account)
        {
            self.resting.holders(&identity, found);
        }
    }

    /// Persons from a customer on, of at most so many customers that are looked at, with the time since which each has
    /// been silent; and the customer to go on from, none at the end.
    #[must_use]
    pub fn silent(&self, from: CustomerId, looked_at: usize) -> (Vec<(CustomerId, Timestamp)>, Option<CustomerId>) {
        let mut ahead = self.customers.range(from..);
        let persons = ahead.by_ref().take(looked_at).filter(|(id, _)| self.kin.root(**id) == **id);
        let persons = persons.map(|(id, _)| (*id, self.silent_since(*id))).collect();
        (persons, ahead.next().map(|(id, _)| *id))
    }

    /// When a person was heard of last, as far as the profile knows: to a day.
    #[must_use]
    pub fn silent_since(&self, customer: CustomerId) -> Timestamp {
        let known = self.kin.members(customer).filter_map(|member| self.customers.get(&member));
        let heard = known.flat_map(|customer| {
            let seen = customer.identities.iter().map(|held| held.seen_at.unwrap_or(held.since));
            seen.chain([customer.created_at])
        });
        heard.max().unwrap_or_default()
    }

    /// Customers about whom a person has something to decide; they stay in memory.
    #[must_use]
    pub fn undecided(&self) -> BTreeSet<CustomerId> {
        let roots = self.suggestions.keys().map(|(one, other)| (self.kin.root(*one), self.kin.root(*other)));
        roots.filter(|(one, other)| one != other).flat_map(|(one, other)| [one, other]).collect()
    }

    /// What an entry of the key-value side holds of a person, and whom that is. `None`: it is not one that is in memory.
    #[must_use]
    pub fn kept(&self, customer: CustomerId) -> Option<Kept> {
        if self.kin.root(customer) != customer {
            return None;
        }
        let customers: Option<Vec<(CustomerId, Customer)>> =
            self.kin.members(customer).map(|member| Some((member, self.customers.get(&member)?.clone()))).collect();
        customers.map(|customers| Kept { customers })
    }

    pub(crate) fn evolve_rested(&mut self, person: CustomerId, customers: &[CustomerId], rest: Rest) {
        let mut keys = Vec::new();
        for id in customers {
            let Some(customer) = self.customers.remove(id) else { continue };
            self.resting.customers += 1;
            for held in &customer.identities {
                // What the index did not tell of it any more is not told while it rests either.
                let key = IdentityKey::of(&held.identity);
                let (verified, met, named) = self.index.how(&key, *id);
                for (how, told) in [(How::Verified, verified), (How::Met, met), (How::Named, named)] {
                    keys.extend(told.then(|| (short(&key, how), person)));
                }
            }
            for held in &customer.identities {
                self.index.forget(*id, &held.identity);
            }
        }
        self.index.shrink();
        self.resting.keys.extend(keys);
        self.resting.persons.insert(person, rest);
    }

    pub(crate) fn evolve_recalled(&mut self, person: CustomerId, kept: Kept) {
        if self.resting.persons.remove(&person).is_none() {
            return;
        }
        for (id, customer) in kept.customers {
            self.resting.customers = self.resting.customers.saturating_sub(1);
            for (at, held) in customer.identities.iter().enumerate() {
                let key = IdentityKey::of(&held.identity);
                for how in [How::Verified, How::Met, How::Named] {
                    self.resting.keys.remove(&(short(&key, how), person));
                }
                self.index.insert(id, at, &held.identity, held.assurance);
            }
            self.customers.insert(id, customer);
        }
    }
}
