//! The settings of one Viber bot: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::Http;
use crate::provider::{self, Problems};

/// Longest name that a message may show.
const NAME_CHARS_MAX: usize = 28;

/// What an operator may set. `config/channels/social-viber.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
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

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        problems.http(&self.http);
        problems.api_base("api_base", &self.api_base);
        problems.secrets("auth_token", &self.auth_token);
        problems.rate("per_second_max", self.per_second_max);
        let named = !self.name.trim().is_empty() && self.name.chars().count() <= NAME_CHARS_MAX;
        problems.add("name", (!named).then_some("must have 1 to 28 characters"));
        let welcome = self.welcome.as_ref().is_none_or(|text| (1..=7000).contains(&text.chars().count()));
        problems.add("welcome", (!welcome).then_some("must have 1 to 7000 characters"));
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        self.auth_token.iter_mut().collect()
    }
}
