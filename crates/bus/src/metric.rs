//! The names of this crate's metrics.

/// One metric.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Metric {
    /// Connections lost.
    Disconnects,
    /// Messages dropped because a subscription was full (events, each one or more messages).
    SlowConsumers,
    /// What the server forbade.
    Violations,
    /// Publishes and requests whose answer never came.
    AnswersLost,
    /// Readers that started anew from the last message seen.
    ReaderRestarts,
    /// What the server did not store because of its disk.
    StoreFailures,
    /// The embedded server died and was started again.
    ServerRestarts,
}

impl Metric {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Disconnects => "bus_disconnects_total",
            Self::SlowConsumers => "bus_slow_consumers_total",
            Self::Violations => "bus_permission_violations_total",
            Self::AnswersLost => "bus_answers_lost_total",
            Self::ReaderRestarts => "bus_reader_restarts_total",
            Self::StoreFailures => "bus_store_failures_total",
            Self::ServerRestarts => "bus_server_restarts_total",
        }
    }

    /// Counts one more.
    pub(crate) fn count(self) {
        metrics::counter!(self.name()).increment(1);
    }
}
