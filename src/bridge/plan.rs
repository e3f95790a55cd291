//! What a shard needs to know of the configuration: immutable, indexed by number.

use std::{net::SocketAddr, ops::Range, time::Duration};

use crate::config::{self, Config};
pub use crate::config::{Balance, Splice};

/// Everything that goes down to the shards. Backends of all pools stand in one list, so that one
/// number names a backend everywhere.
#[derive(Clone, Debug)]
pub struct Plan {
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
    pub backends: Vec<Backend>,
}

#[derive(Clone, Debug)]
pub struct Listener {
    pub name: String,
    /// Index into [`Plan::pools`].
    pub pool: usize,
    pub idle_timeout: Option<Duration>,
    pub half_close_timeout: Option<Duration>,
    pub splice: Splice,
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub name: String,
    pub balance: Balance,
    pub connect_timeout: Duration,
    pub max_attempts: u32,
    /// Its part of [`Plan::backends`].
    pub backends: Range<usize>,
}

#[derive(Clone, Debug)]
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    pub weight: u32,
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
