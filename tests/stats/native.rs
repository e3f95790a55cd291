//! The protobuf form of `/metrics`, decoded: native histograms beside the classic ones.

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as data;
use prost::Message;

use crate::kit::{Config, Server, each_driver, http, peer};

const ASKED: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                     encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";

fn families(mut bytes: &[u8]) -> Vec<data::MetricFamily> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        families.push(data::MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    families
}

/// The native buckets of a histogram that are not empty: upper bound in seconds and count.
fn buckets(histogram: &data::Histogram) -> Vec<(f64, i64)> {
    let (mut at, mut count, mut deltas) = (0, 0, histogram.positive_delta.iter());
    let mut buckets = Vec::new();
    for span in &histogram.positive_span {
        at += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            buckets.push((2f64.powf(f64::from(at) / f64::from(1 << histogram.schema)), count));
            at += 1;
        }
    }
    buckets
}

fn label<'m>(metric: &'m data::Metric, name: &str) -> &'m str {
    &metric.label.iter().find(|label| label.name == name).unwrap().value
}

/// 1. Sessions end; a scraper asks as Prometheus does when it takes native histograms. 2. It gets
///    the same families as in text. 3. Each latency has native and classic buckets, each with the
///    count of `/stats`, and the p99 of `/stats` is within a bucket's width of the native one;
///    where nothing was recorded the histogram is native too, and empty.
#[test]
fn native_buckets_say_what_stats_says() {
    each_driver(|driver| {
        let (server, idle) = (Server::echo(), Server::echo());
        let proxy = Config::new(driver)
            .backend(server.address)
            .backend_with(idle.address, "weight = 0")
            .start();
        for _ in 0..50 {
            peer::echo(&mut proxy.connect(), b"hello");
        }
        let stats = proxy.wait_stats("recorded", |s| s.phase("session")["count"] == 50);
        let answer = http::get_as(proxy.admin, "/metrics", ASKED);
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("application/vnd.google.protobuf; proto="), "{kind}");
        let families = families(&answer.bytes);
        let text = proxy.get("/metrics").body;
        let in_text = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
        assert!(in_text.eq(families.iter().map(|family| family.name.as_str())));
        for (family, shown) in [("listener", 3), ("backend", 4)] {
            let name = format!("ringway_{family}_latency_seconds");
            let family = families.iter().find(|family| family.name == name).unwrap();
            assert_eq!(family.metric.len(), shown);
            for metric in &family.metric {
                let phase = label(metric, "phase");
                let place = || usize::from(label(metric, "backend") == "b");
                let shown = match shown {
                    3 => stats.phase(phase),
                    _ => stats.backend_phase(place(), phase),
                };
                assert_native(metric.histogram.as_ref().unwrap(), shown);
            }
        }
    });
}

fn assert_native(histogram: &data::Histogram, shown: &serde_json::Value) {
    let number = |key: &str| shown[key].as_f64().unwrap();
    assert_eq!(histogram.sample_count as f64, number("count"));
    let classic = histogram.bucket.last().unwrap();
    assert_eq!(
        (classic.upper_bound, classic.cumulative_count as f64),
        (f64::INFINITY, number("count"))
    );
    assert!(histogram.zero_threshold > 0.0, "without it an empty one is not taken for native");
    let buckets = buckets(histogram);
    let in_buckets = buckets.iter().map(|(_, count)| *count as u64).sum::<u64>();
    assert_eq!(in_buckets + histogram.zero_count, histogram.sample_count);
    if histogram.sample_count > 0 {
        let (mut left, p99) = ((number("count") * 0.99).ceil() as i64, number("p99_us") / 1e6);
        let bound = buckets.iter().find(|(_, count)| {
            left -= count;
            left <= 0
        });
        let (bound, width) = (bound.unwrap().0, 2f64.powf(1.0 / f64::from(1 << histogram.schema)));
        // The highest value of a bucket of ours may be above the bound: by its own width at most.
        assert!(p99 <= bound * 1.016 && p99 * width * 1.016 >= bound, "{p99} in {bound}: {shown}");
    }
}
