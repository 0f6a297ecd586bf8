//! The agents, by name.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use contract::AgentId;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::agent::Agent;

/// The agents in the order of their names; written and read as a map of them. None leaves it.
///
/// A handful of facts in a row change the same agent, which is found again without another search.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agents {
    places: BTreeMap<AgentId, usize>,
    all: Vec<(AgentId, Agent)>,
    /// The place of the one that was changed last.
    last: usize,
}

impl Agents {
    fn place(&self, name: &str) -> Option<usize> {
        match self.all.get(self.last) {
            Some((last, _)) if last.as_str() == name => Some(self.last),
            _ => self.places.get(name).copied(),
        }
    }

    pub(crate) fn get<Q: Borrow<str> + ?Sized>(&self, name: &Q) -> Option<&Agent> {
        self.all.get(self.place(name.borrow())?).map(|(_, agent)| agent)
    }

    pub(crate) fn get_mut<Q: Borrow<str> + ?Sized>(&mut self, name: &Q) -> Option<&mut Agent> {
        self.last = self.place(name.borrow())?;
        self.all.get_mut(self.last).map(|(_, agent)| agent)
    }

    /// Makes sure that there is one of the name.
    pub(crate) fn ensure(&mut self, name: &AgentId) {
        if !self.places.contains_key(name) {
            self.insert(name.clone(), Agent::default());
        }
    }

    fn insert(&mut self, name: AgentId, agent: Agent) {
        self.places.insert(name.clone(), self.all.len());
        self.all.push((name, agent));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AgentId, &Agent)> {
        self.places.values().filter_map(|place| self.all.get(*place)).map(|(name, agent)| (name, agent))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Agent> {
        self.iter().map(|(_, agent)| agent)
    }

    /// All of them, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&AgentId, &mut Agent)> {
        self.all.iter_mut().map(|(name, agent)| (&*name, agent))
    }
}

impl Serialize for Agents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Of the sizes of iterators, only those that are exact are written as such.
        let all: Vec<(&AgentId, &Agent)> = self.iter().collect();
        serializer.collect_map(all)
    }
}

impl<'de> Deserialize<'de> for Agents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Agents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("agents by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Agents, A::Error> {
                let mut agents = Agents::default();
                while let Some((name, agent)) = map.next_entry()? {
                    agents.insert(name, agent);
                }
                Ok(agents)
            }
        }

        deserializer.deserialize_map(Map)
    }
}
