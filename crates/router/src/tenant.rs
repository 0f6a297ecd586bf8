//! One tenant: routing and profile side by side. Pure.

use contract::journal::{Cause, Entry, Fingerprint};
use contract::{Envelope, Timestamp};
use engine::{Emitted, Step};
use serde::{Deserialize, Serialize};

/// The state of one tenant.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tenant {
    /// Conversations, queues and agents.
    pub engine: engine::State,
    /// Customers.
    pub profile: profile::State,
}

impl Tenant {
    /// Takes in an envelope. `None`: it was taken in before, and changes nothing.
    pub fn receive(&mut self, now: Timestamp, envelope: Envelope) -> Option<Step> {
        if self.engine.has_seen(&envelope) {
            return None;
        }
        let cause = Cause::Envelope(Fingerprint(envelope.fingerprint()));
        let mut step = self.engine.open_step(now, cause);
        let customer = engine::State::needs_customer(&envelope).then(|| {
            let (policy, version) = self.engine.policy();
            self.profile.follow(version, &policy.identity);
            let (customer, facts) = self.profile.resolve(&envelope);
            for fact in facts {
                self.profile.evolve(step.at, &fact);
                self.engine.adopt(&mut step, fact);
            }
            customer
        });
        self.engine.receive(&mut step, customer, envelope);
        Some(step)
    }

    /// Does an entry of the journal again.
    pub fn replay(&mut self, entry: &Entry) -> Vec<Emitted> {
        for event in &entry.events {
            self.profile.evolve(entry.at, event);
        }
        self.engine.replay(entry)
    }

    /// Rebuilds what is derived, after a snapshot was read.
    pub fn reindex(&mut self) {
        self.engine.reindex();
        self.profile.reindex();
    }
}
