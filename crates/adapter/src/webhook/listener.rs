//! The listener: bounds, reads and answers requests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::drain::Shutdown;
use runtime::metrics::Counted;
use runtime::trace;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::keep::Keeper;
use super::registry::{Endpoint, Shared, Siblings, Webhooks};
use super::{Reply, Request, Verdict, depth, peer, take, tls};
use crate::channel::OpenError;
use crate::clock;
use crate::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use crate::telemetry::Metric;

/// How long the TLS handshake and the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A connection is closed after so long, in good order.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// When a provider should come again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// How long accepting rests when the system has no more sockets.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Webhooks {
    /// Serves every endpoint until the drain begins, finishes what is under way, and returns: at the drain's deadline
    /// at the latest. Everybody who serves or claims something must have done so before.
    ///
    /// # Errors
    /// When it is served already.
    pub async fn serve(self, shutdown: Shutdown) -> Result<(), OpenError> {
        let listener = self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(listener) = listener else { return Err(OpenError::new("webhook", "there is nothing to listen on")) };
        let shared = Arc::clone(&self.shared);
        let keeper = self.shared.keeper.get_or_init(Keeper::start);
        accept(shared, listener, &shutdown).await;
        let deadline = shutdown.deadline().unwrap_or_else(Instant::now);
        if tokio::time::timeout_at(deadline, keeper.idle()).await.is_err() {
            tracing::warn!("not every original was kept before the deadline");
        }
        Ok(())
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, shutdown: &Shutdown) {
    let most = shared.settings.connections_max;
    let places = Arc::new(Semaphore::new(most));
    let open = Arc::new(Open { most: (most / 4).max(8), by_peer: Mutex::default() });
    let connections = metrics::gauge!(Metric::HookConnections.name());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.draining() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the webhooks was not accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let place = Arc::clone(&places).try_acquire_owned();
        let peer = address.ip().to_canonical();
        let listed = shared.proxies.iter().any(|network| network.contains(peer));
        let (Ok(place), Some(one)) = (place, open.add(peer, listed)) else {
            refused("connections");
            continue;
        };
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        let counted = Counted::one(&connections);
        tokio::spawn(async move {
            connection(shared, stream, address, &shutdown).await;
            drop((place, one, counted));
        });
    }
    drop(listener);
    let deadline = shutdown.deadline().unwrap_or_else(Instant::now);
    let all = places.acquire_many(u32::try_from(most).unwrap_or(u32::MAX));
    if tokio::time::timeout_at(deadline, all).await.is_err() {
        tracing::warn!("webhook requests did not finish before the deadline");
    }
}

/// How many connections each peer has open. One peer may have a part of them; listed proxies speak for many.
struct Open {
    most: usize,
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

struct One {
    open: Arc<Open>,
    peer: Option<IpAddr>,
}

impl Open {
    fn add(self: &Arc<Self>, peer: IpAddr, listed: bool) -> Option<One> {
        let open = Arc::clone(self);
        if listed {
            return Some(One { open, peer: None });
        }
        {
            let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_peer.entry(peer).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(One { open, peer: Some(peer) })
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut by_peer = self.open.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&peer);
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, address: SocketAddr, shutdown: &Shutdown) {
    // Answers are small and whole.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = shared.tls() else {
        return speak(shared, stream, address, None, shutdown).await;
    };
    match tokio::time::timeout(HEAD_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first());
            let subject = shown.and_then(|certificate| tls::subject(certificate));
            speak(shared, stream, address, subject, shutdown).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            refused("tls");
        }
        Err(_) => refused("tls"),
    }
}

async fn speak(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    client_subject: Option<String>,
    shutdown: &Shutdown,
) {
    let within = shared.settings.request_time();
    let service = service_fn(move |request| {
        let (shared, client_subject) = (Arc::clone(&shared), client_subject.clone());
        async move { Ok::<_, Infallible>(handle(shared, request, address, client_subject).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN.min(within))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.draining() => {}
        () = tokio::time::sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Whoever does not read its answer is not waited for.
    let _ = tokio::time::timeout(within, connection).await;
}

/// Why a request ends without its hook's reply.
enum End {
    Refused(StatusCode, &'static str),
    Unavailable,
}

async fn handle(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
    address: SocketAddr,
    client_subject: Option<String>,
) -> Response<Full<Bytes>> {
    let begun = Instant::now();
    let deadline = begun + shared.settings.request_time();
    let peer = peer::believed(address.ip(), request.headers(), &shared.proxies);
    if let Err(wait) = shared.rate.take(&peer.to_string(), begun) {
        refused("rate");
        let seconds = wait.as_secs() + 1;
        let mut answer = empty(StatusCode::TOO_MANY_REQUESTS);
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return answer;
    }
    let target = request.uri().path_and_query().map(|target| target.as_str().to_owned()).unwrap_or_default();
    let path = request.uri().path();
    let mut places = path.strip_prefix("/hook/").unwrap_or_default().splitn(3, '/');
    let (kind, account, suffix) = (places.next(), places.next(), places.next());
    let place = format!("{}/{}", kind.unwrap_or_default(), account.unwrap_or_default());
    let Some(endpoint) = shared.endpoint(&place) else {
        refused("no_endpoint");
        return empty(StatusCode::NOT_FOUND);
    };
    // A provider's own trace is not followed: it could make ours whatever it likes.
    let mut span = trace::start("receive", trace::Kind::Server, None);
    if trace::is_on() {
        span.set("channel.kind", endpoint.way.account.kind.to_string());
        span.set("channel.account", endpoint.way.account.id.to_string());
    }
    let suffix = suffix.unwrap_or_default().to_owned();
    let (parts, body) = request.into_parts();
    let ended = async {
        let body = tokio::time::timeout_at(deadline, read(body, &parts.headers, shared.settings.body_bytes_max)).await;
        let body = body.unwrap_or(Err(End::Refused(StatusCode::REQUEST_TIMEOUT, "slow")))?;
        if !depth::fits(&body, shared.settings.depth_max) {
            return Err(End::Refused(StatusCode::BAD_REQUEST, "too_deep"));
        }
        let mut url = String::with_capacity(128);
        url.push_str(shared.base_url());
        url.push_str(&target);
        let request = Request {
            query: parts.uri.query().map(ToOwned::to_owned),
            method: parts.method,
            url,
            target,
            suffix,
            headers: parts.headers,
            body,
            peer,
            client_subject,
            at: clock::now(),
        };
        judge(&shared, &endpoint, &request, deadline, span.context()).await
    }
    .await;
    let way = &endpoint.way;
    endpoint.seconds.record(begun.elapsed());
    match ended {
        Ok(reply) => {
            endpoint.answered.increment(1);
            answer(reply)
        }
        Err(End::Refused(status, why)) => {
            span.fail(why);
            metrics::counter!(
                Metric::HookRefused.name(),
                "channel_kind" => way.account.kind.to_string(),
                "channel_account" => way.account.id.to_string(),
                "reason" => why,
            )
            .increment(1);
            tracing::debug!(channel.kind = %way.account.kind, channel.account = %way.account.id, why, "a webhook request is refused");
            way.health.note(|| format!("a webhook request was refused: {why}"));
            empty(status)
        }
        Err(End::Unavailable) => {
            span.fail("unavailable");
            endpoint.unavailable.increment(1);
            let mut answer = empty(StatusCode::SERVICE_UNAVAILABLE);
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            answer
        }
    }
}

/// Reads a body that is not too large.
async fn read(mut body: Incoming, headers: &HeaderMap, bytes_max: usize) -> Result<Bytes, End> {
    let too_large = || End::Refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large");
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if encoded {
        return Err(End::Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoded"));
    }
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| End::Refused(StatusCode::BAD_REQUEST, "cut_off"))?;
        let Ok(piece) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + piece.len() > bytes_max {
            return Err(too_large());
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&piece),
            // Most bodies come in one piece and are not copied.
            None if first.is_empty() => first = piece,
            None => {
                let mut all = BytesMut::with_capacity(so_far + piece.len());
                all.extend_from_slice(&first);
                all.extend_from_slice(&piece);
                rest = Some(all);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

async fn judge(
    shared: &Arc<Shared>,
    endpoint: &Arc<Endpoint>,
    request: &Request,
    deadline: Instant,
    parent: Option<String>,
) -> Result<Reply, End> {
    let siblings = Siblings::live(Arc::clone(shared), Arc::clone(&endpoint.way));
    let judged = std::panic::catch_unwind(AssertUnwindSafe(|| endpoint.hook.receive(request, &siblings)));
    let verdict = judged.map_err(|_| {
        tracing::error!(channel.kind = %endpoint.way.account.kind, channel.account = %endpoint.way.account.id, "a webhook's hook failed");
        End::Refused(StatusCode::INTERNAL_SERVER_ERROR, "panic")
    })?;
    let (items, then) = match verdict {
        Verdict::Refuse { status, why } => return Err(End::Refused(status, why)),
        Verdict::Answer(reply) => return Ok(reply),
        Verdict::Take { items, reply } => (items, Then::Reply(reply)),
        Verdict::Later { items, answer } => (items, Then::Ask(answer)),
    };
    // In a task of its own: what was begun is finished even when the provider hangs up, so that nothing that follows
    // from a stored envelope is left out.
    let (shared, way) = (Arc::clone(shared), Arc::clone(&endpoint.way));
    if !items.is_empty() {
        let storing =
            tokio::spawn(async move { take::store(&shared, &way, &siblings, items, parent.as_deref()).await });
        match tokio::time::timeout_at(deadline, storing).await {
            Ok(Ok(Ok(()))) => {}
            _ => return Err(End::Unavailable),
        }
    }
    match then {
        Then::Reply(reply) => Ok(reply),
        Then::Ask(answer) => tokio::time::timeout_at(deadline, answer).await.map_err(|_| End::Unavailable),
    }
}

enum Then {
    Reply(Reply),
    Ask(crate::BoxFuture<'static, Reply>),
}

fn answer(reply: Reply) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(reply.body));
    *answer.status_mut() = reply.status;
    if let Some(content_type) = reply.content_type {
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in reply.headers {
        answer.headers_mut().append(name, value);
    }
    answer
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// Counts what is refused before it is known whom it is for.
fn refused(reason: &'static str) {
    metrics::counter!(Metric::HookRefused.name(), "reason" => reason).increment(1);
}
