//! `throughline channel try`: what a request would become, without a bus.

use std::io::Read;
use std::net::IpAddr;

use adapter::AccountFile;
use adapter::bytes::Bytes;
use adapter::http::{HeaderMap, HeaderName, HeaderValue, Method};
use adapter::webhook::{Item, Reply, Request, Siblings, Verdict};
use contract::{Timestamp, token};
use serde_json::{Value, json};

use crate::Failure;
use crate::cli::ChannelTry;
use crate::output::{complain, say};
use crate::roles;

/// Largest request that is read.
const REQUEST_BYTES_MAX: u64 = 8 * 1024 * 1024;
const UNVERIFIED: &str = "NOT VERIFIED: --unverified believes every request; this shows what a request would mean, not \
                          that it would be let in";

/// Reads a request from standard input and shows what becomes of it.
pub(crate) fn run(options: &ChannelTry, as_json: bool) -> Result<(), Failure> {
    let mut raw = Vec::new();
    let mut input = std::io::stdin().lock().take(REQUEST_BYTES_MAX + 1);
    input.read_to_end(&mut raw).map_err(|error| Failure::Other(format!("the request cannot be read: {error}")))?;
    if raw.len() as u64 > REQUEST_BYTES_MAX {
        return Err(Failure::Other(format!("the request has more than {REQUEST_BYTES_MAX} bytes")));
    }
    let file = AccountFile::read(&options.config).map_err(Failure::Settings)?;
    let request = request(options, &file, raw)?;
    let (tenant, account) = (file.tenant.clone(), file.envelope_account());
    let ready = adapter::prepare(&roles::kinds(), vec![file]).map_err(Failure::Settings)?;
    let rehearsal = ready.first().and_then(|ready| ready.rehearse(options.unverified));
    let rehearsal = rehearsal.ok_or_else(|| {
        let why = if options.unverified { "; without --unverified, its secrets are read" } else { "" };
        Failure::Other(format!("{}/{} cannot be tried like this: it has no webhook{why}", account.kind, account.id))
    })??;
    if options.unverified {
        complain(UNVERIFIED);
    }
    let claims = rehearsal.claims.iter().map(|(trust, native)| (trust.as_str(), native.as_str(), account.clone()));
    let siblings = Siblings::of(claims);
    let verdict = rehearsal.hook.receive(&request, &siblings);
    tracing::debug!(%tenant, "tried");
    show(options, as_json, verdict)
}

/// The request that standard input holds.
fn request(options: &ChannelTry, file: &AccountFile, raw: Vec<u8>) -> Result<Request, Failure> {
    let own = format!("/hook/{}/{}", token::encode(file.kind.as_str()), token::encode(file.account.as_str()));
    let (method, target, mut headers, body) = if options.body_only {
        (Method::POST, own.clone(), HeaderMap::new(), raw)
    } else {
        parse(&raw).map_err(|why| {
            Failure::Other(format!("standard input is no HTTP request: {why}; with --body-only it is the body alone"))
        })?
    };
    for header in &options.header {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        let (name, value) = (HeaderName::from_bytes(name.trim().as_bytes())?, HeaderValue::from_str(value.trim())?);
        headers.insert(name, value);
    }
    let method = match &options.method {
        Some(method) => Method::from_bytes(method.as_bytes())?,
        None => method,
    };
    let target = options.target.clone().unwrap_or(target);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target.as_str(), None),
    };
    // A request that was caught elsewhere has another path; then there is nothing after the account.
    let suffix = path.strip_prefix(own.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default().to_owned();
    let at = options.at.map_or_else(adapter::now, Timestamp);
    Ok(Request {
        method,
        suffix,
        query,
        headers,
        body: Bytes::from(body),
        peer: options.peer.unwrap_or(IpAddr::from([127, 0, 0, 1])),
        url: format!("{}{target}", options.base_url.trim_end_matches('/')),
        target,
        client_subject: options.client_subject.clone(),
        at,
    })
}

type Parsed = (Method, String, HeaderMap, Vec<u8>);

/// Takes the text of an HTTP/1 request apart. Lines may end as an editor ends them.
fn parse(raw: &[u8]) -> Result<Parsed, String> {
    let (head, body) = match (find(raw, b"\r\n\r\n"), find(raw, b"\n\n")) {
        (Some(at), other) if other.is_none_or(|other| at < other) => (raw.get(..at), raw.get(at + 4..)),
        (_, Some(at)) => (raw.get(..at), raw.get(at + 2..)),
        _ => (Some(raw), None),
    };
    let head = std::str::from_utf8(head.unwrap_or_default()).map_err(|_| "its head is not text")?;
    let mut body = body.unwrap_or_default().to_vec();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split_whitespace();
    let (Some(method), Some(target), Some(version)) = (first.next(), first.next(), first.next()) else {
        return Err("its first line is not like POST /path HTTP/1.1".to_owned());
    };
    if !version.starts_with("HTTP/") || !target.starts_with('/') {
        return Err("its first line is not like POST /path HTTP/1.1".to_owned());
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "its method is none")?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header has no colon")?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "a header's name is none")?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| "a header's value is none")?);
    }
    if headers.contains_key("transfer-encoding") {
        return Err("its body is in chunks; write it as it is".to_owned());
    }
    // What an editor puts behind the body is not of it.
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(length) = length {
        if body.len() < length {
            return Err(format!("its body has {} bytes, and content-length says {length}", body.len()));
        }
        body.truncate(length);
    }
    Ok((method, target.to_owned(), headers, body))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn show(options: &ChannelTry, as_json: bool, verdict: Verdict) -> Result<(), Failure> {
    let (items, reply) = match verdict {
        Verdict::Refuse { status, why } => {
            if as_json {
                say(&json!({ "refused": why, "status": status.as_u16() }).to_string());
            }
            return Err(Failure::Other(format!("refused with {}: {why}", status.as_u16())));
        }
        Verdict::Answer(reply) => (Vec::new(), Some(reply)),
        Verdict::Take { items, reply } => (items, Some(reply)),
        Verdict::Later { items, .. } => (items, None),
    };
    let dead = items.iter().filter(|item| matches!(item, Item::Dead { .. })).count();
    if options.envelopes {
        say(&serde_json::to_string_pretty(&record(&items))?);
    } else if as_json {
        let items: Vec<Value> = items.iter().map(item).collect();
        say(&serde_json::to_string_pretty(&json!({ "items": items, "reply": reply.as_ref().map(answer) }))?);
    } else {
        if items.is_empty() {
            say("there is nothing to store");
        }
        for (at, one) in (1..).zip(&items) {
            match one {
                Item::Dead { reason, .. } => say(&format!("{at}. goes to the dead letters: {reason}")),
                Item::Envelope { envelope, fetch, .. } => {
                    say(&format!("{at}. {}", serde_json::to_string_pretty(envelope)?));
                    if !fetch.is_empty() {
                        say(&format!("   to fetch afterwards: {}", fetch.len()));
                    }
                }
            }
        }
        match &reply {
            Some(reply) => say(&format!("answered with {}", text(reply))),
            None => say("answered by asking the router what to say"),
        }
    }
    match dead {
        0 => Ok(()),
        _ => Err(Failure::Other(format!("{dead} of {} would go to the dead letters", items.len()))),
    }
}

/// What could be put back with `dead replay --with`: an envelope, or an array of them.
fn record(items: &[Item]) -> Value {
    let mut envelopes: Vec<Value> = items
        .iter()
        .filter_map(|item| match item {
            Item::Envelope { envelope, .. } => Some(json!(envelope)),
            Item::Dead { .. } => None,
        })
        .collect();
    if envelopes.len() == 1 { envelopes.remove(0) } else { Value::Array(envelopes) }
}

fn item(item: &Item) -> Value {
    match item {
        Item::Envelope { envelope, fetch, .. } => {
            let fetch: Vec<Value> =
                fetch.iter().map(|fetch| json!({ "part": fetch.part, "source": fetch.source })).collect();
            json!({ "envelope": envelope, "fetch": fetch })
        }
        Item::Dead { reason, .. } => json!({ "dead": reason }),
    }
}

fn answer(reply: &Reply) -> Value {
    json!({ "status": reply.status.as_u16(), "body": String::from_utf8_lossy(&reply.body) })
}

fn text(reply: &Reply) -> String {
    let body = String::from_utf8_lossy(&reply.body);
    let shown: String = body.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    if shown.is_empty() { reply.status.as_u16().to_string() } else { format!("{}: {shown}", reply.status.as_u16()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_editors_and_captures_write_them() {
        let (method, target, headers, body) = parse(b"POST /a?b=c HTTP/1.1\r\nX-One: 1\r\n\r\n{\n\n}").unwrap();
        assert_eq!((method, target.as_str(), body.as_slice()), (Method::POST, "/a?b=c", &b"{\n\n}"[..]));
        assert_eq!(headers.get("x-one").unwrap(), "1");
        let (_, _, _, body) = parse(b"POST /a HTTP/1.1\ncontent-length: 2\n\n{}\n").unwrap();
        assert_eq!(body, b"{}");
        let (_, _, _, body) = parse(b"GET /a HTTP/1.1\nhost: x").unwrap();
        assert!(body.is_empty());
        for bad in [&b"{}"[..], b"POST /a HTTP/1.1\ncontent-length: 9\n\n{}", b"POST /a HTTP/1.1\nno header\n\n", b""] {
            assert!(parse(bad).is_err());
        }
    }
}
