//! Asking the router, and why there is no answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use bus::{Bus, ErrorKind, Publish};
use contract::answer::{AgentView, Explanation, StatusView};
use contract::command::{AdminCommand, Refusal, RefusalKind, Reply};
use contract::feed::ConversationView;
use contract::{Encoding, EventRecord, TenantId, subject};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;

/// How long the router may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Puts a question to the router and returns its reply as it came, in JSON.
pub(crate) type Ask = Arc<dyn Fn(AdminCommand) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>;

/// Why there is no answer, for the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Failure {
    /// No router answers: nobody listens, none in time, or the bus is away.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { reason: "unreachable", message: message.into() }
    }

    pub(crate) fn malformed_id(message: impl Into<String>) -> Self {
        Self { reason: "malformed_id", message: message.into() }
    }

    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self { reason: "unreadable", message: message.into() }
    }

    fn refused(refusal: Refusal) -> Self {
        let reason = match refusal.kind {
            RefusalKind::NotFound => "not_found",
            RefusalKind::Unavailable => "unreachable",
            _ => "refused",
        };
        Self { reason, message: refusal.message }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.reason {
            "malformed_id" => StatusCode::BAD_REQUEST,
            "not_found" => StatusCode::NOT_FOUND,
            "refused" | "unreadable" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Asks over the bus.
pub(crate) fn over(bus: Bus, tenant: TenantId) -> Ask {
    Arc::new(move |question| {
        let (bus, subject) = (bus.clone(), subject::admin_command(&tenant, question.verb()));
        async move {
            let payload = question.encode("", Encoding::Json).map_err(|error| Failure::unreadable(error.0))?;
            let content_type = Some(Encoding::Json.content_type());
            let request = Publish { subject, payload: payload.into(), content_type, ..Publish::default() };
            match bus.request(request, TIMEOUT).await {
                Ok(message) => Ok(message.payload),
                Err(error) => {
                    tracing::debug!(%error, "the wall has no answer");
                    Err(match error.kind {
                        ErrorKind::NoResponders => Failure::unreachable("no router is running for this tenant"),
                        ErrorKind::Timeout => Failure::unreachable("the router did not answer within 2 seconds"),
                        ErrorKind::Forbidden => Failure {
                            reason: "refused",
                            message: "the bus does not allow the wall to ask the router".to_owned(),
                        },
                        _ => Failure::unreachable(error.kind.to_string()),
                    })
                }
            }
        }
        .boxed()
    })
}

/// What the router answers an operator, as far as the wall shows it: [`contract::answer::AdminAnswer`]
/// that gets over facts of a newer router.
#[derive(Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub(crate) enum Answer {
    Status(Box<StatusView>),
    Conversations(Vec<ConversationView>),
    Agents(Vec<AgentView>),
    Conversation(Box<Detail>),
}

/// A conversation with its facts.
#[derive(Deserialize)]
pub(crate) struct Detail {
    pub(crate) conversation: Option<ConversationView>,
    pub(crate) explanation: Option<Explanation>,
    pub(crate) facts: Vec<Fact>,
}

/// A fact, also one that this version does not know.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Fact {
    Known(EventRecord),
    Unknown { at: contract::Timestamp, event: UnknownEvent },
}

#[derive(Deserialize)]
pub(crate) struct UnknownEvent {
    #[serde(rename = "type")]
    pub(crate) name: String,
}

/// Asks, and reads the answer of one kind.
pub(crate) async fn answer<T>(
    ask: &Ask,
    question: AdminCommand,
    take: impl FnOnce(Answer) -> Option<T>,
) -> Result<T, Failure> {
    let verb = question.verb();
    let payload = ask(question).await?;
    let reply: Reply<Answer> = Encoding::Json
        .decode(&payload, ANSWER_BYTES_MAX)
        .map_err(|error| Failure::unreadable(format!("the answer to {verb} is not understood: {error}")))?;
    if let Some(refusal) = reply.refusal {
        return Err(Failure::refused(refusal));
    }
    let answer = reply.result.and_then(take);
    answer.ok_or_else(|| Failure::unreadable(format!("the answer to {verb} is of another kind")))
}
