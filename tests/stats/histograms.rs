//! `/histograms` is a log that HdrHistogram's own reader takes.

use std::{io::Cursor, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry},
    },
};
use serde_json::Value;

use crate::kit::{Config, Server, each_driver, peer};

/// 1. One of two backends serves sessions on two shards; the other one has no weight. 2. The log
///    has one line per phase, in the order of the file, each from the start to now. 3. Each line
///    gives the points that `/stats` shows; those of the idle backend are all zero.
#[test]
fn the_log_says_what_stats_says() {
    each_driver(|driver| {
        let (server, idle) = (Server::echo(), Server::echo());
        let proxy = Config::new(driver)
            .shards(2)
            .backend(server.address)
            .backend_at(&idle.address.to_string(), "weight = 0")
            .start();
        for _ in 0..20 {
            peer::echo(&mut proxy.connect(), b"hello");
        }
        let stats = proxy.wait_stats("all recorded", |s| s.phase("session")["count"] == 20);
        let answer = proxy.get("/histograms");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        let lines = intervals(&answer.body);
        let tags: Vec<_> = lines.iter().map(|line| line.tag().unwrap().as_str()).collect();
        let phases = ["connect", "first_byte", "session"];
        let mut expected: Vec<_> = phases.map(|phase| format!("listener/edge/{phase}")).into();
        for name in ["a", "b"] {
            expected.extend(phases[..2].iter().map(|phase| format!("backend/web/{name}/{phase}")));
        }
        assert_eq!(tags, expected);
        let backends = [0, 1].map(|place| phases[..2].iter().map(move |phase| (place, *phase)));
        let of_backends = backends.into_iter().flatten();
        let of_listener = phases.into_iter().map(|phase| stats.phase(phase));
        let shown = of_listener.chain(of_backends.map(|(i, phase)| stats.backend_phase(i, phase)));
        for (line, shown) in lines.iter().zip(shown) {
            assert_eq!(line.start_timestamp(), Duration::ZERO);
            assert!(line.duration() > Duration::ZERO);
            assert_same(&decoded(line), shown);
        }
    });
}

/// 1. Two readings of one life of the instance. 2. Both name the same start.
#[test]
fn every_log_of_a_life_has_the_same_start() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let start = || {
            let log = proxy.get("/histograms").body;
            let line = log.lines().find(|line| line.starts_with("#[StartTime: "));
            line.unwrap_or_else(|| panic!("no start in {log}")).to_owned()
        };
        let first = start();
        proxy.wait_stats("a second of life", |s| s.0["uptime_s"].as_u64() >= Some(1));
        assert_eq!(start(), first);
    });
}

fn intervals(log: &str) -> Vec<IntervalLogHistogram<'_>> {
    let entries = IntervalLogIterator::new(log.as_bytes());
    let interval = |entry| match entry {
        LogEntry::Interval(interval) => Some(interval),
        LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
    };
    entries.filter_map(|entry| interval(entry.unwrap())).collect()
}

fn decoded(line: &IntervalLogHistogram<'_>) -> Histogram<u64> {
    let bytes = STANDARD.decode(line.encoded_histogram()).unwrap();
    Deserializer::new().deserialize(&mut Cursor::new(bytes)).unwrap()
}

fn assert_same(values: &Histogram<u64>, shown: &Value) {
    let points = [
        ("count", values.len()),
        ("min_us", values.min()),
        ("p50_us", values.value_at_quantile(0.5)),
        ("p90_us", values.value_at_quantile(0.9)),
        ("p99_us", values.value_at_quantile(0.99)),
        ("p999_us", values.value_at_quantile(0.999)),
        ("p9999_us", values.value_at_quantile(0.9999)),
        ("max_us", values.max()),
    ];
    for (name, value) in points {
        assert_eq!(shown[name], value, "{name} in {shown}");
    }
}
