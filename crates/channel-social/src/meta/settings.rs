//! Settings that all products of the platform have.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::provider::Problems;

/// The app whose events come here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// Its id, as the console shows it.
    pub(crate) id: String,
    /// Its secret: one, or two while it is changed.
    pub(crate) secret: Vec<Secret>,
    /// What the console is told beside the address: one, or two while it is changed.
    pub(crate) verify_token: Vec<Secret>,
}

/// How the Graph API is called.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graph {
    /// The token of a system user, page or account.
    pub(crate) access_token: Secret,
    /// Where the API is.
    #[serde(default = "api_base")]
    pub(crate) api_base: String,
    /// Its version.
    #[serde(default = "api_version")]
    pub(crate) api_version: String,
    /// Whether each call proves that it knows the app's secret, which an app can demand.
    #[serde(default)]
    pub(crate) appsecret_proof: bool,
}

fn api_base() -> String {
    "https://graph.facebook.com".to_owned()
}

fn api_version() -> String {
    "v25.0".to_owned()
}

impl App {
    /// Looks for everything that is wrong with it.
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.add("app.id", (!is_id(&self.id)).then_some("must be the app's number"));
        problems.secrets("app.secret", &self.secret);
        problems.secrets("app.verify_token", &self.verify_token);
    }

    /// Its secrets, and that of the API.
    pub(crate) fn secrets<'a>(&'a mut self, graph: &'a mut Graph) -> Vec<&'a mut Secret> {
        self.secret.iter_mut().chain(&mut self.verify_token).chain([&mut graph.access_token]).collect()
    }
}

impl Graph {
    /// Looks for everything that is wrong with it.
    pub(crate) fn check(&self, problems: &mut Problems) {
        problems.api_base("graph.api_base", &self.api_base);
        let version = self.api_version.strip_prefix('v').and_then(|version| version.split_once('.'));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let known = version.is_some_and(|(major, minor)| number(major) && number(minor));
        problems.add("graph.api_version", (!known).then_some("must be like v25.0"));
    }
}

/// Whether a text is an id of the platform's, as consoles show them.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is wrong with the id of an account.
pub(crate) fn id_problem(id: &str) -> Option<&'static str> {
    (!is_id(id)).then_some("must be the id that the console shows: digits")
}
