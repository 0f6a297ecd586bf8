//! Telegram bots.
//!
//! `normalize` reads updates, `render` writes calls, `classify` reads answers; this carries them.

mod address;
mod classify;
mod normalize;
mod render;
mod settings;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::contract::envelope::{Identity, Thread};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::contract::{SmolStr, Timestamp};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, Method, Response, StatusCode};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::webhook::{Hook, Reply, Request, Siblings, Verdict};
use adapter::{BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger, verify};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::address::Address;
use self::classify::Answer;
use self::render::Call;
use self::settings::{Settings, bot_id, legal_secret_token};
use crate::api::{self, CHATS_MAX, Carrier, LOOK_EVERY};
use crate::found::{Place, items};
use crate::multipart;
use crate::provider::{self, MADE_UP, Provider, Trust};
use crate::read::{At, language, shown};
use crate::typing::Typing;

/// The header that shows the secret token.
const SECRET_HEADER: &str = "x-telegram-bot-api-secret-token";
/// Most messages a second into one chat.
const CHAT_PER_SECOND: f64 = 1.0;
/// Most messages a minute into one group.
const GROUP_PER_MINUTE: f64 = 20.0;
/// What the bot is told of.
const UPDATES: [&str; 13] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "message_reaction",
    "callback_query",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
];

/// One bot.
struct Bot {
    context: Context,
    settings: Settings,
    place: Place,
    token: SecretString,
    secret_tokens: Vec<SecretString>,
    client: Client,
    files: Client,
    /// The whole bot, and each chat.
    all: Keyed,
    chats: Keyed,
    groups: Keyed,
    forms: AtomicU64,
    typing: Typing,
}

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    bot: String,
    secret_tokens: Vec<SecretString>,
}

/// Bots.
pub(crate) struct Telegram;

impl Provider for Telegram {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let secret_tokens = trust.secrets(&settings.secret_token, "secret_token")?;
        if !secret_tokens.iter().all(|secret| legal_secret_token(secret.expose())) {
            return Err(OpenError("secret_token: must be 16 to 256 of A-Z, a-z, 0-9, _ and -".into()));
        }
        let bot = match trust {
            Trust::Settings => {
                let token = api::resolve_one(&settings.token, "token")?;
                bot_id(token.expose()).ok_or_else(|| OpenError("token: is no token of a bot".into()))?.to_owned()
            }
            Trust::Nobody => "0".to_owned(),
        };
        Ok(Ear { place, bot, secret_tokens })
    }

    fn prove(request: &mut Request) {
        provider::put(request, SECRET_HEADER, MADE_UP);
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        Ok(Arc::new(Bot::new(context, settings)?))
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, _: &Siblings) -> Verdict {
        if request.method != Method::POST {
            return Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
        }
        // There is no signature: whoever knows the secret token is believed.
        let Some(given) = request.header(SECRET_HEADER) else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "no secret token");
        };
        if !verify::token(&self.secret_tokens, given) {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "secret token");
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON");
        };
        let reader =
            normalize::Reader { place: &self.place, bot: &self.bot, now: request.at, raw_bytes: request.body.len() };
        let read = normalize::update(&reader, At::new(&body));
        // The answer may be a call: it takes the waiting sign off the button that was pressed.
        let reply = match read.callback {
            Some(id) => {
                let call = json!({ "method": "answerCallbackQuery", "callback_query_id": id.as_str() });
                Reply::body("application/json", call.to_string())
            }
            None => Reply::ok(),
        };
        Verdict::Take { items: items(&self.place, read.found, &request.body), reply }
    }
}

impl Bot {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let place = Place::of(&context);
        let ear = Telegram.ear(&settings, place.clone(), Trust::Settings)?;
        let secret_tokens = ear.secret_tokens.clone();
        Telegram.serve(&context, &settings, ear)?;
        let token = api::resolve_one(&settings.token, "token")?;
        Ok(Self {
            client: settings.http.client()?,
            files: settings.http.client_taking(usize::try_from(normalize::FILE_BYTES_MAX).unwrap_or(usize::MAX))?,
            all: Keyed::new(settings.per_second_max, settings.per_second_max, 1),
            // A few may follow each other at once, as the platform bears it.
            chats: Keyed::new(CHAT_PER_SECOND, 3.0, CHATS_MAX),
            groups: Keyed::new(GROUP_PER_MINUTE / 60.0, GROUP_PER_MINUTE, CHATS_MAX),
            forms: AtomicU64::new(0),
            typing: Typing::default(),
            context,
            settings,
            place,
            token,
            secret_tokens,
        })
    }

    /// The address of a method. It holds the token: it is never shown, stored or logged.
    fn url(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.settings.api_base, self.token.expose())
    }

    async fn ask(&self, method: &str, parameters: &Value) -> Result<Value, SendFailure> {
        let answer = api::call(&self.client, api::json_request(&self.url(method), &[], parameters)?).await?;
        match read(&answer) {
            Answer::Done(result) => Ok(result),
            Answer::Failed(failure) => Err(failure),
            Answer::Moved(_) => Err(SendFailure::permanent("migrated", "the chat has moved")),
        }
    }

    /// One try to send into `chat`.
    async fn try_send(
        &self,
        to: &Address,
        chat: &SmolStr,
        call: &Call,
        bytes: Option<&Bytes>,
    ) -> Result<Answer, SendFailure> {
        let parameters = render::addressed(call, to, chat);
        let url = self.url(call.method);
        let request = match (&call.file, bytes) {
            (Some((field, media)), Some(bytes)) => {
                let file = multipart::File {
                    field,
                    name: media.name.as_deref().unwrap_or("file"),
                    mime: media.mime.as_deref().unwrap_or("application/octet-stream"),
                    bytes: bytes.clone(),
                };
                let fields = parameters.iter().map(|(name, value)| (name.as_str(), plain(value)));
                let (mime, body) = multipart::form(&self.boundary(), fields, &file);
                api::request("POST", &url, &[("content-type", mime.as_str())], body)?
            }
            _ => api::json_request(&url, &[], &Value::Object(parameters))?,
        };
        Ok(read(&api::call(&self.client, request).await?))
    }

    /// Text that nobody can guess who writes what stands in a form.
    fn boundary(&self) -> String {
        let nth = self.forms.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let now = adapter::now().0.to_be_bytes();
        let mut text =
            verify::sign(verify::Algorithm::Sha256, &self.token, &[b"form", &nth, &now], verify::Encoding::Hex);
        text.truncate(48);
        text
    }

    /// Where a group that became another is now. Kept, so that not every send finds it out anew.
    async fn moved_to(&self, chat: &SmolStr) -> SmolStr {
        match self.context.cursors.get::<SmolStr>(&format!("moved/{chat}")).await {
            Ok(held) => held.value.unwrap_or_else(|| chat.clone()),
            Err(_) => chat.clone(),
        }
    }

    async fn has_moved(&self, chat: &SmolStr, to: &SmolStr) {
        if let Err(error) = self.context.cursors.put(&format!("moved/{chat}"), to).await {
            tracing::warn!(kind = ?error.kind, "where a group went is not kept");
        }
    }

    async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        self.typing.learn(command);
        let to = render::target(&command.thread)?;
        let calls = render::calls(command)?;
        // Only groups move.
        let chat = if to.chat.starts_with('-') { self.moved_to(&to.chat).await } else { to.chat.clone() };
        let courier = Courier { bot: self, to: &to, chat };
        let result = api::carry(&courier, &calls, ledger).await;
        if let Err(failure) = &result
            && failure.code == classify::BLOCKED
            && !to.chat.starts_with('-')
        {
            let who = ("telegram", to.chat.as_str());
            api::refused_by_customer(&self.context, &self.place, command, who, adapter::now()).await;
        }
        result
    }

    /// Shows for five seconds that somebody writes.
    async fn show_typing(&self, thread: Thread) -> Result<(), SendFailure> {
        let to = render::target(&thread)?;
        let parameters = Map::from_iter([("action".to_owned(), Value::from("typing"))]);
        let call = Call { method: "sendChatAction", parameters, file: None };
        self.ask(call.method, &Value::Object(render::addressed(&call, &to, &to.chat))).await.map(drop)
    }

    /// Looks whether the token is good, and tells Telegram where we listen.
    async fn sign_on(&self) -> Result<(), SendFailure> {
        self.ask("getMe", &json!({})).await?;
        if self.settings.set_webhook && self.context.hooks.is_public() {
            let secret = self.secret_tokens.first().map(SecretString::expose).unwrap_or_default();
            let parameters = json!({
                "url": self.context.hooks.url(""),
                "secret_token": secret,
                "allowed_updates": UPDATES,
                "drop_pending_updates": false,
            });
            self.ask("setWebhook", &parameters).await?;
        }
        Ok(())
    }

    /// What Telegram says of our webhook, when it failed lately.
    async fn look(&self) -> Result<Option<String>, SendFailure> {
        let info = self.ask("getWebhookInfo", &json!({})).await?;
        let info = At::new(&info);
        let lately = info.number("last_error_date").is_some_and(|at| {
            adapter::now().since(Timestamp(at.saturating_mul(1000))).0
                < u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX)
        });
        let error = info.text("last_error_message").filter(|_| lately);
        Ok(error.map(|error| format!("the provider could not deliver: {}", api::said(error))))
    }

    async fn file(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let id = At::new(source).id("file_id");
        let id = id.ok_or_else(|| SendFailure::permanent("fetch_source", "no file is named"))?;
        let file = self.ask("getFile", &json!({ "file_id": id.as_str() })).await?;
        let path = At::new(&file).text("file_path").filter(|path| is_path(path));
        let path = path.ok_or_else(|| SendFailure::permanent("fetch_source", "the platform names no file"))?;
        let url = format!("{}/file/bot{}/{path}", self.settings.api_base, self.token.expose());
        let answer = api::call(&self.files, api::request("GET", &url, &[], Bytes::new())?).await;
        // Asking twice for a file does no harm.
        let answer = answer.map_err(|failure| SendFailure { class: Class::Retryable { after: None }, ..failure })?;
        if !answer.status().is_success() {
            return Err(match api::failed_status(answer.status(), answer.headers(), "the file is not given out") {
                SendFailure { class: Class::Unknown, code, message } => SendFailure::retryable(code, message),
                failure => failure,
            });
        }
        let name = path.rsplit('/').next().map(str::to_owned);
        Ok(Fetched { bytes: answer.into_body(), mime: None, name })
    }

    async fn who(&self, identity: &Identity) -> Result<Option<Described>, SendFailure> {
        if identity.scheme != "telegram" {
            return Ok(None);
        }
        let chat = identity.value.parse::<i64>().map_or_else(|_| identity.value.as_str().into(), Value::from);
        let chat = match self.ask("getChat", &json!({ "chat_id": chat })).await {
            Ok(chat) => chat,
            Err(failure) if failure.class == Class::Permanent => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let at = At::new(&chat);
        let names = [at.text("first_name"), at.text("last_name")];
        let name = shown(&names.into_iter().flatten().collect::<Vec<_>>().join(" "));
        Ok(Some(Described {
            name: name.or_else(|| at.text("title").and_then(shown)),
            username: at.text("username").and_then(shown),
            language: at.text("language_code").and_then(language),
            // A picture's address would hold the token.
            avatar: None,
        }))
    }
}

/// Carries the calls of one command.
struct Courier<'a> {
    bot: &'a Bot,
    to: &'a Address,
    chat: SmolStr,
}

impl Carrier for Courier<'_> {
    type Call = Call;
    type Ready = Option<Bytes>;

    async fn ready(&self, call: &Call) -> Result<Option<Bytes>, SendFailure> {
        let bytes = match &call.file {
            Some((_, media)) => Some(api::load(&self.bot.context, media, render::FILE_BYTES_MAX).await?),
            None => None,
        };
        if self.chat.starts_with('-') {
            api::take(&self.bot.groups, &self.chat).await?;
        }
        api::take(&self.bot.chats, &self.chat).await?;
        api::take(&self.bot.all, "").await?;
        Ok(bytes)
    }

    async fn carry(&self, _: u32, call: &Call, bytes: Option<Bytes>) -> Result<Vec<SmolStr>, SendFailure> {
        let mut chat = self.chat.clone();
        let mut answer = self.bot.try_send(self.to, &chat, call, bytes.as_ref()).await?;
        if let Answer::Moved(to) = answer {
            self.bot.has_moved(&self.to.chat, &to).await;
            chat = to;
            answer = self.bot.try_send(self.to, &chat, call, bytes.as_ref()).await?;
        }
        match answer {
            Answer::Done(result) => {
                let message = At::new(&result).id("message_id");
                let message = message.ok_or_else(|| SendFailure::unknown("no_id", "the answer names no message"))?;
                let place = Address { chat, ..self.to.clone() };
                Ok(vec![place.message(&message)])
            }
            Answer::Moved(_) => Err(SendFailure::permanent("migrated", "the chat moves on and on")),
            Answer::Failed(failure) => {
                if failure.code == "429"
                    && let Class::Retryable { after: Some(after) } = failure.class
                {
                    // Whether the bot or the chat was too fast it does not say.
                    self.bot.chats.pause(&chat, Instant::now() + after);
                    if self.chat.starts_with('-') {
                        self.bot.groups.pause(&chat, Instant::now() + after);
                    }
                }
                if failure.code == "auth_failed" {
                    self.bot.context.health.set(State::Down, Some(failure.message.clone()));
                }
                Err(failure)
            }
        }
    }
}

impl Channel for Bot {
    fn capabilities(&self) -> Capabilities {
        let kinds = ["image", "audio", "video", "file"];
        Capabilities {
            text_max: u32::try_from(render::TEXT_MAX).ok(),
            text_unit: Some("utf16".into()),
            media_bytes_max: kinds.into_iter().map(|kind| (kind.into(), render::FILE_BYTES_MAX)).collect(),
            typing: true,
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
            if let Err(failure) = self.sign_on().await {
                self.context.health.set(State::Down, Some(failure.to_string()));
                return Err(OpenError::new("telegram", failure));
            }
            let watched = api::watch(&self.context, |code| code == "auth_failed", || self.look());
            let shown = self.typing.follow(&self.context, Duration::from_secs(5), |thread| self.show_typing(thread));
            tokio::try_join!(watched, shown).map(|((), ())| ())
        })
    }
}

fn read(answer: &Response<Bytes>) -> Answer {
    classify::answer(answer.status(), answer.headers(), &api::body(answer))
}

/// A parameter as forms have it: text bare, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a file's path leads nowhere else.
fn is_path(path: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'.');
    path.bytes().all(legal) && !path.split('/').any(|step| matches!(step, "" | "." | ".."))
}

#[cfg(test)]
mod tests;
