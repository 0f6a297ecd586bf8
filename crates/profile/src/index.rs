//! Who has which identity: looked up by key only, never walked, and rebuilt from the customers.

use std::collections::BTreeSet;

use contract::CustomerId;
use contract::envelope::{Assurance, Identity};
use dashmap::DashMap;

use crate::state::IdentityKey;

/// What stands for an identity: its fingerprint, 128 bits of SHA-256, as two halves. Nobody can make two identities that
/// have the same one. The identities themselves, once more as keys, took five times as much.
type Mark = (u64, u64);

/// How many customers that name an identity are remembered: more is no evidence of anything.
pub(crate) const CLAIMS_MAX: usize = 16;
/// Tables of fewer places are not made smaller.
const PLACES_MIN: usize = 1 << 12;

/// How somebody claims an identity; those who are found by it come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// Was first met under it, and is found by it.
    Met(CustomerId),
    /// Named it besides.
    Named(CustomerId),
}

impl Claim {
    pub(crate) const fn customer(self) -> CustomerId {
        match self {
            Self::Met(customer) | Self::Named(customer) => customer,
        }
    }
}

/// Who claims an identity: of most, one does.
#[expect(clippy::box_collection, reason = "a set takes three pointers, and hardly any identity has one")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Claims {
    #[default]
    Nobody,
    One(Claim),
    Many(Box<BTreeSet<Claim>>),
}

impl Claims {
    fn insert(&mut self, claim: Claim) {
        match self {
            Self::Nobody => *self = Self::One(claim),
            Self::One(known) if *known == claim => {}
            Self::One(known) => *self = Self::Many(Box::new(BTreeSet::from([*known, claim]))),
            Self::Many(all) => {
                all.insert(claim);
                // The newest go: in the order of the numbers, so that a snapshot gives the same.
                while all.range(Claim::Named(CustomerId(0))..).nth(CLAIMS_MAX).is_some() {
                    all.pop_last();
                }
            }
        }
    }

    fn remove(&mut self, claim: Claim) {
        match self {
            Self::One(known) if *known == claim => *self = Self::Nobody,
            Self::Many(all) => {
                all.remove(&claim);
                if let (1, Some(last)) = (all.len(), all.first().copied()) {
                    *self = Self::One(last);
                }
            }
            Self::Nobody | Self::One(_) => {}
        }
    }

    /// Those who were met under it first, each in the order of their numbers.
    fn iter(&self) -> impl Iterator<Item = Claim> + '_ {
        let (one, many) = match self {
            Self::Nobody => (None, None),
            Self::One(claim) => (Some(*claim), None),
            Self::Many(all) => (None, Some(&**all)),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}

/// Who has which identity.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Verified identities: one customer each.
    verified: DashMap<Mark, CustomerId>,
    /// Claimed identities: everybody who claims them, those first who have nothing else to be found by. Typing
    /// somebody's address into a form must not catch that somebody's next message.
    claimed: DashMap<Mark, Claims>,
}

fn mark(key: &IdentityKey) -> Mark {
    let whole = key.fingerprint();
    #[expect(clippy::cast_possible_truncation, reason = "each is a half")]
    let halves = ((whole >> 64) as u64, whole as u64);
    halves
}

impl Index {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Who has proven an identity.
    pub(crate) fn verified(&self, key: &IdentityKey) -> Option<CustomerId> {
        self.verified.get(&mark(key)).map(|entry| *entry.value())
    }

    /// Who is found by a claim of it.
    pub(crate) fn met(&self, key: &IdentityKey) -> Option<CustomerId> {
        self.claimed.get(&mark(key)).and_then(|claims| match claims.iter().next() {
            Some(Claim::Met(customer)) => Some(customer),
            _ => None,
        })
    }

    /// Who claims it, no more than are remembered of each kind.
    pub(crate) fn claimed(&self, key: &IdentityKey) -> Vec<CustomerId> {
        self.claimed.get(&mark(key)).map_or_else(Vec::new, |claims| {
            let met = claims.iter().take_while(|claim| matches!(claim, Claim::Met(_))).take(CLAIMS_MAX);
            let named = claims.iter().filter(|claim| matches!(claim, Claim::Named(_)));
            met.chain(named).map(Claim::customer).collect()
        })
    }

    /// How a customer has it: proven, met under it, named it.
    pub(crate) fn how(&self, key: &IdentityKey, customer: CustomerId) -> (bool, bool, bool) {
        let mark = mark(key);
        let verified = self.verified.get(&mark).is_some_and(|owner| *owner.value() == customer);
        let claims = self.claimed.get(&mark);
        let has = |claim: Claim| claims.as_ref().is_some_and(|claims| claims.iter().any(|known| known == claim));
        (verified, has(Claim::Met(customer)), has(Claim::Named(customer)))
    }

    /// Enters the identity that a customer has at a place of its list.
    pub(crate) fn insert(&self, customer: CustomerId, at: usize, identity: &Identity, assurance: Assurance) {
        let mark = mark(&IdentityKey::of(identity));
        match assurance {
            Assurance::Verified => {
                self.verified.insert(mark, customer);
            }
            Assurance::Claimed => {
                let claim = if at == 0 { Claim::Met(customer) } else { Claim::Named(customer) };
                self.claimed.entry(mark).or_default().insert(claim);
            }
        }
    }

    /// Takes an identity of a customer out.
    pub(crate) fn forget(&self, customer: CustomerId, identity: &Identity) {
        let mark = mark(&IdentityKey::of(identity));
        self.verified.remove_if(&mark, |_, owner| *owner == customer);
        if let Some(mut claims) = self.claimed.get_mut(&mark) {
            claims.remove(Claim::Met(customer));
            claims.remove(Claim::Named(customer));
        }
        self.claimed.remove_if(&mark, |_, claims| *claims == Claims::Nobody);
    }

    /// Gives back room that many who left have left: a table stays as large as it once was.
    pub(crate) fn shrink(&self) {
        let sparse = |len: usize, places: usize| places > PLACES_MIN && len < places / 4;
        if sparse(self.verified.len(), self.verified.capacity()) {
            self.verified.shrink_to_fit();
        }
        if sparse(self.claimed.len(), self.claimed.capacity()) {
            self.claimed.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_met_come_first_and_of_those_who_name_it_so_many_are_kept() {
        let mut claims = Claims::default();
        let (met, named) = (|n| Claim::Met(CustomerId(n)), |n| Claim::Named(CustomerId(n)));
        for n in (0..20).rev() {
            claims.insert(named(n));
        }
        claims.insert(met(30));
        let all: Vec<Claim> = claims.iter().collect();
        assert_eq!(all.first(), Some(&met(30)));
        assert_eq!(all.get(1..), Some(&(0..16).map(named).collect::<Vec<_>>()[..]));
        for n in 0..16 {
            claims.remove(named(n));
        }
        assert_eq!(claims, Claims::One(met(30)));
        claims.remove(named(30));
        claims.remove(met(30));
        assert_eq!(claims, Claims::Nobody);
    }
}
