//! The settings of one widget account: the `[settings]` table of its file.

use std::net::SocketAddr;
use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::limits::Network;
use crate::origin::{self, Origins};

/// What an operator may set. `README.md` and `config/channels/chat-web.toml` explain each.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Address to listen on; accounts with the same one share the listener.
    pub(crate) listen: String,
    /// Exact origins of the pages that may embed the widget; `*` means any.
    pub(crate) origins: Vec<String>,
    /// Serves the demo page, and lets its own origin in.
    pub(crate) demo: bool,
    /// The language of visitors whose page does not tell one, ISO 639-1.
    pub(crate) language: Option<SmolStr>,
    /// Tags of every message of this account, for the rules of the policy.
    pub(crate) tags: Vec<SmolStr>,
    /// Addresses or networks whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<String>,
    /// Signs session tokens; absent: made once and kept in the data folder.
    pub(crate) session_key: Option<Secret>,
    /// A session ends so long after the last visit.
    pub(crate) session_days_max: u32,
    /// The key that the site signs login tokens with (HS256); absent: no logins.
    pub(crate) login_secret: Option<Secret>,
    /// The `aud` that login tokens must have.
    pub(crate) login_audience: Option<String>,
    /// Within which bounds a login's `sub` names one person.
    pub(crate) login_realm: String,
    /// Refuses messages of visitors who are not logged in.
    pub(crate) login_required: bool,
    /// Largest frame of a page.
    pub(crate) frame_bytes_max: usize,
    /// Longest message of a page.
    pub(crate) text_chars_max: usize,
    /// Most messages of a visitor in the long run.
    pub(crate) messages_per_second_max: f64,
    /// Most messages of a visitor at once.
    pub(crate) messages_burst_max: f64,
    /// How often the visitors of one address may ask to go on by another channel, in an hour.
    pub(crate) switches_per_ip_hour_max: u32,
    /// Most open sockets.
    pub(crate) connections_max: usize,
    /// Most open sockets from one address.
    pub(crate) connections_per_ip_max: usize,
    /// Most open sockets of one visitor.
    pub(crate) connections_per_visitor_max: usize,
    /// How long a page has for its first frame.
    pub(crate) join_seconds_max: u64,
    /// A socket that is silent so long, pongs included, is closed.
    pub(crate) idle_seconds_max: u64,
    /// Whether other processes of this channel are told about messages. Off only where there is
    /// exactly one.
    pub(crate) broadcast: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8091".into(),
            origins: Vec::new(),
            demo: false,
            language: None,
            tags: Vec::new(),
            trusted_proxies: Vec::new(),
            session_key: None,
            session_days_max: 30,
            login_secret: None,
            login_audience: None,
            login_realm: "login".into(),
            login_required: false,
            frame_bytes_max: 64 * 1024,
            text_chars_max: 4000,
            messages_per_second_max: 1.0,
            messages_burst_max: 10.0,
            switches_per_ip_hour_max: 10,
            connections_max: 10_000,
            connections_per_ip_max: 64,
            connections_per_visitor_max: 10,
            join_seconds_max: 10,
            idle_seconds_max: 60,
            broadcast: true,
        }
    }
}

impl Settings {
    /// Everything that is wrong, with its path. Pure.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |path, ok: bool, message: String| {
            if !ok {
                problems.push((path, message));
            }
        };
        check("listen", self.address().is_some(), "expected an address like 127.0.0.1:8091".into());
        for text in &self.origins {
            let message = format!("{text:?} is not an origin like https://www.example.com");
            check("origins", text == "*" || origin::parse(text).is_some(), message);
        }
        for text in &self.trusted_proxies {
            let message = format!("{text:?} is neither an address nor a network like 10.0.0.0/8");
            check("trusted_proxies", Network::parse(text).is_some(), message);
        }
        let code = |text: &str| matches!(text.len(), 2 | 3) && text.bytes().all(|b| b.is_ascii_lowercase());
        let language = self.language.as_deref();
        check("language", language.is_none_or(code), "expected an ISO 639-1 code like en".into());
        check(
            "tags",
            self.tags.len() <= 16 && self.tags.iter().all(|tag| !tag.is_empty() && tag.len() <= 64),
            "at most 16 tags of 1 to 64 bytes".into(),
        );
        check(
            "login_realm",
            !self.login_realm.is_empty() && self.login_realm.len() <= 128,
            "needs 1 to 128 bytes".into(),
        );
        let no_key = self.login_required && self.login_secret.is_none();
        check("login_required", !no_key, "needs login_secret, or nobody could write".into());
        let range = |value: u64, min: u64, max: u64| ((min..=max).contains(&value), format!("must be {min} to {max}"));
        for (path, (ok, message)) in [
            ("session_days_max", range(u64::from(self.session_days_max), 1, 3650)),
            ("frame_bytes_max", range(self.frame_bytes_max as u64, 1024, 256 * 1024)),
            ("text_chars_max", range(self.text_chars_max as u64, 1, 32_000)),
            ("switches_per_ip_hour_max", range(u64::from(self.switches_per_ip_hour_max), 1, 10_000)),
            ("connections_max", range(self.connections_max as u64, 1, 1_000_000)),
            ("connections_per_ip_max", range(self.connections_per_ip_max as u64, 1, 1_000_000)),
            ("connections_per_visitor_max", range(self.connections_per_visitor_max as u64, 1, 1000)),
            ("join_seconds_max", range(self.join_seconds_max, 1, 300)),
            ("idle_seconds_max", range(self.idle_seconds_max, 10, 3600)),
        ] {
            check(path, ok, message);
        }
        for (path, value) in
            [("messages_per_second_max", self.messages_per_second_max), ("messages_burst_max", self.messages_burst_max)]
        {
            check(path, value > 0.0 && value <= 1_000_000.0, "must be more than 0 and at most 1000000".into());
        }
        problems
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    pub(crate) fn origins(&self) -> Origins {
        Origins::new(&self.origins, self.demo)
    }

    pub(crate) fn proxies(&self) -> Vec<Network> {
        self.trusted_proxies.iter().filter_map(|text| Network::parse(text)).collect()
    }

    pub(crate) const fn session_life(&self) -> Duration {
        Duration::from_secs(self.session_days_max as u64 * 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_order() {
        assert!(Settings::default().problems().is_empty());
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let settings = Settings {
            listen: "localhost".into(),
            origins: vec!["https://a.example/path".into(), "*".into()],
            trusted_proxies: vec!["10.0.0.0/40".into()],
            login_required: true,
            text_chars_max: 0,
            messages_burst_max: f64::NAN,
            ..Settings::default()
        };
        let paths: Vec<_> = settings.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            ["listen", "origins", "trusted_proxies", "login_required", "text_chars_max", "messages_burst_max"]
        );
    }
}
