//! The rules themselves.

use std::collections::BTreeMap;

use contract::{Millis, SmolStr};

use super::desk::{Item, Rule, Seat};

/// The next in turn among those who can.
fn in_turn(last: &mut BTreeMap<SmolStr, usize>, queue: &SmolStr, able: &[&Seat]) -> Option<usize> {
    let after = last.get(queue).copied();
    let next = able.iter().find(|seat| after.is_none_or(|after| seat.number > after)).or(able.first())?;
    last.insert(queue.clone(), next.number);
    Some(next.number)
}

/// Every five minutes all unassigned conversations are dealt out in turn, up to a maximum each.
#[derive(Debug, Default)]
pub struct Libredesk {
    last: BTreeMap<SmolStr, usize>,
}

impl Rule for Libredesk {
    fn name(&self) -> &'static str {
        "libredesk"
    }

    fn about(&self) -> &'static str {
        "a ticker every 5 minutes deals out what is unassigned, oldest first, round robin in the team; no offers"
    }

    fn period(&self) -> Option<Millis> {
        Some(Millis::from_secs(300))
    }

    fn choose(&mut self, item: &Item, able: &[&Seat], _: Millis) -> Option<usize> {
        in_turn(&mut self.last, &item.needs.queue, able)
    }
}

/// Every fifteen minutes a batch for each inbox, oldest first, in turn; at most 100 of an inbox.
#[derive(Debug, Default)]
pub struct Chatwoot {
    last: BTreeMap<SmolStr, usize>,
}

impl Rule for Chatwoot {
    fn name(&self) -> &'static str {
        "chatwoot v2"
    }

    fn about(&self) -> &'static str {
        "a job every 15 minutes assigns up to 100 conversations of each inbox, longest waiting first, round robin; \
         no offers"
    }

    fn period(&self) -> Option<Millis> {
        Some(Millis::from_secs(900))
    }

    fn per_look(&self) -> usize {
        100
    }

    fn choose(&mut self, item: &Item, able: &[&Seat], _: Millis) -> Option<usize> {
        in_turn(&mut self.last, &item.needs.queue, able)
    }
}

/// Every five seconds the first of each queue goes to whoever has the fewest chats.
#[derive(Debug)]
pub struct RocketChat;

impl Rule for RocketChat {
    fn name(&self) -> &'static str {
        "rocket.chat"
    }

    fn about(&self) -> &'static str {
        "a worker takes one inquiry of each queue every 5 seconds and gives it to the agent with the fewest chats; \
         no offers"
    }

    fn period(&self) -> Option<Millis> {
        Some(Millis::from_secs(5))
    }

    fn per_look(&self) -> usize {
        1
    }

    fn choose(&mut self, _: &Item, able: &[&Seat], _: Millis) -> Option<usize> {
        able.iter().min_by_key(|seat| (seat.items, seat.given_at, seat.number)).map(|seat| seat.number)
    }
}

/// At every change the longest idle worker is reserved; the first target of a queue is those who are best
/// at it, and times out to all of it.
#[derive(Debug)]
pub struct TaskRouter;

impl Rule for TaskRouter {
    fn name(&self) -> &'static str {
        "taskrouter"
    }

    fn about(&self) -> &'static str {
        "decides at every change; priority, then age; the longest idle worker is reserved, 120 s to answer; \
         the best half first, everybody after 30 s"
    }

    fn lease(&self, _: &Item) -> Option<Millis> {
        Some(Millis::from_secs(120))
    }

    fn widens_after(&self) -> Option<Millis> {
        Some(Millis::from_secs(30))
    }

    fn choose(&mut self, _: &Item, able: &[&Seat], _: Millis) -> Option<usize> {
        able.iter().min_by_key(|seat| (seat.idle_since, seat.number)).map(|seat| seat.number)
    }
}

/// At every change, by a priority that grows with age (a point is a minute); rings widen from the best to
/// all; who does not answer is given nothing until it says so.
#[derive(Debug)]
pub struct Genesys;

impl Rule for Genesys {
    fn name(&self) -> &'static str {
        "genesys"
    }

    fn about(&self) -> &'static str {
        "decides at every change; a point of priority is a minute of age; the best half first, everybody after 10 s; \
         the longest idle; who does not answer is not asked for three minutes"
    }

    fn key(&self, item: &Item) -> (i64, u64, usize) {
        let aged = i64::try_from(item.ready_at.0).unwrap_or(i64::MAX) - 60_000 * i64::from(item.needs.priority);
        (aged, item.ready_at.0, item.case)
    }

    fn lease(&self, item: &Item) -> Option<Millis> {
        Some(item.needs.lease)
    }

    fn widens_after(&self) -> Option<Millis> {
        Some(Millis::from_secs(10))
    }

    fn rests(&self) -> Millis {
        Millis::from_secs(180)
    }

    fn choose(&mut self, _: &Item, able: &[&Seat], _: Millis) -> Option<usize> {
        able.iter().min_by_key(|seat| (seat.idle_since, seat.number)).map(|seat| seat.number)
    }
}
