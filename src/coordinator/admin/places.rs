//! Who may be connected, and how many pages may be in memory.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::{self, Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{ADMIN_CONNS_MAX, ADMIN_PAGES_MAX, PROBE_CONNS_MAX};

/// How long a connection may last; scrapers that keep theirs open come back.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// The same for one in a place for probes: the next probe waits behind it.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// How long a request waits until its page may be made.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// From where.
    pub peer: SocketAddr,
    /// True exactly when all places but those for probes were taken when it came.
    pub probes_only: bool,
}

/// The places of connections.
pub struct Places {
    all: Arc<Semaphore>,
    ordinary: Arc<Semaphore>,
}

/// One of them, until it is dropped.
pub struct Place {
    _one: OwnedSemaphorePermit,
    ordinary: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// All free.
    pub fn new() -> Places {
        let places = |count| Arc::new(Semaphore::new(count));
        Places { all: places(ADMIN_CONNS_MAX + PROBE_CONNS_MAX), ordinary: places(ADMIN_CONNS_MAX) }
    }

    /// Waits until there is a place of any kind: only then the next client is taken.
    pub async fn one(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.all).acquire_owned().await.expect("places are never closed")
    }

    /// Makes it the place of a client that is there now.
    pub fn seat(&self, one: OwnedSemaphorePermit) -> Place {
        Place { _one: one, ordinary: Arc::clone(&self.ordinary).try_acquire_owned().ok() }
    }
}

impl Place {
    /// Whether it is one that is kept free for probes.
    pub fn probes_only(&self) -> bool {
        self.ordinary.is_none()
    }

    /// How long it may be held.
    pub fn lasts(&self) -> Duration {
        if self.probes_only() { PROBE_MAX } else { CONNECTION_MAX }
    }
}

/// What a client is told that asks for more than a probe in a place for probes.
pub fn for_probes(method: &Method, path: &str) -> Response {
    let rule = format!("all {ADMIN_CONNS_MAX} connections to this endpoint are taken");
    let way_out = format!("{PROBE_CONNS_MAX} more may ask for /health and /ready; close some");
    let sentence = format!("{method} {path}: {rule} ({way_out})\n");
    (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
}

/// Room for pages.
pub fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ADMIN_PAGES_MAX))
}

/// A page, and the room it takes until the last byte of it has been taken.
struct Held {
    page: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

/// Has a page made once there is room for it.
pub async fn hold(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let Ok(Ok(room)) = tokio::time::timeout(ROOM_WAIT, room.acquire_owned()).await else {
        let rule = format!("{ADMIN_PAGES_MAX} pages wait for clients who do not read them");
        let sentence = format!("{method} {path}: {rule} (ask again in a moment)\n");
        return (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response();
    };
    let (head, page) = next.run(request).await.into_parts();
    let page = body::to_bytes(page, usize::MAX).await.expect("pages are made in memory");
    let held = Bytes::from_owner(Held { page, _room: room });
    Response::from_parts(head, Body::from(held))
}
