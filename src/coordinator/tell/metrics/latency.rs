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
use crate::{
    bridge::Plan,
    coordinator::tell::Recorded,
    hist::{BOUNDS_US, History, Summary},
};

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

    pub fn put(&mut self, labels: &impl EncodeLabelSet, history: &History) -> fmt::Result {
        let Summary { percentiles, sum_us, spread } = history.whole();
        let (sum, count) = (sum_us / 1e6, percentiles.count);
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let mut classic = [(0.0, 0); BOUNDS_US.len() + 1];
        classic.iter_mut().zip(bounds.zip(spread)).for_each(|(to, (le, n))| *to = (le, n));
        let mut series = self.metric.encode_family(labels)?;
        if !self.native {
            return series.encode_histogram::<[Label; 0]>(sum, count, &classic, None);
        }
        let Buckets { zeros, spans, deltas } = Buckets::new(history.total().buckets());
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

/// The histograms of listeners.
pub fn listeners(
    (plan, recorded): (&Plan, &Recorded),
    form: Form,
    e: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let gathered = recorded.gathered();
    let help = "Time to each phase, from accept";
    let mut family = Latencies::new(e, "listener_latency", help, form)?;
    for (i, latency) in gathered.kept.listeners.iter().enumerate() {
        for (phase, latency) in latency.phases() {
            family.put(&[listener(plan, i), ("phase", phase.to_owned())], latency)?;
        }
    }
    Ok(())
}
