//! Whatever comes, the decoders answer: with the same value that was written, or with an error.

use proptest::prelude::*;
use serde_json::json;
use throughline_contract::codec::Encoding;
use throughline_contract::envelope::{Part, decode_record, encode_record};
use throughline_contract::event::Event;
use throughline_contract::journal::{Behind, Cause, Entry, Fingerprint, Record};
use throughline_contract::limits::{DEPTH_MAX, VALUE_DEPTH_MAX};
use throughline_contract::{ConversationId, Envelope, MessageId, TenantId, Timestamp};

use crate::folder;
use crate::kinds::{KINDS, recode, verbs};
use crate::strategies::envelope;

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MsgPack];

/// Reads a payload as everything that it might be.
fn decode_all(payload: &[u8]) {
    for encoding in ENCODINGS {
        for kind in KINDS {
            for verb in verbs(kind) {
                // Whatever was read can be written; whether it could be read does not matter.
                let _ = recode(kind, verb, encoding, payload, Encoding::MsgPack);
            }
        }
    }
    let _ = decode_record(payload, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn envelopes_round_trip(envelope in envelope()) {
        prop_assert_eq!(envelope.validate(), Ok(()));
        for encoding in ENCODINGS {
            let payload = encoding.encode(&envelope).unwrap();
            let decoded: Envelope = encoding.decode(&payload, usize::MAX).unwrap();
            prop_assert_eq!(&decoded, &envelope);
            prop_assert_eq!(encoding.encode(&decoded).unwrap(), payload);
            let record = encode_record(&[envelope.clone(), decoded], encoding).unwrap();
            for decoded in decode_record(&record, None).unwrap() {
                prop_assert_eq!(decoded.unwrap(), envelope.clone());
            }
        }
    }

    #[test]
    fn envelopes_fit_their_schema(envelope in envelope()) {
        let value = serde_json::to_value(&envelope).unwrap();
        if !crate::update() {
            prop_assert_eq!(crate::schemas::validate("envelope", "", &value), Ok(()));
        }
    }

    #[test]
    fn arbitrary_bytes_upset_nothing(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&payload);
    }

    #[test]
    fn arbitrary_text_upsets_nothing(payload in "[\\[\\]{}:,\"a-z0-9 \\\\]{0,100}") {
        decode_all(payload.as_bytes());
    }
}

#[test]
fn damaged_vectors_upset_nothing() {
    let mut random = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    for entry in std::fs::read_dir(folder("vectors")).unwrap() {
        let mut payload = std::fs::read(entry.unwrap().path()).unwrap();
        for _ in 0..4 {
            let at = random.random_range(0..payload.len());
            payload[at] = random.random();
            decode_all(&payload);
        }
        payload.truncate(random.random_range(0..payload.len()));
        decode_all(&payload);
    }
}

#[test]
fn the_deepest_envelope_that_is_accepted_can_be_read_back_from_the_journal() {
    let text = std::fs::read_to_string(folder("vectors").join("envelope.minimal.json")).unwrap();
    let mut envelope: Envelope = serde_json::from_str(&text).unwrap();
    let nest = |levels: usize| {
        let part = (1..levels)
            .fold(json!("bottom"), |value, n| if n % 2 == 0 { json!([value]) } else { json!({ "a": value }) });
        serde_json::from_value::<Part>(json!({"type": "of tomorrow", "inner": part})).unwrap()
    };
    envelope.content = vec![nest(VALUE_DEPTH_MAX + 1)];
    assert!(envelope.validate().is_err());
    envelope.content = vec![nest(VALUE_DEPTH_MAX)];
    assert_eq!(envelope.validate(), Ok(()));

    let event = Event::MessageReceived {
        conversation: ConversationId(1),
        message: MessageId(1),
        thread_seq: 1,
        envelope: Box::new(envelope),
        customer: None,
    };
    let entry = Entry {
        tenant: TenantId::new("main").unwrap(),
        at: Timestamp(1),
        cause: Cause::Envelope(Fingerprint(1)),
        events: vec![event.into()],
    };
    let record = Record { v: 1, id: "a".into(), epoch: 1, cursor: 1, behind: Behind::default(), entries: vec![entry] };
    for encoding in ENCODINGS {
        let payload = encoding.encode(&record).unwrap();
        assert_eq!(encoding.decode::<Record>(&payload, usize::MAX).unwrap(), record);
        // Even when nothing is read straight through.
        let value: serde_json::Value = encoding.decode(&payload, usize::MAX).unwrap();
        assert_eq!(encoding.decode::<serde_json::Value>(&encoding.encode(&value).unwrap(), usize::MAX).unwrap(), value);
    }
    const { assert!(VALUE_DEPTH_MAX + 24 <= DEPTH_MAX) };
}
