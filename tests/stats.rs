//! What `/stats` says is what happened.

mod kit;

#[path = "stats/histograms.rs"]
mod histograms;
#[path = "stats/metrics.rs"]
mod metrics;
#[path = "stats/native.rs"]
mod native;
#[path = "stats/scrapes.rs"]
mod scrapes;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use kit::{Config, Hand, Refusing, Seed, Server, Stats, each_driver, peer};
use serde_json::Value;

const POINTS: [&str; 9] =
    ["count", "min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];

/// 1. Clients come and go on two shards, some reset, some find a dead backend first. 2. In each of
///    many samples accepted = active + ended, and no counter ever goes back. 3. At the end nothing
///    is active, and every connection has one reason.
#[test]
fn accepted_is_active_plus_ended_at_every_moment() {
    each_driver(|driver| {
        let (server, dead) = (Server::echo(), Refusing::new());
        let proxy =
            Config::new(driver).shards(2).backend(server.address).backend(dead.address).start();
        let (seed, stop, edge) = (Seed::new(), AtomicBool::new(false), proxy.edge[0]);
        let made: u64 = thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|i| {
                    let (mut rng, stop) = (seed.rng(i), &stop);
                    scope.spawn(move || {
                        let mut made = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let mut client = peer::connect(edge);
                            made += 1;
                            match rng.u8(..3) {
                                0 => peer::reset(client),
                                1 => peer::echo(&mut client, b"hello"),
                                _ => drop(client),
                            }
                        }
                        made
                    })
                })
                .collect();
            let mut before = 0;
            for _ in 0..100 {
                let stats = proxy.stats();
                assert_sums(&stats);
                let accepted = stats.listener("accepted_total");
                assert!(accepted >= before, "a counter went back");
                before = accepted;
            }
            stop.store(true, Ordering::Relaxed);
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        let stats = proxy.wait_stats("nothing active", |s| {
            let active = s.listener("connections_active");
            s.listener("accepted_total") == made && active == 0 && s.0["connections_active"] == 0
        });
        assert_eq!(stats.ended_in_all(), made);
        assert_eq!(stats.ended("internal_error"), 0, "{}", stats.without_latency());
    });
}

fn assert_sums(stats: &Stats) {
    let (accepted, active) =
        (stats.listener("accepted_total"), stats.listener("connections_active"));
    assert_eq!(accepted, active + stats.ended_in_all(), "{}", stats.without_latency());
    let copied = stats.listener("bytes_copied_total") + stats.listener("bytes_spliced_total");
    assert_eq!(copied, stats.listener("bytes_up_total") + stats.listener("bytes_down_total"));
}

/// 1. Seven connections get an answer, three are closed without one, two find no backend. 2. The
///    phases count: ten connects, seven first bytes, ten sessions. 3. The backend's phases the
///    same.
#[test]
fn phases_count_what_happened() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        for i in 0..10 {
            let mut client = proxy.connect();
            let mut server = hand.take();
            peer::pass(&mut client, &mut server, b"question");
            if i < 7 {
                peer::pass(&mut server, &mut client, b"answer");
            }
        }
        let stats = proxy.wait_stats("ten sessions", |s| s.phase("session")["count"] == 10);
        assert_eq!(stats.phase("connect")["count"], 10);
        assert_eq!(stats.phase("first_byte")["count"], 7);
        assert_eq!(stats.backend_phase(0, "connect")["count"], 10);
        assert_eq!(stats.backend_phase(0, "first_byte")["count"], 7);
        let latency = stats.0["listeners"][0]["latency"].as_object().unwrap();
        assert!(!latency.contains_key("request"), "a phase that does not apply is absent");
        assert_eq!(stats.0["listeners"][0]["over_range_total"], 0);
        for phase in ["connect", "first_byte", "session"] {
            assert_sane(stats.phase(phase));
        }
    });
}

/// 1. Clients find no backend. 2. Nothing is recorded: only connections that reached one have
///    phases.
#[test]
fn a_connection_without_a_backend_has_no_phases() {
    each_driver(|driver| {
        let dead = Refusing::new();
        let proxy = Config::new(driver).backend(dead.address).start();
        for _ in 0..2 {
            proxy.turns_away();
        }
        let stats = proxy.wait_ended_only("connect_refused", 2);
        for phase in ["connect", "first_byte", "session"] {
            assert_zero(stats.phase(phase));
        }
    });
}

fn point(phase: &Value, name: &str) -> f64 {
    phase[name].as_f64().unwrap_or_else(|| panic!("no {name} in {phase}"))
}

/// Percentiles are in order.
fn assert_sane(phase: &Value) {
    let order = ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];
    assert!(order.is_sorted_by_key(|name| point(phase, name) as u64), "{phase}");
    let mean = point(phase, "mean_us");
    assert!(point(phase, "min_us") * 0.99 <= mean && mean <= point(phase, "max_us"), "{phase}");
}

fn assert_zero(phase: &Value) {
    let points = phase.as_object().unwrap();
    assert_eq!(points.len(), POINTS.len(), "{phase}");
    assert!(POINTS.iter().all(|name| point(phase, name) == 0.0), "{phase}");
}

/// 1. Nothing has happened. 2. Every phase has three windows with all points, all zero.
#[test]
fn before_the_first_connection_every_point_is_zero() {
    each_driver(|driver| {
        let server = Server::echo();
        let stats = Config::new(driver).backend(server.address).start().stats();
        for window in ["10s", "1m", "total"] {
            for phase in ["connect", "first_byte", "session"] {
                assert_zero(stats.phase_in(window, phase));
            }
            for phase in ["connect", "first_byte"] {
                assert_zero(stats.backend_phase_in(window, 0, phase));
            }
        }
        assert_eq!(stats.0["state"], "running");
        assert_eq!(stats.0["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(stats.0["listeners"][0]["ended_total"], serde_json::json!({}));
        assert_eq!(stats.0["listeners"][0]["refused_total"], serde_json::json!({}));
        assert_eq!(stats.0["shard_spread"], 1.0);
    });
}

/// 1. Sessions end on two shards, and are in no window yet. 2. Nothing more comes. The slot closes
///    by itself: both windows have the same points as the total, of the listener and of the
///    backend.
#[test]
fn a_slot_closes_by_itself_and_is_in_both_windows() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).shards(2).backend(server.address).start();
        for _ in 0..20 {
            peer::echo(&mut proxy.connect(), b"hello");
        }
        let stats = proxy.wait_stats("all recorded", |s| s.phase("session")["count"] == 20);
        assert_zero(stats.phase_in("10s", "session"));
        assert_zero(stats.backend_phase_in("1m", 0, "connect"));
        let stats = proxy.wait_stats("the slot is over", |s| {
            ["10s", "1m"].iter().all(|window| s.phase_in(window, "session")["count"] == 20)
        });
        for window in ["10s", "1m"] {
            for phase in ["connect", "first_byte", "session"] {
                assert_eq!(stats.phase_in(window, phase), stats.phase(phase), "{phase}");
            }
            for phase in ["connect", "first_byte"] {
                let total = stats.backend_phase(0, phase);
                assert_eq!(stats.backend_phase_in(window, 0, phase), total, "{phase}");
            }
        }
    });
}

/// 1. A server takes its time for the first byte, then the connection is held. 2. `first_byte` is
///    at least the server's time and at most what the client saw; `session` at least the time it
///    was held; `connect` less than both.
#[test]
fn phases_are_as_long_as_what_they_measure() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        let began = Instant::now();
        let mut client = proxy.connect();
        let mut server = hand.take();
        let connected = Instant::now();
        peer::pass(&mut client, &mut server, b"question");
        kit::pause(Duration::from_millis(120));
        let server_took = connected.elapsed();
        peer::pass(&mut server, &mut client, b"answer");
        let client_saw = began.elapsed();
        kit::pause(Duration::from_millis(150));
        let held = connected.elapsed();
        drop((client, server));
        let stats = proxy.wait_stats("a session", |s| s.phase("session")["count"] == 1);
        let us = |phase| Duration::from_micros(point(stats.phase(phase), "max_us") as u64);
        // The histograms round within 1 %.
        let about = |time: Duration| time.mul_f64(0.99);
        assert!(us("first_byte") >= about(server_took), "{:?} {server_took:?}", us("first_byte"));
        assert!(about(us("first_byte")) <= client_saw, "{:?} {client_saw:?}", us("first_byte"));
        assert!(us("session") >= about(held), "{:?} {held:?}", us("session"));
        assert!(us("connect") <= us("first_byte"));
        let of_backend = point(stats.backend_phase(0, "first_byte"), "max_us");
        assert!(of_backend * 0.99 <= point(stats.phase("first_byte"), "max_us"));
    });
}

/// 1. A hundred sessions end. 2. A quarter of a second later, and often sooner, all are in the
///    histograms; counters are there at once.
#[test]
fn histograms_are_fresh_within_a_quarter_of_a_second() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        for _ in 0..100 {
            peer::echo(&mut proxy.connect(), b"hello");
        }
        proxy.wait_stats("all have ended", |s| s.ended_in_all() == 100);
        let ended = Instant::now();
        proxy.wait_stats("all are recorded", |s| s.phase("session")["count"] == 100);
        let took = ended.elapsed();
        // The contract's 250 ms, and generous room for a machine that is busy elsewhere.
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

/// 1. Connections are held on a backend, one is being dialed on another. 2. `connections_active`
///    counts both, `connections_total` the established ones.
#[test]
fn a_dial_is_active_but_not_yet_counted() {
    each_driver(|driver| {
        let (hand, hole) = (Hand::new(), kit::Blackhole::new());
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"\nconnect_timeout = \"25s\"")
            .backend(hand.address())
            .backend(hole.address)
            .start();
        let _held = [proxy.connect(), proxy.connect(), proxy.connect()];
        proxy.wait_stats("three in flight", |s| {
            let in_flight = [0, 1].map(|place| s.backend(place, "connections_active"));
            in_flight == [2, 1] && s.listener("connections_active") == 3
        });
        let stats = proxy.wait_stats("two established", |s| s.backend(0, "connections_total") == 2);
        assert_eq!(stats.backend(1, "connections_total"), 0);
    });
}
