//! Peak EWMA: the one of two that is expected to answer sooner.
//!
//! Source: Twitter's Finagle, `PeakEwma` (2016). Each backend has an average of its latencies that
//! forgets with time, and jumps up at once to a latency above it. The cost of a backend is that
//! average, times its connections in flight and the one to come, over its weight. Two are drawn and
//! the cheaper one wins: with the cheapest of all, shards that share a stale view would all run to
//! the same one.
//!
//! A client may be the reason that an answer comes late: it sends half of a request, and the server
//! answers when it is tired of waiting. So an answer to a client that spoke is bounded, and jumps
//! up only if another address met such a one as well, or nobody else uses the backend; what a
//! single client met is averaged in, as twice the average at most.

use std::time::{Duration, Instant};

use super::{Load, Member, Open};

/// After this long an old latency counts for a third (1/e).
const DECAY: Duration = Duration::from_secs(10);

/// The most that an answer to a client that spoke counts for: servers wait longer than this for the
/// rest of a request.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What a single client met counts for this many times the average at most.
const LONE_TIMES_MAX: f64 = 2.0;

/// What a server took some time for.
#[derive(Clone, Copy, Debug)]
pub enum Took {
    /// To accept, or to speak first: nobody else has a part in that.
    Alone(Duration),
    /// To answer the last byte of a client, whose address has this key.
    Answer(Duration, u64),
}

/// What is known of one backend: an average, as it was at some time.
#[derive(Clone, Copy, Debug)]
struct Average {
    us: f64,
    at: Instant,
}

impl Average {
    /// A peak counts at once, a trough little by little.
    fn add(self, us: f64, at: Instant, jumps: bool) -> Average {
        let age = at.saturating_duration_since(self.at).as_secs_f64();
        let kept = (-age / DECAY.as_secs_f64()).exp();
        let us = if us > self.us && jumps { us } else { self.us * kept + us * (1.0 - kept) };
        Average { us, at }
    }
}

/// Which addresses a backend has answered.
#[derive(Clone, Copy, Debug, Default)]
struct Clients {
    /// The only one so far.
    sole: Option<u64>,
    /// True exactly when there were several.
    several: bool,
    /// The last one that had to wait longer than the average, and when.
    late: Option<(u64, Instant)>,
}

impl Clients {
    /// Notes an answer to `client`; true exactly when others bear out that it was late.
    fn bear_out(&mut self, client: u64, is_late: bool, now: Instant) -> bool {
        self.several |= self.sole.replace(client).is_some_and(|sole| sole != client);
        if !is_late {
            return false;
        }
        let recent = |(_, at): &(u64, Instant)| now.saturating_duration_since(*at) < DECAY;
        let before = self.late.replace((client, now)).filter(recent);
        !self.several || before.is_some_and(|(other, _)| other != client)
    }
}

/// One shard's averages, by place in the pool.
#[derive(Debug)]
pub(super) struct Latencies(Vec<(Option<Average>, Clients)>);

impl Latencies {
    pub(super) fn new(places: usize) -> Latencies {
        Latencies(vec![(None, Clients::default()); places])
    }

    pub(super) fn forget(&mut self, place: usize) {
        self.0[place] = (None, Clients::default());
    }

    pub(super) fn add(&mut self, place: usize, took: Took, now: Instant) {
        let (average, clients) = &mut self.0[place];
        let known = average.map_or(0.0, |average| average.us);
        let us_of = |latency: Duration| latency.as_secs_f64() * 1e6;
        let (us, jumps) = match took {
            Took::Alone(latency) => (us_of(latency), true),
            Took::Answer(latency, client) => {
                let us = us_of(latency.min(ANSWER_MAX));
                match clients.bear_out(client, us > known, now) {
                    true => (us, true),
                    false => (us.min(LONE_TIMES_MAX * known), false),
                }
            }
        };
        *average = Some(average.map_or(Average { us, at: now }, |old| old.add(us, now, jumps)));
    }

    /// Whether `a` costs less than `b`. One that has never answered costs nothing while it has no
    /// connection, so that it is tried, and more than any that has answered once it has one.
    pub(super) fn cheaper<F>(&self, open: &Open<'_, F>, a: &Member, b: &Member) -> bool
    where
        F: Fn(usize) -> u32,
    {
        let known = |m: &Member| self.0[m.slot - open.first].0;
        let (load_a, load_b) = (open.load(a), open.load(b));
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
