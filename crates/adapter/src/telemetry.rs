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
    /// Webhook requests that were answered as their hook said.
    HookAnswered,
    /// Webhook requests that were refused, by reason.
    HookRefused,
    /// Webhook requests that the bus could not take in time.
    HookUnavailable,
    /// From the head of a webhook request to its answer.
    HookSeconds,
    /// Originals that were not kept, by reason.
    RawDropped,
    /// Media by what became of them.
    Fetches,
    /// Look-ups of who somebody is, by outcome.
    Described,
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
            Self::HookAnswered => "adapter_hook_answered_total",
            Self::HookRefused => "adapter_hook_refused_total",
            Self::HookUnavailable => "adapter_hook_unavailable_total",
            Self::HookSeconds => "adapter_hook_seconds",
            Self::RawDropped => "adapter_raw_dropped_total",
            Self::Fetches => "adapter_fetches_total",
            Self::Described => "adapter_described_total",
            Self::HistoryQueries => "adapter_history_queries_total",
        }
    }
}
