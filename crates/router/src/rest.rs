//! Customers who have been silent for long: who leaves memory, who is needed again, who is forgotten. Pure; the shell that
//! writes and reads the entries is `leader/resting.rs`.
//!
//! What is known of such a person lies in one entry of `tl-customers`. That it leaves memory is a fact, and that it comes
//! back is one that holds all that comes back, so that a replay needs no bucket. An entry is named by the record that it
//! reflects: an owner that was deposed and does not know it writes under another name than its successor.

use std::collections::BTreeSet;

use contract::command::{AdminCommand, AgentCommand, ChannelQuery};
use contract::envelope::EnvelopeKind;
use contract::journal::Cause;
use contract::{CustomerId, Encoding, Envelope, Event, SmolStr, TenantId, Timestamp};
use engine::{CommandInput, Step, ThreadKey};
use serde::{Deserialize, Serialize};

use crate::commands::Asked;
use crate::tenant::{Book, Tenant};

/// Largest entry: whoever has more to remember stays in memory, since it comes back in one journal record.
const ENTRY_BYTES_MAX: usize = 192 * 1024;
/// The version of the entries that this crate writes.
const VERSION: u16 = 1;

/// A person as its entry holds it.
#[derive(Serialize, Deserialize)]
struct Entry {
    v: u16,
    /// The journal record that it reflects.
    seq: u64,
    customer: CustomerId,
    profile: profile::Kept,
    routing: engine::Kept,
}

/// The key of a person's entry.
pub(crate) fn key(tenant: &TenantId, customer: CustomerId, seq: u64) -> String {
    format!("{}.{customer}.rested.{seq}", contract::token::encode(tenant.as_str()))
}

/// Somebody who has been silent for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// Leaves memory.
    Rest,
    /// Is forgotten.
    Forget,
}

impl Tenant {
    /// Who rests and may be concerned by an envelope: to be recalled before it is decided.
    pub fn named(&mut self, now: Timestamp, envelope: &Envelope) -> BTreeSet<CustomerId> {
        let mut found = BTreeSet::new();
        if self.profile.resting().1 == 0 {
            return found;
        }
        self.follow();
        self.engine.resting_on_thread(envelope, &mut found);
        if matches!(envelope.kind, EnvelopeKind::Receipt | EnvelopeKind::AccountEvent) {
            return found;
        }
        self.profile.resting_senders(envelope, &mut found);
        let shown = self.engine.shown_switch(now, envelope);
        if let Some(identity) = shown.as_ref().and_then(|shown| shown.switch.identity.as_ref()) {
            self.profile.resting_holders(identity, Some(&envelope.account), &mut found);
        }
        found
    }

    /// The same of a request.
    pub(crate) fn named_by(&mut self, asked: &Asked) -> BTreeSet<CustomerId> {
        let mut found = BTreeSet::new();
        if self.profile.resting().1 == 0 {
            return found;
        }
        self.follow();
        match asked {
            Asked::Change(input) => self.named_by_command(input, &mut found),
            Asked::Admin(AdminCommand::CustomerShow { customer }) => self.add_resting(*customer, &mut found),
            Asked::Admin(AdminCommand::CustomerFind { identity }) => {
                self.profile.resting_holders(identity, None, &mut found);
            }
            Asked::Channel(
                kind,
                account,
                ChannelQuery::ThreadHistory { thread, .. } | ChannelQuery::ThreadWait { thread },
            ) => {
                let key = ThreadKey { kind: kind.clone(), account: account.clone(), key: thread.clone() };
                self.engine.resting_owners(&key, &mut found);
            }
            Asked::Channel(_, _, ChannelQuery::ShardLag {}) | Asked::Admin(_) | Asked::Agent(..) => {}
        }
        found
    }

    fn named_by_command(&self, input: &CommandInput, found: &mut BTreeSet<CustomerId>) {
        match input {
            CommandInput::Agent { command: AgentCommand::ConversationSwitch { to, .. }, .. } => {
                if let Some(key) = engine::named_by_address(to) {
                    self.engine.resting_owners(&key, found);
                }
            }
            CommandInput::Agent { .. } => {}
            CommandInput::Admin { command, .. } => match command {
                AdminCommand::CustomerMerge { customer, with } | AdminCommand::CustomerDismiss { customer, with } => {
                    self.add_resting(*customer, found);
                    self.add_resting(*with, found);
                }
                AdminCommand::CustomerLink { customer, identity }
                | AdminCommand::CustomerUnlink { customer, identity } => {
                    self.add_resting(*customer, found);
                    self.profile.resting_holders(identity, None, found);
                }
                AdminCommand::CustomerSplit { customer }
                | AdminCommand::CustomerUpdate { customer, .. }
                | AdminCommand::CustomerConsent { customer, .. }
                | AdminCommand::CustomerErase { customer } => self.add_resting(*customer, found),
                _ => {}
            },
        }
    }

    /// The same of what is due now.
    #[must_use]
    pub fn named_when_due(&self, now: Timestamp) -> BTreeSet<CustomerId> {
        let mut found = BTreeSet::new();
        self.engine.resting_when_due(now, &Book(&self.profile), &mut found);
        found
    }

    fn add_resting(&self, customer: CustomerId, found: &mut BTreeSet<CustomerId>) {
        found.extend(self.profile.rests(customer).map(|(person, _)| person));
    }

    /// When a person was heard of last. `None`: something of it is under way, or a person has something to decide of it.
    /// `busy`: those of whom that is known already.
    #[must_use]
    pub fn silent_since(&self, person: CustomerId, busy: &BTreeSet<CustomerId>) -> Option<Timestamp> {
        if busy.contains(&person) {
            return None;
        }
        let ended = self.engine.nothing_open(person)?;
        Some(ended.max(self.profile.silent_since(person)))
    }

    /// Those of whom something is to be decided, or whom a switch still waits for: they stay in memory.
    #[must_use]
    pub fn busy(&self, now: Timestamp) -> BTreeSet<CustomerId> {
        let mut busy = self.profile.undecided();
        busy.extend(self.engine.switching(now));
        busy
    }

    /// What is to become of a person by the policy, if it has been silent since then.
    #[must_use]
    pub fn due(&self, now: Timestamp, silent_since: Timestamp) -> Option<Silent> {
        let identity = &self.engine.policy().0.identity;
        let over = |after: contract::Millis| after.0 > 0 && silent_since + after <= now;
        if over(identity.forget_after_ms) {
            Some(Silent::Forget)
        } else if over(identity.rest_after_ms) {
            Some(Silent::Rest)
        } else {
            None
        }
    }

    /// The entry of a person, as it is by the journal record `seq`. `None`: it is nobody in memory, or too much.
    #[must_use]
    pub fn entry_of(&self, person: CustomerId, seq: u64) -> Option<Vec<u8>> {
        let profile = self.profile.kept(person)?;
        let entry = Entry { v: VERSION, seq, customer: person, profile, routing: self.engine.kept(person) };
        Encoding::Json.encode(&entry).ok().filter(|entry| entry.len() <= ENTRY_BYTES_MAX)
    }

    /// A person leaves memory, whose entry is written and says what is known now. `None`: it is not so any more.
    pub fn rest(
        &mut self,
        now: Timestamp,
        person: CustomerId,
        seq: u64,
        entry: &[u8],
        busy: &BTreeSet<CustomerId>,
    ) -> Option<Step> {
        let silent_since = self.silent_since(person, busy)?;
        self.due(now, silent_since)?;
        if self.entry_of(person, seq)? != entry {
            return None;
        }
        let customers = self.profile.kin().members(person).collect();
        let fact = Event::CustomerRested { customer: person, customers, kept: seq, silent_since };
        let mut step = self.engine.open_step(now, Cause::Notice);
        self.adopt(&mut step, vec![fact]);
        self.engine.finish(&mut step);
        Some(step)
    }

    /// A person is in memory again, as its entry says. `None`: it does not rest.
    ///
    /// # Errors
    /// With what is wrong with the entry.
    pub fn recall(&mut self, now: Timestamp, person: CustomerId, entry: &[u8]) -> Result<Option<Step>, String> {
        let Some((person, rest)) = self.profile.rests(person) else { return Ok(None) };
        let read: Entry = Encoding::Json.decode(entry, ENTRY_BYTES_MAX).map_err(|error| error.to_string())?;
        if (read.v, read.seq, read.customer) != (VERSION, rest.kept, person) {
            return Err(format!("is of {} at {}, version {}", read.customer, read.seq, read.v));
        }
        let text = |encoded: Result<Vec<u8>, contract::CodecError>| {
            let bytes = encoded.map_err(|error| error.to_string())?;
            String::from_utf8(bytes).map_err(|error| error.to_string())
        };
        let fact = Event::CustomerRecalled {
            customer: person,
            customers: self.profile.kin().members(person).collect(),
            kept: rest.kept,
            profile: text(Encoding::Json.encode(&read.profile))?,
            routing: text(Encoding::Json.encode(&read.routing))?,
        };
        let mut step = self.engine.open_step(now, Cause::Notice);
        self.adopt(&mut step, vec![fact]);
        self.engine.finish(&mut step);
        Ok(Some(step))
    }

    /// A person who has been silent for as long as the policy allows is forgotten. `None`: it is not so any more.
    pub fn forget(&mut self, now: Timestamp, person: CustomerId, busy: &BTreeSet<CustomerId>) -> Option<Step> {
        let silent_since = self.silent_since(person, busy)?;
        if self.due(now, silent_since) != Some(Silent::Forget) {
            return None;
        }
        let (customers, keys) = self.profile.erasure(person).ok()?;
        let mut step = self.engine.open_step(now, Cause::Notice);
        self.erase(&mut step, customers, keys, &SmolStr::new_static("retention"));
        self.engine.finish(&mut step);
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use contract::event::Presence;
    use contract::{AgentId, ConversationId, Millis, OfferId};
    use engine::Answer;
    use serde_json::json;

    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const ANN: CustomerId = CustomerId(1);

    struct World {
        tenant: Tenant,
        now: u64,
        count: u64,
        entries: Vec<contract::journal::Entry>,
    }

    impl World {
        /// Somebody has talked to anna, and that is over.
        fn new() -> Self {
            let mut world = Self { tenant: Tenant::default(), now: DAY, count: 0, entries: Vec::new() };
            let policy = json!({
                "queues": { "support": { "affinity": { "mode": "prefer", "window_ms": 400 * DAY } } },
                "agents": { "anna": { "queues": ["support"] }, "ben": { "queues": ["support"] } },
                "channels": { "chat": { "reopen": "always" } },
                "identity": { "rest_after_ms": 30 * DAY, "forget_after_ms": 365 * DAY },
            });
            let policy = Box::new(serde_json::from_value(policy).unwrap());
            world.admin(AdminCommand::PolicyApply { policy, waiting: false });
            for name in ["anna", "ben"] {
                world.agent(name, AgentCommand::PresenceSet { presence: Presence::Available, reason: None });
            }
            world.says("v1", "hello");
            let offered = world.tenant.engine.offers().next().unwrap().1.agent.clone();
            world.agent(offered.as_str(), AgentCommand::OfferAccept { offer: OfferId(1) });
            world.agent(
                offered.as_str(),
                AgentCommand::ConversationClose { conversation: ConversationId(1), disposition: None },
            );
            world
        }

        fn keep(&mut self, step: &Step) -> Vec<Event> {
            self.entries.push(step.entry(&TenantId::new("main").unwrap()));
            step.emitted.iter().map(|emitted| (*emitted.event).clone()).collect()
        }

        fn does(&mut self, input: CommandInput) {
            match self.tenant.command(Timestamp(self.now), input, || "x".into()) {
                Answer::Done(_, step) => drop(self.keep(&step)),
                other => panic!("{other:?}"),
            }
        }

        fn admin(&mut self, command: AdminCommand) {
            self.count += 1;
            self.does(CommandInput::Admin { id: SmolStr::from(format!("c{}", self.count)), command });
        }

        fn agent(&mut self, name: &str, command: AgentCommand) {
            let agent = AgentId::new(name).unwrap();
            let heard = self.tenant.engine.agent_heard(Timestamp(self.now), &agent);
            self.keep(&heard);
            self.count += 1;
            self.does(CommandInput::Agent { agent, id: SmolStr::from(format!("c{}", self.count)), command });
        }

        fn envelope(&mut self, who: &str, text: &str) -> Envelope {
            self.count += 1;
            serde_json::from_value(json!({
                "v": 1, "kind": "message", "tenant": "main", "account": { "kind": "chat", "id": "web" },
                "dedup_key": format!("k{}", self.count), "thread": { "key": who },
                "sender": { "identity": {
                    "scheme": "visitor", "value": who, "scope": "global", "assurance": "verified",
                } },
                "sender_auth": { "level": "unverified" }, "received_at": self.now,
                "content": [{ "type": "text", "body": text }],
            }))
            .unwrap()
        }

        fn says(&mut self, who: &str, text: &str) -> Vec<Event> {
            let envelope = self.envelope(who, text);
            let step = self.tenant.receive(Timestamp(self.now), envelope, SmolStr::default).unwrap();
            self.keep(&step)
        }

        fn rest(&mut self, seq: u64) -> Option<Vec<u8>> {
            let busy = self.tenant.busy(Timestamp(self.now));
            let entry = self.tenant.entry_of(ANN, seq)?;
            let step = self.tenant.rest(Timestamp(self.now), ANN, seq, &entry, &busy)?;
            self.keep(&step);
            Some(entry)
        }

        fn fingerprint(&self) -> (Vec<u8>, Vec<u8>) {
            (self.tenant.engine.fingerprint(), self.tenant.profile.fingerprint())
        }
    }

    #[test]
    fn who_has_been_silent_leaves_with_all_that_is_known_and_is_back_for_the_next_word() {
        let mut world = World::new();
        assert_eq!(world.rest(7), None, "not after a moment");
        world.now += 31 * DAY;
        let held = world.tenant.customer_view(ANN).unwrap();
        let big = world.fingerprint();
        let entry = world.rest(7).unwrap();
        let small = world.fingerprint();
        assert!(small.0.len() < big.0.len() && small.1.len() < big.1.len());
        assert!(world.tenant.customer_view(ANN).is_none());
        // A stranger names nobody; the customer, and whatever comes on its thread, does.
        let stranger = world.envelope("v2", "hello");
        assert!(world.tenant.named(Timestamp(world.now), &stranger).is_empty());
        let mut other = world.envelope("v2", "hello");
        other.thread.key = "v1".into();
        assert_eq!(world.tenant.named(Timestamp(world.now), &other), [ANN].into());
        let mut receipt = world.envelope("v1", "");
        receipt.kind = EnvelopeKind::Receipt;
        assert_eq!(world.tenant.named(Timestamp(world.now), &receipt), [ANN].into());
        let again = world.envelope("v1", "here I am again");
        assert_eq!(world.tenant.named(Timestamp(world.now), &again), [ANN].into());
        // Another entry than the one that it left with is not believed.
        let other = String::from_utf8(entry.clone()).unwrap().replace("\"seq\":7", "\"seq\":6");
        assert!(world.tenant.recall(Timestamp(world.now), ANN, other.as_bytes()).is_err());
        assert!(world.tenant.recall(Timestamp(world.now), ANN, b"{}").is_err());
        let step = world.tenant.recall(Timestamp(world.now), ANN, &entry).unwrap().unwrap();
        world.keep(&step);
        assert_eq!(world.tenant.customer_view(ANN).unwrap(), held);
        assert!(world.tenant.recall(Timestamp(world.now), ANN, &entry).unwrap().is_none(), "once");
        let step = world.tenant.receive(Timestamp(world.now), again, SmolStr::default).unwrap();
        let facts = world.keep(&step);
        // The same customer, the same conversation, the same agent.
        assert!(matches!(&facts[0], Event::CustomerIdentitySeen { customer: ANN, .. }), "{facts:?}");
        assert!(matches!(&facts[1], Event::ConversationReopened { customer: ANN, .. }), "{facts:?}");
        let offered = facts.iter().find_map(|fact| match fact {
            Event::OfferCreated { agent, decision, .. } => Some((agent.clone(), decision.tie_break.clone())),
            _ => None,
        });
        let (agent, why) = offered.unwrap();
        let first = world.entries.iter().flat_map(|entry| &entry.events).find_map(|event| match &**event {
            Event::OfferAccepted { agent, .. } => Some(agent.clone()),
            _ => None,
        });
        assert_eq!((Some(agent), why.as_str()), (first, "affinity"));
        let mut replayed = crate::tenant::TenantReplay::default();
        for entry in &world.entries {
            replayed.entry(entry);
        }
        let replayed = replayed.finish();
        let is = (replayed.engine.fingerprint(), replayed.profile.fingerprint());
        assert!(is == world.fingerprint(), "R10: the facts alone give the state");
    }

    #[test]
    fn whoever_has_something_under_way_or_was_changed_meanwhile_stays() {
        let mut world = World::new();
        world.now += 31 * DAY;
        let entry = world.tenant.entry_of(ANN, 9).unwrap();
        let change = contract::event::ProfileChange { display: Some("Ann".into()), ..Default::default() };
        world.admin(AdminCommand::CustomerUpdate { customer: ANN, change });
        let busy = world.tenant.busy(Timestamp(world.now));
        assert!(
            world.tenant.rest(Timestamp(world.now), ANN, 9, &entry, &busy).is_none(),
            "the entry is not what is known"
        );
        world.says("v1", "hello?");
        world.now += 31 * DAY;
        assert_eq!(world.rest(10), None, "a conversation is open");
    }

    #[test]
    fn questions_and_commands_name_whom_they_concern() {
        let mut world = World::new();
        world.now += 31 * DAY;
        world.rest(7).unwrap();
        let identity =
            contract::envelope::Identity { raw: None, assurance: None, ..world.envelope("v1", "").sender.identity };
        let merge = AdminCommand::CustomerMerge { customer: CustomerId(2), with: ANN };
        let asked = [
            Asked::Admin(AdminCommand::CustomerShow { customer: ANN }),
            Asked::Admin(AdminCommand::CustomerFind { identity: identity.clone() }),
            Asked::Change(CommandInput::Admin {
                id: "a".into(),
                command: AdminCommand::CustomerErase { customer: ANN },
            }),
            Asked::Change(CommandInput::Admin { id: "b".into(), command: merge }),
            Asked::Change(CommandInput::Admin {
                id: "c".into(),
                command: AdminCommand::CustomerLink { customer: CustomerId(2), identity },
            }),
            Asked::Channel(
                "chat".parse().unwrap(),
                "web".parse().unwrap(),
                ChannelQuery::ThreadHistory { thread: "v1".into(), after: 0, limit: None },
            ),
        ];
        for (n, one) in asked.iter().enumerate() {
            assert_eq!(world.tenant.named_by(one), [ANN].into(), "{n}");
        }
        let nobody = Asked::Admin(AdminCommand::CustomerShow { customer: CustomerId(2) });
        assert!(world.tenant.named_by(&nobody).is_empty());
    }

    #[test]
    fn who_is_silent_for_as_long_as_the_policy_allows_is_forgotten() {
        let mut world = World::new();
        world.now += 364 * DAY;
        let busy = BTreeSet::new();
        assert!(world.tenant.forget(Timestamp(world.now), ANN, &busy).is_none());
        world.now += 2 * DAY;
        let since = world.tenant.silent_since(ANN, &busy).unwrap();
        assert_eq!(world.tenant.due(Timestamp(world.now), since), Some(Silent::Forget));
        assert_eq!(world.tenant.due(Timestamp(world.now), since + Millis(330 * DAY)), Some(Silent::Rest));
        let step = world.tenant.forget(Timestamp(world.now), ANN, &busy).unwrap();
        let facts = world.keep(&step);
        assert!(matches!(&facts[..], [Event::CustomerErased { by, .. }] if by == "retention"), "{facts:?}");
        assert!(world.tenant.profile.is_erased(ANN));
        // Whoever was only reported late is not taken in; whoever writes now is somebody new.
        let mut late = world.envelope("v1", "late");
        late.received_at = Timestamp(DAY);
        assert!(world.tenant.receive(Timestamp(world.now), late, SmolStr::default).is_none());
        world.now += 1;
        let new = world.says("v1", "hello");
        assert!(matches!(&new[0], Event::CustomerCreated { customer: CustomerId(2), .. }), "{new:?}");
    }
}
