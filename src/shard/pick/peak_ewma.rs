//! Peak EWMA: the one of two that is expected to answer sooner.
//!
//! Source: Twitter's Finagle, `PeakEwma` (2016). Each backend has an average of its latencies that
//! forgets with time, and jumps up at once to a latency above it. The cost of a backend is that
//! average, times its connections in flight and the one to come, over its weight. Two are drawn and
//! the cheaper one wins: with the cheapest of all, shards that share a stale view would all run to
//! the same one.

use std::time::{Duration, Instant};

use super::{Member, Open};

/// After this long an old latency counts for a third (1/e).
const DECAY: Duration = Duration::from_secs(10);

/// The cost of one connection in flight to a backend that has never answered: more than any that
/// has. The first connection to it costs nothing, so that it is tried.
const UNKNOWN_US: f64 = 1e12;

/// What is known of one backend.
#[derive(Clone, Copy, Debug)]
struct Average {
    us: f64,
    at: Instant,
}

impl Average {
    /// The average, as much of it as is remembered after `now - at`.
    fn decayed(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        self.us * (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// One shard's averages, by place in the pool.
#[derive(Debug)]
pub(super) struct Latencies(Vec<Option<Average>>);

impl Latencies {
    pub(super) fn new(places: usize) -> Latencies {
        Latencies(vec![None; places])
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

    fn cost<F: Fn(usize) -> u32>(&self, open: &Open<'_, F>, member: &Member) -> f64 {
        let in_flight = f64::from((open.in_flight)(member.slot));
        let cost = match self.0[member.slot - open.first] {
            None => UNKNOWN_US * in_flight,
            Some(average) => average.decayed(open.ask.now) * (in_flight + 1.0),
        };
        cost / f64::from(member.weight)
    }

    /// Whether `a` costs less than `b`.
    pub(super) fn cheaper<F>(&self, open: &Open<'_, F>, a: &Member, b: &Member) -> bool
    where
        F: Fn(usize) -> u32,
    {
        self.cost(open, a) < self.cost(open, b)
    }
}
