//! Is it alive, is it ready, how is it doing: `/healthz`, `/readyz` and `/metrics` on one small
//! server, to which the daemon adds its own pages.
//!
//! Alive means that the process answers. Ready means that every [`Component`] says it is up; each
//! registers itself and tells its own state, with a reason when it is down.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::settings::Problem;

/// How long open requests may take once the server is told to end.
const GRACE: Duration = Duration::from_secs(2);

/// What is up and what is down; its clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    components: Mutex<BTreeMap<String, Standing>>,
    /// The process ends as it was told to.
    ending: AtomicBool,
}

/// `None`: up. `Some`: down, and why.
type Standing = Option<String>;

/// The state of everything, as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether everything is up.
    pub ready: bool,
    /// The parts by name.
    pub components: Vec<ComponentReadiness>,
}

/// The state of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentReadiness {
    /// Which part.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// Nothing registered yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a part of the process; it counts as down until it says that it is up.
    #[must_use]
    pub fn component(&self, name: impl Into<String>) -> Component {
        let component = Component { health: self.clone(), name: name.into() };
        component.down("starting");
        component
    }

    /// The state of everything now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let components: Vec<_> = self
            .components()
            .iter()
            .map(|(name, standing)| ComponentReadiness {
                name: name.clone(),
                up: standing.is_none(),
                reason: standing.clone(),
            })
            .collect();
        Readiness { ready: components.iter().all(|component| component.up), components }
    }

    /// The process ends because it was told to: what goes down from now on is no cause for a warning.
    pub fn ending(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.0.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part of the process. Dropping it leaves its last word standing; see [`Component::retire`].
#[derive(Clone, Debug)]
pub struct Component {
    health: Health,
    name: String,
}

impl Component {
    /// It works.
    pub fn up(&self) {
        self.tell(None);
    }

    /// It does not work, and why; one line for an operator.
    pub fn down(&self, reason: impl Into<String>) {
        self.tell(Some(reason.into()));
    }

    /// It is no longer part of the process.
    pub fn retire(self) {
        self.health.components().remove(&self.name);
    }

    fn tell(&self, standing: Standing) {
        let before = self.health.components().insert(self.name.clone(), standing.clone());
        match (before, standing) {
            (Some(before), now) if before == now => {}
            (_, None) => tracing::info!(component = %self.name, "up"),
            (Some(None), Some(reason)) if self.health.0.ending.load(Ordering::Relaxed) => {
                tracing::info!(component = %self.name, reason, "down");
            }
            (Some(None), Some(reason)) => tracing::warn!(component = %self.name, reason, "down"),
            (_, Some(reason)) => tracing::debug!(component = %self.name, reason, "not up yet"),
        }
    }
}

/// The server, bound but not yet answering.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    router: Router,
    metrics: Metrics,
}

impl Server {
    /// Takes the address. `more` is served beside the three pages of this module.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(listen: SocketAddr, health: Health, metrics: Metrics, more: Router) -> Result<Self, Problem> {
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            Problem::new(
                "http.listen",
                "",
                format!("cannot listen on {listen}: {error}; free it or choose another address"),
            )
        })?;
        let router = router(health, metrics.clone()).merge(more);
        Ok(Self { listener, router, metrics })
    }

    /// The address it listens on, with the port that was chosen when the settings said 0.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `until` is over, then lets open requests finish for two seconds.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, until: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let (ended, mut end) = tokio::sync::watch::channel(false);
        let stop = async move {
            until.await;
            ended.send_replace(true);
            // Kept until the server is gone, or waiting for it below would end early.
            ended
        };
        let late = async move {
            if end.wait_for(|ended| *ended).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(GRACE).await;
        };
        let server = axum::serve(self.listener, self.router).with_graceful_shutdown(async move {
            let _ended = stop.await;
        });
        tokio::select! {
            outcome = server => outcome,
            () = late => Ok(()),
            () = self.metrics.upkeep() => Ok(()),
        }
    }
}

/// The three pages as a router, for a process that serves them with something else.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(render).with_state(metrics))
}

async fn readyz(State(health): State<Health>) -> Response {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}

async fn render(State(metrics): State<Metrics>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn request(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_components() {
        let health = Health::new();
        let more = Router::new().route("/wall", get(|| async { "wall" }));
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(listen, health.clone(), Metrics::detached(), more).await.unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));

        assert!(request(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let bus = health.component("bus");
        let answer = request(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with(r#"{"ready":false,"components":[{"name":"bus","up":false,"reason":"starting"}]}"#));
        bus.up();
        let answer = request(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with(r#"{"ready":true,"components":[{"name":"bus","up":true}]}"#), "{answer}");
        bus.retire();
        assert!(health.readiness().components.is_empty());
        assert!(request(address, "/wall").await.ends_with("wall"));
        assert!(request(address, "/metrics").await.contains("process_resident_memory_bytes "));

        // A taken address is said with what to do.
        let taken = Server::bind(address, health, Metrics::detached(), Router::new()).await.unwrap_err();
        assert!(taken.to_string().contains(&format!("cannot listen on {address}")), "{taken}");

        // An idle connection does not hold up the end.
        let _idle = tokio::net::TcpStream::connect(address).await.unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
    }
}
