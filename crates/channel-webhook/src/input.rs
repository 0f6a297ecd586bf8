//! A request as expressions see it.

use std::borrow::Cow;

use adapter::webhook::Request;
use serde_json::{Map, Value};
use sha2::Digest;

use crate::expr::{Type, Variables};
use crate::source::{Root, Scope};

/// What expressions about a request see, in the order of [`Input::variables`].
const VARIABLES: Variables = &[
    ("item", Type::Any),
    ("body", Type::Any),
    ("fields", Type::Map),
    ("query", Type::Map),
    ("header", Type::Map),
    ("method", Type::Text),
    ("suffix", Type::Text),
    ("index", Type::Number),
    ("now", Type::Number),
    ("account", Type::Text),
    ("sha256", Type::Text),
    ("peer", Type::Text),
];

/// The scope of everything that is said about a request; pointers point into the item.
pub(crate) const SCOPE: Scope = Scope { variables: VARIABLES, locals: &[], root: Some(Root::Variable(0)) };

/// Most fields of a form or query.
const FIELDS_MAX: usize = 1000;
/// Headers that nothing is to see.
const HIDDEN: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// JSON.
    #[default]
    Json,
    /// A form, as browsers send it.
    Form,
    /// The query; there is no body.
    Query,
    /// Text.
    Text,
}

/// How a file names them.
pub(crate) const FORMATS: [(&str, Format); 4] =
    [("json", Format::Json), ("form", Format::Form), ("query", Format::Query), ("text", Format::Text)];

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Input {
    /// The body as a value.
    pub(crate) body: Value,
    fields: Value,
    query: Value,
    header: Value,
    method: Value,
    suffix: Value,
    now: Value,
    account: Value,
    sha256: Value,
    peer: Value,
}

impl Input {
    /// The part of a request that needs no parsing; the body is read by [`Input::read`].
    pub(crate) fn new(request: &Request, account: &str, hidden: &[String]) -> Self {
        let mut header = Map::new();
        for name in request.headers.keys() {
            let name = name.as_str();
            let secret = HIDDEN.contains(&name) || hidden.iter().any(|hidden| hidden == name);
            if let (Some(value), false) = (request.header(name), secret) {
                header.insert(name.to_owned(), value.into());
            }
        }
        let query = pairs(request.query.as_deref().unwrap_or_default().as_bytes()).unwrap_or_default();
        let digest = sha2::Sha256::digest(&request.body);
        Self {
            body: Value::Null,
            fields: Value::Object(Map::new()),
            query: Value::Object(query.first),
            header: Value::Object(header),
            method: request.method.as_str().into(),
            suffix: request.suffix.as_str().into(),
            now: request.at.0.into(),
            account: account.into(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
            peer: request.peer.to_string().into(),
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    /// When it is not what the format says.
    pub(crate) fn read(&mut self, request: &Request, format: Format) -> Result<(), String> {
        let form = |bytes: &[u8]| pairs(bytes).ok_or_else(|| format!("has more than {FIELDS_MAX} fields"));
        match format {
            Format::Json => {
                self.body = serde_json::from_slice(&request.body).map_err(|error| {
                    // Not what was wrong, which may hold content: where.
                    format!("the body is not JSON (line {}, column {})", error.line(), error.column())
                })?;
            }
            Format::Form | Format::Query => {
                let query = request.query.as_deref().unwrap_or_default().as_bytes();
                let pairs = form(if format == Format::Form { &request.body } else { query })?;
                self.body = Value::Object(pairs.first);
                self.fields = Value::Object(pairs.all);
            }
            Format::Text => {
                let text = std::str::from_utf8(&request.body).map_err(|_| "the body is not UTF-8".to_owned())?;
                self.body = serde_json::json!({ "text": text });
            }
        }
        Ok(())
    }

    /// The variables for one item.
    pub(crate) fn variables<'a>(&'a self, item: &'a Value, index: usize) -> Vec<Cow<'a, Value>> {
        vec![
            Cow::Borrowed(item),
            Cow::Borrowed(&self.body),
            Cow::Borrowed(&self.fields),
            Cow::Borrowed(&self.query),
            Cow::Borrowed(&self.header),
            Cow::Borrowed(&self.method),
            Cow::Borrowed(&self.suffix),
            Cow::Owned(index.into()),
            Cow::Borrowed(&self.now),
            Cow::Borrowed(&self.account),
            Cow::Borrowed(&self.sha256),
            Cow::Borrowed(&self.peer),
        ]
    }
}

#[derive(Default)]
struct Pairs {
    /// The first value of each name: a second one changes nothing.
    first: Map<String, Value>,
    /// All values of each name.
    all: Map<String, Value>,
}

/// The fields of a form or query; `None`: there are too many.
fn pairs(bytes: &[u8]) -> Option<Pairs> {
    let mut pairs = Pairs::default();
    for (count, (name, value)) in form_urlencoded::parse(bytes).enumerate() {
        if count >= FIELDS_MAX {
            return None;
        }
        if let Some(Value::Array(list)) = pairs.all.get_mut(&*name) {
            list.push(value.into());
            continue;
        }
        pairs.first.insert(name.to_string(), value.to_string().into());
        pairs.all.insert(name.into_owned(), Value::Array(vec![value.into()]));
    }
    Some(pairs)
}
