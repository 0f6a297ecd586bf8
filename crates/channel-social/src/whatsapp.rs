//! WhatsApp Cloud.
//!
//! `normalize` reads events, `render` writes calls; this carries them.

pub(crate) mod normalize;
mod render;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::limit::Keyed;
use adapter::webhook::Request;
use adapter::{BoxFuture, Channel, Context, Fetched, OpenError, PartLedger};
use serde_json::Value;
use tokio::time::Instant;

use self::render::{Call, To};
use self::settings::Settings;
use crate::api::{self, CHATS_MAX, Carrier};
use crate::found::Place;
use crate::meta::ear::{self, Ear};
use crate::meta::graph::Graph;
use crate::meta::{Facts, Register, WINDOW, claim, classify};
use crate::multipart;
use crate::provider::{Claims, Provider, Trust};
use crate::read::At;

/// Numbers of WhatsApp Cloud.
pub(crate) struct WhatsApp {
    /// What is known of every account of the process.
    pub(crate) register: Register,
}

impl Provider for WhatsApp {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let facts = Facts {
            app: settings.app.id.as_str().into(),
            portfolio: settings.portfolio_id.as_deref().map(SmolStr::from),
            business_account: settings.business_account_id.as_deref().map(SmolStr::from),
            human_agent: false,
        };
        Ear::open(&settings.app, place, trust, facts, &self.register)
    }

    fn claims(&self, settings: &Settings, ear: &Ear) -> Claims {
        ear.claims(&[claim(normalize::PRODUCT, &settings.phone_number_id)])
    }

    fn prove(request: &mut Request) {
        ear::prove(request);
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        let ear = self.ear(&settings, Place::of(&context), Trust::Settings)?;
        let graph = Graph::new(&settings.graph, &settings.http, ear.secret())?;
        self.serve(&context, &settings, ear)?;
        let interval = Duration::from_millis(settings.pair_interval_ms).as_secs_f64();
        Ok(Arc::new(Number {
            context,
            graph,
            all: Keyed::new(settings.per_second_max, settings.per_second_max, 1),
            pairs: Keyed::new(1.0 / interval, f64::from(settings.pair_burst_max), CHATS_MAX),
            id: settings.phone_number_id,
        }))
    }
}

/// One number.
struct Number {
    context: Context,
    id: String,
    graph: Graph,
    /// The whole number.
    all: Keyed,
    /// Each person.
    pairs: Keyed,
}

impl Number {
    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        let to = render::target(command)?;
        let calls = render::calls(command)?;
        let result = api::carry(&Courier { number: self, command, to }, &calls, ledger).await;
        if let Err(failure) = &result
            && failure.code == classify::TOKEN
        {
            self.context.health.set(State::Down, Some(failure.to_string()));
        }
        result
    }

    /// Looks whether the token is good and how the number fares.
    async fn look(&self) -> Result<Option<String>, SendFailure> {
        let found = self.graph.get(&[&self.id], &[("fields", "display_phone_number,quality_rating,status")]).await?;
        let found = At::new(&found);
        let bad =
            |word: &str| matches!(word, "RED" | "FLAGGED" | "RESTRICTED" | "BANNED" | "DISCONNECTED" | "RATE_LIMITED");
        let said = [found.text("status"), found.text("quality_rating")];
        Ok(said
            .into_iter()
            .flatten()
            .find(|word| bad(word))
            .map(|word| format!("the platform says of the number: {}", api::said(word))))
    }

    /// A file: its id gives an address that is good for minutes and asks for the token.
    async fn file(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let id = At::new(source).id("id");
        let id = id.ok_or_else(|| SendFailure::permanent("fetch_source", "no file is named"))?;
        let found = self.graph.get(&[&id], &[("phone_number_id", self.id.as_str())]).await?;
        let found = At::new(&found);
        let url = found.text("url");
        let url = url.ok_or_else(|| SendFailure::permanent("fetch_source", "the platform gives no address"))?;
        let fetched = self.context.fetcher.get(url, self.graph.file_headers()?).await?;
        let mime = found.text("mime_type").and_then(|mime| mime.split(';').next()).map(str::to_owned);
        Ok(Fetched { mime: mime.or(fetched.mime), ..fetched })
    }
}

/// Carries the calls of one command.
struct Courier<'a> {
    number: &'a Number,
    command: &'a OutCommand,
    to: To,
}

impl Carrier for Courier<'_> {
    type Call = Call;
    type Ready = Option<SmolStr>;

    async fn ready(&self, call: &Call) -> Result<Option<SmolStr>, SendFailure> {
        let number = self.number;
        let file = match &call.file {
            Some(media) => {
                let (_, bytes_max) = render::form(media);
                let bytes = api::load(&number.context, media, bytes_max).await?;
                let mime = media.mime.as_deref().unwrap_or("application/octet-stream");
                let file =
                    multipart::File { field: "file", name: media.name.as_deref().unwrap_or("file"), mime, bytes };
                let fields = [("messaging_product", "whatsapp".to_owned()), ("type", mime.to_owned())];
                let boundary = number.graph.boundary(self.command.command_id.as_bytes());
                let (mime, form) = multipart::form(&boundary, fields, &file);
                let answer = number.graph.upload(&[&number.id, "media"], &mime, form).await?;
                let id = At::new(&answer).id("id");
                Some(id.ok_or_else(|| SendFailure::retryable("no_id", "the answer names no file"))?)
            }
            None => None,
        };
        api::take(&number.pairs, self.to.as_str()).await?;
        api::take(&number.all, "").await?;
        Ok(file)
    }

    async fn carry(&self, part: u32, call: &Call, file: Option<SmolStr>) -> Result<Vec<SmolStr>, SendFailure> {
        let number = self.number;
        let message = render::message(self.command, part, call, &self.to, file.as_deref());
        let answer = match number.graph.post(&[&number.id, "messages"], &message).await {
            Ok(answer) => answer,
            Err(failure) => {
                if let Class::Retryable { after: Some(after) } = failure.class {
                    match failure.code == classify::PAIR {
                        true => number.pairs.pause(self.to.as_str(), Instant::now() + after),
                        false => number.all.pause("", Instant::now() + after),
                    }
                }
                return Err(failure);
            }
        };
        let id = At::new(&answer).list("messages").next().and_then(|message| message.id("id"));
        Ok(vec![id.ok_or_else(|| SendFailure::unknown("no_id", "the answer names no message"))?])
    }
}

impl Channel for Number {
    fn capabilities(&self) -> Capabilities {
        const MEGABYTE: u64 = 1024 * 1024;
        let media = [("image", 5), ("video", 16), ("audio", 16), ("file", 100)];
        Capabilities {
            text_max: u32::try_from(render::TEXT_MAX).ok(),
            text_unit: Some("chars".into()),
            media_bytes_max: media.into_iter().map(|(kind, size)| (kind.into(), size * MEGABYTE)).collect(),
            delivered: true,
            read: true,
            reply_window_ms: Some(WINDOW),
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

    fn fetch<'a>(&'a self, source: &'a Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(self.file(source))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move { api::watch(&self.context, |code| code == classify::TOKEN, || self.look()).await })
    }
}
