//! Every number of `/stats` is in `/metrics`: this table says which one is which.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kit::{Config, Proxy, Refusing, Server, Stats, each_driver, peer, wait_until};

/// A number of `/stats` (`[]`: each of a list, `*`: each key), the metric with its further labels,
/// and what to multiply the metric with. Of several series that fit, the sum counts.
const SAME: [(&str, &str, f64); 80] = [
    ("uptime_s", "ringway_uptime_seconds", 1.0),
    ("config.generation", "ringway_config_generation", 1.0),
    ("connections_active", "ringway_connections_active", 1.0),
    ("max_connections", "ringway_max_connections", 1.0),
    ("log_lines_lost_total", "ringway_log_lines_lost_total", 1.0),
    ("sources.in_use", "ringway_sources_in_use", 1.0),
    ("sources.max", "ringway_sources_max", 1.0),
    ("sources.overflows_total", "ringway_sources_overflows_total", 1.0),
    ("access_log.lines_total", "ringway_access_log_lines_total", 1.0),
    ("access_log.dropped_total", "ringway_access_log_dropped_total", 1.0),
    ("access_log.queued", "ringway_access_log_queued", 1.0),
    ("access_log.queue_max", "ringway_access_log_queue_max", 1.0),
    ("shard_spread", "ringway_shard_spread_ratio", 1.0),
    ("shards[].cpu", "ringway_shard_cpu", 1.0),
    ("shards[].connections_active", "ringway_shard_connections_active", 1.0),
    ("shards[].accepted_total", "ringway_shard_accepted_total", 1.0),
    ("shards[].handed_off_total", "ringway_shard_handed_off_total", 1.0),
    ("shards[].accept_pauses_total", "ringway_shard_accept_pauses_total", 1.0),
    ("shards[].busy_ratio", "ringway_shard_busy_ratio", 1.0),
    ("shards[].pick_error_mean", "ringway_shard_pick_error_mean", 1.0),
    ("shards[].pick_error_max", "ringway_shard_pick_error_max", 1.0),
    ("shards[].pick_samples_total", "ringway_shard_pick_samples_total", 1.0),
    ("shards[].turns_total", "ringway_shard_turns_total", 1.0),
    ("shards[].turn_max_us", "ringway_shard_turn_max_seconds", 1e6),
    ("shards[].pipes_in_use", "ringway_shard_pipes_in_use", 1.0),
    ("shards[].pipes_open", "ringway_shard_pipes_open", 1.0),
    ("shards[].pipes_grown", "ringway_shard_pipes_grown", 1.0),
    ("shards[].pipes_max", "ringway_shard_pipes_max", 1.0),
    ("shards[].pipes_dry_total", "ringway_shard_pipes_dry_total", 1.0),
    ("shards[].buffers_in_use", "ringway_shard_buffers_in_use", 1.0),
    ("shards[].buffers_max", "ringway_shard_buffers_max", 1.0),
    ("shards[].buffers_dry_total", "ringway_shard_buffers_dry_total", 1.0),
    ("shards[].ring_buffers_in_use", "ringway_shard_ring_buffers_in_use", 1.0),
    ("shards[].ring_buffers_dry_total", "ringway_shard_ring_buffers_dry_total", 1.0),
    ("shards[].ring_overflows_total", "ringway_shard_ring_overflows_total", 1.0),
    ("shards[].parked_bytes", "ringway_shard_parked_bytes", 1.0),
    ("shards[].ring_losses_total", "ringway_shard_ring_losses_total", 1.0),
    ("shards[].ring_completions_lost_total", "ringway_shard_ring_completions_lost_total", 1.0),
    ("listeners[].connections_active", "ringway_listener_connections_active", 1.0),
    ("listeners[].max_connections", "ringway_listener_max_connections", 1.0),
    ("listeners[].accepted_total", "ringway_listener_accepted_total", 1.0),
    ("listeners[].refused_total.*", "ringway_listener_refused_total reason=*", 1.0),
    ("listeners[].ended_total.*", "ringway_listener_ended_total reason=*", 1.0),
    ("listeners[].bytes_up_total", "ringway_listener_bytes_total direction=up", 1.0),
    ("listeners[].bytes_down_total", "ringway_listener_bytes_total direction=down", 1.0),
    ("listeners[].bytes_copied_total", "ringway_listener_bytes_total path=copied", 1.0),
    ("listeners[].bytes_spliced_total", "ringway_listener_bytes_total path=spliced", 1.0),
    ("listeners[].over_range_total", "ringway_listener_over_range_total", 1.0),
    ("listeners[].latency.*.total.count", "ringway_listener_latency_seconds_count phase=*", 1.0),
    ("pools[].healthy", "ringway_pool_healthy", 1.0),
    ("pools[].panic", "ringway_pool_panic", 1.0),
    ("pools[].retries_total", "ringway_pool_retries_total", 1.0),
    ("pools[].retries_denied_total", "ringway_pool_retries_denied_total", 1.0),
    ("pools[].names[].backends", "ringway_pool_name_backends", 1.0),
    ("pools[].names[].refused_total", "ringway_pool_name_refused_total", 1.0),
    ("pools[].backends[].weight", "ringway_backend_weight", 1.0),
    ("admin.connections", "ringway_admin_connections", 1.0),
    ("admin.connections_max", "ringway_admin_connections_max", 1.0),
    ("admin.evicted_total", "ringway_admin_evicted_total", 1.0),
    ("admin.changes_refused_total", "ringway_admin_changes_refused_total", 1.0),
    ("checks.running", "ringway_checks_running", 1.0),
    ("checks.running_max", "ringway_checks_running_max", 1.0),
    ("checks.waiting", "ringway_checks_waiting", 1.0),
    ("pools[].names[].dropped", "ringway_pool_name_left_out reason=too_many", 1.0),
    ("pools[].names[].unreachable", "ringway_pool_name_left_out reason=unreachable", 1.0),
    ("pools[].names[].waiting", "ringway_pool_name_left_out reason=no_room", 1.0),
    ("pools[].names[].cut_total", "ringway_pool_name_cuts_total", 1.0),
    ("pools[].backends[].priority", "ringway_backend_priority", 1.0),
    ("pools[].backends[].connections_active", "ringway_backend_connections_active", 1.0),
    ("pools[].backends[].max_connections", "ringway_backend_max_connections", 1.0),
    ("pools[].backends[].connections_total", "ringway_backend_connections_total", 1.0),
    ("pools[].backends[].failures_total.*", "ringway_backend_failures_total reason=*", 1.0),
    ("pools[].backends[].ejections_total", "ringway_backend_ejections_total", 1.0),
    ("pools[].backends[].bytes_up_total", "ringway_backend_bytes_total direction=up", 1.0),
    ("pools[].backends[].bytes_down_total", "ringway_backend_bytes_total direction=down", 1.0),
    ("pools[].backends[].over_range_total", "ringway_backend_over_range_total", 1.0),
    (
        "pools[].backends[].latency.*.total.count",
        "ringway_backend_latency_seconds_count phase=*",
        1.0,
    ),
    // The words of `/stats`, as the one series that is 1.
    ("driver", "ringway_info driver=*", 1.0),
    ("version", "ringway_info version=*", 1.0),
    ("pools[].backends[].state", "ringway_backend_state state=*", 1.0),
];

/// Numbers that are no metrics of their own: percentiles and windows are worked out from the
/// histogram, and `id` is a label.
const IN_THE_HISTOGRAM: [&str; 3] = [".latency.*.10s.", ".latency.*.1m.", "_us"];
const LABEL: &str = "shards[].id";

/// Where something of `/stats` is, and what it is.
#[derive(Clone, Debug, Default)]
struct Leaf {
    path: String,
    labels: Vec<(String, String)>,
    /// The key at `*`; of a word, the word.
    key: String,
    /// True exactly when it is a number or a truth (0 or 1); a word counts as 1.
    number: bool,
    value: f64,
}

impl Leaf {
    /// What is under a key.
    fn at(&self, key: &str) -> Leaf {
        let mut leaf = self.clone();
        let dot = if leaf.path.is_empty() { "" } else { "." };
        if leaf.path.ends_with("_total") || leaf.path.ends_with(".latency") {
            leaf.path += ".*";
            key.clone_into(&mut leaf.key);
        } else {
            leaf.path += &format!("{dot}{key}");
        }
        leaf
    }

    /// An entry of a list, by the label that it has in `/metrics`.
    fn entry(&self, entry: &Value) -> Leaf {
        let mut leaf = self.clone();
        let list = self.path.rsplit('.').next().unwrap().trim_end_matches('s');
        let name = entry["name"].as_str().map_or_else(|| entry["id"].to_string(), str::to_owned);
        leaf.labels.push((list.to_owned(), name));
        leaf.path += "[]";
        leaf
    }
}

/// All numbers, truths and words.
fn leaves(value: &Value, at: Leaf, found: &mut Vec<Leaf>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| leaves(value, at.at(key), found));
        }
        Value::Array(list) => {
            let entries = list.iter().filter(|entry| entry.is_object());
            entries.for_each(|entry| leaves(entry, at.entry(entry), found));
        }
        Value::String(word) => found.push(Leaf { key: word.clone(), value: 1.0, ..at }),
        Value::Bool(so) => {
            found.push(Leaf { value: f64::from(u8::from(*so)), number: true, ..at });
        }
        Value::Number(n) => found.push(Leaf { value: n.as_f64().unwrap(), number: true, ..at }),
        Value::Null => {}
    }
}

/// Name, labels and value.
type Sample<'p> = (&'p str, BTreeSet<(&'p str, &'p str)>, f64);

/// A line of a classic page; no label value of ours has a quote in it.
fn sample(line: &str) -> Sample<'_> {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.strip_suffix("\"}").unwrap_or("");
    let labels = labels.split("\",").filter(|label| !label.is_empty());
    let labels = labels.map(|label| label.split_once("=\"").unwrap()).collect();
    (name, labels, value.parse().unwrap())
}

/// The metric that says the same; `None` where there is none of its own.
fn metric(leaf: &Leaf, samples: &[Sample<'_>]) -> Option<f64> {
    let Some((_, metric, factor)) = SAME.iter().find(|(path, ..)| *path == leaf.path) else {
        let elsewhere = IN_THE_HISTOGRAM.iter().any(|part| leaf.path.contains(part));
        let known = !leaf.number || elsewhere || leaf.path == LABEL;
        assert!(known, "{} has no metric, and no line in this table", leaf.path);
        return None;
    };
    let (name, further) = metric.split_once(' ').unwrap_or((metric, ""));
    let of_leaf = leaf.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let further = further.split_terminator(' ').map(|label| {
        let (key, value) = label.split_once('=').unwrap();
        (key, if value == "*" { leaf.key.as_str() } else { value })
    });
    let wanted: BTreeSet<(&str, &str)> = of_leaf.chain(further).collect();
    let fitting = samples.iter().filter(|(n, labels, _)| *n == name && labels.is_superset(&wanted));
    let values: Vec<f64> = fitting.map(|(.., value)| *value).collect();
    assert!(!values.is_empty(), "no {name} with {wanted:?}");
    Some(values.iter().sum::<f64>() * factor)
}

/// What differs between the two pages, read one after the other.
fn differences(proxy: &Proxy, seen: &mut BTreeSet<String>) -> Vec<String> {
    let (mut found, stats) = (Vec::new(), proxy.stats().0);
    let page = proxy.get("/metrics").body;
    let samples: Vec<_> = page.lines().filter(|l| !l.starts_with('#')).map(sample).collect();
    leaves(&stats, Leaf::default(), &mut found);
    let mut differ = Vec::new();
    for leaf in found {
        let Some(metric) = metric(&leaf, &samples) else { continue };
        seen.insert(leaf.path.clone());
        let metric = if leaf.path == "uptime_s" { metric.floor() } else { metric };
        if (metric - leaf.value).abs() > 1e-6 * leaf.value.abs() {
            differ.push(format!("{metric} is not {leaf:?}"));
        }
    }
    differ
}

/// Everything that is counted: traffic, a client too many, a backend that is ejected, so that the
/// pool is in panic, and backends by name.
fn eventful(driver: &'static str) -> (Proxy, Server, Refusing) {
    let (server, dead) = (Server::echo(), Refusing::new());
    let config = Config::new(driver)
        .log("report = \"0s\"\naccess = \"/dev/null\"")
        .shards(2)
        .listener("max_connections = 1")
        .pool("balance = \"round_robin\"\npanic_threshold = 1.0")
        .pool("[pool.outlier]\nconsecutive_failures = 1\nmax_ejected = 0.9")
        .backend(server.address)
        .backend(dead.address)
        .backend_at(&format!("localhost:{}", server.address.port()), "weight = 2");
    // By its name alone, which is its label then too; and pinned, to have a CPU.
    let text = config.text().replace("name = \"c\"\n", "").replace("pin_cpus = false\n", "");
    let proxy = Proxy::start(&text);
    let ejected = |stats: &Stats| stats.backend(1, "ejections_total") == 1;
    wait_until("an ejection", || {
        peer::echo(&mut proxy.connect(), b"hello");
        proxy.wait_stats("over", |s| s.listener("connections_active") == 0);
        ejected(&proxy.stats())
    });
    let mut held = proxy.connect();
    peer::echo(&mut held, b"held");
    proxy.turns_away();
    drop(held);
    let stats = proxy.wait_stats("over", |s| {
        s.listener("connections_active") == 0
            && s.phase("session")["count"] == s.ended("client_fin")
    });
    assert_eq!(stats.refused("listener_max_connections"), 1);
    assert_eq!(stats.0["pools"][0]["panic"], true, "{}", stats.without_latency());
    (proxy, server, dead)
}

/// 1. An instance has had traffic, a client too many, an ejection and a panic, and has backends by
///    address and by name. 2. Every number of `/stats` has a metric of the same value (the two are
///    read one after the other, so until nothing moved in between). 3. No line of the table is
///    about nothing.
#[test]
fn every_number_of_stats_is_a_metric() {
    each_driver(|driver| {
        let (proxy, _server, _dead) = eventful(driver);
        let mut seen = BTreeSet::new();
        wait_until("pages that say the same", || {
            let differ = differences(&proxy, &mut seen);
            eprintln!("{differ:#?}");
            differ.is_empty()
        });
        let unused: Vec<&str> =
            SAME.iter().map(|(path, ..)| *path).filter(|path| !seen.contains(*path)).collect();
        assert!(unused.is_empty(), "lines of the table about nothing: {unused:?}");
    });
}
