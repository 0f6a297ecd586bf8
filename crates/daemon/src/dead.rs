//! `throughline dead`: what could not be processed.

use std::path::Path;

use bus::{Publish, Stored};
use contract::outbound::{DeadLetter, DeadPayload};
use contract::{Encoding, Timestamp, subject};

use crate::Failure;
use crate::ask::Operator;
use crate::output::{clock, say, table};

const STREAM: &str = "DEAD";
/// Largest dead letter that is read: an input record in hexadecimal, and its reason.
const LETTER_BYTES_MAX: usize = 4 * 1024 * 1024;

fn read(stored: &Stored) -> Result<DeadLetter, Failure> {
    let content_type = stored.headers.get(contract::codec::CONTENT_TYPE);
    let encoding = Encoding::detect(content_type, &stored.payload)?;
    Ok(encoding.decode(&stored.payload, LETTER_BYTES_MAX)?)
}

/// The newest, oldest first.
pub(crate) async fn list(operator: &Operator, limit: usize) -> Result<(), Failure> {
    let filter = subject::dead_all(&operator.tenant);
    let letters = operator.bus.collect(STREAM, &filter, Some(limit)).await?;
    let read: Vec<(u64, DeadLetter)> =
        letters.iter().filter_map(|stored| Some((stored.seq, read(stored).ok()?))).collect();
    if operator.json {
        let list: Vec<_> =
            read.iter().map(|(seq, letter)| serde_json::json!({ "seq": seq, "letter": letter })).collect();
        say(&serde_json::to_string_pretty(&list)?);
    } else if read.is_empty() {
        say("no dead letters");
    } else {
        let rows = read.into_iter().map(|(seq, letter)| {
            vec![seq.to_string(), clock(letter.at), letter.stage.to_string(), letter.subject, letter.reason]
        });
        say(&table(&["seq", "at", "stage", "subject", "reason"], rows));
    }
    Ok(())
}

async fn get(operator: &Operator, seq: u64) -> Result<DeadLetter, Failure> {
    let stored = operator.bus.get(STREAM, seq).await?;
    let stored = stored.ok_or_else(|| Failure::Other(format!("there is no dead letter {seq}")))?;
    if !contract::subject::is_dead_of(&stored.subject, &operator.tenant) {
        return Err(Failure::Other(format!("dead letter {seq} is another tenant's")));
    }
    read(&stored)
}

/// One with its content: what is MessagePack is shown as JSON, so that it can be mended and replayed.
pub(crate) async fn show(operator: &Operator, seq: u64) -> Result<(), Failure> {
    let letter = get(operator, seq).await?;
    if operator.json {
        say(&serde_json::to_string_pretty(&letter)?);
        return Ok(());
    }
    say(&format!("at       {} ({} ms)", clock(letter.at), letter.at.0));
    say(&format!("stage    {}", letter.stage));
    say(&format!("subject  {}", letter.subject));
    say(&format!("reason   {}", letter.reason));
    say("");
    let bytes = letter.payload.bytes().unwrap_or_default();
    let value: Option<serde_json::Value> = Encoding::detect(letter.content_type.as_deref(), &bytes)
        .ok()
        .and_then(|encoding| encoding.decode(&bytes, LETTER_BYTES_MAX).ok());
    match (value, &letter.payload) {
        (Some(value), _) => say(&serde_json::to_string_pretty(&value)?),
        (None, DeadPayload::Text(text) | DeadPayload::Hex(text)) => say(text),
    }
    Ok(())
}

/// Puts one back where it came from. It is taken from the list once the router was asked to take it:
/// a repeat is harmless, since what was taken in is known by its provider id.
pub(crate) async fn replay(operator: &Operator, seq: u64, with: Option<&Path>) -> Result<(), Failure> {
    let letter = get(operator, seq).await?;
    let (payload, content_type) = match with {
        Some(file) => {
            let bytes = std::fs::read(file).map_err(|e| Failure::Other(format!("{}: {e}", file.display())))?;
            check_mended(&bytes)?;
            (bytes, Some(Encoding::Json.content_type()))
        }
        None => {
            let bytes = letter.payload.bytes();
            let bytes = bytes.ok_or_else(|| Failure::Other("its content is not readable hexadecimal".to_owned()))?;
            let content_type = match letter.content_type.as_deref() {
                Some("application/json") => Some(Encoding::Json.content_type()),
                Some(_) => Some(Encoding::MsgPack.content_type()),
                None => None,
            };
            (bytes, content_type)
        }
    };
    let msg_id = format!("replay/{seq}/{}", runtime::clock::now());
    let publish = Publish {
        subject: letter.subject,
        payload: payload.into(),
        content_type,
        msg_id: Some(msg_id),
        ..Publish::default()
    };
    let ack = operator.bus.publish(publish).await?;
    operator.bus.delete(STREAM, seq).await?;
    say(&format!("put back at {}, as number {} of its stream", clock(Timestamp(runtime::clock::now())), ack.seq));
    Ok(())
}

/// A mended inbound record must be one, or it would only come back.
fn check_mended(bytes: &[u8]) -> Result<(), Failure> {
    let envelopes = contract::envelope::decode_record(bytes, Some(Encoding::Json.content_type()))?;
    match envelopes.into_iter().find_map(Result::err) {
        Some(rejected) => Err(Failure::Other(format!("it is not mended yet: {}", rejected.reason))),
        None => Ok(()),
    }
}

/// Takes one from the list for good.
pub(crate) async fn delete(operator: &Operator, seq: u64) -> Result<(), Failure> {
    get(operator, seq).await?;
    operator.bus.delete(STREAM, seq).await?;
    say(&format!("deleted dead letter {seq}"));
    Ok(())
}
