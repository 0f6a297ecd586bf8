//! A state under test, beside a replica that only ever replays the journal and a twin that was read
//! back from a snapshot. Every input is checked against everything that must hold.

use std::collections::{BTreeMap, BTreeSet};

use contract::command::{AdminCommand, AgentCommand, Done, Refusal, SwitchTo};
use contract::envelope::Identity;
use contract::event::Classification;
use contract::journal::{Cause, Entry, Fingerprint};
use contract::policy::{Continuity, Policy};
use contract::{AgentId, ConversationId, CustomerId, Encoding, Envelope, Event, SmolStr, Timestamp};
use throughline_engine::invariant::Auditor;
use throughline_engine::{Addresses, Answer, CommandInput, Emitted, Phase, Replay, Shadow, State, Step, Wish};

use crate::{fixture, naive};

pub(crate) struct World {
    pub(crate) state: State,
    /// What the clock says; may step back.
    pub(crate) clock: Timestamp,
    /// Evolves what comes back from the journal, fact by fact.
    replica: State,
    /// Replays entries, and could go on at any moment.
    follower: State,
    /// Replays entries, as a new owner does before it decides anything.
    recovering: Replay,
    /// Gets the same inputs as the state, having taken its place at some point.
    twin: State,
    auditor: Auditor,
    /// The policy in force beside itself: must always agree.
    shadow: Option<Shadow>,
    commands: u64,
    /// Customers leave memory when they are told to; else nothing happens in their place, at the same time.
    pub(crate) cold: bool,
    /// Those that have, and what is known of them.
    kept: BTreeMap<CustomerId, Option<(Vec<CustomerId>, String)>>,
    /// What was decided, but for where customers are kept.
    pub(crate) decided: Vec<Event>,
}

/// What a command came to.
pub(crate) enum Outcome {
    Done(Step),
    Repeated,
    Refused(Refusal),
}

/// Everybody has an address.
struct Book;

impl Addresses for Book {
    fn address(&self, customer: CustomerId, scheme: &str, _: bool) -> Option<Identity> {
        let value = format!("{customer}@example.com");
        let identity = serde_json::json!({ "scheme": scheme, "value": value, "scope": "global" });
        Some(serde_json::from_value(identity).unwrap())
    }
}

/// A fact that changes nothing of what routing knows.
fn nothing(customer: CustomerId) -> Event {
    Event::CustomerRenamed { customer, display: SmolStr::new_static("somebody") }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            state: State::new(),
            clock: Timestamp(1_700_000_000_000),
            replica: State::new(),
            follower: State::new(),
            recovering: Replay::default(),
            twin: State::new(),
            auditor: Auditor::default(),
            shadow: None,
            commands: 0,
            cold: true,
            kept: BTreeMap::new(),
            decided: Vec::new(),
        }
    }

    /// An envelope arrives. `None`: it was taken in before.
    pub(crate) fn envelope(&mut self, customer: CustomerId, envelope: &Envelope) -> Option<Step> {
        self.classified(customer, envelope, None)
    }

    /// An envelope arrives, and somebody has said what it is about.
    pub(crate) fn classified(
        &mut self,
        customer: CustomerId,
        envelope: &Envelope,
        classification: Option<&Classification>,
    ) -> Option<Step> {
        assert_eq!(self.state.has_seen(envelope), self.replica.has_seen(envelope), "R10: repeats are known");
        if self.state.has_seen(envelope) {
            return None;
        }
        let mut named = BTreeSet::new();
        self.state.resting_on_thread(envelope, &mut named);
        named.insert(customer);
        self.recall(named);
        let now = self.clock;
        let step = self.apply(|state| {
            let mut step = state.open_step(now, Cause::Envelope(Fingerprint(envelope.fingerprint())));
            let customer = State::needs_customer(envelope).then(|| {
                let shown = state.shown_switch(now, envelope);
                if let Some(shown) = &shown {
                    state.switched(&mut step, shown, envelope);
                }
                let owner = shown.map(|shown| shown.switch.customer).or_else(|| state.proven_thread(envelope));
                owner.unwrap_or(customer)
            });
            state.receive_classified(&mut step, customer, envelope.clone(), classification.cloned());
            step
        });
        self.journal(&step);
        assert!(self.state.has_seen(envelope), "R7: an envelope is remembered");
        Some(step)
    }

    /// A customer wants to go on by another channel. `listeners`: who is known by the address; `known`: whether it is taken
    /// for one.
    pub(crate) fn wish(
        &mut self,
        customer: CustomerId,
        envelope: &Envelope,
        listeners: &[CustomerId],
        known: bool,
        token: &str,
    ) -> Step {
        let now = self.clock;
        let wish = Wish::of(envelope).unwrap();
        self.recall([customer]);
        let step = self.apply(|state| {
            let mut step = state.open_step(now, Cause::Envelope(Fingerprint(envelope.fingerprint())));
            state.receive_wish(&mut step, customer, envelope.clone(), &wish, listeners, known, token);
            step
        });
        self.journal(&step);
        step
    }

    /// Somebody says later what a conversation is about. `None`: it is too late, or nobody asked.
    pub(crate) fn found(&mut self, conversation: ConversationId, found: &Classification) -> Option<Step> {
        let now = self.clock;
        let step = self.apply(|state| state.classified(now, conversation, found.clone()))?;
        self.journal(&step);
        Some(step)
    }

    pub(crate) fn command(&mut self, agent: &AgentId, command: AgentCommand) -> Outcome {
        self.commands += 1;
        let id = SmolStr::from(format!("command-{}", self.commands));
        self.command_as(agent, id, command)
    }

    pub(crate) fn command_as(&mut self, agent: &AgentId, id: SmolStr, command: AgentCommand) -> Outcome {
        self.input(CommandInput::Agent { agent: agent.clone(), id, command })
    }

    pub(crate) fn policy(&mut self, policy: Policy) -> Outcome {
        self.admin(AdminCommand::PolicyApply { policy: Box::new(policy), waiting: false })
    }

    pub(crate) fn admin(&mut self, command: AdminCommand) -> Outcome {
        self.commands += 1;
        let id = SmolStr::from(format!("command-{}", self.commands));
        self.input(CommandInput::Admin { id, command })
    }

    /// The router starts again: the state is what replaying the journal gives.
    pub(crate) fn restart(&mut self) {
        self.take_over();
        self.state = self.recovered();
    }

    fn input(&mut self, input: CommandInput) -> Outcome {
        let (now, before) = (self.clock, self.state.fingerprint());
        match self.apply(|state| state.command(now, input.clone())) {
            Answer::Done(done, step) => {
                self.journal(&step);
                self.repeat(input, &done);
                Outcome::Done(step)
            }
            Answer::Repeated(_) => {
                assert!(self.state.fingerprint() == before, "R7: a repeated command changes nothing");
                Outcome::Repeated
            }
            Answer::Refused(refusal) => {
                assert!(self.state.fingerprint() == before, "a refused command changes nothing: {refusal}");
                Outcome::Refused(refusal)
            }
        }
    }

    /// The tool sends its command once more, since the answer was lost.
    fn repeat(&mut self, input: CommandInput, done: &Done) {
        let now = self.clock;
        match self.apply(|state| state.command(now, input.clone())) {
            Answer::Repeated(again) => assert_eq!(again, *done, "R7: a repeat is answered the same"),
            other => panic!("R7: a repeated command was taken for {other:?}"),
        }
        assert!(self.state.fingerprint() == self.replica.fingerprint(), "R7: a repeated command changes nothing");
    }

    pub(crate) fn heard(&mut self, agent: &AgentId) -> Step {
        let now = self.clock;
        let step = self.apply(|state| state.agent_heard(now, agent));
        self.journal(&step);
        step
    }

    pub(crate) fn silent(&mut self, agent: &AgentId) -> Step {
        let now = self.clock;
        let step = self.apply(|state| state.agent_silent(now, agent));
        self.journal(&step);
        step
    }

    /// A customer leaves memory, if nothing of it is under way.
    pub(crate) fn rest(&mut self, customer: CustomerId) -> Option<Step> {
        let person = self.state.kin().root(customer);
        if self.kept.contains_key(&person) || self.state.switching(self.clock).contains(&person) {
            return None;
        }
        let silent_since = self.state.nothing_open(person)?;
        let customers: Vec<CustomerId> = self.state.kin().members(person).collect();
        let routing = Encoding::Json.encode(&self.state.kept(person)).unwrap();
        let kept = self.cold.then(|| (customers.clone(), String::from_utf8(routing).unwrap()));
        self.kept.insert(person, kept);
        let rested = Event::CustomerRested { customer: person, customers, kept: 7, silent_since };
        let step = self.notice(&[if self.cold { rested } else { nothing(person) }]);
        assert!(!self.cold || self.state.kept(person) == throughline_engine::Kept::default());
        Some(step)
    }

    /// Whoever is named comes back.
    fn recall(&mut self, named: impl IntoIterator<Item = CustomerId>) {
        for one in named {
            let person = self.state.kin().root(one);
            let Some(kept) = self.kept.remove(&person) else { continue };
            let back = kept.map(|(customers, routing)| Event::CustomerRecalled {
                customer: person,
                customers,
                kept: 7,
                profile: String::new(),
                routing,
            });
            self.notice(&[back.unwrap_or_else(|| nothing(person))]);
        }
    }

    /// What the profile found out, or an operator said, of customers.
    pub(crate) fn facts(&mut self, facts: &[Event]) -> Step {
        let from = |event: &Event| match event {
            Event::CustomerMerged { from, .. } => Some(*from),
            _ => None,
        };
        let named: Vec<CustomerId> = facts.iter().flat_map(|event| [event.customer(), from(event)]).flatten().collect();
        self.recall(named);
        self.notice(facts)
    }

    fn notice(&mut self, facts: &[Event]) -> Step {
        let now = self.clock;
        let step = self.apply(|state| {
            let mut step = state.open_step(now, Cause::Notice);
            for fact in facts {
                state.adopt(&mut step, fact.clone());
            }
            state.finish(&mut step);
            step
        });
        self.journal(&step);
        step
    }

    /// A person is forgotten, with everybody merged into it.
    pub(crate) fn erase(&mut self, customer: CustomerId) -> Step {
        let now = self.clock;
        self.recall([customer]);
        let customers: Vec<CustomerId> = self.state.kin().members(customer).collect();
        let step = self.apply(|state| {
            let mut step = state.open_step(now, Cause::Notice);
            state.erase(&mut step, customers.clone(), Vec::new(), &SmolStr::new_static("operator"));
            state.finish(&mut step);
            step
        });
        self.journal(&step);
        assert_eq!(self.state.open_conversation(customer), None, "nothing of the erased is open");
        step
    }

    /// A conversation is to go on by another channel.
    pub(crate) fn switch(&mut self, agent: &AgentId, id: ConversationId, to: &SwitchTo, token: &str) -> Outcome {
        let now = self.clock;
        let decided = self.apply(|state| {
            let mut step = state.open_step(now, Cause::Notice);
            let done = state.offer_switch(&mut step, agent, id, to, token);
            done.map(|_| {
                state.finish(&mut step);
                step
            })
        });
        match decided {
            Ok(step) => {
                self.journal(&step);
                Outcome::Done(step)
            }
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    pub(crate) fn tick(&mut self) -> Option<Step> {
        let now = self.clock;
        let step = self.apply(|state| state.tick_with(now, &Book));
        if let Some(step) = &step {
            assert!(!step.is_empty());
            self.journal(step);
        }
        assert!(self.state.next_deadline().is_none_or(|due| due > now), "something is overdue after a tick");
        step
    }

    /// From here on, the twin is what a new owner reads back from a snapshot taken now.
    pub(crate) fn snapshot(&mut self) {
        let bytes = Encoding::MsgPack.encode(&self.state).unwrap();
        self.twin = Encoding::MsgPack.decode(&bytes, usize::MAX).unwrap();
        self.twin.reindex();
        assert!(self.twin.fingerprint() == bytes, "a snapshot reads back as it was written");
        assert_eq!(self.twin.derived_otherwise(&self.state), None, "a snapshot derives what evolving does");
        // The journal goes on from it.
        self.recovering = Replay::new(Encoding::MsgPack.decode(&bytes, usize::MAX).unwrap());
        assert_eq!(self.twin.next_deadline(), self.state.next_deadline());
        assert_eq!(self.twin.counts(), self.state.counts());
    }

    /// From here on, the twin is a new owner that replayed the journal.
    pub(crate) fn take_over(&mut self) {
        self.twin = self.recovered();
        assert!(self.twin.fingerprint() == self.state.fingerprint(), "R10: a replay gives the state");
        assert_eq!(self.twin.counts(), self.state.counts());
    }

    /// What a new owner has that replayed the journal: the same as who kept everything in step all the while.
    fn recovered(&self) -> State {
        let recovered = self.recovering.clone().finish();
        assert_eq!(recovered.derived_otherwise(&self.follower), None, "R10: a replay derives what evolving does");
        assert_eq!(recovered.derived_otherwise(&self.replica), None, "R10: a replay derives what evolving does");
        recovered
    }

    /// Gives an input to the state and to the twin, which must do the same.
    fn apply<T: PartialEq + std::fmt::Debug>(&mut self, input: impl Fn(&mut State) -> T) -> T {
        let outcome = input(&mut self.state);
        assert_eq!(input(&mut self.twin), outcome, "a state from a snapshot or a replay behaves as the state");
        outcome
    }

    /// Replays what was decided, fact by fact, and checks all there is to check.
    fn journal(&mut self, step: &Step) {
        if step.is_empty() && matches!(step.cause, Cause::Notice | Cause::Timer) {
            return;
        }
        let entry = self.stored(step);
        let said = entry.events.iter().filter(|event| !event.is_internal());
        self.decided.extend(said.filter(|event| event.name() != "customer.renamed").map(|event| (**event).clone()));
        assert_eq!(entry.events.len(), step.emitted.len());
        // Here what is due may come after an input; then the other one is ahead.
        let late = self.replica.next_deadline().is_some_and(|due| due <= entry.at);
        for (event, emitted) in entry.events.iter().zip(&step.emitted) {
            self.check_choice(entry.at, event);
            if matches!(**event, Event::PolicyApplied { .. }) {
                // Another follows when what the policy brings about is over.
                self.shadow = None;
            }
            if let Some(shadow) = &mut self.shadow {
                let same = shadow.observe(entry.at, event);
                assert!(late || same != Some(false), "a policy agrees with itself: {event:?} {:?}", shadow.report());
            }
            let reach = self.replica.evolve(entry.at, event);
            let replayed = Emitted { event: event.clone(), reach };
            assert_eq!(replayed, *emitted, "R10: a replay reaches whom the fact reached");
            self.auditor.observe(&self.replica, &replayed);
        }
        self.replica.evolve_cause(entry.at, &entry.cause);
        self.check_sent(step);
        assert_eq!(self.follower.replay(&entry), step.emitted, "R10: a replay reaches whom the facts reached");
        assert_eq!(self.recovering.entry(&entry), step.emitted, "R10: a replay reaches whom the facts reached");
        if late || self.shadow.is_none() {
            self.shadow = Some(Shadow::new(entry.at, &self.replica, (**self.replica.policy().0).clone()));
        }
        self.check();
    }

    /// The step as it comes back from the journal.
    fn stored(&self, step: &Step) -> Entry {
        let bytes = Encoding::MsgPack.encode(&step.entry(&fixture::tenant())).unwrap();
        Encoding::MsgPack.decode(&bytes, usize::MAX).unwrap()
    }

    /// Before a fact is evolved: an offer is the one that looking at everything finds.
    fn check_choice(&self, now: Timestamp, event: &Event) {
        if let Event::OfferCreated { conversation, agent, decision, .. } = event {
            let waiting = self.replica.conversation(*conversation).unwrap();
            for excluded in &decision.excluded {
                assert!(decision.eligible.iter().all(|candidate| candidate.agent != excluded.agent));
            }
            assert_eq!(decision.eligible.first().map(|first| &first.agent), Some(agent));
            if decision.tie_break == "ring" {
                assert!(naive::eligible(&self.replica, waiting, agent), "a ring's second may take it too");
                return;
            }
            // Where agents rank their queues, the best agent for the first item may have another one first, whose
            // best agent is a third: which pair of these comes first is free.
            if !naive::ranked(&self.replica) {
                let expected = naive::next_offer(&self.replica, now);
                assert_eq!(expected, Some((*conversation, agent.clone())), "the first item, for the best agent");
            }
            assert!(naive::in_order(&decision.eligible), "best first: {:?}", decision.eligible);
            assert_eq!(naive::best_agent(&self.replica, waiting).as_ref(), Some(agent));
        }
    }

    fn check(&self) {
        assert_eq!(self.state.violations(), Vec::new());
        assert_eq!(self.replica.violations(), Vec::new());
        assert_eq!(self.auditor.violations(), &[]);
        assert_eq!(naive::next_offer(&self.state, self.clock), None, "R4: nobody is overlooked");
        let fingerprint = self.state.fingerprint();
        assert!(fingerprint == self.replica.fingerprint(), "R10: a replay gives the state");
        assert!(fingerprint == self.twin.fingerprint(), "the twin goes on as the state");
        assert_eq!(self.state.next_deadline(), self.replica.next_deadline());
        assert_eq!(self.state.next_deadline(), self.twin.next_deadline());
        self.check_views();
        for (id, conversation) in self.state.conversations() {
            let explained = self.state.explain(id).unwrap();
            if matches!(conversation.phase, Phase::Waiting { .. }) {
                assert_eq!(explained.now.eligible, vec![], "R4 and R12 agree");
            }
            for key in &conversation.threads {
                let Some(thread) = self.state.thread(key) else { continue };
                let kin = self.state.kin();
                assert_eq!(
                    kin.root(thread.customer),
                    kin.root(conversation.customer),
                    "{id} runs on a stranger's {key:?}"
                );
            }
            let open: Vec<ConversationId> = self.state.open_conversations(conversation.customer).collect();
            assert!(open.contains(&id), "it is found by its customer");
            // Two only where two customers were found to be one, or the policy keeps things apart.
            let own = |id: &&ConversationId| {
                self.state.conversation(**id).is_some_and(|other| other.customer == conversation.customer)
            };
            let queue = conversation.queue.as_ref().and_then(|queue| self.state.policy().0.queues.get(queue));
            if queue.is_none_or(|queue| queue.continuity == Continuity::Customer) {
                assert_eq!(open.iter().filter(own).collect::<Vec<_>>(), [&id], "one conversation a customer");
            }
        }
    }

    /// What is said to a customer, and nothing else, becomes a command to the channel: on the thread that it was
    /// said on, after what was said on it before.
    fn check_sent(&self, step: &Step) {
        for Emitted { event, reach } in &step.emitted {
            let command = self.state.out_command(&fixture::tenant(), step.at, event, reach);
            match &**event {
                Event::MessageSent { message, thread, thread_seq, content, .. }
                | Event::MessageNotified { message, thread, thread_seq, content, .. } => {
                    let command = command.unwrap();
                    assert_eq!((command.message, command.thread_seq), (*message, *thread_seq));
                    assert_eq!((&command.thread, &command.content), (&thread.thread, content));
                    assert_eq!(command.author.agent.is_some(), matches!(**event, Event::MessageSent { .. }));
                }
                Event::MessageMirrored { message, thread, thread_seq, agent, content, .. } => {
                    let command = command.unwrap();
                    assert_eq!((command.message, command.thread_seq), (*message, *thread_seq));
                    assert_eq!((&command.thread, &command.content), (&thread.thread, content));
                    assert_eq!(command.mirrored.unwrap().customer, agent.is_none());
                    assert!(command.command_id != format!("main/{message}"), "it is not the message's own command");
                }
                Event::ConversationCallDirected { message, thread, order, .. } => {
                    let command = command.unwrap();
                    assert_eq!((command.message, &command.thread), (*message, &thread.thread));
                    assert_eq!((command.call.as_ref(), command.content.is_empty()), (Some(order), true));
                }
                _ => assert_eq!(command, None, "{event:?}"),
            }
        }
    }

    /// What tools are shown is what there is.
    fn check_views(&self) {
        let counts = self.state.counts();
        assert_eq!(counts.conversations.values().sum::<u64>(), self.state.conversations().count() as u64);
        for (id, agent) in self.state.agents() {
            let snapshot = self.state.snapshot(id).unwrap();
            let shown = |held: &ConversationId| snapshot.conversations.iter().any(|view| view.conversation == *held);
            assert!(agent.holds.iter().chain(&agent.keeps).all(shown), "{id} is shown what it has");
            assert_eq!(snapshot.offers.len(), agent.offers.len(), "{id} is shown what it is offered");
            assert_eq!(self.state.agent_view(id).unwrap().load, agent.load);
        }
    }
}
