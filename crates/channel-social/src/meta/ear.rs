//! Hears the platform's requests: the handshake, and events that the app's secret signed. Pure.

use adapter::http::{Method, StatusCode};
use adapter::runtime::secret::SecretString;
use adapter::verify::{self, Algorithm, Encoding};
use adapter::webhook::{Hook, Reply, Request, Siblings, Verdict};
use serde_json::Value;

use super::{Desk, Register, dead};
use crate::found::Place;
use crate::query::parameter;
use crate::read::At;
use crate::serve::Shelf;
use crate::{page, whatsapp};

/// The header that holds the signature. The older one, of SHA-1, is not looked at.
const SIGNATURE: &str = "x-hub-signature-256";
/// Longest challenge that is sent back, in bytes.
const CHALLENGE_BYTES_MAX: usize = 1024;

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    /// The app's secret: one, or two while it is changed.
    secrets: Vec<SecretString>,
    /// Their fingerprints, in the same order.
    trusts: Vec<String>,
    /// What the handshake must show.
    verify_tokens: Vec<SecretString>,
    register: Register,
    /// Where the provider fetches files.
    shelf: Option<Shelf>,
}

impl Ear {
    /// Hears for one account.
    pub(crate) fn new(
        place: Place,
        secrets: Vec<SecretString>,
        verify_tokens: Vec<SecretString>,
        register: Register,
    ) -> Self {
        let trusts = secrets.iter().map(verify::fingerprint).collect();
        Self { place, secrets, trusts, verify_tokens, register, shelf: None }
    }

    /// Gives files out, too.
    pub(crate) fn with_shelf(self, shelf: Shelf) -> Self {
        Self { shelf: Some(shelf), ..self }
    }

    /// The fingerprints under which accounts are claimed.
    pub(crate) fn trusts(&self) -> &[String] {
        &self.trusts
    }

    /// Whoever configures the address in the console shows the token; the challenge goes back as it came.
    fn handshake(&self, request: &Request) -> Verdict {
        let query = request.query.as_deref().unwrap_or_default();
        if parameter(query, "hub.mode").as_deref() != Some("subscribe") {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "no handshake");
        }
        let token = parameter(query, "hub.verify_token").unwrap_or_default();
        if !verify::token(&self.verify_tokens, &token) {
            return Verdict::refuse(StatusCode::FORBIDDEN, "verify token");
        }
        match parameter(query, "hub.challenge").filter(|challenge| is_challenge(challenge)) {
            Some(challenge) => Verdict::Answer(Reply::body("text/plain; charset=utf-8", challenge)),
            None => Verdict::refuse(StatusCode::BAD_REQUEST, "challenge"),
        }
    }

    fn events(&self, request: &Request, accounts: &Siblings) -> Verdict {
        let Some(given) = request.header(SIGNATURE).and_then(|value| value.strip_prefix("sha256=")) else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "no signature");
        };
        let by = verify::hmac_by(Algorithm::Sha256, &self.secrets, &[&request.body], Encoding::Hex, given);
        let Some(trust) = by.and_then(|at| self.trusts.get(at)) else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "signature");
        };
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON");
        };
        let body = At::new(&body);
        let desk = Desk { own: &self.place, accounts, trust, register: &self.register, now: request.at };
        // An app has one address for each product, and may have the same for all.
        let items = match body.text("object") {
            _ if !body.get("entry").value().is_some_and(Value::is_array) => {
                vec![dead(Some(&self.place), "events without a list of entries", body)]
            }
            Some("whatsapp_business_account") => whatsapp::normalize::read(&desk, body),
            Some("page") => page::normalize::read(&desk, page::Product::Messenger, body),
            Some("instagram") => page::normalize::read(&desk, page::Product::Instagram, body),
            _ => vec![dead(Some(&self.place), "events of an object that is not known", body)],
        };
        Verdict::Take { items, reply: Reply::ok() }
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict {
        if let Some(verdict) = self.shelf.as_ref().and_then(|shelf| shelf.answer(request)) {
            return verdict;
        }
        match request.method {
            Method::GET => self.handshake(request),
            Method::POST => self.events(request, accounts),
            _ => Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method"),
        }
    }
}

fn is_challenge(text: &str) -> bool {
    (1..=CHALLENGE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
