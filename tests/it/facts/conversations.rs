//! Conversations, offers and agents: who has what, and by what right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use contract::envelope::ThreadKind;
use contract::event::{Decision, Presence, Requirement, Terms, ThreadRef};
use contract::policy::{Agent as Spec, AttributeTest, CapacityPool, Caps, Expr, FallbackAction, Policy, Step, Value};
use contract::{AgentId, ChannelKind, ConversationId, CustomerId, Event, Millis, OfferId, QueueId, Timestamp};

use super::{Counter, Findings, Hand, Rule};

/// Where a conversation is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// It has begun, and stands in no queue yet.
    Begun,
    /// In its queue, with the offers of it in the order in which they were made.
    Queued(Vec<(OfferId, AgentId)>),
    Active(AgentId),
    Parked(AgentId),
    Wrapping(AgentId),
    Closed,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("in no queue"),
            Self::Queued(offers) => write!(f, "in its queue, with {} offers", offers.len()),
            Self::Active(agent) => write!(f, "with {agent}"),
            Self::Parked(agent) => write!(f, "parked with {agent}"),
            Self::Wrapping(agent) => write!(f, "wrapped up by {agent}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// A conversation.
pub(super) struct Item {
    pub(super) customer: CustomerId,
    kind: ChannelKind,
    place: Place,
    queue: Option<QueueId>,
    priority: i32,
    requirement: Arc<Requirement>,
    step: u32,
    terms: Terms,
    ready_at: Timestamp,
    /// The longest wait, of those on which something depends, that it has reached.
    reached: Millis,
    /// Who refused it or let it lapse in this round, and who gave it away.
    asked: BTreeSet<AgentId>,
    direct: Option<AgentId>,
    /// Who hands it over, and answers until somebody has accepted.
    keeper: Option<AgentId>,
    /// Where it was before it was handed over, and what it asked there.
    before: Option<(QueueId, Arc<Requirement>)>,
    /// What it takes of its holder or keeper.
    units: u32,
    interruptible: bool,
    idle: bool,
    /// Who reads along: `true` for advice.
    readers: BTreeMap<AgentId, bool>,
}

impl Item {
    fn new(customer: CustomerId, thread: &ThreadRef, policy: &Policy) -> Self {
        let kind = match thread.thread.kind {
            ThreadKind::Call => ChannelKind::new("voice").expect("a name"),
            _ => thread.account.kind.clone(),
        };
        Self {
            customer,
            interruptible: policy.channel(&kind).pool == CapacityPool::Interruptible,
            kind,
            place: Place::Begun,
            queue: None,
            priority: 0,
            requirement: Arc::default(),
            step: 0,
            terms: Terms::default(),
            ready_at: Timestamp::default(),
            reached: Millis::default(),
            asked: BTreeSet::new(),
            direct: None,
            keeper: None,
            before: None,
            units: 0,
            idle: false,
            readers: BTreeMap::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.place != Place::Closed
    }

    fn offers(&self) -> &[(OfferId, AgentId)] {
        match &self.place {
            Place::Queued(offers) => offers,
            _ => &[],
        }
    }

    /// Who answers the customer.
    fn responsible(&self) -> Option<&AgentId> {
        match &self.place {
            Place::Active(agent) | Place::Parked(agent) | Place::Wrapping(agent) => Some(agent),
            Place::Queued(_) => self.keeper.as_ref(),
            Place::Begun | Place::Closed => None,
        }
    }

    /// Whoever has it on the screen.
    pub(super) fn before_whom(&self) -> impl Iterator<Item = &AgentId> {
        let offered = self.offers().iter().map(|(_, agent)| agent);
        self.responsible().into_iter().chain(offered).chain(self.readers.keys())
    }

    /// What it takes, and of whom.
    fn takes(&self) -> impl Iterator<Item = (&AgentId, u32)> {
        let weight = self.terms.weight;
        let offered = self.offers().iter().map(move |(_, agent)| (agent, weight));
        self.responsible().map(|agent| (agent, self.units)).into_iter().chain(offered)
    }

    fn step(&self) -> &Step {
        static ANYBODY: LazyLock<Step> = LazyLock::new(Step::default);
        self.requirement.step(self.step as usize).unwrap_or(&ANYBODY)
    }

    /// Goes to an agent, for good.
    fn goes_to(&mut self, agent: &AgentId) {
        self.place = Place::Active(agent.clone());
        self.units = self.terms.weight;
        self.keeper = None;
        self.idle = false;
        self.asked.clear();
        self.direct = None;
    }
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stands,
    /// It was accepted, and the assignment follows.
    Accepted,
    Over,
}

struct Offer {
    conversation: ConversationId,
    agent: AgentId,
    expires_at: Timestamp,
    fate: Fate,
}

struct Agent {
    presence: Presence,
    connected: bool,
    responding: bool,
    rest_until: Option<Timestamp>,
}

impl Default for Agent {
    fn default() -> Self {
        Self { presence: Presence::Offline, connected: false, responding: true, rest_until: None }
    }
}

/// Units in use.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    primary: u32,
    interruptible: u32,
}

impl Load {
    fn all(self) -> u32 {
        self.primary + self.interruptible
    }

    /// The part of the capacity that a conversation is of: what of it is in use, and how much there is.
    fn part(self, item: &Item, spec: &Spec) -> (u32, u32) {
        match item.interruptible {
            true => (self.interruptible, spec.interruptible_capacity.unwrap_or(spec.capacity)),
            false => (self.primary, spec.capacity),
        }
    }

    /// Whether a conversation and all that is beside it have room.
    fn holds(self, item: &Item, spec: &Spec) -> bool {
        let (used, most) = self.part(item, spec);
        used <= most
    }

    /// Whether there is room for one more.
    fn has_room(self, item: &Item, spec: &Spec) -> bool {
        let (used, most) = self.part(item, spec);
        self.primary < spec.capacity && used + item.terms.weight <= most
    }
}

/// Everything of a tenant that somebody has or waits for.
#[derive(Default)]
pub(super) struct Books {
    policy: Arc<Policy>,
    /// The queues that are closed.
    shut: BTreeSet<QueueId>,
    agents: BTreeMap<AgentId, Agent>,
    items: BTreeMap<ConversationId, Item>,
    offers: BTreeMap<OfferId, Offer>,
    policies: Counter,
    begun: Counter,
    made: Counter,
}

impl Books {
    pub(super) fn observe(&mut self, event: &Event, findings: &mut Findings) {
        match event {
            Event::PolicyApplied { version, policy } => {
                self.policies.next(*version, "the policy", findings);
                self.policy = Arc::clone(policy);
                self.shut.retain(|queue| policy.queues.contains_key(queue));
                for agent in policy.agents.keys() {
                    self.agents.entry(agent.clone()).or_default();
                }
            }
            Event::QueueOpened { queue, .. } => {
                self.shut.remove(queue);
            }
            Event::QueueClosed { queue, .. } => {
                self.shut.insert(queue.clone());
            }
            _ => match event.noun() {
                "agent" => self.agent_changes(event, findings),
                "offer" => self.offer_changes(event, findings),
                _ => self.conversation_changes(event, findings),
            },
        }
    }

    /// A conversation that has begun and not ended.
    pub(super) fn open(&self, id: ConversationId) -> Option<&Item> {
        self.items.get(&id).filter(|item| item.is_open())
    }

    pub(super) fn all_open(&self) -> impl Iterator<Item = &Item> {
        self.items.values().filter(|item| item.is_open())
    }

    /// Whether an agent was ever in the policy.
    pub(super) fn knows(&self, agent: &AgentId) -> bool {
        self.agents.contains_key(agent)
    }

    /// What each agent has.
    pub(super) fn hands(&self) -> BTreeMap<AgentId, Hand> {
        let mut hands: BTreeMap<AgentId, Hand> = BTreeMap::new();
        for agent in self.agents.keys() {
            hands.insert(agent.clone(), Hand { load: self.load(agent).all(), ..Hand::default() });
        }
        for (id, item) in self.items.iter().filter(|(_, item)| item.is_open()) {
            for agent in item.responsible().into_iter().chain(item.readers.keys()) {
                hands.entry(agent.clone()).or_default().conversations.insert(*id);
            }
        }
        for (id, offer) in self.offers.iter().filter(|(_, offer)| offer.fate == Fate::Stands) {
            hands.entry(offer.agent.clone()).or_default().offers.insert(*id);
        }
        hands
    }

    fn load(&self, agent: &AgentId) -> Load {
        let mut load = Load::default();
        for item in self.all_open() {
            for (_, units) in item.takes().filter(|(who, _)| *who == agent) {
                let part = if item.interruptible { &mut load.interruptible } else { &mut load.primary };
                *part += units;
            }
        }
        load
    }

    fn fate(&self, offer: OfferId) -> Option<Fate> {
        self.offers.get(&offer).map(|known| known.fate)
    }

    fn lapses_at(&self, offer: OfferId) -> Option<Timestamp> {
        self.offers.get(&offer).map(|known| known.expires_at)
    }

    /// Whether an agent has room for a conversation that it has.
    fn fits(&self, id: ConversationId, agent: &AgentId) -> bool {
        let known = self.items.get(&id).zip(self.policy.agents.get(agent));
        known.is_none_or(|(item, spec)| self.load(agent).holds(item, spec))
    }

    // === Agents ===

    fn agent_changes(&mut self, event: &Event, findings: &mut Findings) {
        if let Event::AgentOverCapacity { agent, load, .. } = event {
            let has = self.load(agent).all();
            return findings.require(*load == has, Rule::R2, || format!("{agent} has {has}, and {load} is said"));
        }
        let Some(state) = event.agent().and_then(|agent| self.agents.get_mut(agent)) else { return };
        let news = match event {
            Event::AgentPresenceChanged { presence, .. } => {
                std::mem::replace(&mut state.presence, presence.clone()) != *presence
            }
            Event::AgentConnected { .. } => !std::mem::replace(&mut state.connected, true),
            Event::AgentDisconnected { .. } => std::mem::replace(&mut state.connected, false),
            Event::AgentLost { .. } => {
                state.presence = Presence::Offline;
                !state.connected
            }
            Event::AgentNotResponding { .. } => std::mem::replace(&mut state.responding, false),
            Event::AgentResponding { .. } => !std::mem::replace(&mut state.responding, true),
            Event::AgentRested { .. } => {
                let now = findings.now;
                state.rest_until = state.rest_until.filter(|until| *until > now);
                true
            }
            _ => true,
        };
        findings.require(news, Rule::R7, || format!("{} of {:?} changes nothing", event.name(), event.agent()));
    }

    /// Whether an agent's state takes offers of a conversation, and its tool is there to show them.
    fn is_there(&self, agent: &Agent, item: &Item) -> bool {
        let presence = self.policy.presence(agent.presence.as_str());
        agent.connected && agent.responding && presence.is_some_and(|spec| spec.takes.channel(&item.kind))
    }

    /// Why a conversation cannot be offered to an agent, room aside.
    fn unfit(&self, item: &Item, name: &AgentId) -> Option<&'static str> {
        let (Some(agent), Some(spec)) = (self.agents.get(name), self.policy.agents.get(name)) else {
            return Some("is not in the policy");
        };
        let reasons = [
            (!self.is_there(agent, item), "is not there, or takes none"),
            (agent.rest_until.is_some(), "is left alone after an offer that came to nothing"),
            (item.asked.contains(name), "was asked in this round already"),
            (item.keeper.as_ref() == Some(name), "is handing it over"),
            (!holds(&item.step().must, spec), "lacks what it asks for"),
            (!is_asked(item, name, spec), "is not asked in this step"),
        ];
        reasons.into_iter().find_map(|(keeps, why)| keeps.then_some(why))
    }

    // === Offers ===

    fn offer_changes(&mut self, event: &Event, findings: &mut Findings) {
        let now = findings.now;
        match event {
            Event::OfferCreated { offer, conversation, agent, expires_at, decision } => {
                self.made.next(offer.0, "the offer", findings);
                self.check_offer(*conversation, agent, decision, findings);
                if let Some(Place::Queued(offers)) = self.items.get_mut(conversation).map(|item| &mut item.place) {
                    offers.push((*offer, agent.clone()));
                }
                let (conversation, agent, expires_at) = (*conversation, agent.clone(), *expires_at);
                let made = Offer { conversation, agent, expires_at, fate: Fate::Stands };
                let before = self.offers.insert(*offer, made);
                findings.require(before.is_none(), Rule::R6, || format!("{offer} is made twice"));
            }
            Event::OfferAccepted { offer, conversation, agent } => {
                let late = self.lapses_at(*offer).is_some_and(|end| now > end);
                findings.require(!late, Rule::R6, || format!("{offer} is accepted after it has lapsed"));
                self.end_offer(*offer, *conversation, agent, Fate::Accepted, findings);
            }
            Event::OfferDeclined { offer, conversation, agent, rest_until, .. } => {
                self.end_offer(*offer, *conversation, agent, Fate::Over, findings);
                self.was_asked(*conversation, agent, *rest_until);
            }
            Event::OfferExpired { offer, conversation, agent, rest_until } => {
                let early = self.lapses_at(*offer).is_some_and(|end| now < end);
                findings.require(!early, Rule::R6, || format!("{offer} lapses before its time"));
                self.end_offer(*offer, *conversation, agent, Fate::Over, findings);
                self.was_asked(*conversation, agent, *rest_until);
            }
            Event::OfferRescinded { offer, conversation, agent, .. } => {
                self.end_offer(*offer, *conversation, agent, Fate::Over, findings);
            }
            _ => {}
        }
    }

    /// Whether an offer may be made.
    fn check_offer(&self, id: ConversationId, agent: &AgentId, decision: &Decision, findings: &mut Findings) {
        let Some(item) = self.items.get(&id) else {
            let gaps = findings.gaps;
            return findings.require(gaps, Rule::R1, || format!("is offered to {agent}, and never began"));
        };
        let queued = matches!(item.place, Place::Queued(_));
        findings.require(queued, Rule::R1, || format!("is offered to {agent} while it is {}", item.place));
        let queue = item.queue.as_ref().and_then(|queue| self.policy.queues.get(queue));
        let most = queue.map_or(1, |queue| usize::from(queue.ring).max(1));
        let again = item.offers().iter().any(|(_, other)| other == agent);
        findings.require(item.offers().len() < most && !again, Rule::R5, || {
            format!("is offered to {agent} beside {:?}, and at most to {most} at once", item.offers())
        });
        if let Some(why) = self.unfit(item, agent) {
            findings.fail(Rule::R3, format!("is offered to {agent}, who {why}"));
        }
        let load = self.load(agent);
        let chosen = decision.eligible.first().filter(|candidate| candidate.agent == *agent);
        if let Some(spec) = self.policy.agents.get(agent) {
            findings.require(load.has_room(item, spec), Rule::R2, || {
                format!("is offered to {agent} for {}, who has {load:?} of {}", item.terms.weight, spec.capacity)
            });
            let right = chosen.is_none_or(|said| (said.load, said.capacity) == (load.all(), spec.capacity));
            findings.require(right, Rule::R2, || {
                format!("{agent} has {load:?} of {}, and the decision says {chosen:?}", spec.capacity)
            });
        }
        let says = chosen.is_some() && !decision.tie_break.is_empty() && decision.step == item.step;
        findings.require(says, Rule::R12, || {
            format!("the decision does not say why it is offered to {agent} in step {}: {decision:?}", item.step)
        });
        if item.offers().is_empty()
            && let Some(passed) = self.passed_over(id, item, agent)
        {
            findings.fail(Rule::R8, format!("is offered to {agent}, and {passed} came before"));
        }
    }

    /// What asks the same, came earlier, and waits for the same agent.
    fn passed_over(&self, id: ConversationId, served: &Item, agent: &AgentId) -> Option<ConversationId> {
        if served.direct.is_some() || served.terms.affinity.contains(agent) {
            return None;
        }
        let alike = |item: &Item| {
            let terms = |item: &Item| (item.terms.weight, item.terms.adjust_ms, item.terms.due_at);
            item.queue == served.queue
                && item.kind == served.kind
                && item.interruptible == served.interruptible
                && item.priority == served.priority
                && item.step == served.step
                && terms(item) == terms(served)
                && item.terms.labels == served.terms.labels
                && item.requirement == served.requirement
        };
        // The nearness of a service level's end moves, and is not reckoned here.
        let waits = |item: &Item| {
            item.place == Place::Queued(Vec::new())
                && item.terms.due_at.is_none()
                && item.direct.is_none()
                && item.keeper.is_none()
                && !item.asked.contains(agent)
                && item.reached >= served.reached
        };
        let earlier = |other: ConversationId, item: &Item| (item.ready_at, other) < (served.ready_at, id);
        let mut items = self.items.iter();
        items.find_map(|(other, item)| (waits(item) && earlier(*other, item) && alike(item)).then_some(*other))
    }

    /// An offer ends: once, and as that which it was.
    fn end_offer(
        &mut self,
        offer: OfferId,
        conversation: ConversationId,
        agent: &AgentId,
        fate: Fate,
        findings: &mut Findings,
    ) {
        let gaps = findings.gaps;
        let Some(known) = self.offers.get_mut(&offer) else {
            return findings.require(gaps, Rule::R6, || format!("{offer} ends, and was never made"));
        };
        findings.require(known.fate == Fate::Stands, Rule::R6, || format!("{offer} ends twice"));
        let same = known.conversation == conversation && known.agent == *agent;
        findings.require(same, Rule::R6, || {
            format!("{offer} of {} to {} ends as one to {agent}", known.conversation, known.agent)
        });
        known.fate = fate;
        let over = fate == Fate::Over;
        if let Some(item) = self.items.get_mut(&conversation).filter(|_| over)
            && let Place::Queued(offers) = &mut item.place
        {
            offers.retain(|(standing, _)| *standing != offer);
            if offers.is_empty() {
                item.direct = None;
            }
        }
    }

    /// Whoever said no, or nothing, is not asked again in this round.
    fn was_asked(&mut self, conversation: ConversationId, agent: &AgentId, rest_until: Option<Timestamp>) {
        if let Some(item) = self.items.get_mut(&conversation) {
            item.asked.insert(agent.clone());
        }
        if let Some(state) = self.agents.get_mut(agent) {
            state.rest_until = state.rest_until.max(rest_until);
        }
    }

    // === Conversations ===

    fn conversation_changes(&mut self, event: &Event, findings: &mut Findings) {
        let gaps = findings.gaps;
        let Some(id) = event.conversation() else { return };
        match event {
            Event::ConversationOpened { customer, thread, .. } => {
                self.begun.next(id.0, "the conversation", findings);
                let before = self.items.insert(id, Item::new(*customer, thread, &self.policy));
                return findings.require(before.is_none(), Rule::R11, || "begins twice".to_owned());
            }
            Event::ConversationReopened { customer, thread, .. } => {
                let ended = self.items.get(&id).is_some_and(|item| !item.is_open());
                findings.require(ended || gaps, Rule::R1, || "goes on after its end, which has not come".to_owned());
                self.items.insert(id, Item::new(*customer, thread, &self.policy));
                return;
            }
            _ => {}
        }
        let Some(item) = self.items.get(&id) else {
            return findings.require(gaps, Rule::R1, || format!("{}, and it never began", event.name()));
        };
        if !item.is_open() {
            return findings.require(may_follow_the_end(event), Rule::R1, || format!("{} after its end", event.name()));
        }
        findings.require(is_legal(item, event), Rule::R1, || {
            let by = event.agent().map_or("nobody", AgentId::as_str);
            format!("{} ({by}) while it is {}", event.name(), item.place)
        });
        match event {
            Event::ConversationAssigned { .. } => self.assigned(id, event, findings),
            Event::ConversationClosed { .. } => self.closed(id, findings),
            _ => self.change(id, event),
        }
        // What the customer or time brings back is not asked for room.
        if let Event::ConversationResumed { agent, cause, .. } = event
            && cause == "agent"
        {
            findings.require(self.fits(id, agent), Rule::R2, || format!("{agent} takes it back, and has no room"));
        }
    }

    /// An agent has it: by an offer that was accepted, or by somebody's word.
    fn assigned(&mut self, id: ConversationId, event: &Event, findings: &mut Findings) {
        let Event::ConversationAssigned { agent, offer, forced_by, over_capacity, .. } = event else { return };
        if let Some(offer) = offer {
            let known = self.offers.get_mut(offer);
            let accepted = known.is_some_and(|known| {
                let fits = known.fate == Fate::Accepted && known.conversation == id && known.agent == *agent;
                known.fate = Fate::Over;
                fits
            });
            let gaps = findings.gaps;
            findings.require(accepted || gaps, Rule::R12, || {
                format!("{agent} has it by {offer}, which {agent} did not accept just now")
            });
        } else {
            findings.require(forced_by.is_some(), Rule::R12, || {
                format!("{agent} has it, and was neither offered it nor forced to take it")
            });
        }
        self.nothing_stands(id, Rule::R5, findings);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.goes_to(agent);
        item.before = None;
        let fits = offer.is_some() || *over_capacity || self.fits(id, agent);
        findings
            .require(fits, Rule::R2, || format!("{agent} has {:?} by force, and that is not said", self.load(agent)));
    }

    fn closed(&mut self, id: ConversationId, findings: &mut Findings) {
        self.nothing_stands(id, Rule::R6, findings);
        if let Some(item) = self.items.get_mut(&id) {
            item.place = Place::Closed;
            item.keeper = None;
            item.readers.clear();
        }
    }

    /// No offer of it is left when it goes elsewhere.
    fn nothing_stands(&self, id: ConversationId, rule: Rule, findings: &mut Findings) {
        let offers = self.items.get(&id).map(Item::offers).unwrap_or_default();
        for (offer, agent) in offers.iter().filter(|(offer, _)| self.fate(*offer) != Some(Fate::Over)) {
            findings.fail(rule, format!("{offer} to {agent} stands"));
        }
    }

    /// What every other fact changes.
    fn change(&mut self, id: ConversationId, event: &Event) {
        let policy = Arc::clone(&self.policy);
        let Some(item) = self.items.get_mut(&id) else { return };
        match event {
            Event::ConversationEnqueued {
                queue, priority, requirement, ready_at, from, direct, kept, terms, ..
            } => {
                item.before = match (*kept, item.keeper.is_some()) {
                    (false, _) => None,
                    // Sent on while it is handed over: it goes back to where it was at first.
                    (true, true) => item.before.take(),
                    (true, false) => item.queue.clone().map(|queue| (queue, Arc::clone(&item.requirement))),
                };
                item.keeper = from.clone().filter(|_| *kept);
                if item.keeper.is_none() {
                    item.units = 0;
                }
                item.place = Place::Queued(Vec::new());
                item.queue = Some(queue.clone());
                item.priority = *priority;
                item.requirement = Arc::clone(requirement);
                item.step = 0;
                item.terms = (**terms).clone();
                item.ready_at = *ready_at;
                item.reached = terms.waited_ms;
                item.idle = false;
                item.interruptible = policy.channel(&item.kind).pool == CapacityPool::Interruptible;
                item.asked = from.iter().filter(|from| direct.as_ref() != Some(*from)).cloned().collect();
                item.direct.clone_from(direct);
            }
            Event::ConversationStepReached { step, .. } => item.step = *step,
            Event::ConversationWaited { waited_ms, .. } => item.reached = *waited_ms,
            Event::ConversationFellBack { action: FallbackAction::AnyInQueue, .. } => {
                item.requirement = Arc::default();
                item.step = 0;
            }
            Event::ConversationPrioritized { priority, .. } => item.priority = *priority,
            Event::ConversationRoundStarted { .. } => item.asked.clear(),
            Event::ConversationIdled { .. } => {
                item.idle = true;
                item.units = percent(item.terms.weight, policy.channel(&item.kind).idle_percent);
            }
            Event::ConversationReactivated { .. } => {
                item.idle = false;
                item.units = item.terms.weight;
            }
            Event::ConversationTakenBack { agent, .. } => {
                item.goes_to(agent);
                if let Some((queue, requirement)) = item.before.take() {
                    item.queue = Some(queue);
                    item.requirement = requirement;
                    item.step = 0;
                }
            }
            Event::ConversationResumed { agent, .. } => item.goes_to(agent),
            Event::ConversationParked { agent, .. } => {
                item.place = Place::Parked(agent.clone());
                item.units = percent(item.terms.weight, policy.channel(&item.kind).parked_percent);
                item.idle = false;
            }
            Event::ConversationWrapUpStarted { agent, .. } => {
                item.place = Place::Wrapping(agent.clone());
                item.units = percent(item.terms.weight, policy.channel(&item.kind).wrap_up_percent);
                item.idle = false;
            }
            Event::ConversationConsultStarted { agent, .. } => {
                item.readers.insert(agent.clone(), true);
            }
            Event::ConversationMonitorStarted { agent, .. } => {
                item.readers.insert(agent.clone(), false);
            }
            Event::ConversationConsultEnded { agent, .. } | Event::ConversationMonitorEnded { agent, .. } => {
                item.readers.remove(agent);
            }
            _ => {}
        }
    }

    // === Between records ===

    /// What holds whenever nothing is being decided.
    pub(super) fn settled(&self, findings: &mut Findings) {
        for (id, item) in &self.items {
            let Place::Queued(offers) = &item.place else { continue };
            findings.conversation = Some(*id);
            for (offer, agent) in offers {
                let stands = self.fate(*offer) == Some(Fate::Stands);
                findings.require(stands, Rule::R1, || format!("{agent} accepted {offer}, and does not have it"));
                let there = self.agents.get(agent).is_some_and(|state| self.is_there(state, item));
                findings.require(there, Rule::R3, || format!("{offer} stands, and {agent} is not there to take it"));
            }
            if offers.is_empty()
                && let Some(agent) = self.could_take(item)
            {
                findings.fail(Rule::R4, format!("waits, and {agent} could take it"));
            }
        }
    }

    /// Somebody who could be offered what waits, as far as a membership and room alone decide it.
    fn could_take(&self, item: &Item) -> Option<&AgentId> {
        let queue = item.queue.as_ref().filter(|queue| !self.shut.contains(*queue))?;
        let stale = self.policy.queues.get(queue)?.stale_after_ms.is_some();
        let rated = self.policy.offers.agent_max > 0 || self.policy.offers.ramp_ms > Millis(0);
        let capped = self.policy.channels.values().any(|channel| channel.cap.is_some() || !channel.blocks.is_empty());
        if stale || rated || capped {
            return None;
        }
        let free = |name: &AgentId, spec: &Spec| {
            let at_once = spec.queues.get(queue).is_some_and(|membership| membership.delay_s == 0);
            at_once
                && spec.caps == Caps::default()
                && self.unfit(item, name).is_none()
                && self.load(name).has_room(item, spec)
        };
        self.policy.agents.iter().find_map(|(name, spec)| free(name, spec).then_some(name))
    }
}

/// What may still be said of a conversation that has ended.
fn may_follow_the_end(event: &Event) -> bool {
    matches!(
        event,
        Event::MessageStatusChanged { .. }
            | Event::MessageNotified { .. }
            | Event::MessageLeftUnread { .. }
            | Event::ConversationCallDirected { .. }
            | Event::ConversationSwitched { .. }
            | Event::CustomerSignalled { .. }
    )
}

/// Whether a fact may follow on where a conversation is.
fn is_legal(item: &Item, event: &Event) -> bool {
    let place = &item.place;
    let has = |agent: &AgentId| item.responsible() == Some(agent);
    let waits = *place == Place::Queued(Vec::new());
    match event {
        Event::ConversationEnqueued { from, kept, .. } => {
            let left = waits || matches!(place, Place::Begun | Place::Active(_) | Place::Parked(_));
            left && from.as_ref() == item.responsible() && (from.is_some() || !kept)
        }
        Event::ConversationStepReached { .. }
        | Event::ConversationWaited { .. }
        | Event::ConversationFellBack { .. } => matches!(place, Place::Queued(_)),
        Event::ConversationRoundExhausted { .. } | Event::ConversationRoundStarted { .. } => waits,
        Event::ConversationAbandoned { .. } => (waits || *place == Place::Begun) && item.keeper.is_none(),
        Event::ConversationTakenBack { agent, .. } => waits && has(agent),
        // By force it goes from one to another.
        Event::ConversationAssigned { agent, forced_by, .. } => match place {
            Place::Queued(_) => true,
            Place::Active(_) | Place::Parked(_) | Place::Wrapping(_) => forced_by.is_some() && !has(agent),
            Place::Begun | Place::Closed => false,
        },
        Event::ConversationTransferred { by, .. } => has(by) && matches!(place, Place::Active(_) | Place::Parked(_)),
        Event::ConversationParked { agent, .. } | Event::ConversationWrapUpStarted { agent, .. } => {
            *place == Place::Active(agent.clone())
        }
        Event::ConversationIdled { agent, .. } => *place == Place::Active(agent.clone()) && !item.idle,
        Event::ConversationReactivated { agent, .. } => *place == Place::Active(agent.clone()) && item.idle,
        Event::ConversationResumed { agent, .. } => {
            has(agent) && matches!(place, Place::Parked(_) | Place::Wrapping(_))
        }
        Event::ConversationClosed { by, .. } => by.as_ref().is_none_or(has),
        Event::MessageSent { agent, .. } => has(agent) && !matches!(place, Place::Parked(_)),
        Event::NoteAdded { agent, .. } => has(agent) || item.readers.contains_key(agent),
        Event::ConversationConsultStarted { agent, by, .. } => {
            has(by) && !has(agent) && !item.readers.contains_key(agent)
        }
        Event::ConversationMonitorStarted { agent, .. } => !has(agent) && !item.readers.contains_key(agent),
        Event::ConversationConsultEnded { agent, .. } => item.readers.get(agent) == Some(&true),
        Event::ConversationMonitorEnded { agent, .. } => item.readers.get(agent) == Some(&false),
        _ => true,
    }
}

/// Whether the step in force asks an agent.
fn is_asked(item: &Item, name: &AgentId, spec: &Spec) -> bool {
    let pool = &item.step().pool;
    let home = item.queue.as_ref().and_then(|queue| spec.queues.get(queue)).filter(|_| !pool.only);
    home.is_some_and(|home| pool.tier_max.is_none_or(|most| home.tier <= most))
        || pool.queues.iter().any(|queue| spec.queues.contains_key(queue))
        || pool.groups.iter().any(|group| spec.groups.contains(group))
        || pool.agents.contains(name)
        || item.direct.as_ref() == Some(name)
}

/// Whether a condition holds of an agent.
fn holds(expr: &Expr, spec: &Spec) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| holds(part, spec)),
        Expr::Any(parts) => parts.iter().any(|part| holds(part, spec)),
        Expr::Not(part) => !holds(part, spec),
        Expr::Skill(test) => {
            let level = spec.skills.get(&test.skill).copied().unwrap_or(0);
            (test.min..=test.max).contains(&level)
        }
        Expr::Attribute(test) => spec.attributes.get(&test.attribute).is_some_and(|value| passes(test, value)),
    }
}

fn passes(test: &AttributeTest, value: &Value) -> bool {
    let within = match value {
        Value::Number(n) if test.min.is_some() || test.max.is_some() => {
            test.min.is_none_or(|min| *n >= min) && test.max.is_none_or(|max| *n <= max)
        }
        _ => false,
    };
    within || test.is.contains(value)
}

/// A part of a weight, rounded up.
fn percent(weight: u32, percent: u8) -> u32 {
    let units = (u64::from(weight) * u64::from(percent)).div_ceil(100);
    u32::try_from(units).unwrap_or(u32::MAX)
}
