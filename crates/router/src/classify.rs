//! Asking a classifier what a conversation is about: outside the loop, within the policy's time.
//!
//! The engine has noted in the journal that it waits, and until when; whatever comes back, or does not, ends
//! there. A question that is lost with its owner ends by the engine's own timer. One for which there is no room is not
//! asked, and ends at once as one that was not answered in time.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, ErrorKind as BusKind, Publish};
use contract::command::{Classified, Classify};
use contract::event::Classification;
use contract::{ConversationId, Encoding, Envelope, SmolStr, TenantId, Timestamp, subject};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::debug;

/// Questions that are asked at once.
pub(crate) const QUESTIONS_MAX: usize = 1024;
/// Answers that wait for the loop; beyond it a classifier's answer is late.
pub(crate) const ANSWERS_MAX: usize = 1024;
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Longest word of an answer, in bytes.
const WORD_BYTES_MAX: usize = 64;
/// Most tags of an answer.
const TAGS_MAX: usize = 16;

/// What a classifier said of a conversation.
pub(crate) type Found = (TenantId, ConversationId, Classification);

/// Asks where one of the `places` is free, and hands the answer to the loop.
pub(crate) fn ask(
    bus: Bus,
    places: &Arc<Semaphore>,
    found: mpsc::Sender<Found>,
    tenant: TenantId,
    conversation: ConversationId,
    envelope: Envelope,
    until: Timestamp,
) {
    let Some(place) = place(places, &found, &tenant, conversation) else { return };
    let budget = Duration::from_millis(until.since(Timestamp(runtime::clock::now())).0.max(1));
    tokio::spawn(async move {
        let question = Classify { conversation, envelope };
        let request = Publish {
            subject: subject::classify(&tenant),
            payload: Encoding::Json.encode(&question).unwrap_or_default().into(),
            content_type: Some(Encoding::Json.content_type()),
            ..Publish::default()
        };
        let classification = match bus.request(request, budget).await {
            Ok(answer) => read(&answer.payload).unwrap_or_else(|| outcome("refused")),
            Err(error) if error.kind == BusKind::NoResponders => outcome("absent"),
            Err(error) => {
                debug!(%error, "a classifier did not answer in time");
                outcome("late")
            }
        };
        count(&classification.outcome);
        // A full queue means that the answer is late anyhow: the timer routes it.
        let _ = found.try_send((tenant, conversation, classification));
        drop(place);
    });
}

/// A place for a question. Where none is free, the loop is told at once that there is no answer.
fn place(
    places: &Arc<Semaphore>,
    found: &mpsc::Sender<Found>,
    tenant: &TenantId,
    conversation: ConversationId,
) -> Option<OwnedSemaphorePermit> {
    let place = Arc::clone(places).try_acquire_owned().ok();
    if place.is_none() {
        count("busy");
        // The same word as for an answer that comes too late: nobody who reads it has to know another.
        let _ = found.try_send((tenant.clone(), conversation, outcome("late")));
    }
    place
}

fn count(outcome: &str) {
    metrics::counter!(crate::Metric::Classified.name(), "outcome" => outcome.to_owned()).increment(1);
}

fn outcome(outcome: &'static str) -> Classification {
    Classification { outcome: SmolStr::new_static(outcome), ..Classification::default() }
}

/// Reads an answer; `None` when it is not one.
fn read(payload: &[u8]) -> Option<Classification> {
    let encoding = Encoding::detect(None, payload).ok()?;
    let answer: Classified = encoding.decode(payload, ANSWER_BYTES_MAX).ok()?;
    let short = |word: &SmolStr| !word.is_empty() && word.len() <= WORD_BYTES_MAX;
    let sound = answer.intent.iter().chain(&answer.language).chain(&answer.tags).all(short);
    (sound && answer.tags.len() <= TAGS_MAX).then(|| Classification {
        intent: answer.intent,
        language: answer.language,
        tags: answer.tags.into_iter().collect(),
        ..outcome("answered")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_a_place_ends_at_once() {
        let (sender, mut found) = mpsc::channel(1);
        let (places, tenant) = (Arc::new(Semaphore::new(1)), TenantId::new("main").unwrap());
        let first = place(&places, &sender, &tenant, ConversationId(1));
        assert!(first.is_some() && found.try_recv().is_err());
        assert!(place(&places, &sender, &tenant, ConversationId(2)).is_none());
        let (_, conversation, classification) = found.try_recv().unwrap();
        assert_eq!((conversation, classification.outcome.as_str()), (ConversationId(2), "late"));
    }

    #[test]
    fn answers_are_read_or_refused_whole() {
        let found = read(br#"{"intent":"refund","tags":["vip"]}"#).unwrap();
        assert_eq!((found.intent.as_deref(), found.outcome.as_str()), (Some("refund"), "answered"));
        assert_eq!(read(b"{}").unwrap().intent, None);
        assert!(read(b"nonsense").is_none());
        assert!(read(format!(r#"{{"intent":"{}"}}"#, "x".repeat(65)).as_bytes()).is_none());
        let tags: Vec<String> = (0..17).map(|n| format!("\"t{n}\"")).collect();
        assert!(read(format!(r#"{{"tags":[{}]}}"#, tags.join(",")).as_bytes()).is_none());
    }
}
