//! What is measured is described, and what can pile up is measured: `deploy/METRICS.md` beside the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use throughline_tests::daemon::root;

const PAGE: &str = "deploy/METRICS.md";

/// What holds something until somebody comes for it.
const QUEUES: &[&str] = &[
    "mpsc::channel",
    "mpsc::sync_channel",
    "broadcast::channel",
    "broadcast::Sender::new",
    "VecDeque",
    "FuturesOrdered",
    "FuturesUnordered",
    "JoinSet",
    "Semaphore::new",
];

/// What the names of metrics begin with.
const FAMILIES: &[&str] = &["router_", "adapter_", "chat_", "email_", "social_", "bus_", "process_"];

/// The sources of all crates by path, without tests and comments.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        walk(&entry.unwrap().path().join("src"), &mut found);
    }
    assert!(found.len() > 200, "{} sources", found.len());
    found
}

fn walk(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "tests" || name == "tests.rs" {
            continue;
        }
        if path.is_dir() {
            walk(&path, into);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            into.insert(name, code.join("\n"));
        }
    }
}

/// The names of the metrics: those that the enums give, those that stand where they are written, and those of the process.
fn measured(sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (file, code) in sources {
        let of_enum = code.contains("enum Metric {");
        for line in code.lines() {
            let given = (of_enum && line.trim_start().starts_with("Self::")).then_some("=> \"");
            let marks = given.into_iter().chain(["counter!(\"", "gauge!(\"", "histogram!(\""]);
            let quoted = marks.filter_map(|mark| line.split_once(mark)?.1.split('"').next());
            names.extend(quoted.map(str::to_owned));
        }
        if file == "crates/runtime/src/metrics.rs" {
            let words = code.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            names.extend(words.filter(|word| word.starts_with("process_")).map(str::to_owned));
        }
    }
    assert!(names.len() > 80, "{names:?}");
    names
}

/// The page, in two: the metrics, and the queues.
fn page() -> (String, String) {
    let text = fs::read_to_string(root().join(PAGE)).unwrap();
    let (metrics, queues) = text.split_once("\n## Queues\n").expect("the page says what can pile up");
    (metrics.to_owned(), queues.to_owned())
}

/// The cells of every row of a page's tables that begins with a name.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches(['|', ' ']).split('|').map(str::trim).collect()).collect()
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}\n", broken.join("\n  "));
}

#[test]
fn metrics_each_is_described() {
    let measured = measured(&sources());
    let (page, _) = page();
    let mut described = BTreeSet::new();
    let mut broken = Vec::new();
    for row in rows(&page) {
        let [name, kind, _, unit, meaning] = row[..] else { panic!("{PAGE}: {row:?} has not five cells") };
        let name = name.trim_matches('`');
        if !described.insert(name.to_owned()) {
            broken.push(format!("{name} stands there twice"));
        }
        if !measured.contains(name) {
            broken.push(format!("{name} is not measured by anybody"));
        }
        if !["counter", "gauge", "histogram"].contains(&kind) || (kind == "counter") != name.ends_with("_total") {
            broken.push(format!("{name} is no {kind:?}"));
        }
        if unit.is_empty() || meaning.is_empty() {
            broken.push(format!("{name} has no unit or no meaning"));
        }
    }
    broken.extend(measured.difference(&described).map(|name| format!("{name} is not described")));
    let families = |name: &&String| !FAMILIES.iter().any(|family| name.starts_with(family));
    broken.extend(measured.iter().filter(families).map(|name| format!("{name} begins like no other metric")));
    report(&format!("{PAGE} and the sources differ"), &broken);
}

/// What a constant is, where that is a plain number.
fn number<'a>(code: &'a str, constant: &str) -> Option<Option<&'a str>> {
    let (_, rest) = code.split_once(&format!("const {constant}:"))?;
    let value = rest.split_once("= ")?.1.split(';').next()?;
    Some(value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_').then_some(value))
}

#[test]
fn metrics_each_queue_has_a_bound_and_a_depth() {
    let sources = sources();
    let measured = measured(&sources);
    let holds = |code: &str| QUEUES.iter().find(|sign| code.contains(*sign));
    let (_, page) = page();
    let (mut listed, mut shown, mut broken) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for row in rows(&page) {
        let [files, what, bound, depth] = row[..] else { panic!("{PAGE}: {row:?} has not four cells") };
        let files: Vec<&str> = quoted(files).collect();
        let code: Vec<&String> = files.iter().filter_map(|file| sources.get(*file)).collect();
        if code.len() < files.len() || !code.iter().any(|code| holds(code).is_some()) {
            broken.push(format!("{files:?}: there is no such file, or nothing in it that holds anything"));
        }
        if what.is_empty() || bound.is_empty() {
            broken.push(format!("{files:?}: it is not said what waits, or how much at most"));
        }
        let is_constant = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        for constant in quoted(bound).filter(is_constant) {
            match code.iter().find_map(|code| number(code, constant)) {
                None => broken.push(format!("{files:?}: there is no constant {constant}")),
                Some(None) => {}
                Some(Some(value)) => {
                    let (value, said) = (value.replace('_', ""), bound.replace(',', ""));
                    if !said.split(|c: char| !c.is_ascii_digit()).any(|number| number == value) {
                        broken.push(format!("{files:?}: {constant} is {value}, not what is said"));
                    }
                }
            }
        }
        let is_metric = |word: &&str| FAMILIES.iter().any(|family| word.starts_with(family));
        let gauges: Vec<&str> = quoted(depth).filter(is_metric).collect();
        let unknown = gauges.iter().filter(|name| !measured.contains(**name));
        broken.extend(unknown.map(|name| format!("there is no {name}")));
        if gauges.is_empty() && !depth.starts_with("none: ") {
            broken.push(format!("{files:?}: no metric tells its depth, and it is not said why (`none: …`)"));
        }
        shown.extend(gauges);
        listed.extend(files);
    }
    for (file, code) in &sources {
        if let Some(sign) = holds(code)
            && !listed.contains(file.as_str())
        {
            broken.push(format!(
                "{file} has a {sign}: give it a bound and a gauge (`…_queued`, `…_in_flight`), and a row under \"Queues\""
            ));
        }
    }
    let depths = measured.iter().filter(|name| name.ends_with("_queued") || name.ends_with("_in_flight"));
    let unused = depths.filter(|name| !shown.contains(name.as_str()));
    broken.extend(unused.map(|name| format!("{name} is the depth of no queue")));
    report(&format!("{PAGE} and what can pile up in the sources differ"), &broken);
}
