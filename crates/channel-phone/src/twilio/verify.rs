//! Whether Twilio wrote a request: `X-Twilio-Signature`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use adapter::http::Method;
use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, hmac, sign};
use adapter::webhook::Request;
use sha2::{Digest, Sha256};

use crate::query;

/// The header that holds the signature.
pub(crate) const SIGNATURE: &str = "x-twilio-signature";
/// The parameter that holds the hash of a body that is no form.
const BODY_SHA256: &str = "bodySHA256";
/// Most fields of a form. Twilio sends about fifty.
const FIELDS_MAX: usize = 512;

/// What an authentic request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Fields, in order.
    Form(Vec<(String, String)>),
    /// Something else, whose hash is in the address.
    Other,
}

/// The fields of a request when Twilio signed it.
///
/// # Errors
/// With why not.
pub(crate) fn said(request: &Request, tokens: &[SecretString]) -> Result<Said, &'static str> {
    let given = request.header(SIGNATURE).ok_or("no signature")?;
    if let Some(hash) = request.query.as_deref().and_then(|query| query::parameter(query, BODY_SHA256)) {
        let right = adapter::verify::encode(Encoding::Hex, &Sha256::digest(&request.body));
        // Of what everybody can see, so it need not take the same time.
        if !hash.eq_ignore_ascii_case(&right) {
            return Err("hash of the body");
        }
        return if holds(request, &[], tokens, given) { Ok(Said::Other) } else { Err("signature") };
    }
    // What is in the address is signed with it.
    let body: &[u8] = if request.method == Method::GET { &[] } else { &request.body };
    let text = std::str::from_utf8(body).ok();
    let fields = text.and_then(|text| query::pairs(text, FIELDS_MAX)).ok_or("not a form")?;
    if holds(request, &fields, tokens, given) { Ok(Said::Form(fields)) } else { Err("signature") }
}

/// Twilio signs now with and now without the port that goes without saying.
fn holds(request: &Request, fields: &[(String, String)], tokens: &[SecretString], given: &str) -> bool {
    let rest = text(fields);
    let mut found = false;
    for url in [Some(request.url.clone()), with_port(&request.url), without_port(&request.url)].into_iter().flatten() {
        let parts: [&[u8]; 2] = [url.as_bytes(), rest.as_bytes()];
        found |= hmac(Algorithm::Sha1, tokens, &parts, Encoding::Base64, given);
    }
    found
}

/// The signature of a request with a form.
pub(crate) fn signature(url: &str, fields: &[(String, String)], token: &SecretString) -> String {
    sign(Algorithm::Sha1, token, &[url.as_bytes(), text(fields).as_bytes()], Encoding::Base64)
}

/// Names and values, sorted, each pair once.
fn text(fields: &[(String, String)]) -> String {
    let mut sorted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in fields {
        sorted.entry(name).or_default().insert(value);
    }
    let mut text = String::new();
    for (name, values) in sorted {
        for value in values {
            text.push_str(name);
            text.push_str(value);
        }
    }
    text
}

/// Scheme, authority and the rest of an address, with the port that goes without saying.
fn split(url: &str) -> Option<(&str, &str, &str, &'static str)> {
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    Some((scheme, authority, rest, port))
}

fn with_port(url: &str) -> Option<String> {
    let (scheme, authority, rest, port) = split(url)?;
    // The host alone: in front of it there may be a user with a colon, and it may be an address with some.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let has = host.rsplit_once(']').map_or(host, |(_, port)| port).contains(':');
    (!has).then(|| format!("{scheme}://{authority}{port}{rest}"))
}

fn without_port(url: &str) -> Option<String> {
    let (scheme, authority, rest, port) = split(url)?;
    authority.strip_suffix(port).map(|authority| format!("{scheme}://{authority}{rest}"))
}

#[cfg(test)]
mod tests;
