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
use adapter::channel::Rehearsal;
use adapter::contract::envelope::{Account as EnvelopeAccount, Identity, Media, fingerprint};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::contract::{SmolStr, TenantId, Timestamp};
use adapter::failure::{SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, HeaderMap, HeaderValue, Method, StatusCode};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::webhook::{Hook, Proven, Reply, Request, Siblings, Verdict};
use adapter::{
    AccountFile, BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger, Prepared, Problem, verify,
};
use serde_json::{Value, json};

use self::classify::{Answer, Way};
use self::render::{Message, Target};
use self::settings::Settings;
use crate::api::{self, Carrier};
use crate::found::{Found, Place};
use crate::read::{At, language, shown};
use crate::serve::Shelf;

/// The header that holds the signature.
const SIGNATURE: &str = "x-line-signature";
/// Largest file that is fetched.
const FILE_BYTES_MAX: usize = 200 * 1024 * 1024;
/// How often the account is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(300);

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

/// One official account.
struct Account {
    context: Context,
    settings: Settings,
    token: SecretString,
    client: Client,
    files: Client,
    shelf: Shelf,
    all: Keyed,
}

/// What the listener asks.
struct Ear {
    place: Place,
    secrets: Vec<SecretString>,
    user_id: Option<String>,
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
        let ear =
            |secrets: Vec<SecretString>| Ear { place, secrets, user_id: self.settings.user_id.clone(), shelf: None };
        let rehearsal = if trusting {
            let hook = Arc::new(ear(vec![SecretString::new(MADE_UP)]));
            Ok(Rehearsal { hook: Arc::new(Proven { hook, prove }), claims: Vec::new() })
        } else {
            let secrets = api::resolve(&self.settings.channel_secret, "channel_secret");
            secrets.map(|secrets| Rehearsal { hook: Arc::new(ear(secrets)), claims: Vec::new() })
        };
        Some(rehearsal)
    }

    fn open(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Arc<dyn Channel>, OpenError>> {
        Box::pin(async move { Ok(Arc::new(Account::new(context, self.settings)?) as Arc<dyn Channel>) })
    }
}

/// Stands for the channel secret when a request is tried out without it.
const MADE_UP: &str = "nobody's channel secret";

fn prove(request: &mut Request) {
    let secret = SecretString::new(MADE_UP);
    let proof = verify::sign(verify::Algorithm::Sha256, &secret, &[&request.body], verify::Encoding::Base64);
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
        if !verify::hmac(verify::Algorithm::Sha256, &self.secrets, &[body], verify::Encoding::Base64, given) {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "signature");
        }
        let Some(body) = normalize::body(body) else {
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
        let place = Place { tenant: context.tenant.clone(), account: context.account.clone() };
        let shelf = Shelf::new(&context)?;
        let ear = Ear {
            place,
            secrets: api::resolve(&settings.channel_secret, "channel_secret")?,
            user_id: settings.user_id.clone(),
            shelf: Some(shelf.clone()),
        };
        context.hooks.serve(Arc::new(ear))?;
        Ok(Self {
            token: api::resolve_one(&settings.access_token, "access_token")?,
            client: settings.http.client()?,
            files: settings.http.client_taking(FILE_BYTES_MAX)?,
            shelf,
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
            ..Capabilities::default()
        }
    }

    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(async move {
            let target = render::target(command)?;
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
            loop {
                let url = format!("{}/v2/bot/info", self.settings.api_base);
                match self.get(&self.client, &url).await {
                    Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                        let why = "the channel access token is not accepted".to_owned();
                        self.context.health.set(State::Down, Some(why));
                    }
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
