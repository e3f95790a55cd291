//! One backend as the coordinator sees it.

use std::{net::SocketAddr, time::Instant};

use crate::{
    config,
    coordinator::know::{counts::BackendSums, names::Endpoint},
    health::{
        Health,
        outlier::Streak,
        standing::{Order, State},
    },
};

/// A backend, and everything that decides whether it may be picked.
pub struct Backend {
    /// Tells it from those that stood in its slot before.
    pub id: u64,
    pub name: String,
    pub address: SocketAddr,
    pub weight: u32,
    pub priority: u32,
    pub max_connections: u32,
    pub state: State,
    /// Why the state is not healthy; empty where it is.
    pub reason: String,
    pub ejections: u64,
    /// What its slot had counted before it came.
    pub before: BackendSums,
    pub(super) order: Order,
    /// The weight that an operator has said, until the name says something new.
    pub(super) ordered_weight: Option<u32>,
    pub(super) health: Health,
    /// True exactly when the last active check could not connect to where the traffic goes.
    pub(super) unconnectable: bool,
    /// What the last change of the active checks, and the last ejection, was for.
    pub(super) check_reason: String,
    pub(super) ejection_reason: String,
    pub(super) streak: Streak,
    /// When it came back, while its weight still grows.
    pub(super) since: Option<Instant>,
    /// What its name said of it, where it has come by one.
    pub(super) found: Option<Endpoint>,
    /// Since when it is no longer behind its name.
    pub(super) gone: Option<Gone>,
}

/// No longer behind its name; it stays until its last connection is over.
pub(super) struct Gone {
    pub(super) reason: String,
    /// When it was first seen without any.
    pub(super) idle_since: Option<Instant>,
}

impl Backend {
    /// The backend `spec` of the file, at `address`. `before` is what its slot has counted so far.
    pub(super) fn new(
        id: u64,
        spec: &config::Backend,
        address: SocketAddr,
        before: BackendSums,
    ) -> Backend {
        Backend {
            id,
            name: spec.name.clone(),
            address,
            weight: spec.weight,
            priority: spec.priority,
            max_connections: spec.max_connections,
            state: State::Healthy,
            reason: String::new(),
            ejections: 0,
            order: Order::Enable,
            ordered_weight: None,
            health: Health::Healthy,
            unconnectable: false,
            check_reason: String::new(),
            ejection_reason: String::new(),
            streak: Streak::default(),
            before,
            since: None,
            found: None,
            gone: None,
        }
    }

    /// Why it is in its state; nothing where that is healthy.
    pub(super) fn cause(&self) -> &str {
        match (self.state, &self.gone) {
            (State::Healthy, _) => "",
            (State::Unhealthy, _) => &self.check_reason,
            (State::Ejected, _) => &self.ejection_reason,
            (State::Draining, Some(gone)) => &gone.reason,
            (State::Draining | State::Disabled, _) => "asked for by the operator",
        }
    }

    /// True exactly when the last active check that told anything could not connect, on the
    /// traffic's own port: a fact, where a bad answer is an opinion.
    pub fn cannot_be_connected_to(&self) -> bool {
        self.unconnectable
    }

    /// What follows from everything that is known.
    pub(super) fn judge(&self) -> State {
        match self.gone {
            Some(_) => State::Draining,
            None => State::of(self.order, self.health, self.streak.is_ejected()),
        }
    }
}
