//! The built program as a child process: its own folder, ports, policy and chat account.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use bus::{Bus, embedded};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::NAMES;
use crate::{PATIENCE, http, until};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The tenant of every test.
pub const TENANT: &str = "main";

/// Who takes what: two queues, a language, spans of time that tests can wait for.
pub const POLICY: &str = r#"
default_queue = "support"

[queues.support]
title = "Support"
dispositions = ["solved", "spam"]

[queues.sales]
title = "Sales"
skills = { sales = 1 }
priority = 10

[agents.anna]
name = "Anna"
queues = ["support"]
skills = { "lang:de" = 10, "lang:en" = 5 }
capacity = 100

[agents.ben]
name = "Ben"
queues = ["support"]
skills = { "lang:en" = 10 }
capacity = 100

[agents.deniz]
name = "Deniz"
queues = ["sales"]
skills = { sales = 9 }
capacity = 100

[[routes]]
tag = "sales"
queue = "sales"

[[routes]]
language = "de"
queue = "support"
skills = { "lang:de" = 5 }

[channels.chat]
capacity_weight = 25
offer_lease_ms = 30000

[timing]
agent_silence_ms = 15000
agent_grace_ms = 60000
round_pause_ms = 2000
wrap_up_ms = 0
"#;

/// Settings of the chat account that no test stumbles over.
const CHAT: &str = r#"
origins = ["*"]
demo = true
messages_per_second_max = 100000.0
messages_burst_max = 100000.0
connections_max = 100000
connections_per_ip_max = 100000
connections_per_visitor_max = 100
"#;

/// Ports below those that the system hands out itself: one that is free stays so over a restart.
const PORT_MIN: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A free port that no other test gets.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 199) as u16 * 100;
    for _ in 0..PORTS {
        let port = PORT_MIN + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// The repository.
///
/// # Panics
/// When this package is not in it.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_path_buf()
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The program under test: `THROUGHLINE_BIN`, else the newer one of `target/fast` and `target/debug`.
///
/// # Panics
/// When it was not built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("THROUGHLINE_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "THROUGHLINE_BIN={} is not there", path.display());
        return path;
    }
    let built = ["fast", "debug"].map(|profile| target().join(profile).join("throughline"));
    let newest = built.iter().filter_map(|path| Some((fs::metadata(path).ok()?.modified().ok()?, path))).max();
    match newest {
        Some((_, path)) => path.clone(),
        None => panic!("the program is not built: run `make build`, or set THROUGHLINE_BIN"),
    }
}

/// Whether the program under test is built for speed.
pub fn is_fast() -> bool {
    binary().components().any(|part| part.as_os_str() == "fast" || part.as_os_str() == "release")
}

/// The bus server: `THROUGHLINE_NATS_SERVER`, else the fetched one, else the program finds its own.
pub fn nats_server() -> Option<PathBuf> {
    let set = std::env::var_os("THROUGHLINE_NATS_SERVER").map(PathBuf::from);
    set.or_else(|| Some(root().join(".tools/nats-server/nats-server")).filter(|path| path.is_file()))
}

/// A folder that goes when its test ends.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throughline-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("THROUGHLINE_KEEP").is_some() {
            eprintln!("kept {}", self.0.display());
        } else {
            // What still writes there is about to end.
            for _ in 0..50 {
                if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
    }
}

/// What a finished program said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Its stdout, when it went well.
    ///
    /// # Panics
    /// With everything it said, when it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its stdout as JSON, when it went well.
    ///
    /// # Panics
    /// As [`ok`](Self::ok), and when it is not JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Where the servers of a wired cluster listen, and where the program reaches them.
type Wired = (Vec<(u16, u16)>, Vec<u16>);

/// How a test's daemon is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    policy: String,
    settings: BTreeMap<String, String>,
    chat: bool,
    chat_settings: String,
    accounts: Vec<(String, String)>,
    env: Vec<(String, String)>,
    only: Vec<String>,
    cluster: bool,
    secure: bool,
    /// Of the servers of a cluster that is wired: where they listen, and where the program reaches them.
    wired: Option<Wired>,
}

impl Builder {
    /// On a cluster of three servers, all connections of which go over lines.
    #[must_use]
    pub fn on_wires(mut self, wires: &crate::Wires) -> Self {
        self.wired = Some((wires.ports().to_vec(), wires.client_ports()));
        self.on_a_cluster()
    }

    /// On a cluster of three servers instead of one of its own; see [`Cluster`](crate::Cluster).
    #[must_use]
    pub fn on_a_cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// On such a cluster, and everything over TLS.
    #[must_use]
    pub fn on_a_secure_cluster(mut self) -> Self {
        self.secure = true;
        self.on_a_cluster()
    }

    /// A whole other policy, in TOML.
    #[must_use]
    pub fn policy(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.policy);
        self
    }

    /// The usual policy with one text in it replaced by another.
    ///
    /// # Panics
    /// When the text is not in it.
    #[must_use]
    pub fn amend(mut self, from: &str, to: &str) -> Self {
        assert!(self.policy.contains(from), "the policy does not hold {from:?}");
        self.policy = self.policy.replace(from, to);
        self
    }

    /// A setting of the settings file: a dotted key and a value as TOML writes it.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// A setting of the chat account, `key = value` in TOML; not one that is set for all tests already.
    #[must_use]
    pub fn chat(mut self, line: &str) -> Self {
        self.chat_settings += line;
        self.chat_settings.push('\n');
        self
    }

    /// Without the chat account.
    #[must_use]
    pub fn without_chat(mut self) -> Self {
        self.chat = false;
        self
    }

    /// A further account: the name of its file without the ending, and its content.
    #[must_use]
    pub fn account(mut self, file: &str, toml: &str) -> Self {
        self.accounts.push((file.to_owned(), toml.to_owned()));
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only these roles in the main process; others go into [companions](Daemon::companion).
    #[must_use]
    pub fn with_only(mut self, roles: &[&str]) -> Self {
        self.only = roles.iter().map(|role| (*role).to_owned()).collect();
        self
    }

    /// Writes everything down and starts nothing yet.
    ///
    /// # Panics
    /// When a file cannot be written.
    #[must_use]
    pub fn prepare(mut self) -> Daemon {
        let folder = Folder::new();
        let nodes = if self.cluster { NAMES.len() } else { 0 };
        let nodes = match &self.wired {
            Some((ports, _)) => ports.clone(),
            None => (0..nodes).map(|_| (free_port(), free_port())).collect(),
        };
        let ports = Ports { bus: free_port(), http: free_port(), chat: free_port(), nodes };
        let data = folder.path().join("data");
        if self.secure {
            certificates(&folder.path().join("cluster/tls"));
        }
        let scheme = if self.secure { "tls" } else { "nats" };
        let mut set = |key: &str, value: String| {
            self.settings.entry(key.to_owned()).or_insert(value);
        };
        if !ports.nodes.is_empty() {
            let reached = match &self.wired {
                Some((_, reached)) => reached.clone(),
                None => ports.nodes.iter().map(|(client, _)| *client).collect(),
            };
            let servers: Vec<String> =
                reached.iter().map(|client| format!("\"{scheme}://127.0.0.1:{client}\"")).collect();
            set("bus.mode", "\"external\"".into());
            set("bus.servers", format!("[{}]", servers.join(", ")));
            set("bus.credentials.folder", "\"cluster/credentials\"".into());
            set("router.replicas", "3".into());
        }
        if scheme == "tls" {
            set("bus.tls.ca_file", "\"cluster/tls/ca.pem\"".into());
            set("bus.tls.required", "true".into());
        }
        set("bus.data_dir", format!("{:?}", data.display().to_string()));
        set("bus.port", ports.bus.to_string());
        set("bus.websocket_port", "0".into());
        set("http.listen", format!("\"127.0.0.1:{}\"", ports.http));
        set("log.filter", "\"info\"".into());
        let settings: String = self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        for name in ["policy", "channels", "logs"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        fs::write(folder.path().join("throughline.toml"), settings).expect("the settings");
        fs::write(folder.path().join("policy/policy.toml"), &self.policy).expect("the policy");
        if self.chat {
            let text = format!(
                "kind = \"chat\"\naccount = \"web\"\n[settings]\nlisten = \"127.0.0.1:{}\"\n{CHAT}{}",
                ports.chat, self.chat_settings
            );
            fs::write(folder.path().join("channels/chat-web.toml"), text).expect("the chat account");
        }
        for (file, text) in &self.accounts {
            fs::write(folder.path().join(format!("channels/{file}.toml")), text).expect("an account");
        }
        let program = binary();
        Daemon { folder, ports, program, builder: self, child: None, starts: 0, nats_seen: None }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(self) -> Daemon {
        let mut daemon = self.prepare();
        daemon.start().await;
        daemon
    }
}

#[derive(Debug, Clone)]
struct Ports {
    bus: u16,
    http: u16,
    chat: u16,
    /// Of each server of a cluster: for clients, and for the other servers.
    nodes: Vec<(u16, u16)>,
}

/// The program under test, with everything it has. Ends with its bus server when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    folder: Folder,
    ports: Ports,
    program: PathBuf,
    builder: Builder,
    child: Option<Child>,
    starts: u32,
    nats_seen: Option<i32>,
}

impl Daemon {
    /// The usual one, to be changed and started.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            policy: POLICY.to_owned(),
            settings: BTreeMap::new(),
            chat: true,
            chat_settings: String::new(),
            accounts: Vec::new(),
            env: Vec::new(),
            only: Vec::new(),
            cluster: false,
            secure: false,
            wired: None,
        }
    }

    /// Where the certificates of its cluster lie, where it has such.
    #[must_use]
    pub fn tls_dir(&self) -> Option<PathBuf> {
        self.builder.secure.then(|| self.cluster_dir().join("tls"))
    }

    /// Where the configs of its cluster lie.
    pub fn cluster_dir(&self) -> PathBuf {
        self.folder().join("cluster")
    }

    /// The servers of its cluster, as `nats config --node` has them.
    pub fn nodes(&self) -> Vec<String> {
        let named = NAMES.iter().zip(&self.ports.nodes);
        named.map(|(name, (client, route))| format!("{name}=127.0.0.1:{client}:{route}")).collect()
    }

    /// The folder with settings, policy, accounts, data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.folder().join("throughline.toml")
    }

    /// Where its pages are: `host:port`.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.ports.http)
    }

    /// Where the chat listens: `host:port`.
    pub fn chat(&self) -> String {
        format!("127.0.0.1:{}", self.ports.chat)
    }

    /// The port of the bus server.
    pub fn bus_port(&self) -> u16 {
        self.ports.bus
    }

    /// Writes the policy anew; [`signal`](Self::signal) with `SIGHUP` makes it read.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_policy(&self, toml: &str) {
        fs::write(self.folder().join("policy/policy.toml"), toml).expect("the policy");
    }

    /// The text of the policy it was begun with.
    pub fn policy(&self) -> &str {
        &self.builder.policy
    }

    fn command(&self) -> Command {
        command(&self.program, &self.config(), &self.builder.env)
    }

    /// From now on it is another program that is started, on the same data.
    pub fn replace(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Starts it, does not wait.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let mut command = self.command();
        command.arg("run");
        for role in &self.builder.only {
            command.args(["--only", role]);
        }
        self.child = Some(spawn(command, &self.folder().join("logs"), "daemon"));
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or is not ready in time.
    pub async fn start(&mut self) {
        self.spawn();
        self.ready().await;
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Panics
    /// When it ends before, or does not say so in time.
    pub async fn ready(&mut self) {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        let address = self.http();
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().expect("a child of ours")
            {
                self.child = None;
                panic!("the daemon ended with {status} instead of getting ready; it said:\n{}", self.logs());
            }
            let said = match http::get(&address, "/readyz").await {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) => answer.body,
                Err(error) => error,
            };
            assert!(tokio::time::Instant::now() < end, "the daemon is not ready in time: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.nats_seen = self.nats_pid();
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> i32 {
        pid_of(self.child.as_ref().expect("it runs"))
    }

    /// The process of its bus server.
    pub fn nats_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data_dir().join("nats/nats-server.pid")).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        // A number that was given to somebody else meanwhile is not ours to signal.
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = self.data_dir().display().to_string();
        String::from_utf8_lossy(&words).contains(&ours).then_some(pid)
    }

    /// Signals the daemon.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the daemon runs");
    }

    /// Signals its bus server.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal_nats(&self, signal: Signal) {
        let pid = self.nats_pid().expect("the bus server runs");
        kill(Pid::from_raw(pid), signal).expect("the bus server runs");
    }

    /// Kills the daemon; its bus server stays, as in a crash.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }

    /// Kills the bus server.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9_nats(&self) {
        self.signal_nats(Signal::SIGKILL);
    }

    /// Kills the daemon and starts it on the same data and ports.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.start().await;
    }

    /// Asks it to stop, and waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not run, or does not end in time.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = wait(child, "the daemon to end").await;
        self.child = None;
        status
    }

    /// Another process on the same settings with only these roles. Does not wait.
    ///
    /// Its pages are on a port of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn companion(&self, roles: &[&str]) -> Companion {
        self.companion_in(roles, &[])
    }

    /// The same, with further variables of the environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn companion_in(&self, roles: &[&str], env: &[(String, String)]) -> Companion {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("companion-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let port = free_port();
        let mut command = self.command();
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.arg("run").args(["--set", &format!("http.listen=127.0.0.1:{port}")]);
        for role in roles {
            command.args(["--only", role]);
        }
        let logs = self.folder().join("logs");
        let child = spawn(command, &logs, &name);
        Companion { child: Some(child), port, logs, name }
    }

    /// Runs a subcommand to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments);
        run(command, &format!("throughline {}", arguments.join(" "))).await
    }

    /// Starts a subcommand that talks, with its stdin and stdout in hand.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn interactive(&self, arguments: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::from(self.command());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().expect("the program starts")
    }

    /// A connection to its bus as one of its users: `router`, `admin`, `adapter-KIND`,
    /// `agent-main-NAME`.
    ///
    /// # Panics
    /// When there is no such user, or no bus.
    pub async fn connect(&self, user: &str) -> Bus {
        Bus::connect(self.reach(user)).await.expect("the bus")
    }

    /// The same, where it may be away just now.
    ///
    /// # Panics
    /// When there is no such user.
    pub async fn try_connect(&self, user: &str) -> Option<Bus> {
        Bus::connect(self.reach(user)).await.ok()
    }

    /// How one of its users reaches the bus.
    ///
    /// # Panics
    /// When there is no such user.
    pub fn reach(&self, user: &str) -> bus::Options {
        let (servers, credentials) = if self.ports.nodes.is_empty() {
            let (url, credentials) = embedded::reach(&self.data_dir(), user).expect("a user of the bus");
            (vec![url], credentials)
        } else {
            let folder = self.cluster_dir().join("credentials");
            let credentials = bus::cluster::credentials(&folder, user).expect("a user of the cluster");
            let scheme = if self.builder.secure { "tls" } else { "nats" };
            (self.ports.nodes.iter().map(|(client, _)| format!("{scheme}://127.0.0.1:{client}")).collect(), credentials)
        };
        let name = format!("test {user}");
        let tls = self.tls_dir().map_or_else(bus::Tls::default, |folder| bus::Tls {
            ca_file: Some(folder.join("ca.pem")),
            required: true,
            ..bus::Tls::default()
        });
        bus::Options { servers, name, credentials, tls, timeout: Duration::from_secs(5) }
    }

    /// Everything that it and its companions logged.
    pub fn logs(&self) -> String {
        let mut paths: Vec<_> = fs::read_dir(self.folder().join("logs"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        paths.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()).collect()
    }

    /// Waits until the log holds a text.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn logged(&self, text: &str) {
        until(PATIENCE, &format!("{text:?} in the log"), async || self.logs().contains(text).then_some(())).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&self.folder().join("logs"));
            tell(&self.data_dir().join("nats"));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = self.nats_pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            // Not a child of ours, so it can only be watched; the folder is its until it is gone.
            for _ in 0..200 {
                if !is_alive(pid) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}

/// Another process of the same deployment. Ends when it is dropped.
#[derive(Debug)]
pub struct Companion {
    child: Option<Child>,
    port: u16,
    logs: PathBuf,
    name: String,
}

impl Companion {
    /// Where its pages are.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> i32 {
        pid_of(self.child.as_ref().expect("it runs"))
    }

    /// Signals it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the companion runs");
    }

    /// Kills it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }

    /// Asks it to stop, and waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let status = wait(self.child.as_mut().expect("it runs"), "the companion to end").await;
        self.child = None;
        status
    }

    /// Waits until `/healthz` answers, which it does as soon as the process is up: a router that
    /// stands by is up and not in charge.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn up(&self) {
        until(PATIENCE, "the companion to be up", async || {
            http::get(&self.http(), "/healthz").await.ok().filter(|answer| answer.status == 200).map(drop)
        })
        .await;
    }

    /// What it logged.
    pub fn log(&self) -> String {
        let read = |end| fs::read(self.logs.join(format!("{}.{end}", self.name))).unwrap_or_default();
        String::from_utf8_lossy(&[read("out"), read("err")].concat()).into_owned()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program with a settings file and a clean environment of its own.
pub fn command(program: &Path, config: &Path, env: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    // Settings of whoever runs the tests are not the test's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("THROUGHLINE_") {
            command.env_remove(&name);
        }
    }
    if let Some(server) = nats_server() {
        command.env("THROUGHLINE_NATS_SERVER", server);
    }
    command.envs(env.iter().map(|(name, value)| (name, value))).arg("--config").arg(config);
    command
}

/// Writes an authority, and a certificate of it for the servers on this machine, as clients of each other too.
///
/// # Panics
/// When it cannot.
pub fn certificates(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a certificate");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(rcgen::DnType::CommonName, "tests");
    write("ca.pem", params.self_signed(&key).expect("an authority").pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    write("node.pem", params.signed_by(&key, &issuer).expect("a certificate").pem());
    write("node.key", key.serialize_pem());
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started or does not end in time.
pub async fn run(command: Command, what: &str) -> Output {
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = crate::within(PATIENCE * 2, &format!("`{what}` to end"), output).await.expect("it starts");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn spawn(mut command: Command, logs: &Path, name: &str) -> Child {
    let file = |end: &str| -> File {
        let path = logs.join(format!("{name}.{end}"));
        OpenOptions::new().create(true).append(true).open(path).expect("a log file")
    };
    let child = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).spawn();
    child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process id")
}

async fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let child = std::cell::RefCell::new(child);
    until(PATIENCE, what, async || child.borrow_mut().try_wait().expect("a child of ours")).await
}

/// A process that is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

/// Prints the last lines of every log in a folder.
pub fn tell(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(bytes) = fs::read(&path) else { continue };
        if bytes.is_empty() || !path.extension().is_some_and(|end| end == "out" || end == "err" || end == "log") {
            continue;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- {} (the last of {} lines)", path.display(), lines.len());
        for line in lines.iter().skip(lines.len().saturating_sub(40)) {
            eprintln!("{line}");
        }
    }
}
