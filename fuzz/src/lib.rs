//! What the targets share: a request with an arbitrary body, and what a verdict holds.

use adapter::http::{HeaderMap, Method};
use adapter::webhook::{Item, Request, Verdict};
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
