//! A report as one page that needs nothing else: tables, and plots as inline SVG. Colours follow the
//! reader's light or dark setting; every plot says in words what it shows, and its numbers are in a table.

use std::fmt::Write as _;

use crate::report::{Bar, Metrics, Point, Report, percent};
use crate::world::span;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#fff;--card:#f5f7fa;--line:#d5dbe3;--a:#1f5fbf;--b:#b4530a}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#a3adba;--paper:#12161c;--card:#1b2129;--line:#37414d;--a:#7fb0ff;--b:#f0a45d}}
*{box-sizing:border-box}body{margin:0 auto;max-width:70rem;padding:1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:1.5rem 0 .5rem}p{margin:.25rem 0;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}.tile b{display:block;font-size:1.35rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem}figcaption{font-weight:600}
figcaption span{font-weight:400;color:var(--soft)}svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:12px}
.grid{stroke:var(--line)}.la{stroke:var(--a);fill:none;stroke-width:2}.lb{stroke:var(--b);fill:none;stroke-width:2;stroke-dasharray:6 3}.ba{fill:var(--a)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}th:first-child,td:first-child{text-align:left}thead th{color:var(--soft);font-weight:600}
summary{cursor:pointer;color:var(--soft);min-height:2.75rem;padding:.6rem 0}a:focus-visible,summary:focus-visible{outline:3px solid var(--a)}
";

// About as wide as a phone, so that letters keep their size there.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 26.0;
const TOP: f64 = 10.0;

/// A page about one or several systems; the plots are the first one's.
#[must_use]
pub fn page(title: &str, reports: &[Report]) -> String {
    let mut out = String::new();
    let title = escape(title);
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body><main>\
         <h1>{title}</h1>"
    );
    if let Some(first) = reports.first() {
        tiles(&mut out, first);
        if reports.len() > 1 {
            compared(&mut out, reports);
        }
        plots(&mut out, first);
        groups(&mut out, first);
        agents(&mut out, first);
    }
    out.push_str("</main></body></html>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn tiles(out: &mut String, report: &Report) {
    let all = &report.overall;
    let tiles = [
        (format!("answered within {} s", report.threshold_s), percent(all.service_level)),
        ("median wait".to_owned(), span(all.wait_p50_ms as f64)),
        ("nine of ten waited at most".to_owned(), span(all.wait_p90_ms as f64)),
        ("left before an answer".to_owned(), percent(all.abandonment)),
        ("occupancy".to_owned(), percent(report.occupancy)),
        ("customers".to_owned(), all.arrived.to_string()),
    ];
    let _ = write!(out, "<p>{}</p><div class=\"tiles\">", escape(&report.system));
    for (name, value) in tiles {
        let _ = write!(out, "<div class=\"tile\"><b>{value}</b>{name}</div>");
    }
    out.push_str("</div>");
}

fn head(out: &mut String, caption: &str, columns: &[&str]) {
    let _ = write!(
        out,
        "<h2>{caption}</h2><div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><thead><tr>"
    );
    for column in columns {
        let _ = write!(out, "<th scope=\"col\">{column}</th>");
    }
    out.push_str("</tr></thead><tbody>");
}

fn line(out: &mut String, cells: &[String]) {
    out.push_str("<tr>");
    for (n, cell) in cells.iter().enumerate() {
        let tag = if n == 0 { "th scope=\"row\"" } else { "td" };
        let close = if n == 0 { "th" } else { "td" };
        let _ = write!(out, "<{tag}>{}</{close}>", escape(cell));
    }
    out.push_str("</tr>");
}

fn compared(out: &mut String, reports: &[Report]) {
    let columns = ["system", "in time", "p50", "p90", "max", "left", "occupancy", "spread of occupancy (CV)"];
    head(out, "Side by side", &columns);
    for report in reports {
        let all = &report.overall;
        line(
            out,
            &[
                report.system.clone(),
                percent(all.service_level),
                span(all.wait_p50_ms as f64),
                span(all.wait_p90_ms as f64),
                span(all.wait_max_ms as f64),
                percent(all.abandonment),
                percent(report.occupancy),
                format!("{:.2}", report.spread.busy_cv),
            ],
        );
    }
    out.push_str("</tbody></table></div>");
}

fn groups(out: &mut String, report: &Report) {
    let columns =
        ["", "came", "answered", "left", "waiting", "in time", "p50", "p90", "p99", "max", "offers each", "re-queued"];
    head(out, "By queue and channel", &columns);
    let row = |out: &mut String, name: String, metrics: &Metrics| {
        let waits = [metrics.wait_p50_ms, metrics.wait_p90_ms, metrics.wait_p99_ms, metrics.wait_max_ms];
        let mut cells = vec![
            name,
            metrics.arrived.to_string(),
            metrics.answered.to_string(),
            metrics.abandoned.to_string(),
            metrics.waiting.to_string(),
            percent(metrics.service_level),
        ];
        cells.extend(waits.map(|wait| span(wait as f64)));
        cells.extend([format!("{:.2}", metrics.offers_each), metrics.requeues.to_string()]);
        line(out, &cells);
    };
    row(out, "all".to_owned(), &report.overall);
    for (name, metrics) in &report.queues {
        row(out, format!("queue {name}"), metrics);
    }
    for (name, metrics) in &report.channels {
        row(out, format!("by {name}"), metrics);
    }
    out.push_str("</tbody></table></div>");
}

fn agents(out: &mut String, report: &Report) {
    head(out, "Agents", &["agent", "hours there", "handled", "occupancy"]);
    for agent in &report.agents {
        let there = format!("{:.1}", agent.staffed_hours);
        line(out, &[agent.agent.to_string(), there, agent.handled.to_string(), percent(agent.occupancy)]);
    }
    out.push_str("</tbody></table></div>");
}

fn plots(out: &mut String, report: &Report) {
    let curve = &report.curve;
    let seconds = |wait: fn(&Point) -> Option<u64>| -> Vec<Option<f64>> {
        curve.iter().map(|point| wait(point).map(|ms| ms as f64 / 1000.0)).collect()
    };
    out.push_str("<h2>Over time</h2><div class=\"plots\">");
    let waits = [seconds(|point| point.wait_p50_ms), seconds(|point| point.wait_p90_ms)];
    curves(
        out,
        "Waits",
        "seconds until somebody was there, by arrival; solid: median, dashed: nine of ten",
        curve,
        &waits,
        "s",
    );
    let waiting: Vec<Option<f64>> = curve.iter().map(|point| Some(point.waiting)).collect();
    curves(out, "Queue length", "customers who wait", curve, &[waiting], "");
    let occupancy: Vec<Option<f64>> = curve.iter().map(|point| Some(point.occupancy * 100.0)).collect();
    curves(out, "Occupancy", "units in use, in % of the units of those who are there", curve, &[occupancy], "%");
    histogram(out, &report.histogram);
    loads(out, report);
    out.push_str("</div>");
}

fn open(out: &mut String, name: &str, what: &str, said: &str, height: f64) {
    let _ = write!(
        out,
        "<figure><figcaption>{name} <span>{what}</span></figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{name}: {}\"><title>{name}: {what}</title>",
        escape(said)
    );
}

/// The next round number, so that grid lines have labels that can be read.
fn round_up(number: f64) -> f64 {
    let magnitude = 10_f64.powf(number.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0];
    steps.iter().map(|step| step * magnitude).find(|round| *round >= number).unwrap_or(number)
}

fn grid(out: &mut String, max: f64, unit: &str) {
    for part in 0..=4 {
        let value = max * f64::from(part) / 4.0;
        let y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * f64::from(part) / 4.0;
        let label = if max < 8.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}{unit}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
}

fn curves(out: &mut String, name: &str, what: &str, curve: &[Point], lines: &[Vec<Option<f64>>], unit: &str) {
    let known = || lines.iter().flatten().flatten();
    let highest = known().copied().fold(0.0, f64::max);
    let mean = known().sum::<f64>() / known().count().max(1) as f64;
    let said = format!("{what}. At most {highest:.1}{unit}, on average {mean:.1}{unit}.");
    open(out, name, what, &said, HEIGHT);
    let max = round_up(highest.max(1.0));
    grid(out, max, unit);
    let step = (WIDTH - LEFT - 8.0) / (curve.len().max(2) - 1) as f64;
    for (line, class) in lines.iter().zip(["la", "lb"]) {
        let mut path = String::new();
        let mut drawing = false;
        for (n, value) in line.iter().enumerate() {
            let Some(value) = value else {
                // Where nobody came there is nothing to draw.
                drawing = false;
                continue;
            };
            let (x, y) = (LEFT + step * n as f64, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / max);
            let _ = write!(path, "{}{x:.1} {y:.1}", if drawing { 'L' } else { 'M' });
            if !drawing {
                // A single point is drawn too.
                let _ = write!(path, "h1");
            }
            drawing = true;
        }
        let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    let last = curve.last().map_or(0.0, |point| point.at_ms as f64);
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let anchor = ["start", "middle", "middle", "middle", "end"].get(part as usize).copied().unwrap_or("middle");
        let hours = last * share / 3_600_000.0;
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{hours:.1} h</text>",
            LEFT + (WIDTH - LEFT - 8.0) * share,
            HEIGHT - 8.0
        );
    }
    out.push_str("</svg></figure>");
}

fn histogram(out: &mut String, bars: &[Bar]) {
    let highest = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let total: u64 = bars.iter().map(|bar| bar.count).sum();
    let what = "answered customers by their wait";
    let words: Vec<String> = bars.iter().map(|bar| format!("{}: {}", bound(bar), bar.count)).collect();
    open(out, "Histogram", what, &format!("{what}. {total} in all. {}.", words.join(", ")), HEIGHT);
    let max = round_up((highest as f64).max(4.0));
    grid(out, max, "");
    let step = (WIDTH - LEFT - 10.0) / bars.len().max(1) as f64;
    for (n, bar) in bars.iter().enumerate() {
        let height = (HEIGHT - BOTTOM - TOP) * bar.count as f64 / max;
        let x = LEFT + step * n as f64;
        let _ = write!(
            out,
            "<rect class=\"ba\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}: {}</title></rect>",
            x + 2.0,
            HEIGHT - BOTTOM - height,
            step - 4.0,
            bound(bar),
            bar.count,
        );
        // There is room for every second name.
        if n % 2 == 1 {
            let (x, y) = (x + step / 2.0, HEIGHT - 8.0);
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.0}\" text-anchor=\"middle\">{}</text>", bound(bar));
        }
    }
    out.push_str("</svg></figure>");
}

fn bound(bar: &Bar) -> String {
    match bar.up_to_s {
        None => "more".to_owned(),
        Some(seconds) if seconds >= 3600 => format!("{} h", seconds / 3600),
        Some(seconds) if seconds >= 60 => format!("{} m", seconds / 60),
        Some(seconds) => format!("{seconds} s"),
    }
}

fn loads(out: &mut String, report: &Report) {
    let agents: Vec<_> = report.agents.iter().take(40).collect();
    let height = 24.0 * agents.len() as f64 + 12.0;
    let what = "occupancy of each agent";
    let words: Vec<String> =
        agents.iter().map(|agent| format!("{} {}", agent.agent, percent(agent.occupancy))).collect();
    open(out, "Load", what, &words.join(", "), height);
    let (left, room) = (90.0, WIDTH - 90.0 - 52.0);
    for (n, agent) in agents.iter().enumerate() {
        let y = 6.0 + 24.0 * n as f64;
        let width = room * agent.occupancy.clamp(0.0, 1.0);
        let _ = write!(
            out,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><rect class=\"ba\" x=\"{left}\" y=\"{:.0}\" \
             width=\"{width:.1}\" height=\"16\"/><text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            left - 8.0,
            y + 14.0,
            escape(&agent.agent),
            y + 2.0,
            left + width + 6.0,
            y + 14.0,
            percent(agent.occupancy)
        );
    }
    out.push_str("</svg></figure>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_names_are_escaped() {
        let report = Report { system: "<b>&".to_owned(), ..Report::default() };
        let page = page("a < b", &[report.clone(), report]);
        assert!(page.contains("&lt;b&gt;&amp;") && page.contains("a &lt; b"));
        for outside in ["http:", "https:", "<script", "<link", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme") && page.matches("role=\"img\"").count() == 5);
    }

    #[test]
    fn round_numbers() {
        assert_eq!([1.0, 3.0, 11.0, 99.0].map(round_up).map(|round| format!("{round}")), ["1", "4", "20", "100"]);
    }
}
