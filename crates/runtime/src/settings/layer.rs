//! One layer of settings: a table whose every value remembers where it came from.

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::{Problem, parse};

/// What one source says.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    table: Map<String, Value>,
}

impl Layer {
    pub(super) fn from_toml(text: &str, source: &str) -> Result<Self, Problem> {
        Ok(Self::from_table(&parse(text, source)?, source))
    }

    pub(super) fn from_table(table: &toml::Table, source: &str) -> Self {
        let source = source.to_owned();
        Self { table: table.iter().map(|(key, value)| (key.clone(), stamped(value, &source))).collect() }
    }

    pub(super) fn value(&self) -> Value {
        Value::new(None, ValueKind::Table(self.table.clone()))
    }

    /// Puts in a text, read as TOML where it is TOML.
    pub(super) fn put_text(&mut self, keys: &[String], text: &str, source: &str) -> Result<(), Problem> {
        let path = keys.join(".");
        if keys.iter().any(String::is_empty) {
            return Err(Problem::new(path, source, "a part of the name is empty"));
        }
        let Some((last, parents)) = keys.split_last() else {
            return Err(Problem::new(path, source, "the name is empty"));
        };
        let source = source.to_owned();
        let mut table = &mut self.table;
        for key in parents {
            let slot =
                table.entry(key.clone()).or_insert_with(|| Value::new(Some(&source), ValueKind::Table(Map::new())));
            if !matches!(slot.kind, ValueKind::Table(_)) {
                *slot = Value::new(Some(&source), ValueKind::Table(Map::new()));
            }
            let ValueKind::Table(inner) = &mut slot.kind else {
                return Err(Problem::new(path, source, "a value stands where a table is needed"));
            };
            table = inner;
        }
        table.insert(last.clone(), stamped(&read_text(text), &source));
        Ok(())
    }

    /// Takes in another file of the same rank. What both say is a problem.
    pub(super) fn unite(&mut self, other: Self) -> Vec<Problem> {
        let mut problems = Vec::new();
        unite(&mut self.table, other.table, "", &mut problems);
        problems
    }
}

fn unite(into: &mut Map<String, Value>, from: Map<String, Value>, above: &str, problems: &mut Vec<Problem>) {
    for (key, value) in from {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let Some(present) = into.get_mut(&key) else {
            into.insert(key, value);
            continue;
        };
        let sources = (present.origin().unwrap_or_default().to_owned(), value.origin().unwrap_or_default().to_owned());
        match (&mut present.kind, value.kind) {
            (ValueKind::Table(present), ValueKind::Table(more)) => unite(present, more, &path, problems),
            _ => {
                let message = format!("stands in {} too; keep one", sources.0);
                problems.push(Problem::new(path, sources.1, message));
            }
        }
    }
}

/// Text from the environment or a flag: TOML where it is TOML, else itself.
fn read_text(text: &str) -> toml::Value {
    let plain = || toml::Value::String(text.to_owned());
    let Ok(table) = toml::from_str::<toml::Table>(&format!("value = {text}")) else { return plain() };
    let mut values = table.into_iter();
    match (values.next(), values.next()) {
        // More than one: the text had a line end and a second assignment in it.
        (_, Some(_)) | (None, _) | (Some((_, toml::Value::Datetime(_))), None) => plain(),
        (Some((_, value)), None) => value,
    }
}

fn stamped(value: &toml::Value, source: &String) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text.clone()),
        toml::Value::Integer(number) => ValueKind::I64(*number),
        toml::Value::Float(number) => ValueKind::Float(*number),
        toml::Value::Boolean(truth) => ValueKind::Boolean(*truth),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(values) => ValueKind::Array(values.iter().map(|value| stamped(value, source)).collect()),
        toml::Value::Table(table) => {
            ValueKind::Table(table.iter().map(|(key, value)| (key.clone(), stamped(value, source))).collect())
        }
    };
    Value::new(Some(source), kind)
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.table.clone())
    }
}

/// Lays one on top of the other; the later one wins, key by key.
pub(super) fn merge<'a>(layers: impl Iterator<Item = &'a Layer>) -> Result<Value, Problem> {
    let builder = layers.fold(Config::builder(), |builder, layer| builder.add_source(layer.clone()));
    let merged = builder.build().map_err(|error| Problem::new("", "", error.to_string()))?;
    Ok(merged.cache)
}
