//! Who a message is found to be from.

use contract::envelope::{Assurance, Identity, Scope, SenderAuth};
use contract::{CustomerId, Envelope, Event, Timestamp};
use proptest::prelude::*;
use throughline_profile::State;

fn identity(scheme: &str, value: &str, assurance: Option<Assurance>) -> Identity {
    Identity { scheme: scheme.into(), value: value.into(), scope: Scope::Global, scope_id: None, raw: None, assurance }
}

fn envelope(identities: Vec<Identity>) -> Envelope {
    let mut envelope: Envelope = serde_json::from_value(serde_json::json!({
        "v": 1, "kind": "message", "tenant": "main", "account": {"kind": "chat", "id": "web"}, "dedup_key": "1",
        "thread": {"key": "t"}, "sender": {"identity": {"scheme": "x", "value": "x", "scope": "global"}},
        "sender_auth": {"level": "unverified"}, "received_at": 0, "content": [{"type": "text", "body": "hi"}]
    }))
    .unwrap();
    envelope.sender_auth = SenderAuth { level: "unverified".to_owned().into_level(), detail: None };
    let mut identities = identities.into_iter();
    envelope.sender.identity = identities.next().unwrap();
    envelope.sender.aliases = identities.collect();
    envelope
}

trait IntoLevel {
    fn into_level(self) -> contract::envelope::AuthLevel;
}

impl IntoLevel for String {
    fn into_level(self) -> contract::envelope::AuthLevel {
        contract::SmolStr::from(self).into()
    }
}

fn take_in(state: &mut State, envelope: &Envelope) -> CustomerId {
    let (customer, events) = state.resolve(envelope);
    for event in &events {
        state.evolve(Timestamp(1), event);
    }
    customer
}

const PROVEN: Option<Assurance> = Some(Assurance::Verified);
const CLAIMED: Option<Assurance> = Some(Assurance::Claimed);

#[test]
fn the_same_proven_address_is_the_same_customer() {
    let mut state = State::new();
    let first = take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN)]));
    let again =
        take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN), identity("visitor", "v1", PROVEN)]));
    let by_alias = take_in(&mut state, &envelope(vec![identity("visitor", "v1", PROVEN)]));
    assert_eq!((first, first), (again, by_alias));
    assert_eq!(state.len(), 1);
}

#[test]
fn who_only_claims_a_proven_address_is_somebody_else() {
    let mut state = State::new();
    let owner = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", PROVEN)]));
    let forger = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", CLAIMED)]));
    assert_ne!(owner, forger);
    let again = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", CLAIMED)]));
    assert_eq!(forger, again, "one customer per claimed address, not one per message");
}

#[test]
fn who_claims_first_does_not_get_the_owner() {
    let mut state = State::new();
    let forger = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", CLAIMED)]));
    let owner = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", PROVEN)]));
    assert_ne!(owner, forger);
}

#[test]
fn a_claim_that_its_holder_proves_becomes_verified() {
    let mut state = State::new();
    let ann = vec![identity("visitor", "v1", PROVEN), identity("email", "ann@example.com", CLAIMED)];
    let first = take_in(&mut state, &envelope(ann));
    let proof = envelope(vec![identity("visitor", "v1", PROVEN), identity("email", "ann@example.com", PROVEN)]);
    let (customer, events) = state.resolve(&proof);
    assert_eq!(customer, first);
    assert!(matches!(&events[..], [Event::CustomerIdentityVerified { .. }]), "{events:?}");
    take_in(&mut state, &proof);
    let by_mail = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", PROVEN)]));
    assert_eq!(by_mail, first);
}

#[test]
fn identities_are_bounded() {
    let mut state = State::new();
    let many = (0..200).map(|n| identity("visitor", &format!("v{n}"), PROVEN)).collect();
    let customer = take_in(&mut state, &envelope(many));
    assert_eq!(state.customer(customer).unwrap().identities.len(), 64);
}

#[test]
fn an_address_is_found_again_however_it_is_written() {
    let mut state = State::new();
    let first = take_in(&mut state, &envelope(vec![identity("email", "Ann@Example.com", PROVEN)]));
    let again = take_in(&mut state, &envelope(vec![identity("email", " ann@EXAMPLE.com", PROVEN)]));
    assert_eq!(first, again);
    let held = &state.customer(first).unwrap().identities;
    assert_eq!((held.len(), held[0].identity.value.as_str()), (1, "ann@example.com"));
    assert_eq!(held[0].identity.raw.as_deref(), Some("Ann@Example.com"), "what was sent is kept");
    let carrier = take_in(&mut state, &envelope(vec![identity("tel", "+5511987654321", PROVEN)]));
    let without_the_ninth = take_in(&mut state, &envelope(vec![identity("tel", "551187654321", PROVEN)]));
    assert_eq!(carrier, without_the_ninth);
}

#[test]
fn nobody_is_found_by_what_belongs_to_nobody() {
    let mut state = State::new();
    state.follow(1, &serde_json::from_str(r#"{"blocked": {"tel": ["+4930123456"]}}"#).unwrap());
    let desk = || identity("tel", "+49 30 123456", PROVEN);
    let ann = take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN), desk()]));
    let bob = take_in(&mut state, &envelope(vec![identity("login", "bob", PROVEN), desk()]));
    assert_ne!(ann, bob, "the front desk's number joins nobody");
    assert_eq!(state.customer(ann).unwrap().identities.len(), 1);
    let called = |thread: &str| {
        let mut envelope = envelope(vec![desk()]);
        envelope.thread.key = thread.into();
        envelope
    };
    let first = take_in(&mut state, &called("one"));
    assert!(first != ann && first != bob);
    assert_eq!(take_in(&mut state, &called("one")), first, "one thread is one person");
    assert_ne!(take_in(&mut state, &called("two")), first, "another may be another's");
}

#[test]
fn two_accounts_are_two_customers_even_with_one_mailbox() {
    let mut state = State::new();
    let shared = || identity("email", "family@example.com", PROVEN);
    let ann = take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN), shared()]));
    let bob = take_in(&mut state, &envelope(vec![identity("login", "bob", PROVEN), shared()]));
    assert_ne!(ann, bob);
    assert_eq!(take_in(&mut state, &envelope(vec![identity("login", "bob", PROVEN)])), bob);
    assert_eq!(take_in(&mut state, &envelope(vec![shared()])), ann, "it stays with whom it was proven for first");
}

#[test]
fn a_customer_has_so_many_of_a_scheme() {
    let mut state = State::new();
    let many = (0..9).map(|n| identity("email", &format!("ann{n}@example.com"), PROVEN));
    let ann = take_in(&mut state, &envelope(std::iter::once(identity("login", "ann", PROVEN)).chain(many).collect()));
    assert_eq!(state.customer(ann).unwrap().identities.len(), 1 + 5);
}

proptest! {
    /// A verified identity has one customer; a snapshot finds the same customers as the live state.
    #[test]
    fn one_customer_per_verified_identity(
        messages in prop::collection::vec(prop::collection::vec((0u8..6, any::<bool>()), 1..4), 1..40)
    ) {
        let mut state = State::new();
        for message in &messages {
            let shown = message.iter().map(|(n, proven)| identity("id", &n.to_string(), if *proven { PROVEN } else { CLAIMED }));
            take_in(&mut state, &envelope(shown.collect()));
        }
        let mut owners = std::collections::BTreeMap::new();
        for id in 1..=state.len() as u64 {
            for held in &state.customer(CustomerId(id)).unwrap().identities {
                if held.assurance == Assurance::Verified {
                    prop_assert!(owners.insert(held.identity.value.clone(), id).is_none());
                }
            }
        }
        let mut read: State = contract::Encoding::MsgPack.decode(&state.fingerprint(), usize::MAX).unwrap();
        read.reindex();
        prop_assert_eq!(read.fingerprint(), state.fingerprint());
        for n in 0..6u8 {
            for assurance in [PROVEN, CLAIMED] {
                let probe = envelope(vec![identity("id", &n.to_string(), assurance)]);
                prop_assert_eq!(read.resolve(&probe), state.resolve(&probe));
            }
        }
    }
}
