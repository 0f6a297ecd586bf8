//! `throughline run`: starts the roles, keeps them, and stops them in order.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use adapter::backoff::Backoff;
use adapter::http::ClientSettings;
use adapter::webhook::Webhooks;
use adapter::{Environment, Fetcher, Ready};
use bus::embedded::{self, Server};
use bus::{Bus, Connection, Credentials, Options, Publish, Tls, Topology, permissions};
use contract::command::{AdminCommand, Done, Reply};
use contract::policy::Policy;
use contract::{Encoding, TenantId, subject};
use router::Router;
use runtime::drain::{Reloads, Shutdown};
use runtime::health::{Component, Health, Server as HealthServer};
use runtime::metrics::Metrics;
use runtime::notify::Notifier;
use runtime::redact::Redactor;
use runtime::settings::Problem;
use tracing::{error, info, warn};

use crate::Failure;
use crate::cli::Role;
use crate::hosting::{self, Environments, Hosting};
use crate::roles::{Roles, prepare};
use crate::settings::{self, Account, Loaded, Mode};
use crate::storage::Storage;

/// How long a process waits for a bus that another one is about to start.
const BUS_WAIT: Duration = Duration::from_secs(20);

/// How much longer the service manager is asked to wait while we start, and how often. A long journal takes its time.
const START_WAIT: Duration = Duration::from_secs(60);

/// How often accounts are tried again that could not be opened.
const REOPEN: Backoff = Backoff { first: Duration::from_secs(2), max: Duration::from_secs(60) };

/// Runs until told to stop.
pub(crate) async fn run(loaded: Loaded, config: Option<PathBuf>, only: Vec<Role>) -> Result<(), Failure> {
    let roles = Roles::new(only);
    let ready = prepare(&loaded, |kind| roles.has_channel(kind)).map_err(Failure::Settings)?;
    runtime::telemetry::init(loaded.settings.log.format, &loaded.settings.log.filter)?;
    start_traces(&loaded)?;
    let metrics = Metrics::install()?;
    let shutdown = Shutdown::new(Duration::from_millis(loaded.settings.drain.deadline_ms));
    shutdown.listen(|| {})?;
    let health = Health::new();
    let notifier = Notifier::from_env();
    let starting = tokio::spawn(tell_starting(notifier.clone(), health.clone())).abort_handle();
    tokio::spawn(runtime::memory::grow());
    let alive = notifier.clone();
    tokio::spawn(async move { alive.keep_alive().await });
    let process = Process {
        instance: instance(),
        policy: Mutex::new(loaded.policy.clone()),
        webhooks: OnceLock::new(),
        storage: Arc::new(Storage::default()),
        loaded,
        config,
        roles,
        shutdown,
        health,
        metrics,
        notifier,
        starting,
    };
    process.run(ready).await
}

/// Sends traces where the settings say.
fn start_traces(loaded: &Loaded) -> Result<(), Failure> {
    let settings = &loaded.settings.trace;
    let Some(endpoint) = &settings.endpoint else { return Ok(()) };
    let client = adapter::http::Client::new(ClientSettings { timeout: Duration::from_secs(5), ..Default::default() })
        .map_err(|error| Failure::Other(error.0))?;
    let handle = tokio::runtime::Handle::current();
    let send = move |request| -> runtime::trace::Answer {
        let client = client.clone();
        let sent = handle.spawn(async move { client.send(request).await });
        Box::pin(async move { Ok(sent.await??) })
    };
    runtime::trace::init(send, endpoint, settings.ratio, &instance())
        .map_err(|why| Failure::Settings(vec![Problem::new("trace.endpoint", "", why)]))
}

/// Keeps the service manager from giving us up while we start, however long the journal is.
async fn tell_starting(notifier: Notifier, health: Health) {
    loop {
        let parts = health.readiness().components;
        let missing = parts.into_iter().filter(|part| !part.up).map(|part| part.name);
        notifier.starting(&format!("starting; not up yet: {}", missing.collect::<Vec<_>>().join(", ")), START_WAIT);
        tokio::time::sleep(START_WAIT / 4).await;
    }
}

/// Names this process in epochs, heartbeats and logs.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "throughline" } else { host }, std::process::id())
}

struct Process {
    instance: String,
    loaded: Loaded,
    config: Option<PathBuf>,
    roles: Roles,
    shutdown: Shutdown,
    health: Health,
    metrics: Metrics,
    notifier: Notifier,
    /// Tells the service manager that we are starting, until we have.
    starting: tokio::task::AbortHandle,
    /// As it was read last.
    policy: Mutex<Policy>,
    /// Set once they are bound.
    webhooks: OnceLock<Webhooks>,
    storage: Arc<Storage>,
}

impl Process {
    async fn run(self, ready: Vec<Ready>) -> Result<(), Failure> {
        // From now on: one that is asked for while we start is done once we have.
        let reloads = self.shutdown.reloads();
        let server = self.start_server().await?;
        let bus = self.connect(permissions::ROUTER, true).await?;
        self.watch(&bus);
        self.watch_storage(server.as_ref());
        if self.roles.has(&Role::Router) || server.is_some() {
            bus.ensure(&self.topology(&self.loaded)).await?;
        }
        let open = self.health.component("channels");
        let pages = self.start_pages(&bus).await?;
        let customer_pages: Vec<String> = ready.iter().filter_map(Ready::page).collect();
        let router = if self.roles.has(&Role::Router) { Some(self.start_router(&bus).await?) } else { None };
        let webhooks = if ready.iter().any(Ready::has_hook) {
            Webhooks::bind(self.loaded.settings.webhook.clone()).await.map_err(|error| Failure::Other(error.0))?
        } else {
            Webhooks::none()
        };
        let _ = self.webhooks.set(webhooks.clone());
        let (loaded, shutdown) = (&self.loaded, self.shutdown.clone());
        let mut hosting = Hosting::start(&self.roles, loaded, ready, webhooks.clone(), shutdown, &self).await?;
        let serving = webhooks.address().is_some().then(|| {
            let (webhooks, shutdown) = (webhooks.clone(), self.shutdown.clone());
            tokio::spawn(async move {
                if let Err(error) = webhooks.serve(shutdown).await {
                    error!(%error, "the webhooks are not served");
                }
            })
        });
        open.up();
        self.announce(server.as_ref(), pages.as_ref(), &customer_pages, &webhooks);
        self.starting.abort();
        self.notifier.ready(&self.instance);
        self.follow_files(&bus, server.as_ref(), &mut hosting, &open, reloads).await;

        self.notifier.stopping("draining");
        self.health.ending();
        info!("draining: channels first, then the router, the bus last");
        hosting.end().await;
        if let Some(serving) = serving
            && let Err(error) = serving.await
        {
            error!(%error, "the webhooks ended badly");
        }
        if let Some(router) = router {
            router.drain().await;
        }
        if let Err(error) = bus.flush().await {
            warn!(%error, "the last messages may not have left");
        }
        if let Some(server) = server {
            bus::ending();
            server.stop().await?;
        }
        // It blocks.
        let _ = tokio::task::spawn_blocking(runtime::trace::end).await;
        info!("stopped");
        Ok(())
    }

    async fn start_server(&self) -> Result<Option<Server>, Failure> {
        if self.loaded.settings.bus.mode != Mode::Embedded || !self.roles.has(&Role::Bus) {
            return Ok(None);
        }
        let server = start_server(&self.loaded).await?;
        info!(url = server.url(), pid = server.pid(), adopted = server.adopted(), "the bus server runs");
        Ok(Some(server))
    }

    /// Connects as a user of the embedded server, or as the settings say to an external one. With
    /// `wait`, gives a bus that another process is starting the time to come up.
    async fn connect(&self, user: &str, wait: bool) -> Result<Bus, Failure> {
        let until = tokio::time::Instant::now() + BUS_WAIT;
        loop {
            let connected = match options(&self.loaded, user, &self.instance) {
                Ok(options) => Bus::connect(options).await.map_err(Failure::from),
                Err(failure) => Err(failure),
            };
            match connected {
                Ok(bus) => {
                    self.storage.listen(&bus);
                    return Ok(bus);
                }
                Err(Failure::Other(message)) if wait && tokio::time::Instant::now() < until => {
                    info!(reason = message, "the bus is not there yet; waiting");
                    if tokio::time::timeout(Duration::from_millis(500), self.shutdown.draining()).await.is_ok() {
                        return Err(Failure::Other("stopped before the bus was there".to_owned()));
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The connection as the readiness sees it.
    fn watch(&self, bus: &Bus) {
        let component = self.health.component("bus");
        let mut connection = bus.connection();
        tokio::spawn(async move {
            loop {
                match *connection.borrow_and_update() {
                    Connection::Up => component.up(),
                    Connection::Down => component.down("not connected"),
                }
                if connection.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// The disk of the bus as the readiness sees it.
    fn watch_storage(&self, server: Option<&Server>) {
        let (storage, component) = (Arc::clone(&self.storage), self.health.component("storage"));
        let renewal = server.map(Server::renewal);
        tokio::spawn(async move { storage.watch(component, renewal).await });
    }

    async fn start_pages(&self, bus: &Bus) -> Result<Option<std::net::SocketAddr>, Failure> {
        let wall = if self.roles.has(&Role::Wall) {
            desk::router(bus.clone(), self.loaded.tenant.clone())
        } else {
            axum::Router::new()
        };
        let listen = self.loaded.settings.http.listen;
        let bound = HealthServer::bind(listen, self.health.clone(), self.metrics.clone(), wall).await;
        let server = bound.map_err(|problem| Failure::Settings(vec![problem]))?;
        let address = server.local_addr()?;
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            if let Err(error) = server.serve(async move { shutdown.draining().await }).await {
                error!(%error, "the health pages ended");
            }
        });
        let metrics = self.metrics.clone();
        tokio::spawn(async move { metrics.upkeep().await });
        Ok(Some(address))
    }

    /// What must not be stored. The settings were checked when they were read.
    fn redactor(&self) -> Arc<Redactor> {
        let privacy = &self.loaded.settings.privacy;
        Arc::new(Redactor::new(privacy.redact_cards, &privacy.redact).unwrap_or_default())
    }

    async fn start_router(&self, bus: &Bus) -> Result<Router, Failure> {
        let settings = &self.loaded.settings.router;
        let component = self.health.component("router");
        component.down("no shard has an owner yet");
        let router = Router::start(
            bus.clone(),
            router::Options {
                shards: settings.shards,
                instance: self.instance.clone(),
                batch_messages_max: settings.batch_messages_max as usize,
                checkpoint_records: settings.checkpoint_every_records,
                checkpoint_every: Duration::from_millis(settings.checkpoint_every_ms),
                ping_every: Duration::from_millis(settings.owner_ping_ms),
                ping_timeout: Duration::from_millis(settings.owner_ping_timeout_ms),
                redactor: self.redactor(),
            },
        )
        .await?;
        let mut leadership = router.leadership();
        report_leadership(&component, &leadership.borrow());
        let mut led = leadership.clone();
        let shard = usize::from(contract::shard::of(&self.loaded.tenant, settings.shards));
        let owned = led.wait_for(|leadership| leadership.owned.get(shard) == Some(&true));
        tokio::select! {
            _ = owned => {}
            () = self.shutdown.draining() => {}
        }
        tokio::spawn(async move {
            while leadership.changed().await.is_ok() {
                report_leadership(&component, &leadership.borrow_and_update());
            }
        });
        self.apply_policy(bus, &self.loaded.policy).await?;
        Ok(router)
    }

    /// Puts the policy into force; waits for a router to lead the tenant's shard.
    async fn apply_policy(&self, bus: &Bus, policy: &Policy) -> Result<(), Failure> {
        let component = self.health.component("policy");
        let command = AdminCommand::PolicyApply { policy: Box::new(policy.clone()), waiting: false };
        let id = format!("{}-{}", self.instance, runtime::clock::now());
        let request = Publish {
            subject: subject::admin_command(&self.loaded.tenant, command.verb()),
            payload: command.encode(&id, Encoding::MsgPack)?.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            headers: vec![(contract::codec::OPERATOR, format!("policy files of {}", self.instance))],
            ..Publish::default()
        };
        loop {
            let why = match bus.request(request.clone(), Duration::from_secs(2)).await {
                Ok(answer) => {
                    let reply: Reply<Done> = Encoding::MsgPack.decode(&answer.payload, answer.payload.len())?;
                    match reply.refusal {
                        None => {
                            component.up();
                            info!(tenant = %self.loaded.tenant, queues = policy.queues.len(), agents = policy.agents.len(), "the policy is in force");
                            return Ok(());
                        }
                        Some(refusal) if refusal.kind == contract::command::RefusalKind::Unavailable => {
                            refusal.to_string()
                        }
                        Some(refusal) => return Err(Failure::Other(format!("the policy is refused: {refusal}"))),
                    }
                }
                Err(error) => error.to_string(),
            };
            component.down(&why);
            info!(reason = why, "the policy is not in force yet; trying again");
            let pause = tokio::time::timeout(Duration::from_millis(250), self.shutdown.draining()).await;
            if pause.is_ok() {
                return Ok(());
            }
        }
    }

    /// Opens and runs the accounts, each kind over a connection with that kind's rights.
    /// Tells a person where to look.
    fn announce(
        &self,
        server: Option<&Server>,
        pages: Option<&std::net::SocketAddr>,
        customer_pages: &[String],
        webhooks: &Webhooks,
    ) {
        let mut lines = vec![format!("Throughline runs ({}).", self.instance)];
        if let Some(pages) = pages {
            if self.roles.has(&Role::Wall) {
                lines.push(format!("  wall      http://{pages}/"));
            }
            lines.push(format!("  health    http://{pages}/readyz   metrics http://{pages}/metrics"));
        }
        lines.extend(customer_pages.iter().map(|page| format!("  customer  {page}")));
        if let Some(address) = webhooks.address() {
            lines.push(format!("  webhooks  {}/hook/ (listening on {address})", webhooks.base_url()));
        }
        if let Some(server) = server {
            lines.push(format!("  bus       {}", server.url()));
        }
        if let Some(agent) = self.loaded.policy.agents.keys().next() {
            lines.push(format!(
                "  agent     throughline agent {agent}   (in another terminal; `throughline agent --help`)"
            ));
        }
        crate::output::say(&lines.join("\n"));
    }

    /// Reads the policy again whenever SIGHUP asks for it, until the drain.
    /// Reads policy and accounts again whenever that is asked for, and tries accounts again that could not be opened.
    async fn follow_files(
        &self,
        bus: &Bus,
        server: Option<&Server>,
        hosting: &mut Hosting,
        open: &Component,
        mut reloads: Reloads,
    ) {
        let mut tries = 0;
        loop {
            let again = async {
                match hosting.missing() {
                    Some(_) => tokio::time::sleep(REOPEN.wait(tries)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shutdown.draining() => return,
                () = reloads.next() => {
                    tries = 0;
                    self.reload(bus, server, hosting).await;
                }
                () = again => {
                    tries += 1;
                    self.host(bus, server, hosting, hosting.accounts().to_vec()).await;
                }
            }
            match hosting.missing() {
                Some(missing) => open.down(missing),
                None => open.up(),
            }
        }
    }

    async fn reload(&self, bus: &Bus, server: Option<&Server>, hosting: &mut Hosting) {
        let settings = settings::load(self.config.as_deref(), std::env::vars(), &[]);
        let settings = settings.map_or_else(|_| self.loaded.settings.clone(), |loaded| loaded.settings);
        let kept = |failure, what: &str| match failure {
            Failure::Settings(problems) => {
                for problem in problems {
                    error!(%problem, "{what} not reloaded; what was in force stays");
                }
            }
            Failure::Other(reason) => error!(reason, "{what} not reloaded; what was in force stays"),
        };
        let policy = settings::load_policy(&settings.policy.dir);
        let accounts = match settings::load_accounts(&settings.channels.dir) {
            Ok(accounts) => accounts,
            Err(problems) => {
                kept(Failure::Settings(problems), "the accounts are");
                hosting.accounts().to_vec()
            }
        };
        let policy = match policy {
            Ok(policy) => policy,
            Err(problems) => {
                kept(Failure::Settings(problems), "the policy is");
                self.host(bus, server, hosting, accounts).await;
                return;
            }
        };
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy.clone();
        // Before the channels, which may take as long as a drain.
        let now = Loaded { accounts: hosting.accounts().to_vec(), ..self.loaded.clone() };
        let mut applied = self.prepare_bus(bus, server, &now).await;
        if applied.is_ok() && self.roles.has(&Role::Router) {
            applied = self.apply_policy(bus, &policy).await;
        }
        if let Err(failure) = applied {
            kept(failure, "the policy is");
        }
        self.host(bus, server, hosting, accounts).await;
    }

    /// Puts accounts into force, with users of the bus for them and for the agents of the policy.
    async fn host(&self, bus: &Bus, server: Option<&Server>, hosting: &mut Hosting, accounts: Vec<Account>) {
        let loaded = Loaded { accounts, ..self.loaded.clone() };
        let ready = match hosting::check(&loaded, &self.roles) {
            Ok(ready) => Some(ready),
            Err(failure) => {
                error!(problems = failure.to_string(), "the accounts are not reloaded; what was in force stays");
                None
            }
        };
        let loaded = match ready {
            Some(_) => loaded,
            None => Loaded { accounts: hosting.accounts().to_vec(), ..loaded },
        };
        if let Err(failure) = self.prepare_bus(bus, server, &loaded).await {
            error!(reason = failure.to_string(), "the bus is not prepared for what was reloaded");
        }
        if let Some(webhooks) = self.webhooks.get()
            && let Err(error) = webhooks.renew()
        {
            error!(
                reason = error.0,
                "the certificate of the webhooks is not read again; the one that was there is shown"
            );
        }
        if let Some(ready) = ready {
            hosting.change(&loaded, ready, self).await;
        }
    }

    async fn prepare_bus(&self, bus: &Bus, server: Option<&Server>, loaded: &Loaded) -> Result<(), Failure> {
        if let Some(server) = server {
            let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
            server.set_users(loaded.users(&policy)).await?;
        }
        if self.roles.has(&Role::Router) || server.is_some() {
            bus.ensure(&self.topology(loaded)).await?;
        }
        Ok(())
    }

    fn topology(&self, loaded: &Loaded) -> Topology {
        let settings = &self.loaded.settings;
        Topology::shaped(settings.router.shards, &loaded.kinds(), &settings.shape())
    }
}

impl Environments for Process {
    async fn of(&self, kind: &str, shutdown: Shutdown) -> Result<Environment, Failure> {
        Ok(Environment {
            bus: self.connect(&permissions::adapter_user(kind), true).await?,
            shards: self.loaded.settings.router.shards,
            data_dir: self.loaded.settings.bus.data_dir.clone(),
            instance: self.instance.clone().into(),
            redactor: self.redactor(),
            webhooks: self.webhooks.get().cloned().unwrap_or_else(Webhooks::none),
            fetcher: Fetcher::new(&self.loaded.settings.fetch).map_err(|error| Failure::Other(error.0))?,
            shutdown,
        })
    }
}

fn report_leadership(component: &Component, leadership: &router::Leadership) {
    if leadership.complete() {
        component.up();
    } else {
        let missing = leadership.owned.iter().filter(|owned| !**owned).count();
        component.down(format!("{missing} shards have no owner"));
    }
}

/// Starts the embedded server as the settings say.
pub(crate) async fn start_server(loaded: &Loaded) -> Result<Server, Failure> {
    let bus = &loaded.settings.bus;
    let server = Server::start(embedded::Options {
        binary: bus.binary.clone(),
        data_dir: bus.data_dir.clone(),
        port: bus.port,
        websocket_port: (bus.websocket_port != 0).then_some(bus.websocket_port),
        monitor_port: (bus.monitor_port != 0).then_some(bus.monitor_port),
        sync_interval: bus.sync_interval.clone(),
        users: loaded.users(&loaded.policy),
        shards: loaded.settings.router.shards,
    });
    Ok(server.await?)
}

/// How to reach the bus as a user.
pub(crate) fn options(loaded: &Loaded, user: &str, name: &str) -> Result<Options, Failure> {
    let bus = &loaded.settings.bus;
    let (servers, credentials) = match bus.mode {
        Mode::Embedded => {
            let (url, credentials) = embedded::reach(&bus.data_dir, user)?;
            (vec![url], credentials)
        }
        Mode::External => (bus.servers.clone(), external_credentials(loaded, user)?),
    };
    Ok(Options {
        servers,
        name: format!("throughline {user} {name}"),
        credentials,
        tls: Tls {
            ca_file: bus.tls.ca_file.clone(),
            cert_file: bus.tls.cert_file.clone(),
            key_file: bus.tls.key_file.clone(),
            required: bus.tls.required,
        },
        timeout: bus.timeout(),
    })
}

fn external_credentials(loaded: &Loaded, user: &str) -> Result<Credentials, Failure> {
    let given = &loaded.settings.bus.credentials;
    if let Some(folder) = &given.folder {
        return Ok(bus::cluster::credentials(folder, user)?);
    }
    Ok(match (&given.user, &given.password, &given.token, &given.nkey, &given.creds_file) {
        (Some(user), Some(password), ..) => {
            let (user, now) = (user.clone(), password.resolve()?);
            match password.file_path() {
                Some(file) => Credentials::PasswordFile { user, file: file.to_owned() },
                None => Credentials::Password { user, password: now.expose().to_owned() },
            }
        }
        (_, _, Some(token), ..) => {
            let now = token.resolve()?;
            match token.file_path() {
                Some(file) => Credentials::TokenFile(file.to_owned()),
                None => Credentials::Token(now.expose().to_owned()),
            }
        }
        (_, _, _, Some(nkey), _) => Credentials::Nkey(nkey.resolve()?.expose().to_owned()),
        (.., Some(file)) => Credentials::File(file.clone()),
        _ => Credentials::None,
    })
}

/// The tenant of a process, for those who only ask.
pub(crate) fn tenant(loaded: &Loaded) -> TenantId {
    loaded.tenant.clone()
}
