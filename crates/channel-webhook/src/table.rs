//! Reading a table of an account's file: every key is asked for by name, and what nobody asked for is refused.

use std::path::Path;

use adapter::runtime::secret::Secret;
use adapter::toml;

use crate::source::Problems;

/// A table on the way to being read.
pub(crate) struct Table {
    path: String,
    left: toml::Table,
    asked: Vec<&'static str>,
}

impl Table {
    pub(crate) const fn new(path: String, table: toml::Table) -> Self {
        Self { path, left: table, asked: Vec::new() }
    }

    /// The path of one of its keys.
    pub(crate) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a key's value as it is.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<toml::Value> {
        self.asked.push(name);
        self.left.remove(name)
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        match self.value(name)? {
            toml::Value::String(text) if !text.is_empty() => Some(text),
            _ => self.refuse(name, "must be a text that is not empty", problems),
        }
    }

    /// A text that must be there.
    pub(crate) fn needed(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        if self.left.contains_key(name) {
            return self.text(name, problems);
        }
        self.asked.push(name);
        self.refuse(name, "is missing", problems)
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.text(name, problems)?;
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meant);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.refuse(name, &format!("must be one of: {}", known.join(", ")), problems)
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&mut self, name: &'static str, min: u64, max: u64, problems: &mut Problems) -> Option<u64> {
        let number = self.value(name)?.as_integer().and_then(|n| u64::try_from(n).ok());
        match number.filter(|n| (min..=max).contains(n)) {
            Some(n) => Some(n),
            None => self.refuse(name, &format!("must be a whole number from {min} to {max}"), problems),
        }
    }

    /// A number above 0.
    pub(crate) fn rate(&mut self, name: &'static str, problems: &mut Problems) -> Option<f64> {
        let value = self.value(name)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        match number.filter(|n| *n > 0.0 && *n <= 1_000_000.0) {
            Some(n) => Some(n),
            None => self.refuse(name, "must be more than 0 and at most 1000000", problems),
        }
    }

    /// True or false.
    pub(crate) fn flag(&mut self, name: &'static str, problems: &mut Problems) -> Option<bool> {
        match self.value(name)? {
            toml::Value::Boolean(yes) => Some(yes),
            _ => self.refuse(name, "must be true or false", problems),
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, name: &'static str, max: usize, problems: &mut Problems) -> Option<Vec<String>> {
        let value = self.value(name)?;
        let texts: Option<Vec<String>> = value.as_array().and_then(|list| {
            list.iter().map(|value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
        });
        match texts.filter(|texts| !texts.is_empty() && texts.len() <= max) {
            Some(texts) => Some(texts),
            None => self.refuse(name, &format!("must be a list of 1 to {max} texts"), problems),
        }
    }

    /// A table.
    pub(crate) fn table(&mut self, name: &'static str, problems: &mut Problems) -> Option<Self> {
        match self.value(name)? {
            toml::Value::Table(table) => Some(Self::new(self.at(name), table)),
            _ => self.refuse(name, "must be a table", problems),
        }
    }

    /// A list of tables, or one table for a list of one.
    pub(crate) fn tables(&mut self, name: &'static str, max: usize, problems: &mut Problems) -> Vec<Self> {
        let (path, list) = match self.value(name) {
            None => return Vec::new(),
            Some(toml::Value::Table(table)) => return vec![Self::new(self.at(name), table)],
            Some(toml::Value::Array(list)) if list.len() <= max => (self.at(name), list),
            Some(_) => {
                self.refuse::<()>(name, &format!("must be a list of at most {max} tables"), problems);
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (at, value) in list.into_iter().enumerate() {
            let path = format!("{path}[{at}]");
            match value {
                toml::Value::Table(table) => tables.push(Self::new(path, table)),
                _ => problems.push((path, "must be a table".to_owned())),
            }
        }
        tables
    }

    /// Every key with its value: a table whose keys are names that the operator chose.
    pub(crate) fn entries(self) -> (String, toml::Table) {
        (self.path, self.left)
    }

    /// One secret, or several while it is changed.
    pub(crate) fn secrets(&mut self, name: &'static str, dir: &Path, problems: &mut Problems) -> Vec<Secret> {
        let value = match self.value(name) {
            None => {
                self.refuse::<()>(name, "is missing: without a secret nothing could be verified", problems);
                return Vec::new();
            }
            Some(value) => value,
        };
        let list = match value {
            toml::Value::Array(list) if (1..=4).contains(&list.len()) => list,
            toml::Value::Array(_) => {
                self.refuse::<()>(name, "must be one secret, or a list of 1 to 4", problems);
                return Vec::new();
            }
            one => vec![one],
        };
        let mut secrets = Vec::new();
        for value in list {
            match secret(value, dir) {
                Ok(secret) => secrets.push(secret),
                Err(why) => {
                    self.refuse::<()>(name, &why, problems);
                }
            }
        }
        secrets
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for name in self.left.keys() {
            let message = format!("there is no such setting; there are {}", self.asked.join(", "));
            problems.push((self.at(name), message));
        }
    }

    /// Notes a problem of a key.
    pub(crate) fn refuse<T>(&self, name: &str, message: &str, problems: &mut Problems) -> Option<T> {
        problems.push((self.at(name), message.to_owned()));
        None
    }
}

/// A reference to a secret; relative paths are taken from the account's file.
pub(crate) fn secret(value: toml::Value, dir: &Path) -> Result<Secret, String> {
    let read: Result<Secret, toml::de::Error> = value.try_into();
    read.map(|secret| secret.relative_to(dir)).map_err(|error| error.message().to_owned())
}
