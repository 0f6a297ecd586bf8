//! Requests to a service, and its discovery by `nats micro` (ADR-32).
//!
//! The client library's own service puts all instances of an endpoint into one queue group. Here
//! every instance must hear every request, since only the owner of a shard answers; so there is no
//! queue group at all, and the three discovery verbs are answered here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use serde_json::{Value, json};

use crate::{Bus, Error, Message, Publish};

/// A service for discovery.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// For people.
    pub description: String,
    /// (endpoint name, subject with wildcards)
    pub endpoints: Vec<(String, String)>,
}

/// What discovery tells.
struct Card {
    service: Service,
    id: String,
    started: String,
    requests: Vec<AtomicU64>,
}

impl Card {
    fn common(&self, kind: &str) -> Value {
        json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.service.name,
            "id": self.id,
            "version": self.service.version,
            "metadata": BTreeMap::<String, String>::new(),
        })
    }

    fn answer(&self, verb: &str) -> Value {
        let endpoints = self.service.endpoints.iter().zip(&self.requests);
        let mut answer = self.common(&verb.to_lowercase());
        let Some(fields) = answer.as_object_mut() else { return answer };
        match verb {
            "INFO" => {
                let endpoints: Vec<Value> = endpoints
                    .map(|((name, subject), _)| json!({ "name": name, "subject": subject, "queue_group": "" }))
                    .collect();
                fields.insert("description".into(), self.service.description.clone().into());
                fields.insert("endpoints".into(), endpoints.into());
            }
            "STATS" => {
                let endpoints: Vec<Value> = endpoints
                    .map(|((name, subject), requests)| {
                        json!({
                            "name": name,
                            "subject": subject,
                            "queue_group": "",
                            "num_requests": requests.load(Ordering::Relaxed),
                            "num_errors": 0,
                            "last_error": "",
                            "processing_time": 0,
                            "average_processing_time": 0,
                        })
                    })
                    .collect();
                fields.insert("started".into(), self.started.clone().into());
                fields.insert("endpoints".into(), endpoints.into());
            }
            _ => {}
        }
        answer
    }
}

/// Requests to a service; `Message.reply` is where the answer goes (use `Bus::send`). Holds at most
/// 65,536 requests per endpoint; more are dropped and counted, and their senders run into timeouts.
pub struct Requests {
    inner: SelectAll<futures_util::stream::BoxStream<'static, (usize, async_nats::Message)>>,
    card: Arc<Card>,
    discovery: tokio::task::JoinHandle<()>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.discovery.abort();
    }
}

impl Requests {
    /// The next request; `None` when the connection is closed for good. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        let (endpoint, message) = self.inner.next().await?;
        if let Some(requests) = self.card.requests.get(endpoint) {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        Some(message.into())
    }
}

impl Bus {
    /// Registers with the NATS Service API (ADR-32) so that `nats micro ls` finds it. Every instance
    /// gets every request: the owner of a shard alone answers.
    pub async fn service(&self, description: Service) -> Result<Requests, Error> {
        let legal = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        for name in description.endpoints.iter().map(|(name, _)| name).chain([&description.name]) {
            if !legal(name) {
                return Err(Error::config(format!("service or endpoint name {name:?} is not legal")));
            }
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "discovery tells when the service started; nothing decides on it"
        )]
        let now = std::time::SystemTime::now();
        let card = Arc::new(Card {
            id: crate::connect::unique(),
            started: crate::time::rfc3339(now),
            requests: description.endpoints.iter().map(|_| AtomicU64::new(0)).collect(),
            service: description,
        });
        let mut endpoints = Vec::new();
        for (index, (_, subject)) in card.service.endpoints.iter().enumerate() {
            let subscription = self.subscribe_raw(subject).await?;
            endpoints.push(subscription.map(move |message| (index, message)).boxed());
        }
        let mut questions = Vec::new();
        for verb in ["PING", "INFO", "STATS"] {
            let name = &card.service.name;
            let subjects =
                [format!("$SRV.{verb}"), format!("$SRV.{verb}.{name}"), format!("$SRV.{verb}.{name}.{}", card.id)];
            for subject in subjects {
                let subscription = self.subscribe_raw(&subject).await?;
                questions.push(subscription.map(move |message| (verb, message)).boxed());
            }
        }
        self.round_trip().await?;
        let discovery = tokio::spawn(discover(self.clone(), Arc::clone(&card), select_all(questions)));
        Ok(Requests { inner: select_all(endpoints), card, discovery })
    }
}

async fn discover(
    bus: Bus,
    card: Arc<Card>,
    mut questions: SelectAll<futures_util::stream::BoxStream<'static, (&'static str, async_nats::Message)>>,
) {
    while let Some((verb, message)) = questions.next().await {
        let Some(reply) = message.reply else { continue };
        let payload = card.answer(verb).to_string().into();
        if let Err(error) = bus.send(Publish { subject: reply.into_string(), payload, ..Publish::default() }).await {
            tracing::debug!(%error, "discovery stays unanswered");
        }
    }
}
