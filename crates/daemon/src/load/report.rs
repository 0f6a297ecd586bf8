//! What a load run measured: in text, JSON, and as a page with a plot.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::Failure;
use crate::output::table;

/// Longest time that is told apart, microseconds: what takes longer counts as that.
const LONGEST_US: u64 = 600_000_000;
/// Significant digits that are kept.
const DIGITS: u8 = 3;
/// The shares that are shown, in percent.
const SHARES: [f64; 6] = [50.0, 90.0, 95.0, 99.0, 99.9, 100.0];

/// The times of all stages, each from when the message was due.
pub(super) struct Stages {
    accepted: Histogram<u64>,
    assigned: Histogram<u64>,
    in_feed: Histogram<u64>,
    answered: Histogram<u64>,
    /// What agents got in this minute, and before.
    minute: Histogram<u64>,
    minutes: Vec<Minute>,
    /// Messages that agents have.
    pub(super) seen: u64,
    refused: u64,
}

impl Stages {
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        Ok(Self {
            accepted: histogram()?,
            assigned: histogram()?,
            in_feed: histogram()?,
            answered: histogram()?,
            minute: histogram()?,
            minutes: Vec::new(),
            seen: 0,
            refused: 0,
        })
    }

    /// Gives what was measured, and begins anew.
    pub(super) fn restart(&mut self) -> Result<Self, Failure> {
        Ok(std::mem::replace(self, Self::new()?))
    }

    /// Stored by the bus after so long; `None`: refused.
    pub(super) fn accepted(&mut self, after: Option<Duration>) {
        match after {
            Some(after) => note(&mut self.accepted, after),
            None => self.refused += 1,
        }
    }

    /// An agent has it; `begins`: with a conversation that was just given to it.
    pub(super) fn seen(&mut self, after: Duration, begins: bool) {
        note(if begins { &mut self.assigned } else { &mut self.in_feed }, after);
        note(&mut self.minute, after);
        self.seen += 1;
    }

    /// A minute is over.
    pub(super) fn minute(&mut self) -> Minute {
        let ms = |share: f64| self.minute.value_at_percentile(share) as f64 / 1000.0;
        let minute = Minute { seen: self.minute.len(), p50_ms: ms(50.0), p99_ms: ms(99.0), max_ms: ms(100.0) };
        self.minute.reset();
        self.minutes.push(minute);
        minute
    }

    pub(super) fn answered(&mut self, after: Duration) {
        note(&mut self.answered, after);
    }
}

fn note(histogram: &mut Histogram<u64>, after: Duration) {
    histogram.saturating_record(u64::try_from(after.as_micros()).unwrap_or(LONGEST_US).max(1));
}

/// One stage.
#[derive(Debug, Clone, Serialize)]
struct Stage {
    name: &'static str,
    count: u64,
    /// By share in percent, milliseconds.
    ms: Vec<(f64, f64)>,
    /// The whole distribution for the plot: share and milliseconds.
    #[serde(skip)]
    curve: Vec<(f64, f64)>,
}

/// What agents got in one minute of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Minute {
    pub(super) seen: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    wanted_per_second: f64,
    sent_per_second: f64,
    seen_per_second: f64,
    messages: u64,
    /// Not stored by the bus.
    refused: u64,
    /// Stored, and with no agent when the run ended.
    not_seen: u64,
    stages: Vec<Stage>,
    /// The whole minutes one by one: whether it gets slower with time.
    minutes: Vec<Minute>,
    machine: String,
    version: &'static str,
}

fn stage(name: &'static str, histogram: &Histogram<u64>) -> Stage {
    let ms = |share: f64| (share, histogram.value_at_percentile(share) as f64 / 1000.0);
    let steps = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99];
    Stage {
        name,
        count: histogram.len(),
        ms: SHARES.iter().copied().map(ms).collect(),
        curve: steps.iter().copied().map(ms).collect(),
    }
}

/// What the numbers were measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores ({}), {} GiB, Linux {}",
        model.trim_start_matches(['\t', ' ', ':']).trim(),
        kib.div_ceil(1024 * 1024),
        kernel.trim()
    )
}

impl Report {
    pub(super) fn new(
        rate: f64,
        messages: u64,
        sending: Duration,
        whole: Duration,
        stages: &Stages,
        answering: bool,
    ) -> Self {
        let mut list = vec![
            stage("stored by the bus", &stages.accepted),
            stage("assigned to an agent, of new conversations", &stages.assigned),
            stage("in the agent's feed, of running ones", &stages.in_feed),
        ];
        if answering {
            list.push(stage("answer at the channel", &stages.answered));
        }
        let per_second = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        Self {
            wanted_per_second: rate,
            sent_per_second: per_second(messages, sending),
            seen_per_second: per_second(stages.seen, whole),
            messages,
            refused: stages.refused,
            not_seen: stages.accepted.len().saturating_sub(stages.seen),
            stages: list,
            minutes: stages.minutes.clone(),
            machine: machine(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(super) fn text(&self) -> String {
        let rows = self.stages.iter().map(|stage| {
            let times = stage.ms.iter().map(|(_, ms)| format!("{ms:.1}"));
            [stage.name.to_owned(), stage.count.to_string()].into_iter().chain(times).collect()
        });
        let times = table(&["ms since it was due", "count", "p50", "p90", "p95", "p99", "p99.9", "max"], rows);
        format!(
            "{}\n\n{times}\n\n{} messages, {:.0} a second wanted, {:.0} sent, {:.0} with agents; {} refused, {} with nobody at the end",
            self.machine,
            self.messages,
            self.wanted_per_second,
            self.sent_per_second,
            self.seen_per_second,
            self.refused,
            self.not_seen,
        )
    }

    /// A page that needs nothing else.
    pub(super) fn page(&self) -> String {
        let mut out = String::from(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Throughline under load</title><style>\
             :root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--line:#d5dbe3;--s0:#1f5fbf;--s1:#b4530a;--s2:#1b7f4b;--s3:#8a3fb0}\
             @media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--paper:#12161c;--line:#37414d;--s0:#7fb0ff;--s1:#f0a45d;--s2:#6fd39c;--s3:#d69cf2}}\
             body{margin:0 auto;max-width:60rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}\
             .scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}\
             th:first-child{text-align:left}svg{width:100%;height:auto}svg text{fill:var(--ink);font-size:12px}.grid{stroke:var(--line)}\
             </style></head><body><main><h1>Throughline under load</h1>",
        );
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "<p>{:.0} messages a second wanted, {:.0} sent, {:.0} with agents; {} messages, {} refused, {} with nobody at the end.</p><p>{}</p>",
            self.wanted_per_second,
            self.sent_per_second,
            self.seen_per_second,
            self.messages,
            self.refused,
            self.not_seen,
            self.machine.replace('&', "&amp;").replace('<', "&lt;")
        );
        self.plot(&mut out);
        out.push_str("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">ms since it was due</th><th scope=\"col\">count</th>");
        for share in SHARES {
            let _ = write!(
                out,
                "<th scope=\"col\">{}</th>",
                if share >= 100.0 { "max".into() } else { format!("p{share}") }
            );
        }
        out.push_str("</tr></thead><tbody>");
        for stage in &self.stages {
            let _ = write!(out, "<tr><th scope=\"row\">{}</th><td>{}</td>", stage.name, stage.count);
            for (_, ms) in &stage.ms {
                let _ = write!(out, "<td>{ms:.1}</td>");
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div></main></body></html>\n");
        out
    }

    /// Time by share, both axes logarithmic: the share by how few are slower.
    fn plot(&self, out: &mut String) {
        const WIDTH: f64 = 720.0;
        const HEIGHT: f64 = 320.0;
        const LEFT: f64 = 60.0;
        const BOTTOM: f64 = 40.0;
        let tallest = self.stages.iter().flat_map(|stage| &stage.curve).map(|(_, ms)| *ms).fold(1.0, f64::max);
        let decades = tallest.log10().ceil().max(0.0) + 1.0;
        let x = |share: f64| LEFT + (WIDTH - LEFT - 10.0) * (-(1.0 - share / 100.0).max(1e-4).log10() / 4.0);
        let y = |ms: f64| (HEIGHT - BOTTOM) * (1.0 - (ms.max(0.1).log10() + 1.0) / decades).clamp(0.0, 1.0) + 10.0;
        let _ = write!(
            out,
            "<figure><figcaption>How long so many of a hundred messages took at most, from when each was due</figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Times by share; the numbers are in the table\">"
        );
        for (share, name) in [(0.0, "0 %"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %")] {
            let at = x(share);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"10\" y2=\"{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                HEIGHT - BOTTOM + 10.0,
                HEIGHT - BOTTOM + 28.0
            );
        }
        let mut ms = 0.1;
        while ms <= tallest * 10.0 {
            let at = y(ms);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms} ms</text>",
                WIDTH - 10.0,
                LEFT - 6.0,
                at + 4.0
            );
            ms *= 10.0;
        }
        for (n, stage) in self.stages.iter().enumerate().filter(|(_, stage)| stage.count > 0) {
            let points: Vec<String> =
                stage.curve.iter().map(|(share, ms)| format!("{:.1},{:.1}", x(*share), y(*ms))).collect();
            let _ = write!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--s{n})\" stroke-width=\"2\"><title>{}</title></polyline>\
                 <text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:var(--s{n})\">{}</text>",
                points.join(" "),
                stage.name,
                LEFT + 10.0,
                26.0 + 16.0 * n as f64,
                stage.name
            );
        }
        out.push_str("</svg></figure>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_nobody_got() {
        let mut stages = Stages::new().unwrap();
        for ms in 1..=100 {
            stages.accepted(Some(Duration::from_millis(ms)));
        }
        stages.accepted(None);
        stages.seen(Duration::from_millis(7), true);
        for _ in 0..97 {
            stages.seen(Duration::from_millis(9), false);
        }
        let second = Duration::from_secs(1);
        let report = Report::new(101.0, 101, second, 2 * second, &stages, false);
        assert_eq!((report.refused, report.not_seen, report.stages.len()), (1, 2, 3));
        let text = report.text();
        assert!(text.contains("49 with agents") && text.contains("1 refused, 2 with nobody"), "{text}");
        assert!((report.stages[0].ms[0].1 - 50.0).abs() < 0.1);
        let minute = stages.minute();
        assert_eq!((minute.seen, stages.minute().seen), (98, 0));
        assert!((minute.p50_ms - 9.0).abs() < 0.1 && (minute.max_ms - 9.0).abs() < 0.1, "{minute:?}");
        let page = report.page();
        assert!(page.contains("<polyline") && page.ends_with("</html>\n"));
        serde_json::to_string(&report).unwrap();
    }
}
