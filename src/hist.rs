//! Latency histograms that merge without loss.
//!
//! A plain HdrHistogram per shard and phase, swapped whole by the bridge. This room knows no clock:
//! durations come in as values.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a histogram is for, which decides its range and resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 1 us to 60 s at 3 significant digits: 136 KiB once all of it is touched.
    Listener,
    /// 1 us to 24 h at 3 significant digits: 224 KiB.
    Session,
    /// 1 us to 60 s at 2 significant digits: 20 KiB.
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
}

/// Durations in microseconds, and how many lay above the range.
#[derive(Clone, Debug)]
pub struct Latency {
    values: Histogram<u64>,
    over_range: u64,
}

impl Latency {
    /// An empty histogram. Its memory is zeroed on demand by the kernel, so one that is never
    /// recorded into costs next to nothing.
    pub fn new(kind: Kind) -> Self {
        let (most, digits) = kind.bounds();
        let values =
            Histogram::new_with_bounds(1, most, digits).expect("constant bounds are valid");
        Latency { values, over_range: 0 }
    }

    /// Records one duration; above the range it is clamped and counted apart.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if us > self.values.high() {
            self.over_range += 1;
        }
        self.values.saturating_record(us.min(self.values.high()));
    }

    /// Adds everything in `other`, which has the same kind.
    pub fn merge(&mut self, other: &Latency) {
        if !other.values.is_empty() {
            self.values.add(&other.values).expect("histograms of one kind have one range");
            self.over_range += other.over_range;
        }
    }

    /// Forgets everything; an empty one is left untouched, so that its memory stays unused.
    pub fn clear(&mut self) {
        if !self.values.is_empty() {
            self.values.reset();
            self.over_range = 0;
        }
    }

    /// Values recorded above the range.
    pub fn over_range(&self) -> u64 {
        self.over_range
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.values.len()
    }

    /// The sum of all values in microseconds, as exact as the resolution.
    pub fn sum_us(&self) -> f64 {
        self.values.mean() * self.values.len() as f64
    }

    /// How many values are at most `us` microseconds.
    pub fn count_to(&self, us: u64) -> u64 {
        self.values.count_between(0, us)
    }

    /// The percentiles.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles::of(&self.values)
    }
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
        if values.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile| values.value_at_quantile(quantile);
        Percentiles {
            count: values.len(),
            min_us: values.min(),
            mean_us: (values.mean() * 10.0).round() / 10.0,
            p50_us: at(0.50),
            p90_us: at(0.90),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: values.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn above_the_range_is_clamped_and_counted() {
        let mut latency = Latency::new(Kind::Backend);
        latency.record(Duration::from_secs(61));
        latency.record(Duration::from_millis(5));
        assert_eq!(latency.over_range(), 1);
        assert_eq!(latency.count(), 2);
        assert!(latency.percentiles().max_us <= 60_500_000);
        latency.clear();
        assert_eq!(latency.percentiles(), Percentiles::default());
        assert_eq!(latency.over_range(), 0);
    }

    proptest! {
        #[test]
        fn merged_shards_equal_one_histogram(
            values in proptest::collection::vec((0u64..90_000_000, any::<bool>()), 1..200)
        ) {
            let mut whole = Latency::new(Kind::Listener);
            let mut parts = [Latency::new(Kind::Listener), Latency::new(Kind::Listener)];
            for (us, left) in values {
                whole.record(Duration::from_micros(us));
                parts[usize::from(left)].record(Duration::from_micros(us));
            }
            let [mut first, second] = parts;
            first.merge(&second);
            prop_assert_eq!(first.percentiles(), whole.percentiles());
            prop_assert_eq!(first.over_range(), whole.over_range());
        }
    }
}
