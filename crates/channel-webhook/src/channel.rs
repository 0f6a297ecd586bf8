//! What the SDK sees: the kind, the prepared account, the running account.

use std::path::Path;
use std::sync::Arc;

use adapter::channel::Rehearsal;
use adapter::contract::envelope::Account as EnvelopeAccount;
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::contract::{SmolStr, TenantId};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::{CallError, Client, ClientSettings};
use adapter::ledger::Begin;
use adapter::limit::Keyed;
use adapter::{AccountFile, BoxFuture, Channel, Context, Fetched, Kind, OpenError, PartLedger, Prepared, Problem};
use tokio::time::Instant;

use crate::hook::Endpoint;
use crate::send::{Piece, Sender, recipient};
use crate::settings::{FetchHeaders, Settings};

/// Its name.
pub(crate) const KIND: &str = "webhook";
/// Most recipients whose rate is kept.
const RECIPIENTS_MAX: usize = 10_000;

/// Whoever has no channel of its own, to be registered with the daemon.
#[must_use]
pub fn register() -> Box<dyn Kind> {
    Box::new(Webhook)
}

struct Webhook;

struct Ready {
    settings: Arc<Settings>,
}

struct Account {
    settings: Arc<Settings>,
    context: Context,
    out: Option<Out>,
    fetch: FetchHeaders,
}

/// What sends.
struct Out {
    sender: Sender,
    client: Client,
    recipients: Option<Keyed>,
}

impl Kind for Webhook {
    fn name(&self) -> &'static str {
        KIND
    }

    fn prepare(&self, file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
        let dir = file.source.parent().unwrap_or(Path::new(""));
        match Settings::read(&file.settings, dir) {
            Ok(settings) => Ok(Box::new(Ready { settings: Arc::new(settings) })),
            Err(problems) => Err(problems.into_iter().map(|(path, message)| file.problem(&path, message)).collect()),
        }
    }
}

impl Prepared for Ready {
    fn has_hook(&self) -> bool {
        true
    }

    fn rehearse(
        &self,
        tenant: &TenantId,
        account: &EnvelopeAccount,
        trusting: bool,
    ) -> Option<Result<Rehearsal, OpenError>> {
        let (settings, tenant, account) = (Arc::clone(&self.settings), tenant.clone(), account.clone());
        let endpoint = if trusting {
            Ok(Endpoint::trusting(settings, tenant, account))
        } else {
            Endpoint::open(settings, tenant, account).map_err(OpenError)
        };
        Some(endpoint.map(|endpoint| Rehearsal { hook: Arc::new(endpoint), claims: Vec::new() }))
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            let endpoint = Endpoint::open(Arc::clone(&self.settings), context.tenant.clone(), context.account.clone());
            let endpoint = endpoint.map_err(OpenError)?;
            let fetch = self.settings.fetch.open().map_err(OpenError)?;
            let out = self.settings.send.as_ref().map(Out::open).transpose()?;
            context.hooks.serve(Arc::new(endpoint))?;
            Ok(Arc::new(Account { settings: self.settings, context, out, fetch }) as Arc<dyn Channel>)
        })
    }
}

impl Out {
    fn open(send: &crate::send::Send) -> Result<Self, OpenError> {
        let ca_pem = match &send.ca_file {
            None => None,
            Some(file) => {
                let read = std::fs::read(file);
                let what = format!("settings.send.ca_file {}", file.display());
                Some(read.map_err(|error| OpenError::new(&what, error))?.into())
            }
        };
        let client = Client::new(ClientSettings { timeout: send.timeout, ca_pem, ..ClientSettings::default() })?;
        let recipients = send.per_recipient.map(|(rate, burst)| Keyed::new(rate, burst, RECIPIENTS_MAX));
        Ok(Self { sender: send.open().map_err(OpenError)?, client, recipients })
    }
}

impl Account {
    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        let Some(out) = &self.out else {
            let why = "this account has no [settings.send]: answer by another channel";
            return Err(SendFailure::permanent("no_way_to_send", why));
        };
        let settings = out.sender.settings();
        let pieces = settings.pieces(&command.content)?;
        for (part, text) in (0_u32..).zip(&pieces) {
            let piece = Piece { command, text, part, parts: pieces.len() };
            // Put together before it is begun: what cannot be is not sent at all.
            let request = out.sender.request(&piece)?;
            if let Some(recipients) = &out.recipients
                && let Err(wait) = recipients.take(recipient(command), Instant::now())
            {
                return Err(SendFailure::retryable_after(wait, "rate", "one recipient is not written to so often"));
            }
            match ledger.begin(part).await? {
                Begin::Sent { .. } => continue,
                Begin::Interrupted if !settings.idempotent => {
                    return Err(SendFailure::unknown(
                        "interrupted",
                        "it may have been sent before the program stopped",
                    ));
                }
                Begin::Fresh | Begin::Interrupted => {}
            }
            let ids = self.call(out, request).await?;
            ledger.sent(part, ids).await;
        }
        Ok(Sent::with_ids(ledger.external_ids()))
    }

    /// One request and what its answer means.
    async fn call(
        &self,
        out: &Out,
        request: adapter::http::Request<adapter::bytes::Bytes>,
    ) -> Result<Vec<SmolStr>, SendFailure> {
        let idempotent = out.sender.settings().idempotent;
        let health = &self.context.health;
        let outcome = match out.client.send(request).await {
            Ok(answer) => out.sender.outcome(&answer),
            Err(error @ CallError::NotSent(_)) => Err(SendFailure::retryable("not_sent", error.to_string())),
            Err(error) if idempotent => Err(SendFailure::retryable("no_answer", error.to_string())),
            Err(error) => Err(SendFailure::unknown("no_answer", error.to_string())),
        };
        match &outcome {
            Ok(_) => health.set(State::Up, None),
            // One recipient's trouble is not the account's.
            Err(failure) if failure.class == Class::Permanent => health.set(State::Up, Some(failure.to_string())),
            Err(failure) => health.set(State::Degraded, Some(failure.to_string())),
        }
        outcome
    }
}

impl Channel for Account {
    fn capabilities(&self) -> Capabilities {
        let send = self.settings.send.as_ref();
        let text_max = send.and_then(|send| send.text_max);
        let receipts = self.settings.mapping.tells("receipt");
        Capabilities {
            text_max: text_max.and_then(|(max, _)| u32::try_from(max).ok()),
            text_unit: text_max.map(|(_, unit)| unit.as_str().into()),
            delivered: receipts,
            read: receipts,
            idempotent_send: send.is_some_and(|send| send.idempotent),
            reply_window_ms: self.settings.mapping.window,
            ..Capabilities::default()
        }
    }

    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(self.deliver(command, ledger))
    }

    fn fetch<'a>(&'a self, source: &'a adapter::serde_json::Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(async move {
            let url = source.get("url").and_then(adapter::serde_json::Value::as_str);
            let url = url.ok_or_else(|| SendFailure::permanent("no_address", "the medium has no address"))?;
            self.context.fetcher.get(url, self.fetch.of(url)).await
        })
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            self.context.health.set(State::Up, None);
            self.context.shutdown.draining().await;
            Ok(())
        })
    }
}
