//! Whoever has no channel of its own: an account that is a file, and a vendor that plays its part strictly.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use adapter::runtime::secret::SecretString;
use adapter::verify::{Algorithm, Encoding, sign};
use contract::envelope::ReceiptStatus;
use contract::{ConversationId, Event, MessageId};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use throughline_tests::daemon::{Builder, TENANT, binary, certificates, free_port};
use throughline_tests::{AgentTool, Daemon, PATIENCE, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "the vendor's signing secret";
const TOKEN: &str = "the vendor's access token";

/// How the vendor answers the next request; when nothing is said, it takes it.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Too many: come again in a moment.
    Busy,
    /// It reads everything and says nothing.
    Hang,
    /// It takes the message and cuts the connection before it has said so.
    TakeAndCut,
}

/// A vendor's API on loopback.
struct Vendor {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    manners: VecDeque<Manner>,
    /// What was asked, taken or not: the key and the text.
    asked: Vec<(String, String)>,
    /// What was taken: where to, and the text.
    taken: Vec<(String, String)>,
    /// What was not as the vendor wants it.
    wrong: Vec<String>,
}

impl Vendor {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    fn next(&self, manner: Manner) {
        self.state.lock().unwrap().manners.push_back(manner);
    }

    fn taken(&self) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        assert!(state.wrong.is_empty(), "{:?}", state.wrong);
        state.taken.clone()
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The account's file. `more` stands in `[settings.send]`.
    fn account(&self, more: &str) -> String {
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
{more}
[settings.send.result]
success = "status == 201"
id = "/id"
retry_after = "/retry_after"
"#,
            self.port
        )
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Some((head, body)) = read(&mut stream).await {
        let manner = state.lock().unwrap().manners.pop_front();
        let answer = judge(&head, &body, manner, &state);
        match (answer, manner) {
            (_, Some(Manner::TakeAndCut)) => return,
            (_, Some(Manner::Hang)) => {
                // Until whoever asked has given up.
                let _ = stream.read_u8().await;
                return;
            }
            ((status, body), _) => {
                let text = body.to_string();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
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

/// Checks a request as the vendor's documentation asks for, and takes it.
fn judge(head: &str, body: &[u8], manner: Option<Manner>, state: &Mutex<State>) -> (u16, Value) {
    let mut state = state.lock().unwrap();
    let mut wrong = Vec::new();
    let line = head.lines().next().unwrap_or_default();
    let chat = line.strip_prefix("POST /chats/").and_then(|rest| rest.strip_suffix("/messages HTTP/1.1"));
    if chat.is_none_or(str::is_empty) {
        wrong.push(format!("request line {line}"));
    }
    if header(head, "authorization") != Some(format!("Bearer {TOKEN}").as_str()) {
        wrong.push("authorization".to_owned());
    }
    if header(head, "content-type") != Some("application/json") {
        wrong.push("content type".to_owned());
    }
    let key = header(head, "idempotency-key").unwrap_or_default().to_owned();
    if key.len() != 36 {
        wrong.push(format!("key {key:?}"));
    }
    let text = match serde_json::from_slice::<Value>(body).unwrap_or_default().as_object() {
        Some(map) if map.len() == 1 => map["text"].as_str().map(str::to_owned),
        _ => None,
    };
    let Some(text) = text.filter(|text| !text.is_empty() && text.chars().count() <= 20) else {
        state.wrong.push("body".to_owned());
        return (400, json!({}));
    };
    if !wrong.is_empty() {
        state.wrong.extend(wrong);
        return (400, json!({}));
    }
    state.asked.push((key, text.clone()));
    match manner {
        Some(Manner::Busy) => (429, json!({ "retry_after": 0.2 })),
        Some(Manner::Hang) => (201, json!({})),
        Some(Manner::TakeAndCut) | None => {
            state.taken.push((chat.unwrap_or_default().to_owned(), text));
            (201, json!({ "id": format!("sent-{}", state.taken.len()) }))
        }
    }
}

/// A daemon with that vendor's account; `webhooks` is where it listens.
fn builder(account: &str, webhooks: u16) -> Builder {
    Daemon::builder()
        .without_chat()
        .account("webhook-acme", account)
        .env("ACME_SECRET", SECRET)
        .env("ACME_TOKEN", TOKEN)
        .set("webhook.listen", format!("\"127.0.0.1:{webhooks}\""))
}

fn events(items: Value) -> String {
    json!({ "events": items }).to_string()
}

fn message(id: &str, text: &str) -> Value {
    json!({ "type": "message", "id": id, "chat": "chat/7", "from": "ann-1", "name": "Ann", "text": text })
}

/// Posts a body as it would be signed with a secret; the status and the body of the answer.
async fn post(webhooks: u16, body: &str, secret: &str) -> (u16, String) {
    send(webhooks, "/hook/webhook/acme", &signed(body, secret), body).await
}

/// The header by which a body is believed.
fn signed(body: &str, secret: &str) -> String {
    let seconds = (runtime::clock::now() / 1000).to_string();
    let secret = SecretString::new(secret);
    let signature = sign(Algorithm::Sha256, &secret, &[seconds.as_bytes(), b".", body.as_bytes()], Encoding::Hex);
    format!("x-acme-signature: t={seconds},v1={signature}\r\n")
}

async fn send(webhooks: u16, path: &str, head: &str, body: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", webhooks)).await.expect("the listener");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: hooks.example\r\nconnection: close\r\ncontent-length: {}\r\n{head}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let answer = within(PATIENCE, "an answer", exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

async fn becomes(daemon: &Daemon, message: MessageId, wanted: &ReceiptStatus) {
    until(PATIENCE, &format!("{message} to be {wanted:?}"), async || {
        let events = daemon.events(TENANT).await;
        let mut found = events.iter().filter_map(|record| match &*record.event {
            Event::MessageStatusChanged { messages, status, .. } if messages.contains(&message) => Some(status.clone()),
            _ => None,
        });
        found.any(|status| status == *wanted).then_some(())
    })
    .await;
}

/// Waits until the customer who said this is the agent's.
async fn assigned(agent: &AgentTool, text: &str) -> ConversationId {
    let conversation = agent.hears(text).await;
    agent
        .sees("the conversation", |event| match event {
            Event::ConversationAssigned { conversation: of, .. } if *of == conversation => Some(()),
            _ => None,
        })
        .await;
    conversation
}

async fn received(daemon: &Daemon) -> usize {
    let events = daemon.events(TENANT).await;
    events.iter().filter(|record| matches!(&*record.event, Event::MessageReceived { .. })).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_a_signed_request_becomes_a_conversation_and_the_answer_goes_out_once() {
    let (vendor, webhooks) = (Vendor::start().await, free_port());
    let daemon = builder(&vendor.account("text_max = 20\nidempotent = true"), webhooks).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;

    // Who cannot sign is refused, with nothing in the answer, and leaves nothing.
    let body = events(json!([message("e1", "Where is my parcel?")]));
    assert_eq!(post(webhooks, &body, "another secret").await, (401, String::new()));
    assert_eq!(send(webhooks, "/hook/webhook/acme", "", &body).await, (401, String::new()));
    assert_eq!(send(webhooks, "/hook/webhook/nobody", "", &body).await, (404, String::new()));
    assert_eq!((received(&daemon).await, daemon.dead_letters(TENANT).await.len()), (0, 0));

    assert_eq!(post(webhooks, &body, SECRET).await.0, 200);
    let conversation = assigned(&anna, "Where is my parcel?").await;
    // The vendor is busy at first; of a message that takes two requests each goes once.
    vendor.next(Manner::Busy);
    let said = anna.say(conversation, "It left yesterday, by train.").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    let texts: Vec<_> = vendor.taken().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts.join(" ").split_whitespace().collect::<Vec<_>>().join(" "), "It left yesterday, by train.");
    assert_eq!(texts.len(), 2, "{texts:?}");
    let chats: Vec<_> = vendor.taken().into_iter().map(|(chat, _)| chat).collect();
    assert_eq!(chats, ["chat%2F7", "chat%2F7"], "where it goes is encoded");
    let asked = vendor.asked();
    assert_eq!(asked[0], asked[1], "what was refused comes again under its key");
    assert_ne!(asked[1].0, asked[2].0);

    // The vendor sends everything again, twice in one request, and it changes nothing.
    let again = events(json!([message("e1", "Where is my parcel?"), message("e1", "Where is my parcel?")]));
    assert_eq!(post(webhooks, &again, SECRET).await.0, 200);
    assert_eq!(post(webhooks, &events(json!([message("e2", "Thanks!")])), SECRET).await.0, 200);
    assert_eq!(anna.hears("Thanks!").await, conversation);
    assert_eq!(received(&daemon).await, 2);

    let channels = daemon.cli(&["--json", "channels"]).await.json();
    let account = &channels[0];
    assert_eq!(
        (&account["channel"]["account"]["id"], &account["silent"]),
        (&json!("acme"), &json!(false)),
        "{channels}"
    );
    assert_eq!(account["channel"]["capabilities"]["text_max"], 20);
    let logs = daemon.logs();
    assert!(!logs.contains(SECRET) && !logs.contains(TOKEN), "a secret stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_what_may_have_been_sent_is_never_sent_again() {
    let (vendor, webhooks) = (Vendor::start().await, free_port());
    let daemon = builder(&vendor.account(""), webhooks).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    assert_eq!(post(webhooks, &events(json!([message("e1", "Hello?")])), SECRET).await.0, 200);
    let conversation = assigned(&anna, "Hello?").await;
    for manner in [Manner::Hang, Manner::TakeAndCut] {
        vendor.next(manner);
        let said = anna.say(conversation, &format!("{manner:?}")).await.message.expect("an id");
        becomes(&daemon, said, &ReceiptStatus::Unknown).await;
    }
    let said = anna.say(conversation, "once more").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;
    let texts: Vec<_> = vendor.asked().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["Hang", "TakeAndCut", "once more"]);
    let shown = daemon.cli(&["channels"]).await.ok();
    assert!(shown.contains("webhook/acme") && shown.contains("up"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_what_was_not_understood_is_mended_by_the_file_and_put_back() {
    let (vendor, webhooks) = (Vendor::start().await, free_port());
    let daemon = builder(&vendor.account(""), webhooks).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let novelty =
        json!({ "type": "voice_note", "id": "e9", "chat": "c", "from": "bob", "name": "Bob", "text": "transcribed" });
    assert_eq!(post(webhooks, &events(json!([novelty, message("e1", "and this is known")])), SECRET).await.0, 200);
    anna.hears("and this is known").await;
    let (seq, letter) =
        until(PATIENCE, "a dead letter", async || daemon.dead_letters(TENANT).await.into_iter().next()).await;
    assert_eq!(letter.reason, "no event of the settings fits");
    let listed = daemon.cli(&["dead", "list"]).await.ok();
    assert!(listed.contains("no event of the settings fits"), "{listed}");
    assert!(post(webhooks, "{no json", SECRET).await.0 == 200);

    // The file is mended, tried out on the original, and what it becomes is put back.
    let mended = vendor.account("").replace("item.type == 'message'", "item.type in ['message', 'voice_note']");
    let mended = mended.replace("items = \"/events\"\n", "");
    let file = daemon.folder().join("mended.toml");
    std::fs::write(&file, mended).expect("the file");
    let raw = letter.payload.bytes().expect("the original");
    let (ok, envelope) =
        try_out(&["--config", &file.display().to_string(), "--body-only", "--unverified", "--envelopes"], &raw).await;
    assert!(ok, "{envelope}");
    // What is said beside it, that the signature was not looked at, is for people.
    let envelope = serde_json::Deserializer::from_str(&envelope).into_iter::<serde_json::Value>().next();
    let envelope = envelope.expect("an envelope").expect("JSON").to_string();
    let back = daemon.folder().join("mended.json");
    std::fs::write(&back, envelope).expect("the envelope");
    daemon.cli(&["dead", "replay", &seq.to_string(), "--with", &back.display().to_string()]).await.ok();
    anna.hears("transcribed").await;
}

/// `throughline channel try`: whether all of it would be taken, and what it printed.
async fn try_out(arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = tokio::process::Command::new(binary())
        .args(["channel", "try"])
        .args(arguments)
        .env("ACME_SECRET", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    child.stdin.take().expect("its input").write_all(input).await.expect("written");
    let output = within(PATIENCE, "channel try", child.wait_with_output()).await.expect("an end");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_a_request_is_tried_out_without_a_bus() {
    let folder = throughline_tests::daemon::Folder::new();
    let vendor = Vendor { port: 1, state: Arc::default() };
    let file = folder.path().join("acme.toml");
    std::fs::write(&file, vendor.account("")).expect("the file");
    let file = file.display().to_string();
    let body = events(json!([message("e1", "hi"), { "type": "odd" }]));
    let seconds = "1700000000";
    let signed = [seconds.as_bytes(), b".", body.as_bytes()];
    let signature = sign(Algorithm::Sha256, &SecretString::new(SECRET), &signed, Encoding::Hex);
    let request = format!(
        "POST /hook/webhook/acme HTTP/1.1\nX-Acme-Signature: t={seconds},v1={signature}\nContent-Length: {}\n\n{body}\n",
        body.len()
    );
    let at = ["--config", &file, "--at", "1700000001000"];
    let (ok, shown) = try_out(&at, request.as_bytes()).await;
    assert!(
        !ok && shown.contains("\"dedup_key\": \"e1\"") && shown.contains("no event of the settings fits"),
        "{shown}"
    );
    let (ok, shown) = try_out(&["--config", &file], request.as_bytes()).await;
    assert!(!ok && shown.contains("refused with 401: signed too long ago"), "{shown}");
    let (ok, shown) = try_out(&at, request.replace("hi", "ho").as_bytes()).await;
    assert!(!ok && shown.contains("refused with 401: wrong signature") && !shown.contains(&signature), "{shown}");
    let unverified = ["--config", &file, "--unverified", "--body-only"];
    let (ok, shown) = try_out(&unverified, events(json!([message("e1", "hi")])).as_bytes()).await;
    assert!(ok && shown.contains("NOT VERIFIED"), "{shown}");
    let (ok, shown) = try_out(&["--config", &file], b"{}").await;
    assert!(!ok && shown.contains("no HTTP request"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_keys_and_accounts_change_without_a_restart() {
    let (vendor, webhooks) = (Vendor::start().await, free_port());
    let account =
        vendor.account("").replace("secrets = { env = \"ACME_SECRET\" }", "secrets = { file = \"acme.key\" }");
    let mut daemon = builder(&account, webhooks).prepare();
    let channels = daemon.folder().join("channels");
    let key = |text: &str| {
        let file = channels.join("acme.key");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    key(SECRET);
    daemon.start().await;
    let pid = daemon.pid();
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    assert_eq!(post(webhooks, &events(json!([message("e1", "Where is my parcel?")])), SECRET).await.0, 200);
    let conversation = assigned(&anna, "Where is my parcel?").await;

    // The key is another: the old one counts no more, and the conversation goes on.
    key("the vendor's next secret");
    daemon.signal(Signal::SIGHUP);
    daemon.logged("accounts are open anew").await;
    let body = events(json!([message("e2", "Are you still there?")]));
    assert_eq!(post(webhooks, &body, SECRET).await, (401, String::new()));
    assert_eq!(post(webhooks, &body, "the vendor's next secret").await.0, 200);
    assert_eq!(anna.hears("Are you still there?").await, conversation);
    let said = anna.say(conversation, "I am.").await.message.expect("an id");
    becomes(&daemon, said, &ReceiptStatus::Sent).await;

    // An account more, and one that cannot be read: then everything stays as it was.
    let second = account.replace("account = \"acme\"", "account = \"second\"");
    std::fs::write(channels.join("second.toml"), second).unwrap();
    daemon.signal(Signal::SIGHUP);
    let other = events(json!([message("e3", "By the second account")]));
    until(PATIENCE, "the second account", async || {
        let head = signed(&other, "the vendor's next secret");
        (send(webhooks, "/hook/webhook/second", &head, &other).await.0 == 200).then_some(())
    })
    .await;
    anna.hears("By the second account").await;
    std::fs::write(channels.join("second.toml"), "kind = \"webhook\"\naccount = \"second\"\nrubbish = 1\n").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logged("what was in force stays").await;
    let head = signed(&other, "the vendor's next secret");
    assert_eq!(send(webhooks, "/hook/webhook/second", &head, &other).await.0, 200);

    // One that is gone is answered to no more.
    std::fs::remove_file(channels.join("second.toml")).unwrap();
    daemon.signal(Signal::SIGHUP);
    until(PATIENCE, "the second account to be gone", async || {
        (send(webhooks, "/hook/webhook/second", &head, &other).await.0 == 404).then_some(())
    })
    .await;
    let body = events(json!([message("e4", "Bye")]));
    assert_eq!(post(webhooks, &body, "the vendor's next secret").await.0, 200);
    anna.hears("Bye").await;

    // A key that cannot be read: it is said, and tried again until it can.
    std::fs::remove_file(channels.join("acme.key")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logged("accounts cannot be opened; trying again").await;
    let said = until(PATIENCE, "what is missing", async || {
        let ready = throughline_tests::http::get(&daemon.http(), "/readyz").await.ok()?;
        (ready.status == 503).then_some(ready.body)
    })
    .await;
    assert!(said.contains("not open: webhook"), "{said}");
    key("the vendor's last secret");
    daemon.ready().await;
    let body = events(json!([message("e5", "Hello again")]));
    assert_eq!(post(webhooks, &body, "the vendor's next secret").await.0, 401);
    assert_eq!(post(webhooks, &body, "the vendor's last secret").await.0, 200);
    anna.hears("Hello again").await;
    assert_eq!(daemon.pid(), pid);
    for secret in ["next secret", "last secret"] {
        assert!(!daemon.logs().contains(secret), "a secret stands in the log");
    }
}

/// The certificate that whoever connects is shown, as a fingerprint.
async fn shown(port: u16) -> Option<String> {
    let ask = format!("openssl s_client -connect 127.0.0.1:{port} </dev/null | openssl x509 -noout -fingerprint");
    let told = tokio::process::Command::new("sh").args(["-c", &ask]).output().await.expect("a shell");
    let text = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_the_certificate_changes_without_a_restart() {
    let (vendor, webhooks) = (Vendor::start().await, free_port());
    let mut daemon = builder(&vendor.account(""), webhooks)
        .set("webhook.tls.cert_file", "\"tls/node.pem\"")
        .set("webhook.tls.key_file", "\"tls/node.key\"")
        .prepare();
    let folder = daemon.folder().join("tls");
    certificates(&folder);
    daemon.start().await;
    let first = until(PATIENCE, "a certificate", async || shown(webhooks).await).await;
    // Half of it is new: what was there is shown on.
    std::fs::write(folder.join("node.pem"), "rubbish").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.logged("the certificate of the webhooks is not read again").await;
    assert_eq!(shown(webhooks).await.as_ref(), Some(&first));
    certificates(&folder);
    daemon.signal(Signal::SIGHUP);
    until(PATIENCE, "another certificate", async || shown(webhooks).await.filter(|now| *now != first)).await;
}
