//! Watching the server: when it dies it is started again, on the same ports.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::STOP_WAIT;
use super::config::{Layout, Ports};
use super::process::Process;
use crate::Error;
use crate::metric::Metric;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A server that lived this long was well: the next start is tried at once again.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// What is wanted of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Run,
    Stop,
    /// Leave it running and stop watching.
    Detach,
}

pub(super) struct Task {
    pub(super) binary: PathBuf,
    pub(super) layout: Layout,
    pub(super) ports: Ports,
    pub(super) process: Process,
    pub(super) pid: Arc<AtomicU32>,
    pub(super) commands: watch::Receiver<Command>,
}

/// Returns when the server is stopped or left alone.
pub(super) async fn supervise(mut task: Task) -> Result<(), Error> {
    let mut backoff = Duration::ZERO;
    loop {
        let since = Instant::now();
        let ended = tokio::select! {
            () = task.process.gone() => true,
            _ = task.commands.wait_for(|command| *command != Command::Run) => false,
        };
        if !ended {
            return if *task.commands.borrow() == Command::Stop {
                task.process.stop(STOP_WAIT).await
            } else {
                task.process.forget();
                Ok(())
            };
        }
        if since.elapsed() >= WELL_AFTER {
            backoff = Duration::ZERO;
        }
        task.pid.store(0, Ordering::Relaxed);
        tracing::warn!(pid = task.process.pid(), "bus server died, starting it again");
        loop {
            let pause = tokio::time::timeout(backoff, task.commands.wait_for(|command| *command != Command::Run));
            if pause.await.is_ok() {
                // There is nothing to stop.
                return Ok(());
            }
            backoff = (backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
            match Process::spawn(&task.binary, &task.layout, &task.ports, &task.pid).await {
                Ok(process) => {
                    task.process = process;
                    Metric::ServerRestarts.count();
                    tracing::info!(pid = task.process.pid(), "bus server runs again");
                    break;
                }
                Err(error) => tracing::error!(%error, "bus server cannot be started"),
            }
        }
    }
}
