//! The admin endpoint: `/stats`, `/metrics`, `/health`, `/ready`, `/config`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{App, gather, metrics, stats};
use crate::{bridge::Phase, limits::ADMIN_CONNS_MAX};

/// How long a request's head may take.
const HEADER_MAX: Duration = Duration::from_secs(5);

/// How long a connection may last; scrapers that keep theirs open come back.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// After an accept that failed (no descriptor left).
const PAUSE: Duration = Duration::from_millis(50);

/// Binds the admin listener.
///
/// # Errors
/// A sentence that names the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                " (another process has it: stop that one, or write \
                                         another admin.listen)"
            }
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on admin {address}: {error}{hint}"))
    })
}

/// Serves for ever, a bounded number of connections at a time.
pub async fn serve(app: Arc<App>, listener: TcpListener) {
    let router = Router::new()
        .route("/stats", get(stats_page))
        .route("/metrics", get(metrics_page))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready_page))
        .route("/config", get(config_page))
        .with_state(app);
    let places = Arc::new(Semaphore::new(ADMIN_CONNS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_MAX, one(router, stream)).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn one(router: Router, stream: TcpStream) {
    // A client that hangs up early is no news.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

async fn stats_page(State(app): State<Arc<App>>) -> impl IntoResponse {
    gather::gather(&app);
    Json(stats::render(&app))
}

async fn metrics_page(
    State(app): State<Arc<App>>,
    headers: header::HeaderMap,
) -> impl IntoResponse {
    gather::gather(&app);
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (kind, text) = metrics::render(&app, accept);
    ([(header::CONTENT_TYPE, kind)], text)
}

async fn config_page(State(app): State<Arc<App>>) -> impl IntoResponse {
    Json(app.config.to_json())
}

async fn ready_page(State(app): State<Arc<App>>) -> impl IntoResponse {
    let reasons = unready(&app);
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })))
}

fn unready(app: &App) -> Vec<String> {
    let mut reasons = Vec::new();
    if app.bridge.phase() > Phase::Running {
        reasons.push("draining".to_owned());
    }
    for listener in &app.bridge.plan.listeners {
        if !app.bridge.usable(listener.pool) {
            let pool = &app.bridge.plan.pools[listener.pool].name;
            let name = &listener.name;
            reasons.push(format!("listener {name}: pool {pool} has no usable backend"));
        }
    }
    reasons
}
