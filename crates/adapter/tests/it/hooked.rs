//! A channel whose provider calls it: signed JSON with events, some of them with media.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use throughline_adapter::contract::envelope::Identity;
use throughline_adapter::contract::outbound::{Capabilities, OutCommand};
use throughline_adapter::contract::{AccountId, Envelope};
use throughline_adapter::fetch::Fetched;
use throughline_adapter::http::{HeaderMap, Method, StatusCode};
use throughline_adapter::runtime::secret::SecretString;
use throughline_adapter::verify::{self, Algorithm, Encoding};
use throughline_adapter::webhook::{Fetch, Hook, Item, Reply, Request, Siblings, Verdict};
use throughline_adapter::{
    AccountFile, BoxFuture, Channel, Context, Described, Kind, OpenError, PartLedger, Prepared, Problem, SendFailure,
    Sent, now,
};

pub(crate) struct HookedKind;

#[derive(Clone, Deserialize)]
struct Own {
    /// In the clear, as only a test may.
    secrets: Vec<String>,
    native: String,
}

struct HookedReady(Own);

struct HookedChannel {
    context: Context,
}

struct DemoHook {
    context: Context,
    secrets: Vec<SecretString>,
}

impl Kind for HookedKind {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        Ok(Box::new(HookedReady(file.settings()?)))
    }
}

impl Prepared for HookedReady {
    fn has_hook(&self) -> bool {
        true
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            let secrets: Vec<_> = self.0.secrets.iter().map(SecretString::new).collect();
            for secret in &secrets {
                context.hooks.claim(&verify::fingerprint(secret), &self.0.native)?;
            }
            context.hooks.serve(Arc::new(DemoHook { context: context.clone(), secrets }))?;
            Ok(Arc::new(HookedChannel { context }) as Arc<dyn Channel>)
        })
    }
}

impl Channel for HookedChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn send<'a>(&'a self, _: &'a OutCommand, _: &'a mut PartLedger) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(async { Ok(Sent::accepted()) })
    }

    fn fetch<'a>(&'a self, source: &'a Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(async move { self.context.fetcher.get(source.as_str().unwrap(), HeaderMap::new()).await })
    }

    /// Only some have a name.
    fn describe<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<Option<Described>, SendFailure>> {
        Box::pin(async move {
            Ok(identity.value.strip_prefix("named-").map(|name| Described {
                name: Some(name.into()),
                avatar: Some("https://example.com/a.png".into()),
                ..Described::default()
            }))
        })
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            self.context.shutdown.draining().await;
            Ok(())
        })
    }
}

/// An event as this provider writes it.
#[derive(Deserialize)]
struct Event {
    /// The native id of the account.
    to: Option<String>,
    /// An account named outright, as no honest hook would.
    account: Option<String>,
    id: String,
    thread: String,
    text: String,
    #[serde(default)]
    media: Vec<String>,
}

impl Hook for DemoHook {
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict {
        if request.suffix == "panic" {
            panic!("told to");
        }
        if request.suffix == "echo" {
            // What the listener found out about the request.
            let seen = json!({
                "peer": request.peer, "url": request.url, "target": request.target, "query": request.query,
                "subject": request.client_subject,
            });
            return Verdict::Answer(Reply::body("application/json", seen.to_string()));
        }
        if request.method != Method::POST {
            return Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
        }
        let Some(given) = request.header("x-signature") else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "unsigned");
        };
        let Some(which) = verify::hmac_by(Algorithm::Sha256, &self.secrets, &[&request.body], Encoding::Hex, given)
        else {
            return Verdict::refuse(StatusCode::FORBIDDEN, "signature");
        };
        let trust = verify::fingerprint(&self.secrets[which]);
        let Ok(events) = serde_json::from_slice::<Vec<Value>>(&request.body) else {
            let dead = Item::Dead { account: None, reason: "it is no list".into(), raw: request.body.clone() };
            return Verdict::Take { items: vec![dead], reply: Reply::ok() };
        };
        let items = events.into_iter().map(|event| self.item(&trust, event, accounts)).collect();
        let reply = Reply::body("text/plain", "taken");
        if request.suffix == "later" {
            return Verdict::Later { items, answer: Box::pin(async move { reply }) };
        }
        Verdict::Take { items, reply }
    }
}

impl DemoHook {
    fn item(&self, trust: &str, event: Value, accounts: &Siblings) -> Item {
        let raw = event.to_string();
        let Ok(event) = serde_json::from_value::<Event>(event) else {
            return Item::Dead { account: None, reason: "an unknown event".into(), raw: raw.into() };
        };
        let account = match (&event.to, &event.account) {
            (Some(native), _) => match accounts.resolve(trust, native) {
                Some(account) => account,
                None => return Item::Dead { account: None, reason: "nobody's".into(), raw: raw.into() },
            },
            (None, Some(account)) => {
                let id = AccountId::new(account.as_str()).unwrap();
                throughline_adapter::contract::envelope::Account { id, ..self.context.account.clone() }
            }
            (None, None) => self.context.account.clone(),
        };
        let mut content = vec![json!({ "type": "text", "body": event.text })];
        content.extend(event.media.iter().map(|_| json!({ "type": "media", "kind": "image", "status": "pending" })));
        let envelope: Envelope = serde_json::from_value(json!({
            "v": 1,
            "kind": "message",
            "tenant": self.context.tenant,
            "account": account,
            "dedup_key": event.id,
            "external_id": event.id,
            "thread": { "key": event.thread },
            "sender": { "identity": { "scheme": "demo", "value": event.thread, "scope": "global" } },
            "sender_auth": { "level": "signed_webhook" },
            "received_at": now(),
            "content": content,
        }))
        .unwrap();
        let fetch = (1..).zip(event.media).map(|(part, url)| Fetch { part, source: url.into() }).collect();
        Item::Envelope { envelope: Box::new(envelope), raw: Some(raw.into()), fetch }
    }
}

/// The account of a secret; its native id is its name with `native-` before it.
pub(crate) fn account(name: &str, secrets: &[&str]) -> String {
    format!("kind = \"demo\"\naccount = \"{name}\"\n[settings]\nnative = \"native-{name}\"\nsecrets = {secrets:?}\n")
}

/// The signature of a body.
pub(crate) fn sign(secret: &str, body: &str) -> String {
    verify::sign(Algorithm::Sha256, &SecretString::new(secret), &[body.as_bytes()], Encoding::Hex)
}
