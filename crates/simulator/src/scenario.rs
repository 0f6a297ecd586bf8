//! Named worlds, and the trace that a seed makes of one.

use contract::{AgentId, Millis, SmolStr};

use crate::company::{Company, Worker};
use crate::random::{Random, millis};
use crate::trace::{Arrival, Duty, DutyKind, Habits, More, Trace};

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;

/// What goes wrong, in cases of a thousand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Inputs that are delivered twice, from moments to days later.
    pub doubled: u64,
    /// Inputs that are held up, so that later ones overtake them.
    pub delayed: u64,
    /// Inputs that are lost. Whoever is owed an answer asks again; receipts are gone for good.
    pub lost: u64,
    /// Inputs at which the process dies.
    pub crashes: u64,
    /// The router's clock jumps now and then, by up to a minute, both ways.
    pub jumps: bool,
    /// The policy is changed now and then, and changed back.
    pub reloads: bool,
    /// Providers report what became of messages.
    pub receipts: bool,
}

/// When customers come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Curve {
    /// As many at every hour.
    Flat,
    /// A working day: little at first, a peak before noon, a smaller one in the afternoon.
    Day,
    /// Flat, and besides so many within a minute, every so many minutes.
    Bursts {
        /// How many.
        size: u32,
        /// Every so many minutes.
        every: u32,
    },
}

/// When agents work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shifts {
    /// All the time.
    Always,
    /// Shifts of up to eight hours that begin one after the other, with lunch and two breaks.
    Day,
    /// As the mood takes them, and their tools vanish.
    Moods,
}

/// A world before chance comes into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// How many agents there are.
    pub agents: u32,
    /// How long customers come.
    pub hours: f64,
    /// How many come in an hour, on average.
    pub rate: f64,
    /// When they come.
    pub curve: Curve,
    /// How many different customers there are; 0: everybody is new.
    pub customers: u64,
    /// How long customers of a chat or a call wait; mean seconds, and whether it is lognormal.
    pub patience: Option<(f64, bool)>,
    /// Customers, in a thousand, who write again, perhaps by another channel.
    pub switches: u64,
    /// When agents work.
    pub shifts: Shifts,
    /// How agents work.
    pub habits: Habits,
    /// What goes wrong.
    pub faults: Faults,
}

impl Scenario {
    /// All worlds that have a name.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let calm = Self {
            name: "calm",
            about: "six agents with time to spare; nothing goes wrong",
            agents: 6,
            hours: 4.0,
            rate: 60.0,
            curve: Curve::Flat,
            customers: 0,
            patience: Some((300.0, false)),
            switches: 50,
            shifts: Shifts::Always,
            habits: Habits::default(),
            faults: Faults::default(),
        };
        let human = Habits { declines: 30, silent: 20, ..Habits::default() };
        let day = Self {
            name: "day",
            about: "a working day of twelve agents: shifts, breaks, lunch, a peak before noon",
            agents: 12,
            hours: 10.0,
            rate: 150.0,
            curve: Curve::Day,
            patience: Some((240.0, true)),
            shifts: Shifts::Day,
            habits: human.clone(),
            ..calm.clone()
        };
        let burst = Self {
            name: "burst",
            about: "a quiet line, and thirty customers at once every half hour",
            agents: 8,
            rate: 60.0,
            curve: Curve::Bursts { size: 30, every: 30 },
            habits: human.clone(),
            ..calm.clone()
        };
        let overload = Self {
            name: "overload",
            about: "more customers than the agents can serve; the impatient leave",
            agents: 4,
            rate: 110.0,
            patience: Some((180.0, false)),
            habits: human,
            ..calm.clone()
        };
        let chaos = Self {
            name: "chaos",
            about: "a small team in which everything goes wrong: repeats, losses, crashes, clocks, vanished tools",
            hours: 0.25,
            rate: 100.0,
            customers: 16,
            patience: Some((90.0, false)),
            switches: 500,
            shifts: Shifts::Moods,
            habits: Habits { answer: Millis(8_000), answer_sigma: 1.0, declines: 100, silent: 100, fidgets: 700 },
            faults: Faults {
                doubled: 60,
                delayed: 100,
                lost: 20,
                crashes: 20,
                jumps: true,
                reloads: true,
                receipts: true,
            },
            ..calm.clone()
        };
        vec![calm, day, burst, overload, chaos]
    }

    /// A world by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|scenario| scenario.name == name)
    }

    /// The trace that a seed makes of it for a company's agents.
    #[must_use]
    pub fn trace(&self, seed: u64, company: &Company) -> Trace {
        let mut random = Random::keyed(seed, &[1]);
        let mut times = self.times(&mut random);
        times.sort_by(f64::total_cmp);
        let arrivals =
            times.iter().enumerate().map(|(n, at)| self.arrival(n as u64, millis(*at), &mut random)).collect();
        let mut duties = Vec::new();
        for (n, worker) in company.workers().iter().enumerate() {
            let mut random = Random::keyed(seed, &[2, n as u64]);
            self.duties(n, company.workers().len(), worker, &mut random, &mut duties);
        }
        duties.sort_by_key(|duty| duty.at);
        let name = self.name.to_owned();
        Trace { name, span: millis(self.hours * HOUR), arrivals, duties, habits: self.habits.clone() }
    }

    /// Seconds at which customers come.
    fn times(&self, random: &mut Random) -> Vec<f64> {
        let (end, mut at, mut times) = (self.hours * HOUR, 0.0, Vec::new());
        // Candidates come at the peak's rate, and are kept as often as the curve says.
        let peak = if self.curve == Curve::Day { 1.7 } else { 1.0 };
        loop {
            at += random.exponential(HOUR / (self.rate * peak).max(1e-9));
            if at >= end {
                break;
            }
            let share = if self.curve == Curve::Day { day_curve(at / end) } else { 1.0 };
            if random.unit() * peak < share {
                times.push(at);
            }
        }
        if let Curve::Bursts { size, every } = self.curve {
            let every = f64::from(every) * MINUTE;
            let mut begin = every / 2.0;
            while begin < end {
                times.extend((0..size).map(|_| begin + MINUTE * random.unit()));
                begin += every;
            }
        }
        times
    }

    fn arrival(&self, number: u64, at: Millis, random: &mut Random) -> Arrival {
        let who = if self.customers == 0 { number } else { random.below(self.customers) };
        let (channel, median) = match random.below(100) {
            0..70 => ("chat", 5.0 * MINUTE),
            70..88 => ("email", 4.0 * MINUTE),
            _ => ("phone", 4.0 * MINUTE),
        };
        let tags: &[&str] = match random.below(100) {
            0..22 => &["buy"],
            22..36 => &["bill"],
            _ => &[],
        };
        // What is sold takes longer than what is answered.
        let median = if tags.contains(&"buy") { median * 1.3 } else { median };
        let handle = millis(random.lognormal(median, 0.6).clamp(10.0, 2.0 * HOUR));
        let patience = self.patience.filter(|_| channel != "email").map(|(mean, lognormal)| {
            let drawn = if lognormal { random.lognormal(mean * 0.8, 0.67) } else { random.exponential(mean) };
            millis(drawn.max(5.0))
        });
        let mut more = Vec::new();
        while random.chance(self.switches) && more.len() < 6 {
            let channel = if random.chance(400) { "email" } else { channel };
            let after = millis(random.exponential(2.0 * MINUTE));
            more.push(More { after, channel: SmolStr::new_static(channel) });
        }
        Arrival {
            at,
            customer: SmolStr::from(format!("k{who}")),
            proven: Random::keyed(who, &[3]).chance(700),
            channel: SmolStr::new_static(channel),
            language: Some(SmolStr::new_static(if random.chance(300) { "de" } else { "en" })),
            tags: tags.iter().map(|tag| SmolStr::new_static(tag)).collect(),
            handle,
            patience,
            more,
            recorded: None,
        }
    }

    fn duties(&self, n: usize, all: usize, worker: &Worker, random: &mut Random, duties: &mut Vec<Duty>) {
        let end = self.hours * HOUR;
        let agent: &AgentId = &worker.agent;
        let mut plan = |at: f64, what| duties.push(Duty { at: millis(at.clamp(0.0, end)), agent: agent.clone(), what });
        match self.shifts {
            Shifts::Always => plan(0.0, DutyKind::Available),
            Shifts::Day => {
                let length = (8.0 * HOUR).min(end);
                let begin = (end - length) * n as f64 / (all.max(2) - 1) as f64;
                let late = random.exponential(2.0 * MINUTE);
                plan(begin + late, DutyKind::Available);
                for (share, minutes) in [(0.22, 10.0), (0.45, 40.0), (0.75, 10.0)] {
                    let away = begin + length * share + (random.unit() - 0.5) * 50.0 * MINUTE;
                    plan(away, DutyKind::Away);
                    plan(away + minutes * MINUTE * (0.9 + 0.2 * random.unit()), DutyKind::Available);
                }
                plan(begin + length, DutyKind::Leave);
            }
            Shifts::Moods => {
                let mut at = random.unit() * 30.0;
                while at < end {
                    let (what, lasts) = match random.below(100) {
                        0..12 => (DutyKind::Gone, 3.0 + 150.0 * random.unit()),
                        12..20 => (DutyKind::Away, 20.0 + 160.0 * random.unit()),
                        20..28 => (DutyKind::Busy, 20.0 + 160.0 * random.unit()),
                        28..34 => (DutyKind::Offline, 20.0 + 160.0 * random.unit()),
                        34..37 => (DutyKind::Leave, 20.0 + 160.0 * random.unit()),
                        _ => (DutyKind::Available, 20.0 + 160.0 * random.unit()),
                    };
                    plan(at, what);
                    at += lasts;
                    if what == DutyKind::Gone {
                        plan(at, DutyKind::Back);
                    }
                }
            }
        }
    }
}

/// How busy a working day is, as a multiple of its average, from 0 (morning) to 1 (evening).
fn day_curve(at: f64) -> f64 {
    let bump = |centre: f64, width: f64| (-((at - centre) / width).powi(2)).exp();
    0.45 + 1.2 * bump(0.3, 0.14) + 0.8 * bump(0.65, 0.18)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_come_as_the_rate_says() {
        for scenario in Scenario::all() {
            let company = Company::team(scenario.agents).unwrap();
            let count: usize = (0..30).map(|seed| scenario.trace(seed, &company).arrivals.len()).sum();
            let bursts = match scenario.curve {
                Curve::Bursts { size, every } => f64::from(size) * scenario.hours * 60.0 / f64::from(every),
                _ => 0.0,
            };
            let expected = 30.0 * (scenario.rate * scenario.hours + bursts);
            let ratio = count as f64 / expected;
            assert!((0.9..1.1).contains(&ratio), "{}: {count} of {expected}", scenario.name);
        }
    }

    #[test]
    fn a_seed_is_a_trace() {
        let scenario = Scenario::named("day").unwrap();
        let company = Company::team(12).unwrap();
        assert_eq!(scenario.trace(4, &company), scenario.trace(4, &company));
        assert_ne!(scenario.trace(4, &company).arrivals, scenario.trace(5, &company).arrivals);
    }
}
