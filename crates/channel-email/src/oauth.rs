//! Access tokens instead of passwords (OAuth 2.0: refresh token or client credentials).
//!
//! One request is under way at a time; whoever else needs a token waits for its answer. A refresh token that the server
//! replaces is kept before the token that came with it is used: servers that rotate them take the one before no more.

use std::sync::Arc;
use std::time::Duration;

use adapter::runtime::secret::SecretString;
use adapter::secrets::SecretStore;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::net::{self, Stream};
use crate::settings::is_loopback;

const WITHIN: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A token is not used so shortly before its end.
const EARLY: Duration = Duration::from_secs(60);
/// How long a token lives that does not say.
const LIFE: Duration = Duration::from_secs(300);
/// The name of the newest refresh token among the account's secrets.
const KEPT: &str = "oauth-refresh.token";

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl Endpoint {
    /// Reads an address; `None` when it is none, or would send secrets in the clear over a network.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (tls, rest) = match url.split_once("://")? {
            ("https", rest) => (true, rest),
            ("http", rest) => (false, rest),
            _ => return None,
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let port_at = authority.rfind(':').filter(|at| !authority.get(*at..).unwrap_or_default().contains(']'));
        let (host, port) = match port_at {
            Some(at) => (authority.get(..at)?, authority.get(at + 1..)?.parse().ok()?),
            None => (authority, if tls { 443 } else { 80 }),
        };
        let plain = |c: char| c.is_ascii_graphic() && !"@\\#".contains(c);
        let sound = !host.is_empty() && host.chars().all(plain) && path.chars().all(plain);
        let path = if path.is_empty() { "/" } else { path };
        (sound && (tls || is_loopback(host))).then(|| Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer(SecretString);

impl Bearer {
    /// What SASL XOAUTH2 sends.
    pub(crate) fn xoauth2(&self, user: &str) -> String {
        format!("user={user}\u{1}auth=Bearer {}\u{1}\u{1}", self.0.expose())
    }

    /// The token itself, for a library that builds the same.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Why there is no token. Its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OauthError {
    /// The server refuses; somebody must consent anew, or change the settings.
    pub(crate) refused: bool,
    pub(crate) why: String,
}

/// What is asked with.
pub(crate) struct Grant {
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<SecretString>,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) scope: Option<String>,
}

/// Gives tokens to one account.
pub(crate) struct Tokens {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    state: Mutex<State>,
}

struct State {
    grant: Grant,
    /// Where refresh tokens are kept that replaced the one of the settings.
    kept: Option<Kept>,
    current: Option<(Bearer, Instant)>,
}

/// The newest refresh token, beside a digest of the one of the settings that it descends from: when somebody puts a new
/// one there, what came of the old one counts no more.
struct Kept {
    secrets: SecretStore,
    origin: String,
    /// The newest one, where the disk did not take it.
    unwritten: Option<SecretString>,
}

impl Kept {
    fn new(secrets: SecretStore, of_settings: &SecretString) -> Self {
        let digest = Sha256::digest(of_settings.expose().as_bytes());
        let origin = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { secrets, origin, unwritten: None }
    }

    fn read(&self) -> Option<SecretString> {
        if self.unwritten.is_some() {
            return self.unwritten.clone();
        }
        match self.secrets.get(KEPT) {
            Ok(text) => {
                let (origin, token) = text.as_deref()?.split_once(' ')?;
                (origin == self.origin && !token.is_empty()).then(|| SecretString::new(token))
            }
            Err(error) => {
                tracing::warn!(%error, "the refresh token that was kept cannot be read");
                None
            }
        }
    }

    fn write(&mut self, token: SecretString) {
        let written = self.secrets.put(KEPT, &format!("{} {}", self.origin, token.expose()));
        self.unwritten = written.is_err().then_some(token);
        if let Err(error) = written {
            tracing::error!(%error, "a refresh token that replaces the one before cannot be kept: after a restart somebody must consent anew");
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

impl Tokens {
    pub(crate) fn new(endpoint: Endpoint, tls: Option<Arc<ClientConfig>>, grant: Grant, secrets: SecretStore) -> Self {
        let kept = grant.refresh_token.as_ref().map(|token| Kept::new(secrets, token));
        Self { endpoint, tls, state: Mutex::new(State { grant, kept, current: None }) }
    }

    /// A token that is not `refused`: the one at hand, or a new one.
    pub(crate) async fn get(&self, refused: Option<&Bearer>) -> Result<Bearer, OauthError> {
        // Held while it is asked for, so that nobody asks twice.
        let mut state = self.state.lock().await;
        if let Some((token, until)) = &state.current
            && Instant::now() < *until
            && refused != Some(token)
        {
            return Ok(token.clone());
        }
        // What was kept last, by this process or another of this machine; then what the settings say.
        let newest = state.kept.as_ref().and_then(Kept::read);
        let of_settings = state.grant.refresh_token.clone();
        let mut answer = self.ask(&state.grant, newest.as_ref().or(of_settings.as_ref())).await?;
        if answer.access_token.is_none() && newest.is_some() && newest != of_settings {
            answer = self.ask(&state.grant, of_settings.as_ref()).await?;
        }
        let Some(token) = answer.access_token.filter(|token| !token.is_empty() && !token.contains(char::is_control))
        else {
            let why = answer.error.unwrap_or_else(|| "no token in its answer".to_owned());
            let why: String = why.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
            return Err(OauthError { refused: true, why: format!("the token server refuses: {why}") });
        };
        let plain = |token: &String| !token.is_empty() && !token.contains(|c: char| c.is_control() || c == ' ');
        if let (Some(rotated), Some(kept)) = (answer.refresh_token.filter(plain), &mut state.kept) {
            let rotated = SecretString::new(rotated);
            if newest.as_ref().or(of_settings.as_ref()) != Some(&rotated) {
                kept.write(rotated);
            }
        }
        let seconds = match answer.expires_in {
            Some(serde_json::Value::Number(number)) => number.as_u64(),
            Some(serde_json::Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        let life = seconds.map_or(LIFE, |seconds| Duration::from_secs(seconds.min(86_400)));
        let token = Bearer(SecretString::new(token));
        state.current = Some((token.clone(), Instant::now() + life.saturating_sub(EARLY).max(Duration::from_secs(5))));
        Ok(token)
    }
}

impl Tokens {
    async fn ask(&self, grant: &Grant, refresh_token: Option<&SecretString>) -> Result<Answer, OauthError> {
        let asked = ask(&self.endpoint, self.tls.as_ref(), form(grant, refresh_token));
        match tokio::time::timeout(WITHIN, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(OauthError { refused: false, why: "the token server does not answer".to_owned() }),
        }
    }
}

/// The request's body.
fn form(grant: &Grant, refresh_token: Option<&SecretString>) -> String {
    let mut fields = vec![("client_id", grant.client_id.as_str())];
    match refresh_token {
        Some(token) => fields.extend([("grant_type", "refresh_token"), ("refresh_token", token.expose())]),
        None => fields.push(("grant_type", "client_credentials")),
    }
    fields.extend(grant.client_secret.as_ref().map(|secret| ("client_secret", secret.expose())));
    fields.extend(grant.scope.as_deref().map(|scope| ("scope", scope)));
    let pairs = fields.into_iter().map(|(name, value)| format!("{name}={}", percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn percent(text: &str) -> String {
    use std::fmt::Write;
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(coded, "%{byte:02X}");
        }
    }
    coded
}

async fn ask(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>, body: String) -> Result<Answer, OauthError> {
    let unreachable = |why: &dyn std::fmt::Display| OauthError { refused: false, why: format!("token server: {why}") };
    let tcp = net::connect(&endpoint.host, endpoint.port).await.map_err(|error| unreachable(&error))?;
    let stream = match (endpoint.tls, tls) {
        (false, _) => Stream::Plain(tcp),
        (true, Some(config)) => {
            net::secure(tcp, &endpoint.host, Arc::clone(config)).await.map_err(|error| unreachable(&error))?
        }
        (true, None) => return Err(unreachable(&"TLS is not set up")),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let carried = tokio::spawn(connection);
    let request = Request::post(endpoint.path.as_str())
        .header(HOST, &endpoint.host)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| unreachable(&"its address cannot be asked"))?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|_| unreachable(&"its answer cannot be read"))?.to_bytes();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(unreachable(&format!("status {}", status.as_u16())));
        }
        match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) if status.is_success() || answer.error.is_some() => Ok(answer),
            // The answer is not repeated: it might hold a token.
            _ => Err(unreachable(&format!("status {} and no answer that can be read", status.as_u16()))),
        }
    }
    .await;
    carried.abort();
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_go_in_the_clear() {
        let good = Endpoint::parse("https://login.example.com/t/oauth2?x=1").unwrap();
        assert_eq!((good.tls, good.host.as_str(), good.port), (true, "login.example.com", 443));
        assert_eq!(good.path, "/t/oauth2?x=1");
        assert_eq!(Endpoint::parse("http://127.0.0.1:81").unwrap().port, 81);
        for bad in ["http://login.example.com/", "ftp://x/", "https:///x", "https://a b/", "https://u@h/", "x"] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_form_is_encoded() {
        let grant = Grant {
            client_id: "a&b".into(),
            client_secret: Some(SecretString::new("s=/")),
            refresh_token: None,
            scope: Some("https://mail.example/.default".into()),
        };
        assert_eq!(
            form(&grant, None),
            "client_id=a%26b&grant_type=client_credentials&client_secret=s%3D%2F&scope=https%3A%2F%2Fmail.example%2F.default"
        );
    }

    #[test]
    fn what_was_kept_counts_as_long_as_the_settings_say_the_same() {
        let dir = std::env::temp_dir().join(format!("throughline-oauth-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let of = |token: &str| Kept::new(SecretStore::new(dir.clone()), &SecretString::new(token));
        assert_eq!(of("first").read(), None);
        of("first").write(SecretString::new("second"));
        assert_eq!(of("first").read(), Some(SecretString::new("second")));
        assert_eq!(of("another").read(), None, "somebody consented anew");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn xoauth2_is_as_the_servers_want_it() {
        let token = Bearer(SecretString::new("t"));
        assert_eq!(token.xoauth2("u@x"), "user=u@x\u{1}auth=Bearer t\u{1}\u{1}");
        assert_eq!(format!("{token:?}"), "Bearer(***)");
    }
}
