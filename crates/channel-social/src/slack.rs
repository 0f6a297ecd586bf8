//! Slack apps.
//!
//! `normalize` reads events, `mrkdwn` reads and writes text, `classify` reads answers; this carries them.

mod classify;
mod mrkdwn;
mod normalize;
mod settings;

use std::sync::Arc;

use adapter::bytes::Bytes;
use adapter::contract::SmolStr;
use adapter::contract::envelope::{Identity, Media};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{Class, SendFailure, Sent};
use adapter::health::State;
use adapter::http::{Client, HeaderMap, HeaderValue, Method, StatusCode, header};
use adapter::limit::Keyed;
use adapter::runtime::secret::SecretString;
use adapter::split::{Unit, split};
use adapter::webhook::{Hook, Item, Reply, Request, Siblings, Verdict};
use adapter::{BoxFuture, Channel, Context, Described, Fetched, OpenError, PartLedger, verify};
use serde_json::{Map, Value, json};

use self::normalize::Reader;
use self::settings::Settings;
use crate::api::{self, CHATS_MAX, Carrier};
use crate::found::{Place, items};
use crate::piece::{self, Piece};
use crate::provider::{self, Claims, MADE_UP, Provider, Trust};
use crate::query;
use crate::read::{At, language, shown};

/// The headers of a signature, and how far its time may be from ours.
const SIGNATURE: &str = "x-slack-signature";
const SIGNED_AT: &str = "x-slack-request-timestamp";
const SKEW_MAX: u64 = 300;
/// Longest text, in characters as they are written on the wire.
const TEXT_MAX: usize = 40_000;
/// Largest file that is uploaded.
const FILE_BYTES_MAX: u64 = 100 * 1024 * 1024;

/// One app in one workspace.
struct App {
    context: Context,
    settings: Settings,
    token: SecretString,
    client: Client,
    channels: Keyed,
}

/// What the listener asks.
pub(crate) struct Ear {
    place: Place,
    secrets: Vec<SecretString>,
    app: String,
    bot_user: Option<String>,
}

/// Apps.
pub(crate) struct Slack;

impl Provider for Slack {
    type Settings = Settings;
    type Ear = Ear;

    fn ear(&self, settings: &Settings, place: Place, trust: Trust) -> Result<Ear, OpenError> {
        let secrets = trust.secrets(&settings.signing_secret, "signing_secret")?;
        Ok(Ear { place, secrets, app: settings.app_id.clone(), bot_user: settings.bot_user_id.clone() })
    }

    /// The workspace, under each secret.
    fn claims(&self, settings: &Settings, ear: &Ear) -> Claims {
        ear.secrets.iter().map(|secret| (verify::fingerprint(secret), settings.team_id.clone())).collect()
    }

    fn prove(request: &mut Request) {
        let at = (request.at.0 / 1000).to_string();
        let hmac = sign(&SecretString::new(MADE_UP), &at, &request.body);
        provider::put(request, SIGNED_AT, &at);
        provider::put(request, SIGNATURE, &format!("v0={hmac}"));
    }

    fn open(&self, settings: Settings, context: Context) -> Result<Arc<dyn Channel>, OpenError> {
        Ok(Arc::new(App::new(context, settings)?))
    }
}

/// Signs a body as of a time.
fn sign(secret: &SecretString, at: &str, body: &[u8]) -> String {
    let parts: [&[u8]; 4] = [b"v0:", at.as_bytes(), b":", body];
    verify::sign(verify::Algorithm::Sha256, secret, &parts, verify::Encoding::Hex)
}

impl Ear {
    /// Which secret signed it; `None`: none did, or not lately.
    fn signed_by(&self, request: &Request) -> Option<&SecretString> {
        let (given, at) = (request.header(SIGNATURE)?, request.header(SIGNED_AT)?);
        let when: u64 = at.parse().ok()?;
        if (request.at.0 / 1000).abs_diff(when) > SKEW_MAX {
            return None;
        }
        let parts: [&[u8]; 4] = [b"v0:", at.as_bytes(), b":", &request.body];
        let given = given.strip_prefix("v0=")?;
        let which = verify::hmac_by(verify::Algorithm::Sha256, &self.secrets, &parts, verify::Encoding::Hex, given)?;
        self.secrets.get(which)
    }
}

impl Hook for Ear {
    fn receive(&self, request: &Request, accounts: &Siblings) -> Verdict {
        if request.method != Method::POST {
            return Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
        }
        let Some(secret) = self.signed_by(request) else {
            return Verdict::refuse(StatusCode::UNAUTHORIZED, "signature");
        };
        let form =
            request.header("content-type").is_some_and(|mime| mime.starts_with("application/x-www-form-urlencoded"));
        let text = std::str::from_utf8(&request.body).unwrap_or_default();
        let field = |name: &str| if form { query::parameter(text, name) } else { None };
        let json = if form {
            field("payload").and_then(|payload| serde_json::from_str(&payload).ok())
        } else {
            serde_json::from_slice(&request.body).ok()
        };
        let body: Value = match json {
            Some(body) => body,
            None if form && field("command").is_some() => Value::Null,
            None => return Verdict::refuse(StatusCode::BAD_REQUEST, "not JSON"),
        };
        let at = At::new(&body);
        if at.text("type") == Some("url_verification") {
            let challenge = at.text("challenge").unwrap_or_default();
            return Verdict::Answer(Reply::body("text/plain", challenge.to_owned()));
        }
        let team = [at.id("team_id"), at.get("team").id("id"), field("team_id").map(SmolStr::from)];
        let Some(team) = team.into_iter().flatten().next() else {
            let dead = Item::Dead { account: None, reason: "it names no workspace".into(), raw: request.body.clone() };
            return Verdict::Take { items: vec![dead], reply: Reply::ok() };
        };
        // An app is in several workspaces, and all of them send here.
        let Some(account) = accounts.resolve(&verify::fingerprint(secret), &team) else {
            let dead = Item::Dead {
                account: None,
                reason: "a workspace that no account is for".into(),
                raw: request.body.clone(),
            };
            return Verdict::Take { items: vec![dead], reply: Reply::ok() };
        };
        let own = account.id == self.place.account.id;
        let place = Place { account, ..self.place.clone() };
        let reader = Reader {
            place: &place,
            team: &team,
            app: &self.app,
            // Another workspace has another user for the bot; there its app and bot ids tell.
            bot_user: self.bot_user.as_deref().filter(|_| own),
            now: request.at,
            raw_bytes: request.body.len(),
        };
        let found = match (form, at.text("type")) {
            (false, Some("event_callback")) => reader.callback(at),
            (false, Some("app_rate_limited")) => reader.limited(at),
            (true, Some(_)) => reader.interaction(at),
            (true, None) if body.is_null() => reader.command(&field),
            _ => vec![crate::found::Found::Dead("a kind of request that is not known")],
        };
        Verdict::Take { items: items(&place, found, &request.body), reply: Reply::ok() }
    }
}

impl App {
    fn new(context: Context, settings: Settings) -> Result<Self, OpenError> {
        let ear = Slack.ear(&settings, Place::of(&context), Trust::Settings)?;
        Slack.serve(&context, &settings, ear)?;
        Ok(Self {
            token: api::resolve_one(&settings.bot_token, "bot_token")?,
            client: settings.http.client()?,
            channels: Keyed::new(settings.channel_per_second_max, 3.0, CHATS_MAX),
            context,
            settings,
        })
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    async fn ask(&self, method: &str, body: &Value) -> Result<Value, SendFailure> {
        let url = format!("{}/{method}", self.settings.api_base);
        let bearer = self.bearer();
        self.answer(api::json_request(&url, &[("authorization", bearer.as_str())], body)?).await
    }

    /// Some methods take no JSON.
    async fn ask_form(&self, method: &str, fields: &[(&str, &str)]) -> Result<Value, SendFailure> {
        let url = format!("{}/{method}", self.settings.api_base);
        let bearer = self.bearer();
        let body = fields.iter().map(|(name, value)| format!("{name}={}", query::encode(value)));
        let body = body.collect::<Vec<_>>().join("&");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        self.answer(api::request("POST", &url, &headers, Bytes::from(body))?).await
    }

    async fn answer(&self, request: adapter::http::Request<Bytes>) -> Result<Value, SendFailure> {
        let answer = api::call(&self.client, request).await?;
        let result = classify::answer(answer.status(), answer.headers(), api::body(&answer));
        if let Err(failure) = &result
            && classify::is_auth(&failure.code)
        {
            self.context.health.set(State::Down, Some(failure.message.clone()));
        }
        result
    }

    /// Looks whether the token is good.
    async fn look(&self) -> Result<Option<String>, SendFailure> {
        self.ask("auth.test", &json!({})).await.map(|_| None)
    }

    /// Whether the token may be shown to whoever has this address.
    fn is_files_address(&self, url: &str) -> bool {
        let Some((scheme, rest)) = url.split_once("://") else { return false };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let local = host.starts_with("127.0.0.1:") || host.starts_with("localhost:");
        (scheme == "https" || (scheme == "http" && local))
            && self.settings.files_hosts.iter().any(|known| known == host)
    }

    /// Uploads a file; nobody sees it until it is completed. Returns its id.
    async fn upload(&self, media: &Media) -> Result<SmolStr, SendFailure> {
        let bytes = api::load(&self.context, media, FILE_BYTES_MAX).await?;
        let (name, length) = (media.name.as_deref().unwrap_or("file"), bytes.len().to_string());
        // Nothing of it reaches anybody: whatever goes wrong, it can be begun anew.
        let again = |failure: SendFailure| match failure.class {
            Class::Unknown => SendFailure { class: Class::Retryable { after: None }, ..failure },
            _ => failure,
        };
        let fields = [("filename", name), ("length", length.as_str())];
        let ticket = self.ask_form("files.getUploadURLExternal", &fields).await.map_err(again)?;
        let at = At::new(&ticket);
        let (Some(url), Some(id)) = (at.text("upload_url"), at.id("file_id")) else {
            return Err(SendFailure::retryable("upload", "the platform names no place to upload to"));
        };
        if !self.is_files_address(url) {
            return Err(SendFailure::permanent("upload", "the platform names a place that is not its own"));
        }
        let request = api::request("POST", url, &[("content-type", "application/octet-stream")], bytes)?;
        let answer = api::call(&self.client, request).await.map_err(again)?;
        if !answer.status().is_success() {
            let failure = api::failed_status(answer.status(), answer.headers(), "the upload was refused");
            return Err(again(failure));
        }
        Ok(id)
    }

    async fn file(&self, source: &Value) -> Result<Fetched, SendFailure> {
        let source = At::new(source);
        let found = match source.id("file_id") {
            Some(id) => {
                let info = self.ask_form("files.info", &[("file", id.as_str())]).await?;
                let file = At::new(&info).get("file");
                file.text("url_private_download").or_else(|| file.text("url_private")).map(str::to_owned)
            }
            None => source.text("url").map(str::to_owned),
        };
        let url = found.ok_or_else(|| SendFailure::permanent("fetch_source", "no file is named"))?;
        let mut headers = HeaderMap::new();
        if self.is_files_address(&url) {
            let mut bearer = HeaderValue::from_str(&self.bearer())
                .map_err(|_| SendFailure::permanent("unusable_request", "the token cannot be written"))?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        let fetched = self.context.fetcher.get(&url, headers).await?;
        // Without the right scope a page to sign in by comes instead of the file.
        if fetched.mime.as_deref() == Some("text/html") && !url.ends_with(".html") {
            return Err(SendFailure::permanent("no_access", "the app may not read files"));
        }
        Ok(fetched)
    }

    async fn who(&self, identity: &Identity) -> Result<Option<Described>, SendFailure> {
        if identity.scheme != "slack" {
            return Ok(None);
        }
        let fields = [("user", identity.value.as_str()), ("include_locale", "true")];
        let body = match self.ask_form("users.info", &fields).await {
            Ok(body) => body,
            Err(failure) if failure.code == "user_not_found" || failure.code == "user_not_visible" => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let user = At::new(&body).get("user");
        let profile = user.get("profile");
        let names = [profile.text("real_name"), profile.text("display_name"), user.text("real_name")];
        Ok(Some(Described {
            name: names.into_iter().flatten().find_map(shown),
            username: user.text("name").and_then(shown),
            language: user.text("locale").and_then(language),
            avatar: profile.text("image_192").map(str::to_owned),
        }))
    }
}

/// A call to be made.
#[derive(Debug, Clone, PartialEq)]
enum Call {
    /// A text, as it is written on the wire.
    Text(String),
    /// A file, and the text with it.
    File(Box<Media>),
}

/// The calls of a command, in order.
fn calls(command: &OutCommand) -> Result<Vec<Call>, SendFailure> {
    let mut calls = Vec::new();
    for piece in piece::pieces(&command.content)? {
        match piece {
            Piece::Text(text) => calls.extend(texts(&text)),
            Piece::Location(place) => calls.extend(texts(&piece::place_in_words(&place))),
            Piece::Contact(card) => calls.extend(texts(&piece::contact_in_words(&card))),
            Piece::Media(media) => {
                if media.bytes.is_some_and(|bytes| bytes > FILE_BYTES_MAX) {
                    return Err(SendFailure::permanent("media_too_large", "the file is larger than we upload"));
                }
                calls.push(Call::File(Box::new(media)));
            }
        }
    }
    Ok(calls)
}

fn texts(text: &str) -> Vec<Call> {
    let mut pieces = split(text, TEXT_MAX, Unit::Chars);
    if pieces.iter().any(|piece| mrkdwn::escape(piece).chars().count() > TEXT_MAX) {
        // Each escaped sign is five at most.
        pieces = split(text, TEXT_MAX / 5, Unit::Chars);
    }
    pieces.iter().map(|piece| Call::Text(mrkdwn::escape(piece))).collect()
}

/// Carries the calls of one command.
struct Courier<'a> {
    app: &'a App,
    channel: SmolStr,
    thread_ts: Option<SmolStr>,
}

impl Carrier for Courier<'_> {
    type Call = Call;
    type Ready = Option<SmolStr>;

    async fn ready(&self, call: &Call) -> Result<Option<SmolStr>, SendFailure> {
        let uploaded = match call {
            Call::File(media) => Some(self.app.upload(media).await?),
            Call::Text(_) => None,
        };
        api::take(&self.app.channels, &self.channel).await?;
        Ok(uploaded)
    }

    async fn carry(&self, _: u32, call: &Call, uploaded: Option<SmolStr>) -> Result<Vec<SmolStr>, SendFailure> {
        let mut body = Map::new();
        if let Some(ts) = &self.thread_ts {
            body.insert("thread_ts".into(), ts.as_str().into());
        }
        let result = match (call, uploaded) {
            (Call::File(media), Some(id)) => {
                let title = media.name.as_deref().unwrap_or("file");
                body.insert("channel_id".into(), self.channel.as_str().into());
                body.insert("files".into(), json!([{ "id": id.as_str(), "title": title }]));
                if let Some(caption) = media.caption.as_deref().filter(|caption| !caption.trim().is_empty()) {
                    body.insert("initial_comment".into(), mrkdwn::escape(caption).into());
                }
                let done = self.app.ask("files.completeUploadExternal", &Value::Object(body)).await;
                done.map(|_| vec![format!("file/{id}").into()])
            }
            (Call::Text(text), _) => {
                body.insert("channel".into(), self.channel.as_str().into());
                body.insert("text".into(), text.as_str().into());
                // What the agent wrote, whatever signs are in it.
                body.insert("mrkdwn".into(), false.into());
                body.insert("parse".into(), "none".into());
                self.app.ask("chat.postMessage", &Value::Object(body)).await.and_then(|answer| {
                    let at = At::new(&answer);
                    let ts = at.id("ts").ok_or_else(|| SendFailure::unknown("no_id", "the answer names no message"))?;
                    let channel = at.id("channel").unwrap_or_else(|| self.channel.clone());
                    Ok(vec![format!("{channel}/{ts}").into()])
                })
            }
            (Call::File(_), None) => Err(SendFailure::permanent("upload", "the file was not uploaded")),
        };
        if let Err(failure) = &result {
            api::pause(&self.app.channels, &self.channel, failure);
        }
        result
    }
}

impl Channel for App {
    fn capabilities(&self) -> Capabilities {
        let kinds = ["image", "audio", "video", "file"];
        Capabilities {
            text_max: u32::try_from(TEXT_MAX).ok(),
            text_unit: Some("chars".into()),
            media_bytes_max: kinds.into_iter().map(|kind| (kind.into(), FILE_BYTES_MAX)).collect(),
            ..Capabilities::default()
        }
    }

    fn send<'a>(
        &'a self,
        command: &'a OutCommand,
        ledger: &'a mut PartLedger,
    ) -> BoxFuture<'a, Result<Sent, SendFailure>> {
        Box::pin(async move {
            let channel = command.thread.reply_target.as_ref().map_or(&command.thread.key, |target| &target.address);
            if channel.is_empty() || !channel.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(SendFailure::permanent("unusable_address", "the thread names no channel"));
            }
            let calls = calls(command)?;
            let courier = Courier { app: self, channel: channel.clone(), thread_ts: command.thread.sub_id.clone() };
            api::carry(&courier, &calls, ledger).await
        })
    }

    fn fetch<'a>(&'a self, source: &'a Value) -> BoxFuture<'a, Result<Fetched, SendFailure>> {
        Box::pin(self.file(source))
    }

    fn describe<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<Option<Described>, SendFailure>> {
        Box::pin(self.who(identity))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, Result<(), OpenError>> {
        Box::pin(async move { api::watch(&self.context, classify::is_auth, || self.look()).await })
    }
}

#[cfg(test)]
mod tests;
