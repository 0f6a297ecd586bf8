//! What the tests of both providers share.

use std::path::{Path, PathBuf};

use adapter::contract::envelope::Account;
use adapter::contract::outbound::OutCommand;
use adapter::contract::{AccountId, ChannelKind, Envelope, TenantId, Timestamp};
use adapter::http::{HeaderMap, HeaderName, Method};
use adapter::kit;
use adapter::webhook::{Item, Request};
use serde_json::{Value, json};

use crate::found::{Found, Place};

/// When every test takes place.
pub(crate) const NOW: Timestamp = Timestamp(1_764_000_400_000);
/// Our number.
pub(crate) const OURS: &str = "+4930900100";

/// A number at a provider.
pub(crate) fn place(provider: &str) -> Place {
    Place {
        tenant: TenantId::new("main").unwrap(),
        account: Account {
            kind: ChannelKind::new("phone").unwrap(),
            id: AccountId::new(provider).unwrap(),
            provider: Some(provider.into()),
            address: Some(OURS.into()),
        },
    }
}

/// A request that came now, to `suffix` behind the account.
pub(crate) fn request(method: Method, suffix: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let target = format!("/hook/phone/berlin/{suffix}");
    let (path, query) = suffix.split_once('?').map_or((suffix, None), |(path, query)| (path, Some(query.to_owned())));
    Request {
        method,
        suffix: path.to_owned(),
        query,
        headers: map,
        body: adapter::bytes::Bytes::copy_from_slice(body),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        url: format!("https://hooks.example{target}"),
        target,
        client_subject: None,
        at: NOW,
    }
}

/// A command with these parts, on this thread.
pub(crate) fn command(thread: Value, content: Value) -> OutCommand {
    serde_json::from_value(json!({
        "v": 1, "command_id": "main/m17", "tenant": "main",
        "account": { "kind": "phone", "id": "berlin" },
        "thread": thread, "conversation": "c1", "customer": "u1", "message": "m17", "thread_seq": 4,
        "author": { "agent": "anna", "display": "Anna" }, "content": content, "at": 1_764_000_000_000_u64,
    }))
    .unwrap()
}

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder)
}

/// Compares what is read out of every fixture with what is expected, and keeps the rules of every channel. What is
/// dead makes the whole refused, unless something else was found beside it.
pub(crate) fn check(folder: &str, read: &dyn Fn(&str, &[u8]) -> Vec<Found>) {
    let normalise = |name: &str, raw: &[u8]| {
        let mut envelopes = Vec::new();
        let mut dead = Vec::new();
        for found in read(name, raw) {
            match found {
                Found::Event(event) => {
                    let mut envelope = event.envelope;
                    // Else every release would change every expectation.
                    if let Some(info) = &mut envelope.adapter {
                        info.version = None;
                    }
                    for (part, _) in &event.fetch {
                        assert!(envelope.content.get(*part).is_some(), "what is fetched is a part");
                    }
                    envelopes.push(envelope);
                }
                Found::Dead(why) => dead.push(why),
            }
        }
        match (envelopes.is_empty(), dead.first()) {
            (true, Some(why)) => Err((*why).to_owned()),
            _ => Ok::<Vec<Envelope>, String>(envelopes),
        }
    };
    kit::golden(&fixtures(folder), &normalise).unwrap_or_else(|differences| panic!("{differences}"));
    kit::conformance(&fixtures(folder), &normalise).unwrap_or_else(|breaches| panic!("{breaches}"));
}

/// The ids of what was found, and why the rest is dead.
pub(crate) fn told(items: &[Item]) -> Vec<String> {
    let told = |item: &Item| match item {
        Item::Envelope { envelope, .. } => format!("{} {}", envelope.kind, envelope.dedup_key),
        Item::Dead { reason, .. } => format!("dead: {reason}"),
    };
    items.iter().map(told).collect()
}

/// What an account's file of the documentation is refused for.
pub(crate) fn example(provider: &str) -> Vec<String> {
    let path = format!("{}/../../config/channels/phone-{provider}.toml.example", env!("CARGO_MANIFEST_DIR"));
    let file = adapter::AccountFile::read(Path::new(&path)).unwrap_or_else(|problems| panic!("{problems:?}"));
    let kind = crate::register();
    kind.prepare(&file).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}
