//! Who a message is from, and on what evidence.
//!
//! A customer is a set of scoped identities, each with an assurance. Only verified evidence finds a
//! verified identity's customer: whoever merely claims an address gets a customer of their own, so that
//! a forged From never reads another's history. Pure like the engine: facts out, [`State::evolve`] alone
//! changes the state, a replay gives the same state.
//!
//! Absent on purpose: async, I/O, clocks, chance, scans. The index is a `DashMap`, looked up by key only.

mod command;
mod index;
mod normal;
mod resolve;
mod rest;
mod state;
mod view;

pub use contract::answer::{CustomerView, Held};
pub use resolve::stand_in;
pub use rest::{Kept, Rest};
pub use state::{Customer, IdentityKey, State, Suggested, thread_fingerprint};
