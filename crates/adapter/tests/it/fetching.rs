//! Media that a webhook spoke of: fetched after the answer, whatever dies in between.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::json;
use throughline_adapter::bus::topology;
use throughline_adapter::contract::Envelope;
use throughline_adapter::contract::envelope::{EnvelopeKind, Media, MediaStatus, Part};
use throughline_adapter::fetch::FetchSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::hooked::account;
use crate::support::{QUICK, World, soon};
use crate::webhook::{post, settings};

/// A server of media: `/a…` is there, `/gone` is not, `/later` is the second time, `/held` never ends until it is let
/// go, `/inside` redirects to where nobody may be sent, `/large` is too large.
struct Shelf {
    address: SocketAddr,
    asked: watch::Sender<Vec<String>>,
    held: watch::Sender<bool>,
}

impl Shelf {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Arc::new(Self { address, asked: watch::Sender::default(), held: watch::Sender::new(true) });
        let serving = Arc::clone(&shelf);
        let seen = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (shelf, seen) = (Arc::clone(&serving), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if stream.read(&mut byte).await.unwrap_or_default() == 0 {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let times = {
                        let mut seen = seen.lock().unwrap();
                        let times = seen.entry(path.clone()).or_default();
                        *times += 1;
                        *times
                    };
                    shelf.asked.send_modify(|asked| asked.push(path.clone()));
                    if path == "/held" {
                        let _ = shelf.held.subscribe().wait_for(|held| !held).await;
                    }
                    let (status, extra, body) = match path.as_str() {
                        "/gone" => ("404 Not Found", "", ""),
                        "/later" if times == 1 => ("503 Service Unavailable", "retry-after: 1\r\n", ""),
                        "/inside" => ("302 Found", "location: https://169.254.169.254/latest\r\n", ""),
                        "/around" => ("302 Found", "location: /around\r\n", ""),
                        "/large" => ("200 OK", "", "0123456789012345678901234567890123456789"),
                        _ => ("200 OK", "content-type: image/png\r\n", "picture"),
                    };
                    let length = if path == "/large" { 5000 } else { body.len() };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        shelf
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Only this shelf may be asked although it is on this machine.
    fn allowed(&self) -> FetchSettings {
        FetchSettings { hosts_allowed: vec![self.address.to_string()], bytes_max: 4096, ..FetchSettings::default() }
    }

    async fn asked(&self, path: &str) {
        soon(self.asked.subscribe().wait_for(|asked| asked.iter().any(|one| one == path))).await.unwrap();
    }

    fn times(&self, path: &str) -> usize {
        self.asked.borrow().iter().filter(|one| *one == path).count()
    }
}

fn media(envelope: &Envelope) -> Vec<Media> {
    let parts = envelope.content.iter().filter_map(|part| match part {
        Part::Media(media) => Some(media.clone()),
        _ => None,
    });
    parts.collect()
}

async fn world() -> World {
    World::start_with(QUICK, |topology| {
        for consumer in &mut topology.consumers {
            consumer.ack_wait = QUICK;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_are_fetched_after_the_answer_and_told() {
    let (world, shelf) = (world().await, Shelf::start().await);
    let hooked = world.run_hooks(&[&account("web", &["s"])], settings(), shelf.allowed()).await;
    let urls = ["/a", "/gone", "/later", "/inside", "/large", "/around"].map(|path| shelf.url(path));
    let elsewhere = ["https://127.0.0.1/x", "http://localhost/x", "https://localhost/x"].map(str::to_owned);
    let all: Vec<String> = urls.into_iter().chain(elsewhere).collect();
    let body = json!([{ "id": "m1", "thread": "t", "text": "see", "media": all }]).to_string();
    assert_eq!(post(&hooked, "/hook/demo/web", "s", &body).await.status, 200);
    let mut inbox = world.inbox().await;
    let (_, _, message) = inbox.next().await;
    assert!(media(&message).iter().all(|part| part.status == Some(MediaStatus::Pending)));
    let (_, _, told) = inbox.next().await;
    assert_eq!((&told.kind, told.dedup_key.as_str()), (&EnvelopeKind::Media, "m1/media"));
    assert_eq!(told.target.as_ref().unwrap().external_id.as_deref(), Some("m1"));
    assert_eq!(told.content[0], message.content[0], "the whole message is told again");
    let parts = media(&told);
    let outcome: Vec<_> = parts.iter().map(|part| part.reason.as_deref().unwrap_or("stored")).collect();
    assert_eq!(
        outcome,
        [
            "stored",
            "the server answered 404",
            "stored",
            "the address is not a public one",
            "it is too large",
            "it redirects too often",
            "the address is not a public one",
            "only https is fetched",
            "the host has no public address",
        ]
    );
    assert_eq!((parts[0].mime.as_deref(), parts[0].bytes), (Some("image/png"), Some(7)));
    assert_eq!(parts[0].status, Some(MediaStatus::Stored));
    assert!(parts[1].status == Some(MediaStatus::Unavailable) && parts[1].store_key.is_none());
    let objects = world.router.objects(topology::MEDIA).await.unwrap();
    let key = parts[0].store_key.clone().unwrap();
    assert!(key.starts_with("main/demo/t/"), "{key}");
    assert_eq!(objects.get(&key, 1024).await.unwrap().unwrap().as_ref(), b"picture");
    // What was done before one thing failed was not done again.
    assert_eq!((shelf.times("/a"), shelf.times("/gone"), shelf.times("/later")), (1, 1, 2));
    hooked.drain().await;
    assert_eq!(world.router.stream_state(topology::FETCH).await.unwrap().messages, 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_promised_before_a_crash_is_fetched_after_it() {
    let (world, shelf) = (world().await, Shelf::start().await);
    let hooked = world.run_hooks(&[&account("web", &["s"])], settings(), shelf.allowed()).await;
    let body = json!([{ "id": "m1", "thread": "t", "text": "see", "media": [shelf.url("/held")] }]).to_string();
    assert_eq!(post(&hooked, "/hook/demo/web", "s", &body).await.status, 200);
    shelf.asked("/held").await;
    hooked.kill();
    shelf.held.send_replace(false);
    let again = world.run_hooks(&[&account("web", &["s"])], settings(), shelf.allowed()).await;
    let mut inbox = world.inbox().await;
    inbox.next().await;
    let (_, _, told) = inbox.next().await;
    assert_eq!(media(&told)[0].status, Some(MediaStatus::Stored));
    again.drain().await;
    world.end().await;
}
