//! The routing engine: what happens to a conversation, and which agent it goes to.
//!
//! One [`State`] is one tenant. Inputs go in with the time at which they happen, facts come out; each
//! fact is evolved into the state the moment it is decided, and nothing but [`State::evolve`] changes
//! the state, so that replaying the facts gives the same state, byte for byte.
//!
//! What is absent on purpose: async, I/O, clocks, chance, errors (a command that cannot be done is a
//! [`Refusal`](contract::command::Refusal), a value), and any order that depends on a hash.
//!
//! `README.md` beside this crate states the assignment problem before the code solves it.

mod about;
mod agent;
mod agents;
mod apply;
mod call;
mod classify;
mod command;
mod contact;
mod conversation;
mod enqueue;
mod evolve;
mod explain;
mod inbound;
mod index;
pub mod invariant;
mod liveness;
mod matching;
mod order;
mod queue;
mod rare;
mod receipt;
mod replay;
mod rest;
mod roster;
mod seen;
mod shadow;
mod shared;
mod state;
mod supervise;
mod threads;
mod tick;
mod timer;
mod view;
mod waiting;
mod wish;

pub use about::About;
pub use agent::Agent;
pub use command::{Answer, CommandInput};
pub use contact::{Addresses, NoAddresses, Shown, Switch, Unread, scheme_of, spell};
pub use contract::answer::{AgentView, Counts, Explanation};
pub use conversation::{Conversation, Offer, Past, Phase, ThreadKey, ThreadState};
pub use liveness::Liveness;
pub use order::Precedence;
pub use queue::QueueState;
pub use rare::{Collection, Rare};
pub use replay::Replay;
pub use rest::{Kept, named_by_address};
pub use shadow::Shadow;
pub use state::{Emitted, Reach, State, Step};
pub use timer::Timer;
pub use wish::Wish;
