//! Calls the Graph API.

use adapter::OpenError;
use adapter::bytes::Bytes;
use adapter::failure::{Class, SendFailure};
use adapter::http::{Client, HeaderMap, HeaderValue, Request, header};
use adapter::runtime::secret::SecretString;
use adapter::verify::{self, Algorithm, Encoding};
use serde_json::Value;

use super::{classify, settings};
use crate::api::{self, Http};
use crate::query::encode;

/// The API as one account calls it.
pub(crate) struct Graph {
    /// The API with its version.
    base: String,
    token: SecretString,
    /// What shows that we know the app's secret.
    proof: Option<SecretString>,
    client: Client,
}

impl Graph {
    /// Reads the token. `secret` is the app's.
    ///
    /// # Errors
    /// When it cannot be read, or there is no client.
    pub(crate) fn new(
        settings: &settings::Graph,
        http: &Http,
        secret: Option<&SecretString>,
    ) -> Result<Self, OpenError> {
        let token = api::resolve_one(&settings.access_token, "graph.access_token")?;
        let proof = secret.filter(|_| settings.appsecret_proof).map(|secret| {
            SecretString::new(verify::sign(Algorithm::Sha256, secret, &[token.expose().as_bytes()], Encoding::Hex))
        });
        let base = format!("{}/{}", settings.api_base, settings.api_version);
        Ok(Self { base, token, proof, client: http.client()? })
    }

    /// The address of a path, whose parts are ids of the platform's or ours.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> String {
        let path = path.iter().map(|part| encode(part)).collect::<Vec<_>>().join("/");
        let proof = self.proof.as_ref().map(|proof| ("appsecret_proof", proof.expose()));
        let query = query.iter().copied().chain(proof);
        let query = query.map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}/{path}{mark}{query}", self.base)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    async fn call(&self, request: Request<Bytes>) -> Result<Value, SendFailure> {
        classify::read(&api::call(&self.client, request).await?)
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// As the answer says.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Value, SendFailure> {
        let bearer = self.bearer();
        self.call(api::json_request(&self.url(path, &[]), &[("authorization", bearer.as_str())], body)?).await
    }

    /// Posts a form of which the customer sees nothing yet: doing it twice does no harm.
    ///
    /// # Errors
    /// As the answer says; never unknown.
    pub(crate) async fn upload(&self, path: &[&str], mime: &str, form: Bytes) -> Result<Value, SendFailure> {
        let bearer = self.bearer();
        let headers = [("content-type", mime), ("authorization", bearer.as_str())];
        self.call(api::request("POST", &self.url(path, &[]), &headers, form)?).await.map_err(again)
    }

    /// Asks.
    ///
    /// # Errors
    /// As the answer says; never unknown.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, SendFailure> {
        let bearer = self.bearer();
        let headers = [("authorization", bearer.as_str())];
        self.call(api::request("GET", &self.url(path, query), &headers, Bytes::new())?).await.map_err(again)
    }

    /// The headers with which the platform gives out files.
    ///
    /// # Errors
    /// Permanent, when the token cannot be written in a header.
    pub(crate) fn file_headers(&self) -> Result<HeaderMap, SendFailure> {
        let mut bearer = HeaderValue::try_from(self.bearer())
            .map_err(|_| SendFailure::permanent("unusable_request", "the access token cannot be written"))?;
        bearer.set_sensitive(true);
        Ok(HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]))
    }

    /// Text that nobody can guess who writes what stands in a form.
    pub(crate) fn boundary(&self, what: &[u8]) -> String {
        let now = adapter::now().0.to_be_bytes();
        let mut text = verify::sign(Algorithm::Sha256, &self.token, &[b"form", &now, what], Encoding::Hex);
        text.truncate(48);
        text
    }
}

/// Asking twice does no harm.
fn again(failure: SendFailure) -> SendFailure {
    match failure.class {
        Class::Unknown => SendFailure { class: Class::Retryable { after: None }, ..failure },
        _ => failure,
    }
}
