//! Values that many conversations have alike, kept once.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use contract::Millis;
use contract::envelope::Account;
use contract::event::{Requirement, Terms};
use foldhash::fast::FixedState;

/// What can be kept once for all who have it alike.
pub(crate) trait Alike: Clone + Eq {
    /// Whether both are kept as one.
    fn alike(&self, other: &Self) -> bool {
        self == other
    }

    /// Hashes what makes it alike.
    fn digest<H: Hasher>(&self, state: &mut H);

    /// As it is kept.
    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Alike for Requirement {
    fn digest<H: Hasher>(&self, state: &mut H) {
        self.hash(state);
    }
}

impl Alike for Account {
    fn digest<H: Hasher>(&self, state: &mut H) {
        self.hash(state);
    }
}

/// Terms are alike, and kept, without the times in them, which are each one's own.
impl Alike for Terms {
    fn alike(&self, other: &Self) -> bool {
        // What differs most often comes first. Taken apart, so that whatever is added is thought of.
        let Self {
            route,
            tags,
            language,
            policy,
            weight,
            lease_ms,
            adjust_ms,
            class,
            labels,
            passed,
            affinity,
            intent,
            verified,
            due_at: _,
            waited_ms: _,
            step_ends_at: _,
        } = self;
        *route == other.route
            && *tags == other.tags
            && *language == other.language
            && *policy == other.policy
            && *weight == other.weight
            && *lease_ms == other.lease_ms
            && *adjust_ms == other.adjust_ms
            && *class == other.class
            && *labels == other.labels
            && *passed == other.passed
            && *affinity == other.affinity
            && *intent == other.intent
            && *verified == other.verified
    }

    fn digest<H: Hasher>(&self, state: &mut H) {
        // The few that tell most apart; the rest is compared.
        (&self.route, &self.tags, &self.language, &self.labels, &self.affinity, self.weight).hash(state);
    }

    fn kept(&self) -> Self {
        Self { due_at: None, waited_ms: Millis(0), step_ends_at: None, ..self.clone() }
    }
}

/// A value to be found, wherever it is.
trait Find<T> {
    fn value(&self) -> &T;
}

/// One that is kept.
#[derive(Debug, Clone)]
struct One<T>(Arc<T>);

/// One that is looked for.
struct Like<'a, T>(&'a T);

impl<T> Find<T> for One<T> {
    fn value(&self) -> &T {
        &self.0
    }
}

impl<T> Find<T> for Like<'_, T> {
    fn value(&self) -> &T {
        self.0
    }
}

impl<'a, T: 'a> Borrow<dyn Find<T> + 'a> for One<T> {
    fn borrow(&self) -> &(dyn Find<T> + 'a) {
        self
    }
}

impl<T: Alike> Hash for dyn Find<T> + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().digest(state);
    }
}

impl<T: Alike> PartialEq for dyn Find<T> + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.value().alike(other.value())
    }
}

impl<T: Alike> Eq for dyn Find<T> + '_ {}

impl<T: Alike> Hash for One<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest(state);
    }
}

impl<T: Alike> PartialEq for One<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.alike(&other.0)
    }
}

impl<T: Alike> Eq for One<T> {}

/// By hash, always the same one; nothing here is ever listed, so no order depends on it.
type Kept<T> = HashMap<One<T>, (Arc<T>, u32), FixedState>;

/// Values that are alike, each kept once for as long as somebody has it. Who takes one gives it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shared<T: Alike>(Kept<T>);

impl<T: Alike> Default for Shared<T> {
    fn default() -> Self {
        Self(Kept::default())
    }
}

impl<T: Alike> Shared<T> {
    /// The one that is kept of those like this; a copy of this one if there is none yet.
    pub(crate) fn take_like(&mut self, value: &T) -> Arc<T> {
        self.known(value).unwrap_or_else(|| self.enter(Arc::new(value.kept())))
    }

    /// Puts the one that is alike in place of this one; keeps this one if there is none yet.
    pub(crate) fn join(&mut self, value: &mut Arc<T>) {
        match self.known(value) {
            Some(known) => *value = known,
            None => drop(self.enter(Arc::clone(value))),
        }
    }

    /// The one that is alike, which one more has then.
    fn known(&mut self, value: &T) -> Option<Arc<T>> {
        let like: &dyn Find<T> = &Like(value);
        let (known, count) = self.0.get_mut(like)?;
        *count += 1;
        Some(Arc::clone(known))
    }

    fn enter(&mut self, value: Arc<T>) -> Arc<T> {
        self.0.insert(One(Arc::clone(&value)), (Arc::clone(&value), 1));
        value
    }

    /// One of those who had it has it no more.
    pub(crate) fn give_back(&mut self, value: &T) {
        let like: &dyn Find<T> = &Like(value);
        if let Some((_, count)) = self.0.get_mut(like) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(like);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_until_the_last_is_given_back() {
        let terms = |weight, step_ends_at| Terms { weight, step_ends_at, ..Terms::default() };
        let mut shared = Shared::default();
        let (one, two) = (shared.take_like(&terms(1, Some(contract::Timestamp(1)))), shared.take_like(&terms(1, None)));
        assert!(Arc::ptr_eq(&one, &two), "times do not count");
        assert_eq!(*one, terms(1, None));
        assert!(!Arc::ptr_eq(&one, &shared.take_like(&terms(2, None))));
        shared.give_back(&terms(2, None));
        shared.give_back(&one);
        assert!(Arc::ptr_eq(&shared.take_like(&terms(1, None)), &two));
        shared.give_back(&one);
        shared.give_back(&two);
        assert!(shared.0.is_empty());
    }
}
