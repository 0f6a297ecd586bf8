//! The fields of one event as the file says them: read against the [`shape`](crate::shape), filled from a request.

use std::borrow::Cow;

use adapter::contract::Timestamp;
use adapter::toml;
use serde_json::{Map, Value};

use crate::expr::{Eval, Expr, Trouble, Type, plain};
use crate::shape::{Fields, Kind, PARTS, Row, Shape};
use crate::source::{Problems, Root, Scope, Source, Template};
use crate::time;

/// Most elements of a list in the file.
const LIST_MAX: usize = 64;
/// Most elements that a list of a request gives; what is beyond is not represented, and that is said.
const EACH_MAX: usize = 256;
/// The name of an element of a list that is gone through.
pub(crate) const ELEMENT: &str = "it";

/// One field.
#[derive(Debug, Clone)]
enum Plan {
    Value(Kind, Source),
    Table(TablePlan),
    /// Elements; one that gives a list gives all of it.
    Many(Vec<Plan>),
    Free(Template),
}

/// A table of fields.
#[derive(Debug, Clone)]
pub(crate) struct TablePlan {
    rows: Vec<(&'static Row, Plan)>,
    fields: &'static Fields,
    /// What is said of it without asking: the type of a part.
    tag: Option<&'static str>,
    when: Option<Expr>,
    each: Option<Source>,
    /// Something in it is looked for in the request.
    found: bool,
}

/// What became of filling a plan, besides its values.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The first field that is needed and not there.
    pub(crate) missing: Option<String>,
    /// What could not be represented.
    pub(crate) warnings: Vec<String>,
}

impl TablePlan {
    /// Reads a table that takes these fields; keys that `skip` names are somebody else's.
    pub(crate) fn read(
        path: &str,
        table: &toml::Table,
        fields: &'static Fields,
        scope: Scope,
        skip: &[&str],
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.len();
        let each = table.get("each").filter(|_| skip.contains(&"each"));
        let each =
            each.and_then(|value| scope.source(&format!("{path}.each"), value, &[Type::List, Type::Null], problems));
        let scope = match each {
            // Within a list, pointers point into its element.
            Some(_) => Scope { locals: &[ELEMENT], root: Some(Root::Element), ..scope },
            None => scope,
        };
        let when = table.get("if").filter(|_| skip.contains(&"if"));
        let when = when.and_then(|value| match value.as_str() {
            Some(text) => scope.condition(&format!("{path}.if"), text, problems),
            None => {
                problems.push((format!("{path}.if"), "must be a condition".to_owned()));
                None
            }
        });
        let mut rows = Vec::new();
        for (name, value) in table {
            if skip.contains(&name.as_str()) {
                continue;
            }
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match fields.rows.iter().find(|row| row.name == name) {
                Some(row) => rows.extend(plan(&at, value, &row.shape, scope, problems).map(|plan| (row, plan))),
                None => {
                    let known: Vec<&str> = fields.rows.iter().map(|row| row.name).chain(skip.iter().copied()).collect();
                    problems.push((at, format!("there is no such setting; there are {}", known.join(", "))));
                }
            }
        }
        for row in fields.rows.iter().filter(|row| row.need && !table.contains_key(row.name)) {
            problems.push((format!("{path}.{}", row.name), "is missing".to_owned()));
        }
        // In the order of the shape, so that what is told first does not hang on how the file is written.
        rows.sort_by_key(|(row, _)| fields.rows.iter().position(|known| known.name == row.name));
        let found = rows.iter().any(|(_, plan)| plan.is_found());
        (problems.len() == before).then_some(Self { rows, fields, tag: None, when, each, found })
    }

    /// Its fields, filled; `None`: it says nothing.
    ///
    /// # Errors
    /// When a field that cannot be left out is of the wrong kind, or it costs too much.
    pub(crate) fn fill<'a>(
        &'a self,
        path: &str,
        eval: &mut Eval<'a, '_>,
        notes: &mut Notes,
    ) -> Result<Option<Map<String, Value>>, Trouble> {
        if let Some(when) = &self.when
            && !eval.holds(when)?
        {
            return Ok(None);
        }
        let mut map = Map::new();
        let mut found = !self.found;
        for (row, plan) in &self.rows {
            let at = if path.is_empty() { row.name.to_owned() } else { format!("{path}.{}", row.name) };
            let known = notes.missing.is_some();
            match plan.fill(&at, eval, notes) {
                Ok(Some(value)) => {
                    found |= plan.is_found();
                    map.insert(row.name.to_owned(), value);
                }
                // What only a field that may be missing lacks is no reason.
                Ok(None) if !row.need && !known => notes.missing = None,
                Ok(None) => {}
                Err(Trouble::Wrong(why)) if row.soft => notes.warnings.push(why),
                Err(trouble) => return Err(trouble),
            }
        }
        let lacking = self.fields.rows.iter().find(|row| row.need && !map.contains_key(row.name));
        if let Some(row) = lacking {
            let at = if path.is_empty() { row.name.to_owned() } else { format!("{path}.{}", row.name) };
            notes.missing.get_or_insert(at);
            return Ok(None);
        }
        if !found {
            return Ok(None);
        }
        if let Some(tag) = self.tag {
            map.insert("type".to_owned(), tag.into());
        }
        Ok(Some(map))
    }

    /// Its elements where it goes through a list, else itself.
    fn fill_many<'a>(
        &'a self,
        path: &str,
        eval: &mut Eval<'a, '_>,
        notes: &mut Notes,
        values: &mut Vec<Value>,
    ) -> Result<(), Trouble> {
        // What one element lacks leaves out that element alone.
        let mut aside = Notes::default();
        let Some(each) = &self.each else {
            values.extend(self.fill(path, eval, &mut aside)?.map(Value::Object));
            notes.warnings.append(&mut aside.warnings);
            return Ok(());
        };
        let elements: Vec<Cow<'a, Value>> = match each.value(eval) {
            Ok(Cow::Borrowed(Value::Array(list))) => list.iter().map(Cow::Borrowed).collect(),
            Ok(Cow::Owned(Value::Array(list))) => list.into_iter().map(Cow::Owned).collect(),
            Ok(Cow::Borrowed(Value::Null) | Cow::Owned(Value::Null)) | Err(Trouble::Missing(_)) => return Ok(()),
            Ok(_) => return Err(Trouble::Wrong(format!("{path}.each: is no list"))),
            Err(trouble) => return Err(at(path, trouble)),
        };
        if elements.len() > EACH_MAX {
            notes.warnings.push(format!("{path}: {} of {} are left out", elements.len() - EACH_MAX, elements.len()));
        }
        for element in elements.into_iter().take(EACH_MAX) {
            eval.locals.push(element);
            let filled = self.fill(path, eval, &mut aside);
            eval.locals.pop();
            values.extend(filled?.map(Value::Object));
        }
        notes.warnings.append(&mut aside.warnings);
        Ok(())
    }
}

fn plan(path: &str, value: &toml::Value, shape: &'static Shape, scope: Scope, problems: &mut Problems) -> Option<Plan> {
    match shape {
        Shape::Value(kind) => {
            let source = scope.source(path, value, kind.types(), problems)?;
            if let Source::Literal(literal) = &source
                && let Err(why) = checked(*kind, literal)
            {
                problems.push((path.to_owned(), why));
                return None;
            }
            Some(Plan::Value(*kind, source))
        }
        Shape::Table(fields) => table(path, value, fields, scope, &[], problems).map(Plan::Table),
        Shape::Many(of) => {
            let list = match value {
                toml::Value::Array(list) if list.len() <= LIST_MAX => list.as_slice(),
                toml::Value::Array(_) => {
                    problems.push((path.to_owned(), format!("has more than {LIST_MAX} elements")));
                    return None;
                }
                one => std::slice::from_ref(one),
            };
            let mut plans = Vec::new();
            for (at, value) in list.iter().enumerate() {
                let path = format!("{path}[{at}]");
                plans.push(match (of, value) {
                    (Shape::Table(fields), value) => {
                        Plan::Table(table(&path, value, fields, scope, &["each", "if"], problems)?)
                    }
                    // The value may be a list, so its type says nothing.
                    (Shape::Value(kind), value) => Plan::Value(*kind, scope.source(&path, value, &[], problems)?),
                    _ => return None,
                });
            }
            Some(Plan::Many(plans))
        }
        Shape::Parts => parts(path, value, scope, problems),
        Shape::Free => scope.template(path, value, problems).map(Plan::Free),
    }
}

fn table(
    path: &str,
    value: &toml::Value,
    fields: &'static Fields,
    scope: Scope,
    skip: &[&str],
    problems: &mut Problems,
) -> Option<TablePlan> {
    match (value, fields.short) {
        (toml::Value::Table(table), _) => TablePlan::read(path, table, fields, scope, skip, problems),
        (value @ (toml::Value::String(_) | toml::Value::Integer(_)), Some(short)) => {
            let table = toml::Table::from_iter([(short.to_owned(), value.clone())]);
            TablePlan::read(path, &table, fields, scope, skip, problems)
        }
        _ => {
            problems.push((path.to_owned(), "must be a table".to_owned()));
            None
        }
    }
}

fn parts(path: &str, value: &toml::Value, scope: Scope, problems: &mut Problems) -> Option<Plan> {
    let Some(list) = value.as_array().filter(|list| list.len() <= LIST_MAX) else {
        problems.push((path.to_owned(), format!("must be a list of at most {LIST_MAX} tables")));
        return None;
    };
    let mut plans = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let kind = value.get("type").and_then(toml::Value::as_str);
        let found = PARTS.iter().find(|(name, _)| Some(*name) == kind);
        let (Some((name, fields)), Some(table)) = (found, value.as_table()) else {
            let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
            problems.push((format!("{path}.type"), format!("must be one of: {}", known.join(", "))));
            continue;
        };
        let read = TablePlan::read(&path, table, fields, scope, &["type", "each", "if"], problems);
        plans.extend(read.map(|plan| Plan::Table(TablePlan { tag: Some(name), ..plan })));
    }
    Some(Plan::Many(plans))
}

/// Judges what stands in the file.
fn checked(kind: Kind, literal: &Value) -> Result<(), String> {
    match kind {
        Kind::Word(words) if !literal.as_str().is_some_and(|word| words.contains(&word)) => {
            Err(format!("must be one of: {}; or begin with = or /", words.join(", ")))
        }
        kind => match coerce(kind, Cow::Borrowed(literal)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("is empty".to_owned()),
            Err(why) => Err(why),
        },
    }
}

impl Plan {
    fn is_found(&self) -> bool {
        match self {
            Self::Value(_, source) => source.is_found(),
            Self::Table(table) => table.found,
            Self::Many(plans) => plans.iter().any(Self::is_found),
            Self::Free(_) => true,
        }
    }

    fn fill<'a>(&'a self, path: &str, eval: &mut Eval<'a, '_>, notes: &mut Notes) -> Result<Option<Value>, Trouble> {
        match self {
            Self::Value(kind, source) => match source.value(eval) {
                Ok(value) => coerce(*kind, value).map_err(|why| Trouble::Wrong(format!("{path}: {why}"))),
                Err(Trouble::Missing(_)) => Ok(None),
                Err(trouble) => Err(at(path, trouble)),
            },
            Self::Table(table) => Ok(table.fill(path, eval, notes)?.map(Value::Object)),
            Self::Many(plans) => {
                let mut values = Vec::new();
                for (place, plan) in plans.iter().enumerate() {
                    let path = format!("{path}[{place}]");
                    match plan {
                        Self::Table(table) => table.fill_many(&path, eval, notes, &mut values)?,
                        Self::Value(kind, source) => many(&path, *kind, source, eval, notes, &mut values)?,
                        plan => values.extend(plan.fill(&path, eval, notes)?),
                    }
                }
                Ok((!values.is_empty()).then_some(Value::Array(values)))
            }
            Self::Free(template) => match template.value(eval).map_err(|trouble| at(path, trouble))? {
                Some(Value::Object(map)) if !map.is_empty() => Ok(Some(Value::Object(map))),
                Some(Value::Object(_) | Value::Null) | None => Ok(None),
                Some(_) => Err(Trouble::Wrong(format!("{path}: is no map"))),
            },
        }
    }
}

/// One value, or each of a list.
fn many<'a>(
    path: &str,
    kind: Kind,
    source: &'a Source,
    eval: &mut Eval<'a, '_>,
    notes: &mut Notes,
    values: &mut Vec<Value>,
) -> Result<(), Trouble> {
    let wrong = |why: String| Trouble::Wrong(format!("{path}: {why}"));
    match source.value(eval) {
        Ok(value) => match &*value {
            Value::Array(list) => {
                if list.len() > EACH_MAX {
                    notes.warnings.push(format!("{path}: {} of {} are left out", list.len() - EACH_MAX, list.len()));
                }
                for value in list.iter().take(EACH_MAX) {
                    values.extend(coerce(kind, Cow::Borrowed(value)).map_err(wrong)?);
                }
            }
            _ => values.extend(coerce(kind, value).map_err(wrong)?),
        },
        Err(Trouble::Missing(_)) => {}
        Err(trouble) => return Err(at(path, trouble)),
    }
    Ok(())
}

fn at(path: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Wrong(why) => Trouble::Wrong(format!("{path}: {why}")),
        trouble => trouble,
    }
}

/// A value as its field takes it; `None`: it is empty.
fn coerce(kind: Kind, value: Cow<'_, Value>) -> Result<Option<Value>, String> {
    if value.is_null() || value.as_str() == Some("") {
        return Ok(None);
    }
    match kind {
        Kind::Text | Kind::Word(_) => match value {
            Cow::Owned(Value::String(text)) => Ok(Some(Value::String(text))),
            value => plain(&value).map(|text| Some(Value::String(text))).map_err(|trouble| trouble.to_string()),
        },
        Kind::Whole => {
            let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
            number.map(|n| Some(Value::from(n))).ok_or_else(|| "is no whole number from 0".to_owned())
        }
        Kind::Flag => {
            value.as_bool().map(|yes| Some(Value::from(yes))).ok_or_else(|| "is neither true nor false".to_owned())
        }
        Kind::Time => {
            let found = time::read(&value);
            found.map(|Timestamp(at)| Some(Value::from(at))).ok_or_else(|| "is no time".to_owned())
        }
    }
}
