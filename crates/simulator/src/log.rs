//! What happened to every customer and agent of a run: the same for our engine and for the peers, and all
//! that reports are made from.

use contract::{Millis, SmolStr};
use serde::{Deserialize, Serialize};

use crate::company::Company;
use crate::trace::Trace;

/// A run of a system over a trace. Times are spans since the beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunLog {
    /// Which system, under which policy.
    pub system: String,
    /// How long customers came.
    pub span: Millis,
    /// The customers' matters, by time.
    pub cases: Vec<Case>,
    /// The agents, by name.
    pub staff: Vec<Staff>,
}

/// A customer's matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Who.
    pub customer: SmolStr,
    /// By which kind of channel.
    pub channel: SmolStr,
    /// Where it waited first.
    pub queue: SmolStr,
    /// What it takes of an agent's capacity.
    pub weight: u64,
    /// When the customer came.
    pub arrived: Millis,
    /// When it was first offered to somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Millis>,
    /// When somebody first was there for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Millis>,
    /// Who was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SmolStr>,
    /// When the customer left without having been answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<Millis>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Millis>,
    /// Until when it was watched: a wait that was not over by then is known to have been longer.
    pub watched_until: Millis,
    /// How often it was offered.
    pub offers: u32,
    /// How often it went back into a queue.
    pub requeues: u32,
    /// The customer had another matter open, of which it became a part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// When it took of whose capacity.
    pub stretches: Vec<Stretch>,
}

/// A time for which a matter took of an agent's capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Whose.
    pub agent: SmolStr,
    /// From when.
    pub from: Millis,
    /// Until when; absent: to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Millis>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staff {
    /// Who.
    pub agent: SmolStr,
    /// How much it can hold.
    pub capacity: u64,
    /// When it was there to work.
    pub shifts: Vec<(Millis, Millis)>,
}

impl RunLog {
    /// Before anything happened.
    pub(crate) fn begin(system: &str, trace: &Trace, company: &Company) -> Self {
        let cases = trace.arrivals.iter().map(|arrival| Case {
            customer: arrival.customer.clone(),
            channel: arrival.channel.clone(),
            arrived: arrival.at,
            watched_until: trace.span,
            ..Case::default()
        });
        let staff = company.workers().iter().map(|worker| Staff {
            agent: SmolStr::new(worker.agent.as_str()),
            capacity: worker.capacity,
            shifts: trace.shifts(&worker.agent),
        });
        Self { system: system.to_owned(), span: trace.span, cases: cases.collect(), staff: staff.collect() }
    }

    /// Adds what happened in another run of the same system. Agents of one name are taken together.
    pub fn merge(&mut self, other: Self) {
        let offset = self.span;
        // What was still going on ends with its run.
        for case in &mut self.cases {
            case.end(offset);
        }
        self.span = Millis(self.span.0 + other.span.0);
        let later = |at: Millis| Millis(at.0 + offset.0);
        self.cases.extend(other.cases.into_iter().map(|mut case| {
            case.arrived = later(case.arrived);
            case.watched_until = later(case.watched_until);
            for at in [&mut case.offered, &mut case.answered, &mut case.abandoned, &mut case.ended] {
                *at = at.map(later);
            }
            for stretch in &mut case.stretches {
                stretch.from = later(stretch.from);
                stretch.to = stretch.to.map(later);
            }
            case
        }));
        for staff in other.staff {
            let shifts = staff.shifts.iter().map(|(from, to)| (later(*from), later(*to)));
            match self.staff.iter_mut().find(|known| known.agent == staff.agent) {
                Some(known) => known.shifts.extend(shifts),
                None => self.staff.push(Staff { shifts: shifts.collect(), ..staff }),
            }
        }
    }
}

impl Case {
    /// Whether it counts: a matter of its own.
    #[must_use]
    pub fn counts(&self) -> bool {
        !self.joined
    }

    /// How long the customer waited until somebody was there.
    #[must_use]
    pub fn wait(&self) -> Option<Millis> {
        self.answered.map(|at| Millis(at.0.saturating_sub(self.arrived.0)))
    }

    pub(crate) fn begin(&mut self, agent: &str, at: Millis) {
        if self.stretches.last().is_some_and(|last| last.to.is_none() && last.agent == agent) {
            return;
        }
        self.end(at);
        self.stretches.push(Stretch { agent: SmolStr::new(agent), from: at, to: None });
    }

    pub(crate) fn end(&mut self, at: Millis) {
        if let Some(last) = self.stretches.last_mut() {
            last.to.get_or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_taken_together_do_not_leak_into_each_other() {
        let mut one = RunLog { span: Millis(100), ..RunLog::default() };
        let mut case = Case { arrived: Millis(90), watched_until: Millis(100), ..Case::default() };
        case.begin("anna", Millis(95));
        one.cases.push(case);
        let mut both = one.clone();
        both.merge(one);
        let ends: Vec<_> = both.cases.iter().map(|case| case.stretches[0].to).collect();
        assert_eq!(ends, [Some(Millis(100)), None]);
        assert_eq!((both.cases[1].arrived, both.cases[1].watched_until), (Millis(190), Millis(200)));
    }
}
