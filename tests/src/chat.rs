//! A customer's page: joins, sends with ids of its own, comes back where it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Daemon, PATIENCE, within};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A message of the thread, as the page was sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Its number in the thread.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// `customer` or `agent`.
    pub from: String,
    /// The page's own id of it.
    pub client_msg_id: Option<String>,
    /// What.
    pub text: String,
}

/// What a page tells about its visitor.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    /// The visitor's name.
    pub name: Option<String>,
    /// The page's language.
    pub language: Option<String>,
    /// Words for the routes.
    pub tags: Vec<String>,
    /// A site's login token.
    pub login: Option<String>,
}

impl Visit {
    /// With a tag.
    #[must_use]
    pub fn tagged(tag: &str) -> Self {
        Self { tags: vec![tag.to_owned()], ..Self::default() }
    }

    /// In a language.
    #[must_use]
    pub fn in_language(language: &str) -> Self {
        Self { language: Some(language.to_owned()), ..Self::default() }
    }
}

#[derive(Debug, Default)]
struct State {
    session: Option<String>,
    joined: bool,
    joins: u32,
    put_off: u32,
    last: u64,
    messages: Vec<ChatMessage>,
    unacked: VecDeque<(String, String)>,
    acked: Vec<(String, String)>,
    refused: Vec<(String, String)>,
    presence: Vec<String>,
    violations: Vec<String>,
}

enum Order {
    Send(String, String),
    Drop,
    Stay(bool),
}

/// A customer's page. Reconnects for ever, like the widget; closes when it is dropped.
pub struct ChatClient {
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    orders: mpsc::Sender<Order>,
    task: tokio::task::JoinHandle<()>,
    name: String,
    sent: u64,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChatClient {
    /// Opens a page of a new visitor and waits until it is in. `name` is for messages and ids.
    ///
    /// # Panics
    /// When it does not get in.
    pub async fn open(daemon: &Daemon, name: &str, visit: Visit) -> Self {
        let client = Self::begin(&daemon.chat(), name, visit, None);
        client.joined().await;
        client
    }

    /// Opens a page and does not wait; with a session's token, as the visitor of that session who
    /// has nothing of it yet.
    #[must_use]
    pub fn begin(address: &str, name: &str, visit: Visit, session: Option<String>) -> Self {
        let state = Arc::new(Mutex::new(State { session, ..State::default() }));
        let (changes, changed) = watch::channel(0);
        let (orders, inbox) = mpsc::channel(10_000);
        let page = Page {
            url: format!("ws://{address}/chat/web/socket"),
            visit,
            state: Arc::clone(&state),
            changes,
            orders: inbox,
            stay: true,
        };
        Self { state, changed, orders, task: tokio::spawn(page.run()), name: name.to_owned(), sent: 0 }
    }

    /// Waits until the page is in.
    ///
    /// # Panics
    /// When it does not get in.
    pub async fn joined(&self) {
        self.until("the page to be in", |state| state.joined.then_some(())).await;
    }

    async fn until<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.clone();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(&lock(&self.state)) {
                    return found;
                }
                assert!(changed.changed().await.is_ok(), "the page of {} has ended", self.name);
            }
        };
        match tokio::time::timeout(PATIENCE * 2, wait).await {
            Ok(found) => found,
            Err(_) => panic!("{} waited for {what}: {:#?}", self.name, lock(&self.state)),
        }
    }

    /// Waits for a message however long that takes, as long as something comes before it: who answers one by one has
    /// much to answer after many crashes.
    ///
    /// # Panics
    /// When nothing more comes.
    pub async fn hears_in_the_end(&self, from: &str, text: &str) {
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if lock(&self.state).messages.iter().any(|message| message.from == from && message.text == text) {
                return;
            }
            let more = tokio::time::timeout(PATIENCE * 2, changed.changed()).await;
            assert!(matches!(more, Ok(Ok(()))), "{} waited for {text:?} from {from}; nothing more came", self.name);
        }
    }

    /// Sends a text, and again after every reconnect until it is acknowledged. Returns its id.
    ///
    /// # Panics
    /// When the page has ended.
    pub async fn send(&mut self, text: &str) -> String {
        self.sent += 1;
        let id = format!("{}-{}", self.name, self.sent);
        self.send_as(&id, text).await;
        id
    }

    /// Sends a text under an id.
    ///
    /// # Panics
    /// When the page has ended.
    pub async fn send_as(&self, id: &str, text: &str) {
        self.orders.send(Order::Send(id.to_owned(), text.to_owned())).await.expect("the page lives");
    }

    /// Sends a text and waits until it is acknowledged.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn say(&mut self, text: &str) -> String {
        let id = self.send(text).await;
        self.acknowledged(&id).await;
        id
    }

    /// Waits until a message is acknowledged.
    ///
    /// # Panics
    /// When it is not in time, or is refused.
    pub async fn acknowledged(&self, id: &str) {
        self.until("an acknowledgement", |state| {
            if let Some((_, why)) = state.refused.iter().find(|(refused, _)| refused == id) {
                panic!("{id} is refused: {why}");
            }
            state.acked.iter().any(|(acked, _)| acked == id).then_some(())
        })
        .await;
    }

    /// Waits until everything that was sent is acknowledged or refused.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn settled(&self) {
        let sent = usize::try_from(self.sent).expect("a count");
        self.until("all acknowledgements", |state| {
            (state.acked.len() + state.refused.len() >= sent && state.unacked.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits for a message from `customer` or `agent` with this text.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn hears(&self, from: &str, text: &str) -> ChatMessage {
        self.until(&format!("{text:?} from {from}"), |state| {
            state.messages.iter().find(|message| message.from == from && message.text == text).cloned()
        })
        .await
    }

    /// Waits until the messages are as wanted.
    ///
    /// # Panics
    /// When they do not get so.
    pub async fn hears_until(&self, what: &str, wanted: impl Fn(&[ChatMessage]) -> bool) {
        self.until(what, |state| wanted(&state.messages).then_some(())).await;
    }

    /// Waits for a presence: `joined`, `left`, `waiting`, `closed`.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn sees(&self, presence: &str) {
        self.until(&format!("presence {presence}"), |state| {
            state.presence.iter().any(|seen| seen == presence).then_some(())
        })
        .await;
    }

    /// Every message of the thread that came, in the order it came.
    pub fn messages(&self) -> Vec<ChatMessage> {
        lock(&self.state).messages.clone()
    }

    /// The texts of [`messages`](Self::messages).
    pub fn texts(&self) -> Vec<String> {
        self.messages().into_iter().map(|message| message.text).collect()
    }

    /// What was acknowledged, `(client_msg_id, text)` in the order of the acknowledgements.
    pub fn acked(&self) -> Vec<(String, String)> {
        lock(&self.state).acked.clone()
    }

    /// What was refused for good, with why.
    pub fn refused(&self) -> Vec<(String, String)> {
        lock(&self.state).refused.clone()
    }

    /// How many times the page got in.
    pub fn joins(&self) -> u32 {
        lock(&self.state).joins
    }

    /// How often it was told to send something again later. What it sent meanwhile may go first then.
    pub fn put_off(&self) -> u32 {
        lock(&self.state).put_off
    }

    /// The token of the session.
    pub fn session(&self) -> Option<String> {
        lock(&self.state).session.clone()
    }

    /// What broke the protocol: a number twice, a number left out, a message without a frame's fields.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.state).violations.clone()
    }

    /// Checks that every number came once, in order, without a gap.
    ///
    /// # Panics
    /// When one did not.
    #[track_caller]
    pub fn check(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "{}: {violations:#?}\n{:#?}", self.name, self.messages());
    }

    /// Cuts the connection, as a train in a tunnel does; the page reconnects by itself.
    ///
    /// # Panics
    /// When the page has ended.
    pub async fn cut(&self) {
        let joins = self.joins();
        self.orders.send(Order::Drop).await.expect("the page lives");
        self.until("the page to be back", |state| (state.joins > joins && state.joined).then_some(())).await;
    }

    /// Cuts the connection and stays away until [`come_back`](Self::come_back).
    ///
    /// # Panics
    /// When the page has ended.
    pub async fn go_away(&self) {
        self.orders.send(Order::Stay(false)).await.expect("the page lives");
        self.until("the page to be gone", |state| (!state.joined).then_some(())).await;
    }

    /// Connects again.
    ///
    /// # Panics
    /// When it does not get in.
    pub async fn come_back(&self) {
        self.orders.send(Order::Stay(true)).await.expect("the page lives");
        self.joined().await;
    }
}

impl Drop for ChatClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Page {
    url: String,
    visit: Visit,
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
    orders: mpsc::Receiver<Order>,
    stay: bool,
}

enum Next {
    Reconnect,
    End,
}

impl Page {
    fn change(&self, with: impl FnOnce(&mut State)) {
        with(&mut lock(&self.state));
        self.changes.send_modify(|count| *count += 1);
    }

    async fn run(mut self) {
        loop {
            let next = self.visit().await;
            self.change(|state| state.joined = false);
            if matches!(next, Next::End) {
                return;
            }
            // As long as nobody answers, and while it is to stay away.
            let pause = tokio::time::sleep(Duration::from_millis(50));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    order = self.orders.recv() => match order {
                        Some(order) => { self.order(order); }
                        None => return,
                    },
                    () = &mut pause, if self.stay => break,
                }
            }
        }
    }

    /// Takes an order that needs no connection; true when the connection is to be dropped.
    fn order(&mut self, order: Order) -> bool {
        match order {
            Order::Send(id, text) => {
                self.change(|state| state.unacked.push_back((id, text)));
                false
            }
            Order::Drop => true,
            Order::Stay(stay) => {
                self.stay = stay;
                !stay
            }
        }
    }

    async fn visit(&mut self) -> Next {
        let connect = tokio_tungstenite::connect_async(self.url.as_str());
        let Ok(Ok((mut socket, _))) = tokio::time::timeout(Duration::from_secs(5), connect).await else {
            return Next::Reconnect;
        };
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            let _ = stream.set_nodelay(true);
        }
        let (session, after) = {
            let state = lock(&self.state);
            (state.session.clone(), state.last)
        };
        let visit = &self.visit;
        let join = json!({
            "type": "join", "session": session, "after": after, "name": visit.name,
            "language": visit.language, "tags": visit.tags, "login": visit.login,
        });
        if put(&mut socket, &join).await.is_err() {
            return Next::Reconnect;
        }
        let mut resend_at: Option<Instant> = None;
        loop {
            let again = async {
                match resend_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                frame = socket.next() => {
                    let text = match frame {
                        Some(Ok(WsMessage::Text(text))) => text,
                        Some(Ok(WsMessage::Close(_)) | Err(_)) | None => return Next::Reconnect,
                        Some(Ok(_)) => continue,
                    };
                    let frame: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
                    match self.take(&frame) {
                        Taken::Joined => {
                            if self.resend(&mut socket).await.is_err() {
                                return Next::Reconnect;
                            }
                        }
                        Taken::Later(wait) => resend_at = Some(Instant::now() + wait),
                        Taken::Done => {}
                    }
                }
                () = again => {
                    resend_at = None;
                    if self.resend(&mut socket).await.is_err() {
                        return Next::Reconnect;
                    }
                }
                order = self.orders.recv() => {
                    let Some(order) = order else { return Next::End };
                    let new = match &order {
                        Order::Send(id, text) => Some(message(id, text)),
                        _ => None,
                    };
                    if self.order(order) {
                        return Next::Reconnect;
                    }
                    // Before the page is in, it is sent with the others once it is.
                    let joined = lock(&self.state).joined;
                    if let Some(frame) = new && joined && put(&mut socket, &frame).await.is_err() {
                        return Next::Reconnect;
                    }
                }
            }
        }
    }

    async fn resend(&self, socket: &mut Socket) -> Result<(), ()> {
        let frames: Vec<Value> = lock(&self.state).unacked.iter().map(|(id, text)| message(id, text)).collect();
        for frame in &frames {
            put(socket, frame).await?;
        }
        Ok(())
    }

    fn take(&self, frame: &Value) -> Taken {
        let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
        let mut taken = Taken::Done;
        self.change(|state| match frame["type"].as_str().unwrap_or_default() {
            "joined" => {
                let after = frame["after"].as_u64().unwrap_or_default();
                if after != state.last {
                    state.violations.push(format!("asked for what follows {}, got {after}", state.last));
                    state.last = after;
                }
                state.session = frame["session"].as_str().map(str::to_owned);
                state.joined = true;
                state.joins += 1;
                taken = Taken::Joined;
            }
            "message" => {
                let seq = frame["seq"].as_u64().unwrap_or_default();
                if seq != state.last + 1 {
                    state.violations.push(format!("number {seq} follows {}", state.last));
                }
                state.last = state.last.max(seq);
                state.messages.push(ChatMessage {
                    seq,
                    id: text("id"),
                    from: text("from"),
                    client_msg_id: frame["client_msg_id"].as_str().map(str::to_owned),
                    text: text("text"),
                });
            }
            "ack" => {
                let id = text("client_msg_id");
                if let Some(at) = state.unacked.iter().position(|(unacked, _)| *unacked == id)
                    && let Some(done) = state.unacked.remove(at)
                {
                    state.acked.push(done);
                }
            }
            "gap" => state.violations.push(format!("a gap: {frame}")),
            "presence" => state.presence.push(text("state")),
            "error" => match (frame["client_msg_id"].as_str(), frame["retry_after_ms"].as_u64()) {
                (_, Some(wait)) => {
                    state.put_off += 1;
                    taken = Taken::Later(Duration::from_millis(wait));
                }
                (Some(id), None) => {
                    state.unacked.retain(|(unacked, _)| unacked != id);
                    state.refused.push((id.to_owned(), text("code")));
                }
                (None, None) => state.violations.push(format!("an error: {frame}")),
            },
            "typing" | "pong" => {}
            _ => state.violations.push(format!("an unknown frame: {frame}")),
        });
        taken
    }
}

enum Taken {
    Joined,
    Later(Duration),
    Done,
}

fn message(id: &str, text: &str) -> Value {
    json!({ "type": "message", "client_msg_id": id, "text": text })
}

async fn put(socket: &mut Socket, frame: &Value) -> Result<(), ()> {
    socket.send(WsMessage::text(frame.to_string())).await.map_err(drop)
}

/// A socket in the hand, for what no well-behaved page does.
pub struct RawSocket(Socket);

impl RawSocket {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn connect(daemon: &Daemon) -> Self {
        let url = format!("ws://{}/chat/web/socket", daemon.chat());
        let (socket, _) = within(PATIENCE, "a socket", tokio_tungstenite::connect_async(url)).await.expect("a socket");
        Self(socket)
    }

    /// Sends a text as it is.
    pub async fn send(&mut self, text: &str) {
        let _ = self.0.send(WsMessage::text(text.to_owned())).await;
    }

    /// The next frame; `None` when the socket is closed.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match within(PATIENCE, "a frame", self.0.next()).await? {
                Ok(WsMessage::Text(text)) => return serde_json::from_str(text.as_str()).ok(),
                Ok(WsMessage::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
