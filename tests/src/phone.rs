//! Phones: callers and agents whose provider signs what it asks of us, plays what we answer, and is ordered about over its
//! API, which is checked as strictly as the provider does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, sign};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::standin::{Asked, Judged, Message, Provider, Standin};
use crate::until;

/// Twilio's account, and its secret.
pub const ACCOUNT: &str = "AC00000000000000000000000000000001";
/// The secret that Twilio signs with, and takes.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Our number.
pub const OURS: &str = "+4930900100";
/// The base of our addresses, as the provider calls them.
pub const BASE: &str = "https://hooks.example";
/// The bytes of every recording.
pub const RECORDING: &[u8] = b"ID3 what was said";
/// How long anything may take that takes several rounds.
pub const LONG: Duration = Duration::from_secs(60);

/// A request of ours to the provider's API, as a form or JSON, with text values.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Method and path.
    pub what: String,
    /// The body.
    pub body: Value,
}

type Orders = Arc<Mutex<Vec<Order>>>;

fn lock(orders: &Orders) -> std::sync::MutexGuard<'_, Vec<Order>> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Undoes what forms do to a text.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = std::str::from_utf8(&digits).unwrap_or("00");
                bytes.push(u8::from_str_radix(digits, 16).expect("a hexadecimal number"));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("text")
}

/// A text as a value of a form.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// The fields of a form.
pub(crate) fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

// === Twilio ===

/// Twilio's API for calls.
struct TwilioApi {
    orders: Orders,
    /// How the next orders are answered although they were carried out.
    failing: Arc<Mutex<VecDeque<u16>>>,
}

impl Provider for TwilioApi {
    fn judge(&self, asked: &Asked) -> Judged {
        let json = |status: u16, body: Value| Judged::Answer(status, "application/json", body.to_string().into_bytes());
        let expected = adapter::verify::encode(Encoding::Base64, format!("{ACCOUNT}:{TOKEN}").as_bytes());
        if asked.header("authorization") != Some(format!("Basic {expected}").as_str()) {
            return Judged::Wrong(format!("{} without the account's authorization", asked.path));
        }
        let account = format!("/2010-04-01/Accounts/{ACCOUNT}");
        let Some(path) = asked.path.strip_prefix(&account) else {
            return Judged::Wrong(format!("path {}", asked.path));
        };
        match (asked.method.as_str(), path) {
            ("GET", path) if path.starts_with("/Recordings/RE") && path.ends_with(".mp3") => {
                return Judged::Answer(200, "audio/mpeg", RECORDING.to_vec());
            }
            ("GET", "" | ".json") => return json(200, json!({ "sid": ACCOUNT, "status": "active" })),
            _ => {}
        }
        if asked.method != "POST" || !path.starts_with("/Calls") || !path.ends_with(".json") {
            return Judged::Wrong(format!("{} {path}", asked.method));
        }
        let fields = form(&asked.body);
        let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let twiml = field("Twiml").unwrap_or_default();
        let fits = twiml.len() <= 4000 && (twiml.is_empty() || is_xml(twiml));
        let known = |allowed: &[&str]| fields.iter().all(|(name, _)| allowed.contains(&name.as_str()));
        let right = match path {
            "/Calls.json" => {
                let allowed =
                    ["To", "From", "Twiml", "Timeout", "StatusCallback", "StatusCallbackMethod", "StatusCallbackEvent"];
                known(&allowed) && field("To").is_some() && field("From") == Some(OURS) && !twiml.is_empty()
            }
            _ => match field("Status") {
                Some(status) => status == "completed" && fields.len() == 1,
                None => known(&["Twiml"]) && !twiml.is_empty(),
            },
        };
        if !right || !fits {
            return Judged::Wrong(format!("{path} with {:?}", fields.iter().map(|(name, _)| name).collect::<Vec<_>>()));
        }
        let body = fields.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        let what = format!("POST {path}");
        let mut orders = lock(&self.orders);
        orders.push(Order { what, body: Value::Object(body) });
        if let Some(status) = self.failing.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return json(status, json!({}));
        }
        let sid = if path == "/Calls.json" { format!("CA{:032x}", 0xb000 + orders.len()) } else { "CA1".into() };
        json(if path == "/Calls.json" { 201 } else { 200 }, json!({ "sid": sid, "status": "queued" }))
    }

    fn taken(&self, _: usize, _: &Message) -> (u16, Value) {
        (200, json!({}))
    }

    fn busy(&self, _: u32) -> (u16, Option<u32>, Value) {
        (429, None, json!({ "code": 20429 }))
    }
}

/// Whether every element that begins ends, in order.
fn is_xml(text: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").unwrap_or(text);
    while let Some((before, after)) = rest.split_once('<') {
        let Some((tag, after)) = after.split_once('>') else { return false };
        if before.contains('>') {
            return false;
        }
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap_or_default()),
        }
        rest = after;
    }
    open.is_empty() && rest.is_empty()
}

/// A document of ours, as far as the tests need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twiml(pub String);

fn unescape(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    named.iter().fold(text.to_owned(), |text, (name, char)| text.replace(name, char))
}

impl Twiml {
    /// An attribute of the first element of this name.
    pub fn attribute(&self, element: &str, name: &str) -> Option<String> {
        let (_, tag) = self.0.split_once(&format!("<{element} "))?;
        let (tag, _) = tag.split_once('>')?;
        let (_, value) = tag.split_once(&format!("{name}=\""))?;
        value.split_once('"').map(|(value, _)| unescape(value))
    }

    /// The text in the first element of this name.
    pub fn text(&self, element: &str) -> Option<String> {
        let (_, rest) = self.0.split_once(&format!("<{element}"))?;
        let (_, text) = rest.split_once('>')?;
        text.split_once("</").map(|(text, _)| unescape(text))
    }

    /// Everything that is said.
    pub fn said(&self) -> String {
        let parts = self.0.split("<Say ").skip(1).filter_map(|part| part.split_once('>')?.1.split_once('<'));
        parts.map(|(text, _)| unescape(text)).collect::<Vec<_>>().join(" ")
    }
}

/// Twilio, with its API and its callers.
pub struct Twilio {
    /// Its API.
    pub api: Standin,
    orders: Orders,
    failing: Arc<Mutex<VecDeque<u16>>>,
    /// The port of our webhooks.
    pub port: u16,
    /// The name of the account.
    pub account: &'static str,
}

impl Twilio {
    /// Begins to listen; our webhooks will be at `port`.
    pub async fn start(port: u16, account: &'static str) -> Self {
        let (orders, failing) = (Orders::default(), Arc::default());
        let api = Standin::start(TwilioApi { orders: Arc::clone(&orders), failing: Arc::clone(&failing) }).await;
        Self { api, orders, failing, port, account }
    }

    /// The next orders are carried out, and answered like this.
    pub fn answers(&self, statuses: &[u16]) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    /// Tells or asks something at an address of ours, signed; the status and the document.
    pub async fn post(&self, url: &str, fields: &[(&str, &str)]) -> (u16, Twiml) {
        self.post_signed_for(url, url, fields).await
    }

    /// The same, with the signature for another address.
    pub async fn post_signed_for(&self, signed: &str, url: &str, fields: &[(&str, &str)]) -> (u16, Twiml) {
        let mut sorted: Vec<&(&str, &str)> = fields.iter().collect();
        sorted.sort();
        let mut text = signed.to_owned();
        for (name, value) in sorted {
            text += name;
            text += value;
        }
        let signature = sign(Algorithm::Sha1, &SecretString::new(TOKEN), &[text.as_bytes()], Encoding::Base64);
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let head = format!("x-twilio-signature: {signature}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
        let (status, body) = exchange(self.port, "POST", url, &head, &body.join("&")).await;
        (status, Twiml(body))
    }

    /// An address of the console.
    pub fn console(&self, what: &str) -> String {
        format!("{BASE}/hook/phone/{}/voice/{what}", self.account)
    }

    /// Waits for a request of ours whose method and path are these, after the first `after` of them.
    pub async fn ordered(&self, what: &str, after: usize) -> Order {
        until(LONG, what, async || lock(&self.orders).iter().filter(|order| order.what == what).nth(after).cloned())
            .await
    }

    /// Every request of ours so far.
    pub fn orders(&self) -> Vec<Order> {
        // Whatever was wrong is told here.
        assert!(self.api.taken().is_empty());
        lock(&self.orders).clone()
    }
}

/// Sends a request to our webhook, whatever host its address names.
///
/// # Panics
/// When nobody answers.
pub async fn exchange(port: u16, method: &str, url: &str, head: &str, body: &str) -> (u16, String) {
    let answer = try_exchange(port, method, url, head, body).await;
    answer.unwrap_or_else(|| panic!("nobody answers {method} {url}"))
}

/// The same, where nobody may be there.
///
/// # Panics
/// When the address is not ours.
pub async fn try_exchange(port: u16, method: &str, url: &str, head: &str, body: &str) -> Option<(u16, String)> {
    let target = url.strip_prefix(BASE).expect("an address of ours");
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: hooks.example\r\nconnection: close\r\n{head}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await.ok().flatten()
}
