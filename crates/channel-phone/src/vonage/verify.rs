//! Whether Vonage wrote a request: a token (JWT, HS256) that names the hash of the body, or, for texts, the older
//! parameter `sig` (HMAC-SHA256). Pure.

use std::collections::HashSet;

use adapter::http::Method;
use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, encode, hmac};
use adapter::webhook::Request;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::query;
use crate::read::At;

/// How old what is said of a call may be, and how far ahead Vonage's clock: what is repeated later is nobody's delivery.
const AGE_MAX_S: u64 = 300;
/// How old a text may be. Vonage sends for 24 hours what was not taken, and what comes twice is known by its id.
const TEXT_AGE_MAX_S: u64 = 26 * 60 * 60;
/// Longest token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Most parameters of a request.
const PARAMETERS_MAX: usize = 256;

/// What webhooks are checked against.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// The signature secrets.
    pub(crate) secrets: Vec<SecretString>,
    /// The account.
    pub(crate) api_key: String,
    /// The application.
    pub(crate) application_id: Option<String>,
}

/// What a token says.
#[derive(Debug, Deserialize)]
struct Claims {
    iat: u64,
    #[serde(default)]
    exp: Option<u64>,
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    application_id: Option<String>,
    #[serde(default)]
    payload_hash: Option<String>,
}

/// What a request says when Vonage wrote it: its JSON, or its parameters as an object.
///
/// `of_text`: the address is for texts; for others `sig` proves nothing.
///
/// # Errors
/// With why it is not taken.
pub(crate) fn said(request: &Request, keys: &Keys, of_text: bool) -> Result<Value, &'static str> {
    let authorization = request.header("authorization");
    let bearer = authorization.and_then(|value| value.split_once(' '));
    match bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        Some((_, token)) => by_token(request, keys, token.trim(), if of_text { TEXT_AGE_MAX_S } else { AGE_MAX_S }),
        None if of_text => by_parameter(request, keys),
        None => Err("no token"),
    }
}

/// Whether a time is within what is allowed of our own.
const fn is_timely(at: u64, now: u64, age_max: u64) -> bool {
    at <= now.saturating_add(AGE_MAX_S) && now <= at.saturating_add(age_max)
}

fn by_token(request: &Request, keys: &Keys, token: &str, age_max: u64) -> Result<Value, &'static str> {
    let claims = claims(token, &keys.secrets).ok_or("token")?;
    // Else whoever saw one token could send anything with it.
    let hash = claims.payload_hash.as_deref().ok_or("no hash of the body")?;
    let parameters = query::pairs(request.query.as_deref().unwrap_or_default(), PARAMETERS_MAX);
    let written = match (&request.method, &parameters) {
        (&Method::GET, Some(pairs)) => object_text(pairs).into_bytes(),
        (&Method::GET, None) => return Err("not parameters"),
        _ => request.body.to_vec(),
    };
    // Of what everybody can see, so it need not take the same time.
    if !hash.eq_ignore_ascii_case(&encode(Encoding::Hex, &Sha256::digest(&written))) {
        return Err("hash of the body");
    }
    let now = request.at.0 / 1000;
    if !is_timely(claims.iat, now, age_max) || claims.exp.is_some_and(|exp| exp.saturating_add(age_max) < now) {
        return Err("time");
    }
    if claims.api_key.is_some_and(|key| key != keys.api_key) {
        return Err("another account");
    }
    match (&claims.application_id, &keys.application_id) {
        (Some(told), Some(own)) if told != own => return Err("another application"),
        _ => {}
    }
    match (&request.method, parameters) {
        (&Method::GET, Some(pairs)) => Ok(object(pairs)),
        _ => body(request),
    }
}

fn claims(token: &str, secrets: &[SecretString]) -> Option<Claims> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut rules = Validation::new(jsonwebtoken::Algorithm::HS256);
    // Time is checked against the time we are given.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims = HashSet::new();
    let with = |secret: &SecretString| {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        decode::<Claims>(token, &key, &rules).ok().map(|found| found.claims)
    };
    secrets.iter().filter(|secret| !secret.expose().is_empty()).find_map(with)
}

fn by_parameter(request: &Request, keys: &Keys) -> Result<Value, &'static str> {
    let pairs = match request.method {
        Method::GET => query::pairs(request.query.as_deref().unwrap_or_default(), PARAMETERS_MAX),
        _ if is_form(request) => form(request),
        _ => body(request).ok().and_then(|value| flat(&value)),
    };
    let pairs = pairs.ok_or("not parameters")?;
    let find = |name: &str| {
        let mut found = pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        found.next().filter(|_| found.next().is_none())
    };
    let given = find("sig").ok_or("no signature")?;
    let text = signed_text(&pairs);
    if !hmac(Algorithm::Sha256, &keys.secrets, &[text.as_bytes()], Encoding::Hex, given) {
        return Err("signature");
    }
    let at = find("timestamp").and_then(|text| text.parse::<u64>().ok()).ok_or("no time")?;
    if !is_timely(at, request.at.0 / 1000, TEXT_AGE_MAX_S) {
        return Err("time");
    }
    if find("api-key").is_some_and(|key| key != keys.api_key) {
        return Err("another account");
    }
    match request.method {
        Method::GET => Ok(object(pairs)),
        _ if is_form(request) => Ok(object(pairs)),
        _ => body(request),
    }
}

/// What `sig` is over: every other parameter, sorted by name. What could begin another one is written differently.
pub(crate) fn signed_text(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = pairs.iter().filter(|(name, _)| name != "sig").collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    let pair = |(name, value): &(String, String)| format!("&{name}={}", value.replace(['&', '='], "_"));
    sorted.into_iter().map(pair).collect()
}

fn is_form(request: &Request) -> bool {
    request.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

fn form(request: &Request) -> Option<Vec<(String, String)>> {
    std::str::from_utf8(&request.body).ok().and_then(|text| query::pairs(text, PARAMETERS_MAX))
}

fn body(request: &Request) -> Result<Value, &'static str> {
    if is_form(request) {
        return form(request).map(object).ok_or("not a form");
    }
    serde_json::from_slice(&request.body).map_err(|_| "not JSON")
}

/// A JSON object whose values are written as Vonage signs them; `None`: it is none, or holds something else.
fn flat(value: &Value) -> Option<Vec<(String, String)>> {
    let fields = value.as_object().filter(|fields| fields.len() <= PARAMETERS_MAX)?;
    let text = |(name, value): (&String, &Value)| {
        let at = At::new(value);
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) if number.is_f64() => number.to_string(),
            _ => at.as_id()?.to_string(),
        };
        Some((name.clone(), text))
    };
    fields.iter().map(text).collect()
}

fn object(pairs: Vec<(String, String)>) -> Value {
    // One that is there twice means nothing.
    let mut fields = Map::new();
    let mut twice = HashSet::new();
    for (name, value) in pairs {
        if fields.insert(name.clone(), Value::String(value)).is_some() {
            twice.insert(name);
        }
    }
    fields.retain(|name, _| !twice.contains(name));
    Value::Object(fields)
}

/// The parameters as JSON, in their order.
pub(crate) fn object_text(pairs: &[(String, String)]) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let fields: Vec<String> = pairs.iter().map(|(name, value)| format!("{}:{}", text(name), text(value))).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests;
