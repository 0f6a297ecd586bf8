//! The metrics of social channels.

/// Every metric of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Signs that customers are writing, which wait to be shown; by account.
    TypingQueued,
}

impl Metric {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TypingQueued => "social_typing_queued",
        }
    }
}
