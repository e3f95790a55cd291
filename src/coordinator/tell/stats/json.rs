//! The text of `/stats`.
//!
//! Lists are written entry by entry: all at once, a thousand backends with their latencies would be
//! a tree of 27 MiB.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    CONFIG_GENERATION, backend_sums, behind, over_range, pick_error_mean, pool_sums, shard_spread,
    sums,
};
use crate::{
    bridge::{Bridge, Direction, Failure, Path, RecordQueue},
    config::Word,
    coordinator::{
        facts::Facts,
        know::{Known, check::Places, pools},
        tell::{AdminCounts, Recorded, Whole, gather::Gathered},
    },
    hist::{History, Percentiles},
    limits::{ACCESS_RECORDS_MAX, ADMIN_CONNS_MAX, CHECKS_AT_ONCE_MAX, PROBE_CONNS_MAX},
};

/// The whole of `/stats`, as JSON.
pub fn render(whole: &Whole) -> Vec<u8> {
    let Whole { facts, known, recorded, .. } = whole;
    let listeners = Listeners { facts, recorded };
    let pools = PoolList { bridge: facts.bridge, known, recorded };
    let page = Page { head: head(whole), listeners, pools };
    serde_json::to_vec(&page).expect("memory takes every byte")
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    head: Value,
    listeners: Listeners<'a>,
    pools: PoolList<'a>,
}

fn head(whole: &Whole) -> Value {
    let Whole { facts, known, recorded, admin } = whole;
    let bridge = facts.bridge;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": facts.started.elapsed().as_secs(),
        "state": bridge.phase().name(),
        "driver": facts.driver.driver.name(),
        "driver_reason": facts.driver.reason,
        "config": { "generation": CONFIG_GENERATION, "digest": facts.config.digest },
        "connections_active": bridge.gates.runtime.taken(),
        "max_connections": bridge.gates.runtime.places(),
        "log_lines_lost_total": facts.lost_lines.count(),
        "sources": sources(bridge),
        "access_log": access_log(bridge),
        "admin": of_admin(admin),
        "checks": checks(&known.check_places),
        "shards": shards(facts, recorded),
        "shard_spread": shard_spread(&bridge.boards),
    })
}

fn of_admin(counts: &AdminCounts) -> Value {
    json!({
        "connections": counts.connections,
        "connections_max": ADMIN_CONNS_MAX + PROBE_CONNS_MAX,
        "evicted_total": counts.evicted,
        "changes_refused_total": counts.changes_refused,
    })
}

fn checks(places: &Places) -> Value {
    let (running, waiting) = places.counts();
    json!({ "running": running, "running_max": CHECKS_AT_ONCE_MAX, "waiting": waiting })
}

fn sources(bridge: &Bridge) -> Value {
    let sources = &bridge.gates.sources;
    let (in_use, max) = sources.fill();
    json!({ "in_use": in_use, "max": max, "overflows_total": sources.overflows() })
}

fn access_log(bridge: &Bridge) -> Value {
    let queues = || bridge.boards.shards.iter().filter_map(|shard| shard.records.as_ref());
    json!({
        "lines_total": bridge.access_log.lines.get(),
        "dropped_total": bridge.access_lines_dropped(),
        "queued": queues().map(RecordQueue::len).sum::<usize>(),
        "queue_max": queues().count() * ACCESS_RECORDS_MAX,
    })
}

fn shards(facts: &Facts, recorded: &Recorded) -> Vec<Value> {
    let gathered = recorded.gathered();
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
            "turns_total": meters.turns.get(),
            "turn_max_us": meters.turn_max_us.get(),
            "pipes_in_use": meters.pipes_in_use.get(),
            "pipes_open": meters.pipes_open.get(),
            "pipes_grown": meters.pipes_grown.get(),
            "pipes_max": facts.limits.pipes_per_shard,
            "pipes_dry_total": meters.pipes_dry.get(),
            "buffers_in_use": meters.chunks_in_use.get(),
            "buffers_max": crate::rt::CHUNKS_MAX,
            "buffers_dry_total": meters.chunks_dry.get(),
            "ring_buffers_in_use": meters.ring_buffers_in_use.get(),
            "ring_buffers_dry_total": meters.ring_buffers_dry.get(),
            "parked_bytes": meters.parked_bytes.get(),
            "ring_overflows_total": meters.ring_overflows.get(),
            "ring_losses_total": meters.ring_losses.get(),
            "ring_completions_lost_total": meters.ring_completions_lost.get(),
        })
    };
    facts.bridge.boards.shards.iter().enumerate().map(shard).collect()
}

/// A listener or a backend.
#[derive(Serialize)]
struct Entry<'a, const N: usize> {
    #[serde(flatten)]
    words: Value,
    latency: Phases<'a, N>,
}

struct Listeners<'a> {
    facts: &'a Facts,
    recorded: &'a Recorded,
}

impl Serialize for Listeners<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (facts, bridge) = (self.facts, self.facts.bridge);
        let gathered = self.recorded.gathered();
        let listener = |(i, listener): (usize, &crate::bridge::Listener)| {
            let sums = sums(&bridge.boards, i);
            let phases = gathered.kept.listeners[i].phases();
            let words = json!({
                "name": listener.name,
                "mode": listener.speaks.name(),
                "addresses": facts.bound[i],
                "pool": bridge.plan.pools[listener.speaks.pool()].name,
                "connections_active": sums.active(),
                "max_connections": bridge.gates.listeners[i].places(),
                "accepted_total": sums.accepted,
                "refused_total": sums.refused_by_name(),
                "bytes_up_total": sums.bytes(Direction::Up),
                "bytes_down_total": sums.bytes(Direction::Down),
                "bytes_copied_total": sums.bytes_on(Path::Copied),
                "bytes_spliced_total": sums.bytes_on(Path::Spliced),
                "ended_total": sums.ended_by_name(),
                "over_range_total": over_range(phases),
            });
            Entry { words, latency: Phases(phases) }
        };
        to.collect_seq(bridge.plan.listeners.iter().enumerate().map(listener))
    }
}

struct PoolList<'a> {
    bridge: &'a Bridge,
    known: &'a Known,
    recorded: &'a Recorded,
}

#[derive(Serialize)]
struct PoolEntry<'a> {
    #[serde(flatten)]
    words: Value,
    backends: Backends<'a>,
}

impl Serialize for PoolList<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bridge = self.bridge;
        let gathered = self.recorded.gathered();
        let entry = |(index, pool): (usize, _)| {
            let pool: &pools::Pool = pool;
            let sums = pool_sums(&bridge.boards, index);
            let words = json!({
                "name": pool.name,
                "balance": pool.balance.word(),
                "healthy": pool.healthy(),
                "panic": pool.panicking,
                "retries_total": sums.retries,
                "retries_denied_total": sums.retries_denied,
                "names": pool.names.iter().map(|found| name(pool, found)).collect::<Vec<_>>(),
            });
            PoolEntry { words, backends: Backends { bridge, gathered: &gathered, pool } }
        };
        to.collect_seq(self.known.pools_in_force().all().enumerate().map(entry))
    }
}

struct Backends<'a> {
    bridge: &'a Bridge,
    gathered: &'a Gathered,
    pool: &'a pools::Pool,
}

impl Serialize for Backends<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let backend = |(slot, known): (usize, &pools::Backend)| {
            let sums = backend_sums(self.bridge, slot, known);
            let phases = self.gathered.kept.backends[slot].phases();
            let failures = Failure::ALL.map(|f| (f.name(), sums.failures[f as usize]));
            let words = json!({
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
                "over_range_total": over_range(phases),
            });
            Entry { words, latency: Phases(phases) }
        };
        to.collect_seq(self.pool.backends().map(backend))
    }
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
        "dropped": name.cut.dropped,
        "unreachable": name.cut.unreachable,
        "waiting": name.no_room,
        "cut_total": name.cut_total,
        "refused": name.refused,
        "refused_total": name.refused_total,
    })
}

/// A histogram over its windows.
#[derive(Serialize)]
struct Windows {
    #[serde(rename = "10s")]
    ten_seconds: Percentiles,
    #[serde(rename = "1m")]
    minute: Percentiles,
    total: Percentiles,
}

/// The phases of a listener or a backend, with their windows.
struct Phases<'a, const N: usize>([(&'static str, &'a History); N]);

impl<const N: usize> Serialize for Phases<'_, N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let windows = |history: &History| Windows {
            ten_seconds: history.last_slot(),
            minute: history.last_slots(),
            total: history.whole().percentiles,
        };
        to.collect_map(self.0.iter().map(|(phase, history)| (phase, windows(history))))
    }
}
