//! Telling the service manager how the process is: systemd's notification protocol, lines in a datagram to the socket
//! that `NOTIFY_SOCKET` names (`sd_notify(3)`). Where nobody asked, nothing is sent and nothing fails.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// Speaks to the service manager, if there is one that listens. Its clones are one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    /// How often it wants to hear that we are alive; asked of this process only.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment asks for it. A socket that cannot be reached is logged, and is as good as none.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(path) = std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty()) else {
            return Self::default();
        };
        let watchdog = watchdog(|name| std::env::var(name).ok(), std::process::id());
        match connect(&path) {
            Ok(socket) => Self { socket: Some(Arc::new(socket)), watchdog },
            Err(error) => {
                tracing::warn!(%error, "the service manager's socket cannot be reached");
                Self::default()
            }
        }
    }

    /// Everything has started. `status` is what a person reads.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Starting takes longer, and goes on: wait another `for_at_most`.
    pub fn starting(&self, status: &str, for_at_most: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", for_at_most.as_micros(), one_line(status)));
    }

    /// The end has begun.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Says that the process is alive twice as often as it was asked to, for ever; returns at once where nobody asked.
    /// It runs on the runtime that does the work: when that hangs, so does this, and the manager starts us anew.
    pub async fn keep_alive(&self) {
        let Some(every) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        let mut ticks = tokio::time::interval(every / 2);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, lines: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.as_bytes())
        {
            tracing::debug!(%error, "the service manager did not take a notice");
        }
    }
}

/// A path, or, behind an `@`, a name without a file.
fn connect(path: &str) -> std::io::Result<UnixDatagram> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// How often the manager wants to hear of process `pid`.
fn watchdog(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let ours = variable("WATCHDOG_PID").is_none_or(|wanted| wanted == pid.to_string());
    let micros = variable("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 1)?;
    ours.then_some(Duration::from_micros(micros))
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening() -> (UnixDatagram, Notifier) {
        let name = format!("@throughline-notify-{}-{:?}", std::process::id(), std::thread::current().id());
        let address = SocketAddr::from_abstract_name(name.trim_start_matches('@')).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let socket = Some(Arc::new(connect(&name).unwrap()));
        (manager, Notifier { socket, watchdog: Some(Duration::from_millis(20)) })
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let read = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[test]
    fn says_what_happens_a_line_each() {
        let (manager, notifier) = listening();
        notifier.starting("reading the journal", Duration::from_secs(30));
        assert_eq!(heard(&manager), "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=reading the journal");
        notifier.ready("8 shards\nREADY=0");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=8 shards READY=0");
        notifier.stopping("draining");
        assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=draining");
    }

    #[tokio::test]
    async fn says_again_and_again_that_it_is_alive() {
        let (manager, notifier) = listening();
        let alive = tokio::spawn(async move { notifier.keep_alive().await });
        for _ in 0..3 {
            let manager = manager.try_clone().unwrap();
            let heard = tokio::task::spawn_blocking(move || heard(&manager)).await.unwrap();
            assert_eq!(heard, "WATCHDOG=1");
        }
        alive.abort();
    }

    #[tokio::test]
    async fn nobody_who_listens_is_nothing_wrong() {
        let silent = Notifier::default();
        silent.ready("up");
        silent.keep_alive().await;
        assert!(connect("/nowhere/at/all").is_err());
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let of = |pid: &'static str| {
            move |name: &str| match name {
                "WATCHDOG_PID" => Some(pid.to_owned()),
                "WATCHDOG_USEC" => Some("2000000".to_owned()),
                _ => None,
            }
        };
        assert_eq!(watchdog(of("7"), 7), Some(Duration::from_secs(2)));
        assert_eq!(watchdog(of("8"), 7), None);
        assert_eq!(watchdog(|_| None, 7), None);
    }
}
