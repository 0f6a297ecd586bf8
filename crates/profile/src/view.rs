//! A customer as tools see it.

use contract::answer::{CustomerView, Held, Suggestion};
use contract::envelope::Identity;
use contract::{CustomerId, Timestamp};

use crate::state::State;

impl State {
    /// A person as tools see it, over all that was merged; of one that was merged itself, what it came with. What else
    /// is known of it (segments, consents) is not the profile's and left empty.
    #[must_use]
    pub fn view(&self, id: CustomerId) -> Option<CustomerView> {
        let customer = self.customer(id)?;
        let merged_into = (self.kin.root(id) != id).then(|| self.kin.root(id));
        let members = if merged_into.is_some() { self.kin.under(id) } else { self.kin.members(id).collect() };
        let mut identities: Vec<Held> = Vec::new();
        for member in &members {
            let held = self.customer(*member).map_or(&[][..], |member| &member.identities).iter();
            let of = (*member != id).then_some(*member);
            identities.extend(held.map(|held| Held { of, ..held.clone() }));
        }
        identities.sort_by_key(|held| held.since);
        Some(CustomerView {
            customer: id,
            display: customer.display.clone().or_else(|| self.display(id)),
            created_at: customer.created_at,
            identities,
            language: None,
            attributes: std::collections::BTreeMap::new(),
            segments: std::collections::BTreeSet::new(),
            consents: Vec::new(),
            promised: None,
            merged: members.into_iter().filter(|member| *member != id).collect(),
            merged_into,
        })
    }

    /// Pairs that may be one person, oldest first: those that are not one yet.
    pub fn suggestions(&self) -> Vec<Suggestion> {
        let mut open: Vec<Suggestion> = self
            .suggestions
            .iter()
            .filter_map(|((one, other), suggested)| {
                let (one, other) = (self.kin.root(*one), self.kin.root(*other));
                (one != other).then_some(())?;
                Some(Suggestion {
                    customer: self.view(one)?,
                    with: self.view(other)?,
                    identity: suggested.identity.clone(),
                    reason: suggested.reason.clone(),
                    since: suggested.since,
                })
            })
            .collect();
        open.sort_by_key(|suggestion| (suggestion.since, suggestion.customer.customer, suggestion.with.customer));
        open.dedup_by_key(|suggestion| (suggestion.customer.customer, suggestion.with.customer));
        open
    }

    /// How many pairs may be one person.
    #[must_use]
    pub fn open_suggestions(&self) -> usize {
        let open = self.suggestions.keys().filter(|(one, other)| self.kin.root(*one) != self.kin.root(*other));
        open.count()
    }

    /// The customers that have an identity, written in any way: who proved it first.
    #[must_use]
    pub fn find(&self, identity: &Identity) -> Vec<CustomerId> {
        let Ok(identity) = self.normalised(identity) else { return Vec::new() };
        let mut found: Vec<CustomerId> = Vec::new();
        for owner in self.owners(&identity) {
            let root = self.kin.root(owner);
            if !found.contains(&root) {
                found.push(root);
            }
        }
        found
    }

    /// Whether an identity says something, and is not blocked by the policy.
    #[must_use]
    pub fn takes(&self, identity: &Identity) -> bool {
        self.normalised(identity).is_ok()
    }

    /// When a person was first met, over all that was merged.
    #[must_use]
    pub fn met_at(&self, customer: CustomerId) -> Option<Timestamp> {
        self.kin.members(customer).filter_map(|member| Some(self.customer(member)?.created_at)).min()
    }
}
