//! Prometheus itself: its linter, and what it answers after scraping.

use std::{
    fs,
    io::Write,
    panic::{self, AssertUnwindSafe},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    kit::{Config, Proxy, Server, each_driver, let_pass, peer, wait_until},
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

/// 1. Two Prometheus scrape an instance each second, one as it is and one that takes native
///    histograms. 2. Sessions of 55 to 75 ms go on while they scrape, and are over. 3. Once each
///    has seen the last one, the p99 of sessions that the first works out lies in the classic
///    bucket of the p99 of `/stats`; that of the second lies within the width of a native bucket.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn prometheus_answers_with_the_percentiles_of_stats() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).shards(2).backend(server.address).start();
        let classic = scraping(&proxy, &[]);
        let native = scraping(&proxy, &["--enable-feature=native-histograms"]);
        let scraped = |scrapes: f64| {
            for prometheus in [&classic, &native] {
                wait_until("scrapes", || {
                    let seen = asked(prometheus, "count_over_time(ringway_uptime_seconds[10m])");
                    seen.is_some_and(|seen| seen >= scrapes)
                });
            }
        };
        // Before the first session, so that a rate is one of all sessions.
        scraped(1.0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            (0..8).for_each(|_| _ = scope.spawn(|| sessions(&proxy, &stop)));
            let told = panic::catch_unwind(AssertUnwindSafe(|| scraped(SCRAPES)));
            stop.store(true, Ordering::Relaxed);
            told.unwrap();
        });
        compare(&proxy, &classic, &native);
    });
}

/// Session times in both forms.
const CLASSIC: &str = "ringway_listener_latency_seconds_bucket{phase=\"session\"}";
const NATIVE: &str = "ringway_listener_latency_seconds{phase=\"session\"}";

fn compare(proxy: &Proxy, classic: &Outside, native: &Outside) {
    let stats = proxy.wait_stats("the last session", |s| {
        let (count, ended) = (s.phase("session")["count"].as_u64(), s.ended_in_all());
        s.listener("connections_active") == 0 && count == Some(ended)
    });
    let count = stats.phase("session")["count"].as_f64();
    let seen = [
        (classic, "ringway_listener_latency_seconds_count{phase=\"session\"}".to_owned()),
        (native, format!("histogram_count({NATIVE})")),
    ];
    for (prometheus, query) in seen {
        wait_until("a scrape of all sessions", || asked(prometheus, &query) == count);
    }
    let p99_of = |series: &str| format!("histogram_quantile(0.99, rate({series}[10m]))");
    let by_classic = asked(classic, &p99_of(CLASSIC)).unwrap();
    let by_native = asked(native, &p99_of(NATIVE)).unwrap();
    let p99 = stats.phase("session")["p99_us"].as_f64().unwrap() / 1e6;
    eprintln!("p99: {p99} s in /stats, {by_classic} s classic, {by_native} s native");
    let above = BOUNDS.iter().position(|bound| p99 <= *bound).unwrap();
    let bucket = BOUNDS[above - 1]..BOUNDS[above] * SLACK;
    assert!(bucket.contains(&by_classic), "{by_classic} is not in {bucket:?}");
    let off = (by_native / p99).max(p99 / by_native);
    assert!(off < NATIVE_WIDTH * SLACK, "{by_native} is {off} times off {p99}");
}

/// Classic buckets in which sessions of 55 ms and more can end, in seconds.
const BOUNDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// From one bound of a native bucket to the next: eight in a doubling.
const NATIVE_WIDTH: f64 = 1.0905;

/// The buckets of `/stats` are 0.1 % wide.
const SLACK: f64 = 1.001;
