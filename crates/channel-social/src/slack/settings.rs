//! The settings of one Slack app in one workspace: the `[settings]` table of its file.

use std::path::Path;

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::{Http, api_base_problem, relative_to, secrets_problem};

/// What an operator may set. `config/channels/social-slack.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The app's signing secret: one, or two while it is changed.
    pub(super) signing_secret: Vec<Secret>,
    /// The bot's token (`xoxb-…`).
    pub(super) bot_token: Secret,
    /// The workspace (`T…`): an app may be in several, each an account.
    pub(super) team_id: String,
    /// The app (`A…`): what it says itself is not heard.
    pub(super) app_id: String,
    /// The bot's own user (`U…`), for the same reason.
    #[serde(default)]
    pub(super) bot_user_id: Option<String>,
    /// Where the Web API is.
    #[serde(default = "api_base")]
    pub(super) api_base: String,
    /// Where files are: to no other host the token is shown. `host` or `host:port`.
    #[serde(default = "files_hosts")]
    pub(super) files_hosts: Vec<String>,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// Most messages a second into one channel.
    #[serde(default = "per_second")]
    pub(super) channel_per_second_max: f64,
}

fn api_base() -> String {
    "https://slack.com/api".to_owned()
}

fn files_hosts() -> Vec<String> {
    vec!["files.slack.com".to_owned()]
}

const fn per_second() -> f64 {
    1.0
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
        check("signing_secret", secrets_problem(&self.signing_secret));
        let id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        check("team_id", (!id(&self.team_id)).then_some("must be like T0123ABCD"));
        check("app_id", (!id(&self.app_id)).then_some("must be like A0123ABCD"));
        check("files_hosts", self.files_hosts.is_empty().then_some("names no host"));
        let rate = self.channel_per_second_max > 0.0 && self.channel_per_second_max <= 100.0;
        check("channel_per_second_max", (!rate).then_some("must be more than 0 and at most 100"));
        found
    }

    /// Takes relative paths from `dir`.
    pub(super) fn relative_to(&mut self, dir: Option<&Path>) {
        relative_to(self.signing_secret.iter_mut().chain([&mut self.bot_token]), dir);
    }
}
