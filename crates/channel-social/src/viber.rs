//! Viber bots.
//!
//! `normalize` reads callbacks, `render` writes messages, `classify` reads answers; this carries them.

mod classify;
mod normalize;
mod render;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use adapter::channel::Rehearsal;
use adapter::contract::envelope::{Account as EnvelopeAccount, Identity};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::contract::{SmolStr, TenantId};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, HeaderMap, HeaderValue, Method, StatusCode};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::webhook::{Hook, Proven, Reply, Request, Siblings, Verdict};
use adapter::{
    AccountFile, BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger, Prepared, Problem, verify,
};
use serde_json::{Value, json};

use self::normalize::Read;
use self::render::Message;
use self::settings::Settings;
use crate::api::{self, Carrier};
use crate::found::{Place, items};
use crate::read::{At, language, shown};
use crate::serve::Shelf;

/// The header that holds the signature.
const SIGNATURE: &str = "x-viber-content-signature";
/// How often the account is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// What we are told of.
const EVENTS: [&str; 6] = ["delivered", "seen", "failed", "subscribed", "unsubscribed", "conversation_started"];

/// Checks an account's settings.
///
/// # Errors
/// With every problem, by path.
pub(crate) fn prepare(file: &AccountFile) -> Result<Box<dyn Prepared>, Vec<Problem>> {
    let mut settings: Settings = file.settings()?;
    let problems = settings.problems();
    if !problems.is_empty() {
        let problem = |(path, why): (String, String)| file.problem(&format!("settings.{path}"), why);
        return Err(problems.into_iter().map(problem).collect());
    }
    settings.relative_to(file.source.parent());
    Ok(Box::new(Ready { settings }))
}

struct Ready {
    settings: Settings,
}

/// One bot.
struct Bot {
    context: Context,
    settings: Settings,
    place: Place,
    token: SecretString,
    client: Client,
    shelf: Shelf,
    all: Keyed,
}

/// What the listener asks.
struct Ear {
    place: Place,
    tokens: Vec<SecretString>,
    welcome: Option<String>,
    shelf: Option<Shelf>,
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
        let place = Place { tenant: tenant.clone(), account: account.clone() };
        let ear = |tokens: Vec<SecretString>| Ear { place, tokens, welcome: None, shelf: None };
        let rehearsal = if trusting {
            let hook = Arc::new(ear(vec![SecretString::new(MADE_UP)]));
            Ok(Rehearsal { hook: Arc::new(Proven { hook, prove }), claims: Vec::new() })
        } else {
            let tokens = api::resolve(&self.settings.auth_token, "auth_token");
            tokens.map(|tokens| Rehearsal { hook: Arc::new(ear(tokens)), claims: Vec::new() })
        };
        Some(rehearsal)
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move { Ok(Arc::new(Bot::new(context, self.settings)?) as Arc<dyn Channel>) })
    }
}

/// Stands for the token when a request is tried out without it.
const MADE_UP: &str = "nobody's token";

fn prove(request: &mut Request) {
    let secret = SecretString::new(MADE_UP);
    let proof = verify::sign(verify::Algorithm::Sha256, &secret, &[&request.body], verify::Encoding::Hex);
    if let Ok(proof) = HeaderValue::from_str(&proof) {
        request.headers.insert(SIGNATURE, proof);
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, _: &Siblings) -> Verdict {
        if let Some(verdict) = self.shelf.as_ref().and_then(|shelf| shelf.answer(request)) {
            return verdict;
        }
        if request.method != Method::POST {
            return Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
        }
        let Some(given) = request.header(SIGNATURE) else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "no signature");
        };
        let body: &[u8] = &request.body;
        if !verify::hmac(verify::Algorithm::Sha256, &self.tokens, &[body], verify::Encoding::Hex, given) {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "signature");
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON");
        };
        let (found, reply) = match normalize::callback(&self.place, At::new(&value), request.at, body.len()) {
            Read::Hello => return Verdict::Answer(Reply::ok()),
            Read::Told(found) => (found, Reply::ok()),
            Read::Opened(found) => match &self.welcome {
                Some(welcome) => (found, Reply::body("application/json", welcome.clone())),
                None => (found, Reply::ok()),
            },
        };
        Verdict::Take { items: items(&self.place, found, &request.body), reply }
    }
}

impl Bot {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let place = Place { tenant: context.tenant.clone(), account: context.account.clone() };
        let tokens = api::resolve(&settings.auth_token, "auth_token")?;
        let token = tokens.first().cloned().ok_or_else(|| OpenError("auth_token: is missing".into()))?;
        let shelf = Shelf::new(&context)?;
        let welcome = settings
            .welcome
            .as_ref()
            .map(|text| json!({ "sender": sender(&settings), "type": "text", "text": text }).to_string());
        let ear = Ear { place: place.clone(), tokens, welcome, shelf: Some(shelf.clone()) };
        context.hooks.serve(Arc::new(ear))?;
        Ok(Self {
            client: settings.http.client()?,
            all: Keyed::new(settings.per_second_max, settings.per_second_max, 1),
            context,
            settings,
            place,
            token,
            shelf,
        })
    }

    async fn ask(&self, what: &str, body: &Value) -> Result<(Option<SmolStr>, Value), SendFailure> {
        let url = format!("{}/pa/{what}", self.settings.api_base);
        let request = api::json_request(&url, &[("x-viber-auth-token", self.token.expose())], body)?;
        let answer = api::call(&self.client, request).await?;
        let body = api::body(&answer);
        Ok((classify::answer(answer.status(), answer.headers(), &body)?, body))
    }

    async fn sign_on(&self) -> Result<(), SendFailure> {
        if self.settings.set_webhook && self.context.hooks.is_public() {
            let url = self.context.hooks.url("");
            let body = json!({ "url": url, "event_types": EVENTS, "send_name": true, "send_photo": false });
            self.ask("set_webhook", &body).await?;
        }
        Ok(())
    }

    async fn who(&self, identity: &Identity) -> Result<Option<Described>, SendFailure> {
        if identity.scheme != "viber" {
            return Ok(None);
        }
        let body = match self.ask("get_user_details", &json!({ "id": identity.value.as_str() })).await {
            Ok((_, body)) => body,
            Err(failure) if failure.class == Class::Permanent => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let user = At::new(&body).get("user");
        Ok(Some(Described {
            name: user.text("name").and_then(shown),
            username: None,
            language: user.text("language").and_then(language),
            avatar: user.text("avatar").map(str::to_owned),
        }))
    }

    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        let to = render::target(command)?;
        let messages = render::messages(command)?;
        let result = api::carry(&Courier { bot: self, to: &to }, &messages, ledger).await;
        if let Err(failure) = &result
            && failure.code == classify::BLOCKED
        {
            let who = ("viber", to.as_str());
            api::refused_by_customer(&self.context, &self.place, command, who, adapter::now()).await;
        }
        result
    }
}

fn sender(settings: &Settings) -> Value {
    match &settings.avatar {
        Some(avatar) => json!({ "name": settings.name, "avatar": avatar }),
        None => json!({ "name": settings.name }),
    }
}

/// Carries the messages of one command.
struct Courier<'a> {
    bot: &'a Bot,
    to: &'a SmolStr,
}

impl Carrier for Courier<'_> {
    type Call = Message;
    type Ready = Value;

    async fn ready(&self, message: &Message) -> Result<Value, SendFailure> {
        let mut body = message.fields.clone();
        if let Some(fields) = body.as_object_mut() {
            if let Some(media) = &message.file {
                fields.insert("media".into(), self.bot.shelf.address(media, adapter::now())?.into());
            }
            fields.insert("receiver".into(), self.to.as_str().into());
            fields.insert("sender".into(), sender(&self.bot.settings));
        }
        api::take(&self.bot.all, "").await?;
        Ok(body)
    }

    async fn carry(&self, _: u32, _: &Message, body: Value) -> Result<Vec<SmolStr>, SendFailure> {
        match self.bot.ask("send_message", &body).await {
            Ok((Some(token), _)) => Ok(vec![token]),
            Ok((None, _)) => Err(SendFailure::unknown("no_id", "the answer names no message")),
            Err(failure) => {
                api::pause(&self.bot.all, "", &failure);
                if failure.code.starts_with("account_") {
                    self.bot.context.health.set(State::Down, Some(failure.message.clone()));
                }
                Err(failure)
            }
        }
    }
}

impl Channel for Bot {
    fn capabilities(&self) -> Capabilities {
        let mut media_bytes_max = std::collections::BTreeMap::new();
        if self.context.hooks.is_public() {
            let kinds = ["image", "audio", "video", "file"];
            media_bytes_max.extend(kinds.into_iter().map(|kind| (kind.into(), render::FILE_BYTES_MAX)));
        }
        Capabilities {
            text_max: u32::try_from(render::TEXT_MAX).ok(),
            text_unit: Some("chars".into()),
            media_bytes_max,
            delivered: true,
            read: true,
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
        Box::pin(async move {
            let url = At::new(source).text("url");
            let url = url.ok_or_else(|| SendFailure::permanent("fetch_source", "no address is named"))?;
            self.context.fetcher.get(url, HeaderMap::new()).await
        })
    }

    fn describe<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<Option<Described>, SendFailure>> {
        Box::pin(self.who(identity))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            if let Err(failure) = self.sign_on().await {
                self.context.health.set(State::Down, Some(failure.to_string()));
                return Err(OpenError::new("viber", failure));
            }
            loop {
                match self.ask("get_account_info", &json!({})).await {
                    Ok(_) => self.context.health.set(State::Up, None),
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

#[cfg(test)]
mod tests;
