//! Keeps answers below the contract's limit: what does not fit is left out, never cut.

use contract::answer::{AdminAnswer, Context, History, MediaPiece};
use contract::command::{Done, Refusal, RefusalKind, Reply};
use contract::feed::Sync;
use contract::limits::REPLY_BYTES_MAX;
use contract::outbound::{ShardLag, ThreadHistory, ThreadWait};
use contract::{Encoding, EventRecord};
use serde::Serialize;

/// Room for what is around a result: the id of the request, its position.
const AROUND_BYTES_MAX: usize = 2 * 1024;

/// An answer, and what it can do without.
pub(crate) trait Fit: Serialize {
    /// Leaves out `excess` encoded bytes or more; `false` when there is nothing to leave out.
    fn shorten(&mut self, _excess: usize, _encoding: Encoding) -> bool {
        false
    }
}

impl Fit for () {}
impl Fit for Done {}
// What was missed is all or nothing: the router answers with a snapshot instead.
impl Fit for Sync {}
impl Fit for ThreadWait {}
impl Fit for ShardLag {}
// It was cut to fit.
impl Fit for MediaPiece {}

impl Fit for History {
    fn shorten(&mut self, excess: usize, encoding: Encoding) -> bool {
        let shortened = leave_out_oldest(&mut self.records, excess, encoding);
        self.more |= shortened;
        shortened
    }
}

impl Fit for Context {
    fn shorten(&mut self, excess: usize, encoding: Encoding) -> bool {
        let shortened = leave_out_oldest(&mut self.messages, excess, encoding);
        self.more |= shortened;
        shortened || leave_out_oldest(&mut self.notes, excess, encoding)
    }
}

/// A transcript that goes on from somewhere: what does not fit is asked for next.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Continued(pub(crate) ThreadHistory);

impl Fit for Continued {
    fn shorten(&mut self, excess: usize, encoding: Encoding) -> bool {
        leave_out_end(&mut self.0.records, excess, encoding)
    }
}

impl Fit for ThreadHistory {
    fn shorten(&mut self, excess: usize, encoding: Encoding) -> bool {
        leave_out_oldest(&mut self.records, excess, encoding)
    }
}

impl Fit for AdminAnswer {
    fn shorten(&mut self, excess: usize, encoding: Encoding) -> bool {
        match self {
            Self::Conversation(detail) => leave_out_oldest(&mut detail.facts, excess, encoding),
            Self::Customer(detail) => leave_out_oldest(&mut detail.facts, excess, encoding),
            Self::Conversations(views) => leave_out_end(views, excess, encoding),
            Self::Agents(views) => leave_out_end(views, excess, encoding),
            Self::Suggestions(suggestions) => leave_out_end(suggestions, excess, encoding),
            Self::Customers(views) => leave_out_end(views, excess, encoding),
            Self::Status(_) | Self::Shadow(_) => false,
        }
    }
}

/// How many of these to leave out, in this order, so that `excess` bytes are gone.
fn enough<'a, T: Serialize + 'a>(items: impl Iterator<Item = &'a T>, excess: usize, encoding: Encoding) -> usize {
    let (mut gone, mut count) = (0, 0);
    for item in items {
        if gone >= excess {
            break;
        }
        gone += encoding.encode(item).map_or(0, |bytes| bytes.len());
        count += 1;
    }
    count
}

fn leave_out_oldest(records: &mut Vec<EventRecord>, excess: usize, encoding: Encoding) -> bool {
    let count = enough(records.iter(), excess, encoding);
    records.drain(..count);
    count > 0
}

fn leave_out_end<T: Serialize>(items: &mut Vec<T>, excess: usize, encoding: Encoding) -> bool {
    let count = enough(items.iter().rev(), excess, encoding);
    items.truncate(items.len() - count);
    count > 0
}

/// Whether a result can be answered whole.
pub(crate) fn fits<T: Serialize>(result: &T, encoding: Encoding) -> bool {
    encoding.encode(result).is_ok_and(|bytes| bytes.len() + AROUND_BYTES_MAX <= REPLY_BYTES_MAX)
}

/// Encodes a reply so that it fits; `None` when it cannot be written at all.
pub(crate) fn encode<T: Fit>(mut reply: Reply<T>, encoding: Encoding) -> Option<Vec<u8>> {
    loop {
        let payload = encoding.encode(&reply).ok()?;
        let excess = payload.len().saturating_sub(REPLY_BYTES_MAX);
        if excess == 0 {
            return Some(payload);
        }
        if !reply.result.as_mut().is_some_and(|result| result.shorten(excess, encoding)) {
            let message = format!("the answer is over {REPLY_BYTES_MAX} bytes; ask for less");
            return encoding.encode(&Reply::<()>::refused(reply.id, Refusal::new(RefusalKind::TooLarge, message))).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::journal::Position;
    use contract::{AgentId, ConversationId, CustomerId, Event, TenantId, Timestamp};

    use super::*;

    fn record(seq: u64, bytes: usize) -> EventRecord {
        let note = Event::NoteAdded {
            conversation: ConversationId(1),
            agent: AgentId::new("anna").unwrap(),
            text: "x".repeat(bytes),
        };
        EventRecord {
            position: Position { shard: 0, seq, index: 0 },
            tenant: TenantId::new("main").unwrap(),
            at: Timestamp(1),
            customer: Some(CustomerId(1)),
            conversation: Some(ConversationId(1)),
            event: note.into(),
        }
    }

    fn history(records: Vec<EventRecord>) -> Reply<History> {
        Reply::done("q".into(), History { customer: CustomerId(1), records, more: false })
    }

    #[test]
    fn the_oldest_are_left_out_and_no_more_than_needed() {
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            let records = (0..20).map(|seq| record(seq, 100 * 1024)).collect();
            let payload = encode(history(records), encoding).unwrap();
            assert!(payload.len() <= REPLY_BYTES_MAX && payload.len() > REPLY_BYTES_MAX - 110 * 1024);
            let reply: Reply<History> = encoding.decode(&payload, REPLY_BYTES_MAX).unwrap();
            let result = reply.result.unwrap();
            assert!(result.more);
            let kept: Vec<u64> = result.records.iter().map(|record| record.position.seq).collect();
            assert_eq!(kept, (12..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_fits_stays_whole() {
        let reply = history(vec![record(1, 10)]);
        let payload = encode(reply.clone(), Encoding::Json).unwrap();
        assert_eq!(Encoding::Json.decode::<Reply<History>>(&payload, REPLY_BYTES_MAX).unwrap(), reply);
        assert!(fits(&reply.result, Encoding::Json));
        assert!(!fits(&vec![record(1, REPLY_BYTES_MAX - 1024)], Encoding::Json));
    }

    #[test]
    fn what_cannot_be_shortened_is_refused() {
        let sync = Sync { epoch: 1, head: 1, items: Vec::new(), snapshot: None };
        let mut reply = Reply::done("q".into(), sync);
        reply.result.as_mut().unwrap().items = (1..=10)
            .map(|seq| contract::feed::FeedItem { epoch: 1, seq, context: None, record: record(seq, 100 * 1024) })
            .collect();
        let payload = encode(reply, Encoding::Json).unwrap();
        let reply: Reply<Sync> = Encoding::Json.decode(&payload, REPLY_BYTES_MAX).unwrap();
        assert_eq!((reply.id.as_str(), reply.refusal.unwrap().kind), ("q", RefusalKind::TooLarge));
    }

    #[test]
    fn of_lists_the_end_is_left_out() {
        let mut list: Vec<EventRecord> = (0..4).map(|seq| record(seq, 1000)).collect();
        assert!(leave_out_end(&mut list, 1500, Encoding::MsgPack));
        assert_eq!(list.iter().map(|record| record.position.seq).collect::<Vec<_>>(), [0, 1]);
    }
}
