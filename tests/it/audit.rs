//! Checks afterwards, from what the bus holds: nothing lost, nothing doubled, nothing out of order, and
//! the journal means the state that is live.

use std::collections::{BTreeMap, BTreeSet};

use contract::journal::Position;
use contract::{Event, EventRecord, subject};
use engine::invariant::Auditor;
use router::Tenant;
use throughline_tests::streams::{Journalled, tenant};
use throughline_tests::{AgentTool, ChatClient, Daemon};

/// The shard of the tenant "main" among eight.
pub(crate) const SHARD: u16 = 0;

/// Every fact of the journal, with its position.
fn journalled(journal: &[Journalled]) -> Vec<(Position, Event)> {
    let mut facts = Vec::new();
    for record in journal {
        let events = record.record.entries.iter().flat_map(|entry| &entry.events);
        facts.extend(events.enumerate().map(|(index, event)| {
            let index = u32::try_from(index).expect("few");
            (Position { shard: SHARD, seq: record.seq, index }, (**event).clone())
        }));
    }
    facts
}

/// The journal alone: epochs never go back, and R1 to R12 hold at every record. Returns the state that
/// it means.
pub(crate) fn replay(journal: &[Journalled]) -> Tenant {
    let epochs: Vec<u64> = journal.iter().map(|record| record.record.epoch).collect();
    assert!(epochs.is_sorted(), "a record of an older epoch follows one of a newer");
    let ids: BTreeSet<_> = journal.iter().map(|record| &record.record.id).collect();
    assert_eq!(ids.len(), journal.len(), "a record stands twice");
    let mut state = Tenant::default();
    let mut auditor = Auditor::default();
    for record in journal {
        for entry in &record.record.entries {
            assert_eq!(entry.tenant, tenant("main"));
            for emitted in state.replay(entry) {
                auditor.observe(&state.engine, &emitted);
            }
        }
        let violations = state.engine.violations();
        assert!(violations.is_empty(), "after record {}: {violations:#?}", record.seq);
    }
    assert!(auditor.violations().is_empty(), "{:#?}", auditor.violations());
    state
}

/// `EVENTS` is the journal's facts: each once, and in order on its subject.
pub(crate) fn transcript_is_exact(journal: &[Journalled], events: &[EventRecord]) {
    transcript_is_ordered(events);
    let mut found: Vec<(Position, Event)> =
        events.iter().map(|record| (record.position, (*record.event).clone())).collect();
    found.sort_by_key(|(position, _)| *position);
    let expected = journalled(journal);
    let missing: Vec<_> = expected.iter().filter(|fact| !found.contains(fact)).map(|(p, e)| (p, e.name())).collect();
    assert!(missing.is_empty(), "not in EVENTS: {missing:?}");
    assert_eq!(found.len(), expected.len(), "EVENTS holds more than the journal");
}

/// The same of what is left of a journal: whoever hands a shard over takes a checkpoint, and lets go of what is before.
/// A journal that is whole means the live state, too.
pub(crate) fn rest_is_exact(journal: &[Journalled], events: &[EventRecord], live: &str) {
    transcript_is_ordered(events);
    let Some(first) = journal.first().map(|record| record.seq) else { return };
    let rest: Vec<EventRecord> = events.iter().filter(|record| record.position.seq >= first).cloned().collect();
    transcript_is_exact(journal, &rest);
    if rest.len() == events.len() {
        assert_eq!(router::digest(&replay(journal)), live, "replaying the journal gives the live state");
    }
}

/// Each fact once, and in order on its subject.
pub(crate) fn transcript_is_ordered(events: &[EventRecord]) {
    let mut newest: BTreeMap<String, Position> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for record in events {
        assert!(seen.insert(record.position), "{} stands twice in EVENTS", record.position);
        let subject = subject::event(&record.tenant, record.event.noun(), record.customer);
        let before = newest.insert(subject.clone(), record.position);
        assert!(
            before.is_none_or(|before| before < record.position),
            "{subject} is out of order at {}",
            record.position
        );
    }
}

/// What customers were told is stored is there once, in their order; what agents were told is sent
/// reached the page once.
pub(crate) fn nothing_lost_or_doubled(
    events: &[EventRecord],
    clients: &[ChatClient],
    tools: &[AgentTool],
) -> (usize, usize) {
    let mut received: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    let mut sent: BTreeMap<String, String> = BTreeMap::new();
    for record in events {
        match &*record.event {
            Event::MessageReceived { envelope, thread_seq, .. } => {
                let id = envelope.dedup_key.rsplit('/').next().unwrap_or_default().to_owned();
                received.entry(envelope.thread.key.to_string()).or_default().push((*thread_seq, id));
            }
            Event::MessageSent { message, thread, .. } => {
                sent.insert(message.to_string(), thread.thread.key.to_string());
            }
            _ => {}
        }
    }
    let (mut stored, mut said) = (0, 0);
    let mut chats: BTreeSet<&str> = BTreeSet::new();
    for client in clients {
        client.check();
        let acked: Vec<String> = client.acked().into_iter().map(|(id, _)| id).collect();
        let own: Vec<String> = client.messages().into_iter().filter_map(|message| message.client_msg_id).collect();
        let thread = received.iter().find(|(_, messages)| messages.iter().any(|(_, id)| acked.first() == Some(id)));
        chats.extend(thread.map(|(key, _)| key.as_str()));
        let thread: Vec<String> =
            thread.map(|(_, messages)| messages.iter().map(|(_, id)| id.clone()).collect()).unwrap_or_default();
        assert_eq!(thread, acked, "what was acknowledged is there once, and in order");
        assert_eq!(own, acked, "and the page shows it so");
        stored += acked.len();
    }
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for client in clients {
        for message in client.messages().into_iter().filter(|message| message.from == "agent") {
            *shown.entry(message.id).or_default() += 1;
        }
    }
    for tool in tools {
        for answer in tool.said() {
            let id = answer.message.expect("an acknowledged answer has an id").to_string();
            let thread = sent.get(&id);
            let thread = thread.unwrap_or_else(|| panic!("an acknowledged answer is not in EVENTS: {id}"));
            said += 1;
            // What went another way is for the provider there to tell.
            if !chats.contains(thread.as_str()) {
                continue;
            }
            assert_eq!(shown.get(&id), Some(&1), "answer {id} reached the page {:?} times", shown.get(&id));
        }
    }
    assert!(shown.values().all(|times| *times == 1));
    (stored, said)
}

/// Waits until nothing is decided any more: agents' tools that fell behind answer old messages after new
/// ones.
pub(crate) async fn quiet(daemon: &Daemon) {
    let mut before = 0;
    for _ in 0..60 {
        let (seq, _) = live_digest(daemon).await;
        if seq == before {
            return;
        }
        before = seq;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    panic!("the journal still grows, two minutes after the customers stopped");
}

/// The digest of the live state, and the record after which it is that.
pub(crate) async fn live_digest(daemon: &Daemon) -> (u64, String) {
    let status = daemon.cli(&["status", "--json", "--digest"]).await.json();
    let value = &status["value"];
    let seq = value["shard"]["seq"].as_u64().expect("a sequence");
    (seq, value["digest"].as_str().expect("a digest").to_owned())
}
