//! A server of one's own per test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use throughline_bus::embedded::{self, Server, User};
use throughline_bus::{Bus, Connection, Options, Publish, Retention, Stream, Topology, permissions};

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("throughline-bus-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The pinned server, wherever the tests run from.
pub(crate) fn binary() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/nats-server/nats-server");
    path.exists().then_some(path)
}

pub(crate) fn options(folder: &Folder) -> embedded::Options {
    embedded::Options {
        binary: binary(),
        data_dir: folder.path().to_path_buf(),
        sync_interval: "100ms".into(),
        users: permissions::all(&["chat", "email"], &[("main", "anna"), ("main", "ben")]),
        ..embedded::Options::default()
    }
}

/// A server with its folder.
pub(crate) struct World {
    pub(crate) server: Option<Server>,
    pub(crate) folder: Folder,
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = Folder::new();
        let server = Server::start(options(&folder)).await.unwrap();
        Self { server: Some(server), folder }
    }

    pub(crate) async fn start_with(users: Vec<User>) -> Self {
        let folder = Folder::new();
        let server = Server::start(embedded::Options { users, ..options(&folder) }).await.unwrap();
        Self { server: Some(server), folder }
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) async fn bus(&self) -> Bus {
        self.bus_of(permissions::ROUTER).await
    }

    pub(crate) async fn bus_of(&self, user: &str) -> Bus {
        connect(self.server(), user).await
    }

    /// Kills the server's process, and waits until the connection has noticed and stands again.
    pub(crate) async fn kill_and_return(&self, bus: &Bus) {
        let mut connection = bus.connection();
        self.kill();
        soon(connection.wait_for(|state| *state == Connection::Down)).await.unwrap();
        soon(connection.wait_for(|state| *state == Connection::Up)).await.unwrap();
    }

    /// `kill -9` of the server that this test started, by its number.
    pub(crate) fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.server().pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    pub(crate) async fn end(mut self) {
        self.server.take().unwrap().stop().await.unwrap();
    }
}

pub(crate) async fn connect(server: &Server, user: &str) -> Bus {
    let credentials = server.credentials(user).unwrap();
    let options = Options { servers: vec![server.url().into()], credentials, ..Options::default() };
    Bus::connect(options).await.unwrap()
}

/// Nothing here takes longer than this.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

pub(crate) fn stream(name: &str, subject: &str) -> Stream {
    Stream {
        name: name.into(),
        subjects: vec![subject.into()],
        retention: Retention::Limits,
        full_refuses: true,
        bytes_max: None,
        age_max: None,
        message_bytes_max: None,
        duplicate_window: Duration::from_secs(120),
        replicas: 1,
    }
}

pub(crate) fn streams(all: &[(&str, &str)]) -> Topology {
    Topology { streams: all.iter().map(|(name, subject)| stream(name, subject)).collect(), ..Topology::default() }
}

pub(crate) fn message(subject: &str, text: impl ToString) -> Publish {
    Publish { subject: subject.into(), payload: text.to_string().into(), ..Publish::default() }
}

/// Publishes until it is stored, as a caller does who knows that twice does no harm.
pub(crate) async fn publish_surely(bus: &Bus, publish: Publish) -> u64 {
    loop {
        match bus.publish(publish.clone()).await {
            Ok(ack) => return ack.seq,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}
