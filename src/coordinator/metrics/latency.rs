//! Latency families: classic buckets, and in the protobuf form native ones beside them.
//!
//! A bucket of ours goes whole to where its smallest value belongs: at most 0.1 % of a listener's
//! value, or 1.6 % of a backend's, lies above the bound of its bucket there.

use std::fmt;

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
    },
    metrics::MetricType,
    registry::Unit,
};

use super::{
    Form, Label, listener,
    native::{self, Buckets},
};
use crate::{coordinator::App, hist::Latency};

/// Upper bounds of the classic buckets in microseconds: 50 us to 60 s, about three a decade.
pub const BOUNDS_US: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// One family of histograms.
pub struct Latencies<'e> {
    metric: MetricEncoder<'e>,
    /// True exactly when the form has room for native buckets.
    native: bool,
}

impl<'e> Latencies<'e> {
    pub fn new(
        e: &'e mut DescriptorEncoder<'_>,
        name: &'e str,
        help: &'e str,
        form: Form,
    ) -> Result<Self, fmt::Error> {
        let kind = MetricType::Histogram;
        let metric = e.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        Ok(Latencies { metric, native: form == Form::Protobuf })
    }

    pub fn put(&mut self, labels: &impl EncodeLabelSet, latency: &Latency<u64>) -> fmt::Result {
        let (sum, count) = (latency.sum_us() / 1e6, latency.count());
        let classic = classic(latency);
        let mut series = self.metric.encode_family(labels)?;
        if !self.native {
            return series.encode_histogram::<[Label; 0]>(sum, count, &classic, None);
        }
        let Buckets { zeros, spans, deltas } = Buckets::new(latency.buckets());
        let native = NativeHistogram {
            schema: native::SCHEMA,
            zero_threshold: native::ZERO_THRESHOLD,
            zero_count: zeros,
            negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
            positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
            created: None,
        };
        series.encode_histogram_with_native::<[Label; 0]>(sum, count, &classic, None, native)
    }
}

/// Bound in seconds and count of each classic bucket.
fn classic(latency: &Latency<u64>) -> Vec<(f64, u64)> {
    let bounds = BOUNDS_US.map(|us| us as f64 / 1e6).into_iter().chain([f64::INFINITY]);
    bounds.zip(latency.spread(&BOUNDS_US)).collect()
}

/// The histograms of listeners.
pub fn listeners(app: &App, form: Form, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let gathered = app.gathered.lock().expect("nobody panics holding it");
    let help = "Time to each phase, from accept";
    let mut family = Latencies::new(e, "listener_latency", help, form)?;
    for (i, latency) in gathered.kept.listeners.iter().enumerate() {
        for (phase, latency) in latency.phases() {
            family.put(&[listener(app, i), ("phase", phase.to_owned())], latency.total())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hist::Kind;

    #[test]
    fn a_value_on_a_bound_is_below_it() {
        let mut latency = Latency::new(Kind::Listener);
        for us in [0, 50, 51, 1_000, 60_000_000, 70_000_000] {
            latency.record(Duration::from_micros(us));
        }
        let used: Vec<(f64, u64)> =
            classic(&latency).into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(used, [(0.000_05, 2), (0.000_1, 1), (0.001, 1), (60.0, 2)]);
    }
}
