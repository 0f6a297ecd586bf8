//! Facts and reasons in plain words. What customers and agents wrote is never among them: messages,
//! notes, subject lines and addresses stay out.

use contract::Event;
use contract::envelope::{Direction, EnvelopeKind};
use contract::event::{Decision, EnqueueReason, Exclusion, Presence};

/// Why an agent was left out.
pub fn exclusion(because: &Exclusion) -> String {
    match because {
        Exclusion::Presence { presence: Presence::Offline } => "is signed out".to_owned(),
        Exclusion::Presence { presence } => format!("is {presence}"),
        Exclusion::Disconnected => "is disconnected".to_owned(),
        Exclusion::AlreadyAsked => "was asked in this round already".to_owned(),
        Exclusion::MissingSkill { skill, needed, has: 0 } => format!("lacks {skill} (level {needed} is needed)"),
        Exclusion::MissingSkill { skill, needed, has } => {
            format!("has {skill} at level {has}, level {needed} is needed")
        }
        Exclusion::Full { load, capacity } => format!("has no room ({load} of {capacity} in use)"),
        Exclusion::PrimaryFull { load, capacity } => {
            format!("is full of work that is not interrupted ({load} of {capacity} in use)")
        }
        Exclusion::NotInPool => "is not asked in this step".to_owned(),
        Exclusion::Delayed { .. } => "is asked only for what has waited longer".to_owned(),
        Exclusion::NotResponding { .. } => "let too many offers lapse, and has done nothing since".to_owned(),
        Exclusion::Resting { .. } => "is left alone for a while after an offer that came to nothing".to_owned(),
        Exclusion::OfferRate { .. } => "has had as many offers as are allowed for now".to_owned(),
        Exclusion::Unfit { condition } => format!("does not meet: {condition}"),
        Exclusion::ChannelCap { cap } => format!("holds {cap} of this channel, which is the most"),
        Exclusion::LabelCap { label, cap } => format!("holds {cap} with the label {label}, which is the most"),
        Exclusion::Blocked { by } => format!("holds a {by} conversation, which goes together with no other"),
    }
}

/// What put the first before the others; what it is called is for the reader to add.
pub fn tie_break(decision: &Decision) -> Option<&'static str> {
    Some(match decision.tie_break.as_str() {
        "only_candidate" => "nobody else could take it",
        "affinity" => "it is meant for this agent, or this agent knows the customer",
        "tier" => "is of a nearer ring of the queue",
        "preferred" => "has more of what is preferred",
        "skill" => "has the higher skills",
        "strategy" => "comes first by the queue's strategy",
        "longest_idle" => "equal by the strategy, but idle longest",
        "fewest_offers" => "as good as others, and had fewer offers lately",
        "agent_id" => "as good as others, and first by name",
        "ring" => "is asked beside the first",
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
        EnqueueReason::Reopened => "it had ended, and the customer wrote again",
        EnqueueReason::Overflowed => "sent on by another queue",
        EnqueueReason::Stale => "grown old, to be looked through",
        EnqueueReason::Repolicied => "the policy was applied to what waits",
        EnqueueReason::QueueGone => "its queue is no longer in the policy",
        EnqueueReason::Forced => "by an operator",
        EnqueueReason::CallFailed => "its agent could not be reached by telephone",
        EnqueueReason::Other(other) => other,
    }
}

/// A fact.
pub fn fact(event: &Event) -> String {
    match event {
        Event::ConversationOpened { thread, .. } => format!("opened on {}", thread.account.kind),
        Event::ConversationEnqueued { queue, reason, direct, .. } => {
            let meant = direct.as_ref().map(|agent| format!(", meant for {agent}")).unwrap_or_default();
            format!("queued in {queue}{meant}: {}", enqueue_reason(reason))
        }
        Event::ConversationRoundExhausted { .. } => "everybody was asked; a pause before the next round".to_owned(),
        Event::ConversationRoundStarted { round, .. } => format!("round {round}: all may be asked again"),
        Event::ConversationAssigned { agent, forced_by: Some(by), .. } => format!("forced on {agent} by {by}"),
        Event::ConversationAssigned { agent, .. } => format!("assigned to {agent}"),
        Event::ConversationStepReached { step, because, .. } if because == "time" => {
            format!("step {} of what it asks for: time is up for the one before", step + 1)
        }
        Event::ConversationStepReached { step, .. } => {
            format!("step {} of what it asks for: nobody signed in could meet the one before", step + 1)
        }
        Event::ConversationWaited { waited_ms, .. } => format!("has waited {} s", waited_ms.0 / 1000),
        Event::ConversationFellBack { action, because, .. } => {
            let action = format!("{action:?}").to_lowercase();
            format!("nobody was found ({}): {action}", because.replace('_', " "))
        }
        Event::ConversationAlarmRaised { alarm, .. } => format!("alarm: {}", alarm.replace('_', " ")),
        Event::ConversationAlarmEnded { .. } => "alarm over: somebody who could take it signed in".to_owned(),
        Event::ConversationPrioritized { priority, by, .. } => {
            let by = by.as_ref().map_or_else(|| "an operator".to_owned(), ToString::to_string);
            format!("priority {priority} by {by}")
        }
        Event::ConversationClassified { classification, .. } => {
            let intent = classification.intent.as_deref().unwrap_or("unknown");
            format!("classified as {intent} ({})", classification.outcome)
        }
        Event::ConversationIdled { .. } => "the customer has been silent for long".to_owned(),
        Event::ConversationReactivated { .. } => "the customer writes again".to_owned(),
        Event::ConversationConsultStarted { agent, by, .. } => format!("{by} asks {agent} for advice"),
        Event::ConversationConsultEnded { agent, .. } => format!("advice of {agent} ended"),
        Event::ConversationMonitorStarted { agent, .. } => format!("{agent} reads along"),
        Event::ConversationMonitorEnded { agent, .. } => format!("{agent} reads along no longer"),
        Event::ConversationTakenBack { agent, .. } => format!("handover called off by {agent}"),
        Event::ConversationAbandoned { waited_ms, .. } => {
            format!("the customer gave up after {} s", waited_ms.0 / 1000)
        }
        Event::ConversationReopened { thread, .. } => format!("reopened on {}", thread.account.kind),
        Event::MessageNotified { notice, thread, .. } => {
            format!("message from the program by {} ({notice})", thread.account.kind)
        }
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
        Event::ConversationClosed { by, reason, disposition, .. } => {
            let reason = reason.as_deref().unwrap_or("by time").replace('_', " ");
            let by = by.as_ref().map_or(reason, |agent| format!("by {agent}"));
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
            EnvelopeKind::Media => "media of the customer's message fetched".to_owned(),
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
        Event::CustomerMerged { customer, from, by, .. } if by == "evidence" => {
            format!("{from} and {customer} proved to be one customer")
        }
        Event::CustomerMerged { customer, from, by, .. } => {
            format!("{from} and {customer} are one customer, says {by}")
        }
        Event::CustomerSplit { customer, from, by } => format!("{customer} and {from} are two customers, says {by}"),
        Event::CustomerMatchSuggested { customer, with, .. } => format!("{customer} and {with} may be one customer"),
        Event::MessageMirrored { by, thread, .. } => {
            format!("shown on {} too, where it went by {by}", thread.account.kind)
        }
        Event::ConversationSwitchOffered { thread, by: None, .. } => {
            format!("the customer asked to go on by {}", thread.account.kind)
        }
        Event::ConversationSwitchOffered { thread, .. } => {
            format!("the customer was asked to go on by {}", thread.account.kind)
        }
        Event::ConversationSwitchShown { account, .. } => format!("the customer asked to go on by {}", account.kind),
        Event::ConversationSwitched { .. } => "the customer went on by another channel".to_owned(),
        Event::CustomerSignalled { .. } => "something happened to the customer's address".to_owned(),
        other => other.name().replace(['.', '_'], " "),
    }
}

/// Why an offer was taken back.
pub fn rescinded(reason: &str) -> &str {
    match reason {
        "agent_disconnected" => "its tool was disconnected",
        "presence" => "it no longer takes offers",
        "policy" => "the policy changed",
        "closed" => "the conversation ended",
        "answered" => "somebody else accepted",
        "withdrawn" => "the customer left",
        "taken_back" => "the handover was called off",
        "forced" => "it was given to somebody by a supervisor",
        "overflowed" => "it went to another queue",
        "not_responding" => "it let too many offers lapse",
        other => other,
    }
}
