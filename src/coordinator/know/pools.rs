//! What is known of every backend, and the rosters that follow from it.
//!
//! Everything that may keep a backend from being picked comes together here: checks, outliers, the
//! operator, a return that is slow. A change is told once, with its reason, and published as a new
//! roster; shards see it at their next pick.

mod backend;
mod found;
mod pool;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::{
    backend::Backend,
    pool::{Lookup, Name, Pool},
};
use super::{
    Known, counts,
    events::{Event, Events},
    names::{Cut, Look},
};
use crate::{
    bridge::{Boards, Bridge},
    config::{self, OnUnhealthy, Word},
    health::{CheckFailure, Health, outlier, standing::Order},
    limits::EARLY_ENDS_MAX,
};

/// How often outliers are looked for and weights grow: well within the 100 ms of the contract.
const PERIOD: Duration = Duration::from_millis(20);

/// All pools, in the order of the plan.
pub struct Pools(Vec<Pool>);

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub order: Option<Order>,
    pub weight: Option<u32>,
}

/// Looks for outliers and lets weights grow, for ever.
pub async fn run(known: Arc<Known>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let now = Instant::now();
        let (mut pools, bridge) = (known.pools(), known.facts.bridge);
        pools.watch_outliers(&bridge.boards, now);
        pools.let_go(&bridge.boards, now);
        pools.publish(bridge, now);
    }
}

impl Pools {
    /// Everybody of the file who has an address, healthy until proven otherwise; what becomes of
    /// them is told to `events`.
    pub fn new(config: &config::Config, bridge: &Bridge, events: &Arc<Events>) -> Pools {
        let pools = config.pools.iter().zip(&bridge.plan.pools);
        let pool = |(pool, plan)| Pool::new(pool, plan, Arc::clone(events));
        let mut pools = Pools(pools.map(pool).collect());
        pools.publish(bridge, Instant::now());
        pools
    }

    /// In the order of the plan.
    pub fn all(&self) -> impl Iterator<Item = &Pool> {
        self.0.iter()
    }

    /// One of them, by its place in the plan.
    pub fn get(&self, pool: usize) -> &Pool {
        &self.0[pool]
    }

    /// Publishes what has changed, so that what is known is also in force.
    pub fn publish(&mut self, bridge: &Bridge, now: Instant) {
        for (pool, cell) in self.0.iter_mut().zip(&bridge.rosters) {
            pool.grow_weights(now);
            if std::mem::take(&mut pool.changed) {
                pool.judge_panic();
                cell.publish(pool.roster(now));
            }
            // After the roster, or a new session would come to it meanwhile.
            let forgives = pool.panicking;
            for (slot, _) in pool.fallen.drain(..).filter(|(_, is_fact)| *is_fact || !forgives) {
                bridge.cut_sessions(slot);
            }
        }
    }

    /// The backend `id` in `slot` was checked, on the traffic's own port or on another one;
    /// `turned` is what its checks say of it from now on, where that has changed.
    pub fn checked(
        &mut self,
        (slot, id): (usize, u64),
        result: &Result<(), CheckFailure>,
        on_traffic_port: bool,
        turned: Option<Health>,
    ) {
        let pool = self.0.iter_mut().find(|pool| pool.slots.contains(&slot));
        let Some(pool) = pool else { return };
        let Some(backend) = pool.at(slot).filter(|backend| backend.id == id) else { return };
        let unconnectable = on_traffic_port && matches!(result, Err(CheckFailure::Connect(_)));
        let before = std::mem::replace(&mut backend.unconnectable, unconnectable);
        if let Some(health) = turned {
            let reason = result.as_ref().err().map_or("its checks pass", CheckFailure::text);
            backend.health = health;
            backend.check_reason = reason.to_owned();
            if health == Health::Unhealthy && pool.rules.on_unhealthy == OnUnhealthy::Cut {
                pool.fallen.push((slot, unconnectable));
            }
            pool.settle(slot, reason);
        }
        // In panic the roster asks for it.
        pool.changed |= pool.panicking && before != unconnectable;
    }

    /// The backend `id`, while it stands in `slot`.
    pub fn standing(&self, slot: usize, id: u64) -> Option<&Backend> {
        let pool = self.0.iter().find(|pool| pool.slots.contains(&slot))?;
        pool.get(slot).filter(|backend| backend.id == id)
    }

    /// A name was looked up, and this is behind it from now on. Gives the slots of those who were
    /// not there before.
    pub fn looked_up(
        &mut self,
        (pool, name): (usize, usize),
        look: &Look<'_>,
        bridge: &Bridge,
    ) -> Vec<usize> {
        let pool = &mut self.0[pool];
        let state = look.failed.map_or(Lookup::Succeeded, |why| Lookup::Failed(why.clone()));
        let (spec, slots) = (pool.names[name].spec.clone(), pool.names[name].slots.clone());
        let (fresh, no_room) = pool.found(slots, &spec, look.endpoints, bridge);
        let known = &mut pool.names[name];
        (known.state, known.cut) = (state, look.cut);
        known.cut_total += u64::from(no_room > 0 || look.cut != Cut::default());
        if no_room != std::mem::replace(&mut known.no_room, no_room) {
            let name = spec.address.to_string();
            let rule = "addresses wait for room: those that are gone still serve";
            tracing::warn!(pool = pool.name, name, no_room, "{rule}");
        }
        fresh
    }

    /// These of an answer are ourselves, and left out. Gives those that were not before, which are
    /// counted.
    pub fn refused(
        &mut self,
        (pool, name): (usize, usize),
        refused: Vec<SocketAddr>,
    ) -> Vec<SocketAddr> {
        let name = &mut self.0[pool].names[name];
        let is_fresh = |address: &&SocketAddr| !name.refused.contains(address);
        let fresh: Vec<SocketAddr> = refused.iter().filter(is_fresh).copied().collect();
        name.refused_total += fresh.len() as u64;
        name.refused = refused;
        fresh
    }

    /// Does what an operator asks for; `Err` names what is unknown.
    pub fn change(&mut self, pool: &str, backend: &str, change: Change) -> Result<(), Unknown> {
        let pool = self.0.iter_mut().find(|p| p.name == pool).ok_or(Unknown::Pool)?;
        let slot = pool.named(backend).ok_or(Unknown::Backend)?.0;
        let Some(found) = pool.at(slot) else { return Err(Unknown::Backend) };
        found.order = change.order.unwrap_or(found.order);
        if change.order == Some(Order::Enable) {
            found.streak.forget();
        }
        let was = found.weight;
        if let Some(weight) = change.weight {
            found.weight = weight;
            found.ordered_weight = Some(weight);
            pool.changed = true;
        }
        pool.events.tell(Event::OperatorChange {
            pool: pool.name.clone(),
            backend: backend.to_owned(),
            state: change.order.map(Order::word),
            weight: change.weight,
            was,
        });
        pool.settle(slot, "asked for by the operator");
        Ok(())
    }

    /// A backend by its names.
    pub fn find(&self, pool: &str, backend: &str) -> Option<&Backend> {
        let pool = self.0.iter().find(|p| p.name == pool)?;
        pool.named(backend).map(|(_, backend)| backend)
    }

    fn let_go(&mut self, boards: &Boards, now: Instant) {
        let named = self.0.iter_mut().filter(|pool| !pool.names.is_empty());
        named.for_each(|pool| pool.let_go(|slot| boards.in_flight.sum(slot), now));
    }

    fn watch_outliers(&mut self, boards: &Boards, now: Instant) {
        self.take_early_ends(boards);
        for pool in &mut self.0 {
            let Some(rules) = pool.rules.outlier else { continue };
            let ejected = pool.backends().filter(|(_, b)| b.streak.is_ejected()).count();
            let most = outlier::ejected_max(&rules, pool.backends().count());
            // Never the last one.
            let healthy = pool.healthy().saturating_sub(1);
            let mut room = most.saturating_sub(ejected).min(healthy);
            for slot in pool.slots.clone() {
                if pool.get(slot).is_some() {
                    let counts = counts::outlier_counts(boards, slot, &rules);
                    pool.watch_outlier(slot, counts, &mut room, now);
                }
            }
        }
    }

    /// Whose connections were ended early, as the shards have told since the last look.
    fn take_early_ends(&mut self, boards: &Boards) {
        let queues = boards.shards.iter().map(|shard| &shard.early_ends);
        for end in queues.flat_map(|queue| (0..EARLY_ENDS_MAX).map_while(|_| queue.pop())) {
            let slot = end.slot as usize;
            let Some(pool) = self.0.iter_mut().find(|pool| pool.slots.contains(&slot)) else {
                continue;
            };
            let rules = pool.rules.outlier;
            if let (Some(rules), Some(backend)) = (rules, pool.at(slot)) {
                backend.streak.met(end.client, &rules);
            }
        }
    }
}

/// What a change named that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Pool,
    Backend,
}
