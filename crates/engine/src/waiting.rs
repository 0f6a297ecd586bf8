//! The waiting conversations as matching sees them: in classes, found by the skills that they ask for.
//!
//! A *class* is what asks the same of an agent: whoever may take one of it may take all of it. It is
//! entered with every team that its step asks, under as few skills as everybody has one of who satisfies
//! the step (its cover), so that a freed agent looks only where it has a chance. Under each, classes stand
//! in the order of their first items, apart by queue and by how near the end of the service level is:
//! within one such list the order does not move with time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use contract::event::Requirement;
use contract::policy::{Expr, Level, Step};
use contract::{AgentId, ChannelKind, ConversationId, QueueId, SmolStr, Timestamp};

use crate::conversation::Conversation;
use crate::order::{ItemKey, Line, Nearness, Precedence};
use crate::roster::{AgentNo, Roster, SkillNo, TeamNo};

/// The place of a class.
pub(crate) type ClassNo = u32;

/// So many classes of which nothing waits are kept: what asks the same often comes again soon, and what follows from a
/// requirement is dear to find out.
const EMPTY_MAX: usize = 256;

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
            direct: item.direct.as_deref().cloned(),
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

    /// Whether it holds of an agent as far as skills go; the rest of it is dearer to find out.
    pub(crate) fn skilled(&self, no: AgentNo, roster: &Roster) -> bool {
        !self.never && self.skills.iter().all(|(skill, min, max)| (*min..=*max).contains(&roster.level(no, *skill)))
    }

    /// Whether it holds of an agent.
    pub(crate) fn holds(&self, no: AgentNo, roster: &Roster, id: &AgentId, policy: &contract::policy::Policy) -> bool {
        self.skilled(no, roster)
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
    /// How many of its teams have one of the skills of its cover; `None`: it has none.
    pub(crate) cover_size: Option<usize>,
    /// About how many of its queue there are, in thousandths, for each who has all the skills.
    pub(crate) rarity: usize,
    /// Under what it is found: the skills of its cover, or nothing.
    pivots: Vec<u32>,
    /// The different delays of those who are asked, smallest first, without 0.
    delays: Vec<u64>,
    line: Line,
    /// By nearness.
    items: [Items; 3],
    /// It stands among those of which nothing waits, or did when it was put there.
    resting: bool,
}

/// The items of a class in the order of their queue, apart by how many of the delays of those who are asked they have
/// reached: who is asked late finds what is old enough without walking past what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Items(Vec<BTreeSet<ItemKey>>);

impl Items {
    fn first(&self) -> Option<ItemKey> {
        self.0.iter().filter_map(BTreeSet::first).min().copied()
    }

    /// The first that has reached so many delays and fits.
    fn first_of(&self, reached: usize, fits: impl Fn(&ItemKey) -> bool) -> Option<&ItemKey> {
        let old = self.0.get(reached..).unwrap_or_default();
        old.iter().filter_map(|items| items.iter().find(|item| fits(item))).min()
    }

    fn insert(&mut self, reached: u16, item: ItemKey) {
        let reached = usize::from(reached);
        if self.0.len() <= reached {
            self.0.resize_with(reached + 1, BTreeSet::new);
        }
        if let Some(items) = self.0.get_mut(reached) {
            items.insert(item);
        }
    }

    fn remove(&mut self, reached: u16, item: &ItemKey) {
        if let Some(items) = self.0.get_mut(usize::from(reached)) {
            items.remove(item);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(BTreeSet::is_empty)
    }
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
        let cover: Option<Vec<(SkillNo, Level)>> =
            cover.map(|cover| cover.iter().filter_map(|(skill, level)| Some((number(skill)?, *level))).collect());
        let have = |(skill, level): &(SkillNo, Level)| -> usize {
            teams.iter().map(|team| roster.how_many(*team, *skill, *level)).sum()
        };
        let cover_size = cover.as_ref().map(|cover| cover.iter().map(have).sum());
        let pivots = match &cover {
            Some(cover) => cover.iter().map(|(skill, level)| pivot(*skill, *level)).collect(),
            None => vec![0],
        };
        let must = Test::of(&step.must, roster);
        // As if who has the one skill had the others no more often than anybody.
        let members = roster.team(home).map_or(0, |team| team.members.len());
        let rarity = must.skills.iter().fold(1000_usize, |rarity, (skill, level, _)| {
            rarity.saturating_mul(members) / roster.how_many(home, *skill, *level).max(1)
        });
        let mut delays: Vec<u64> =
            teams.iter().filter_map(|team| roster.team(*team)).flat_map(|team| &team.delays).copied().collect();
        delays.sort_unstable();
        delays.dedup();
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
            must,
            prefer: step.prefer.iter().map(|prefer| (Test::of(&prefer.when, roster), prefer.weight)).collect(),
            counted,
            tier_max: step.pool.tier_max,
            capped,
            cover,
            cover_size,
            rarity,
            pivots,
            delays,
            line: Line::of(queue),
            items: Default::default(),
            resting: false,
            key,
        })
    }

    /// How many of its delays a wait has reached.
    fn reached(&self, wait: u64) -> u16 {
        u16::try_from(self.delays.partition_point(|delay| *delay <= wait)).unwrap_or(u16::MAX)
    }

    fn is_empty(&self) -> bool {
        self.items.iter().all(Items::is_empty)
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

    /// Its items.
    pub(crate) fn items(&self) -> impl Iterator<Item = &ItemKey> {
        self.items.iter().flat_map(|items| &items.0).flatten()
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

/// Where a list of classes is found among those of the team that is asked: the skill and level (0: none), the queue,
/// the nearness.
type ListKey = (u32, TeamNo, Nearness);
/// The classes that ask a team.
type Lists = BTreeMap<ListKey, BTreeSet<(ItemKey, ClassNo)>>;

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    class: ClassNo,
    /// How many of the delays of its class it has reached.
    reached: u16,
    nearness: Nearness,
    value: i64,
    due: Timestamp,
    ready_at: Timestamp,
}

impl Spot {
    fn new(class: ClassNo, reached: u16, nearness: Nearness, key: ItemKey) -> Self {
        let ItemKey { value, due, ready_at, conversation: _ } = key;
        Self { class, reached, nearness, value, due, ready_at }
    }

    fn key(&self, conversation: ConversationId) -> ItemKey {
        ItemKey { value: self.value, due: self.due, ready_at: self.ready_at, conversation }
    }
}

/// A skill at a level, as a number whose order is first that of skills.
const fn pivot(skill: SkillNo, level: Level) -> u32 {
    (skill + 1) << 8 | level as u32
}

type Key = Option<Arc<ClassKey>>;

/// What waits, to be compared.
#[derive(Debug, PartialEq)]
pub(crate) struct Listed {
    places: BTreeMap<ConversationId, (Key, Spot)>,
    lists: BTreeMap<(TeamNo, ListKey), Vec<(ItemKey, Key)>>,
    items: BTreeMap<Arc<ClassKey>, BTreeSet<ItemKey>>,
    changes: BTreeSet<(Timestamp, ConversationId)>,
}

/// The waiting conversations as matching sees them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    classes: Vec<Option<Class>>,
    vacant: Vec<ClassNo>,
    by_key: BTreeMap<Arc<ClassKey>, ClassNo>,
    /// Those of which nothing waits, the longest so first; some of them perhaps in use again.
    empty: VecDeque<ClassNo>,
    lists: BTreeMap<TeamNo, Lists>,
    places: BTreeMap<ConversationId, Spot>,
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
        self.class(self.places.get(&id)?.class)
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

    /// What waits, by class.
    pub(crate) fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.iter().flatten().filter(|class| !class.is_empty())
    }

    /// The place of a waiting conversation among all.
    pub(crate) fn precedence(&self, id: ConversationId, now: Timestamp) -> Option<Precedence> {
        let spot = self.places.get(&id)?;
        Some(self.class(spot.class)?.line.precedence(spot.nearness, &spot.key(id), now))
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
        let (nearness, key) = class.line.place(id, item, now);
        let change = class.line.next_change(item.due_at, now);
        match self.counts.get_mut(&class.key.queue) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(class.key.queue.clone(), 1)),
        }
        self.changes.extend(change.map(|at| (at, id)));
        let reached = class.reached(item.reached.0);
        self.places.insert(id, Spot::new(no, reached, nearness, key));
        self.change_items(no, nearness, |items| items.insert(reached, key));
        Some(requirement)
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, id: ConversationId, due: Option<Timestamp>) {
        let Some(spot) = self.places.remove(&id) else { return };
        let Spot { class: no, reached, nearness, .. } = spot;
        let key = spot.key(id);
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
        self.change_items(no, nearness, |items| items.remove(reached, &key));
        self.rest(no);
    }

    /// A class of which nothing waits any more is kept for a while; the one that has been so longest is forgotten.
    fn rest(&mut self, no: ClassNo) {
        let class = self.classes.get_mut(no as usize).and_then(Option::as_mut);
        let Some(class) = class.filter(|class| !class.resting && class.is_empty()) else { return };
        class.resting = true;
        self.empty.push_back(no);
        if self.empty.len() <= EMPTY_MAX {
            return;
        }
        let Some(oldest) = self.empty.pop_front() else { return };
        let Some(place) = self.classes.get_mut(oldest as usize) else { return };
        match place {
            Some(class) if class.is_empty() => {
                self.by_key.remove(&class.key);
                *place = None;
                self.vacant.push(oldest);
            }
            Some(class) => class.resting = false,
            None => {}
        }
    }

    /// Moves the items whose nearness has changed.
    pub(crate) fn advance(&mut self, now: Timestamp, items: &BTreeMap<ConversationId, Box<Conversation>>) {
        while let Some((at, id)) = self.changes.first().copied().filter(|(at, _)| *at <= now) {
            self.changes.remove(&(at, id));
            let (Some(before), Some(item)) = (self.places.get(&id).copied(), items.get(&id)) else { continue };
            let Some(class) = self.class(before.class) else { continue };
            let (nearness, key) = class.line.place(id, item, now);
            let change = class.line.next_change(item.due_at, now);
            self.changes.extend(change.map(|at| (at, id)));
            self.places.insert(id, Spot::new(before.class, before.reached, nearness, key));
            self.change_items(before.class, before.nearness, |items| items.remove(before.reached, &before.key(id)));
            self.change_items(before.class, nearness, |items| items.insert(before.reached, key));
        }
    }

    /// Changes the items of a class, and its place in the lists when its first item is another then.
    fn change_items(&mut self, no: ClassNo, nearness: Nearness, change: impl FnOnce(&mut Items)) {
        let Some(class) = self.classes.get_mut(no as usize).and_then(Option::as_mut) else { return };
        let Some(items) = class.items.get_mut(nearness as usize) else { return };
        let before = items.first();
        change(items);
        let after = items.first();
        if before == after {
            return;
        }
        for team in &class.teams {
            let lists = self.lists.entry(*team).or_default();
            for pivot in &class.pivots {
                let key = (*pivot, class.home, nearness);
                let list = lists.entry(key).or_default();
                if let Some(before) = before {
                    list.remove(&(before, no));
                }
                if let Some(after) = after {
                    list.insert((after, no));
                }
                if list.is_empty() {
                    lists.remove(&key);
                }
            }
            if lists.is_empty() {
                self.lists.remove(team);
            }
        }
    }

    /// How many wait in each queue where anything does.
    pub(crate) fn queued(&self) -> BTreeMap<&QueueId, u32> {
        self.counts.iter().filter(|(_, count)| **count > 0).map(|(queue, count)| (queue, *count)).collect()
    }

    /// Everything at a moment, whatever the classes are numbered: what waits where, and which lists say so.
    pub(crate) fn at(&self, now: Timestamp, conversations: &BTreeMap<ConversationId, Box<Conversation>>) -> Listed {
        let mut waiting = self.clone();
        waiting.advance(now, conversations);
        let key = |no: ClassNo| waiting.class(no).map(|class| Arc::clone(&class.key));
        let places = waiting.places.iter().map(|(id, spot)| (*id, (key(spot.class), Spot { class: 0, ..*spot })));
        let lists = waiting.lists.iter().flat_map(|(team, lists)| {
            lists.iter().map(|(list, items)| {
                ((*team, *list), items.iter().map(|(item, no)| (*item, key(*no))).collect::<Vec<_>>())
            })
        });
        let items = waiting.classes().map(|class| (Arc::clone(&class.key), class.items().copied().collect()));
        Listed {
            places: places.collect(),
            lists: lists.collect(),
            items: items.collect(),
            changes: waiting.changes.clone(),
        }
    }

    /// The lists in which an agent's chances are, of its teams with a rank, best rank first.
    fn lists_of<'a>(
        &'a self,
        slot: &'a crate::roster::Slot,
        rank: u8,
    ) -> impl Iterator<Item = (&'a ListKey, &'a BTreeSet<(ItemKey, ClassNo)>)> {
        let teams = slot.seats.iter().filter(move |seat| seat.rank == rank);
        teams.filter_map(|seat| self.lists.get(&seat.team)).flat_map(move |lists| {
            let open = lists.range((0, 0, Nearness::Far)..(1, 0, Nearness::Far));
            let skills = slot.skills.iter().flat_map(move |(skill, level)| {
                lists.range((pivot(*skill, 1), 0, Nearness::Far)..(pivot(*skill, *level) + 1, 0, Nearness::Far))
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
    /// item of it, once that is old enough.
    pub(crate) fn first_for(
        &self,
        slot: &crate::roster::Slot,
        now: Timestamp,
        is_open: impl Fn(TeamNo) -> bool,
        fits: impl Fn(&Class) -> Option<Place>,
        takes: impl Fn(&ItemKey) -> bool,
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
            for ((_, home, nearness), list) in self.lists_of(slot, rank) {
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
                if let Some(item) = items.first_of(usize::from(class.reached(place.delay_ms)), &takes) {
                    let found = class.line.precedence(*nearness, item, now);
                    best = Some(best.map_or(found, |best| best.min(found)));
                }
            }
            best
        })
    }
}
