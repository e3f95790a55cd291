//! One pool as the coordinator sees it: its backends, and the roster that follows from them.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{backend::Backend, found::Said};
use crate::{
    bridge::{Balance, Member, Roster, Tier},
    config::{self, OnUnhealthy, Outlier, Target},
    coordinator::know::{
        counts::BackendSums,
        events::{Event, Events},
        names::{Cut, Why},
    },
    health::{
        outlier::Counts,
        standing::{self, State},
    },
    maglev::Table,
};

/// Steps in which a weight grows.
const RAMP_STEPS: u32 = 50;

/// One pool as the coordinator sees it.
pub struct Pool {
    pub name: String,
    pub balance: Balance,
    pub(super) rules: Rules,
    pub(super) slots: Range<usize>,
    /// By slot, from the first one of the pool on; `None` where a slot is free.
    backends: Vec<Option<Box<Backend>>>,
    /// The names that the file has instead of addresses.
    pub names: Vec<Name>,
    /// True exactly when too few backends are healthy, so that all of them are used.
    pub panicking: bool,
    generation: u64,
    /// True exactly when the newest roster is not published yet.
    pub(super) changed: bool,
    /// Slots whose sessions are to be cut, because a check has failed; each with whether that is a
    /// fact.
    pub(super) fallen: Vec<(usize, bool)>,
    /// When weights last grew.
    ramped_at: Instant,
    /// The last id that was given.
    pub(super) ids: u64,
    /// Where changes are told.
    pub(super) events: Arc<Events>,
}

pub(super) struct Rules {
    pub(super) slow_start: Duration,
    pub(super) panic_threshold: f64,
    pub(super) on_unhealthy: OnUnhealthy,
    pub(super) outlier: Option<Outlier>,
}

/// A backend of the file that has a name instead of an address.
pub struct Name {
    pub spec: config::Backend,
    pub slots: Range<usize>,
    pub state: Lookup,
    /// What was left out of the last answer.
    pub cut: Cut,
    /// Addresses of it that wait until somebody who is gone has finished.
    pub no_room: usize,
    /// Lookups of which something was left out.
    pub cut_total: u64,
    /// Of the last answer, what is left out because it is ourselves.
    pub refused: Vec<SocketAddr>,
    /// How often an address came to be left out.
    pub refused_total: u64,
    /// What an operator has said of addresses that have left it.
    pub(super) said: Vec<Said>,
}

impl Name {
    fn new(spec: config::Backend, slots: Range<usize>) -> Name {
        Name {
            spec,
            slots,
            state: Lookup::Waiting,
            cut: Cut::default(),
            no_room: 0,
            cut_total: 0,
            refused: Vec::new(),
            refused_total: 0,
            said: Vec::new(),
        }
    }
}

/// What the last lookup of a name came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There was none yet.
    Waiting,
    Succeeded,
    Failed(Why),
}

/// A table moves keys with each change of a weight, so there all of it counts at once; a round
/// robin looks at none.
fn slow_start(pool: &config::Pool) -> Duration {
    match pool.balance {
        Balance::Maglev | Balance::RoundRobin => Duration::ZERO,
        _ => pool.slow_start,
    }
}

impl Pool {
    /// The backends of the file that have an address, healthy until proven otherwise, and the names
    /// of the others.
    pub(super) fn new(
        pool: &config::Pool,
        plan: &crate::bridge::Pool,
        events: Arc<Events>,
    ) -> Pool {
        let mut made = Pool {
            name: pool.name.clone(),
            balance: pool.balance,
            rules: Rules {
                slow_start: slow_start(pool),
                panic_threshold: pool.panic_threshold,
                on_unhealthy: pool.on_unhealthy,
                outlier: pool.outlier,
            },
            slots: plan.slots.clone(),
            backends: plan.slots.clone().map(|_| None).collect(),
            names: Vec::new(),
            panicking: false,
            generation: 0,
            changed: true,
            fallen: Vec::new(),
            ramped_at: Instant::now(),
            ids: 0,
            events,
        };
        for (spec, slots) in pool.backends.iter().zip(&plan.entries) {
            let (spec, slots) = (spec.clone(), slots.clone());
            if let Target::Address(address) = spec.address {
                made.ids += 1;
                let backend = Backend::new(made.ids, &spec, address, BackendSums::default());
                made.put(slots.start, Some(backend));
            } else {
                made.names.push(Name::new(spec, slots));
            }
        }
        made
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Backend> {
        self.backends[slot - self.slots.start].as_deref()
    }

    pub(super) fn put(&mut self, slot: usize, backend: Option<Backend>) {
        self.backends[slot - self.slots.start] = backend.map(Box::new);
    }

    /// The backends that are there, each with its slot.
    pub fn backends(&self) -> impl Iterator<Item = (usize, &Backend)> {
        let slots = self.slots.clone().zip(&self.backends);
        slots.filter_map(|(slot, backend)| Some((slot, backend.as_deref()?)))
    }

    /// True exactly when it has somebody without a name, or all its names were looked up.
    pub fn can_start(&self) -> bool {
        let looked_up = || self.names.iter().all(|name| name.state != Lookup::Waiting);
        self.backends().any(|(_, backend)| backend.found.is_none()) || looked_up()
    }

    /// How many may be picked because they are well.
    pub fn healthy(&self) -> usize {
        let well = |b: &Backend| b.state == State::Healthy && b.weight > 0;
        self.backends().filter(|(_, backend)| well(backend)).count()
    }

    pub(super) fn named(&self, name: &str) -> Option<(usize, &Backend)> {
        self.backends().find(|(_, backend)| backend.name == name)
    }

    pub(super) fn at(&mut self, slot: usize) -> Option<&mut Backend> {
        self.backends[slot - self.slots.start].as_deref_mut()
    }

    /// Draws the conclusion of a change, and tells it once; `event` is what has changed.
    pub(super) fn settle(&mut self, slot: usize, event: &str) {
        let slow_start = self.rules.slow_start;
        let pool = self.name.clone();
        let Some(backend) = self.at(slot) else { return };
        let state = backend.judge();
        let from = std::mem::replace(&mut backend.state, state);
        backend.reason = backend.cause().to_owned();
        if state == from {
            return;
        }
        let healthy = state == State::Healthy;
        if healthy {
            backend.streak.forget();
        }
        backend.since = (healthy && !slow_start.is_zero()).then(Instant::now);
        let reason = if healthy { event.to_owned() } else { backend.reason.clone() };
        let backend = backend.name.clone();
        self.events.tell(Event::BackendState { pool, backend, from, to: state, reason });
        self.changed = true;
    }

    /// `counts` are those of all shards; `room` is how many may still be left out.
    pub(super) fn watch_outlier(
        &mut self,
        slot: usize,
        counts: Counts,
        room: &mut usize,
        now: Instant,
    ) {
        let Some(rules) = self.rules.outlier else { return };
        let Some(backend) = self.at(slot) else { return };
        backend.streak.look(counts, &rules, now);
        if backend.streak.is_ejected() {
            backend.streak.return_if_due(now);
            return self.settle(slot, "its ejection is over");
        }
        let may_go = *room > 0 && backend.state == State::Healthy && backend.weight > 0;
        let verdict = backend.streak.verdict(&rules).filter(|_| may_go);
        let Some((failures, kind)) = verdict else { return };
        *room -= 1;
        backend.ejections += 1;
        let long = backend.streak.eject(&rules, now);
        backend.ejection_reason =
            format!("{failures} failures in a row, out for {long:?} ({kind})");
        self.settle(slot, "");
    }

    /// Weights that grow want a new roster now and then.
    pub(super) fn grow_weights(&mut self, now: Instant) {
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

    pub(super) fn judge_panic(&mut self) {
        let states: Vec<(u32, State)> =
            self.candidates().map(|(_, backend)| (backend.priority, backend.state)).collect();
        let panicking = standing::panics(self.rules.panic_threshold, &states);
        if panicking == std::mem::replace(&mut self.panicking, panicking) {
            return;
        }
        self.events.tell(Event::PoolPanic {
            pool: self.name.clone(),
            panic: panicking,
            healthy: self.healthy(),
            backends: states.len(),
            threshold: self.rules.panic_threshold,
        });
    }

    /// Who may be picked. In panic opinions are forgiven and facts are not: those whose check
    /// failed after a connection stood are used too, those that cannot be connected to are asked
    /// last.
    pub(super) fn roster(&mut self, now: Instant) -> Roster {
        self.generation += 1;
        let well = |backend: &Backend| backend.state == State::Healthy;
        let used = |backend: &Backend| self.panicking || well(backend);
        let used = self.candidates().filter(|(_, backend)| used(backend));
        let (last, first): (Vec<_>, Vec<_>) =
            used.partition(|(_, b)| !well(b) && b.cannot_be_connected_to());
        let (tiers, unreachable) = (self.tiers(first, now), self.tiers(last, now));
        Roster { generation: self.generation, tiers, unreachable }
    }

    /// Members by priority. Within one the order stays that of the slots.
    fn tiers(&self, mut used: Vec<(usize, &Backend)>, now: Instant) -> Vec<Tier> {
        let hashes = self.balance == Balance::Maglev;
        used.sort_by_key(|(_, backend)| backend.priority);
        let tiers = used.chunk_by(|(_, a), (_, b)| a.priority == b.priority).map(|tier| {
            let member = |(slot, b): &(usize, &Backend)| {
                let (slow_start, since) = (self.rules.slow_start, b.since);
                Member {
                    id: b.id,
                    slot: *slot,
                    address: b.address,
                    weight: standing::weight_now(b.weight, since, slow_start, now),
                    max_connections: b.max_connections,
                    healthy: b.state == State::Healthy,
                }
            };
            let table = hashes.then(|| {
                let named: Vec<(&str, u32)> =
                    tier.iter().map(|(_, b)| (b.name.as_str(), b.weight)).collect();
                Table::new(&named)
            });
            Tier::new(tier[0].1.priority, tier.iter().map(member).collect(), table)
        });
        tiers.collect()
    }
}
