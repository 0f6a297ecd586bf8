//! Webhooks: one listener for every account whose provider calls us.
//!
//! An account's endpoint is `<public_base_url>/hook/<kind>/<account>[/<suffix>]`. The listener bounds and reads a
//! request; the account's [`Hook`] says, purely, whether it is authentic and what it means; the listener stores what it
//! means and answers only then.

use std::net::IpAddr;

use bytes::Bytes;
use contract::{AccountId, Envelope, Timestamp};

use crate::BoxFuture;
use crate::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

mod depth;
mod keep;
mod listener;
mod peer;
mod registry;
mod settings;
mod take;
mod tls;

pub use registry::{Hooks, Siblings, Webhooks};
pub use settings::{Settings, Tls};
pub(crate) use take::Way;

/// A request that came, its body read and bounded. Nothing of it is believed yet.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Path and query as they came, byte for byte.
    pub target: String,
    /// What follows the account in the path, without the slash; empty: nothing.
    pub suffix: String,
    /// The query as it came, without the question mark.
    pub query: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// Who sent it; behind a listed proxy, who the proxy says.
    pub peer: IpAddr,
    /// The address that the provider called: the configured base and the raw target. Never from headers.
    pub url: String,
    /// The subject of the client's certificate (RFC 4514), where one was asked for and verified.
    pub client_subject: Option<String>,
    /// When it came.
    pub at: Timestamp,
}

impl Request {
    /// A header's value, when it is there once and is text. One that is there twice is as good as absent: who signs
    /// sends one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok() }
    }
}

/// What an account makes of its provider's requests. Pure and synchronous: verify the raw bytes, then parse them.
pub trait Hook: Send + Sync + 'static {
    /// Judges a request. `accounts` are those that the same secret may speak for.
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict;
}

/// A hook whose requests are given a proof first, made with a secret that was made up: so that a request can be tried out
/// without its provider's secret, and without a way around the check. Never served.
pub struct Proven {
    /// The hook, with the made-up secret.
    pub hook: std::sync::Arc<dyn Hook>,
    /// Puts the proof into a request.
    pub prove: fn(&mut Request),
}

impl Hook for Proven {
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict {
        let mut proven = request.clone();
        (self.prove)(&mut proven);
        self.hook.receive(&proven, accounts)
    }
}

/// What becomes of a request.
pub enum Verdict {
    /// It is not authentic, or not for us. Answered with an empty body; `why` is for the operator alone.
    Refuse {
        /// 400, 401, 403, 404, 405, …
        status: StatusCode,
        /// A word or two; a label of a metric.
        why: &'static str,
    },
    /// There is nothing to store: a handshake.
    Answer(Reply),
    /// It is authentic: everything is stored, then the reply is sent.
    Take {
        /// What it holds, in order.
        items: Vec<Item>,
        /// What is answered.
        reply: Reply,
    },
    /// It is authentic, and the answer takes asking somebody: what to play to a caller. What it holds is stored first;
    /// the answer is bounded by the request's deadline.
    Later {
        /// What it holds, in order.
        items: Vec<Item>,
        /// What is answered.
        answer: BoxFuture<'static, Reply>,
    },
}

impl Verdict {
    /// Refuses.
    #[must_use]
    pub const fn refuse(status: StatusCode, why: &'static str) -> Self {
        Self::Refuse { status, why }
    }
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refuse { status, why } => f.debug_struct("Refuse").field("status", status).field("why", why).finish(),
            Self::Answer(reply) => f.debug_tuple("Answer").field(reply).finish(),
            Self::Take { items, reply } => f.debug_struct("Take").field("items", items).field("reply", reply).finish(),
            Self::Later { items, .. } => f.debug_struct("Later").field("items", items).finish_non_exhaustive(),
        }
    }
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its content type, where it has a body.
    pub content_type: Option<&'static str>,
    /// Its body.
    pub body: Bytes,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// 200 with nothing in it.
    #[must_use]
    pub const fn ok() -> Self {
        Self::status(StatusCode::OK)
    }

    /// A status with nothing in it.
    #[must_use]
    pub const fn status(status: StatusCode) -> Self {
        Self { status, content_type: None, body: Bytes::new(), headers: Vec::new() }
    }

    /// 200 with a body.
    #[must_use]
    pub fn body(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { content_type: Some(content_type), body: body.into(), ..Self::ok() }
    }
}

/// One event of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// It is understood.
    Envelope {
        /// What it means. Its account is the endpoint's own or one that [`Siblings::resolve`] gave for this request;
        /// for any other it goes to the dead letters.
        envelope: Box<Envelope>,
        /// This event's own original, kept with its thread; the reference to it is set here.
        raw: Option<Bytes>,
        /// What is to be fetched for it, after the answer.
        fetch: Vec<Fetch>,
    },
    /// It is authentic and not understood: it goes to the dead letters.
    Dead {
        /// The account that it is for, where that is known.
        account: Option<AccountId>,
        /// What was not understood; never the content.
        reason: String,
        /// Its original.
        raw: Bytes,
    },
}

impl Item {
    /// An envelope with its original and nothing to fetch.
    #[must_use]
    pub fn envelope(envelope: Envelope, raw: impl Into<Bytes>) -> Self {
        Self::Envelope { envelope: Box::new(envelope), raw: Some(raw.into()), fetch: Vec::new() }
    }
}

/// A medium that the provider keeps for us. The part says `pending` until it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Which part of the envelope's content it is; a [`Part::Media`](contract::envelope::Part::Media).
    pub part: usize,
    /// What the channel's `fetch` needs to find it: the provider's id or address. Never a token, since it is stored.
    pub source: serde_json::Value,
}
