//! A state made again from its journal, and from a snapshot.

use std::sync::Arc;
use std::time::Instant;

use contract::command::Done;
use contract::event::{Decision, EnqueueReason, Terms, ThreadRef};
use contract::journal::{Cause, Entry, Fingerprint};
use contract::policy::Policy;
use contract::{
    AgentId, ConversationId, CustomerId, Encoding, Event, MessageId, Millis, OfferId, QueueId, SmolStr, Timestamp,
};
use engine::{Replay, State};

use crate::table::{Clocks, seconds};
use crate::world::{AGENTS, Dice, Shape, agent_id, policy, template};

const CHUNK: usize = 10_000;

/// Replays the journal of so many conversations, all still open: of ten five wait, one is with an agent, four are
/// parked.
pub fn run(many: usize, live: &dyn Fn() -> usize) {
    let policy = Arc::new(policy(Shape { name: "usual", ..Shape::default() }));
    let compiled = policy::Compiled::new(Arc::clone(&policy));
    let mut replay = Replay::default();
    let at = Timestamp(1_700_000_000_000);
    replay.entry(&entry(at, Cause::Notice, vec![Event::PolicyApplied { version: 1, policy: Arc::clone(&policy) }]));
    let before = live();
    let (mut took, mut entries, mut facts) = ((0.0, 0.0), 0, 0);
    let mut add = |start: Clocks| {
        let (wall, core) = seconds(start.since());
        took = (took.0 + wall, took.1 + core);
        took
    };
    let mut dice = Dice::new(4);
    for first in (0..many).step_by(CHUNK) {
        // As they come back from the journal: nothing in them is shared.
        let chunk: Vec<Entry> = (first..(first + CHUNK).min(many))
            .flat_map(|n| journal(n, at, &policy, &compiled, &mut dice))
            .map(|entry| Encoding::MsgPack.encode(&entry).expect("an entry"))
            .map(|bytes| Encoding::MsgPack.decode(&bytes, usize::MAX).expect("an entry"))
            .collect();
        entries += chunk.len();
        facts += chunk.iter().map(|entry| entry.events.len()).sum::<usize>();
        let start = Clocks::now();
        for entry in &chunk {
            drop(replay.entry(entry));
        }
        add(start);
    }
    let start = Clocks::now();
    let state = replay.finish();
    let (_, finishing) = seconds(start.since());
    let (wall, core) = add(Clocks::now());
    let each = live().saturating_sub(before) / many;
    println!(
        "{many} open conversations from {entries} entries ({facts} facts): {:.2} s ({:.2} s of a core), {finishing:.2} s of it to index; {each} bytes each",
        wall + finishing,
        core + finishing,
    );
    let start = Instant::now();
    let bytes = Encoding::MsgPack.encode(&state).expect("a state");
    println!("snapshot: {} MB in {:.2} s", bytes.len() / 1_000_000, start.elapsed().as_secs_f64());
    drop(state);
    let start = Instant::now();
    let mut state: State = Encoding::MsgPack.decode(&bytes, usize::MAX).expect("a state");
    println!("read back in {:.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    state.reindex();
    println!("indexed in {:.2} s", start.elapsed().as_secs_f64());
}

fn entry(at: Timestamp, cause: Cause, events: Vec<Event>) -> Entry {
    Entry { tenant: template().tenant, at, cause, events: events.into_iter().map(Arc::new).collect() }
}

/// What the journal holds of one conversation.
fn journal(n: usize, at: Timestamp, policy: &Policy, rules: &policy::Compiled, dice: &mut Dice) -> Vec<Entry> {
    let number = n as u64 + 1;
    let (conversation, message) = (ConversationId(number), MessageId(number));
    let mut envelope = template();
    envelope.dedup_key = SmolStr::from(format!("key-{number}"));
    envelope.thread.key = SmolStr::from(format!("thread-{number}"));
    envelope.tags = vec![SmolStr::from(format!("kind-{}-{}", n % 18, n / 18 % 10))];
    let cause = Cause::Envelope(Fingerprint(envelope.fingerprint()));
    let thread = ThreadRef { account: envelope.account.clone(), thread: envelope.thread.clone() };
    let rule = policy.routes.iter().position(|route| route.tag.as_ref() == envelope.tags.first());
    let queue: QueueId =
        rule.and_then(|rule| policy.routes.get(rule)).map(|route| route.queue.clone()).expect("a rule");
    let requirement = rules.requirement(&queue, rule, None);
    let until = requirement.steps.first().and_then(|first| first.until_ms);
    let terms = Terms {
        policy: 1,
        route: rule.map(|rule| SmolStr::from(rule.to_string())),
        weight: 25,
        lease_ms: Millis::from_secs(30),
        step_ends_at: until.map(|until| at + until),
        tags: envelope.tags.iter().cloned().collect(),
        language: envelope.language.clone(),
        ..Terms::default()
    };
    let mut came = vec![
        Event::ConversationOpened { conversation, customer: CustomerId(number), thread },
        Event::MessageReceived { conversation, message, thread_seq: 1, envelope: Box::new(envelope), customer: None },
        Event::ConversationEnqueued {
            conversation,
            queue,
            priority: 0,
            requirement,
            ready_at: at,
            reason: EnqueueReason::Opened,
            from: None,
            direct: None,
            kept: false,
            terms: Box::new(terms),
        },
    ];
    if n % 10 < 5 {
        return vec![entry(at, cause, came)];
    }
    let (offer, agent) = (OfferId(number), agent_id(dice.below(AGENTS)));
    let expires_at = at + Millis::from_secs(30);
    came.push(Event::OfferCreated {
        offer,
        conversation,
        agent: agent.clone(),
        expires_at,
        decision: Decision::default(),
    });
    let accepted = vec![
        Event::OfferAccepted { offer, conversation, agent: agent.clone() },
        Event::ConversationAssigned {
            conversation,
            agent: agent.clone(),
            offer: Some(offer),
            forced_by: None,
            over_capacity: false,
        },
    ];
    let mut entries = vec![entry(at, cause, came), entry(at, command(&agent, "accept", number), accepted)];
    if n % 10 < 9 {
        let parked = Event::ConversationParked { conversation, agent: agent.clone(), until: None, reason: None };
        entries.push(entry(at, command(&agent, "park", number), vec![parked]));
    }
    entries
}

fn command(agent: &AgentId, what: &str, number: u64) -> Cause {
    Cause::Command {
        by: SmolStr::from(format!("agent.{agent}")),
        id: SmolStr::from(format!("{what}-{number}")),
        done: Done::default(),
    }
}
