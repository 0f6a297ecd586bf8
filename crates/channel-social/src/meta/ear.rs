//! Hears the platform's requests: the handshake, and events that the app's secret signed. Pure.

use adapter::OpenError;
use adapter::http::{Method, StatusCode};
use adapter::runtime::secret::SecretString;
use adapter::verify::{self, Encoding};
use adapter::webhook::{Hook, Reply, Request, Siblings, Verdict};
use serde_json::Value;

use super::settings::App;
use super::{Desk, Facts, Register, dead};
use crate::found::Place;
use crate::provider::{Claims, MADE_UP, Signature, Trust};
use crate::query::parameter;
use crate::read::At;
use crate::serve::Shelf;
use crate::{page, whatsapp};

/// Where the signature is. The older one, of SHA-1, is not looked at.
const SIGNATURE: Signature = Signature { header: "x-hub-signature-256", prefix: "sha256=", encoding: Encoding::Hex };
/// What the handshake shows.
const VERIFY_TOKEN: &str = "hub.verify_token";
/// Longest challenge that is sent back, in bytes.
const CHALLENGE_BYTES_MAX: usize = 1024;

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    /// The app's secret: one, or two while it is changed.
    secrets: Vec<SecretString>,
    /// What the handshake must show.
    verify_tokens: Vec<SecretString>,
    register: Register,
    /// Where the provider fetches files.
    shelf: Option<Shelf>,
}

impl Ear {
    /// Hears for one account of an app, of which `facts` are known.
    pub(crate) fn open(
        app: &App,
        place: Place,
        trust: Trust,
        facts: Facts,
        register: &Register,
    ) -> Result<Self, OpenError> {
        let secrets = trust.secrets(&app.secret, "app.secret")?;
        let verify_tokens = trust.secrets(&app.verify_token, "app.verify_token")?;
        register.put(&place, facts);
        Ok(Self::new(place, secrets, verify_tokens, register.clone()))
    }

    /// Hears for one account.
    pub(crate) fn new(
        place: Place,
        secrets: Vec<SecretString>,
        verify_tokens: Vec<SecretString>,
        register: Register,
    ) -> Self {
        Self { place, secrets, verify_tokens, register, shelf: None }
    }

    /// Gives files out, too.
    pub(crate) fn with_shelf(self, shelf: Shelf) -> Self {
        Self { shelf: Some(shelf), ..self }
    }

    /// The secret that proves to the API that we know it.
    pub(crate) fn secret(&self) -> Option<&SecretString> {
        self.secrets.first()
    }

    /// The claim of each id, under each secret.
    pub(crate) fn claims(&self, ids: &[String]) -> Claims {
        let trusts = self.secrets.iter().map(verify::fingerprint);
        trusts.flat_map(|trust| ids.iter().map(move |id| (trust.clone(), id.clone()))).collect()
    }

    /// Whoever configures the address in the console shows the token; the challenge goes back as it came.
    fn handshake(&self, request: &Request) -> Verdict {
        let query = request.query.as_deref().unwrap_or_default();
        if parameter(query, "hub.mode").as_deref() != Some("subscribe") {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "no handshake");
        }
        let token = parameter(query, VERIFY_TOKEN).unwrap_or_default();
        if !verify::token(&self.verify_tokens, &token) {
            return Verdict::refuse(StatusCode::FORBIDDEN, "verify token");
        }
        match parameter(query, "hub.challenge").filter(|challenge| is_challenge(challenge)) {
            Some(challenge) => Verdict::Answer(Reply::body("text/plain; charset=utf-8", challenge)),
            None => Verdict::refuse(StatusCode::BAD_REQUEST, "challenge"),
        }
    }

    fn events(&self, request: &Request, accounts: &Siblings) -> Verdict {
        let trust = match SIGNATURE.check(request, &self.secrets) {
            Ok(secret) => verify::fingerprint(secret),
            Err(refused) => return refused,
        };
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON");
        };
        let body = At::new(&body);
        let desk = Desk { own: &self.place, accounts, trust: &trust, register: &self.register, now: request.at };
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
            _ => self.events(request, accounts),
        }
    }
}

/// Signs a request with [`MADE_UP`]; a handshake shows it as its token.
pub(crate) fn prove(request: &mut Request) {
    if request.method == Method::GET {
        let query = request.query.take().unwrap_or_default();
        let shown = |pair: &&str| pair.split('=').next() != Some(VERIFY_TOKEN);
        let query = query.split('&').filter(shown).map(str::to_owned).chain([format!("{VERIFY_TOKEN}={MADE_UP}")]);
        request.query = Some(query.collect::<Vec<_>>().join("&"));
    } else {
        SIGNATURE.prove(request);
    }
}

fn is_challenge(text: &str) -> bool {
    (1..=CHALLENGE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
