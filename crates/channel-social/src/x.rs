//! X: direct messages, and posts that mention the account.
//!
//! `normalize` reads activity, `oauth1` signs, `classify` reads answers; this carries them.

mod classify;
mod normalize;
mod oauth1;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adapter::bytes::Bytes;
use adapter::contract::envelope::{Identity, Media};
use adapter::contract::event::ThreadRef;
use adapter::contract::outbound::{Author, Capabilities, Live, OutCommand};
use adapter::contract::{SmolStr, Timestamp};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, HeaderMap, HeaderValue, Method, StatusCode, header};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::split::{Unit, split};
use adapter::webhook::{Hook, Item, Reply, Request, Siblings, Verdict};
use adapter::{BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger, verify};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, mpsc};

use self::normalize::{POST, Reader};
use self::settings::Settings;
use crate::api::{self, Carrier};
use crate::found::Place;
use crate::multipart;
use crate::piece::{self, Piece};
use crate::provider::{Claims, Provider, Signature, Trust};
use crate::query;
use crate::read::{At, shown};
use crate::telemetry::Metric;

/// Where the signature is.
const SIGNATURE: Signature =
    Signature { header: "x-twitter-webhooks-signature", prefix: "sha256=", encoding: verify::Encoding::Base64 };
/// Longest challenge that is answered.
const CHALLENGE_BYTES_MAX: usize = 1024;
/// Longest direct message, in characters.
const TEXT_MAX: usize = 10_000;
/// Largest picture; films would take an upload in pieces.
const IMAGE_BYTES_MAX: u64 = 5 * 1024 * 1024;
/// How often the account is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(900);
/// How many signs of typing wait; more are lost, which is what they are for.
const TYPING_MAX: usize = 64;

/// One account.
struct Account {
    context: Context,
    settings: Settings,
    oauth1: Option<oauth1::Keys>,
    client: Client,
    all: Keyed,
    nonces: AtomicU64,
    typing: Mutex<mpsc::Receiver<SmolStr>>,
}

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    secrets: Vec<SecretString>,
    app: Option<String>,
    own: String,
    typing: mpsc::Sender<SmolStr>,
}

/// Accounts.
pub(crate) struct X;

impl Provider for X {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let secrets = trust.secrets(&settings.consumer_secret, "consumer_secret")?;
        // Nobody hears of typing before the account runs.
        let (typing, _) = mpsc::channel(1);
        Ok(Ear { place, secrets, app: settings.app_id.clone(), own: settings.user_id.clone(), typing })
    }

    /// The account, under each secret.
    fn claims(&self, settings: &Settings, ear: &Ear) -> Claims {
        ear.secrets.iter().map(|secret| (verify::fingerprint(secret), settings.user_id.clone())).collect()
    }

    fn prove(request: &mut Request) {
        SIGNATURE.prove(request);
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        Ok(Arc::new(Account::new(context, settings)?))
    }
}

impl Ear {
    /// The platform asks, each hour and whenever it likes, whether we know the secret.
    fn challenge(&self, request: &Request) -> Verdict {
        let token = request.query.as_deref().and_then(|query| query::parameter(query, "crc_token"));
        let Some(token) = token.filter(|token| (1..=CHALLENGE_BYTES_MAX).contains(&token.len())) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "no challenge");
        };
        let Some(secret) = self.secrets.first() else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "no secret");
        };
        let answer = verify::sign(verify::Algorithm::Sha256, secret, &[token.as_bytes()], verify::Encoding::Base64);
        Verdict::Answer(Reply::body(
            "application/json",
            json!({ "response_token": format!("sha256={answer}") }).to_string(),
        ))
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict {
        if request.method == Method::GET {
            return self.challenge(request);
        }
        let secret = match SIGNATURE.check(request, &self.secrets) {
            Ok(secret) => secret,
            Err(refused) => return refused,
        };
        let Ok(body) = serde_json::from_slice::<normalize::Body<'_>>(&request.body) else {
            return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON");
        };
        let dead = |reason: &str| Verdict::Take {
            items: vec![Item::Dead { account: None, reason: reason.into(), raw: request.body.clone() }],
            reply: Reply::ok(),
        };
        let user = |name: &str| body.get(name).and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        // When the account takes its permission back, it says so within.
        let own = user("for_user_id").and_then(|id| At::new(&id).as_id()).or_else(|| {
            let event = user("user_event")?;
            At::new(&event).get("revoke").get("source").id("user_id")
        });
        let Some(own) = own else { return dead("it names no account") };
        let Some(account) = accounts.resolve(&verify::fingerprint(secret), &own) else {
            return dead("an account that nobody configured");
        };
        let place = Place { account, ..self.place.clone() };
        let reader = Reader { place: &place, own: &own, app: self.app.as_deref(), now: request.at };
        let read = reader.read(&body);
        if own == self.own {
            for who in read.typing {
                // A full line of signs loses this one.
                let _ = self.typing.try_send(who);
            }
        }
        let items = read.found.into_iter().map(|(found, raw)| found.item(&place, Bytes::from(raw)));
        Verdict::Take { items: items.collect(), reply: Reply::ok() }
    }
}

impl Account {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let ear = X.ear(&settings, Place::of(&context), Trust::Settings)?;
        let oauth1 = match (&settings.oauth1, ear.secrets.first()) {
            (Some(given), Some(consumer_secret)) => Some(oauth1::Keys {
                consumer_key: api::resolve_one(&given.consumer_key, "oauth1.consumer_key")?,
                consumer_secret: consumer_secret.clone(),
                token: api::resolve_one(&given.token, "oauth1.token")?,
                token_secret: api::resolve_one(&given.token_secret, "oauth1.token_secret")?,
            }),
            _ => None,
        };
        if let Some(secret) = &settings.access_token {
            api::resolve_one(secret, "access_token")?;
        }
        let (tell, typing) = mpsc::channel(TYPING_MAX);
        X.serve(&context, &settings, Ear { typing: tell, ..ear })?;
        let per_quarter = f64::from(settings.per_quarter_hour_max);
        Ok(Self {
            client: settings.http.client()?,
            all: Keyed::new(per_quarter / 900.0, per_quarter, 1),
            nonces: AtomicU64::new(0),
            typing: Mutex::new(typing),
            oauth1,
            context,
            settings,
        })
    }

    /// Who a request is from. `url` without its query, whose parameters are given apart.
    fn authorization(&self, method: &str, url: &str, parameters: &[(&str, &str)]) -> Result<String, SendFailure> {
        if let Some(keys) = &self.oauth1 {
            let nth = self.nonces.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            let now = adapter::now().0;
            let parts: [&[u8]; 3] = [b"nonce", &nth, &now.to_be_bytes()];
            let nonce = verify::sign(verify::Algorithm::Sha256, &keys.token_secret, &parts, verify::Encoding::Hex);
            return Ok(oauth1::header(keys, method, url, parameters, &nonce, now / 1000));
        }
        let secret = self.settings.access_token.as_ref();
        let token = secret.and_then(|secret| secret.resolve().ok());
        let token = token.ok_or_else(|| SendFailure::retryable("auth_failed", "the access token cannot be read"))?;
        Ok(format!("Bearer {}", token.expose()))
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, SendFailure> {
        let url = format!("{}{path}", self.settings.api_base);
        let authorization = self.authorization(method, &url, parameters)?;
        let query = parameters.iter().map(|(name, value)| format!("{name}={}", query::encode(value)));
        let query = query.collect::<Vec<_>>().join("&");
        let whole = if query.is_empty() { url } else { format!("{url}?{query}") };
        let request = match body {
            Some(body) => api::json_request(&whole, &[("authorization", authorization.as_str())], body)?,
            None => api::request(method, &whole, &[("authorization", authorization.as_str())], Bytes::new())?,
        };
        self.answer(request).await
    }

    async fn answer(&self, request: adapter::http::Request<Bytes>) -> Result<Value, SendFailure> {
        let answer = api::call(&self.client, request).await?;
        let result = classify::answer(answer.status(), answer.headers(), api::body(&answer), adapter::now());
        if let Err(failure) = &result
            && failure.code == "auth_failed"
        {
            self.context.health.set(State::Down, Some(failure.message.clone()));
        }
        result
    }

    /// Uploads a picture; nobody sees it until it is sent. Returns its id.
    async fn upload(&self, media: &Media) -> Result<SmolStr, SendFailure> {
        let bytes = api::load(&self.context, media, IMAGE_BYTES_MAX).await?;
        let url = format!("{}/2/media/upload", self.settings.api_base);
        let authorization = self.authorization("POST", &url, &[])?;
        let mime = media.mime.as_deref().unwrap_or("application/octet-stream");
        let file = multipart::File { field: "media", name: media.name.as_deref().unwrap_or("picture"), mime, bytes };
        let nth = self.nonces.fetch_add(1, Ordering::Relaxed);
        let key = SecretString::new(&authorization);
        let mut boundary =
            verify::sign(verify::Algorithm::Sha256, &key, &[b"form", &nth.to_be_bytes()], verify::Encoding::Hex);
        boundary.truncate(48);
        let fields = [("media_category", "dm_image".to_owned()), ("media_type", mime.to_owned())];
        let (content_type, body) = multipart::form(&boundary, fields, &file);
        let headers = [("authorization", authorization.as_str()), ("content-type", content_type.as_str())];
        let result = self.answer(api::request("POST", &url, &headers, body)?).await;
        // It reached nobody: whatever went wrong, it can be begun anew.
        let body = result.map_err(|failure| match failure.class {
            Class::Unknown => SendFailure { class: Class::Retryable { after: None }, ..failure },
            _ => failure,
        })?;
        let at = At::new(&body);
        let id = at.get("data").id("id").or_else(|| at.id("media_id_string"));
        id.ok_or_else(|| SendFailure::retryable("upload", "the platform names no upload"))
    }

    async fn file(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let url = At::new(source).text("url");
        let url = url.ok_or_else(|| SendFailure::permanent("fetch_source", "no address is named"))?;
        let mut headers = HeaderMap::new();
        // Pictures of direct messages are shown to who takes part; the account's name goes to the platform alone.
        if is_own_host(url, &self.settings.api_base) {
            let bare = url.split(['?', '#']).next().unwrap_or(url);
            let authorization = self.authorization("GET", bare, &[])?;
            if let Ok(mut value) = HeaderValue::from_str(&authorization) {
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
        }
        self.context.fetcher.get(url, headers).await
    }

    async fn who(&self, identity: &Identity) -> Result<Option<Described>, SendFailure> {
        if identity.scheme != "x" || !is_number(&identity.value) {
            return Ok(None);
        }
        let path = format!("/2/users/{}", identity.value);
        let body = match self.ask("GET", &path, &[("user.fields", "profile_image_url")], None).await {
            Ok(body) => body,
            Err(failure) if failure.class == Class::Permanent => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let user = At::new(&body).get("data");
        Ok(user.exists().then(|| Described {
            name: user.text("name").and_then(shown),
            username: user.text("username").and_then(shown),
            language: None,
            avatar: user.text("profile_image_url").map(str::to_owned),
        }))
    }

    /// Shows that a customer writes, where the conversation is known.
    async fn show_typing(&self, who: SmolStr, at: Timestamp) {
        let Ok(history) = self.context.history.thread(&who, 0, 1).await else { return };
        let Some(conversation) = history.conversation else { return };
        let thread = adapter::contract::envelope::Thread::new(who, adapter::contract::envelope::ThreadKind::Direct);
        let live = Live {
            conversation,
            threads: vec![ThreadRef { account: self.context.account.clone(), thread }],
            author: Author { agent: None, display: None },
            customer: true,
            what: "typing".into(),
            at,
        };
        self.context.live.publish(&live).await;
    }
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    text: Option<String>,
    media: Option<Media>,
}

/// The messages of a command, in order.
fn calls(command: &OutCommand) -> Result<Vec<Call>, SendFailure> {
    let mut calls = Vec::new();
    let texts =
        |text: &str| split(text, TEXT_MAX, Unit::Chars).into_iter().map(|text| Call { text: Some(text), media: None });
    for piece in piece::pieces(&command.content)? {
        match piece {
            Piece::Text(text) => calls.extend(texts(&text)),
            Piece::Location(place) => calls.extend(texts(&piece::place_in_words(&place))),
            Piece::Contact(card) => calls.extend(texts(&piece::contact_in_words(&card))),
            Piece::Media(media) => {
                let mime = media.mime.as_deref().unwrap_or_default();
                if !matches!(mime, "image/jpeg" | "image/png" | "image/webp") {
                    return Err(SendFailure::permanent("unsupported", "the platform takes pictures only"));
                }
                if media.bytes.is_some_and(|bytes| bytes > IMAGE_BYTES_MAX) {
                    return Err(SendFailure::permanent(
                        "media_too_large",
                        "the picture is larger than the platform takes",
                    ));
                }
                let caption = media.caption.clone().filter(|caption| !caption.trim().is_empty());
                let mut captions = caption.iter().flat_map(|caption| texts(caption)).collect::<Vec<_>>().into_iter();
                calls.push(Call { text: captions.next().and_then(|call| call.text), media: Some(media) });
                calls.extend(captions);
            }
        }
    }
    Ok(calls)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an address is the platform's own, to which tokens may be shown.
fn is_own_host(url: &str, api_base: &str) -> bool {
    let host = |url: &str| {
        url.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned())
    };
    let Some(asked) = host(url) else { return false };
    let platform = url.starts_with("https://") && [".twitter.com", ".x.com"].iter().any(|end| asked.ends_with(end));
    platform || host(api_base).is_some_and(|own| own == asked)
}

/// Carries the messages of one command.
struct Courier<'a> {
    account: &'a Account,
    to: &'a str,
}

impl Carrier for Courier<'_> {
    type Call = Call;
    type Ready = Option<SmolStr>;

    async fn ready(&self, call: &Call) -> Result<Option<SmolStr>, SendFailure> {
        let uploaded = match &call.media {
            Some(media) => Some(self.account.upload(media).await?),
            None => None,
        };
        api::take(&self.account.all, "").await?;
        Ok(uploaded)
    }

    async fn carry(&self, _: u32, call: &Call, uploaded: Option<SmolStr>) -> Result<Vec<SmolStr>, SendFailure> {
        let mut body = Map::new();
        if let Some(text) = &call.text {
            body.insert("text".into(), text.as_str().into());
        }
        let post = self.to.strip_prefix(POST);
        let path = match (post, uploaded) {
            (Some(post), uploaded) => {
                body.insert("reply".into(), json!({ "in_reply_to_tweet_id": post }));
                if let Some(id) = uploaded {
                    body.insert("media".into(), json!({ "media_ids": [id.as_str()] }));
                }
                "/2/tweets".to_owned()
            }
            (None, uploaded) => {
                if let Some(id) = uploaded {
                    body.insert("attachments".into(), json!([{ "media_id": id.as_str() }]));
                }
                format!("/2/dm_conversations/with/{}/messages", self.to)
            }
        };
        let result = self.account.ask("POST", &path, &[], Some(&Value::Object(body))).await;
        if let Err(failure) = &result {
            api::pause(&self.account.all, "", failure);
        }
        let answer = result?;
        let data = At::new(&answer).get("data");
        let id =
            if post.is_some() { data.id("id").map(|id| format!("{POST}{id}").into()) } else { data.id("dm_event_id") };
        Ok(vec![id.ok_or_else(|| SendFailure::unknown("no_id", "the answer names no message"))?])
    }
}

impl Channel for Account {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            text_max: u32::try_from(TEXT_MAX).ok(),
            text_unit: Some("chars".into()),
            media_bytes_max: [("image".into(), IMAGE_BYTES_MAX)].into_iter().collect(),
            read: true,
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
            let to = command.thread.reply_target.as_ref().map_or(&command.thread.key, |target| &target.address);
            if !is_number(to.strip_prefix(POST).unwrap_or(to)) {
                return Err(SendFailure::permanent("unusable_address", "the thread names no user or post"));
            }
            let calls = calls(command)?;
            api::carry(&Courier { account: self, to }, &calls, ledger).await
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
            let mut typing = self.typing.lock().await;
            let mut look = tokio::time::interval(LOOK_EVERY);
            let account = self.context.account.id.to_string();
            let queued = metrics::gauge!(Metric::TypingQueued.name(), "channel_account" => account);
            loop {
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                queued.set(typing.len() as f64);
                tokio::select! {
                    () = self.context.shutdown.draining() => {
                        queued.set(0.0);
                        return Ok(());
                    }
                    who = typing.recv() => match who {
                        Some(who) => self.show_typing(who, adapter::now()).await,
                        // The listener lets go of the account only when it ends.
                        None => return Ok(()),
                    },
                    _ = look.tick() => match self.ask("GET", "/2/users/me", &[], None).await {
                        Ok(_) => self.context.health.set(State::Up, None),
                        Err(failure) if failure.code == "auth_failed" => {}
                        Err(failure) => self.context.health.set(State::Degraded, Some(failure.to_string())),
                    },
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
