//! The metrics of live chat.

/// Every metric of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Connections of listeners that are open and not sockets yet.
    Connections,
    /// Sockets that are open.
    Sockets,
    /// What waits to be written to sockets.
    PushesQueued,
    /// What pages sent and is being stored.
    TicketsInFlight,
    /// Sockets that ended, by why.
    Closed,
    /// Upgrades that were refused, by why.
    Rejected,
    /// Frames that were answered with an error, by code.
    Errors,
    /// Frames given to sockets.
    Delivered,
    /// Transcripts asked for to fill a gap.
    GapFetches,
    /// Messages that no transcript had.
    Skipped,
}

impl Metric {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connections => "chat_connections",
            Self::Sockets => "chat_sockets",
            Self::PushesQueued => "chat_pushes_queued",
            Self::TicketsInFlight => "chat_tickets_in_flight",
            Self::Closed => "chat_closed_total",
            Self::Rejected => "chat_rejected_total",
            Self::Errors => "chat_errors_total",
            Self::Delivered => "chat_delivered_total",
            Self::GapFetches => "chat_gap_fetches_total",
            Self::Skipped => "chat_skipped_total",
        }
    }

    /// Counts one.
    pub(crate) fn count(self, why: &'static str) {
        metrics::counter!(self.name(), "reason" => why).increment(1);
    }
}
