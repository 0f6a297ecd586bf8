//! Meta's Graph API on loopback: it checks who asks, the shape and the limits as strictly as the real one, and fails in
//! the ways that the real one does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The access token that it wants.
pub const ACCESS_TOKEN: &str = "EAAG-the-token-of-the-system-user";
/// The secret of the app whose events are signed.
pub const APP_SECRET: &str = "b0a1c2d3e4f5061728394a5b6c7d8e9f";
/// What the console shows at the handshake.
pub const VERIFY_TOKEN: &str = "what-the-console-shows";
/// The app's id.
pub const APP: &str = "1517776481860111";
/// The number's id.
pub const NUMBER: &str = "106540352242922";
/// The page's id.
pub const PAGE: &str = "106195825075770";
/// The bytes of every file.
pub const FILE: &[u8] = b"\x89PNG a picture of a lamp";

/// How the next message is met; when nothing is said, it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Too many: come again in so many seconds.
    Busy(u64),
    /// Nobody is at home.
    Down,
    /// It is too late for a free answer.
    Late,
    /// It reads everything, takes nothing, and says nothing.
    Hang,
    /// It takes the message and cuts the connection before it has said so.
    TakeAndCut,
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Whom it went to.
    pub to: String,
    /// The text, or what stands for a file.
    pub said: String,
    /// The id that it was given.
    pub id: String,
    /// The whole.
    pub message: Value,
}

/// The stand-in.
pub struct Graph {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    port: u16,
    tempers: VecDeque<Temper>,
    asked: usize,
    taken: Vec<Taken>,
    wrong: Vec<String>,
}

impl Graph {
    /// Starts it.
    ///
    /// # Panics
    /// Without a port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State { port, ..State::default() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the next messages are met, one after the other.
    pub fn next(&self, tempers: impl IntoIterator<Item = Temper>) {
        self.state().tempers.extend(tempers);
    }

    /// What was taken.
    ///
    /// # Panics
    /// When something was not as the API wants it.
    pub fn taken(&self) -> Vec<Taken> {
        let state = self.state();
        assert!(state.wrong.is_empty(), "{:?}", state.wrong);
        state.taken.clone()
    }

    /// How many messages were offered, taken or not.
    pub fn asked(&self) -> usize {
        self.state().asked
    }

    /// The tables that every account of the app has.
    fn common(&self) -> String {
        format!(
            "[settings.app]\nid = \"{APP}\"\nsecret = [{{ env = \"META_SECRET\" }}]\n\
             verify_token = [{{ env = \"META_VERIFY\" }}]\n[settings.graph]\n\
             access_token = {{ env = \"META_TOKEN\" }}\napi_base = \"http://127.0.0.1:{}\"\n\
             [settings.http]\ntimeout_ms = 3000\n",
            self.port
        )
    }

    /// The file of a WhatsApp account.
    #[must_use]
    pub fn whatsapp(&self) -> String {
        let common = self.common();
        format!(
            "kind = \"social\"\naccount = \"wa\"\nprovider = \"whatsapp\"\n[settings]\nphone_number_id = \"{NUMBER}\"\n\
             pair_interval_ms = 10\n{common}"
        )
    }

    /// The file of a page's account.
    #[must_use]
    pub fn messenger(&self) -> String {
        let common = self.common();
        format!(
            "kind = \"social\"\naccount = \"page\"\nprovider = \"messenger\"\n[settings]\nid = \"{PAGE}\"\n\
             human_agent = true\n{common}"
        )
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Some((head, body)) = read(&mut stream).await {
        let (temper, answer) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer(&head, &body)
        };
        match temper {
            Some(Temper::TakeAndCut) => return,
            Some(Temper::Hang) => {
                // Until whoever asked has given up.
                let _ = stream.read_u8().await;
                return;
            }
            _ => {}
        }
        let (status, more, bytes) = answer;
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n",
            bytes.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
    let mut body = bytes.split_off(head_ends + 4);
    let length: usize = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

type Answer = (u16, String, Vec<u8>);

fn json_answer(status: u16, body: &Value) -> Answer {
    (status, String::new(), body.to_string().into_bytes())
}

fn error(status: u16, code: u64, subcode: u64) -> Answer {
    let error = json!({ "message": "(#x) said so", "type": "OAuthException", "code": code, "error_subcode": subcode,
        "fbtrace_id": "A1" });
    json_answer(status, &json!({ "error": error }))
}

impl State {
    fn answer(&mut self, head: &str, body: &[u8]) -> (Option<Temper>, Answer) {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        if header(head, "authorization") != Some(format!("Bearer {ACCESS_TOKEN}").as_str()) {
            self.wrong.push(format!("authorization at {path}"));
            return (None, error(401, 190, 0));
        }
        if let Some(id) = path.strip_prefix("/lookaside/") {
            assert!(!id.is_empty());
            return (None, (200, String::new(), FILE.to_vec()));
        }
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        match (method, &steps[..]) {
            ("POST", ["v25.0", id, "messages"]) => self.message(id, head, body),
            ("POST", ["v25.0", NUMBER, "media"]) | ("POST", ["v25.0", PAGE, "message_attachments"]) => {
                if !header(head, "content-type").is_some_and(|mime| mime.starts_with("multipart/form-data; boundary="))
                {
                    self.wrong.push("an upload that is no form".to_owned());
                }
                (None, json_answer(200, &json!({ "id": "901", "attachment_id": "901" })))
            }
            ("GET", ["v25.0", id]) if [NUMBER, PAGE].contains(id) => (None, json_answer(200, &json!({ "id": id }))),
            ("GET", ["v25.0", id]) => {
                let url = format!("http://127.0.0.1:{}/lookaside/{id}", self.port);
                (None, json_answer(200, &json!({ "url": url, "mime_type": "image/png", "id": id })))
            }
            _ => {
                self.wrong.push(format!("asked for {line}"));
                (None, error(404, 100, 0))
            }
        }
    }

    fn message(&mut self, id: &str, head: &str, body: &[u8]) -> (Option<Temper>, Answer) {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let found = if id == NUMBER { whatsapp(&message) } else { page(&message) };
        let mime = header(head, "content-type").unwrap_or_default();
        let (to, said) = match found {
            Ok(found) if mime.starts_with("application/json") => found,
            Ok(_) => {
                self.wrong.push(format!("content type {mime}"));
                return (None, error(400, 100, 0));
            }
            Err(why) => {
                self.wrong.push(format!("{why}: {message}"));
                return (None, error(400, 100, 0));
            }
        };
        self.asked += 1;
        let temper = self.tempers.pop_front();
        let answer = match temper {
            Some(Temper::Busy(seconds)) => {
                let (status, _, bytes) = error(429, 130_429, 0);
                (status, format!("retry-after: {seconds}\r\n"), bytes)
            }
            Some(Temper::Down) => json_answer(503, &json!({})),
            Some(Temper::Late) if message["tag"] != "HUMAN_AGENT" => error(400, 10, 2_018_278),
            Some(Temper::Hang) => json_answer(500, &json!({})),
            Some(Temper::TakeAndCut | Temper::Late) | None => {
                let id = format!("{}{}", if id == NUMBER { "wamid.S" } else { "m_S" }, self.taken.len());
                self.taken.push(Taken { to: to.clone(), said, id: id.clone(), message });
                let answer = json!({ "messaging_product": "whatsapp", "messages": [{ "id": id }],
                    "recipient_id": to, "message_id": id });
                json_answer(200, &answer)
            }
        };
        (temper, answer)
    }
}

/// Checks a message of WhatsApp: whom it goes to, and what it says.
fn whatsapp(message: &Value) -> Result<(String, String), &'static str> {
    if message["messaging_product"] != "whatsapp" {
        return Err("messaging_product");
    }
    let to = match (message["to"].as_str(), message["recipient"].as_str(), message["recipient_type"].as_str()) {
        (Some(to), None, Some("individual")) if to.bytes().all(|byte| byte.is_ascii_digit()) => to,
        (Some(to), None, Some("group")) => to,
        (None, Some(to), Some("individual")) if to.get(2..3) == Some(".") => to,
        _ => return Err("to and recipient"),
    };
    if message["biz_opaque_callback_data"].as_str().is_some_and(|data| data.len() > 512) {
        return Err("biz_opaque_callback_data");
    }
    let said = match message["type"].as_str() {
        Some("text") => message["text"]["body"].as_str().filter(|text| (1..=4096).contains(&text.chars().count())),
        Some(kind @ ("image" | "document")) => message[kind]["id"].as_str(),
        _ => None,
    };
    Ok((to.to_owned(), said.ok_or("type, or what stands under it")?.to_owned()))
}

/// Checks a message of a page.
fn page(message: &Value) -> Result<(String, String), &'static str> {
    let to = message["recipient"]["id"].as_str().ok_or("recipient")?;
    match (message["messaging_type"].as_str(), message["tag"].as_str()) {
        (Some("RESPONSE"), None) | (Some("MESSAGE_TAG"), Some("HUMAN_AGENT")) => {}
        _ => return Err("messaging_type and tag"),
    }
    let said = match (&message["message"]["text"], &message["message"]["attachment"]) {
        (Value::String(text), Value::Null) if (1..=2000).contains(&text.chars().count()) => text.as_str(),
        (Value::Null, Value::Object(of)) => of["payload"]["attachment_id"].as_str().ok_or("attachment")?,
        _ => return Err("one text or one attachment"),
    };
    Ok((to.to_owned(), said.to_owned()))
}
