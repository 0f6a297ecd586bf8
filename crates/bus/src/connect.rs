//! Reaching the bus and knowing whether it is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::metric::Metric;
use crate::replies::Replies;
use crate::{Error, ErrorKind};

/// How long the first connection is tried.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// A server that reads its users again refuses whoever connects at that moment, though he is in order: a refusal is
/// believed when it is repeated after this.
const REFUSED_PAUSE: Duration = Duration::from_millis(300);
/// The longest pause between two attempts to reconnect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(250);
/// Messages a subscription holds before the library drops them.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// The process is about to end its own server.
static ENDING: AtomicBool = AtomicBool::new(false);

/// From now on a lost connection is no cause for a warning: the process ends its own server.
pub fn ending() {
    ENDING.store(true, Ordering::Relaxed);
}

/// How to reach the bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses, `nats://host:port` or `tls://host:port`; never with credentials in them.
    pub servers: Vec<String>,
    /// Name shown in the server's connection list.
    pub name: String,
    /// Who we are. The inbox prefix becomes `_INBOX_<user>`, which the permissions keep private.
    pub credentials: Credentials,
    /// Root certificates to trust instead of the system's, and a client certificate.
    pub tls: Tls,
    /// How long a publish waits for its acknowledgement, and an API request for its answer.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".into()],
            name: "throughline".into(),
            credentials: Credentials::None,
            tls: Tls::default(),
            timeout: Duration::from_secs(2),
        }
    }
}

/// Who we are on the bus.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A user whose password lies in a file. It is read for every connection, so that it can be changed while we run.
    PasswordFile {
        /// The user.
        user: String,
        /// The file; a line end at its end is not part of the password.
        file: PathBuf,
    },
    /// A `.creds` file, read for every connection: what it holds may be of short life.
    File(PathBuf),
    /// An nkey seed. Another key is another user: to change it, start anew.
    Nkey(String),
    /// A token.
    Token(String),
    /// A token that lies in a file, as with a password.
    TokenFile(PathBuf),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::Password { user, .. } => write!(formatter, "Password {{ user: {user:?}, password: *** }}"),
            Self::PasswordFile { user, file } => {
                write!(formatter, "PasswordFile {{ user: {user:?}, file: {} }}", file.display())
            }
            Self::File(path) => write!(formatter, "File({})", path.display()),
            Self::Nkey(_) => formatter.write_str("Nkey(***)"),
            Self::Token(_) => formatter.write_str("Token(***)"),
            Self::TokenFile(path) => write!(formatter, "TokenFile({})", path.display()),
        }
    }
}

impl Credentials {
    /// The inbox prefix: private to the user where there is one.
    fn inbox(&self) -> Result<String, Error> {
        match self {
            Self::Password { user, .. } | Self::PasswordFile { user, .. } => {
                if user.is_empty() || user.contains(|c: char| c.is_whitespace() || c == '*' || c == '>' || c == '.') {
                    return Err(Error::config(format!("user {user:?} cannot be part of a subject")));
                }
                Ok(format!("_INBOX_{user}"))
            }
            _ => Ok("_INBOX".into()),
        }
    }
}

/// TLS particulars; all empty means: as the address says, with the system's roots.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Root certificates, PEM; with them the system's do not count.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM; goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// Refuse a server that offers no TLS.
    pub required: bool,
}

/// State of the connection, for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It stands.
    Up,
    /// It is lost; the bus reconnects by itself, for ever.
    Down,
}

/// What the server forbade.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) subscription: bool,
    pub(crate) subject: String,
    pub(crate) text: String,
}

/// What the server did not store though it should have.
#[derive(Debug, Clone, Default)]
pub struct StoreFailures {
    /// How many times, since this connection was made.
    pub count: u64,
    /// What it said last.
    pub last: String,
}

/// What the events of the connection change. Apart from [`Shared`], since the events are known
/// before there is a connection and outlive the last handle by a moment.
struct State {
    replies: Arc<Replies>,
    connection: watch::Sender<Connection>,
    generation: watch::Sender<u64>,
    violations: broadcast::Sender<Violation>,
    store_failures: watch::Sender<StoreFailures>,
}

/// What all clones of a [`Bus`] have in common.
pub(crate) struct Shared {
    pub(crate) client: async_nats::Client,
    pub(crate) jetstream: async_nats::jetstream::Context,
    pub(crate) timeout: Duration,
    pub(crate) replies: Arc<Replies>,
    state: Arc<State>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    /// Counts the connections; what was set up on an older one must be set up again.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.state.generation.subscribe()
    }

    /// Tells what the server says about its disk.
    pub(crate) fn disk(&self) -> Disk {
        Disk(Arc::clone(&self.state))
    }

    pub(crate) fn violations(&self) -> broadcast::Receiver<Violation> {
        self.state.violations.subscribe()
    }

    /// Waits until the connection stands, at most until `deadline`.
    pub(crate) async fn up(&self, deadline: Instant) -> Result<(), Error> {
        if *self.state.connection.borrow() == Connection::Up {
            return Ok(());
        }
        let mut connection = self.state.connection.subscribe();
        loop {
            let look_again = deadline.min(Instant::now() + RECONNECT_DELAY_MAX);
            let up = connection.wait_for(|state| *state == Connection::Up);
            if tokio::time::timeout_at(look_again, up).await.is_ok() {
                return Ok(());
            }
            // The library drops events when there are too many: the good news must not be lost for ever.
            if self.client.connection_state() == async_nats::connection::State::Connected {
                self.state.observe(Event::Connected);
                return Ok(());
            }
            if look_again == deadline {
                return Err(Error::unavailable("no connection to the server"));
            }
        }
    }
}

/// Where it is told that the server cannot store.
#[derive(Clone)]
pub(crate) struct Disk(Arc<State>);

impl fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Disk")
    }
}

impl Disk {
    /// Takes note when an error is one of the disk. A stream that has reached its own limit is none: that is how a
    /// sender is held back.
    pub(crate) fn note(&self, error: &Error) {
        if error.kind != ErrorKind::Full {
            return;
        }
        let text = error.source.to_string();
        if text.contains("maximum") {
            return;
        }
        Metric::StoreFailures.count();
        self.0.store_failures.send_modify(|failures| {
            failures.count += 1;
            failures.last = text;
        });
    }
}

impl State {
    fn observe(&self, event: Event) {
        match event {
            Event::Connected => {
                self.generation.send_modify(|generation| *generation += 1);
                let _ = self.connection.send_replace(Connection::Up);
                tracing::debug!("bus connected");
            }
            Event::Disconnected | Event::Closed => {
                let before = self.connection.send_replace(Connection::Down);
                self.replies.disconnected();
                if ENDING.load(Ordering::Relaxed) {
                    tracing::debug!("connection to the bus ended");
                } else if before == Connection::Up && matches!(event, Event::Disconnected) {
                    Metric::Disconnects.count();
                    tracing::warn!("connection to the bus lost, reconnecting");
                }
            }
            Event::SlowConsumer(subscription) => {
                Metric::SlowConsumers.count();
                tracing::warn!(subscription, "subscription is full, messages are dropped");
            }
            Event::ServerError(ServerError::Other(text)) => self.server_error(text),
            Event::ServerError(error) => tracing::warn!(%error, "error from the bus"),
            Event::ClientError(error) => tracing::debug!(%error, "error of the bus client"),
            Event::LameDuckMode => tracing::info!("server of the bus is about to stop"),
            Event::Draining => {}
        }
    }

    fn server_error(&self, text: String) {
        let Some(violation) = violation(&text) else {
            tracing::warn!(error = text, "error from the bus");
            return;
        };
        Metric::Violations.count();
        tracing::warn!(
            subject = violation.subject,
            action = if violation.subscription { "subscribe" } else { "publish" },
            "forbidden by the bus"
        );
        if !violation.subscription {
            self.replies.forbidden(&violation.subject, &text);
            if let Some(unsharded) = unsharded(&violation.subject) {
                self.replies.forbidden(&unsharded, &text);
            }
        }
        let _ = self.violations.send(violation);
    }
}

/// Reads `Permissions Violation for Publish to "subject"` and the like.
fn violation(text: &str) -> Option<Violation> {
    let lower = text.to_lowercase();
    if !lower.starts_with("permissions violation") {
        return None;
    }
    let subject = text.split('"').nth(1)?.to_owned();
    Some(Violation { subscription: lower.contains("subscription"), subject, text: text.to_owned() })
}

/// The server names a subject as its mapping left it: an inbound one with the shard put in.
fn unsharded(subject: &str) -> Option<String> {
    let (shard, rest) = subject.strip_prefix("tl.v1.in.")?.split_once('.')?;
    let sharded = shard.bytes().all(|byte| byte.is_ascii_digit()) && rest.split('.').count() == 3;
    sharded.then(|| format!("tl.v1.in.{rest}"))
}

/// Doubles from 8 ms to the cap, less up to half by chance, so that a herd spreads.
fn reconnect_delay(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let full = Duration::from_millis(4 << attempt.min(6)).min(RECONNECT_DELAY_MAX);
    let mut chance = [0_u8; 1];
    // Without chance the delay is merely the same for all.
    let _ = getrandom::fill(&mut chance);
    full.mul_f64(1.0 - f64::from(chance[0]) / 510.0)
}

/// The addresses; whoever writes a password into one gets told, but not quoted.
fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, Error> {
    if servers.is_empty() {
        return Err(Error::config("no server address is set"));
    }
    servers
        .iter()
        .map(|server| {
            if server.contains('@') {
                return Err(Error::config("a server address holds credentials; set them apart from it"));
            }
            ServerAddr::from_str(server).map_err(|error| Error::config(format!("server address {server:?}: {error}")))
        })
        .collect()
}

fn connect_error(error: &async_nats::ConnectError, servers: &[String]) -> Error {
    let kind = match error.kind() {
        ConnectErrorKind::ServerParse | ConnectErrorKind::Tls => ErrorKind::Config,
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => ErrorKind::Forbidden,
        // No waiting mends a certificate.
        _ if tls_error(error) => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("connecting to {}: {error}", servers.join(", ")))
}

/// Whether the two sides could not agree on TLS: the library tells it as an error of I/O.
fn tls_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<async_nats::rustls::Error>()) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A connection. Cheap to clone; closed when the last clone and everything made from it is dropped.
#[derive(Clone)]
pub struct Bus {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bus").field("connection", &*self.shared.state.connection.borrow()).finish()
    }
}

impl Bus {
    /// Connects; tries for five seconds while nobody answers, and gives up at once when the
    /// configuration is wrong, on the second refusal when the credentials are. Later losses are repaired by themselves.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let servers = addresses(&options.servers)?;
        let inbox = options.credentials.inbox()?;
        let replies = Replies::new(format!("{inbox}.{}.", unique()));
        let state = Arc::new(State {
            replies: Arc::clone(&replies),
            connection: watch::Sender::new(Connection::Up),
            generation: watch::Sender::new(0),
            violations: broadcast::Sender::new(64),
            store_failures: watch::Sender::default(),
        });

        let deadline = Instant::now() + CONNECT_WAIT;
        let mut attempt = 1;
        let mut refused = false;
        let client = loop {
            let library = library_options(&options, &inbox, Arc::downgrade(&state)).await?;
            let error = match library.connect(servers.clone()).await {
                Ok(client) => break client,
                Err(error) => connect_error(&error, &options.servers),
            };
            attempt += 1;
            let mut pause = reconnect_delay(attempt);
            let worth_it = match error.kind {
                ErrorKind::Unavailable => true,
                ErrorKind::Forbidden if !refused => {
                    refused = true;
                    pause = REFUSED_PAUSE;
                    true
                }
                _ => false,
            };
            if !worth_it || Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        };

        // The event of this very connection must not be taken for a reconnect by those who come next.
        let mut generation = state.generation.subscribe();
        let _ = tokio::time::timeout(options.timeout, generation.wait_for(|generation| *generation > 0)).await;
        let answers = client
            .subscribe(replies.subject())
            .await
            .map_err(|error| Error::unavailable(format!("subscribing to the inbox: {error}")))?;
        let tasks =
            vec![tokio::spawn(Arc::clone(&replies).deliver(answers)), tokio::spawn(Arc::clone(&replies).keep_time())];
        let jetstream = async_nats::jetstream::ContextBuilder::new().timeout(options.timeout).build(client.clone());
        Ok(Self { shared: Arc::new(Shared { client, jetstream, timeout: options.timeout, replies, state, tasks }) })
    }

    /// Changes when the connection goes up or down.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.shared.state.connection.subscribe()
    }

    /// Changes when the server did not store what it should have: its disk is full, or fails.
    #[must_use]
    pub fn store_failures(&self) -> watch::Receiver<StoreFailures> {
        self.shared.state.store_failures.subscribe()
    }

    /// The largest payload the server takes, in bytes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.shared.client.max_payload()
    }
}

/// What a file says, read anew for every connection.
struct Renewed<T> {
    file: PathBuf,
    read: fn(&Path) -> Result<T, Error>,
    last: Mutex<T>,
}

impl<T: Clone> Renewed<T> {
    fn of(file: &Path, read: fn(&Path) -> Result<T, Error>) -> Result<Self, Error> {
        Ok(Self { file: file.to_owned(), read, last: Mutex::new(read(file)?) })
    }

    /// As the file has it now; while it cannot be read, as it had it last.
    fn now(&self) -> T {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.read)(&self.file) {
            Ok(now) => *last = now,
            Err(error) => tracing::warn!(%error, "what the file said last is used"),
        }
        last.clone()
    }
}

fn text_of(file: &Path, what: &str) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| Error::config(format!("{what} file {}: {error}", file.display())))
}

/// A password or a token.
fn secret_of(file: &Path) -> Result<String, Error> {
    let text = text_of(file, "password or token")?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Error::config(format!("password or token file {} is empty", file.display()))),
        secret => Ok(secret.to_owned()),
    }
}

/// What a `.creds` file holds: who its owner is, signed by the account, and the seed that proves it.
#[derive(Clone)]
struct Creds {
    jwt: String,
    seed: String,
}

impl Creds {
    fn of(file: &Path) -> Result<Self, Error> {
        let text = text_of(file, "credentials")?;
        let found = (block(&text, "USER JWT"), block(&text, "USER NKEY SEED"));
        let (Some(jwt), Some(seed)) = found else {
            let what = "holds no user JWT with its nkey seed";
            return Err(Error::config(format!("credentials file {} {what}", file.display())));
        };
        // The library's error is not told: it must not quote the seed.
        nkeys::KeyPair::from_seed(seed)
            .map_err(|_| Error::config(format!("credentials file {}: its seed cannot be read", file.display())))?;
        Ok(Self { jwt: jwt.to_owned(), seed: seed.to_owned() })
    }

    fn sign(self, nonce: &[u8]) -> Result<async_nats::Auth, nkeys::error::Error> {
        let mut auth = async_nats::Auth::new();
        auth.signature = Some(nkeys::KeyPair::from_seed(&self.seed)?.sign(nonce)?);
        auth.jwt = Some(self.jwt);
        Ok(auth)
    }
}

/// What stands between the lines `-----BEGIN … <title>-----` and `------END … <title>------`.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(title))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
}

async fn library_options(options: &Options, inbox: &str, state: Weak<State>) -> Result<ConnectOptions, Error> {
    let library = match &options.credentials {
        Credentials::PasswordFile { user, file } => {
            let (user, password) = (user.clone(), Renewed::of(file, secret_of)?);
            ConnectOptions::with_auth_callback(move |_| {
                let mut auth = async_nats::Auth::new();
                (auth.username, auth.password) = (Some(user.clone()), Some(password.now()));
                async move { Ok(auth) }
            })
        }
        Credentials::TokenFile(file) => {
            let token = Renewed::of(file, secret_of)?;
            ConnectOptions::with_auth_callback(move |_| {
                let mut auth = async_nats::Auth::new();
                auth.token = Some(token.now());
                async move { Ok(auth) }
            })
        }
        Credentials::File(file) => {
            let creds = Renewed::of(file, Creds::of)?;
            ConnectOptions::with_auth_callback(move |nonce| {
                let signed = creds.now().sign(&nonce).map_err(async_nats::AuthError::new);
                async move { signed }
            })
        }
        _ => ConnectOptions::new(),
    };
    let mut library = library
        .name(&options.name)
        .custom_inbox_prefix(inbox)
        .connection_timeout(CONNECT_WAIT.min(options.timeout.max(Duration::from_millis(100))))
        .request_timeout(Some(options.timeout))
        .ping_interval(Duration::from_secs(5))
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            let state = state.upgrade();
            async move {
                if let Some(state) = state {
                    state.observe(event);
                }
            }
        });
    library = match &options.credentials {
        Credentials::None | Credentials::PasswordFile { .. } | Credentials::TokenFile(_) | Credentials::File(_) => {
            library
        }
        Credentials::Password { user, password } => library.user_and_password(user.clone(), password.clone()),
        Credentials::Nkey(seed) => library.nkey(seed.clone()),
        Credentials::Token(token) => library.token(token.clone()),
    };
    for path in [&options.tls.ca_file, &options.tls.cert_file, &options.tls.key_file].into_iter().flatten() {
        // The library does not say which file it cannot read.
        let read = tokio::fs::File::open(path).await;
        read.map_err(|error| Error::config(format!("TLS file {}: {error}", path.display())))?;
    }
    if let Some(path) = &options.tls.ca_file {
        library = library.add_root_certificates(path.clone());
    }
    match (&options.tls.cert_file, &options.tls.key_file) {
        (Some(cert), Some(key)) => library = library.add_client_certificate(cert.clone(), key.clone()),
        (None, None) => {}
        _ => return Err(Error::config("a client certificate needs both its file and its key's")),
    }
    Ok(library.require_tls(options.tls.required))
}

/// A token nobody else has.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = [0_u8; 11];
    // Should the system have no chance left, process and count still tell tokens apart on a machine.
    if getrandom::fill(&mut bytes).is_err() {
        let count = u64::from(COUNT.fetch_add(1, Ordering::Relaxed));
        let number = count << 32 | u64::from(std::process::id());
        bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, number)| *byte = number);
    }
    crate::hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_read() {
        let publish = violation(r#"Permissions Violation for Publish to "tl.v1.in.0.main.chat.web""#).unwrap();
        assert_eq!((publish.subscription, publish.subject.as_str()), (false, "tl.v1.in.0.main.chat.web"));
        let subscribe = violation(r#"Permissions Violation for Subscription to "a.>" using queue "q""#).unwrap();
        assert_eq!((subscribe.subscription, subscribe.subject.as_str()), (true, "a.>"));
        assert!(violation("Stale Connection").is_none());
        assert_eq!(unsharded("tl.v1.in.7.main.email.support").as_deref(), Some("tl.v1.in.main.email.support"));
        assert_eq!(unsharded("tl.v1.in.7.main.email"), None);
    }

    #[test]
    fn delays_are_capped() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempt in 2..200 {
            assert!(reconnect_delay(attempt) <= RECONNECT_DELAY_MAX);
            assert!(reconnect_delay(attempt) >= Duration::from_millis(4));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Credentials::Password { user: "anna".into(), password: "hunter2".into() });
        assert!(shown.contains("anna") && !shown.contains("hunter2"));
        let error = addresses(&["nats://u:hunter2@host".into()]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
