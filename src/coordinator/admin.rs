//! The admin endpoint: `/`, `/stats`, `/stats/events`, `/stats/history`, `/histograms`, `/metrics`,
//! `/health`, `/ready`, `/ready/{listener}`, `/config`, and
//! `PATCH /pools/{pool}/backends/{backend}`.
//!
//! Whoever asks cannot hold more than is bounded: `places` bounds connections and pages, `patience`
//! how long an answer may take to be taken.

mod access;
mod admission;
mod framing;
mod gzip;
mod operator;
mod patience;
mod places;
pub mod refused;
mod server;

pub use self::server::{bind, serve};
use self::{places::Places, refused::Refused};

/// What the endpoint knows of its clients.
#[derive(Default)]
pub struct Clients {
    pub places: Places,
    pub refused: Refused,
}
