//! The settings of one number: the `[settings]` table of its file.

use std::path::Path;

use serde::Deserialize;

use crate::api::Http;
use crate::meta::settings::{App, Found, Graph, is_id, rate_problem};

/// What an operator may set. `config/channels/social-whatsapp.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The platform's id of the number; not the number.
    pub(super) phone_number_id: String,
    /// The WhatsApp business account that it belongs to.
    #[serde(default)]
    pub(super) business_account_id: Option<String>,
    /// The business portfolio that the account belongs to.
    #[serde(default)]
    pub(super) portfolio_id: Option<String>,
    /// The app.
    pub(super) app: App,
    /// The API.
    pub(super) graph: Graph,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// Most messages a second of the number.
    #[serde(default = "per_second")]
    pub(super) per_second_max: f64,
    /// How long one person is left alone between two messages, on average, in milliseconds.
    #[serde(default = "pair_interval")]
    pub(super) pair_interval_ms: u64,
    /// How many messages may go to one person at once after a pause.
    #[serde(default = "pair_burst")]
    pub(super) pair_burst_max: u32,
}

const fn per_second() -> f64 {
    80.0
}

const fn pair_interval() -> u64 {
    6000
}

const fn pair_burst() -> u32 {
    45
}

impl Settings {
    /// Everything that is wrong, by path.
    pub(super) fn problems(&self) -> Vec<Found> {
        let mut found = Vec::new();
        self.app.problems(&mut found);
        self.graph.problems(&mut found);
        self.http.problems(&mut found);
        let ids = [
            ("phone_number_id", Some(&self.phone_number_id)),
            ("business_account_id", self.business_account_id.as_ref()),
            ("portfolio_id", self.portfolio_id.as_ref()),
        ];
        for (path, id) in ids {
            if id.is_some_and(|id| !is_id(id)) {
                found.push((path.into(), "must be the id that the console shows: digits".into()));
            }
        }
        found.extend(rate_problem(self.per_second_max).map(|problem| ("per_second_max".into(), problem.to_owned())));
        if !(1..=3_600_000).contains(&self.pair_interval_ms) {
            found.push(("pair_interval_ms".into(), "must be from 1 to 3600000".into()));
        }
        if !(1..=1000).contains(&self.pair_burst_max) {
            found.push(("pair_burst_max".into(), "must be from 1 to 1000".into()));
        }
        found
    }

    /// Takes relative paths from `dir`.
    pub(super) fn relative_to(&mut self, dir: Option<&Path>) {
        self.app.relative_to(dir);
        self.graph.relative_to(dir);
    }
}
