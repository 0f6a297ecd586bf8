//! What one `IN` record holds: an envelope, or an array of them.

use super::Envelope;
use crate::codec::{CodecError, Encoding};
use crate::limits::{MESSAGE_BYTES_MAX, RECORD_BYTES_MAX, RECORD_ENVELOPES_MAX};
use crate::several::{self, Bound, Several};

const BOUND: Bound = Bound { most: RECORD_ENVELOPES_MAX, what: "envelopes" };

/// An envelope of a record that cannot be taken; the others of the record can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// What is wrong with it; never its content.
    pub reason: String,
    /// Its bytes, in the encoding of the record: a record of its own, when it is mended.
    pub bytes: &'a [u8],
}

/// Reads a record: each of its envelopes, in order, valid or rejected by itself.
///
/// # Errors
/// When the record as a whole cannot be taken: too large, empty, too many envelopes, or so broken
/// that the envelopes in it cannot be told apart.
pub fn decode_record<'a>(
    payload: &'a [u8],
    content_type: Option<&str>,
) -> Result<Vec<Result<Envelope, Rejected<'a>>>, CodecError> {
    let encoding = Encoding::detect(content_type, payload)?;
    if payload.len() > RECORD_BYTES_MAX {
        return Err(CodecError(format!("{} bytes, but at most {RECORD_BYTES_MAX} are allowed", payload.len())));
    }
    Ok(match several::split(payload, encoding, BOUND)? {
        Several::One => vec![decode_one(payload, encoding)],
        Several::Array(elements) => elements.into_iter().map(|bytes| decode_one(bytes, encoding)).collect(),
    })
}

/// Writes a record: one envelope as it is, several as an array.
///
/// # Errors
/// When there is none, there are too many, or one or all of them are too large.
pub fn encode_record(envelopes: &[Envelope], encoding: Encoding) -> Result<Vec<u8>, CodecError> {
    let encoded = envelopes.iter().map(|envelope| encoding.encode(envelope)).collect::<Result<Vec<_>, _>>()?;
    let payload = several::join(&encoded, encoding, BOUND)?;
    let largest = encoded.iter().map(Vec::len).max().unwrap_or_default();
    if largest > MESSAGE_BYTES_MAX || payload.len() > RECORD_BYTES_MAX {
        let problem = format!("an envelope of {largest} bytes in a record of {}: too large", payload.len());
        return Err(CodecError(problem));
    }
    Ok(payload)
}

/// The `Nats-Msg-Id` of a record: that of its only envelope, or the first 128 bits of
/// SHA-256 over the fingerprints of all (16 bytes each, big-endian), in hexadecimal. A record that was put together otherwise is another record, or the envelopes that are new in
/// it would be dropped with the ones that are not.
#[must_use]
pub fn record_msg_id(envelopes: &[Envelope]) -> String {
    use sha2::Digest;
    if let [envelope] = envelopes {
        return envelope.msg_id();
    }
    let mut hasher = sha2::Sha256::new();
    for envelope in envelopes {
        hasher.update(envelope.fingerprint().to_be_bytes());
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn decode_one(bytes: &[u8], encoding: Encoding) -> Result<Envelope, Rejected<'_>> {
    let rejected = |reason: String| Rejected { reason, bytes };
    // An array here would be an envelope without field names.
    if several::is_array(bytes, encoding) {
        return Err(rejected("an array stands where an envelope should".to_owned()));
    }
    let envelope: Envelope = encoding.decode(bytes, MESSAGE_BYTES_MAX).map_err(|e| rejected(e.0))?;
    envelope.validate().map_err(|e| rejected(e.to_string()))?;
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(key: &str) -> Envelope {
        serde_json::from_value(serde_json::json!({
            "v": 1, "kind": "message", "tenant": "main", "account": {"kind": "demo", "id": "shop"},
            "dedup_key": key, "thread": {"key": "t"}, "received_at": 1, "content": [{"type": "text", "body": "hi"}],
            "sender": {"identity": {"scheme": "email", "value": "a@b.example", "scope": "global"}},
            "sender_auth": {"level": "unverified"},
        }))
        .unwrap()
    }

    const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MsgPack];

    #[test]
    fn records_round_trip() {
        for encoding in ENCODINGS {
            for count in [1, 2, 15, 16, 32] {
                let envelopes: Vec<_> = (0..count).map(|n| envelope(&n.to_string())).collect();
                let payload = encode_record(&envelopes, encoding).unwrap();
                let decoded = decode_record(&payload, Some(encoding.content_type())).unwrap();
                assert_eq!(decoded.into_iter().map(Result::unwrap).collect::<Vec<_>>(), envelopes);
                assert_eq!(decode_record(&payload, None).unwrap().len(), envelopes.len());
            }
            assert!(encode_record(&[], encoding).is_err());
            assert!(encode_record(&vec![envelope("x"); 33], encoding).is_err());
        }
    }

    #[test]
    fn a_bad_envelope_does_not_take_its_neighbours_along() {
        for encoding in ENCODINGS {
            let mut invalid = serde_json::to_value(envelope("1")).unwrap();
            invalid["content"] = serde_json::json!([]);
            let mut large = serde_json::to_value(envelope("2")).unwrap();
            large["new"] = "x".repeat(MESSAGE_BYTES_MAX).into();
            let strange = serde_json::json!({"v": "secret"});
            let positional = serde_json::json!([1, "message"]);
            let good = serde_json::to_value(envelope("3")).unwrap();
            let record = vec![invalid, large, strange.clone(), positional, good];
            let payload = encoding.encode(&record).unwrap();
            let decoded = decode_record(&payload, Some(encoding.content_type())).unwrap();
            assert_eq!(decoded.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, false, false, false, true]);
            let rejected = decoded[2].as_ref().unwrap_err();
            assert_eq!(rejected.bytes, encoding.encode(&strange).unwrap());
            assert!(!rejected.reason.contains("secret"), "{}", rejected.reason);
        }
    }

    #[test]
    fn a_record_that_cannot_be_taken_apart_is_refused_whole() {
        for encoding in ENCODINGS {
            let mut payload = encode_record(&[envelope("1"), envelope("2")], encoding).unwrap();
            payload.push(b'1');
            assert!(decode_record(&payload, Some(encoding.content_type())).is_err());
            payload.truncate(payload.len() - 9);
            assert!(decode_record(&payload, Some(encoding.content_type())).is_err());
        }
        assert!(decode_record(b"[]", None).is_err());
        assert!(decode_record(&[0xdd, 0xff, 0xff, 0xff, 0xff], None).is_err());
        assert!(decode_record(&[b' '; RECORD_BYTES_MAX + 1], None).is_err());
        assert!(decode_record(b"{}", Some("text/plain")).is_err());
    }

    #[test]
    fn a_record_has_another_id_than_its_envelopes() {
        let (a, b) = (envelope("1"), envelope("2"));
        let both = [a.clone(), b];
        let ids = [record_msg_id(&both[..1]), record_msg_id(&both[1..]), record_msg_id(&both)];
        assert_eq!(ids[0], a.msg_id());
        assert_ne!(ids[2], ids[0]);
        assert_eq!(ids[2].len(), 32);
    }
}
