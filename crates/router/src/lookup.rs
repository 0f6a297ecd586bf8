//! Asking a program of the company's who a customer is: outside the loop, beside the conversation, which does not wait.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bus::{Bus, ErrorKind as BusKind, Publish};
use contract::answer::CustomerView;
use contract::event::ProfileChange;
use contract::{CustomerId, Encoding, Millis, TenantId, Timestamp, subject};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::debug;

/// Customers who are asked for at once; what comes on top is asked with their next conversation.
pub(crate) const QUESTIONS_MAX: usize = 1024;
/// Answers that wait for the loop; more are dropped and asked for again.
pub(crate) const ANSWERS_MAX: usize = 1024;
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Customers of whom it is remembered when they were asked for.
const ASKED_MAX: usize = 100_000;

/// What a program said of a customer.
pub(crate) type LookedUp = (TenantId, CustomerId, ProfileChange);

/// The question.
#[derive(Serialize)]
struct Question {
    customer: CustomerView,
}

/// When customers were asked for last: lost with the process, and asked for again then.
#[derive(Default)]
pub(crate) struct Asked {
    at: HashMap<(TenantId, CustomerId), Timestamp>,
    order: VecDeque<(TenantId, CustomerId)>,
}

impl Asked {
    /// Whether it is time to ask for a customer; notes that it is done.
    pub(crate) fn due(&mut self, tenant: &TenantId, customer: CustomerId, now: Timestamp, cache: Millis) -> bool {
        let key = (tenant.clone(), customer);
        if self.at.get(&key).is_some_and(|asked| *asked + cache > now) {
            return false;
        }
        if self.at.insert(key.clone(), now).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > ASKED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.at.remove(&oldest);
            }
        }
        true
    }
}

/// Asks, and hands the answer to the loop; gives the place back then.
pub(crate) fn ask(
    bus: Bus,
    place: OwnedSemaphorePermit,
    found: mpsc::Sender<LookedUp>,
    tenant: TenantId,
    customer: CustomerView,
    budget: Millis,
) {
    tokio::spawn(async move {
        let id = customer.customer;
        let request = Publish {
            subject: subject::lookup(&tenant),
            payload: Encoding::Json.encode(&Question { customer }).unwrap_or_default().into(),
            content_type: Some(Encoding::Json.content_type()),
            ..Publish::default()
        };
        let (outcome, change) = match bus.request(request, Duration::from_millis(budget.0.max(1))).await {
            Ok(answer) => match read(&answer.payload) {
                Some(change) => ("answered", Some(change)),
                None => ("refused", None),
            },
            Err(error) if error.kind == BusKind::NoResponders => ("absent", None),
            Err(error) => {
                debug!(%error, "a lookup did not answer in time");
                ("late", None)
            }
        };
        count(outcome);
        if let Some(change) = change.filter(|change| *change != ProfileChange::default()) {
            let _ = found.try_send((tenant, id, change));
        }
        drop(place);
    });
}

/// Counts what became of a question.
pub(crate) fn count(outcome: &'static str) {
    metrics::counter!(crate::Metric::Lookups.name(), "outcome" => outcome).increment(1);
}

/// Reads an answer; `None` when it is not one.
fn read(payload: &[u8]) -> Option<ProfileChange> {
    Encoding::detect(None, payload).ok()?.decode(payload, ANSWER_BYTES_MAX).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_refused_whole() {
        let change = read(br#"{"attributes":{"contract":"4711"},"segments_added":["vip"]}"#).unwrap();
        assert_eq!(change.attributes["contract"].as_deref(), Some("4711"));
        assert_eq!(read(b"{}"), Some(ProfileChange::default()));
        assert_eq!(read(br#"{"attributes":{"contract":4711}}"#), None, "a number is no text");
        assert_eq!(read(b"nonsense"), None);
    }

    #[test]
    fn a_customer_is_asked_for_once_in_a_while() {
        let (mut asked, tenant) = (Asked::default(), TenantId::new("main").unwrap());
        let mut due = |at: u64| asked.due(&tenant, CustomerId(1), Timestamp(at), Millis(100));
        assert_eq!([due(0), due(99), due(100), due(150)], [true, false, true, false]);
    }
}
