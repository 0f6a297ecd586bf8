//! Requests on the wire: the verb is the end of the subject, the payload is `{"id": …, "args": {…}}`.
//!
//! The commands are enums tagged with `verb` and `args`, so that one Rust type holds them all. Here
//! the verb is joined to the arguments while they are read, and parted from them after they are
//! written, in one pass and without a value in between.

use std::marker::PhantomData;

use serde::de::value::{BorrowedStrDeserializer, MapDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use smol_str::SmolStr;

use super::{AdminCommand, AgentCommand, AgentQuery, ChannelQuery, ID_BYTES_MAX, Refusal, RefusalKind, Request};
use crate::codec::{CodecError, Encoding};
use crate::limits::{MESSAGE_BYTES_MAX, POLICY_BYTES_MAX};

/// Gives each command type its verbs and its way over the wire. The verbs that change something need
/// an id.
macro_rules! verbs {
    ($name:ident of $sender:literal:
        changes { $($change:ident = $change_verb:literal),* $(,)? }
        asks { $($ask:ident = $ask_verb:literal),* $(,)? }
    ) => {
        impl $name {
            /// Every verb, as it stands at the end of the subject.
            pub const VERBS: &'static [&'static str] = &[$($change_verb,)* $($ask_verb,)*];

            /// The verbs that change something: their requests need an id.
            pub const CHANGING: &'static [&'static str] = &[$($change_verb),*];

            /// The verb of this command.
            #[must_use]
            pub const fn verb(&self) -> &'static str {
                match self {
                    $(Self::$change { .. } => $change_verb,)*
                    $(Self::$ask { .. } => $ask_verb,)*
                }
            }

            /// Reads a request: the verb from its subject, the rest from its payload.
            ///
            /// # Errors
            /// With the refusal to answer it with: an unknown verb, a payload that is malformed or too
            /// large, an id that is too long, or empty where the verb changes something.
            pub fn decode(verb: &str, encoding: Encoding, payload: &[u8]) -> Result<Request<Self>, Refusal> {
                decode(verb, Self::VERBS, Self::CHANGING, $sender, encoding, payload)
            }

            /// Writes the payload of a request; the verb goes into the subject.
            ///
            /// # Errors
            /// When the request is over a size limit.
            pub fn encode(&self, id: &str, encoding: Encoding) -> Result<Vec<u8>, CodecError> {
                encode(self, self.verb(), id, encoding)
            }
        }
    };
}

verbs!(AgentCommand of "an agent's tool":
    changes {
        PresenceSet = "presence.set",
        OfferAccept = "offer.accept",
        OfferDecline = "offer.decline",
        MessageSend = "message.send",
        NoteAdd = "note.add",
        ConversationSwitch = "conversation.switch",
        CustomerUpdate = "customer.update",
        ConversationTransfer = "conversation.transfer",
        ConversationPark = "conversation.park",
        ConversationResume = "conversation.resume",
        ConversationClose = "conversation.close",
        ConversationTakeBack = "conversation.take_back",
        ConversationConsult = "conversation.consult",
        ConversationConsultEnd = "conversation.consult_end",
        ConversationEscalate = "conversation.escalate",
        ConversationForce = "conversation.force",
        ConversationMonitor = "conversation.monitor",
        ConversationMonitorEnd = "conversation.monitor_end",
        WrapUpComplete = "wrap_up.complete",
    }
    asks {}
);

verbs!(AgentQuery of "an agent's tool":
    changes {}
    asks {
        FeedSync = "feed.sync",
        FeedAck = "feed.ack",
        ConversationContext = "conversation.context",
        ConversationHistory = "conversation.history",
        MediaGet = "media.get",
    }
);

verbs!(AdminCommand of "an operator":
    changes {
        PolicyApply = "policy.apply",
        ConversationAssign = "conversation.assign",
        ConversationEnqueue = "conversation.enqueue",
        CustomerLink = "customer.link",
        CustomerUnlink = "customer.unlink",
        CustomerMerge = "customer.merge",
        CustomerSplit = "customer.split",
        CustomerDismiss = "customer.dismiss",
        CustomerUpdate = "customer.update",
        CustomerConsent = "customer.consent",
        CustomerErase = "customer.erase",
    }
    asks {
        ShadowStart = "shadow.start",
        ShadowShow = "shadow.show",
        StatusShow = "status.show",
        ConversationList = "conversation.list",
        ConversationShow = "conversation.show",
        ConversationExplain = "conversation.explain",
        CustomerShow = "customer.show",
        CustomerSuggestions = "customer.suggestions",
        CustomerFind = "customer.find",
        AgentList = "agent.list",
    }
);

verbs!(ChannelQuery of "a channel":
    changes {}
    asks {
        ThreadHistory = "thread.history",
        ThreadWait = "thread.wait",
        ShardLag = "shard.lag",
    }
);

/// How large a request may be: what carries a policy, larger than others.
fn bytes_max(verb: &str) -> usize {
    match verb {
        "policy.apply" | "shadow.start" => POLICY_BYTES_MAX + 1024,
        _ => MESSAGE_BYTES_MAX,
    }
}

fn decode<T: DeserializeOwned>(
    verb: &str,
    verbs: &[&'static str],
    changing: &[&str],
    sender: &str,
    encoding: Encoding,
    payload: &[u8],
) -> Result<Request<T>, Refusal> {
    let Some(verb) = verbs.iter().find(|known| **known == verb) else {
        let known = verbs.join(", ");
        return Err(Refusal::new(RefusalKind::Invalid, format!("unknown verb; of {sender} these are known: {known}")));
    };
    let most = bytes_max(verb);
    if payload.len() > most {
        let problem = format!("{} bytes, but at most {most} are allowed", payload.len());
        return Err(Refusal::new(RefusalKind::TooLarge, problem));
    }
    let request: Request<T> = encoding
        .decode_seed(payload, most, RequestOf { verb, command: PhantomData })
        .map_err(|e| Refusal::new(RefusalKind::Invalid, e.0))?;
    if request.id.len() > ID_BYTES_MAX {
        let problem = format!("the id has {} bytes, but at most {ID_BYTES_MAX} are allowed", request.id.len());
        return Err(Refusal::new(RefusalKind::Invalid, problem));
    }
    if request.id.is_empty() && changing.contains(verb) {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{verb} needs an id, so that it can be sent again safely"),
        ));
    }
    Ok(request)
}

fn encode<T: Serialize>(command: &T, verb: &str, id: &str, encoding: Encoding) -> Result<Vec<u8>, CodecError> {
    #[derive(Serialize)]
    struct Tagged<'a> {
        verb: &'a str,
        args: (),
    }
    // With nothing in place of the arguments, what is left is exactly what stands before them.
    let nothing: &[u8] = match encoding {
        Encoding::MsgPack => &[0xc0],
        Encoding::Json => b"null}",
    };
    let broken = || CodecError("the arguments are not where they were expected".to_owned());
    let tagged = encoding.encode(command)?;
    let before = encoding.encode(&Tagged { verb, args: () })?;
    let before = before.strip_suffix(nothing).ok_or_else(broken)?;
    let args = tagged.strip_prefix(before).ok_or_else(broken)?;

    let mut payload = encoding.encode(&Request { id: SmolStr::new(id), args: () })?;
    payload.truncate(payload.len().saturating_sub(nothing.len()));
    payload.extend_from_slice(args);
    if id.len() > ID_BYTES_MAX {
        let problem = format!("the id has {} bytes, but at most {ID_BYTES_MAX} are allowed", id.len());
        return Err(CodecError(problem));
    }
    let most = bytes_max(verb);
    if payload.len() > most {
        let problem = format!("{verb} would take {} bytes, but at most {most} are allowed", payload.len());
        return Err(CodecError(problem));
    }
    Ok(payload)
}

/// Reads a payload as the request of one verb. Arguments that are absent are empty.
struct RequestOf<'v, T> {
    verb: &'v str,
    command: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for RequestOf<'_, T> {
    type Value = Request<T>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request<T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for RequestOf<'_, T> {
    type Value = Request<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with id and args")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request<T>, A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Id,
            Args,
            #[serde(other)]
            Other,
        }
        let (mut id, mut args) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id if id.is_some() => return Err(A::Error::duplicate_field("id")),
                Field::Args if args.is_some() => return Err(A::Error::duplicate_field("args")),
                Field::Id => id = Some(map.next_value()?),
                Field::Args => args = Some(map.next_value_seed(ArgsOf { verb: self.verb, command: PhantomData })?),
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let args = match args {
            Some(args) => args,
            None => {
                let none = MapDeserializer::new(std::iter::empty::<(&str, &str)>());
                ArgsOf { verb: self.verb, command: PhantomData }.deserialize(none)?
            }
        };
        Ok(Request { id: id.unwrap_or_default(), args })
    }
}

/// Reads the arguments of one verb into the command that they belong to.
struct ArgsOf<'v, T> {
    verb: &'v str,
    command: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for ArgsOf<'_, T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(Tagged { verb: Some(self.verb), args: Some(deserializer) })
    }
}

/// Looks like `{"verb": …, "args": …}` to whoever reads it.
struct Tagged<'v, D> {
    verb: Option<&'v str>,
    args: Option<D>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tagged<'_, D> {
    type Error = D::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        visitor.visit_map(self)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, D: Deserializer<'de>> MapAccess<'de> for Tagged<'_, D> {
    type Error = D::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, D::Error> {
        let key = match (self.verb, &self.args) {
            (Some(_), _) => "verb",
            (None, Some(_)) => "args",
            (None, None) => return Ok(None),
        };
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, D::Error> {
        if let Some(verb) = self.verb.take() {
            return seed.deserialize(serde::de::value::StrDeserializer::new(verb));
        }
        match self.args.take() {
            Some(args) => seed.deserialize(args),
            None => Err(D::Error::custom("a value without a key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::OfferId;

    #[test]
    fn a_request_has_the_verb_in_its_subject_only() {
        let command = AgentCommand::OfferAccept { offer: OfferId(3) };
        let json = command.encode("x1", Encoding::Json).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"id":"x1","args":{"offer":"o3"}}"#);
        for encoding in [Encoding::Json, Encoding::MsgPack] {
            let payload = command.encode("x1", encoding).unwrap();
            let request = AgentCommand::decode("offer.accept", encoding, &payload).unwrap();
            assert_eq!(request, Request { id: "x1".into(), args: command.clone() });
            assert!(AgentCommand::decode("note.add", encoding, &payload).is_err());
        }
    }

    #[test]
    fn order_absence_and_unknown_fields_do_not_matter() {
        let decode = |text: &str| AgentQuery::decode("feed.sync", Encoding::Json, text.as_bytes());
        for text in [r#"{}"#, r#"{"args":{}}"#, r#"{"new":[1],"args":{"new":{}},"id":"","verb":"x"}"#] {
            assert_eq!(decode(text).unwrap().args, AgentQuery::FeedSync { since: None }, "{text}");
        }
        let late = AdminCommand::decode("status.show", Encoding::Json, br#"{"args":{},"id":"a"}"#).unwrap();
        assert_eq!(late.id, "a");
    }

    #[test]
    fn refuses_what_it_cannot_take() {
        let kind = |verb, payload: &[u8]| AgentCommand::decode(verb, Encoding::Json, payload).unwrap_err().kind;
        assert_eq!(kind("offer.steal", b"{}"), RefusalKind::Invalid);
        assert_eq!(kind("offer.accept", br#"{"args":{"offer":"o1"}}"#), RefusalKind::Invalid);
        assert_eq!(kind("offer.accept", br#"{"id":"a"}"#), RefusalKind::Invalid);
        assert_eq!(kind("offer.accept", br#"["a",{"offer":"o1"}]"#), RefusalKind::Invalid);
        assert_eq!(kind("offer.accept", br#"{"id":"a","id":"b","args":{"offer":"o1"}}"#), RefusalKind::Invalid);
        let long = format!(r#"{{"id":"{}","args":{{"offer":"o1"}}}}"#, "a".repeat(ID_BYTES_MAX + 1));
        assert_eq!(kind("offer.accept", long.as_bytes()), RefusalKind::Invalid);
        assert_eq!(kind("offer.accept", &vec![b' '; MESSAGE_BYTES_MAX + 1]), RefusalKind::TooLarge);
        let policy = |verb| AdminCommand::decode(verb, Encoding::Json, &vec![b' '; MESSAGE_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(policy("policy.apply").kind, RefusalKind::Invalid, "a policy may be larger, though not empty");
        assert_eq!(policy("customer.show").kind, RefusalKind::TooLarge);
        assert!(AdminCommand::decode("status.show", Encoding::Json, b"{}").is_ok(), "a question needs no id");
        assert!(AgentCommand::OfferAccept { offer: OfferId(1) }.encode(&"a".repeat(129), Encoding::Json).is_err());
    }
}
