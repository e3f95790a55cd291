//! The families of shards.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Family, Label};
use crate::{
    bridge::ShardBoard,
    coordinator::{
        facts::Facts,
        tell::{Recorded, stats::pick_error_mean},
    },
    rt::CHUNKS_MAX,
};

/// Name, help, whether it only grows, and the value of one shard.
type ShardMetric = (&'static str, &'static str, bool, fn(&ShardBoard) -> f64);

const SHARD_METRICS: [ShardMetric; 23] = [
    ("shard_connections_active", "Connections open now", false, |s| s.active() as f64),
    ("shard_accept_pauses", "Times accepting paused for want of descriptors", true, |s| {
        s.accept_pauses.get() as f64
    }),
    ("shard_turns", "Turns, each with one look at the kernel's events", true, |s| {
        s.meters.turns.get() as f64
    }),
    ("shard_turn_max_seconds", "Longest turn in CPU time", false, |s| {
        s.meters.turn_max_us.get() as f64 / 1e6
    }),
    ("shard_pipes_in_use", "Pipes lent to bulk directions", false, |s| {
        f64::from(s.meters.pipes_in_use.get())
    }),
    ("shard_pipes_open", "Pipes open", false, |s| f64::from(s.meters.pipes_open.get())),
    ("shard_pipes_grown", "Pipes that have grown with bulk", false, |s| {
        f64::from(s.meters.pipes_grown.get())
    }),
    ("shard_pipes_dry", "Times a direction copied because no pipe was left", true, |s| {
        s.meters.pipes_dry.get() as f64
    }),
    ("shard_buffers_in_use", "Buffers held by blocked directions", false, |s| {
        f64::from(s.meters.chunks_in_use.get())
    }),
    ("shard_buffers_max", "Buffers that may be held", false, |_| f64::from(CHUNKS_MAX)),
    ("shard_buffers_dry", "Times bytes were passed on without a buffer", true, |s| {
        s.meters.chunks_dry.get() as f64
    }),
    ("shard_ring_buffers_in_use", "Buffers of the ring with bytes in them", false, |s| {
        f64::from(s.meters.ring_buffers_in_use.get())
    }),
    ("shard_ring_buffers_dry", "Receives that found no buffer in the ring", true, |s| {
        s.meters.ring_buffers_dry.get() as f64
    }),
    ("shard_ring_overflows", "Times completions waited for room in their queue", true, |s| {
        s.meters.ring_overflows.get() as f64
    }),
    ("shard_parked_bytes", "Bytes moved out of the ring's buffers for a full sink", false, |s| {
        f64::from(s.meters.parked_bytes.get())
    }),
    ("shard_ring_losses", "Times the kernel had no memory to keep completions", true, |s| {
        s.meters.ring_losses.get() as f64
    }),
    ("shard_ring_completions_lost", "Operations whose completion never came", true, |s| {
        s.meters.ring_completions_lost.get() as f64
    }),
    ("shard_pick_samples", "Picks whose error was looked at", true, |s| {
        s.pick_error.samples.get() as f64
    }),
    ("shard_pick_errors", "Connections above the least busy backend, summed", true, |s| {
        s.pick_error.sum.get() as f64
    }),
    ("shard_pick_error_mean", "Connections above the least busy backend, mean", false, |s| {
        pick_error_mean(&s.pick_error)
    }),
    ("shard_pick_error_max", "Connections above the least busy backend, at most", false, |s| {
        s.pick_error.max.get() as f64
    }),
    ("shard_handed_off", "Connections accepted and left to another shard", true, |s| {
        s.handed_off.get() as f64
    }),
    ("shard_accepted", "Connections accepted", true, |s| {
        s.listeners.iter().map(|l| l.accepted.get()).sum::<u64>() as f64
    }),
];

/// Gauges and counters.
pub fn shards(facts: &Facts, recorded: &Recorded, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let label = |id: usize| -> [Label; 1] { [("shard", id.to_string())] };
    let shards = &facts.bridge.boards.shards;
    for (name, help, grows, value) in SHARD_METRICS {
        let mut family = match grows {
            true => Family::counter(e, name, help)?,
            false => Family::gauge(e, name, help)?,
        };
        for (id, shard) in shards.iter().enumerate() {
            family.put(&label(id), value(shard))?;
        }
    }
    let mut family = Family::gauge(e, "shard_pipes_max", "Pipes that may be open")?;
    for id in 0..shards.len() {
        family.put(&label(id), f64::from(facts.limits.pipes_per_shard))?;
    }
    let mut family = Family::gauge(e, "shard_cpu", "The CPU it is pinned to, if it is")?;
    for (id, cpu) in shards.iter().enumerate().filter_map(|(id, s)| Some((id, s.cpu?))) {
        family.put(&label(id), cpu as f64)?;
    }
    let help = "Share of a core used in the last second";
    let mut family = Family::gauge(e, "shard_busy_ratio", help)?;
    let gathered = recorded.gathered();
    for (id, busy) in gathered.busy.iter().enumerate() {
        family.put(&label(id), busy.ratio())?;
    }
    Ok(())
}
