//! Who somebody is, where a provider's events do not say: looked up once in a while beside the answer, and told as a
//! `contact_event` with the signal `profile`. Whatever is lost here is asked again with the next message.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::envelope::{EnvelopeKind, Party, Role, SenderAuth, Signal, Thread};
use contract::{AccountId, ChannelKind, Envelope, Millis, TenantId, Timestamp};
use futures_util::FutureExt;
use metrics::Gauge;
use runtime::drain::Shutdown;
use runtime::metrics::Counted;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::channel::{Channel, Described};
use crate::clock;
use crate::cursor::{Cursors, Held};
use crate::failure::Class;
use crate::inbound::Inbound;
use crate::telemetry::Metric;

/// Most questions that wait.
const WAITING_MAX: usize = 256;
/// How many are asked at once.
const WORKERS: usize = 2;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How long an answer is good.
const FRESH: Millis = Millis::from_secs(30 * 86_400);
const DAY_MS: u64 = 86_400_000;
/// Most identities of which it is known in memory that they were asked for.
const RECENT_MAX: usize = 65_536;

/// A question.
pub(crate) struct Ask {
    tenant: TenantId,
    account: contract::envelope::Account,
    thread: Thread,
    sender: Party,
    sender_auth: SenderAuth,
}

/// A question that waits.
struct Waiting {
    ask: Ask,
    counted: Counted,
}

/// Where questions are put. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Asking {
    questions: mpsc::Sender<Waiting>,
    /// Shows how many wait.
    queued: Gauge,
}

/// Who answers them.
pub(crate) struct Describing {
    asked: tokio::sync::Mutex<mpsc::Receiver<Waiting>>,
    pub(crate) targets: HashMap<(ChannelKind, TenantId, AccountId), Target>,
    recent: Mutex<HashSet<(ChannelKind, AccountId, String)>>,
}

/// An account whose provider can be asked.
pub(crate) struct Target {
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) inbound: Inbound,
    pub(crate) memory: Cursors,
}

/// The two ends.
pub(crate) fn channel() -> (Asking, Describing) {
    let (questions, asked) = mpsc::channel(WAITING_MAX);
    let asked = tokio::sync::Mutex::new(asked);
    let queued = metrics::gauge!(Metric::DescriptionsQueued.name());
    (Asking { questions, queued }, Describing { asked, targets: HashMap::new(), recent: Mutex::default() })
}

impl Ask {
    /// What is to be asked about an envelope's sender, if anything.
    pub(crate) fn about(envelope: &Envelope) -> Option<Self> {
        let sender = &envelope.sender;
        let unknown =
            envelope.kind == EnvelopeKind::Message && sender.role == Role::Customer && sender.display.is_none();
        unknown.then(|| Self {
            tenant: envelope.tenant.clone(),
            account: envelope.account.clone(),
            thread: envelope.thread.clone(),
            sender: sender.clone(),
            sender_auth: envelope.sender_auth.clone(),
        })
    }
}

impl Asking {
    /// Puts a question, unless too many wait.
    pub(crate) fn put(&self, ask: Ask) {
        let _ = self.questions.try_send(Waiting { ask, counted: Counted::one(&self.queued) });
    }
}

impl Describing {
    /// Answers until the drain begins.
    pub(crate) async fn run(self: Arc<Self>, shutdown: &Shutdown) {
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..WORKERS {
            let this = Arc::clone(&self);
            workers.spawn(async move {
                loop {
                    let next = this.asked.lock().await.recv().await;
                    let Some(Waiting { ask, counted }) = next else { return };
                    drop(counted);
                    this.answer(ask).await;
                }
            });
        }
        shutdown.draining().await;
        workers.shutdown().await;
    }

    async fn answer(&self, ask: Ask) {
        let account = &ask.account;
        let Some(target) = self.targets.get(&(account.kind.clone(), ask.tenant.clone(), account.id.clone())) else {
            return;
        };
        let identity = &ask.sender.identity;
        let name = format!("described/{}/{}", identity.scheme, identity.value);
        let key = (account.kind.clone(), account.id.clone(), name.clone());
        if self.recent().contains(&key) {
            return;
        }
        let now = clock::now();
        // What cannot be read is asked again.
        let Ok(Held { value, .. }) = target.memory.get::<Timestamp>(&name).await else { return };
        if value.is_none_or(|at| now.since(at) > FRESH) {
            let asking = AssertUnwindSafe(async { target.channel.describe(identity).await }).catch_unwind();
            let (outcome, done) = match tokio::time::timeout(WITHIN, asking).await {
                Ok(Ok(Ok(Some(described)))) => {
                    let told = target.inbound.accept(&envelope(&ask, described, now)).await;
                    ("described", !told.is_err_and(|error| error.is_retryable()))
                }
                Ok(Ok(Ok(None))) => ("unknown", true),
                Ok(Ok(Err(failure))) => {
                    tracing::debug!(channel.kind = %account.kind, channel.account = %account.id, code = %failure.code, "a provider did not say who somebody is");
                    ("failed", !matches!(failure.class, Class::Retryable { .. }))
                }
                Ok(Err(_)) | Err(_) => ("failed", false),
            };
            let labels = [("channel_kind", account.kind.to_string()), ("outcome", outcome.to_owned())];
            metrics::counter!(Metric::Described.name(), &labels).increment(1);
            if !done {
                return;
            }
            if let Err(error) = target.memory.put(&name, &now).await {
                tracing::debug!(kind = ?error.kind, "it is not remembered who was asked for");
            }
        }
        let mut recent = self.recent();
        if recent.len() >= RECENT_MAX {
            recent.clear();
        }
        recent.insert(key);
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, HashSet<(ChannelKind, AccountId, String)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells the router.
fn envelope(ask: &Ask, described: Described, now: Timestamp) -> Envelope {
    let Described { name, username, language, avatar } = described;
    let mut sender = ask.sender.clone();
    sender.display = name;
    sender.username = username.clone().or(sender.username);
    let mut data = Map::new();
    let told = [("username", username.map(String::from)), ("avatar", avatar)];
    data.extend(told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::String(value?)))));
    let identity = &sender.identity;
    let dedup_key = format!("profile/{}/{}/{}", identity.scheme, identity.value, now.0 / DAY_MS).into();
    let (tenant, account, thread) = (ask.tenant.clone(), ask.account.clone(), ask.thread.clone());
    let told = Envelope::new(tenant, account, thread, sender, ask.sender_auth.clone(), now);
    Envelope {
        kind: EnvelopeKind::ContactEvent,
        dedup_key,
        language,
        signal: Some(Signal { name: "profile".into(), detail: None, data }),
        ..told
    }
}
