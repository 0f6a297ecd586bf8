//! What happens when time passes.

use contract::{AgentId, ConversationId, OfferId, QueueId};

use crate::conversation::ThreadKey;

/// Something that is due at a time. The order decides between timers of the same millisecond. Names are boxed:
/// most timers are of conversations, and should not be longer than theirs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An offer lapses.
    Offer(OfferId),
    /// A disconnected agent loses its conversations.
    Grace(Box<AgentId>),
    /// An agent that did not respond is asked again.
    Responding(Box<AgentId>),
    /// A queue opens or closes.
    Hours(Box<QueueId>),
    /// Nobody has said in time what a conversation is about.
    Classify(ConversationId),
    /// A parked conversation resumes.
    Park(ConversationId),
    /// A wrap-up ends.
    WrapUp(ConversationId),
    /// A step of a requirement ends.
    Step(ConversationId),
    /// A conversation has waited as long as its queue allows.
    WaitMax(ConversationId),
    /// A conversation has waited as long as its queue allows without anybody signed in who could take it.
    NoAgents(ConversationId),
    /// Everybody may be asked again.
    Round(ConversationId),
    /// The customer has been silent for long.
    Idle(ConversationId),
    /// Both have been silent for so long that it is parked.
    ParkIdle(ConversationId),
    /// Both have been silent for so long that it is closed.
    CloseIdle(ConversationId),
    /// A conversation has waited so long that something depends on it.
    Waited(ConversationId),
    /// An agent that was left alone may be asked again.
    Rest(Box<AgentId>),
    /// Answers have lain on a thread unread for long.
    Unread(Box<ThreadKey>),
}
