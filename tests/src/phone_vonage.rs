//! Vonage's voice API and what it tells us: signed as it signs, and as strict as it is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sha2::Digest;

use crate::phone::{BASE, LONG, Order, RECORDING, exchange};
use crate::standin::{Asked, Judged, Message, Provider, Standin};
use crate::until;

/// The application that the number is linked to.
pub const APPLICATION: &str = "78d335fa-323d-0114-9c3d-d6f0d48968cf";
/// The key of the account that signs.
pub const API_KEY: &str = "abcd1234";
/// The secret that webhooks are signed with.
pub const SIGNATURE_SECRET: &str = "a signature secret that is long enough for anybody";
/// Our number, as Vonage writes it.
pub const OURS_BARE: &str = "4930900100";
/// What was said, as Vonage keeps it.
const TRANSCRIPT: &str =
    r#"{"ver":"1.0.0","channels":[{"transcript":[{"sentence":"Please"},{"sentence":"call me."}]}]}"#;

type Orders = Arc<Mutex<Vec<Order>>>;

struct Api {
    orders: Orders,
    key: DecodingKey,
}

impl Api {
    /// Whether a token is the application's, for now, and signed with its private key.
    fn knows(&self, asked: &Asked) -> bool {
        let token = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let mut rules = Validation::new(Algorithm::RS256);
        rules.set_required_spec_claims(&["exp"]);
        let claims = token.and_then(|token| jsonwebtoken::decode::<Value>(token, &self.key, &rules).ok());
        claims.is_some_and(|found| {
            found.claims["application_id"] == APPLICATION
                && found.claims["iat"].is_u64()
                && found.claims["jti"].is_string()
        })
    }
}

impl Provider for Api {
    fn judge(&self, asked: &Asked) -> Judged {
        if !self.knows(asked) {
            return Judged::Wrong(format!("{} without the application's token", asked.path));
        }
        let body = asked.json();
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", path) if path.starts_with("/v1/files/transcript") => {
                return Judged::Answer(200, "application/json", TRANSCRIPT.as_bytes().to_vec());
            }
            ("GET", path) if path.starts_with("/v1/files/") => {
                return Judged::Answer(200, "audio/mpeg", RECORDING.to_vec());
            }
            _ => {}
        }
        let ncco = match (asked.method.as_str(), body["action"].as_str()) {
            ("PUT", Some("transfer")) if body["destination"]["type"] == "ncco" => body["destination"]["ncco"].clone(),
            ("PUT", Some("hangup")) => json!([{ "action": "talk", "text": "" }]),
            ("POST", None) if asked.path == "/v1/calls" && body["from"]["number"] == OURS_BARE => body["ncco"].clone(),
            (method, action) => return Judged::Wrong(format!("{method} {} {action:?}", asked.path)),
        };
        if let Some(wrong) = wrong_with(&ncco) {
            return Judged::Wrong(format!("{}: {wrong}", asked.path));
        }
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(Order { what: format!("{} {}", asked.method, asked.path), body });
        if asked.method == "PUT" {
            return Judged::Answer(204, "application/json", Vec::new());
        }
        let uuid = format!("bbbbbbbb-0000-cccc-dddd-{:012}", orders.len());
        let said = json!({ "uuid": uuid, "status": "started", "direction": "outbound", "conversation_uuid": "CON-b" });
        Judged::Answer(201, "application/json", said.to_string().into_bytes())
    }

    fn taken(&self, _: usize, _: &Message) -> (u16, Value) {
        (200, json!({}))
    }

    fn busy(&self, _: u32) -> (u16, Option<u32>, Value) {
        (429, None, json!({}))
    }
}

/// What the reference of call control objects forbids.
fn wrong_with(ncco: &Value) -> Option<String> {
    let actions = ncco.as_array()?;
    let mut barge = false;
    for action in actions {
        let fields: Vec<&str> = action.as_object()?.keys().map(String::as_str).collect();
        let allowed: &[&str] = match action["action"].as_str()? {
            "talk" => &["action", "text", "language", "bargeIn"],
            "stream" => &["action", "streamUrl", "bargeIn"],
            "input" => &["action", "type", "dtmf", "eventUrl", "eventMethod"],
            "record" => &[
                "action",
                "format",
                "split",
                "channels",
                "endOnSilence",
                "endOnKey",
                "timeOut",
                "beepStart",
                "eventUrl",
                "eventMethod",
                "transcription",
            ],
            "connect" => &["action", "endpoint", "from", "timeout", "eventUrl", "eventMethod"],
            "notify" => &["action", "payload", "eventUrl", "eventMethod"],
            other => return Some(format!("action {other}")),
        };
        if let Some(unknown) = fields.iter().find(|field| !allowed.contains(field)) {
            return Some(format!("{} of {}", unknown, action["action"]));
        }
        // Whoever may interrupt must be listened to next.
        match action["action"].as_str()? {
            "input" => barge = false,
            "talk" | "stream" => barge |= action["bargeIn"] == true,
            other if barge => return Some(format!("{other} after what can be interrupted")),
            _ => {}
        }
    }
    barge.then(|| "nothing listens to who interrupts".to_owned())
}

/// Vonage, with its API and its callers.
pub struct Vonage {
    /// Its API.
    pub api: Standin,
    orders: Orders,
    /// The port of our webhooks.
    pub port: u16,
    /// The application's private key, in PEM.
    pub private_key: String,
    folder: PathBuf,
}

impl Vonage {
    /// Begins to listen; our webhooks will be at `port`.
    ///
    /// # Panics
    /// When no key can be made.
    pub async fn start(port: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("throughline-vonage-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let openssl = |arguments: &[&str]| {
            let done = Command::new("openssl").args(arguments).current_dir(&folder).output().expect("openssl");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]);
        openssl(&["rsa", "-in", "key.pem", "-RSAPublicKey_out", "-outform", "DER", "-out", "public.der"]);
        let private_key = std::fs::read_to_string(folder.join("key.pem")).expect("the key");
        let key = DecodingKey::from_rsa_der(&std::fs::read(folder.join("public.der")).expect("the key"));
        let orders = Orders::default();
        let api = Standin::start(Api { orders: Arc::clone(&orders), key }).await;
        Self { api, orders, port, private_key, folder }
    }

    /// Tells or asks something, signed; the status and the call control object, null where there is none.
    ///
    /// # Panics
    /// When the answer is neither.
    pub async fn post(&self, url: &str, event: &Value) -> (u16, Value) {
        let body = event.to_string();
        let head = format!("authorization: Bearer {}\r\ncontent-type: application/json\r\n", token(&body));
        let (status, body) = exchange(self.port, "POST", url, &head, &body).await;
        let ncco = if body.is_empty() { Value::Null } else { serde_json::from_str(&body).expect("JSON") };
        assert_eq!(wrong_with(&ncco), None, "{ncco:#}");
        (status, ncco)
    }

    /// An address of the console.
    pub fn console(&self, what: &str) -> String {
        format!("{BASE}/hook/phone/vienna/voice/{what}")
    }

    /// Waits for a request of ours.
    pub async fn ordered(&self, what: &str, after: usize) -> Order {
        until(LONG, what, async || {
            let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders.iter().filter(|order| order.what == what).nth(after).cloned()
        })
        .await
    }

    /// Every request of ours so far.
    pub fn orders(&self) -> Vec<Order> {
        assert!(self.api.taken().is_empty());
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Vonage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The token of a webhook with this body.
fn token(body: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let hash: String = sha2::Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let claims = json!({
        "iat": runtime::clock::now() / 1000, "jti": format!("jti-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
        "iss": "Vonage", "payload_hash": hash, "api_key": API_KEY, "application_id": APPLICATION,
    });
    let key = EncodingKey::from_secret(SIGNATURE_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("a token")
}
