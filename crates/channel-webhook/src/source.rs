//! Where a value comes from, as an account's file writes it.
//!
//! A text that begins with `=` is an expression, one that begins with `/` a JSON pointer, and everything else stands
//! for itself.

use std::borrow::Cow;

use adapter::toml;
use serde_json::{Map, Value};

use crate::expr::{Eval, Expr, Trouble, Type, Variables};

/// Longest JSON pointer, in bytes.
const POINTER_BYTES_MAX: usize = 500;
/// Deepest nesting of a template.
const DEPTH_MAX: usize = 16;

/// What is wrong, with its path.
pub(crate) type Problems = Vec<(String, String)>;

/// What can be seen from somewhere in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope {
    /// The variables.
    pub(crate) variables: Variables,
    /// Further names, from lists that are gone through.
    pub(crate) locals: &'static [&'static str],
    /// What pointers point into; none: nothing.
    pub(crate) root: Option<Root>,
}

/// What pointers point into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// A variable, by its place.
    Variable(usize),
    /// The element of the list that is gone through.
    Element,
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// It stands in the file.
    Literal(Value),
    /// It is at a place of the request.
    Pointer(Root, String),
    /// It is worked out.
    Expr(Expr),
}

/// A value with values in it, all of which may be worked out.
#[derive(Debug, Clone)]
pub(crate) enum Template {
    /// One value.
    Source(Source),
    /// A list.
    List(Vec<Template>),
    /// A map.
    Map(Vec<(String, Template)>),
}

impl Scope {
    /// Reads a condition, which is an expression without `=`.
    pub(crate) fn condition(&self, path: &str, text: &str, problems: &mut Problems) -> Option<Expr> {
        let (expr, found) = self.expr(path, text, problems)?;
        if !matches!(found, Type::Bool | Type::Any) {
            problems.push((path.to_owned(), format!("is {found}, and must be true or false")));
            return None;
        }
        Some(expr)
    }

    fn expr(&self, path: &str, text: &str, problems: &mut Problems) -> Option<(Expr, Type)> {
        match Expr::read(text, self.variables, self.locals) {
            Ok(read) => Some(read),
            Err(wrong) => {
                problems.extend(wrong.into_iter().map(|message| (path.to_owned(), message)));
                None
            }
        }
    }

    /// Reads one value; an expression must be of one of these types, as far as its type is known.
    pub(crate) fn source(
        &self,
        path: &str,
        value: &toml::Value,
        types: &[Type],
        problems: &mut Problems,
    ) -> Option<Source> {
        let mut refuse = |message: String| {
            problems.push((path.to_owned(), message));
            None
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(n) => return Some(Source::Literal(Value::from(*n))),
            toml::Value::Boolean(yes) => return Some(Source::Literal(Value::from(*yes))),
            toml::Value::Float(n) => return Some(Source::Literal(Value::from(*n))),
            _ => return refuse("must be one value: a text, a number, true or false".to_owned()),
        };
        if let Some(text) = text.strip_prefix('=') {
            let (expr, found) = self.expr(path, text, problems)?;
            if found != Type::Any && !types.is_empty() && !types.contains(&found) {
                let wanted: Vec<String> = types.iter().map(Type::to_string).collect();
                problems.push((path.to_owned(), format!("is {found}, and must be {}", wanted.join(" or "))));
                return None;
            }
            return Some(Source::Expr(expr));
        }
        if text.starts_with('/') {
            let Some(root) = self.root else {
                return refuse(
                    "a pointer points into nothing here; a text that begins with / is written = '/…'".into(),
                );
            };
            if text.len() > POINTER_BYTES_MAX {
                return refuse(format!("is longer than {POINTER_BYTES_MAX} bytes"));
            }
            if text.replace("~0", "").replace("~1", "").contains('~') {
                return refuse("is no JSON pointer: ~ is written ~0, and / within a name ~1".to_owned());
            }
            return Some(Source::Pointer(root, text.clone()));
        }
        Some(Source::Literal(Value::from(text.as_str())))
    }

    /// Reads a value with values in it.
    pub(crate) fn template(&self, path: &str, value: &toml::Value, problems: &mut Problems) -> Option<Template> {
        self.template_at(path, value, 0, problems)
    }

    fn template_at(&self, path: &str, value: &toml::Value, depth: usize, problems: &mut Problems) -> Option<Template> {
        if depth > DEPTH_MAX {
            problems.push((path.to_owned(), format!("nests deeper than {DEPTH_MAX} levels")));
            return None;
        }
        match value {
            toml::Value::Array(list) => {
                let read = list.iter().enumerate();
                let read =
                    read.map(|(at, value)| self.template_at(&format!("{path}[{at}]"), value, depth + 1, problems));
                Some(Template::List(read.collect::<Option<_>>()?))
            }
            toml::Value::Table(table) => {
                let mut map = Vec::new();
                for (name, value) in table {
                    map.push((name.clone(), self.template_at(&format!("{path}.{name}"), value, depth + 1, problems)?));
                }
                Some(Template::Map(map))
            }
            value => self.source(path, value, &[], problems).map(Template::Source),
        }
    }
}

impl Source {
    /// Whether it is worked out rather than written down.
    pub(crate) const fn is_found(&self) -> bool {
        !matches!(self, Self::Literal(_))
    }

    /// The value.
    ///
    /// # Errors
    /// When it is not there, is of the wrong kind or costs too much.
    pub(crate) fn value<'a>(&'a self, eval: &mut Eval<'a, '_>) -> Result<Cow<'a, Value>, Trouble> {
        match self {
            Self::Literal(value) => Ok(Cow::Borrowed(value)),
            Self::Expr(expr) => eval.value(expr),
            Self::Pointer(root, pointer) => {
                let root = match root {
                    Root::Variable(at) => eval.root(Some(*at))?,
                    Root::Element => eval.root(None)?,
                };
                eval.pointer(root, pointer)
            }
        }
    }
}

impl Template {
    /// The value. What is not there is left out of maps and lists.
    ///
    /// # Errors
    /// When something is of the wrong kind, or it costs too much.
    pub(crate) fn value<'a>(&'a self, eval: &mut Eval<'a, '_>) -> Result<Option<Value>, Trouble> {
        match self {
            Self::Source(source) => match source.value(eval) {
                Ok(value) => eval.own(value).map(Some),
                Err(Trouble::Missing(_)) => Ok(None),
                Err(trouble) => Err(trouble),
            },
            Self::List(list) => {
                let mut values = Vec::new();
                for template in list {
                    values.extend(template.value(eval)?);
                }
                Ok(Some(Value::Array(values)))
            }
            Self::Map(entries) => {
                let mut map = Map::new();
                for (name, template) in entries {
                    if let Some(value) = template.value(eval)? {
                        map.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(map)))
            }
        }
    }
}
