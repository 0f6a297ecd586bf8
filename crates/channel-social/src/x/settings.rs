//! The settings of one X account: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::Http;
use crate::provider::{self, Problems};

/// What an operator may set. `config/channels/social-x.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The app's consumer secret, which signs what comes: one, or two while it is changed.
    pub(super) consumer_secret: Vec<Secret>,
    /// The account's id.
    pub(super) user_id: String,
    /// The app's id: what it sent itself is not heard.
    #[serde(default)]
    pub(super) app_id: Option<String>,
    /// An access token of the account by OAuth 2.0, read anew for each call: it ends after two hours, and whoever
    /// refreshes it writes it there.
    #[serde(default)]
    pub(super) access_token: Option<Secret>,
    /// Or the account's tokens by OAuth 1.0a, which do not end.
    #[serde(default)]
    pub(super) oauth1: Option<Oauth1>,
    /// Where the API is.
    #[serde(default = "api_base")]
    pub(super) api_base: String,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// Most messages in 15 minutes.
    #[serde(default = "per_quarter")]
    pub(super) per_quarter_hour_max: u32,
}

/// Tokens by OAuth 1.0a.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Oauth1 {
    /// The app's consumer key.
    pub(super) consumer_key: Secret,
    /// The account's access token.
    pub(super) token: Secret,
    /// And its secret.
    pub(super) token_secret: Secret,
}

fn api_base() -> String {
    "https://api.x.com".to_owned()
}

const fn per_quarter() -> u32 {
    200
}

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        problems.http(&self.http);
        problems.api_base("api_base", &self.api_base);
        problems.secrets("consumer_secret", &self.consumer_secret);
        let id = !self.user_id.is_empty() && self.user_id.bytes().all(|byte| byte.is_ascii_digit());
        problems.add("user_id", (!id).then_some("must be the account's number"));
        let one = self.access_token.is_some() != self.oauth1.is_some();
        problems.add("access_token", (!one).then_some("either this or oauth1 must be there"));
        let rate = (1..=100_000).contains(&self.per_quarter_hour_max);
        problems.add("per_quarter_hour_max", (!rate).then_some("must be from 1 to 100000"));
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        let oauth1 =
            self.oauth1.iter_mut().flat_map(|one| [&mut one.consumer_key, &mut one.token, &mut one.token_secret]);
        self.consumer_secret.iter_mut().chain(&mut self.access_token).chain(oauth1).collect()
    }
}
