//! The admin endpoint as a scraper, a load balancer and a person see it.

use std::{collections::BTreeSet, io::Read};

use crate::kit::{Config, Proxy, Server, each_driver, http, peer};

/// A proxy that has served ten connections.
fn used(driver: &'static str) -> (Proxy, Server) {
    let server = Server::echo();
    let proxy = Config::new(driver).backend(server.address).start();
    for _ in 0..10 {
        peer::echo(&mut proxy.connect(), b"some bytes");
    }
    proxy.wait_stats("recorded", |s| s.phase("session")["count"] == 10);
    (proxy, server)
}

/// One sample of a text page: the series and its value.
fn sample(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
    let name = series.split('{').next().unwrap();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.starts_with("ringway_") && name.chars().all(good), "{line}");
    if let Some((_, labels)) = series.split_once('{') {
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("open braces: {line}"));
        // No label value of ours has a quote and a comma in it.
        for label in labels.split_terminator("\",").map(|label| label.trim_end_matches('"')) {
            let (key, _value) = label.split_once('=').unwrap_or_else(|| panic!("{label}: {line}"));
            assert!(!key.is_empty() && key.chars().all(good), "{line}");
        }
    }
    (series.to_owned(), value)
}

/// All samples of a page; each series once.
fn samples(page: &str) -> Vec<(String, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with("# "));
    let samples: Vec<_> = lines.map(sample).collect();
    let unique: BTreeSet<&str> = samples.iter().map(|(series, _)| series.as_str()).collect();
    assert!(samples.len() > 50, "few samples");
    assert_eq!(unique.len(), samples.len(), "a series occurs twice");
    samples
}

fn value(samples: &[(String, f64)], series: &str) -> f64 {
    let found = samples.iter().find(|(name, _)| name == series);
    found.unwrap_or_else(|| panic!("no {series} in {samples:#?}")).1
}

/// 1. A scraper that knows the classic text gets that: its content type, every line parses, each
///    sample belongs to a family with HELP and TYPE. 2. The numbers are those of `/stats`.
#[test]
fn metrics_as_classic_text() {
    each_driver(|driver| {
        let (proxy, _server) = used(driver);
        let page = proxy.get("/metrics");
        assert_eq!(page.status, 200);
        let kind = page.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
        let samples = samples(&page.body);
        let families: Vec<&str> = page
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        for (series, _) in &samples {
            let name = series.split('{').next().unwrap();
            let of = |family: &str| {
                name.strip_prefix(family)
                    .is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(families.iter().any(|family| of(family)), "no family for {series}");
        }
        assert!(!page.body.contains("# EOF") && !page.body.contains("# UNIT"));
        let of_edge = |name: &str| value(&samples, &format!("{name}{{listener=\"edge\"}}"));
        assert_eq!(of_edge("ringway_listener_accepted_total"), 10.0);
        let ended = "ringway_listener_ended_total{listener=\"edge\",reason=\"client_fin\"}";
        assert_eq!(value(&samples, ended), 10.0);
        let up = "ringway_backend_bytes_total{pool=\"web\",backend=\"a\",direction=\"up\"}";
        assert_eq!(value(&samples, up), 100.0);
        let count = "ringway_listener_latency_seconds_count{listener=\"edge\",phase=\"session\"}";
        assert_eq!(value(&samples, count), 10.0);
    });
}

/// 1. A scraper asks for OpenMetrics. 2. It gets that content type, and `# EOF` at the end.
#[test]
fn metrics_as_openmetrics() {
    each_driver(|driver| {
        let (proxy, _server) = used(driver);
        let accept = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5";
        let page = http::get_as(proxy.admin, "/metrics", accept);
        let kind = page.header("content-type").unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert!(page.body.ends_with("# EOF\n"));
        let samples = samples(&page.body);
        let bucket = "ringway_listener_latency_seconds_bucket";
        let infinite: Vec<_> = samples
            .iter()
            .filter(|(series, _)| series.starts_with(bucket) && series.contains("+Inf"))
            .collect();
        assert!(!infinite.is_empty());
    });
}

/// 1. Buckets of a phase grow, and the last one is the count. 2. For every phase.
#[test]
fn latency_buckets_add_up() {
    each_driver(|driver| {
        let (proxy, _server) = used(driver);
        let samples = samples(&proxy.get("/metrics").body);
        for phase in ["connect", "first_byte", "session"] {
            let labels = format!("listener=\"edge\",phase=\"{phase}\"");
            let buckets: Vec<(&str, f64)> = samples
                .iter()
                .filter(|(s, _)| {
                    s.starts_with("ringway_listener_latency_seconds_bucket") && s.contains(&labels)
                })
                .map(|(series, value)| (series.as_str(), *value))
                .collect();
            assert!(buckets.len() > 10 && buckets.is_sorted_by_key(|b| b.1), "{buckets:#?}");
            let (last, count) = buckets[buckets.len() - 1];
            assert!(last.contains("le=\"+Inf\""), "{last}");
            assert_eq!(count, 10.0, "{phase}");
        }
    });
}

/// 1. The driver was chosen by the file. 2. `/stats` and the metric say so, and why.
#[test]
fn the_driver_and_its_reason_are_shown() {
    each_driver(|driver| {
        let (proxy, _server) = used(driver);
        let stats = proxy.stats();
        assert_eq!(stats.0["driver"], driver);
        let reason = stats.0["driver_reason"].as_str().unwrap();
        assert_eq!(reason.is_empty(), driver == "io_uring", "{reason}");
        let page = proxy.get("/metrics").body;
        let info = page.lines().find(|line| line.starts_with("ringway_info{")).unwrap();
        assert!(info.contains(&format!("driver=\"{driver}\"")), "{info}");
        assert!(info.contains(&format!("driver_reason=\"{reason}\"")), "{info}");
        assert!(info.ends_with(" 1") || info.ends_with(" 1.0"), "{info}");
    });
}

/// 1. `/health` is 200, `/ready` is 200 with no reasons, `/config` has the defaults filled in and
///    the listener of the file. 2. What does not exist is 404.
#[test]
fn the_small_pages() {
    each_driver(|driver| {
        let (proxy, _server) = used(driver);
        assert_eq!(proxy.get("/health").status, 200);
        let ready = proxy.get("/ready");
        let expected = serde_json::json!({ "ready": true, "reasons": [], "warnings": [] });
        assert_eq!((ready.status, ready.json()), (200, expected));
        let config = proxy.get("/config");
        assert_eq!(config.status, 200);
        let config = config.json();
        assert_eq!(config["listener"][0]["name"], "edge");
        assert_eq!(config["listener"][0]["idle_timeout"], "10m");
        assert_eq!(config["runtime"]["driver"], driver);
        let digest = proxy.stats().0["config"]["digest"].as_str().unwrap().to_owned();
        assert!(digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()));
        for path in ["/nothing", "/stats/", "/Stats", "/metrics/x"] {
            let answer = proxy.get(path);
            assert_eq!(answer.status, 404, "{path}");
            assert!(
                [path, "/ready", "PATCH /pools/"].iter().all(|part| answer.body.contains(part)),
                "{}",
                answer.body
            );
        }
        assert_eq!(proxy.get("/stats").header("content-type"), Some("application/json"));
    });
}

/// 1. A page of another site, or a name that was made to resolve to us, asks: 403, with a sentence
///    that names what was wrong. 2. Who asks for this host by any of its own names gets the page.
#[test]
fn only_this_host_may_ask() {
    each_driver(|driver| {
        let (proxy, _server) = used(driver);
        let ask = |headers: &str| http::get_with(proxy.admin, "/stats", headers);
        let (admin, port) = (proxy.admin, proxy.admin.port());
        for host in ["evil.example", "10.0.0.1:9900", "127.0.0.1.evil.example"] {
            let refused = ask(&format!("Host: {host}\r\n"));
            assert_eq!(refused.status, 403, "{host}");
            assert!(refused.body.contains(host) && refused.body.contains("localhost"), "{host}");
        }
        for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example"] {
            let refused = ask(&format!("Host: {admin}\r\nOrigin: {origin}\r\n"));
            assert_eq!(refused.status, 403, "{origin}");
            assert!(refused.body.contains(origin), "{}", refused.body);
        }
        let ours = [
            format!("Host: {admin}\r\n"),
            format!("Host: localhost:{port}\r\n"),
            "Host: [::1]\r\n".into(),
            format!("Host: {admin}\r\nOrigin: http://localhost:{port}\r\n"),
        ];
        for headers in ours {
            assert_eq!(ask(&headers).status, 200, "{headers}");
        }
    });
}

/// 1. A scraper takes gzip: the page is packed, and is the same one. 2. One that does not gets it
///    as it is. 3. One asks for a pool: only what is labelled with that. 4. For one that is not
///    there: 404, with those that are.
#[test]
fn metrics_packed_and_of_one_pool() {
    each_driver(|driver| {
        let server = Server::echo();
        let text = Config::new(driver).backend(server.address).text();
        let address = server.address;
        let proxy = Proxy::start(&format!(
            "{text}\n[[pool]]\nname = \"other\"\nhealth_check = {{ kind = \"none\" }}\n\
             backend = [{{ address = \"{address}\" }}]\n"
        ));
        let admin = proxy.admin;
        let ask = |path: &str, coding: &str| {
            http::get_with(admin, path, &format!("Host: {admin}\r\nAccept-Encoding: {coding}\r\n"))
        };
        let packed = ask("/metrics", "gzip, deflate");
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        let mut page = String::new();
        flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_string(&mut page).unwrap();
        let names = |page: &str| -> BTreeSet<String> {
            samples(page).into_iter().map(|(series, _)| series).collect()
        };
        let plain = ask("/metrics", "gzip;q=0");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(names(&page), names(&plain.body));
        assert!(packed.bytes.len() * 4 < page.len(), "{} bytes", packed.bytes.len());

        let one = ask("/metrics?pool=other", "identity");
        let series = names(&one.body);
        assert!(series.iter().all(|s| s.contains("pool=\"other\"")), "{series:?}");
        assert!(series.is_subset(&names(&plain.body)));
        assert!(series.iter().any(|s| s.starts_with("ringway_backend_latency_seconds")));
        let unknown = ask("/metrics?pool=wbe", "identity");
        let sentence = "no pool \"wbe\" (known: \"web\", \"other\")\n";
        assert_eq!((unknown.status, unknown.body.as_str()), (404, sentence));
        assert_eq!(ask("/metrics?pol=web", "identity").status, 400);
    });
}
