//! What a load run counts: operations, failures by kind, cut connections, bytes and latency.
//!
//! This room refuses to know sockets, threads and clocks.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::hist::Percentiles;

/// Latencies above this are recorded as this.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Losses described one by one; further ones are only counted.
const LOSSES_MAX: usize = 4096;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The target refused the connection.
    Refused,
    /// The connection was reset.
    Reset,
    /// The peer ended the connection early.
    Closed,
    /// No answer in time.
    Timeout,
    /// The answer was not what was sent, or not as long.
    Mismatch,
    /// Out of descriptors, ports or memory on our side.
    Local,
    /// Anything else.
    Other,
}

impl Kind {
    /// All kinds, in the order they are shown.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Reset,
        Self::Closed,
        Self::Timeout,
        Self::Mismatch,
        Self::Local,
        Self::Other,
    ];

    /// The word in JSON and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Mismatch => "mismatch",
            Self::Local => "local",
            Self::Other => "other",
        }
    }

    /// What to do about it, for a sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Refused => "connection refused (is something listening there?)",
            Self::Reset => "connection reset (has the proxy a usable backend?)",
            Self::Closed => "closed by the peer (has the proxy a usable backend?)",
            Self::Timeout => "timed out (is the address right, and the target alive?)",
            Self::Mismatch => "the answer is not what was sent (is the backend of this mode?)",
            Self::Local => "out of descriptors or ports here (raise `ulimit -n`, use fewer)",
            Self::Other => "no such address or no route to it (check --target)",
        }
    }
}

/// One connection that was lost, for those who attribute losses to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// When it was noticed.
    pub at: Instant,
    /// Why.
    pub kind: Kind,
    /// True exactly when the connection had been established.
    pub established: bool,
    /// True exactly when it counts in `cut` rather than in `failed`.
    pub cut: bool,
}

/// The counts of a run, or of an interval of it.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Operations done.
    pub operations: u64,
    /// Operations failed, by [`Kind`].
    pub failed: [u64; Kind::ALL.len()],
    /// Held connections that had worked and were then reset or closed.
    pub cut: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Of operations done, in microseconds.
    pub latency: Histogram<u64>,
    /// The first losses, failed and cut.
    pub losses: Vec<Loss>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self {
            operations: 0,
            failed: [0; Kind::ALL.len()],
            cut: 0,
            bytes: 0,
            latency: latency.expect("the bounds of the histogram are constants in order"),
            losses: Vec::new(),
        }
    }
}

impl Tally {
    /// One operation done.
    pub fn done(&mut self, latency_ns: u64) {
        self.operations += 1;
        self.latency.saturating_record((latency_ns / 1000).max(1));
    }

    /// One connection or operation lost.
    pub fn lost(&mut self, loss: Loss) {
        if loss.cut {
            self.cut += 1;
        } else {
            self.failed[loss.kind as usize] += 1;
        }
        if self.losses.len() < LOSSES_MAX {
            self.losses.push(loss);
        }
    }

    /// Failed operations of all kinds.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().sum()
    }

    /// Adds all of `other` and empties it.
    pub fn take_from(&mut self, other: &mut Self) {
        self.operations += std::mem::take(&mut other.operations);
        for (mine, theirs) in self.failed.iter_mut().zip(&mut other.failed) {
            *mine += std::mem::take(theirs);
        }
        self.cut += std::mem::take(&mut other.cut);
        self.bytes += std::mem::take(&mut other.bytes);
        if !other.latency.is_empty() {
            self.latency.add(&other.latency).expect("all tallies have the same bounds");
            other.latency.reset();
        }
        let room = LOSSES_MAX - self.losses.len();
        self.losses.extend(other.losses.drain(..).take(room));
    }

    /// The kinds that happened, with their counts.
    pub fn failures(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.into_iter().zip(self.failed).filter(|(_, count)| *count > 0)
    }

    /// The object of `bench --json`.
    pub fn to_json(&self, mode: &str, seconds: f64) -> Value {
        let failed: Map<String, Value> =
            self.failures().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
        json!({
            "mode": mode,
            "operations": self.operations,
            "failed": failed,
            "cut": self.cut,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "bytes": self.bytes,
            "latency": Percentiles::of(&self.latency),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(kind: Kind, cut: bool) -> Loss {
        Loss { at: Instant::now(), kind, established: true, cut }
    }

    #[test]
    fn the_json_has_the_names_of_the_contract() {
        let mut tally = Tally::default();
        tally.done(1_500_000);
        tally.lost(loss(Kind::Reset, false));
        tally.lost(loss(Kind::Closed, true));
        let json = tally.to_json("tcp", 1.23456);
        assert_eq!(json["operations"], 1);
        assert_eq!(json["failed"], json!({ "reset": 1 }));
        assert_eq!(json["cut"], 1);
        assert_eq!(json["seconds"], 1.235);
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        let expected = ["mode", "operations", "failed", "cut", "seconds", "bytes", "latency"];
        assert_eq!(names, expected);
        assert_eq!(json["latency"]["count"], 1);
        assert_eq!(json["latency"]["max_us"], 1500);
    }

    #[test]
    fn percentiles_of_nothing_are_zeros() {
        assert_eq!(Percentiles::of(&Tally::default().latency), Percentiles::default());
    }

    #[test]
    fn percentiles_keep_three_digits() {
        let mut tally = Tally::default();
        (1..=10_000_u64).for_each(|us| tally.done(us * 1000));
        let p = Percentiles::of(&tally.latency);
        assert_eq!((p.count, p.min_us), (10_000, 1));
        for (value, exact) in [(p.p50_us, 5000), (p.p90_us, 9000), (p.p99_us, 9900)] {
            assert!(value.abs_diff(exact) <= exact / 1000, "{value} is not near {exact}");
        }
    }

    #[test]
    fn a_latency_out_of_range_is_clamped() {
        let mut tally = Tally::default();
        tally.done(10);
        tally.done(u64::MAX);
        assert_eq!(tally.latency.len(), 2);
        assert_eq!(tally.latency.min(), 1);
        assert!(tally.latency.max() >= LATENCY_US_MAX);
    }

    #[test]
    fn taking_moves_everything_once() {
        let (mut sum, mut part) = (Tally::default(), Tally::default());
        part.done(1000);
        part.bytes = 7;
        part.lost(loss(Kind::Timeout, false));
        sum.take_from(&mut part);
        sum.take_from(&mut part);
        assert_eq!((sum.operations, sum.bytes, sum.failed_total()), (1, 7, 1));
        assert_eq!(sum.latency.len(), 1);
        assert_eq!(sum.losses.len(), 1);
    }
}
