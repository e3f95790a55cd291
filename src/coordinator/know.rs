//! What the coordinator knows of backends: who they are, whether they are well, and what changed.

pub(super) mod check;
pub(super) mod counts;
pub(super) mod events;
pub(super) mod lookups;
pub mod names;
pub(super) mod pools;
mod probe;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use tokio::sync::watch;

use self::{events::Events, pools::Pools};
use super::facts::Facts;
use crate::config::References;

/// What is known of backends, and what those need who find it out.
pub(super) struct Known {
    facts: Arc<Facts>,
    pools: Mutex<Pools>,
    /// Who leads where.
    references: References,
    /// Where changes are told.
    pub(super) events: Arc<Events>,
    pub(super) check_places: check::Places,
    /// Marked as changed after each change by an operator: sleeping checks look up.
    orders: watch::Sender<()>,
}

impl Known {
    pub(super) fn new(
        facts: &Arc<Facts>,
        pools: Pools,
        references: References,
        events: &Arc<Events>,
    ) -> Known {
        Known {
            check_places: check::Places::new(facts.config.pools.len()),
            facts: Arc::clone(facts),
            pools: Mutex::new(pools),
            references,
            events: Arc::clone(events),
            orders: watch::Sender::new(()),
        }
    }

    /// Every backend. Not held across a wait; this thread is the only one that asks.
    pub(super) fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().expect("nobody panics holding it")
    }

    /// Every backend, with everything that is known of them in force.
    pub(super) fn pools_in_force(&self) -> MutexGuard<'_, Pools> {
        let mut pools = self.pools();
        pools.publish(self.facts.bridge, Instant::now());
        pools
    }

    /// An operator has changed something.
    pub(super) fn wake_checks(&self) {
        self.orders.send_replace(());
    }
}
