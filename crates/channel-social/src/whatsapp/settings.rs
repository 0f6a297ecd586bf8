//! The settings of one number: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::Http;
use crate::meta::settings::{App, Graph, id_problem};
use crate::provider::{self, Problems};

/// What an operator may set. `config/channels/social-whatsapp.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
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

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        self.app.check(problems);
        self.graph.check(problems);
        problems.http(&self.http);
        let ids = [
            ("phone_number_id", Some(&self.phone_number_id)),
            ("business_account_id", self.business_account_id.as_ref()),
            ("portfolio_id", self.portfolio_id.as_ref()),
        ];
        for (path, id) in ids {
            problems.add(path, id.and_then(|id| id_problem(id)));
        }
        problems.rate("per_second_max", self.per_second_max);
        let interval = (1..=3_600_000).contains(&self.pair_interval_ms);
        problems.add("pair_interval_ms", (!interval).then_some("must be from 1 to 3600000"));
        let burst = (1..=1000).contains(&self.pair_burst_max);
        problems.add("pair_burst_max", (!burst).then_some("must be from 1 to 1000"));
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        self.app.secrets(&mut self.graph)
    }
}
