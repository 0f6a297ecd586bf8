//! All channels of a process: prepared, opened, run, drained.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::Bus;
use contract::{ChannelKind, SmolStr, TenantId, token};
use runtime::drain::Shutdown;
use runtime::redact::Redactor;
use runtime::secret::{Secret, SecretString};
use runtime::settings::Problem;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::account::AccountFile;
use crate::backoff::Backoff;
use crate::channel::{Channel, Context, Kind, OpenError, Prepared, Rehearsal};
use crate::cursor::Cursors;
use crate::describing::{self, Asking, Describing};
use crate::fetch::Fetcher;
use crate::fetching::{self, Fetching};
use crate::health::{Beat, Health, State};
use crate::history::History;
use crate::inbound::Inbound;
use crate::ledger::Ledger;
use crate::limit::TokenBucket;
use crate::live::Live;
use crate::media::Media;
use crate::outbound::{Outbound, Share, Target};
use crate::secrets::SecretStore;
use crate::webhook::{Hooks, Way, Webhooks};

/// How long what we open may keep us waiting for an election, or for a router that starts.
const OPEN_WAIT: Duration = Duration::from_secs(20);

const OPEN_PAUSE: Duration = Duration::from_millis(300);

const RESTART: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
/// Kept free before the drain's deadline for the last sign of life.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the channels of a process share.
#[derive(Clone)]
pub struct Environment {
    /// The bus, with the topology in place.
    pub bus: Bus,
    /// How many shards the deployment has.
    pub shards: u16,
    /// Where accounts keep what they make themselves.
    pub data_dir: PathBuf,
    /// This process.
    pub instance: SmolStr,
    /// What must not be stored.
    pub redactor: Arc<Redactor>,
    /// The process's webhooks.
    pub webhooks: Webhooks,
    /// Guarded downloads.
    pub fetcher: Fetcher,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// An account that can be opened.
pub struct Ready {
    /// Its file.
    pub file: AccountFile,
    prepared: Box<dyn Prepared>,
}

impl Ready {
    /// Its hook by itself; see [`Prepared::rehearse`].
    #[must_use]
    pub fn rehearse(&self, trusting: bool) -> Option<Result<Rehearsal, OpenError>> {
        self.prepared.rehearse(&self.file.tenant, &self.file.envelope_account(), trusting)
    }

    /// A page that shows a person what the channel does, where it has one.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        self.prepared.page()
    }

    /// Whether its provider calls us.
    #[must_use]
    pub fn has_hook(&self) -> bool {
        self.prepared.has_hook()
    }
}

/// Checks every account's settings. Pure.
///
/// # Errors
/// With every problem of every account.
pub fn prepare(kinds: &[Box<dyn Kind>], files: Vec<AccountFile>) -> Result<Vec<Ready>, Vec<Problem>> {
    let (mut ready, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for file in files {
        // One name per kind over all tenants: paths and health keys go by it.
        if !seen.insert((file.kind.clone(), file.account.clone())) {
            problems.push(file.problem("account", "another file has the same kind and account"));
        }
        match kinds.iter().find(|kind| kind.name() == file.kind.as_str()) {
            None => {
                let known: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let message = format!("there is no channel of this kind; known: {}", known.join(", "));
                problems.push(file.problem("kind", message));
            }
            Some(kind) => match kind.prepare(&file) {
                Ok(prepared) => ready.push(Ready { file, prepared }),
                Err(found) => problems.extend(found),
            },
        }
    }
    if problems.is_empty() { Ok(ready) } else { Err(problems) }
}

/// Opened channels.
pub struct Channels {
    environment: Environment,
    accounts: Vec<Account>,
    outbounds: Vec<Arc<Outbound>>,
    fetchings: Vec<Arc<Fetching>>,
    describing: Arc<Describing>,
}

struct Account {
    name: String,
    channel: Arc<dyn Channel>,
    inbound: Inbound,
    health: Health,
    beat: Beat,
}

/// Shortest key that is no word somebody thought of.
const SHARED_KEY_BYTES_MIN: usize = 32;

fn shared_key(name: &str, secret: &Secret) -> Result<SecretString, OpenError> {
    let key = secret.resolve().map_err(|error| OpenError(format!("channel {name}: shared_key: {error}")))?;
    if key.expose().len() < SHARED_KEY_BYTES_MIN {
        let whereabouts = secret.whereabouts();
        let why = format!("{whereabouts} has fewer than {SHARED_KEY_BYTES_MIN} bytes and could be guessed");
        return Err(OpenError(format!("channel {name}: shared_key: {why}")));
    }
    Ok(key)
}

/// Whether that is there in a moment: a cluster elects a leader, or the router that makes it starts beside us.
fn may_come(error: &bus::Error) -> bool {
    error.is_transient() || error.kind == bus::ErrorKind::NotFound
}

/// Opens something of the bus that may not be there yet.
async fn opened<T, F>(deadline: Instant, what: &str, open: impl Fn() -> F) -> Result<T, OpenError>
where
    F: Future<Output = Result<T, bus::Error>>,
{
    loop {
        match open().await {
            Ok(opened) => return Ok(opened),
            Err(error) if may_come(&error) && Instant::now() < deadline => {
                tracing::info!(%error, "{what}: not there yet; waiting");
                tokio::time::sleep(OPEN_PAUSE).await;
            }
            Err(error) => return Err(OpenError(format!("{what}: {error}"))),
        }
    }
}

impl Channels {
    /// Opens every account.
    ///
    /// # Errors
    /// With the first that cannot be opened, by name.
    pub async fn open(ready: Vec<Ready>, environment: Environment) -> Result<Self, OpenError> {
        let connection = &environment.bus;
        let deadline = Instant::now() + OPEN_WAIT;
        let beats = opened(deadline, "bucket of channels", || connection.bucket(bus::topology::CHANNELS)).await?;
        let sends = opened(deadline, "send ledger", || connection.bucket(bus::topology::LEDGER)).await?;
        let memory = "bucket of what is remembered";
        let stores = Stores {
            cursors: opened(deadline, "bucket of cursors", || connection.bucket(bus::topology::CURSORS)).await?,
            memory: opened(deadline, memory, || connection.bucket(bus::topology::MEMORY)).await?,
            media: opened(deadline, "bucket of media", || connection.objects(bus::topology::MEDIA)).await?,
        };
        let (asking, mut describing) = describing::channel();
        let mut accounts = Vec::new();
        let mut of_kind: HashMap<ChannelKind, usize> = HashMap::new();
        for ready in &ready {
            *of_kind.entry(ready.file.kind.clone()).or_default() += 1;
        }
        let mut targets: HashMap<ChannelKind, HashMap<_, Target>> = HashMap::new();
        let mut fetched: HashMap<ChannelKind, HashMap<_, fetching::Target>> = HashMap::new();
        for Ready { file, prepared } in ready {
            let name = format!("{}/{}", file.kind, file.account);
            let shared_key = file.shared_key.as_ref().map(|secret| shared_key(&name, secret)).transpose()?;
            let mut context = context(&environment, &stores, &file, asking.clone());
            context.secrets = context.secrets.sharing(shared_key);
            let opened = prepared.open(context.clone()).await;
            let channel = opened.map_err(|error| OpenError(format!("channel {name}: {error}")))?;
            let rate = file.outbound.per_second_max.map(|per_second| {
                let burst = file.outbound.burst_max.unwrap_or(per_second);
                Mutex::new(TokenBucket::new(per_second, burst, Instant::now()))
            });
            let target = Target {
                channel: Arc::clone(&channel),
                account: context.account.clone(),
                inbound: context.inbound.clone(),
                rate,
                share: Share::of(of_kind.get(&file.kind).copied().unwrap_or(1)),
            };
            let whose = (file.tenant.clone(), file.account.clone());
            targets.entry(file.kind.clone()).or_default().insert(whose.clone(), target);
            let (inbound, memory) = (context.inbound.clone(), context.memory.clone());
            let named = (file.kind.clone(), file.tenant.clone(), file.account.clone());
            describing.targets.insert(named, describing::Target { channel: Arc::clone(&channel), inbound, memory });
            let (inbound, media) = (context.inbound.clone(), context.media.clone());
            let target = fetching::Target { channel: Arc::clone(&channel), inbound, media };
            fetched.entry(file.kind.clone()).or_default().insert(whose, target);
            let beat = Beat {
                tenant: file.tenant,
                account: context.account,
                instance: environment.instance.clone(),
                capabilities: channel.capabilities(),
                health: context.health.clone(),
                bucket: beats.clone(),
            };
            accounts.push(Account { name, channel, inbound: context.inbound, health: context.health, beat });
        }
        let outbounds = targets.into_iter().map(|(kind, targets)| {
            let ledger = Ledger::new(kind.clone(), sends.clone());
            Arc::new(Outbound::new(kind, connection.clone(), targets, ledger))
        });
        let outbounds = outbounds.collect();
        let fetchings = fetched
            .into_iter()
            .map(|(kind, targets)| Arc::new(Fetching { kind, bus: connection.clone(), targets }))
            .collect();
        Ok(Self { environment, accounts, outbounds, fetchings, describing: Arc::new(describing) })
    }

    /// Runs every account until the drain begins, finishes what is under way, and returns: at the
    /// drain's deadline at the latest.
    pub async fn run(self) {
        let shutdown = self.environment.shutdown;
        let mut tasks = JoinSet::new();
        for outbound in self.outbounds {
            let shutdown = shutdown.clone();
            tasks.spawn(async move { work(outbound, &shutdown).await });
        }
        let (describing, ours) = (self.describing, shutdown.clone());
        tasks.spawn(async move { describing.run(&ours).await });
        for fetching in self.fetchings {
            let shutdown = shutdown.clone();
            tasks.spawn(async move { fetch(fetching, &shutdown).await });
        }
        for account in self.accounts {
            let shutdown = shutdown.clone();
            tasks.spawn(async move { account.run(&shutdown).await });
        }
        shutdown.draining().await;
        let deadline = shutdown.deadline().unwrap_or_else(Instant::now);
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(deadline, all).await.is_err() {
            tracing::warn!("channels did not finish before the deadline");
        }
    }
}

/// Works off one kind, again and again if the bus refuses.
async fn work(outbound: Arc<Outbound>, shutdown: &Shutdown) {
    let mut tries = 0;
    while !shutdown.is_draining() {
        if let Err(error) = Arc::clone(&outbound).run(shutdown).await {
            tracing::error!(channel.kind = %outbound.kind, kind = ?error.kind, "commands cannot be worked off");
        }
        rest(shutdown, RESTART.wait(tries)).await;
        tries += 1;
    }
}

/// Fetches for one kind, again and again if the bus refuses.
async fn fetch(fetching: Arc<Fetching>, shutdown: &Shutdown) {
    let mut tries = 0;
    while !shutdown.is_draining() {
        if let Err(error) = Arc::clone(&fetching).run(shutdown).await {
            tracing::error!(channel.kind = %fetching.kind, kind = ?error.kind, "nothing can be fetched");
        }
        rest(shutdown, RESTART.wait(tries)).await;
        tries += 1;
    }
}

impl Account {
    async fn run(self, shutdown: &Shutdown) {
        let Self { name, channel, inbound, health, beat } = self;
        let work = async {
            receive(&name, channel, &health, shutdown).await;
            inbound.idle().await;
        };
        let ended = async {
            shutdown.draining().await;
            let deadline = shutdown.deadline().unwrap_or_else(Instant::now);
            tokio::time::sleep_until(deadline.checked_sub(LAST_WORDS).unwrap_or(deadline)).await;
        };
        tokio::select! {
            () = work => {}
            () = ended => tracing::warn!(channel = name, "a channel did not finish before the deadline"),
            () = beat.run() => {}
        }
        health.set(State::Down, None);
        // The bus may be gone already.
        let _ = tokio::time::timeout(LAST_WORDS, beat.write()).await;
    }
}

/// Runs a channel's receiving half, again and again if it ends early.
async fn receive(name: &str, channel: Arc<dyn Channel>, health: &Health, shutdown: &Shutdown) {
    let mut tries = 0;
    loop {
        health.set(State::Up, None);
        // In a task of its own, so that a panic in it is an end like any other; aborted with ours.
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(&channel).run());
        let problem = match task.join_next().await {
            Some(Ok(Ok(()))) | None => "it ended by itself".to_owned(),
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(error)) => format!("it failed: {error}"),
        };
        if shutdown.is_draining() {
            return;
        }
        tracing::error!(channel = name, problem, "a channel stopped and is run again");
        health.set(State::Down, Some(problem));
        rest(shutdown, RESTART.wait(tries)).await;
        tries += 1;
        if shutdown.is_draining() {
            return;
        }
    }
}

async fn rest(shutdown: &Shutdown, span: Duration) {
    // Whichever comes first.
    let _ = tokio::time::timeout(span, shutdown.draining()).await;
}

/// Where accounts keep what must outlive the process.
struct Stores {
    cursors: bus::Kv,
    memory: bus::Kv,
    media: bus::Objects,
}

fn context(environment: &Environment, stores: &Stores, file: &AccountFile, asking: Asking) -> Context {
    let account = file.envelope_account();
    let bus = &environment.bus;
    let inbound =
        Inbound::new(bus.clone(), environment.shards, file.tenant.clone(), file.kind.clone(), file.account.clone())
            .redacting(Arc::clone(&environment.redactor));
    let media = Media::new(stores.media.clone(), file.tenant.clone(), file.kind.clone());
    let health = Health::new();
    let way = Way {
        tenant: file.tenant.clone(),
        account: account.clone(),
        inbound: inbound.clone(),
        media: media.clone(),
        bus: bus.clone(),
        shards: environment.shards,
        redactor: Arc::clone(&environment.redactor),
        health: health.clone(),
        asking,
    };
    Context {
        inbound,
        history: History::new(bus.clone(), &file.tenant, &account),
        live: Live::new(bus.clone(), file.tenant.clone(), environment.instance.clone()),
        health,
        secrets: SecretStore::new(folder(environment, &file.tenant, &account)),
        cursors: Cursors::new(stores.cursors.clone(), &file.tenant, &account),
        memory: Cursors::new(stores.memory.clone(), &file.tenant, &account),
        media,
        hooks: Hooks::new(environment.webhooks.clone(), way),
        fetcher: environment.fetcher.clone(),
        instance: environment.instance.clone(),
        tenant: file.tenant.clone(),
        account,
        redactor: Arc::clone(&environment.redactor),
        shutdown: environment.shutdown.clone(),
    }
}

fn folder(environment: &Environment, tenant: &TenantId, account: &contract::envelope::Account) -> PathBuf {
    let name = [tenant.as_str(), account.kind.as_str(), account.id.as_str()].map(token::encode).join(".");
    environment.data_dir.join("channels").join(name)
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.accounts.iter().map(|account| &account.name)).finish()
    }
}
