//! Customers and their identities.

use std::collections::{BTreeMap, BTreeSet};

use contract::answer::Held;
use contract::envelope::{Assurance, Identity, Scope};
use contract::policy::Identities;
use contract::{CustomerId, Envelope, Event, SmolStr, Timestamp};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::normal::Rules;

/// How many identities a customer may have; more are not linked (a shared device, a test address).
const IDENTITIES_MAX: usize = 64;

/// What makes two identities the same: scheme, scope and normalised value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey {
    scheme: SmolStr,
    scope: Scope,
    scope_id: Option<SmolStr>,
    value: SmolStr,
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

/// The customers of one tenant.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    last_customer: u64,
    customers: BTreeMap<CustomerId, Customer>,
    /// Verified identities: one customer each.
    #[serde(skip)]
    verified: DashMap<IdentityKey, CustomerId>,
    /// Claimed identities under which customers were first met. Not the claims made on top: typing
    /// somebody's address into a form must not catch that somebody's next message.
    #[serde(skip)]
    claimed: DashMap<IdentityKey, BTreeSet<CustomerId>>,
    /// What the policy says of addresses, and the version that it was read from.
    #[serde(skip)]
    rules: (Option<u64>, Rules),
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

    /// A customer.
    #[must_use]
    pub fn customer(&self, id: CustomerId) -> Option<&Customer> {
        self.customers.get(&id)
    }

    /// How many customers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.customers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// Rebuilds the index; for a state that was read from a snapshot.
    pub fn reindex(&mut self) {
        self.verified.clear();
        self.claimed.clear();
        for (id, customer) in &self.customers {
            for (at, held) in customer.identities.iter().enumerate() {
                self.index(*id, at, &held.identity, held.assurance);
            }
        }
    }

    /// Indexes the identity that a customer has at a place of its list.
    fn index(&self, customer: CustomerId, at: usize, identity: &Identity, assurance: Assurance) {
        let key = IdentityKey::of(identity);
        match assurance {
            Assurance::Verified => {
                self.verified.insert(key, customer);
            }
            Assurance::Claimed if at == 0 => {
                self.claimed.entry(key).or_default().insert(customer);
            }
            Assurance::Claimed => {}
        }
    }

    /// Finds the customer that an envelope is from, or decides that there is a new one, and what was
    /// learnt of it. The facts are not evolved yet: the caller does, one by one.
    #[must_use]
    pub fn resolve(&self, envelope: &Envelope) -> (CustomerId, Vec<Event>) {
        let sender = &envelope.sender;
        let by_auth = envelope.sender_auth.assurance();
        let written = std::iter::once(&sender.identity).chain(&sender.aliases);
        let normal = written.filter_map(|identity| {
            let assurance = identity.assurance.unwrap_or(by_auth);
            Some((self.rules.1.normal(identity, &envelope.account)?, assurance))
        });
        let mut normal: Vec<(Identity, Assurance)> = normal.collect();
        if normal.is_empty() {
            normal.push((stand_in(envelope), Assurance::Claimed));
        }
        let shown: Vec<(&Identity, Assurance)> =
            normal.iter().map(|(identity, assurance)| (identity, *assurance)).collect();

        let proven = || shown.iter().filter(|(_, assurance)| *assurance == Assurance::Verified);
        let known = match (proven().next(), shown.first()) {
            (None, Some((claimed, _))) => self.by_claimed(claimed),
            _ => {
                let owners = proven().filter_map(|(identity, _)| self.by_verified(identity));
                owners.into_iter().find(|owner| !self.contradicts(*owner, &shown))
            }
        };
        let mut events = Vec::new();
        let customer = known.unwrap_or(CustomerId(self.last_customer + 1));
        let display = sender.display.clone();
        match known.and_then(|id| self.customers.get(&id)) {
            None => events.push(Event::CustomerCreated { customer, display }),
            Some(existing) => {
                // A name that comes with proof, or the first there is.
                let believed = by_auth == Assurance::Verified || existing.display.is_none();
                if let Some(display) = display.filter(|name| believed && Some(name) != existing.display.as_ref()) {
                    events.push(Event::CustomerRenamed { customer, display });
                }
            }
        }
        self.learn(customer, &shown, &mut events);
        (customer, events)
    }

    /// What the identities shown by a message tell of a customer.
    fn learn(&self, customer: CustomerId, shown: &[(&Identity, Assurance)], events: &mut Vec<Event>) {
        let held = self.customers.get(&customer).map_or(&[][..], |customer| &customer.identities);
        let mut count = held.len();
        let mut by_scheme: BTreeMap<&str, usize> = BTreeMap::new();
        for known in held {
            *by_scheme.entry(known.identity.scheme.as_str()).or_default() += 1;
        }
        for (at, (identity, assurance)) in shown.iter().enumerate() {
            let key = IdentityKey::of(identity);
            let repeated = shown.iter().take(at).any(|(earlier, _)| IdentityKey::of(earlier) == key);
            let known = held.iter().find(|held| IdentityKey::of(&held.identity) == key);
            // What is verified of somebody else stays theirs.
            let elsewhere = self.by_verified(identity).is_some_and(|owner| owner != customer);
            if repeated || elsewhere && *assurance == Assurance::Verified {
                continue;
            }
            match known {
                Some(held) if held.assurance < *assurance => {
                    events.push(Event::CustomerIdentityVerified { customer, identity: (*identity).clone() });
                }
                Some(_) => {}
                None if count < IDENTITIES_MAX => {
                    let of_scheme = by_scheme.entry(identity.scheme.as_str()).or_default();
                    if *of_scheme >= self.rules.1.most(&identity.scheme) {
                        continue;
                    }
                    *of_scheme += 1;
                    count += 1;
                    let identity = (*identity).clone();
                    events.push(Event::CustomerIdentityLinked { customer, identity, assurance: *assurance });
                }
                None => {}
            }
        }
    }

    /// Whether a customer has proven to be somebody else than who is shown: another value where a customer has only
    /// one.
    fn contradicts(&self, customer: CustomerId, shown: &[(&Identity, Assurance)]) -> bool {
        let held = self.customers.get(&customer).map_or(&[][..], |customer| &customer.identities);
        let single = |identity: &Identity| self.rules.1.most(&identity.scheme) == 1;
        let proven = shown.iter().filter(|(identity, assurance)| *assurance == Assurance::Verified && single(identity));
        proven.into_iter().any(|(identity, _)| {
            let key = IdentityKey::of(identity);
            let mut same = held.iter().filter(|held| held.identity.scheme == identity.scheme);
            same.any(|held| held.assurance == Assurance::Verified && IdentityKey::of(&held.identity) != key)
        })
    }

    fn by_verified(&self, identity: &Identity) -> Option<CustomerId> {
        self.verified.get(&IdentityKey::of(identity)).map(|entry| *entry.value())
    }

    fn by_claimed(&self, identity: &Identity) -> Option<CustomerId> {
        self.claimed.get(&IdentityKey::of(identity)).and_then(|owners| owners.first().copied())
    }

    /// Evolves a fact into the state. Facts about anything but customers change nothing.
    pub fn evolve(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::CustomerCreated { customer, display } => {
                self.last_customer = self.last_customer.max(customer.0);
                let created = Customer { display: display.clone(), created_at: at, identities: Vec::new() };
                self.customers.insert(*customer, created);
            }
            Event::CustomerIdentityLinked { customer, identity, assurance } => {
                if let Some(known) = self.customers.get_mut(customer) {
                    known.identities.push(Held { identity: identity.clone(), assurance: *assurance, since: at });
                    let at = known.identities.len() - 1;
                    self.index(*customer, at, identity, *assurance);
                }
            }
            Event::CustomerIdentityVerified { customer, identity } => {
                let key = IdentityKey::of(identity);
                if let Some(known) = self.customers.get_mut(customer) {
                    for held in known.identities.iter_mut().filter(|held| IdentityKey::of(&held.identity) == key) {
                        held.assurance = Assurance::Verified;
                    }
                    if let Some(mut owners) = self.claimed.get_mut(&key) {
                        owners.remove(customer);
                    }
                    self.index(*customer, 0, identity, Assurance::Verified);
                }
            }
            Event::CustomerRenamed { customer, display } => {
                if let Some(known) = self.customers.get_mut(customer) {
                    known.display = Some(display.clone());
                }
            }
            _ => {}
        }
    }

    /// The state as bytes that are equal for equal states.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        contract::Encoding::MsgPack.encode(self).unwrap_or_default()
    }
}

/// Who a message is from when no address of it says anything: whoever writes on this thread, and nobody else.
fn stand_in(envelope: &Envelope) -> Identity {
    Identity {
        scheme: SmolStr::new_static("thread"),
        value: SmolStr::from(format!("{}/{}", envelope.account.kind, envelope.thread.key)),
        scope: Scope::Account,
        scope_id: Some(SmolStr::from(envelope.account.id.as_str())),
        raw: None,
        assurance: Some(Assurance::Claimed),
    }
}
