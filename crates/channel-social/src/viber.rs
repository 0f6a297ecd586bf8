//! Viber bots.
//!
//! `normalize` reads callbacks, `render` writes messages, `classify` reads answers; this carries them.

mod classify;
mod normalize;
mod render;
mod settings;

use std::sync::Arc;

use adapter::contract::SmolStr;
use adapter::contract::envelope::{EnvelopeKind, Identity};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, HeaderMap, StatusCode};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::verify::Encoding;
use adapter::webhook::{Hook, Reply, Request, Siblings, Verdict};
use adapter::{BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger};
use serde_json::{Value, json};

use self::normalize::Read;
use self::render::Message;
use self::settings::Settings;
use crate::api::{self, CHATS_MAX, Carrier};
use crate::found::{Found, Place, items};
use crate::provider::{Provider, Signature, Trust};
use crate::read::{At, language, shown};
use crate::serve::Shelf;

/// Where the signature is.
const SIGNATURE: Signature = Signature { header: "x-viber-content-signature", prefix: "", encoding: Encoding::Hex };
/// What we are told of.
const EVENTS: [&str; 6] = ["delivered", "seen", "failed", "subscribed", "unsubscribed", "conversation_started"];

/// One bot.
struct Bot {
    context: Context,
    settings: Settings,
    place: Place,
    token: SecretString,
    client: Client,
    shelf: Shelf,
    all: Keyed,
    people: Arc<Keyed>,
}

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    tokens: Vec<SecretString>,
    welcome: Option<String>,
    shelf: Option<Shelf>,
    /// Who answers may be written to anew.
    people: Arc<Keyed>,
}

/// Bots.
pub(crate) struct Viber;

impl Provider for Viber {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let tokens = trust.secrets(&settings.auth_token, "auth_token")?;
        let welcome = |text| json!({ "sender": sender(settings), "type": "text", "text": text }).to_string();
        Ok(Ear { place, tokens, welcome: settings.welcome.as_ref().map(welcome), shelf: None, people: people() })
    }

    fn prove(request: &mut Request) {
        SIGNATURE.prove(request);
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        Ok(Arc::new(Bot::new(context, settings)?))
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, _: &Siblings) -> Verdict {
        if let Some(verdict) = self.shelf.as_ref().and_then(|shelf| shelf.answer(request)) {
            return verdict;
        }
        if let Err(refused) = SIGNATURE.check(request, &self.tokens) {
            return refused;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON");
        };
        let raw_bytes = request.body.len();
        let (found, reply) = match normalize::callback(&self.place, At::new(&value), request.at, raw_bytes) {
            Read::Hello => return Verdict::Answer(Reply::ok()),
            Read::Told(found) => (found, Reply::ok()),
            Read::Opened(found) => match &self.welcome {
                Some(welcome) => (found, Reply::body("application/json", welcome.clone())),
                None => (found, Reply::ok()),
            },
        };
        for one in &found {
            if let Found::Event(event) = one
                && event.envelope.kind == EnvelopeKind::Message
            {
                self.people.forget(&event.envelope.sender.identity.value);
            }
        }
        Verdict::Take { items: items(&self.place, found, &request.body), reply }
    }
}

impl Bot {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let place = Place::of(&context);
        let shelf = Shelf::new(&context)?;
        let ear = Viber.ear(&settings, place.clone(), Trust::Settings)?;
        let token = ear.tokens.first().cloned().ok_or_else(|| OpenError("auth_token: is missing".into()))?;
        let people = Arc::clone(&ear.people);
        Viber.serve(&context, &settings, Ear { shelf: Some(shelf.clone()), ..ear })?;
        Ok(Self {
            client: settings.http.client()?,
            all: Keyed::new(settings.per_second_max, settings.per_second_max, 1),
            context,
            settings,
            place,
            token,
            shelf,
            people,
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

    /// Looks whether the token is good.
    async fn look(&self) -> Result<Option<String>, SendFailure> {
        self.ask("get_account_info", &json!({})).await.map(|_| None)
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

/// The platform takes 100 messages an hour to somebody who does not answer: so many at once, and the rest over the hour.
fn people() -> Arc<Keyed> {
    const AT_ONCE: f64 = 80.0;
    const PER_HOUR: f64 = 20.0;
    Arc::new(Keyed::new(PER_HOUR / 3600.0, AT_ONCE, CHATS_MAX))
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
        api::take(&self.bot.people, self.to).await?;
        api::take(&self.bot.all, "").await?;
        Ok(body)
    }

    async fn carry(&self, _: u32, _: &Message, body: Value) -> Result<Vec<SmolStr>, SendFailure> {
        match self.bot.ask("send_message", &body).await {
            Ok((Some(token), _)) => Ok(vec![token]),
            Ok((None, _)) => Err(SendFailure::unknown("no_id", "the answer names no message")),
            Err(failure) => {
                match failure.code == classify::BUSY {
                    true => api::pause(&self.bot.people, self.to, &failure),
                    false => api::pause(&self.bot.all, "", &failure),
                }
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
            api::watch(&self.context, |code| code.starts_with("account_"), || self.look()).await
        })
    }
}

#[cfg(test)]
mod tests;
