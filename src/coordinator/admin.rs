//! The admin endpoint: `/`, `/stats`, `/stats/events`, `/stats/history`, `/histograms`, `/metrics`,
//! `/health`, `/ready`, `/ready/{listener}`, `/config`, and
//! `PATCH /pools/{pool}/backends/{backend}`.
//!
//! Whoever asks cannot hold more than is bounded: `places` bounds connections and pages, `patience`
//! how long an answer may take to be taken.

mod access;
mod admission;
mod desk;
mod framing;
mod gzip;
mod operator;
mod patience;
mod places;
pub(super) mod refused;
mod server;

use std::sync::Arc;

use axum::extract::FromRef;

pub use self::server::{bind, serve};
use self::{places::Places, refused::Refused};
use super::{
    facts::Facts,
    know::Known,
    tell::{AdminCounts, Recorded, Whole},
};

/// What pages are made from; each takes the parts that it shows.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) facts: Arc<Facts>,
    pub(super) known: Arc<Known>,
    pub(super) recorded: Arc<Recorded>,
    pub(super) clients: Arc<Clients>,
}

impl Endpoint {
    /// For the pages that show everything.
    fn whole(&self) -> Whole {
        let Endpoint { facts, known, recorded, clients } = self.clone();
        let taken = clients.places.taken();
        let admin = AdminCounts {
            connections: taken.connections,
            evicted: taken.evicted,
            changes_refused: clients.refused.total(),
        };
        Whole { facts, known, recorded, admin }
    }
}

impl FromRef<Endpoint> for Arc<Facts> {
    fn from_ref(endpoint: &Endpoint) -> Self {
        Arc::clone(&endpoint.facts)
    }
}

impl FromRef<Endpoint> for Arc<Known> {
    fn from_ref(endpoint: &Endpoint) -> Self {
        Arc::clone(&endpoint.known)
    }
}

impl FromRef<Endpoint> for Arc<Recorded> {
    fn from_ref(endpoint: &Endpoint) -> Self {
        Arc::clone(&endpoint.recorded)
    }
}

/// What the endpoint knows of its clients.
#[derive(Default)]
pub(super) struct Clients {
    places: Places,
    refused: Refused,
}
