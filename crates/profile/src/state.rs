//! Customers and their identities.

use std::collections::{BTreeMap, BTreeSet};

use contract::answer::Held;
use contract::envelope::{Account, Assurance, Identity, Scope, fingerprint};
use contract::kin::Kin;
use contract::policy::Identities;
use contract::{CustomerId, Envelope, Event, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::normal::Rules;
use crate::rest::{Rest, Resting};

/// What makes two identities the same: scheme, scope and normalised value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey {
    pub(crate) scheme: SmolStr,
    pub(crate) scope: Scope,
    pub(crate) scope_id: Option<SmolStr>,
    pub(crate) value: SmolStr,
}

impl IdentityKey {
    /// The key of an identity.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        Self {
            scheme: identity.scheme.clone(),
            scope: identity.scope.clone(),
            // A global value is the same whoever reports it.
            scope_id: if identity.scope == Scope::Global { None } else { identity.scope_id.clone() },
            value: identity.value.clone(),
        }
    }

    /// What is kept of it when its customer is erased: enough to know it again, not to tell it.
    pub(crate) fn fingerprint(&self) -> u128 {
        let scope_id = self.scope_id.as_deref().unwrap_or_default();
        fingerprint(["identity", &self.scheme, self.scope.as_str(), scope_id, &self.value])
    }
}

/// A customer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The name to show.
    pub display: Option<SmolStr>,
    /// When it was first met.
    pub created_at: Timestamp,
    /// Its identities, in the order in which they became known.
    pub identities: Vec<Held>,
}

impl Customer {
    /// Whether anything of it is proven.
    pub(crate) fn trusted(&self) -> bool {
        self.identities.iter().any(|held| held.assurance == Assurance::Verified)
    }
}

/// Why two customers may be one, for a person to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggested {
    /// What both have.
    pub identity: Identity,
    /// Why it is not certain.
    pub reason: SmolStr,
    /// Since when it is open.
    pub since: Timestamp,
}

/// The customers of one tenant.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    pub(crate) last_customer: u64,
    pub(crate) customers: BTreeMap<CustomerId, Customer>,
    /// Which of them are one person.
    pub(crate) kin: Kin,
    /// Pairs that may be one person, the lower number first.
    pub(crate) suggestions: BTreeMap<(CustomerId, CustomerId), Suggested>,
    /// Pairs that a person told apart, the lower number first.
    pub(crate) apart: BTreeSet<(CustomerId, CustomerId)>,
    /// Customers that were erased, and when.
    pub(crate) erased: BTreeMap<CustomerId, Timestamp>,
    /// Fingerprints of their identities and threads, and when.
    pub(crate) gone: BTreeMap<u128, Timestamp>,
    /// Customers who are not in memory.
    #[serde(default, skip_serializing_if = "Resting::is_empty")]
    pub(crate) resting: Resting,
    /// Who has which identity.
    #[serde(skip)]
    pub(crate) index: Index,
    /// What the policy says of addresses, and the version that it was read from.
    #[serde(skip)]
    pub(crate) rules: (Option<u64>, Rules),
}

impl State {
    /// A tenant without customers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Addresses are read by a version of the policy from now on. Cheap where it is the same as before.
    pub fn follow(&mut self, version: u64, policy: &Identities) {
        if self.rules.0 != Some(version) {
            self.rules = (Some(version), Rules::new(policy));
        }
    }

    /// A customer as it came; what was merged into it is not in it.
    #[must_use]
    pub fn customer(&self, id: CustomerId) -> Option<&Customer> {
        self.customers.get(&id)
    }

    /// How many customers there are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.customers.len()
    }

    /// Whether there are none in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// Which customers are one person.
    #[must_use]
    pub const fn kin(&self) -> &Kin {
        &self.kin
    }

    /// The name to show of a person: its own, else that of somebody merged into it.
    #[must_use]
    pub fn display(&self, customer: CustomerId) -> Option<SmolStr> {
        self.kin.members(customer).find_map(|member| self.customers.get(&member)?.display.clone())
    }

    /// Whether a customer was erased.
    #[must_use]
    pub fn is_erased(&self, customer: CustomerId) -> bool {
        self.erased.contains_key(&customer)
    }

    /// Whether an envelope was on its way when its sender was erased: it is not taken in.
    #[must_use]
    pub fn is_late(&self, envelope: &Envelope) -> bool {
        if self.gone.is_empty() {
            return false;
        }
        let sender = std::iter::once(&envelope.sender.identity).chain(&envelope.sender.aliases);
        let keys = sender.filter_map(|identity| self.rules.1.normal(identity, Some(&envelope.account)));
        let keys = keys.map(|identity| IdentityKey::of(&identity).fingerprint());
        let thread = thread_fingerprint(&envelope.account, &envelope.thread.key);
        keys.chain([thread]).any(|key| self.gone.get(&key).is_some_and(|at| envelope.received_at <= *at))
    }

    /// Everything that a person has, over all that was merged.
    pub(crate) fn held_by(&self, customer: CustomerId) -> impl Iterator<Item = &Held> {
        let members = self.kin.members(customer).filter_map(|member| self.customers.get(&member));
        members.flat_map(|customer| &customer.identities)
    }

    pub(crate) fn by_verified(&self, identity: &Identity) -> Option<CustomerId> {
        self.index.verified(&IdentityKey::of(identity))
    }

    pub(crate) fn by_claimed(&self, identity: &Identity) -> Option<CustomerId> {
        self.index.met(&IdentityKey::of(identity))
    }

    /// Everybody who has an identity: who proved it first, then who claims it.
    pub(crate) fn owners(&self, identity: &Identity) -> Vec<CustomerId> {
        let key = IdentityKey::of(identity);
        self.index.verified(&key).into_iter().chain(self.index.claimed(&key)).collect()
    }

    /// Rebuilds the index; for a state that was read from a snapshot.
    pub fn reindex(&mut self) {
        self.index.clear();
        for (id, customer) in &self.customers {
            for (at, held) in customer.identities.iter().enumerate() {
                self.index.insert(*id, at, &held.identity, held.assurance);
            }
        }
    }

    /// Evolves a fact into the state. Facts about anything but customers change nothing.
    pub fn evolve(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::CustomerCreated { customer, display } => {
                self.last_customer = self.last_customer.max(customer.0);
                let created = Customer { display: display.clone(), created_at: at, identities: Vec::new() };
                self.customers.insert(*customer, created);
            }
            Event::CustomerIdentityLinked { customer, identity, assurance, source } => {
                if let Some(known) = self.customers.get_mut(customer) {
                    // Most have two or three, and there are millions of them.
                    known.identities.reserve_exact(1);
                    known.identities.push(Held {
                        identity: identity.clone(),
                        assurance: *assurance,
                        since: at,
                        seen_at: None,
                        source: source.clone(),
                        of: None,
                    });
                    let at = known.identities.len() - 1;
                    self.index.insert(*customer, at, identity, *assurance);
                }
            }
            Event::CustomerIdentityVerified { customer, identity } => {
                let key = IdentityKey::of(identity);
                if let Some(known) = self.customers.get_mut(customer) {
                    for held in known.identities.iter_mut().filter(|held| IdentityKey::of(&held.identity) == key) {
                        held.assurance = Assurance::Verified;
                    }
                    self.index.forget(*customer, identity);
                    self.index.insert(*customer, 0, identity, Assurance::Verified);
                }
            }
            Event::CustomerIdentityUnlinked { customer, identity, .. } => {
                let key = IdentityKey::of(identity);
                if let Some(known) = self.customers.get_mut(customer) {
                    known.identities.retain(|held| IdentityKey::of(&held.identity) != key);
                    self.index.forget(*customer, identity);
                    // What is first in its list now is what it is found by.
                    let known = self.customers.get(customer).map_or(&[][..], |known| &known.identities);
                    if let Some(first) = known.first() {
                        self.index.insert(*customer, 0, &first.identity, first.assurance);
                    }
                }
            }
            Event::CustomerIdentitySeen { customer, identity } => {
                let key = IdentityKey::of(identity);
                if let Some(known) = self.customers.get_mut(customer) {
                    for held in known.identities.iter_mut().filter(|held| IdentityKey::of(&held.identity) == key) {
                        held.seen_at = Some(at);
                    }
                }
            }
            Event::CustomerRenamed { customer, display } => {
                if let Some(known) = self.customers.get_mut(customer) {
                    known.display = Some(display.clone());
                }
            }
            Event::CustomerUpdated { customer, change, .. } => {
                if let (Some(known), Some(display)) = (self.customers.get_mut(customer), &change.display) {
                    known.display = Some(display.clone());
                }
            }
            Event::CustomerMerged { customer, from, .. } => {
                self.kin.merge(*customer, *from);
                // A person's word counts more than what they once told apart.
                let (one, other) = (self.members(*customer), self.members(*from));
                self.apart.retain(|(a, b)| !(one.contains(a) && other.contains(b)));
            }
            Event::CustomerSplit { customer, from, .. } => {
                self.kin.split(*customer);
                self.apart.insert(pair(*customer, *from));
            }
            Event::CustomerMatchSuggested { customer, with, identity, reason } => {
                let suggested = Suggested { identity: identity.clone(), reason: reason.clone(), since: at };
                self.suggestions.insert(pair(*customer, *with), suggested);
            }
            Event::CustomerMatchDismissed { customer, with, .. } => {
                self.suggestions.remove(&pair(*customer, *with));
                self.apart.insert(pair(*customer, *with));
            }
            Event::CustomerErased { customers, keys, .. } => self.evolve_erased(at, customers, keys),
            Event::CustomerRested { customer, customers, kept, silent_since } => {
                self.evolve_rested(*customer, customers, Rest { kept: *kept, silent_since: *silent_since });
            }
            Event::CustomerRecalled { customer, profile, .. } => {
                // It was read before it became a fact.
                if let Ok(kept) = contract::Encoding::Json.decode(profile.as_bytes(), profile.len()) {
                    self.evolve_recalled(*customer, kept);
                }
            }
            _ => {}
        }
    }

    fn members(&self, customer: CustomerId) -> BTreeSet<CustomerId> {
        self.kin.members(customer).collect()
    }

    fn evolve_erased(&mut self, at: Timestamp, customers: &[CustomerId], keys: &[SmolStr]) {
        for customer in customers {
            if let Some(known) = self.customers.remove(customer) {
                for held in &known.identities {
                    self.index.forget(*customer, &held.identity);
                }
            }
            self.kin.forget(*customer);
            self.erased.insert(*customer, at);
            self.suggestions.retain(|(a, b), _| a != customer && b != customer);
            self.apart.retain(|(a, b)| a != customer && b != customer);
        }
        self.index.shrink();
        for key in keys.iter().filter_map(|key| u128::from_str_radix(key, 16).ok()) {
            self.gone.insert(key, at);
        }
    }

    /// The state as bytes that are equal for equal states.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        contract::Encoding::MsgPack.encode(self).unwrap_or_default()
    }
}

/// A pair, the same whichever is named first.
pub(crate) fn pair(one: CustomerId, other: CustomerId) -> (CustomerId, CustomerId) {
    (one.min(other), one.max(other))
}

/// What is kept of a thread when its customer is erased.
#[must_use]
pub fn thread_fingerprint(account: &Account, key: &str) -> u128 {
    fingerprint(["thread", account.kind.as_str(), account.id.as_str(), key])
}
