//! The threads, found by account and key.
//!
//! There can be millions. In one tree by their whole names, each look compared two long names that are nearly always the
//! same before it came to what differs, and each name stood there once more than it must.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use contract::{AccountId, ChannelKind, SmolStr};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::conversation::{ThreadKey, ThreadState};

/// A thread with its name, which whoever runs on it shares.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) key: Arc<ThreadKey>,
    pub(crate) state: ThreadState,
}

/// The threads of an account.
type OfAccount = BTreeMap<SmolStr, Box<Named>>;

/// The threads, in the order of their names; written and read as a map of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads(BTreeMap<ChannelKind, BTreeMap<AccountId, OfAccount>>);

impl Threads {
    fn of_account(&self, key: &ThreadKey) -> Option<&OfAccount> {
        self.0.get(&key.kind)?.get(&key.account)
    }

    pub(crate) fn named(&self, key: &ThreadKey) -> Option<&Named> {
        self.of_account(key)?.get(&key.key).map(Box::as_ref)
    }

    pub(crate) fn named_mut(&mut self, key: &ThreadKey) -> Option<&mut Named> {
        self.0.get_mut(&key.kind)?.get_mut(&key.account)?.get_mut(&key.key).map(Box::as_mut)
    }

    pub(crate) fn get(&self, key: &ThreadKey) -> Option<&ThreadState> {
        self.named(key).map(|named| &named.state)
    }

    pub(crate) fn get_mut(&mut self, key: &ThreadKey) -> Option<&mut ThreadState> {
        self.named_mut(key).map(|named| &mut named.state)
    }

    pub(crate) fn contains_key(&self, key: &ThreadKey) -> bool {
        self.named(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: Arc<ThreadKey>, state: ThreadState) {
        let of_account = match self.0.get_mut(&key.kind).and_then(|of_kind| of_kind.get_mut(&key.account)) {
            Some(of_account) => of_account,
            None => self.0.entry(key.kind.clone()).or_default().entry(key.account.clone()).or_default(),
        };
        of_account.insert(key.key.clone(), Box::new(Named { key, state }));
    }

    pub(crate) fn remove(&mut self, key: &ThreadKey) -> Option<ThreadState> {
        let removed = self.0.get_mut(&key.kind)?.get_mut(&key.account)?.remove(&key.key);
        removed.map(|named| named.state)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Named> {
        self.0.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).map(Box::as_ref)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Named> {
        self.0.values_mut().flat_map(BTreeMap::values_mut).flat_map(BTreeMap::values_mut).map(Box::as_mut)
    }

    fn len(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }
}

impl Serialize for Threads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for named in self.iter() {
            map.serialize_entry(&*named.key, &named.state)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Threads;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("threads by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Threads, A::Error> {
                let mut threads = Threads::default();
                while let Some((key, state)) = map.next_entry()? {
                    threads.insert(Arc::new(key), state);
                }
                Ok(threads)
            }
        }

        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_a_map_of_names_in_their_order() {
        let key = |kind: &str, account: &str, key: &str| ThreadKey {
            kind: ChannelKind::new(kind).unwrap(),
            account: AccountId::new(account).unwrap(),
            key: key.into(),
        };
        let state: ThreadState = serde_json::from_value(serde_json::json!({
            "account": {"kind": "chat", "id": "web"}, "extra": null, "customer": "u1", "seq": 1, "last_sent": null,
            "outbound": []
        }))
        .unwrap();
        let keys = [key("sms", "a", "1"), key("chat", "web", "b"), key("chat", "web", "a"), key("chat", "app", "z")];
        let mut plain: BTreeMap<ThreadKey, ThreadState> = BTreeMap::new();
        let mut threads = Threads::default();
        for key in keys {
            plain.insert(key.clone(), state.clone());
            threads.insert(Arc::new(key), state.clone());
        }
        let written = contract::Encoding::MsgPack.encode(&plain).unwrap();
        assert_eq!(contract::Encoding::MsgPack.encode(&threads).unwrap(), written);
        let read: Threads = contract::Encoding::MsgPack.decode(&written, usize::MAX).unwrap();
        assert!(read.iter().map(|named| &*named.key).eq(plain.keys()));
        assert_eq!(read.len(), 4);
    }
}
