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
    /// Publishes and requests whose answer is awaited.
    RequestsInFlight,
    /// Publishes and requests that wait for one of those to end.
    RequestsQueued,
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
            Self::RequestsInFlight => "bus_requests_in_flight",
            Self::RequestsQueued => "bus_requests_queued",
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

/// What one connection adds to a gauge: a process has several, and their sum is shown.
pub(crate) struct Share {
    gauge: metrics::Gauge,
    shown: f64,
}

impl Share {
    pub(crate) fn of(metric: Metric) -> Self {
        Self { gauge: metrics::gauge!(metric.name()), shown: 0.0 }
    }

    /// From now on it is so much.
    pub(crate) fn show(&mut self, count: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        let count = count as f64;
        self.gauge.increment(count - self.shown);
        self.shown = count;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.decrement(self.shown);
    }
}
