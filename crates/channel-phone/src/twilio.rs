//! What texts and calls need of Twilio: whether a request is its, and its API.

pub(crate) mod verify;

use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::failure::SendFailure;
use adapter::fetch::{Fetched, Fetcher};
use adapter::http::{Client, HeaderMap, StatusCode, header};
use adapter::runtime::secret::SecretString;
use adapter::verify::{Encoding, encode};
use adapter::{BoxFuture, OpenError};
use serde_json::Value;

use crate::api;
use crate::query;
use crate::settings::Twilio as Settings;
use crate::voice::{self, Ask, Body};

/// Largest medium that is fetched: a voicemail of an hour.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The API, with an account's credentials. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    files: Client,
    fetcher: Fetcher,
    /// Up to the account's id.
    account: String,
    authorization: SecretString,
}

impl Api {
    /// Reads the credentials.
    ///
    /// # Errors
    /// When a secret is missing.
    pub(crate) fn new(settings: &Settings, tokens: &[SecretString], fetcher: Fetcher) -> Result<Self, OpenError> {
        let (user, secret) = match &settings.api_key {
            Some(key) => (key.sid.as_str(), api::resolve_one(&key.secret, "api_key.secret")?),
            None => {
                let token = tokens.first().cloned();
                (settings.account_sid.as_str(), token.ok_or_else(|| OpenError("auth_token: is missing".into()))?)
            }
        };
        let credentials = encode(Encoding::Base64, format!("{user}:{}", secret.expose()).as_bytes());
        Ok(Self {
            client: settings.http.client()?,
            files: settings.http.client_taking(FILE_BYTES_MAX)?,
            fetcher,
            account: format!("{}/2010-04-01/Accounts/{}", settings.api_base, settings.account_sid),
            authorization: SecretString::new(format!("Basic {credentials}")),
        })
    }

    /// Asks something with a form; `path` is behind the account.
    ///
    /// # Errors
    /// As [`api::call`].
    pub(crate) async fn form(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, String)],
    ) -> Result<(StatusCode, HeaderMap, Value), SendFailure> {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", query::encode(value))).collect();
        let headers = [
            ("authorization", self.authorization.expose()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ];
        let request =
            api::request(method, &format!("{}{path}", self.account), &headers, Bytes::from(fields.join("&")))?;
        let answer = api::call(&self.client, request).await?;
        let body = api::body(&answer);
        let (parts, _) = answer.into_parts();
        Ok((parts.status, parts.headers, body))
    }

    /// Looks at the account.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(crate) async fn look(&self) -> Result<(), SendFailure> {
        let (status, headers, body) = self.form("GET", ".json", &[]).await?;
        if !status.is_success() {
            return Err(api::failed_status(status, &headers, "the account cannot be looked at"));
        }
        match body.get("status").and_then(Value::as_str) {
            None | Some("active") => Ok(()),
            Some(other) => Err(SendFailure::permanent("account", format!("the account is {}", api::said(other)))),
        }
    }

    /// Gets something that Twilio keeps for the account; `path` is behind the account. Where it is kept elsewhere, that
    /// is asked without the account's credentials.
    ///
    /// # Errors
    /// Permanent when it is gone.
    pub(crate) async fn file(&self, path: &str) -> Result<Fetched, SendFailure> {
        let headers = [("authorization", self.authorization.expose())];
        let request = api::request("GET", &format!("{}{path}", self.account), &headers, Bytes::new())?;
        let again = |failure: SendFailure| SendFailure::retryable(failure.code, failure.message);
        let answer = api::call(&self.files, request).await.map_err(again)?;
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let status = answer.status();
        if status.is_redirection() {
            let to = text(header::LOCATION).filter(|to| to.starts_with("https://"));
            let to = to.ok_or_else(|| SendFailure::permanent("fetch_redirect", "it redirects to nowhere"))?;
            return self.fetcher.get(to, HeaderMap::new()).await;
        }
        if !status.is_success() {
            // It is there in a moment, when it was told too early.
            let early = status == StatusCode::NOT_FOUND;
            let failure = api::failed_status(status, answer.headers(), "the file cannot be had");
            return Err(if early || status.is_server_error() { again(failure) } else { failure });
        }
        let mime = text(header::CONTENT_TYPE).and_then(|value| value.split(';').next());
        let mime = mime.map(|mime| mime.trim().to_ascii_lowercase()).filter(|mime| !mime.is_empty());
        Ok(Fetched { mime, name: None, bytes: answer.into_body() })
    }
}

impl voice::Api for Api {
    fn ask<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<(StatusCode, Option<Duration>, Value), SendFailure>> {
        Box::pin(async move {
            let Body::Form(fields) = &ask.body else {
                return Err(SendFailure::permanent("unusable_request", "Twilio takes forms"));
            };
            let (status, headers, body) = self.form(ask.method, &ask.path, fields).await?;
            Ok((status, api::retry_after(&headers), body))
        })
    }

    fn download<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(async move {
            if !is_id("RE", source) {
                return Err(SendFailure::permanent("fetch_source", "no recording is named"));
            }
            self.file(&format!("/Recordings/{source}.mp3")).await
        })
    }
}

/// Whether this may stand in a path as an id of that kind.
pub(crate) fn is_id(kind: &str, text: &str) -> bool {
    let rest = text.strip_prefix(kind).unwrap_or_default();
    (1..=64).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
