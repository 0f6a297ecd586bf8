//! The settings of one mailbox: the `[settings]` table of its file.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adapter::runtime::secret::Secret;
use serde::Deserialize;

use crate::address::Mailbox;
use crate::token;

/// What an operator may set. `config/channels/email.toml.example` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// From, and the base of the reply addresses.
    pub(crate) address: String,
    /// The name beside it.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Further addresses that are ours.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Signs reply addresses and Message-IDs; absent: made once and kept in the data folder.
    #[serde(default)]
    pub(crate) reply_token_key: Option<Secret>,
    /// Whether answers go to `local+token@domain`.
    #[serde(default = "yes")]
    pub(crate) plus_addressing: bool,
    /// Whether the return path says which mail bounced; needs `plus_addressing`.
    #[serde(default = "yes")]
    pub(crate) verp: bool,
    /// The only receiver whose Authentication-Results are believed.
    #[serde(default)]
    pub(crate) authserv_id: Option<String>,
    /// Largest mail that is read, in bytes.
    #[serde(default = "mail_bytes_max")]
    pub(crate) mail_bytes_max: usize,
    /// Most MIME parts that are looked at.
    #[serde(default = "parts_max")]
    pub(crate) parts_max: usize,
    /// Most bytes of attachments of one mail, decoded.
    #[serde(default = "attachments_bytes_max")]
    pub(crate) attachments_bytes_max: usize,
    /// Most attachments of one mail.
    #[serde(default = "attachments_max")]
    pub(crate) attachments_max: usize,
    /// Most automatic mails to one address in an hour.
    #[serde(default = "auto_replies_per_hour_max")]
    pub(crate) auto_replies_per_hour_max: u32,
    /// Most automatic mails in one thread in a day.
    #[serde(default = "auto_replies_per_thread_day_max")]
    pub(crate) auto_replies_per_thread_day_max: u32,
    /// Where mail comes from.
    pub(crate) imap: Imap,
    /// Where mail goes.
    pub(crate) smtp: Smtp,
    /// Instead of passwords.
    #[serde(default)]
    pub(crate) oauth: Option<Oauth>,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Security {
    /// TLS from the first byte.
    #[default]
    Tls,
    /// TLS after a command; without it nothing else is said.
    Starttls,
    /// None, on this machine only.
    None,
}

/// The `[settings.imap]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Imap {
    pub(crate) host: String,
    /// Absent: 993, or 143 without TLS from the start.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    #[serde(default)]
    pub(crate) security: Security,
    pub(crate) user: String,
    /// Absent with `[settings.oauth]`.
    #[serde(default)]
    pub(crate) password: Option<Secret>,
    /// Certificates to believe instead of the system's.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(default = "folders")]
    pub(crate) folders: Vec<String>,
    /// Where the provider keeps copies of what we send: read only for the ids that it gave them.
    #[serde(default)]
    pub(crate) sent_folder: Option<String>,
    /// Whether to be told of new mail; looked for every `poll_seconds` either way.
    #[serde(default = "yes")]
    pub(crate) idle: bool,
    #[serde(default = "idle_seconds_max")]
    pub(crate) idle_seconds_max: u64,
    #[serde(default = "poll_seconds")]
    pub(crate) poll_seconds: u64,
    #[serde(default = "imap_timeout")]
    pub(crate) timeout_seconds: u64,
    #[serde(default)]
    pub(crate) first_run: FirstRun,
}

/// What is taken of a mailbox that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FirstRun {
    /// Only what arrives from now on.
    #[default]
    New,
    /// Everything.
    All,
    /// What arrived within so many days, and from now on.
    #[serde(rename = "days")]
    Days(u32),
}

/// The `[settings.smtp]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smtp {
    pub(crate) host: String,
    /// Absent: 465, 587 with STARTTLS, 25 without.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    #[serde(default)]
    pub(crate) security: Security,
    /// Absent: nobody signs in.
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) password: Option<Secret>,
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(default = "smtp_timeout")]
    pub(crate) timeout_seconds: u64,
    /// How long a mail that is not taken is tried again.
    #[serde(default = "retry_hours_max")]
    pub(crate) retry_hours_max: u64,
}

/// The `[settings.oauth]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Oauth {
    pub(crate) token_url: String,
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) client_secret: Option<Secret>,
    /// Absent: the client's own credentials.
    #[serde(default)]
    pub(crate) refresh_token: Option<Secret>,
    #[serde(default)]
    pub(crate) scope: Option<String>,
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
}

const fn yes() -> bool {
    true
}

const fn mail_bytes_max() -> usize {
    25 * 1024 * 1024
}

const fn parts_max() -> usize {
    200
}

const fn attachments_bytes_max() -> usize {
    25 * 1024 * 1024
}

const fn attachments_max() -> usize {
    50
}

const fn auto_replies_per_hour_max() -> u32 {
    4
}

const fn auto_replies_per_thread_day_max() -> u32 {
    1
}

fn folders() -> Vec<String> {
    vec!["INBOX".to_owned()]
}

const fn idle_seconds_max() -> u64 {
    300
}

const fn poll_seconds() -> u64 {
    60
}

const fn imap_timeout() -> u64 {
    30
}

const fn smtp_timeout() -> u64 {
    60
}

const fn retry_hours_max() -> u64 {
    96
}

impl Settings {
    /// Everything that is wrong, with its path. Pure.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |path: &'static str, ok: bool, message: &str| {
            if !ok {
                problems.push((path, message.to_owned()));
            }
        };
        let address = Mailbox::parse(&self.address);
        check("address", address.is_some(), "expected an address like support@shop.example");
        if let Some(address) = &address {
            let fits = !self.plus_addressing || address.local().len() + 1 + token::REPLY_CHARS <= 64;
            check("plus_addressing", fits, "the part before the @ is too long to carry a token");
            let plain = !self.plus_addressing || !address.local().contains('+');
            check("address", plain, "must not have a + of its own with plus_addressing");
            check("address", self.address.is_ascii(), "must be ASCII; write the domain in its xn-- form");
        }
        check("name", self.name.as_ref().is_none_or(|name| name.len() <= 200), "at most 200 bytes");
        check("aliases", self.aliases.len() <= 100, "at most 100");
        check("aliases", self.aliases.iter().all(|alias| Mailbox::parse(alias).is_some()), "each must be an address");
        let id = self.authserv_id.as_deref();
        check("authserv_id", id.is_none_or(|id| !id.trim().is_empty()), "must not be empty");
        let numbers: [(&'static str, u64, u64, u64); 12] = [
            ("mail_bytes_max", self.mail_bytes_max as u64, 10_240, 100 << 20),
            ("parts_max", self.parts_max as u64, 1, 1000),
            ("attachments_bytes_max", self.attachments_bytes_max as u64, 0, 100 << 20),
            ("attachments_max", self.attachments_max as u64, 0, 60),
            ("auto_replies_per_hour_max", u64::from(self.auto_replies_per_hour_max), 0, 1000),
            ("auto_replies_per_thread_day_max", u64::from(self.auto_replies_per_thread_day_max), 0, 1000),
            ("imap.idle_seconds_max", self.imap.idle_seconds_max, 10, 1740),
            ("imap.poll_seconds", self.imap.poll_seconds, 1, 3600),
            ("imap.timeout_seconds", self.imap.timeout_seconds, 1, 600),
            ("imap.folders", self.imap.folders.len() as u64, 1, 20),
            ("smtp.timeout_seconds", self.smtp.timeout_seconds, 1, 600),
            // Stream and ledger keep seven days.
            ("smtp.retry_hours_max", self.smtp.retry_hours_max, 1, 144),
        ];
        for (path, value, min, max) in numbers {
            check(path, (min..=max).contains(&value), &format!("must be {min} to {max}"));
        }
        let folders = self.imap.folders.iter().chain(&self.imap.sent_folder);
        let legal = folders.clone().all(|name| !name.is_empty() && !name.contains(['\r', '\n', '"', '\\', '\0']));
        check("imap.folders", legal, "a name must not be empty, nor have quotes or line ends");
        let mut names: Vec<_> = folders.collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        check("imap.folders", names.len() == count, "a folder is named twice");
        check("imap.host", !self.imap.host.is_empty(), "is empty");
        check("smtp.host", !self.smtp.host.is_empty(), "is empty");
        for (path, security, host) in [
            ("imap.security", self.imap.security, &self.imap.host),
            ("smtp.security", self.smtp.security, &self.smtp.host),
        ] {
            let safe = security != Security::None || is_loopback(host);
            check(path, safe, "none would send passwords and mail in the clear; only for this machine's own host");
        }
        let oauth = self.oauth.is_some();
        let one = oauth != self.imap.password.is_some();
        check("imap.password", one, "needs either a password or [settings.oauth], not both");
        let smtp = self.smtp.password.is_none() || (!oauth && self.smtp.user.is_some());
        check("smtp.password", smtp, "needs a user, and no [settings.oauth] beside it");
        let user = self.smtp.user.is_none() || oauth || self.smtp.password.is_some();
        check("smtp.user", user, "needs a password or [settings.oauth]");
        if let Some(oauth) = &self.oauth {
            let url = crate::oauth::Endpoint::parse(&oauth.token_url);
            check(
                "oauth.token_url",
                url.is_some(),
                "expected https://host/path, or http:// to this machine's own host",
            );
            check("oauth.client_id", !oauth.client_id.is_empty(), "is empty");
            let proof = oauth.client_secret.is_some() || oauth.refresh_token.is_some();
            check("oauth", proof, "needs a client_secret or a refresh_token");
        }
        problems
    }

    /// Makes the files that it names relative to the folder of the account's file.
    pub(crate) fn relative_to(&mut self, dir: &Path) {
        let secrets = [&mut self.reply_token_key, &mut self.imap.password, &mut self.smtp.password];
        let of_oauth = self.oauth.iter_mut().flat_map(|oauth| [&mut oauth.client_secret, &mut oauth.refresh_token]);
        for secret in secrets.into_iter().chain(of_oauth) {
            *secret = secret.take().map(|secret| secret.relative_to(dir));
        }
        let of_oauth = self.oauth.iter_mut().map(|oauth| &mut oauth.ca_file);
        for path in [&mut self.imap.ca_file, &mut self.smtp.ca_file].into_iter().chain(of_oauth) {
            *path = path.take().map(|path| dir.join(path));
        }
    }
}

impl Imap {
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::Tls => 993,
            Security::Starttls | Security::None => 143,
        })
    }
}

impl Smtp {
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::Tls => 465,
            Security::Starttls => 587,
            Security::None => 25,
        })
    }
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        address = "support@shop.example"
        [imap]
        host = "mail.shop.example"
        user = "support"
        password = { env = "P" }
        first_run = { days = 7 }
        [smtp]
        host = "mail.shop.example"
        security = "starttls"
        user = "support"
        password = { env = "P" }
    "#;

    fn parse(text: &str) -> Settings {
        adapter::toml::from_str(text).unwrap()
    }

    #[test]
    fn a_short_file_is_enough() {
        let settings = parse(GOOD);
        assert!(settings.problems().is_empty(), "{:?}", settings.problems());
        assert_eq!((settings.imap.port(), settings.smtp.port()), (993, 587));
        assert_eq!(settings.imap.first_run, FirstRun::Days(7));
        assert_eq!(parse(&GOOD.replace("{ days = 7 }", "\"all\"")).imap.first_run, FirstRun::All);
    }

    #[test]
    fn nothing_goes_in_the_clear_over_a_network() {
        let text = GOOD.replace("security = \"starttls\"", "security = \"none\"");
        assert_eq!(parse(&text).problems()[0].0, "smtp.security");
        let local = text.replace("mail.shop.example", "127.0.0.1");
        assert!(parse(&local).problems().is_empty());
        assert!(is_loopback("[::1]") && is_loopback("localhost") && !is_loopback("localhost.example"));
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let mut settings = parse(GOOD);
        settings.address = "support".into();
        settings.aliases = vec!["x".into()];
        settings.imap.password = None;
        settings.imap.folders = vec!["INBOX".into(), "INBOX".into()];
        settings.smtp.retry_hours_max = 0;
        let paths: Vec<_> = settings.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["address", "aliases", "smtp.retry_hours_max", "imap.folders", "imap.password"]);
    }

    #[test]
    fn a_long_address_leaves_no_room_for_a_token() {
        let mut settings = parse(GOOD);
        settings.address = format!("{}@shop.example", "s".repeat(30));
        assert_eq!(settings.problems()[0].0, "plus_addressing");
        settings.plus_addressing = false;
        assert!(settings.problems().is_empty());
    }
}
