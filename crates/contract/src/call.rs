//! Phone calls: what is ordered of a channel, and what the events of a call add up to.
//!
//! A call is a thread. It has legs: the customer's, which gives the thread its key, those that rang agents, and the one
//! by which a customer was called back. The events of a leg come in any order and more than once; [`CallState`] is the
//! same whatever the order was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::codec::open_enum;
use crate::envelope::{Call, Sequence};
use crate::id::{AgentId, QueueId};

/// Most legs of a call that are remembered; further ones are forgotten.
pub const LEGS_MAX: usize = 32;

/// What carriers send for a number that is withheld: words on a dial (ANONYMOUS, RESTRICTED, UNAVAILABLE, UNKNOWN).
const WITHHELD: &[&str] = &["266696687", "7378742833", "86282452253", "8656696", "2562533", "8566696687"];

/// Whether a number is one that carriers send for a number that is withheld: nobody can be called there.
#[must_use]
pub fn is_withheld(number: &str) -> bool {
    WITHHELD.contains(&number.trim_start_matches(['+', '1']))
}

open_enum! {
    /// What is to happen with a call.
    CallStep {
        /// The customer is put through to the agent.
        Connect = "connect",
        /// The customer, who has hung up, is called, and then put through to the agent.
        CallBack = "call_back",
        /// The call ends.
        HangUp = "hang_up",
    }
}

/// What a channel is to do with a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallOrder {
    /// What.
    pub step: CallStep,
    /// The agent to put the customer through to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Where the agent is called: a number or a SIP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<SmolStr>,
    /// What the customer is called, for the agent's ear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_name: Option<SmolStr>,
    /// The queue that the call came through, for the agent's ear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueId>,
}

/// What is known of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallState {
    /// Its legs by the provider's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub legs: BTreeMap<SmolStr, Leg>,
}

/// What is known of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Leg {
    /// As [`Call::state`]. Once it says that the leg is over, only a word on what became of the caller replaces it.
    pub state: SmolStr,
    /// The provider's number of the event that said so; 0: it had none.
    #[serde(default)]
    pub seq: u64,
    /// Somebody spoke on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered: bool,
    /// The agent whose leg it is; absent: the customer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// Our command that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<SmolStr>,
}

/// What a state says: 0: the leg is up; 1: it is over; 2: what the caller chose instead of waiting, which is final too.
fn finality(state: &str) -> u8 {
    match state {
        "completed" | "missed" | "abandoned" | "failed" | "busy" | "no_answer" | "canceled" => 1,
        "voicemail" | "callback" => 2,
        _ => 0,
    }
}

/// The order of states of one finality that have no number.
fn rank(state: &str) -> u8 {
    match state {
        "ringing" | "missed" => 1,
        "queued" | "abandoned" => 2,
        "answered" | "canceled" | "callback" => 3,
        "voicemail" | "no_answer" => 4,
        "busy" => 5,
        "failed" => 6,
        "completed" => 7,
        _ => 0,
    }
}

impl Leg {
    fn key(&self) -> (u8, u64, u8, &str) {
        (finality(&self.state), self.seq, rank(&self.state), &self.state)
    }

    /// It has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        finality(&self.state) > 0
    }
}

impl CallState {
    /// Takes in an event of a call; false: it says nothing new.
    pub fn merge(&mut self, call: &Call, seq: Option<&Sequence>) -> bool {
        let new = Leg {
            state: call.state.clone(),
            seq: seq.map_or(0, |seq| seq.n),
            answered: call.state == "answered" || call.answered_at.is_some(),
            agent: call.agent.clone(),
            command_id: call.command_id.clone(),
        };
        if self.legs.len() >= LEGS_MAX && !self.legs.contains_key(&call.leg) {
            return false;
        }
        let Some(leg) = self.legs.get_mut(&call.leg) else {
            self.legs.insert(call.leg.clone(), new);
            return true;
        };
        let before = leg.clone();
        leg.answered |= new.answered;
        // Whoever says it says the same; the greatest is as good as any, and does not depend on the order.
        leg.agent = leg.agent.take().max(new.agent.clone());
        leg.command_id = leg.command_id.take().max(new.command_id.clone());
        if new.key() > leg.key() {
            (leg.state, leg.seq) = (new.state, new.seq);
        }
        *leg != before
    }

    /// The legs of the customer.
    fn own(&self) -> impl Iterator<Item = &Leg> {
        self.legs.values().filter(|leg| leg.agent.is_none())
    }

    /// The customer is on the line.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.own().any(|leg| !leg.is_over())
    }

    /// The customer and an agent have spoken.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        self.legs.values().any(|leg| leg.agent.is_some() && leg.answered)
    }

    /// The customer wants to be called back.
    #[must_use]
    pub fn wants_callback(&self) -> bool {
        self.own().any(|leg| leg.state == "callback")
    }

    /// The customer has left something that an agent must look at: the wish to be called back, or a voicemail.
    #[must_use]
    pub fn left_something(&self) -> bool {
        self.own().any(|leg| finality(&leg.state) == 2)
    }

    /// The leg that a command began.
    pub fn begun_by(&self, command_id: &str) -> impl Iterator<Item = &Leg> {
        self.legs.values().filter(move |leg| leg.command_id.as_deref() == Some(command_id))
    }

    /// The state of the call as a whole, as [`Call::state`] has it.
    #[must_use]
    pub fn state(&self) -> &str {
        let answered = self.was_answered();
        if self.is_live() {
            let up = self.own().filter(|leg| !leg.is_over()).max_by_key(|leg| rank(&leg.state));
            return if answered { "answered" } else { up.map_or("ringing", |leg| leg.state.as_str()) };
        }
        let left = self.own().filter(|leg| finality(&leg.state) == 2).max_by_key(|leg| rank(&leg.state));
        match left {
            _ if answered => "completed",
            Some(leg) => &leg.state,
            None => self.own().max_by_key(|leg| rank(&leg.state)).map_or("missed", |leg| match leg.state.as_str() {
                // Nobody spoke to the caller, whatever the provider's program said meanwhile.
                "completed" | "canceled" => "abandoned",
                other => other,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(leg: &str, state: &str, agent: Option<&str>, seq: u64) -> (Call, Sequence) {
        let call = Call {
            leg: leg.into(),
            parent: agent.map(|_| "a".into()),
            state: state.into(),
            from: None,
            to: None,
            started_at: None,
            answered_at: None,
            ended_at: None,
            recording: None,
            transcript: None,
            queue: None,
            agent: agent.and_then(|agent| AgentId::new(agent).ok()),
            command_id: agent.map(|_| "main/m2".into()),
        };
        (call, Sequence { scope: leg.into(), n: seq })
    }

    fn all(events: &[(Call, Sequence)]) -> CallState {
        let mut state = CallState::default();
        for (call, seq) in events {
            state.merge(call, Some(seq));
        }
        state
    }

    fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        let mut found = Vec::new();
        for at in 0..items.len() {
            let mut rest = items.to_vec();
            let first = rest.remove(at);
            found.extend(orders(&rest).into_iter().map(|mut order| {
                order.insert(0, first.clone());
                order
            }));
        }
        found
    }

    #[test]
    fn any_order_adds_up_to_the_same() {
        let answered = vec![
            event("a", "ringing", None, 0),
            event("a", "queued", None, 0),
            event("b", "ringing", Some("anna"), 1),
            event("b", "answered", Some("anna"), 2),
            event("b", "completed", Some("anna"), 3),
            event("a", "completed", None, 4),
        ];
        let voicemail = vec![
            event("a", "ringing", None, 0),
            event("a", "queued", None, 0),
            event("a", "voicemail", None, 0),
            event("a", "completed", None, 4),
        ];
        let callback = vec![
            event("a", "ringing", None, 0),
            event("a", "callback", None, 0),
            event("a", "completed", None, 4),
            event("c", "ringing", None, 1),
            event("b", "busy", Some("anna"), 1),
        ];
        for (events, state, live) in
            [(answered, "completed", false), (voicemail, "voicemail", false), (callback, "ringing", true)]
        {
            let first = all(&events);
            assert_eq!((first.state(), first.is_live()), (state, live));
            for order in orders(&events) {
                assert_eq!(all(&order), first);
                let twice: Vec<_> = order.iter().chain(&order).cloned().collect();
                assert_eq!(all(&twice), first);
            }
        }
    }

    #[test]
    fn what_is_over_stays_over() {
        let mut state = all(&[event("a", "completed", None, 2)]);
        let (late, seq) = event("a", "queued", None, 9);
        assert!(!state.merge(&late, Some(&seq)));
        assert_eq!((state.state(), state.is_live()), ("abandoned", false));
    }
}
