//! The waiting conversations as matching sees them: in classes, found by the skills that they ask for.
//!
//! A *class* is what asks the same of an agent: whoever may take one of it may take all of it. It is
//! entered with every team that its step asks, under as few skills as everybody has one of who satisfies
//! the step (its cover), so that a freed agent looks only where it has a chance. Under each, classes stand
//! in the order of their first items, apart by queue and by how near the end of the service level is:
//! within one such list the order does not move with time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::event::Requirement;
use contract::policy::{Expr, Level, Step};
use contract::{AgentId, ChannelKind, ConversationId, QueueId, SmolStr, Timestamp};

use crate::conversation::Conversation;
use crate::order::{ItemKey, Line, Nearness, Precedence};
use crate::roster::{AgentNo, Roster, SkillNo, TeamNo};

/// The place of a class.
pub(crate) type ClassNo = u32;

/// What is the same of all items of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassKey {
    pub(crate) queue: QueueId,
    pub(crate) requirement: Arc<Requirement>,
    pub(crate) step: u32,
    pub(crate) weight: u32,
    pub(crate) interruptible: bool,
    pub(crate) kind: ChannelKind,
    pub(crate) labels: BTreeSet<SmolStr>,
    pub(crate) direct: Option<AgentId>,
}

impl PartialOrd for ClassKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ClassKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // Requirements that are equal are nearly always the same one, since rules hand out theirs; comparing them
        // part by part took most of an arrival.
        let same = Arc::ptr_eq(&self.requirement, &other.requirement);
        let requirement = || if same { Ordering::Equal } else { self.requirement.cmp(&other.requirement) };
        (self.step, self.weight, self.interruptible)
            .cmp(&(other.step, other.weight, other.interruptible))
            .then_with(|| self.queue.cmp(&other.queue))
            .then_with(|| self.kind.cmp(&other.kind))
            .then_with(|| self.labels.cmp(&other.labels))
            .then_with(|| self.direct.cmp(&other.direct))
            .then_with(requirement)
    }
}

impl ClassKey {
    pub(crate) fn of(item: &Conversation) -> Option<Self> {
        Some(Self {
            queue: item.queue.clone()?,
            requirement: Arc::clone(&item.requirement),
            step: item.step,
            weight: item.terms.weight,
            interruptible: item.interruptible,
            kind: item.kind.clone(),
            labels: item.terms.labels.clone(),
            direct: item.direct.clone(),
        })
    }
}

/// A condition, with skills as numbers where it can be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Test {
    /// Skills with their least and highest levels, all of which must hold.
    pub(crate) skills: Vec<(SkillNo, Level, Level)>,
    /// What else must hold.
    pub(crate) rest: Vec<Expr>,
    /// Nobody can pass: a skill is asked for that nobody has.
    pub(crate) never: bool,
}

impl Test {
    fn of(expr: &Expr, roster: &Roster) -> Self {
        let mut test = Self::default();
        test.add(expr, roster);
        test
    }

    fn add(&mut self, expr: &Expr, roster: &Roster) {
        match expr {
            Expr::All(parts) => parts.iter().for_each(|part| self.add(part, roster)),
            Expr::Skill(skill) => match roster.skills.get(&skill.skill) {
                Some(no) => self.skills.push((*no, skill.min, skill.max)),
                // Who does not have it has level 0.
                None => self.never |= skill.min > 0,
            },
            other => self.rest.push(other.clone()),
        }
    }

    /// Whether it holds of an agent.
    pub(crate) fn holds(&self, no: AgentNo, roster: &Roster, id: &AgentId, policy: &contract::policy::Policy) -> bool {
        !self.never
            && self.skills.iter().all(|(skill, min, max)| (*min..=*max).contains(&roster.level(no, *skill)))
            && (self.rest.is_empty() || {
                let spec = policy.agents.get(id);
                spec.is_some_and(|spec| self.rest.iter().all(|expr| policy::expr::holds(expr, spec)))
            })
    }
}

/// What asks the same of an agent.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    pub(crate) key: Arc<ClassKey>,
    /// The team of its queue.
    pub(crate) home: TeamNo,
    /// Everybody who is asked, as teams.
    pub(crate) teams: Vec<TeamNo>,
    pub(crate) must: Test,
    pub(crate) prefer: Vec<(Test, u32)>,
    /// The skills that count for the mean level, where that counts.
    pub(crate) counted: Vec<SkillNo>,
    pub(crate) tier_max: Option<u8>,
    /// There are caps or channels that exclude each other: room is not all.
    pub(crate) capped: bool,
    cover: Option<Vec<(SkillNo, Level)>>,
    line: Line,
    /// By nearness.
    items: [BTreeSet<ItemKey>; 3],
}

impl Class {
    /// What an item asks, whether or not it waits.
    pub(crate) fn probe(item: &Conversation, policy: &contract::policy::Policy, roster: &Roster) -> Option<Self> {
        Self::of(Arc::new(ClassKey::of(item)?), policy, roster)
    }

    fn of(key: Arc<ClassKey>, policy: &contract::policy::Policy, roster: &Roster) -> Option<Self> {
        let queue = policy.queues.get(&key.queue)?;
        let step: &Step = key.requirement.step(key.step as usize)?;
        let home = *roster.queues.get(&key.queue)?;
        let mut teams = Vec::with_capacity(1);
        if !step.pool.only {
            teams.push(home);
        }
        teams.extend(step.pool.queues.iter().filter_map(|queue| roster.queues.get(queue)));
        teams.extend(step.pool.groups.iter().filter_map(|group| roster.group(group)));
        teams.extend(step.pool.agents.iter().chain(&key.direct).filter_map(|agent| roster.alone(agent)));
        teams.sort_unstable();
        teams.dedup();
        let number = |skill: &contract::SkillId| roster.skills.get(skill).copied();
        let cost = |skill: &contract::SkillId, level: Level| {
            number(skill).map_or(0, |no| teams.iter().map(|team| roster.how_many(*team, no, level)).sum())
        };
        let cover = policy::expr::cover(&step.must, &cost);
        let cover =
            cover.map(|cover| cover.iter().filter_map(|(skill, level)| Some((number(skill)?, *level))).collect());
        let counted = if queue.best_skilled {
            policy::expr::required_skills(&step.must).iter().filter_map(|(skill, _)| number(skill)).collect()
        } else {
            Vec::new()
        };
        let channel = policy.channel(&key.kind);
        let capped = channel.cap.is_some() || !key.labels.is_empty() || roster.caps;
        Some(Self {
            home,
            teams,
            must: Test::of(&step.must, roster),
            prefer: step.prefer.iter().map(|prefer| (Test::of(&prefer.when, roster), prefer.weight)).collect(),
            counted,
            tier_max: step.pool.tier_max,
            capped,
            cover,
            line: Line::of(queue),
            items: Default::default(),
            key,
        })
    }

    /// How many of its teams have one of the skills of its cover; `None`: it has none.
    pub(crate) fn cover_size(&self, roster: &Roster) -> Option<usize> {
        let of = |(skill, level): &(SkillNo, Level)| -> usize {
            self.teams.iter().map(|team| roster.how_many(*team, *skill, *level)).sum()
        };
        self.cover.as_ref().map(|cover| cover.iter().map(of).sum())
    }

    /// Those of its teams who have one of the skills of its cover; some of them perhaps twice.
    pub(crate) fn covered<'a>(&'a self, roster: &'a Roster) -> impl Iterator<Item = AgentNo> + 'a {
        let cover = self.cover.iter().flatten();
        cover.flat_map(move |(skill, level)| {
            self.teams.iter().flat_map(move |team| roster.with_skill(*team, *skill, *level))
        })
    }

    /// Its candidates by level, the highest first, where nothing goes before the level: one skill counts, nobody is
    /// preferred, and all members are of one tier.
    pub(crate) fn by_level<'a>(&'a self, roster: &'a Roster) -> Option<impl Iterator<Item = (AgentNo, Level)> + 'a> {
        match (self.counted.as_slice(), self.cover.as_deref(), self.teams.as_slice()) {
            ([counted], Some([(skill, level)]), [team])
                if counted == skill
                    && self.prefer.is_empty()
                    && *team == self.home
                    && roster.team(*team).is_some_and(|team| team.one_tier) =>
            {
                let all = roster.with_skill(*team, *skill, *level);
                Some(all.map(|no| (no, roster.level(no, *skill))))
            }
            _ => None,
        }
    }

    /// Whether anybody who is signed in could ever take it, whatever they hold.
    pub(crate) fn somebody_could(&self, policy: &contract::policy::Policy, roster: &Roster) -> bool {
        let could = |no: AgentNo| {
            roster.slot(no).is_some_and(|slot| {
                slot.live.signed_in && self.must.holds(no, roster, &slot.id, policy) && self.seat(&slot.seats).is_some()
            })
        };
        match &self.cover {
            Some(_) => self.covered(roster).any(could),
            None => self.teams.iter().flat_map(|team| roster.signed_in(*team)).any(could),
        }
    }

    /// Its items in the order of their queue, apart by nearness.
    pub(crate) fn items(&self) -> impl Iterator<Item = &ItemKey> {
        self.items.iter().flatten()
    }

    /// Where an agent belongs to its teams: the best tier and rank, and the shortest delay, of all seats that
    /// the step asks.
    pub(crate) fn seat(&self, seats: &[crate::roster::Seat]) -> Option<Place> {
        let mut place: Option<Place> = None;
        for seat in seats.iter().filter(|seat| self.teams.contains(&seat.team)) {
            if seat.team == self.home && self.tier_max.is_some_and(|max| seat.tier > max) {
                continue;
            }
            let place = place.get_or_insert(Place { tier: seat.tier, rank: seat.rank, delay_ms: seat.delay_ms });
            place.tier = place.tier.min(seat.tier);
            place.rank = place.rank.min(seat.rank);
            place.delay_ms = place.delay_ms.min(seat.delay_ms);
        }
        place
    }
}

/// How an agent stands to a class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) tier: u8,
    pub(crate) rank: u8,
    pub(crate) delay_ms: u64,
}

/// Where a list of classes is found: the team that is asked, the skill and level (0: none), the queue, the
/// nearness.
type ListKey = (TeamNo, u32, TeamNo, Nearness);

/// A skill at a level, as a number whose order is first that of skills.
const fn pivot(skill: SkillNo, level: Level) -> u32 {
    (skill + 1) << 8 | level as u32
}

/// The waiting conversations as matching sees them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    classes: Vec<Option<Class>>,
    vacant: Vec<ClassNo>,
    by_key: BTreeMap<Arc<ClassKey>, ClassNo>,
    lists: BTreeMap<ListKey, BTreeSet<(ItemKey, ClassNo)>>,
    places: BTreeMap<ConversationId, (ClassNo, Nearness, ItemKey)>,
    /// When the nearness of items changes.
    changes: BTreeSet<(Timestamp, ConversationId)>,
    /// How many wait, by queue.
    pub(crate) counts: BTreeMap<QueueId, u32>,
}

impl Waiting {
    pub(crate) fn class(&self, no: ClassNo) -> Option<&Class> {
        self.classes.get(no as usize)?.as_ref()
    }

    pub(crate) fn class_of(&self, id: ConversationId) -> Option<&Class> {
        self.class(self.places.get(&id)?.0)
    }

    /// The class of what asks the same, if anything of it waits.
    pub(crate) fn find(&self, key: &ClassKey) -> Option<&Class> {
        self.class(*self.by_key.get(key)?)
    }

    pub(crate) fn contains(&self, id: ConversationId) -> bool {
        self.places.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter().flatten()
    }

    /// The place of a waiting conversation among all.
    pub(crate) fn precedence(&self, id: ConversationId, now: Timestamp) -> Option<Precedence> {
        let (no, nearness, key) = self.places.get(&id)?;
        Some(self.class(*no)?.line.precedence(*nearness, key, now))
    }

    /// Enters an item; says what all of its class ask.
    pub(crate) fn insert(
        &mut self,
        id: ConversationId,
        item: &Conversation,
        policy: &contract::policy::Policy,
        roster: &Roster,
        now: Timestamp,
    ) -> Option<Arc<Requirement>> {
        let key = ClassKey::of(item)?;
        let no = match self.by_key.get(&key) {
            Some(no) => *no,
            None => {
                let key = Arc::new(key);
                let class = Class::of(Arc::clone(&key), policy, roster)?;
                let no = match self.vacant.pop() {
                    Some(no) => no,
                    None => {
                        self.classes.push(None);
                        u32::try_from(self.classes.len() - 1).unwrap_or(u32::MAX)
                    }
                };
                if let Some(place) = self.classes.get_mut(no as usize) {
                    *place = Some(class);
                }
                self.by_key.insert(key, no);
                no
            }
        };
        let class = self.classes.get(no as usize).and_then(Option::as_ref)?;
        let requirement = Arc::clone(&class.key.requirement);
        let (nearness, place) = class.line.place(id, item, now);
        let change = class.line.next_change(item.due_at, now);
        *self.counts.entry(class.key.queue.clone()).or_default() += 1;
        self.changes.extend(change.map(|at| (at, id)));
        self.places.insert(id, (no, nearness, place));
        self.change_class(no, nearness, |items| {
            items.insert(place);
        });
        Some(requirement)
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, id: ConversationId, due: Option<Timestamp>) {
        let Some((no, nearness, place)) = self.places.remove(&id) else { return };
        let Some(class) = self.classes.get(no as usize).and_then(Option::as_ref) else { return };
        let window_began = match nearness {
            Nearness::Far => due.and_then(|due| class.line.next_change(Some(due), Timestamp(0))),
            Nearness::Near => due,
            Nearness::Over => None,
        };
        if let Some(count) = self.counts.get_mut(&class.key.queue) {
            *count = count.saturating_sub(1);
        }
        if let Some(at) = window_began {
            self.changes.remove(&(at, id));
        }
        self.change_class(no, nearness, |items| {
            items.remove(&place);
        });
        let class = self.class(no).filter(|class| class.items.iter().all(BTreeSet::is_empty));
        if let Some(key) = class.map(|class| Arc::clone(&class.key)) {
            self.by_key.remove(&key);
            if let Some(place) = self.classes.get_mut(no as usize) {
                *place = None;
            }
            self.vacant.push(no);
        }
    }

    /// Moves the items whose nearness has changed.
    pub(crate) fn advance(&mut self, now: Timestamp, items: &BTreeMap<ConversationId, Box<Conversation>>) {
        while let Some((at, id)) = self.changes.first().copied().filter(|(at, _)| *at <= now) {
            self.changes.remove(&(at, id));
            let (Some((no, before, place)), Some(item)) = (self.places.get(&id).copied(), items.get(&id)) else {
                continue;
            };
            let Some(class) = self.class(no) else { continue };
            let (after, new) = class.line.place(id, item, now);
            let change = class.line.next_change(item.due_at, now);
            self.changes.extend(change.map(|at| (at, id)));
            self.places.insert(id, (no, after, new));
            self.change_class(no, before, |items| {
                items.remove(&place);
            });
            self.change_class(no, after, |items| {
                items.insert(new);
            });
        }
    }

    /// Changes the items of a class, and its place in the lists when its first item is another then.
    fn change_class(&mut self, no: ClassNo, nearness: Nearness, change: impl FnOnce(&mut BTreeSet<ItemKey>)) {
        let Some(class) = self.classes.get_mut(no as usize).and_then(Option::as_mut) else { return };
        let Some(items) = class.items.get_mut(nearness as usize) else { return };
        let before = items.first().copied();
        change(items);
        let after = items.first().copied();
        if before == after {
            return;
        }
        let covers: Vec<u32> = match &class.cover {
            Some(cover) => cover.iter().map(|(skill, level)| pivot(*skill, *level)).collect(),
            None => vec![0],
        };
        for team in &class.teams {
            for cover in &covers {
                let key = (*team, *cover, class.home, nearness);
                let list = self.lists.entry(key).or_default();
                if let Some(before) = before {
                    list.remove(&(before, no));
                }
                if let Some(after) = after {
                    list.insert((after, no));
                }
                if list.is_empty() {
                    self.lists.remove(&key);
                }
            }
        }
    }

    /// The lists in which an agent's chances are, of its teams with a rank, best rank first.
    fn lists_of<'a>(
        &'a self,
        slot: &'a crate::roster::Slot,
        rank: u8,
    ) -> impl Iterator<Item = (&'a ListKey, &'a BTreeSet<(ItemKey, ClassNo)>)> {
        let teams = slot.seats.iter().filter(move |seat| seat.rank == rank).map(|seat| seat.team);
        teams.flat_map(move |team| {
            let open = self.lists.range((team, 0, 0, Nearness::Far)..(team, 1, 0, Nearness::Far));
            let skills = slot.skills.iter().flat_map(move |(skill, level)| {
                let from = (team, pivot(*skill, 1), 0, Nearness::Far);
                self.lists.range(from..(team, pivot(*skill, *level) + 1, 0, Nearness::Far))
            });
            open.chain(skills)
        })
    }

    /// The classes that an agent could take something of, by the skills they are found under.
    pub(crate) fn classes_for(&self, slot: &crate::roster::Slot) -> BTreeSet<ClassNo> {
        let mut ranks: Vec<u8> = slot.seats.iter().map(|seat| seat.rank).collect();
        ranks.dedup();
        let lists = ranks.into_iter().flat_map(|rank| self.lists_of(slot, rank));
        lists.flat_map(|(_, list)| list).map(|(_, no)| *no).collect()
    }

    /// The first item that an agent may take: by the rank of its teams, then by precedence. `fits` says
    /// whether the agent may take what a class asks, and how it stands to it; `takes` whether it may take this
    /// item of it.
    pub(crate) fn first_for(
        &self,
        slot: &crate::roster::Slot,
        now: Timestamp,
        is_open: impl Fn(TeamNo) -> bool,
        fits: impl Fn(&Class) -> Option<Place>,
        takes: impl Fn(Place, &ItemKey) -> bool,
    ) -> Option<Precedence> {
        let mut ranks: Vec<u8> = slot.seats.iter().map(|seat| seat.rank).collect();
        ranks.dedup();
        ranks.into_iter().find_map(|rank| {
            // The heads of the lists, smallest first; each list gives its next one when it is taken.
            let mut heads = std::collections::BinaryHeap::new();
            let mut rest: Vec<(Nearness, std::collections::btree_set::Iter<'_, (ItemKey, ClassNo)>)> = Vec::new();
            let head = |rest: &mut Vec<(Nearness, std::collections::btree_set::Iter<'_, (ItemKey, ClassNo)>)>,
                        n: usize| {
                let (nearness, list) = rest.get_mut(n)?;
                let (key, no) = list.next()?;
                let precedence = self.class(*no)?.line.precedence(*nearness, key, now);
                Some(std::cmp::Reverse((precedence, *no, n)))
            };
            for ((_, _, home, nearness), list) in self.lists_of(slot, rank) {
                if is_open(*home) {
                    rest.push((*nearness, list.iter()));
                    let newest = rest.len() - 1;
                    heads.extend(head(&mut rest, newest));
                }
            }
            let mut best: Option<Precedence> = None;
            while let Some(std::cmp::Reverse((precedence, no, n))) = heads.pop() {
                if best.is_some_and(|best| precedence >= best) {
                    break;
                }
                heads.extend(head(&mut rest, n));
                let (Some(class), Some((nearness, _))) = (self.class(no), rest.get(n)) else { continue };
                // A class is found by every seat that its teams have, and counts by the best of those that
                // are asked.
                let Some(place) = fits(class).filter(|place| place.rank == rank) else { continue };
                let Some(items) = class.items.get(*nearness as usize) else { continue };
                if let Some(item) = items.iter().find(|item| takes(place, item)) {
                    let found = class.line.precedence(*nearness, item, now);
                    best = Some(best.map_or(found, |best| best.min(found)));
                }
            }
            best
        })
    }
}
