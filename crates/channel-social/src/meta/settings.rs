//! Settings that all products of the platform have.

use std::path::Path;

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::api::{api_base_problem, relative_to, secrets_problem};

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

/// A problem: the setting, and what is wrong with it.
pub(crate) type Found = (String, String);

impl App {
    /// Everything that is wrong with it.
    pub(crate) fn problems(&self, found: &mut Vec<Found>) {
        if !is_id(&self.id) {
            found.push(("app.id".into(), "must be the app's number".into()));
        }
        for (path, secrets) in [("app.secret", &self.secret), ("app.verify_token", &self.verify_token)] {
            found.extend(secrets_problem(secrets).map(|problem| (path.to_owned(), problem.to_owned())));
        }
    }

    /// Takes relative paths from `dir`.
    pub(crate) fn relative_to(&mut self, dir: Option<&Path>) {
        relative_to(self.secret.iter_mut().chain(&mut self.verify_token), dir);
    }
}

impl Graph {
    /// Everything that is wrong with it.
    pub(crate) fn problems(&self, found: &mut Vec<Found>) {
        found.extend(api_base_problem(&self.api_base).map(|problem| ("graph.api_base".into(), problem.to_owned())));
        let version = self.api_version.strip_prefix('v').and_then(|version| version.split_once('.'));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !version.is_some_and(|(major, minor)| number(major) && number(minor)) {
            found.push(("graph.api_version".into(), "must be like v25.0".into()));
        }
    }

    /// Takes relative paths from `dir`.
    pub(crate) fn relative_to(&mut self, dir: Option<&Path>) {
        relative_to([&mut self.access_token], dir);
    }
}

/// Whether a text is an id of the platform's, as consoles show them.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is wrong with a rate.
pub(crate) fn rate_problem(rate: f64) -> Option<&'static str> {
    (!(rate > 0.0 && rate <= 10_000.0)).then_some("must be more than 0 and at most 10000")
}
