//! Customers: who is one person, and whose a proven identity is.

use std::collections::BTreeMap;

use contract::envelope::{Assurance, Identity, Scope};
use contract::kin::Kin;
use contract::{CustomerId, Event, SmolStr};

use super::{Counter, Findings, Rule};

/// What makes two identities the same.
type Key = (SmolStr, Scope, Option<SmolStr>, SmolStr);

fn key(identity: &Identity) -> Key {
    // What is global is the same whoever reports it.
    let scope_id = identity.scope_id.clone().filter(|_| identity.scope != Scope::Global);
    (identity.scheme.clone(), identity.scope.clone(), scope_id, identity.value.clone())
}

#[derive(Default)]
pub(super) struct Customers {
    pub(super) kin: Kin,
    met: Counter,
    /// Whose each identity is that is proven.
    proven: BTreeMap<Key, CustomerId>,
}

impl Customers {
    pub(super) fn observe(&mut self, event: &Event, findings: &mut Findings) {
        match event {
            Event::CustomerCreated { customer, .. } => self.met.next(customer.0, "the customer", findings),
            Event::CustomerIdentityLinked { customer, identity, assurance: Assurance::Verified, .. }
            | Event::CustomerIdentityVerified { customer, identity } => self.proves(*customer, identity, findings),
            Event::CustomerIdentityUnlinked { customer, identity, .. } => {
                let key = key(identity);
                if self.proven.get(&key) == Some(customer) {
                    self.proven.remove(&key);
                }
            }
            Event::CustomerMerged { customer, from, .. } => {
                let roots = self.kin.root(*customer) == *customer && self.kin.root(*from) == *from;
                findings.require(roots && customer != from, Rule::R11, || {
                    format!("{from} is merged into {customer}, and one of them is somebody else's already")
                });
                self.kin.merge(*customer, *from);
            }
            Event::CustomerSplit { customer, from, .. } => {
                let parent = self.kin.parent(*customer);
                findings.require(parent == Some(*from), Rule::R11, || {
                    format!("{customer} leaves {from}, and was merged into {parent:?}")
                });
                self.kin.split(*customer);
            }
            Event::CustomerErased { customers, .. } => {
                customers.iter().for_each(|customer| self.kin.forget(*customer));
                self.proven.retain(|_, owner| !customers.contains(owner));
            }
            _ => {}
        }
    }

    /// What one person has proven nobody else proves.
    fn proves(&mut self, customer: CustomerId, identity: &Identity, findings: &mut Findings) {
        let before = self.proven.insert(key(identity), customer);
        findings.require(before.is_none_or(|before| before == customer), Rule::R11, || {
            format!("{customer} proves an identity of the scheme {} that {before:?} has proven", identity.scheme)
        });
    }
}
