//! A provider's API on loopback: it checks what it is asked as strictly as the provider does, takes messages, and
//! fails in the ways that providers fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Largest request that is read.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How the next message is answered; when nothing is said, it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whim {
    /// It is taken.
    Take,
    /// Too many: come again in so many seconds.
    Busy(u32),
    /// It fails with this status, and nothing was taken.
    Fail(u16),
    /// It is read whole, and nothing is said until whoever asked has gone.
    Hang,
    /// It is taken, and the connection is cut before that was said.
    TakeAndCut,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    head: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where to.
    pub to: String,
    /// What it says.
    pub text: String,
    /// Under which key a repeat would be known.
    pub key: Option<String>,
}

/// What a provider makes of a request.
pub enum Judged {
    /// It is answered, and is no message.
    Answer(u16, &'static str, Vec<u8>),
    /// It is a message.
    Send(Message),
    /// It is not as the provider wants it.
    Wrong(String),
}

/// How one provider judges, and how it says things.
pub trait Provider: Send + Sync + 'static {
    /// Judges a request.
    fn judge(&self, asked: &Asked) -> Judged;
    /// Says that the `nth` message was taken.
    fn taken(&self, nth: usize, message: &Message) -> (u16, Value);
    /// Says that it was taken before.
    fn taken_before(&self, nth: usize, message: &Message) -> (u16, Value) {
        self.taken(nth, message)
    }
    /// Says that it is too fast.
    fn busy(&self, seconds: u32) -> (u16, Option<u32>, Value);
    /// Says that a request is wrong.
    fn wrong(&self) -> (u16, Value) {
        (400, json!({}))
    }
}

/// The provider's API.
pub struct Standin {
    /// Where it listens.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    whims: VecDeque<Whim>,
    asked: Vec<Message>,
    taken: Vec<Message>,
    wrong: Vec<String>,
}

impl Standin {
    /// Begins to listen.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(provider: impl Provider) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let (shared, provider) = (Arc::clone(&state), Arc::new(provider));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&provider), Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    /// Says how the next messages are answered.
    pub fn next(&self, whims: &[Whim]) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).whims.extend(whims);
    }

    /// What was taken, in order.
    ///
    /// # Panics
    /// When a request was not as the provider wants it.
    pub fn taken(&self) -> Vec<Message> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(state.wrong.is_empty(), "{:?}", state.wrong);
        state.taken.clone()
    }

    /// What was asked to be sent, taken or not.
    pub fn asked(&self) -> Vec<Message> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

async fn serve(mut stream: TcpStream, provider: Arc<impl Provider>, state: Arc<Mutex<State>>) {
    while let Some(asked) = read(&mut stream).await {
        let message = match provider.judge(&asked) {
            Judged::Answer(status, mime, body) => {
                if answer(&mut stream, status, mime, None, &body).await.is_none() {
                    return;
                }
                continue;
            }
            Judged::Wrong(why) => {
                state.lock().unwrap_or_else(PoisonError::into_inner).wrong.push(why);
                let (status, body) = provider.wrong();
                if answer(&mut stream, status, "application/json", None, body.to_string().as_bytes()).await.is_none() {
                    return;
                }
                continue;
            }
            Judged::Send(message) => message,
        };
        let (whim, before) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.asked.push(message.clone());
            let whim = state.whims.pop_front().unwrap_or(Whim::Take);
            let same = |taken: &Message| taken.key.is_some() && taken.key == message.key;
            let before = state.taken.iter().position(same);
            if before.is_none() && matches!(whim, Whim::Take | Whim::TakeAndCut) {
                state.taken.push(message.clone());
            }
            (whim, before)
        };
        let nth = state.lock().unwrap_or_else(PoisonError::into_inner).taken.len();
        let (status, after, body) = match (whim, before) {
            (Whim::Hang, _) => {
                let _ = stream.read_u8().await;
                return;
            }
            (Whim::TakeAndCut, _) => return,
            (Whim::Busy(seconds), _) => provider.busy(seconds),
            (Whim::Fail(status), _) => (status, None, json!({})),
            (Whim::Take, Some(before)) => {
                let (status, body) = provider.taken_before(before + 1, &message);
                (status, None, body)
            }
            (Whim::Take, None) => {
                let (status, body) = provider.taken(nth, &message);
                (status, None, body)
            }
        };
        if answer(&mut stream, status, "application/json", after, body.to_string().as_bytes()).await.is_none() {
            return;
        }
    }
}

async fn answer(stream: &mut TcpStream, status: u16, mime: &str, after: Option<u32>, body: &[u8]) -> Option<()> {
    let after = after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {mime}\r\n{after}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let mut asked = Asked { method: String::new(), path: String::new(), body: bytes.split_off(head_ends + 4), head };
    let mut words = asked.head.lines().next().unwrap_or_default().split(' ').map(str::to_owned);
    (asked.method, asked.path) = (words.next()?, words.next()?);
    let length: usize = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while asked.body.len() < length.min(REQUEST_BYTES_MAX) {
        if stream.read_buf(&mut asked.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(asked)
}

// === The providers ===

/// Telegram's Bot API.
pub struct Telegram {
    /// The bot's token.
    pub token: &'static str,
}

impl Provider for Telegram {
    fn judge(&self, asked: &Asked) -> Judged {
        let ok = |result: Value| {
            Judged::Answer(200, "application/json", json!({ "ok": true, "result": result }).to_string().into_bytes())
        };
        if let Some(path) = asked.path.strip_prefix(&format!("/file/bot{}/", self.token)) {
            return Judged::Answer(200, "application/octet-stream", format!("the bytes of {path}").into_bytes());
        }
        let Some(method) = asked.path.strip_prefix(&format!("/bot{}/", self.token)) else {
            return Judged::Wrong(format!("a path without the token: {}", asked.path));
        };
        let body = asked.json();
        match method {
            "getMe" => ok(json!({ "id": 110_201_543, "is_bot": true, "first_name": "Shop" })),
            "getWebhookInfo" => ok(json!({ "url": "", "pending_update_count": 0 })),
            "getChat" => ok(json!({ "id": 17, "type": "private", "first_name": "Ann" })),
            "getFile" => match body["file_id"].as_str() {
                Some(id) => ok(json!({ "file_id": id, "file_path": format!("photos/{id}.jpg") })),
                None => Judged::Wrong("getFile without file_id".to_owned()),
            },
            "sendMessage" => {
                let text = body["text"].as_str().unwrap_or_default();
                let units: usize = text.chars().map(char::len_utf16).sum();
                match body["chat_id"].as_i64() {
                    None => Judged::Wrong("a chat's id is a number".to_owned()),
                    _ if text.is_empty() || units > 4096 => Judged::Wrong(format!("a text of {units} units")),
                    _ if body.get("parse_mode").is_some() => Judged::Wrong("marked-up text".to_owned()),
                    Some(chat) => Judged::Send(Message { to: chat.to_string(), text: text.to_owned(), key: None }),
                }
            }
            // As a message, so that a test sees it in its place among them.
            "sendChatAction" => match (body["chat_id"].as_i64(), body["action"].as_str()) {
                (Some(chat), Some(action)) => {
                    Judged::Send(Message { to: chat.to_string(), text: format!("({action})"), key: None })
                }
                _ => Judged::Wrong("an action without a chat".to_owned()),
            },
            other => Judged::Wrong(format!("method {other}")),
        }
    }

    fn taken(&self, nth: usize, message: &Message) -> (u16, Value) {
        (200, json!({ "ok": true, "result": { "message_id": 1000 + nth, "chat": { "id": 17 }, "text": message.text } }))
    }

    fn busy(&self, seconds: u32) -> (u16, Option<u32>, Value) {
        let body = json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry after",
            "parameters": { "retry_after": seconds } });
        (429, None, body)
    }

    fn wrong(&self) -> (u16, Value) {
        (400, json!({ "ok": false, "error_code": 400, "description": "Bad Request" }))
    }
}

/// LINE's Messaging API.
pub struct LineApi {
    /// The channel access token.
    pub token: &'static str,
    /// A reply token that is good, once.
    pub reply_token: Mutex<Option<&'static str>>,
}

impl Provider for LineApi {
    fn judge(&self, asked: &Asked) -> Judged {
        if asked.header("authorization") != Some(format!("Bearer {}", self.token).as_str()) {
            return Judged::Wrong("authorization".to_owned());
        }
        let body = asked.json();
        let json = |status: u16, body: Value| Judged::Answer(status, "application/json", body.to_string().into_bytes());
        let path = asked.path.as_str();
        if path == "/v2/bot/info" || path.starts_with("/v2/bot/profile/") {
            return json(200, json!({ "userId": "U0", "displayName": "Ann", "language": "en" }));
        }
        if path.ends_with("/content") {
            return Judged::Answer(200, "image/jpeg", b"the bytes".to_vec());
        }
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() || messages.len() > 5 {
            return Judged::Wrong(format!("{} messages", messages.len()));
        }
        if messages.iter().any(|one| one["text"].as_str().is_none_or(|text| text.encode_utf16().count() > 5000)) {
            return Judged::Wrong("a text".to_owned());
        }
        let text = messages.iter().filter_map(|one| one["text"].as_str()).collect::<Vec<_>>().join("|");
        match path {
            "/v2/bot/message/reply" => {
                let mut good = self.reply_token.lock().unwrap_or_else(PoisonError::into_inner);
                if good.is_none() || body["replyToken"].as_str() != *good {
                    return json(400, json!({ "message": "Invalid reply token" }));
                }
                *good = None;
                Judged::Send(Message { to: "reply".to_owned(), text, key: None })
            }
            "/v2/bot/message/push" => match (body["to"].as_str(), asked.header("x-line-retry-key")) {
                (Some(to), Some(key)) if key.len() == 36 && key.split('-').count() == 5 => {
                    Judged::Send(Message { to: to.to_owned(), text, key: Some(key.to_owned()) })
                }
                _ => Judged::Wrong("a push without receiver or retry key".to_owned()),
            },
            other => Judged::Wrong(format!("path {other}")),
        }
    }

    fn taken(&self, nth: usize, _: &Message) -> (u16, Value) {
        (200, json!({ "sentMessages": [{ "id": format!("46123096684206{nth}") }] }))
    }

    fn taken_before(&self, nth: usize, _: &Message) -> (u16, Value) {
        let sent = json!([{ "id": format!("46123096684206{nth}") }]);
        (409, json!({ "message": "The retry key is already accepted", "sentMessages": sent }))
    }

    fn busy(&self, _: u32) -> (u16, Option<u32>, Value) {
        (429, None, json!({ "message": "The API rate limit has been exceeded. Try again later." }))
    }
}

/// Slack's Web API.
pub struct SlackApi {
    /// The bot's token.
    pub token: &'static str,
}

impl Provider for SlackApi {
    fn judge(&self, asked: &Asked) -> Judged {
        let json = |body: Value| Judged::Answer(200, "application/json", body.to_string().into_bytes());
        if asked.header("authorization") != Some(format!("Bearer {}", self.token).as_str()) {
            return Judged::Wrong("authorization".to_owned());
        }
        if asked.path.starts_with("/files-pri/") {
            return Judged::Answer(200, "application/pdf", b"%PDF the bill".to_vec());
        }
        let body = asked.json();
        match asked.path.as_str() {
            "/api/auth.test" => json(json!({ "ok": true, "user_id": "UB0T" })),
            "/api/users.info" => {
                json(json!({ "ok": true, "user": { "name": "ann", "profile": { "real_name": "Ann" } } }))
            }
            "/api/chat.postMessage" => {
                let (channel, text) =
                    (body["channel"].as_str().unwrap_or_default(), body["text"].as_str().unwrap_or_default());
                if channel == "CARCHIVED" {
                    return json(json!({ "ok": false, "error": "is_archived" }));
                }
                if channel.is_empty() || text.is_empty() || text.chars().count() > 40_000 || body["mrkdwn"] != false {
                    return Judged::Wrong(format!("{body}"));
                }
                let to = format!("{channel}/{}", body["thread_ts"].as_str().unwrap_or_default());
                Judged::Send(Message { to, text: text.to_owned(), key: None })
            }
            other => Judged::Wrong(format!("path {other}")),
        }
    }

    fn taken(&self, nth: usize, message: &Message) -> (u16, Value) {
        let channel = message.to.split('/').next().unwrap_or_default();
        (200, json!({ "ok": true, "channel": channel, "ts": format!("1764000100.{nth:06}") }))
    }

    fn busy(&self, seconds: u32) -> (u16, Option<u32>, Value) {
        (429, Some(seconds), json!({ "ok": false, "error": "ratelimited" }))
    }
}
