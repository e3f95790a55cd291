//! Connections to the endpoint, from accept to answer: which page there is, and who may ask.

use std::{
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, RawQuery, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use hyper::{server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{
    Clients, Endpoint,
    access::{self, Asked, Refusal},
    desk::Desk,
    gzip, operator,
    patience::Patient,
    places::{self, Places},
};
use crate::{
    config::{Pool, Token, quoted},
    coordinator::{
        facts::Facts,
        shown::shown,
        tell::{events, gather, histograms, metrics, page, ready, seconds, stats},
    },
    sock::BACKLOG,
};

/// How long a request may take once its head is there, body included: who is slower holds one of
/// few places.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// What the kernel may hold of an answer that is not read, and doubles; its own bound is megabytes.
const SEND_BUFFER: usize = 256 * 1024;

/// Bytes of a request's head, and of what is read of its body at once.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After an accept that failed (no descriptor left).
const PAUSE: Duration = Duration::from_millis(50);

/// While everybody who could make room for somebody else is being answered.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Binds the admin listener; done before the first connection is served.
///
/// # Errors
/// What the kernel says.
pub fn bind(address: SocketAddr) -> io::Result<net::TcpListener> {
    let listener = net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // Connections inherit it.
    sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    // What std asks for is so short that a probe behind a crowd waits for its second SYN.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Serves for ever, a bounded number of connections at a time.
pub async fn serve(endpoint: Endpoint, listener: TcpListener) {
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
        .route("/ready", get(ready::page))
        .route("/ready/{listener}", get(ready::page_of))
        .route("/pools/{pool}/backends/{backend}", patch(operator::change_backend))
        .layer(DefaultBodyLimit::max(operator::BODY_MAX))
        .fallback(no_page)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(endpoint.clone(), guard))
        .with_state(endpoint.clone());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => take(&endpoint.clients, &router, stream, peer).await,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        // The next one may push this one out: what it has asked by now is read before.
        tokio::task::yield_now().await;
    }
}

async fn take(clients: &Arc<Clients>, router: &Router, stream: TcpStream, peer: SocketAddr) {
    let (place, left) = loop {
        match Places::seat(clients, peer.ip()) {
            Some(seat) => break seat,
            None => tokio::time::sleep(NO_ROOM_PAUSE).await,
        }
    };
    let lasts = place.lasts();
    let desk = Arc::new(Desk::new(peer, place));
    let one = one(router.clone(), stream, desk, left);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(lasts, one).await;
    });
}

/// Serves a connection until it ends, or has to make room.
async fn one(router: Router, stream: TcpStream, desk: Arc<Desk>, left: oneshot::Receiver<()>) {
    let (header_max, stream) = (desk.place.header_max(), Patient::new(stream, Arc::clone(&desk)));
    let router = TowerToHyperService::new(router);
    let asked = hyper::service::service_fn(move |mut request: hyper::Request<_>| {
        request.extensions_mut().insert(Arc::clone(&desk));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), asked);
    tokio::select! {
        // A client that hangs up early is no news.
        _ = connection => {}
        _ = left => {}
    }
}

/// Lets a request through, or says why not (`access`). Who asked for a change is logged, whatever
/// came of it.
async fn guard(
    State(endpoint): State<Endpoint>,
    Extension(desk): Extension<Arc<Desk>>,
    request: Request,
    next: Next,
) -> Response {
    desk.place.is_busy(true);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let token = endpoint.facts.config.admin.token.as_ref();
    let is_last = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut answer = match judge(token, &desk, &request) {
        Ok(()) if desk.place.probes_only() && !access::is_probe(&method, &path) => {
            places::for_probes(&method, &path)
        }
        Ok(()) if method == Method::OPTIONS => options(&path, next.run(request).await),
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
    let (status, changes) = (answer.status(), access::changes(&method));
    let refused = changes && !status.is_success();
    // Whoever is refused has to connect again, and waits its turn then.
    let ends = refused || is_last || status == StatusCode::UNAUTHORIZED;
    if ends || desk.place.probes_only() || status == StatusCode::BAD_REQUEST {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if changes && (!refused || endpoint.clients.refused.count()) {
        let (peer, status) = (desk.peer, status.as_u16());
        let (method, path) = (shown(method.as_str()), shown(&path));
        tracing::info!(%peer, %method, path = &*path, status, "change asked for");
    }
    desk.place.is_busy(false);
    answer
}

/// What a page knows, where there is one. No other site is told that it may ask.
fn options(path: &str, answer: Response) -> Response {
    let allow = match (path, answer.status()) {
        ("*", _) => "GET,HEAD,PATCH,OPTIONS",
        (_, StatusCode::METHOD_NOT_ALLOWED) if path.starts_with("/pools/") => "PATCH,OPTIONS",
        (_, StatusCode::METHOD_NOT_ALLOWED) => "GET,HEAD,OPTIONS",
        _ => return answer,
    };
    (StatusCode::NO_CONTENT, [(header::ALLOW, allow)]).into_response()
}

fn judge(token: Option<&Token>, desk: &Desk, request: &Request) -> Result<(), Refusal> {
    if desk.framing().is_ambiguous() {
        let rule = "a request with Content-Length and Transfer-Encoding (send one of them)\n";
        return Err(Refusal::Unclear(rule.to_owned()));
    }
    let all = |name: HeaderName| {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or("?")).collect::<Vec<_>>()
    };
    let asked = Asked {
        peer: desk.peer.ip(),
        method: request.method(),
        path: request.uri().path(),
        needs_host: request.version() >= Version::HTTP_11,
        authority: request.uri().authority().map(|authority| authority.as_str()),
        hosts: &all(header::HOST),
        origins: &all(header::ORIGIN),
        authorization: all(header::AUTHORIZATION).first().copied(),
    };
    access::judge(&asked, token)
}

fn too_slow(method: &Method, path: &str) -> Response {
    let rule = "the request was not all there in time (send it within 10 s)";
    // What comes of it later must not be taken for the next request.
    let close = [(header::CONNECTION, "close")];
    let (method, path) = (shown(method.as_str()), shown(path));
    (StatusCode::REQUEST_TIMEOUT, close, format!("{method} {path}: {rule}\n")).into_response()
}

async fn no_page(uri: Uri) -> impl IntoResponse {
    let way_out = "there are /, /stats, /stats/events, /stats/history, /histograms, /metrics, \
                   /health, /ready, /ready/{listener}, /config and \
                   PATCH /pools/{pool}/backends/{backend}";
    (StatusCode::NOT_FOUND, format!("{}: no such page ({way_out})\n", shown(uri.path())))
}

async fn no_method(method: Method, uri: Uri) -> impl IntoResponse {
    let rule = "this page knows no such method (the Allow header has those it knows)";
    let (method, path) = (shown(method.as_str()), shown(uri.path()));
    (StatusCode::METHOD_NOT_ALLOWED, format!("{method} {path}: {rule}\n"))
}

async fn stats_page(State(endpoint): State<Endpoint>) -> impl IntoResponse {
    gather::gather(&endpoint.facts, &endpoint.recorded);
    ([(header::CONTENT_TYPE, "application/json")], stats::render(&endpoint.whole()))
}

async fn histograms_page(State(endpoint): State<Endpoint>) -> impl IntoResponse {
    let Endpoint { facts, known, recorded, .. } = endpoint;
    gather::gather(&facts, &recorded);
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        histograms::render(&facts, &known, &recorded),
    )
}

async fn metrics_page(
    State(endpoint): State<Endpoint>,
    RawQuery(query): RawQuery,
    headers: header::HeaderMap,
) -> Response {
    let only = match pool_asked(&endpoint.facts.config.pools, query.as_deref().unwrap_or_default())
    {
        Ok(only) => only,
        Err((status, sentence)) => return (status, sentence).into_response(),
    };
    gather::gather(&endpoint.facts, &endpoint.recorded);
    let all = |name: HeaderName| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let (kind, page) = metrics::render(endpoint.whole(), &all(header::ACCEPT), only);
    let kind = [(header::CONTENT_TYPE, kind), (header::VARY, "accept, accept-encoding")];
    if !gzip::is_taken(&all(header::ACCEPT_ENCODING)) {
        return (kind, page).into_response();
    }
    // Some of these pages are megabytes: this thread has other things to do.
    match tokio::task::spawn_blocking(move || gzip::pack(&page)).await {
        Ok(packed) => (kind, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The pool that `?pool=NAME` names, by its place in the plan.
fn pool_asked(pools: &[Pool], query: &str) -> Result<Option<usize>, (StatusCode, String)> {
    if query.is_empty() {
        return Ok(None);
    }
    let Some(name) = query.strip_prefix("pool=") else {
        let rule = "not understood (write pool=NAME)";
        return Err((StatusCode::BAD_REQUEST, format!("{:?}: {rule}\n", shown(query))));
    };
    let known: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    match known.iter().position(|known| *known == name) {
        Some(pool) => Ok(Some(pool)),
        None => {
            let (name, known) = (shown(name), quoted(&known));
            Err((StatusCode::NOT_FOUND, format!("no pool {name:?} (known: {known})\n")))
        }
    }
}

async fn config_page(State(facts): State<Arc<Facts>>) -> impl IntoResponse {
    Json(facts.config.to_json())
}
