mod checking;
mod delivered;
mod evaluation;
mod hours;
mod loading;

use std::sync::Arc;

use contract::Timestamp;
use contract::policy::Policy;

use crate::Compiled;

fn policy(text: &str) -> Policy {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn compiled(text: &str) -> Compiled {
    Compiled::new(Arc::new(policy(text)))
}

/// A moment, as RFC 3339.
fn at(text: &str) -> Timestamp {
    let stamp: jiff::Timestamp = text.parse().unwrap();
    Timestamp(u64::try_from(stamp.as_millisecond()).unwrap())
}
