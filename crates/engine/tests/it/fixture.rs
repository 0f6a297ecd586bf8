//! Policies and envelopes to test with.

use contract::envelope::{Envelope, EnvelopeKind, Part, Receipt, Text};
use contract::policy::Policy;
use contract::{AgentId, ChannelKind, QueueId, SmolStr, TenantId, Timestamp};
use std::sync::LazyLock;

pub(crate) fn tenant() -> TenantId {
    TenantId::new("main").unwrap()
}

pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

pub(crate) fn queue(name: &str) -> QueueId {
    QueueId::new(name).unwrap()
}

/// A policy, from the same TOML that operators write.
pub(crate) fn policy(text: &str) -> Policy {
    let policy: Policy = toml::from_str(text).unwrap_or_else(|e| panic!("policy: {e}"));
    let problems = policy::check(&policy).problems;
    assert!(problems.is_empty(), "{problems:?}");
    policy
}

static TEMPLATE: LazyLock<Envelope> = LazyLock::new(|| {
    serde_json::from_value(serde_json::json!({
        "v": 1,
        "kind": "message",
        "tenant": "main",
        "account": { "kind": "chat", "id": "web" },
        "dedup_key": "",
        "thread": { "key": "" },
        "sender": { "identity": { "scheme": "visitor", "value": "v", "scope": "account", "scope_id": "web" } },
        "sender_auth": { "level": "unverified" },
        "received_at": 0,
    }))
    .unwrap()
});

/// A message of a customer, on the thread that the customer has on the channel.
pub(crate) fn message(customer: &str, channel: &str, dedup_key: &str, text: &str, at: Timestamp) -> Envelope {
    let mut envelope = TEMPLATE.clone();
    envelope.account.kind = ChannelKind::new(channel).unwrap();
    envelope.dedup_key = SmolStr::new(dedup_key);
    envelope.thread.key = SmolStr::new(customer);
    envelope.sender.identity.value = SmolStr::new(customer);
    envelope.received_at = at;
    envelope.content = vec![said(text)];
    envelope
}

/// Something else that came on the thread.
pub(crate) fn other(kind: EnvelopeKind, customer: &str, channel: &str, dedup_key: &str, at: Timestamp) -> Envelope {
    Envelope { kind, content: Vec::new(), ..message(customer, channel, dedup_key, "", at) }
}

/// A report of what became of messages on the thread.
pub(crate) fn receipt(receipt: Receipt, customer: &str, channel: &str, dedup_key: &str, at: Timestamp) -> Envelope {
    Envelope { receipt: Some(receipt), ..other(EnvelopeKind::Receipt, customer, channel, dedup_key, at) }
}

pub(crate) fn said(text: &str) -> Part {
    Part::Text(Text { body: text.to_owned(), ..Text::default() })
}

pub(crate) fn template(name: &str) -> Part {
    Part::Template { name: name.into(), language: None, parameters: serde_json::Map::new() }
}

/// The text of the parts, for a transcript.
pub(crate) fn text(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.body.as_str()),
        Part::Template { name, .. } => Some(name.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}
