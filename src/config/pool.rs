//! A pool and what is in it.

use std::{borrow::Cow, net::SocketAddr, time::Duration};

use super::Target;

use super::HealthCheck;

/// The largest weight of a backend.
pub const WEIGHT_MAX: u32 = 65_535;

/// Backends that do the same work, and how one of them is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Unique among pools.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// Of one attempt. Positive.
    pub connect_timeout: Duration,
    /// In all, the first one included. At least 1.
    pub max_attempts: u32,
    /// Further attempts after a timed-out dial, per first attempt. `None`: no limit but
    /// `max_attempts`.
    pub retry_budget: Option<f64>,
    /// How long the weight of a backend that comes back grows. Zero: not at all.
    pub slow_start: Duration,
    /// With a smaller share of healthy backends all of them are used, 0 to 1. 0: never.
    pub panic_threshold: f64,
    /// What becomes of the sessions of a backend whose check fails.
    pub on_unhealthy: OnUnhealthy,
    /// Whether a backend is told its client's address.
    pub send_proxy: SendProxy,
    /// `None`: kind "none", or interval "0s".
    pub health_check: Option<HealthCheck>,
    /// `None`: no failures, or ejection "0s".
    pub outlier: Option<Outlier>,
    /// At least one, names unique within the pool.
    pub backends: Vec<Backend>,
}

/// How a backend of a pool is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// One after the other, each as often as its weight.
    WeightedRoundRobin,
    /// The one with the fewest in flight.
    LeastConnections,
    /// Any.
    Random,
    /// Of two at random, the one with fewer in flight.
    TwoChoices,
    /// Of two at random, the one that answers sooner.
    PeakEwma,
    /// Always the same one for the same source address.
    Maglev,
}

/// What becomes of the sessions of a backend whose active check fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// They end by themselves.
    Leave,
    /// They are cut.
    Cut,
}

/// A kind of failure that can count against a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It could not be connected to.
    Dial,
    /// It reset a connection before its first byte.
    Reset,
    /// It closed a connection before its first byte, although the client had spoken.
    Closed,
}

/// When a backend that fails its clients is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// What counts, by [`Counted`].
    pub count: [bool; 3],
    /// Resets and closes count only once they have come from so many client addresses. At least 1.
    pub min_clients: u32,
    /// Failures in a row, over all shards. At least 1.
    pub consecutive_failures: u32,
    /// The first time; it grows with each repeat. Positive.
    pub ejection: Duration,
    /// The share of the pool that may be out at once, 0 to 1.
    pub max_ejected: f64,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            count: [true, false, false],
            min_clients: 3,
            consecutive_failures: 5,
            ejection: Duration::from_secs(30),
            max_ejected: 0.5,
        }
    }
}

impl Outlier {
    /// Whether ends before the first byte count.
    pub fn counts_early_ends(&self) -> bool {
        self.counts(Counted::Reset) || self.counts(Counted::Closed)
    }

    /// Whether failures of that kind count.
    pub fn counts(&self, kind: Counted) -> bool {
        self.count[kind as usize]
    }
}

/// Whether a connection to a backend begins with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendProxy {
    /// No: the first byte is the client's.
    Off,
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique within the pool; where it is not written, the address.
    pub name: String,
    /// Where it is.
    pub address: Target,
    /// 0 to 65,535; 0 takes no connections (not every backend of a pool may have 0).
    pub weight: u32,
    /// Lower first; 0 to 255.
    pub priority: u32,
    /// In flight over all shards. 0: no limit.
    pub max_connections: u32,
}

impl Backend {
    /// The name of the one at `address`: this one's own, or, of several behind a name, one that
    /// tells it from the others. The port is in its address.
    pub fn name_at(&self, address: SocketAddr) -> Cow<'_, str> {
        match self.prefix() {
            None => Cow::Borrowed(&self.name),
            Some(prefix) => Cow::Owned(format!("{prefix}-{address}")),
        }
    }

    /// What the names of those behind a name begin with, before a dash and their address.
    fn prefix(&self) -> Option<&str> {
        match &self.address {
            Target::Address(_) => None,
            Target::Name { host, port } if self.name == format!("{host}:{port}") => Some(host),
            Target::Name { .. } | Target::Service { .. } => Some(&self.name),
        }
    }

    /// Whether somebody behind this one could be called as another one is.
    pub(super) fn may_be_called(&self, other: &Backend) -> bool {
        let Some(prefix) = self.prefix() else { return false };
        let port = |backend: &Backend| match &backend.address {
            Target::Name { port, .. } => Some(*port),
            Target::Address(_) | Target::Service { .. } => None,
        };
        match other.prefix() {
            Some(same) => {
                let ports = port(self).zip(port(other));
                same == prefix && ports.is_none_or(|(one, other)| one == other)
            }
            None => {
                let rest = other.name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
                rest.is_some_and(|rest| rest.parse::<SocketAddr>().is_ok())
            }
        }
    }
}
