//! Which agents' tools have fallen silent. Not part of the journal: a new owner gives every agent the
//! full silence again before it believes that somebody is gone.

use std::collections::{BTreeMap, BTreeSet};

use contract::{AgentId, Millis, Timestamp};

/// When each agent's tool was last heard of.
#[derive(Debug, Default)]
pub struct Liveness {
    heard: BTreeMap<AgentId, Timestamp>,
    by_time: BTreeSet<(Timestamp, AgentId)>,
}

impl Liveness {
    /// The agent's tool gave a sign of life.
    pub fn touch(&mut self, agent: &AgentId, now: Timestamp) {
        if let Some(before) = self.heard.insert(agent.clone(), now) {
            self.by_time.remove(&(before, agent.clone()));
        }
        self.by_time.insert((now, agent.clone()));
    }

    /// Forgets an agent that is no longer connected.
    pub fn forget(&mut self, agent: &AgentId) {
        if let Some(before) = self.heard.remove(agent) {
            self.by_time.remove(&(before, agent.clone()));
        }
    }

    /// The agents not heard of for `silence`, longest first.
    #[must_use]
    pub fn silent(&self, now: Timestamp, silence: Millis) -> Vec<AgentId> {
        self.by_time.iter().take_while(|(heard, _)| *heard + silence <= now).map(|(_, agent)| agent.clone()).collect()
    }

    /// When the next agent counts as silent.
    #[must_use]
    pub fn next_deadline(&self, silence: Millis) -> Option<Timestamp> {
        self.by_time.first().map(|(heard, _)| *heard + silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_silent_and_when() {
        let (anna, ben) = (AgentId::new("anna").unwrap(), AgentId::new("ben").unwrap());
        let mut liveness = Liveness::default();
        liveness.touch(&anna, Timestamp(0));
        liveness.touch(&ben, Timestamp(5));
        liveness.touch(&anna, Timestamp(10));
        assert_eq!(liveness.next_deadline(Millis(20)), Some(Timestamp(25)));
        assert_eq!(liveness.silent(Timestamp(25), Millis(20)), vec![ben.clone()]);
        liveness.forget(&ben);
        assert_eq!(liveness.silent(Timestamp(30), Millis(20)), vec![anna]);
    }
}
