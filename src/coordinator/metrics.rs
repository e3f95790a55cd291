//! `/metrics`: the numbers of `/stats` for Prometheus, as classic text or OpenMetrics.

mod pools;

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    App,
    stats::{self, Sums},
};
use crate::{
    bridge::{Direction, EndReason, Path, RecordQueue, Refusal, ShardBoard},
    hist::Latency,
    limits::ACCESS_RECORDS_MAX,
    rt::CHUNKS_MAX,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the latency buckets in microseconds: 50 us to 60 s, about three a decade.
const BUCKETS_US: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Content type and text for a scraper that sent `accept`.
pub fn render(app: &Arc<App>, accept: &str) -> (&'static str, String) {
    let mut registry = Registry::with_prefix("ringway");
    registry.register_collector(Box::new(Page(Arc::clone(app))));
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut page, &registry);
    match accept.contains("application/openmetrics-text") {
        true => (OPENMETRICS, page),
        false => (CLASSIC, classic(&page)),
    }
}

/// The crate writes OpenMetrics. The classic format names a counter with its `_total` in HELP and
/// TYPE too, and knows neither UNIT nor EOF.
fn classic(page: &str) -> String {
    let counters: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut classic = String::with_capacity(page.len());
    for line in page.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let head = ["# HELP ", "# TYPE "].into_iter().find_map(|word| {
            let (name, rest) = line.strip_prefix(word)?.split_once(' ')?;
            counters.contains(&name).then(|| format!("{word}{name}_total {rest}"))
        });
        classic += head.as_deref().unwrap_or(line);
        classic.push('\n');
    }
    classic
}

struct Page(Arc<App>);

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let app = &*self.0;
        process(app, &mut encoder)?;
        let sums: Vec<Sums> =
            (0..app.bridge.plan.listeners.len()).map(|i| stats::sums(app, i)).collect();
        listeners(app, &sums, &mut encoder)?;
        let pools = app.pools_in_force();
        pools::counts(app, &pools, &mut encoder)?;
        shards(app, &mut encoder)?;
        latencies(app, &mut encoder)?;
        pools::latencies(app, &pools, &mut encoder)
    }
}

type Label = (&'static str, String);

fn listener(app: &App, i: usize) -> Label {
    ("listener", app.bridge.plan.listeners[i].name.clone())
}

/// Writes families of one metric each.
struct Family<'e> {
    metric: MetricEncoder<'e>,
    counter: bool,
}

impl<'e> Family<'e> {
    fn counter(
        encoder: &'e mut DescriptorEncoder<'_>,
        name: &'e str,
        help: &'e str,
    ) -> Result<Self, fmt::Error> {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        Ok(Family { metric, counter: true })
    }

    fn gauge(
        encoder: &'e mut DescriptorEncoder<'_>,
        name: &'e str,
        help: &'e str,
    ) -> Result<Self, fmt::Error> {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        Ok(Family { metric, counter: false })
    }

    fn put(&mut self, labels: &impl EncodeLabelSet, value: f64) -> fmt::Result {
        let mut series = self.metric.encode_family(labels)?;
        match self.counter {
            true => series.encode_counter::<[Label; 0], _, f64>(&value, None),
            false => series.encode_gauge(&value),
        }
    }
}

fn process(app: &App, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let reason = app.driver.reason.clone();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("driver", app.driver.driver.name().to_owned()),
        ("driver_reason", reason),
    ];
    Family::gauge(e, "info", "What runs, and on which kernel interface")?.put(&labels, 1.0)?;
    let none: [Label; 0] = [];
    let up = app.started.elapsed().as_secs_f64();
    Family::gauge(e, "uptime_seconds", "Time since the start")?.put(&none, up)?;
    let gate = &app.bridge.gates.runtime;
    Family::gauge(e, "connections_active", "Connections open now")?
        .put(&none, f64::from(gate.taken()))?;
    Family::gauge(e, "connections_max", "Connections allowed at once")?
        .put(&none, f64::from(gate.places()))?;
    Family::gauge(e, "shard_spread_ratio", "Connections of the busiest shard over the mean")?
        .put(&none, stats::shard_spread(app))?;
    Family::counter(e, "log_lines_lost", "Log lines dropped because nobody read them")?
        .put(&none, app.lost_lines.count() as f64)?;
    access_log(app, e)
}

fn access_log(app: &App, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let none: [Label; 0] = [];
    let queues = || app.bridge.boards.shards.iter().filter_map(|shard| shard.records.as_ref());
    Family::counter(e, "access_log_lines", "Lines of the access log that were written")?
        .put(&none, app.bridge.access_log.lines.get() as f64)?;
    let help = "Lines of the access log that were dropped: no room in a queue, or a failed write";
    Family::counter(e, "access_log_dropped", help)?
        .put(&none, app.bridge.access_lines_dropped() as f64)?;
    Family::gauge(e, "access_log_queued", "Connections that wait for their line")?
        .put(&none, queues().map(RecordQueue::len).sum::<usize>() as f64)?;
    Family::gauge(e, "access_log_queue_max", "Connections that may wait for their line")?
        .put(&none, (queues().count() * ACCESS_RECORDS_MAX) as f64)
}

fn listeners(app: &App, sums: &[Sums], e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = Family::gauge(e, "listener_connections_active", "Connections open now")?;
    for (i, sums) in sums.iter().enumerate() {
        family.put(&[listener(app, i)], sums.active() as f64)?;
    }
    let mut family = Family::counter(e, "listener_accepted", "Connections accepted")?;
    for (i, sums) in sums.iter().enumerate() {
        family.put(&[listener(app, i)], sums.accepted as f64)?;
    }
    let help = "Connections closed before a backend was picked";
    let mut family = Family::counter(e, "listener_refused", help)?;
    for (i, sums) in sums.iter().enumerate() {
        for refusal in Refusal::ALL {
            let labels = [listener(app, i), ("reason", refusal.name().to_owned())];
            family.put(&labels, sums.refused[refusal as usize] as f64)?;
        }
    }
    let mut family = Family::counter(e, "listener_ended", "Connections ended, by reason")?;
    for (i, sums) in sums.iter().enumerate() {
        for reason in EndReason::ALL {
            let labels = [listener(app, i), ("reason", reason.name().to_owned())];
            family.put(&labels, sums.ended[reason as usize] as f64)?;
        }
    }
    let mut family = Family::counter(e, "listener_bytes", "Bytes the destination socket took")?;
    for (i, sums) in sums.iter().enumerate() {
        for direction in Direction::ALL {
            for path in Path::ALL {
                let words = [("direction", direction.name()), ("path", path.name())];
                let [direction_label, path_label] = words.map(|(k, v)| (k, v.to_owned()));
                let labels = [listener(app, i), direction_label, path_label];
                family.put(&labels, sums.bytes_of(direction, path) as f64)?;
            }
        }
    }
    Ok(())
}

/// Name, help, whether it only grows, and the value of one shard.
type ShardMetric = (&'static str, &'static str, bool, fn(&ShardBoard) -> f64);

const SHARD_METRICS: [ShardMetric; 14] = [
    ("shard_connections_active", "Connections open now", false, |s| s.active() as f64),
    ("shard_accept_pauses", "Times accepting paused for want of descriptors", true, |s| {
        s.accept_pauses.get() as f64
    }),
    ("shard_turn_max_seconds", "Longest turn in CPU time", false, |s| {
        s.meters.turn_max_us.get() as f64 / 1e6
    }),
    ("shard_pipes_in_use", "Pipes lent to bulk directions", false, |s| {
        f64::from(s.meters.pipes_in_use.get())
    }),
    ("shard_pipes_open", "Pipes open", false, |s| f64::from(s.meters.pipes_open.get())),
    ("shard_pipes_dry", "Times a direction copied because no pipe was left", true, |s| {
        s.meters.pipes_dry.get() as f64
    }),
    ("shard_buffers_in_use", "Buffers held by blocked directions", false, |s| {
        f64::from(s.meters.chunks_in_use.get())
    }),
    ("shard_buffers_max", "Buffers that may be held", false, |_| f64::from(CHUNKS_MAX)),
    ("shard_buffers_dry", "Times bytes were passed on without a buffer", true, |s| {
        s.meters.chunks_dry.get() as f64
    }),
    ("shard_pick_samples", "Picks whose error was looked at", true, |s| {
        s.pick_error.samples.get() as f64
    }),
    ("shard_pick_errors", "Connections above the least busy backend, summed", true, |s| {
        s.pick_error.sum.get() as f64
    }),
    ("shard_pick_error_max", "Connections above the least busy backend, at most", false, |s| {
        s.pick_error.max.get() as f64
    }),
    ("shard_handed_off", "Connections accepted and left to another shard", true, |s| {
        s.handed_off.get() as f64
    }),
    ("shard_accepted", "Connections accepted", true, |s| {
        s.listeners.iter().map(|l| l.accepted.get()).sum::<u64>() as f64
    }),
];

fn shards(app: &App, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for (name, help, grows, value) in SHARD_METRICS {
        let mut family = match grows {
            true => Family::counter(e, name, help)?,
            false => Family::gauge(e, name, help)?,
        };
        for (id, shard) in app.bridge.boards.shards.iter().enumerate() {
            family.put(&[("shard", id.to_string())], value(shard))?;
        }
    }
    let help = "Share of a core used in the last second";
    let mut family = Family::gauge(e, "shard_busy_ratio", help)?;
    let gathered = app.gathered.lock().expect("nobody panics holding it");
    for (id, busy) in gathered.busy.iter().enumerate() {
        family.put(&[("shard", id.to_string())], busy.ratio())?;
    }
    Ok(())
}

fn latencies(app: &App, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let gathered = app.gathered.lock().expect("nobody panics holding it");
    let histogram = MetricType::Histogram;
    let help = "Time to each phase, from accept";
    let mut metric =
        e.encode_descriptor("listener_latency", help, Some(&Unit::Seconds), histogram)?;
    for (i, latency) in gathered.kept.listeners.iter().enumerate() {
        for (phase, latency) in latency.phases() {
            let labels = [listener(app, i), ("phase", phase.to_owned())];
            put_histogram(&mut metric, &labels, latency.total())?;
        }
    }
    Ok(())
}

fn put_histogram(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    latency: &Latency<u64>,
) -> fmt::Result {
    let mut below = 0;
    let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(BUCKETS_US.len() + 1);
    for us in BUCKETS_US {
        let to = latency.count_to(us);
        buckets.push((us as f64 / 1e6, to - below));
        below = to;
    }
    buckets.push((f64::INFINITY, latency.count() - below));
    metric.encode_family(labels)?.encode_histogram::<[Label; 0]>(
        latency.sum_us() / 1e6,
        latency.count(),
        &buckets,
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_text_names_counters_in_full() {
        let page = "# HELP x_a Help.\n# TYPE x_a counter\nx_a_total 1\n# HELP x_b B.\n\
                    # TYPE x_b gauge\n# UNIT x_b seconds\nx_b 2\n# EOF\n";
        assert_eq!(
            classic(page),
            "# HELP x_a_total Help.\n# TYPE x_a_total counter\nx_a_total 1\n# HELP x_b B.\n\
             # TYPE x_b gauge\nx_b 2\n"
        );
    }
}
