//! Which agent a waiting conversation is offered to.

use std::collections::BTreeSet;

use contract::event::{Candidate, Decision, Excluded, Exclusion};
use contract::policy::Agent as Spec;
use contract::{AgentId, ConversationId, Event, OfferId, SmolStr, Timestamp};

use crate::agent::Agent;
use crate::conversation::{Conversation, Phase};
use crate::order::{ItemKey, Precedence};
use crate::roster::{AgentNo, Slot};
use crate::state::{State, Step};
use crate::waiting::{Class, Place};

/// Queues of at most this many members have every member explained in each decision; of larger ones
/// only those that came into question.
const EXPLAINED_MEMBERS_MAX: usize = 32;
/// How many agents are looked at beyond the chosen one in a large queue, to say what decided.
const RUNNERS_UP: usize = 2;
/// How many exclusions a decision lists at most.
const EXCLUDED_MAX: usize = 64;

/// By what eligible agents are compared for one conversation, smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    /// Place among those who knew the customer before; those who did not come last.
    affinity: u32,
    tier: u8,
    /// Negated, so that more comes first.
    preferred: i64,
    /// Negated mean level in thousandths.
    skill: i32,
    key: i64,
    idle: u64,
    offers: u32,
    agent: AgentNo,
}

impl State {
    /// Matches everything that became matchable, until nothing is left that fits (R4): the first item that
    /// somebody can take goes to the best agent for it, then the next.
    ///
    /// Only items that changed and agents that got room can make a pair. While pairs are made, room mostly
    /// shrinks, so that what an agent would serve first only moves back; who kept a conversation that is taken
    /// without asking has room again and comes to those that were freed.
    pub(crate) fn settle(&mut self, step: &mut Step) {
        self.index.waiting.advance(step.at, &self.conversations);
        let mut freed: BTreeSet<(Precedence, AgentNo)> = BTreeSet::new();
        let mut items: BTreeSet<Precedence> = BTreeSet::new();
        // How many facts there were when nothing was known that could have changed since.
        let known = step.emitted.len();
        loop {
            for agent in std::mem::take(&mut self.index.dirty_agents) {
                freed.extend(self.first_item_for(agent, step.at).map(|first| (first, agent)));
            }
            let dirty = std::mem::take(&mut self.index.dirty_items);
            items.extend(dirty.iter().filter_map(|id| self.index.waiting.precedence(*id, step.at)));
            let item = items.first().copied();
            match freed.pop_first() {
                Some((first, agent)) if item.is_none_or(|item| first < item) => {
                    let unchanged = step.emitted.len() == known;
                    let now_first = if unchanged { Some(first) } else { self.first_item_for(agent, step.at) };
                    if now_first == Some(first) {
                        if self.offer_in_turn(step, first.conversation).is_some() {
                            let next = self.first_item_for(agent, step.at);
                            freed.extend(next.map(|next| (next, agent)));
                        }
                    } else {
                        freed.extend(now_first.map(|first| (first, agent)));
                    }
                }
                later => {
                    freed.extend(later);
                    let Some(item) = items.pop_first() else { return };
                    self.match_item(step, item);
                }
            }
        }
    }

    /// Matches one waiting conversation that changed.
    fn match_item(&mut self, step: &mut Step, item: Precedence) {
        match self.offer_in_turn(step, item.conversation) {
            // What was sent elsewhere is matched there, in its turn.
            Some(offered) if offered == item.conversation => {}
            Some(_) => {
                self.index.dirty_items.insert(item.conversation);
            }
            None => self.end_round(step, item.conversation),
        }
    }

    /// Offers a waiting conversation, or what the best agent for it has in a queue that goes before this one's;
    /// says which it was.
    fn offer_in_turn(&mut self, step: &mut Step, id: ConversationId) -> Option<ConversationId> {
        let choice = self.choose(id, step.at)?;
        if self.index.roster.ranks {
            let first = self.first_item_for(choice.0, step.at).map(|first| first.conversation);
            if let Some(first) = first.filter(|first| *first != id)
                && let Some(better) = self.choose(first, step.at)
            {
                return self.offer_best(step, first, better).then_some(first);
            }
        }
        self.offer_best(step, id, choice).then_some(id)
    }

    /// The first item that the agent may take.
    pub(crate) fn first_item_for(&self, no: AgentNo, now: Timestamp) -> Option<Precedence> {
        let slot = self.index.roster.slot(no)?;
        if !slot.live.ready {
            return None;
        }
        self.index.waiting.first_for(
            slot,
            now,
            |home| self.is_team_open(home),
            |class| self.fits(class, no, slot),
            |item| self.takes(item, slot),
        )
    }

    /// Whether the queue of a team is open.
    fn is_team_open(&self, team: crate::roster::TeamNo) -> bool {
        self.index.closed.is_empty() || !self.index.closed.contains(&team)
    }

    /// Whether an agent that is ready may take what a class asks; and how it stands to it.
    fn fits(&self, class: &Class, no: AgentNo, slot: &Slot) -> Option<Place> {
        if !has_room(class.key.interruptible, class.key.weight, slot)
            || !class.must.holds(no, &self.index.roster, &slot.id, &self.policy)
        {
            return None;
        }
        let place = class.seat(&slot.seats)?;
        if slot.live.takes_all && !class.capped {
            return Some(place);
        }
        // By name only where numbers do not say it: this is asked of every agent that comes into question.
        let (state, spec) = (self.agents.get(&slot.id)?, self.policy.agents.get(&slot.id)?);
        let takes = slot.live.takes_all || self.takes_channel(state, &class.key.kind);
        (takes && (!class.capped || self.capped(&class.key.kind, &class.key.labels, state, spec).is_none()))
            .then_some(place)
    }

    /// Whether an agent that fits its class may take an item that is old enough for it.
    fn takes(&self, item: &ItemKey, slot: &Slot) -> bool {
        let Some(waiting) = self.conversations.get(&item.conversation) else { return false };
        !waiting.asked.contains(&slot.id) && waiting.keeper.as_deref() != Some(&slot.id)
    }

    fn takes_channel(&self, state: &Agent, kind: &contract::ChannelKind) -> bool {
        match self.policy.presences.get(state.presence.as_str()) {
            Some(spec) => spec.takes.channel(kind),
            None => state.presence == contract::event::Presence::Available,
        }
    }

    /// What else than room keeps an agent from one more conversation.
    fn capped(
        &self,
        kind: &contract::ChannelKind,
        labels: &BTreeSet<SmolStr>,
        state: &Agent,
        spec: &Spec,
    ) -> Option<Exclusion> {
        let held = state.by_channel.get(kind).copied().unwrap_or(0);
        let cap = spec.caps.channels.get(kind).copied().or_else(|| self.policy.channels.get(kind)?.cap);
        if let Some(cap) = cap.filter(|cap| held >= *cap) {
            return Some(Exclusion::ChannelCap { cap });
        }
        let full = labels.iter().find_map(|label| {
            let cap = *spec.caps.labels.get(label)?;
            let held = state.by_label.get(label).copied().unwrap_or(0);
            (held >= cap).then(|| Exclusion::LabelCap { label: label.clone(), cap })
        });
        full.or_else(|| {
            let by = state
                .by_channel
                .keys()
                .find(|held| self.policy.channels.get(*held).is_some_and(|channel| channel.blocks.contains(kind)))?;
            Some(Exclusion::Blocked { by: by.clone() })
        })
    }

    /// Offers a waiting conversation to the best agents there are for it. One that has grown too old to be anybody's at
    /// once goes where such ones are looked through.
    fn offer_best(&mut self, step: &mut Step, id: ConversationId, (best, decision): (AgentNo, Decision)) -> bool {
        let Some(agent) = self.index.roster.slot(best).map(|slot| slot.id.clone()) else { return false };
        if self.send_stale_away(step, id) {
            return true;
        }
        let Some(conversation) = self.conversations.get(&id) else { return false };
        let queue = conversation.queue.as_ref().and_then(|queue| self.policy.queues.get(queue));
        let more = usize::from(queue.map_or(1, |queue| queue.ring).max(1)) - 1;
        let also: Vec<Candidate> = decision.eligible.iter().skip(1).take(more).cloned().collect();
        let expires_at = step.at + conversation.terms.lease_ms;
        let channel = self.policy.channels.get(&conversation.kind);
        let auto = channel.is_some_and(|channel| channel.auto_accept)
            && self.policy.agents.get(&agent).is_some_and(|spec| spec.auto_accept);
        let offer = OfferId(self.last_offer + 1);
        let at_step = decision.step;
        self.emit(step, Event::OfferCreated { offer, conversation: id, agent: agent.clone(), expires_at, decision });
        if auto {
            self.take_offer(step, &agent, offer, id);
            return true;
        }
        for candidate in also {
            let (offer, agent) = (OfferId(self.last_offer + 1), candidate.agent.clone());
            let decision = Decision {
                eligible: vec![candidate],
                tie_break: SmolStr::new_static("ring"),
                step: at_step,
                ..Decision::default()
            };
            self.emit(step, Event::OfferCreated { offer, conversation: id, agent, expires_at, decision });
        }
        true
    }

    /// After a waiting conversation found nobody: when somebody was asked in vain, all may be asked
    /// again after a pause.
    fn end_round(&mut self, step: &mut Step, id: ConversationId) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        if conversation.phase == (Phase::Waiting { next_round_at: None }) && !conversation.asked.is_empty() {
            let next_round_at = step.at + self.policy.timing.round_pause_ms;
            self.emit(step, Event::ConversationRoundExhausted { conversation: id, next_round_at });
            // Evolving it marked it as matchable once more, which it is not.
            self.index.dirty_items.remove(&id);
        }
    }

    /// The agent that a waiting conversation would be offered to.
    pub(crate) fn best_agent(&self, id: ConversationId, now: Timestamp) -> Option<AgentId> {
        let (best, _) = self.choose(id, now)?;
        self.index.roster.slot(best).map(|slot| slot.id.clone())
    }

    /// The best eligible agent for a waiting conversation, and why. `None`: there is none now.
    fn choose(&self, id: ConversationId, now: Timestamp) -> Option<(AgentNo, Decision)> {
        let conversation = self.conversations.get(&id)?;
        let class = self.index.waiting.class_of(id)?;
        if !self.is_team_open(class.home) {
            return None;
        }
        let members = self.index.roster.team(class.home).map_or(0, |team| team.members.len());
        let small = members <= EXPLAINED_MEMBERS_MAX;
        let ring = conversation.queue.as_ref().and_then(|queue| self.policy.queues.get(queue)).map_or(1, |q| q.ring);
        let looked_at = if small { usize::MAX } else { (1 + RUNNERS_UP).max(usize::from(ring)) };
        let able = self.able(class, conversation, looked_at);
        let best = able.first()?.agent;
        let tie_break = SmolStr::new_static(tie_break(&able));
        let eligible: Vec<Candidate> = able.iter().filter_map(|merit| self.candidate(merit)).collect();
        let mut decision = Decision { tie_break, eligible, step: conversation.step, ..Decision::default() };
        if small || !conversation.asked.is_empty() {
            self.explain_members(id, if small { usize::MAX } else { 0 }, &mut decision, now);
        } else {
            let home = self.index.roster.team(class.home).map_or(&[][..], |team| &team.members);
            let listed = able.iter().filter(|merit| home.binary_search(&merit.agent).is_ok()).count();
            decision.unlisted = u32::try_from(home.len().saturating_sub(listed)).unwrap_or(u32::MAX);
        }
        Some((best, decision))
    }

    /// The agents who may take an item now, best first; at least the first `enough` of them.
    fn able(&self, class: &Class, item: &Conversation, enough: usize) -> Vec<Merit> {
        let roster = &self.index.roster;
        let merit = |no: AgentNo| {
            // The table first: most who are looked at lack a skill.
            if !class.must.skilled(no, roster) {
                return None;
            }
            let slot = roster.slot(no).filter(|slot| slot.live.ready)?;
            let place = self.fits(class, no, slot)?;
            let free = place.delay_ms <= item.reached.0
                && !item.asked.contains(&slot.id)
                && item.keeper.as_deref() != Some(&slot.id);
            free.then(|| self.merit(class, item, no, slot, place))
        };
        let named = item.direct.as_deref().into_iter().chain(&item.terms.affinity);
        let mut found: Vec<Merit> = named.filter_map(|agent| merit(*roster.numbers.get(agent)?)).collect();
        if enough > found.len() {
            let ready: usize = class.teams.iter().map(|team| roster.count_ready(*team)).sum();
            let covered = class.cover_size;
            let few = covered.unwrap_or(ready).min(ready);
            let orderly = class.prefer.is_empty() && class.counted.is_empty() && class.teams == [class.home];
            // In the queue's own order the first ones that fit are the best; they come after about as many as there
            // are for each who has the skills.
            if orderly && class.rarity.saturating_mul(enough) / 1000 <= few {
                let home = roster.team(class.home).into_iter().flat_map(|team| &team.ready);
                found.extend(home.filter_map(|rank| merit(rank.agent)).take(enough));
            } else if let Some(levels) = class.by_level(roster).filter(|_| enough < usize::MAX) {
                // The highest levels are the best, whatever else there is: the lower ones need not be looked at.
                let mut last = None;
                for (no, level) in levels {
                    if found.len() >= enough && last != Some(level) {
                        break;
                    }
                    last = Some(level);
                    found.extend(merit(no));
                }
            } else if covered.is_some_and(|covered| covered < ready) {
                found.extend(class.covered(roster).filter_map(merit));
            } else {
                found.extend(class.teams.iter().flat_map(|team| roster.ready(*team)).filter_map(merit));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(enough);
        found
    }

    fn merit(&self, class: &Class, item: &Conversation, no: AgentNo, slot: &Slot, place: Place) -> Merit {
        let roster = &self.index.roster;
        let strategy = roster.team(class.home).map(|team| team.strategy).unwrap_or_default();
        let affinity =
            item.direct.as_deref().into_iter().chain(&item.terms.affinity).position(|known| *known == slot.id);
        let preferred: u32 = class
            .prefer
            .iter()
            .filter(|(test, _)| test.holds(no, roster, &slot.id, &self.policy))
            .map(|(_, weight)| *weight)
            .sum();
        let levels: i32 = class.counted.iter().map(|skill| i32::from(roster.level(no, *skill))).sum();
        let counted = i32::try_from(class.counted.len()).unwrap_or(1).max(1);
        Merit {
            affinity: affinity.map_or(u32::MAX, |place| u32::try_from(place).unwrap_or(u32::MAX)),
            tier: place.tier,
            preferred: -i64::from(preferred),
            skill: -(levels * 1000 / counted),
            key: slot.live.standing.key(strategy),
            idle: slot.live.standing.last_assigned,
            offers: slot.live.standing.offers,
            agent: no,
        }
    }

    fn candidate(&self, merit: &Merit) -> Option<Candidate> {
        let slot = self.index.roster.slot(merit.agent)?;
        Some(Candidate {
            agent: slot.id.clone(),
            load: slot.live.standing.load,
            capacity: slot.capacity,
            last_assigned_at: slot.live.standing.last_assigned_at(),
            affinity: if merit.affinity == u32::MAX { 0 } else { merit.affinity + 1 },
            tier: u32::from(merit.tier),
            preferred: u32::try_from(-merit.preferred).unwrap_or(0),
            skill_milli: u32::try_from(-merit.skill).unwrap_or(0),
            strategy_key: merit.key,
        })
    }

    /// Lists members that the decision does not name yet: those that were asked, and the first `more`
    /// by name.
    pub(crate) fn explain_members(&self, id: ConversationId, more: usize, decision: &mut Decision, now: Timestamp) {
        let Some(conversation) = self.conversations.get(&id) else { return };
        let roster = &self.index.roster;
        let home =
            conversation.queue.as_ref().and_then(|queue| roster.queues.get(queue)).and_then(|no| roster.team(*no));
        let members = home.map_or(&[][..], |team| &team.members[..]);
        let is_member = |agent: &AgentId| roster.numbers.get(agent).is_some_and(|no| members.binary_search(no).is_ok());
        if more == 0 && conversation.asked.is_empty() {
            let listed = decision.eligible.iter().filter(|candidate| is_member(&candidate.agent)).count();
            decision.unlisted = u32::try_from(members.len().saturating_sub(listed)).unwrap_or(u32::MAX);
            return;
        }
        let asked = conversation.asked.iter().filter(|agent| is_member(agent));
        let mut named: BTreeSet<&AgentId> = BTreeSet::new();
        let eligible: Vec<AgentId> = decision.eligible.iter().map(|candidate| candidate.agent.clone()).collect();
        named.extend(&eligible);
        let outside = eligible.iter().filter(|agent| !is_member(agent)).count();
        let members_named = members.iter().take(more).filter_map(|no| roster.slot(*no)).map(|slot| &slot.id);
        for agent in asked.take(EXCLUDED_MAX).chain(members_named) {
            if named.insert(agent)
                && let Some(because) = self.exclusion(id, agent, now)
            {
                decision.excluded.push(Excluded { agent: agent.clone(), because });
            }
        }
        let listed = decision.excluded.len() + eligible.len() - outside;
        decision.unlisted = u32::try_from(members.len().saturating_sub(listed)).unwrap_or(u32::MAX);
    }

    /// Who could be offered a conversation now, if it were to be offered, best first; for an explanation.
    pub(crate) fn eligible_now(&self, id: ConversationId) -> Vec<Candidate> {
        let Some(conversation) = self.conversations.get(&id) else { return Vec::new() };
        let Some(class) = Class::probe(conversation, &self.policy, &self.index.roster) else { return Vec::new() };
        if !self.is_team_open(class.home) {
            return Vec::new();
        }
        let able = self.able(&class, conversation, EXCLUDED_MAX);
        able.iter().filter_map(|merit| self.candidate(merit)).collect()
    }

    /// The first rule that keeps an agent from a conversation. `None`: it is eligible.
    pub(crate) fn exclusion(&self, id: ConversationId, agent: &AgentId, _now: Timestamp) -> Option<Exclusion> {
        let offline = Exclusion::Presence { presence: contract::event::Presence::Offline };
        let (Some(state), Some(spec)) = (self.agents.get(agent), self.policy.agents.get(agent)) else {
            return Some(offline);
        };
        let Some(conversation) = self.conversations.get(&id) else { return Some(offline) };
        let Some(seat) = self.seat_in(conversation, agent, spec) else { return Some(Exclusion::NotInPool) };
        if seat.delay_ms > conversation.reached.0 {
            let until = self.waited_at(conversation, contract::Millis(seat.delay_ms)).unwrap_or(Timestamp(u64::MAX));
            return Some(Exclusion::Delayed { until });
        }
        if !self.takes_channel(state, &conversation.kind) {
            return Some(Exclusion::Presence { presence: state.presence.clone() });
        }
        if !state.connected {
            return Some(Exclusion::Disconnected);
        }
        if let Some(until) = state.not_responding_until {
            return Some(Exclusion::NotResponding { until });
        }
        if let Some(until) = state.rest_until {
            return Some(Exclusion::Resting { until });
        }
        if let Some(until) = state.rate_until {
            return Some(Exclusion::OfferRate { until });
        }
        if conversation.asked.contains(agent) || conversation.keeper.as_deref() == Some(agent) {
            return Some(Exclusion::AlreadyAsked);
        }
        if let Some(unmet) = policy::expr::unmet(&conversation.step().must, spec) {
            return Some(unmet);
        }
        self.crowded(conversation, agent, state, spec)
    }

    /// Whether an agent has no room for a conversation, save for what it takes of the agent already.
    pub(crate) fn crowded(
        &self,
        conversation: &Conversation,
        agent: &AgentId,
        state: &Agent,
        spec: &Spec,
    ) -> Option<Exclusion> {
        let offered =
            matches!(&conversation.phase, Phase::Offered { offers } if offers.iter().any(|(_, to)| to == agent));
        let own = if offered {
            Some(conversation.terms.weight)
        } else {
            (conversation.responsible() == Some(agent)).then_some(conversation.units)
        };
        let (primary, interruptible) = (state.primary(), state.interruptible);
        let weight = conversation.terms.weight;
        let own_units = own.unwrap_or(0);
        if conversation.interruptible {
            if primary >= spec.capacity {
                return Some(Exclusion::PrimaryFull { load: primary, capacity: spec.capacity });
            }
            let capacity = spec.interruptible_capacity.unwrap_or(spec.capacity);
            let load = interruptible.saturating_sub(own_units);
            if load.saturating_add(weight) > capacity {
                return Some(Exclusion::Full { load, capacity });
            }
        } else {
            let load = primary.saturating_sub(own_units);
            // Who has no room at all takes nothing, even if it weighs nothing.
            if load >= spec.capacity || load.saturating_add(weight) > spec.capacity {
                return Some(Exclusion::Full { load, capacity: spec.capacity });
            }
        }
        if own.is_some() { None } else { self.capped(&conversation.kind, &conversation.terms.labels, state, spec) }
    }

    /// How an agent stands to the step of a conversation; `None`: it is not asked in it.
    fn seat_in(&self, conversation: &Conversation, agent: &AgentId, spec: &Spec) -> Option<Place> {
        let pool = &conversation.step().pool;
        let mut place: Option<Place> = None;
        let mut add = |tier: u8, rank: u8, delay_ms: u64| {
            let place = place.get_or_insert(Place { tier, rank, delay_ms });
            place.tier = place.tier.min(tier);
            place.rank = place.rank.min(rank);
            place.delay_ms = place.delay_ms.min(delay_ms);
        };
        for (queue, membership) in &spec.queues.0 {
            let home = !pool.only
                && conversation.queue.as_ref() == Some(queue)
                && pool.tier_max.is_none_or(|max| membership.tier <= max);
            if self.policy.queues.contains_key(queue) && (home || pool.queues.contains(queue)) {
                add(membership.tier, membership.rank, u64::from(membership.delay_s) * 1000);
            }
        }
        if spec.groups.iter().any(|group| pool.groups.contains(group))
            || pool.agents.contains(agent)
            || conversation.direct.as_deref() == Some(agent)
        {
            add(u8::MAX, 1, 0);
        }
        place
    }

    /// Whether the agent may be offered the conversation at all: the step asks it, and its queue is there.
    pub(crate) fn concerns(&self, id: ConversationId, agent: &AgentId) -> bool {
        let (Some(conversation), Some(spec)) = (self.conversations.get(&id), self.policy.agents.get(agent)) else {
            return false;
        };
        conversation.queue.as_ref().is_some_and(|queue| self.policy.queues.contains_key(queue))
            && self.seat_in(conversation, agent, spec).is_some()
    }

    /// Whether anybody who is signed in could ever take what a step of a conversation asks, whatever they
    /// hold.
    pub(crate) fn somebody_could(&self, id: ConversationId, conversation: &Conversation) -> bool {
        let could = |class: &Class| class.somebody_could(&self.policy, &self.index.roster);
        match self.index.waiting.class_of(id) {
            Some(class) => could(class),
            None => Class::probe(conversation, &self.policy, &self.index.roster).as_ref().is_some_and(could),
        }
    }

    /// A waiting conversation and a ready agent that could take it: the ground of R4.
    pub(crate) fn overlooked(&self) -> Option<(ConversationId, AgentId)> {
        // Whoever is ready was asked before, or it would have something.
        self.index.roster.slots.iter().enumerate().find_map(|(no, slot)| {
            let first = self.first_item_for(u32::try_from(no).ok()?, self.now)?;
            Some((first.conversation, slot.id.clone()))
        })
    }
}

/// Whether an agent has room for the weight.
fn has_room(interruptible: bool, weight: u32, slot: &Slot) -> bool {
    if interruptible {
        slot.live.interruptible.saturating_add(weight) <= slot.interruptible_capacity
    } else {
        slot.live.primary.saturating_add(weight) <= slot.capacity
    }
}

/// What set the first before the second.
fn tie_break(able: &[Merit]) -> &'static str {
    match able {
        [] | [_] => "only_candidate",
        [first, second, ..] if first.affinity != second.affinity => "affinity",
        [first, second, ..] if first.tier != second.tier => "tier",
        [first, second, ..] if first.preferred != second.preferred => "preferred",
        [first, second, ..] if first.skill != second.skill => "skill",
        [first, second, ..] if first.key != second.key => "strategy",
        [first, second, ..] if first.idle != second.idle => "longest_idle",
        [first, second, ..] if first.offers != second.offers => "fewest_offers",
        _ => "agent_id",
    }
}
