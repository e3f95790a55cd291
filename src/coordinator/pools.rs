//! What is known of every backend, and the rosters that follow from it.
//!
//! Everything that may keep a backend from being picked comes together here: checks, outliers, the
//! operator, a return that is slow. A change is told once, with its reason, and published as a new
//! roster; shards see it at their next pick.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::App;
use crate::{
    bridge::{Balance, Boards, Bridge, Member, Roster, Tier},
    config::{self, Outlier},
    health::{
        Health,
        outlier::{self, Streak},
        standing::{self, Order, State},
    },
    maglev::Table,
};

/// How often outliers are looked for and weights grow: well within the 100 ms of the contract.
const PERIOD: Duration = Duration::from_millis(20);

/// Steps in which a weight grows.
const RAMP_STEPS: u32 = 50;

/// All pools, in the order of the plan.
pub struct Pools(Vec<Pool>);

/// One pool as the coordinator sees it.
pub struct Pool {
    pub name: String,
    pub balance: Balance,
    rules: Rules,
    slots: Range<usize>,
    /// By slot, from the first one of the pool on; `None` where a slot is free.
    backends: Vec<Option<Backend>>,
    /// True exactly when too few backends are healthy, so that all of them are used.
    pub panicking: bool,
    generation: u64,
    /// True exactly when the newest roster is not published yet.
    changed: bool,
    /// When weights last grew.
    ramped_at: Instant,
}

struct Rules {
    slow_start: Duration,
    panic_threshold: f64,
    outlier: Option<Outlier>,
}

/// One backend as the coordinator sees it.
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    pub weight: u32,
    pub priority: u32,
    pub max_connections: u32,
    pub state: State,
    /// Why the state is not healthy; empty where it is.
    pub reason: String,
    pub ejections: u64,
    order: Order,
    health: Health,
    streak: Streak,
    /// When it came back, while its weight still grows.
    since: Option<Instant>,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub order: Option<Order>,
    pub weight: Option<u32>,
}

/// Looks for outliers and lets weights grow, for ever.
pub async fn run(app: Arc<App>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let now = Instant::now();
        let mut pools = app.pools();
        pools.watch_outliers(&app.bridge.boards, now);
        pools.publish(app.bridge, now);
    }
}

impl Pools {
    /// All backends of the file, healthy until proven otherwise.
    pub fn new(config: &config::Config, bridge: &Bridge) -> Pools {
        let pool = |(pool, plan): (&config::Pool, &crate::bridge::Pool)| Pool {
            name: pool.name.clone(),
            balance: pool.balance,
            rules: Rules {
                slow_start: pool.slow_start,
                panic_threshold: pool.panic_threshold,
                outlier: pool.outlier,
            },
            slots: plan.slots.clone(),
            backends: pool.backends.iter().map(Backend::new).collect(),
            panicking: false,
            generation: 0,
            changed: true,
            ramped_at: Instant::now(),
        };
        let mut pools = Pools(config.pools.iter().zip(&bridge.plan.pools).map(pool).collect());
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
        }
    }

    /// The active checks have changed their mind.
    pub fn checked(&mut self, slot: usize, health: Health, reason: &str) {
        let pool = self.0.iter_mut().find(|pool| pool.slots.contains(&slot));
        let Some(pool) = pool else { return };
        if let Some(backend) = pool.at(slot) {
            backend.health = health;
            pool.settle(slot, reason);
        }
    }

    /// Whether the operator lets it be checked.
    pub fn is_disabled(&self, slot: usize) -> bool {
        let pool = self.0.iter().find(|pool| pool.slots.contains(&slot));
        let backend = pool.and_then(|pool| pool.backends[slot - pool.slots.start].as_ref());
        backend.is_some_and(|backend| backend.state == State::Disabled)
    }

    /// Does what an operator asks for; `Err` names what is unknown.
    pub fn change(&mut self, pool: &str, backend: &str, change: Change) -> Result<(), Unknown> {
        let pool = self.0.iter_mut().find(|p| p.name == pool).ok_or(Unknown::Pool)?;
        let slot = pool.named(backend).ok_or(Unknown::Backend)?.0;
        let Some(found) = pool.at(slot) else { return Err(Unknown::Backend) };
        found.order = change.order.unwrap_or(found.order);
        if let Some(weight) = change.weight {
            let was = std::mem::replace(&mut found.weight, weight);
            pool.changed = true;
            tracing::info!(pool = pool.name, backend, weight, was, "weight changed");
        }
        pool.settle(slot, "asked for by the operator");
        Ok(())
    }

    /// A backend by its names.
    pub fn find(&self, pool: &str, backend: &str) -> Option<&Backend> {
        let pool = self.0.iter().find(|p| p.name == pool)?;
        pool.named(backend).map(|(_, backend)| backend)
    }

    fn watch_outliers(&mut self, boards: &Boards, now: Instant) {
        for pool in &mut self.0 {
            let Some(rules) = pool.rules.outlier else { continue };
            let ejected = pool.backends().filter(|(_, b)| b.state == State::Ejected).count();
            let most = outlier::ejected_max(&rules, pool.backends().count());
            // Never the last one.
            let healthy = pool.healthy().saturating_sub(1);
            let mut room = most.saturating_sub(ejected).min(healthy);
            for slot in pool.slots.clone() {
                // Bad ones first: one that is counted between the two readings counts next time.
                let sum = |count: fn(&crate::bridge::BackendBoard) -> u64| {
                    boards.shards.iter().map(|shard| count(&shard.backends[slot])).sum::<u64>()
                };
                let bad = sum(|board| board.bad.get());
                let good = sum(|board| board.good.get());
                pool.watch_outlier(slot, (good, bad), &mut room, now);
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

impl Backend {
    /// `None`: it has no address of its own.
    fn new(backend: &config::Backend) -> Option<Backend> {
        let config::Target::Address(address) = backend.address else { return None };
        Some(Backend {
            name: backend.name.clone(),
            address,
            weight: backend.weight,
            priority: backend.priority,
            max_connections: backend.max_connections,
            state: State::Healthy,
            reason: String::new(),
            ejections: 0,
            order: Order::Enable,
            health: Health::Healthy,
            streak: Streak::default(),
            since: None,
        })
    }
}

impl Pool {
    /// The backends that are there, each with its slot.
    pub fn backends(&self) -> impl Iterator<Item = (usize, &Backend)> {
        let at =
            |(i, backend)| Option::as_ref(backend).map(|backend| (self.slots.start + i, backend));
        self.backends.iter().enumerate().filter_map(at)
    }

    /// How many may be picked because they are well.
    pub fn healthy(&self) -> usize {
        let well = |b: &Backend| b.state == State::Healthy && b.weight > 0;
        self.backends().filter(|(_, backend)| well(backend)).count()
    }

    fn named(&self, name: &str) -> Option<(usize, &Backend)> {
        self.backends().find(|(_, backend)| backend.name == name)
    }

    fn at(&mut self, slot: usize) -> Option<&mut Backend> {
        self.backends[slot - self.slots.start].as_mut()
    }

    /// Draws the conclusion of a change, and tells it once.
    fn settle(&mut self, slot: usize, reason: &str) {
        let slow_start = self.rules.slow_start;
        let name = self.name.clone();
        let Some(backend) = self.at(slot) else { return };
        let ejected = backend.streak.is_ejected();
        let state = State::of(backend.order, backend.health, ejected);
        if state == backend.state {
            return;
        }
        backend.state = state;
        let healthy = state == State::Healthy;
        backend.reason = if healthy { String::new() } else { reason.to_owned() };
        backend.since = (healthy && !slow_start.is_zero()).then(Instant::now);
        let (pool, backend) = (name.as_str(), backend.name.as_str());
        match state {
            State::Healthy => tracing::info!(pool, backend, reason, "healthy"),
            State::Unhealthy | State::Ejected => {
                tracing::warn!(pool, backend, reason, "{}", state.name());
            }
            State::Draining | State::Disabled => {
                tracing::info!(pool, backend, reason, "{}", state.name());
            }
        }
        self.changed = true;
    }

    /// `counts` are connections that went well and that did not; `room` is how many may still be
    /// left out.
    fn watch_outlier(&mut self, slot: usize, counts: (u64, u64), room: &mut usize, now: Instant) {
        let Some(rules) = self.rules.outlier else { return };
        let Some(backend) = self.at(slot) else { return };
        backend.streak.look(counts.0, counts.1);
        if backend.streak.is_ejected() {
            backend.streak.return_if_due(now);
            return self.settle(slot, "its ejection is over");
        }
        let failures = backend.streak.failures();
        let guilty = failures >= u64::from(rules.consecutive_failures);
        if guilty && *room > 0 && backend.state == State::Healthy && backend.weight > 0 {
            *room -= 1;
            backend.ejections += 1;
            let long = backend.streak.eject(&rules, now);
            self.settle(slot, &format!("{failures} failures in a row, out for {long:?}"));
        }
    }

    /// Weights that grow want a new roster now and then.
    fn grow_weights(&mut self, now: Instant) {
        let slow_start = self.rules.slow_start;
        if slow_start.is_zero() || now < self.ramped_at + slow_start / RAMP_STEPS {
            return;
        }
        self.ramped_at = now;
        for backend in self.backends.iter_mut().flatten() {
            if let Some(since) = backend.since {
                self.changed = true;
                backend.since = (now < since + slow_start).then_some(since);
            }
        }
    }

    /// Those that the operator allows and that have a weight.
    fn candidates(&self) -> impl Iterator<Item = (usize, &Backend)> {
        self.backends().filter(|(_, b)| b.state.is_enabled() && b.weight > 0)
    }

    fn judge_panic(&mut self) {
        let states: Vec<(u32, State)> =
            self.candidates().map(|(_, backend)| (backend.priority, backend.state)).collect();
        let panicking = standing::panics(self.rules.panic_threshold, &states);
        if panicking == std::mem::replace(&mut self.panicking, panicking) {
            return;
        }
        let (pool, healthy, backends) = (self.name.as_str(), self.healthy(), states.len());
        let threshold = self.rules.panic_threshold;
        match panicking {
            true => tracing::error!(
                pool,
                healthy,
                backends,
                threshold,
                "panic: too few healthy backends, all of them are used"
            ),
            false => tracing::info!(pool, healthy, backends, "panic is over"),
        }
    }

    fn roster(&mut self, now: Instant) -> Roster {
        self.generation += 1;
        let hashes = self.balance == Balance::Maglev;
        let used = |backend: &Backend| self.panicking || backend.state == State::Healthy;
        let mut used: Vec<(usize, &Backend)> =
            self.candidates().filter(|(_, backend)| used(backend)).collect();
        // Within a priority the order stays that of the slots.
        used.sort_by_key(|(_, backend)| backend.priority);
        let tiers = used.chunk_by(|(_, a), (_, b)| a.priority == b.priority).map(|tier| {
            let member = |(slot, b): &(usize, &Backend)| {
                // A table moves keys with each change of a weight: there all of it counts at once.
                let since = if hashes { None } else { b.since };
                let weight = standing::weight_now(b.weight, since, self.rules.slow_start, now);
                let (slot, address, max_connections) = (*slot, b.address, b.max_connections);
                Member { slot, address, weight, max_connections }
            };
            let table = hashes.then(|| {
                let named: Vec<(&str, u32)> =
                    tier.iter().map(|(_, b)| (b.name.as_str(), b.weight)).collect();
                Table::new(&named)
            });
            Tier::new(tier[0].1.priority, tier.iter().map(member).collect(), table)
        });
        Roster { generation: self.generation, tiers: tiers.collect() }
    }
}
