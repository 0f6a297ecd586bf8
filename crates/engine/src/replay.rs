//! A state that is being made again from its journal.
//!
//! Nothing is decided until all of it has been replayed, so that what only decisions ask for (timers, what waits, who is
//! ready) is not kept in step with every fact, but made from the state once at the end, as after a snapshot was read.
//! The state and everything derived from it are then the same as those of who evolved fact by fact (R10).

use contract::journal::Entry;
use contract::outbound::OutCommand;
use contract::{Event, TenantId, Timestamp};

use crate::state::{Emitted, Reach, State};

/// A state that is being made again from its journal.
#[derive(Debug, Clone)]
pub struct Replay(State);

impl Default for Replay {
    fn default() -> Self {
        Self::new(State::new())
    }
}

impl Replay {
    /// Begins with a state, as it was read from a snapshot; it need not be indexed.
    #[must_use]
    pub fn new(mut state: State) -> Self {
        state.begin_replay();
        Self(state)
    }

    /// Does an entry of the journal again, and says whom each fact reaches.
    pub fn entry(&mut self, entry: &Entry) -> Vec<Emitted> {
        self.0.replay(entry)
    }

    /// The command that sends what a fact says, as [`State::out_command`].
    #[must_use]
    pub fn out_command(&self, tenant: &TenantId, at: Timestamp, event: &Event, reach: &Reach) -> Option<OutCommand> {
        self.0.out_command(tenant, at, event, reach)
    }

    /// All of the journal has been replayed.
    #[must_use]
    pub fn finish(mut self) -> State {
        self.0.end_replay();
        self.0
    }
}
