//! What the routing policy means: which rule fits a conversation, what is asked of an agent and for how long,
//! when a queue is open; and whether a policy can be applied at all.
//!
//! [`Compiled`] answers the engine, [`check`](fn@check) says everything that is wrong with a policy,
//! [`load`](fn@load) does so with the file and the line. Pure: values in, values out. Nothing here reads a clock,
//! the system's time zones or a file, and nothing depends on chance or on the order of a hash.

mod check;
mod compiled;
mod facts;
mod hours;
mod load;
mod rule;
mod steps;

pub mod expr;
pub mod words;

pub use check::{Report, check};
pub use compiled::{Compiled, Routed};
pub use facts::{Facts, detect_language, kind_of};
pub use load::{Loaded, Located, load};

#[cfg(test)]
mod tests;
