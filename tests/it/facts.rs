//! The rules of the design, checked from facts alone: all of `EVENTS`, in the order of the journal.
//!
//! `EVENTS` is whole however often the journal behind it was purged, so that a history of many hand-overs is checked
//! from its first fact on. Nothing but the contract is known here: what is legal is written down once more, so that
//! whoever decides and whoever checks do not err alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use contract::journal::Position;
use contract::{AgentId, ConversationId, Event, EventRecord, OfferId, TenantId, Timestamp};

use conversations::{Books, Item};
use customers::Customers;
use messages::Messages;

mod conversations;
mod customers;
mod messages;
mod tests;

/// What must hold, by the numbers of the design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A conversation is in one state, with one queue or holder.
    R1,
    /// Nobody has more than their capacity.
    R2,
    /// Nobody is offered what they cannot take.
    R3,
    /// Nothing waits for which somebody has room.
    R4,
    /// One offer at a time of a conversation, or as many as its queue rings.
    R5,
    /// Each offer ends once.
    R6,
    /// What is repeated changes nothing.
    R7,
    /// Who came first is served first.
    R8,
    /// Messages are in order.
    R9,
    /// Whoever takes over goes on where it was: numbers, time and feeds go on.
    R10,
    /// Each message has one home.
    R11,
    /// Decisions say why.
    R12,
    /// The transcript has each fact once, and all of them.
    D6,
}

/// A rule that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) at: Position,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, at, detail, .. } = self;
        match self.conversation {
            Some(conversation) => write!(f, "{rule:?} at {at}, {conversation}: {detail}"),
            None => write!(f, "{rule:?} at {at}: {detail}"),
        }
    }
}

/// What an agent has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hand {
    pub(crate) load: u32,
    /// What it holds, hands over or reads along.
    pub(crate) conversations: BTreeSet<ConversationId>,
    pub(crate) offers: BTreeSet<OfferId>,
}

/// What facts add up to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violations: Vec<Violation>,
    /// The facts that are shown to each agent: the first of them is number 1 of the feed.
    pub(crate) feeds: BTreeMap<(TenantId, AgentId), Vec<Position>>,
    pub(crate) hands: BTreeMap<(TenantId, AgentId), Hand>,
}

/// What was found, and the fact that is looked at.
struct Findings {
    all: Vec<Violation>,
    at: Position,
    now: Timestamp,
    conversation: Option<ConversationId>,
    /// Somebody was erased, and the facts about them with them: what is left has gaps.
    gaps: bool,
}

impl Findings {
    fn fail(&mut self, rule: Rule, detail: String) {
        self.all.push(Violation { rule, at: self.at, conversation: self.conversation, detail });
    }

    fn require(&mut self, holds: bool, rule: Rule, detail: impl FnOnce() -> String) {
        if !holds {
            self.fail(rule, detail());
        }
    }
}

/// Numbers that are handed out one after the other.
#[derive(Default)]
struct Counter(u64);

impl Counter {
    fn next(&mut self, given: u64, what: &str, findings: &mut Findings) {
        let next = self.0 + 1;
        let right = given == next || findings.gaps && given > next;
        findings.require(right, Rule::R10, || format!("{what} has number {given}, and {next} was the next"));
        self.0 = self.0.max(given);
    }
}

/// What is known of a tenant.
#[derive(Default)]
struct Tenant {
    books: Books,
    customers: Customers,
    messages: Messages,
    feeds: BTreeMap<AgentId, Vec<Position>>,
    latest: Timestamp,
}

impl Tenant {
    fn observe(&mut self, record: &EventRecord, findings: &mut Findings) {
        (findings.at, findings.now) = (record.position, record.at);
        findings.conversation = record.event.conversation();
        let back = self.latest.since(record.at);
        findings.require(back.0 == 0, Rule::R10, || format!("time goes back by {} ms", back.0));
        self.latest = self.latest.max(record.at);
        for agent in self.reached(&record.event) {
            self.feeds.entry(agent).or_default().push(record.position);
        }
        self.check_home(record, findings);
        self.customers.observe(&record.event, findings);
        self.messages.observe(record, findings);
        self.books.observe(&record.event, findings);
    }

    /// Whom a fact is shown to, as things stand before it.
    fn reached(&self, event: &Event) -> BTreeSet<AgentId> {
        let mut reached: BTreeSet<AgentId> = event.agent().into_iter().cloned().collect();
        let open = event.conversation().and_then(|id| self.books.open(id));
        if matches!(event, Event::MessageMirrored { .. }) {
            // Whoever is shown the message itself is not told where else it is shown.
        } else if let Some(item) = open {
            reached.extend(item.before_whom().cloned());
        } else if event.noun() == "customer" {
            let other = match event {
                Event::CustomerMerged { from, .. } | Event::CustomerSplit { from, .. } => Some(*from),
                _ => None,
            };
            let kin = &self.customers.kin;
            for customer in event.customer().into_iter().chain(other) {
                let theirs = |item: &&Item| kin.root(item.customer) == kin.root(customer);
                for item in self.books.all_open().filter(theirs) {
                    reached.extend(item.before_whom().cloned());
                }
            }
        }
        reached.retain(|agent| self.books.knows(agent));
        reached
    }

    /// A message is in a conversation of the person who wrote it.
    fn check_home(&self, record: &EventRecord, findings: &mut Findings) {
        let Event::MessageReceived { conversation, message, .. } = &*record.event else { return };
        let kin = &self.customers.kin;
        let home = self.books.open(*conversation).map(|item| kin.root(item.customer));
        let own = home.is_some() && record.customer.map(|customer| kin.root(customer)) == home;
        findings.require(own, Rule::R11, || {
            format!("{message} is of {:?}, in a conversation of {home:?}", record.customer)
        });
    }
}

/// Reads facts, in whatever order they come: all of them, of all tenants, from the first on.
pub(crate) fn read(records: &[EventRecord]) -> Report {
    let mut sorted: Vec<&EventRecord> = records.iter().collect();
    sorted.sort_by_key(|record| record.position);
    let mut findings = Findings {
        all: Vec::new(),
        at: Position { shard: 0, seq: 0, index: 0 },
        now: Timestamp(0),
        conversation: None,
        gaps: sorted.iter().any(|record| matches!(&*record.event, Event::CustomerErased { .. })),
    };
    check_places(&sorted, &mut findings);
    let mut tenants: BTreeMap<TenantId, Tenant> = BTreeMap::new();
    for (n, record) in sorted.iter().enumerate() {
        tenants.entry(record.tenant.clone()).or_default().observe(record, &mut findings);
        let of = |record: &EventRecord| (record.position.shard, record.position.seq);
        // What one input leads to is never seen half.
        if sorted.get(n + 1).is_none_or(|next| of(next) != of(record)) {
            for tenant in tenants.values() {
                tenant.books.settled(&mut findings);
            }
        }
    }
    let mut report = Report { violations: findings.all, ..Report::default() };
    for (name, tenant) in tenants {
        for (agent, hand) in tenant.books.hands() {
            report.hands.insert((name.clone(), agent), hand);
        }
        for (agent, shown) in tenant.feeds {
            report.feeds.insert((name.clone(), agent), shown);
        }
    }
    report
}

/// Each place once, and the facts of a record numbered from 0 without gaps.
fn check_places(sorted: &[&EventRecord], findings: &mut Findings) {
    let mut before: Option<Position> = None;
    for record in sorted {
        let at = record.position;
        (findings.at, findings.conversation) = (at, record.event.conversation());
        let next = match before {
            Some(before) if (before.shard, before.seq) == (at.shard, at.seq) => before.index + 1,
            _ => 0,
        };
        let gaps = findings.gaps;
        match before == Some(at) {
            true => findings.fail(Rule::D6, "the fact stands twice".to_owned()),
            false => findings
                .require(at.index == next || gaps, Rule::D6, || format!("fact {next} of the record is not there")),
        }
        before = Some(at);
    }
}
