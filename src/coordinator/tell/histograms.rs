//! `/histograms`: everything since the start as an HdrHistogram interval log (V2, deflated), which
//! the public HdrHistogram tools read.

use std::time::Duration;

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};

use super::Recorded;
use crate::{
    bridge::Bridge,
    coordinator::{facts::Facts, know::Known},
    hist::History,
};

/// The log: one line per phase, each from the start of the process to now.
pub fn render(facts: &Facts, known: &Known, recorded: &Recorded) -> Vec<u8> {
    let uptime = facts.started.elapsed();
    let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[microseconds; one line per phase, from the start to now]")
        // With both, every reader takes the times of the lines for seconds since the start. In two
        // logs of one life it is the same, which is how a reader knows that they go together.
        .with_start_time(facts.started_at)
        .with_base_time(facts.started_at)
        .begin_log_with(&mut text, &mut serializer)
        .expect("memory takes every byte");
    each((facts.bridge, known, recorded), |tag, history| {
        let tag = Tag::new(tag).expect("names have no comma, blank or line break");
        let total = history.total();
        let values = total.histogram();
        log.write_histogram(&values, Duration::ZERO, uptime, Some(tag))
            .expect("counts of our own fit, and memory takes every byte");
    });
    text
}

/// Every phase of every listener and backend, with its tag.
fn each(
    (bridge, known, recorded): (&Bridge, &Known, &Recorded),
    mut show: impl FnMut(&str, &History),
) {
    let gathered = recorded.gathered();
    for (listener, phases) in bridge.plan.listeners.iter().zip(&gathered.kept.listeners) {
        for (phase, history) in phases.phases() {
            show(&format!("listener/{}/{phase}", listener.name), history);
        }
    }
    for pool in known.pools_in_force().all() {
        for (slot, backend) in pool.backends() {
            for (phase, history) in gathered.kept.backends[slot].phases() {
                show(&format!("backend/{}/{}/{phase}", pool.name, backend.name), history);
            }
        }
    }
}
