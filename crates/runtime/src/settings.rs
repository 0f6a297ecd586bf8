//! Settings in layers: compiled-in defaults, files, environment, flags; the later one wins, key by
//! key.
//!
//! Whatever the layers say must be wanted: a key that no struct has is refused with its path and
//! the place it came from, and so is a value of the wrong type or out of its type's range. All
//! problems are reported together, so that an operator mends a file once.
//!
//! Files are strict about types. Environment and flags carry only text, so their values are read
//! as TOML where they are TOML (`4222`, `true`, `["a", "b"]`) and as plain text where that is what
//! the setting wants.

mod decode;
mod layer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use layer::Layer;

/// Variables that begin with this are settings: `THROUGHLINE__BUS__PORT` is `bus.port`.
pub const ENVIRONMENT_PREFIX: &str = "THROUGHLINE__";

/// One thing wrong with the settings, shown as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, like `bus.port`; empty when the whole source is meant.
    pub path: String,
    /// Where it came from: a file, a variable, a flag.
    pub source: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// A problem of one setting.
    pub fn new(path: impl Into<String>, source: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), source: source.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one_line = |text: &str| text.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
        if !self.source.is_empty() {
            write!(f, "{}: ", one_line(&self.source))?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", one_line(&self.path))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

impl std::error::Error for Problem {}

/// Puts the layers of the settings on top of each other. Whichever order it is told in, files beat
/// the defaults, environment beats files and flags beat the environment.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    defaults: Layer,
    files: Vec<Layer>,
    environment: Layer,
    flags: Layer,
    texts: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Loader {
    /// Begins with the compiled-in defaults.
    #[must_use]
    pub fn new(default_toml: &str) -> Self {
        let mut loader = Self::default();
        match Layer::from_toml(default_toml, "built-in defaults") {
            Ok(layer) => loader.defaults = layer,
            Err(problem) => loader.problems.push(problem),
        }
        loader
    }

    /// Adds a file. It must exist.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        match read(path.as_ref()) {
            Ok(layer) => self.files.push(layer),
            Err(problem) => self.problems.push(problem),
        }
        self
    }

    /// Adds every `*.toml` of a folder, which must exist, as one layer: no setting may stand in two
    /// of its files.
    #[must_use]
    pub fn dir(mut self, path: impl AsRef<Path>) -> Self {
        let (layer, problems) = read_dir(path.as_ref());
        self.files.push(layer);
        self.problems.extend(problems);
        self
    }

    /// Adds those of the variables that begin with [`ENVIRONMENT_PREFIX`]; `__` separates the
    /// parts of a path and letters are taken in lower case. Give it `std::env::vars()`.
    #[must_use]
    pub fn env(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        // Sorted, so that the outcome does not hang on the order of the environment.
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            let keys: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
            let source = format!("environment {name}");
            if let Err(problem) = self.environment.put_text(&keys, &text, &source) {
                self.problems.push(problem);
            }
            self.texts.insert(source, text);
        }
        self
    }

    /// Adds one override, as from a flag: `path` like `bus.port`.
    #[must_use]
    pub fn set(mut self, path: &str, text: &str) -> Self {
        let keys: Vec<String> = path.split('.').map(|key| key.trim().to_owned()).collect();
        let source = format!("flag {path}");
        if let Err(problem) = self.flags.put_text(&keys, text, &source) {
            self.problems.push(problem);
        }
        self.texts.insert(source, text.to_owned());
        self
    }

    /// Adds one override in the form `path=value`.
    #[must_use]
    pub fn set_pair(mut self, pair: &str) -> Self {
        if let Some((path, text)) = pair.split_once('=') {
            return self.set(path.trim(), text.trim());
        }
        self.problems.push(Problem::new("", format!("flag {pair}"), "expected path=value, like bus.port=4222"));
        self
    }

    /// Reads the layers into a struct.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load<T: DeserializeOwned>(&self) -> Result<T, Vec<Problem>> {
        let mut problems = self.problems.clone();
        let layers = [&self.defaults].into_iter().chain(&self.files).chain([&self.environment, &self.flags]);
        let merged = match layer::merge(layers) {
            Ok(merged) => merged,
            Err(problem) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        let (value, found) = decode::decode(merged, &self.defaults.value(), &self.texts);
        problems.extend(found);
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(problems),
        }
    }

    /// Where the value in force at `path` (like `bus.port`) came from; empty when there is none.
    #[must_use]
    pub fn source_of(&self, path: &str) -> String {
        let layers = [&self.defaults].into_iter().chain(&self.files).chain([&self.environment, &self.flags]);
        layer::merge(layers).map_or_else(|_| String::new(), |merged| decode::source_of_path(&merged, path))
    }
}

/// Reads one TOML file into a struct, as strictly as [`Loader`] does.
///
/// # Errors
/// Every problem found.
pub fn load_file<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, Vec<Problem>> {
    let layer = read(path.as_ref()).map_err(|problem| vec![problem])?;
    finish(&layer, Vec::new())
}

/// Reads every `*.toml` of a folder into one struct. Tables of the same name are put together; a
/// key that stands in two files is a problem that names both.
///
/// # Errors
/// Every problem found.
pub fn load_dir<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, Vec<Problem>> {
    let (layer, problems) = read_dir(path.as_ref());
    finish(&layer, problems)
}

/// Reads a value that was parsed earlier; `source` is the file it came from.
///
/// # Errors
/// Every problem found.
pub fn load_value<T: DeserializeOwned>(value: &toml::Table, source: &str) -> Result<T, Vec<Problem>> {
    finish(&Layer::from_table(value, source), Vec::new())
}

/// Parses TOML text; `source` is what to call it in a problem.
///
/// # Errors
/// The place and nature of the first mistake in the syntax.
pub fn parse(text: &str, source: &str) -> Result<toml::Table, Problem> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            format!("{source}:{line}:{column}")
        });
        Problem::new("", place.unwrap_or_else(|| source.to_owned()), error.message())
    })
}

/// The `*.toml` files of a folder in the order of their names; hidden ones are left out.
///
/// # Errors
/// When the folder cannot be read.
pub fn files_in(dir: impl AsRef<Path>) -> Result<Vec<PathBuf>, Problem> {
    let dir = dir.as_ref();
    let unreadable =
        |error: std::io::Error| Problem::new("", dir.display().to_string(), format!("cannot read the folder: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads and parses one TOML file.
///
/// # Errors
/// When it cannot be read or is not TOML.
pub fn read_table(path: impl AsRef<Path>) -> Result<toml::Table, Problem> {
    let path = path.as_ref();
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem::new("", source.clone(), format!("cannot read the file: {error}")))?;
    parse(&text, &source)
}

fn read(path: &Path) -> Result<Layer, Problem> {
    Ok(Layer::from_table(&read_table(path)?, &path.display().to_string()))
}

fn read_dir(path: &Path) -> (Layer, Vec<Problem>) {
    let mut together = Layer::default();
    let files = match files_in(path) {
        Ok(files) => files,
        Err(problem) => return (together, vec![problem]),
    };
    let mut problems = Vec::new();
    for file in files {
        match read(&file) {
            Ok(layer) => problems.extend(together.unite(layer)),
            Err(problem) => problems.push(problem),
        }
    }
    (together, problems)
}

fn finish<T: DeserializeOwned>(layer: &Layer, mut problems: Vec<Problem>) -> Result<T, Vec<Problem>> {
    let (value, found) = decode::decode(layer.value(), &Layer::default().value(), &BTreeMap::new());
    problems.extend(found);
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
