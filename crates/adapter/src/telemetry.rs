//! The metrics of the SDK.

/// Every metric of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Envelopes stored.
    Accepted,
    /// From handing an envelope in until it is stored.
    AcceptSeconds,
    /// Envelopes that wait to be stored, by account.
    InboundQueued,
    /// `IN` records stored.
    Records,
    /// Envelopes refused, by reason.
    Refused,
    /// Publishes tried again.
    Retried,
    /// Commands that are held: those that wait for their turn, and those that are being sent. By channel kind.
    CommandsQueued,
    /// Commands that are being sent, by channel kind.
    CommandsInFlight,
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
    /// Connections to the webhooks that are open.
    HookConnections,
    /// Originals that wait to be kept, or are being kept.
    OriginalsQueued,
    /// The bytes that they have.
    OriginalsQueuedBytes,
    /// Originals that were not kept, by reason.
    RawDropped,
    /// Jobs of fetching media that are under way, by channel kind.
    FetchesInFlight,
    /// Media by what became of them.
    Fetches,
    /// Look-ups of who somebody is that wait.
    DescriptionsQueued,
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
            Self::InboundQueued => "adapter_inbound_queued",
            Self::Records => "adapter_records_total",
            Self::Refused => "adapter_refused_total",
            Self::Retried => "adapter_publish_retries_total",
            Self::CommandsQueued => "adapter_commands_queued",
            Self::CommandsInFlight => "adapter_commands_in_flight",
            Self::Sends => "adapter_sends_total",
            Self::SendSeconds => "adapter_send_seconds",
            Self::Overtook => "adapter_overtook_total",
            Self::Dead => "adapter_dead_total",
            Self::HookAnswered => "adapter_hook_answered_total",
            Self::HookRefused => "adapter_hook_refused_total",
            Self::HookUnavailable => "adapter_hook_unavailable_total",
            Self::HookSeconds => "adapter_hook_seconds",
            Self::HookConnections => "adapter_hook_connections",
            Self::OriginalsQueued => "adapter_originals_queued",
            Self::OriginalsQueuedBytes => "adapter_originals_queued_bytes",
            Self::RawDropped => "adapter_raw_dropped_total",
            Self::FetchesInFlight => "adapter_fetches_in_flight",
            Self::Fetches => "adapter_fetches_total",
            Self::DescriptionsQueued => "adapter_descriptions_queued",
            Self::Described => "adapter_described_total",
            Self::HistoryQueries => "adapter_history_queries_total",
        }
    }
}
