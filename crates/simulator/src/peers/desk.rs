//! Customers, agents and time for the rules of other systems.
//!
//! As in our own world: an agent reacts after the same time to the same offer, a customer who left is
//! found out after [`EMPTY`], wrap-up takes room. A system that does not ask simply assigns; the customer
//! waits until the agent looks, which one who would not have answered an offer does after [`LATE`].

use std::collections::{BTreeMap, BTreeSet};

use contract::{Millis, SmolStr, Timestamp};

use crate::company::{Company, Needs};
use crate::log::RunLog;
use crate::random::{Random, millis};
use crate::trace::{DutyKind, Trace};
use crate::world::{EMPTY, answer_chance};

/// An agent who overlooks what it was given sees it after this long.
const LATE: Millis = Millis::from_secs(120);
/// Whoever declined is not asked again for the same matter for this long.
const DECLINED: Millis = Millis::from_secs(60);

/// A matter that waits.
#[derive(Debug, Clone)]
pub struct Item {
    /// Which.
    pub case: usize,
    /// What it asks for.
    pub needs: Needs,
    /// Since when it waits.
    pub ready_at: Millis,
}

/// An agent.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its place among the agents.
    pub number: usize,
    /// Takes work.
    pub available: bool,
    /// The tool is there.
    pub here: bool,
    /// Not asked before this.
    pub rests_until: Millis,
    /// Units in use.
    pub load: u64,
    /// Matters that it holds.
    pub items: u64,
    /// When it was last given something.
    pub given_at: Millis,
    /// When it last was given or finished something.
    pub idle_since: Millis,
    /// How good it is: the sum of its levels.
    pub grade: u64,
}

/// What a system does.
pub trait Rule {
    /// What to call it.
    fn name(&self) -> &'static str;
    /// What it does.
    fn about(&self) -> &'static str;
    /// How often it looks; absent: at every change.
    fn period(&self) -> Option<Millis> {
        None
    }
    /// How many matters of a queue it deals with at a look.
    fn per_look(&self) -> usize {
        usize::MAX
    }
    /// Which matter goes first: the smallest.
    fn key(&self, item: &Item) -> (i64, u64, usize) {
        (-i64::from(item.needs.priority), item.ready_at.0, item.case)
    }
    /// How long an agent has to answer; absent: it is not asked.
    fn lease(&self, _: &Item) -> Option<Millis> {
        None
    }
    /// At first only the better half is asked; after this long everybody is.
    fn widens_after(&self) -> Option<Millis> {
        None
    }
    /// How long somebody who did not answer is left alone.
    fn rests(&self) -> Millis {
        Millis(0)
    }
    /// One of those who could take it.
    fn choose(&mut self, item: &Item, able: &[&Seat], now: Millis) -> Option<usize>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Duty(usize),
    Look,
    /// Somebody answers an offer, or it lapses.
    Answer {
        case: usize,
        seat: usize,
        answer: Answer,
    },
    /// Somebody sees what it was given.
    Attend {
        case: usize,
        seat: usize,
    },
    /// The talk is over.
    Finish {
        case: usize,
        seat: usize,
    },
    /// So is the work after it.
    Free {
        case: usize,
        seat: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Accept,
    Decline,
    Lapse,
}

struct Desk<'a, R: Rule> {
    rule: &'a mut R,
    seed: u64,
    trace: &'a Trace,
    company: &'a Company,
    log: RunLog,
    needs: Vec<Needs>,
    seats: Vec<Seat>,
    waiting: BTreeMap<usize, Item>,
    /// Who is not asked about a matter before when.
    refused: BTreeMap<(usize, usize), Millis>,
    events: BTreeSet<(Millis, u64, Event)>,
    serial: u64,
    wrap_up: Millis,
}

pub(super) fn run(rule: &mut impl Rule, seed: u64, trace: &Trace, company: &Company) -> RunLog {
    // What matters ask for depends on what they look like, not on whose they are.
    let mut known: BTreeMap<(SmolStr, Option<SmolStr>, Vec<SmolStr>), Needs> = BTreeMap::new();
    let needs = trace.arrivals.iter().map(|arrival| {
        let envelope = arrival.envelope("key", Timestamp(1));
        if arrival.recorded.is_some() {
            return company.needs(&envelope);
        }
        let looks = (arrival.channel.clone(), arrival.language.clone(), arrival.tags.clone());
        known.entry(looks).or_insert_with(|| company.needs(&envelope)).clone()
    });
    let needs = needs.collect();
    let seat = |(number, worker): (usize, &crate::Worker)| Seat {
        number,
        available: false,
        here: true,
        rests_until: Millis(0),
        load: 0,
        items: 0,
        given_at: Millis(0),
        idle_since: Millis(0),
        grade: worker.skills.values().sum(),
    };
    let log = RunLog::begin(rule.name(), trace, company);
    let mut desk = Desk {
        rule,
        seed,
        trace,
        company,
        log,
        needs,
        seats: company.workers().iter().enumerate().map(seat).collect(),
        waiting: BTreeMap::new(),
        refused: BTreeMap::new(),
        events: BTreeSet::new(),
        serial: 0,
        wrap_up: company.wrap_up(),
    };
    desk.run();
    desk.count_the_left();
    desk.log
}

impl<R: Rule> Desk<'_, R> {
    fn plan(&mut self, at: Millis, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial, event));
    }

    fn run(&mut self) {
        for (n, arrival) in self.trace.arrivals.iter().enumerate() {
            self.plan(arrival.at, Event::Arrive(n));
        }
        for (n, duty) in self.trace.duties.iter().enumerate() {
            self.plan(duty.at, Event::Duty(n));
        }
        if let Some(period) = self.rule.period() {
            // Somewhere within its period the day begins.
            let first = Random::keyed(self.seed, &[21]).below(period.0);
            self.plan(Millis(first), Event::Look);
        }
        while let Some((at, _, event)) = self.events.pop_first() {
            if at > self.trace.span {
                return;
            }
            self.act(at, event);
            if self.rule.period().is_none() {
                self.look(at);
            }
        }
    }

    fn act(&mut self, now: Millis, event: Event) {
        match event {
            Event::Arrive(case) => self.arrive(now, case),
            Event::Duty(n) => {
                let Some(duty) = self.trace.duties.get(n) else { return };
                let number = self.company.workers().iter().position(|worker| worker.agent == duty.agent);
                let Some(seat) = number.and_then(|number| self.seats.get_mut(number)) else { return };
                match duty.what {
                    DutyKind::Available => seat.available = true,
                    DutyKind::Gone => seat.here = false,
                    DutyKind::Back => seat.here = true,
                    _ => seat.available = false,
                }
                if duty.what == DutyKind::Available {
                    seat.idle_since = now;
                }
            }
            Event::Look => {
                if let Some(period) = self.rule.period() {
                    self.look(now);
                    self.plan(Millis(now.0 + period.0), Event::Look);
                }
            }
            Event::Answer { case, seat, answer } => self.answer(now, case, seat, answer),
            Event::Attend { case, seat } => self.attend(now, case, seat),
            Event::Finish { case, seat } => self.plan(Millis(now.0 + self.wrap_up.0), Event::Free { case, seat }),
            Event::Free { case, seat } => {
                if let Some(case) = self.log.cases.get_mut(case) {
                    case.end(now);
                    case.ended = Some(now);
                }
                self.release(now, case, seat);
            }
        }
    }

    fn arrive(&mut self, now: Millis, case: usize) {
        let Some(needs) = self.needs.get(case).cloned() else { return };
        if let Some(log) = self.log.cases.get_mut(case) {
            log.queue = needs.queue.clone();
            log.weight = needs.weight;
        }
        self.waiting.insert(case, Item { case, needs, ready_at: now });
        // A ring widens by itself.
        if let Some(widens) = self.rule.widens_after() {
            self.plan(Millis(now.0 + widens.0), Event::Look);
        }
    }

    /// Whether the customer has left by now.
    fn left(&self, case: usize, now: Millis) -> Option<Millis> {
        let arrival = self.trace.arrivals.get(case)?;
        let until = Millis(arrival.at.0 + arrival.patience?.0);
        (until <= now).then_some(until)
    }

    /// Whoever left and was never looked at has left all the same.
    fn count_the_left(&mut self) {
        for case in 0..self.log.cases.len() {
            let left = self.left(case, self.trace.span);
            if let Some(log) = self.log.cases.get_mut(case).filter(|log| log.answered.is_none()) {
                log.abandoned = log.abandoned.or(left);
            }
        }
    }

    /// Deals with what waits, first things first.
    fn look(&mut self, now: Millis) {
        let mut items: Vec<Item> = self.waiting.values().cloned().collect();
        items.sort_by_key(|item| self.rule.key(item));
        let mut dealt: BTreeMap<SmolStr, usize> = BTreeMap::new();
        for item in items {
            let count = dealt.entry(item.needs.queue.clone()).or_default();
            if *count >= self.rule.per_look() {
                continue;
            }
            let able = self.able(&item, now);
            let able: Vec<&Seat> = able.into_iter().filter_map(|number| self.seats.get(number)).collect();
            if let Some(seat) = self.rule.choose(&item, &able, now) {
                *count += 1;
                self.give(now, &item, seat);
            }
        }
    }

    fn able(&self, item: &Item, now: Millis) -> Vec<usize> {
        let workers = self.company.workers();
        let knows = |seat: &&Seat| workers.get(seat.number).is_some_and(|worker| worker.able(&item.needs));
        let mut members: Vec<&Seat> = self.seats.iter().filter(knows).collect();
        let inner = self.rule.widens_after().is_some_and(|widens| now.0 < item.ready_at.0 + widens.0);
        if inner {
            members.sort_by_key(|seat| (std::cmp::Reverse(seat.grade), seat.number));
            members.truncate(members.len().div_ceil(2));
        }
        let free = members.into_iter().filter(|seat| {
            let room = workers.get(seat.number).map_or(0, |worker| worker.capacity).saturating_sub(seat.load);
            let refused = self.refused.get(&(item.case, seat.number)).is_some_and(|until| *until > now);
            seat.available && seat.here && seat.rests_until <= now && room >= item.needs.weight && !refused
        });
        let mut free: Vec<usize> = free.map(|seat| seat.number).collect();
        free.sort_unstable();
        free
    }

    fn give(&mut self, now: Millis, item: &Item, number: usize) {
        self.waiting.remove(&item.case);
        let Some(seat) = self.seats.get_mut(number) else { return };
        seat.load += item.needs.weight;
        seat.items += 1;
        seat.given_at = now;
        seat.idle_since = now;
        let Some(case) = self.log.cases.get_mut(item.case) else { return };
        case.offers += 1;
        case.offered.get_or_insert(now);
        let habits = &self.trace.habits;
        let mut random = answer_chance(self.seed, item.case, case.offers);
        let reaction = millis(random.lognormal(habits.answer.0 as f64 / 1000.0, habits.answer_sigma));
        let silent = random.chance(habits.silent);
        let decline = Random::keyed(self.seed, &[12, item.case as u64, u64::from(case.offers - 1)]);
        let declines = decline.clone().chance(habits.declines);
        let seen = Millis(now.0 + reaction.0);
        match self.rule.lease(item) {
            None => {
                let seen = if silent { Millis(seen.0 + LATE.0) } else { seen };
                self.plan(seen, Event::Attend { case: item.case, seat: number });
            }
            Some(lease) => {
                let lapse = Millis(now.0 + lease.0);
                let (at, answer) = match (silent || seen >= lapse, declines) {
                    (true, _) => (lapse, Answer::Lapse),
                    (false, true) => (seen, Answer::Decline),
                    (false, false) => (seen, Answer::Accept),
                };
                self.plan(at, Event::Answer { case: item.case, seat: number, answer });
            }
        }
    }

    fn release(&mut self, now: Millis, case: usize, number: usize) {
        let weight = self.needs.get(case).map_or(0, |needs| needs.weight);
        if let Some(seat) = self.seats.get_mut(number) {
            seat.load = seat.load.saturating_sub(weight);
            seat.items = seat.items.saturating_sub(1);
            seat.idle_since = now;
        }
    }

    fn answer(&mut self, now: Millis, case: usize, number: usize, answer: Answer) {
        let here = self.seats.get(number).is_some_and(|seat| seat.here);
        if answer == Answer::Accept && here {
            self.attend(now, case, number);
            return;
        }
        let idle = self.seats.get(number).map(|seat| seat.idle_since);
        self.release(now, case, number);
        let rests = self.rule.rests();
        if let (Some(seat), Some(idle)) = (self.seats.get_mut(number), idle) {
            // An offer that came to nothing does not make anybody less idle.
            seat.idle_since = idle;
            if answer == Answer::Lapse {
                seat.rests_until = Millis(now.0 + rests.0);
            }
        }
        self.refused.insert((case, number), Millis(now.0 + DECLINED.0));
        if self.rule.period().is_none() {
            for later in [rests, DECLINED] {
                self.plan(Millis(now.0 + later.0), Event::Look);
            }
        }
        let (Some(needs), Some(arrival)) = (self.needs.get(case), self.trace.arrivals.get(case)) else { return };
        self.waiting.insert(case, Item { case, needs: needs.clone(), ready_at: arrival.at });
    }

    fn attend(&mut self, now: Millis, case: usize, number: usize) {
        let Some(seat) = self.seats.get(number) else { return };
        if !seat.here {
            // Whoever comes back sees it then; nobody else does.
            self.plan(Millis(now.0 + 5_000), Event::Attend { case, seat: number });
            return;
        }
        let left = self.left(case, now);
        let (Some(log), Some(worker)) = (self.log.cases.get_mut(case), self.company.workers().get(number)) else {
            return;
        };
        log.begin(worker.agent.as_str(), now);
        let takes = match left {
            Some(at) => {
                log.abandoned = Some(at);
                EMPTY
            }
            None => {
                log.answered = Some(now);
                log.agent = Some(SmolStr::new(worker.agent.as_str()));
                self.trace.arrivals.get(case).map_or(EMPTY, |arrival| arrival.handle)
            }
        };
        self.plan(Millis(now.0 + takes.0), Event::Finish { case, seat: number });
    }
}
