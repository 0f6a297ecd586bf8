//! What one message of `EVENTS` holds: a fact, or an array of facts of the same subject.

use super::EventRecord;
use crate::codec::{CodecError, Encoding};
use crate::limits::{EVENTS_RECORDS_MAX, JOURNAL_BYTES_MAX};
use crate::several::{self, Bound, Several};

const BOUND: Bound = Bound { most: EVENTS_RECORDS_MAX, what: "facts" };

/// Reads a message of `EVENTS`: each of its facts, in order. One that cannot be read, such as a type that
/// is newer than this reader, does not take its neighbours along.
///
/// # Errors
/// When the message as a whole cannot be taken: too large, or so broken that the facts in it cannot be
/// told apart.
pub fn decode_events(
    payload: &[u8],
    content_type: Option<&str>,
) -> Result<Vec<Result<EventRecord, CodecError>>, CodecError> {
    let encoding = Encoding::detect(content_type, payload)?;
    if payload.len() > JOURNAL_BYTES_MAX {
        return Err(CodecError(format!("{} bytes, but at most {JOURNAL_BYTES_MAX} are allowed", payload.len())));
    }
    let one = |bytes: &[u8]| match several::is_array(bytes, encoding) {
        true => Err(CodecError("an array stands where a fact should".to_owned())),
        false => encoding.decode(bytes, JOURNAL_BYTES_MAX),
    };
    Ok(match several::split(payload, encoding, BOUND)? {
        Several::One => vec![one(payload)],
        Several::Array(elements) => elements.into_iter().map(one).collect(),
    })
}

/// Puts facts that are encoded already into one message: one as it is, several as an array.
///
/// # Errors
/// When there is none, or more than [`EVENTS_RECORDS_MAX`].
pub fn join_events<B: AsRef<[u8]>>(encoded: &[B], encoding: Encoding) -> Result<Vec<u8>, CodecError> {
    several::join(encoded, encoding, BOUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CustomerId;
    use crate::event::Event;
    use crate::journal::Position;

    fn record(seq: u64) -> EventRecord {
        EventRecord {
            position: Position { shard: 0, seq, index: 0 },
            tenant: crate::TenantId::new("main").unwrap(),
            at: crate::Timestamp(1),
            customer: Some(CustomerId(1)),
            conversation: None,
            event: std::sync::Arc::new(Event::CustomerRenamed { customer: CustomerId(1), display: "Ann".into() }),
        }
    }

    #[test]
    fn one_and_several_round_trip() {
        for encoding in [Encoding::MsgPack, Encoding::Json] {
            for count in [1, 2, 15, 16, 64] {
                let records: Vec<_> = (0..count).map(record).collect();
                let encoded: Vec<_> = records.iter().map(|record| encoding.encode(record).unwrap()).collect();
                let payload = join_events(&encoded, encoding).unwrap();
                let decoded = decode_events(&payload, Some(encoding.content_type())).unwrap();
                assert_eq!(decoded.into_iter().map(Result::unwrap).collect::<Vec<_>>(), records);
                assert_eq!(decode_events(&payload, None).unwrap().len(), records.len());
                assert_eq!(encoded.len() == 1, payload == encoded[0], "one stays as it is");
            }
            assert!(join_events::<Vec<u8>>(&[], encoding).is_err());
            assert!(join_events(&vec![b"{}"; 65], encoding).is_err());
        }
    }

    #[test]
    fn a_fact_of_an_unknown_type_does_not_take_its_neighbours_along() {
        for encoding in [Encoding::MsgPack, Encoding::Json] {
            let mut unknown = serde_json::to_value(record(2)).unwrap();
            unknown["event"]["type"] = "customer.cloned".into();
            let nested = encoding.encode(&[record(3)]).unwrap();
            let [first, last] = [1, 4].map(|seq| encoding.encode(&record(seq)).unwrap());
            let encoded = [first, encoding.encode(&unknown).unwrap(), nested, last];
            let payload = join_events(&encoded, encoding).unwrap();
            let decoded = decode_events(&payload, Some(encoding.content_type())).unwrap();
            assert_eq!(decoded.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        }
    }
}
