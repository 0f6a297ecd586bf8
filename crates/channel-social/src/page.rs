//! What people and a Facebook page or an Instagram professional account write to each other: Messenger and Instagram.
//!
//! `normalize` and `comments` read events, `render` writes calls; this carries them.

pub(crate) mod normalize;

mod comments;
mod render;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::contract::envelope::{Identity, Thread};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::HeaderMap;
use adapter::limit::Keyed;
use adapter::webhook::Request;
use adapter::{BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::normalize::is_link;
use self::render::{Call, Manner, To};
use self::settings::Settings;
use crate::api::{self, Carrier};
use crate::found::Place;
use crate::meta::ear::{self, Ear};
use crate::meta::graph::Graph;
use crate::meta::{Facts, Register, WINDOW, WINDOW_OF_AGENTS, claim, classify};
use crate::multipart;
use crate::provider::{Claims, Provider, Trust};
use crate::read::{At, language, shown};
use crate::serve::Shelf;
use crate::typing::Typing;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// Messenger of a page.
    Messenger,
    /// Direct messages of an Instagram account.
    Instagram,
}

impl Product {
    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Messenger => "messenger",
            Self::Instagram => "instagram",
        }
    }

    /// The scheme of its ids of people.
    pub(crate) const fn scheme(self) -> &'static str {
        match self {
            Self::Messenger => "psid",
            Self::Instagram => "igsid",
        }
    }
}

/// Pages, or Instagram accounts.
pub(crate) struct Pages {
    /// Which of the two.
    pub(crate) product: Product,
    /// What is known of every account of the process.
    pub(crate) register: Register,
}

impl Provider for Pages {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let facts =
            Facts { app: settings.app.id.as_str().into(), human_agent: settings.human_agent, ..Facts::default() };
        Ear::open(&settings.app, place, trust, facts, &self.register)
    }

    fn claims(&self, settings: &Settings, ear: &Ear) -> Claims {
        let ids = std::iter::once(&settings.id).chain(&settings.aliases);
        ear.claims(&ids.map(|id| claim(self.product.as_str(), id)).collect::<Vec<_>>())
    }

    fn prove(request: &mut Request) {
        ear::prove(request);
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        let ear = self.ear(&settings, Place::of(&context), Trust::Settings)?;
        let graph = Graph::new(&settings.graph, &settings.http, ear.secret())?;
        let shelf = Shelf::new(&context)?;
        self.serve(&context, &settings, ear.with_shelf(shelf.clone()))?;
        let (product, human_agent, rate) = (self.product, settings.human_agent, settings.rate(self.product));
        let all = Keyed::new(rate, rate, 1);
        let (typing, id) = (Typing::default(), settings.id);
        Ok(Arc::new(Page { context, product, human_agent, graph, shelf, all, typing, id }))
    }
}

/// One page or account.
struct Page {
    context: Context,
    product: Product,
    id: String,
    human_agent: bool,
    graph: Graph,
    /// Instagram fetches files from us.
    shelf: Shelf,
    all: Keyed,
    typing: Typing,
}

impl Page {
    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        self.typing.learn(command);
        let to = render::target(&command.thread)?;
        let calls = render::calls(command, self.product, &to)?;
        let result = api::carry(&Courier { page: self, command, to }, &calls, ledger).await;
        if let Err(failure) = &result
            && failure.code == classify::TOKEN
        {
            self.context.health.set(State::Down, Some(failure.to_string()));
        }
        result
    }

    /// Shows for twenty seconds, or until something comes, that somebody writes; never in public.
    async fn show_typing(&self, thread: Thread) -> Result<(), SendFailure> {
        let To::Person(to) = render::target(&thread)? else { return Ok(()) };
        let sign = json!({ "recipient": { "id": to.as_str() }, "sender_action": "typing_on" });
        self.graph.post(&[&self.id, "messages"], &sign).await.map(drop)
    }

    /// Looks whether the token is good.
    async fn look(&self) -> Result<Option<String>, SendFailure> {
        self.graph.get(&[&self.id], &[("fields", "id")]).await.map(|_| None)
    }

    /// A file lies at an address that is good for a time and that anybody may open.
    async fn file(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let url = At::new(source).text("url").filter(|url| is_link(url));
        let url = url.ok_or_else(|| SendFailure::permanent("fetch_source", "no file is named"))?;
        self.context.fetcher.get(url, HeaderMap::new()).await
    }

    async fn who(&self, identity: &Identity) -> Result<Option<Described>, SendFailure> {
        if identity.scheme != self.product.scheme() {
            return Ok(None);
        }
        let fields = match self.product {
            Product::Messenger => "first_name,last_name,profile_pic,locale",
            Product::Instagram => "name,username,profile_pic",
        };
        let found = match self.graph.get(&[&identity.value], &[("fields", fields)]).await {
            Ok(found) => found,
            // Somebody who did not consent, or is no longer there.
            Err(failure) if failure.class == Class::Permanent && failure.code != classify::TOKEN => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let at = At::new(&found);
        let names = [at.text("first_name"), at.text("last_name")];
        let name = shown(&names.into_iter().flatten().collect::<Vec<_>>().join(" "));
        Ok(Some(Described {
            name: name.or_else(|| at.text("name").and_then(shown)),
            username: at.text("username").and_then(shown),
            language: at.text("locale").and_then(language),
            avatar: at.text("profile_pic").filter(|url| is_link(url)).map(str::to_owned),
        }))
    }
}

/// Carries the calls of one command.
struct Courier<'a> {
    page: &'a Page,
    command: &'a OutCommand,
    to: To,
}

impl Courier<'_> {
    /// Hands a file over, before anything is sent: its id with Messenger, its address with Instagram.
    async fn hand_over(&self, call: &Call) -> Result<Option<Value>, SendFailure> {
        let Some((media, kind)) = &call.file else { return Ok(None) };
        let page = self.page;
        if page.product == Product::Instagram {
            return Ok(Some(json!({ "url": page.shelf.address(media, adapter::now())? })));
        }
        let bytes = api::load(&page.context, media, render::bytes_max(page.product, kind)).await?;
        let mime = media.mime.as_deref().unwrap_or("application/octet-stream");
        let file = multipart::File { field: "filedata", name: media.name.as_deref().unwrap_or("file"), mime, bytes };
        let message = json!({ "attachment": { "type": kind, "payload": { "is_reusable": true } } });
        let boundary = page.graph.boundary(self.command.command_id.as_bytes());
        let (mime, form) = multipart::form(&boundary, [("message", message.to_string())], &file);
        let answer = page.graph.upload(&[&page.id, "message_attachments"], &mime, form).await?;
        let id = At::new(&answer).id("attachment_id");
        let id = id.ok_or_else(|| SendFailure::retryable("no_id", "the answer names no file"))?;
        Ok(Some(json!({ "attachment_id": id.as_str() })))
    }

    async fn post(&self, part: u32, call: &Call, file: Option<&Value>) -> Result<Value, SendFailure> {
        let page = self.page;
        if let To::Public(id) = &self.to {
            let text = call.message.get("text").cloned().unwrap_or_default();
            let edge = if page.product == Product::Messenger { "comments" } else { "replies" };
            return page.graph.post(&[id, edge], &json!({ "message": text })).await;
        }
        let message = |manner| render::message((self.command, part), page.product, call, &self.to, manner, file);
        let path = [page.id.as_str(), "messages"];
        match page.graph.post(&path, &message(Manner::Response)).await {
            // It was refused, so it can be said again as what it is. A program may not say that it is a person.
            Err(failure) if classify::is_late(&failure) && page.human_agent && self.command.author.agent.is_some() => {
                page.graph.post(&path, &message(Manner::HumanAgent)).await
            }
            answer => answer,
        }
    }
}

impl Carrier for Courier<'_> {
    type Call = Call;
    type Ready = Option<Value>;

    async fn ready(&self, call: &Call) -> Result<Option<Value>, SendFailure> {
        let file = self.hand_over(call).await?;
        api::take(&self.page.all, "").await?;
        Ok(file)
    }

    async fn carry(&self, part: u32, call: &Call, file: Option<Value>) -> Result<Vec<SmolStr>, SendFailure> {
        let answer = match self.post(part, call, file.as_ref()).await {
            Ok(answer) => answer,
            Err(failure) => {
                if let Class::Retryable { after: Some(after) } = failure.class {
                    self.page.all.pause("", Instant::now() + after);
                }
                return Err(failure);
            }
        };
        let at = At::new(&answer);
        let id = if matches!(self.to, To::Public(_)) { at.id("id") } else { at.id("message_id") };
        Ok(vec![id.ok_or_else(|| SendFailure::unknown("no_id", "the answer names no message"))?])
    }
}

impl Channel for Page {
    fn capabilities(&self) -> Capabilities {
        let (most, unit) = render::text_max(self.product);
        let kinds = ["image", "video", "audio", "file"];
        Capabilities {
            text_max: u32::try_from(most).ok(),
            text_unit: Some(unit.as_str().into()),
            media_bytes_max: kinds
                .into_iter()
                .map(|kind| (kind.into(), render::bytes_max(self.product, kind)))
                .collect(),
            delivered: self.product == Product::Messenger,
            read: true,
            typing: true,
            reply_window_ms: Some(if self.human_agent { WINDOW_OF_AGENTS } else { WINDOW }),
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

    fn describe<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<Option<Described>, SendFailure>> {
        Box::pin(self.who(identity))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            let watched = api::watch(&self.context, |code| code == classify::TOKEN, || self.look());
            let shown = self.typing.follow(&self.context, Duration::from_secs(15), |thread| self.show_typing(thread));
            tokio::try_join!(watched, shown).map(|((), ())| ())
        })
    }
}
