//! The admin endpoint: `/`, `/stats`, `/stats/events`, `/stats/history`, `/histograms`, `/metrics`,
//! `/health`, `/ready`, `/config`, and `PATCH /pools/{pool}/backends/{backend}`.
//!
//! Whoever asks cannot hold more than is bounded: `places` bounds connections and pages, `patience`
//! how long an answer may take to be taken.

mod patience;
mod places;

use std::{
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::sockopt;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use self::{
    patience::Patient,
    places::{Client, Places},
};
use super::{
    App,
    access::{self, Asked, Refusal},
    events, gather, histograms, metrics, operator, page,
    pools::Pool,
    seconds, stats,
};
use crate::bridge::{Phase, ShardState};

/// How long a request's head may take.
const HEADER_MAX: Duration = Duration::from_secs(5);

/// How long a request may take once its head is there, body included: who is slower holds one of
/// few places.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// What the kernel may hold of an answer that is not read, and doubles; its own bound is megabytes.
const SEND_BUFFER: usize = 256 * 1024;

/// After an accept that failed (no descriptor left).
const PAUSE: Duration = Duration::from_millis(50);

/// Binds the admin listener; done before the first connection is served.
///
/// # Errors
/// What the kernel says.
pub fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let listener = net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Connections inherit it.
    sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    Ok(listener)
}

/// Serves for ever, a bounded number of connections at a time.
pub async fn serve(app: Arc<App>, listener: TcpListener) {
    let router = Router::new()
        .route("/stats", get(stats_page))
        .route("/stats/events", get(events::page))
        .route("/stats/history", get(seconds::page))
        .route("/histograms", get(histograms_page))
        .route("/metrics", get(metrics_page))
        .route("/config", get(config_page))
        .route_layer(middleware::from_fn_with_state(places::room(), places::hold))
        // Those below are small, or there once for all.
        .route("/", get(page::page))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready_page))
        .route("/pools/{pool}/backends/{backend}", patch(operator::change_backend))
        .layer(DefaultBodyLimit::max(operator::BODY_MAX))
        .fallback(no_page)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app);
    let places = Places::new();
    loop {
        let place = places.one().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = places.seat(place);
                let client = Client { peer, probes_only: place.probes_only() };
                let router = router.clone().layer(Extension(client));
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(place.lasts(), one(router, stream)).await;
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
        .serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(router))
        .await;
}

/// Lets a request through, or says why not (`access`). Who asked for a change is logged, whatever
/// came of it.
async fn guard(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let Client { peer, probes_only } = client;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = match judge(&app, peer, &request) {
        Ok(()) if probes_only && !access::is_probe(&method, &path) => {
            places::for_probes(&method, &path)
        }
        Ok(()) => match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => too_slow(&method, &path),
        },
        Err(Refusal::Unclear(sentence)) => (StatusCode::BAD_REQUEST, sentence).into_response(),
        Err(Refusal::Foreign(sentence)) => (StatusCode::FORBIDDEN, sentence).into_response(),
        Err(Refusal::Token(sentence)) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, sentence).into_response()
        }
    };
    if probes_only {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if access::changes(&method) {
        let status = answer.status().as_u16();
        tracing::info!(%peer, %method, path, status, "change asked for");
    }
    answer
}

fn judge(app: &App, peer: SocketAddr, request: &Request) -> Result<(), Refusal> {
    let all = |name: HeaderName| {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or("?")).collect::<Vec<_>>()
    };
    let asked = Asked {
        peer: peer.ip(),
        method: request.method(),
        path: request.uri().path(),
        needs_host: request.version() >= Version::HTTP_11,
        authority: request.uri().authority().map(|authority| authority.as_str()),
        hosts: &all(header::HOST),
        origins: &all(header::ORIGIN),
        authorization: all(header::AUTHORIZATION).first().copied(),
    };
    access::judge(&asked, app.config.admin.token.as_ref())
}

fn too_slow(method: &Method, path: &str) -> Response {
    let rule = "the request was not all there in time (send it within 10 s)";
    // What comes of it later must not be taken for the next request.
    let close = [(header::CONNECTION, "close")];
    (StatusCode::REQUEST_TIMEOUT, close, format!("{method} {path}: {rule}\n")).into_response()
}

async fn no_page(uri: Uri) -> impl IntoResponse {
    let way_out = "there are /, /stats, /stats/events, /stats/history, /histograms, /metrics, \
                   /health, /ready, /config and PATCH /pools/{pool}/backends/{backend}";
    (StatusCode::NOT_FOUND, format!("{}: no such page ({way_out})\n", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> impl IntoResponse {
    let rule = "this page knows no such method (the Allow header has those it knows)";
    (StatusCode::METHOD_NOT_ALLOWED, format!("{method} {}: {rule}\n", uri.path()))
}

async fn stats_page(State(app): State<Arc<App>>) -> impl IntoResponse {
    gather::gather(&app);
    ([(header::CONTENT_TYPE, "application/json")], stats::render(&app))
}

async fn histograms_page(State(app): State<Arc<App>>) -> impl IntoResponse {
    gather::gather(&app);
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], histograms::render(&app))
}

async fn metrics_page(
    State(app): State<Arc<App>>,
    headers: header::HeaderMap,
) -> impl IntoResponse {
    gather::gather(&app);
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (kind, page) = metrics::render(&app, &values.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, kind)], page)
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
    let mut answer = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    let warnings = panicking(&app);
    if !warnings.is_empty() {
        answer["warnings"] = warnings.into();
    }
    (status, Json(answer))
}

/// Not ready is more than this: a pool in panic serves whom it can.
fn panicking(app: &App) -> Vec<String> {
    let sentence = |pool: &Pool| {
        let (name, healthy) = (&pool.name, pool.healthy());
        let all = pool.backends().count();
        format!("pool {name} is in panic: {healthy} of {all} backends healthy, all are used")
    };
    app.pools_in_force().all().filter(|pool| pool.panicking).map(sentence).collect()
}

fn unready(app: &App) -> Vec<String> {
    let mut reasons = Vec::new();
    if app.bridge.phase() > Phase::Running {
        reasons.push("draining".to_owned());
    }
    if app.bridge.boards.shards.iter().any(|shard| shard.state() == ShardState::Starting) {
        reasons.push("starting".to_owned());
    }
    let pools = app.pools_in_force();
    for listener in &app.bridge.plan.listeners {
        let pool = pools.get(listener.pool);
        if pool.healthy() == 0 {
            let (pool, name) = (&pool.name, &listener.name);
            reasons.push(format!("listener {name}: pool {pool} has no usable backend"));
        }
    }
    reasons
}
