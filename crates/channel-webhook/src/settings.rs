//! The settings of one account: the `[settings]` table of its file, read and checked as a whole.

use std::path::Path;

use adapter::http::{HeaderMap, HeaderName, HeaderValue, Method};
use adapter::toml;

use crate::answer::{Answer, Handshake};
use crate::input::{FORMATS, Format, SCOPE};
use crate::mapping::Mapping;
use crate::send::Send;
use crate::source::Problems;
use crate::table::{Table, secret};
use crate::verify::Scheme;

const METHODS: [(&str, Method); 4] =
    [("POST", Method::POST), ("GET", Method::GET), ("PUT", Method::PUT), ("PATCH", Method::PATCH)];
/// Most checks of an account.
const CHECKS_MAX: usize = 4;
/// Most handshakes of an account.
const HANDSHAKES_MAX: usize = 8;

/// What an account is.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) methods: Vec<Method>,
    pub(crate) suffix: String,
    pub(crate) format: Format,
    /// Pages that may send from a browser.
    pub(crate) origins: Vec<String>,
    /// All of them must hold.
    pub(crate) verify: Vec<Scheme>,
    /// How a request is verified, for people.
    pub(crate) verified_by: &'static str,
    /// Headers with secrets, in lower case.
    pub(crate) hidden_headers: Vec<String>,
    pub(crate) handshakes: Vec<Handshake>,
    pub(crate) mapping: Mapping,
    pub(crate) answer: Answer,
    pub(crate) send: Option<Send>,
    pub(crate) fetch: Fetch,
}

/// How media are fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    /// Hosts that get the headers.
    hosts: Vec<String>,
    headers: Vec<(HeaderName, adapter::runtime::secret::Secret, String)>,
}

/// The headers of a download.
pub(crate) struct FetchHeaders {
    hosts: Vec<String>,
    headers: HeaderMap,
}

impl Settings {
    /// Reads the table.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub(crate) fn read(settings: &toml::Table, dir: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let read = Self::read_all(settings, dir, &mut problems);
        match read {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems),
        }
    }

    fn read_all(settings: &toml::Table, dir: &Path, problems: &mut Problems) -> Option<Self> {
        let mut table = Table::new("settings".to_owned(), settings.clone());
        let methods = match table.texts("methods", METHODS.len(), problems) {
            None => vec![Method::POST],
            Some(names) => {
                let mut methods = Vec::new();
                for name in names {
                    match METHODS.iter().find(|(known, _)| *known == name) {
                        Some((_, method)) => methods.push(method.clone()),
                        None => {
                            let known: Vec<&str> = METHODS.iter().map(|(known, _)| *known).collect();
                            table.refuse::<()>("methods", &format!("knows {}", known.join(", ")), problems);
                        }
                    }
                }
                methods
            }
        };
        let suffix = table.text("suffix", problems).unwrap_or_default();
        if suffix.starts_with('/') || suffix.contains(['?', '#']) {
            table.refuse::<()>(
                "suffix",
                "is what follows the account in the path, without a slash before it",
                problems,
            );
        }
        let format = table.word("format", &FORMATS, problems).unwrap_or_default();
        let origins = table.texts("origins", 16, problems).unwrap_or_default();
        for origin in &origins {
            let path = origin.split_once("://").map(|(_, host)| host);
            if path.is_none_or(|host| host.is_empty() || host.contains('/')) {
                let why = "an origin is written https://shop.example, without a path";
                table.refuse::<()>("origins", why, problems);
            }
        }
        let checks = table.tables("verify", CHECKS_MAX, problems);
        let none = checks.is_empty();
        let verify: Vec<Scheme> = checks.into_iter().filter_map(|check| Scheme::read(check, dir, problems)).collect();
        let open = verify.iter().any(|scheme| matches!(scheme, Scheme::Open));
        if none {
            let why = "is missing: say how a request is verified, or scheme = \"open\" where everybody may write";
            table.refuse::<()>("verify", why, problems);
        }
        if open && verify.len() > 1 {
            table.refuse::<()>("verify", "has open beside another: either everybody may write or not", problems);
        }
        let handshakes = table.tables("handshake", HANDSHAKES_MAX, problems);
        let handshakes = handshakes.into_iter().filter_map(|one| Handshake::read(one, SCOPE, dir, problems)).collect();
        let mapping = Mapping::read(&mut table, open, problems);
        let answer = match table.table("answer", problems) {
            None => Some(Answer::default()),
            Some(mut answer) => {
                let read = Answer::read(&mut answer, SCOPE, problems);
                answer.finish(problems);
                read
            }
        };
        let send = table.table("send", problems).and_then(|send| Send::read(send, dir, problems));
        let fetch =
            table.table("fetch", problems).map_or_else(Fetch::default, |fetch| Fetch::read(fetch, dir, problems));
        table.finish(problems);
        Some(Self {
            methods,
            suffix,
            format,
            origins,
            verified_by: verify.first().map_or("nothing", Scheme::name),
            hidden_headers: verify.iter().filter_map(Scheme::secret_header).collect(),
            verify,
            handshakes,
            mapping: mapping?,
            answer: answer?,
            send,
            fetch,
        })
    }
}

impl Fetch {
    fn read(mut table: Table, dir: &Path, problems: &mut Problems) -> Self {
        let hosts = table.texts("hosts", 16, problems).unwrap_or_default();
        let mut headers = Vec::new();
        if hosts.is_empty() {
            let why = "is missing: the headers go to these hosts alone, and nowhere a request says";
            table.refuse::<()>("hosts", why, problems);
        }
        for mut one in table.tables("header", 8, problems) {
            let name = one.needed("name", problems).and_then(|text| match HeaderName::from_bytes(text.as_bytes()) {
                Ok(name) => Some(name),
                Err(_) => one.refuse("name", "is no name of a header", problems),
            });
            let prefix = one.text("prefix", problems).unwrap_or_default();
            let secret = match one.value("secret").map(|value| secret(value, dir)) {
                Some(Ok(secret)) => Some(secret),
                Some(Err(why)) => one.refuse("secret", &why, problems),
                None => one.refuse("secret", "is missing", problems),
            };
            one.finish(problems);
            headers.extend(name.zip(secret).map(|(name, secret)| (name, secret, prefix)));
        }
        table.finish(problems);
        Self { hosts, headers }
    }

    /// Reads the secrets.
    ///
    /// # Errors
    /// When one cannot be had, or cannot stand in a header.
    pub(crate) fn open(&self) -> Result<FetchHeaders, String> {
        let mut headers = HeaderMap::new();
        for (name, secret, prefix) in &self.headers {
            let secret = secret.resolve().map_err(|error| format!("settings.fetch.header: {error}"))?;
            let value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose()));
            let mut value = value.map_err(|_| "settings.fetch.header: a secret cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(FetchHeaders { hosts: self.hosts.clone(), headers })
    }
}

impl FetchHeaders {
    /// The headers for an address: none for a host that the file does not list.
    pub(crate) fn of(&self, url: &str) -> HeaderMap {
        let uri = url.parse::<adapter::http::Uri>();
        let listed = uri.is_ok_and(|uri| {
            uri.authority().is_some_and(|authority| {
                !authority.as_str().contains('@') && self.hosts.iter().any(|host| host == authority.as_str())
            })
        });
        if listed { self.headers.clone() } else { HeaderMap::new() }
    }
}
