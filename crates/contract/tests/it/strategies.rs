//! Arbitrary envelopes: every field, every kind of part, values that no version knows.

use std::ops::Range;

use proptest::prelude::*;
use serde_json::{Map, Value};
use throughline_contract::envelope::*;
use throughline_contract::{AccountId, ChannelKind, Millis, SmolStr, TenantId, Timestamp};

/// A value or none. Boxed, as lists are: types as deep as the envelope take minutes to compile.
fn of<S: Strategy + 'static>(some: S) -> BoxedStrategy<Option<S::Value>> {
    proptest::option::of(some).boxed()
}

fn vec<S: Strategy + 'static>(item: S, count: Range<usize>) -> BoxedStrategy<Vec<S::Value>> {
    proptest::collection::vec(item, count).boxed()
}

/// An id or a short text; seldom empty of meaning, never of characters.
fn word() -> impl Strategy<Value = SmolStr> {
    "\\PC{1,12}".prop_map(SmolStr::new)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,40}", "[\\x00-\\x7f\u{1f98a}]{0,20}"]
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "\\PC{1,8}".prop_map(|text| text.parse().unwrap())
}

/// One of an open set of words, known or not.
fn open<T: From<SmolStr> + std::fmt::Debug>(known: &'static [&'static str]) -> impl Strategy<Value = T> {
    prop_oneof![4 => proptest::sample::select(known).prop_map(SmolStr::new), 1 => word()].prop_map(T::from)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![vec(inner.clone(), 0..3).prop_map(Value::from), map(inner).prop_map(Value::from)]
    })
}

fn map(item: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Map<String, Value>> {
    vec((text(), item), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn media() -> impl Strategy<Value = Media> {
    let ids = (word(), of(word()), of(open(&["pending", "stored", "unavailable"])), of(word()), of(word()));
    let file = (of(word()), of(word()), of(any::<u64>()), of(word()), of(any::<u64>().prop_map(Millis)));
    let look = (of(any::<u32>()), of(any::<u32>()), of(text()), of(word()), any::<bool>());
    (ids, file, look).prop_map(|(ids, file, look)| {
        let (kind, store_key, status, reason, external_id) = ids;
        let (mime, name, bytes, sha256, duration) = file;
        let (width, height, caption, inline_cid, voice) = look;
        Media {
            kind,
            store_key,
            status,
            reason,
            external_id,
            mime,
            name,
            bytes,
            sha256,
            duration,
            width,
            height,
            caption,
            inline_cid,
            voice,
        }
    })
}

fn part() -> impl Strategy<Value = Part> {
    let entity = (word(), any::<u32>(), any::<u32>(), of(word()));
    let entity = entity.prop_map(|(kind, offset, length, value)| Entity { kind, offset, length, value });
    let said = (text(), open(&["plain", "html"]), vec(entity, 0..2), of(word()), of(text()), of(text()));
    let said = said.prop_map(|(body, format, entities, language, visible, quoted)| {
        Part::Text(Text { body, format, entities, language, visible, quoted })
    });
    let place = (word(), word(), of(word()), of(text()));
    let card = (of(word()), vec(word(), 0..3), vec(word(), 0..3), of(text()));
    let choice = (of(word()), text(), of(text()), of(word()));
    prop_oneof![
        said,
        media().prop_map(Part::Media),
        place.prop_map(|(latitude, longitude, name, address)| {
            Part::Location(Location { latitude, longitude, name, address })
        }),
        card.prop_map(|(name, phones, emails, raw)| Part::ContactCard(ContactCard { name, phones, emails, raw })),
        (word(), of(word())).prop_map(|(id, emoji)| Part::Sticker { id, emoji }),
        choice.prop_map(|(id, title, payload, source)| Part::Choice(Choice { id, title, payload, source })),
        map(value()).prop_map(|fields| Part::Form { fields }),
        map(value()).prop_map(|details| Part::Order { details }),
        (word(), of(text()), of(text())).prop_map(|(kind, url, title)| Part::Link { kind, url, title }),
        (word(), of(word()), map(value()))
            .prop_map(|(name, language, parameters)| { Part::Template { name, language, parameters } }),
        text().prop_map(|body| Part::System { body }),
        word().prop_map(|kind| Part::Unsupported { kind }),
        map(value()).prop_map(|mut fields| {
            fields.insert("type".to_owned(), "of tomorrow".into());
            Part::Unknown(fields)
        }),
    ]
}

fn identity() -> impl Strategy<Value = Identity> {
    let assurance = of(proptest::sample::select(vec![Assurance::Claimed, Assurance::Verified]));
    (word(), word(), open(&["account", "portfolio", "global"]), word(), of(word()), assurance).prop_map(
        |(scheme, value, scope, scope_id, raw, assurance)| Identity {
            scheme,
            value,
            scope,
            scope_id: Some(scope_id),
            raw,
            assurance,
        },
    )
}

fn party() -> impl Strategy<Value = Party> {
    let role = open(&["customer", "agent", "bot", "system"]);
    (identity(), vec(identity(), 0..3), of(word()), of(word()), role, of(word())).prop_map(
        |(identity, aliases, display, username, role, named_as)| Party {
            identity,
            aliases,
            display,
            username,
            role,
            named_as,
        },
    )
}

fn thread() -> impl Strategy<Value = Thread> {
    let target = (word(), of(word()), of(time()));
    let target = target.prop_map(|(address, token, token_until)| ReplyTarget { address, token, token_until });
    (word(), open(&["direct", "group"]), of(word()), of(word()), of(word()), of(target)).prop_map(
        |(key, kind, external_id, sub_id, subject, reply_target)| Thread {
            key,
            kind,
            external_id,
            sub_id,
            subject,
            reply_target,
        },
    )
}

fn reference() -> impl Strategy<Value = MessageRef> {
    (of(word()), of(word()), of(word()), of(any::<u32>())).prop_map(|(external_id, quote_token, story, revision)| {
        MessageRef { external_id, quote_token, story, revision }
    })
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let names = (of(word()), of(any::<u32>()), vec(word(), 0..3), of(time()), any::<u64>());
    let says = (of(word()), of(text()), of(any::<bool>()), of(word()), of(word()));
    (open(&["accepted", "read", "failed"]), names, says).prop_map(|(status, names, says)| {
        let (command_id, part, targets, watermark, through_seq) = names;
        let (code, reason, retryable, recipient, price) = says;
        Receipt {
            status,
            command_id,
            part,
            targets,
            watermark,
            through_seq: Some(through_seq),
            code,
            reason,
            retryable,
            recipient,
            price,
        }
    })
}

fn call() -> impl Strategy<Value = Call> {
    let legs = (word(), of(word()), word(), of(word()), of(word()));
    let rest = (of(time()), of(time()), of(time()), of(media()), of(text()), of(word()));
    let ours = (of(word().prop_map(|_| throughline_contract::AgentId::new("anna").unwrap())), of(word()));
    (legs, rest, ours).prop_map(|(legs, rest, (agent, command_id))| {
        let (leg, parent, state, from, to) = legs;
        let (started_at, answered_at, ended_at, recording, transcript, queue) = rest;
        Call {
            leg,
            parent,
            state,
            from,
            to,
            started_at,
            answered_at,
            ended_at,
            recording,
            transcript,
            queue,
            agent,
            command_id,
        }
    })
}

fn mail() -> impl Strategy<Value = Mail> {
    let ids = (of(word()), of(word()), vec(word(), 0..3), of(text()), of(word()));
    let rest = (of(text()), of(word()), vec(word(), 0..2), vec(word(), 0..2), of(any::<u64>()), any::<bool>());
    (ids, open(&["human", "bounce"]), rest).prop_map(|(ids, class, rest)| {
        let (message_id, in_reply_to, references, subject, headers_ref) = ids;
        let (auth_results, aligned_domain, envelope_to, reply_to, bytes, thread_proven) = rest;
        Mail {
            message_id,
            in_reply_to,
            references,
            subject,
            headers_ref,
            class,
            auth_results,
            aligned_domain,
            envelope_to,
            reply_to,
            bytes,
            thread_proven,
        }
    })
}

/// An envelope that is valid.
pub(crate) fn envelope() -> impl Strategy<Value = Envelope> {
    let kinds = &[
        "message",
        "edit",
        "delete",
        "reaction",
        "media",
        "receipt",
        "echo",
        "contact_event",
        "call",
        "account_event",
    ];
    let account = (name::<ChannelKind>(), name::<AccountId>(), of(word()), of(word()));
    let account = account.prop_map(|(kind, id, provider, address)| Account { kind, id, provider, address });
    let auth = (open(&["signed_webhook", "failed"]), of(word()));
    let auth = auth.prop_map(|(level, detail)| SenderAuth { level, detail });
    let sequence = (word(), any::<u64>()).prop_map(|(scope, n)| Sequence { scope, n });
    let group = (word(), of(any::<u32>()), of(any::<u32>()));
    let group = group.prop_map(|(id, index, total)| GroupRef { id, index, total });
    let forward = (of(any::<u32>()), of(word())).prop_map(|(count, from)| Forward { count, from });
    let reaction = (of(word()), of(word()), any::<bool>());
    let reaction = reaction.prop_map(|(emoji, name, removed)| Reaction { emoji, name, removed });
    let signal = (word(), of(text()), map(value())).prop_map(|(name, detail, data)| Signal { name, detail, data });
    let referral = (word(), of(word()), of(text()), of(word()), of(word()))
        .prop_map(|(source, kind, reference, ad_id, click_id)| Referral { source, kind, reference, ad_id, click_id });
    let window = (of(time()), of(word()), any::<bool>(), any::<bool>());
    let window = window.prop_map(|(open_until, policy, template_required, templates)| ReplyWindow {
        open_until,
        policy,
        template_required,
        templates,
    });
    let raw = (word(), word(), of(word()), map(value()));
    let raw =
        raw.prop_map(|(store_key, sha256, content_type, headers)| RawRef { store_key, sha256, content_type, headers });
    let adapter = (word(), of(word()), vec(text(), 0..2));
    let adapter = adapter.prop_map(|(name, version, warnings)| AdapterInfo { name, version, warnings });

    let head = (open(kinds), name::<TenantId>(), account, word(), of(word()), vec(word(), 0..3));
    let who = (open(&["in", "out_echo"]), thread(), party(), vec(party(), 0..2), auth);
    let when = (of(time()), time(), of(word()), of(sequence));
    let what = (vec(part(), 1..5), of(word()), vec(word(), 0..3), of(group), of(reference()), of(forward), reference());
    let kinds = (reaction, receipt(), signal, of(referral), call(), of(mail()));
    let rest = (of(window), of(raw), of(adapter));
    (head, who, when, what, kinds, rest).prop_map(|(head, who, when, what, kinds, rest)| {
        let (kind, tenant, account, dedup_key, external_id, external_ids) = head;
        let (direction, thread, sender, recipients, sender_auth) = who;
        let (sent_at, received_at, sent_at_raw, seq) = when;
        let (content, language, tags, group, reply_to, forward, target) = what;
        let (reaction, receipt, signal, referral, call, mail) = kinds;
        let (window, raw_ref, adapter) = rest;
        Envelope {
            v: VERSION,
            kind,
            tenant,
            account,
            dedup_key,
            external_id,
            external_ids,
            direction,
            thread,
            sender,
            recipients,
            sender_auth,
            sent_at,
            received_at,
            sent_at_raw,
            seq,
            content,
            language,
            tags,
            group,
            reply_to,
            forward,
            target: Some(target),
            reaction: Some(reaction),
            receipt: Some(receipt),
            signal: Some(signal),
            referral,
            call: Some(call),
            mail,
            window,
            raw_ref,
            adapter,
        }
    })
}
