//! What is the same of every provider: how the settings of an account are checked, how the hook of an account is made
//! for the listener and to try a request out, and how a signed request is told from others.

use std::sync::Arc;

use adapter::channel::Rehearsal;
use adapter::contract::TenantId;
use adapter::contract::envelope::Account;
use adapter::http::{HeaderValue, Method, StatusCode};
use adapter::runtime::secret::{Secret, SecretString};
use adapter::verify::{self, Algorithm, Encoding};
use adapter::webhook::{Hook, Proven, Request, Verdict};
use adapter::{AccountFile, BoxFuture, Channel, Context, OpenError, Prepared, Problem};
use serde::de::DeserializeOwned;

use crate::api::{self, Http};
use crate::found::Place;

/// Stands for every secret when a request is tried out without them.
pub(crate) const MADE_UP: &str = "nobodys_secret_token";

/// Where the secrets are by which a request is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Where the settings say.
    Settings,
    /// Nowhere: there is one, [`MADE_UP`].
    Nobody,
}

impl Trust {
    /// Reads secrets; `setting` is what their failure is told by.
    pub(crate) fn secrets(self, secrets: &[Secret], setting: &str) -> Result<Vec<SecretString>, OpenError> {
        match self {
            Self::Settings => api::resolve(secrets, setting),
            Self::Nobody => Ok(vec![SecretString::new(MADE_UP)]),
        }
    }
}

/// The fingerprint of a secret, and the provider's id that it vouches for.
pub(crate) type Claims = Vec<(String, String)>;

/// What one provider's module is asked for.
pub(crate) trait Provider: Send + Sync + 'static {
    /// The `[settings]` table of an account's file.
    type Settings: Settings;
    /// What the listener asks.
    type Ear: Hook;

    /// The hook by itself: secrets are read and nothing else is done.
    ///
    /// # Errors
    /// When a secret cannot be read, or is none.
    fn ear(&self, settings: &Self::Settings, place: Place, trust: Trust) -> Result<Self::Ear, OpenError>;

    /// What the account claims, where requests are for whoever claims an id under the secret that signed.
    fn claims(&self, settings: &Self::Settings, ear: &Self::Ear) -> Claims {
        let _ = (settings, ear);
        Claims::new()
    }

    /// Puts into a request what proves that whoever sent it knows [`MADE_UP`].
    fn prove(request: &mut Request);

    /// Binds the hook and makes what runs.
    ///
    /// # Errors
    /// When a secret cannot be read, or a claim is somebody else's.
    fn open(&self, settings: Self::Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError>;

    /// Has the listener ask `ear`.
    ///
    /// # Errors
    /// When a claim is somebody else's.
    fn serve(&self, context: &Context, settings: &Self::Settings, ear: Self::Ear) -> Result<(), OpenError> {
        for (trust, native) in self.claims(settings, &ear) {
            context.hooks.claim(&trust, &native)?;
        }
        context.hooks.serve(Arc::new(ear))
    }
}

/// The settings of one account.
pub(crate) trait Settings: DeserializeOwned + Send + Sync + 'static {
    /// Looks for everything that is wrong.
    fn check(&self, problems: &mut Problems);

    /// Every secret: relative paths are taken from the folder of the file.
    fn secrets(&mut self) -> Vec<&mut Secret>;
}

/// What is wrong with settings: the setting, and what about it.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<(String, String)>);

impl Problems {
    /// Adds what is wrong with a setting, if anything is.
    pub(crate) fn add(&mut self, path: &str, problem: Option<&str>) {
        self.0.extend(problem.map(|problem| (path.to_owned(), problem.to_owned())));
    }

    /// Looks at how the provider is called.
    pub(crate) fn http(&mut self, http: &Http) {
        http.problems(&mut self.0);
    }

    /// Looks at the address of an API.
    pub(crate) fn api_base(&mut self, path: &str, base: &str) {
        self.add(path, api::api_base_problem(base));
    }

    /// Looks at a list of secrets that are valid side by side.
    pub(crate) fn secrets(&mut self, path: &str, secrets: &[Secret]) {
        self.add(path, api::secrets_problem(secrets));
    }

    /// Looks at how many messages a second there may be.
    pub(crate) fn rate(&mut self, path: &str, rate: f64) {
        const MAX: f64 = 10_000.0;
        let within = rate > 0.0 && rate <= MAX;
        self.add(path, (!within).then_some("must be more than 0 and at most 10000"));
    }
}

/// Checks an account's settings.
///
/// # Errors
/// With every problem, by path.
pub(crate) fn prepare<P: Provider>(provider: P, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
    let mut settings: P::Settings = file.settings()?;
    let mut problems = Problems::default();
    settings.check(&mut problems);
    if !problems.0.is_empty() {
        let problem = |(path, why): (String, String)| file.problem(&format!("settings.{path}"), why);
        return Err(problems.0.into_iter().map(problem).collect());
    }
    if let Some(dir) = file.source.parent() {
        for secret in settings.secrets() {
            *secret = secret.clone().relative_to(dir);
        }
    }
    Ok(Box::new(Ready { provider, settings }))
}

/// An account whose settings are in order.
struct Ready<P: Provider> {
    provider: P,
    settings: P::Settings,
}

impl<P: Provider> Ready<P> {
    fn hook(&self, place: Place, trust: Trust) -> Result<Rehearsal, OpenError> {
        let ear = self.provider.ear(&self.settings, place, trust)?;
        let claims = self.provider.claims(&self.settings, &ear);
        let hook: Arc<dyn Hook> = match trust {
            Trust::Settings => Arc::new(ear),
            Trust::Nobody => Arc::new(Proven { hook: Arc::new(ear), prove: P::prove }),
        };
        Ok(Rehearsal { hook, claims })
    }
}

impl<P: Provider> Prepared for Ready<P> {
    fn has_hook(&self) -> bool {
        true
    }

    fn rehearse(&self, tenant: &TenantId, account: &Account, trusting: bool) -> Option<Result<Rehearsal, OpenError>> {
        let trust = if trusting { Trust::Nobody } else { Trust::Settings };
        Some(self.hook(Place { tenant: tenant.clone(), account: account.clone() }, trust))
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        let Self { provider, settings } = *self;
        Box::pin(async move { provider.open(settings, context) })
    }
}

/// A header that holds the HMAC (SHA-256) of a request's body.
#[derive(Debug)]
pub(crate) struct Signature {
    /// The header's name.
    pub(crate) header: &'static str,
    /// What stands before the HMAC.
    pub(crate) prefix: &'static str,
    /// How the HMAC is written.
    pub(crate) encoding: Encoding,
}

impl Signature {
    /// Which of the secrets signed a request.
    ///
    /// # Errors
    /// With the verdict, when none did, or nothing was posted.
    pub(crate) fn check<'a>(
        &self,
        request: &Request,
        secrets: &'a [SecretString],
    ) -> Result<&'a SecretString, Verdict> {
        if request.method != Method::POST {
            return Err(Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method"));
        }
        let Some(given) = request.header(self.header).and_then(|value| value.strip_prefix(self.prefix)) else {
            return Err(Verdict::refuse(StatusCode::UNAUTHORIZED, "no signature"));
        };
        let by = verify::hmac_by(Algorithm::Sha256, secrets, &[&request.body], self.encoding, given);
        let by = by.and_then(|which| secrets.get(which));
        by.ok_or(Verdict::refuse(StatusCode::UNAUTHORIZED, "signature"))
    }

    /// Signs a request with [`MADE_UP`].
    pub(crate) fn prove(&self, request: &mut Request) {
        let secret = SecretString::new(MADE_UP);
        let hmac = verify::sign(Algorithm::Sha256, &secret, &[&request.body], self.encoding);
        put(request, self.header, &format!("{}{hmac}", self.prefix));
    }
}

/// Sets a header of a request.
pub(crate) fn put(request: &mut Request, header: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        request.headers.insert(header, value);
    }
}

#[cfg(test)]
mod tests;
