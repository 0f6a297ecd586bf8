//! What can go wrong on the bus.

use std::fmt;

/// What went wrong, as far as the caller must tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ambiguous => "it is unknown whether the bus did it",
            Self::Fenced(Some(actual)) => return write!(formatter, "refused, the last sequence is {actual}"),
            Self::Fenced(None) => "refused, the last sequence is another",
            Self::Unavailable => "the bus is unavailable",
            Self::NoResponders => "nobody listens",
            Self::Timeout => "no answer in time",
            Self::Full => "the stream or its disk is full",
            Self::TooLarge => "too large",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not found",
            Self::Purged => "already purged",
            Self::Config => "wrong configuration",
            Self::Other => "the bus failed",
        })
    }
}

/// An error of the bus. Its text holds subjects and names, never a payload or a password.
#[derive(Debug)]
pub struct Error {
    /// What the caller must tell apart.
    pub kind: ErrorKind,
    /// What happened, for people.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// An error of `kind` because of `source`, which may be a text.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// A wrong setting, file or name.
    pub fn config(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Config, source)
    }

    pub(crate) fn other(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Other, source)
    }

    pub(crate) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unavailable, source)
    }

    /// May help to try again, for a call that does no harm when it is done twice.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Ambiguous | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::NoResponders
        )
    }

    /// The same, for a call that only reads: nothing about it is ambiguous.
    pub(crate) fn of_reading(mut self) -> Self {
        if matches!(self.kind, ErrorKind::Ambiguous | ErrorKind::Timeout | ErrorKind::NoResponders) {
            self.kind = ErrorKind::Unavailable;
        }
        self
    }

    /// Puts what was tried before the text.
    pub(crate) fn while_doing(self, what: impl fmt::Display) -> Self {
        Self { kind: self.kind, source: format!("{what}: {}", self.source).into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.source)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text of the cause is part of ours already; go on with what lies below it.
        self.source.source()
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, ErrorKind};

    #[test]
    fn reads_as_a_fragment() {
        let error = Error::new(ErrorKind::Fenced(Some(7)), "journal 3").while_doing("appending");
        assert_eq!(error.to_string(), "refused, the last sequence is 7: appending: journal 3");
    }

    #[test]
    fn reading_is_never_ambiguous() {
        assert_eq!(Error::new(ErrorKind::Ambiguous, "lost").of_reading().kind, ErrorKind::Unavailable);
        assert_eq!(Error::new(ErrorKind::Forbidden, "no").of_reading().kind, ErrorKind::Forbidden);
    }
}
