//! A vendor whose webhooks are signed and who is answered over an API: an account of the channel for whoever has none of
//! its own.

use std::time::Duration;

use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, sign};
use serde_json::{Value, json};

use crate::daemon::Builder;
use crate::http;
use crate::standin::{Asked, Judged, Message, Provider, Standin};

/// What the vendor signs by.
pub const SECRET: &str = "the secret that the vendor signs by";
/// What the vendor knows us by.
pub const TOKEN: &str = "the token that the vendor knows us by";

/// Longer than a request may take.
const WITHIN: Duration = Duration::from_secs(30);

/// The vendor.
pub struct Vendor {
    /// Where it is answered.
    pub api: Standin,
    hook: u16,
}

impl Vendor {
    /// Begins to listen; `hook` is the port of our webhooks.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(hook: u16) -> Self {
        Self { api: Standin::start(Api).await, hook }
    }

    /// Gives a daemon its account.
    #[must_use]
    pub fn join(&self, builder: Builder) -> Builder {
        builder
            .account("webhook-acme", &self.account())
            .env("ACME_SECRET", SECRET)
            .env("ACME_TOKEN", TOKEN)
            .set("webhook.listen", format!("\"127.0.0.1:{}\"", self.hook))
    }

    fn account(&self) -> String {
        format!(
            r#"
kind = "webhook"
account = "acme"
provider = "acme"
[settings]
items = "/events"
[[settings.verify]]
scheme = "hmac"
header = "X-Acme-Signature"
field = "v1"
timestamp_field = "t"
signed = "{{timestamp}}.{{body}}"
secrets = {{ env = "ACME_SECRET" }}
[[settings.event]]
when = "item.type == 'message'"
dedup_key = "/id"
external_id = "/id"
thread = "/chat"
text = "/text"
sender = {{ identity = {{ scheme = "acme", value = "/from" }}, display = "/name" }}
[settings.send]
secrets = {{ token = {{ env = "ACME_TOKEN" }} }}
url = "http://127.0.0.1:{}/chats/{{to}}/messages"
headers = {{ Authorization = "Bearer {{secret:token}}", "Idempotency-Key" = "= key" }}
json = {{ text = "= text" }}
timeout_ms = 3000
[settings.send.result]
success = "status == 201"
id = "/id"
"#,
            self.api.port
        )
    }

    /// Somebody says something in a chat. Returns what the vendor was answered.
    ///
    /// # Errors
    /// When it was answered nothing.
    pub async fn says(&self, id: &str, chat: &str, name: &str, text: &str) -> Result<http::Response, String> {
        self.posts(json!({ "type": "message", "id": id, "chat": chat, "from": chat, "name": name, "text": text })).await
    }

    /// Posts an event, whatever it is, and signs it.
    ///
    /// # Errors
    /// When it was answered nothing.
    pub async fn posts(&self, event: Value) -> Result<http::Response, String> {
        let body = json!({ "events": [event] }).to_string();
        let seconds = (runtime::clock::now() / 1000).to_string();
        let signed = [seconds.as_bytes(), b".", body.as_bytes()];
        let signature = sign(Algorithm::Sha256, &SecretString::new(SECRET), &signed, Encoding::Hex);
        let head = format!("X-Acme-Signature: t={seconds},v1={signature}\r\n");
        http::post(&format!("127.0.0.1:{}", self.hook), "/hook/webhook/acme", &head, &body, WITHIN).await
    }
}

/// Its API.
struct Api;

impl Provider for Api {
    fn judge(&self, asked: &Asked) -> Judged {
        let chat = asked.path.strip_prefix("/chats/").and_then(|rest| rest.strip_suffix("/messages"));
        let (Some(chat), "POST") = (chat, asked.method.as_str()) else {
            return Judged::Wrong(format!("{} {}", asked.method, asked.path));
        };
        if asked.header("authorization") != Some(format!("Bearer {TOKEN}").as_str()) {
            return Judged::Wrong("authorization".to_owned());
        }
        let key = asked.header("idempotency-key").map(str::to_owned);
        match asked.json()["text"].as_str() {
            Some(text) if !text.is_empty() => Judged::Send(Message { to: chat.to_owned(), text: text.to_owned(), key }),
            _ => Judged::Wrong("a message without a text".to_owned()),
        }
    }

    fn taken(&self, nth: usize, _: &Message) -> (u16, Value) {
        (201, json!({ "id": format!("sent-{nth}") }))
    }

    fn busy(&self, seconds: u32) -> (u16, Option<u32>, Value) {
        (429, Some(seconds), json!({}))
    }
}
