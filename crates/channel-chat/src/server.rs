//! The listener: the widget's files and the upgrade to a WebSocket. Accounts with the same address
//! share one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use adapter::runtime::metrics::Counted;
use adapter::{OpenError, Shutdown};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::channel::Account;
use crate::limits;
use crate::socket;
use crate::telemetry::Metric;

/// How long a request's head may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Most connections of a listener, before anything is known of them.
const CONNECTIONS_MAX: usize = 65_536;

const WIDGET: &str = include_str!("../widget/widget.js");
const DEMO: &str = include_str!("../widget/demo.html");
const DEMO_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'";

/// The listeners of a process, by address.
#[derive(Default)]
pub(crate) struct Listeners {
    open: Mutex<HashMap<SocketAddr, Arc<Accounts>>>,
}

/// The accounts of a listener, by name.
#[derive(Default)]
struct Accounts {
    by_name: DashMap<String, Arc<Account>>,
    /// The first that has a demo page: where the bare address leads.
    demo: OnceLock<String>,
}

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
struct Peer(IpAddr);

impl Listeners {
    /// Serves an account on an address, which is bound when nobody has yet.
    pub(crate) async fn serve(&self, address: SocketAddr, account: Arc<Account>) -> Result<(), OpenError> {
        let mut open = self.open.lock().await;
        let accounts = match open.get(&address) {
            Some(accounts) => Arc::clone(accounts),
            None => {
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(|error| OpenError::new(&format!("cannot listen on {address} (setting listen)"), error))?;
                let bound = listener.local_addr().unwrap_or(address);
                tracing::info!(%bound, "live chat listens");
                let accounts = Arc::new(Accounts::default());
                tokio::spawn(accept(listener, Arc::clone(&accounts), account.context.shutdown.clone()));
                open.insert(address, Arc::clone(&accounts));
                accounts
            }
        };
        let name = account.place.account.id.to_string();
        if account.settings.demo {
            let path = format!("/chat/{}/demo", percent(&name));
            tracing::info!(path, "the demo page is served");
            // The first one stays.
            let _ = accounts.demo.set(path);
        }
        match accounts.by_name.entry(name) {
            Entry::Occupied(_) => Err(OpenError(format!("two accounts of this name listen on {address}"))),
            Entry::Vacant(vacant) => {
                vacant.insert(account);
                Ok(())
            }
        }
    }
}

async fn accept(listener: TcpListener, accounts: Arc<Accounts>, shutdown: Shutdown) {
    let app = Router::new()
        .route("/", get(home))
        .route("/chat/{account}/widget.js", get(widget))
        .route("/chat/{account}/demo", get(demo))
        .route("/chat/{account}/socket", get(upgrade))
        .with_state(accounts);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = metrics::gauge!(Metric::Connections.name());
    loop {
        let accepted = tokio::select! {
            () = shutdown.draining() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: they come back.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            Metric::Rejected.count("listener_full");
            continue;
        };
        let (app, shutdown) = (app.clone(), shutdown.clone());
        let counted = Counted::one(&connections);
        tokio::spawn(async move {
            serve(stream, peer, app, shutdown).await;
            drop((permit, counted));
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, app: Router, shutdown: Shutdown) {
    // Frames are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let app = TowerToHyperService::new(app);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        app.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.draining() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A name as it stands in a path.
pub(crate) fn percent(name: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    name.bytes().map(byte).collect()
}

async fn home(State(accounts): State<Arc<Accounts>>) -> Response {
    match accounts.demo.get() {
        Some(path) => Redirect::temporary(path).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn widget(State(accounts): State<Arc<Accounts>>, Path(name): Path<String>) -> Response {
    if !accounts.by_name.contains_key(&name) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ];
    (headers, WIDGET).into_response()
}

async fn demo(State(accounts): State<Arc<Accounts>>, Path(name): Path<String>) -> Response {
    if !accounts.by_name.get(&name).is_some_and(|account| account.settings.demo) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, DEMO_POLICY),
    ];
    (headers, DEMO).into_response()
}

async fn upgrade(
    State(accounts): State<Arc<Accounts>>,
    Path(name): Path<String>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Some(account) = accounts.by_name.get(&name).map(|account| Arc::clone(&account)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    if !account.origins.allow(text(header::ORIGIN), text(header::HOST)) {
        Metric::Rejected.count("origin");
        tracing::debug!(channel.account = name, "a page of another origin was refused");
        return StatusCode::FORBIDDEN.into_response();
    }
    if account.context.shutdown.is_draining() {
        return unavailable(1);
    }
    let Ok(place) = Arc::clone(&account.connections).try_acquire_owned() else {
        Metric::Rejected.count("connections");
        return unavailable(10);
    };
    let forwarded: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value: &HeaderValue| value.to_str().ok()).collect();
    let client = limits::client(peer, &forwarded, &account.proxies);
    let now = Instant::now();
    let address = account.by_ip.enter(client, now).filter(|address| address.take(now).is_ok());
    let Some(address) = address else {
        Metric::Rejected.count("address");
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "10")]).into_response();
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into_response(),
    };
    let frame_bytes_max = account.settings.frame_bytes_max;
    upgrade.max_message_size(frame_bytes_max).max_frame_size(frame_bytes_max).on_upgrade(move |ws| async move {
        socket::serve(account, ws, client).await;
        drop((place, address));
    })
}

fn unavailable(retry_after_s: u32) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, retry_after_s.to_string())]).into_response()
}
