//! The ring of samples, and how it is shown: in columns, which are short and easy to draw. Pure.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::{
    bridge::{Direction, EndReason, LatencyPhase, ListenerPhase, Path},
    coordinator::stats::Sums,
    hist::{BOUNDS_US, Latency, Percentiles, Summary},
    limits::SECONDS_MAX,
};

/// Phases of a listener.
const PHASES: usize = ListenerPhase::COUNT;

/// What happened since the sample before.
#[derive(Debug)]
pub struct Sample {
    pub unix_ms: u64,
    /// How long that was, never 0; a stalled coordinator takes fewer and longer samples.
    pub span_ms: u64,
    /// Connections open at its end.
    pub active: u64,
    pub counts: Sums,
    pub latency: [Spread; PHASES],
}

// What `SECONDS_MAX` promises, with every bucket of every phase in use.
const _: () = {
    let heat = size_of::<(u8, u32)>() * (BOUNDS_US.len() + 1) * PHASES;
    assert!(size_of::<Sample>() + heat <= 920);
};

/// The latencies of one phase.
#[derive(Debug)]
pub struct Spread {
    count: u64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    /// Index of a bucket and its count; most are empty.
    heat: Box<[(u8, u32)]>,
}

impl Spread {
    pub fn of(latency: &Latency<u64>) -> Self {
        let Summary { percentiles, spread, .. } = latency.summary();
        let Percentiles { count, p50_us, p99_us, p999_us, .. } = percentiles;
        let buckets = (0..).zip(spread);
        let used = buckets.filter(|(_, count)| *count > 0);
        let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let heat = used.map(|(at, count)| (at, narrow(count))).collect();
        Spread { count, p50_us, p99_us, p999_us, heat }
    }
}

/// The newest samples.
#[derive(Debug)]
pub struct Ring {
    /// Tells one life of an instance from the next: both count samples from 1.
    started_unix_ms: u64,
    samples: VecDeque<Sample>,
    /// Samples ever taken; the number of the newest.
    taken: u64,
}

impl Ring {
    pub fn new(started_unix_ms: u64) -> Self {
        Ring { started_unix_ms, samples: VecDeque::with_capacity(SECONDS_MAX), taken: 0 }
    }

    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() == SECONDS_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.taken += 1;
    }

    /// Those with a higher number, in columns, newest last.
    pub fn after(&self, seq: u64) -> Value {
        let newer = usize::try_from(self.taken.saturating_sub(seq)).unwrap_or(usize::MAX);
        let skipped = self.samples.len().saturating_sub(newer);
        let view = View(self.samples.range(skipped..).collect());
        let first = self.taken - view.0.len() as u64 + 1;
        let on = |path: Path| move |s: &Sample| s.counts.bytes_on(path);
        let way = |direction: Direction| move |s: &Sample| s.counts.bytes(direction);
        json!({
            "started_unix_ms": self.started_unix_ms,
            "newest": self.taken,
            "seq": (first..=self.taken).collect::<Vec<u64>>(),
            "unix_ms": view.column(|s| s.unix_ms),
            "span_ms": view.column(|s| s.span_ms),
            "active": view.column(|s| s.active),
            "accepted": view.column(|s| s.counts.accepted),
            "ended": view.column(|s| s.counts.ended.iter().sum()),
            "errors": view.column(|s| s.counts.errors()),
            "bytes_up": view.column(way(Direction::Up)),
            "bytes_down": view.column(way(Direction::Down)),
            "bytes_copied": view.column(on(Path::Copied)),
            "bytes_spliced": view.column(on(Path::Spliced)),
            "ended_by": view.reasons(),
            "latency": view.latency(),
            "heat_bounds_us": BOUNDS_US,
            "error_reasons": names(EndReason::is_error),
            "failure_reasons": names(EndReason::is_failure),
        })
    }
}

fn names(are: fn(EndReason) -> bool) -> Vec<&'static str> {
    EndReason::ALL.into_iter().filter(|reason| are(*reason)).map(EndReason::name).collect()
}

/// The samples that are shown.
struct View<'a>(Vec<&'a Sample>);

impl View<'_> {
    fn column(&self, of: impl Fn(&Sample) -> u64) -> Vec<u64> {
        self.0.iter().map(|sample| of(sample)).collect()
    }

    /// A column for each reason that occurs.
    fn reasons(&self) -> Map<String, Value> {
        let column = |reason: EndReason| self.column(|s| s.counts.ended[reason as usize]);
        let named = EndReason::ALL.iter().map(|reason| (reason.name(), column(*reason)));
        let occurred = named.filter(|(_, counts)| counts.iter().any(|count| *count > 0));
        occurred.map(|(name, counts)| (name.to_owned(), json!(counts))).collect()
    }

    fn latency(&self) -> Map<String, Value> {
        let phases = ListenerPhase::ALL.iter();
        phases.map(|phase| (phase.name().to_owned(), self.phase(phase.index()))).collect()
    }

    fn phase(&self, at: usize) -> Value {
        json!({
            "count": self.column(|s| s.latency[at].count),
            "p50_us": self.column(|s| s.latency[at].p50_us),
            "p99_us": self.column(|s| s.latency[at].p99_us),
            "p999_us": self.column(|s| s.latency[at].p999_us),
            "heat": self.0.iter().map(|s| &s.latency[at].heat).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hist::Kind;

    fn spread(durations: &[u64]) -> Spread {
        let mut latency = Latency::<u64>::new(Kind::Session);
        durations.iter().for_each(|us| latency.record(Duration::from_micros(*us)));
        Spread::of(&latency)
    }

    /// As many accepted as its number, and one of them reset.
    fn sample(number: u64) -> Sample {
        let mut counts = Sums::default();
        counts.accepted = number;
        counts.ended[EndReason::ServerReset as usize] = 1;
        counts.ended[EndReason::ClientFin as usize] = number - 1;
        let latency = [spread(&[]), spread(&[40, 60, 70]), spread(&[70_000_000])];
        Sample { unix_ms: number * 1000, span_ms: 1000, active: 2, counts, latency }
    }

    fn filled(samples: u64) -> Ring {
        let mut ring = Ring::new(7);
        (1..=samples).for_each(|number| ring.push(sample(number)));
        ring
    }

    #[test]
    fn an_empty_ring_has_empty_columns() {
        let shown = Ring::new(7).after(0);
        assert_eq!((&shown["started_unix_ms"], &shown["newest"]), (&json!(7), &json!(0)));
        assert_eq!((&shown["seq"], &shown["accepted"]), (&json!([]), &json!([])));
        assert_eq!(
            (&shown["ended_by"], &shown["latency"]["connect"]["heat"]),
            (&json!({}), &json!([]))
        );
    }

    #[test]
    fn columns_say_what_happened_in_each_second() {
        let shown = filled(2).after(0);
        assert_eq!(shown["seq"], json!([1, 2]));
        assert_eq!(shown["unix_ms"], json!([1000, 2000]));
        assert_eq!((&shown["ended"], &shown["errors"]), (&json!([1, 2]), &json!([1, 1])));
        assert_eq!(shown["ended_by"], json!({"client_fin": [0, 1], "server_reset": [1, 1]}));
        let first_byte = &shown["latency"]["first_byte"];
        assert_eq!(
            (&first_byte["count"], &first_byte["p50_us"]),
            (&json!([3, 3]), &json!([60, 60]))
        );
        assert_eq!(first_byte["heat"][0], json!([[0, 1], [1, 2]]), "40 us, then 60 and 70 us");
        let above = shown["heat_bounds_us"].as_array().unwrap().len();
        assert_eq!(shown["latency"]["session"]["heat"][0], json!([[above, 1]]));
        assert_eq!(shown["latency"]["connect"]["p999_us"], json!([0, 0]));
    }

    #[test]
    fn what_the_client_does_and_what_the_file_asks_for_is_an_error_but_no_failure() {
        let shown = Ring::new(7).after(0);
        let listed = |list: &str, reason| shown[list].as_array().unwrap().contains(&json!(reason));
        let of_others = ["client_reset", "idle_timeout", "half_close_timeout", "denied", "chaos"];
        for reason in EndReason::ALL {
            let (error, failure) =
                (listed("error_reasons", reason.name()), listed("failure_reasons", reason.name()));
            let expected = error && !of_others.contains(&reason.name());
            assert_eq!((error, failure), (reason.is_error(), expected), "{reason:?}");
        }
    }

    #[test]
    fn the_oldest_goes_and_the_numbers_go_on() {
        let most = SECONDS_MAX as u64;
        let ring = filled(most + 3);
        let all = ring.after(0);
        assert_eq!((all["seq"][0].as_u64(), all["newest"].as_u64()), (Some(4), Some(most + 3)));
        assert_eq!(all["accepted"].as_array().unwrap().len(), SECONDS_MAX);
        assert_eq!(ring.after(2)["seq"], all["seq"], "what is gone cannot be asked for");
        let one = ring.after(most + 2);
        assert_eq!((&one["seq"], &one["accepted"]), (&json!([most + 3]), &json!([most + 3])));
        let none = ring.after(u64::MAX);
        assert_eq!((&none["seq"], &none["newest"]), (&json!([]), &json!(most + 3)));
    }
}
