//! Prometheus itself: its linter, and what it answers after scraping.

use std::{
    fs,
    io::Write,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    kit::{Config, Proxy, Server, each_driver, each_driver_alone, let_pass, peer, wait_for},
    programs::{Outside, client, run},
};

/// Scrapes, one a second, before it is asked.
const SCRAPES: f64 = 6.0;

/// 1. An instance with backends by address and by name has had traffic. 2. The linter of Prometheus
///    has nothing to say of its page.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn promtool_finds_nothing() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver)
            .shards(2)
            .backend(server.address)
            .backend_at(&format!("localhost:{}", server.address.port()), "")
            .start();
        for _ in 0..50 {
            peer::echo(&mut proxy.connect(), b"hello");
        }
        proxy.wait_stats("recorded", |s| s.phase("session")["count"] == 50);
        let mut promtool = client("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut promtool = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let page = proxy.get("/metrics").body;
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let told = promtool.wait_with_output().unwrap();
        let words = [told.stdout, told.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        assert!(told.status.success() && words.is_empty(), "{}: {words}", told.status);
    });
}

/// The answer of a Prometheus to a query: the value of the only series.
fn asked(prometheus: &Outside, query: &str) -> Option<f64> {
    let mut curl = client("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--get"]);
    curl.arg("--data-urlencode").arg(format!("query={query}"));
    let told = run(curl.arg(format!("http://{}/api/v1/query", prometheus.address)));
    let answer: Value = serde_json::from_str(told.trim()).unwrap();
    match answer["data"]["result"].as_array().unwrap().as_slice() {
        [] => None,
        [one] => Some(one["value"][1].as_str().unwrap().parse().unwrap()),
        _ => panic!("more than one series: {answer}"),
    }
}

/// A Prometheus that scrapes `proxy` each second, with these further words.
fn scraping(proxy: &Proxy, words: &[&str]) -> Outside {
    Outside::prometheus(words, |folder| {
        let text = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: ringway, static_configs: [{{targets: ['{}']}}]}}]\n",
            proxy.admin
        );
        fs::write(folder.join("prometheus.yml"), text).unwrap();
    })
}

/// Sessions of 55 to 75 ms, some at once, until it is stopped.
fn sessions(proxy: &Proxy, stop: &AtomicBool) {
    let mut rng = fastrand::Rng::new();
    while !stop.load(Ordering::Relaxed) {
        let mut client = proxy.connect();
        peer::echo(&mut client, b"hello");
        let_pass(Duration::from_millis(rng.u64(55..75)));
    }
}

/// 1. Sessions of 55 to 75 ms go on. 2. Two Prometheus scrape the instance each second, one as it
///    is and one that takes native histograms. 3. Once each has scraped a few times, the p99 of
///    sessions that the first works out lies in the classic bucket of the p99 of `/stats`; that of
///    the second lies within the width of a native bucket of it.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn prometheus_answers_with_the_percentiles_of_stats() {
    each_driver_alone(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).shards(2).backend(server.address).start();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            (0..8).for_each(|_| _ = scope.spawn(|| sessions(&proxy, &stop)));
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compare(&proxy)));
            stop.store(true, Ordering::Relaxed);
            told.unwrap();
        });
    });
}

fn compare(proxy: &Proxy) {
    let classic = scraping(proxy, &[]);
    let native = scraping(proxy, &["--enable-feature=native-histograms"]);
    for prometheus in [&classic, &native] {
        wait_for("scrapes", || {
            let scrapes = asked(prometheus, "count_over_time(ringway_uptime_seconds[1m])")?;
            (scrapes >= SCRAPES).then_some(())
        });
    }
    let series = "{listener=\"edge\",phase=\"session\"}[1m]";
    let of = |name: &str| {
        format!("histogram_quantile(0.99, rate(ringway_listener_latency_seconds{name}{series}))")
    };
    let by_classic = asked(&classic, &of("_bucket")).unwrap();
    let by_native = asked(&native, &of("")).unwrap();
    let p99 = proxy.stats().phase("session")["p99_us"].as_f64().unwrap() / 1e6;
    eprintln!("p99: {p99} s in /stats, {by_classic} s classic, {by_native} s native");
    assert!(p99 > 0.05 && p99 < 0.1, "sessions of 55 to 75 ms took {p99} s");
    assert!(by_classic > 0.05 && by_classic < 0.1, "the classic bucket of {p99}: {by_classic}");
    let off = (by_native - p99).abs() / p99;
    // The bucket is 9.05 % wide; what the scrapes have seen is not to the second what we see.
    assert!(off < 0.1, "{by_native} is {off} off {p99}");
}
