//! CPU time of the processes that a bench runs.

use std::fmt;
use std::time::Duration;

use throughline_tests::Daemon;

/// CPU time spent so far by the server, the daemon and this process (adapter and agents' tools).
pub struct Cpu {
    server: Duration,
    daemon: Duration,
    here: Duration,
}

/// CPU time per message.
pub struct Spent {
    server: f64,
    daemon: f64,
    here: f64,
}

fn of_process(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in parentheses: state is field 3, utime 14, stime 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    // The kernel counts in hundredths of a second on every platform we run on.
    Duration::from_millis(ticks * 10)
}

impl Cpu {
    /// What was spent until now.
    pub fn of(daemon: &Daemon) -> Self {
        Self {
            server: of_process(daemon.nats_pid().unwrap_or_default()),
            daemon: of_process(daemon.pid()),
            here: of_process(i32::try_from(std::process::id()).unwrap_or_default()),
        }
    }

    /// What was spent since, per message.
    pub fn since(&self, before: &Self, messages: usize) -> Spent {
        let each = |now: Duration, then: Duration| (now - then).as_secs_f64() * 1e6 / messages as f64;
        Spent {
            server: each(self.server, before.server),
            daemon: each(self.daemon, before.daemon),
            here: each(self.here, before.here),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "server {:.1} us, router {:.1} us, adapter and agents' tools {:.1} us",
            self.server, self.daemon, self.here
        )
    }
}
