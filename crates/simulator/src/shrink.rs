//! A failure made small: inputs are left out, policies made smaller and times drawn together for as long as
//! the same thing still breaks.

use contract::Timestamp;

use crate::machine::{Sabotage, replay, write};
use crate::script::{Line, Op};

/// So many replays are spent on a failure at most.
const REPLAYS_MAX: u32 = 4_000;

/// The smallest script that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The script in the language of the engine's scenarios.
    pub script: String,
    /// How many inputs it has.
    pub inputs: usize,
    /// How many there were.
    pub of: usize,
    /// What breaks, for a person.
    pub detail: String,
}

struct Shrinker {
    broken: &'static str,
    until: Timestamp,
    sabotage: Sabotage,
    replays: u32,
}

/// Makes a script smaller that breaks something. `None`: the script alone does not break it, since it
/// came about by what the world did next.
pub(crate) fn shrink(broken: &'static str, script: Vec<Line>, until: Timestamp, sabotage: Sabotage) -> Option<Shrunk> {
    let of = script.len();
    let mut shrinker = Shrinker { broken, until, sabotage, replays: 0 };
    if !shrinker.breaks(&script) {
        return None;
    }
    let mut lines = script;
    loop {
        let before = lines.clone();
        lines = shrinker.fewer(lines);
        lines = shrinker.smaller(lines);
        if lines == before || shrinker.replays >= REPLAYS_MAX {
            break;
        }
    }
    // Time passes only until it breaks, if it must pass at all.
    let (detail, until) = match replay(&lines, None, sabotage).or_else(|| replay(&lines, Some(until), sabotage)) {
        Some((finding, at)) => (finding.detail, at),
        None => (String::new(), Some(until)),
    };
    Some(Shrunk { script: write(&lines, until, sabotage), inputs: lines.len(), of, detail })
}

impl Shrinker {
    fn breaks(&mut self, lines: &[Line]) -> bool {
        self.replays += 1;
        self.replays <= REPLAYS_MAX
            && replay(lines, Some(self.until), self.sabotage).is_some_and(|(finding, _)| finding.broken == self.broken)
    }

    /// Leaves inputs out: halves, quarters, … single ones.
    fn fewer(&mut self, mut lines: Vec<Line>) -> Vec<Line> {
        let mut size = lines.len().div_ceil(2).max(1);
        loop {
            let mut from = 0;
            let mut left_out = false;
            while from < lines.len() {
                let rest = lines.iter().enumerate().filter(|(at, _)| *at < from || *at >= from + size);
                let rest: Vec<Line> = rest.map(|(_, line)| line.clone()).collect();
                if self.breaks(&rest) {
                    lines = rest;
                    left_out = true;
                } else {
                    from += size;
                }
            }
            if size == 1 && !left_out {
                return lines;
            }
            size = if size == 1 { 1 } else { size.div_ceil(2) };
        }
    }

    /// Makes single inputs simpler.
    fn smaller(&mut self, mut lines: Vec<Line>) -> Vec<Line> {
        for at in 0..lines.len() {
            let Some(line) = lines.get(at).cloned() else { break };
            let mut tries = simpler(&line.op);
            while let Some(op) = tries.pop() {
                let Some(place) = lines.get_mut(at) else { break };
                let old = std::mem::replace(&mut place.op, op.clone());
                if self.breaks(&lines) {
                    tries = simpler(&op);
                } else if let Some(place) = lines.get_mut(at) {
                    place.op = old;
                }
            }
            // At the time of the input before it.
            let earlier = at.checked_sub(1).and_then(|before| lines.get(before)).map(|before| before.at);
            let earlier = earlier.or(Some(crate::machine::START)).filter(|earlier| *earlier != line.at);
            if let (Some(earlier), Some(place)) = (earlier, lines.get_mut(at)) {
                place.at = earlier;
                if !self.breaks(&lines)
                    && let Some(place) = lines.get_mut(at)
                {
                    place.at = line.at;
                }
            }
        }
        lines
    }
}

/// Simpler inputs of the same kind.
fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Policy { id, company } => {
            company.simpler().into_iter().map(|company| Op::Policy { id: id.clone(), company }).collect()
        }
        Op::Message(envelope) => {
            let (mut speechless, mut untagged) = (envelope.clone(), envelope.clone());
            speechless.language = None;
            untagged.tags.clear();
            [speechless, untagged].into_iter().filter(|simpler| simpler != envelope).map(Op::Message).collect()
        }
        Op::Crash { before_storing, by_snapshot: true } => {
            vec![Op::Crash { before_storing: before_storing.clone(), by_snapshot: false }]
        }
        _ => Vec::new(),
    }
}
