//! The settings of one page or Instagram account: the `[settings]` table of its file.

use std::path::Path;

use serde::Deserialize;

use super::Product;
use crate::api::Http;
use crate::meta::settings::{App, Found, Graph, is_id, rate_problem};

/// What an operator may set. `config/channels/social-messenger.toml.example` and `social-instagram.toml.example` explain
/// each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The id of the page, or of the Instagram professional account.
    pub(super) id: String,
    /// Further ids under which the platform names the same account.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    /// The app.
    pub(super) app: App,
    /// The API.
    pub(super) graph: Graph,
    /// How it is called.
    #[serde(default)]
    pub(super) http: Http,
    /// The platform lets this app say that a person answers: then people may do so for seven days.
    #[serde(default)]
    pub(super) human_agent: bool,
    /// Most messages a second; left out: what the platform allows.
    #[serde(default)]
    pub(super) per_second_max: Option<f64>,
}

impl Settings {
    /// Everything that is wrong, by path.
    pub(super) fn problems(&self) -> Vec<Found> {
        let mut found = Vec::new();
        self.app.problems(&mut found);
        self.graph.problems(&mut found);
        self.http.problems(&mut found);
        for (path, id) in std::iter::once(("id", &self.id)).chain(self.aliases.iter().map(|id| ("aliases", id))) {
            if !is_id(id) {
                found.push((path.into(), "must be the id that the console shows: digits".into()));
            }
        }
        let rate = self.per_second_max.and_then(rate_problem);
        found.extend(rate.map(|problem| ("per_second_max".into(), problem.to_owned())));
        found
    }

    /// Takes relative paths from `dir`.
    pub(super) fn relative_to(&mut self, dir: Option<&Path>) {
        self.app.relative_to(dir);
        self.graph.relative_to(dir);
    }

    /// Most messages a second.
    pub(super) fn rate(&self, product: Product) -> f64 {
        self.per_second_max.unwrap_or(match product {
            Product::Messenger => 40.0,
            Product::Instagram => 100.0,
        })
    }
}
