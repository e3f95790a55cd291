//! What a connection to the endpoint and its requests share.

use std::{net::SocketAddr, sync::Mutex};

use super::{framing::Framing, places::Place};

/// What a connection and its requests share.
pub(super) struct Desk {
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
    framing: Mutex<Framing>,
}

impl Desk {
    /// Of a connection from `peer`, which has this place.
    pub(super) fn new(peer: SocketAddr, place: Place) -> Desk {
        Desk { peer, place, framing: Mutex::default() }
    }

    /// How its requests are framed.
    pub(super) fn framing(&self) -> std::sync::MutexGuard<'_, Framing> {
        self.framing.lock().expect("nobody panics holding it")
    }

    /// These bytes have come.
    pub(super) fn reads(&self, bytes: &[u8]) {
        self.framing().read(bytes);
    }
}
