//! Finding the customer that a message is from: how long it takes among many, and what each identity takes to remember.

use std::time::{Duration, Instant};

use contract::envelope::{Assurance, Identity, Scope};
use std::collections::BTreeSet;

use contract::{CustomerId, Encoding, Envelope, Event, SmolStr, Timestamp};
use profile::State;

use crate::world::{Dice, template};

/// Identities of each customer: a login, a mail address, a number.
const EACH: usize = 3;

fn identities(n: usize) -> [Identity; EACH] {
    let identity = |scheme: &'static str, value: String| Identity {
        scheme: SmolStr::new_static(scheme),
        value: value.into(),
        scope: Scope::Global,
        scope_id: None,
        raw: None,
        assurance: Some(Assurance::Verified),
    };
    [
        identity("login", format!("customer-{n}")),
        identity("email", format!("somebody.{n}@customers.example.com")),
        identity("tel", format!("+49301{n:08}")),
    ]
}

fn envelope(identities: impl IntoIterator<Item = Identity>) -> Envelope {
    let mut envelope = template();
    let mut identities = identities.into_iter();
    if let Some(first) = identities.next() {
        envelope.sender.identity = first;
    }
    envelope.sender.aliases = identities.collect();
    envelope
}

fn resolve(state: &mut State, envelope: &Envelope) {
    let at = Timestamp(1_700_000_000_000);
    let (_, facts) = state.resolve(at, envelope, None);
    for fact in &facts {
        state.evolve(at, fact);
    }
}

/// Among so many customers: what is new, what is known by one of its identities, what nobody has.
pub fn run(many: usize, live: &dyn Fn() -> usize) {
    let before = live();
    let mut state = State::new();
    let start = Instant::now();
    for n in 0..many {
        resolve(&mut state, &envelope(identities(n)));
    }
    let took = start.elapsed();
    let bytes = live().saturating_sub(before) / (many * EACH);
    println!(
        "{many} customers with {EACH} identities each: {bytes} bytes an identity; {:.0} new customers a second",
        many as f64 / took.as_secs_f64()
    );
    let mut dice = Dice::new(7);
    let mut measure = |name: &str, pick: &mut dyn FnMut(&mut Dice) -> Envelope| {
        let envelopes: Vec<Envelope> = (0..100_000).map(|_| pick(&mut dice)).collect();
        let mut times = Vec::with_capacity(envelopes.len());
        let start = Instant::now();
        for envelope in &envelopes {
            let one = Instant::now();
            resolve(&mut state, envelope);
            times.push(one.elapsed());
        }
        let each = start.elapsed() / 100_000;
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        println!("{name:<40} {each:>10?} each, p50 {:?}, p99 {:?}", at(50), at(99));
    };
    // The same few again and again, and any of them.
    measure("known, of a thousand", &mut |dice| envelope(identities(dice.below(1000)).into_iter().take(1)));
    measure("known, of all", &mut |dice| envelope(identities(dice.below(many)).into_iter().skip(1).take(1)));
    measure("all three of a customer", &mut |dice| envelope(identities(dice.below(many))));
    measure("claimed, of somebody who has proven it", &mut |dice| {
        let [_, mut mail, _] = identities(dice.below(many));
        mail.assurance = Some(Assurance::Claimed);
        envelope([mail])
    });
    let start = Instant::now();
    let written = Encoding::MsgPack.encode(&state).expect("a state");
    let mut read: State = Encoding::MsgPack.decode(&written, usize::MAX).expect("a state");
    read.reindex();
    let took: Duration = start.elapsed();
    println!(
        "snapshot: {} MB, written, read back and indexed in {:.2} s",
        written.len() / 1_000_000,
        took.as_secs_f64()
    );
    drop((read, written));
    rest(&mut state, many, before, live);
}

/// The same customers, when nobody has been heard of for long: what stays of them in memory, whether a sender is one of them,
/// and what it takes to have one back, without the way to the bucket and back.
fn rest(state: &mut State, many: usize, before: usize, live: &dyn Fn() -> usize) {
    let at = Timestamp(1_700_000_000_000);
    let all: Vec<CustomerId> =
        state.silent(CustomerId(0), usize::MAX).0.into_iter().map(|(person, _)| person).collect();
    let text = |state: &State, person| {
        let kept = state.kept(person).expect("a person");
        String::from_utf8(Encoding::Json.encode(&kept).expect("an entry")).expect("a text")
    };
    let entries: Vec<String> = all.iter().take(10_000).map(|person| text(state, *person)).collect();
    let bytes: usize = entries.iter().map(String::len).sum();
    let aside = live();
    let start = Instant::now();
    for person in &all {
        let customers = state.kin().members(*person).collect();
        let rested = Event::CustomerRested { customer: *person, customers, kept: 1, silent_since: at };
        state.evolve(at, &rested);
    }
    let took = start.elapsed() / u32::try_from(all.len()).unwrap_or(u32::MAX);
    let other = all.capacity() * size_of::<CustomerId>() + aside.saturating_sub(live());
    let left = live().saturating_sub(before);
    println!(
        "all at rest: {} bytes an identity in memory ({} MB freed), {} bytes an entry, {took:?} each to leave",
        left.saturating_sub(bytes) / (many * EACH),
        other / 1_000_000,
        bytes / entries.len().max(1)
    );
    let mut dice = Dice::new(8);
    let mut look = |name: &str, pick: &mut dyn FnMut(&mut Dice) -> Envelope, expected: usize| {
        let envelopes: Vec<Envelope> = (0..100_000).map(|_| pick(&mut dice)).collect();
        let start = Instant::now();
        let mut found = BTreeSet::new();
        let mut named = 0;
        for envelope in &envelopes {
            state.resting_senders(envelope, &mut found);
            named += found.len();
            found.clear();
        }
        println!("{name:<40} {:>10?} each", start.elapsed() / 100_000);
        assert_eq!(named, expected * envelopes.len(), "whoever rests is named, and nobody else");
    };
    look(
        "at rest: is a sender one of them? yes",
        &mut |dice| envelope(identities(dice.below(many)).into_iter().take(1)),
        1,
    );
    look(
        "at rest: is a sender one of them? no",
        &mut |dice| envelope(identities(many + dice.below(many)).into_iter().take(1)),
        0,
    );
    let start = Instant::now();
    for (person, profile) in all.iter().zip(entries.iter().cloned()) {
        let customers = vec![*person];
        let routing = String::new();
        state.evolve(at, &Event::CustomerRecalled { customer: *person, customers, kept: 1, profile, routing });
    }
    let took = start.elapsed() / u32::try_from(entries.len()).unwrap_or(u32::MAX);
    println!("at rest: to have one back                {took:>10?} each, once its entry is read");
    assert_eq!(state.len(), entries.len(), "they are back");
    let written = Encoding::MsgPack.encode(state).expect("a state");
    println!("snapshot with all but {} at rest: {} MB", entries.len(), written.len() / 1_000_000);
}
