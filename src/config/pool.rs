//! A pool and what is in it.

use std::{net::SocketAddr, time::Duration};

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
    /// `None`: kind "none", or interval "0s".
    pub health_check: Option<HealthCheck>,
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
}

/// How a pool learns that a backend is gone before a client does.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Positive.
    pub interval: Duration,
    /// Positive ("0s" in the file: as long as the interval).
    pub timeout: Duration,
    /// Good checks in a row that make a backend healthy. At least 1.
    pub healthy_after: u32,
    /// Bad checks in a row that make it unhealthy. At least 1.
    pub unhealthy_after: u32,
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Unique within the pool; where it is not written, the address.
    pub name: String,
    /// Where it is dialed.
    pub address: SocketAddr,
    /// 0 to 65,535; 0 takes no connections (not every backend of a pool may have 0).
    pub weight: u32,
    /// Lower first; 0 to 255.
    pub priority: u32,
}
