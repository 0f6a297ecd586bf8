//! Checks afterwards, from what the bus holds: nothing lost, nothing doubled, nothing out of order, and
//! the journal means the state that is live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::command::AgentQuery;
use contract::event::decode_events;
use contract::feed::{FeedItem, Since, Snapshot, Sync as Synced};
use contract::journal::Position;
use contract::{ConversationId, Event, EventRecord, OfferId, subject};
use engine::invariant::Auditor;
use router::Tenant;
use throughline_tests::daemon::TENANT;
use throughline_tests::streams::{Journalled, tenant};
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, http, until};

use crate::facts::{self, Hand, Report};

/// The shard of the tenant "main" among eight.
pub(crate) const SHARD: u16 = 0;
/// How many of the newest items of each feed are compared one by one.
const RECENT: u64 = 200;
/// How many broken rules are told.
const TOLD: usize = 40;

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
/// A journal that is whole means the live state, too; of one that is not, [`facts_hold`] checks what facts say.
pub(crate) fn rest_is_exact(journal: &[Journalled], events: &[EventRecord], live: &str) {
    transcript_is_ordered(events);
    let Some(first) = journal.first().map(|record| record.seq) else {
        return println!("the journal is purged, and was not replayed");
    };
    let rest: Vec<EventRecord> = events.iter().filter(|record| record.position.seq >= first).cloned().collect();
    transcript_is_exact(journal, &rest);
    if rest.len() == events.len() {
        assert_eq!(router::digest(&replay(journal)), live, "replaying the journal gives the live state");
        println!("the journal is whole, and its {} records were replayed", journal.len());
    } else {
        println!("the journal is purged up to record {first}, and was not replayed");
    }
}

/// What facts alone say, over all that was ever decided: every rule that can be seen in them holds, and what the router
/// has live of each of these agents is what they add up to.
pub(crate) async fn facts_hold(daemon: &Daemon, tools: &[AgentTool]) {
    let mut apart = Vec::new();
    // What comes late moves a feed on while it is looked at.
    for _ in 0..10 {
        let mut live = Vec::new();
        for tool in tools {
            live.push(Live::of(tool).await);
        }
        let (seq, _) = live_digest(daemon).await;
        let facts = all_facts(daemon, seq).await;
        let report = facts::read(&facts);
        let broken: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        let told = &broken[..broken.len().min(TOLD)];
        assert!(broken.is_empty(), "rules are broken {} times in {} facts: {told:#?}", broken.len(), facts.len());
        apart = live.iter().filter_map(|live| live.is_apart(&report)).collect();
        if apart.is_empty() {
            live.iter().for_each(|live| live.is_exact(&report));
            return println!("{} facts keep the rules, and {} feeds are what they say", facts.len(), live.len());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    panic!("feeds that are not as long as facts say: {apart:#?}");
}

/// Every fact of every tenant that was decided up to a record of the shard.
async fn all_facts(daemon: &Daemon, through: u64) -> Vec<EventRecord> {
    // Waits until all of them are written.
    daemon.events(TENANT).await;
    let bus = daemon.connect(bus::permissions::ADMIN).await;
    let filter = format!("{}.event.*.*.*", subject::PREFIX);
    let found = bus.collect(bus::topology::EVENTS, &filter, None).await.expect("the events");
    let facts = found.iter().flat_map(|stored| {
        let facts = decode_events(&stored.payload, stored.headers.get(contract::codec::CONTENT_TYPE));
        facts.expect("facts").into_iter().map(|fact| fact.expect("a fact"))
    });
    facts.filter(|fact| fact.position.shard != SHARD || fact.position.seq <= through).collect()
}

/// What the router has live of an agent.
struct Live {
    head: u64,
    snapshot: Snapshot,
    /// The newest items of its feed, where the router still has them.
    recent: Vec<FeedItem>,
}

impl Live {
    async fn of(tool: &AgentTool) -> Self {
        let ask = async |since| {
            let synced = tool.commander().query::<Synced>(&AgentQuery::FeedSync { since }).await;
            synced.unwrap_or_else(|refusal| panic!("a feed: {refusal}"))
        };
        let all = ask(None).await;
        let recent = ask(Some(Since { seq: all.head.saturating_sub(RECENT) })).await;
        let snapshot = all.snapshot.expect("who says nothing of what it has gets everything");
        Self { head: all.head, snapshot, recent: recent.items }
    }

    /// The facts that are shown to the agent.
    fn shown<'a>(&self, report: &'a Report) -> &'a [Position] {
        report.feeds.get(&(tenant(TENANT), self.snapshot.agent.clone())).map_or(&[][..], Vec::as_slice)
    }

    /// How long the feed is and should be, where that is not the same.
    fn is_apart(&self, report: &Report) -> Option<String> {
        let shown = self.shown(report).len() as u64;
        (shown != self.head).then(|| format!("{}: {}, and facts say {shown}", self.snapshot.agent, self.head))
    }

    /// Each item is the fact that has its number; and the agent has what facts say.
    fn is_exact(&self, report: &Report) {
        let (agent, shown) = (&self.snapshot.agent, self.shown(report));
        for item in &self.recent {
            let at = usize::try_from(item.seq - 1).expect("few");
            if let Some(position) = shown.get(at) {
                assert_eq!(item.record.position, *position, "item {} of the feed of {agent}", item.seq);
            }
        }
        let conversations: BTreeSet<ConversationId> =
            self.snapshot.conversations.iter().map(|view| view.conversation).collect();
        let offers: BTreeSet<OfferId> = self.snapshot.offers.iter().map(|view| view.offer).collect();
        let live = Hand { load: self.snapshot.load, conversations, offers };
        let said = report.hands.get(&(tenant(TENANT), agent.clone()));
        assert_eq!(said, Some(&live), "{agent} has live what facts say");
    }
}

/// No router has found a rule broken: neither one that is there, by what it counts, nor one that is gone, by what it
/// wrote.
pub(crate) async fn no_router_found_a_rule_broken(daemon: &Daemon, routers: &[String]) {
    for address in routers {
        let page = until(PATIENCE, "the numbers of a router", async || {
            http::get(address, "/metrics").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        for line in page.body.lines().filter(|line| line.starts_with("router_invariant_violations_total")) {
            assert!(line.ends_with(" 0"), "{address}: {line}");
        }
    }
    let logs = daemon.logs();
    let said: Vec<&str> = logs.lines().filter(|line| line.contains("an invariant does not hold")).collect();
    assert!(said.is_empty(), "{said:#?}");
}

/// No offer flapped: for each time that a conversation came into a queue it was offered once, and that offer was
/// accepted. For whoever knows that all agents were there, and took what they were offered.
pub(crate) fn no_offer_flapped(events: &[EventRecord]) {
    let mut counts: BTreeMap<ConversationId, (u32, u32, u32)> = BTreeMap::new();
    let mut flaps = Vec::new();
    for record in events {
        match &*record.event {
            Event::ConversationEnqueued { conversation, .. } => counts.entry(*conversation).or_default().0 += 1,
            Event::OfferCreated { conversation, .. } => counts.entry(*conversation).or_default().1 += 1,
            Event::OfferAccepted { conversation, .. } => counts.entry(*conversation).or_default().2 += 1,
            Event::OfferDeclined { .. }
            | Event::OfferExpired { .. }
            | Event::OfferRescinded { .. }
            | Event::AgentDisconnected { .. }
            | Event::AgentLost { .. }
            | Event::AgentNotResponding { .. } => flaps.push(format!("{}: {:?}", record.position, record.event)),
            _ => {}
        }
    }
    assert!(flaps.is_empty(), "{flaps:#?}");
    let odd: Vec<_> = counts.iter().filter(|(_, (queued, made, taken))| queued != made || made != taken).collect();
    assert!(odd.is_empty(), "conversations by how often they were queued, offered and accepted: {odd:?}");
    assert!(!counts.is_empty(), "nothing was offered");
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
        assert_eq!(thread, own, "the page shows what is there");
        if client.put_off() == 0 {
            assert_eq!(thread, acked, "what was acknowledged is there once, and in order");
        } else {
            // One that was put off may have been stored all the same, and is acknowledged when it comes again.
            let sorted = |mut ids: Vec<String>| {
                ids.sort_unstable();
                ids
            };
            assert_eq!(sorted(thread), sorted(acked.clone()), "what was acknowledged is there once");
        }
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
