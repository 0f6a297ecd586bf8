//! Who a message is found to be from.

use contract::command::AdminCommand;
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
    let (customer, events) = state.resolve(Timestamp(1), envelope, None);
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
    let (customer, events) = state.resolve(Timestamp(1), &proof, None);
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
                prop_assert_eq!(read.resolve(Timestamp(1), &probe, None), state.resolve(Timestamp(1), &probe, None));
            }
        }
    }
}

fn is_of(state: &State, customer: CustomerId) -> CustomerId {
    state.kin().root(customer)
}

fn apply(state: &mut State, events: &[Event]) {
    for event in events {
        state.evolve(Timestamp(2), event);
    }
}

fn told(state: &State, command: AdminCommand) -> Result<(CustomerId, Vec<Event>), contract::command::Refusal> {
    state.command(&"operator".into(), command)
}

#[test]
fn one_message_that_proves_two_customers_joins_them() {
    let mut state = State::new();
    let ann = take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN)]));
    let visitor = take_in(&mut state, &envelope(vec![identity("visitor", "v1", PROVEN)]));
    assert_ne!(ann, visitor);
    let both = envelope(vec![identity("login", "ann", PROVEN), identity("visitor", "v1", PROVEN)]);
    assert_eq!(take_in(&mut state, &both), ann);
    assert_eq!(is_of(&state, visitor), ann, "the older goes on");
    let view = state.view(ann).unwrap();
    assert_eq!((view.identities.len(), view.merged.clone()), (2, vec![visitor]));
    assert_eq!(state.view(visitor).unwrap().merged_into, Some(ann));
    let later = take_in(&mut state, &envelope(vec![identity("visitor", "v1", PROVEN)]));
    assert_eq!(later, visitor, "what comes keeps the customer that it came with");
}

#[test]
fn two_who_proved_to_be_two_are_never_joined() {
    let mut state = State::new();
    let device = || identity("visitor", "shared", PROVEN);
    let ann = take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN), device()]));
    let bob = take_in(&mut state, &envelope(vec![identity("login", "bob", PROVEN), device()]));
    assert_ne!(is_of(&state, ann), is_of(&state, bob));
    assert_eq!(state.suggestions(), vec![], "there is nothing to ask");
}

#[test]
fn a_claim_is_suggested_to_a_person_once() {
    let mut state = State::new();
    let ann = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", PROVEN)]));
    let forged = envelope(vec![identity("email", "ann@example.com", CLAIMED)]);
    let stranger = take_in(&mut state, &forged);
    take_in(&mut state, &forged);
    let open = state.suggestions();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].reason.as_str(), open[0].identity.value.as_str()), ("claimed", "ann@example.com"));
    let (_, events) = told(&state, AdminCommand::CustomerDismiss { customer: ann, with: stranger }).unwrap();
    apply(&mut state, &events);
    take_in(&mut state, &forged);
    assert_eq!(state.suggestions(), vec![], "a no is a no");
    let (root, events) = told(&state, AdminCommand::CustomerMerge { customer: stranger, with: ann }).unwrap();
    apply(&mut state, &events);
    assert_eq!((root, is_of(&state, stranger)), (ann, ann), "who is proven goes on");
}

#[test]
fn a_split_gives_both_back_and_keeps_them_apart() {
    let mut state = State::new();
    let both = || envelope(vec![identity("login", "ann", PROVEN), identity("visitor", "v1", PROVEN)]);
    let ann = take_in(&mut state, &envelope(vec![identity("login", "ann", PROVEN)]));
    let visitor = take_in(&mut state, &envelope(vec![identity("visitor", "v1", PROVEN)]));
    let before = (state.view(ann), state.view(visitor));
    take_in(&mut state, &both());
    let refused = told(&state, AdminCommand::CustomerSplit { customer: ann }).unwrap_err();
    assert!(refused.message.contains(&visitor.to_string()), "it says which can be split: {}", refused.message);
    let (_, events) = told(&state, AdminCommand::CustomerSplit { customer: visitor }).unwrap();
    apply(&mut state, &events);
    assert_eq!((state.view(ann), state.view(visitor)), before);
    take_in(&mut state, &both());
    assert_ne!(is_of(&state, ann), is_of(&state, visitor), "what a person took apart stays apart");
}

#[test]
fn together_over_the_limit_is_for_a_person_to_say() {
    let mut state = State::new();
    state.follow(1, &serde_json::from_str(r#"{"most": {"email": 2}}"#).unwrap());
    let mails = |name: &str| {
        let of = |n: u32| identity("email", &format!("{name}{n}@example.com"), PROVEN);
        vec![identity("visitor", name, PROVEN), of(1), of(2)]
    };
    let ann = take_in(&mut state, &envelope(mails("a")));
    let bob = take_in(&mut state, &envelope(mails("b")));
    take_in(&mut state, &envelope(vec![identity("visitor", "a", PROVEN), identity("visitor", "b", PROVEN)]));
    assert_ne!(is_of(&state, ann), is_of(&state, bob));
    assert_eq!(state.suggestions()[0].reason, "over_limit");
}

#[test]
fn a_thread_attaches_and_grants_nothing() {
    let mut state = State::new();
    let ann = take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", PROVEN)]));
    let colleague = envelope(vec![identity("email", "colleague@example.com", CLAIMED)]);
    let (customer, events) = state.resolve(Timestamp(1), &colleague, Some(ann));
    assert_eq!((customer, events), (ann, vec![]));
    assert_eq!(state.view(ann).unwrap().identities.len(), 1);
}

#[test]
fn who_is_erased_is_not_known_again_and_late_messages_stay_out() {
    let mut state = State::new();
    let from_ann = |at: u64| {
        let mut envelope = envelope(vec![identity("email", "ann@example.com", PROVEN)]);
        envelope.received_at = Timestamp(at);
        envelope
    };
    let ann = take_in(&mut state, &from_ann(1));
    let (customers, keys) = state.erasure(ann).unwrap();
    let erased = Event::CustomerErased { customers, keys, by: "operator".into() };
    assert!(!serde_json::to_string(&erased).unwrap().contains("ann@"), "the tombstone says nothing of her");
    state.evolve(Timestamp(10), &erased);
    assert_eq!(state.view(ann), None);
    assert!(state.is_late(&from_ann(10)) && !state.is_late(&from_ann(11)));
    assert_ne!(take_in(&mut state, &from_ann(11)), ann);
    assert!(!String::from_utf8_lossy(&State::new().fingerprint()).contains("ann"));
}

#[test]
fn an_operators_link_is_proof_and_can_be_taken_back() {
    let mut state = State::new();
    let ann = take_in(&mut state, &envelope(vec![identity("visitor", "v1", PROVEN)]));
    let mail = || identity("email", "Ann@Example.com", None);
    let link = |customer| AdminCommand::CustomerLink { customer, identity: mail() };
    let (_, events) = told(&state, link(ann)).unwrap();
    apply(&mut state, &events);
    assert_eq!(take_in(&mut state, &envelope(vec![identity("email", "ann@example.com", PROVEN)])), ann);
    assert_eq!(state.find(&mail()), [ann]);
    let other = take_in(&mut state, &envelope(vec![identity("visitor", "v2", PROVEN)]));
    assert!(told(&state, link(other)).unwrap_err().message.contains("merge"));
    let (_, events) = told(&state, AdminCommand::CustomerUnlink { customer: ann, identity: mail() }).unwrap();
    apply(&mut state, &events);
    assert_eq!(state.find(&mail()), []);
}

proptest! {
    /// Whatever the order in which messages come that prove several identities at once, the same are one person.
    #[test]
    fn who_is_one_person_does_not_depend_on_the_order(
        messages in proptest::collection::vec((0..8_u32, 0..8_u32), 1..12),
        order in any::<proptest::sample::Index>(),
    ) {
        let message = |(a, b): &(u32, u32)| {
            envelope(vec![identity("visitor", &format!("v{a}"), PROVEN), identity("visitor", &format!("v{b}"), PROVEN)])
        };
        let groups = |messages: &[(u32, u32)]| {
            let mut state = State::new();
            for pair in messages {
                take_in(&mut state, &message(pair));
            }
            let root = |n: u32| {
                let found = state.find(&identity("visitor", &format!("v{n}"), PROVEN));
                found.first().copied()
            };
            let mut same = Vec::new();
            for a in 0..8 {
                for b in 0..8 {
                    same.push(root(a).is_some() && root(a) == root(b));
                }
            }
            same
        };
        let mut turned = messages.clone();
        turned.rotate_left(order.index(messages.len()));
        prop_assert_eq!(groups(&messages), groups(&turned));
        turned.reverse();
        prop_assert_eq!(groups(&messages), groups(&turned));
    }

    /// Splitting what was merged gives back what was there, whatever happened before.
    #[test]
    fn a_split_undoes_a_merge(
        messages in proptest::collection::vec((0..6_u32, 0..6_u32, any::<bool>()), 1..12),
        merges in proptest::collection::vec((1..6_u64, 1..6_u64), 0..4),
        last in (1..6_u64, 1..6_u64),
    ) {
        let mut state = State::new();
        for (a, b, proven) in messages {
            let assurance = if proven { PROVEN } else { CLAIMED };
            let shown = vec![
                identity("visitor", &format!("v{a}"), PROVEN),
                identity("email", &format!("m{b}@example.com"), assurance),
            ];
            take_in(&mut state, &envelope(shown));
        }
        for (a, b) in merges {
            let merge = AdminCommand::CustomerMerge { customer: CustomerId(a), with: CustomerId(b) };
            if let Ok((_, events)) = told(&state, merge) {
                apply(&mut state, &events);
            }
        }
        let views = |state: &State| (1..12).map(|n| state.view(CustomerId(n))).collect::<Vec<_>>();
        let before = views(&state);
        let merge = AdminCommand::CustomerMerge { customer: CustomerId(last.0), with: CustomerId(last.1) };
        if let Ok((_, events)) = told(&state, merge) {
            apply(&mut state, &events);
            let Some(Event::CustomerMerged { from, .. }) = events.first() else { panic!("{events:?}") };
            let (_, events) = told(&state, AdminCommand::CustomerSplit { customer: *from }).unwrap();
            apply(&mut state, &events);
            prop_assert_eq!(views(&state), before);
        }
    }
}

#[test]
fn whoever_wants_no_advertising_wants_answers_all_the_same() {
    let mut wish = envelope(vec![identity("tel", "+16505551234", PROVEN)]);
    wish.kind = contract::envelope::EnvelopeKind::ContactEvent;
    let signal = serde_json::json!({ "name": "opt_out", "data": { "purpose": "marketing" } });
    wish.signal = Some(serde_json::from_value(signal).unwrap());
    let refused = |wish: &Envelope| {
        let (_, events) = State::new().resolve(Timestamp(1), wish, None);
        let refused = events.into_iter().find_map(|event| match event {
            Event::CustomerConsentChanged { consent, .. } => Some(consent),
            _ => None,
        });
        refused.map(|consent| (consent.purpose, consent.granted))
    };
    assert_eq!(refused(&wish), Some((Some("marketing".into()), false)));
    wish.signal = Some(serde_json::from_value(serde_json::json!({ "name": "opt_out" })).unwrap());
    assert_eq!(refused(&wish), Some((None, false)));
}

#[test]
fn whoever_blocks_one_app_has_said_nothing_of_another() {
    let said = |kind: &str, provider: Option<&str>| {
        let mut block = envelope(vec![identity("tel", "+16505551234", PROVEN)]);
        block.kind = contract::envelope::EnvelopeKind::ContactEvent;
        block.signal = Some(serde_json::from_value(serde_json::json!({ "name": "block" })).unwrap());
        block.account.kind = contract::ChannelKind::new(kind).unwrap();
        block.account.provider = provider.map(Into::into);
        let (_, events) = State::new().resolve(Timestamp(1), &block, None);
        let consent = events.into_iter().find_map(|event| match event {
            Event::CustomerConsentChanged { consent, .. } => Some(consent),
            _ => None,
        });
        let consent = consent.unwrap();
        (consent.channel.unwrap().to_string(), consent.provider)
    };
    assert_eq!(said("social", Some("telegram")), ("social".into(), Some("telegram".into())));
    assert_eq!(said("webhook", None), ("webhook".into(), None));
    // Who carries a text message is nothing to the customer.
    assert_eq!(said("sms", Some("twilio")), ("sms".into(), None));
}
