//! Logs to stderr, and the one list of field names.
//!
//! Messages are static and in lower case, what varies is in fields. The text of a customer's
//! message is never logged.

use std::fmt;

use serde::Deserialize;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The names of fields in log lines and spans.
pub mod field {
    /// One matter of a customer across all channels.
    pub const CONVERSATION: &str = "conversation.id";
    /// A person.
    pub const CUSTOMER: &str = "customer.id";
    /// A kind of medium.
    pub const CHANNEL_KIND: &str = "channel.kind";
    /// One configured mailbox, page or number.
    pub const CHANNEL_ACCOUNT: &str = "channel.account";
    /// A waiting line.
    pub const QUEUE: &str = "queue";
    /// Who takes conversations.
    pub const AGENT: &str = "agent.id";
    /// A proposal to one agent.
    pub const OFFER: &str = "offer.id";
    /// Whose agents, queues and customers belong together.
    pub const TENANT: &str = "tenant";
    /// A share of the tenants, with one writer.
    pub const SHARD: &str = "shard";
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why there are no logs.
#[derive(Debug)]
pub enum TelemetryError {
    /// The filter cannot be understood.
    Filter(String),
    /// A subscriber is installed already.
    AlreadyInstalled,
}

impl fmt::Display for TelemetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(why) => write!(f, "the log filter cannot be understood: {why}"),
            Self::AlreadyInstalled => f.write_str("a log subscriber is installed already"),
        }
    }
}

impl std::error::Error for TelemetryError {}

/// Checks a filter like `info,throughline_router=debug`.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse(filter).map(drop)
}

/// Libraries show whole payloads and passwords at TRACE: that is never logged, whatever the filter says.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    *metadata.level() != Level::TRACE || metadata.target().starts_with("throughline")
}

/// Starts to log. Once per process.
///
/// # Errors
/// When the filter cannot be understood, or logs are on already.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let registry = tracing_subscriber::registry().with(parse(filter)?).with(FilterFn::new(is_discreet));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let outcome = match format {
        Format::Text => registry.with(lines.with_ansi(colour)).try_init(),
        Format::Json => {
            registry.with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()
        }
    };
    outcome.map_err(|_| TelemetryError::AlreadyInstalled)
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder().parse(filter).map_err(|error| TelemetryError::Filter(format!("{filter:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert!(check_filter("info,throughline_router=debug").is_ok());
        assert!(check_filter("info,throughline_router=loud").is_err());
    }

    #[test]
    fn a_bad_filter_does_not_start_logging_and_a_second_start_is_refused() {
        assert!(matches!(init(Format::Text, "a=b=c"), Err(TelemetryError::Filter(_))));
        assert!(init(Format::Json, "off").is_ok());
        assert!(matches!(init(Format::Text, "off"), Err(TelemetryError::AlreadyInstalled)));
    }
}
