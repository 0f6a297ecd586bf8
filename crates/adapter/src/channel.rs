//! What a channel implements, and what it is given.

use std::sync::Arc;

use contract::envelope::Account;
use contract::outbound::{Capabilities, OutCommand};
use contract::{SmolStr, TenantId};
use runtime::drain::Shutdown;
use runtime::settings::Problem;

use crate::account::AccountFile;
use crate::failure::{SendFailure, Sent};
use crate::health::Health;
use crate::history::History;
use crate::inbound::Inbound;
use crate::ledger::PartLedger;
use crate::live::Live;
use crate::secrets::SecretStore;

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

    /// Reads secrets, binds sockets, signs in.
    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>>;
}

/// A running account.
pub trait Channel: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether sends are recorded.
    fn ledger(&self) -> LedgerMode {
        LedgerMode::Durable
    }

    /// Carries out a command. It may come again after a crash; the ledger says what was done.
    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>>;

    /// Receives until the drain begins, finishes what is under way, and returns. When it returns
    /// earlier or with an error, it is run again after a while.
    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>>;
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
    /// When to stop.
    pub shutdown: Shutdown,
}
