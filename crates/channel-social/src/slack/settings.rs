//! The settings of one Slack app in one workspace: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::Http;
use crate::provider::{self, Problems};

/// What an operator may set. `config/channels/social-slack.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
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

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        problems.http(&self.http);
        problems.api_base("api_base", &self.api_base);
        problems.secrets("signing_secret", &self.signing_secret);
        let id = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        problems.add("team_id", (!id(&self.team_id)).then_some("must be like T0123ABCD"));
        problems.add("app_id", (!id(&self.app_id)).then_some("must be like A0123ABCD"));
        problems.add("files_hosts", self.files_hosts.is_empty().then_some("names no host"));
        let rate = self.channel_per_second_max > 0.0 && self.channel_per_second_max <= 100.0;
        problems.add("channel_per_second_max", (!rate).then_some("must be more than 0 and at most 100"));
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        self.signing_secret.iter_mut().chain([&mut self.bot_token]).collect()
    }
}
