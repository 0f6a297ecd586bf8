//! What a request holds is stored: envelopes, what is to be fetched for them, and what nobody understood.

use std::sync::Arc;

use bus::{Bus, ErrorKind, Publish};
use bytes::Bytes;
use contract::envelope::{Account, EnvelopeKind, RawRef};
use contract::outbound::{DeadLetter, DeadPayload};
use contract::{AccountId, Encoding, Envelope, SmolStr, TenantId, subject};
use runtime::redact::Redactor;
use serde_json::Value;
use sha2::Digest;

use super::keep::Place;
use super::registry::{Shared, Siblings};
use super::{Fetch, Item};
use crate::clock;
use crate::describing::{Ask, Asking};
use crate::fetching;
use crate::health::Health;
use crate::inbound::{Inbound, Ticket};
use crate::media::Media;
use crate::telemetry::Metric;

/// How an account's events come onto the bus.
pub(crate) struct Way {
    pub(crate) tenant: TenantId,
    pub(crate) account: Account,
    pub(crate) inbound: Inbound,
    pub(crate) media: Media,
    pub(crate) bus: Bus,
    pub(crate) shards: u16,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) health: Health,
    pub(crate) asking: Asking,
}

/// The bus did not take everything: the provider is told to come again.
#[derive(Debug)]
pub(super) struct NotStored;

/// An envelope on its way, and what follows when it is stored.
struct Pending {
    ticket: Ticket,
    way: Arc<Way>,
    original: Option<(Place, SmolStr, Bytes)>,
    fetch: Option<(Envelope, Vec<Fetch>)>,
    ask: Option<Ask>,
}

/// Stores everything, envelopes in order; returns when it is stored. What cannot become an envelope goes to the dead
/// letters. A repeat does no harm: whoever reads knows events by their keys. `parent` is the request's trace.
pub(super) async fn store(
    shared: &Shared,
    own: &Arc<Way>,
    siblings: &Siblings,
    items: Vec<Item>,
    parent: Option<&str>,
) -> Result<(), NotStored> {
    let mut pending = Vec::with_capacity(items.len());
    let mut dead = Vec::new();
    for item in items {
        let (envelope, raw, fetch) = match item {
            Item::Dead { account, reason, raw } => {
                dead.push((account.unwrap_or_else(|| own.account.id.clone()), reason, raw));
                continue;
            }
            Item::Envelope { envelope, raw, fetch } => (*envelope, raw, fetch),
        };
        // Nothing goes to the dead letters without a content.
        let written = raw.clone().unwrap_or_else(|| serde_json::to_vec(&envelope).unwrap_or_default().into());
        let account = envelope.account.id.clone();
        let may = account == own.account.id || siblings.allows(&account);
        let way =
            if account == own.account.id { Some(Arc::clone(own)) } else { shared.way(&own.account.kind, &account) };
        let Some(way) = way.filter(|way| may && way.tenant == own.tenant) else {
            let reason = "it is for an account that this secret does not vouch for";
            dead.push((own.account.id.clone(), reason.to_owned(), written));
            continue;
        };
        match submit(shared, way, envelope, raw, fetch, parent) {
            Ok(one) => pending.push((one, written)),
            Err(error) if error.is_retryable() => return Err(NotStored),
            Err(error) => dead.push((account, error.to_string(), written)),
        }
    }
    let mut failed = false;
    let mut fetches = Vec::new();
    for (Pending { ticket, way, original, fetch, ask }, written) in pending {
        match ticket.await {
            Ok(_) => {
                if let Some((place, store_key, raw)) = original {
                    place.keep(Arc::clone(&way), store_key, raw);
                }
                if let Some(ask) = ask {
                    way.asking.put(ask);
                }
                fetches.extend(fetch.map(|(envelope, fetch)| (way, envelope, fetch)));
            }
            // A full stream, and one that somebody must mend, take it later.
            Err(error) if error.is_retryable() => failed = true,
            Err(error @ crate::AcceptError::Refused(_)) => {
                tracing::error!(channel.kind = %way.account.kind, channel.account = %way.account.id, %error, "a webhook's envelope is refused");
                failed = true;
            }
            Err(error) => dead.push((way.account.id.clone(), error.to_string(), written)),
        }
    }
    // After their messages are stored, so that what is fetched never comes before its message.
    for (way, envelope, fetch) in fetches {
        if let Err(error) = fetching::put_aside(&way, envelope, fetch).await {
            tracing::warn!(channel.kind = %way.account.kind, channel.account = %way.account.id, kind = ?error.kind, "what is to be fetched cannot be put aside");
            failed = true;
        }
    }
    for (account, reason, raw) in dead {
        if let Err(error) = bury(own, &account, &reason, &raw).await {
            tracing::error!(channel.kind = %own.account.kind, channel.account = %account, kind = ?error.kind, "a dead letter cannot be stored");
            failed = true;
        }
    }
    if failed { Err(NotStored) } else { Ok(()) }
}

fn submit(
    shared: &Shared,
    way: Arc<Way>,
    mut envelope: Envelope,
    raw: Option<Bytes>,
    fetch: Vec<Fetch>,
    parent: Option<&str>,
) -> Result<Pending, crate::AcceptError> {
    let redacted = way.inbound.redact(&mut envelope);
    // The facts that come of these do not name their originals, so nobody who is erased could be freed of them.
    let untraceable = matches!(envelope.kind, EnvelopeKind::Receipt | EnvelopeKind::AccountEvent);
    let mut original = None;
    if let (Some(raw), Some(keeper), false, true) =
        (&raw, shared.keeper.get(), redacted || untraceable, shared.settings.keep_raw && envelope.raw_ref.is_none())
        && !holds_secrets(&way.redactor, raw)
        && let Some(place) = keeper.room(raw.len())
    {
        let (store_key, sha256) = way.media.key(&envelope.thread.key, raw);
        let json = matches!(raw.first(), Some(b'{' | b'['));
        let content_type = json.then(|| SmolStr::new_static("application/json"));
        envelope.raw_ref =
            Some(RawRef { store_key: store_key.clone(), sha256, content_type, headers: serde_json::Map::new() });
        original = Some((place, store_key, raw.clone()));
    }
    let ticket = way.inbound.submit_redacted(&envelope, parent)?;
    let ask = Ask::about(&envelope);
    let fetch = (!fetch.is_empty()).then_some((envelope, fetch));
    Ok(Pending { ticket, way, original, fetch, ask })
}

/// Whether an original holds what must not be stored. Numbers that stand alone are ids: what a customer wrote was looked
/// at in the envelope.
fn holds_secrets(redactor: &Redactor, raw: &[u8]) -> bool {
    fn value_holds(redactor: &Redactor, value: &Value) -> bool {
        match value {
            Value::String(text) => text_holds(redactor, text),
            Value::Array(items) => items.iter().any(|item| value_holds(redactor, item)),
            Value::Object(map) => map.values().any(|item| value_holds(redactor, item)),
            _ => false,
        }
    }
    fn text_holds(redactor: &Redactor, text: &str) -> bool {
        !text.bytes().all(|byte| byte.is_ascii_digit()) && redactor.redact(text).is_some()
    }
    let Ok(text) = std::str::from_utf8(raw) else { return true };
    let escaped = text.contains("\\u");
    if !escaped && redactor.redact(text).is_none() {
        return false;
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) => value_holds(redactor, &value),
        Err(_) => true,
    }
}

/// The same bytes without what must not be stored.
fn without_secrets(redactor: &Redactor, raw: &Bytes) -> Bytes {
    fn change(redactor: &Redactor, value: &mut Value) {
        match value {
            Value::String(text) if !text.bytes().all(|byte| byte.is_ascii_digit()) => {
                redactor.redact_in(text);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| change(redactor, item)),
            Value::Object(map) => map.values_mut().for_each(|item| change(redactor, item)),
            _ => {}
        }
    }
    if !holds_secrets(redactor, raw) {
        return raw.clone();
    }
    // What is no text cannot be looked at, and is kept as it is.
    let Ok(text) = std::str::from_utf8(raw) else { return raw.clone() };
    match serde_json::from_str::<Value>(text) {
        Ok(mut value) => {
            change(redactor, &mut value);
            value.to_string().into()
        }
        Err(_) => redactor.redact(text).map_or_else(|| raw.clone(), Bytes::from),
    }
}

/// Puts what was not understood to the dead letters.
async fn bury(way: &Way, account: &AccountId, reason: &str, raw: &Bytes) -> Result<(), bus::Error> {
    let stage = bus::permissions::hook_stage(way.account.kind.as_str());
    tracing::warn!(channel.kind = %way.account.kind, channel.account = %account, reason, "a webhook's event goes to the dead letters");
    let shard = contract::shard::of(&way.tenant, way.shards);
    let whole = without_secrets(&way.redactor, raw);
    let mut kept = whole.clone();
    loop {
        let cut = if kept.len() == whole.len() {
            String::new()
        } else {
            format!(" (of {} bytes these are the first {})", whole.len(), kept.len())
        };
        let letter = DeadLetter {
            stage: stage.as_str().into(),
            // Where it goes when somebody has written the envelope that it should have been.
            subject: subject::inbound(shard, &way.tenant, &way.account.kind, account),
            reason: format!("{reason}{cut}"),
            content_type: None,
            payload: DeadPayload::new(&kept),
            at: clock::now(),
        };
        let payload = Encoding::MsgPack
            .encode(&letter)
            .map_err(|error| bus::Error { kind: ErrorKind::Other, source: error.into() })?;
        // Room for the headers.
        let too_large = payload.len() + 1024 > way.bus.payload_bytes_max() && !kept.is_empty();
        if too_large {
            kept.truncate(kept.len() / 2);
            continue;
        }
        let mut hasher = sha2::Sha256::new();
        hasher.update(account.as_str());
        hasher.update([0]);
        hasher.update(raw);
        let id: String = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let publish = Publish {
            subject: subject::dead(&way.tenant, &stage),
            payload: payload.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            // What the provider sends again is there once.
            msg_id: Some(format!("{stage}/{id}")),
            ..Publish::default()
        };
        way.bus.publish(publish).await?;
        metrics::counter!(Metric::Dead.name(), "stage" => stage).increment(1);
        return Ok(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originals_with_a_card_number_are_not_kept() {
        let redactor = Redactor::new(true, &["hunter\\d".to_owned()]).unwrap();
        for bad in [
            r#"{"text":"my card 4111 1111 1111 1111"}"#,
            r#"{"text":"4111\u00201111\u00201111\u00201111, bye"}"#,
            r#"{"a":[{"b":"hunter2"}]}"#,
            "Body=4111+1111&x=4111 1111 1111 1111",
        ] {
            assert!(holds_secrets(&redactor, bad.as_bytes()), "{bad}");
        }
        let without = |raw: &'static str| without_secrets(&redactor, &Bytes::from_static(raw.as_bytes()));
        let (dead, kept) =
            (r#"{"id":"4111111111111111","t":"hunter2!"}"#, r#"{"id":"4111111111111111","t":"[redacted]!"}"#);
        assert_eq!(
            (without(dead), without(kept)),
            (Bytes::from_static(kept.as_bytes()), Bytes::from_static(kept.as_bytes()))
        );
        assert_eq!(without("no JSON of hunter2"), "no JSON of [redacted]");
        // An id may look like one.
        assert!(!holds_secrets(&redactor, br#"{"id":"4111111111111111","n":4111111111111111,"text":"hello"}"#));
        assert!(!holds_secrets(&redactor, br#"{"text":"hello \u00e9"}"#) && holds_secrets(&redactor, &[0xff]));
    }
}
