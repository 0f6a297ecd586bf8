//! The providers' APIs for texts, and what they tell us: signed as they sign, and as strict as they are.

use std::sync::{Arc, Mutex, PoisonError};

use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, sign};
use serde_json::{Value, json};

use crate::phone::{ACCOUNT, BASE, OURS, TOKEN, encode, exchange, form, try_exchange};
use crate::phone_vonage::{API_KEY, OURS_BARE, SIGNATURE_SECRET};
use crate::standin::{Asked, Judged, Message, Provider, Standin};

/// The secret of Vonage's account.
pub const API_SECRET: &str = "the secret of the account";
/// Whoever has this number told Twilio to be left alone.
pub const STOPPED: &str = "+4930999999";
/// The bytes of every medium.
pub const MEDIUM: &[u8] = b"the bytes of a picture";

/// Where each text's fate is to be told, and by what reference, in the order of the texts asked for.
type Marks = Arc<Mutex<Vec<String>>>;

fn basic(asked: &Asked, user: &str, secret: &str) -> bool {
    let expected = adapter::verify::encode(Encoding::Base64, format!("{user}:{secret}").as_bytes());
    asked.header("authorization") == Some(format!("Basic {expected}").as_str())
}

fn answer(status: u16, body: &Value) -> Judged {
    Judged::Answer(status, "application/json", body.to_string().into_bytes())
}

fn is_number(text: &str) -> bool {
    (8..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn note(marks: &Marks, mark: &str) {
    marks.lock().unwrap_or_else(PoisonError::into_inner).push(mark.to_owned());
}

// === Twilio ===

struct TwilioTexts {
    marks: Marks,
}

impl Provider for TwilioTexts {
    fn judge(&self, asked: &Asked) -> Judged {
        if !basic(asked, ACCOUNT, TOKEN) {
            return Judged::Wrong(format!("{} without the account's authorization", asked.path));
        }
        let account = format!("/2010-04-01/Accounts/{ACCOUNT}");
        let path = asked.path.strip_prefix(&account).unwrap_or_default();
        match (asked.method.as_str(), path) {
            ("GET", ".json") => return answer(200, &json!({ "sid": ACCOUNT, "status": "active" })),
            ("GET", path) if path.starts_with("/Messages/MM") && path.contains("/Media/ME") => {
                return Judged::Answer(200, "image/jpeg", MEDIUM.to_vec());
            }
            ("POST", "/Messages.json") => {}
            (method, _) => return Judged::Wrong(format!("{method} {}", asked.path)),
        }
        let fields = form(&asked.body);
        let allowed = ["To", "From", "Body", "MediaUrl", "StatusCallback"];
        if let Some((unknown, _)) = fields.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            return Judged::Wrong(format!("field {unknown}"));
        }
        let field = |name: &str| {
            fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let (to, text, callback) = (field("To"), field("Body"), field("StatusCallback"));
        if !to.strip_prefix('+').is_some_and(is_number) || field("From") != OURS {
            return Judged::Wrong(format!("from {} to {to}", field("From")));
        }
        if (text.is_empty() && field("MediaUrl").is_empty()) || units(text) > 1600 {
            return Judged::Wrong(format!("a text of {} units", units(text)));
        }
        if !callback.starts_with(&format!("{BASE}/hook/phone/")) {
            return Judged::Wrong(format!("a callback to {callback}"));
        }
        if to == STOPPED {
            let body = json!({ "code": 21610, "message": "Attempt to send to unsubscribed recipient", "status": 400 });
            return answer(400, &body);
        }
        note(&self.marks, callback);
        Judged::Send(Message { to: to.to_owned(), text: text.to_owned(), key: None })
    }

    fn taken(&self, nth: usize, _: &Message) -> (u16, Value) {
        (201, json!({ "sid": sid(nth), "status": "queued", "error_code": null }))
    }

    fn busy(&self, seconds: u32) -> (u16, Option<u32>, Value) {
        (429, Some(seconds), json!({ "code": 20429, "message": "Too Many Requests", "status": 429 }))
    }
}

/// The id of the `nth` text that Twilio took, from 1.
pub fn sid(nth: usize) -> String {
    format!("SM{nth:032x}")
}

/// Twilio, with its customers.
pub struct TwilioSms {
    /// Its API.
    pub api: Standin,
    marks: Marks,
    /// The port of our webhooks.
    pub port: u16,
}

impl TwilioSms {
    /// Begins to listen; our webhooks will be at `port`.
    pub async fn start(port: u16) -> Self {
        let marks = Marks::default();
        let api = Standin::start(TwilioTexts { marks: Arc::clone(&marks) }).await;
        Self { api, marks, port }
    }

    /// Tells something at an address of ours, signed; the status.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn post(&self, url: &str, fields: &[(&str, &str)]) -> u16 {
        self.try_post(url, fields).await.expect("an answer")
    }

    async fn try_post(&self, url: &str, fields: &[(&str, &str)]) -> Option<u16> {
        let mut fields: Vec<(&str, &str)> = fields.to_vec();
        fields.extend([("AccountSid", ACCOUNT), ("ApiVersion", "2010-04-01")]);
        let mut sorted = fields.clone();
        sorted.sort_unstable();
        let text: String = sorted.iter().flat_map(|(name, value)| [*name, *value]).collect();
        let said = format!("{url}{text}");
        let signature = sign(Algorithm::Sha1, &SecretString::new(TOKEN), &[said.as_bytes()], Encoding::Base64);
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let head = format!("x-twilio-signature: {signature}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
        try_exchange(self.port, "POST", url, &head, &body.join("&")).await.map(|(status, _)| status)
    }

    /// A customer sends a text.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn text(&self, id: &str, from: &str, body: &str, more: &[(&str, &str)]) -> u16 {
        self.try_text(id, from, body, more).await.expect("an answer")
    }

    /// The same, where nobody may be there.
    pub async fn try_text(&self, id: &str, from: &str, body: &str, more: &[(&str, &str)]) -> Option<u16> {
        let mut fields = vec![("MessageSid", id), ("SmsSid", id), ("SmsStatus", "received"), ("NumSegments", "1")];
        fields.extend([("From", from), ("To", OURS), ("Body", body)]);
        fields.extend_from_slice(more);
        if !more.iter().any(|(name, _)| *name == "NumMedia") {
            fields.push(("NumMedia", "0"));
        }
        self.try_post(&format!("{BASE}/hook/phone/berlin/sms"), &fields).await
    }

    /// Tells what became of the `nth` text that was asked for, from 0, under an id.
    pub async fn became(&self, nth: usize, id: &str, to: &str, status: &str, more: &[(&str, &str)]) -> u16 {
        let url = self.marks.lock().unwrap_or_else(PoisonError::into_inner)[nth].clone();
        let mut fields = vec![("MessageSid", id), ("SmsSid", id), ("MessageStatus", status), ("SmsStatus", status)];
        fields.extend([("From", OURS), ("To", to)]);
        fields.extend_from_slice(more);
        self.post(&url, &fields).await
    }
}

// === Vonage ===

struct VonageTexts {
    marks: Marks,
}

impl Provider for VonageTexts {
    fn judge(&self, asked: &Asked) -> Judged {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/account/get-balance") if basic(asked, API_KEY, API_SECRET) => {
                return answer(200, &json!({ "value": 10.28, "autoReload": false }));
            }
            ("POST", "/sms/json") => {}
            (method, path) => return Judged::Wrong(format!("{method} {path}")),
        }
        let fields = form(&asked.body);
        let allowed =
            ["api_key", "api_secret", "from", "to", "type", "text", "client-ref", "status-report-req", "callback"];
        if let Some((unknown, _)) = fields.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            return Judged::Wrong(format!("field {unknown}"));
        }
        let field = |name: &str| {
            fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let (to, text, reference) = (field("to"), field("text"), field("client-ref"));
        if field("api_key") != API_KEY || field("api_secret") != API_SECRET {
            return Judged::Wrong("a text without the account's credentials".to_owned());
        }
        if !is_number(to) || field("from") != OURS_BARE {
            return Judged::Wrong(format!("from {} to {to}", field("from")));
        }
        let right = field("type") == if text.is_ascii() { "text" } else { "unicode" };
        if text.is_empty() || units(text) > 1600 || !right {
            return Judged::Wrong(format!("a text of {} units as {}", units(text), field("type")));
        }
        if reference.is_empty()
            || reference.len() > 100
            || field("callback") != format!("{BASE}/hook/phone/vienna/sms/status")
        {
            return Judged::Wrong(format!("reference {reference}, callback {}", field("callback")));
        }
        note(&self.marks, reference);
        Judged::Send(Message { to: to.to_owned(), text: text.to_owned(), key: None })
    }

    fn taken(&self, nth: usize, message: &Message) -> (u16, Value) {
        let part = json!({ "to": message.to, "message-id": message_id(nth), "status": "0", "remaining-balance": "10.2",
            "message-price": "0.03330000", "network": "26201" });
        (200, json!({ "message-count": "1", "messages": [part] }))
    }

    fn busy(&self, seconds: u32) -> (u16, Option<u32>, Value) {
        let hint = format!("Throughput Rate Exceeded - please wait [ {} ] and retry", seconds * 1000);
        (200, None, json!({ "message-count": "1", "messages": [{ "status": "1", "error-text": hint }] }))
    }
}

/// The id of the `nth` text that Vonage took, from 1.
pub fn message_id(nth: usize) -> String {
    format!("0A{nth:014X}")
}

/// Vonage, with its customers.
pub struct VonageSms {
    /// Its API.
    pub api: Standin,
    marks: Marks,
    /// The port of our webhooks.
    pub port: u16,
}

impl VonageSms {
    /// Begins to listen; our webhooks will be at `port`.
    pub async fn start(port: u16) -> Self {
        let marks = Marks::default();
        let api = Standin::start(VonageTexts { marks: Arc::clone(&marks) }).await;
        Self { api, marks, port }
    }

    /// The reference of the `nth` text that was asked for, from 0.
    pub fn reference(&self, nth: usize) -> String {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)[nth].clone()
    }

    /// Tells something at an address of ours, with `sig`; the status.
    ///
    /// # Panics
    /// When it is no object of texts.
    pub async fn post(&self, what: &str, mut event: Value) -> u16 {
        event["api-key"] = API_KEY.into();
        event["timestamp"] = (runtime::clock::now() / 1000).to_string().into();
        event["nonce"] = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab".into();
        let fields = event.as_object().expect("an object");
        let mut pairs: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("a text"))).collect();
        pairs.sort_unstable();
        let text: String =
            pairs.iter().map(|(name, value)| format!("&{name}={}", value.replace(['&', '='], "_"))).collect();
        let secret = SecretString::new(SIGNATURE_SECRET);
        event["sig"] = sign(Algorithm::Sha256, &secret, &[text.as_bytes()], Encoding::Hex).into();
        let url = format!("{BASE}/hook/phone/vienna/{what}");
        exchange(self.port, "POST", &url, "content-type: application/json\r\n", &event.to_string()).await.0
    }

    /// A customer sends a text, or a part of one: its number, and how many there are.
    pub async fn text(&self, id: &str, from: &str, text: &str, part: Option<(&str, u32, u32)>) -> u16 {
        let mut event = json!({ "msisdn": from, "to": OURS_BARE, "messageId": id, "text": text, "type": "text",
            "keyword": "X", "message-timestamp": "2025-11-25 09:00:00" });
        if let Some((reference, number, total)) = part {
            event["concat"] = "true".into();
            event["concat-ref"] = reference.into();
            event["concat-part"] = number.to_string().into();
            event["concat-total"] = total.to_string().into();
        }
        self.post("sms", event).await
    }

    /// Tells what became of a text.
    pub async fn became(&self, reference: &str, id: &str, to: &str, status: &str) -> u16 {
        let event = json!({ "msisdn": to, "to": OURS_BARE, "network-code": "26201", "messageId": id, "price": "0.0333",
            "status": status, "scts": "2511250900", "err-code": "0", "client-ref": reference,
            "message-timestamp": "2025-11-25 09:00:01" });
        self.post("sms/status", event).await
    }
}
