//! What an operator changes at run time.

use std::io::Read;

use crate::kit::{Config, Proxy, Refusing, Server, each_driver, http, peer};

fn who(proxy: &Proxy) -> char {
    let mut name = [0];
    proxy.connect().read_exact(&mut name).unwrap();
    char::from(name[0])
}

fn order(proxy: &Proxy, picks: usize) -> String {
    (0..picks).map(|_| who(proxy)).collect()
}

fn two(driver: &'static str, servers: &[Server; 2], lines: &str) -> Proxy {
    let config = Config::new(driver).pool(lines);
    servers.iter().fold(config, |config, server| config.backend(server.address)).start()
}

/// 1. A backend with an open connection is drained. 2. The connection goes on, the answer and
///    `/stats` say draining, and the next clients go elsewhere, at once. 3. Enabled again it takes
///    its turn.
#[test]
fn a_draining_backend_keeps_its_connections_and_takes_no_new_ones() {
    each_driver(|driver| {
        let servers = [Server::echo(), Server::echo()];
        let proxy = two(driver, &servers, "balance = \"round_robin\"");
        let mut held = proxy.connect();
        peer::echo(&mut held, b"before");
        let answer = proxy.change("a", r#"{"state": "drain"}"#);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let expected = serde_json::json!(
            {"pool": "web", "backend": "a", "state": "draining", "weight": 1}
        );
        assert_eq!(answer.json(), expected);
        for _ in 0..10 {
            peer::echo(&mut proxy.connect(), b"elsewhere");
        }
        assert_eq!((servers[0].accepted(), servers[1].accepted()), (1, 10));
        peer::echo(&mut held, b"after");
        assert_eq!(proxy.stats().state(0), "draining");
        assert_eq!(
            proxy.stats().0["pools"][0]["backends"][0]["reason"],
            "asked for by the operator"
        );
        assert_eq!(proxy.change("a", r#"{"state": "enable"}"#).json()["state"], "healthy");
        for _ in 0..2 {
            peer::echo(&mut proxy.connect(), b"again");
        }
        assert_eq!(servers[0].accepted(), 2);
    });
}

/// 1. Both backends are disabled. 2. A client is reset with `no_backend`, although panic would use
///    everybody: the operator's word counts. 3. `/ready` is 503.
#[test]
fn a_disabled_backend_is_used_by_nobody() {
    each_driver(|driver| {
        let servers = [b'a', b'b'].map(Server::named);
        let proxy = two(driver, &servers, "");
        for backend in ["a", "b"] {
            assert_eq!(
                proxy.change(backend, r#"{"state": "disable"}"#).json()["state"],
                "disabled"
            );
        }
        assert_eq!(proxy.turns_away(), crate::kit::End::Reset);
        proxy.wait_ended_only("no_backend", 1);
        assert_eq!(proxy.get("/ready").status, 503);
    });
}

/// 1. Weights 1 and 1. 2. The first becomes 3: the order follows at once. 3. With 0 it gets
///    nothing.
#[test]
fn a_weight_counts_from_the_next_pick_on() {
    each_driver(|driver| {
        let servers = [b'a', b'b'].map(Server::named);
        let proxy = two(driver, &servers, "balance = \"weighted_round_robin\"");
        assert_eq!(order(&proxy, 4), "abab");
        assert_eq!(proxy.change("a", r#"{"weight": 3}"#).json()["weight"], 3);
        assert_eq!(order(&proxy, 8).matches('a').count(), 6);
        assert_eq!(proxy.stats().backend(0, "weight"), 3);
        assert_eq!(proxy.change("a", r#"{"weight": 0}"#).status, 200);
        assert_eq!(order(&proxy, 4), "bbbb");
    });
}

/// 1. A backend is drained and enabled, in a pool that starts slowly. 2. It gets about a tenth of
///    its share at first, not a half.
#[test]
fn a_backend_that_comes_back_starts_slowly() {
    each_driver(|driver| {
        let servers = [b'a', b'b'].map(Server::named);
        let lines = "balance = \"weighted_round_robin\"\nslow_start = \"10m\"";
        let proxy = two(driver, &servers, lines);
        assert_eq!(order(&proxy, 4), "abab", "nobody came back yet");
        proxy.change("a", r#"{"state": "drain"}"#);
        proxy.change("a", r#"{"state": "enable"}"#);
        let share = order(&proxy, 44).matches('a').count();
        assert!((2..=6).contains(&share), "{share} of 44");
    });
}

/// 1. Unknown pools, backends, states, keys and weights, and what is no JSON. 2. Each gets its
///    status and a sentence that names the value; nothing changes.
#[test]
fn a_change_that_makes_no_sense_is_refused_with_a_sentence() {
    each_driver(|driver| {
        let servers = [b'a', b'b'].map(Server::named);
        let proxy = two(driver, &servers, "");
        let before = proxy.stats().0["pools"].clone();
        let drain = r#"{"state": "drain"}"#;
        for (path, body, status, sentence) in [
            ("/pools/wbe/backends/a", drain, 404, "no pool \"wbe\" (known: web)"),
            ("/pools/web/backends/z", drain, 404, "pool web has no backend \"z\" (see GET /stats)"),
            (
                "/pools/web/backends/a",
                r#"{"state": "draining"}"#,
                400,
                "state = \"draining\": not one of \"enable\", \"drain\", \"disable\"",
            ),
            (
                "/pools/web/backends/a",
                r#"{"weight": 70000}"#,
                400,
                "weight = 70000: not a number from 0 to 65535",
            ),
            ("/pools/web/backends/a", r#"{"status": 1}"#, 400, "\"status\": unknown key"),
            ("/pools/web/backends/a", "drain", 400, "not a JSON object: "),
        ] {
            let answer = http::patch(proxy.admin, path, body);
            assert_eq!(answer.status, status, "{path} {body}");
            assert!(answer.body.starts_with(sentence), "{path} {body}: {}", answer.body);
        }
        let long = http::patch(proxy.admin, "/pools/web/backends/a", &" ".repeat(100_000));
        assert_eq!(long.status, 413);
        assert_eq!(proxy.get("/pools/web/backends/a").status, 405);
        let foreign = "Host: evil.example\r\n";
        assert_eq!(http::get_with(proxy.admin, "/stats", foreign).status, 403);
        assert_eq!(proxy.stats().0["pools"], before);
    });
}

/// 1. A change. 2. The log has it, with the names, and who asked.
#[test]
fn changes_are_logged() {
    each_driver(|driver| {
        let servers = [b'a', b'b'].map(Server::named);
        let proxy = two(driver, &servers, "");
        proxy.change("a", r#"{"state": "drain", "weight": 7}"#);
        crate::kit::wait_until("the log has it", || {
            let log = proxy.stderr();
            let asked = "method=PATCH path=\"/pools/web/backends/a\" status=200";
            log.contains("draining") && log.contains("weight=7") && log.contains(asked)
        });
    });
}

/// 1. A dead backend is disabled: nobody checks it, and it is shown as disabled. 2. Enabled, it is
///    checked at once, and one check counts: unhealthy for the reason of the check, also after it
///    was drained in between.
#[test]
fn an_enabled_backend_is_checked_at_once_and_told_by_its_check() {
    each_driver(|driver| {
        let place = Refusing::new();
        let alive = Server::echo_at(place.address);
        let other = Server::echo();
        let proxy = Config::new(driver)
            .health("interval = \"1h\"\nunhealthy_after = 100")
            .backend(place.address)
            .backend(other.address)
            .start();
        // The next one is an hour away, more or less.
        crate::kit::wait_until("the first check", || alive.accepted() > 0);
        proxy.change("a", r#"{"state": "disable"}"#);
        drop(alive);
        assert_eq!(proxy.stats().state(0), "disabled");
        crate::kit::let_pass(std::time::Duration::from_millis(200));
        proxy.change("a", r#"{"state": "enable"}"#);
        proxy.wait_stats("the check has seen it", |s| s.state(0) == "unhealthy");
        let reason = |proxy: &Proxy| proxy.stats().0["pools"][0]["backends"][0]["reason"].clone();
        assert_eq!(reason(&proxy), "connection refused");
        proxy.change("a", r#"{"state": "drain"}"#);
        assert_eq!(reason(&proxy), "asked for by the operator");
        assert_eq!(proxy.change("a", r#"{"state": "enable"}"#).json()["state"], "unhealthy");
        assert_eq!(reason(&proxy), "connection refused");
    });
}
