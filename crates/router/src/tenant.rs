//! One tenant: routing and profile side by side. Pure.

use contract::answer::CustomerView;
use contract::command::{AdminCommand, AgentCommand, Done, Refusal};
use contract::envelope::{Assurance, Identity};
use contract::event::ProfileChange;
use contract::journal::{Cause, Entry, Fingerprint};
use contract::{CustomerId, Envelope, Event, SmolStr, Timestamp};
use engine::{Addresses, Answer, CommandInput, Emitted, Shown, Step, Wish};
use serde::{Deserialize, Serialize};

/// The state of one tenant.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tenant {
    /// Conversations, queues and agents.
    pub engine: engine::State,
    /// Customers.
    pub profile: profile::State,
}

/// The profile, asked for addresses.
pub(crate) struct Book<'a>(pub(crate) &'a profile::State);

impl Addresses for Book<'_> {
    fn address(&self, customer: CustomerId, scheme: &str, proven: bool) -> Option<Identity> {
        self.0.address(customer, scheme, proven)
    }
}

impl Tenant {
    /// Addresses are read as the policy in force says.
    pub(crate) fn follow(&mut self) {
        let (policy, version) = self.engine.policy();
        self.profile.follow(version, &policy.identity);
    }

    /// Decides what the profile found out.
    pub(crate) fn adopt(&mut self, step: &mut Step, facts: Vec<Event>) {
        for fact in facts {
            self.profile.evolve(step.at, &fact);
            self.engine.adopt(step, fact);
        }
    }

    /// Takes in an envelope. `None`: it changes nothing, since it was taken in before, or is of somebody who was erased
    /// meanwhile.
    ///
    /// `secret`: 26 letters and digits that nobody can guess, for what needs one.
    pub fn receive(&mut self, now: Timestamp, envelope: Envelope, secret: impl FnOnce() -> SmolStr) -> Option<Step> {
        if self.engine.has_seen(&envelope) {
            return None;
        }
        self.follow();
        if self.profile.is_late(&envelope) {
            return None;
        }
        let cause = Cause::Envelope(Fingerprint(envelope.fingerprint()));
        let mut step = self.engine.open_step(now, cause);
        let customer = engine::State::needs_customer(&envelope).then(|| {
            let switch = self.engine.shown_switch(step.at, &envelope);
            if let Some(shown) = &switch {
                let known = self.proven_by(shown, &envelope);
                self.adopt(&mut step, known);
                self.engine.switched(&mut step, shown, &envelope);
            }
            let owner = switch.map(|shown| shown.switch.customer).or_else(|| self.engine.proven_thread(&envelope));
            let (customer, facts) = self.profile.resolve(step.at, &envelope, owner);
            self.adopt(&mut step, facts);
            customer
        });
        match (customer, Wish::of(&envelope)) {
            (Some(customer), Some(wish)) => {
                let identity = wish.identity();
                let listeners = identity.as_ref().map(|identity| self.profile.find(identity)).unwrap_or_default();
                let known = identity.is_some_and(|identity| self.profile.takes(&identity));
                self.engine.receive_wish(&mut step, customer, envelope, &wish, &listeners, known, &secret());
            }
            _ => self.engine.receive(&mut step, customer, envelope),
        }
        Some(step)
    }

    /// The facts by which a customer is known by the address that it went on by. Who asked for it themselves may have
    /// typed the address of somebody who is known already, and who answers without understanding what it is about: a
    /// person decides then whether they are one.
    fn proven_by(&self, shown: &Shown, envelope: &Envelope) -> Vec<Event> {
        let (switch, sender) = (&shown.switch, &envelope.sender.identity);
        // Where no address was given, the sender's counts, as far as the channel vouches for it.
        let vouched = sender.assurance.unwrap_or_else(|| envelope.sender_auth.assurance()) == Assurance::Verified;
        let identity = switch.identity.as_ref().or_else(|| vouched.then_some(sender));
        let Some(identity) = identity else { return Vec::new() };
        let mut facts = self.profile.proven_by_secret(switch.customer, identity, &envelope.account);
        for fact in facts.iter_mut().filter(|_| switch.wished) {
            if let Event::CustomerMerged { customer, from, identity: Some(identity), .. } = fact {
                *fact = Event::CustomerMatchSuggested {
                    customer: *customer,
                    with: *from,
                    identity: identity.clone(),
                    reason: SmolStr::new_static("switch"),
                };
            }
        }
        facts
    }

    /// Time has come to `now`.
    pub fn tick(&mut self, now: Timestamp) -> Option<Step> {
        self.engine.tick_with(now, &Book(&self.profile))
    }

    /// Decides a command. `secret`: 26 letters and digits that nobody can guess, for what needs one.
    pub fn command(&mut self, now: Timestamp, input: CommandInput, secret: impl FnOnce() -> SmolStr) -> Answer {
        let (by, id) = match &input {
            CommandInput::Agent { agent, id, command } => match command {
                AgentCommand::ConversationSwitch { .. } | AgentCommand::CustomerUpdate { .. }
                    if self.engine.agent(agent).is_some() =>
                {
                    (SmolStr::from(format!("agent.{agent}")), id.clone())
                }
                _ => return self.engine.command(now, input),
            },
            CommandInput::Admin { id, command } => match command {
                AdminCommand::CustomerLink { .. }
                | AdminCommand::CustomerUnlink { .. }
                | AdminCommand::CustomerMerge { .. }
                | AdminCommand::CustomerSplit { .. }
                | AdminCommand::CustomerDismiss { .. }
                | AdminCommand::CustomerUpdate { .. }
                | AdminCommand::CustomerConsent { .. }
                | AdminCommand::CustomerErase { .. } => (SmolStr::new_static("admin"), id.clone()),
                _ => return self.engine.command(now, input),
            },
        };
        self.follow();
        let mut step = match self.engine.open_command(now, &by, &id) {
            Ok(step) => step,
            Err(done) => return Answer::Repeated(done),
        };
        let done = match input {
            CommandInput::Agent { agent, command: AgentCommand::ConversationSwitch { conversation, to }, .. } => {
                self.engine.offer_switch(&mut step, &agent, conversation, &to, &secret())
            }
            CommandInput::Agent { agent, command: AgentCommand::CustomerUpdate { conversation, change }, .. } => {
                let customer = self.engine.customer_of(&agent, conversation);
                customer
                    .and_then(|customer| self.change(&mut step, &by, AdminCommand::CustomerUpdate { customer, change }))
            }
            CommandInput::Admin { command: AdminCommand::CustomerErase { customer }, .. } => {
                self.profile.erasure(customer).map(|(customers, keys)| {
                    self.erase(&mut step, customers, keys, &SmolStr::new_static("operator"));
                    Done { customer: Some(customer), ..Done::default() }
                })
            }
            CommandInput::Admin { command, .. } => self.change(&mut step, &SmolStr::new_static("operator"), command),
            CommandInput::Agent { .. } => {
                Err(Refusal::new(contract::command::RefusalKind::Invalid, "is not known here"))
            }
        };
        match done {
            Ok(done) => {
                self.engine.close_command(&mut step, &done);
                Answer::Done(done, step)
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    /// Forgets customers, in both halves.
    pub(crate) fn erase(&mut self, step: &mut Step, customers: Vec<CustomerId>, keys: Vec<SmolStr>, by: &SmolStr) {
        let from = step.emitted.len();
        self.engine.erase(step, customers, keys, by);
        for emitted in step.emitted.iter().skip(from) {
            self.profile.evolve(step.at, &emitted.event);
        }
    }

    fn change(&mut self, step: &mut Step, by: &SmolStr, command: AdminCommand) -> Result<Done, Refusal> {
        let (customer, facts) = self.profile.command(by, command)?;
        self.adopt(step, facts);
        Ok(Done { customer: Some(customer), ..Done::default() })
    }

    /// What a program of the company's knows of a customer.
    pub fn looked_up(&mut self, now: Timestamp, customer: CustomerId, change: ProfileChange) -> Option<Step> {
        let mut step = self.engine.open_step(now, Cause::Notice);
        let command = AdminCommand::CustomerUpdate { customer, change };
        self.change(&mut step, &SmolStr::new_static("lookup"), command).ok()?;
        self.engine.finish(&mut step);
        Some(step)
    }

    /// A person as tools see it.
    #[must_use]
    pub fn customer_view(&self, customer: CustomerId) -> Option<CustomerView> {
        let view = self.profile.view(customer)?;
        let about = self.engine.about(customer);
        Some(CustomerView {
            language: about.language,
            attributes: about.attributes,
            segments: about.segments,
            consents: about.consents,
            promised: about.promised,
            ..view
        })
    }

    /// Everybody whose facts are a person's.
    #[must_use]
    pub fn members(&self, customer: CustomerId) -> Vec<CustomerId> {
        let kin = self.profile.kin();
        if kin.root(customer) == customer { kin.members(customer).collect() } else { kin.under(customer) }
    }

    /// Does an entry of the journal again and keeps everything in step with it, for whoever follows a journal and looks at
    /// the tenant after each entry.
    pub fn replay(&mut self, entry: &Entry) -> Vec<Emitted> {
        for event in &entry.events {
            self.profile.evolve(entry.at, event);
        }
        self.engine.replay(entry)
    }

    /// Rebuilds what is derived, after a snapshot was read.
    pub fn reindex(&mut self) {
        self.engine.reindex();
        self.profile.reindex();
    }
}

/// A tenant that is being made again from the journal.
#[derive(Debug, Default)]
pub(crate) struct TenantReplay {
    pub(crate) engine: engine::Replay,
    pub(crate) profile: profile::State,
}

impl TenantReplay {
    /// Begins with a tenant, as it was read from a snapshot.
    pub(crate) fn new(tenant: Tenant) -> Self {
        let Tenant { engine, mut profile } = tenant;
        profile.reindex();
        Self { engine: engine::Replay::new(engine), profile }
    }

    /// Does an entry of the journal again.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Vec<Emitted> {
        for event in &entry.events {
            self.profile.evolve(entry.at, event);
        }
        self.engine.entry(entry)
    }

    /// All of the journal has been replayed.
    pub(crate) fn finish(self) -> Tenant {
        Tenant { engine: self.engine.finish(), profile: self.profile }
    }
}

#[cfg(test)]
mod tests {
    use contract::AgentId;
    use contract::command::{AgentCommand, SwitchTo};
    use contract::event::Presence;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz";

    struct World {
        tenant: Tenant,
        now: u64,
        count: u64,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { tenant: Tenant::default(), now: 1_000, count: 0 };
            let policy = json!({
                "queues": { "support": {} },
                "agents": { "anna": { "queues": ["support"] } },
                "contact": { "switch_ms": 60_000 },
            });
            let policy = Box::new(serde_json::from_value(policy).unwrap());
            let command = AdminCommand::PolicyApply { policy, waiting: false };
            world.does(CommandInput::Admin { id: "p".into(), command });
            world.agent(AgentCommand::PresenceSet { presence: Presence::Available, reason: None });
            world
        }

        fn does(&mut self, input: CommandInput) -> Vec<Event> {
            let now = Timestamp(self.now);
            let _ = self.tenant.engine.agent_heard(now, &AgentId::new("anna").unwrap());
            match self.tenant.command(now, input, || TOKEN.into()) {
                Answer::Done(_, step) => facts(&step),
                other => panic!("{other:?}"),
            }
        }

        fn agent(&mut self, command: AgentCommand) -> Vec<Event> {
            self.count += 1;
            let id = SmolStr::from(format!("a{}", self.count));
            self.does(CommandInput::Agent { agent: AgentId::new("anna").unwrap(), id, command })
        }

        fn says(&mut self, kind: &str, who: &str, text: &str) -> Vec<Event> {
            self.count += 1;
            let scheme = if kind == "sms" { "tel" } else { "visitor" };
            let envelope = json!({
                "v": 1, "kind": "message", "tenant": "main", "account": { "kind": kind, "id": "one" },
                "dedup_key": format!("k{}", self.count), "thread": { "key": who },
                "sender": { "identity": { "scheme": scheme, "value": who, "scope": "global" } },
                "sender_auth": { "level": "unverified" }, "received_at": self.now,
                "content": [{ "type": "text", "body": text }],
            });
            let envelope = serde_json::from_value(envelope).unwrap();
            self.tenant
                .receive(Timestamp(self.now), envelope, || TOKEN.into())
                .map(|step| facts(&step))
                .unwrap_or_default()
        }

        /// Somebody writes, and anna takes it.
        fn begins(&mut self) {
            self.says("chat", "v1", "hello");
            self.agent(AgentCommand::OfferAccept { offer: contract::OfferId(1) });
        }

        fn switch(&mut self) -> Vec<Event> {
            let to = SwitchTo {
                kind: "sms".parse().unwrap(),
                account: "one".parse().unwrap(),
                address: "+4930123456".into(),
            };
            self.agent(AgentCommand::ConversationSwitch { conversation: contract::ConversationId(1), to })
        }
    }

    fn facts(step: &Step) -> Vec<Event> {
        step.emitted.iter().map(|emitted| (*emitted.event).clone()).collect()
    }

    fn names(facts: &[Event]) -> Vec<&'static str> {
        facts.iter().map(Event::name).collect()
    }

    #[test]
    fn a_switchs_token_counts_once_and_proves_the_address() {
        let mut world = World::new();
        world.begins();
        let asked = world.switch();
        let Some(Event::MessageNotified { content, .. }) = asked.last() else { panic!("{asked:?}") };
        assert!(serde_json::to_string(content).unwrap().contains(&format!("tl-{TOKEN}")), "it goes to the address");
        let stored = String::from_utf8_lossy(&world.tenant.engine.fingerprint()).into_owned();
        assert!(!stored.contains(TOKEN), "and is kept nowhere");
        // Without it, a stranger is a stranger.
        assert!(names(&world.says("sms", "+4930999999", "hello?")).contains(&"conversation.opened"));
        let on = world.says("sms", "+4930123456", &format!("Here I am: tl-{TOKEN}."));
        assert_eq!(
            names(&on),
            ["customer.identity_linked", "conversation.switched", "message.received", "message.mirrored"],
            "{on:?}"
        );
        assert!(matches!(&on[2], Event::MessageReceived { conversation, .. } if conversation.0 == 1));
        // Somebody who read it over their shoulder comes too late.
        let late = world.says("sms", "+4930777777", &format!("tl-{TOKEN}"));
        assert!(names(&late).contains(&"conversation.opened"), "{late:?}");
    }

    #[test]
    fn a_switchs_token_lapses_and_counts_on_its_account_alone() {
        let mut world = World::new();
        world.begins();
        world.switch();
        let elsewhere = world.says("chat", "v2", &format!("tl-{TOKEN}"));
        assert!(names(&elsewhere).contains(&"conversation.opened"), "{elsewhere:?}");
        world.now += 60_000;
        let late = world.says("sms", "+4930123456", &format!("tl-{TOKEN}"));
        assert!(!names(&late).contains(&"conversation.switched"), "{late:?}");
    }

    /// The customer of the chat asks to go on elsewhere.
    fn asks(world: &mut World, who: &str, kind: &str, address: Option<&str>) -> Vec<Event> {
        world.count += 1;
        let envelope = json!({
            "v": 1, "kind": "conversation_event", "tenant": "main", "account": { "kind": "chat", "id": "one" },
            "dedup_key": format!("k{}", world.count), "thread": { "key": who },
            "sender": { "identity": { "scheme": "visitor", "value": who, "scope": "global" } },
            "sender_auth": { "level": "unverified" }, "received_at": world.now,
            "signal": { "name": "switch", "data": { "kind": kind, "account": "one", "address": address } },
        });
        let envelope = serde_json::from_value(envelope).unwrap();
        world.tenant.receive(Timestamp(world.now), envelope, || TOKEN.into()).map(|step| facts(&step)).unwrap()
    }

    fn with_ways() -> World {
        let mut world = World::new();
        let policy = json!({
            "queues": { "support": {} },
            "agents": { "anna": { "queues": ["support"] } },
            "contact": {
                "switch_to": [
                    { "kind": "sms", "account": "one" },
                    { "kind": "whatsapp", "account": "one", "address": "https://wa.example/1?text={token}" },
                ],
                "switch_customer_hour_max": 3,
                "switch_address_day_max": 2,
            },
        });
        let policy = Box::new(serde_json::from_value(policy).unwrap());
        world.does(CommandInput::Admin {
            id: "p2".into(),
            command: AdminCommand::PolicyApply { policy, waiting: false },
        });
        world.begins();
        world
    }

    fn notices(facts: &[Event]) -> Vec<&str> {
        fn notice(fact: &Event) -> Option<&str> {
            match fact {
                Event::MessageNotified { notice, .. } => Some(notice.as_str()),
                _ => None,
            }
        }
        facts.iter().filter_map(notice).collect()
    }

    #[test]
    fn a_customer_goes_on_elsewhere_by_its_own_wish() {
        let mut world = with_ways();
        let asked = asks(&mut world, "v1", "sms", Some("+4930123456"));
        assert_eq!(
            names(&asked),
            ["customer.signalled", "conversation.switch_offered", "message.notified", "message.notified"]
        );
        assert_eq!(notices(&asked), ["switch_asked", "switch_told"]);
        let told = serde_json::to_string(&asked).unwrap();
        assert_eq!(told.matches(&format!("tl-{TOKEN}")).count(), 1, "the token goes to the address alone: {told}");
        let on = world.says("sms", "+4930123456", &format!("tl-{TOKEN}"));
        assert_eq!(names(&on)[..2], ["customer.identity_linked", "conversation.switched"], "{on:?}");
        assert!(
            on.iter().any(|fact| matches!(fact, Event::MessageReceived { conversation, .. } if conversation.0 == 1))
        );
    }

    #[test]
    fn a_customer_is_shown_where_to_write_to() {
        let mut world = with_ways();
        let asked = asks(&mut world, "v1", "whatsapp", None);
        assert_eq!(names(&asked), ["customer.signalled", "conversation.switch_shown", "message.notified"]);
        let told = serde_json::to_string(&asked).unwrap();
        assert!(told.contains(&format!("https://wa.example/1?text=tl-{TOKEN}")), "{told}");
        // The channel does not vouch for the sender here: the conversation goes on, and nobody is proven.
        let on = world.says("whatsapp", "+4930123456", &format!("tl-{TOKEN}"));
        assert_eq!(names(&on)[0], "conversation.switched", "{on:?}");
    }

    #[test]
    fn a_stranger_is_not_bombarded_by_wishes() {
        let mut world = with_ways();
        let stranger = Some("+49 30 99");
        assert_eq!(notices(&asks(&mut world, "v1", "email", stranger)), ["switch_refused"], "no such way");
        assert_eq!(notices(&asks(&mut world, "v1", "sms", None)), ["switch_refused"], "no address");
        assert_eq!(notices(&asks(&mut world, "v1", "sms", stranger)), ["switch_asked", "switch_told"]);
        for _ in 0..3 {
            assert_eq!(notices(&asks(&mut world, "v1", "sms", stranger)), ["switch_refused"], "often enough");
        }
        assert!(notices(&asks(&mut world, "v1", "sms", stranger)).is_empty(), "and told so often enough");
        // Whoever else asks for the same address, by whatever spelling.
        world.says("chat", "v2", "hello");
        assert_eq!(notices(&asks(&mut world, "v2", "sms", Some("+493099"))), ["switch_asked", "switch_told"]);
        assert_eq!(notices(&asks(&mut world, "v2", "sms", stranger)), ["switch_refused"]);
        world.now += 24 * 3_600_000;
        assert_eq!(notices(&asks(&mut world, "v2", "sms", stranger)), ["switch_asked", "switch_told"]);
    }

    #[test]
    fn who_does_not_want_to_be_written_to_is_not_and_nobody_is_told() {
        let mut world = with_ways();
        world.says("sms", "+4930123456", "hello");
        let customer = CustomerId(2);
        let consent = serde_json::from_value(json!({ "channel": "sms", "granted": false })).unwrap();
        world.does(CommandInput::Admin {
            id: "no".into(),
            command: AdminCommand::CustomerConsent { customer, consent },
        });
        let asked = asks(&mut world, "v1", "sms", Some("+4930123456"));
        assert_eq!((names(&asked).len(), notices(&asked)), (2, vec!["switch_told"]), "{asked:?}");
    }

    #[test]
    fn what_a_crm_knows_decides_from_the_next_conversation_on() {
        let mut world = World::new();
        world.says("chat", "v1", "hello");
        let change = ProfileChange {
            attributes: [("contract".into(), Some("4711".into()))].into(),
            segments_added: ["vip".into()].into(),
            ..ProfileChange::default()
        };
        let step = world.tenant.looked_up(Timestamp(world.now), CustomerId(1), change).unwrap();
        assert_eq!(names(&facts(&step)), ["customer.updated"]);
        let view = world.tenant.customer_view(CustomerId(1)).unwrap();
        assert_eq!((view.attributes["contract"].as_str(), view.segments.contains("vip")), ("4711", true));
        assert!(world.tenant.looked_up(Timestamp(world.now), CustomerId(9), ProfileChange::default()).is_none());
    }
}
