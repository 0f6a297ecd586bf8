//! An answer to a customer as the vendor's request, and the vendor's word on it. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::contract::SmolStr;
use adapter::contract::envelope::Part;
use adapter::contract::outbound::OutCommand;
use adapter::failure::{Class, SendFailure};
use adapter::http::{self, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use adapter::runtime::secret::{Secret, SecretString};
use adapter::split::{Unit, split};
use adapter::toml;
use serde_json::{Value, json};
use sha2::Digest;

use crate::answer::{header_value, headers};
use crate::expr::{Eval, Expr, Trouble, Type, Variables, encode_uri, plain};
use crate::mapping::BUDGET;
use crate::source::{Problems, Root, Scope, Source, Template};
use crate::table::{Table, secret};

const VARIABLES: Variables = &[
    ("text", Type::Text),
    ("to", Type::Text),
    ("part", Type::Number),
    ("parts", Type::Number),
    ("key", Type::Text),
    ("command", Type::Map),
    ("thread", Type::Map),
    ("author", Type::Map),
    ("reply_to", Type::Map),
    ("account", Type::Map),
];
const SCOPE: Scope = Scope { variables: VARIABLES, locals: &[], root: None };

const RESULT_VARIABLES: Variables =
    &[("answer", Type::Any), ("status", Type::Number), ("header", Type::Map), ("body", Type::Text)];
/// Pointers point into the answer.
const RESULT: Scope = Scope { variables: RESULT_VARIABLES, locals: &[], root: Some(Root::Variable(0)) };

/// Longest address of a request, in bytes.
const URL_BYTES_MAX: usize = 4096;
/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most pieces of one message: what is longer is refused whole.
const PIECES_MAX: usize = 50;
/// Longest reason that is kept of a vendor's word, in characters.
const REASON_CHARS_MAX: usize = 300;
/// Longest wait that a vendor may ask for.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most secrets of a file.
const SECRETS_MAX: usize = 8;
const METHODS: [(&str, Verb); 3] = [("POST", Verb::Post), ("PUT", Verb::Put), ("PATCH", Verb::Patch)];
const UNITS: [(&str, Unit); 4] =
    [("chars", Unit::Chars), ("bytes", Unit::Bytes), ("utf16", Unit::Utf16), ("gsm7", Unit::Gsm7)];
/// Stands for a secret: `{secret:NAME}`.
const SECRET: &str = "{secret:";

#[derive(Debug, Clone, Copy)]
enum Verb {
    Post,
    Put,
    Patch,
}

/// How answers are sent.
#[derive(Clone)]
pub(crate) struct Send {
    method: Verb,
    url: Vec<UrlPiece>,
    headers: Vec<(HeaderName, Source)>,
    body: Body,
    content_type: Option<HeaderValue>,
    secrets: BTreeMap<String, Secret>,
    /// How long one exchange may take.
    pub(crate) timeout: Duration,
    /// Certificates to trust besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Longest text of one request, and in which unit.
    pub(crate) text_max: Option<(usize, Unit)>,
    /// The vendor recognises a repeat.
    pub(crate) idempotent: bool,
    /// How often to one recipient: in a second, and at once.
    pub(crate) per_recipient: Option<(f64, f64)>,
    result: Outcome,
}

impl std::fmt::Debug for Send {
    // Once it is opened its texts hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Send(***)")
    }
}

#[derive(Clone)]
enum UrlPiece {
    Text(String),
    Secret(String),
    Expr(Expr),
}

#[derive(Clone)]
enum Body {
    Json(Template),
    Form(Vec<(String, Source)>),
    Text(Source),
    Empty,
}

/// How the vendor's answer is read.
#[derive(Debug, Clone, Default)]
struct Outcome {
    success: Option<Expr>,
    unknown: Option<Expr>,
    retryable: Option<Expr>,
    retry_after: Option<Source>,
    ids: Vec<Source>,
    code: Option<Source>,
    reason: Option<Source>,
}

impl Send {
    /// Reads the table `send`.
    pub(crate) fn read(mut table: Table, dir: &Path, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let secrets = read_secrets(&mut table, dir, problems);
        let method = table.word("method", &METHODS, problems).unwrap_or(Verb::Post);
        let url = read_url(&mut table, &secrets, problems);
        let headers = headers(&mut table, "headers", SCOPE, problems);
        let body = read_body(&mut table, problems);
        let content_type = table.text("content_type", problems).and_then(|text| match HeaderValue::from_str(&text) {
            Ok(value) => Some(value),
            Err(_) => table.refuse("content_type", "cannot stand in a header", problems),
        });
        let timeout = table.whole("timeout_ms", 100, 60_000, problems).unwrap_or(10_000);
        let ca_file = table.text("ca_file", problems).map(|path| dir.join(path));
        let text_max = table.whole("text_max", 1, 1_000_000, problems).and_then(|max| usize::try_from(max).ok());
        let text_unit = table.word("text_unit", &UNITS, problems).unwrap_or(Unit::Chars);
        let idempotent = table.flag("idempotent", problems).unwrap_or(false);
        let per_second = table.rate("per_recipient_per_second_max", problems);
        let burst = table.rate("per_recipient_burst_max", problems);
        let result =
            table.table("result", problems).map_or_else(Outcome::default, |result| Outcome::read(result, problems));
        table.finish(problems);
        let send = Self {
            method,
            url: url?,
            headers: headers?,
            body: body?,
            content_type,
            secrets,
            timeout: Duration::from_millis(timeout),
            ca_file,
            text_max: text_max.map(|max| (max, text_unit)),
            idempotent,
            per_recipient: per_second.map(|per_second| (per_second, burst.unwrap_or(1.0))),
            result,
        };
        send.check_secrets(problems);
        (problems.len() == before).then_some(send)
    }

    /// Names secrets that there are not.
    fn check_secrets(&self, problems: &mut Problems) {
        let mut named = Vec::new();
        let mut look = |text: &str| {
            for (_, after) in text.match_indices(SECRET).map(|(at, _)| text.split_at(at + SECRET.len())) {
                named.push(after.split('}').next().unwrap_or_default().to_owned());
            }
        };
        for (_, source) in &self.headers {
            literals(source, &mut look);
        }
        match &self.body {
            Body::Json(template) => template_literals(template, &mut look),
            Body::Form(fields) => fields.iter().for_each(|(_, source)| literals(source, &mut look)),
            Body::Text(source) => literals(source, &mut look),
            Body::Empty => {}
        }
        for name in named {
            if !self.secrets.contains_key(&name) {
                problems.push(("settings.send.secrets".to_owned(), format!("there is no secret {name:?}")));
            }
        }
    }

    /// Reads the secrets.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(crate) fn open(&self) -> Result<Sender, String> {
        let mut secrets = BTreeMap::new();
        for (name, secret) in &self.secrets {
            secrets.insert(
                name.clone(),
                secret.resolve().map_err(|error| format!("settings.send.secrets.{name}: {error}"))?,
            );
        }
        let mut send = self.clone();
        for (_, source) in &mut send.headers {
            put_in(source, &secrets);
        }
        match &mut send.body {
            Body::Json(template) => put_in_template(template, &secrets),
            Body::Form(fields) => fields.iter_mut().for_each(|(_, source)| put_in(source, &secrets)),
            Body::Text(source) => put_in(source, &secrets),
            Body::Empty => {}
        }
        Ok(Sender { send, secrets })
    }

    /// The pieces of a message, each of which is one request.
    ///
    /// # Errors
    /// Permanent, when it holds something that is not text, or too much of it.
    pub(crate) fn pieces(&self, content: &[Part]) -> Result<Vec<String>, SendFailure> {
        let mut texts = Vec::new();
        for part in content {
            match part {
                Part::Text(text) => texts.push(text.body.as_str()),
                Part::System { body } => texts.push(body.as_str()),
                Part::Link { url: Some(url), .. } => texts.push(url.as_str()),
                _ => {
                    let what = "this account sends text; the message holds something else";
                    return Err(SendFailure::permanent("unsupported_content", what));
                }
            }
        }
        let text = texts.join("\n\n");
        if text.trim().is_empty() {
            return Err(SendFailure::permanent("empty", "there is no text to send"));
        }
        let pieces = match self.text_max {
            Some((max, unit)) => split(&text, max, unit),
            None => vec![text],
        };
        if pieces.len() > PIECES_MAX {
            return Err(SendFailure::permanent("too_long", format!("it would take more than {PIECES_MAX} requests")));
        }
        Ok(pieces)
    }
}

fn read_secrets(table: &mut Table, dir: &Path, problems: &mut Problems) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    let Some(found) = table.table("secrets", problems) else { return secrets };
    let (path, entries) = found.entries();
    if entries.len() > SECRETS_MAX {
        problems.push((path.clone(), format!("has more than {SECRETS_MAX} secrets")));
    }
    for (name, value) in entries {
        match secret(value, dir) {
            Ok(secret) => {
                secrets.insert(name, secret);
            }
            Err(why) => problems.push((format!("{path}.{name}"), why)),
        }
    }
    secrets
}

fn read_url(table: &mut Table, secrets: &BTreeMap<String, Secret>, problems: &mut Problems) -> Option<Vec<UrlPiece>> {
    let text = table.needed("url", problems)?;
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((inner, after)) = after.split_once('}') else {
            return table.refuse("url", "has a { without a }", problems);
        };
        pieces.push(UrlPiece::Text(before.to_owned()));
        match inner.strip_prefix("secret:") {
            Some(name) if secrets.contains_key(name) => pieces.push(UrlPiece::Secret(name.to_owned())),
            Some(name) => return table.refuse("url", &format!("there is no secret {name:?}"), problems),
            None => {
                let toml = toml::Value::String(format!("={inner}"));
                let types = [Type::Text, Type::Number];
                match SCOPE.source(&table.at("url"), &toml, &types, problems)? {
                    Source::Expr(expr) => pieces.push(UrlPiece::Expr(expr)),
                    _ => return None,
                }
            }
        }
        rest = after;
    }
    pieces.push(UrlPiece::Text(rest.to_owned()));
    // The host is the operator's word alone: nothing of a request may choose whom we call.
    let Some(UrlPiece::Text(beginning)) = pieces.first() else { return None };
    let Some((scheme, after)) = beginning.split_once("://") else {
        return table.refuse("url", "must begin with https://", problems);
    };
    let host_ends = pieces.len() == 1 || after.contains('/');
    let host = after.split(['/', '?', '#']).next().unwrap_or_default();
    if !host_ends || host.is_empty() || host.contains('@') {
        return table.refuse("url", "must name its host before anything in braces, and no user", problems);
    }
    if scheme != "https" && !(scheme == "http" && is_loopback(host)) {
        return table.refuse("url", "must begin with https://, except on this machine", problems);
    }
    let sample: String = pieces.iter().map(|piece| if let UrlPiece::Text(text) = piece { text } else { "x" }).collect();
    if sample.parse::<http::Uri>().is_err() {
        return table.refuse("url", "is no address", problems);
    }
    Some(pieces)
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn read_body(table: &mut Table, problems: &mut Problems) -> Option<Body> {
    let (json, form, text) = (table.value("json"), table.value("form"), table.value("text"));
    match (json, form, text) {
        (Some(json), None, None) => SCOPE.template(&table.at("json"), &json, problems).map(Body::Json),
        (None, Some(toml::Value::Table(fields)), None) => {
            let mut read = Vec::new();
            for (name, value) in fields {
                let path = format!("{}.{name}", table.at("form"));
                read.push((name, SCOPE.source(&path, &value, &[], problems)?));
            }
            Some(Body::Form(read))
        }
        (None, Some(_), None) => table.refuse("form", "must be a table of fields", problems),
        (None, None, Some(text)) => SCOPE.source(&table.at("text"), &text, &[Type::Text], problems).map(Body::Text),
        (None, None, None) => Some(Body::Empty),
        _ => table.refuse("json", "the body is one of json, form and text", problems),
    }
}

impl Outcome {
    fn read(mut table: Table, problems: &mut Problems) -> Self {
        let condition = |table: &mut Table, name: &'static str, problems: &mut Problems| {
            let text = table.text(name, problems)?;
            RESULT.condition(&table.at(name), &text, problems)
        };
        let success = condition(&mut table, "success", problems);
        let unknown = condition(&mut table, "unknown", problems);
        let retryable = condition(&mut table, "retryable", problems);
        let source = |table: &mut Table, name: &'static str, problems: &mut Problems| {
            let value = table.value(name)?;
            RESULT.source(&table.at(name), &value, &[], problems)
        };
        let retry_after = source(&mut table, "retry_after", problems);
        let code = source(&mut table, "code", problems);
        let reason = source(&mut table, "reason", problems);
        let ids = match table.value("id") {
            None => Vec::new(),
            Some(toml::Value::Array(list)) => {
                list.iter().filter_map(|value| RESULT.source(&table.at("id"), value, &[], problems)).collect()
            }
            Some(value) => RESULT.source(&table.at("id"), &value, &[], problems).into_iter().collect(),
        };
        table.finish(problems);
        Self { success, unknown, retryable, retry_after, ids, code, reason }
    }
}

// === secrets in templates ===

fn literals(source: &Source, look: &mut dyn FnMut(&str)) {
    if let Source::Literal(Value::String(text)) = source {
        look(text);
    }
}

fn template_literals(template: &Template, look: &mut dyn FnMut(&str)) {
    match template {
        Template::Source(source) => literals(source, look),
        Template::List(list) => list.iter().for_each(|template| template_literals(template, look)),
        Template::Map(map) => map.iter().for_each(|(_, template)| template_literals(template, look)),
    }
}

fn put_in(source: &mut Source, secrets: &BTreeMap<String, SecretString>) {
    if let Source::Literal(Value::String(text)) = source {
        for (name, secret) in secrets {
            *text = text.replace(&format!("{SECRET}{name}}}"), secret.expose());
        }
    }
}

fn put_in_template(template: &mut Template, secrets: &BTreeMap<String, SecretString>) {
    match template {
        Template::Source(source) => put_in(source, secrets),
        Template::List(list) => list.iter_mut().for_each(|template| put_in_template(template, secrets)),
        Template::Map(map) => map.iter_mut().for_each(|(_, template)| put_in_template(template, secrets)),
    }
}

// === requests ===

/// How answers are sent, with the secrets. Never printed.
pub(crate) struct Sender {
    send: Send,
    secrets: BTreeMap<String, SecretString>,
}

impl std::fmt::Debug for Sender {
    // Never what it holds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender(***)")
    }
}

/// One request of a command.
pub(crate) struct Piece<'a> {
    pub(crate) command: &'a OutCommand,
    pub(crate) text: &'a str,
    /// Which, from 0.
    pub(crate) part: u32,
    /// How many there are.
    pub(crate) parts: usize,
}

/// Names one request for ever, in the form of a UUID.
fn key(command: &OutCommand, part: u32) -> String {
    let mut hash = sha2::Sha256::new();
    for text in [command.tenant.as_str(), command.account.id.as_str(), command.command_id.as_str()] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.update(part.to_be_bytes());
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let at = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    // Version 8, variant 1: a UUID of our own making.
    format!("{}-{}-8{}-9{}-{}", at(0, 8), at(8, 12), at(13, 16), at(17, 20), at(20, 32))
}

/// Where an answer goes.
pub(crate) fn recipient(command: &OutCommand) -> &str {
    command.thread.reply_target.as_ref().map_or(command.thread.key.as_str(), |target| target.address.as_str())
}

fn failed(trouble: &Trouble) -> SendFailure {
    SendFailure::permanent("mapping", format!("settings.send: {trouble}"))
}

impl Sender {
    /// How it is sent.
    pub(crate) const fn settings(&self) -> &Send {
        &self.send
    }

    /// The request for one piece.
    ///
    /// # Errors
    /// Permanent, when it cannot be put together.
    pub(crate) fn request(&self, piece: &Piece<'_>) -> Result<Request<Bytes>, SendFailure> {
        let command = piece.command;
        let about = json!({
            "id": command.command_id, "conversation": command.conversation, "customer": command.customer,
            "message": command.message, "thread_seq": command.thread_seq, "notice": command.notice, "at": command.at,
        });
        let variables: Vec<Cow<'_, Value>> = [
            json!(piece.text),
            json!(recipient(command)),
            json!(piece.part),
            json!(piece.parts),
            json!(key(command, piece.part)),
            about,
            json!(command.thread),
            json!(command.author),
            command.reply_to.as_ref().map_or_else(|| json!({}), |reply_to| json!(reply_to)),
            json!(command.account),
        ]
        .into_iter()
        .map(Cow::Owned)
        .collect();
        let mut budget = BUDGET;
        let mut eval = Eval { variables: &variables, locals: Vec::new(), budget: &mut budget };
        let url = self.url(&mut eval).map_err(|trouble| failed(&trouble))?;
        if url.len() > URL_BYTES_MAX {
            return Err(SendFailure::permanent("mapping", "settings.send.url: becomes too long"));
        }
        let (content_type, body) = self.body(&mut eval).map_err(|trouble| failed(&trouble))?;
        if body.len() > BODY_BYTES_MAX {
            return Err(SendFailure::permanent("too_long", "the request becomes too large"));
        }
        let method = match self.send.method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
        };
        let mut request = Request::builder().method(method).uri(url);
        let content_type = self.send.content_type.clone().or(content_type.map(HeaderValue::from_static));
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        for (name, source) in &self.send.headers {
            if let Some(mut value) = header_value(source, &mut eval).map_err(|trouble| failed(&trouble))? {
                value.set_sensitive(!source.is_found());
                request = request.header(name, value);
            }
        }
        // The address may hold a secret, and is not repeated.
        request.body(Bytes::from(body)).map_err(|_| SendFailure::permanent("mapping", "settings.send: is no request"))
    }

    fn url<'a>(&'a self, eval: &mut Eval<'a, '_>) -> Result<String, Trouble> {
        let mut url = String::new();
        for piece in &self.send.url {
            match piece {
                UrlPiece::Text(text) => url.push_str(text),
                UrlPiece::Secret(name) => url.push_str(self.secrets.get(name).map_or("", SecretString::expose)),
                UrlPiece::Expr(expr) => {
                    let value = eval.value(expr)?;
                    url.push_str(&encode_uri(&plain(&value)?));
                }
            }
        }
        Ok(url)
    }

    fn body<'a>(&'a self, eval: &mut Eval<'a, '_>) -> Result<(Option<&'static str>, String), Trouble> {
        match &self.send.body {
            Body::Json(template) => {
                let value = template.value(eval)?.unwrap_or_default();
                Ok((Some("application/json"), value.to_string()))
            }
            Body::Form(fields) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (name, source) in fields {
                    match source.value(eval) {
                        Ok(value) if value.is_null() => {}
                        Ok(value) => {
                            form.append_pair(name, &plain(&value)?);
                        }
                        Err(Trouble::Missing(_)) => {}
                        Err(trouble) => return Err(trouble),
                    }
                }
                Ok((Some("application/x-www-form-urlencoded"), form.finish()))
            }
            Body::Text(source) => Ok((Some("text/plain; charset=utf-8"), plain(&*source.value(eval)?)?)),
            Body::Empty => Ok((None, String::new())),
        }
    }

    /// What the vendor's answer means: the ids of what was sent.
    ///
    /// # Errors
    /// When it was not sent, or nobody knows.
    pub(crate) fn outcome(&self, answer: &Response<Bytes>) -> Result<Vec<SmolStr>, SendFailure> {
        let status = answer.status();
        let mut headers = serde_json::Map::new();
        for (name, value) in answer.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.into());
            }
        }
        let body = String::from_utf8_lossy(answer.body());
        let parsed = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
        let variables: Vec<Cow<'_, Value>> = vec![
            Cow::Owned(parsed),
            Cow::Owned(status.as_u16().into()),
            Cow::Owned(headers.into()),
            Cow::Owned((&*body).into()),
        ];
        let mut budget = BUDGET;
        let mut eval = Eval { variables: &variables, locals: Vec::new(), budget: &mut budget };
        let result = &self.send.result;
        if holds(&mut eval, result.success.as_ref(), status.is_success()) {
            let mut ids = Vec::new();
            for source in &result.ids {
                match source.value(&mut eval).ok().as_deref() {
                    Some(Value::Array(list)) => {
                        ids.extend(list.iter().filter_map(|id| plain(id).ok()).map(SmolStr::from));
                    }
                    Some(value) => ids.extend(plain(value).ok().map(SmolStr::from)),
                    None => {}
                }
            }
            ids.retain(|id| !id.is_empty() && id.len() <= adapter::contract::limits::KEY_BYTES_MAX);
            return Ok(ids);
        }
        let code = said(&mut eval, result.code.as_ref()).unwrap_or_else(|| format!("http_{}", status.as_u16()));
        let reason = said(&mut eval, result.reason.as_ref());
        let reason = reason.unwrap_or_else(|| format!("the vendor answered {}", status.as_u16()));
        let wait = said(&mut eval, result.retry_after.as_ref()).or_else(|| {
            answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned)
        });
        let wait = wait.and_then(|text| text.trim().parse::<f64>().ok());
        let wait = wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).map(|wait| wait.min(WAIT_MAX));
        let not_now = [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ]
        .contains(&status);
        // What failed within the vendor may have been sent all the same.
        let perhaps = status.is_server_error() && !not_now;
        let unknown = perhaps && !self.send.idempotent && result.retryable.is_none();
        let class = if holds(&mut eval, result.unknown.as_ref(), unknown) {
            Class::Unknown
        } else if holds(&mut eval, result.retryable.as_ref(), not_now || perhaps) {
            Class::Retryable { after: wait }
        } else {
            Class::Permanent
        };
        Err(SendFailure { class, code: code.into(), message: reason })
    }
}

/// Whether a condition holds; one that costs too much does not.
fn holds<'a>(eval: &mut Eval<'a, '_>, condition: Option<&'a Expr>, otherwise: bool) -> bool {
    condition.map_or(otherwise, |condition| eval.holds(condition) == Ok(true))
}

/// A short text of the vendor's.
fn said<'a>(eval: &mut Eval<'a, '_>, source: Option<&'a Source>) -> Option<String> {
    let value = source?.value(eval).ok()?;
    let text = plain(&value).ok()?;
    (!text.is_empty()).then(|| text.chars().take(REASON_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(text: &str) -> Sender {
        let table: toml::Table = toml::from_str(text).unwrap();
        let mut problems = Problems::new();
        let read = Send::read(Table::new("settings.send".to_owned(), table), Path::new(""), &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        read.unwrap().open().unwrap()
    }

    fn command(text: &str) -> OutCommand {
        serde_json::from_value(json!({
            "v": 1, "command_id": "main/m1", "tenant": "main", "account": {"kind": "webhook", "id": "acme"},
            "thread": {"key": "chat/1", "reply_target": {"address": "ann ü"}}, "conversation": "c1", "customer": "u1",
            "message": "m1", "thread_seq": 1, "author": {"agent": "anna", "display": "Anna"},
            "content": [{"type": "text", "body": text}], "at": 1,
        }))
        .unwrap()
    }

    fn answer(status: u16, body: &str) -> Response<Bytes> {
        Response::builder().status(status).header("retry-after", "7").body(Bytes::from(body.to_owned())).unwrap()
    }

    #[test]
    fn a_request_says_what_the_file_says() {
        let secret = std::env::temp_dir().join(format!("throughline-send-{}", std::process::id()));
        std::fs::write(&secret, "hunter2").unwrap();
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).unwrap();
        let sender = sender(&format!(
            "secrets = {{ k = {{ file = \"{}\" }} }}\nurl = \"https://api.example/bot{{secret:k}}/{{to}}?n={{part}}\"\n\
             headers = {{ Authorization = \"Bearer {{secret:k}}\", X-Key = \"= key\" }}\n\
             json = {{ to = \"= to\", text = \"= text\", gone = \"= reply_to.external_id\", deep = [\"x\", {{ token = \"{{secret:k}}\" }}] }}",
            secret.display()
        ));
        let command = command("a \"quoted\" {secret:k}");
        let piece = Piece { command: &command, text: "a \"quoted\" {secret:k}", part: 0, parts: 1 };
        let request = sender.request(&piece).unwrap();
        assert_eq!(request.uri(), "https://api.example/bothunter2/ann%20%C3%BC?n=0");
        assert_eq!(request.headers()["authorization"], "Bearer hunter2");
        assert!(request.headers()["authorization"].is_sensitive());
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        // What a customer or an agent writes is no template.
        let expected = json!({"to": "ann ü", "text": "a \"quoted\" {secret:k}", "deep": ["x", {"token": "hunter2"}]});
        assert_eq!(body, expected);
        let key = request.headers()["x-key"].to_str().unwrap().to_owned();
        assert_eq!(key.len(), 36);
        assert_eq!(sender.request(&piece).unwrap().headers()["x-key"], key, "the same at every try");
        assert_ne!(sender.request(&Piece { part: 1, ..piece }).unwrap().headers()["x-key"], key);
        assert!(!format!("{sender:?} {:?}", sender.settings()).contains("hunter2"));
        std::fs::remove_file(secret).unwrap();
    }

    #[test]
    fn an_answer_is_read_as_the_file_says() {
        let plain = sender("url = \"https://api.example/\"\ntext = \"= text\"");
        let class = |sender: &Sender, status, body: &str| sender.outcome(&answer(status, body)).unwrap_err().class;
        assert_eq!(plain.outcome(&answer(204, "")), Ok(Vec::new()));
        let wait = Some(Duration::from_secs(7));
        assert_eq!(class(&plain, 429, ""), Class::Retryable { after: wait });
        assert_eq!(class(&plain, 503, ""), Class::Retryable { after: wait });
        assert_eq!(class(&plain, 500, ""), Class::Unknown, "it may have been sent");
        assert_eq!(class(&plain, 400, ""), Class::Permanent);
        let idempotent = sender("url = \"https://api.example/\"\nidempotent = true");
        assert_eq!(class(&idempotent, 500, ""), Class::Retryable { after: wait });
        let read = sender(
            "url = \"https://api.example/\"\n[result]\nsuccess = \"status == 200 && answer.status == 0\"\nid = [\"/token\", \"/more\"]\n\
             retryable = \"answer.status == 12\"\nretry_after = \"/wait\"\ncode = \"/status\"\nreason = \"/message\"",
        );
        let sent = read.outcome(&answer(200, r#"{"status": 0, "token": 4912661846656238145, "more": ["a", 5]}"#));
        assert_eq!(sent.unwrap(), ["4912661846656238145", "a", "5"]);
        let busy = read.outcome(&answer(200, r#"{"status": 12, "message": "slow down", "wait": 1.5}"#)).unwrap_err();
        assert_eq!(busy.class, Class::Retryable { after: Some(Duration::from_millis(1500)) });
        assert_eq!((busy.code.as_str(), busy.message.as_str()), ("12", "slow down"));
        assert_eq!(class(&read, 200, r#"{"status": 6}"#), Class::Permanent);
        assert_eq!(class(&read, 200, "no json"), Class::Permanent);
    }

    #[test]
    fn long_texts_are_cut_and_what_is_no_text_is_refused() {
        let sender = sender("url = \"https://api.example/\"\ntext_max = 5");
        let pieces = sender.settings().pieces(&command("one two three").content).unwrap();
        assert!(pieces.len() >= 3 && pieces.iter().all(|piece| piece.chars().count() <= 5), "{pieces:?}");
        let media: Vec<Part> = serde_json::from_value(json!([{"type": "media", "kind": "image"}])).unwrap();
        assert_eq!(sender.settings().pieces(&media).unwrap_err().code, "unsupported_content");
        assert_eq!(sender.settings().pieces(&command(&"x".repeat(1000)).content).unwrap_err().code, "too_long");
        assert_eq!(sender.settings().pieces(&[]).unwrap_err().code, "empty");
    }
}
