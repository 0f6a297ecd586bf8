//! Numbers for Prometheus: the recorder behind the `metrics` macros, and what the process costs.
//!
//! No listener of its own: [`health`](crate::health) shows [`Metrics::render`].

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Bounds of every histogram of milliseconds (names that end in `_ms`).
const MILLISECONDS: [f64; 16] =
    [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0];
/// Bounds of every histogram of seconds (names that end in `_seconds`): from a fast append to a stall.
const SECONDS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Bounds of every other histogram: counts and sizes.
const COUNTS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1_024.0, 16_384.0, 1_048_576.0];
/// How often what the macros noted is folded into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);
/// The unit of processor time in `/proc`; part of the interface of Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The handle to the recorder; its clones are one.
#[derive(Clone)]
pub struct Metrics(Arc<PrometheusHandle>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// A recorder is installed already.
#[derive(Debug)]
pub struct AlreadyInstalled;

impl std::fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a metrics recorder is installed already")
    }
}

impl std::error::Error for AlreadyInstalled {}

impl Metrics {
    /// Makes a recorder the one that the macros of `metrics` write to. Once per process.
    ///
    /// # Errors
    /// When there is one already.
    pub fn install() -> Result<Self, AlreadyInstalled> {
        let recorder = recorder();
        let handle = Self(Arc::new(recorder.handle()));
        metrics::set_global_recorder(recorder).map_err(|_| AlreadyInstalled)?;
        Ok(handle)
    }

    /// A recorder that nothing writes to, for tests.
    #[must_use]
    pub fn detached() -> Self {
        Self(Arc::new(recorder().handle()))
    }

    /// All numbers in the text format of Prometheus, those of the process read at this moment.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.0.render();
        Process::read().render(&mut text);
        text
    }

    /// Keeps the histograms small when nobody scrapes. Never ends.
    pub async fn upkeep(&self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

/// Something that a gauge counts for as long as it lives. What waits in a queue carries it along, so that the gauge is
/// right however it leaves.
#[must_use = "it counts until it is dropped"]
#[derive(Debug)]
pub struct Counted {
    gauge: metrics::Gauge,
    amount: f64,
}

impl Counted {
    /// Counts one.
    pub fn one(gauge: &metrics::Gauge) -> Self {
        Self::many(gauge, 1)
    }

    /// Counts so many.
    pub fn many(gauge: &metrics::Gauge, amount: u32) -> Self {
        let amount = f64::from(amount);
        gauge.increment(amount);
        Self { gauge: gauge.clone(), amount }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.decrement(self.amount);
    }
}

fn recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets(&COUNTS);
    let builder =
        builder.and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_ms".to_owned()), &MILLISECONDS));
    let builder =
        builder.and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS));
    // The only error is an empty list of bounds.
    builder.unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder()
}

/// What the process costs; a number that cannot be read is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Processor time, user and system.
    pub cpu_seconds: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Process {
    /// Reads the numbers of this process.
    #[must_use]
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // One of the entries is the folder that is being read.
        let fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1));
        Self {
            resident_bytes: status_field(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
            cpu_seconds: cpu_seconds(&stat),
            open_fds: fds.and_then(|count| u64::try_from(count).ok()),
            threads: status_field(&status, "Threads:"),
        }
    }

    fn render(&self, text: &mut String) {
        let gauges = [
            ("process_resident_memory_bytes", self.resident_bytes),
            ("process_open_fds", self.open_fds),
            ("process_threads", self.threads),
        ];
        for (name, value) in gauges {
            if let Some(value) = value {
                let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
            }
        }
        if let Some(seconds) = self.cpu_seconds {
            let _ = writeln!(text, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds:.2}");
        }
    }
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_this_process_are_plausible() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.open_fds.unwrap() >= 3);
        assert!(process.threads.unwrap() >= 1);
        assert!(process.cpu_seconds.unwrap() >= 0.0);
    }

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "1 (a) (b c) S 2 3 4 5 6 7 8 9 10 11 150 50 0 0 20 0 1 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn what_waits_is_counted_until_it_is_gone() {
        let recorder = recorder();
        let gauge = metrics::with_local_recorder(&recorder, || metrics::gauge!("letters_queued"));
        let shown = || recorder.handle().render();
        let (one, many) = (Counted::one(&gauge), Counted::many(&gauge, 5));
        assert!(shown().contains("letters_queued 6"), "{}", shown());
        drop(one);
        assert!(shown().contains("letters_queued 5"), "{}", shown());
        drop(many);
        assert!(shown().contains("letters_queued 0"), "{}", shown());
    }

    #[test]
    fn histograms_have_buckets() {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("append_ms").record(3.0);
            metrics::histogram!("append_seconds").record(0.003);
            metrics::counter!("throughline_records_total").increment(2);
        });
        let text = Metrics(Arc::new(recorder.handle())).render();
        assert!(text.contains("append_ms_bucket{le=\"4\"} 1"), "{text}");
        assert!(text.contains("append_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("append_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("throughline_records_total 2"), "{text}");
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
    }
}
