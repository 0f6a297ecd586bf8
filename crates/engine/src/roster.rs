//! The agents as matching sees them: numbered, with their skills in a table, by team and by skill.
//!
//! Derived from the policy and the agents' state, and kept in step by [`State::rank_agent`]. Numbers are
//! places in the policy's roster, so that the order of numbers is the order of names.

use std::collections::{BTreeMap, BTreeSet};

use contract::policy::{LEVEL_MAX, Level, Policy, Strategy};
use contract::{AgentId, QueueId, SkillId, SmolStr, Timestamp};

use crate::agent::Agent;

/// The place of an agent in the roster.
pub(crate) type AgentNo = u32;
/// The place of a skill among those that anybody has.
pub(crate) type SkillNo = u32;
/// A queue's members, a group, or one agent: whoever a step asks.
pub(crate) type TeamNo = u32;

/// How an agent belongs to a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) team: TeamNo,
    pub(crate) tier: u8,
    pub(crate) rank: u8,
    pub(crate) delay_ms: u64,
}

/// An agent as matching sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) id: AgentId,
    /// The teams it belongs to, by rank.
    pub(crate) seats: Vec<Seat>,
    /// The skills it has, with their levels.
    pub(crate) skills: Vec<(SkillNo, Level)>,
    pub(crate) capacity: u32,
    pub(crate) interruptible_capacity: u32,
    pub(crate) position: u32,
    pub(crate) live: Live,
}

/// What changes of an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// In any state but offline.
    pub(crate) signed_in: bool,
    /// Its state takes something.
    pub(crate) takes: bool,
    /// Its state takes everything.
    pub(crate) takes_all: bool,
    /// May be offered something: is there, takes offers, is not left alone, has room of one kind.
    pub(crate) ready: bool,
    pub(crate) primary: u32,
    pub(crate) interruptible: u32,
    pub(crate) items: u32,
    /// By what it is ranked.
    pub(crate) standing: Standing,
}

/// What strategies compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) load: u32,
    pub(crate) room: u32,
    pub(crate) items: u32,
    pub(crate) last_assigned: u64,
    pub(crate) last_change: u64,
    pub(crate) handled: u32,
    pub(crate) talked_ms: u64,
    pub(crate) position: u32,
    pub(crate) offers: u32,
}

/// A time as a rank: never is before everything.
fn since(at: Option<Timestamp>) -> u64 {
    at.map_or(0, |at| at.0.saturating_add(1))
}

impl Standing {
    pub(crate) fn of(agent: &Agent, capacity: u32, position: u32) -> Self {
        Self {
            load: agent.load,
            room: capacity.max(1),
            items: agent.items(),
            last_assigned: since(agent.last_assigned_at),
            last_change: since(agent.idle_since()),
            handled: agent.handled,
            talked_ms: agent.talked_ms,
            position,
            offers: u32::try_from(agent.recent_offers.len()).unwrap_or(u32::MAX),
        }
    }

    /// When it was last given a conversation.
    pub(crate) fn last_assigned_at(&self) -> Option<Timestamp> {
        self.last_assigned.checked_sub(1).map(Timestamp)
    }

    /// A load as a part of the capacity, in units of 2^-32: among agents of one capacity, different loads are
    /// different shares.
    fn share(&self) -> i64 {
        i64::try_from((u64::from(self.load) << 32) / u64::from(self.room.max(1))).unwrap_or(i64::MAX)
    }

    /// What a strategy compares, smaller first.
    pub(crate) fn key(&self, strategy: Strategy) -> i64 {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        match strategy {
            Strategy::LeastLoaded => self.share(),
            Strategy::LeastActive => i64::from(self.items),
            Strategy::LongestIdle => whole(self.last_change),
            Strategy::RoundRobin => whole(self.last_assigned),
            Strategy::FewestHandled => i64::from(self.handled),
            Strategy::LeastTalk => whole(self.talked_ms),
            Strategy::FullLoad => -self.share(),
            Strategy::TopDown => i64::from(self.position),
        }
    }
}

/// The order of a queue's members, as far as it is the same for all its conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) tier: u8,
    pub(crate) key: i64,
    pub(crate) idle: u64,
    pub(crate) offers: u32,
    pub(crate) agent: AgentNo,
}

/// Agents that a step can ask together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Team {
    pub(crate) strategy: Strategy,
    /// Everybody, by number.
    pub(crate) members: Vec<AgentNo>,
    /// Those who may be offered something, in the order of the queue.
    pub(crate) ready: BTreeSet<Rank>,
    /// The different delays of its members, smallest first, without 0.
    pub(crate) delays: Vec<u64>,
    /// All members are of the same tier.
    pub(crate) one_tier: bool,
    /// How many are signed in.
    signed_in: u32,
    /// How many conversations of the usual weight those can hold who take anything.
    pub(crate) places: u64,
    /// Who has which skill, by skill and, highest first, level. It does not change while the policy is in force:
    /// kept in step with who is there, it made each presence change as dear as a decision.
    skilled: Vec<(SkillNo, Lack, AgentNo)>,
}

/// How much a level is below the highest.
type Lack = u8;

impl Team {
    /// Those who have a skill at a level or above.
    fn with_skill(&self, skill: SkillNo, level: Level) -> &[(SkillNo, Lack, AgentNo)] {
        let lack = LEVEL_MAX.saturating_sub(level);
        let from = self.skilled.partition_point(|entry| entry.0 < skill);
        let all = self.skilled.get(from..).unwrap_or_default();
        let to = all.partition_point(|entry| (entry.0, entry.1) <= (skill, lack));
        all.get(..to).unwrap_or_default()
    }
}

/// The agents as matching sees them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) slots: Vec<Slot>,
    pub(crate) numbers: BTreeMap<AgentId, AgentNo>,
    pub(crate) skills: BTreeMap<SkillId, SkillNo>,
    /// Levels, a row of all skills for each agent.
    levels: Vec<Level>,
    pub(crate) teams: Vec<Team>,
    pub(crate) queues: BTreeMap<QueueId, TeamNo>,
    groups: BTreeMap<SmolStr, TeamNo>,
    /// The number of each agent as a team alone is that of the agent and this.
    alone: TeamNo,
    /// Somebody works queues of different rank.
    pub(crate) ranks: bool,
    /// Somebody may hold only so many of some channel, or some channel excludes another: room is not all.
    pub(crate) caps: bool,
}

/// What a conversation takes of the capacity where nothing else is said.
pub(crate) const USUAL_WEIGHT: u32 = 25;

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Roster {
    /// The roster of a policy, with nobody there.
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut roster = Self::default();
        for id in policy.queues.keys() {
            roster.queues.insert(id.clone(), number(roster.teams.len()));
            let strategy = policy.queues.get(id).map(|queue| queue.strategy).unwrap_or_default();
            roster.teams.push(Team { strategy, ..Team::default() });
        }
        for group in policy.agents.values().flat_map(|agent| &agent.groups) {
            if !roster.groups.contains_key(group) {
                roster.groups.insert(group.clone(), number(roster.teams.len()));
                roster.teams.push(Team::default());
            }
        }
        roster.alone = number(roster.teams.len());
        roster.caps = policy.channels.values().any(|channel| !channel.blocks.is_empty())
            || policy.agents.values().any(|agent| !agent.caps.channels.is_empty());
        let mut skills: BTreeMap<SkillId, SkillNo> =
            policy.agents.values().flat_map(|agent| agent.skills.keys()).map(|skill| (skill.clone(), 0)).collect();
        for (n, place) in skills.values_mut().enumerate() {
            *place = number(n);
        }
        roster.levels = vec![0; skills.len() * policy.agents.len()];
        roster.skills = skills;
        for (no, (id, spec)) in policy.agents.iter().enumerate() {
            let mut slot = Slot {
                id: id.clone(),
                seats: Vec::new(),
                skills: Vec::new(),
                capacity: spec.capacity,
                interruptible_capacity: spec.interruptible_capacity.unwrap_or(spec.capacity),
                position: spec.position,
                live: Live::default(),
            };
            for (skill, level) in &spec.skills {
                if let Some(skill) = roster.skills.get(skill) {
                    if let Some(cell) = roster.levels.get_mut(no * roster.skills.len() + *skill as usize) {
                        *cell = *level;
                    }
                    slot.skills.push((*skill, *level));
                }
            }
            for (queue, membership) in &spec.queues.0 {
                if let Some(team) = roster.queues.get(queue) {
                    let delay_ms = u64::from(membership.delay_s) * 1000;
                    slot.seats.push(Seat { team: *team, tier: membership.tier, rank: membership.rank, delay_ms });
                }
            }
            for group in &spec.groups {
                if let Some(team) = roster.groups.get(group) {
                    slot.seats.push(Seat { team: *team, tier: u8::MAX, rank: 1, delay_ms: 0 });
                }
            }
            slot.seats.push(Seat { team: roster.alone + number(no), tier: u8::MAX, rank: 1, delay_ms: 0 });
            slot.seats.sort_by_key(|seat| (seat.rank, seat.team));
            for seat in &slot.seats {
                let Some(team) = roster.teams.get_mut(seat.team as usize) else { continue };
                team.members.push(number(no));
                let skilled = slot.skills.iter().map(|(skill, level)| {
                    let lack = LEVEL_MAX.saturating_sub(*level);
                    (*skill, lack, number(no))
                });
                team.skilled.extend(skilled);
                if seat.delay_ms > 0 && !team.delays.contains(&seat.delay_ms) {
                    team.delays.push(seat.delay_ms);
                    team.delays.sort_unstable();
                }
            }
            roster.ranks |= slot.seats.windows(2).any(|pair| matches!(pair, [a, b] if a.rank != b.rank));
            roster.numbers.insert(id.clone(), number(no));
            roster.slots.push(slot);
        }
        for (no, team) in roster.teams.iter_mut().enumerate() {
            team.skilled.sort_unstable();
            let seats = team.members.iter().filter_map(|member| roster.slots.get(*member as usize));
            let mut tiers =
                seats.flat_map(|slot| &slot.seats).filter(|seat| seat.team == number(no)).map(|seat| seat.tier);
            let first = tiers.next();
            team.one_tier = tiers.all(|tier| Some(tier) == first);
        }
        roster
    }

    pub(crate) fn slot(&self, no: AgentNo) -> Option<&Slot> {
        self.slots.get(no as usize)
    }

    /// The capacity of an agent, and that for interruptible work; nothing of one who is not in it.
    pub(crate) fn capacities(&self, no: Option<AgentNo>) -> (u32, u32) {
        let slot = no.and_then(|no| self.slot(no));
        slot.map_or((0, 0), |slot| (slot.capacity, slot.interruptible_capacity))
    }

    /// A team of several; not of one agent alone.
    pub(crate) fn team(&self, no: TeamNo) -> Option<&Team> {
        self.teams.get(no as usize)
    }

    /// The agent that is a team alone.
    fn alone_agent(&self, team: TeamNo) -> Option<AgentNo> {
        team.checked_sub(self.alone).filter(|no| (*no as usize) < self.slots.len())
    }

    pub(crate) fn group(&self, name: &str) -> Option<TeamNo> {
        self.groups.get(name).copied()
    }

    /// The team of one agent alone.
    pub(crate) fn alone(&self, agent: &AgentId) -> Option<TeamNo> {
        self.numbers.get(agent).map(|no| self.alone + no)
    }

    /// The level of an agent's skill; 0: none.
    pub(crate) fn level(&self, agent: AgentNo, skill: SkillNo) -> Level {
        self.levels.get(agent as usize * self.skills.len() + skill as usize).copied().unwrap_or(0)
    }

    /// How many of a team have a skill at a level or above, whether or not they are there.
    pub(crate) fn how_many(&self, team: TeamNo, skill: SkillNo, level: Level) -> usize {
        match self.alone_agent(team) {
            Some(no) => usize::from(self.level(no, skill) >= level),
            None => self.team(team).map_or(0, |team| team.with_skill(skill, level).len()),
        }
    }

    /// Those of a team who have a skill at a level or above, the highest level first, whether or not they are
    /// there.
    pub(crate) fn with_skill(&self, team: TeamNo, skill: SkillNo, level: Level) -> impl Iterator<Item = AgentNo> {
        let alone = self.alone_agent(team).filter(|no| self.level(*no, skill) >= level);
        let several = self.team(team).map_or(&[][..], |team| team.with_skill(skill, level));
        alone.into_iter().chain(several.iter().map(|(_, _, no)| *no))
    }

    /// The members of a team that may be offered something.
    pub(crate) fn ready(&self, team: TeamNo) -> impl Iterator<Item = AgentNo> {
        let ready = |no: &AgentNo| self.slot(*no).is_some_and(|slot| slot.live.ready);
        let several = self.team(team).into_iter().flat_map(|team| &team.ready);
        self.alone_agent(team).filter(ready).into_iter().chain(several.map(|rank| rank.agent))
    }

    /// How many they are.
    pub(crate) fn count_ready(&self, team: TeamNo) -> usize {
        self.team(team).map_or(1, |team| team.ready.len())
    }

    /// The members of a team who are signed in.
    pub(crate) fn signed_in(&self, team: TeamNo) -> impl Iterator<Item = AgentNo> {
        let several = self.team(team).filter(|team| team.signed_in > 0).into_iter().flat_map(|team| &team.members);
        let all = self.alone_agent(team).into_iter().chain(several.copied());
        all.filter(|no| self.slot(*no).is_some_and(|slot| slot.live.signed_in))
    }

    fn rank(&self, live: &Live, seat: Seat, no: AgentNo) -> Rank {
        let strategy = self.team(seat.team).map(|team| team.strategy).unwrap_or_default();
        Rank {
            tier: seat.tier,
            key: live.standing.key(strategy),
            idle: live.standing.last_assigned,
            offers: live.standing.offers,
            agent: no,
        }
    }

    /// Puts an agent where it belongs; returns whether something may fit now that did not before.
    pub(crate) fn update(&mut self, no: AgentNo, after: Live) -> bool {
        let Some(slot) = self.slots.get_mut(no as usize) else { return false };
        let before = std::mem::replace(&mut slot.live, after);
        if before == after {
            return false;
        }
        let seats = slot.seats.len();
        if before.ready != after.ready || before.standing != after.standing {
            for n in 0..seats {
                let Some(seat) = self.slots.get(no as usize).and_then(|slot| slot.seats.get(n)).copied() else { break };
                let (old, new) = (self.rank(&before, seat, no), self.rank(&after, seat, no));
                let Some(team) = self.teams.get_mut(seat.team as usize) else { continue };
                if before.ready {
                    team.ready.remove(&old);
                }
                if after.ready {
                    team.ready.insert(new);
                }
            }
        }
        if (before.signed_in, before.takes) != (after.signed_in, after.takes)
            && let Some(slot) = self.slots.get(no as usize)
        {
            let places = u64::from(slot.capacity / USUAL_WEIGHT);
            for seat in &slot.seats {
                let Some(team) = self.teams.get_mut(seat.team as usize) else { continue };
                let (was, is) = (before.signed_in && before.takes, after.signed_in && after.takes);
                team.signed_in = team.signed_in + u32::from(after.signed_in) - u32::from(before.signed_in);
                team.places = team.places + u64::from(is) * places - u64::from(was) * places;
            }
        }
        after.ready
            && (!before.ready
                || after.primary < before.primary
                || after.interruptible < before.interruptible
                || after.items < before.items)
    }
}
