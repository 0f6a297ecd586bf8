//! LINE Official Accounts.
//!
//! `normalize` reads events, `render` writes messages, `classify` reads answers; this carries them.

mod classify;
mod normalize;
mod render;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::contract::envelope::{Identity, Media, Thread, fingerprint};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::contract::{SmolStr, Timestamp};
use adapter::failure::{SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, HeaderMap, StatusCode};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::verify::Encoding;
use adapter::webhook::{Hook, Reply, Request, Siblings, Verdict};
use adapter::{BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger};
use serde_json::{Value, json};

use self::classify::{Answer, Way};
use self::render::{Message, Target};
use self::settings::Settings;
use crate::api::{self, Carrier};
use crate::found::{Found, Place};
use crate::provider::{Provider, Signature, Trust};
use crate::read::{At, language, shown};
use crate::serve::Shelf;
use crate::typing::Typing;

/// Where the signature is.
const SIGNATURE: Signature = Signature { header: "x-line-signature", prefix: "", encoding: Encoding::Base64 };
/// Largest file that is fetched.
const FILE_BYTES_MAX: usize = 200 * 1024 * 1024;

/// One official account.
struct Account {
    context: Context,
    settings: Settings,
    token: SecretString,
    client: Client,
    files: Client,
    shelf: Shelf,
    all: Keyed,
    typing: Typing,
}

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    secrets: Vec<SecretString>,
    user_id: Option<String>,
    shelf: Option<Shelf>,
}

/// Official accounts.
pub(crate) struct Line;

impl Provider for Line {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let secrets = trust.secrets(&settings.channel_secret, "channel_secret")?;
        Ok(Ear { place, secrets, user_id: settings.user_id.clone(), shelf: None })
    }

    fn prove(request: &mut Request) {
        SIGNATURE.prove(request);
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        Ok(Arc::new(Account::new(context, settings)?))
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, _: &Siblings) -> Verdict {
        if let Some(verdict) = self.shelf.as_ref().and_then(|shelf| shelf.answer(request)) {
            return verdict;
        }
        if let Err(refused) = SIGNATURE.check(request, &self.secrets) {
            return refused;
        }
        let Some(body) = normalize::body(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "no body of events");
        };
        let ours = self.user_id.as_ref().is_none_or(|own| body.destination.as_ref().is_none_or(|to| to == own));
        let items = body.events.iter().flat_map(|raw| {
            let found = if ours {
                normalize::event(&self.place, raw, request.at)
            } else {
                vec![Found::Dead("it is for another account")]
            };
            found.into_iter().map(|found| found.item(&self.place, Bytes::copy_from_slice(raw.get().as_bytes())))
        });
        // None at all: the console tries whether we are there.
        Verdict::Take { items: items.collect(), reply: Reply::ok() }
    }
}

impl Account {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let shelf = Shelf::new(&context)?;
        let ear = Line.ear(&settings, Place::of(&context), Trust::Settings)?;
        Line.serve(&context, &settings, Ear { shelf: Some(shelf.clone()), ..ear })?;
        Ok(Self {
            token: api::resolve_one(&settings.access_token, "access_token")?,
            client: settings.http.client()?,
            files: settings.http.client_taking(FILE_BYTES_MAX)?,
            shelf,
            typing: Typing::default(),
            all: Keyed::new(settings.per_second_max, settings.per_second_max, 1),
            context,
            settings,
        })
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    async fn get(&self, client: &Client, url: &str) -> Result<adapter::http::Response<Bytes>, SendFailure> {
        let request = api::request("GET", url, &[("authorization", self.bearer().as_str())], Bytes::new())?;
        // Asking twice does no harm.
        api::call(client, request).await.map_err(classify::again)
    }

    async fn push(&self, to: &str, messages: &Value, key: &str) -> Result<Answer, SendFailure> {
        let url = format!("{}/v2/bot/message/push", self.settings.api_base);
        let bearer = self.bearer();
        let headers = [("authorization", bearer.as_str()), ("x-line-retry-key", key)];
        let request = api::json_request(&url, &headers, &json!({ "to": to, "messages": messages }))?;
        let answer = api::call(&self.client, request).await.map_err(classify::again)?;
        Ok(classify::answer(Way::Push, answer.status(), answer.headers(), &api::body(&answer)))
    }

    async fn reply(&self, token: &str, messages: &Value) -> Result<Answer, SendFailure> {
        let url = format!("{}/v2/bot/message/reply", self.settings.api_base);
        let bearer = self.bearer();
        let body = json!({ "replyToken": token, "messages": messages });
        let request = api::json_request(&url, &[("authorization", bearer.as_str())], &body)?;
        let answer = api::call(&self.client, request).await?;
        Ok(classify::answer(Way::Reply, answer.status(), answer.headers(), &api::body(&answer)))
    }

    async fn file(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let source = At::new(source);
        if let Some(url) = source.text("url") {
            return self.context.fetcher.get(url, HeaderMap::new()).await;
        }
        let id = source.text("message_id").filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let id = id.ok_or_else(|| SendFailure::permanent("fetch_source", "no message is named"))?;
        let answer =
            self.get(&self.files, &format!("{}/v2/bot/message/{id}/content", self.settings.data_api_base)).await?;
        match answer.status().as_u16() {
            200 => {}
            202 => return Err(SendFailure::retryable("being_prepared", "the platform still prepares the file")),
            _ => {
                let failure = api::failed_status(answer.status(), answer.headers(), "the file is not given out");
                return Err(classify::again(failure));
            }
        }
        let mime = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let mime = mime.and_then(|mime| mime.split(';').next()).map(|mime| mime.trim().to_ascii_lowercase());
        Ok(Fetched { mime, name: None, bytes: answer.into_body() })
    }

    /// Shows for ten seconds, or until something comes, that it is being worked on. Only who is alone with the account
    /// can be shown that.
    async fn show_typing(&self, thread: Thread) -> Result<(), SendFailure> {
        let to = render::target(&thread)?.to;
        if !to.starts_with('U') {
            return Ok(());
        }
        let url = format!("{}/v2/bot/chat/loading/start", self.settings.api_base);
        let bearer = self.bearer();
        let body = json!({ "chatId": to.as_str(), "loadingSeconds": 10 });
        let request = api::json_request(&url, &[("authorization", bearer.as_str())], &body)?;
        api::call(&self.client, request).await.map(drop)
    }

    /// Looks whether the token is good.
    async fn look(&self) -> Result<Option<String>, SendFailure> {
        let answer = self.get(&self.client, &format!("{}/v2/bot/info", self.settings.api_base)).await?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => {
                Err(SendFailure::permanent("auth_failed", "the channel access token is not accepted"))
            }
            _ => Ok(None),
        }
    }

    async fn who(&self, identity: &Identity) -> Result<Option<Described>, SendFailure> {
        let id = identity.value.as_str();
        if identity.scheme != "line" || !id.starts_with('U') || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        let answer = self.get(&self.client, &format!("{}/v2/bot/profile/{id}", self.settings.api_base)).await?;
        match answer.status().as_u16() {
            200 => {}
            // Nobody's friend, or blocked.
            400 | 403 | 404 => return Ok(None),
            _ => {
                let failure = api::failed_status(answer.status(), answer.headers(), "the profile is not given out");
                return Err(classify::again(failure));
            }
        }
        let body = api::body(&answer);
        let at = At::new(&body);
        Ok(Some(Described {
            name: at.text("displayName").and_then(shown),
            username: None,
            language: at.text("language").and_then(language),
            avatar: at.text("pictureUrl").map(str::to_owned),
        }))
    }
}

/// Carries the calls of one command.
struct Courier<'a> {
    account: &'a Account,
    command: &'a OutCommand,
    target: Target,
}

impl Courier<'_> {
    /// The reply token, while it is good. It is for the first call: it works once.
    fn token(&self, part: u32, at: Timestamp) -> Option<&SmolStr> {
        let (token, until) = self.target.token.as_ref()?;
        (part == 0 && at < *until).then_some(token)
    }

    /// The same for every try of this call, and for no other.
    fn retry_key(&self, part: u32) -> String {
        let part = part.to_string();
        let hex = format!("{:032x}", fingerprint([self.command.command_id.as_str(), part.as_str()]));
        let span = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        // The shape of a UUID of version 4, which the platform asks for.
        format!("{}-{}-4{}-8{}-{}", span(0, 8), span(8, 12), span(13, 16), span(17, 20), span(20, 32))
    }
}

impl Carrier for Courier<'_> {
    type Call = Vec<Message>;
    type Ready = Value;

    /// A push is; a reply is not, and within the token's life nobody remembers which it was.
    fn repeatable(&self, part: u32, begun_at: Timestamp) -> bool {
        self.token(part, begun_at).is_none()
    }

    async fn ready(&self, call: &Vec<Message>) -> Result<Value, SendFailure> {
        let now = adapter::now();
        let address = |media: &Media| self.account.shelf.address(media, now);
        let messages = call.iter().map(|message| render::with_address(message, &address));
        let messages = messages.collect::<Result<Vec<Value>, SendFailure>>()?;
        api::take(&self.account.all, "").await?;
        Ok(Value::Array(messages))
    }

    async fn carry(&self, part: u32, _: &Vec<Message>, messages: Value) -> Result<Vec<SmolStr>, SendFailure> {
        let answer = match self.token(part, adapter::now()) {
            Some(token) => match self.account.reply(token, &messages).await? {
                Answer::TokenGone => None,
                answer => Some(answer),
            },
            None => None,
        };
        let answer = match answer {
            Some(answer) => answer,
            None => self.account.push(&self.target.to, &messages, &self.retry_key(part)).await?,
        };
        match answer {
            Answer::Sent(ids) => Ok(ids),
            Answer::TokenGone => Err(SendFailure::permanent("reply_token", "a push was refused for its reply token")),
            Answer::Failed(failure) => {
                api::pause(&self.account.all, "", &failure);
                if failure.code == "auth_failed" {
                    self.account.context.health.set(State::Down, Some(failure.message.clone()));
                }
                Err(failure)
            }
        }
    }
}

impl Channel for Account {
    fn capabilities(&self) -> Capabilities {
        let mut media_bytes_max = std::collections::BTreeMap::new();
        if self.context.hooks.is_public() {
            let kinds = ["image", "audio", "video", "file"];
            media_bytes_max.extend(kinds.into_iter().map(|kind| (kind.into(), FILE_BYTES_MAX as u64)));
        }
        Capabilities {
            text_max: u32::try_from(render::TEXT_MAX).ok(),
            text_unit: Some("utf16".into()),
            media_bytes_max,
            idempotent_send: true,
            typing: true,
            ..Capabilities::default()
        }
    }

    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(async move {
            self.typing.learn(command);
            let target = render::target(&command.thread)?;
            let calls = render::calls(command)?;
            api::carry(&Courier { account: self, command, target }, &calls, ledger).await
        })
    }

    fn fetch<'a>(&'a self, source: &'a Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(self.file(source))
    }

    fn describe<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<Option<Described>, SendFailure>> {
        Box::pin(self.who(identity))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move {
            let watched = api::watch(&self.context, |code| code == "auth_failed", || self.look());
            let shown = self.typing.follow(&self.context, Duration::from_secs(10), |thread| self.show_typing(thread));
            tokio::try_join!(watched, shown).map(|((), ())| ())
        })
    }
}

#[cfg(test)]
mod tests;
