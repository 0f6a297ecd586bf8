//! Every kind of message on the wire, by the name that its schema and its vectors begin with.

use serde::Serialize;
use serde::de::DeserializeOwned;
use throughline_contract::answer;
use throughline_contract::codec::Encoding;
use throughline_contract::command::{
    AdminCommand, AgentCommand, AgentQuery, ChannelQuery, Classified, Classify, Done, Reply,
};
use throughline_contract::envelope::{decode_record, encode_record};
use throughline_contract::event::{ProfileChange, decode_events, join_events};
use throughline_contract::feed::{ConversationView, FeedItem, Heartbeat, Sync};
use throughline_contract::journal::{Checkpoint, Epoch, Record};
use throughline_contract::limits::JOURNAL_BYTES_MAX;
use throughline_contract::outbound::{
    ChannelHealth, DeadLetter, Live, OutCommand, ShardLag, ThreadHistory, ThreadWait,
};
use throughline_contract::policy::Policy;
use throughline_contract::{Envelope, EventRecord};

macro_rules! kinds {
    (types { $($kind:literal => $type:ty,)* } requests { $($request:literal => $command:ty,)* }) => {
        /// Every kind.
        pub(crate) const KINDS: &[&str] = &[$($kind,)* "in-record", "events", $($request,)*];

        /// Reads a message of a kind and writes it again; `verb` is for requests.
        pub(crate) fn recode(kind: &str, verb: &str, from: Encoding, payload: &[u8], to: Encoding) -> Result<Vec<u8>, String> {
            match kind {
                $($kind => value::<$type>(from, payload, to),)*
                "in-record" => {
                    let decoded = decode_record(payload, Some(from.content_type())).map_err(|e| e.0)?;
                    let envelopes = decoded.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.reason)?;
                    encode_record(&envelopes, to).map_err(|e| e.0)
                }
                "events" => {
                    let decoded = decode_events(payload, Some(from.content_type())).map_err(|e| e.0)?;
                    let records = decoded.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.0)?;
                    let encoded = records.iter().map(|record| to.encode(record)).collect::<Result<Vec<_>, _>>();
                    join_events(&encoded.map_err(|e| e.0)?, to).map_err(|e| e.0)
                }
                $($request => {
                    let request = <$command>::decode(verb, from, payload).map_err(|e| e.to_string())?;
                    assert_eq!(request.args.verb(), verb);
                    request.args.encode(&request.id, to).map_err(|e| e.0)
                })*
                other => Err(format!("no such kind: {other}")),
            }
        }

        /// Every verb of a kind of request; one empty one for other kinds.
        pub(crate) fn verbs(kind: &str) -> &'static [&'static str] {
            match kind {
                $($request => <$command>::VERBS,)*
                _ => &[""],
            }
        }

        /// The schema of a kind.
        #[cfg(feature = "schema")]
        pub(crate) fn schema(kind: &str, generator: schemars::SchemaGenerator) -> schemars::Schema {
            match kind {
                $($kind => generator.into_root_schema_for::<$type>(),)*
                "in-record" => generator.into_root_schema_for::<Envelope>(),
                "events" => generator.into_root_schema_for::<EventRecord>(),
                $($request => generator.into_root_schema_for::<$command>(),)*
                other => panic!("no such kind: {other}"),
            }
        }
    };
}

kinds! {
    types {
        "envelope" => Envelope,
        "out-command" => OutCommand,
        "event-record" => EventRecord,
        "feed-item" => FeedItem,
        "heartbeat" => Heartbeat,
        "sync" => Sync,
        "conversation-view" => ConversationView,
        "reply" => Reply<Done>,
        "reply-sync" => Reply<Sync>,
        "reply-thread-history" => Reply<ThreadHistory>,
        "reply-history" => Reply<answer::History>,
        "reply-media" => Reply<answer::MediaPiece>,
        "reply-admin" => Reply<answer::AdminAnswer>,
        "live" => Live,
        "channel-health" => ChannelHealth,
        "dead-letter" => DeadLetter,
        "thread-history" => ThreadHistory,
        "thread-wait" => ThreadWait,
        "shard-lag" => ShardLag,
        "policy" => Policy,
        "classify" => Classify,
        "classified" => Classified,
        "looked-up" => ProfileChange,
        "context" => answer::Context,
        "journal-record" => Record,
        "journal-epoch" => Epoch,
        "journal-checkpoint" => Checkpoint,
    }
    requests {
        "agent-command" => AgentCommand,
        "agent-query" => AgentQuery,
        "admin-command" => AdminCommand,
        "channel-query" => ChannelQuery,
    }
}

fn value<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    from: Encoding,
    payload: &[u8],
    to: Encoding,
) -> Result<Vec<u8>, String> {
    let value: T = from.decode(payload, JOURNAL_BYTES_MAX).map_err(|e| e.0)?;
    let written = to.encode(&value).map_err(|e| e.0)?;
    let again: T = to.decode(&written, usize::MAX).map_err(|e| format!("not readable after it was written: {e}"))?;
    assert_eq!(value, again, "a value changed in {to:?}");
    Ok(written)
}
