//! What a shard needs to know of the configuration: immutable, indexed by number.

use std::{net::SocketAddr, ops::Range, time::Duration};

use crate::config::{self, Config};
pub use crate::config::{Access, Balance, Splice};

/// Everything that goes down to the shards. Backends of all pools stand in one list, so that one
/// number names a backend everywhere.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file.
    pub pools: Vec<Pool>,
    /// Pool by pool, in the order of the file.
    pub backends: Vec<Backend>,
}

/// What a shard needs to know of a listener; its addresses stay with those who bind them.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// Index into [`Plan::pools`].
    pub pool: usize,
    /// No byte in either direction for this long ends a connection; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The same once one direction has ended; `None`: never.
    pub half_close_timeout: Option<Duration>,
    /// Whether bytes go through a pipe.
    pub splice: Splice,
    /// Whom it takes.
    pub access: Access,
}

/// What a shard needs to know of a pool.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Unique among pools.
    pub name: String,
    /// How a backend is chosen.
    pub balance: Balance,
    /// Of one dial. Positive.
    pub connect_timeout: Duration,
    /// Dials for one connection, the first one included. At least 1.
    pub max_attempts: u32,
    /// Its part of [`Plan::backends`].
    pub backends: Range<usize>,
}

/// What a shard needs to know of a backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Unique within its pool.
    pub name: String,
    /// Where it is dialed.
    pub address: SocketAddr,
    /// Its share; 0 takes no connections.
    pub weight: u32,
    /// Lower first.
    pub priority: u32,
}

impl Plan {
    /// The plan that `config` describes.
    pub fn new(config: &Config) -> Plan {
        let mut plan = Plan {
            listeners: config.listeners.iter().map(Listener::new).collect(),
            pools: Vec::new(),
            backends: Vec::new(),
        };
        for pool in &config.pools {
            let first = plan.backends.len();
            plan.backends.extend(pool.backends.iter().map(Backend::new));
            plan.pools.push(Pool {
                name: pool.name.clone(),
                balance: pool.balance,
                connect_timeout: pool.connect_timeout,
                max_attempts: pool.max_attempts,
                backends: first..plan.backends.len(),
            });
        }
        plan
    }
}

impl Listener {
    fn new(listener: &config::Listener) -> Listener {
        Listener {
            name: listener.name.clone(),
            pool: listener.pool,
            idle_timeout: listener.idle_timeout,
            half_close_timeout: listener.half_close_timeout,
            splice: listener.splice,
            access: listener.access.clone(),
        }
    }
}

impl Backend {
    fn new(backend: &config::Backend) -> Backend {
        Backend {
            name: backend.name.clone(),
            address: backend.address,
            weight: backend.weight,
            priority: backend.priority,
        }
    }
}
