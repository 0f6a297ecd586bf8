//! The profile through its public interface.

// `cfg(test)` tells clippy that helpers may unwrap too.
#[cfg(test)]
mod resolve;
#[cfg(test)]
mod rest;
