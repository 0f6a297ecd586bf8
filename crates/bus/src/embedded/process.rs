//! The process: finding the binary, starting it, knowing whether it lives, signalling it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::config::{Layout, Ports};
use super::files;
use crate::{Error, ErrorKind};

/// Environment variable that names the binary.
const BINARY_VARIABLE: &str = "THROUGHLINE_NATS_SERVER";
/// Atomic expected sequences, per-message lifetimes and the rest we rely on.
const VERSION_MIN: (u32, u32) = (2, 12);
/// How long a start may take; a big store is read first.
const START_WAIT: Duration = Duration::from_secs(60);
/// How often an adopted process, or a file of a starting one, is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const LIVENESS_INTERVAL: Duration = Duration::from_millis(250);

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The binary: as set, by the environment, in PATH, under `.tools`.
pub(super) fn find(set: Option<&Path>) -> Result<PathBuf, Error> {
    let named = set.map(Path::to_path_buf).or_else(|| std::env::var_os(BINARY_VARIABLE).map(PathBuf::from));
    if let Some(path) = named {
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(Error::config(format!("{} is not a program; set another or run `make tools`", path.display())))
        };
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&paths).map(|folder| folder.join("nats-server")).collect();
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_path_buf));
    for folder in std::env::current_dir().ok().into_iter().chain(beside) {
        // Either the program itself or a folder of that name with the program in it.
        places.push(folder.join(".tools/nats-server/nats-server"));
        places.push(folder.join(".tools/nats-server"));
    }
    places.into_iter().find(|path| is_program(path)).ok_or_else(|| {
        Error::config(format!(
            "no nats-server found in PATH or .tools; run `make tools`, or set {BINARY_VARIABLE} or bus.binary"
        ))
    })
}

/// Reads `nats-server: v2.15.1`.
fn read_version(text: &str) -> Option<(u32, u32)> {
    let version = text.trim().rsplit(' ').next()?.trim_start_matches('v');
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

pub(super) async fn check_version(binary: &Path) -> Result<(), Error> {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(Duration::from_secs(10), output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(Error::config(format!("{} does not run: {error}", binary.display()))),
        Err(_) => return Err(Error::config(format!("{} --version does not end", binary.display()))),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, minor) = VERSION_MIN;
    match read_version(&text) {
        Some(version) if version >= VERSION_MIN => Ok(()),
        _ => Err(Error::config(format!(
            "{} says {:?}; version {major}.{minor} or newer is needed, run `make tools`",
            binary.display(),
            text.trim()
        ))),
    }
}

/// A server process: our child, or one that an earlier daemon left.
pub(super) struct Process {
    pid: u32,
    child: Option<Child>,
}

impl Process {
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) const fn adopt(pid: u32) -> Self {
        Self { pid, child: None }
    }

    /// The server that still runs on our config.
    pub(super) fn left_over(layout: &Layout) -> Option<Self> {
        let pid: u32 = files::read(&layout.pid_file())?.trim().parse().ok()?;
        let mut process = Self::adopt(pid);
        let config = layout.config_file();
        let ours = command_line(pid).is_some_and(|words| {
            words.first().is_some_and(|word| word.contains("nats-server"))
                && words.iter().any(|word| Path::new(word) == config)
        });
        (ours && process.lives()).then_some(process)
    }

    /// Starts a server; returns when it accepts connections.
    ///
    /// `number` gets to know the process as soon as there is one, and 0 when it failed.
    pub(super) async fn spawn(
        binary: &Path,
        layout: &Layout,
        ports: &Ports,
        number: &AtomicU32,
    ) -> Result<Self, Error> {
        for entry in std::fs::read_dir(layout.folder()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "ports") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let output = layout.output_file();
        let failed = |error: std::io::Error| Error::config(format!("starting {}: {error}", binary.display()));
        let file = File::create(&output).map_err(failed)?;
        let child = Command::new(binary)
            .arg("-c")
            .arg(layout.config_file())
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            // A signal from the terminal is for the daemon, which then stops the server in its turn.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        number.store(pid, Ordering::Relaxed);
        let mut process = Self { pid, child: Some(child) };
        match process.until_ready(layout, ports).await {
            Ok(()) => Ok(process),
            Err(error) => {
                process.signal(Signal::SIGKILL);
                process.gone().await;
                number.store(0, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    async fn until_ready(&mut self, layout: &Layout, ports: &Ports) -> Result<(), Error> {
        let deadline = Instant::now() + START_WAIT;
        let ready = layout.ready_file(self.pid);
        loop {
            if ready.exists() && self.answers(ports).await {
                return Ok(());
            }
            let reason = if !self.lives() {
                "ended"
            } else if Instant::now() >= deadline {
                "is not ready in time"
            } else {
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            };
            let said = [layout.output_file(), layout.log_file()].map(|path| files::tail(&path, 8)).join("\n");
            let full = said.contains("no space left");
            let kind = if full { ErrorKind::Full } else { ErrorKind::Config };
            return Err(Error::new(kind, format!("the bus server {reason}; it said:\n{}", said.trim())));
        }
    }

    /// Something on the client port greets as a NATS server does.
    pub(super) async fn answers(&self, ports: &Ports) -> bool {
        let greet = async {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", ports.client)).await.ok()?;
            let mut greeting = [0_u8; 5];
            stream.read_exact(&mut greeting).await.ok()?;
            (&greeting == b"INFO ").then_some(())
        };
        matches!(tokio::time::timeout(Duration::from_secs(2), greet).await, Ok(Some(())))
    }

    fn signal(&self, signal: Signal) -> bool {
        // 0 and negative numbers are groups: never those.
        match i32::try_from(self.pid) {
            Ok(pid) if pid > 1 => kill(Pid::from_raw(pid), signal).is_ok(),
            _ => false,
        }
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub(super) fn lives(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => is_alive(self.pid),
        }
    }

    /// Waits until it is gone.
    pub(super) async fn gone(&mut self) {
        match &mut self.child {
            Some(child) => {
                let _ = child.wait().await;
            }
            None => {
                while is_alive(self.pid) {
                    tokio::time::sleep(LIVENESS_INTERVAL).await;
                }
            }
        }
    }

    /// Ends it: politely, then not.
    pub(super) async fn stop(mut self, wait: Duration) -> Result<(), Error> {
        self.terminate();
        if self.gone_within(wait).await {
            return Ok(());
        }
        tracing::warn!(pid = self.pid, "bus server does not end, killing it");
        self.signal(Signal::SIGKILL);
        if self.gone_within(Duration::from_secs(5)).await {
            return Ok(());
        }
        Err(Error::other(format!("the bus server (process {}) cannot be ended", self.pid)))
    }

    async fn gone_within(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        if self.child.is_some() {
            return tokio::time::timeout_at(deadline, self.gone()).await.is_ok();
        }
        while is_alive(self.pid) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        true
    }

    /// Makes it read its config again; waits for its word on it in the log.
    pub(super) async fn reload(&self, layout: &Layout) -> Result<(), Error> {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let before = length(&layout.log_file());
        if !self.signal(Signal::SIGHUP) {
            return Err(Error::unavailable("the bus server does not run"));
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let log = std::fs::read(layout.log_file()).unwrap_or_default();
            // A log that is shorter now was begun anew.
            let from = usize::try_from(before).unwrap_or(usize::MAX);
            let said = String::from_utf8_lossy(log.get(from..).unwrap_or(&log)).into_owned();
            if said.contains("Reloaded server configuration") {
                return Ok(());
            }
            if let Some(line) = said.lines().find(|line| line.contains("Failed to reload")) {
                return Err(Error::config(format!("the bus server refuses its new users: {line}")));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Err(Error::new(ErrorKind::Ambiguous, "the bus server does not say whether it took its new users"))
    }

    /// Not ours to wait for any more.
    pub(super) fn forget(self) {
        drop(self.child);
    }
}

/// The words of a process's command line.
fn command_line(pid: u32) -> Option<Vec<String>> {
    if Path::new("/proc/self").exists() {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect());
    }
    let output = std::process::Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

/// A process that is there and no zombie.
fn is_alive(pid: u32) -> bool {
    let Ok(raw) = i32::try_from(pid) else { return false };
    if raw <= 1 || kill(Pid::from_raw(raw), None).is_err() {
        return false;
    }
    // A zombie still takes signals. The state follows the name, which may hold anything but ends with ")".
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::read_version;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(read_version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(read_version("nats-server: v2.9.25"), Some((2, 9)));
        assert!(read_version("nats-server: v2.9.25") < Some(super::VERSION_MIN));
        assert_eq!(read_version("something else"), None);
    }
}
