//! The settings of one official account: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::Http;
use crate::provider::{self, Problems};

/// What an operator may set. `config/channels/social-line.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
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

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        problems.http(&self.http);
        problems.api_base("api_base", &self.api_base);
        problems.api_base("data_api_base", &self.data_api_base);
        problems.secrets("channel_secret", &self.channel_secret);
        problems.rate("per_second_max", self.per_second_max);
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        self.channel_secret.iter_mut().chain([&mut self.access_token]).collect()
    }
}
