//! Customers who leave memory and come back: nothing is decided otherwise than if they had stayed.

use std::collections::{BTreeMap, BTreeSet};

use contract::command::AdminCommand;
use contract::envelope::{Assurance, Identity, Scope};
use contract::{CustomerId, Encoding, Envelope, Event, Timestamp};
use proptest::prelude::*;
use throughline_profile::State;

fn identity(scheme: &str, value: &str, proven: bool) -> Identity {
    let assurance = Some(if proven { Assurance::Verified } else { Assurance::Claimed });
    Identity { scheme: scheme.into(), value: value.into(), scope: Scope::Global, scope_id: None, raw: None, assurance }
}

fn envelope(identities: Vec<Identity>) -> Envelope {
    let mut envelope: Envelope = serde_json::from_value(serde_json::json!({
        "v": 1, "kind": "message", "tenant": "main", "account": {"kind": "chat", "id": "web"}, "dedup_key": "1",
        "thread": {"key": "t"}, "sender": {"identity": {"scheme": "x", "value": "x", "scope": "global"}},
        "sender_auth": {"level": "unverified"}, "received_at": 0, "content": [{"type": "text", "body": "hi"}]
    }))
    .unwrap();
    let mut identities = identities.into_iter();
    envelope.sender.identity = identities.next().unwrap();
    envelope.sender.aliases = identities.collect();
    envelope
}

/// A profile, and the key-value side beside it.
#[derive(Default)]
struct World {
    state: State,
    kept: BTreeMap<CustomerId, (Vec<CustomerId>, String)>,
    facts: Vec<(u64, Event)>,
    now: u64,
}

impl World {
    fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            self.state.evolve(Timestamp(self.now), &event);
            self.facts.push((self.now, event));
        }
    }

    fn rest(&mut self, person: CustomerId) -> bool {
        if self.state.undecided().contains(&person) {
            return false;
        }
        let Some(kept) = self.state.kept(person) else { return false };
        let customers: Vec<CustomerId> = self.state.kin().members(person).collect();
        let text = String::from_utf8(Encoding::Json.encode(&kept).unwrap()).unwrap();
        self.kept.insert(person, (customers.clone(), text));
        let silent_since = self.state.silent_since(person);
        self.apply(vec![Event::CustomerRested { customer: person, customers, kept: self.now, silent_since }]);
        true
    }

    fn recall(&mut self, persons: BTreeSet<CustomerId>) {
        for person in persons {
            let (customers, profile) = self.kept.remove(&person).expect("an entry of whoever rests");
            let routing = String::new();
            self.apply(vec![Event::CustomerRecalled { customer: person, customers, kept: 0, profile, routing }]);
        }
    }

    fn take_in(&mut self, envelope: &Envelope) -> (CustomerId, Vec<Event>) {
        let mut named = BTreeSet::new();
        self.state.resting_senders(envelope, &mut named);
        self.recall(named);
        let (customer, events) = self.state.resolve(Timestamp(self.now), envelope, None);
        self.apply(events.clone());
        (customer, events)
    }

    fn told(&mut self, command: AdminCommand, named: &[CustomerId]) -> Option<Vec<Event>> {
        let named = named.iter().filter_map(|one| Some(self.state.rests(*one)?.0)).collect();
        self.recall(named);
        let (_, events) = self.state.command(&"operator".into(), command).ok()?;
        self.apply(events.clone());
        Some(events)
    }
}

#[test]
fn whoever_rests_is_found_again_by_any_of_their_addresses_and_is_nobody_new() {
    let mut world = World::default();
    let both = envelope(vec![identity("login", "ann", true), identity("email", "ann@example.com", true)]);
    let (ann, _) = world.take_in(&both);
    let (stranger, _) = world.take_in(&envelope(vec![identity("visitor", "v", true)]));
    let before = world.state.fingerprint();
    assert!(world.rest(ann));
    assert_eq!((world.state.len(), world.state.resting()), (1, (1, 1)));
    assert!(world.state.view(ann).is_none() && world.state.find(&identity("login", "ann", true)).is_empty());
    let (again, facts) = world.take_in(&envelope(vec![identity("email", "ann@example.com", true)]));
    assert_eq!((again, facts), (ann, Vec::new()));
    assert_eq!(world.state.fingerprint(), before, "it is as it was");
    // Whoever is named by nothing is not fetched.
    assert!(world.rest(ann));
    world.take_in(&envelope(vec![identity("visitor", "v", true)]));
    assert_eq!(world.state.rests(ann).map(|(person, _)| person), Some(ann));
    assert_eq!(world.state.rests(stranger), None);
}

#[test]
fn whoever_has_something_to_be_decided_of_is_not_let_go() {
    let mut world = World::default();
    world.take_in(&envelope(vec![identity("visitor", "a", true), identity("email", "x@example.com", true)]));
    world.take_in(&envelope(vec![identity("visitor", "b", true), identity("email", "x@example.com", false)]));
    assert_eq!(world.state.open_suggestions(), 1);
    assert!(!world.rest(CustomerId(1)) && !world.rest(CustomerId(2)));
    let dismiss = AdminCommand::CustomerDismiss { customer: CustomerId(1), with: CustomerId(2) };
    world.told(dismiss, &[]).unwrap();
    assert!(world.rest(CustomerId(1)) && world.rest(CustomerId(2)));
    let suggested =
        world.take_in(&envelope(vec![identity("visitor", "b", true), identity("email", "x@example.com", false)]));
    assert!(suggested.1.is_empty(), "what a person dismissed is not suggested again: {suggested:?}");
}

#[test]
fn a_merged_person_rests_as_one_and_is_split_by_whichever_is_named() {
    let mut world = World::default();
    for name in ["a", "b"] {
        world.take_in(&envelope(vec![identity("login", name, true)]));
    }
    let (one, two) = (CustomerId(1), CustomerId(2));
    let apart = [world.state.view(one), world.state.view(two)];
    world.told(AdminCommand::CustomerMerge { customer: one, with: two }, &[one, two]).unwrap();
    assert!(!world.rest(two), "under whom a person does not go does not rest alone");
    assert!(world.rest(one));
    assert_eq!(world.state.resting(), (2, 1));
    world.told(AdminCommand::CustomerSplit { customer: two }, &[two]).unwrap();
    assert_eq!([world.state.view(one), world.state.view(two)], apart);
}

#[derive(Debug, Clone)]
enum Input {
    Message { login: Option<u32>, visitor: u32, mail: (u32, bool) },
    Merge(u64, u64),
    Split(u64),
    Dismiss(u64, u64),
    Erase(u64),
    Rest(u64),
    Snapshot,
}

fn input() -> impl Strategy<Value = Input> {
    let id = || 1..9_u64;
    prop_oneof![
        8 => (proptest::option::weighted(0.2, 0..4_u32), 0..8_u32, (0..4_u32, any::<bool>()))
            .prop_map(|(login, visitor, mail)| Input::Message { login, visitor, mail }),
        1 => (id(), id()).prop_map(|(a, b)| Input::Merge(a, b)),
        1 => id().prop_map(Input::Split),
        2 => (id(), id()).prop_map(|(a, b)| Input::Dismiss(a, b)),
        1 => id().prop_map(Input::Erase),
        8 => id().prop_map(Input::Rest),
        1 => Just(Input::Snapshot),
    ]
}

proptest! {
    /// Two worlds that differ in nothing but that in one of them customers leave memory decide the same, whatever comes;
    /// the facts alone give the state again, and when all are back both are the same.
    #[test]
    fn who_leaves_memory_changes_no_decision(inputs in proptest::collection::vec(input(), 1..40)) {
        let (mut hot, mut cold) = (World::default(), World::default());
        for (n, input) in inputs.into_iter().enumerate() {
            // Days go by, so that what is seen again is a fact at times.
            let now = n as u64 * 9 * 3_600_000;
            (hot.now, cold.now) = (now, now);
            match input {
                Input::Message { login, visitor, mail: (mail, proven) } => {
                    let mut shown = vec![identity("visitor", &format!("v{visitor}"), proven || mail > 1)];
                    shown.extend(login.map(|login| identity("login", &format!("l{login}"), true)));
                    shown.push(identity("email", &format!("m{mail}@example.com"), proven));
                    let envelope = envelope(shown);
                    prop_assert_eq!(hot.take_in(&envelope), cold.take_in(&envelope));
                }
                Input::Merge(a, b) => {
                    let (a, b) = (CustomerId(a), CustomerId(b));
                    let merge = || AdminCommand::CustomerMerge { customer: a, with: b };
                    prop_assert_eq!(hot.told(merge(), &[a, b]), cold.told(merge(), &[a, b]));
                }
                Input::Split(a) => {
                    let split = || AdminCommand::CustomerSplit { customer: CustomerId(a) };
                    prop_assert_eq!(hot.told(split(), &[CustomerId(a)]), cold.told(split(), &[CustomerId(a)]));
                }
                Input::Dismiss(a, b) => {
                    let (a, b) = (CustomerId(a), CustomerId(b));
                    let dismiss = || AdminCommand::CustomerDismiss { customer: a, with: b };
                    prop_assert_eq!(hot.told(dismiss(), &[a, b]), cold.told(dismiss(), &[a, b]));
                }
                Input::Erase(a) => {
                    let named = cold.state.rests(CustomerId(a)).map(|(person, _)| person).into_iter().collect();
                    cold.recall(named);
                    let erasure = |world: &World| world.state.erasure(CustomerId(a)).ok();
                    prop_assert_eq!(erasure(&hot), erasure(&cold));
                    if let Some((customers, keys)) = erasure(&hot) {
                        let by = "operator";
                        for world in [&mut hot, &mut cold] {
                            let (customers, keys) = (customers.clone(), keys.clone());
                            world.apply(vec![Event::CustomerErased { customers, keys, by: by.into() }]);
                        }
                    }
                }
                Input::Rest(a) => {
                    cold.rest(CustomerId(a));
                }
                Input::Snapshot => {
                    let bytes = Encoding::MsgPack.encode(&cold.state).unwrap();
                    cold.state = Encoding::MsgPack.decode(&bytes, usize::MAX).unwrap();
                    cold.state.reindex();
                    // An index that was built anew knows of the first of a list alone that somebody is found by it.
                    hot.state.reindex();
                }
            }
        }
        let mut replayed = State::new();
        for (at, event) in &cold.facts {
            replayed.evolve(Timestamp(*at), event);
        }
        prop_assert_eq!(replayed.fingerprint(), cold.state.fingerprint());
        let all = cold.state.resting_from(CustomerId(0)).map(|(person, _)| person).collect();
        cold.recall(all);
        prop_assert_eq!(cold.state.resting(), (0, 0));
        prop_assert_eq!(cold.state.fingerprint(), hot.state.fingerprint());
    }
}
