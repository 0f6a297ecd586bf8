//! Which customers are one person.
//!
//! A merge hangs one customer under another and changes nothing else: facts, threads and identities keep the customer
//! they came with. So a split needs only to take the link away again, and merges of merges are a tree. Whoever reads a
//! customer reads its kin: [`Kin::root`] says under which id the person goes, [`Kin::members`] whose facts are theirs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::CustomerId;

/// Which customers are one person; those that were never merged are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Links", into = "Links")]
pub struct Kin {
    /// Whom each merged customer was merged into.
    parent: BTreeMap<CustomerId, CustomerId>,
    /// The end of each one's path, so that nobody walks it.
    root: BTreeMap<CustomerId, CustomerId>,
    /// Everybody under a root, itself included.
    members: BTreeMap<CustomerId, BTreeSet<CustomerId>>,
}

/// What is kept of it: the rest follows.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Links(BTreeMap<CustomerId, CustomerId>);

impl From<Links> for Kin {
    fn from(links: Links) -> Self {
        let mut kin = Self { parent: links.0, ..Self::default() };
        let all: Vec<CustomerId> = kin.parent.keys().copied().collect();
        for one in all {
            let root = kin.walk(one);
            kin.root.insert(one, root);
            kin.members.entry(root).or_insert_with(|| BTreeSet::from([root])).insert(one);
        }
        kin
    }
}

impl From<Kin> for Links {
    fn from(kin: Kin) -> Self {
        Self(kin.parent)
    }
}

impl Kin {
    /// Under which id a customer goes.
    #[must_use]
    pub fn root(&self, customer: CustomerId) -> CustomerId {
        self.root.get(&customer).copied().unwrap_or(customer)
    }

    /// Whom a customer was merged into.
    #[must_use]
    pub fn parent(&self, customer: CustomerId) -> Option<CustomerId> {
        self.parent.get(&customer).copied()
    }

    /// Everybody who is the same person, the one whose id it goes under first.
    pub fn members(&self, customer: CustomerId) -> impl Iterator<Item = CustomerId> + '_ {
        let root = self.root(customer);
        let others = self.members.get(&root).into_iter().flatten().copied().filter(move |one| *one != root);
        std::iter::once(root).chain(others)
    }

    /// Everybody who would leave with a customer: itself and whoever was merged into it, itself first.
    #[must_use]
    pub fn under(&self, customer: CustomerId) -> Vec<CustomerId> {
        let below = |one: CustomerId| {
            let mut at = Some(one);
            while let Some(here) = at {
                if here == customer {
                    return true;
                }
                at = self.parent(here);
            }
            false
        };
        let others = self.members(customer).filter(|one| *one != customer && below(*one));
        std::iter::once(customer).chain(others).collect()
    }

    /// Merges: everybody under `from` comes under `into`. Both must be roots, and two.
    pub fn merge(&mut self, into: CustomerId, from: CustomerId) {
        if self.root(into) != into || self.root(from) != from || into == from {
            return;
        }
        self.parent.insert(from, into);
        let moved = self.members.remove(&from).unwrap_or_else(|| BTreeSet::from([from]));
        for one in &moved {
            self.root.insert(*one, into);
        }
        self.members.entry(into).or_insert_with(|| BTreeSet::from([into])).extend(moved);
    }

    /// Splits: a customer that was merged leaves, and whoever was merged into it with it.
    pub fn split(&mut self, customer: CustomerId) {
        let root = self.root(customer);
        let leaving = self.under(customer);
        if self.parent.remove(&customer).is_none() {
            return;
        }
        if let Some(left) = self.members.get_mut(&root) {
            left.retain(|one| !leaving.contains(one));
            if left.len() == 1 {
                self.members.remove(&root);
            }
        }
        for one in &leaving {
            self.root.insert(*one, customer);
        }
        self.root.remove(&customer);
        if leaving.len() > 1 {
            self.members.insert(customer, leaving.into_iter().collect());
        }
    }

    /// Forgets customers that are no more. All of a person, or it is not one that can be forgotten.
    pub fn forget(&mut self, customer: CustomerId) {
        for one in self.members(customer).collect::<Vec<_>>() {
            self.parent.remove(&one);
            self.root.remove(&one);
            self.members.remove(&one);
        }
    }

    fn walk(&self, customer: CustomerId) -> CustomerId {
        let mut at = customer;
        while let Some(parent) = self.parent(at) {
            at = parent;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn c(n: u64) -> CustomerId {
        CustomerId(n)
    }

    #[test]
    fn merges_of_merges_come_apart_where_they_were_joined() {
        let mut kin = Kin::default();
        kin.merge(c(2), c(3));
        let before = kin.clone();
        kin.merge(c(1), c(2));
        assert_eq!(kin.members(c(3)).collect::<Vec<_>>(), [c(1), c(2), c(3)]);
        kin.split(c(2));
        assert_eq!(kin, before);
        kin.merge(c(1), c(2));
        kin.split(c(3));
        assert_eq!((kin.root(c(3)), kin.root(c(2))), (c(3), c(1)));
    }

    proptest! {
        /// Any order of merges and splits leaves a forest whose shortcuts say what its links say.
        #[test]
        fn shortcuts_agree_with_the_links(steps in proptest::collection::vec((any::<bool>(), 1..8_u64, 1..8_u64), 0..40)) {
            let mut kin = Kin::default();
            for (merge, a, b) in steps {
                if merge {
                    let (a, b) = (kin.root(c(a)), kin.root(c(b)));
                    let before = kin.clone();
                    kin.merge(a, b);
                    if a != b {
                        let mut back = kin.clone();
                        back.split(b);
                        prop_assert_eq!(back, before, "a split undoes a merge");
                    }
                } else {
                    kin.split(c(a));
                }
                let read = Kin::from(Links::from(kin.clone()));
                prop_assert_eq!(&read, &kin);
                for n in 1..8 {
                    prop_assert_eq!(kin.root(c(n)), kin.walk(c(n)));
                    prop_assert!(kin.members(c(n)).all(|one| kin.root(one) == kin.root(c(n))));
                }
            }
        }
    }
}
