//! What can go wrong in the router.

use std::fmt;

/// What went wrong, as far as the caller must tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A newer owner leads the shard.
    Deposed,
    /// The bus could not do it; trying again may help.
    Bus,
    /// What the journal or a checkpoint holds cannot be read.
    Unreadable,
    /// The process is stopping.
    Stopping,
}

/// An error of the router.
#[derive(Debug)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// More of it, for a person.
    pub message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn unreadable(what: &str, error: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unreadable, format!("{what}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<bus::Error> for Error {
    fn from(error: bus::Error) -> Self {
        Self::new(ErrorKind::Bus, error.to_string())
    }
}
