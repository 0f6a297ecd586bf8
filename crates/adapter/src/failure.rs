//! What becomes of a send: done, or failed in one of three ways.

use std::time::Duration;

use contract::SmolStr;
use contract::envelope::ReceiptStatus;

/// A command was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// How far it got, for the receipt.
    pub status: ReceiptStatus,
    /// The provider's ids of what was sent.
    pub external_ids: Vec<SmolStr>,
    /// Whether the SDK reports it; a channel that reports its sends itself says no.
    pub report: bool,
}

impl Sent {
    /// Sent on to the customer.
    #[must_use]
    pub const fn with_ids(external_ids: Vec<SmolStr>) -> Self {
        Self { status: ReceiptStatus::Sent, external_ids, report: true }
    }

    /// Taken, but not yet on its way.
    #[must_use]
    pub const fn accepted() -> Self {
        Self { status: ReceiptStatus::Accepted, external_ids: Vec::new(), report: true }
    }
}

/// Whose fault a failure is, and whether trying again helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It was not sent; trying again can help.
    Retryable {
        /// Not before this, when the provider says so.
        after: Option<Duration>,
    },
    /// It was not sent, and never will be.
    Permanent,
    /// Nobody knows whether it was sent, and trying again might send it twice.
    Unknown,
}

/// A command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendFailure {
    /// What to do about it.
    pub class: Class,
    /// For a program: the provider's code, or a word of the channel's.
    pub code: SmolStr,
    /// For the operator. Never the content of the message, never a secret.
    pub message: String,
}

impl SendFailure {
    /// A failure that goes away.
    #[must_use]
    pub fn retryable(code: impl Into<SmolStr>, message: impl Into<String>) -> Self {
        Self { class: Class::Retryable { after: None }, code: code.into(), message: message.into() }
    }

    /// A failure that goes away after a time that the provider told.
    #[must_use]
    pub fn retryable_after(after: Duration, code: impl Into<SmolStr>, message: impl Into<String>) -> Self {
        Self { class: Class::Retryable { after: Some(after) }, code: code.into(), message: message.into() }
    }

    /// A failure that stays.
    #[must_use]
    pub fn permanent(code: impl Into<SmolStr>, message: impl Into<String>) -> Self {
        Self { class: Class::Permanent, code: code.into(), message: message.into() }
    }

    /// An outcome that nobody knows.
    #[must_use]
    pub fn unknown(code: impl Into<SmolStr>, message: impl Into<String>) -> Self {
        Self { class: Class::Unknown, code: code.into(), message: message.into() }
    }
}

impl std::fmt::Display for SendFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for SendFailure {}
