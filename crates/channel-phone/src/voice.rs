//! Phone calls: Twilio and Vonage, by webhook and by their APIs.
//!
//! `twilio` and `vonage` read webhooks and write documents, `flow` says what a webhook means and what is heard next,
//! `orders` writes requests; all of that is pure. This carries them.

mod events;
mod flow;
mod link;
mod orders;
mod script;
mod settings;
mod texts;
mod told;
mod twilio;
mod vonage;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::contract::call::{CallOrder, CallStep};
use adapter::contract::envelope::ReceiptStatus;
use adapter::contract::outbound::{OutCommand, ThreadWait};
use adapter::contract::{Millis, SmolStr, Timestamp};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::http::StatusCode;
use adapter::ledger::Begin;
use adapter::webhook::{Item, Reply, Request, Verdict};
use adapter::{BoxFuture, Context, Fetched, PartLedger};
use serde_json::Value;

pub(crate) use self::flow::{Address, Desk};
pub(crate) use self::link::Link;
pub(crate) use self::orders::{Ask, Body, Provider};
pub(crate) use self::settings::Settings;

use self::flow::{Mark, Next, Outcome};
use self::link::Step;
use self::orders::Answered;
use self::script::{Callee, Script};
use self::texts::Line;
use self::told::{Spoken, Told};

/// How long somebody who listens to silence waits for the router's word.
const WAIT_BUDGET: Duration = Duration::from_millis(1000);
/// How long one value may take to be kept or read while somebody listens.
const MEMORY_BUDGET: Duration = Duration::from_millis(1000);
/// How long a leg may take to be hung up while its agent listens.
const DECLINE_BUDGET: Duration = Duration::from_secs(3);
/// How long a transcript may take to be fetched before the provider is told to come again.
const TRANSCRIPT_BUDGET: Duration = Duration::from_secs(8);
/// Nobody is put through or called back later than this after it was ordered: it has been decided anew by then.
const ORDER_LIFE: Millis = Millis::from_secs(60);

/// An answer: its status, when the provider wants to be asked again, and its body as JSON.
pub(crate) type Answer = (StatusCode, Option<Duration>, Value);

/// The provider's API, with the account's credentials.
pub(crate) trait Api: Send + Sync + 'static {
    /// Makes a request.
    ///
    /// # Errors
    /// Retryable when nothing went out, unknown when it did and there is no whole answer.
    fn ask<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, SendFailure>>;

    /// Downloads what the provider keeps for the account: a recording by its id or address, a transcript by its address.
    ///
    /// # Errors
    /// As [`Fetcher`](adapter::fetch::Fetcher).
    fn download<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<Fetched, SendFailure>>;
}

/// An account's calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Voice {
    desk: Arc<Desk>,
    provider: Provider,
    /// Absent when a request is only tried out.
    live: Option<Live>,
}

#[derive(Clone)]
struct Live {
    context: Context,
    api: Arc<dyn Api>,
}

impl Voice {
    /// An account whose hook is served.
    pub(crate) fn new(desk: Desk, provider: Provider, context: Context, api: Arc<dyn Api>) -> Self {
        Self { desk: Arc::new(desk), provider, live: Some(Live { context, api }) }
    }

    /// An account whose requests are only tried out.
    pub(crate) fn rehearsed(desk: Desk, provider: Provider) -> Self {
        Self { desk: Arc::new(desk), provider, live: None }
    }

    /// Judges a form of Twilio's that is authentic. `link`: what the address carries, when it is one of ours, which was
    /// verified.
    pub(crate) fn form(&self, request: &Request, form: &[(String, String)], link: Option<&Link>) -> Verdict {
        match twilio::told(form) {
            Some(told) => self.receive(request, &told, link),
            None => Verdict::refuse(StatusCode::BAD_REQUEST, "no call"),
        }
    }

    /// Judges an event of Vonage's, or the parameters of its query as an object, that is authentic.
    pub(crate) fn event(&self, request: &Request, event: &Value, link: Option<&Link>) -> Verdict {
        match vonage::told(event) {
            Some(told) => self.receive(request, &told, link),
            None => Verdict::refuse(StatusCode::BAD_REQUEST, "no call"),
        }
    }

    fn receive(&self, request: &Request, told: &Told, link: Option<&Link>) -> Verdict {
        let outcome = match (link, request.suffix.strip_prefix(link::PREFIX)) {
            (Some(link), _) => match self.desk.at(link, told, request.at) {
                Some(outcome) => outcome,
                None => return Verdict::refuse(StatusCode::FORBIDDEN, "another leg"),
            },
            (None, Some(INCOMING)) => self.desk.incoming(told, request.at),
            (None, Some(EVENT)) => self.desk.event(told, request.at),
            (None, _) => return Verdict::refuse(StatusCode::NOT_FOUND, "no such step"),
        };
        self.verdict(outcome, &request.body, request.at)
    }

    fn verdict(&self, outcome: Outcome, raw: &Bytes, now: Timestamp) -> Verdict {
        let Outcome { mut items, marks, next } = outcome;
        for item in &mut items {
            if let (Item::Envelope { raw: original, .. }, false) = (item, raw.is_empty()) {
                *original = Some(raw.clone());
            }
        }
        match (marks.is_empty(), next) {
            (true, Next::Nothing) => Verdict::Take { items, reply: self.nothing() },
            (true, Next::Play(script)) => Verdict::Take { items, reply: self.page(&script) },
            (_, next) => {
                let this = self.clone();
                Verdict::Later { items, answer: Box::pin(async move { this.follow(marks, next, now).await }) }
            }
        }
    }

    fn nothing(&self) -> Reply {
        match self.provider {
            Provider::Twilio => Reply::body(twilio::CONTENT_TYPE, "<Response/>"),
            Provider::Vonage => Reply::status(StatusCode::NO_CONTENT),
        }
    }

    fn page(&self, script: &Script) -> Reply {
        match self.provider {
            Provider::Twilio => Reply::body(twilio::CONTENT_TYPE, twilio::twiml(script)),
            Provider::Vonage => match vonage::ncco(script) {
                Some(ncco) => Reply::body(vonage::CONTENT_TYPE, ncco.to_string()),
                None => self.nothing(),
            },
        }
    }

    async fn follow(self, marks: Vec<Mark>, next: Next, now: Timestamp) -> Reply {
        if let Some(live) = &self.live {
            for mark in &marks {
                live.remember(mark).await;
            }
        }
        match next {
            Next::Nothing => self.nothing(),
            Next::Play(script) => self.page(&script),
            Next::Wait { link, callable } => {
                let wait = self.asked(&link).await;
                self.page(&self.desk.waiting(&link, callable, wait.as_ref()))
            }
            Next::Whisper { link } => {
                let wait = self.asked(&link).await;
                self.page(&self.desk.whispering(&link, wait.as_ref()))
            }
            Next::Dialed { link, bridged } => {
                let taken = match (&self.live, &link.command) {
                    (Some(live), Some(command)) => live.knows(&taken(command)).await,
                    _ => None,
                };
                // What we kept goes first: one provider calls it bridged when an agent only heard who calls.
                self.page(&self.desk.after_dial(&link, taken.or(bridged).unwrap_or(false)))
            }
            Next::Decline { leg, link } => {
                if let (Some(live), Provider::Vonage) = (&self.live, self.provider) {
                    let ask = self.provider.hang_up(&leg);
                    let hung_up = tokio::time::timeout(DECLINE_BUDGET, live.api.ask(&ask)).await;
                    if !matches!(hung_up, Ok(Ok((status, ..))) if status.is_success()) {
                        tracing::warn!(channel.account = %self.desk.account.id, "the leg of an agent who does not take a call was not hung up; it is tried again");
                    }
                }
                self.page(&self.desk.declined(&link))
            }
            Next::Transcript { at, recording, link } => match &self.live {
                Some(live) => {
                    match tokio::time::timeout(TRANSCRIPT_BUDGET, self.transcribe(live, &at, &recording, &link, now))
                        .await
                    {
                        Ok(Ok(())) => self.nothing(),
                        _ => Reply::status(StatusCode::SERVICE_UNAVAILABLE),
                    }
                }
                None => self.nothing(),
            },
        }
    }

    async fn asked(&self, link: &Link) -> Option<ThreadWait> {
        let live = self.live.as_ref()?;
        match live.context.history.wait(&link.thread, WAIT_BUDGET).await {
            Ok(wait) => Some(wait),
            Err(error) => {
                tracing::debug!(channel.account = %self.desk.account.id, %error, "it is not known how it stands with a caller");
                None
            }
        }
    }

    async fn transcribe(
        &self,
        live: &Live,
        at: &str,
        recording: &SmolStr,
        link: &Link,
        now: Timestamp,
    ) -> Result<(), SendFailure> {
        let fetched = match live.api.download(at).await {
            Ok(fetched) => fetched,
            // It will not be had later either.
            Err(failure) if failure.class == Class::Permanent => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let value = serde_json::from_slice(&fetched.bytes).unwrap_or(Value::Null);
        let Spoken::Text(text) = vonage::transcript(&value) else { return Ok(()) };
        let Item::Envelope { envelope, .. } = self.desk.fetched(link, recording, text, now) else { return Ok(()) };
        match live.context.inbound.accept(&envelope).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_retryable() => Err(SendFailure::retryable("not_stored", error.to_string())),
            Err(error) => {
                tracing::error!(channel.account = %self.desk.account.id, %error, "a transcript is refused");
                Ok(())
            }
        }
    }

    /// Gets a recording; `source` as `events` wrote it.
    ///
    /// # Errors
    /// As the provider's API says.
    pub(crate) async fn fetch(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let missing = || SendFailure::permanent("fetch_source", "no recording is named");
        let recording = source.get("recording").and_then(Value::as_str).ok_or_else(missing)?;
        let live = self.live.as_ref().ok_or_else(missing)?;
        live.api.download(recording).await
    }

    // === What is ordered ===

    /// Does what is ordered of a call.
    ///
    /// # Errors
    /// Permanent when it cannot be done; unknown when nobody knows whether a customer was called.
    pub(crate) async fn order(
        &self,
        command: &OutCommand,
        order: &CallOrder,
        ledger: &mut PartLedger,
        now: Timestamp,
    ) -> Result<Sent, SendFailure> {
        let live = self.live.as_ref().ok_or_else(|| SendFailure::permanent("not_open", "the account is not open"))?;
        let late = now.since(command.at) > ORDER_LIFE;
        match order.step {
            CallStep::HangUp => self.hang_up(live, command).await,
            CallStep::Connect | CallStep::CallBack if late => {
                Err(SendFailure::permanent("too_late", "the call was not put through in time"))
            }
            CallStep::Connect => self.connect(live, command, order, ledger).await,
            CallStep::CallBack => self.call_back(live, command, order, ledger).await,
            CallStep::Other(_) => Err(SendFailure::permanent("unsupported", "this is not known of calls")),
        }
    }

    async fn hang_up(&self, live: &Live, command: &OutCommand) -> Result<Sent, SendFailure> {
        let leg = live.leg(&command.thread.key).await?;
        match self.tell(live, &self.provider.hang_up(&leg)).await? {
            // It was over already.
            Answered::Done | Answered::Over => Ok(Sent::accepted()),
            Answered::Failed(failure) => Err(repeatable(failure)),
        }
    }

    async fn connect(
        &self,
        live: &Live,
        command: &OutCommand,
        order: &CallOrder,
        ledger: &mut PartLedger,
    ) -> Result<Sent, SendFailure> {
        let leg = live.leg(&command.thread.key).await?;
        let link = self.ordered(command, order, Some(leg.clone()));
        let script = self.desk.dial(&link, order, Vec::new()).ok_or_else(nobody)?;
        let again = ledger.entry().tries > 0 || !ledger.entry().parts.is_empty();
        // Tried before, it may have been done although nobody said so. A second time would cut off an agent who is
        // being called.
        if again && live.knows(&rang(&command.command_id)).await == Some(true) {
            return Ok(Sent::accepted());
        }
        if let Begin::Sent { .. } = ledger.begin(0).await? {
            return Ok(Sent::accepted());
        }
        match self.tell(live, &self.provider.redirect(&leg, &script)).await {
            Ok(Answered::Done) => Ok(Sent::accepted()),
            Ok(Answered::Over) => Err(SendFailure::permanent("call_over", "the customer is not on the line any more")),
            Ok(Answered::Failed(failure)) | Err(failure) => Err(repeatable(failure)),
        }
    }

    async fn call_back(
        &self,
        live: &Live,
        command: &OutCommand,
        order: &CallOrder,
        ledger: &mut PartLedger,
    ) -> Result<Sent, SendFailure> {
        let address = command.thread.reply_target.as_ref().map(|target| target.address.as_str());
        let to = address
            .and_then(Callee::read)
            .ok_or_else(|| SendFailure::permanent("no_number", "the customer's number is not known"))?;
        let (language, _) = self.desk.settings.language_of(Some(to.as_str()));
        let link = Link { language: language.clone(), ..self.ordered(command, order, None) };
        let say = self.desk.settings.say(language, Line::CallingBack, &[]).into_iter().collect();
        let script = self.desk.dial(&link, order, say).ok_or_else(nobody)?;
        let status = (self.desk.address)(&link.to(Step::Status).write());
        match ledger.begin(0).await? {
            Begin::Fresh => {}
            Begin::Sent { external_ids } => return Ok(Sent::with_ids(external_ids)),
            // Nobody is called twice.
            Begin::Interrupted => {
                return Err(SendFailure::unknown(
                    "interrupted",
                    "the customer was being called when this program ended",
                ));
            }
        }
        let ask = self.provider.call(&to, &self.desk.number, self.desk.settings.ring_seconds, &script, &status);
        let (status, after, body) = live.api.ask(&ask).await?;
        match orders::answered(status, after, &body) {
            Answered::Done => {}
            Answered::Over => {
                return Err(SendFailure::permanent("not_called", "the provider does not know the account"));
            }
            Answered::Failed(failure) => return Err(failure),
        }
        let Some(leg) = self.provider.begun(&body) else {
            return Err(SendFailure::unknown("no_id", "the answer names no call"));
        };
        live.remember(&Mark::Leg { thread: command.thread.key.clone(), leg: leg.clone() }).await;
        ledger.sent(0, vec![leg.clone()]).await;
        Ok(Sent { status: ReceiptStatus::Sent, external_ids: vec![leg], report: true })
    }

    fn ordered(&self, command: &OutCommand, order: &CallOrder, leg: Option<SmolStr>) -> Link {
        let number = command.thread.reply_target.as_ref().map(|target| target.address.as_str());
        let (language, _) = self.desk.settings.language_of(number);
        Link {
            step: Step::Dialed,
            thread: command.thread.key.clone(),
            leg,
            command: Some(command.command_id.clone()),
            agent: order.agent.clone(),
            language: language.clone(),
            round: 0,
            absent: 0,
        }
    }

    async fn tell(&self, live: &Live, ask: &Ask) -> Result<Answered, SendFailure> {
        let (status, after, body) = live.api.ask(ask).await?;
        Ok(orders::answered(status, after, &body))
    }
}

/// The path, behind [`link::PREFIX`], that the console is told for incoming calls.
pub(crate) const INCOMING: &str = "incoming";
/// The path that the console is told for what becomes of them.
pub(crate) const EVENT: &str = "event";

/// Done twice, it is the same as once.
fn repeatable(failure: SendFailure) -> SendFailure {
    if failure.class == Class::Unknown {
        SendFailure { class: Class::Retryable { after: None }, ..failure }
    } else {
        failure
    }
}

fn nobody() -> SendFailure {
    SendFailure::permanent("agent_address", "the agent cannot be called: neither a number nor a SIP address")
}

// === What is remembered ===

fn leg_of(thread: &str) -> String {
    format!("call.leg/{thread}")
}

fn rang(command: &str) -> String {
    format!("call.rang/{command}")
}

fn taken(command: &str) -> String {
    format!("call.taken/{command}")
}

impl Live {
    /// Keeps something, as far as that is possible while somebody listens.
    async fn remember(&self, mark: &Mark) {
        let memory = &self.context.memory;
        let kept = async {
            match mark {
                Mark::Leg { thread, leg } => memory.put(&leg_of(thread), leg).await,
                Mark::Rang(command) => memory.put(&rang(command), &true).await,
                Mark::Taken(command) => memory.put(&taken(command), &true).await,
            }
        };
        if !matches!(within(kept).await, Some(Ok(_))) {
            tracing::warn!(channel.account = %self.context.account.id, "what became of a call was not kept");
        }
    }

    /// Whether something was kept; `None`: nobody can tell.
    async fn knows(&self, name: &str) -> Option<bool> {
        let held = within(self.context.memory.get::<bool>(name)).await?.ok()?;
        Some(held.value == Some(true))
    }

    /// The leg that the customer is on: the one of the call itself, unless they were called back.
    async fn leg(&self, thread: &SmolStr) -> Result<SmolStr, SendFailure> {
        let held = self.context.memory.get::<SmolStr>(&leg_of(thread)).await;
        let held =
            held.map_err(|_| SendFailure::retryable("memory", "it is not known which leg the customer is on"))?;
        held.value
            .or_else(|| told::id(thread))
            .ok_or_else(|| SendFailure::permanent("no_call", "the thread is no call of this provider"))
    }
}

async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(MEMORY_BUDGET, future).await.ok()
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voice").field("provider", &self.provider).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
