//! Three real bus servers in a cluster, set up as the program's own `nats config` says.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, nats_server};
use crate::{Wires, until};

/// The names of the servers.
pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// The servers. They end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    program: PathBuf,
    servers: Vec<Option<Child>>,
}

impl Cluster {
    /// Writes the configs of a daemon that was prepared for a cluster, starts the servers, and waits until they store.
    ///
    /// # Panics
    /// When they do not.
    pub async fn start(daemon: &Daemon) -> Self {
        Self::start_on(daemon, None).await
    }

    /// The same, with all connections between the servers over lines.
    ///
    /// # Panics
    /// When they do not store.
    pub async fn start_on(daemon: &Daemon, wires: Option<&Wires>) -> Self {
        Self::start_as(daemon, |at, config| match wires {
            Some(wires) => wires.wired(at, &config),
            None => config,
        })
        .await
    }

    /// The same, each server with tags by which streams are placed.
    ///
    /// # Panics
    /// When they do not store.
    pub async fn start_tagged(daemon: &Daemon, tags: [&[&str]; 3]) -> Self {
        Self::start_as(daemon, |at, config| format!("server_tags: {:?}\n{config}", tags[at])).await
    }

    /// The same, with configs that are changed first.
    async fn start_as(daemon: &Daemon, change: impl Fn(usize, String) -> String) -> Self {
        let folder = daemon.cluster_dir();
        let nodes = daemon.nodes();
        let store = folder.join("store").display().to_string();
        let out = folder.display().to_string();
        let mut arguments = vec!["nats", "config", "--out", &out, "--store", &store];
        for node in &nodes {
            arguments.extend(["--node", node]);
        }
        let tls = daemon.tls_dir().map(|folder| ["node.pem", "node.key", "ca.pem"].map(|name| folder.join(name)));
        let tls = tls.map(|files| files.map(|file| file.display().to_string()));
        for (flag, file) in ["--tls-cert", "--tls-key", "--tls-ca"].iter().zip(tls.iter().flatten()) {
            arguments.extend([*flag, file.as_str()]);
        }
        daemon.cli(&arguments).await.ok();
        for (at, name) in NAMES.iter().enumerate() {
            let file = folder.join(format!("{name}.conf"));
            let config = fs::read_to_string(&file).expect("the config");
            fs::write(&file, change(at, config)).expect("the config");
        }
        let program = nats_server().expect("a nats-server");
        let mut cluster = Self { folder, program, servers: Vec::new() };
        for at in 0..nodes.len() {
            cluster.servers.push(None);
            cluster.run(at);
        }
        cluster.ready(daemon).await;
        cluster
    }

    /// Waits until the cluster has a leader that answers.
    ///
    /// # Panics
    /// When it has none in time.
    pub async fn ready(&self, daemon: &Daemon) {
        until(Duration::from_secs(60), "the cluster to answer", async || {
            let bus = daemon.try_connect("router").await?;
            bus.has_stream("nothing").await.ok().map(drop)
        })
        .await;
    }

    /// Starts a server that does not run.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&mut self, at: usize) {
        let name = NAMES[at];
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join(format!("{name}.log")));
        let log = log.expect("a log");
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(self.folder.join(format!("{name}.conf")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        self.servers[at] = Some(child.expect("the server starts"));
    }

    /// Kills a server.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self, at: usize) {
        let mut child = self.servers[at].take().expect("it runs");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }

    /// Signals a server.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, at: usize, signal: Signal) {
        let child = self.servers[at].as_ref().expect("it runs");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id")), signal).expect("it runs");
    }

    /// Which server leads a stream.
    pub async fn leader(&self, daemon: &Daemon, stream: &str) -> Option<usize> {
        let bus = daemon.try_connect("router").await?;
        let leader = bus.leader(stream).await.ok()??;
        NAMES.iter().position(|name| *name == leader)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::daemon::tell(&self.folder);
        }
        for mut child in self.servers.iter_mut().filter_map(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
