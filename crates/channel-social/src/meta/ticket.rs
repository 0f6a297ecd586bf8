//! A mark on what we send that comes back with what becomes of it: by it a report finds its command though the answer
//! to the call was lost, and its thread though the provider names the person by another id. Pure.

use adapter::contract::outbound::OutCommand;
use adapter::contract::{SmolStr, token};

/// Begins every ticket of ours; other programs may send by the same number.
const MARK: &str = "tl1";
/// Longest ticket that the providers carry, in bytes.
const BYTES_MAX: usize = 512;

/// Which call of which command on which thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The command.
    pub(crate) command: SmolStr,
    /// Which part of it, from 0.
    pub(crate) part: u32,
    /// The key of its thread.
    pub(crate) thread: SmolStr,
}

impl Ticket {
    /// The ticket of one call; `None`: it would be longer than providers carry.
    pub(crate) fn write(command: &OutCommand, part: u32) -> Option<String> {
        let (thread, id) = (token::encode(&command.thread.key), token::encode(&command.command_id));
        let text = format!("{MARK} {part} {thread} {id}");
        (text.len() <= BYTES_MAX).then_some(text)
    }

    /// Reads what [`write`](Self::write) wrote; `None` for whatever somebody else did.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (mark, part, thread, id) = (words.next()?, words.next()?, words.next()?, words.next()?);
        if mark != MARK || words.next().is_some() {
            return None;
        }
        let (thread, command) = (token::decode(thread)?, token::decode(id)?);
        let legal = !thread.is_empty() && !command.is_empty();
        legal.then_some(Self { command: command.into(), part: part.parse().ok()?, thread: thread.into() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_no_other_text_is_one() {
        let mut command: OutCommand = serde_json::from_value(json!({
            "v": 1, "command_id": "main/m17", "tenant": "main", "account": { "kind": "social", "id": "wa" },
            "thread": { "key": "DE.13 a/b" }, "conversation": "c1", "customer": "u1", "message": "m17", "thread_seq": 4,
            "author": {}, "content": [], "at": 1,
        }))
        .unwrap();
        let ticket = Ticket::read(&Ticket::write(&command, 3).unwrap()).unwrap();
        assert_eq!(ticket, Ticket { command: "main/m17".into(), part: 3, thread: "DE.13 a/b".into() });
        for other in ["", "order 17", "tl1", "tl1 x a b", "tl1 0 a b c", "tl1 0  b", "tl2 0 a b"] {
            assert_eq!(Ticket::read(other), None, "{other}");
        }
        command.thread.key = "x".repeat(600).into();
        assert_eq!(Ticket::write(&command, 0), None);
    }
}
