//! Which sockets of this process are on which thread, and what is known of the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adapter::contract::outbound::Author;
use adapter::contract::{AgentId, ConversationId, SmolStr};
use axum::extract::ws::Utf8Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::telemetry::Metric;

/// How much waits for a slow socket before it is closed.
const QUEUE_MAX: usize = 128;
/// Most agents whose names are kept.
const NAMES_MAX: usize = 10_000;

/// What a socket is given.
#[derive(Debug, Clone)]
pub(crate) enum Push {
    /// A message of the thread.
    Message {
        /// Its number.
        seq: u64,
        /// Its frame.
        frame: Utf8Bytes,
    },
    /// Anything else.
    Frame(Utf8Bytes),
    /// Another socket of the thread said something: the transcript has news.
    Refresh,
}

/// The sockets of one account.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    threads: DashMap<SmolStr, Thread>,
    /// The threads of conversations, for signals that name no thread.
    conversations: DashMap<ConversationId, SmolStr>,
    names: DashMap<AgentId, SmolStr>,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Thread {
    sockets: Vec<(u64, mpsc::Sender<Push>)>,
    conversation: Option<ConversationId>,
}

/// A socket's place in its thread; dropping it takes the socket off.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    id: u64,
    thread: SmolStr,
    /// What the socket is given; ends when the socket was too slow.
    pub(crate) pushes: mpsc::Receiver<Push>,
}

impl Hub {
    /// Puts a socket on a thread.
    pub(crate) fn join(self: &Arc<Self>, thread: SmolStr) -> Seat {
        let (sender, pushes) = mpsc::channel(QUEUE_MAX);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.threads.entry(thread.clone()).or_default().sockets.push((id, sender));
        Seat { hub: Arc::clone(self), id, thread, pushes }
    }

    /// Takes a socket off its thread.
    fn leave(&self, seat: &Seat) {
        if let Some(mut thread) = self.threads.get_mut(&seat.thread) {
            thread.sockets.retain(|(id, _)| *id != seat.id);
        }
        if let Some((_, thread)) = self.threads.remove_if(&seat.thread, |_, thread| thread.sockets.is_empty())
            && let Some(conversation) = thread.conversation
        {
            self.conversations.remove_if(&conversation, |_, of| *of == seat.thread);
        }
    }

    /// Gives something to every socket of a thread; how many there were. One whose queue is full is
    /// taken off: it ends, comes back and is given everything again.
    pub(crate) fn push(&self, thread: &str, push: &Push) -> usize {
        self.push_but(thread, None, push)
    }

    /// The same, but not to the one that it comes from.
    pub(crate) fn push_others(&self, seat: &Seat, push: &Push) {
        self.push_but(&seat.thread, Some(seat.id), push);
    }

    fn push_but(&self, thread: &str, but: Option<u64>, push: &Push) -> usize {
        let Some(mut thread) = self.threads.get_mut(thread) else { return 0 };
        let mut given = 0;
        thread.sockets.retain(|(id, sender)| {
            if but == Some(*id) {
                return true;
            }
            match sender.try_send(push.clone()) {
                Ok(()) => {
                    given += 1;
                    true
                }
                Err(TrySendError::Full(_)) => {
                    Metric::Closed.count("slow");
                    false
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
        given
    }

    /// How much waits for all sockets together.
    pub(crate) fn waiting(&self) -> usize {
        let of = |(_, sender): &(u64, mpsc::Sender<Push>)| sender.max_capacity() - sender.capacity();
        self.threads.iter().map(|thread| thread.value().sockets.iter().map(of).sum::<usize>()).sum()
    }

    /// A thread was found to be of a conversation.
    pub(crate) fn learn(&self, thread: &str, conversation: ConversationId) {
        let Some(mut of) = self.threads.get_mut(thread) else { return };
        let before = of.conversation.replace(conversation);
        drop(of);
        if before != Some(conversation) {
            if let Some(before) = before {
                self.conversations.remove(&before);
            }
            self.conversations.insert(conversation, thread.into());
        }
    }

    /// The conversation of a thread.
    pub(crate) fn conversation(&self, thread: &str) -> Option<ConversationId> {
        self.threads.get(thread)?.conversation
    }

    /// The thread of a conversation.
    pub(crate) fn thread(&self, conversation: ConversationId) -> Option<SmolStr> {
        self.conversations.get(&conversation).map(|thread| thread.clone())
    }

    /// An author's name was seen.
    pub(crate) fn learn_name(&self, author: &Author) {
        if let (Some(agent), Some(name)) = (&author.agent, &author.display) {
            if self.names.len() >= NAMES_MAX {
                self.names.clear();
            }
            self.names.insert(agent.clone(), name.clone());
        }
    }

    /// The name of an agent.
    pub(crate) fn name(&self, agent: &AgentId) -> Option<SmolStr> {
        self.names.get(agent).map(|name| name.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Push {
        Push::Message { seq, frame: "{}".into() }
    }

    #[tokio::test]
    async fn a_push_reaches_every_socket_of_the_thread_only() {
        let hub = Arc::new(Hub::default());
        let (mut one, mut two, mut other) = (hub.join("t".into()), hub.join("t".into()), hub.join("u".into()));
        assert_eq!(hub.push("t", &message(1)), 2);
        assert!(one.pushes.try_recv().is_ok() && two.pushes.try_recv().is_ok() && other.pushes.try_recv().is_err());
        hub.push_others(&one, &Push::Refresh);
        assert!(one.pushes.try_recv().is_err() && two.pushes.try_recv().is_ok());
        drop(one);
        assert_eq!(hub.push("t", &message(2)), 1);
        assert_eq!(hub.push("nobody", &message(1)), 0);
    }

    #[tokio::test]
    async fn a_slow_socket_is_taken_off_and_ends_after_what_it_has() {
        let hub = Arc::new(Hub::default());
        let mut slow = hub.join("t".into());
        for seq in 0..QUEUE_MAX as u64 {
            assert_eq!(hub.push("t", &message(seq)), 1);
        }
        let other = hub.join("u".into());
        hub.push("u", &Push::Refresh);
        assert_eq!(hub.waiting(), QUEUE_MAX + 1);
        drop(other);
        assert_eq!(hub.push("t", &message(999)), 0);
        assert_eq!(hub.waiting(), 0, "nothing comes for it any more");
        let mut held = 0;
        while slow.pushes.recv().await.is_some() {
            held += 1;
        }
        assert_eq!(held, QUEUE_MAX);
        drop(slow);
        assert!(hub.threads.is_empty());
    }

    #[test]
    fn what_is_known_of_a_thread_goes_with_its_last_socket() {
        let hub = Arc::new(Hub::default());
        let seat = hub.join("t".into());
        hub.learn("t", ConversationId(1));
        hub.learn("t", ConversationId(2));
        assert_eq!(hub.thread(ConversationId(1)), None);
        assert_eq!(hub.thread(ConversationId(2)), Some("t".into()));
        assert_eq!(hub.conversation("t"), Some(ConversationId(2)));
        drop(seat);
        assert!(hub.conversations.is_empty() && hub.threads.is_empty());
        hub.learn("t", ConversationId(3));
        assert!(hub.conversations.is_empty());
    }
}
