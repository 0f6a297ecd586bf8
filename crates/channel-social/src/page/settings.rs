//! The settings of one page or Instagram account: the `[settings]` table of its file.

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use super::Product;
use crate::api::Http;
use crate::meta::settings::{App, Graph, id_problem};
use crate::provider::{self, Problems};

/// What an operator may set. `config/channels/social-messenger.toml.example` and `social-instagram.toml.example` explain
/// each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
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

impl provider::Settings for Settings {
    fn check(&self, problems: &mut Problems) {
        self.app.check(problems);
        self.graph.check(problems);
        problems.http(&self.http);
        for (path, id) in std::iter::once(("id", &self.id)).chain(self.aliases.iter().map(|id| ("aliases", id))) {
            problems.add(path, id_problem(id));
        }
        if let Some(rate) = self.per_second_max {
            problems.rate("per_second_max", rate);
        }
    }

    fn secrets(&mut self) -> Vec<&mut Secret> {
        self.app.secrets(&mut self.graph)
    }
}

impl Settings {
    /// Most messages a second.
    pub(super) fn rate(&self, product: Product) -> f64 {
        self.per_second_max.unwrap_or(match product {
            Product::Messenger => 40.0,
            Product::Instagram => 100.0,
        })
    }
}
