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
use adapter::contract::envelope::Identity;
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::HeaderMap;
use adapter::limit::Keyed;
use adapter::{AccountFile, BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger, Prepared, Problem};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::normalize::is_link;
use self::render::{Call, Manner, To};
use self::settings::Settings;
use crate::api::{self, Carrier};
use crate::found::Place;
use crate::meta::ear::Ear;
use crate::meta::graph::Graph;
use crate::meta::{Facts, Register, WINDOW, WINDOW_OF_AGENTS, claim, classify};
use crate::multipart;
use crate::read::{At, language, shown};
use crate::serve::Shelf;

/// How often the account is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(300);

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

/// Checks an account's settings.
///
/// # Errors
/// With every problem, by path.
pub(crate) fn prepare(
    file: &AccountFile,
    product: Product,
    register: &Register,
) -> Result<Box<dyn Prepared>, Vec<Problem>> {
    let mut settings: Settings = file.settings()?;
    let problems = settings.problems();
    if !problems.is_empty() {
        let problem = |(path, why): (String, String)| file.problem(&format!("settings.{path}"), why);
        return Err(problems.into_iter().map(problem).collect());
    }
    settings.relative_to(file.source.parent());
    Ok(Box::new(Ready { settings, product, register: register.clone() }))
}

struct Ready {
    settings: Settings,
    product: Product,
    register: Register,
}

impl Prepared for Ready {
    fn has_hook(&self) -> bool {
        true
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move {
            let page = Page::open(context, self.settings, self.product, &self.register)?;
            Ok(Arc::new(page) as Arc<dyn Channel>)
        })
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
}

impl Page {
    fn open(context: Context, settings: Settings, product: Product, register: &Register) -> Result<Self, OpenError> {
        let secrets = api::resolve(&settings.app.secret, "app.secret")?;
        let verify_tokens = api::resolve(&settings.app.verify_token, "app.verify_token")?;
        let graph = Graph::new(&settings.graph, &settings.http, secrets.first())?;
        let place = Place { tenant: context.tenant.clone(), account: context.account.clone() };
        let human_agent = settings.human_agent;
        register.put(&place, Facts { app: settings.app.id.as_str().into(), human_agent, ..Facts::default() });
        let shelf = Shelf::new(&context)?;
        let ear = Ear::new(place, secrets, verify_tokens, register.clone()).with_shelf(shelf.clone());
        for trust in ear.trusts() {
            for id in std::iter::once(&settings.id).chain(&settings.aliases) {
                context.hooks.claim(trust, &claim(product.as_str(), id))?;
            }
        }
        context.hooks.serve(Arc::new(ear))?;
        let rate = settings.rate(product);
        Ok(Self { context, product, human_agent, graph, shelf, all: Keyed::new(rate, rate, 1), id: settings.id })
    }

    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        let to = render::target(command)?;
        let calls = render::calls(command, self.product, &to)?;
        let result = api::carry(&Courier { page: self, command, to }, &calls, ledger).await;
        if let Err(failure) = &result
            && failure.code == classify::TOKEN
        {
            self.context.health.set(State::Down, Some(failure.to_string()));
        }
        result
    }

    /// Looks whether the token is good.
    async fn look(&self) -> Result<(), SendFailure> {
        self.graph.get(&[&self.id], &[("fields", "id")]).await.map(drop)
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
            loop {
                match self.look().await {
                    Ok(()) => self.context.health.set(State::Up, None),
                    Err(failure) if failure.code == classify::TOKEN => {
                        self.context.health.set(State::Down, Some(failure.to_string()));
                    }
                    Err(failure) => self.context.health.set(State::Degraded, Some(failure.to_string())),
                }
                tokio::select! {
                    () = self.context.shutdown.draining() => return Ok(()),
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        })
    }
}
