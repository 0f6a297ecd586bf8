//! Ending in good order: signals, a deadline, and who is still busy.
//!
//! The first SIGTERM or SIGINT starts the drain: tasks that hold a [`Guard`] finish what they have
//! begun and let go of it. A second one ends the process at once with exit code 130. SIGHUP asks
//! for a reload. Nothing acknowledged is lost by ending at once, or by a kill: draining only spares
//! the other side a retry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// The exit code after a second signal.
pub const EXIT_FORCED: i32 = 130;

/// The handle to the end of the process; its clones are one.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    within: Duration,
    /// The deadline, once the drain has begun.
    draining: watch::Sender<Option<Instant>>,
    reloads: watch::Sender<u64>,
    busy: Mutex<Busy>,
    idle: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Busy {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Shutdown {
    /// `within`: how long a drain may take.
    #[must_use]
    pub fn new(within: Duration) -> Self {
        Self(Arc::new(Inner {
            within,
            draining: watch::Sender::new(None),
            reloads: watch::Sender::new(0),
            busy: Mutex::default(),
            idle: watch::Sender::new(true),
        }))
    }

    /// Starts to listen for signals, from now until the process ends. `before_exit` runs when a
    /// second signal ends the process at once; keep it short.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listen(&self, before_exit: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => {
                        tracing::info!("reload asked for");
                        shutdown.reload();
                        continue;
                    }
                };
                if shutdown.is_draining() {
                    tracing::warn!(signal = name, "second signal, ending at once");
                    before_exit();
                    std::process::exit(EXIT_FORCED);
                }
                tracing::info!(signal = name, deadline_ms = shutdown.0.within.as_millis(), "draining");
                shutdown.drain();
            }
        });
        Ok(())
    }

    /// Starts the drain; the deadline counts from the first call.
    pub fn drain(&self) {
        let deadline = Instant::now() + self.0.within;
        self.0.draining.send_if_modified(|draining| {
            let first = draining.is_none();
            draining.get_or_insert(deadline);
            first
        });
    }

    /// The end of a part of the process: it begins when the whole drains, or before, when it is told to.
    ///
    /// What follows the whole ends with the runtime, or with the part's own drain.
    #[must_use]
    pub fn part(&self) -> Self {
        let (whole, part) = (self.clone(), Self::new(self.0.within));
        let follower = part.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = whole.draining() => follower.drain(),
                () = follower.draining() => {}
            }
        });
        part
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.borrow().is_some()
    }

    /// When the drain must be over, once it has begun.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.draining.borrow()
    }

    /// Waits until the drain begins. May be dropped and called again.
    pub async fn draining(&self) {
        let mut draining = self.0.draining.subscribe();
        // The sender lives in `self`, so this ends only with a value.
        let _ = draining.wait_for(Option::is_some).await;
    }

    /// A sign of being busy, which the drain waits for. `name` is shown when it waits too long.
    pub fn guard(&self, name: impl Into<String>) -> Guard {
        let mut busy = self.busy();
        let id = busy.next;
        busy.next += 1;
        busy.names.insert(id, name.into());
        self.0.idle.send_replace(false);
        Guard { shutdown: self.clone(), id }
    }

    /// Waits until the drain has begun and every guard is gone.
    ///
    /// # Errors
    /// The names of those still busy at the deadline.
    pub async fn drained(&self) -> Result<(), Vec<String>> {
        self.draining().await;
        let deadline = self.deadline().unwrap_or_else(Instant::now);
        let mut idle = self.0.idle.subscribe();
        match tokio::time::timeout_at(deadline, idle.wait_for(|idle| *idle)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.busy().names.values().cloned().collect()),
        }
    }

    /// Asks for a reload, as SIGHUP does.
    pub fn reload(&self) {
        self.0.reloads.send_modify(|count| *count += 1);
    }

    /// Follows the reloads asked for from now on.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        Reloads { _shutdown: self.clone(), seen: self.0.reloads.subscribe() }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while busy.
#[derive(Debug)]
#[must_use = "the drain waits only while this is held"]
pub struct Guard {
    shutdown: Shutdown,
    id: u64,
}

impl Guard {
    /// The process that it belongs to.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut busy = self.shutdown.busy();
        busy.names.remove(&self.id);
        // Under the lock, or a guard taken meanwhile would be overlooked.
        self.shutdown.0.idle.send_replace(busy.names.is_empty());
    }
}

/// Follows the reloads that are asked for.
#[derive(Debug)]
pub struct Reloads {
    _shutdown: Shutdown,
    seen: watch::Receiver<u64>,
}

impl Reloads {
    /// Waits for the next one; several that come while nobody waits count as one.
    pub async fn next(&mut self) {
        // The sender lives in `_shutdown`, so this ends only with a change.
        let _ = self.seen.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_the_guards() {
        let shutdown = Shutdown::new(Duration::from_secs(20));
        let (one, two) = (shutdown.guard("one"), shutdown.guard("two"));
        assert!(!shutdown.is_draining());
        let worker = tokio::spawn(async move {
            one.shutdown().draining().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(one);
        });
        drop(two);
        let before = Instant::now();
        shutdown.drain();
        assert_eq!(shutdown.drained().await, Ok(()));
        assert!(before.elapsed() >= Duration::from_millis(50));
        worker.await.unwrap();
    }

    #[tokio::test]
    async fn the_deadline_counts_from_the_first_call_and_names_who_is_busy() {
        let shutdown = Shutdown::new(Duration::from_millis(100));
        let _slow = shutdown.guard("chat/web");
        shutdown.drain();
        let deadline = shutdown.deadline().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        shutdown.drain();
        assert_eq!(shutdown.deadline(), Some(deadline));
        assert_eq!(shutdown.drained().await, Err(vec!["chat/web".to_owned()]));
        assert!(Instant::now() >= deadline);
    }

    #[tokio::test]
    async fn nothing_busy_drains_at_once() {
        let shutdown = Shutdown::new(Duration::from_secs(20));
        drop(shutdown.guard("past"));
        shutdown.drain();
        assert_eq!(shutdown.drained().await, Ok(()));
        assert!(shutdown.deadline().is_some());
    }

    #[tokio::test]
    async fn reloads_are_counted_once_while_nobody_waits() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let mut reloads = shutdown.reloads();
        shutdown.reload();
        shutdown.reload();
        reloads.next().await;
        let more = tokio::time::timeout(Duration::from_millis(20), reloads.next()).await;
        assert!(more.is_err());
    }

    /// Not a test by itself: the process that the next one sends signals to.
    #[tokio::test]
    #[ignore = "runs as the child of another test"]
    async fn child() {
        if std::env::var_os("THROUGHLINE_DRAIN_CHILD").is_none() {
            return;
        }
        let shutdown = Shutdown::new(Duration::from_secs(60));
        let mut reloads = shutdown.reloads();
        shutdown.listen(|| println!("[exit]")).unwrap();
        println!("[ready]");
        reloads.next().await;
        println!("[reload]");
        let _busy = shutdown.guard("child");
        shutdown.draining().await;
        println!("[draining]");
        let _ = shutdown.drained().await;
    }

    #[tokio::test]
    async fn the_second_signal_ends_at_once() {
        use tokio::io::{AsyncBufReadExt, BufReader};

        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "drain::tests::child", "--ignored", "--nocapture"])
            .env("THROUGHLINE_DRAIN_CHILD", "1")
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = child.id().unwrap().to_string();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for (word, signal) in [("[ready]", "-HUP"), ("[reload]", "-TERM"), ("[draining]", "-INT")] {
            // The test harness may write on the same line.
            while !lines.next_line().await.unwrap().unwrap().contains(word) {}
            let sent = tokio::process::Command::new("kill").args([signal, &pid]).status().await.unwrap();
            assert!(sent.success());
        }
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(EXIT_FORCED));
        assert!(lines.next_line().await.unwrap().unwrap().contains("[exit]"));
    }
}
