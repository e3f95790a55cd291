//! Native (exponential) buckets, made from those of a histogram.
//!
//! Bucket `i` of schema `s` holds what is above `2^((i-1)/2^s)` seconds and at most `2^(i/2^s)`.

/// Eight buckets per doubling, each 9.05 % wide, so a quantile that is worked out from them is off
/// by less than that. One finer would double what every scrape carries and Prometheus keeps; the
/// classic buckets of the same histogram are 100 to 150 % wide.
pub const SCHEMA: i32 = 3;

/// The bound of a bucket of every schema, just under the microsecond that we count in: what is
/// shorter was recorded as zero, and lies in the zero bucket.
pub const ZERO_THRESHOLD: f64 = 1.0 / (1u64 << 20) as f64;

/// Buckets that a histogram can have: 24 h are 36.4 doublings of a microsecond.
const BUCKETS_MAX: usize = 37 << SCHEMA;

/// The buckets of one histogram that are not empty.
#[derive(Debug, Default, PartialEq)]
pub struct Buckets {
    pub zeros: u64,
    /// Runs of neighbours: how far from the end of the run before (the first one: from bucket 0),
    /// and how many.
    pub spans: Vec<(i32, u32)>,
    /// Each count as its difference from the one before.
    pub deltas: Vec<i64>,
}

impl Buckets {
    /// From the smallest value in microseconds and the count of each bucket, in order.
    pub fn new(counts: impl Iterator<Item = (u64, u64)>) -> Buckets {
        let (mut made, mut last) = (Buckets::default(), None);
        let mut before = 0;
        for (us, count) in counts {
            let count = count as i64;
            if us == 0 {
                made.zeros += count as u64;
                continue;
            }
            let bucket = bucket(us);
            if last == Some(bucket) {
                before += count;
                *made.deltas.last_mut().expect("the last bucket has one") += count;
                continue;
            }
            match last {
                Some(last) if last + 1 == bucket => {
                    made.spans.last_mut().expect("the last bucket has one").1 += 1;
                }
                Some(last) => made.spans.push((bucket - last - 1, 1)),
                None => made.spans.push((bucket, 1)),
            }
            made.deltas.push(count - before);
            (before, last) = (count, Some(bucket));
        }
        debug_assert!(made.deltas.len() <= BUCKETS_MAX, "{} buckets", made.deltas.len());
        made
    }
}

/// The bucket of a value that is not zero.
fn bucket(us: u64) -> i32 {
    ((us as f64 / 1e6).log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// As a reader of the format takes it: buckets with their counts.
    fn read(buckets: &Buckets) -> BTreeMap<i32, i64> {
        let (mut at, mut count, mut deltas) = (0, 0, buckets.deltas.iter());
        let mut read = BTreeMap::new();
        for (offset, length) in &buckets.spans {
            at += offset;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                read.insert(at, count);
                at += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        read
    }

    #[test]
    fn powers_of_two_are_upper_bounds() {
        assert_eq!([1_000_000, 1_000_001, 500_000, 250_000].map(bucket), [0, 1, -8, -16]);
        assert_eq!((bucket(15_625), bucket(15_626)), (-48, -47));
        assert!(2f64.powf(f64::from(bucket(1) - 1) / 8.0) >= ZERO_THRESHOLD);
    }

    #[test]
    fn runs_and_gaps() {
        let counts = [(0, 3), (1_000_000, 5), (1_050_000, 1), (1_060_000, 1), (2_000_000, 9)];
        let made = Buckets::new(counts.into_iter());
        assert_eq!(made.zeros, 3);
        assert_eq!(made.spans, [(0, 2), (6, 1)]);
        assert_eq!(made.deltas, [5, -3, 7]);
        assert_eq!(Buckets::new([].into_iter()), Buckets::default());
    }

    proptest! {
        #[test]
        fn every_value_is_in_its_bucket(
            mut counts in proptest::collection::vec((1u64..86_400_000_000, 1u64..1000), 0..300)
        ) {
            counts.sort_unstable();
            let made = Buckets::new(counts.iter().copied());
            prop_assert!(made.deltas.len() <= BUCKETS_MAX);
            let read = read(&made);
            let all: u64 = counts.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(read.values().sum::<i64>(), all as i64);
            prop_assert!(read.values().all(|count| *count > 0));
            for (us, _) in counts {
                let bound = |i: i32| 2f64.powf(f64::from(i) / 8.0);
                let seconds = us as f64 / 1e6;
                let at = read.keys().find(|i| seconds <= bound(**i) * (1.0 + 1e-12)).unwrap();
                prop_assert!(seconds > bound(at - 1) * (1.0 - 1e-12), "{} in {}", seconds, at);
            }
        }
    }
}
