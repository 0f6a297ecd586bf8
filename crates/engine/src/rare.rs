//! Collections of which most are empty.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;

use contract::AgentId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::conversation::Outbound;

/// A collection that can be empty.
pub trait Collection: Default + 'static {
    /// One that is.
    fn none() -> &'static Self;

    /// Whether this one is.
    fn holds_nothing(&self) -> bool;
}

macro_rules! collection {
    ($($name:ty),*) => {$(
        impl Collection for $name {
            fn none() -> &'static Self {
                static NONE: $name = <$name>::new();
                &NONE
            }

            fn holds_nothing(&self) -> bool {
                self.is_empty()
            }
        }
    )*};
}

collection!(BTreeSet<AgentId>, BTreeMap<AgentId, bool>, VecDeque<Outbound>);

/// A collection that takes no more than a pointer while it is empty, of what there can be a million. It is written as
/// the collection.
#[derive(Debug, Clone)]
pub struct Rare<T>(Option<Box<T>>);

impl<T: Collection> Rare<T> {
    /// Changes it.
    pub(crate) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let all = self.0.get_or_insert_default();
        let changed = change(all);
        if all.holds_nothing() {
            self.0 = None;
        }
        changed
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Collection> From<T> for Rare<T> {
    fn from(all: T) -> Self {
        Self((!all.holds_nothing()).then(|| Box::new(all)))
    }
}

impl<T: Collection> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(all) => all,
            None => T::none(),
        }
    }
}

impl<T: Collection + PartialEq> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Collection + Eq> Eq for Rare<T> {}

impl<T: Collection + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Collection + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Readers were once written as nothing where there were none.
        Ok(Option::<T>::deserialize(deserializer)?.map_or_else(Self::default, Self::from))
    }
}
