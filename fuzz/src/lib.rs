//! What the targets share: requests with arbitrary bodies, the hooks of social accounts without their secrets, and what
//! must hold of whatever comes of a request.

use std::path::Path;
use std::sync::Arc;

use adapter::AccountFile;
use adapter::http::{HeaderMap, HeaderValue, Method};
use adapter::webhook::{Hook, Item, Request, Siblings, Verdict};
use contract::codec::Encoding;
use contract::limits::MESSAGE_BYTES_MAX;
use contract::{Envelope, Timestamp};

/// A request with this body.
#[must_use]
pub fn request(body: &[u8]) -> Request {
    Request {
        method: Method::POST,
        target: "/hook/webhook/fuzz".to_owned(),
        suffix: String::new(),
        query: None,
        headers: HeaderMap::new(),
        body: body.to_vec().into(),
        peer: [127, 0, 0, 1].into(),
        url: "https://hooks.example/hook/webhook/fuzz".to_owned(),
        client_subject: None,
        at: Timestamp(1_764_000_400_000),
    }
}

/// A request whose body is a form.
#[must_use]
pub fn form(body: &[u8]) -> Request {
    let mut form = request(body);
    form.headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded"));
    form
}

/// A request that asks with this query; `None`: it is no text.
#[must_use]
pub fn query(raw: &[u8]) -> Option<Request> {
    let query = Some(std::str::from_utf8(raw).ok()?.to_owned());
    Some(Request { method: Method::GET, query, ..request(b"") })
}

/// Accounts of social channels that believe every request, as `channel try --unverified` has them.
pub struct Social {
    hooks: Vec<Arc<dyn Hook>>,
    claims: Siblings,
}

impl Social {
    /// The accounts of these files, without the lines that all have.
    ///
    /// # Panics
    /// When one is not in order.
    #[must_use]
    pub fn open(accounts: &[&str]) -> Self {
        let kind = channel_social::register();
        let (mut hooks, mut claims) = (Vec::new(), Vec::new());
        for (nth, account) in accounts.iter().enumerate() {
            let text = format!("kind = \"social\"\naccount = \"fuzz-{nth}\"\n{account}");
            let table = adapter::toml::from_str(&text).expect("TOML");
            let file = AccountFile::from_table(&table, Path::new("fuzz.toml")).expect("an account");
            let prepared = kind.prepare(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
            let rehearsal = prepared.rehearse(&file.tenant, &file.envelope_account(), true).expect("a hook");
            let rehearsal = rehearsal.unwrap_or_else(|error| panic!("{error}"));
            claims.extend(rehearsal.claims.into_iter().map(|(trust, id)| (trust, id, file.envelope_account())));
            hooks.push(rehearsal.hook);
        }
        let claims = Siblings::of(claims.iter().map(|(trust, id, account)| (&**trust, &**id, account.clone())));
        Self { hooks, claims }
    }

    /// Has every account judge a request.
    pub fn hear(&self, request: &Request) {
        for hook in &self.hooks {
            check(hook.receive(request, &self.claims));
        }
    }
}

/// Whatever a request becomes keeps the contract's bounds.
///
/// # Panics
/// When it does not.
pub fn check(verdict: Verdict) {
    for envelope in envelopes(verdict) {
        envelope.validate().expect("an envelope keeps the contract");
        let written = Encoding::MsgPack.encode(&envelope).expect("an envelope can be written");
        assert!(written.len() <= MESSAGE_BYTES_MAX);
        let read: Envelope = Encoding::MsgPack.decode(&written, usize::MAX).expect("what was written can be read");
        assert_eq!(read, envelope);
    }
}

/// The envelopes of a verdict.
#[must_use]
pub fn envelopes(verdict: Verdict) -> Vec<Envelope> {
    let items = match verdict {
        Verdict::Take { items, .. } | Verdict::Later { items, .. } => items,
        Verdict::Refuse { .. } | Verdict::Answer(_) => Vec::new(),
    };
    let envelopes = items.into_iter().filter_map(|item| match item {
        Item::Envelope { envelope, .. } => Some(*envelope),
        Item::Dead { .. } => None,
    });
    envelopes.collect()
}
