//! The settings of one bot: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::Http;
use crate::provider::{self, Problems};

/// What an operator may set. `config/channels/social-telegram.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The bot's token, as @BotFather gave it.
    pub(super) token: Secret,
    /// What Telegram shows in `X-Telegram-Bot-Api-Secret-Token`: one, or two while it is changed.
    pub(super) secret_token: Vec<Secret>,
    /// Whether the webhook is set at each start.
    #[serde(default = "yes")]
    pub(super) set_webhook: bool,
    /// Where the Bot API is.
    #[serde(default = "api_base")]
    pub(super) api_base: String,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// Most messages a second of the whole bot.
    #[serde(default = "per_second")]
    pub(super) per_second_max: f64,
}

const fn yes() -> bool {
    true
}

fn api_base() -> String {
    "https://api.telegram.org".to_owned()
}

const fn per_second() -> f64 {
    30.0
}

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        problems.http(&self.http);
        problems.api_base("api_base", &self.api_base);
        problems.secrets("secret_token", &self.secret_token);
        problems.rate("per_second_max", self.per_second_max);
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        self.secret_token.iter_mut().chain([&mut self.token]).collect()
    }
}

/// The bot's id: what stands before the colon of its token.
pub(super) fn bot_id(token: &str) -> Option<&str> {
    let (id, secret) = token.split_once(':')?;
    let legal = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let secret =
        secret.len() >= 16 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (legal && secret).then_some(id)
}

/// Whether Telegram takes a secret token.
pub(super) fn legal_secret_token(token: &str) -> bool {
    (16..=256).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
