//! Latency histograms that merge without loss.
//!
//! A plain HdrHistogram per shard and phase, swapped whole by the bridge, and what is kept of them
//! ([`History`]). This room knows no clock: durations come in as values.

mod history;

use std::{borrow::Cow, iter, time::Duration};

use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

pub use self::history::History;

/// What a histogram is for, which decides its range and resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1 us to 60 s at 3 significant digits: 136 KiB since the start, half
    /// of that in a shard.
    Listener,
    /// 1 us to 24 h at 3 significant digits: 224 KiB, and half.
    Session,
    /// 1 us to 60 s at 2 significant digits: 20 KiB, and half.
    Backend,
}

impl Kind {
    fn bounds(self) -> (u64, u8) {
        const MINUTE_US: u64 = 60_000_000;
        match self {
            Kind::Listener => (MINUTE_US, 3),
            Kind::Session => (24 * 60 * MINUTE_US, 3),
            Kind::Backend => (MINUTE_US, 2),
        }
    }

    fn histogram<C: Counter>(self) -> Histogram<C> {
        let (most, digits) = self.bounds();
        Histogram::new_with_bounds(1, most, digits).expect("constant bounds are valid")
    }
}

/// Durations in microseconds, and how many lay above the range.
///
/// A shard counts in 32 bits, as it gives its counts away every 50 ms; sums of them have 64.
#[derive(Clone, Debug)]
pub struct Latency<C: Counter = u32> {
    kind: Kind,
    /// Made for the first value and kept: most slots of a backend with a name stay empty, and the
    /// allocator touches all of it.
    values: Option<Box<Histogram<C>>>,
    over_range: u64,
}

impl<C: Counter> Latency<C> {
    /// An empty histogram.
    pub fn new(kind: Kind) -> Self {
        Latency { kind, values: None, over_range: 0 }
    }

    fn values_mut(&mut self) -> &mut Histogram<C> {
        self.values.get_or_insert_with(|| Box::new(self.kind.histogram()))
    }

    /// Records one duration; above the range it is clamped and counted apart.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let values = self.values_mut();
        let high = values.high();
        values.saturating_record(us.min(high));
        self.over_range += u64::from(us > high);
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.values.as_ref().map_or(0, |values| values.len())
    }

    /// The smallest value and the count of each bucket that is not empty, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.values.iter().flat_map(|values| buckets(values))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        if let Some(values) = self.values.as_mut().filter(|values| !values.is_empty()) {
            values.reset();
            self.over_range = 0;
        }
    }
}

impl Latency<u64> {
    /// Adds everything in `other`, which has the same kind.
    pub fn merge(&mut self, other: &Latency) {
        other.buckets().for_each(|(us, count)| self.add(us, count));
        self.over_range += other.over_range;
    }

    fn add(&mut self, us: u64, count: u64) {
        self.values_mut().record_n(us, count).expect("histograms of one kind have one range");
    }

    /// All buckets; an empty histogram of the same range where nothing was recorded.
    pub fn histogram(&self) -> Cow<'_, Histogram<u64>> {
        match &self.values {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(self.kind.histogram()),
        }
    }

    /// Values recorded above the range.
    pub fn over_range(&self) -> u64 {
        self.over_range
    }

    /// The percentiles.
    pub fn percentiles(&self) -> Percentiles {
        self.summary().percentiles
    }

    /// The percentiles, and what else is shown.
    pub fn summary(&self) -> Summary {
        let values = self.values.as_ref();
        values.map_or_else(Summary::default, |v| Summary::of(v, v.len(), buckets(v)))
    }
}

/// The same of a plain histogram.
///
/// The crate's own iterators start at 0 and work out a quantile at each step; this one is on the
/// way of every gathering, and values lie close together.
fn buckets<C: Counter>(values: &Histogram<C>) -> impl Iterator<Item = (u64, u64)> {
    let first = (!values.is_empty()).then(|| values.min());
    let all = iter::successors(first, |us| Some(values.next_non_equivalent(*us)));
    let used = all.take_while(|us| *us <= values.max());
    used.map(|us| (us, values.count_at(us).as_u64())).filter(|(_, count)| *count > 0)
}

/// `P` of the contract: all zeros when nothing was recorded. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Values recorded, clamped ones included.
    pub count: u64,
    /// The smallest.
    pub min_us: u64,
    /// Rounded to a tenth.
    pub mean_us: f64,
    /// Half are at most this.
    pub p50_us: u64,
    /// 90 % are at most this.
    pub p90_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// 99.9 %.
    pub p999_us: u64,
    /// 99.99 %.
    pub p9999_us: u64,
    /// The largest, clamped to the range.
    pub max_us: u64,
}

impl Percentiles {
    /// The percentiles of a histogram of microseconds.
    pub fn of(values: &Histogram<u64>) -> Percentiles {
        Summary::of(values, values.len(), buckets(values)).percentiles
    }
}

/// Upper bounds of the buckets that Prometheus is shown, in microseconds: 50 us to 60 s, about
/// three a decade.
pub const BOUNDS_US: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// All that is shown of a histogram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// As `/stats` has them.
    pub percentiles: Percentiles,
    /// The sum of all values in microseconds, as exact as the resolution.
    pub sum_us: f64,
    /// How many values lie up to each of [`BOUNDS_US`] and above the one before; last, how many
    /// above all of them. A bucket of ours goes whole to where its smallest value belongs.
    pub spread: [u64; BOUNDS_US.len() + 1],
}

impl Summary {
    /// In one pass over `count` values in buckets like those of `like`: the smallest value and the
    /// count of each, in order.
    fn of(like: &Histogram<u64>, count: u64, buckets: impl Iterator<Item = (u64, u64)>) -> Summary {
        let mut made = Summary::default();
        let ranks = QUANTILES.map(|quantile| ((quantile * count as f64).ceil() as u64).max(1));
        let (mut at, mut passed) = ([0; QUANTILES.len()], 0);
        let (mut below, mut bound, mut ends) = (0, 0, None);
        for (us, count) in buckets {
            below += count;
            made.sum_us += like.median_equivalent(us) as f64 * count as f64;
            ends = Some((ends.map_or(us, |(first, _)| first), us));
            while passed < ranks.len() && below >= ranks[passed] {
                at[passed] = like.highest_equivalent(us);
                passed += 1;
            }
            while BOUNDS_US.get(bound).is_some_and(|bound| *bound < us) {
                bound += 1;
            }
            made.spread[bound] += count;
        }
        let Some((min_us, last)) = ends else { return made };
        let mean_us = (made.sum_us / count as f64 * 10.0).round() / 10.0;
        let [p50_us, p90_us, p99_us, p999_us, p9999_us] = at;
        let max_us = like.highest_equivalent(last);
        made.percentiles = Percentiles {
            count,
            min_us,
            mean_us,
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            p9999_us,
            max_us,
        };
        made
    }
}

/// What [`Percentiles`] shows between the smallest and the largest value.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn above_the_range_is_clamped_and_counted() {
        let mut latency = Latency::<u64>::new(Kind::Backend);
        latency.record(Duration::from_secs(61));
        latency.record(Duration::from_millis(5));
        assert_eq!(latency.over_range(), 1);
        assert_eq!(latency.count(), 2);
        assert!(latency.percentiles().max_us <= 60_500_000);
        latency.clear();
        assert_eq!(latency.percentiles(), Percentiles::default());
        assert_eq!(latency.over_range(), 0);
    }

    #[test]
    fn a_value_on_a_bound_is_below_it() {
        let mut latency = Latency::<u64>::new(Kind::Listener);
        for us in [0, 50, 51, 1_000, 60_000_000, 70_000_000] {
            latency.record(Duration::from_micros(us));
        }
        let spread = latency.summary().spread;
        let used: Vec<_> = spread.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        assert_eq!(used, [(0, &2), (1, &1), (4, &1), (18, &2)]);
    }

    proptest! {
        /// The crate works each of them out by itself.
        #[test]
        fn one_pass_sees_what_the_crate_sees(
            values in proptest::collection::vec(0u64..70_000_000, 1..300)
        ) {
            let mut latency = Latency::<u64>::new(Kind::Backend);
            values.into_iter().for_each(|us| latency.record(Duration::from_micros(us)));
            let (made, values) = (latency.percentiles(), latency.histogram());
            let at = |quantile| values.value_at_quantile(quantile);
            prop_assert_eq!((made.count, made.min_us), (values.len(), values.min()));
            prop_assert!((made.mean_us - values.mean()).abs() < 0.051);
            prop_assert_eq!([made.p50_us, made.p90_us, made.p99_us], [0.5, 0.9, 0.99].map(at));
            prop_assert_eq!([made.p999_us, made.p9999_us], [0.999, 0.9999].map(at));
            prop_assert_eq!(made.max_us, values.max());
        }

        #[test]
        fn a_spread_counts_each_value_once(
            values in proptest::collection::vec(0u64..70_000_000, 0..100)
        ) {
            let mut latency = Latency::<u64>::new(Kind::Listener);
            values.iter().for_each(|us| latency.record(Duration::from_micros(*us)));
            let spread = latency.summary().spread;
            prop_assert_eq!(spread.iter().sum::<u64>(), latency.count());
            for (at, bound) in BOUNDS_US.iter().enumerate() {
                let below = latency.buckets().filter(|(us, _)| us <= bound);
                let below: u64 = below.map(|(_, count)| count).sum();
                prop_assert_eq!(spread[..=at].iter().sum::<u64>(), below);
            }
        }

        #[test]
        fn merged_shards_equal_one_histogram(
            values in proptest::collection::vec((0u64..90_000_000, any::<bool>()), 1..200)
        ) {
            let mut whole = Latency::<u64>::new(Kind::Listener);
            let mut parts = [Latency::new(Kind::Listener), Latency::new(Kind::Listener)];
            for (us, left) in values {
                whole.record(Duration::from_micros(us));
                parts[usize::from(left)].record(Duration::from_micros(us));
            }
            let mut merged = Latency::new(Kind::Listener);
            parts.iter().for_each(|part: &Latency| merged.merge(part));
            prop_assert_eq!(merged.percentiles(), whole.percentiles());
            prop_assert_eq!(merged.over_range(), whole.over_range());
        }
    }
}
