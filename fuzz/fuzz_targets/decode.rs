//! Decodes arbitrary bytes as every message of the wire, in both encodings. What can be read must be
//! writable, and be the same when it is read again.

#![no_main]

use contract::answer::{AdminAnswer, CustomerView, History, MediaPiece};
use contract::base64::{self, Alphabet};
use contract::codec::Encoding;
use contract::command::{AdminCommand, AgentCommand, AgentQuery, ChannelQuery, Done, Reply};
use contract::envelope::{Envelope, decode_record, encode_record, record_msg_id};
use contract::event::{decode_events, join_events};
use contract::feed::{ConversationView, FeedItem, Heartbeat, Sync};
use contract::journal::{Checkpoint, Epoch, Record};
use contract::outbound::{ChannelHealth, DeadLetter, Live, OutCommand, ThreadHistory, ThreadWait};
use contract::policy::Policy;
use contract::{EventRecord, subject, token};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1 << 20;

macro_rules! values {
    ($payload:expr, $encoding:expr, $($type:ty),* $(,)?) => {$(
        if let Ok(value) = $encoding.decode::<$type>($payload, BYTES_MAX) {
            for to in [Encoding::MsgPack, Encoding::Json] {
                let written = to.encode(&value).expect("what was read can be written");
                let again: $type = to.decode(&written, usize::MAX).expect("what was written can be read");
                assert_eq!(value, again, "{to:?}");
            }
        }
    )*};
}

macro_rules! requests {
    ($payload:expr, $encoding:expr, $($type:ty),* $(,)?) => {$(
        for verb in <$type>::VERBS {
            if let Ok(request) = <$type>::decode(verb, $encoding, $payload) {
                assert_eq!(request.args.verb(), *verb);
                // Small requests only: the other encoding may be larger, and over the limit.
                if $payload.len() < 4096 {
                    let written = request.args.encode(&request.id, $encoding).expect("a request can be written");
                    assert_eq!(<$type>::decode(verb, $encoding, &written), Ok(request));
                }
            }
        }
    )*};
}

fuzz_target!(|payload: &[u8]| {
    for encoding in [Encoding::MsgPack, Encoding::Json] {
        values!(
            payload,
            encoding,
            Envelope,
            OutCommand,
            EventRecord,
            FeedItem,
            Heartbeat,
            Sync,
            ConversationView,
            Reply<Done>,
            Reply<Sync>,
            Reply<ThreadHistory>,
            Reply<ThreadWait>,
            Reply<History>,
            Reply<MediaPiece>,
            Reply<AdminAnswer>,
            CustomerView,
            Live,
            ChannelHealth,
            DeadLetter,
            Policy,
            Record,
            Epoch,
            Checkpoint,
        );
        requests!(payload, encoding, AgentCommand, AgentQuery, AdminCommand, ChannelQuery);
        if let Ok(decoded) = decode_record(payload, Some(encoding.content_type())) {
            let envelopes: Vec<_> = decoded.into_iter().filter_map(Result::ok).collect();
            let _ = record_msg_id(&envelopes);
            if payload.len() < 4096 && !envelopes.is_empty() {
                let record = encode_record(&envelopes, encoding).expect("a record can be written");
                let again = decode_record(&record, None).expect("a record can be read");
                assert!(again.into_iter().map(Result::unwrap).eq(envelopes));
            }
        }
        if let Ok(decoded) = decode_events(payload, Some(encoding.content_type())) {
            let records: Vec<_> = decoded.into_iter().filter_map(Result::ok).collect();
            if !records.is_empty() {
                let encoded: Vec<_> = records.iter().map(|record| encoding.encode(record).expect("encoded")).collect();
                // The other form of the same may be larger, and over the limit.
                let message = join_events(&encoded, encoding).expect("at most as many as were read");
                if message.len() <= payload.len() {
                    let again = decode_events(&message, None).expect("a message can be read");
                    assert!(again.into_iter().map(Result::unwrap).eq(records));
                }
            }
        }
    }
    let coded = base64::encode(Alphabet::Url, payload);
    assert_eq!(base64::decode(Alphabet::Url, &coded).as_deref(), Some(payload));
    if let Ok(text) = std::str::from_utf8(payload) {
        assert_eq!(token::decode(&token::encode(text)).as_deref(), Some(text));
        let _ = (subject::parse_inbound(text), subject::parse_command(text));
        if let Some(bytes) = base64::decode(Alphabet::Standard, text) {
            assert_eq!(base64::encode(Alphabet::Standard, &bytes).trim_end_matches('='), text.trim_end_matches('='));
        }
    }
});
