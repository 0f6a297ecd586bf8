//! The rules of the house that no compiler checks: which crate may import which, what may come in
//! from outside, and what may not stand in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may import whom, by package name without the prefix; the arrows point down only.
const ARROWS: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("runtime", &[]),
    ("policy", &["contract"]),
    ("engine", &["contract", "policy"]),
    ("profile", &["contract"]),
    ("bus", &["contract"]),
    ("adapter", &["contract", "bus", "runtime"]),
    ("channel-*", &["adapter"]),
    ("router", &["contract", "policy", "engine", "profile", "bus", "runtime"]),
    ("desk", &["contract", "bus", "runtime"]),
    ("simulator", &["contract", "policy", "engine", "profile"]),
    ("daemon", &["*"]),
    ("tests", &["*"]),
    ("benches", &["*"]),
    ("bench-engine", &["contract", "policy", "engine", "profile"]),
];

/// Crates that decide without a clock, a bus or a die.
const PURE: &[&str] = &["throughline-contract", "throughline-policy", "throughline-engine", "throughline-profile"];

/// What a pure crate may not have anywhere below it.
const IMPURE: &[&str] = &[
    "async-nats",
    "tokio",
    "mio",
    "async-std",
    "smol",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "socket2",
    "hyper",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_path_buf()
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("text"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The dependency graph of this machine's platform.
struct Graph {
    packages: BTreeMap<String, Value>,
    nodes: BTreeMap<String, Value>,
    members: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let version = run("rustc", &["-vV"]).expect("rustc");
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("host");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
        let offline: Vec<_> = arguments.into_iter().chain(["--offline"]).collect();
        // Offline where everything is there already, which it is after a build.
        let text = run(&cargo, &offline).or_else(|_| run(&cargo, &arguments)).expect("cargo metadata");
        let metadata: Value = serde_json::from_str(&text).expect("JSON");
        let by_id = |list: &Value| {
            let list = list.as_array().expect("a list").iter();
            list.map(|item| (item["id"].as_str().expect("an id").to_owned(), item.clone())).collect::<BTreeMap<_, _>>()
        };
        let members = metadata["workspace_members"].as_array().expect("a list").iter();
        Self {
            packages: by_id(&metadata["packages"]),
            nodes: by_id(&metadata["resolve"]["nodes"]),
            members: members.map(|id| id.as_str().expect("an id").to_owned()).collect(),
        }
    }

    fn name(&self, id: &str) -> &str {
        self.packages[id]["name"].as_str().expect("a name")
    }

    /// What a package depends on directly: the id, and whether it is needed for more than tests.
    fn dependencies(&self, id: &str) -> Vec<(&str, bool)> {
        let dependencies = self.nodes[id]["deps"].as_array().expect("a list").iter();
        dependencies
            .map(|dependency| {
                let kinds = dependency["dep_kinds"].as_array().expect("a list");
                let shipped = kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev"));
                (dependency["pkg"].as_str().expect("an id"), shipped)
            })
            .collect()
    }

    /// Everything below a package, tests aside, each with the package that brings it in.
    fn closure<'a>(&'a self, id: &'a str) -> BTreeMap<&'a str, &'a str> {
        let mut found = BTreeMap::new();
        let mut open = vec![id];
        while let Some(above) = open.pop() {
            for (below, shipped) in self.dependencies(above) {
                if shipped && !found.contains_key(below) {
                    found.insert(below, above);
                    open.push(below);
                }
            }
        }
        found
    }
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}\n", broken.join("\n  "));
}

#[test]
fn house_arrows_point_down() {
    let graph = Graph::read();
    let mut broken = Vec::new();
    for id in &graph.members {
        let name = graph.name(id).trim_start_matches("throughline-");
        let kind = if name.starts_with("channel-") { "channel-*" } else { name };
        let Some((_, allowed)) = ARROWS.iter().find(|(above, _)| *above == kind) else {
            broken.push(format!("{name} has no place in the house yet; give it one in this test"));
            continue;
        };
        for (below, _) in graph.dependencies(id) {
            let below = graph.name(below);
            let Some(below) = below.strip_prefix("throughline-") else { continue };
            if !allowed.contains(&"*") && !allowed.contains(&below) {
                broken.push(format!("{name} -> {below}"));
            }
        }
    }
    report("arrows point down only", &broken);
}

#[test]
fn house_pure_crates_stay_pure() {
    let graph = Graph::read();
    let mut broken = Vec::new();
    for id in graph.members.iter().filter(|id| PURE.contains(&graph.name(id))) {
        for (below, by) in graph.closure(id) {
            if IMPURE.contains(&graph.name(below)) {
                broken.push(format!("{}: {} by way of {}", graph.name(id), graph.name(below), graph.name(by)));
            }
        }
    }
    report("no runtime, network or randomness below the pure crates", &broken);
}

#[test]
fn house_the_bus_has_one_door() {
    let graph = Graph::read();
    let users: BTreeSet<_> = graph
        .nodes
        .keys()
        .filter(|id| graph.dependencies(id).iter().any(|(below, _)| graph.name(below) == "async-nats"))
        .map(|id| graph.name(id))
        .collect();
    assert_eq!(users, ["throughline-bus"].into(), "only the bus crate may use async-nats");
}

#[test]
fn house_licences_are_on_the_list() {
    let allowed = allowed_licences();
    assert!(allowed.contains("Apache-2.0"), "the list in .cargo/deny.toml was not found");
    let graph = Graph::read();
    let mut broken = Vec::new();
    for id in graph.nodes.keys() {
        match graph.packages[id]["license"].as_str() {
            Some(expression) if permits(expression, &allowed) => {}
            Some(expression) => broken.push(format!("{}: {expression}", graph.name(id))),
            None => broken.push(format!("{}: none told", graph.name(id))),
        }
    }
    report("licences that .cargo/deny.toml does not allow", &broken);
}

/// The list of `.cargo/deny.toml`, so that there is only one.
fn allowed_licences() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(".cargo/deny.toml")).expect("readable");
    let list = text.lines().skip_while(|line| !line.starts_with("allow = [")).skip(1);
    let list = list.take_while(|line| !line.starts_with(']'));
    list.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with the licences allowed.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let permitted = any_of(&mut words, allowed);
    permitted && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut permitted = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        permitted |= all_of(words, allowed);
    }
    permitted
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut permitted = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        permitted &= one(words, allowed);
    }
    permitted
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let permitted = any_of(words, allowed);
        return words.next_if_eq(&")").is_some() && permitted;
    }
    let mut licence = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

#[test]
fn house_expressions_of_licences_are_understood() {
    let allowed: BTreeSet<_> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-3.0 OR MIT) AND ISC", "Apache-2.0 WITH LLVM-exception"] {
        assert!(permits(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "GPL-3.0 AND MIT", "MIT AND (GPL-3.0 OR Apache-2.0)", "Apache-2.0", "MIT MIT"] {
        assert!(!permits(bad, &allowed), "{bad}");
    }
}

/// Every file that is, or could be, committed, with its text.
fn files() -> Vec<(String, String)> {
    let listed = run("git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let names: Vec<String> = match listed {
        Ok(listed) => listed.split_terminator('\0').map(str::to_owned).collect(),
        // Not a clone: an unpacked archive.
        Err(_) => walk(Path::new("")),
    };
    // What is not text (pictures) or is gone from the tree has no lines to check.
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), std::fs::read_to_string(root().join(&name)).ok()?)))
        .collect()
}

fn walk(below: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join(below)).expect("readable") {
        let entry = entry.expect("readable");
        let path = below.join(entry.file_name());
        let name = path.to_str().expect("text").to_owned();
        if entry.file_type().expect("a type").is_dir() {
            if !["target", ".tools", "data", ".venv", ".git", "fuzz/target", "fuzz/corpus"].contains(&name.as_str()) {
                names.extend(walk(&path));
            }
        } else {
            names.push(name);
        }
    }
    names
}

#[test]
fn house_files_are_fit_to_publish() {
    // Put together here, or this file would be the first to be found.
    let unfinished = [concat!("to", "do!"), concat!("un", "implemented!")];
    let homes = [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/")];
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let mut broken = Vec::new();
    for (name, text) in files() {
        for (n, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", n + 1);
            if name.ends_with(".rs") && unfinished.iter().any(|word| line.contains(word)) {
                broken.push(format!("{place}: unfinished"));
            }
            if homes.iter().any(|home| mentions(line, home)) {
                broken.push(format!("{place}: a path of somebody's machine"));
            }
            if name.ends_with("Cargo.lock") && line.starts_with("source = ") && !line.contains(registry) {
                broken.push(format!("{place}: a crate from elsewhere than the public registry"));
            }
        }
    }
    report("files that are not fit to publish", &broken);
}

/// Whether `line` names something below the folder `home`, as an absolute path.
fn mentions(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + home.len()..].chars().next();
        // In "https://example.org/srv/" and "a/home/b" it is not the beginning of a path.
        !before.is_some_and(|c| c.is_alphanumeric() || "/._-~})>*".contains(c))
            && after.is_some_and(char::is_alphanumeric)
    })
}

#[test]
fn house_paths_of_machines_are_recognised() {
    let home = concat!("/", "home/");
    assert!(mentions(&format!("open(\"{home}ann/x\")"), home));
    assert!(mentions(&format!("{home}ann"), home));
    assert!(!mentions(&format!("https://example.org{home}ann"), home));
    assert!(!mentions(&format!("`{home}`"), home));
}

#[test]
fn house_every_crate_keeps_the_lints() {
    let graph = Graph::read();
    let mut broken = Vec::new();
    for id in &graph.members {
        let manifest = graph.packages[id]["manifest_path"].as_str().expect("a path");
        if Path::new(manifest).starts_with(root().join("crates")) {
            let text = std::fs::read_to_string(manifest).expect("readable");
            if !text.contains("[lints]\nworkspace = true") {
                broken.push(graph.name(id).to_owned());
            }
        }
    }
    report("crates without `[lints] workspace = true`", &broken);
}

/// Fails nothing: large files are a question, not a mistake.
#[test]
fn house_largest_files() {
    let mut sizes: Vec<_> = files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .map(|(name, text)| (text.lines().count(), name))
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    println!("the ten largest source files:");
    for (lines, name) in sizes.iter().take(10) {
        println!("{lines:6} {name}");
    }
}
