//! What happens when time passes.

use contract::{AgentId, ConversationId, OfferId};

/// Something that is due at a time. The order decides between timers of the same millisecond.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// An offer lapses.
    Offer(OfferId),
    /// A disconnected agent loses its conversations.
    Grace(AgentId),
    /// A parked conversation resumes.
    Park(ConversationId),
    /// A wrap-up ends.
    WrapUp(ConversationId),
    /// Everybody may be asked again.
    Round(ConversationId),
}
