//! Entries into journal records of a size that the bus takes. Pure.

use contract::journal::{Behind, Cause, Entry, Record, VERSION};
use contract::limits::JOURNAL_BYTES_MAX;
use contract::{Encoding, SmolStr};

use crate::error::Error;

/// A record that is ready to be appended.
pub(crate) struct Packed {
    pub(crate) record: Record,
    pub(crate) bytes: Vec<u8>,
}

/// What every record of a batch has in common.
pub(crate) struct Frame {
    pub(crate) epoch: u64,
    pub(crate) behind: Behind,
    /// How far the input was decided before the batch, and after it.
    pub(crate) cursor_before: u64,
    pub(crate) cursor_after: u64,
}

/// Packs the entries of a batch into as few records as fit. Nearly always that is one; when it is not,
/// all but the last keep the old cursor, so that a crash in between reads the input again and the memory
/// of provider ids drops what was decided.
pub(crate) fn pack(entries: Vec<Entry>, frame: &Frame, new_id: impl Fn() -> SmolStr) -> Result<Vec<Packed>, Error> {
    let mut packed = Vec::new();
    let mut rest = vec![entries];
    while let Some(entries) = rest.pop() {
        let last = rest.is_empty();
        let record = Record {
            v: VERSION,
            id: new_id(),
            epoch: frame.epoch,
            cursor: if last { frame.cursor_after } else { frame.cursor_before },
            behind: frame.behind,
            entries,
        };
        let bytes = Encoding::MsgPack.encode(&record).map_err(|e| Error::unreadable("record", e))?;
        if bytes.len() <= JOURNAL_BYTES_MAX {
            packed.push(Packed { record, bytes });
            continue;
        }
        let (first, second) = halves(record.entries)?;
        rest.push(second);
        rest.push(first);
    }
    Ok(packed)
}

/// Halves a list of entries; a single entry is halved by its facts, and its cause stays with the last
/// half, so that an input counts as taken in only when all of it is.
fn halves(mut entries: Vec<Entry>) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
    if entries.len() > 1 {
        let second = entries.split_off(entries.len() / 2);
        return Ok((entries, second));
    }
    match entries.pop() {
        Some(mut entry) if entry.events.len() > 1 => {
            let second = entry.events.split_off(entry.events.len() / 2);
            let second = Entry { events: second, ..entry.clone() };
            entry.cause = Cause::Notice;
            Ok((vec![entry], vec![second]))
        }
        _ => Err(Error::unreadable("record", "one fact alone is larger than a record may be")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Event, Timestamp};
    use std::sync::Arc;

    fn entry(facts: usize, bytes: usize) -> Entry {
        let fact = Event::InputRejected { in_seq: 1, index: None, subject: "x".repeat(bytes), reason: String::new() };
        Entry {
            tenant: "main".parse().unwrap(),
            at: Timestamp(1),
            cause: Cause::Timer,
            events: std::iter::repeat_n(Arc::new(fact), facts).collect(),
        }
    }

    fn frame() -> Frame {
        Frame { epoch: 1, behind: Behind::default(), cursor_before: 5, cursor_after: 9 }
    }

    #[test]
    fn one_record_when_it_fits() {
        let packed = pack(vec![entry(2, 10), entry(1, 10)], &frame(), || "id".into()).unwrap();
        assert_eq!(packed.len(), 1);
        assert_eq!(packed[0].record.cursor, 9);
    }

    #[test]
    fn splits_keep_order_and_move_the_cursor_last() {
        let packed = pack(vec![entry(3, 300_000), entry(8, 200_000)], &frame(), || "id".into()).unwrap();
        assert!(packed.len() > 2);
        assert!(packed.iter().all(|one| one.bytes.len() <= JOURNAL_BYTES_MAX));
        let facts: usize = packed.iter().flat_map(|one| &one.record.entries).map(|entry| entry.events.len()).sum();
        assert_eq!(facts, 11);
        let (last, earlier) = packed.split_last().unwrap();
        assert_eq!(last.record.cursor, 9);
        assert!(earlier.iter().all(|one| one.record.cursor == 5));
        let causes: Vec<_> = packed.iter().flat_map(|one| &one.record.entries).map(|entry| &entry.cause).collect();
        assert_eq!(causes.iter().filter(|cause| ***cause == Cause::Timer).count(), 2);
        assert_eq!(causes.last(), Some(&&Cause::Timer));
    }
}
