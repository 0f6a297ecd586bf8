//! One conversation: why it is where it is, and what happened to it.

use contract::command::AdminCommand;
use contract::event::{Candidate, Decision};
use contract::{AgentId, ConversationId, Event, EventRecord, Millis, OfferId, SmolStr, Timestamp};
use serde::Serialize;

use crate::ask::{Answer, Ask, Detail, Fact, Failure, answer};
use crate::overview::Row;
use crate::words;

/// What the panel shows.
#[derive(Serialize)]
pub(crate) struct Panel {
    conversation: Option<Row>,
    explanation: Option<Standing>,
    offers: Vec<Offer>,
    facts: Vec<Line>,
}

#[derive(Serialize)]
struct Standing {
    summary: SmolStr,
    waiting_ms: Millis,
    position: Option<u64>,
    asked: Vec<AgentId>,
    round: u32,
    now: Choice,
}

/// A decision in plain words.
#[derive(Serialize)]
struct Choice {
    eligible: Vec<Candidate>,
    left_out: Vec<LeftOut>,
    unlisted: u32,
    why: Option<&'static str>,
}

#[derive(Serialize)]
struct LeftOut {
    agent: AgentId,
    because: String,
}

#[derive(Serialize)]
struct Offer {
    offer: OfferId,
    agent: AgentId,
    at: Timestamp,
    expires_at: Timestamp,
    /// `accepted`, `declined`, `expired`, `rescinded`; absent: it stands.
    outcome: Option<&'static str>,
    ended_at: Option<Timestamp>,
    reason: Option<SmolStr>,
    choice: Choice,
}

#[derive(Serialize)]
struct Line {
    at: Timestamp,
    #[serde(rename = "type")]
    name: String,
    text: String,
}

impl From<Decision> for Choice {
    fn from(decision: Decision) -> Self {
        let why = words::tie_break(&decision);
        let left_out = decision.excluded.into_iter();
        let left_out =
            left_out.map(|out| LeftOut { because: words::exclusion(&out.because), agent: out.agent }).collect();
        Self { eligible: decision.eligible, left_out, unlisted: decision.unlisted, why }
    }
}

/// Asks for the explanation of a conversation.
pub(crate) async fn fetch(ask: &Ask, conversation: ConversationId) -> Result<Panel, Failure> {
    let question = AdminCommand::ConversationExplain { conversation };
    let detail = answer(ask, question, |answer| match answer {
        Answer::Conversation(detail) => Some(*detail),
        _ => None,
    });
    Ok(compose(detail.await?))
}

fn compose(detail: Detail) -> Panel {
    let mut offers = Vec::new();
    let mut facts = Vec::with_capacity(detail.facts.len());
    for fact in detail.facts {
        facts.push(match fact {
            Fact::Known(record) => {
                follow(&mut offers, &record);
                Line { at: record.at, name: record.event.name().to_owned(), text: words::fact(&record.event) }
            }
            Fact::Unknown { at, event } => Line { at, text: event.name.replace(['.', '_'], " "), name: event.name },
        });
    }
    Panel {
        conversation: detail.conversation.map(Row::from),
        explanation: detail.explanation.map(|explanation| Standing {
            summary: explanation.summary,
            waiting_ms: explanation.waiting_ms,
            position: explanation.position,
            asked: explanation.asked,
            round: explanation.round,
            now: explanation.now.into(),
        }),
        offers,
        facts,
    }
}

/// Adds an offer that was made, or writes down how one ended.
fn follow(offers: &mut Vec<Offer>, record: &EventRecord) {
    let (ended, outcome, said) = match &*record.event {
        Event::OfferCreated { offer, agent, expires_at, decision, .. } => {
            offers.push(Offer {
                offer: *offer,
                agent: agent.clone(),
                at: record.at,
                expires_at: *expires_at,
                outcome: None,
                ended_at: None,
                reason: None,
                choice: decision.clone().into(),
            });
            return;
        }
        Event::OfferAccepted { offer, .. } => (offer, "accepted", None),
        Event::OfferDeclined { offer, reason, .. } => (offer, "declined", reason.clone()),
        Event::OfferExpired { offer, .. } => (offer, "expired", None),
        Event::OfferRescinded { offer, reason, .. } => (offer, "rescinded", Some(words::rescinded(reason).into())),
        _ => return,
    };
    if let Some(offer) = offers.iter_mut().rev().find(|offer| offer.offer == *ended) {
        offer.outcome = Some(outcome);
        offer.ended_at = Some(record.at);
        offer.reason = said;
    }
}
