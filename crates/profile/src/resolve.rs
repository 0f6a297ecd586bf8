//! Who an envelope is from, and what is learnt from it.

use std::collections::{BTreeMap, BTreeSet};

use contract::envelope::{Assurance, EnvelopeKind, Identity, Scope};
use contract::event::Consent;
use contract::{CustomerId, Envelope, Event, Millis, SmolStr, Timestamp};

use crate::state::{IdentityKey, State, pair};

/// How many identities a person may have; more are not linked (a shared device, a test address).
const IDENTITIES_MAX: usize = 64;
/// How long an identity counts as just seen.
const SEEN_EVERY: Millis = Millis::from_secs(24 * 3600);
/// How many suggestions stay open: beyond them, nobody would look anyway.
const SUGGESTIONS_MAX: usize = 10_000;
/// How many suggestions one message makes at most.
const SUGGESTED_MAX: usize = 4;

/// What stands against two customers being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objection {
    /// A person said that they are two.
    Apart,
    /// Each has proven another value of which nobody has two.
    Contradiction,
    /// Together they would have more identities of a scheme than allowed.
    OverLimit,
}

/// An identity as a message shows it, in its normal form.
type Shown<'a> = (&'a Identity, Assurance);

impl State {
    /// Finds the customer that an envelope is from, or decides that there is a new one, and what was
    /// learnt of it. The facts are not evolved yet: the caller does, one by one.
    ///
    /// `on_thread`: whose thread it is, when the message proves that it belongs to it. It is that one's message then,
    /// whoever sent it: a thread attaches a message, it grants no identity.
    #[must_use]
    pub fn resolve(
        &self,
        now: Timestamp,
        envelope: &Envelope,
        on_thread: Option<CustomerId>,
    ) -> (CustomerId, Vec<Event>) {
        let sender = &envelope.sender;
        let by_auth = envelope.sender_auth.assurance();
        let written = std::iter::once(&sender.identity).chain(&sender.aliases);
        let normal = written.filter_map(|identity| {
            let assurance = identity.assurance.unwrap_or(by_auth);
            Some((self.rules.1.normal(identity, Some(&envelope.account))?, assurance))
        });
        let mut normal: Vec<(Identity, Assurance)> = normal.collect();
        if normal.is_empty() {
            normal.push((stand_in(envelope), Assurance::Claimed));
        }
        let shown: Vec<Shown<'_>> = normal.iter().map(|(identity, assurance)| (identity, *assurance)).collect();

        if let Some(owner) = on_thread.filter(|owner| self.customers.contains_key(owner)) {
            return (owner, self.on_thread(owner, &shown));
        }
        let proven = || shown.iter().filter(|(_, assurance)| *assurance == Assurance::Verified);
        let owners: Vec<(CustomerId, &Identity)> =
            proven().filter_map(|(identity, _)| Some((self.by_verified(identity)?, *identity))).collect();
        let known = match (proven().next(), shown.first()) {
            (None, Some((claimed, _))) => self.by_claimed(claimed),
            _ => owners.iter().map(|(owner, _)| *owner).find(|owner| !self.contradicts(*owner, &shown)),
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
        let group = self.join(customer, &owners, &shown, &mut events);
        let source = SmolStr::from(format!("{}/{}", envelope.account.kind, envelope.account.id));
        self.learn(now, customer, &group, &shown, &source, &mut events);
        self.suggest(customer, &group, &shown, &mut events);
        events.extend(self.said_of_consent(customer, envelope));
        (customer, events)
    }

    /// Who else is this person, on the evidence of one message that proves identities of several; all of them, with
    /// whoever was merged into them.
    fn join(
        &self,
        customer: CustomerId,
        owners: &[(CustomerId, &Identity)],
        shown: &[Shown<'_>],
        events: &mut Vec<Event>,
    ) -> Vec<CustomerId> {
        let mut group: Vec<CustomerId> = self.kin.members(customer).collect();
        let mut root = self.kin.root(customer);
        for (owner, identity) in owners {
            let other = self.kin.root(*owner);
            // Whoever has proven to be somebody else than this message shows shares a device with them, no more.
            if group.contains(&other) || self.contradicts(other, shown) {
                continue;
            }
            let members: Vec<CustomerId> = self.kin.members(other).collect();
            match self.objection(&group, &members) {
                None => {
                    let (survivor, loser) = if self.survives(root, other) { (root, other) } else { (other, root) };
                    let by = SmolStr::new_static("evidence");
                    let identity = Some((*identity).clone());
                    events.push(Event::CustomerMerged { customer: survivor, from: loser, by, identity });
                    group.extend(members);
                    root = survivor;
                }
                Some(Objection::OverLimit) => self.suggested(customer, other, identity, "over_limit", events),
                Some(Objection::Apart | Objection::Contradiction) => {}
            }
        }
        group
    }

    /// Whether, of two who are one, the person goes under the first: who is proven goes before who is not, the older
    /// before the younger.
    pub(crate) fn survives(&self, one: CustomerId, other: CustomerId) -> bool {
        let rank = |id: CustomerId| {
            let trusted = self.kin.members(id).filter_map(|member| self.customers.get(&member)).any(|c| c.trusted());
            (!trusted, self.customers.get(&id).map_or(Timestamp(u64::MAX), |customer| customer.created_at), id)
        };
        rank(one) < rank(other)
    }

    /// What stands against two groups of customers being one person.
    pub(crate) fn objection(&self, one: &[CustomerId], other: &[CustomerId]) -> Option<Objection> {
        let apart = |a: &CustomerId| other.iter().any(|b| self.apart.contains(&pair(*a, *b)));
        if !self.apart.is_empty() && one.iter().any(apart) {
            return Some(Objection::Apart);
        }
        let held = |group: &[CustomerId]| -> Vec<(IdentityKey, Assurance)> {
            let customers = group.iter().filter_map(|member| self.customers.get(member));
            let held = customers.flat_map(|customer| &customer.identities);
            held.map(|held| (IdentityKey::of(&held.identity), held.assurance)).collect()
        };
        let (one, other) = (held(one), held(other));
        let single = |key: &IdentityKey| self.rules.1.most(&key.scheme) == 1;
        let proven = |held: &&(IdentityKey, Assurance)| held.1 == Assurance::Verified && single(&held.0);
        for (a, _) in one.iter().filter(proven) {
            if other.iter().filter(proven).any(|(b, _)| a != b && same_kind(a, b)) {
                return Some(Objection::Contradiction);
            }
        }
        let all: BTreeSet<&IdentityKey> = one.iter().chain(&other).map(|(key, _)| key).collect();
        let mut by_scheme: BTreeMap<&str, usize> = BTreeMap::new();
        for key in &all {
            *by_scheme.entry(key.scheme.as_str()).or_default() += 1;
        }
        let over = all.len() > IDENTITIES_MAX || by_scheme.iter().any(|(scheme, n)| *n > self.rules.1.most(scheme));
        over.then_some(Objection::OverLimit)
    }

    /// What the identities shown by a message tell of a customer.
    fn learn(
        &self,
        now: Timestamp,
        customer: CustomerId,
        group: &[CustomerId],
        shown: &[Shown<'_>],
        source: &SmolStr,
        events: &mut Vec<Event>,
    ) {
        let of_group = || group.iter().filter_map(|member| Some((*member, self.customers.get(member)?)));
        let mut count: usize = of_group().map(|(_, customer)| customer.identities.len()).sum();
        let mut by_scheme: BTreeMap<SmolStr, usize> = BTreeMap::new();
        for held in of_group().flat_map(|(_, customer)| &customer.identities) {
            *by_scheme.entry(held.identity.scheme.clone()).or_default() += 1;
        }
        for (at, (identity, assurance)) in shown.iter().enumerate() {
            let key = IdentityKey::of(identity);
            let repeated = shown.iter().take(at).any(|(earlier, _)| IdentityKey::of(earlier) == key);
            // What is verified of somebody else stays theirs.
            let elsewhere = self.by_verified(identity).is_some_and(|owner| !group.contains(&owner));
            if repeated || elsewhere && *assurance == Assurance::Verified {
                continue;
            }
            let of = |customer: &crate::state::Customer| {
                customer.identities.iter().find(|held| IdentityKey::of(&held.identity) == key).cloned()
            };
            // Of several who are one, whoever has proven it: it stays with one.
            let known = of_group().filter_map(|(member, customer)| Some((member, of(customer)?)));
            let known = known.max_by_key(|(_, held)| held.assurance);
            match known {
                Some((member, held)) if held.assurance < *assurance => {
                    let identity = (*identity).clone();
                    events.push(Event::CustomerIdentityVerified { customer: member, identity });
                }
                Some((member, held)) if held.seen_at.unwrap_or(held.since) + SEEN_EVERY <= now => {
                    events.push(Event::CustomerIdentitySeen { customer: member, identity: held.identity });
                }
                Some(_) => {}
                None if count < IDENTITIES_MAX => {
                    let of_scheme = by_scheme.entry(identity.scheme.clone()).or_default();
                    if *of_scheme >= self.rules.1.most(&identity.scheme) {
                        continue;
                    }
                    *of_scheme += 1;
                    count += 1;
                    let (identity, source) = ((*identity).clone(), Some(source.clone()));
                    events.push(Event::CustomerIdentityLinked { customer, identity, assurance: *assurance, source });
                }
                None => {}
            }
        }
    }

    /// Whoever else has what a message shows may be the same person: that is for a person to say.
    fn suggest(&self, customer: CustomerId, group: &[CustomerId], shown: &[Shown<'_>], events: &mut Vec<Event>) {
        for (identity, _) in shown {
            for owner in self.owners(identity) {
                if !group.contains(&self.kin.root(owner)) && !self.contradicts(owner, shown) {
                    self.suggested(customer, owner, identity, "claimed", events);
                }
            }
        }
    }

    /// A message on somebody's thread: who wrote it is not that somebody for it, but may be.
    fn on_thread(&self, owner: CustomerId, shown: &[Shown<'_>]) -> Vec<Event> {
        let mut events = Vec::new();
        for (identity, _) in shown {
            for other in self.owners(identity) {
                self.suggested(owner, other, identity, "thread", &mut events);
            }
        }
        events
    }

    fn suggested(
        &self,
        customer: CustomerId,
        other: CustomerId,
        identity: &Identity,
        reason: &'static str,
        events: &mut Vec<Event>,
    ) {
        let made = |event: &&Event| matches!(event, Event::CustomerMatchSuggested { .. });
        if events.iter().filter(made).count() >= SUGGESTED_MAX || self.suggestions.len() >= SUGGESTIONS_MAX {
            return;
        }
        let (one, two) = (self.kin.root(customer), self.kin.root(other));
        let roots = |pair: &(CustomerId, CustomerId)| (self.kin.root(pair.0), self.kin.root(pair.1));
        let open = self.suggestions.contains_key(&pair(one, two))
            || self.kin.members(one).any(|a| self.kin.members(two).any(|b| self.suggestions.contains_key(&pair(a, b))));
        let now = events.iter().any(|event| match event {
            Event::CustomerMatchSuggested { customer, with, .. } => {
                let (a, b) = roots(&(*customer, *with));
                pair(a, b) == pair(one, two)
            }
            _ => false,
        });
        let (ours, theirs): (Vec<_>, Vec<_>) = (self.kin.members(one).collect(), self.kin.members(two).collect());
        let objection = self.objection(&ours, &theirs);
        if one == two || open || now || matches!(objection, Some(Objection::Apart | Objection::Contradiction)) {
            return;
        }
        let (identity, reason) = (identity.clone(), SmolStr::new_static(reason));
        events.push(Event::CustomerMatchSuggested { customer: one, with: two, identity, reason });
    }

    /// Whether a customer has proven to be somebody else than who is shown: another value where a customer has only
    /// one.
    fn contradicts(&self, customer: CustomerId, shown: &[Shown<'_>]) -> bool {
        let single = |identity: &Identity| self.rules.1.most(&identity.scheme) == 1;
        let proven = shown.iter().filter(|(identity, assurance)| *assurance == Assurance::Verified && single(identity));
        proven.into_iter().any(|(identity, _)| {
            let key = IdentityKey::of(identity);
            self.held_by(customer).filter(|held| held.assurance == Assurance::Verified).any(|held| {
                let held = IdentityKey::of(&held.identity);
                held != key && same_kind(&held, &key)
            })
        })
    }

    /// What a channel reports of a customer's will to be written to.
    fn said_of_consent(&self, customer: CustomerId, envelope: &Envelope) -> Option<Event> {
        let signal = envelope.signal.as_ref().filter(|_| envelope.kind == EnvelopeKind::ContactEvent)?;
        let granted = match signal.name.as_str() {
            "opt_in" | "unblock" => true,
            "opt_out" | "block" => false,
            _ => return None,
        };
        // A provider that asks for one purpose says which: the others go on.
        let purpose = signal.data.get("purpose").and_then(|value| value.as_str()).map(SmolStr::from);
        let channel = Some(envelope.account.kind.clone());
        // Who blocks us in one app still wants to be written to in another.
        let provider = envelope.account.medium().cloned();
        let consent = Consent { channel, provider, purpose, granted };
        Some(Event::CustomerConsentChanged { customer, consent, by: SmolStr::new_static("customer") })
    }
}

/// Whether two keys are values of the same thing, of which a person may have only one.
fn same_kind(one: &IdentityKey, other: &IdentityKey) -> bool {
    one.scheme == other.scheme && one.scope == other.scope && one.scope_id == other.scope_id
}

/// Who a message is from when no address of it says anything: whoever writes on this thread, and nobody else.
#[must_use]
pub fn stand_in(envelope: &Envelope) -> Identity {
    Identity {
        scheme: SmolStr::new_static("thread"),
        value: SmolStr::from(format!("{}/{}", envelope.account.kind, envelope.thread.key)),
        scope: Scope::Account,
        scope_id: Some(SmolStr::from(envelope.account.id.as_str())),
        raw: None,
        assurance: Some(Assurance::Claimed),
    }
}
