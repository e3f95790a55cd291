//! Who may be connected, and how many pages may be in memory.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::{
    body::{self, Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Clients,
    admission::{self, Sitting},
};
use crate::{
    coordinator::shown::shown,
    limits::{ADMIN_CONNS_MAX, ADMIN_PAGES_MAX, PROBE_CONNS_MAX},
};

/// How long a connection may last; scrapers that keep theirs open come back.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// The same for one in a place for probes: the next probe waits behind it.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// How long a request waits until its page may be made.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// How long a request's head may take.
const HEADER_MAX: Duration = Duration::from_secs(5);

/// The same while more than half of the places are taken.
const HEADER_PRESSED_MAX: Duration = Duration::from_secs(1);

/// The places of connections.
#[derive(Default)]
pub struct Places(Mutex<Table>);

#[derive(Default)]
struct Table {
    sitting: Vec<Sitting>,
    /// Closed when its connection is to make room; in the order of `sitting`.
    leave: Vec<oneshot::Sender<()>>,
    came: u64,
    evicted: u64,
}

/// A connection's place, until it is dropped.
pub struct Place {
    clients: Arc<Clients>,
    id: u64,
    probes_only: bool,
    header_max: Duration,
}

/// What `/stats` and `/metrics` say of the places.
pub struct Taken {
    pub connections: usize,
    pub evicted: u64,
}

impl Places {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics holding it")
    }

    /// How many are taken.
    pub fn taken(&self) -> Taken {
        let table = self.table();
        Taken { connections: table.sitting.len(), evicted: table.evicted }
    }

    /// Gives a client that has just come a place; whoever has to make room for it is told to go.
    /// `None` only where nobody who could go is silent.
    pub fn seat(clients: &Arc<Clients>, peer: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let mut table = clients.places.table();
        let probes_only = table.make_room()?;
        let (leave, left) = oneshot::channel();
        table.came += 1;
        let id = table.came;
        let silent_since = Some(Instant::now());
        table.sitting.push(Sitting { id, peer, probes_only, silent_since });
        table.leave.push(leave);
        let header_max = header_max(table.sitting.len());
        Some((Place { clients: Arc::clone(clients), id, probes_only, header_max }, left))
    }
}

/// How long a head may take on a connection that is one of so many.
fn header_max(taken: usize) -> Duration {
    if taken > ADMIN_CONNS_MAX / 2 { HEADER_PRESSED_MAX } else { HEADER_MAX }
}

impl Table {
    /// Makes room for one more. Whether that is a place for probes only; `None`: there is no room.
    fn make_room(&mut self) -> Option<bool> {
        for (probes_only, places) in [(false, ADMIN_CONNS_MAX), (true, PROBE_CONNS_MAX)] {
            let of_kind = self.sitting.iter().filter(|s| s.probes_only == probes_only);
            if of_kind.count() < places {
                return Some(probes_only);
            }
            if let Some(id) = admission::victim(&self.sitting, probes_only) {
                self.leave(id);
                self.evicted += 1;
                return Some(probes_only);
            }
        }
        None
    }

    fn leave(&mut self, id: u64) {
        if let Some(at) = self.sitting.iter().position(|sitting| sitting.id == id) {
            self.sitting.swap_remove(at);
            self.leave.swap_remove(at);
        }
    }
}

impl Place {
    /// Whether it is one that is kept free for probes.
    pub fn probes_only(&self) -> bool {
        self.probes_only
    }

    /// How long it may be held.
    pub fn lasts(&self) -> Duration {
        if self.probes_only { PROBE_MAX } else { CONNECTION_MAX }
    }

    /// How long a request's head may take on it: less while many places are taken.
    pub fn header_max(&self) -> Duration {
        self.header_max
    }

    /// Something was asked, or an answer waits to be taken; or neither is so any more.
    pub fn is_busy(&self, busy: bool) {
        let mut table = self.clients.places.table();
        if let Some(sitting) = table.sitting.iter_mut().find(|sitting| sitting.id == self.id) {
            sitting.silent_since = (!busy).then(Instant::now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.places.table().leave(self.id);
    }
}

/// What a client is told that asks for more than a probe in a place for probes.
pub fn for_probes(method: &Method, path: &str) -> Response {
    let rule = format!("all {ADMIN_CONNS_MAX} connections to this endpoint are taken");
    let way_out = format!("{PROBE_CONNS_MAX} more may ask for /health and /ready; close some");
    let (method, path) = (shown(method.as_str()), shown(path));
    let sentence = format!("{method} {path}: {rule} ({way_out})\n");
    (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
}

/// Room for pages.
#[derive(Clone)]
pub struct Room {
    pages: Arc<Semaphore>,
    /// One is made after the other, so that whoever asks for less is answered in between.
    making: Arc<Semaphore>,
}

/// All of it.
pub fn room() -> Room {
    let semaphore = |places| Arc::new(Semaphore::new(places));
    Room { pages: semaphore(ADMIN_PAGES_MAX), making: semaphore(1) }
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
pub async fn hold(State(room): State<Room>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let free = tokio::time::timeout(ROOM_WAIT, room.pages.acquire_owned()).await;
    let Ok(Ok(free)) = free else {
        let rule = format!("{ADMIN_PAGES_MAX} pages wait for clients who do not read them");
        let (method, path) = (shown(method.as_str()), shown(&path));
        let sentence = format!("{method} {path}: {rule} (ask again in a moment)\n");
        return (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response();
    };
    let making = room.making.acquire().await;
    let (head, page) = next.run(request).await.into_parts();
    let page = body::to_bytes(page, usize::MAX).await.expect("pages are made in memory");
    drop(making);
    let held = Bytes::from_owner(Held { page, _room: free });
    Response::from_parts(head, Body::from(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_less_time_while_more_than_half_is_taken() {
        let half = ADMIN_CONNS_MAX / 2;
        let times = [1, half, half + 1, ADMIN_CONNS_MAX + PROBE_CONNS_MAX].map(header_max);
        let (long, short) = (HEADER_MAX, HEADER_PRESSED_MAX);
        assert_eq!(times, [long, long, short, short]);
        assert!(short < long);
    }

    /// Comes from `peer` at `now`; gives its number and whether it is for probes only.
    fn comes(table: &mut Table, peer: [u8; 4], now: Instant) -> Option<(u64, bool)> {
        let probes_only = table.make_room()?;
        table.came += 1;
        let (id, silent_since) = (table.came, Some(now));
        table.sitting.push(Sitting { id, peer: peer.into(), probes_only, silent_since });
        table.leave.push(oneshot::channel().0);
        Some((id, probes_only))
    }

    #[test]
    fn everybody_gets_a_place_while_somebody_is_silent() {
        let (mut table, now) = (Table::default(), Instant::now());
        assert_eq!(comes(&mut table, [10, 0, 0, 9], now), Some((1, false)));
        for id in 2..1000 {
            assert_eq!(comes(&mut table, [10, 0, 0, 1], now), Some((id, false)));
        }
        assert_eq!((table.sitting.len(), table.evicted), (ADMIN_CONNS_MAX, 999 - 64));
        assert_eq!(table.sitting[0].id, 1, "the address that holds one keeps it");
        table.sitting.iter_mut().for_each(|sitting| sitting.silent_since = None);
        let probes = (0..20).map(|_| comes(&mut table, [10, 0, 0, 1], now));
        assert!(probes.into_iter().all(|seat| seat.is_some_and(|(_, probes_only)| probes_only)));
        assert_eq!(table.sitting.len(), ADMIN_CONNS_MAX + PROBE_CONNS_MAX);
        table.sitting.iter_mut().for_each(|sitting| sitting.silent_since = None);
        assert_eq!(comes(&mut table, [10, 0, 0, 1], now), None);
    }
}
