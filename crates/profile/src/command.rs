//! What people decide of customers.

use contract::command::{AdminCommand, Refusal, RefusalKind};
use contract::envelope::{Account, Assurance, Identity};
use contract::{CustomerId, Event, SmolStr};

use crate::state::{Customer, IdentityKey, State};

/// Most of a profile's attributes, and of its segments.
const ATTRIBUTES_MAX: usize = 64;
/// Longest name or value of an attribute, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

fn refuse<T>(kind: RefusalKind, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(kind, message))
}

impl State {
    /// Decides a command about customers: the facts, and the customer concerned. Erasing is not among them, since it
    /// concerns more than who somebody is.
    ///
    /// # Errors
    /// With a refusal, when it cannot be done; nothing changes then.
    pub fn command(&self, by: &SmolStr, command: AdminCommand) -> Result<(CustomerId, Vec<Event>), Refusal> {
        match command {
            AdminCommand::CustomerLink { customer, identity } => self.link(by, customer, identity),
            AdminCommand::CustomerUnlink { customer, identity } => {
                self.existing(customer)?;
                let wanted = self.normalised(&identity)?;
                let held = self.held_with_owner(customer).find(|(_, held)| {
                    let key = IdentityKey::of(held);
                    key == IdentityKey::of(&wanted) || key.scheme == wanted.scheme && key.value == wanted.value
                });
                let Some((owner, held)) = held else {
                    return refuse(RefusalKind::NotFound, format!("{customer} has no such identity"));
                };
                let event = Event::CustomerIdentityUnlinked { customer: owner, identity: held.clone(), by: by.clone() };
                Ok((customer, vec![event]))
            }
            AdminCommand::CustomerMerge { customer, with } => {
                self.existing(customer)?;
                self.existing(with)?;
                let (one, other) = (self.kin.root(customer), self.kin.root(with));
                if one == other {
                    return refuse(RefusalKind::Conflict, format!("{customer} and {with} are one already"));
                }
                let (survivor, loser) = if self.survives(one, other) { (one, other) } else { (other, one) };
                let event = Event::CustomerMerged { customer: survivor, from: loser, by: by.clone(), identity: None };
                Ok((survivor, vec![event]))
            }
            AdminCommand::CustomerSplit { customer } => {
                self.existing(customer)?;
                let Some(from) = self.kin.parent(customer) else {
                    let merged: Vec<String> =
                        self.kin.members(customer).skip(1).map(|member| member.to_string()).collect();
                    let which = if merged.is_empty() {
                        "nothing was merged into it either".to_owned()
                    } else {
                        format!("name one of those that were merged into it: {}", merged.join(", "))
                    };
                    return refuse(RefusalKind::Conflict, format!("{customer} was not merged into another; {which}"));
                };
                Ok((customer, vec![Event::CustomerSplit { customer, from, by: by.clone() }]))
            }
            AdminCommand::CustomerDismiss { customer, with } => {
                self.existing(customer)?;
                self.existing(with)?;
                if self.kin.root(customer) == self.kin.root(with) {
                    return refuse(RefusalKind::Conflict, format!("{customer} and {with} are one: split them first"));
                }
                Ok((customer, vec![Event::CustomerMatchDismissed { customer, with, by: by.clone() }]))
            }
            AdminCommand::CustomerUpdate { customer, change } => {
                self.existing(customer)?;
                let texts = change.attributes.iter().flat_map(|(name, value)| [Some(name), value.as_ref()]).flatten();
                let texts = texts.chain(&change.segments_added).map(|text| text.len());
                let promised = change.promised.as_ref().map_or(0, String::len);
                let named = [&change.display, &change.language].into_iter().flatten().map(|text| text.len());
                if texts.chain(named).chain([promised / 4]).any(|bytes| bytes > ATTRIBUTE_BYTES_MAX) {
                    return refuse(RefusalKind::TooLarge, "change: a text is too long");
                }
                if change.attributes.len() > ATTRIBUTES_MAX || change.segments_added.len() > ATTRIBUTES_MAX {
                    return refuse(RefusalKind::TooLarge, format!("change: at most {ATTRIBUTES_MAX} of a kind"));
                }
                let customer = self.kin.root(customer);
                Ok((customer, vec![Event::CustomerUpdated { customer, change, by: by.clone() }]))
            }
            AdminCommand::CustomerConsent { customer, consent } => {
                self.existing(customer)?;
                if consent.provider.is_some() && consent.channel.is_none() {
                    return refuse(RefusalKind::Invalid, "consent.provider: is of a channel, which is missing");
                }
                let customer = self.kin.root(customer);
                Ok((customer, vec![Event::CustomerConsentChanged { customer, consent, by: by.clone() }]))
            }
            _ => refuse(RefusalKind::Invalid, "is not a command about customers"),
        }
    }

    fn link(
        &self,
        by: &SmolStr,
        customer: CustomerId,
        identity: Identity,
    ) -> Result<(CustomerId, Vec<Event>), Refusal> {
        self.existing(customer)?;
        let identity = self.normalised(&identity)?;
        match self.by_verified(&identity) {
            Some(owner) if self.kin.root(owner) == self.kin.root(customer) => {
                return refuse(RefusalKind::Conflict, format!("{customer} has it already"));
            }
            Some(owner) => {
                let message = format!("it is proven to be {owner}'s: merge {customer} and {owner} if they are one");
                return refuse(RefusalKind::Conflict, message);
            }
            None => {}
        }
        let key = IdentityKey::of(&identity);
        let claimed = self.held_with_owner(customer).find(|(_, held)| IdentityKey::of(held) == key);
        if let Some((owner, held)) = claimed {
            let identity = held.clone();
            return Ok((customer, vec![Event::CustomerIdentityVerified { customer: owner, identity }]));
        }
        let most = self.rules.1.most(&identity.scheme);
        if self.held_by(customer).filter(|held| held.identity.scheme == identity.scheme).count() >= most {
            let message = format!("a customer may have {most} {}, see [identity] most", identity.scheme);
            return refuse(RefusalKind::Conflict, message);
        }
        let (assurance, source) = (Assurance::Verified, Some(by.clone()));
        Ok((customer, vec![Event::CustomerIdentityLinked { customer, identity, assurance, source }]))
    }

    /// The facts by which a customer is known by an address from now on, since it was reached there by a secret that
    /// it alone was given: who has the address already is the same person, unless something stands against it.
    #[must_use]
    pub fn proven_by_secret(&self, customer: CustomerId, identity: &Identity, account: &Account) -> Vec<Event> {
        let Some(identity) = self.rules.1.normal(identity, Some(account)) else { return Vec::new() };
        let key = IdentityKey::of(&identity);
        let source = Some(SmolStr::new_static("switch"));
        if let Some(owner) = self.by_verified(&identity) {
            let (one, other) = (self.kin.root(customer), self.kin.root(owner));
            let (ours, theirs): (Vec<_>, Vec<_>) = (self.kin.members(one).collect(), self.kin.members(other).collect());
            if one == other || self.objection(&ours, &theirs).is_some() {
                return Vec::new();
            }
            let (survivor, loser) = if self.survives(one, other) { (one, other) } else { (other, one) };
            let by = SmolStr::new_static("evidence");
            return vec![Event::CustomerMerged { customer: survivor, from: loser, by, identity: Some(identity) }];
        }
        let claimed = self.held_with_owner(customer).find(|(_, held)| IdentityKey::of(held) == key);
        if let Some((owner, held)) = claimed {
            return vec![Event::CustomerIdentityVerified { customer: owner, identity: held.clone() }];
        }
        let most = self.rules.1.most(&identity.scheme);
        if self.held_by(customer).filter(|held| held.identity.scheme == identity.scheme).count() >= most {
            return Vec::new();
        }
        vec![Event::CustomerIdentityLinked { customer, identity, assurance: Assurance::Verified, source }]
    }

    /// The facts by which a customer is forgotten, with everybody merged into it: who, and the fingerprints by which
    /// what still comes is known.
    ///
    /// # Errors
    /// With a refusal, when there is no such customer.
    pub fn erasure(&self, customer: CustomerId) -> Result<(Vec<CustomerId>, Vec<SmolStr>), Refusal> {
        self.existing(customer)?;
        let members: Vec<CustomerId> = self.kin.members(customer).collect();
        let keys = self.held_by(customer).map(|held| IdentityKey::of(&held.identity).fingerprint());
        Ok((members, keys.map(|key| SmolStr::from(format!("{key:032x}"))).collect()))
    }

    /// The address of a customer by which something may be sent that is meant for nobody else: proven, the one that
    /// was seen last.
    #[must_use]
    pub fn address(&self, customer: CustomerId, scheme: &str, proven_only: bool) -> Option<Identity> {
        let held = self.held_by(customer).filter(|held| held.identity.scheme == scheme);
        let held = held.filter(|held| !proven_only || held.assurance == Assurance::Verified);
        held.max_by_key(|held| (held.assurance, held.seen_at.unwrap_or(held.since))).map(|held| held.identity.clone())
    }

    fn held_with_owner(&self, customer: CustomerId) -> impl Iterator<Item = (CustomerId, &Identity)> {
        let members = self.kin.members(customer).filter_map(|id| Some((id, self.customers.get(&id)?)));
        members.flat_map(|(id, customer)| customer.identities.iter().map(move |held| (id, &held.identity)))
    }

    fn existing(&self, customer: CustomerId) -> Result<&Customer, Refusal> {
        if let Some(known) = self.customers.get(&customer) {
            return Ok(known);
        }
        let gone = if self.is_erased(customer) { " any more: it was erased" } else { "" };
        refuse(RefusalKind::NotFound, format!("there is no customer {customer}{gone}"))
    }

    /// An identity as an operator writes it, in its normal form.
    pub(crate) fn normalised(&self, identity: &Identity) -> Result<Identity, Refusal> {
        let normal = self.rules.1.normal(identity, None);
        let missing = || Refusal::new(RefusalKind::Invalid, "identity: is blocked by the policy, or says nothing");
        normal.ok_or_else(missing)
    }
}
