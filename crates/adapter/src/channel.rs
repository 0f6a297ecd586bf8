//! What a channel implements, and what it is given.

use std::sync::Arc;
use std::time::Duration;

use contract::envelope::{Account, Identity};
use contract::outbound::{Capabilities, OutCommand};
use contract::{SmolStr, TenantId};
use runtime::drain::Shutdown;
use runtime::redact::Redactor;
use runtime::settings::Problem;

use crate::account::AccountFile;
use crate::cursor::Cursors;
use crate::failure::{SendFailure, Sent};
use crate::fetch::{Fetched, Fetcher};
use crate::health::Health;
use crate::history::History;
use crate::inbound::Inbound;
use crate::ledger::PartLedger;
use crate::live::Live;
use crate::media::Media;
use crate::secrets::SecretStore;
use crate::webhook::{Hook, Hooks};

/// A future in a box, since channels are used through `dyn`.
pub use futures_util::future::BoxFuture;

/// A kind of channel: the one thing that is registered with the daemon.
pub trait Kind: Send + Sync {
    /// Its name, as account files give it.
    fn name(&self) -> &'static str;

    /// Checks an account's settings. Pure: no file, no socket, no environment.
    ///
    /// # Errors
    /// With every problem, by path.
    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>>;
}

/// An account whose settings are in order.
pub trait Prepared: Send {
    /// A page that shows a person what the channel does, where it has one.
    fn page(&self) -> Option<String> {
        None
    }

    /// Whether its provider calls us: then the process listens, and [`Hooks`] can be used.
    fn has_hook(&self) -> bool {
        false
    }

    /// Its hook by itself, to try a request out without a bus or a provider: secrets are read and nothing else is
    /// done. `trusting` asks for a hook without secrets that verifies nothing. `None`: it has no hook, or none that can
    /// be had like this.
    fn rehearse(&self, tenant: &TenantId, account: &Account, trusting: bool) -> Option<Result<Rehearsal, OpenError>> {
        let _ = (tenant, account, trusting);
        None
    }

    /// Reads secrets, binds sockets, signs in.
    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>>;
}

/// A hook that nobody is served by.
pub struct Rehearsal {
    /// The hook.
    pub hook: Arc<dyn Hook>,
    /// What the account would claim: the fingerprint of a secret, and the provider's id that it vouches for.
    pub claims: Vec<(String, String)>,
}

/// A running account.
pub trait Channel: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether sends are recorded.
    fn ledger(&self) -> LedgerMode {
        LedgerMode::Durable
    }

    /// How long a failure that goes away is tried again. Only the thread of the command waits for it.
    fn retry(&self) -> Retry {
        Retry::default()
    }

    /// Carries out a command. It may come again after a crash; the ledger says what was done.
    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>>;

    /// Gets a medium that a webhook said is to be fetched; `source` is as the hook gave it. Bytes that a provider or a
    /// customer wrote the address of are downloaded with the context's [`Fetcher`].
    fn fetch<'a>(&'a self, source: &'a serde_json::Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        let _ = source;
        Box::pin(async { Err(SendFailure::permanent("unsupported", "this channel fetches nothing")) })
    }

    /// Looks up who somebody is; `None`: the provider does not say.
    fn describe<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<Option<Described>, SendFailure>> {
        let _ = identity;
        Box::pin(async { Ok(None) })
    }

    /// Receives until the drain begins, finishes what is under way, and returns. When it returns
    /// earlier or with an error, it is run again after a while.
    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>>;
}

/// What a provider says of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Described {
    /// The name to show.
    pub name: Option<SmolStr>,
    /// The platform's user name.
    pub username: Option<SmolStr>,
    /// Language, ISO 639-1.
    pub language: Option<SmolStr>,
    /// The address of a picture.
    pub avatar: Option<String>,
}

/// Whether sends are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerMode {
    /// In the bucket, so that a crash between two parts is known. Commands of a thread wait for each
    /// other.
    Durable,
    /// Not at all: a repeat is harmless, and the receiver puts commands in order.
    None,
}

/// How a send that failed for now is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// A command that is older is given up, whatever its `not_after`. `OUT` and the ledger keep seven days.
    pub life: Duration,
    /// The longest wait between two tries.
    pub wait_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { life: Duration::from_secs(24 * 3600), wait_max: Duration::from_secs(300) }
    }
}

/// Why an account could not be opened or kept open; for the operator.
#[derive(Debug)]
pub struct OpenError(pub String);

impl OpenError {
    /// Says what failed and why.
    pub fn new(what: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// What an account is given. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Whose customers come by it.
    pub tenant: TenantId,
    /// The account as envelopes name it.
    pub account: Account,
    /// This process, as heartbeats name it.
    pub instance: SmolStr,
    /// The way in.
    pub inbound: Inbound,
    /// The transcript.
    pub history: History,
    /// Typing, presence and other lossy signals.
    pub live: Live,
    /// What the operator sees of it.
    pub health: Health,
    /// Secrets that it makes itself.
    pub secrets: SecretStore,
    /// How far it has read; kept for ever.
    pub cursors: Cursors,
    /// What it remembers of single messages; forgotten after 90 days.
    pub memory: Cursors,
    /// Attachments.
    pub media: Media,
    /// Its webhook.
    pub hooks: Hooks,
    /// Guarded downloads.
    pub fetcher: Fetcher,
    /// What must not be stored: [`Inbound`] takes it out of texts, a channel leaves out originals that hold any.
    pub redactor: Arc<Redactor>,
    /// When to stop.
    pub shutdown: Shutdown,
}
