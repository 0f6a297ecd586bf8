//! Values that many conversations have alike, kept once.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Equal values, each kept once for as long as somebody has it. Who takes one gives it back.
#[derive(Debug, Clone)]
pub(crate) struct Shared<T>(BTreeMap<Arc<T>, u32>);

impl<T: Ord> Default for Shared<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Shared<T> {
    /// The one that is equal; this one if nobody has such a one yet.
    pub(crate) fn take(&mut self, value: T) -> Arc<T> {
        if let Some((known, _)) = self.0.get_key_value(&value) {
            let known = Arc::clone(known);
            if let Some(count) = self.0.get_mut(&value) {
                *count += 1;
            }
            return known;
        }
        let value = Arc::new(value);
        self.0.insert(Arc::clone(&value), 1);
        value
    }

    /// One of those who had it has it no more.
    pub(crate) fn give_back(&mut self, value: &T) {
        if let Some(count) = self.0.get_mut(value) {
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
