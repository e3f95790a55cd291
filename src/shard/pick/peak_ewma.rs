//! Peak EWMA: the one of two that is expected to answer sooner.
//!
//! Source: Twitter's Finagle, `PeakEwma` (2016). Each backend has an average of its latencies that
//! forgets with time, and jumps up at once to a latency above it. The cost of a backend is that
//! average, times its connections in flight and the one to come, over its weight. Two are drawn and
//! the cheaper one wins: with the cheapest of all, shards that share a stale view would all run to
//! the same one.

use std::time::{Duration, Instant};

use super::{Load, Member, Open};

/// After this long an old latency counts for a third (1/e).
const DECAY: Duration = Duration::from_secs(10);

/// What is known of one backend: an average, as it was at some time.
#[derive(Clone, Copy, Debug)]
struct Average {
    us: f64,
    at: Instant,
}

/// One shard's averages, by place in the pool.
#[derive(Debug)]
pub(super) struct Latencies(Vec<Option<Average>>);

impl Latencies {
    pub(super) fn new(places: usize) -> Latencies {
        Latencies(vec![None; places])
    }

    pub(super) fn forget(&mut self, place: usize) {
        self.0[place] = None;
    }

    pub(super) fn add(&mut self, place: usize, latency: Duration, now: Instant) {
        let us = latency.as_secs_f64() * 1e6;
        let average = match self.0[place] {
            None => us,
            Some(old) => {
                let age = now.saturating_duration_since(old.at).as_secs_f64();
                let kept = (-age / DECAY.as_secs_f64()).exp();
                // A peak counts at once, a trough little by little.
                if us > old.us { us } else { old.us * kept + us * (1.0 - kept) }
            }
        };
        self.0[place] = Some(Average { us: average, at: now });
    }

    /// Whether `a` costs less than `b`. One that has never answered costs nothing while it has no
    /// connection, so that it is tried, and more than any that has answered once it has one.
    pub(super) fn cheaper<F>(&self, open: &Open<'_, F>, a: &Member, b: &Member) -> bool
    where
        F: Fn(usize) -> u32,
    {
        let load = |m: &Member| Load { connections: (open.in_flight)(m.slot), weight: m.weight };
        let known = |m: &Member| self.0[m.slot - open.first];
        let (load_a, load_b) = (load(a), load(b));
        match (known(a), known(b)) {
            (None, None) => load_a.is_below(load_b),
            (None, Some(_)) => load_a.connections == 0,
            (Some(_), None) => load_b.connections > 0,
            (Some(known_a), Some(known_b)) => {
                // Both forget at the same pace, so only the difference of their ages counts.
                let newer = seconds_from(known_b.at, known_a.at) / DECAY.as_secs_f64();
                let cost = |known: Average, load: Load| {
                    known.us * (f64::from(load.connections) + 1.0) / f64::from(load.weight)
                };
                cost(known_a, load_a) * newer.exp() < cost(known_b, load_b)
            }
        }
    }
}

/// How much later `to` is than `from`.
fn seconds_from(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(later) => later.as_secs_f64(),
        None => -from.duration_since(to).as_secs_f64(),
    }
}
