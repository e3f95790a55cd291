//! `/metrics`: the numbers of `/stats` for Prometheus, as classic text, OpenMetrics or protobuf.

mod accept;
mod latency;
mod native;
mod pools;
mod shards;

use std::fmt::{self, Write};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, prometheus_protobuf, text},
    metrics::MetricType,
    registry::Registry,
};

use self::accept::Form;
use super::{
    AdminCounts, Recorded, Whole,
    stats::{self, Sums},
};
use crate::{
    bridge::{Bridge, Direction, EndReason, Path, Plan, RecordQueue, Refusal},
    coordinator::know::check::Places,
    limits::{ACCESS_RECORDS_MAX, ADMIN_CONNS_MAX, CHECKS_AT_ONCE_MAX, PROBE_CONNS_MAX},
};

/// Content type and page for a scraper that sent `accept`; of one pool alone where one is given, by
/// its place in the plan.
pub fn render(whole: Whole, accept: &str, only: Option<usize>) -> (&'static str, Vec<u8>) {
    let form = Form::negotiated(accept);
    let mut registry = Registry::with_prefix("ringway");
    registry.register_collector(Box::new(Page { whole, form, only }));
    let text = || {
        let mut page = String::new();
        text::encode(&mut page, &registry).map(|()| page)
    };
    let written = "memory takes every number, name and label";
    let page = match form {
        Form::Classic => classic(&text().expect(written)).into_bytes(),
        Form::OpenMetrics => text().expect(written).into_bytes(),
        Form::Protobuf => prometheus_protobuf::encode_to_vec(&registry).expect(written),
    };
    (form.content_type(), page)
}

/// The crate writes OpenMetrics. The classic format names a counter with its `_total` in HELP and
/// TYPE too, and knows neither UNIT nor EOF.
fn classic(page: &str) -> String {
    let mut classic = String::with_capacity(page.len());
    // No value of a label has a line break in it.
    for family in page.strip_prefix("# HELP ").into_iter().flat_map(|p| p.split("\n# HELP ")) {
        let (help, rest) = family.split_once("\n# TYPE ").unwrap_or((family, ""));
        let (kind, samples) = rest.split_once('\n').unwrap_or((rest, ""));
        let unit = samples.strip_prefix("# UNIT ").and_then(|unit| unit.split_once('\n'));
        let samples = unit.map_or(samples, |(_, samples)| samples);
        let total = if kind.ends_with(" counter") { "_total" } else { "" };
        for (word, line) in [("HELP", help), ("TYPE", kind)] {
            let (name, text) = line.split_once(' ').unwrap_or((line, ""));
            let _ = writeln!(classic, "# {word} {name}{total} {text}");
        }
        classic += samples.strip_suffix("# EOF\n").unwrap_or(samples);
        if !classic.ends_with('\n') {
            classic.push('\n');
        }
    }
    classic
}

struct Page {
    whole: Whole,
    form: Form,
    only: Option<usize>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Page")
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Whole { facts, known, recorded, .. } = &self.whole;
        let (bridge, form) = (facts.bridge, self.form);
        if self.only.is_none() {
            process(&self.whole, &mut encoder)?;
            let sums: Vec<Sums> =
                (0..bridge.plan.listeners.len()).map(|i| stats::sums(&bridge.boards, i)).collect();
            listeners((bridge, recorded), &sums, &mut encoder)?;
        }
        let pools = known.pools_in_force();
        let chosen = pools::chosen(&pools, self.only);
        pools::counts((bridge, recorded), &chosen, &mut encoder)?;
        if self.only.is_none() {
            shards::shards(facts, recorded, &mut encoder)?;
            latency::listeners((&bridge.plan, recorded), form, &mut encoder)?;
        }
        pools::latencies(recorded, &chosen, form, &mut encoder)
    }
}

const OVER_RANGE: &str = "Latencies above the range of their histogram, counted at its end";

type Label = (&'static str, String);

fn listener(plan: &Plan, i: usize) -> Label {
    ("listener", plan.listeners[i].name.clone())
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

fn process(whole: &Whole, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Whole { facts, known, admin, .. } = whole;
    let bridge = facts.bridge;
    let reason = facts.driver.reason.clone();
    let labels = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("driver", facts.driver.driver.name().to_owned()),
        ("driver_reason", reason),
    ];
    Family::gauge(e, "info", "What runs, and on which kernel interface")?.put(&labels, 1.0)?;
    let none: [Label; 0] = [];
    let up = facts.started.elapsed().as_secs_f64();
    Family::gauge(e, "uptime_seconds", "Time since the start")?.put(&none, up)?;
    let gate = &bridge.gates.runtime;
    Family::gauge(e, "connections_active", "Connections open now")?
        .put(&none, f64::from(gate.taken()))?;
    Family::gauge(e, "max_connections", "Connections allowed at once")?
        .put(&none, f64::from(gate.places()))?;
    Family::gauge(e, "shard_spread_ratio", "Connections of the busiest shard over the mean")?
        .put(&none, stats::shard_spread(&bridge.boards))?;
    Family::counter(e, "log_lines_lost", "Log lines dropped because nobody read them")?
        .put(&none, facts.lost_lines.count() as f64)?;
    let (told, dropped) = known.events.counts();
    Family::counter(e, "events", "State changes told")?.put(&none, told as f64)?;
    Family::counter(e, "events_dropped", "State changes no longer in the list of events")?
        .put(&none, dropped as f64)?;
    Family::gauge(e, "config_generation", "Configurations in force so far")?
        .put(&none, f64::from(stats::CONFIG_GENERATION))?;
    checks(&known.check_places, e)?;
    of_admin(admin, e)?;
    sources(bridge, e)?;
    access_log(bridge, e)
}

fn checks(places: &Places, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let none: [Label; 0] = [];
    let (running, waiting) = places.counts();
    Family::gauge(e, "checks_running", "Health checks that run now")?.put(&none, running as f64)?;
    Family::gauge(e, "checks_running_max", "Health checks that may run at once")?
        .put(&none, CHECKS_AT_ONCE_MAX as f64)?;
    Family::gauge(e, "checks_waiting", "Health checks that wait for their turn")?
        .put(&none, waiting as f64)
}

fn of_admin(counts: &AdminCounts, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let none: [Label; 0] = [];
    Family::gauge(e, "admin_connections", "Connections to the admin endpoint")?
        .put(&none, counts.connections as f64)?;
    Family::gauge(e, "admin_connections_max", "Connections to the admin endpoint at once")?
        .put(&none, (ADMIN_CONNS_MAX + PROBE_CONNS_MAX) as f64)?;
    let help = "Silent connections to the admin endpoint that had to make room";
    Family::counter(e, "admin_evicted", help)?.put(&none, counts.evicted as f64)?;
    Family::counter(e, "admin_changes_refused", "Changes that were refused")?
        .put(&none, counts.changes_refused as f64)
}

fn sources(bridge: &Bridge, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let none: [Label; 0] = [];
    let sources = &bridge.gates.sources;
    let (in_use, max) = sources.fill();
    let help = "Clients of listeners with max_connections_per_source that have a connection";
    Family::gauge(e, "sources_in_use", help)?.put(&none, f64::from(in_use))?;
    Family::gauge(e, "sources_max", "Places for them")?.put(&none, max as f64)?;
    let help = "Connections refused because no place was left to count their client";
    Family::counter(e, "sources_overflows", help)?.put(&none, sources.overflows() as f64)
}

fn access_log(bridge: &Bridge, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let none: [Label; 0] = [];
    let queues = || bridge.boards.shards.iter().filter_map(|shard| shard.records.as_ref());
    Family::counter(e, "access_log_lines", "Lines of the access log that were written")?
        .put(&none, bridge.access_log.lines.get() as f64)?;
    let help = "Lines of the access log that were dropped: no room in a queue, or a failed write";
    Family::counter(e, "access_log_dropped", help)?
        .put(&none, bridge.access_lines_dropped() as f64)?;
    Family::gauge(e, "access_log_queued", "Connections that wait for their line")?
        .put(&none, queues().map(RecordQueue::len).sum::<usize>() as f64)?;
    Family::gauge(e, "access_log_queue_max", "Connections that may wait for their line")?
        .put(&none, (queues().count() * ACCESS_RECORDS_MAX) as f64)
}

fn listeners(
    (bridge, recorded): (&Bridge, &Recorded),
    sums: &[Sums],
    e: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let plan = &bridge.plan;
    let mut family = Family::gauge(e, "listener_connections_active", "Connections open now")?;
    for (i, sums) in sums.iter().enumerate() {
        family.put(&[listener(plan, i)], sums.active() as f64)?;
    }
    let help = "Connections allowed at once";
    let mut family = Family::gauge(e, "listener_max_connections", help)?;
    for (i, gate) in bridge.gates.listeners.iter().enumerate() {
        family.put(&[listener(plan, i)], f64::from(gate.places()))?;
    }
    let mut family = Family::counter(e, "listener_accepted", "Connections accepted")?;
    for (i, sums) in sums.iter().enumerate() {
        family.put(&[listener(plan, i)], sums.accepted as f64)?;
    }
    let help = "Connections closed before a backend was picked";
    let mut family = Family::counter(e, "listener_refused", help)?;
    for (i, sums) in sums.iter().enumerate() {
        for refusal in Refusal::ALL {
            let labels = [listener(plan, i), ("reason", refusal.name().to_owned())];
            family.put(&labels, sums.refused[refusal as usize] as f64)?;
        }
    }
    let mut family = Family::counter(e, "listener_ended", "Connections ended, by reason")?;
    for (i, sums) in sums.iter().enumerate() {
        for reason in EndReason::ALL {
            let labels = [listener(plan, i), ("reason", reason.name().to_owned())];
            family.put(&labels, sums.ended[reason as usize] as f64)?;
        }
    }
    let mut family = Family::counter(e, "listener_bytes", "Bytes the destination socket took")?;
    for (i, sums) in sums.iter().enumerate() {
        for direction in Direction::ALL {
            for path in Path::ALL {
                let words = [("direction", direction.name()), ("path", path.name())];
                let [direction_label, path_label] = words.map(|(k, v)| (k, v.to_owned()));
                let labels = [listener(plan, i), direction_label, path_label];
                family.put(&labels, sums.bytes_of(direction, path) as f64)?;
            }
        }
    }
    let mut family = Family::counter(e, "listener_over_range", OVER_RANGE)?;
    let gathered = recorded.gathered();
    for (i, latency) in gathered.kept.listeners.iter().enumerate() {
        family.put(&[listener(plan, i)], stats::over_range(latency.phases()) as f64)?;
    }
    Ok(())
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
