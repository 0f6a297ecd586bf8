//! Who serves which endpoint, and who may be spoken for by whose secret.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use contract::envelope::Account;
use contract::{AccountId, ChannelKind, SmolStr, TenantId, token};
use metrics::{Counter, Histogram};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::keep::Keeper;
use super::settings::Network;
use super::take::Way;
use super::{Hook, Settings, tls};
use crate::channel::OpenError;
use crate::limit::Keyed;
use crate::telemetry::Metric;

/// Most peers whose rate is remembered.
const PEERS_MAX: usize = 65_536;

/// The endpoints of a process. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) proxies: Vec<Network>,
    base: String,
    address: Option<SocketAddr>,
    /// Taken by whoever serves.
    pub(super) listener: Mutex<Option<TcpListener>>,
    tls: RwLock<Option<TlsAcceptor>>,
    pub(super) rate: Keyed,
    pub(super) keeper: OnceLock<Keeper>,
    /// By `<kind>/<account>`, as addresses have it.
    endpoints: RwLock<HashMap<String, Arc<Endpoint>>>,
    ways: RwLock<HashMap<(ChannelKind, AccountId), Opened>>,
    claims: RwLock<HashMap<Claim, (Account, Round)>>,
    /// The newest.
    round: AtomicU64,
}

/// When accounts were opened: all of a kind at once, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(u64);

/// An account's hook.
pub(super) struct Endpoint {
    pub(super) way: Arc<Way>,
    pub(super) hook: Arc<dyn Hook>,
    round: Round,
    pub(super) answered: Counter,
    pub(super) unavailable: Counter,
    pub(super) seconds: Histogram,
}

/// An account's way, and when it was opened.
type Opened = (Arc<Way>, Round);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Claim {
    kind: SmolStr,
    tenant: SmolStr,
    trust: SmolStr,
    native: SmolStr,
}

impl Webhooks {
    /// Of a process that listens to nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::with(Settings::default(), None, None)
    }

    /// Takes the port, so that endpoints have an address; nobody is served before [`Webhooks::serve`].
    ///
    /// # Errors
    /// When the port cannot be had, or a certificate or key cannot be used.
    pub async fn bind(settings: Settings) -> Result<Self, OpenError> {
        let tls = tls::acceptor(&settings.tls)?;
        let listener = TcpListener::bind(settings.listen).await;
        let listener = listener.map_err(|error| OpenError::new(&format!("listening on {}", settings.listen), error))?;
        Ok(Self::with(settings, Some(listener), tls))
    }

    fn with(settings: Settings, listener: Option<TcpListener>, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = settings.public_base_url.clone();
        let base = base.unwrap_or_else(|| format!("{scheme}://{}", address.unwrap_or(settings.listen)));
        let shared = Shared {
            base,
            address,
            tls: RwLock::new(tls),
            listener: Mutex::new(listener),
            // Checked when the settings were read.
            proxies: settings.trusted_proxies.iter().filter_map(|text| Network::parse(text)).collect(),
            rate: Keyed::new(settings.peer_per_second_max, settings.peer_burst_max, PEERS_MAX),
            keeper: OnceLock::new(),
            endpoints: RwLock::default(),
            ways: RwLock::default(),
            claims: RwLock::default(),
            round: AtomicU64::default(),
            settings,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where it listens; `None`: nowhere.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.shared.address
    }

    /// How providers reach it.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.shared.base
    }

    /// Reads certificate and key again; who is connected stays.
    ///
    /// # Errors
    /// When they cannot be used: those that were there go on being shown.
    pub fn renew(&self) -> Result<(), OpenError> {
        let renewed = tls::acceptor(&self.shared.settings.tls)?;
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// A new round of openings of a kind begins.
    #[must_use]
    pub fn begin(&self) -> Round {
        Round(self.shared.round.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// What accounts of a kind said before a round counts no more: endpoints of accounts that are gone, and the secrets by
    /// which they were vouched for.
    pub fn retire(&self, kind: &str, round: Round) {
        let stays = |of: &ChannelKind, since: Round| of.as_str() != kind || since >= round;
        let shared = &self.shared;
        let mut endpoints = shared.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|_, endpoint| stays(&endpoint.way.account.kind, endpoint.round));
        let mut ways = shared.ways.write().unwrap_or_else(PoisonError::into_inner);
        ways.retain(|(of, _), (_, since)| stays(of, *since));
        let mut claims = shared.claims.write().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|_, (account, since)| stays(&account.kind, *since));
    }

    /// What the endpoint of an account is called in addresses.
    pub(crate) fn place(account: &Account) -> String {
        format!("{}/{}", token::encode(account.kind.as_str()), token::encode(account.id.as_str()))
    }
}

impl Shared {
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn base_url(&self) -> &str {
        &self.base
    }

    pub(super) fn endpoint(&self, place: &str) -> Option<Arc<Endpoint>> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(place).cloned()
    }

    pub(super) fn way(&self, kind: &ChannelKind, account: &AccountId) -> Option<Arc<Way>> {
        let ways = self.ways.read().unwrap_or_else(PoisonError::into_inner);
        ways.get(&(kind.clone(), account.clone())).map(|(way, _)| Arc::clone(way))
    }
}

/// The endpoint of one account. Cheap to clone.
#[derive(Clone)]
pub struct Hooks {
    webhooks: Webhooks,
    way: Arc<Way>,
    round: Round,
}

impl Hooks {
    pub(crate) fn new(webhooks: Webhooks, way: Way) -> Self {
        let way = Arc::new(way);
        let round = Round(webhooks.shared.round.load(Ordering::SeqCst));
        let key = (way.account.kind.clone(), way.account.id.clone());
        webhooks.shared.ways.write().unwrap_or_else(PoisonError::into_inner).insert(key, (Arc::clone(&way), round));
        Self { webhooks, way, round }
    }

    /// Serves this account's endpoint from now on.
    ///
    /// # Errors
    /// When the process does not listen, because no account said that it has a hook.
    pub fn serve(&self, hook: Arc<dyn Hook>) -> Result<(), OpenError> {
        let shared = &self.webhooks.shared;
        if shared.address.is_none() {
            return Err(OpenError::new("webhook", "this process does not listen for webhooks"));
        }
        let labels = [
            metrics::Label::new("channel_kind", self.way.account.kind.to_string()),
            metrics::Label::new("channel_account", self.way.account.id.to_string()),
        ];
        let endpoint = Arc::new(Endpoint {
            way: Arc::clone(&self.way),
            hook,
            round: self.round,
            answered: metrics::counter!(Metric::HookAnswered.name(), labels.iter()),
            unavailable: metrics::counter!(Metric::HookUnavailable.name(), labels.iter()),
            seconds: metrics::histogram!(Metric::HookSeconds.name(), labels.iter()),
        });
        let place = Webhooks::place(&self.way.account);
        shared.endpoints.write().unwrap_or_else(PoisonError::into_inner).insert(place, endpoint);
        Ok(())
    }

    /// Says that events for `native` (the provider's id of our number, page, bot) are this account's, when the secret
    /// of that fingerprint vouches for them; see [`verify::fingerprint`](crate::verify::fingerprint). With two secrets
    /// there are two claims.
    ///
    /// # Errors
    /// When another account claims the same.
    pub fn claim(&self, trust: &str, native: &str) -> Result<(), OpenError> {
        let account = &self.way.account;
        let claim = Claim::new(&account.kind, &self.way.tenant, trust, native);
        let mut claims = self.webhooks.shared.claims.write().unwrap_or_else(PoisonError::into_inner);
        match claims.get(&claim) {
            // Of an account that is just being replaced: it has no say any more.
            Some((_, since)) if *since < self.round => {
                claims.insert(claim, (account.clone(), self.round));
                Ok(())
            }
            Some((other, _)) if other.id != account.id => {
                Err(OpenError::new("webhook", format!("{native} is claimed by account {} too", other.id)))
            }
            _ => {
                claims.insert(claim, (account.clone(), self.round));
                Ok(())
            }
        }
    }

    /// The public address of this account's endpoint, with a suffix or without (empty).
    #[must_use]
    pub fn url(&self, suffix: &str) -> String {
        let slash = if suffix.is_empty() { "" } else { "/" };
        format!("{}/hook/{}{slash}{suffix}", self.webhooks.shared.base, Webhooks::place(&self.way.account))
    }

    /// Whether [`Hooks::url`] is an address that the operator configured, and not a guess.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.webhooks.shared.settings.public_base_url.is_some()
    }
}

impl Claim {
    fn new(kind: &ChannelKind, tenant: &TenantId, trust: &str, native: &str) -> Self {
        Self { kind: kind.as_str().into(), tenant: tenant.as_str().into(), trust: trust.into(), native: native.into() }
    }
}

/// The accounts of this process by their provider's ids, as one request sees them: of the endpoint's own kind and
/// tenant.
pub struct Siblings {
    source: Source,
    /// What this request was told: it may speak for these, and for no other.
    resolved: Mutex<Vec<AccountId>>,
}

enum Source {
    Live { shared: Arc<Shared>, way: Arc<Way> },
    Given(HashMap<(String, String), Account>),
}

impl Siblings {
    pub(super) fn live(shared: Arc<Shared>, way: Arc<Way>) -> Self {
        Self { source: Source::Live { shared, way }, resolved: Mutex::default() }
    }

    /// A fixed set, for tests: fingerprint of the secret, provider's id, account.
    #[must_use]
    pub fn of<'a>(claims: impl IntoIterator<Item = (&'a str, &'a str, Account)>) -> Self {
        let given = claims.into_iter().map(|(trust, native, account)| ((trust.into(), native.into()), account));
        Self { source: Source::Given(given.collect()), resolved: Mutex::default() }
    }

    /// The account that claims a provider's id and trusts the secret of this fingerprint.
    #[must_use]
    pub fn resolve(&self, trust: &str, native: &str) -> Option<Account> {
        let account = match &self.source {
            Source::Given(given) => given.get(&(trust.to_owned(), native.to_owned())).cloned(),
            Source::Live { shared, way } => {
                let claims = shared.claims.read().unwrap_or_else(PoisonError::into_inner);
                let claim = Claim::new(&way.account.kind, &way.tenant, trust, native);
                claims.get(&claim).map(|(account, _)| account.clone())
            }
        }?;
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if !resolved.contains(&account.id) {
            resolved.push(account.id.clone());
        }
        Some(account)
    }

    /// Whether the request may speak for an account that is not the endpoint's own.
    pub(super) fn allows(&self, account: &AccountId) -> bool {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).contains(account)
    }
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("url", &self.url("")).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Siblings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Siblings").finish_non_exhaustive()
    }
}
