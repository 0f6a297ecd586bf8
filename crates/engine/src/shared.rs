//! Values that many conversations have alike, kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Equal values, each kept once for as long as somebody has it. Who takes one gives it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shared<T>(BTreeMap<Arc<T>, (Arc<T>, u32)>);

impl<T: Ord> Default for Shared<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Shared<T> {
    /// The one that is equal; this one if nobody has such a one yet.
    pub(crate) fn take(&mut self, value: T) -> Arc<T> {
        self.known(&value).unwrap_or_else(|| self.enter(Arc::new(value)))
    }

    /// The one that is equal; a copy of this one if nobody has such a one yet.
    pub(crate) fn take_like(&mut self, value: &T) -> Arc<T>
    where
        T: Clone,
    {
        self.known(value).unwrap_or_else(|| self.enter(Arc::new(value.clone())))
    }

    /// Puts the one that is equal in place of this one; keeps this one if nobody has such a one yet.
    pub(crate) fn join(&mut self, value: &mut Arc<T>) {
        match self.known(value) {
            Some(known) => *value = known,
            None => drop(self.enter(Arc::clone(value))),
        }
    }

    /// The one that is equal, which one more has then.
    fn known(&mut self, value: &T) -> Option<Arc<T>> {
        let (known, count) = self.0.get_mut(value)?;
        *count += 1;
        Some(Arc::clone(known))
    }

    fn enter(&mut self, value: Arc<T>) -> Arc<T> {
        self.0.insert(Arc::clone(&value), (Arc::clone(&value), 1));
        value
    }

    /// One of those who had it has it no more.
    pub(crate) fn give_back(&mut self, value: &T) {
        if let Some((_, count)) = self.0.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_until_the_last_is_given_back() {
        let mut shared = Shared::default();
        let (one, two) = (shared.take("a".to_owned()), shared.take("a".to_owned()));
        assert!(Arc::ptr_eq(&one, &two));
        shared.give_back(&one);
        assert!(Arc::ptr_eq(&shared.take("a".to_owned()), &two));
        shared.give_back(&one);
        shared.give_back(&two);
        assert!(shared.0.is_empty());
    }
}
