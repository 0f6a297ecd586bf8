//! Files made a policy, and every problem with its place.
//!
//! The files are put together as trees in which every value knows where it stands. Reading a tree into the
//! schema stops at the first mistake; it is said, taken out, and the rest read again, so that one look shows
//! them all.

use std::collections::BTreeMap;

use contract::policy::{Policy, Problem};
use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue};

use crate::check::check;

/// Most mistakes of one policy that are told apart: each takes reading it all again.
const MISTAKES_MAX: usize = 50;

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The file, by the name it was given with. Empty: of no file in particular.
    pub file: String,
    /// From 1; 0: of no line in particular.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The field, like `queues.support.skills`; numbers of lists from 0. Empty: of none in particular.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl std::fmt::Display for Located {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, column: _, path, message } = self;
        match (file.as_str(), *line) {
            ("", _) => {}
            (file, 0) => write!(f, "{file}: ")?,
            (file, line) => write!(f, "{file}:{line}: ")?,
        }
        if path.is_empty() { f.write_str(message) } else { write!(f, "{path}: {message}") }
    }
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The policy, when there is no problem.
    pub policy: Option<Policy>,
    /// It cannot be applied because of these; in the order of the files.
    pub problems: Vec<Located>,
    /// It can be applied, and will hardly do what is meant.
    pub warnings: Vec<Located>,
}

/// Reads the files of a policy, each a name and a text. Tables of the same name are put together; a key that
/// stands in two files is a problem.
#[must_use]
pub fn load(files: &[(String, String)]) -> Loaded {
    let mut found = Vec::new();
    let mut whole = Node { place: None, value: Tree::Table(BTreeMap::new()) };
    let mut readable = true;
    for (n, (_, text)) in files.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            found.push(Found::new(Some(Place { file: n, at }), "", sentence(error.message())));
        }
        if errors.is_empty() {
            let node = Node { place: None, value: tree_of_table(table.get_ref(), n, "", &mut found) };
            merge(&mut whole, node, "", files, &mut found);
        } else {
            readable = false;
        }
    }
    // What refers to a file that cannot be read would only seem to be wrong.
    let whole_files = readable && found.is_empty();
    let (policy, mistakes) = read(&mut whole, &mut found);
    let mut loaded = Loaded::default();
    if let Some(policy) = policy.filter(|_| whole_files) {
        let report = check(&policy);
        let clean = found.is_empty();
        let problems = report.problems.iter().map(|problem| whole.find(problem));
        found.extend(problems.filter(|problem| !mistakes.iter().any(|mistake| mistake.explains(problem))));
        // Warnings about half a policy would mislead.
        if clean {
            let warnings = report.warnings.iter().map(|problem| whole.find(problem)).collect();
            loaded.warnings = located(warnings, files);
        }
        loaded.policy = Some(policy).filter(|_| found.is_empty());
    }
    loaded.problems = located(found, files);
    loaded
}

/// Where something stands: the number of the file, and the byte in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: usize,
    at: usize,
}

struct Found {
    place: Option<Place>,
    path: String,
    message: String,
}

impl Found {
    fn new(place: Option<Place>, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, path: path.into(), message: message.into() }
    }
}

fn located(mut found: Vec<Found>, files: &[(String, String)]) -> Vec<Located> {
    found.sort_by(|a, b| (a.place, &a.path).cmp(&(b.place, &b.path)));
    let place = |found: Found| {
        let Found { place, path, message } = found;
        let (file, text, at) = match place.and_then(|place| Some((files.get(place.file)?, place.at))) {
            Some(((name, text), at)) => (name.clone(), text.get(..at).unwrap_or_default(), at),
            None => (String::new(), "", 0),
        };
        let known = !file.is_empty() || at > 0;
        let line = if known { text.matches('\n').count() + 1 } else { 0 };
        let column = if known { text.chars().rev().take_while(|c| *c != '\n').count() + 1 } else { 0 };
        Located { file, line, column, path, message }
    };
    found.into_iter().map(place).collect()
}

/// A value of a file, and where it stands.
#[derive(Debug)]
struct Node {
    place: Option<Place>,
    value: Tree,
}

#[derive(Debug)]
enum Tree {
    Table(BTreeMap<String, Node>),
    /// Each with its number in the file, which stays when one before it is taken out.
    List(Vec<(usize, Node)>),
    Leaf(toml::Value),
}

// === from text to tree ===

fn tree_of_table(table: &DeTable<'_>, file: usize, path: &str, found: &mut Vec<Found>) -> Tree {
    let entries = table.iter().map(|(key, value)| {
        let place = Some(Place { file, at: key.span().start });
        let name = key.get_ref().to_string();
        let value = tree(value.get_ref(), file, place, &join(path, &name), found);
        (name, Node { place, value })
    });
    Tree::Table(entries.collect())
}

fn tree(value: &DeValue<'_>, file: usize, place: Option<Place>, path: &str, found: &mut Vec<Found>) -> Tree {
    Tree::Leaf(match value {
        DeValue::Table(table) => return tree_of_table(table, file, path, found),
        DeValue::Array(list) => {
            let elements = list.iter().enumerate().map(|(n, element)| {
                let value = tree(element.get_ref(), file, place, &format!("{path}[{n}]"), found);
                // A table under [[header]] is said to stand at its header.
                (n, Node { place: Some(Place { file, at: element.span().start }), value })
            });
            return Tree::List(elements.collect());
        }
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Boolean(yes) => toml::Value::Boolean(*yes),
        DeValue::Datetime(datetime) => toml::Value::Datetime(*datetime),
        DeValue::Float(number) => toml::Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => toml::Value::Integer(number),
            Err(_) => {
                found.push(Found::new(place, path, "is too large a number"));
                toml::Value::Integer(0)
            }
        },
    })
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Puts one tree into another.
fn merge(into: &mut Node, from: Node, path: &str, files: &[(String, String)], found: &mut Vec<Found>) {
    let (Tree::Table(into), Tree::Table(from)) = (&mut into.value, from.value) else { return };
    for (key, node) in from {
        let path = join(path, &key);
        match into.get_mut(&key) {
            None => {
                into.insert(key, node);
            }
            Some(there) if matches!((&there.value, &node.value), (Tree::Table(_), Tree::Table(_))) => {
                merge(there, node, &path, files, found);
            }
            Some(there) => {
                let other =
                    there.place.and_then(|place| files.get(place.file)).map_or("another file", |(name, _)| name);
                found.push(Found::new(node.place, path, format!("stands in {other} too")));
            }
        }
    }
}

// === from tree to policy ===

/// Something that was taken out because it could not be read.
struct Mistake {
    path: String,
    /// There is no such field, so that nothing follows from its absence.
    unknown: bool,
}

impl Mistake {
    /// Whether a problem may be there only because something was taken out: it is about the same thing, or
    /// names what is gone.
    fn explains(&self, problem: &Found) -> bool {
        let (parent, name) = self.path.rsplit_once('.').unwrap_or((&self.path, &self.path));
        let about = problem.path.strip_prefix(parent);
        let same = about.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        !self.unknown && (same || problem.message.contains(&format!("{name:?}")))
    }
}

/// Reads the tree, taking out what cannot be read.
fn read(whole: &mut Node, found: &mut Vec<Found>) -> (Option<Policy>, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    while mistakes.len() < MISTAKES_MAX {
        let error = match serde_path_to_error::deserialize::<_, Policy>(whole.to_value()) {
            Ok(policy) => return (Some(policy), mistakes),
            Err(error) => error,
        };
        let message = error.inner().message().to_owned();
        let unknown = quoted(&message, "unknown field `");
        let mut steps: Vec<Step> = error.path().iter().filter_map(Step::of).collect();
        steps.extend(unknown.iter().map(|name| Step::Key((*name).to_owned())));
        let (place, path) = whole.take(&steps);
        found.push(Found::new(place, &path, sentence(&message)));
        let unknown = unknown.is_some();
        if path.is_empty() {
            break;
        }
        mistakes.push(Mistake { path, unknown });
    }
    (None, mistakes)
}

/// A step of the way to a value.
enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    fn of(segment: &Segment) -> Option<Self> {
        match segment {
            Segment::Map { key } | Segment::Enum { variant: key } => Some(Self::Key(key.clone())),
            Segment::Seq { index } => Some(Self::Index(*index)),
            Segment::Unknown => None,
        }
    }
}

impl Node {
    fn to_value(&self) -> toml::Value {
        match &self.value {
            Tree::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), node.to_value())).collect())
            }
            Tree::List(list) => toml::Value::Array(list.iter().map(|(_, node)| node.to_value()).collect()),
            Tree::Leaf(value) => value.clone(),
        }
    }

    /// Takes out the value at the end of the way, or as far as the way goes: its place and its path.
    fn take(&mut self, way: &[Step]) -> (Option<Place>, String) {
        let mut path = String::new();
        let mut at = self;
        // How far there is something.
        let mut known = 0;
        let mut look = &*at;
        for step in way {
            let next = match (&look.value, step) {
                (Tree::Table(table), Step::Key(key)) => table.get(key),
                (Tree::List(list), Step::Index(n)) => list.get(*n).map(|(_, node)| node),
                _ => None,
            };
            let Some(next) = next else { break };
            look = next;
            known += 1;
        }
        for (n, step) in way.iter().take(known).enumerate() {
            let last = n + 1 == known;
            match (&mut at.value, step) {
                (Tree::Table(table), Step::Key(key)) => {
                    path = join(&path, key);
                    if last {
                        return (table.remove(key).and_then(|node| node.place), path);
                    }
                    let Some(next) = table.get_mut(key) else { break };
                    at = next;
                }
                (Tree::List(list), Step::Index(index)) if *index < list.len() => {
                    let number = list.get(*index).map_or(*index, |(number, _)| *number);
                    path = format!("{path}[{number}]");
                    if last {
                        return (list.remove(*index).1.place, path);
                    }
                    let Some((_, next)) = list.get_mut(*index) else { break };
                    at = next;
                }
                _ => break,
            }
        }
        (None, String::new())
    }

    /// The place of a problem: of its field, or of the nearest thing around it that has one.
    fn find(&self, problem: &Problem) -> Found {
        let mut place = None;
        let mut path = String::new();
        let mut rest = problem.path.as_str();
        let mut at = self;
        loop {
            let next = match &at.value {
                // Names may hold dots themselves: the longest that fits.
                Tree::Table(table) => {
                    let fitting = table.iter().filter_map(|(key, node)| {
                        let after = rest.strip_prefix(key.as_str())?;
                        (after.is_empty() || after.starts_with(['.', '['])).then_some((key, node, after))
                    });
                    fitting.max_by_key(|(key, ..)| key.len()).map(|(key, node, after)| (join(&path, key), node, after))
                }
                Tree::List(list) => rest.strip_prefix('[').and_then(|rest| {
                    let (number, after) = rest.split_once(']')?;
                    let (number, node) = list.get(number.parse::<usize>().ok()?)?;
                    Some((format!("{path}[{number}]"), node, after))
                }),
                Tree::Leaf(_) => None,
            };
            let Some((further, node, after)) = next else { break };
            path = further;
            place = node.place.or(place);
            rest = after.strip_prefix('.').unwrap_or(after);
            at = node;
        }
        // What is not in the file keeps its name.
        let path = match rest {
            "" => path,
            rest if rest.starts_with('[') => format!("{path}{rest}"),
            rest => join(&path, rest),
        };
        Found::new(place, path, problem.message.clone())
    }
}

// === words ===

/// What stands in backquotes after a beginning.
fn quoted<'a>(message: &'a str, beginning: &str) -> Option<&'a str> {
    message.strip_prefix(beginning)?.split_once('`').map(|(name, _)| name)
}

/// What a parser says, in words for people who write policies.
fn sentence(message: &str) -> String {
    let message = message.trim().replace('\n', ", ");
    for (beginning, what) in [("unknown field `", "field"), ("unknown variant `", "word")] {
        if let Some(name) = quoted(&message, beginning) {
            // All in backquotes after the first are those that there are.
            let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
            return match near(name, &known) {
                Some(meant) => format!("there is no {what} {name:?} here; is {meant:?} meant?"),
                None if known.is_empty() => format!("there is no {what} {name:?} here"),
                None => format!("there is no {what} {name:?} here; there are {}", known.join(", ")),
            };
        }
    }
    if let Some(name) = quoted(&message, "missing field `") {
        return format!("{name:?} is needed");
    }
    message
}

/// The word that was probably meant.
fn near<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let far = (name.chars().count() * 2 / 5).clamp(1, 3);
    let distances = known.iter().map(|word| (distance(name, word), *word));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, word)| word)
}

/// How many letters must be put in, left out or replaced to make one word another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, from) in a.chars().enumerate() {
        let mut next = vec![n + 1];
        for ((to, above), before) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((before + usize::from(from != *to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
