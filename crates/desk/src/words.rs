//! Facts and reasons in plain words. What customers and agents wrote is never among them: messages,
//! notes, subject lines and addresses stay out.

use contract::Event;
use contract::envelope::{Direction, EnvelopeKind};
use contract::event::{Decision, EnqueueReason, Exclusion, Presence};

/// Why an agent was left out.
pub(crate) fn exclusion(because: &Exclusion) -> String {
    match because {
        Exclusion::Presence { presence: Presence::Offline } => "is signed out".to_owned(),
        Exclusion::Presence { presence } => format!("is {presence}"),
        Exclusion::Disconnected => "is disconnected".to_owned(),
        Exclusion::AlreadyAsked => "was asked in this round already".to_owned(),
        Exclusion::MissingSkill { skill, has: 0, .. } => format!("does not have the skill {skill}"),
        Exclusion::MissingSkill { skill, needed, has } => {
            format!("has {skill} at level {has}, level {needed} is needed")
        }
        Exclusion::Full { load, capacity } => format!("has no room ({load} of {capacity} in use)"),
    }
}

/// What put the first before the others; what it is called is for the reader to add.
pub(crate) fn tie_break(decision: &Decision) -> Option<&'static str> {
    Some(match decision.tie_break.as_str() {
        "only_candidate" => "nobody else could take it",
        "load" => "has the most room",
        "longest_idle" => "as much room as others, but idle longest",
        "agent_id" => "as good as others, and first by name",
        "direct" => "the conversation was meant for this agent",
        _ => return None,
    })
}

fn enqueue_reason(reason: &EnqueueReason) -> &str {
    match reason {
        EnqueueReason::Opened => "new",
        EnqueueReason::AgentLost => "its agent was lost",
        EnqueueReason::AgentSignedOut => "its agent signed out",
        EnqueueReason::Transferred => "transferred",
        EnqueueReason::Resumed => "the customer wrote and its agent could not take it back",
        EnqueueReason::Other(other) => other,
    }
}

/// A fact.
pub(crate) fn fact(event: &Event) -> String {
    match event {
        Event::ConversationOpened { thread, .. } => format!("opened on {}", thread.account.kind),
        Event::ConversationEnqueued { queue, reason, direct, .. } => {
            let meant = direct.as_ref().map(|agent| format!(", meant for {agent}")).unwrap_or_default();
            format!("queued in {queue}{meant}: {}", enqueue_reason(reason))
        }
        Event::ConversationRoundExhausted { .. } => "everybody was asked; a pause before the next round".to_owned(),
        Event::ConversationRoundStarted { round, .. } => format!("round {round}: all may be asked again"),
        Event::ConversationAssigned { agent, .. } => format!("assigned to {agent}"),
        Event::ConversationTransferred { by, to_queue, to_agent: Some(agent), .. } => {
            format!("transferred by {by} to {agent} in {to_queue}")
        }
        Event::ConversationTransferred { by, to_queue, .. } => format!("transferred by {by} to {to_queue}"),
        Event::ConversationParked { agent, until: Some(_), .. } => format!("parked by {agent} for a time"),
        Event::ConversationParked { agent, .. } => format!("parked by {agent} until the customer writes"),
        Event::ConversationResumed { agent, cause, .. } => {
            let cause = match cause.as_str() {
                "message" => "the customer wrote",
                "time" => "the time came",
                "agent" => "by the agent",
                other => other,
            };
            format!("resumed with {agent}: {cause}")
        }
        Event::ConversationWrapUpStarted { agent, .. } => format!("wrap-up by {agent} began"),
        Event::ConversationClosed { by, disposition, .. } => {
            let by = by.as_ref().map_or_else(|| "by time".to_owned(), |agent| format!("by {agent}"));
            let outcome = disposition.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
            format!("closed {by}{outcome}")
        }
        Event::OfferCreated { offer, agent, .. } => format!("offered to {agent} ({offer})"),
        Event::OfferAccepted { offer, agent, .. } => format!("accepted by {agent} ({offer})"),
        Event::OfferDeclined { offer, agent, reason: Some(reason), .. } => {
            format!("declined by {agent} ({offer}): {reason}")
        }
        Event::OfferDeclined { offer, agent, .. } => format!("declined by {agent} ({offer})"),
        Event::OfferExpired { offer, agent, .. } => format!("not answered in time by {agent} ({offer})"),
        Event::OfferRescinded { offer, agent, reason, .. } => {
            format!("taken back from {agent} ({offer}): {}", rescinded(reason))
        }
        Event::MessageReceived { envelope, .. } => {
            let whose = if envelope.kind == EnvelopeKind::Echo || envelope.direction == Direction::OutEcho {
                "account's owner"
            } else {
                "customer"
            };
            format!("message from {whose} by {}", envelope.account.kind)
        }
        Event::MessageAmended { envelope, .. } => match envelope.kind {
            EnvelopeKind::Edit => "message edited by customer".to_owned(),
            EnvelopeKind::Delete => "message withdrawn by customer".to_owned(),
            EnvelopeKind::Reaction => "reaction from customer".to_owned(),
            _ => "message amended by customer".to_owned(),
        },
        Event::MessageSent { agent, thread, .. } => format!("message from agent {agent} by {}", thread.account.kind),
        Event::MessageStatusChanged { status, messages, .. } if messages.len() == 1 => {
            format!("message to customer: {}", status.as_str())
        }
        Event::MessageStatusChanged { status, messages, .. } => {
            format!("{} messages to customer: {}", messages.len(), status.as_str())
        }
        Event::NoteAdded { agent, .. } => format!("note by {agent}"),
        Event::CustomerSignalled { .. } => "something happened to the customer's address".to_owned(),
        other => other.name().replace(['.', '_'], " "),
    }
}

/// Why an offer was taken back.
pub(crate) fn rescinded(reason: &str) -> &str {
    match reason {
        "agent_disconnected" => "its tool was disconnected",
        "presence" => "it no longer takes offers",
        "policy" => "the policy changed",
        "closed" => "the conversation ended",
        other => other,
    }
}
