//! A mailbox that is signed in to by OAuth, over TLS from the start, with a strict token server: tokens live for seconds,
//! and a refresh token counts once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::event::Event;
use serde_json::json;
use throughline_tests::daemon::TENANT;
use throughline_tests::mail::{ANN, SUPPORT};
use throughline_tests::{AgentTool, Daemon, MailServer, PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How long an access token counts.
const LIFE: Duration = Duration::from_secs(20);
const FIRST: &str = "refresh0";

/// What the token server knows.
#[derive(Default)]
struct State {
    issued: Vec<(String, Instant)>,
    refreshed: u32,
    revoked: bool,
    refused: u32,
    /// How many are asking now, and at most.
    asking: (u32, u32),
}

#[derive(Clone)]
struct TokenServer {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl TokenServer {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let server = Self { port, state: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        server
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("the state"))
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut text = String::new();
        let mut bytes = vec![0; 16 * 1024];
        let whole = |text: &str| {
            let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            body.len() >= length.unwrap_or(0_usize)
        };
        while !whole(&text) {
            let Ok(count @ 1..) = stream.read(&mut bytes).await else { return };
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        let (status, answer) = if text.starts_with("POST /token") {
            self.with(|state| {
                state.asking.0 += 1;
                state.asking.1 = state.asking.1.max(state.asking.0);
            });
            // Long enough for others to want one too.
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.with(|state| {
                state.asking.0 -= 1;
                self.refresh(state, &text)
            })
        } else {
            let asked = text.split_once("token=").map(|(_, rest)| rest.split([' ', '&']).next().unwrap_or_default());
            let asked = asked.unwrap_or_default();
            let good = self.with(|state| {
                !state.revoked && state.issued.iter().any(|(token, at)| token == asked && at.elapsed() < LIFE)
            });
            ("200 OK", json!({ "active": good, "username": SUPPORT }))
        };
        let body = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    }

    fn refresh(&self, state: &mut State, request: &str) -> (&'static str, serde_json::Value) {
        let wanted = format!("refresh_token=refresh{}&", state.refreshed);
        let body = request.rsplit("\r\n\r\n").next().unwrap_or_default();
        if state.revoked || !format!("{body}&").contains(&wanted) {
            state.refused += 1;
            return ("400 Bad Request", json!({ "error": "invalid_grant" }));
        }
        state.refreshed += 1;
        let token = format!("access{}", state.refreshed);
        state.issued.push((token.clone(), Instant::now()));
        let refresh = format!("refresh{}", state.refreshed);
        // We renew a minute before the end, so that is a token for five seconds.
        ("200 OK", json!({ "access_token": token, "expires_in": 60, "refresh_token": refresh, "token_type": "Bearer" }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn email_by_oauth_is_renewed_survives_a_restart_and_tells_when_it_is_revoked() {
    let mut server = MailServer::start().await;
    if !server.takes_tokens() {
        eprintln!("not run: this Dovecot is configured without tokens, see tests/src/mail/dovecot-2.4.conf");
        return;
    }
    let tokens = TokenServer::start(server.tokens_port()).await;
    let account = server.account_by_oauth(&format!("http://127.0.0.1:{}/token", tokens.port), FIRST);
    let mut daemon = Daemon::builder().account("email-support", &account).without_chat().start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;

    // Both ways, by one token: whoever needs one while it is asked for waits.
    server.writes(ANN, "Lamp", "It does not light.").await;
    let conversation = anna.hears_part("It does not light.").await;
    anna.say(conversation, "Try the switch.").await;
    server.arrives(ANN, "the answer", |mail| mail.text.contains("Try the switch.")).await;
    assert_eq!(tokens.with(|state| state.asking.1), 1, "one asks at a time");

    // The token is over, and the connection too: a new one, by the refresh token that came last.
    let before = tokens.with(|state| state.refreshed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.kill9_imap();
    server.start_imap().await;
    server.writes(ANN, "Lamp", "Second mail.").await;
    anna.hears_part("Second mail.").await;
    assert!(tokens.with(|state| state.refreshed) > before);

    // The one of the settings is long used up.
    daemon.restart().await;
    server.writes(ANN, "Lamp", "Third mail.").await;
    anna.hears_part("Third mail.").await;
    assert_eq!(tokens.with(|state| (state.refused, state.asking.1)), (0, 1));

    // Revoked: told once, and tried again until somebody has mended it.
    tokens.with(|state| state.revoked = true);
    daemon.restart().await;
    let failed = || async {
        let facts = daemon.events(TENANT).await;
        let told = |fact: &Event| matches!(fact, Event::CustomerSignalled { envelope, .. } if envelope.signal.as_ref().is_some_and(|signal| signal.name == "auth_failed"));
        facts.iter().filter(|record| told(&record.event)).count()
    };
    until(PATIENCE, "the event", async || (failed().await == 1).then_some(())).await;
    let reader = daemon.connect(bus::permissions::ADMIN).await;
    let state = async || {
        let bucket = reader.bucket(bus::topology::CHANNELS).await.ok()?;
        let entry = bucket.get("main.email.support").await.ok()??;
        Some(serde_json::from_slice::<serde_json::Value>(&entry.value).ok()?["state"].as_str()?.to_owned())
    };
    until(PATIENCE, "the health to be down", async || state().await.filter(|state| state == "down")).await;
    tokens.with(|state| state.revoked = false);
    server.writes(ANN, "Lamp", "Fourth mail.").await;
    anna.hears_part("Fourth mail.").await;
    until(PATIENCE, "the health to be up", async || state().await.filter(|state| state == "up")).await;
    assert_eq!(failed().await, 1, "told once");
    let logs = daemon.logs();
    assert!(!logs.contains("refresh0") && !logs.contains("access1"), "no token is in the log");
}
