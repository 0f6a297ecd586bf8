//! The settings of the whole program: the struct behind `config/throughline.toml`, the policy beside
//! it and the accounts of the channels.
//!
//! [`load`] reads and composes, [`Settings::validate`] says everything that is wrong with the values;
//! neither opens, creates or resolves anything. Secrets stay references.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::topology::{Kept, Limits, Shape, Storage};
use contract::policy::Policy;
use contract::{AccountId, ChannelKind, TenantId};
use runtime::secret::Secret;
use runtime::settings::{Loader, Problem, files_in, read_table};
use runtime::telemetry::{Format, check_filter};
use serde::Deserialize;

/// The settings of a program that was told nothing.
pub(crate) const DEFAULT_TOML: &str = include_str!("../../../config/throughline.toml");
/// Where the settings are unless `--config` says otherwise; need not exist.
pub(crate) const DEFAULT_FILE: &str = "config/throughline.toml";
/// Where they are when they are not there either: on a machine on which the program was installed.
pub(crate) const SYSTEM_FILE: &str = "/etc/throughline/throughline.toml";

const SHARDS_MAX: u16 = 64;
const BATCH_MESSAGES_MAX: u32 = 4096;
/// Less would be full of a few records or attachments.
const STREAM_BYTES_MIN: u64 = 16 << 20;
/// A hundred years: the server counts in nanoseconds.
const STREAM_DAYS_MAX: u32 = 36_500;
/// Channels try for up to six days, and then say that they gave up.
const OUT_DAYS_MIN: u32 = 7;
/// For as long as a command waits it is remembered what was sent of it.
const OUT_DAYS_MAX: u32 = 30;

/// `config/throughline.toml`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settings {
    pub(crate) bus: Bus,
    pub(crate) router: Router,
    pub(crate) streams: Streams,
    pub(crate) http: Http,
    pub(crate) webhook: adapter::webhook::Settings,
    pub(crate) fetch: adapter::fetch::FetchSettings,
    pub(crate) log: Log,
    pub(crate) trace: Trace,
    pub(crate) privacy: Privacy,
    pub(crate) drain: Drain,
    pub(crate) policy: PolicyPlace,
    pub(crate) channels: Channels,
}

/// The bus.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Bus {
    pub(crate) mode: Mode,
    pub(crate) servers: Vec<String>,
    pub(crate) timeout_ms: u64,
    pub(crate) data_dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) websocket_port: u16,
    pub(crate) monitor_port: u16,
    pub(crate) sync_interval: String,
    pub(crate) binary: Option<PathBuf>,
    pub(crate) credentials: Credentials,
    pub(crate) tls: Tls,
}

/// What must not be stored.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Privacy {
    pub(crate) redact_cards: bool,
    pub(crate) redact: Vec<String>,
}

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Ours: started, watched and stopped by the daemon.
    Embedded,
    /// Somebody else's.
    External,
}

/// Who to be on an external bus.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) token: Option<Secret>,
    pub(crate) nkey: Option<Secret>,
    pub(crate) creds_file: Option<PathBuf>,
    pub(crate) folder: Option<PathBuf>,
}

/// TLS to an external bus.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Tls {
    pub(crate) required: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// The router.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Router {
    pub(crate) shards: u16,
    pub(crate) replicas: u8,
    pub(crate) batch_messages_max: u32,
    pub(crate) checkpoint_every_records: u64,
    pub(crate) checkpoint_every_ms: u64,
    pub(crate) owner_ping_ms: u64,
    pub(crate) owner_ping_timeout_ms: u64,
}

/// What the bus keeps, on what, and for how long.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Streams {
    pub(crate) storage: Storage,
    pub(crate) in_bytes_max: u64,
    pub(crate) out_bytes_max: u64,
    pub(crate) out_age_days: u32,
    pub(crate) events_bytes_max: u64,
    pub(crate) events_age_days: u32,
    pub(crate) dead_bytes_max: u64,
    pub(crate) dead_age_days: u32,
    pub(crate) media_bytes_max: u64,
    pub(crate) media_age_days: u32,
    pub(crate) may_drop: Vec<Kept>,
    pub(crate) placement: Placement,
}

/// On which servers of a cluster it is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Placement {
    pub(crate) cluster: Option<String>,
    pub(crate) tags: Vec<String>,
}

/// The program's own web server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Http {
    pub(crate) listen: SocketAddr,
}

/// Logs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) filter: String,
}

/// Traces.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Trace {
    pub(crate) endpoint: Option<String>,
    pub(crate) ratio: f64,
}

/// The end.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Drain {
    pub(crate) deadline_ms: u64,
}

/// Where the policy is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PolicyPlace {
    pub(crate) dir: PathBuf,
    pub(crate) tenant: String,
}

/// Where the accounts are.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Channels {
    pub(crate) dir: PathBuf,
}

/// Everything that the operator told the program.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// The tenant that the policy is for.
    pub(crate) tenant: TenantId,
    pub(crate) policy: Policy,
    pub(crate) accounts: Vec<Account>,
}

/// One account of a channel: a file whose content its channel understands.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) file: PathBuf,
    pub(crate) kind: ChannelKind,
    pub(crate) table: toml::Table,
}

impl Loaded {
    /// The kinds of all configured accounts, wherever they run.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.accounts.iter().map(|account| account.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Who may do what on the bus, under a policy.
    pub(crate) fn users(&self, policy: &Policy) -> Vec<bus::embedded::User> {
        let tenant = self.tenant.as_str();
        let agents: Vec<(&str, &str)> = policy.agents.keys().map(|agent| (tenant, agent.as_str())).collect();
        bus::permissions::all(&self.kinds(), &agents)
    }
}

impl Bus {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Reads the settings, the policy and the accounts. `file` is what `--config` says, `overrides` are
/// flags of the form `bus.port=4333`.
///
/// # Errors
/// Every problem found in any of them.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[String],
) -> Result<Loaded, Vec<Problem>> {
    load_all(file, environment, overrides, false)
}

/// Reads the settings for somebody who only asks a running daemon: a policy or an account that is
/// broken on disk, just when one must look, is left out.
///
/// # Errors
/// Every problem of the settings themselves.
pub(crate) fn load_to_ask(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[String],
) -> Result<Loaded, Vec<Problem>> {
    load_all(file, environment, overrides, true)
}

fn load_all(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[String],
    lenient: bool,
) -> Result<Loaded, Vec<Problem>> {
    let (here, system) = (Path::new(DEFAULT_FILE), Path::new(SYSTEM_FILE));
    let default_file = if !here.exists() && system.exists() { system } else { here };
    let mut loader = Loader::new(DEFAULT_TOML).env(environment);
    if let Some(file) = file {
        loader = loader.file(file);
    } else if default_file.exists() {
        loader = loader.file(default_file);
    }
    loader = overrides.iter().fold(loader, |loader, pair| loader.set_pair(pair));

    let mut settings: Settings = loader.load()?;
    let mut problems = settings.validate();
    for problem in &mut problems {
        problem.source = loader.source_of(&problem.path);
    }
    settings.relative_to(file.unwrap_or(default_file).parent().unwrap_or(Path::new("")));

    let tenant = TenantId::new(settings.policy.tenant.clone());
    let mut policy = load_policy(&settings.policy.dir);
    let mut accounts = load_accounts(&settings.channels.dir);
    if lenient {
        policy = Ok(policy.unwrap_or_default());
        accounts = Ok(accounts.unwrap_or_default());
    }
    let policy = policy.map_err(|found| problems.extend(found));
    let accounts = accounts.map_err(|found| problems.extend(found));
    match (tenant, policy, accounts) {
        (Ok(tenant), Ok(policy), Ok(accounts)) if problems.is_empty() => {
            Ok(Loaded { settings, tenant, policy, accounts })
        }
        _ => Err(problems),
    }
}

/// Reads the policy alone, as a reload does.
///
/// # Errors
/// Every problem found.
pub(crate) fn load_policy(dir: &Path) -> Result<Policy, Vec<Problem>> {
    read_policy(dir).map(|(policy, _)| policy)
}

/// Reads the policy, and what can be applied but will hardly do what is meant.
///
/// # Errors
/// Every problem found, with its file and line.
pub(crate) fn read_policy(dir: &Path) -> Result<(Policy, Vec<Problem>), Vec<Problem>> {
    let mut files = Vec::new();
    for file in files_in(dir).map_err(|problem| vec![problem])? {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| vec![Problem::new("", file.display().to_string(), format!("cannot be read: {error}"))])?;
        files.push((file.display().to_string(), text));
    }
    let loaded = policy::load(&files);
    let problem = |found: policy::Located| {
        let source = match (found.file.as_str(), found.line) {
            ("", _) => dir.display().to_string(),
            (file, 0) => file.to_owned(),
            (file, line) => format!("{file}:{line}"),
        };
        Problem::new(found.path, source, found.message)
    };
    match loaded.policy {
        Some(policy) => Ok((policy, loaded.warnings.into_iter().map(problem).collect())),
        None => Err(loaded.problems.into_iter().map(problem).collect()),
    }
}

/// Reads the accounts of all channels. What is in them is for each channel to judge.
///
/// # Errors
/// Every problem found.
pub(crate) fn load_accounts(dir: &Path) -> Result<Vec<Account>, Vec<Problem>> {
    let mut accounts = Vec::new();
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    for file in files_in(dir).map_err(|problem| vec![problem])? {
        let source = file.display().to_string();
        let table = match read_table(&file) {
            Ok(table) => table,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let name = |key: &str| {
            let text = table.get(key).and_then(toml::Value::as_str);
            text.ok_or_else(|| Problem::new(key, &source, "a name is needed"))
        };
        let kind = name("kind")
            .and_then(|text| ChannelKind::new(text).map_err(|error| Problem::new("kind", &source, error.to_string())));
        let account = name("account")
            .and_then(|text| AccountId::new(text).map_err(|error| Problem::new("account", &source, error.to_string())));
        match (kind, account) {
            (Ok(kind), Ok(name)) => {
                if let Some(other) = seen.insert((kind.clone(), name.clone()), source.clone()) {
                    problems.push(Problem::new("account", &source, format!("{kind}/{name} stands in {other} too")));
                }
                accounts.push(Account { file, kind, table });
            }
            (kind, account) => problems.extend(kind.err().into_iter().chain(account.err())),
        }
    }
    if problems.is_empty() { Ok(accounts) } else { Err(problems) }
}

impl Settings {
    /// Everything that is wrong with the values, each with its path.
    pub(crate) fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        self.bus.validate(&mut problems);
        self.router.validate(self.bus.mode, &mut problems);
        self.streams.validate(self.bus.mode, &mut problems);
        problems.0.extend(self.webhook.validate());
        problems.0.extend(self.fetch.validate());
        self.privacy.validate(&mut problems);
        let endpoint = self.trace.endpoint.as_deref();
        let web = endpoint.is_none_or(|it| it.starts_with("http://") || it.starts_with("https://"));
        problems.check("trace.endpoint", web, "must be http://… or https://…");
        problems.check("trace.endpoint", endpoint.is_none_or(|it| !it.contains('@')), "must not hold a password");
        problems.check("trace.ratio", (0.0..=1.0).contains(&self.trace.ratio), "must be 0.0 to 1.0");
        problems.check("drain.deadline_ms", self.drain.deadline_ms > 0, "must be more than 0");
        if let Err(error) = check_filter(&self.log.filter) {
            problems.add("log.filter", error.to_string());
        }
        if let Err(error) = TenantId::new(self.policy.tenant.clone()) {
            problems.add("policy.tenant", error.to_string());
        }
        if self.bus.mode == Mode::Embedded {
            let here = |listen: SocketAddr| {
                if listen.ip().is_loopback() || listen.ip().is_unspecified() { listen.port() } else { 0 }
            };
            let mut taken = BTreeMap::new();
            for (path, port) in [
                ("bus.port", self.bus.port),
                ("bus.websocket_port", self.bus.websocket_port),
                ("bus.monitor_port", self.bus.monitor_port),
                ("http.listen", here(self.http.listen)),
                ("webhook.listen", here(self.webhook.listen)),
            ] {
                if port == 0 {
                    continue;
                }
                if let Some(other) = taken.insert(port, path) {
                    problems.add(path, format!("port {port} is that of {other} too"));
                }
            }
        }
        problems.0
    }

    /// How the streams are to be.
    pub(crate) fn shape(&self) -> Shape {
        let streams = &self.streams;
        let limits = |bytes, days| Limits { bytes_max: bytes_of(bytes), age_max: days_of(days) };
        Shape {
            replicas: usize::from(self.router.replicas),
            storage: streams.storage,
            placement: streams.placement.wanted(),
            in_bytes_max: streams.in_bytes_max,
            out: limits(streams.out_bytes_max, streams.out_age_days),
            events: limits(streams.events_bytes_max, streams.events_age_days),
            dead: limits(streams.dead_bytes_max, streams.dead_age_days),
            media: limits(streams.media_bytes_max, streams.media_age_days),
            may_drop: streams.may_drop.clone(),
        }
    }

    /// What can be run like this and is not what one wants at night: what was acknowledged may be lost, or be read by
    /// others.
    pub(crate) fn risks(&self) -> Vec<String> {
        let mut risks = self.streams.risks();
        let bus = &self.bus;
        if bus.mode == Mode::Embedded {
            if bus.sync_interval != "always" {
                risks.push(format!(
                    "bus.sync_interval: a power cut may take what was acknowledged in the last {} with it; \"always\" does not",
                    bus.sync_interval
                ));
            }
            return risks;
        }
        if bus.sync_interval != "always" {
            risks.push(format!(
                "bus.sync_interval: `throughline nats config` gives it to the servers, and a power cut may take what was \
                 acknowledged in the last {} with it, of three copies too; \"always\" does not",
                bus.sync_interval
            ));
        }
        if self.router.replicas == 1 {
            risks.push(
                "router.replicas: with 1, what was acknowledged is on one server's disk alone; 3 survive the loss of one"
                    .to_owned(),
            );
        }
        let open = |server: &&String| server.starts_with("nats://") && !is_here(server);
        if let Some(server) = bus.servers.iter().find(open).filter(|_| !bus.tls.required) {
            risks.push(format!("bus.servers: {server} may be spoken to unencrypted; tls:// or bus.tls.required"));
        }
        if bus.credentials.folder.is_none() {
            risks.push(
                "bus.credentials: every part of the program has the same rights; a folder (`throughline nats config`) gives each its own"
                    .to_owned(),
            );
        }
        risks
    }

    /// Takes relative names of files from `dir`, the folder of the settings file. Not `bus.data_dir`
    /// and `bus.binary`: those are things of the place where the program runs.
    fn relative_to(&mut self, dir: &Path) {
        for path in [&mut self.policy.dir, &mut self.channels.dir] {
            *path = dir.join(&path);
        }
        let hook = &mut self.webhook.tls;
        for path in [&mut hook.cert_file, &mut hook.key_file, &mut hook.client_ca_file] {
            *path = path.take().map(|path| dir.join(path));
        }
        let (credentials, tls) = (&mut self.bus.credentials, &mut self.bus.tls);
        for path in [
            &mut credentials.creds_file,
            &mut credentials.folder,
            &mut tls.ca_file,
            &mut tls.cert_file,
            &mut tls.key_file,
        ] {
            *path = path.take().map(|path| dir.join(path));
        }
        for secret in [&mut credentials.password, &mut credentials.token, &mut credentials.nkey] {
            *secret = secret.take().map(|secret| secret.relative_to(dir));
        }
    }
}

impl Bus {
    fn validate(&self, problems: &mut Problems) {
        problems.check("bus.timeout_ms", self.timeout_ms >= 100, "must be at least 100");
        problems.check("bus.data_dir", !self.data_dir.as_os_str().is_empty(), "must name a folder");
        let sync = self.sync_interval == "always" || is_span(&self.sync_interval);
        problems.check("bus.sync_interval", sync, "must be \"always\" or a span like \"100ms\" or \"2s\"");
        for (n, server) in self.servers.iter().enumerate() {
            let path = format!("bus.servers[{n}]");
            let address = ["nats://", "tls://"].iter().find_map(|scheme| server.strip_prefix(scheme));
            match address {
                None | Some("") => problems.add(path, "must be nats://host:port or tls://host:port"),
                // Not repeated: it may hold a password.
                Some(address) if address.contains('@') => {
                    problems.add(path, "must not hold a user or a password; use bus.credentials");
                }
                Some(_) => {}
            }
        }
        let external = self.mode == Mode::External;
        problems.check("bus.servers", !external || !self.servers.is_empty(), "must name a server in mode \"external\"");
        self.credentials.validate(self.mode, problems);
        let tls = &self.tls;
        let pair = tls.cert_file.is_some() == tls.key_file.is_some();
        problems.check("bus.tls", pair, "cert_file and key_file are needed together");
        let any = tls.required || tls.ca_file.is_some() || tls.cert_file.is_some();
        problems.check("bus.tls", external || !any, "is for mode \"external\"; an embedded server listens on loopback");
    }
}

impl Credentials {
    fn validate(&self, mode: Mode, problems: &mut Problems) {
        let pair = self.user.is_some() == self.password.is_some();
        problems.check("bus.credentials", pair, "user and password are needed together");
        let user = self.user.is_some() || self.password.is_some();
        let ways = [user, self.token.is_some(), self.nkey.is_some(), self.creds_file.is_some(), self.folder.is_some()];
        let ways = ways.iter().filter(|way| **way).count();
        problems.check(
            "bus.credentials",
            ways <= 1,
            "only one way to log in: user and password, token, nkey, creds_file or folder",
        );
        let external = mode == Mode::External;
        problems.check(
            "bus.credentials",
            external || ways == 0,
            "is for mode \"external\"; an embedded server has its own",
        );
    }
}

impl Privacy {
    fn validate(&self, problems: &mut Problems) {
        if let Err((at, why)) = runtime::redact::Redactor::new(self.redact_cards, &self.redact) {
            problems.add(format!("privacy.redact[{at}]"), why);
        }
    }
}

impl Router {
    fn validate(&self, mode: Mode, problems: &mut Problems) {
        let between = |value: u64, least: u64, most: u64| (least..=most).contains(&value);
        let shards = between(self.shards.into(), 1, SHARDS_MAX.into());
        problems.check("router.shards", shards, format!("must be 1 to {SHARDS_MAX}"));
        problems.check("router.replicas", matches!(self.replicas, 1 | 3 | 5), "must be 1, 3 or 5");
        let alone = mode == Mode::Embedded && self.replicas > 1;
        problems.check("router.replicas", !alone, "an embedded server is alone; more than 1 needs mode \"external\"");
        let batch = between(self.batch_messages_max.into(), 1, BATCH_MESSAGES_MAX.into());
        problems.check("router.batch_messages_max", batch, format!("must be 1 to {BATCH_MESSAGES_MAX}"));
        problems.check("router.checkpoint_every_records", self.checkpoint_every_records > 0, "must be more than 0");
        problems.check("router.checkpoint_every_ms", self.checkpoint_every_ms >= 1000, "must be at least 1000");
        problems.check("router.owner_ping_ms", self.owner_ping_ms >= 10, "must be at least 10");
        problems.check("router.owner_ping_timeout_ms", self.owner_ping_timeout_ms >= 10, "must be at least 10");
    }
}

impl Streams {
    fn validate(&self, mode: Mode, problems: &mut Problems) {
        let least = format!("must be at least {STREAM_BYTES_MIN}");
        problems.check("streams.in_bytes_max", self.in_bytes_max >= STREAM_BYTES_MIN, least);
        for (path, bytes) in [
            ("streams.out_bytes_max", self.out_bytes_max),
            ("streams.events_bytes_max", self.events_bytes_max),
            ("streams.dead_bytes_max", self.dead_bytes_max),
            ("streams.media_bytes_max", self.media_bytes_max),
        ] {
            let holds = bytes == 0 || bytes >= STREAM_BYTES_MIN;
            problems.check(path, holds, format!("must be 0, or at least {STREAM_BYTES_MIN}"));
        }
        let out = (OUT_DAYS_MIN..=OUT_DAYS_MAX).contains(&self.out_age_days);
        problems.check("streams.out_age_days", out, format!("must be {OUT_DAYS_MIN} to {OUT_DAYS_MAX}"));
        for (path, days) in [
            ("streams.events_age_days", self.events_age_days),
            ("streams.dead_age_days", self.dead_age_days),
            ("streams.media_age_days", self.media_age_days),
        ] {
            problems.check(path, days <= STREAM_DAYS_MAX, format!("must be 0 to {STREAM_DAYS_MAX}"));
        }
        self.placement.validate(mode, problems);
    }

    /// See [`Settings::risks`].
    fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        if self.storage == Storage::Memory {
            risks.push(
                "streams.storage: in \"memory\" everything is gone once no server runs, and cannot be backed up"
                    .to_owned(),
            );
        }
        if !self.may_drop.is_empty() {
            risks.push(
                "streams.may_drop: a lower limit drops what is stored; take it out once that was done".to_owned(),
            );
        }
        risks
    }
}

impl Placement {
    fn validate(&self, mode: Mode, problems: &mut Problems) {
        let path = "streams.placement";
        let any = self.cluster.is_some() || !self.tags.is_empty();
        problems.check(path, mode == Mode::External || !any, "is for mode \"external\"; an embedded server is alone");
        let word = |text: &str| !text.chars().any(|c| c.is_whitespace() || c.is_control());
        let cluster = self.cluster.as_deref().is_none_or(word);
        problems.check("streams.placement.cluster", cluster, "must be the name of a cluster, or empty");
        for (n, tag) in self.tags.iter().enumerate() {
            let path = format!("streams.placement.tags[{n}]");
            problems.check(&path, !tag.is_empty() && word(tag), "must be one word, as in the servers' server_tags");
        }
    }

    /// `None`: whoever runs the bus decides. An empty name of a cluster takes away what was decided before.
    fn wanted(&self) -> Option<bus::topology::Placement> {
        if self.cluster.is_none() && self.tags.is_empty() {
            return None;
        }
        let cluster = self.cluster.clone().filter(|name| !name.is_empty());
        Some(bus::topology::Placement { cluster, tags: self.tags.clone() })
    }
}

/// 0 is no limit.
fn bytes_of(bytes: u64) -> Option<u64> {
    (bytes > 0).then_some(bytes)
}

/// 0 is for ever.
fn days_of(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(u64::from(days) * 86_400))
}

/// The address of a server is one of this machine's.
fn is_here(server: &str) -> bool {
    let place = server.rsplit("//").next().unwrap_or_default();
    ["127.", "localhost:", "[::1]"].iter().any(|here| place.starts_with(here)) || place == "localhost"
}

/// A number and a unit, as the server understands it.
fn is_span(text: &str) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    number.parse::<u32>().is_ok_and(|number| number > 0) && matches!(unit, "ms" | "s" | "m")
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn check(&mut self, path: &str, holds: bool, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }

    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(path, "", message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(file)
    }

    fn load_with(overrides: &[&str]) -> Result<Loaded, Vec<String>> {
        let overrides: Vec<String> = overrides.iter().map(|pair| (*pair).to_owned()).collect();
        let loaded = load(Some(&config("throughline.toml")), [], &overrides);
        loaded.map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn what_is_delivered_is_valid() {
        let loaded = load_with(&[]).unwrap();
        assert_eq!(loaded.tenant.as_str(), "main");
        assert_eq!(loaded.policy.queues.len(), 2);
        assert_eq!(loaded.policy.agents.len(), 5);
        assert_eq!(loaded.accounts.len(), 1);
        assert_eq!(loaded.settings.router.shards, contract::shard::SHARDS_DEFAULT);
        assert_eq!(loaded.policy.timing, contract::policy::Timing::default());
        assert_eq!(loaded.settings.shape(), Shape::default());
    }

    #[test]
    fn settings_in_comments_exist() {
        // Each commented example of the file, taken out of its comment, is a setting.
        let mut text = String::new();
        for line in DEFAULT_TOML.lines() {
            let example = line.strip_prefix("# ").filter(|rest| {
                rest.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            });
            text.push_str(example.unwrap_or(line));
            text.push('\n');
        }
        let settings: Settings = Loader::new(&text).load().unwrap();
        assert!(settings.bus.binary.is_some() && settings.bus.tls.key_file.is_some());
        let credentials = &settings.bus.credentials;
        assert!(credentials.password.is_some() && credentials.token.is_some() && credentials.creds_file.is_some());
        assert!(settings.streams.placement.cluster.is_some());
        let said: Vec<_> = settings.validate().iter().map(Problem::to_string).collect();
        assert_eq!(said.len(), 4, "one way to log in, and none of these for an embedded server: {said:?}");
    }

    #[test]
    fn every_problem_is_said_with_its_path_and_source() {
        let found = load_with(&[
            "router.shards=0",
            "bus.mode=external",
            "policy.tenant=",
            "log.filter=loud=1=2",
            "channels.dir=nowhere",
        ]);
        let found = found.unwrap_err();
        let expected = [
            "bus.servers: must name a server",
            "flag router.shards: router.shards: must be 1 to 64",
            "flag log.filter: log.filter: ",
            "flag policy.tenant: policy.tenant: ",
            "nowhere: cannot read the folder",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (problem, part) in found.iter().zip(expected) {
            assert!(problem.contains(part), "{part}\n{found:#?}");
        }
    }

    #[test]
    fn addresses_with_a_password_are_refused_without_repeating_it() {
        let found = load_with(&["bus.mode=external", "bus.servers=[\"nats://u:hunter2@host\"]"]).unwrap_err();
        assert_eq!(found.len(), 1);
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }

    #[test]
    fn what_may_be_lost_or_read_is_said() {
        let risks = |overrides: &[&str]| load_with(overrides).unwrap().settings.risks();
        assert!(risks(&[]).is_empty());
        assert!(risks(&["bus.sync_interval=100ms"])[0].contains("bus.sync_interval"));
        assert!(risks(&["streams.storage=memory"])[0].contains("streams.storage"));
        assert!(risks(&["streams.may_drop=[\"dead\"]"])[0].contains("streams.may_drop"));
        let cluster = ["bus.mode=external", "bus.servers=[\"nats://a:4222\"]"];
        let said = risks(&cluster);
        assert_eq!(said.len(), 3, "{said:?}");
        let safe = ["router.replicas=3", "bus.tls.required=true", "bus.credentials.folder=credentials"];
        assert!(risks(&[cluster.as_slice(), &safe].concat()).is_empty());
        let lazy = [cluster.as_slice(), &safe, &["bus.sync_interval=2m"]].concat();
        assert!(risks(&lazy)[0].contains("nats config"));
        let here = ["bus.mode=external", "bus.servers=[\"nats://127.0.0.1:4222\"]", safe[0], safe[2]];
        assert!(risks(&here).is_empty());
    }

    #[test]
    fn streams_are_as_the_settings_say() {
        const DAY: Duration = Duration::from_secs(86_400);
        let settings = load_with(&[
            "bus.mode=external",
            "bus.servers=[\"nats://a:4222\"]",
            "router.replicas=3",
            "streams.storage=memory",
            "streams.in_bytes_max=33554432",
            "streams.out_age_days=14",
            "streams.events_age_days=0",
            "streams.dead_bytes_max=16777216",
            "streams.media_age_days=365",
            "streams.may_drop=[\"dead\", \"in\"]",
            "streams.placement.cluster=east",
            "streams.placement.tags=[\"ssd\", \"eu\"]",
        ]);
        let tags = vec!["ssd".to_owned(), "eu".to_owned()];
        let usual = Shape::default();
        let wanted = Shape {
            replicas: 3,
            storage: Storage::Memory,
            placement: Some(bus::topology::Placement { cluster: Some("east".to_owned()), tags }),
            in_bytes_max: 32 << 20,
            out: Limits { bytes_max: None, age_max: Some(14 * DAY) },
            events: Limits::default(),
            dead: Limits { bytes_max: Some(16 << 20), ..usual.dead },
            media: Limits { bytes_max: None, age_max: Some(365 * DAY) },
            may_drop: vec![Kept::Dead, Kept::In],
        };
        assert_eq!(settings.unwrap().settings.shape(), wanted);
    }

    #[test]
    fn a_placement_is_taken_away_by_an_empty_name() {
        let placement = |cluster: Option<&str>| {
            let placement = Placement { cluster: cluster.map(str::to_owned), tags: Vec::new() };
            placement.wanted()
        };
        assert_eq!(placement(None), None);
        assert_eq!(placement(Some("")), Some(bus::topology::Placement::default()));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused_by_name() {
        let found = load_with(&[
            "streams.in_bytes_max=0",
            "streams.out_bytes_max=1000",
            "streams.out_age_days=3",
            "streams.dead_age_days=40000",
            "streams.placement.tags=[\"two words\"]",
        ]);
        let found = found.unwrap_err();
        let expected = [
            "flag streams.in_bytes_max: streams.in_bytes_max: must be at least 16777216",
            "streams.out_bytes_max: must be 0, or at least 16777216",
            "streams.out_age_days: must be 7 to 30",
            "streams.dead_age_days: must be 0 to 36500",
            "streams.placement: is for mode \"external\"",
            "streams.placement.tags[0]: must be one word",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (problem, part) in found.iter().zip(expected) {
            assert!(problem.contains(part), "{part}\n{found:#?}");
        }
        for (wrong, path) in [
            ("streams.storage=disk", "streams.storage"),
            ("streams.may_drop=[\"journal\"]", "streams.may_drop"),
            ("streams.journal_bytes_max=1", "streams.journal_bytes_max"),
            ("streams.in_bytes_max=-1", "streams.in_bytes_max"),
        ] {
            let found = load_with(&[wrong]).unwrap_err();
            assert!(found.len() == 1 && found[0].contains(path), "{wrong}: {found:?}");
        }
    }

    #[test]
    fn ports_must_differ() {
        let found = load_with(&["bus.websocket_port=8090"]).unwrap_err();
        assert!(found[0].contains("http.listen: port 8090 is that of bus.websocket_port too"), "{found:?}");
        assert!(load_with(&["bus.port=0", "bus.websocket_port=0"]).is_ok());
    }

    #[test]
    fn spans() {
        for good in ["100ms", "2s", "1m"] {
            assert!(is_span(good), "{good}");
        }
        for bad in ["", "100", "0s", "1h2", "-1s", "s", "1 s"] {
            assert!(!is_span(bad), "{bad}");
        }
    }
}
