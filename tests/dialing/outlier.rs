//! Backends that fail their clients are left out for a while; too few left are all used.

use std::io::{Read, Write};

use crate::{
    ask_who,
    kit::{Config, End, Refusing, Server, each_driver, peer, wait_until},
};

/// A server that hangs up on everybody who asks.
fn rude() -> Server {
    Server::new(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
    })
}

/// Early ends count, those of one client too: all of these tests come from one address.
const OUTLIER: &str = "kind = \"none\"\n[pool.outlier]\ncount = [\"dial\", \"reset\", \"closed\"]\n\
                       min_clients = 1\nconsecutive_failures = 3\n";

/// Asks once; whether an answer came.
fn asks(proxy: &crate::kit::Proxy) -> bool {
    let mut client = proxy.connect();
    let _ = client.write_all(b"?");
    client.read(&mut [0; 1]).is_ok_and(|n| n == 1)
}

/// 1. One of three backends hangs up on everybody. 2. After three in a row it is ejected: `/stats`
///    and the log say why, once. 3. Everybody else is served. 4. Its time is over: it is back, and
///    fails again, and stays out for twice as long.
#[test]
fn a_backend_that_fails_its_clients_is_ejected_for_a_while() {
    each_driver(|driver| {
        let (a, b, c) = (rude(), Server::echo(), Server::echo());
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"")
            .health(&format!("{OUTLIER}ejection = \"1s\""))
            .backend(a.address)
            .backend(b.address)
            .backend(c.address)
            .start();
        let mut failed = 0;
        let eject =
            |times: u64| move |s: &crate::kit::Stats| s.backend(0, "ejections_total") == times;
        while !eject(1)(&proxy.stats()) {
            failed += u32::from(!asks(&proxy));
            assert!(failed < 50, "never ejected");
        }
        let stats = proxy.stats();
        assert_eq!(stats.state(0), "ejected");
        let reason = stats.0["pools"][0]["backends"][0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("in a row, out for 1s"), "{reason}");
        assert!((0..20).all(|_| asks(&proxy)));
        proxy.wait_stats("it is back", |s| s.state(0) == "healthy");
        wait_until("it is ejected again", || {
            asks(&proxy);
            eject(2)(&proxy.stats())
        });
        wait_until("both in the log", || proxy.stderr().contains("out for 2s"));
        let log = proxy.stderr();
        assert_eq!(log.matches("out for 1s").count(), 1, "{log}");
        assert_eq!(log.matches("out for 2s").count(), 1, "{log}");
    });
}

/// 1. All four backends hang up. 2. At most half of them are ever ejected. 3. With one backend
///    alone, none is.
#[test]
fn never_more_than_the_share_and_never_the_last_one() {
    each_driver(|driver| {
        let servers = [rude(), rude(), rude(), rude()];
        for (count, most) in [(4, 2), (2, 1), (1, 0)] {
            let base = Config::new(driver).health(OUTLIER).pool("balance = \"round_robin\"");
            let add = |config: Config, server: &Server| config.backend(server.address);
            let proxy = servers[..count].iter().fold(base, add).start();
            let ejected = |s: &crate::kit::Stats| {
                (0..count).filter(|backend| s.state(*backend) == "ejected").count()
            };
            wait_until("as many as may be", || {
                asks(&proxy);
                ejected(&proxy.stats()) == most
            });
            for _ in 0..40 {
                asks(&proxy);
                assert!(ejected(&proxy.stats()) <= most);
            }
        }
    });
}

/// 1. Two of three backends are dead, and the checks know. 2. That is too few: all are used,
///    `/stats`, `/ready` and the log say so, and everybody is served all the same. 3. One comes
///    back, and the panic is over.
#[test]
fn with_too_few_healthy_backends_all_are_used_loudly() {
    each_driver(|driver| {
        let (one, two) = (Refusing::new(), Refusing::new());
        let live = Server::named(b'c');
        let proxy = Config::new(driver)
            .health("interval = \"100ms\"\nhealthy_after = 1")
            .backend(one.address)
            .backend(two.address)
            .backend(live.address)
            .start();
        let panic = |s: &crate::kit::Stats| s.0["pools"][0]["panic"] == true;
        proxy.wait_stats("panic", panic);
        let ready = proxy.get("/ready");
        assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
        let warning = &ready.json()["warnings"][0];
        assert_eq!(warning, "pool web is in panic: 1 of 3 backends healthy, all are used");
        assert!(proxy.get("/metrics").body.contains("ringway_pool_panic{pool=\"web\"} 1"));
        (0..50).for_each(|_| assert_eq!(ask_who(&proxy), 'c'));
        let words = "panic: too few healthy backends";
        wait_until("panic in the log", || proxy.stderr().contains(words));
        let back = Server::at(one.address, |mut stream| {
            let _ = stream.write_all(b"a");
            let _ = stream.read(&mut [0]);
        });
        proxy.wait_stats("no panic", |s| !panic(s));
        assert_eq!(proxy.get("/ready").json()["warnings"], serde_json::json!([]));
        drop(back);
    });
}

/// 1. The primaries are dead, the fallback is well. 2. That is no panic: connections go to the
///    fallback, and no dead primary is dialed again.
#[test]
fn a_fallback_that_is_well_keeps_a_pool_from_panic() {
    each_driver(|driver| {
        let (one, two) = (Refusing::new(), Refusing::new());
        let live = Server::named(b'c');
        let proxy = Config::new(driver)
            .health("interval = \"100ms\"")
            .backend(one.address)
            .backend(two.address)
            .backend_with(live.address, "priority = 1\n")
            .start();
        proxy
            .wait_stats("both are out", |s| s.state(0) == "unhealthy" && s.state(1) == "unhealthy");
        let before = proxy.stats();
        (0..20).for_each(|_| assert_eq!(ask_who(&proxy), 'c'));
        let after = proxy.stats();
        assert_eq!(after.0["pools"][0]["panic"], false);
        assert_eq!(after.failures(0, "refused"), before.failures(0, "refused"));
        let ready = serde_json::json!({"ready": true, "reasons": [], "warnings": []});
        assert_eq!(proxy.get("/ready").json(), ready);
    });
}

/// 1. Everybody is dead and panic is off. 2. Nobody is tried.
#[test]
fn without_a_threshold_nobody_panics() {
    each_driver(|driver| {
        let dead = Refusing::new();
        let proxy = Config::new(driver)
            .pool("panic_threshold = 0")
            .health("interval = \"100ms\"")
            .backend(dead.address)
            .start();
        proxy.wait_stats("unhealthy", |s| s.state(0) == "unhealthy");
        assert_eq!(proxy.turns_away(), End::Reset);
        proxy.wait_ended_only("no_backend", 1);
    });
}

/// 1. Two shards; a backend has answered sixty clients, who stay, and from now on hangs up on new
///    ones. 2. While the old clients leave one by one, new ones fail on it: it is ejected all the
///    same. Who was answered long ago says nothing of now, and each shard sees only a part.
#[test]
fn old_clients_that_leave_do_not_clear_a_backend_that_fails_new_ones() {
    each_driver(|driver| {
        let served = std::sync::atomic::AtomicUsize::new(0);
        let a = Server::new(move |mut stream| {
            let old = served.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 60;
            let mut asked = [0; 16];
            if stream.read(&mut asked).is_ok() && old {
                let _ = stream.write_all(b"!");
                let _ = stream.read(&mut asked);
            }
        });
        let b = Server::echo();
        let proxy = Config::new(driver)
            .shards(2)
            .pool("balance = \"round_robin\"")
            .health(&OUTLIER.replace("failures = 3", "failures = 5\nejection = \"10m\""))
            .backend(a.address)
            .backend(b.address)
            .start();
        proxy.change("b", r#"{"state": "drain"}"#);
        let mut old: Vec<_> = (0..60)
            .map(|_| {
                let mut client = proxy.connect();
                client.write_all(b"?").unwrap();
                peer::expect(&mut client, b"!");
                client
            })
            .collect();
        proxy.change("b", r#"{"state": "enable"}"#);
        wait_until("it is ejected", || {
            drop(old.pop());
            asks(&proxy);
            assert!(!old.is_empty(), "not while the old ones left");
            proxy.stats().state(0) == "ejected"
        });
        let shards = proxy.stats().0["shards"].clone();
        assert!((0..2).all(|shard| shards[shard]["accepted_total"].as_u64() > Some(0)), "{shards}");
    });
}

/// 1. Two of three backends die; clients find out first: one is ejected, for the other there is no
///    room. 2. The checks take that one out, and it is repaired: the checks take it back. 3. What
///    failed before the repair is forgotten: it stays.
#[test]
fn a_repaired_backend_is_not_ejected_for_what_was_before() {
    each_driver(|driver| {
        let places = [Refusing::new(), Refusing::new()];
        let alive = places.each_ref().map(|place| Server::echo_at(place.address));
        let c = Server::named(b'c');
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"\npanic_threshold = 0")
            .health(
                "interval = \"1s\"\nhealthy_after = 1\nunhealthy_after = 2\n\
                 [pool.outlier]\nconsecutive_failures = 1\nejection = \"10m\"",
            )
            .backend(places[0].address)
            .backend(places[1].address)
            .backend(c.address)
            .start();
        // A first check that failed would count as the whole series, before any client.
        wait_until("the first checks", || alive.iter().all(|server| server.accepted() > 0));
        drop(alive);
        proxy.wait_stats("both have failed somebody", |s| {
            ask_who(&proxy);
            (0..2).all(|i| s.failures(i, "refused") > 0)
        });
        let stats = proxy.wait_stats("both are out", |s| (0..2).all(|i| s.state(i) != "healthy"));
        let spared = (0..2).find(|i| stats.backend(*i, "ejections_total") == 0);
        let spared = spared.expect("one of three may be out");
        let _back = Server::at(places[spared].address, |mut stream| {
            let _ = stream.write_all(b"r");
            let _ = stream.read(&mut [0]);
        });
        proxy.wait_stats("it is back", |s| s.state(spared) == "healthy");
        wait_until("it serves", || ask_who(&proxy) == 'r');
        assert_eq!(proxy.stats().backend(spared, "ejections_total"), 0);
    });
}
