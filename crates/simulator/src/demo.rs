//! The company that is simulated: two queues, six agents, two channels.

use contract::envelope::{Envelope, EnvelopeKind, Part, Receipt, SenderAuth, Text};
use contract::policy::Policy;
use contract::{Encoding, Millis, SmolStr, TenantId, Timestamp};

use crate::random::Random;

const POLICY: &str = r#"{
    "default_queue": "support",
    "queues": {
        "sales": { "skills": { "sales": 3 }, "priority": 1 },
        "support": {}
    },
    "agents": {
        "anna": { "queues": ["support"], "skills": { "lang:de": 8, "lang:en": 5 } },
        "ben": { "queues": ["support"], "skills": { "lang:en": 9 }, "capacity": 75 },
        "cara": { "queues": ["support", "sales"], "skills": { "lang:de": 5, "lang:en": 5, "sales": 4 } },
        "dora": { "queues": ["sales"], "skills": { "lang:en": 5, "sales": 9 }, "capacity": 50 },
        "emil": { "queues": ["support", "sales"], "skills": { "lang:de": 4, "lang:en": 4, "sales": 3 }, "capacity": 50 },
        "fay": { "queues": ["support"], "skills": { "lang:en": 3 }, "capacity": 25 }
    },
    "channels": {
        "email": { "capacity_weight": 10, "offer_lease_ms": 60000 }
    },
    "routes": [
        { "tag": "buy", "queue": "sales" },
        { "language": "de", "queue": "support", "skills": { "lang:de": 4 } }
    ],
    "timing": { "wrap_up_ms": 15000 }
}"#;

const ENVELOPE: &str = r#"{
    "v": 1, "kind": "message", "tenant": "main", "account": { "kind": "chat", "id": "web" },
    "dedup_key": "", "thread": { "key": "" },
    "sender": { "identity": { "scheme": "visitor", "value": "v", "scope": "account", "scope_id": "web" } },
    "sender_auth": { "level": "unverified" }, "received_at": 0
}"#;

#[expect(clippy::expect_used, reason = "decodes this file's own constants")]
fn constant<T: serde::de::DeserializeOwned>(json: &str) -> T {
    Encoding::Json.decode(json.as_bytes(), usize::MAX).expect("the constant is well-formed")
}

pub(crate) fn tenant() -> TenantId {
    constant("\"main\"")
}

pub(crate) fn policy() -> Policy {
    constant(POLICY)
}

/// The policy as somebody changed it in passing.
pub(crate) fn changed_policy(random: &mut Random) -> Policy {
    let mut policy = policy();
    match random.below(4) {
        0 => policy.agents.values_mut().for_each(|agent| agent.capacity /= 2),
        1 => {
            let names: Vec<_> = policy.agents.keys().cloned().collect();
            if let Some(name) = random.pick(&names) {
                policy.agents.remove(name);
            }
        }
        2 => {
            policy.queues.remove("sales");
            policy.routes.retain(|route| policy.queues.contains_key(&route.queue));
            for agent in policy.agents.values_mut() {
                agent.queues.retain(|queue| policy.queues.contains_key(queue));
            }
        }
        _ => policy.timing.wrap_up_ms = Millis(0),
    }
    policy
}

/// A customer: an own thread on each channel, the same proven address on both, or none.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) number: u64,
    proven: bool,
    german: bool,
}

impl Customer {
    pub(crate) fn new(number: u64, random: &mut Random) -> Self {
        Self { number, proven: random.chance(700), german: random.chance(300) }
    }

    /// The customer writes.
    pub(crate) fn message(&self, dedup_key: String, at: Timestamp, random: &mut Random) -> Envelope {
        let mut envelope: Envelope = constant(ENVELOPE);
        let email = random.chance(300);
        if email {
            envelope.account = constant(r#"{ "kind": "email", "id": "info" }"#);
        }
        envelope.dedup_key = dedup_key.into();
        envelope.thread.key = SmolStr::from(format!("thread-{}", self.number));
        envelope.received_at = at;
        envelope.language = Some(SmolStr::new_static(if self.german { "de" } else { "en" }));
        envelope.tags.extend(random.chance(250).then(|| SmolStr::new_static("buy")));
        envelope.content = vec![said("hello")];
        let identity = &mut envelope.sender.identity;
        if self.proven {
            identity.scheme = SmolStr::new_static("login");
            identity.scope = contract::envelope::Scope::Global;
            identity.scope_id = None;
            identity.value = SmolStr::from(format!("customer-{}", self.number));
            envelope.sender_auth = SenderAuth { level: contract::envelope::AuthLevel::VerifiedJwt, detail: None };
        } else {
            identity.value = SmolStr::from(format!("visitor-{}-{email}", self.number));
        }
        envelope
    }
}

/// What becomes of a message that was sent: an event on the thread by which it went.
pub(crate) fn receipt(thread: &contract::event::ThreadRef, receipt: Receipt, dedup_key: String) -> Envelope {
    let mut envelope: Envelope = constant(ENVELOPE);
    envelope.kind = EnvelopeKind::Receipt;
    envelope.account = thread.account.clone();
    envelope.thread = thread.thread.clone();
    envelope.dedup_key = dedup_key.into();
    envelope.receipt = Some(receipt);
    envelope
}

pub(crate) fn empty_receipt() -> Receipt {
    constant(r#"{ "status": "accepted" }"#)
}

pub(crate) fn said(text: &str) -> Part {
    Part::Text(Text { body: text.to_owned(), ..Text::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_can_be_applied() {
        assert_eq!(policy().problems(), Vec::<String>::new());
        let mut random = Random::new(1);
        for _ in 0..50 {
            assert_eq!(changed_policy(&mut random).problems(), Vec::<String>::new());
        }
    }
}
