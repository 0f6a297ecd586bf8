//! The supervisors' wall: one page that shows conversations being routed.
//!
//! It only reads, by the same commands as any operator's tool (`status.show`, `agent.list`,
//! `conversation.list`, `conversation.explain`). It shows numbers and decisions; what customers and
//! agents write never leaves this crate: the shapes it serves have no field for it.
//!
//! There is no login. Serve it on a loopback address, or behind something that has one.

mod ask;
mod cache;
mod conversation;
mod overview;
pub mod tool;
pub mod words;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use contract::command::AdminCommand;
use contract::{ConversationId, TenantId};
use futures_util::FutureExt;
use serde::Serialize;

pub use ask::Failure;

use ask::Ask;
use cache::{Cache, Caches};

/// How long an answer of the router serves every page that is open.
const FRESH: Duration = Duration::from_millis(500);
/// How many conversations' answers are kept to be shared.
const PANELS_MAX: usize = 64;

const PAGE: &str = include_str!("../page/wall.html");
const SCRIPT: &str = include_str!("../page/wall.js");
const STYLE: &str = include_str!("../page/wall.css");
const ICON: &str = include_str!("../page/wall.svg");

/// JSON that is ready to be sent, or why there is none.
type Json = Result<Bytes, Failure>;

struct Wall {
    tenant: TenantId,
    ask: Ask,
    overview: Cache<Json>,
    panels: Caches<ConversationId, Json>,
}

/// The wall of one tenant, asking the router over the bus.
pub fn router(bus: bus::Bus, tenant: TenantId) -> Router {
    build(ask::over(bus, tenant.clone()), tenant)
}

/// The wall with another way of asking: `ask` returns the router's reply to a question, in JSON. For
/// previews and tests of the page.
pub fn router_asking<F, A>(ask: F, tenant: TenantId) -> Router
where
    F: Fn(AdminCommand) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Vec<u8>, Failure>> + Send + 'static,
{
    let ask: Ask = Arc::new(move |question| ask(question).map(|reply| reply.map(Bytes::from)).boxed());
    build(ask, tenant)
}

fn build(ask: Ask, tenant: TenantId) -> Router {
    let wall = Wall { tenant, ask, overview: Cache::new(FRESH), panels: Caches::new(PANELS_MAX, FRESH) };
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route("/wall.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/wall.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/wall.svg", get(|| async { file("image/svg+xml", ICON) }))
        .route("/wall/state", get(state))
        .route("/wall/conversation/{id}", get(explain))
        .layer(map_response(guard))
        .with_state(Arc::new(wall))
}

/// Part of the page: kept by browsers, but asked about every time, so that an upgrade shows at once.
fn file(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

async fn state(State(wall): State<Arc<Wall>>) -> Response {
    let fetch = || async { overview::fetch(&wall.ask, &wall.tenant).await.and_then(|overview| encode(&overview)) };
    respond(wall.overview.get(fetch).await)
}

async fn explain(State(wall): State<Arc<Wall>>, Path(id): Path<String>) -> Response {
    let id = match id.parse::<ConversationId>() {
        Ok(id) => id,
        Err(error) => return respond(Err(Failure::malformed_id(error.to_string()))),
    };
    let fetch = || async { conversation::fetch(&wall.ask, id).await.and_then(|panel| encode(&panel)) };
    respond(wall.panels.of(id).get(fetch).await)
}

fn encode(value: &impl Serialize) -> Json {
    let bytes = serde_json::to_vec(value);
    bytes.map(Bytes::from).map_err(|error| Failure::unreadable(format!("the answer cannot be written: {error}")))
}

fn respond(json: Json) -> Response {
    let (status, body) = match json {
        Ok(body) => (StatusCode::OK, body),
        Err(failure) => {
            let body = serde_json::json!({ "reason": failure.reason, "message": failure.message });
            (failure.status(), body.to_string().into())
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// What the page may do, and who may embed it: itself, and nobody.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
