//! The settings of one official account: the `[settings]` table of its file.

use std::path::Path;

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::{Http, api_base_problem, relative_to, secrets_problem};

/// What an operator may set. `config/channels/social-line.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The channel secret, which signs what comes: one, or two while it is changed.
    pub(super) channel_secret: Vec<Secret>,
    /// The channel access token, which signs what goes.
    pub(super) access_token: Secret,
    /// The bot's own user id: requests for another are not taken.
    #[serde(default)]
    pub(super) user_id: Option<String>,
    /// Where the Messaging API is.
    #[serde(default = "api_base")]
    pub(super) api_base: String,
    /// Where it gives files out.
    #[serde(default = "data_api_base")]
    pub(super) data_api_base: String,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// Most calls a second.
    #[serde(default = "per_second")]
    pub(super) per_second_max: f64,
}

fn api_base() -> String {
    "https://api.line.me".to_owned()
}

fn data_api_base() -> String {
    "https://api-data.line.me".to_owned()
}

const fn per_second() -> f64 {
    1000.0
}

impl Settings {
    /// Everything that is wrong, by path.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        self.http.problems(&mut found);
        let mut check = |path: &str, problem: Option<&str>| {
            found.extend(problem.map(|problem| (path.to_owned(), problem.to_owned())));
        };
        check("api_base", api_base_problem(&self.api_base));
        check("data_api_base", api_base_problem(&self.data_api_base));
        check("channel_secret", secrets_problem(&self.channel_secret));
        let rate = self.per_second_max > 0.0 && self.per_second_max <= 10_000.0;
        check("per_second_max", (!rate).then_some("must be more than 0 and at most 10000"));
        found
    }

    /// Takes relative paths from `dir`.
    pub(super) fn relative_to(&mut self, dir: Option<&Path>) {
        relative_to(self.channel_secret.iter_mut().chain([&mut self.access_token]), dir);
    }
}
