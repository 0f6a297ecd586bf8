//! The listener over real sockets, with the hostile and the unlucky.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use throughline_adapter::bus::topology;
use throughline_adapter::contract::Envelope;
use throughline_adapter::contract::envelope::EnvelopeKind;
use throughline_adapter::contract::outbound::DeadPayload;
use throughline_adapter::fetch::FetchSettings;
use throughline_adapter::webhook::{Settings, Tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hooked::{account, sign};
use crate::support::{Hooked, PATIENT, World, soon};

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn is_refused(&self, status: u16) {
        assert_eq!((self.status, self.body.as_str()), (status, ""), "{self:?}");
    }
}

pub(crate) fn settings() -> Settings {
    Settings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Settings::default() }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Answer {
    // Who is refused early may not read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: hook.example\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

pub(crate) async fn send(address: SocketAddr, request: &[u8]) -> Answer {
    exchange(TcpStream::connect(address).await.unwrap(), request).await
}

pub(crate) async fn post(hooked: &Hooked, target: &str, secret: &str, body: &str) -> Answer {
    let signature = sign(secret, body);
    send(hooked.address, &request("POST", target, &[("x-signature", &signature)], body)).await
}

async fn start(world: &World, accounts: &[&str], settings: Settings) -> Hooked {
    world.run_hooks(accounts, settings, FetchSettings::default()).await
}

pub(crate) fn event(id: &str, thread: &str, text: &str) -> Value {
    json!({ "id": id, "thread": thread, "text": text })
}

pub(crate) fn texts(envelopes: &[(u64, u32, Envelope)]) -> Vec<String> {
    let of = |envelope: &Envelope| match &envelope.content[0] {
        throughline_adapter::contract::envelope::Part::Text(text) => text.body.clone(),
        other => panic!("{other:?}"),
    };
    envelopes.iter().map(|(_, _, envelope)| of(envelope)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_is_refused_with_an_empty_body() {
    let world = World::start(PATIENT).await;
    let hooked = start(&world, &[&account("web", &["old", "new"]), &account("bare", &[])], settings()).await;
    let body = json!([event("1", "t", "hello")]).to_string();
    send(hooked.address, &request("POST", "/hook/demo/web", &[], &body)).await.is_refused(401);
    post(&hooked, "/hook/demo/web", "other", &body).await.is_refused(403);
    let of_another_body = sign("new", "[]");
    let twice = [("x-signature", of_another_body.as_str()), ("x-signature", &sign("new", &body))];
    send(hooked.address, &request("POST", "/hook/demo/web", &twice[..1], &body)).await.is_refused(403);
    send(hooked.address, &request("POST", "/hook/demo/web", &twice, &body)).await.is_refused(401);
    // An account without a secret takes nothing, not even what is signed with an empty one.
    post(&hooked, "/hook/demo/bare", "", &body).await.is_refused(403);
    for nowhere in ["/", "/hook", "/hook/demo", "/hook/demo/other", "/hook/sms/web", "/hook/demo/web%00"] {
        post(&hooked, nowhere, "new", &body).await.is_refused(404);
    }
    send(hooked.address, &request("GET", "/hook/demo/web", &[], "")).await.is_refused(405);
    post(&hooked, "/hook/demo/web/panic", "new", &body).await.is_refused(500);
    // Both secrets count, while one is changed.
    assert_eq!(post(&hooked, "/hook/demo/web", "old", &body).await.body, "taken");
    let second = json!([event("2", "t", "again")]).to_string();
    assert_eq!(post(&hooked, "/hook/demo/web/later?x=1", "new", &second).await.body, "taken");
    let stored = world.inbox().await.rest(&world).await;
    assert_eq!(texts(&stored), ["hello", "again"]);
    hooked.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_hold() {
    let world = World::start(PATIENT).await;
    let bounds = Settings { body_bytes_max: 2048, depth_max: 8, request_ms_max: 1000, ..settings() };
    let hooked = start(&world, &[&account("web", &["s"])], bounds).await;
    let large = format!("[{}]", " ".repeat(3000));
    post(&hooked, "/hook/demo/web", "s", &large).await.is_refused(413);
    // The same without saying so before.
    let chunked = format!(
        "POST /hook/demo/web HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    send(hooked.address, chunked.as_bytes()).await.is_refused(413);
    let deep = format!("{}{}", "[".repeat(9), "]".repeat(9));
    post(&hooked, "/hook/demo/web", "s", &deep).await.is_refused(400);
    let zipped = [("content-encoding", "gzip"), ("x-signature", "00")];
    send(hooked.address, &request("POST", "/hook/demo/web", &zipped, "{}")).await.is_refused(415);
    // A head of 100 KB is not even a request.
    let head = request("POST", "/hook/demo/web", &[("x-filler", &"a".repeat(100 * 1024))], "");
    assert!(matches!(send(hooked.address, &head).await.status, 0 | 400..=499));
    // Who sends a body byte by byte, and who never ends the head.
    let slow = b"POST /hook/demo/web HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nabc";
    send(hooked.address, slow).await.is_refused(408);
    let never = send(hooked.address, b"POST /hook/demo/web HTTP/1.1\r\nhost: h\r\nx: ").await;
    assert!(matches!(never.status, 0 | 408), "{never:?}");
    hooked.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_cannot_take_everything() {
    let world = World::start(PATIENT).await;
    let bounds = Settings {
        connections_max: 8,
        peer_per_second_max: 1.0,
        peer_burst_max: 3.0,
        trusted_proxies: vec!["127.0.0.2".into()],
        ..settings()
    };
    let hooked = start(&world, &[&account("web", &["s"])], bounds).await;
    let echo = |from: &'static str| {
        let address = hooked.address;
        async move {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let stream = socket.connect(address).await.unwrap();
            exchange(stream, &request("GET", "/hook/demo/web/echo", &[("x-forwarded-for", from)], "")).await
        }
    };
    // Behind a listed proxy each customer has a rate of its own.
    for _ in 0..3 {
        assert_eq!(echo("192.0.2.1").await.status, 200);
    }
    let over = echo("192.0.2.1").await;
    over.is_refused(429);
    assert!(over.head.contains("retry-after: "), "{over:?}");
    assert_eq!(echo("192.0.2.2").await.status, 200);
    // Connections that say nothing: those over the bound are closed, and the others do not hinder the proxy.
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(hooked.address).await.unwrap());
    }
    let mut one_more = TcpStream::connect(hooked.address).await.unwrap();
    assert_eq!(soon(one_more.read(&mut [0; 16])).await.unwrap_or_default(), 0, "it is closed at once");
    drop(idle);
    soon(async { while echo("192.0.2.3").await.status != 200 {} }).await;
    hooked.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_strangers_are_not_believed() {
    let world = World::start(PATIENT).await;
    let public = Settings { public_base_url: Some("https://hooks.example.com/base".into()), ..settings() };
    let hooked = start(&world, &[&account("web", &["s"])], public).await;
    let forged = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=203.0.113.9;host=evil.example"),
    ];
    let answer = send(hooked.address, &request("GET", "/hook/demo/web/echo?b=2&a=%31&a=1", &forged, "")).await;
    let seen: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(seen["peer"], "127.0.0.1");
    assert_eq!(seen["url"], "https://hooks.example.com/base/hook/demo/web/echo?b=2&a=%31&a=1");
    assert_eq!((&seen["query"], &seen["subject"]), (&json!("b=2&a=%31&a=1"), &Value::Null));
    hooked.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_to_each_account_and_what_is_nobodys_to_the_dead() {
    let world = World::start(PATIENT).await;
    let accounts = [account("one", &["app"]), account("two", &["app", "next"]), account("alien", &["other"])];
    let accounts: Vec<_> = accounts.iter().map(String::as_str).collect();
    let hooked = start(&world, &accounts, settings()).await;
    let to = |native: &str, id: &str| json!({ "to": native, "id": id, "thread": id, "text": id });
    let body = json!([
        to("native-two", "a"),
        to("native-one", "b"),
        // Trusts another secret.
        to("native-alien", "c"),
        json!({ "account": "alien", "id": "d", "thread": "d", "text": "d" }),
        json!({ "account": "nobody", "id": "e", "thread": "e", "text": "e" }),
        json!({ "surprise": true }),
        to("native-two", "f"),
        // Breaks the contract.
        json!({ "id": "", "thread": "g", "text": "g" }),
    ]);
    let answer = post(&hooked, "/hook/demo/one", "app", &body.to_string()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "taken"));
    let mut stored = world.inbox().await.rest(&world).await;
    stored.sort_by_key(|(_, _, envelope)| envelope.dedup_key.clone());
    let of: Vec<_> = stored.iter().map(|(_, _, e)| (e.account.id.as_str(), e.dedup_key.as_str())).collect();
    assert_eq!(of, [("two", "a"), ("one", "b"), ("two", "f")]);
    let subjects = world.router.stream_state(&crate::support::in_stream()).await.unwrap();
    assert!(subjects.messages >= 2, "each account has a subject of its own");
    let letters = world.letters(5).await;
    let mut said: Vec<_> = letters.iter().map(|letter| letter.reason.clone()).collect();
    said.sort();
    let vouch = "it is for an account that this secret does not vouch for";
    assert_eq!(said, ["an unknown event", "invalid envelope: dedup_key: is empty", vouch, vouch, "nobody's"]);
    let unknown = letters.iter().find(|letter| letter.reason == "an unknown event").unwrap();
    assert_eq!(unknown.payload, DeadPayload::Text(json!({ "surprise": true }).to_string()));
    assert_eq!((unknown.stage.as_str(), unknown.subject.ends_with(".main.demo.one")), ("hook-demo", true));
    // What cannot be read at all is kept whole, and answered with success: again would not help.
    assert_eq!(post(&hooked, "/hook/demo/one", "app", "no JSON").await.status, 200);
    assert_eq!(world.letters(6).await[5].payload, DeadPayload::Text("no JSON".into()));
    hooked.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_when_the_bus_has_it_and_not_before() {
    let world = World::start(PATIENT).await;
    let bounds = Settings { request_ms_max: 2000, ..settings() };
    let hooked = start(&world, &[&account("web", &["s"])], bounds).await;
    let body = json!([event("1", "t", "a"), event("2", "t", "b"), event("3", "u", "c")]).to_string();
    let paused = world.pause_server();
    {
        let posting = post(&hooked, "/hook/demo/web", "s", &body);
        tokio::pin!(posting);
        let early = tokio::time::timeout(Duration::from_millis(500), &mut posting).await;
        assert!(early.is_err(), "answered {early:?} while the bus stood still");
        drop(paused);
        assert_eq!(posting.await.status, 200);
    }
    let stored = world.inbox().await.rest(&world).await;
    assert_eq!(stored.len(), 3);
    // It stands still for longer than a provider waits.
    let paused = world.pause_server();
    let answer = post(&hooked, "/hook/demo/web", "s", &json!([event("4", "t", "d")]).to_string()).await;
    answer.is_refused(503);
    assert!(answer.head.contains("retry-after: 5"), "{answer:?}");
    drop(paused);
    // The provider comes again; who reads knows the event by its key.
    soon(async {
        while post(&hooked, "/hook/demo/web", "s", &json!([event("4", "t", "d")]).to_string()).await.status != 200 {}
    })
    .await;
    let stored = world.inbox().await.rest(&world).await;
    assert!(stored.iter().any(|(_, _, envelope)| envelope.dedup_key == "4"));
    hooked.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn originals_are_kept_by_thread_unless_they_hold_what_must_not_be_stored() {
    let world = World::start(PATIENT).await;
    let hooked = start(&world, &[&account("web", &["s"])], settings()).await;
    let (plain, card) = (event("1", "t/1", "hello"), event("2", "t/1", "my card is 4111 1111 1111 1111"));
    assert_eq!(post(&hooked, "/hook/demo/web", "s", &json!([plain, card]).to_string()).await.status, 200);
    let stored = world.inbox().await.rest(&world).await;
    hooked.drain().await;
    let kept = stored[0].2.raw_ref.clone().unwrap();
    assert!(kept.store_key.starts_with("main/demo/t=2F1/"), "{kept:?}");
    assert_eq!(kept.content_type.as_deref(), Some("application/json"));
    let objects = world.router.objects(topology::MEDIA).await.unwrap();
    let original = objects.get(&kept.store_key, 1 << 20).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&original).unwrap(), plain);
    assert_eq!(stored[1].2.raw_ref, None);
    assert_eq!(texts(&stored)[1], "my card is [card number ending in 1111]");
    assert_eq!(objects.list().await.unwrap().len(), 1);
    let off = start(&world, &[&account("web", &["s"])], Settings { keep_raw: false, ..settings() }).await;
    assert_eq!(post(&off, "/hook/demo/web", "s", &json!([event("3", "t", "x")]).to_string()).await.status, 200);
    off.drain().await;
    let stored = world.inbox().await.rest(&world).await;
    assert_eq!((&stored[2].2.raw_ref, objects.list().await.unwrap().len()), (&None, 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_somebody_is_is_looked_up_once() {
    let world = World::start(PATIENT).await;
    let hooked = start(&world, &[&account("web", &["s"])], settings()).await;
    let body = json!([event("1", "named-Ann", "a"), event("2", "nameless", "b")]).to_string();
    assert_eq!(post(&hooked, "/hook/demo/web", "s", &body).await.status, 200);
    let mut inbox = world.inbox().await;
    let told = loop {
        let (_, _, envelope) = inbox.next().await;
        if envelope.kind == EnvelopeKind::ContactEvent {
            break envelope;
        }
    };
    assert_eq!((told.sender.display.as_deref(), told.thread.key.as_str()), (Some("Ann"), "named-Ann"));
    let signal = told.signal.unwrap();
    assert_eq!((signal.name.as_str(), &signal.data["avatar"]), ("profile", &json!("https://example.com/a.png")));
    // Until it is remembered, by this process and by the next.
    let memory = world.router.bucket(topology::MEMORY).await.unwrap();
    soon(async { while memory.keys().await.unwrap().len() < 2 {} }).await;
    hooked.kill();
    let again = start(&world, &[&account("web", &["s"])], settings()).await;
    let body = json!([event("3", "named-Ann", "c"), event("4", "named-Ben", "d")]).to_string();
    assert_eq!(post(&again, "/hook/demo/web", "s", &body).await.status, 200);
    let told = loop {
        let (_, _, envelope) = inbox.next().await;
        if envelope.kind == EnvelopeKind::ContactEvent {
            break envelope;
        }
    };
    assert_eq!(told.sender.display.as_deref(), Some("Ben"));
    again.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_who_the_client_is() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let world = World::start(PATIENT).await;
    let folder = std::env::temp_dir().join(format!("throughline-hook-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let issuer = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        (certificate, Issuer::new(params, key))
    };
    let ((ca, ours), (_, strangers)) = (issuer("ours"), issuer("strangers"));
    let signed = |by: &Issuer<'_, KeyPair>, name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, by).unwrap();
        (certificate, key)
    };
    let (server, server_key) = signed(&ours, "server");
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), server_key.serialize_pem()).unwrap();
    let tls = Tls {
        cert_file: Some(folder.join("cert.pem")),
        key_file: Some(folder.join("key.pem")),
        client_ca_file: Some(folder.join("ca.pem")),
    };
    let hooked = start(&world, &[&account("web", &["s"])], Settings { tls, ..settings() }).await;
    let ask = |client: Option<(rcgen::Certificate, KeyPair)>| {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        let (connector, address) = (TlsConnector::from(std::sync::Arc::new(config)), hooked.address);
        async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
            exchange(stream, &request("GET", "/hook/demo/web/echo", &[], "")).await
        }
    };
    let seen = |answer: Answer| serde_json::from_str::<Value>(&answer.body).unwrap();
    let anonymous = seen(ask(None).await);
    assert_eq!(anonymous["subject"], Value::Null);
    assert!(anonymous["url"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{anonymous}");
    assert_eq!(seen(ask(Some(signed(&ours, "device-7"))).await)["subject"], "CN=device-7");
    assert_eq!(ask(Some(signed(&strangers, "device-7"))).await.status, 0, "no certificate of a stranger is taken");
    // Plain HTTP is not spoken there.
    assert_ne!(send(hooked.address, &request("GET", "/hook/demo/web/echo", &[], "")).await.status, 200);
    hooked.drain().await;
    std::fs::remove_dir_all(&folder).unwrap();
    world.end().await;
}
