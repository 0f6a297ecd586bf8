//! The wall clock in the contract's terms.

use contract::Timestamp;

/// The time on the wall.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(runtime::clock::now())
}
