//! What the tests of all providers share.

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

/// An account of a provider.
pub(crate) fn place(provider: &str) -> Place {
    Place {
        tenant: TenantId::new("main").unwrap(),
        account: Account {
            kind: ChannelKind::new("social").unwrap(),
            id: AccountId::new(provider).unwrap(),
            provider: Some(provider.into()),
            address: None,
        },
    }
}

fn fixtures(provider: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(provider)
}

/// Compares what is read out of every fixture with what is expected, and keeps the rules of every channel. What is
/// dead makes the whole refused, unless something else was found beside it.
pub(crate) fn check(provider: &str, read: &dyn Fn(&[u8]) -> Vec<Found>) {
    let normalise = |_: &str, raw: &[u8]| {
        let mut envelopes = Vec::new();
        let mut dead = Vec::new();
        for found in read(raw) {
            match found {
                Found::Event(event) => {
                    let mut envelope = event.envelope;
                    // Else every release would change every expectation.
                    let warnings = envelope.adapter.take().map(|info| info.warnings).unwrap_or_default();
                    assert!(warnings.len() < 8, "{warnings:?}");
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
    kit::golden(&fixtures(provider), &normalise).unwrap_or_else(|differences| panic!("{differences}"));
    kit::conformance(&fixtures(provider), &normalise).unwrap_or_else(|breaches| panic!("{breaches}"));
}

/// A request that came now.
pub(crate) fn request(method: Method, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    Request {
        method,
        target: target.to_owned(),
        suffix: String::new(),
        query: target.split_once('?').map(|(_, query)| query.to_owned()),
        headers: map,
        body: adapter::bytes::Bytes::copy_from_slice(body),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        url: format!("https://hooks.example{target}"),
        client_subject: None,
        at: NOW,
    }
}

/// A command with these parts, on this thread.
pub(crate) fn command(provider: &str, thread: Value, content: Value) -> OutCommand {
    serde_json::from_value(json!({
        "v": 1, "command_id": "main/m17", "tenant": "main",
        "account": { "kind": "social", "id": provider, "provider": provider },
        "thread": thread, "conversation": "c1", "customer": "u1", "message": "m17", "thread_seq": 4,
        "author": { "agent": "anna", "display": "Anna" }, "content": content, "at": 1_764_000_000_000_u64,
    }))
    .unwrap()
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
    let path = format!("{}/../../config/channels/social-{provider}.toml.example", env!("CARGO_MANIFEST_DIR"));
    let file = adapter::AccountFile::read(Path::new(&path)).unwrap_or_else(|problems| panic!("{problems:?}"));
    let kind = crate::register();
    kind.prepare(&file).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}
