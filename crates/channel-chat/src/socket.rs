//! One socket: thin I/O around the cursor, the normaliser and the limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use adapter::backoff::Backoff;
use adapter::contract::envelope::{Envelope, ReceiptStatus};
use adapter::contract::event::ThreadRef;
use adapter::contract::outbound::{Author, Live, ThreadHistory};
use adapter::contract::{SmolStr, Timestamp};
use adapter::history::{HistoryError, LIMIT_MAX};
use adapter::inbound::Ticket;
use adapter::runtime::metrics::Counted;
use adapter::{AcceptError, Accepted, BoxFuture};
use axum::extract::ws::{CloseFrame, Message as WsMessage, Utf8Bytes, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::channel::Account;
use crate::cursor::Cursor;
use crate::frames::{Agent, ClientFrame, Join, Message, ServerFrame, Switch};
use crate::hub::{Push, Seat};
use crate::limits::Place;
use crate::login::LoginError;
use crate::normalize::{self, Refusal, Visitor};
use crate::telemetry::Metric;
use crate::{render, session};

/// A page that does not take a frame for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Most messages of one socket that wait to be stored …
const TICKETS_MAX: usize = 32;
/// … and with its receipts.
const PENDING_MAX: usize = TICKETS_MAX + 8;
/// Least time between two typing signals that are passed on.
const TYPING_EVERY: Duration = Duration::from_millis(500);
/// How long receipts are gathered.
const RECEIPTS_EVERY: Duration = Duration::from_secs(1);
/// How a message is asked for that the transcript does not have yet; all tries take some seconds.
const FETCH: Backoff = Backoff { first: Duration::from_millis(40), max: Duration::from_secs(1) };
const FETCH_TRIES_MAX: u32 = 12;
/// How often nobody may answer before the page is sent away to come back.
const FETCH_FAILURES_MAX: u32 = 3;
/// When another socket's message is looked for in the transcript.
const REFRESH_AFTER: Duration = Duration::from_millis(150);
const REFRESH_TRIES: u32 = 4;
/// How long messages that wait to be stored hold up the end of a socket.
const FAREWELL_WITHIN: Duration = Duration::from_secs(3);
const RETRY_AFTER_MS: u64 = 2000;

/// Why a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The page left.
    Left,
    /// The page is silent or does not take what it is sent.
    Dead,
    /// The page did not keep the protocol, or may not be here.
    Policy,
    /// The page could not keep up, or nobody answers: come back soon.
    Later,
    /// The service stops: come back at once.
    Restart,
}

impl End {
    const fn code(self) -> Option<u16> {
        match self {
            Self::Left | Self::Dead => None,
            Self::Policy => Some(1008),
            Self::Later => Some(1013),
            Self::Restart => Some(1012),
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Dead => "dead",
            Self::Policy => "policy",
            Self::Later => "later",
            Self::Restart => "restart",
        }
    }
}

/// What waits to be stored.
#[derive(Debug)]
enum Stored {
    Message(SmolStr),
    Wish(SmolStr),
    Receipt(ReceiptStatus, u64),
}

type Pending = BoxFuture<'static, (Stored, Result<Accepted, AcceptError>)>;
type Fetch = BoxFuture<'static, Result<ThreadHistory, HistoryError>>;

/// Serves one socket until it ends.
pub(crate) async fn serve(account: Arc<Account>, mut ws: WebSocket, client: IpAddr) {
    let _open = account.opened();
    let end = match enter(&account, &mut ws, client).await {
        Ok(mut socket) => {
            let end = socket.run(&mut ws).await;
            socket.farewell(&mut ws, end).await;
            end
        }
        Err(end) => end,
    };
    Metric::Closed.count(end.reason());
    if let Some(code) = end.code() {
        let close = WsMessage::Close(Some(CloseFrame { code, reason: end.reason().into() }));
        let _ = tokio::time::timeout(Duration::from_secs(1), ws.send(close)).await;
    }
}

/// Takes the first frame and finds out who it is.
async fn enter(account: &Arc<Account>, ws: &mut WebSocket, client: IpAddr) -> Result<Socket, End> {
    let within = Duration::from_secs(account.settings.join_seconds_max);
    let first = tokio::select! {
        () = account.context.shutdown.draining() => return Err(End::Restart),
        first = tokio::time::timeout(within, first_text(ws)) => first,
    };
    let Ok(text) = first else {
        refuse(ws, "join_first", "the first frame did not come in time", None).await?;
        return Err(End::Policy);
    };
    let Ok(ClientFrame::Join(join)) = serde_json::from_str(text?.as_str()) else {
        refuse(ws, "join_first", "the first frame must be a join", None).await?;
        return Err(End::Policy);
    };
    let now = adapter::now();
    let visitor = match identify(account, &join, now) {
        Ok(visitor) => visitor,
        Err((code, message)) => {
            refuse(ws, code, message, None).await?;
            return Err(if code == "busy" { End::Later } else { End::Policy });
        }
    };
    let Some(place) = account.by_visitor.enter(visitor.id.clone(), Instant::now()) else {
        refuse(ws, "too_many_connections", "too many pages are open", Some(RETRY_AFTER_MS * 5)).await?;
        return Err(End::Policy);
    };
    let thread = visitor.thread();
    // On the thread before the transcript is read, so that nothing falls between.
    let seat = account.hub.join(thread.clone());
    let (cursor, history) = begin(account, ws, &join, &visitor, &thread, now).await?;
    let mut socket = Socket::new(Arc::clone(account), visitor, thread, seat, place, client, cursor);
    socket.take(ws, history).await?;
    Ok(socket)
}

async fn first_text(ws: &mut WebSocket) -> Result<Utf8Bytes, End> {
    loop {
        match ws.recv().await {
            Some(Ok(WsMessage::Text(text))) => return Ok(text),
            Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_))) => {}
            Some(Ok(WsMessage::Binary(_))) => return Err(End::Policy),
            Some(Ok(WsMessage::Close(_)) | Err(_)) | None => return Err(End::Left),
        }
    }
}

/// Who a join proves and says to be there.
fn identify(account: &Account, join: &Join, now: Timestamp) -> Result<Visitor, (&'static str, &'static str)> {
    let login = match (&join.login, &account.logins) {
        (None, _) => None,
        (Some(_), None) => return Err(("login_invalid", "this account takes no logins")),
        (Some(token), Some(logins)) => match logins.check(token, now) {
            Ok(login) => Some(login),
            Err(LoginError::Expired) => return Err(("login_expired", "the login is over")),
            Err(LoginError::Invalid) => return Err(("login_invalid", "the login is not valid")),
        },
    };
    let known = join.session.as_deref().and_then(|token| account.sessions.check(token, now));
    let id = match known {
        Some(id) => id,
        None => session::new_visitor().map_err(|_| ("busy", "try again later"))?,
    };
    Ok(Visitor::new(id, login, join))
}

/// Reads where the thread is and tells the page that it is in.
async fn begin(
    account: &Account,
    ws: &mut WebSocket,
    join: &Join,
    visitor: &Visitor,
    thread: &SmolStr,
    now: Timestamp,
) -> Result<(Cursor<Utf8Bytes>, ThreadHistory), End> {
    let known_session = join.session.as_deref().is_some_and(|token| account.sessions.check(token, now).is_some());
    // A page whose session is not ours, or who was somebody else, has another transcript.
    let mut after = if known_session { join.after } else { 0 };
    let mut history = account.context.history.thread(thread, after, LIMIT_MAX).await;
    if let Ok(found) = &history
        && after > found.head
    {
        after = 0;
        history = account.context.history.thread(thread, 0, LIMIT_MAX).await;
    }
    let history = match history {
        Ok(history) => history,
        Err(error) => {
            tracing::warn!(channel.account = %account.place.account.id, %error, "a transcript cannot be had");
            refuse(ws, "busy", "the service is busy", Some(RETRY_AFTER_MS)).await?;
            return Err(End::Later);
        }
    };
    let Some(session) = account.sessions.issue(&visitor.id, now) else { return Err(End::Later) };
    let joined = ServerFrame::Joined {
        session,
        visitor: visitor.id.clone(),
        identified: visitor.login.is_some(),
        head: history.head,
        after,
        conversation: history.conversation.map(|id| id.to_string().into()),
        agent: history.agent.as_ref().map(agent),
        text_chars_max: account.settings.text_chars_max,
        ways: history.ways.clone(),
    };
    send(ws, joined.encode().into()).await?;
    Ok((Cursor::new(after), history))
}

/// A socket whose page is in.
struct Socket {
    account: Arc<Account>,
    visitor: Visitor,
    thread: SmolStr,
    seat: Seat,
    place: Place<SmolStr>,
    /// The browser's address.
    client: IpAddr,
    cursor: Cursor<Utf8Bytes>,
    pending: FuturesUnordered<Pending>,
    fetch: Option<Fetch>,
    fetch_at: Option<Instant>,
    fetch_tries: u32,
    fetch_failures: u32,
    refreshes: u32,
    heard_at: Instant,
    typing_at: Option<Instant>,
    received: Watermark,
    seen: Watermark,
    receipts_at: Option<Instant>,
}

/// How far something got, and how far that was reported.
#[derive(Debug, Clone, Copy, Default)]
struct Watermark {
    at: u64,
    reported: u64,
}

impl Socket {
    fn new(
        account: Arc<Account>,
        visitor: Visitor,
        thread: SmolStr,
        seat: Seat,
        place: Place<SmolStr>,
        client: IpAddr,
        cursor: Cursor<Utf8Bytes>,
    ) -> Self {
        Self {
            account,
            visitor,
            thread,
            seat,
            place,
            client,
            cursor,
            pending: FuturesUnordered::new(),
            fetch: None,
            fetch_at: None,
            fetch_tries: 0,
            fetch_failures: 0,
            refreshes: 0,
            heard_at: Instant::now(),
            typing_at: None,
            received: Watermark::default(),
            seen: Watermark::default(),
            receipts_at: None,
        }
    }

    async fn run(&mut self, ws: &mut WebSocket) -> End {
        let idle = Duration::from_secs(self.account.settings.idle_seconds_max);
        let mut ping = tokio::time::interval(idle / 3);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let shutdown = self.account.context.shutdown.clone();
        loop {
            let step = tokio::select! {
                biased;
                () = shutdown.draining() => Err(End::Restart),
                Some((stored, outcome)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.stored(ws, stored, outcome).await
                }
                outcome = ready(&mut self.fetch) => self.fetched(ws, outcome).await,
                push = self.seat.pushes.recv() => match push {
                    Some(push) => self.push(ws, push).await,
                    None => Err(End::Later),
                },
                frame = ws.recv() => self.frame(ws, frame).await,
                () = at(self.fetch_at) => {
                    self.fetch_at = None;
                    self.start_fetch();
                    Ok(())
                }
                () = at(self.receipts_at) => {
                    self.report();
                    Ok(())
                }
                _ = ping.tick() => {
                    if self.heard_at.elapsed() > idle { Err(End::Dead) } else { write(ws, WsMessage::Ping(Default::default())).await }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Something came from the page.
    async fn frame(&mut self, ws: &mut WebSocket, frame: Option<Result<WsMessage, axum::Error>>) -> Result<(), End> {
        self.heard_at = Instant::now();
        let text = match frame {
            Some(Ok(WsMessage::Text(text))) => text,
            Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_))) => return Ok(()),
            Some(Ok(WsMessage::Binary(_))) => return Err(End::Policy),
            Some(Ok(WsMessage::Close(_)) | Err(_)) | None => return Err(End::Left),
        };
        match serde_json::from_str(text.as_str()) {
            Ok(ClientFrame::Message(message)) => self.say(ws, message).await,
            Ok(ClientFrame::Switch(wish)) => self.wish(ws, wish).await,
            Ok(ClientFrame::Typing { on }) => {
                self.typing(on).await;
                Ok(())
            }
            Ok(ClientFrame::Received { seq }) => {
                self.received.at = self.received.at.max(seq.min(self.cursor.last()));
                self.report_soon();
                Ok(())
            }
            Ok(ClientFrame::Seen { seq }) => {
                self.seen.at = self.seen.at.max(seq.min(self.cursor.last()));
                self.report_soon();
                Ok(())
            }
            Ok(ClientFrame::Ping) => send(ws, ServerFrame::Pong.encode().into()).await,
            Ok(ClientFrame::Pong) => Ok(()),
            Ok(ClientFrame::Join(_)) => refuse(ws, "invalid", "the page is in already", None).await,
            Err(_) => {
                self.charge()?;
                refuse(ws, "invalid", "the frame is not one of the protocol", None).await
            }
        }
    }

    /// Frames that make no sense cost as much as messages; who sends many of them has to go.
    fn charge(&self) -> Result<(), End> {
        self.place.take(Instant::now()).map_err(|_| End::Policy)
    }

    /// The visitor says something.
    async fn say(&mut self, ws: &mut WebSocket, message: Message) -> Result<(), End> {
        let id = message.client_msg_id.clone();
        let now = adapter::now();
        if let Some((code, words)) = self.unwelcome(now) {
            return complain(ws, code, words, id, None).await;
        }
        if let Err(wait) = self.place.take(Instant::now()) {
            return complain(ws, "rate", "too many messages", id, Some(whole_ms(wait))).await;
        }
        let envelope = normalize::message(&self.account.place, &self.visitor, &message, now);
        self.store(ws, envelope, id.clone(), Stored::Message(id)).await
    }

    /// The visitor wants to go on by another channel.
    async fn wish(&mut self, ws: &mut WebSocket, wish: Switch) -> Result<(), End> {
        let id = wish.client_msg_id.clone();
        let now = adapter::now();
        if let Some((code, words)) = self.unwelcome(now) {
            return complain(ws, code, words, id, None).await;
        }
        let envelope = normalize::switch(&self.account.place, &self.visitor, &wish, now);
        let taken = self.place.take(Instant::now());
        // What is no wish at all does not count as one.
        let taken = taken.and_then(|()| match &envelope {
            Ok(_) => self.account.switches.take(self.client, Instant::now()),
            Err(_) => Ok(()),
        });
        if let Err(wait) = taken {
            return complain(ws, "rate", "too many wishes", id, Some(whole_ms(wait))).await;
        }
        self.store(ws, envelope, id.clone(), Stored::Wish(id)).await
    }

    /// Hands over what the page sent, to be acknowledged when it is stored.
    async fn store(
        &mut self,
        ws: &mut WebSocket,
        envelope: Result<Envelope, Refusal>,
        id: SmolStr,
        stored: Stored,
    ) -> Result<(), End> {
        if self.pending.len() >= TICKETS_MAX {
            return complain(ws, "busy", "too many messages wait", id, Some(RETRY_AFTER_MS)).await;
        }
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(refusal) => return complain(ws, refusal.code(), refusal.message(), id, None).await,
        };
        match self.account.context.inbound.submit(&envelope) {
            Ok(ticket) => {
                self.await_ticket(stored, ticket);
                Ok(())
            }
            Err(error) => self.not_stored(ws, id, &error).await,
        }
    }

    /// Why the visitor may not write, judged for every message.
    fn unwelcome(&self, now: Timestamp) -> Option<(&'static str, &'static str)> {
        match &self.visitor.login {
            None if self.account.settings.login_required => Some(("login_required", "log in to write")),
            Some(login) if login.is_expired(now) => Some(("login_expired", "the login is over")),
            _ => None,
        }
    }

    /// Something was stored, or not.
    async fn stored(
        &mut self,
        ws: &mut WebSocket,
        stored: Stored,
        outcome: Result<Accepted, AcceptError>,
    ) -> Result<(), End> {
        match (stored, outcome) {
            (Stored::Message(client_msg_id), Ok(_)) => {
                self.account.hub.push_others(&self.seat, &Push::Refresh);
                send(ws, ServerFrame::Ack { client_msg_id }.encode().into()).await
            }
            (Stored::Wish(client_msg_id), Ok(_)) => send(ws, ServerFrame::Ack { client_msg_id }.encode().into()).await,
            (Stored::Message(id) | Stored::Wish(id), Err(error)) => self.not_stored(ws, id, &error).await,
            (Stored::Receipt(..), Ok(_)) => Ok(()),
            (Stored::Receipt(status, seq), Err(_)) => {
                let mark = if status == ReceiptStatus::Read { &mut self.seen } else { &mut self.received };
                mark.reported = mark.reported.min(seq - 1);
                self.report_soon();
                Ok(())
            }
        }
    }

    async fn not_stored(&mut self, ws: &mut WebSocket, id: SmolStr, error: &AcceptError) -> Result<(), End> {
        if error.is_retryable() {
            return complain(ws, "busy", "the service is busy", id, Some(RETRY_AFTER_MS)).await;
        }
        tracing::warn!(channel.account = %self.account.place.account.id, %error, "a message cannot be stored");
        complain(ws, "refused", "the message cannot be taken", id, None).await
    }

    /// Something comes for the page.
    async fn push(&mut self, ws: &mut WebSocket, push: Push) -> Result<(), End> {
        match push {
            Push::Frame(frame) => send(ws, frame).await,
            Push::Message { seq, frame } => {
                let frames = self.cursor.offer(seq, frame);
                self.give(ws, frames).await?;
                self.fill();
                Ok(())
            }
            Push::Refresh => {
                self.refreshes = REFRESH_TRIES;
                if self.fetch.is_none() && self.fetch_at.is_none() {
                    self.fetch_at = Some(Instant::now() + REFRESH_AFTER);
                }
                Ok(())
            }
        }
    }

    /// Begins to fetch what is missing, unless that is under way.
    fn fill(&mut self) {
        if self.cursor.missing() && self.fetch.is_none() && (self.fetch_at.is_none() || self.fetch_tries == 0) {
            self.fetch_at = None;
            self.start_fetch();
        }
    }

    fn start_fetch(&mut self) {
        if self.fetch.is_some() {
            return;
        }
        metrics::counter!(Metric::GapFetches.name()).increment(1);
        let (history, thread, after) = (self.account.context.history.clone(), self.thread.clone(), self.cursor.last());
        self.fetch = Some(Box::pin(async move { history.thread(&thread, after, LIMIT_MAX).await }));
    }

    async fn fetched(&mut self, ws: &mut WebSocket, outcome: Result<ThreadHistory, HistoryError>) -> Result<(), End> {
        self.fetch = None;
        let before = self.cursor.last();
        match outcome {
            Ok(history) => {
                self.fetch_failures = 0;
                self.take(ws, history).await?;
            }
            Err(error) => {
                self.fetch_failures += 1;
                tracing::warn!(channel.account = %self.account.place.account.id, %error, "a transcript cannot be had");
                if self.fetch_failures >= FETCH_FAILURES_MAX {
                    return Err(End::Later);
                }
            }
        }
        if self.cursor.last() > before {
            self.fetch_tries = 0;
            self.refreshes = 0;
        }
        if self.cursor.missing() {
            if self.fetch_tries >= FETCH_TRIES_MAX {
                let (skipped, frames) = self.cursor.skip_missing();
                self.skipped(ws, skipped).await?;
                self.give(ws, frames).await?;
                self.fetch_tries = 0;
            } else {
                self.fetch_at = Some(Instant::now() + FETCH.wait(self.fetch_tries));
                self.fetch_tries += 1;
            }
        } else if self.refreshes > 0 {
            self.refreshes -= 1;
            self.fetch_at = Some(Instant::now() + REFRESH_AFTER * 2);
        }
        Ok(())
    }

    /// Gives the page what a transcript brought.
    async fn take(&mut self, ws: &mut WebSocket, history: ThreadHistory) -> Result<(), End> {
        let hub = &self.account.hub;
        if let Some(author) = &history.agent {
            hub.learn_name(author);
        }
        if let Some(conversation) = history.conversation {
            hub.learn(&self.thread, conversation);
        }
        let utterances: Vec<_> =
            history.records.iter().filter_map(|record| render::record(record, |agent| hub.name(agent))).collect();
        // A page that knew nothing is given the newest: what is older than the first of them is out of
        // reach. One that had something is given what follows, and asks again until it is through.
        if self.cursor.last() == 0
            && history.records.len() >= LIMIT_MAX as usize
            && let Some(first) = utterances.iter().map(|utterance| utterance.seq).min()
        {
            let (skipped, frames) = self.cursor.skip_before(first);
            self.skipped(ws, skipped).await?;
            self.give(ws, frames).await?;
        }
        for utterance in utterances {
            let seq = utterance.seq;
            let frames = self.cursor.offer(seq, ServerFrame::Message(utterance).encode().into());
            self.give(ws, frames).await?;
        }
        self.cursor.learn(history.head);
        self.fill_after_join();
        Ok(())
    }

    /// A head beyond what came with the join is fetched soon.
    fn fill_after_join(&mut self) {
        if self.cursor.missing() && self.fetch.is_none() && self.fetch_at.is_none() {
            self.fetch_at = Some(Instant::now() + FETCH.first);
        }
    }

    async fn skipped(&mut self, ws: &mut WebSocket, skipped: Option<(u64, u64)>) -> Result<(), End> {
        let Some((from, to)) = skipped else { return Ok(()) };
        metrics::counter!(Metric::Skipped.name()).increment(to - from + 1);
        send(ws, ServerFrame::Gap { from, to }.encode().into()).await
    }

    async fn give(&mut self, ws: &mut WebSocket, frames: Vec<Utf8Bytes>) -> Result<(), End> {
        for frame in frames {
            send(ws, frame).await?;
            metrics::counter!(Metric::Delivered.name()).increment(1);
        }
        Ok(())
    }

    async fn typing(&mut self, on: bool) {
        let now = Instant::now();
        let too_soon = self.typing_at.is_some_and(|at| now.duration_since(at) < TYPING_EVERY);
        // Stopping is told at once, so that nobody waits for nothing, but no more often either.
        if too_soon && on {
            return;
        }
        let Some(conversation) = self.account.hub.conversation(&self.thread) else { return };
        if !on && self.typing_at.take().is_none() {
            return;
        }
        if on {
            self.typing_at = Some(now);
        }
        let mark = normalize::receipt(&self.account.place, &self.visitor, ReceiptStatus::Read, 0, adapter::now());
        let live = Live {
            conversation,
            threads: vec![ThreadRef { account: mark.account, thread: mark.thread }],
            author: Author { agent: None, display: mark.sender.display },
            customer: true,
            what: if on { "typing" } else { "stopped" }.into(),
            at: mark.received_at,
        };
        self.account.context.live.publish(&live).await;
    }

    fn report_soon(&mut self) {
        let news = self.seen.at > self.seen.reported || self.received.at > self.received.reported.max(self.seen.at);
        if news && self.receipts_at.is_none() {
            self.receipts_at = Some(Instant::now() + RECEIPTS_EVERY);
        }
    }

    fn await_ticket(&mut self, stored: Stored, ticket: Ticket) {
        let counted = Counted::one(&self.account.tickets);
        self.pending.push(Box::pin(async move {
            let outcome = ticket.await;
            drop(counted);
            (stored, outcome)
        }));
    }

    /// Reports how far the page is: what it showed, and what it has beyond that.
    fn report(&mut self) {
        self.receipts_at = None;
        if self.pending.len() + 2 > PENDING_MAX {
            // Later, when it says the same and more.
            self.report_soon();
            return;
        }
        let mut due = Vec::new();
        if self.seen.at > self.seen.reported {
            self.seen.reported = self.seen.at;
            due.push((ReceiptStatus::Read, self.seen.at));
        }
        if self.received.at > self.received.reported.max(self.seen.at) {
            self.received.reported = self.received.at;
            due.push((ReceiptStatus::Delivered, self.received.at));
        }
        for (status, seq) in due {
            let receipt = normalize::receipt(&self.account.place, &self.visitor, status.clone(), seq, adapter::now());
            // Refused at once means too much waits; the next mark says the same and more.
            if let Ok(ticket) = self.account.context.inbound.submit(&receipt) {
                self.await_ticket(Stored::Receipt(status, seq), ticket);
            }
        }
    }

    /// The page is gone or goes: what it said and showed is still stored, and told where it listens.
    async fn farewell(mut self, ws: &mut WebSocket, end: End) {
        self.report();
        let rest = async {
            while let Some((stored, outcome)) = self.pending.next().await {
                if end.code().is_some() && self.stored(ws, stored, outcome).await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL_WITHIN, rest).await;
    }
}

/// Whole milliseconds, at least one.
fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The outcome of a fetch that is under way; never, when none is.
async fn ready(fetch: &mut Option<Fetch>) -> Result<ThreadHistory, HistoryError> {
    match fetch {
        Some(fetch) => fetch.await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn agent(author: &Author) -> Agent {
    Agent { name: author.display.clone() }
}

async fn refuse(ws: &mut WebSocket, code: &'static str, message: &str, retry_after_ms: Option<u64>) -> Result<(), End> {
    Metric::Errors.count(code);
    let frame = ServerFrame::Error { code, message: message.to_owned(), client_msg_id: None, retry_after_ms };
    send(ws, frame.encode().into()).await
}

async fn complain(
    ws: &mut WebSocket,
    code: &'static str,
    message: &str,
    client_msg_id: SmolStr,
    retry_after_ms: Option<u64>,
) -> Result<(), End> {
    Metric::Errors.count(code);
    let client_msg_id = Some(client_msg_id);
    let frame = ServerFrame::Error { code, message: message.to_owned(), client_msg_id, retry_after_ms };
    send(ws, frame.encode().into()).await
}

async fn send(ws: &mut WebSocket, frame: Utf8Bytes) -> Result<(), End> {
    write(ws, WsMessage::Text(frame)).await
}

async fn write(ws: &mut WebSocket, message: WsMessage) -> Result<(), End> {
    match tokio::time::timeout(WRITE_WITHIN, ws.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::Dead),
    }
}
