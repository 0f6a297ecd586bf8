//! The settings of one Viber bot: the `[settings]` table of its file.

use std::path::Path;

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::{Http, api_base_problem, relative_to, secrets_problem};

/// Longest name that a message may show.
const NAME_CHARS_MAX: usize = 28;

/// What an operator may set. `config/channels/social-viber.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The bot's authentication token. It signs what comes too: one, or two while it is changed; the first sends.
    pub(super) auth_token: Vec<Secret>,
    /// The name that customers see.
    pub(super) name: String,
    /// The address of the picture that they see.
    #[serde(default)]
    pub(super) avatar: Option<String>,
    /// What whoever opens the chat for the first time is told.
    #[serde(default)]
    pub(super) welcome: Option<String>,
    /// Whether the webhook is set at each start.
    #[serde(default = "yes")]
    pub(super) set_webhook: bool,
    /// Where the API is.
    #[serde(default = "api_base")]
    pub(super) api_base: String,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// Most messages a second.
    #[serde(default = "per_second")]
    pub(super) per_second_max: f64,
}

const fn yes() -> bool {
    true
}

fn api_base() -> String {
    "https://chatapi.viber.com".to_owned()
}

const fn per_second() -> f64 {
    50.0
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
        check("auth_token", secrets_problem(&self.auth_token));
        let named = !self.name.trim().is_empty() && self.name.chars().count() <= NAME_CHARS_MAX;
        check("name", (!named).then_some("must have 1 to 28 characters"));
        let rate = self.per_second_max > 0.0 && self.per_second_max <= 10_000.0;
        check("per_second_max", (!rate).then_some("must be more than 0 and at most 10000"));
        let welcome = self.welcome.as_ref().is_none_or(|text| (1..=7000).contains(&text.chars().count()));
        check("welcome", (!welcome).then_some("must have 1 to 7000 characters"));
        found
    }

    /// Takes relative paths from `dir`.
    pub(super) fn relative_to(&mut self, dir: Option<&Path>) {
        relative_to(&mut self.auth_token, dir);
    }
}
