//! What texts and calls need of Vonage: whether a request is its, and its APIs.

pub(crate) mod token;
pub(crate) mod verify;

use std::sync::Arc;
use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::failure::SendFailure;
use adapter::fetch::{Fetched, Fetcher};
use adapter::http::{Client, HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use adapter::runtime::secret::SecretString;
use adapter::verify::{Encoding, encode};
use adapter::{BoxFuture, OpenError};
use serde_json::Value;

use self::token::Signatory;
use crate::api;
use crate::query;
use crate::settings::Vonage as Settings;
use crate::voice::{self, Ask, Body};

/// Where Vonage keeps what belongs to an account. Only there the account's token goes.
const HOSTS: [&str; 2] = ["nexmo.com", "vonage.com"];

/// The APIs, with an account's credentials. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    fetcher: Fetcher,
    settings: Arc<Settings>,
    /// Of the account: texts.
    secret: Option<SecretString>,
    /// Of the application: calls.
    signatory: Option<Arc<Signatory>>,
}

impl Api {
    /// Reads the credentials.
    ///
    /// # Errors
    /// When a secret is missing, or the key is none.
    pub(crate) fn new(settings: &Settings, fetcher: Fetcher) -> Result<Self, OpenError> {
        let secret = settings.api_secret.as_ref().map(|secret| api::resolve_one(secret, "api_secret")).transpose()?;
        let signatory = match (&settings.private_key, &settings.application_id) {
            (Some(key), Some(application)) => {
                let key = api::resolve_one(key, "private_key")?;
                Some(Arc::new(Signatory::new(application, &key)?))
            }
            _ => None,
        };
        Ok(Self { client: settings.http.client()?, fetcher, settings: Arc::new(settings.clone()), secret, signatory })
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<(StatusCode, HeaderMap, Value), SendFailure> {
        let answer = api::call(&self.client, request).await?;
        let body = api::body(&answer);
        let (parts, _) = answer.into_parts();
        Ok((parts.status, parts.headers, body))
    }

    /// Sends a text.
    ///
    /// # Errors
    /// As [`api::call`].
    pub(crate) async fn text(&self, fields: &[(&str, String)]) -> Result<(StatusCode, HeaderMap, Value), SendFailure> {
        let missing = || SendFailure::permanent("no_secret", "texts need api_secret");
        let secret = self.secret.as_ref().ok_or_else(missing)?;
        // Here the credentials are fields of the form.
        let own = [("api_key", self.settings.api_key.as_str()), ("api_secret", secret.expose())];
        let fields = own.into_iter().chain(fields.iter().map(|(name, value)| (*name, value.as_str())));
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={}", query::encode(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
        let url = format!("{}/sms/json", self.settings.sms_base);
        self.answer(api::request("POST", &url, &headers, Bytes::from(fields.join("&")))?).await
    }

    /// Looks at the account: what is left of its balance tells that the credentials hold.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(crate) async fn look(&self) -> Result<(), SendFailure> {
        let Some(secret) = &self.secret else { return Ok(()) };
        let credentials = format!("{}:{}", self.settings.api_key, secret.expose());
        let basic = format!("Basic {}", encode(Encoding::Base64, credentials.as_bytes()));
        let headers = [("authorization", basic.as_str()), ("accept", "application/json")];
        let url = format!("{}/account/get-balance", self.settings.sms_base);
        let (status, headers, body) = self.answer(api::request("GET", &url, &headers, Bytes::new())?).await?;
        if !status.is_success() {
            return Err(api::failed_status(status, &headers, "the account cannot be looked at"));
        }
        match body.get("value").and_then(Value::as_f64) {
            Some(left) if left <= 0.0 => Err(SendFailure::permanent("balance", "the account's balance is used up")),
            _ => Ok(()),
        }
    }

    fn bearer(&self) -> Result<String, SendFailure> {
        let missing = || SendFailure::permanent("no_key", "calls need application_id and private_key");
        let token = self.signatory.as_ref().ok_or_else(missing)?.token(adapter::now());
        Ok(format!("Bearer {}", token.ok_or_else(|| SendFailure::permanent("no_token", "the key does not sign"))?))
    }

    /// Whether the account's token may go to an address.
    fn trusts(&self, url: &str) -> bool {
        let Ok(uri) = url.parse::<Uri>() else { return false };
        let own = self.settings.api_base.parse::<Uri>().ok();
        if own.is_some_and(|own| own.authority() == uri.authority() && own.scheme() == uri.scheme()) {
            return true;
        }
        let within = |host: &str| {
            HOSTS
                .iter()
                .any(|known| host.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
        };
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| within(&host.to_ascii_lowercase()))
    }
}

impl voice::Api for Api {
    fn ask<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<(StatusCode, Option<Duration>, Value), SendFailure>> {
        Box::pin(async move {
            let Body::Json(body) = &ask.body else {
                return Err(SendFailure::permanent("unusable_request", "Vonage takes JSON"));
            };
            let bearer = self.bearer()?;
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let url = format!("{}{}", self.settings.api_base, ask.path);
            let request = api::request(ask.method, &url, &headers, Bytes::from(body.to_string()))?;
            let (status, headers, body) = self.answer(request).await?;
            Ok((status, api::retry_after(&headers), body))
        })
    }

    fn download<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(async move {
            if !self.trusts(source) {
                return Err(SendFailure::permanent("fetch_forbidden", "a recording is not where Vonage keeps any"));
            }
            let mut bearer = HeaderValue::from_str(&self.bearer()?)
                .map_err(|_| SendFailure::permanent("no_token", "the token cannot be written"))?;
            bearer.set_sensitive(true);
            self.fetcher.get(source, HeaderMap::from_iter([(header::AUTHORIZATION, bearer)])).await
        })
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
