//! What can go wrong on the bus.

/// What went wrong, as far as the caller must tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody knows whether it was done (timeout, connection lost while in flight).
    Ambiguous,
    /// The expected last sequence was another; holds the actual one when the server told it.
    Fenced(Option<u64>),
    /// Not done: no leader, no connection, no responders. Try again later.
    Unavailable,
    /// Nobody listens on the subject (requests).
    NoResponders,
    /// No answer in time (requests).
    Timeout,
    /// The stream is full, or the disk.
    Full,
    /// Larger than the server allows.
    TooLarge,
    /// The server forbids it.
    Forbidden,
    /// What was asked for does not exist (stream, bucket, consumer).
    NotFound,
    /// Messages that were to be read are purged.
    Purged,
    /// Wrong configuration: an address, a file, a name.
    Config,
    /// Anything else.
    Other,
}

/// An error of the bus.
#[derive(Debug)]
pub struct Error { pub kind: ErrorKind, pub source: Box<dyn std::error::Error + Send + Sync> }
