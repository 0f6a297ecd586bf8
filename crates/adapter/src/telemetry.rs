//! The metrics of the SDK.

/// Every metric of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Envelopes stored.
    Accepted,
    /// From handing an envelope in until it is stored.
    AcceptSeconds,
    /// `IN` records stored.
    Records,
    /// Envelopes refused, by reason.
    Refused,
    /// Publishes tried again.
    Retried,
    /// Commands by outcome.
    Sends,
    /// One call of a channel's send.
    SendSeconds,
    /// Commands that waited for the one before them for too long and went on.
    Overtook,
    /// Commands that went to the dead letters.
    Dead,
    /// Questions to the router by outcome.
    HistoryQueries,
}

impl Metric {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "adapter_accepted_total",
            Self::AcceptSeconds => "adapter_accept_seconds",
            Self::Records => "adapter_records_total",
            Self::Refused => "adapter_refused_total",
            Self::Retried => "adapter_publish_retries_total",
            Self::Sends => "adapter_sends_total",
            Self::SendSeconds => "adapter_send_seconds",
            Self::Overtook => "adapter_overtook_total",
            Self::Dead => "adapter_dead_total",
            Self::HistoryQueries => "adapter_history_queries_total",
        }
    }
}
