//! What a request is answered: with a status and perhaps a body, or what a handshake asks for.

use std::path::Path;

use adapter::bytes::Bytes;
use adapter::http::{HeaderName, HeaderValue, StatusCode, header};
use adapter::runtime::secret::{Secret, SecretString};
use adapter::toml;
use adapter::verify;
use adapter::webhook::{Reply, Request};

use crate::expr::{Eval, Expr, Trouble, Type, plain};
use crate::source::{Problems, Scope, Source, Template};
use crate::table::Table;

/// Largest body of an answer, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 16;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Body,
    headers: Vec<(HeaderName, Source)>,
}

#[derive(Debug, Clone)]
enum Body {
    Empty,
    Text(Source),
    Json(Template),
}

impl Default for Answer {
    fn default() -> Self {
        Self { status: StatusCode::OK, content_type: None, body: Body::Empty, headers: Vec::new() }
    }
}

impl Answer {
    /// Reads the keys of an answer.
    pub(crate) fn read(table: &mut Table, scope: Scope, problems: &mut Problems) -> Option<Self> {
        let status = table.whole("status", 200, 399, problems).unwrap_or(200);
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
        let text = table.value("text");
        let json = table.value("json");
        let body = match (text, json) {
            (None, None) => Body::Empty,
            (Some(text), None) => {
                Body::Text(scope.source(&table.at("text"), &text, &[Type::Text, Type::Number, Type::Bool], problems)?)
            }
            (None, Some(json)) => Body::Json(scope.template(&table.at("json"), &json, problems)?),
            (Some(_), Some(_)) => return table.refuse("json", "stands beside text: the body is one of them", problems),
        };
        let content_type = match table.text("content_type", problems) {
            None => None,
            Some(text) => match HeaderValue::from_str(&text) {
                Ok(value) => Some(value),
                Err(_) => return table.refuse("content_type", "cannot stand in a header", problems),
            },
        };
        let headers = headers(table, "headers", scope, problems)?;
        Some(Self { status, content_type, body, headers })
    }

    /// The answer to one request. What cannot be worked out is left out: the request is stored all the same.
    pub(crate) fn reply<'a>(&'a self, eval: &mut Eval<'a, '_>) -> Reply {
        let (own_type, body) = match &self.body {
            Body::Empty => (None, Ok(String::new())),
            Body::Text(source) => (Some(TEXT), source.value(eval).and_then(|value| plain(&value))),
            Body::Json(template) => {
                let value = template.value(eval).map(|value| value.unwrap_or_default().to_string());
                (Some(JSON), value)
            }
        };
        let body = body.ok().filter(|body| body.len() <= BODY_BYTES_MAX).unwrap_or_default();
        let mut reply = Reply { body: Bytes::from(body), ..Reply::status(self.status) };
        if !reply.body.is_empty() {
            // A browser that shows it is not to find a page in it.
            reply.headers.push((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
            match &self.content_type {
                Some(value) => reply.headers.push((header::CONTENT_TYPE, value.clone())),
                None => reply.content_type = own_type,
            }
        }
        for (name, source) in &self.headers {
            reply.headers.extend(header_value(source, eval).ok().flatten().map(|value| (name.clone(), value)));
        }
        reply
    }
}

/// Reads a table of headers.
pub(crate) fn headers(
    table: &mut Table,
    name: &'static str,
    scope: Scope,
    problems: &mut Problems,
) -> Option<Vec<(HeaderName, Source)>> {
    let Some(value) = table.value(name) else { return Some(Vec::new()) };
    let Some(entries) = value.as_table().filter(|entries| entries.len() <= HEADERS_MAX) else {
        return table.refuse(name, &format!("must be a table of at most {HEADERS_MAX} headers"), problems);
    };
    let mut headers = Vec::new();
    for (key, value) in entries {
        let path = format!("{}.{key}", table.at(name));
        let Ok(key) = HeaderName::from_bytes(key.as_bytes()) else {
            problems.push((path, "is no name of a header".to_owned()));
            return None;
        };
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::HOST].contains(&key) {
            problems.push((path, "is set by the connection itself".to_owned()));
            return None;
        }
        let source = scope.source(&path, value, &[Type::Text, Type::Number, Type::Bool, Type::Null], problems)?;
        if let Source::Literal(value) = &source
            && plain(value).ok().and_then(|text| HeaderValue::from_str(&text).ok()).is_none()
        {
            problems.push((path, "cannot stand in a header".to_owned()));
            return None;
        }
        headers.push((key, source));
    }
    Some(headers)
}

/// The value of a header; `None`: it is not there, or cannot stand in one.
///
/// # Errors
/// When it is of the wrong kind or costs too much.
pub(crate) fn header_value<'a>(source: &'a Source, eval: &mut Eval<'a, '_>) -> Result<Option<HeaderValue>, Trouble> {
    match source.value(eval) {
        Ok(value) if value.is_null() => Ok(None),
        Ok(value) => Ok(HeaderValue::from_str(&plain(&value)?).ok()),
        Err(Trouble::Missing(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// A request that is answered and holds nothing to store.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) when: Expr,
    pub(crate) answer: Answer,
    pub(crate) proof: Proof,
}

/// What a handshake is believed for.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// It is verified as every request is.
    Verified,
    /// A token in the query.
    Token(String, Vec<Secret>),
}

impl Handshake {
    /// Reads one table of `handshake`.
    pub(crate) fn read(mut table: Table, scope: Scope, dir: &Path, problems: &mut Problems) -> Option<Self> {
        let when = match table.value("when") {
            Some(toml::Value::String(text)) => scope.condition(&table.at("when"), &text, problems),
            Some(_) => table.refuse("when", "must be a condition", problems),
            None => table.refuse("when", "is missing: how is it known from a message", problems),
        };
        let proof = match table.text("token_query", problems) {
            Some(name) => Proof::Token(name, table.secrets("secrets", dir, problems)),
            None => Proof::Verified,
        };
        let answer = Answer::read(&mut table, scope, problems);
        table.finish(problems);
        Some(Self { when: when?, answer: answer?, proof })
    }
}

impl Proof {
    /// Reads its secrets.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(crate) fn open(&self) -> Result<Vec<SecretString>, String> {
        match self {
            Self::Verified => Ok(Vec::new()),
            Self::Token(_, secrets) => {
                secrets.iter().map(|secret| secret.resolve().map_err(|error| error.to_string())).collect()
            }
        }
    }

    /// Whether the query holds the token, exactly once.
    pub(crate) fn holds(&self, secrets: &[SecretString], request: &Request) -> bool {
        let Self::Token(name, _) = self else { return false };
        let query = request.query.as_deref().unwrap_or_default().as_bytes();
        let mut given = form_urlencoded::parse(query).filter(|(known, _)| known == name).map(|(_, value)| value);
        match (given.next(), given.next()) {
            (Some(token), None) => verify::token(secrets, &token),
            _ => false,
        }
    }
}
