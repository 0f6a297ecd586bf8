//! Signs of life: an account's state and capabilities in the bucket `tl-channels`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::Kv;
use contract::envelope::Account;
use contract::outbound::{Capabilities, ChannelHealth};
use contract::{Encoding, SmolStr, TenantId, token};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;

/// How often an account says that it lives.
pub const BEAT: Duration = Duration::from_secs(10);

/// How an account fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Both ways work.
    Up,
    /// It works, not as it should.
    Degraded,
    /// It does not work.
    Down,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// Where a channel says how it fares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    now: Arc<watch::Sender<(State, Option<String>)>>,
    noted_at: Arc<Mutex<Option<Instant>>>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { now: Arc::new(watch::Sender::new((State::Down, None))), noted_at: Arc::default() }
    }

    /// Says how it fares; `error` is for the operator and holds no secret and no content.
    pub fn set(&self, state: State, error: Option<String>) {
        let next = (state, error);
        self.now.send_if_modified(|now| {
            let changed = *now != next;
            if changed {
                *now = next;
            }
            changed
        });
    }

    /// Says what went wrong without anything having changed, as a request that was refused. At most every ten seconds,
    /// since strangers can bring it about.
    pub fn note(&self, error: impl FnOnce() -> String) {
        {
            let mut noted = self.noted_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if noted.is_some_and(|at| now.duration_since(at) < BEAT) {
                return;
            }
            *noted = Some(now);
        }
        self.set(self.state(), Some(error()));
    }

    /// How it fares.
    #[must_use]
    pub fn state(&self) -> State {
        self.now.borrow().0
    }
}

/// Who beats.
pub(crate) struct Beat {
    pub(crate) tenant: TenantId,
    pub(crate) account: Account,
    pub(crate) instance: SmolStr,
    pub(crate) capabilities: Capabilities,
    pub(crate) health: Health,
    pub(crate) bucket: Kv,
}

impl Beat {
    /// Beats for ever: on every change, and in between.
    pub(crate) async fn run(&self) {
        let mut changes = self.health.now.subscribe();
        loop {
            self.write().await;
            // Either way it is time; the sender lives in `self`.
            let _ = tokio::time::timeout(BEAT, changes.changed()).await;
        }
    }

    /// Beats once.
    pub(crate) async fn write(&self) {
        let (state, last_error) = self.health.now.borrow().clone();
        let value = ChannelHealth {
            tenant: self.tenant.clone(),
            kind: self.account.kind.clone(),
            account: self.account.clone(),
            instance: self.instance.clone(),
            state: state.as_str().into(),
            last_error,
            capabilities: self.capabilities.clone(),
            at: clock::now(),
        };
        let key = key(&self.tenant, &self.account);
        match Encoding::Json.encode(&value) {
            Ok(value) => {
                if let Err(error) = self.bucket.put(&key, value.into()).await {
                    tracing::debug!(%key, kind = ?error.kind, "a sign of life was not written");
                }
            }
            Err(error) => tracing::error!(%key, %error, "a sign of life cannot be encoded"),
        }
    }
}

/// `<tenant>.<kind>.<account>`.
#[must_use]
pub fn key(tenant: &TenantId, account: &Account) -> String {
    [tenant.as_str(), account.kind.as_str(), account.id.as_str()].map(token::encode).join(".")
}
