//! A real `nats-server`, started, watched and stopped by the daemon.
//!
//! The server outlives a killed daemon: the next start adopts it, so a restart costs milliseconds.
//! If the server dies, it is started again on the same ports. One daemon owns a data folder; a
//! second one is refused by a lock file. A signal from the terminal does not reach the server, it
//! has a process group of its own; under systemd use `KillMode=mixed`, so that the daemon stops it.

pub(crate) mod config;
pub(crate) mod files;
mod process;
mod supervise;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::{Credentials, Error, ErrorKind};
use config::{Layout, Ports};
use process::Process;

/// How long a stopped server may take to write everything down.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Where and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary; absent: `THROUGHLINE_NATS_SERVER`, then PATH, then `.tools/nats-server` under the current folder and beside the executable.
    pub binary: Option<PathBuf>,
    /// `data_dir/nats` holds config, store, pid and ports; `data_dir/credentials` the passwords, one file per user, 0600.
    pub data_dir: PathBuf,
    /// Client port on loopback; 0: any free one.
    pub port: u16,
    /// WebSocket port on loopback; 0: any free one, `None`: no listener.
    pub websocket_port: Option<u16>,
    /// Monitoring port; `None`: none.
    pub monitor_port: Option<u16>,
    /// `always`, or an interval like `100ms`.
    pub sync_interval: String,
    /// Users with their permissions.
    pub users: Vec<User>,
    /// How many shards: the account mapping inserts the shard into unsharded inbound subjects.
    pub shards: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            binary: None,
            data_dir: PathBuf::from("data"),
            port: 0,
            websocket_port: None,
            monitor_port: None,
            sync_interval: "always".into(),
            users: Vec::new(),
            shards: contract::shard::SHARDS_DEFAULT,
        }
    }
}

/// A user of the bus. The password is generated on first start and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name: one subject token.
    pub name: String,
    /// Subjects it may publish on.
    pub publish: Vec<String>,
    /// Subjects it may listen to; its inbox `_INBOX_<name>.>` belongs here too.
    pub subscribe: Vec<String>,
    /// It may answer what it is asked, on whatever subject the asker awaits the answer, once and at once.
    pub answers: bool,
}

/// A running server.
pub struct Server {
    url: String,
    ports: Ports,
    layout: Layout,
    shards: u16,
    pid: Arc<AtomicU32>,
    adopted: bool,
    /// Reloads one after another.
    reload: Mutex<()>,
    command: watch::Sender<supervise::Command>,
    supervisor: Option<tokio::task::JoinHandle<Result<(), Error>>>,
    lock: Option<files::Lock>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("url", &self.url).field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// A setting's port is taken by somebody else.
fn check_port(setting: &str, port: u16) -> Result<(), Error> {
    if port == 0 {
        return Ok(());
    }
    match std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Error::config(format!(
            "port {port} (setting {setting}) is taken by another program; choose another or 0 for any"
        ))),
        Err(error) => Err(Error::config(format!("port {port} (setting {setting}): {error}"))),
    }
}

impl Server {
    /// Starts a server, or adopts the one that a killed daemon left on the same data.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let binary = process::find(options.binary.as_deref())?;
        process::check_version(&binary).await?;
        let layout = Layout::create(&options.data_dir)?;
        let lock = files::Lock::take(&layout.lock_file())?;
        files::check_room(layout.folder())?;
        let passwords = files::passwords(&layout, &options.users)?;

        // The ports of the run before, where the settings leave them open: addresses stay the same.
        let before = Ports::read(&layout);
        let left = Process::left_over(&layout);
        let mut ports = Ports::choose(&options, before.as_ref())?;
        let accounts = config::accounts(&options.users, &passwords, options.shards)?;
        let main = |ports: &Ports| config::main(&options, &layout, ports);

        let mut adopted = None;
        if let Some(process) = left {
            if files::read(&layout.config_file()).as_deref() == Some(main(&ports).as_str())
                && process.answers(&ports).await
            {
                tracing::info!(pid = process.pid(), "adopting the bus server that was left running");
                adopted = Some(process);
            } else {
                tracing::info!(pid = process.pid(), "stopping the bus server that was left running");
                process.stop(STOP_WAIT).await?;
            }
        }

        let is_adopted = adopted.is_some();
        let pid = Arc::new(AtomicU32::new(adopted.as_ref().map_or(0, Process::pid)));
        let process = match adopted {
            Some(process) => {
                if files::read(&layout.accounts_file()).as_deref() != Some(accounts.as_str()) {
                    reload(&layout, &process, &accounts).await?;
                }
                process
            }
            None => {
                files::write_secret(&layout.accounts_file(), &accounts)?;
                start_fresh(&options, &binary, &layout, &mut ports, &pid, main).await?
            }
        };
        ports.write(&layout)?;

        let (command, commands) = watch::channel(supervise::Command::Run);
        let supervisor = tokio::spawn(supervise::supervise(supervise::Task {
            binary,
            layout: layout.clone(),
            ports: ports.clone(),
            process,
            pid: Arc::clone(&pid),
            commands,
        }));
        Ok(Self {
            url: format!("nats://127.0.0.1:{}", ports.client),
            ports,
            layout,
            shards: options.shards,
            pid,
            adopted: is_adopted,
            reload: Mutex::new(()),
            command,
            supervisor: Some(supervisor),
            lock: Some(lock),
        })
    }

    /// `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `ws://127.0.0.1:<port>`, if there is a listener.
    #[must_use]
    pub fn websocket_url(&self) -> Option<String> {
        self.ports.websocket.map(|port| format!("ws://127.0.0.1:{port}"))
    }

    /// `http://127.0.0.1:<port>`, if it is monitored.
    #[must_use]
    pub fn monitor_url(&self) -> Option<String> {
        self.ports.monitor.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Lets its server be started anew; see [`Renewal`].
    #[must_use]
    pub fn renewal(&self) -> Renewal {
        Renewal { layout: self.layout.clone(), pid: Arc::clone(&self.pid) }
    }

    /// The process; changes when the server dies and is started again, 0 in between.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// It was running already when we came.
    #[must_use]
    pub const fn adopted(&self) -> bool {
        self.adopted
    }

    /// How a user of this server connects.
    pub fn credentials(&self, user: &str) -> Result<Credentials, Error> {
        let path = self.layout.password_file(user);
        let password = files::read(&path)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no password in {}", path.display())))?;
        Ok(Credentials::Password { user: user.to_owned(), password: password.trim().to_owned() })
    }

    /// The file with a user's password.
    #[must_use]
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.layout.password_file(user)
    }

    /// Replaces the users (a roster changed): rewrites the config and signals the server to reload.
    /// Connections of users that are gone or changed are closed by the server.
    pub async fn set_users(&self, users: Vec<User>) -> Result<(), Error> {
        let _one_at_a_time = self.reload.lock().await;
        let passwords = files::passwords(&self.layout, &users)?;
        let accounts = config::accounts(&users, &passwords, self.shards)?;
        if files::read(&self.layout.accounts_file()).as_deref() == Some(accounts.as_str()) {
            return Ok(());
        }
        let process = Process::adopt(self.pid());
        reload(&self.layout, &process, &accounts).await
    }

    /// Stops it; waits until it is gone.
    pub async fn stop(mut self) -> Result<(), Error> {
        let _ = self.command.send(supervise::Command::Stop);
        let stopped = match self.supervisor.take() {
            Some(supervisor) => {
                supervisor.await.map_err(|error| Error::other(format!("stopping the bus server: {error}")))?
            }
            None => Ok(()),
        };
        self.lock = None;
        stopped
    }

    /// Lets go of it without stopping it, as a crash would: the next start adopts it.
    pub async fn detach(mut self) {
        let _ = self.command.send(supervise::Command::Detach);
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.await;
        }
        self.lock = None;
    }
}

/// Starts the server anew. A stream whose disk was full once stores nothing any more, whatever room there is: the server
/// remembers the failed write until it ends, and often does not even answer who publishes (2.15).
#[derive(Debug, Clone)]
pub struct Renewal {
    layout: Layout,
    pid: Arc<AtomicU32>,
}

impl Renewal {
    /// The folder in which the server stores.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.layout.folder()
    }

    /// How many bytes its disk has left.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn room(&self) -> Result<u64, Error> {
        files::room(self.layout.folder())
    }

    /// Ends the server when its disk has room, so that whoever watches it starts another; returns whether it did.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn renew(&self) -> Result<bool, Error> {
        let pid = self.pid.load(Ordering::Relaxed);
        if pid == 0 || files::check_room(self.layout.folder()).is_err() {
            return Ok(false);
        }
        Process::adopt(pid).stop(STOP_WAIT).await?;
        Ok(true)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // Neither stopped nor detached: do not leave it behind.
            supervisor.abort();
            Process::adopt(self.pid()).terminate();
        }
    }
}

/// Starts a new server; where any port will do, again with others if somebody was quicker.
async fn start_fresh(
    options: &Options,
    binary: &Path,
    layout: &Layout,
    ports: &mut Ports,
    pid: &AtomicU32,
    main: impl Fn(&Ports) -> String,
) -> Result<Process, Error> {
    let fixed = options.port != 0 && options.websocket_port != Some(0) && options.monitor_port != Some(0);
    let mut attempt = 1;
    loop {
        check_port("bus.port", options.port)?;
        check_port("bus.websocket_port", options.websocket_port.unwrap_or(0))?;
        check_port("bus.monitor_port", options.monitor_port.unwrap_or(0))?;
        files::write_secret(&layout.config_file(), &main(ports))?;
        match Process::spawn(binary, layout, ports, pid).await {
            Ok(process) => return Ok(process),
            Err(error) if fixed || attempt == 5 => return Err(error),
            Err(error) => tracing::debug!(%error, "bus server did not start, trying other ports"),
        }
        attempt += 1;
        *ports = Ports::choose(options, None)?;
    }
}

/// Puts new accounts in force.
async fn reload(layout: &Layout, process: &Process, accounts: &str) -> Result<(), Error> {
    let before = files::read(&layout.accounts_file());
    files::write_secret(&layout.accounts_file(), accounts)?;
    let result = process.reload(layout).await;
    if result.is_err()
        && let Some(before) = before
    {
        // What is in force and what is written stay the same.
        files::write_secret(&layout.accounts_file(), &before)?;
    }
    result
}

/// How a user reaches the server that another process runs on a data folder: its address and the
/// user's credentials.
///
/// # Errors
/// When no server was started there, or it does not know the user.
pub fn reach(data_dir: &Path, user: &str) -> Result<(String, Credentials), Error> {
    let layout = Layout::at(data_dir);
    let missing = |what: &str| {
        let text =
            format!("{what} in {}; is `throughline run` up, and is bus.data_dir its folder?", data_dir.display());
        Error::new(ErrorKind::NotFound, text)
    };
    let ports = Ports::read(&layout).ok_or_else(|| missing("no running bus server"))?;
    let file = layout.password_file(user);
    files::read(&file).ok_or_else(|| missing(&format!("no user {user:?}")))?;
    let credentials = Credentials::PasswordFile { user: user.to_owned(), file };
    Ok((format!("nats://127.0.0.1:{}", ports.client), credentials))
}
