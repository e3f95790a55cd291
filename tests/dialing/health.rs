//! A backend dies, and comes back.

use std::fmt::Write;

use crate::{
    ask_who,
    kit::{Blackhole, Config, End, Proxy, Refusing, Server, each_driver, peer, wait_until},
};

const FAST: &str = "kind = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"1s\"\n\
                    healthy_after = 2\nunhealthy_after = 2";

/// 1. Both backends are healthy. 2. One dies: it turns unhealthy, and gets no dial. 3. The other
///    serves, the process is ready. 4. It comes back and is used again.
#[test]
fn a_backend_that_dies_is_left_alone_until_it_is_back() {
    each_driver(|driver| {
        let place = Refusing::new();
        let address = place.address;
        let (a, b) = (Server::echo_at(address), Server::named(b'b'));
        let proxy = Config::new(driver)
            .health(FAST)
            .pool("balance = \"round_robin\"")
            .backend(address)
            .backend(b.address)
            .start();
        assert_eq!((proxy.stats().state(0), proxy.stats().state(1)), ("healthy", "healthy"));
        drop(a);
        proxy.wait_stats("a is unhealthy", |s| s.state(0) == "unhealthy");
        let refused = proxy.stats().failures(0, "refused");
        (0..10).for_each(|_| assert_eq!(ask_who(&proxy), 'b'));
        assert_eq!(proxy.stats().failures(0, "refused"), refused);
        assert_eq!(proxy.get("/ready").status, 200);
        let a = Server::at(address, |mut stream| {
            let _ = std::io::Write::write_all(&mut stream, b"a");
            let _ = std::io::Read::read(&mut stream, &mut [0]);
        });
        proxy.wait_stats("a is healthy", |s| s.state(0) == "healthy");
        let order: String = (0..4).map(|_| ask_who(&proxy)).collect();
        assert!(order == "abab" || order == "baba", "{order}");
        drop(a);
    });
}

/// 1. The only backend is dead from the start: the first check says so. 2. `/ready` is 503 with a
///    reason that names the pool. 3. A client is reset with `no_backend`, and nothing was dialed.
///    4. The backend comes up: ready again, and the next client is served.
#[test]
fn without_a_usable_backend_the_process_is_not_ready() {
    each_driver(|driver| {
        let dead = Refusing::new();
        let address = dead.address;
        let config = Config::new(driver).health(FAST).pool("panic_threshold = 0");
        let proxy = config.backend(address).start();
        proxy.wait_stats("unhealthy", |s| s.state(0) == "unhealthy");
        let ready = proxy.get("/ready");
        assert_eq!(ready.status, 503);
        assert_eq!(ready.json()["ready"], false);
        let reasons = ready.json()["reasons"].as_array().unwrap().clone();
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].as_str().unwrap().contains("web"), "{reasons:?}");
        assert_eq!(proxy.turns_away(), End::Reset);
        let stats = proxy.wait_ended_only("no_backend", 1);
        assert_eq!(stats.failures(0, "refused"), 0, "checks are no dials");
        let _live = Server::echo_at(address);
        proxy.wait_stats("healthy", |s| s.state(0) == "healthy");
        let ready = proxy.get("/ready");
        assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
        peer::echo(&mut proxy.connect(), b"served");
    });
}

/// 1. A backend that answers no check in time. 2. It is unhealthy like one that refuses.
#[test]
fn a_check_without_answer_fails() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let health = FAST.replace("\"1s\"", "\"100ms\"");
        let proxy = Config::new(driver).health(&health).backend(hole.address).start();
        proxy.wait_stats("unhealthy", |s| s.state(0) == "unhealthy");
    });
}

/// 1. Checks are off and the backend is dead. 2. It stays healthy: nobody has proven otherwise.
#[test]
fn without_checks_a_backend_stays_healthy() {
    each_driver(|driver| {
        let dead = Refusing::new();
        let proxy = Config::new(driver).health("kind = \"none\"").backend(dead.address).start();
        assert_eq!(proxy.turns_away(), End::Reset);
        let stats = proxy.wait_ended_only("connect_refused", 1);
        assert_eq!(stats.state(0), "healthy");
        assert_eq!(proxy.get("/ready").status, 200);
    });
}

/// 1. One pool has 600 servers that are silent; another one has a server that lives, asked each
///    200 ms. 2. That one is asked again and again all the same. 3. It dies: that is seen.
#[test]
fn silent_servers_of_one_pool_keep_no_other_pool_waiting() {
    each_driver(|driver| {
        let (hole, live) = (Blackhole::new(), Server::echo());
        let health = "interval = \"200ms\"\ntimeout = \"1s\"\nunhealthy_after = 3";
        let mut text = Config::new(driver).health(health).backend(live.address).text();
        let _ = write!(
            text,
            "[[listener]]\nname = \"other\"\nlisten = [\"127.0.0.1:0\"]\npool = \"silent\"\n\
             [[pool]]\nname = \"silent\"\n[pool.health_check]\n{health}\n"
        );
        for i in 0..600 {
            let address = hole.address;
            let _ = writeln!(text, "[[pool.backend]]\nname = \"s{i}\"\naddress = \"{address}\"");
        }
        let proxy = Proxy::start(&text);
        proxy.wait_stats("checks wait", |s| s.0["checks"]["waiting"].as_u64() > Some(400));
        let asked = live.accepted();
        wait_until("twenty checks more", || live.accepted() >= asked + 20);
        drop(live);
        proxy.wait_stats("its death is seen", |s| s.state(0) == "unhealthy");
        let page = proxy.get("/metrics").body;
        assert!(page.contains("ringway_checks_waiting"), "no metric");
    });
}
