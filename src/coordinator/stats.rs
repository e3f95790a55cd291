//! `/stats`: everything that is known, by name.

use std::{collections::BTreeMap, iter, ops::Add};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{App, pools};
use crate::{
    bridge::{Bridge, Direction, EndReason, Failure, Path, PickError, RecordQueue, Refusal},
    config::Word,
    hist::{History, Percentiles},
    limits::ACCESS_RECORDS_MAX,
};

/// Which configuration is in force: the one of the start.
pub const CONFIG_GENERATION: u32 = 1;

/// A histogram over its windows.
#[derive(Serialize)]
struct Windows {
    #[serde(rename = "10s")]
    ten_seconds: Percentiles,
    #[serde(rename = "1m")]
    minute: Percentiles,
    total: Percentiles,
}

/// One listener's counters over all shards, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub accepted: u64,
    pub refused: [u64; Refusal::ALL.len()],
    pub ended: [u64; EndReason::ALL.len()],
    bytes: [[u64; Path::ALL.len()]; Direction::ALL.len()],
}

/// Adds up a listener's counters. Ends are read before accepts, so that what happens meanwhile
/// never makes more ends than beginnings.
pub fn sums(app: &App, listener: usize) -> Sums {
    let mut sums = Sums::default();
    for shard in &app.bridge.boards.shards {
        let board = &shard.listeners[listener];
        for reason in EndReason::ALL {
            sums.ended[reason as usize] += board.ended(reason).get();
        }
        for refusal in Refusal::ALL {
            sums.refused[refusal as usize] += board.refused(refusal).get();
        }
        for direction in Direction::ALL {
            for path in Path::ALL {
                sums.bytes[direction as usize][path as usize] += board.bytes(direction, path).get();
            }
        }
        sums.accepted += board.accepted.get();
    }
    sums
}

/// The same over all listeners.
pub fn all_sums(app: &App) -> Sums {
    let listeners = 0..app.bridge.plan.listeners.len();
    listeners.map(|l| sums(app, l)).fold(Sums::default(), |all, one| all.with(&one, u64::add))
}

impl Sums {
    /// What came on top of `before`.
    pub fn since(&self, before: &Sums) -> Sums {
        self.clone().with(before, u64::saturating_sub)
    }

    /// Each count, and its like in `other`, taken together by `by`.
    fn with(mut self, other: &Sums, by: fn(u64, u64) -> u64) -> Sums {
        let ours = self.each_mut();
        ours.zip(other.clone().each_mut()).for_each(|(ours, theirs)| *ours = by(*ours, *theirs));
        self
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let counts = iter::once(&mut self.accepted).chain(&mut self.refused);
        counts.chain(&mut self.ended).chain(self.bytes.as_flattened_mut())
    }

    /// Connections that ended otherwise than they should.
    pub fn errors(&self) -> u64 {
        let errors = EndReason::ALL.into_iter().filter(|reason| reason.is_error());
        errors.map(|reason| self.ended[reason as usize]).sum()
    }

    /// Connections open now: what was accepted and has not ended.
    pub fn active(&self) -> u64 {
        self.accepted.saturating_sub(self.ended.iter().sum())
    }

    /// Bytes in one direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.bytes[direction as usize].iter().sum()
    }

    /// Bytes on one path.
    pub fn bytes_on(&self, path: Path) -> u64 {
        self.bytes.iter().map(|paths| paths[path as usize]).sum()
    }

    /// Bytes in one direction on one path.
    pub fn bytes_of(&self, direction: Direction, path: Path) -> u64 {
        self.bytes[direction as usize][path as usize]
    }

    /// Reasons that occurred, with their counts.
    pub fn ended_by_name(&self) -> BTreeMap<&'static str, u64> {
        let named = EndReason::ALL.iter().map(|r| (r.name(), self.ended[*r as usize]));
        named.filter(|(_, n)| *n > 0).collect()
    }

    /// Causes that occurred, with their counts.
    fn refused_by_name(&self) -> BTreeMap<&'static str, u64> {
        let named = Refusal::ALL.iter().map(|r| (r.name(), self.refused[*r as usize]));
        named.filter(|(_, n)| *n > 0).collect()
    }
}

/// One backend's counters over all shards.
#[derive(Clone, Debug, Default)]
pub struct BackendSums {
    pub active: u32,
    pub established: u64,
    pub good: u64,
    pub bad: u64,
    pub failures: [u64; Failure::ALL.len()],
    pub bytes: [u64; Direction::ALL.len()],
}

/// Adds up what a slot has counted since the start.
pub fn board_sums(bridge: &Bridge, slot: usize) -> BackendSums {
    let active = bridge.boards.in_flight.sum(slot);
    let mut sums = BackendSums { active, ..BackendSums::default() };
    for shard in &bridge.boards.shards {
        let board = &shard.backends[slot];
        sums.established += board.established.get();
        sums.bad += board.bad.get();
        sums.good += board.good.get();
        for failure in Failure::ALL {
            sums.failures[failure as usize] += board.failures(failure).get();
        }
        for direction in Direction::ALL {
            sums.bytes[direction as usize] += board.bytes(direction).get();
        }
    }
    sums
}

/// What a backend has counted since it came.
pub fn backend_sums(app: &App, slot: usize, backend: &pools::Backend) -> BackendSums {
    let (now, before) = (board_sums(app.bridge, slot), &backend.before);
    let since = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
    let each = |i: usize| since((&now.failures[i], &before.failures[i]));
    BackendSums {
        active: now.active,
        established: since((&now.established, &before.established)),
        good: since((&now.good, &before.good)),
        bad: since((&now.bad, &before.bad)),
        failures: std::array::from_fn(each),
        bytes: std::array::from_fn(|i| since((&now.bytes[i], &before.bytes[i]))),
    }
}

/// The whole of `/stats`.
pub fn render(app: &App) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": app.started.elapsed().as_secs(),
        "state": app.bridge.phase().name(),
        "driver": app.driver.driver.name(),
        "driver_reason": app.driver.reason,
        "config": { "generation": CONFIG_GENERATION, "digest": app.config.digest },
        "connections_active": app.bridge.gates.runtime.taken(),
        "max_connections": app.bridge.gates.runtime.places(),
        "log_lines_lost_total": app.lost_lines.count(),
        "access_log": access_log(app),
        "shards": shards(app),
        "shard_spread": shard_spread(app),
        "listeners": listeners(app),
        "pools": pools(app),
    })
}

fn access_log(app: &App) -> Value {
    let queues = || app.bridge.boards.shards.iter().filter_map(|shard| shard.records.as_ref());
    json!({
        "lines_total": app.bridge.access_log.lines.get(),
        "dropped_total": app.bridge.access_lines_dropped(),
        "queued": queues().map(RecordQueue::len).sum::<usize>(),
        "queue_max": queues().count() * ACCESS_RECORDS_MAX,
    })
}

fn shards(app: &App) -> Vec<Value> {
    let gathered = app.gathered.lock().expect("nobody panics holding it");
    let shard = |(id, shard): (usize, &crate::bridge::ShardBoard)| {
        let meters = shard.meters;
        json!({
            "id": id,
            "cpu": shard.cpu,
            "connections_active": shard.active(),
            "accepted_total": shard.listeners.iter().map(|l| l.accepted.get()).sum::<u64>(),
            "handed_off_total": shard.handed_off.get(),
            "accept_pauses_total": shard.accept_pauses.get(),
            "busy_ratio": gathered.busy[id].ratio(),
            "pick_error_mean": pick_error_mean(&shard.pick_error),
            "pick_error_max": shard.pick_error.max.get(),
            "pick_samples_total": shard.pick_error.samples.get(),
            "turn_max_us": meters.turn_max_us.get(),
            "pipes_in_use": meters.pipes_in_use.get(),
            "pipes_open": meters.pipes_open.get(),
            "pipes_max": app.limits.pipes_per_shard,
            "pipes_dry_total": meters.pipes_dry.get(),
            "buffers_in_use": meters.chunks_in_use.get(),
            "buffers_max": crate::rt::CHUNKS_MAX,
            "buffers_dry_total": meters.chunks_dry.get(),
        })
    };
    app.bridge.boards.shards.iter().enumerate().map(shard).collect()
}

/// The busiest shard's connections over the mean; 1 when there are none.
pub fn shard_spread(app: &App) -> f64 {
    let active: Vec<u64> = app.bridge.boards.shards.iter().map(|s| s.active()).collect();
    let (most, sum) = (active.iter().max().copied().unwrap_or(0), active.iter().sum::<u64>());
    if sum == 0 { 1.0 } else { most as f64 * active.len() as f64 / sum as f64 }
}

fn windows<'a>(
    phases: impl IntoIterator<Item = (&'static str, &'a History)>,
) -> Map<String, Value> {
    let windows = |history: &History| Windows {
        ten_seconds: history.last_slot(),
        minute: history.last_slots(),
        total: history.total().percentiles(),
    };
    phases.into_iter().map(|(name, history)| (name.to_owned(), json!(windows(history)))).collect()
}

/// Values above their range, over all phases.
pub fn over_range<'a>(phases: impl IntoIterator<Item = (&'static str, &'a History)>) -> u64 {
    phases.into_iter().map(|(_, history)| history.total().over_range()).sum()
}

fn listeners(app: &App) -> Vec<Value> {
    let gathered = app.gathered.lock().expect("nobody panics holding it");
    let listener = |(i, listener): (usize, &crate::bridge::Listener)| {
        let sums = sums(app, i);
        let latency = &gathered.kept.listeners[i];
        json!({
            "name": listener.name,
            "mode": "tcp",
            "addresses": app.bound[i],
            "pool": app.bridge.plan.pools[listener.pool].name,
            "connections_active": sums.active(),
            "max_connections": app.bridge.gates.listeners[i].places(),
            "accepted_total": sums.accepted,
            "refused_total": sums.refused_by_name(),
            "bytes_up_total": sums.bytes(Direction::Up),
            "bytes_down_total": sums.bytes(Direction::Down),
            "bytes_copied_total": sums.bytes_on(Path::Copied),
            "bytes_spliced_total": sums.bytes_on(Path::Spliced),
            "ended_total": sums.ended_by_name(),
            "over_range_total": over_range(latency.phases()),
            "latency": windows(latency.phases()),
        })
    };
    app.bridge.plan.listeners.iter().enumerate().map(listener).collect()
}

fn pools(app: &App) -> Vec<Value> {
    let gathered = app.gathered.lock().expect("nobody panics holding it");
    let backend = |(slot, known): (usize, &pools::Backend)| {
        let sums = backend_sums(app, slot, known);
        let latency = &gathered.kept.backends[slot];
        let failures = Failure::ALL.map(|f| (f.name(), sums.failures[f as usize]));
        json!({
            "name": known.name,
            "address": known.address,
            "state": known.state.name(),
            "reason": known.reason,
            "weight": known.weight,
            "priority": known.priority,
            "connections_active": sums.active,
            "max_connections": known.max_connections,
            "connections_total": sums.established,
            "failures_total": BTreeMap::from(failures),
            "ejections_total": known.ejections,
            "bytes_up_total": sums.bytes[Direction::Up as usize],
            "bytes_down_total": sums.bytes[Direction::Down as usize],
            "over_range_total": over_range(latency.phases()),
            "latency": windows(latency.phases()),
        })
    };
    let pool = |(index, pool): (usize, &pools::Pool)| {
        let sums = pool_sums(app, index);
        json!({
            "name": pool.name,
            "balance": pool.balance.word(),
            "healthy": pool.healthy(),
            "panic": pool.panicking,
            "retries_total": sums.retries,
            "retries_denied_total": sums.retries_denied,
            "names": pool.names.iter().map(|found| name(pool, found)).collect::<Vec<_>>(),
            "backends": pool.backends().map(backend).collect::<Vec<_>>(),
        })
    };
    app.pools_in_force().all().enumerate().map(pool).collect()
}

fn name(pool: &pools::Pool, name: &pools::Name) -> Value {
    let (state, error) = match &name.state {
        pools::Lookup::Waiting => ("waiting", String::new()),
        pools::Lookup::Succeeded => ("ok", String::new()),
        pools::Lookup::Failed(why) => ("failing", why.to_string()),
    };
    json!({
        "name": name.spec.address.to_string(),
        "state": state,
        "error": error,
        "backends": behind(pool, name),
    })
}

/// How many backends came by a name.
pub fn behind(pool: &pools::Pool, name: &pools::Name) -> usize {
    pool.backends().filter(|(slot, _)| name.slots.contains(slot)).count()
}

/// One pool's counters over all shards.
pub struct PoolSums {
    pub retries: u64,
    pub retries_denied: u64,
}

/// Adds up a pool's counters.
pub fn pool_sums(app: &App, pool: usize) -> PoolSums {
    let boards = app.bridge.boards.shards.iter().map(|shard| &shard.pools[pool]);
    PoolSums {
        retries: boards.clone().map(|board| board.retries.get()).sum(),
        retries_denied: boards.map(|board| board.retries_denied.get()).sum(),
    }
}

/// The mean error of a shard's picks, in connections.
pub fn pick_error_mean(error: &PickError) -> f64 {
    let samples = error.samples.get().max(1);
    (error.sum.get() as f64 / samples as f64 * 1000.0).round() / 1000.0
}
