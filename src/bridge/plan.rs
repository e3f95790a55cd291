//! What a shard needs to know of the configuration: immutable, indexed by number.

use std::{ops::Range, time::Duration};

use super::Failure;
pub use crate::config::{Access, Balance, SendProxy, SourceLimit, Splice};
use crate::{
    config::{self, AccessLog, Config, Counted, Mode, Target},
    limits::SLOTS_PER_NAME,
    sock::{self, Liveness},
};

/// Everything that goes down to the shards and never changes. The backends of all pools have their
/// *slots* in one row, so that one number names a backend everywhere; who stands in a slot is the
/// [`Roster`](super::Roster)'s to say.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file.
    pub pools: Vec<Pool>,
    /// Slots of all pools.
    pub slots: usize,
    /// Whether connections that are over are recorded for the access log.
    pub access_log: bool,
}

/// What a shard needs to know of a listener; its addresses stay with those who bind them.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// What it speaks with its clients.
    pub speaks: Speaks,
    /// No byte in either direction for this long ends a connection; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The same once one direction has ended; `None`: never.
    pub half_close_timeout: Option<Duration>,
    /// Whether bytes go through a pipe.
    pub splice: Splice,
    /// Whom it takes.
    pub access: Access,
    /// What the sockets of its connections have.
    pub sockets: sock::Options,
    /// How much of it one client may have.
    pub source: SourceLimit,
}

/// What a listener speaks with its clients, and what follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Bytes, which it does not understand.
    Tcp {
        /// Who serves all of them: index into [`Plan::pools`].
        pool: usize,
    },
}

impl Speaks {
    /// The word in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Speaks::Tcp { .. } => "tcp",
        }
    }

    /// Who serves a connection, as long as nothing was read of it.
    pub fn pool(self) -> usize {
        match self {
            Speaks::Tcp { pool } => pool,
        }
    }
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
    /// Further attempts after a timed-out dial, per first attempt; `None`: no limit of this kind.
    pub retry_budget: Option<f64>,
    /// Whether a backend is told its client's address.
    pub send_proxy: SendProxy,
    /// Whether resets and closes before the first byte are told to the coordinator, which judges
    /// outliers by them.
    pub early_ends: EarlyEnds,
    /// Its slots.
    pub slots: Range<usize>,
    /// Those of each backend of the file: one for an address, more for a name.
    pub entries: Vec<Range<usize>>,
}

/// Which early ends count.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarlyEnds {
    reset: bool,
    closed: bool,
}

impl EarlyEnds {
    fn counted(outlier: Option<&config::Outlier>) -> EarlyEnds {
        let counts = |kind| outlier.is_some_and(|outlier| outlier.counts(kind));
        EarlyEnds { reset: counts(Counted::Reset), closed: counts(Counted::Closed) }
    }

    /// Whether this failure is one of them.
    pub fn contain(&self, failure: Failure) -> bool {
        match failure {
            Failure::ResetBeforeFirstByte => self.reset,
            Failure::ClosedBeforeFirstByte => self.closed,
            _ => false,
        }
    }
}

impl Plan {
    /// The plan that `config` describes.
    pub fn new(config: &Config) -> Plan {
        let mut plan = Plan {
            listeners: config.listeners.iter().map(|l| Listener::new(l, &config.runtime)).collect(),
            pools: Vec::new(),
            slots: 0,
            access_log: config.log.access != AccessLog::Off,
        };
        for pool in &config.pools {
            let first = plan.slots;
            let entries = pool.backends.iter().map(|backend| {
                let start = plan.slots;
                plan.slots += match backend.address {
                    Target::Address(_) => 1,
                    Target::Name { .. } | Target::Service { .. } => SLOTS_PER_NAME,
                };
                start..plan.slots
            });
            let entries = entries.collect();
            plan.pools.push(Pool {
                name: pool.name.clone(),
                balance: pool.balance,
                connect_timeout: pool.connect_timeout,
                max_attempts: pool.max_attempts,
                retry_budget: pool.retry_budget,
                send_proxy: pool.send_proxy,
                early_ends: EarlyEnds::counted(pool.outlier.as_ref()),
                slots: first..plan.slots,
                entries,
            });
        }
        plan
    }
}

impl Listener {
    fn new(listener: &config::Listener, runtime: &config::Runtime) -> Listener {
        Listener {
            name: listener.name.clone(),
            speaks: match listener.mode {
                Mode::Tcp => Speaks::Tcp { pool: listener.pool },
            },
            idle_timeout: listener.idle_timeout,
            half_close_timeout: listener.half_close_timeout,
            splice: listener.splice,
            access: listener.access.clone(),
            sockets: sock::Options {
                unsent_max: runtime.unsent_max,
                liveness: Liveness::new(listener.keepalive, listener.idle_timeout),
            },
            source: listener.source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_early_ends_of_a_kind_that_counts_are_told() {
        let outlier = config::Outlier { count: [true, true, false], ..Default::default() };
        let ends = EarlyEnds::counted(Some(&outlier));
        let told: Vec<Failure> =
            Failure::ALL.into_iter().filter(|failure| ends.contain(*failure)).collect();
        assert_eq!(told, [Failure::ResetBeforeFirstByte]);
        assert!(!EarlyEnds::counted(None).contain(Failure::ResetBeforeFirstByte));
    }
}
