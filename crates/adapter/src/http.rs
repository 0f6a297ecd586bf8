//! Requests to providers: one client with every bound, whose errors say whether the request went out.
//!
//! The types of the `http` crate are here too, so that channels need not name it.

use std::sync::Arc;
use std::time::Duration;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::{Bytes, BytesMut};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::channel::OpenError;

/// Bounds of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// How long connecting and the TLS handshake may take.
    pub connect_timeout: Duration,
    /// How long the whole exchange may take.
    pub timeout: Duration,
    /// Largest body of an answer.
    pub body_bytes_max: usize,
    /// Certificates to trust besides the system's, in PEM: a provider on one's own premises.
    pub ca_pem: Option<Bytes>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
            body_bytes_max: 1024 * 1024,
            ca_pem: None,
        }
    }
}

/// Sends requests. Cheap to clone; connections are kept and shared. It follows no redirects and uses no proxy.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    body_bytes_max: usize,
}

/// Why there is no answer. None of them holds the address, which may carry a token, nor a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Nothing of the request went out: no connection, no TLS, a malformed request. It can be sent again.
    NotSent(String),
    /// It went out, or may have, and there is no whole answer.
    Unknown(String),
    /// It was answered with more than the client takes.
    TooLarge,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) => write!(f, "the request was not sent: {why}"),
            Self::Unknown(why) => write!(f, "the request has no answer: {why}"),
            Self::TooLarge => f.write_str("the answer is too large"),
        }
    }
}

impl std::error::Error for CallError {}

impl Client {
    /// A client with the system's certificates.
    ///
    /// # Errors
    /// When there are no certificates, or those given cannot be read.
    pub fn new(settings: ClientSettings) -> Result<Self, OpenError> {
        let inner = builder(&settings)?.build().map_err(|error| OpenError::new("HTTP client", without_url(error)))?;
        Ok(Self { inner, body_bytes_max: settings.body_bytes_max })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is none; see [`CallError`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let request = reqwest::Request::try_from(request).map_err(|error| CallError::NotSent(without_url(error)))?;
        let answer = self.inner.execute(request).await.map_err(sort)?;
        read(answer, self.body_bytes_max).await
    }
}

/// What every client of ours keeps to.
pub(crate) fn builder(settings: &ClientSettings) -> Result<reqwest::ClientBuilder, OpenError> {
    let tls = tls(settings.ca_pem.as_deref())?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .user_agent(concat!("throughline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(32))
}

fn tls(ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, OpenError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that cannot be used does not hinder the others.
        let _ = roots.add(certificate);
    }
    if let Some(pem) = ca_pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| OpenError::new("certificates", error))?;
            roots.add(certificate).map_err(|error| OpenError::new("certificates", error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::new("TLS", error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

pub(crate) async fn read(mut answer: reqwest::Response, bytes_max: usize) -> Result<Response<Bytes>, CallError> {
    if answer.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(CallError::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| CallError::Unknown(without_url(error)))? {
        if body.len() + piece.len() > bytes_max {
            return Err(CallError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}

pub(crate) fn sort(error: reqwest::Error) -> CallError {
    if error.is_connect() || error.is_builder() {
        CallError::NotSent(without_url(error))
    } else {
        CallError::Unknown(without_url(error))
    }
}

/// What went wrong, down to its cause, without the address.
pub(crate) fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("body_bytes_max", &self.body_bytes_max).finish_non_exhaustive()
    }
}
