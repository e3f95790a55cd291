//! What happens when backends have enough, or do not answer: limits and budgets.

use std::{io::Read, sync::Mutex};

use crate::kit::{Blackhole, Config, End, Server, each_driver, peer};

/// 1. Two backends with room for two each, and a fallback with room for one. 2. Five clients stay:
///    the fallback has the fifth. 3. The sixth is reset as overload, and counted as refused by the
///    backends' limits. 4. One leaves; the next is served.
#[test]
fn full_backends_are_passed_over_until_all_are_full() {
    each_driver(|driver| {
        let servers = [b'a', b'b', b'c'].map(Server::named);
        let proxy = Config::new(driver)
            .backend_with(servers[0].address, "max_connections = 2\n")
            .backend_with(servers[1].address, "max_connections = 2\n")
            .backend_with(servers[2].address, "max_connections = 1\npriority = 1\n")
            .start();
        let mut held: Vec<_> = (0..5).map(|_| crate::who_answers(&proxy)).collect();
        let mut names: String = held.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.pop(), Some('c'));
        assert_eq!(proxy.turns_away(), End::Reset);
        let stats = proxy.wait_ended_only("overload", 1);
        assert_eq!(stats.refused("backend_max_connections"), 1);
        drop(held.remove(0));
        proxy.wait_stats("one has left", |s| s.listener("connections_active") == 4);
        held.push(crate::who_answers(&proxy));
        assert_ne!(held[4].0, 'c');
    });
}

/// 1. Two shards, one backend with room for ten, forty clients at once. 2. Never more than ten are
///    there; every other one is reset.
#[test]
fn a_limit_is_never_exceeded_by_shards_that_pick_at_once() {
    each_driver(|driver| {
        let server = Server::named(b'a');
        let proxy = Config::new(driver)
            .shards(2)
            .backend_with(server.address, "max_connections = 10\n")
            .start();
        let held = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    let mut client = proxy.connect();
                    if client.read_exact(&mut [0]).is_ok() {
                        held.lock().unwrap().push(client);
                    }
                });
            }
        });
        let held = held.into_inner().unwrap();
        let served = held.len();
        let stats = proxy.stats();
        assert_eq!(stats.backend(0, "connections_active"), served as u64);
        assert!((1..=10).contains(&served), "{served}");
        assert_eq!(stats.refused("backend_max_connections"), 40 - served as u64);
        assert_eq!(server.accepted(), served as u64);
    });
}

/// 1. Three backends answer no dial; three attempts are allowed. 2. A hundred clients come at once.
///    3. Only a fifth of them, and the thirty that ten seconds give for free, are tried again.
#[test]
fn the_retry_budget_keeps_a_dead_pool_from_multiplying_its_load() {
    each_driver(|driver| {
        let holes = [Blackhole::new(), Blackhole::new(), Blackhole::new()];
        let base = Config::new(driver).pool("connect_timeout = \"300ms\"");
        let proxy = holes.iter().fold(base, |config, hole| config.backend(hole.address)).start();
        let clients: Vec<_> = (0..100).map(|_| proxy.connect()).collect();
        for mut client in clients {
            assert_eq!(peer::end_of(&mut client), End::Reset);
        }
        let stats = proxy.wait_ended_only("connect_timeout", 100);
        let dials: u64 = (0..3).map(|backend| stats.failures(backend, "timeout")).sum();
        let pool = &stats.0["pools"][0];
        let (retries, denied) = (&pool["retries_total"], &pool["retries_denied_total"]);
        assert_eq!(retries.as_u64(), Some(dials - 100));
        assert!(dials - 100 <= 50, "{dials} dials for 100 clients");
        assert!(denied.as_u64() >= Some(50), "{denied}");
    });
}

/// 1. One attempt is allowed, and the only backend answers no dial. 2. Nothing is tried again, so
///    nothing is counted as tried again.
#[test]
fn a_last_attempt_spends_no_budget() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let proxy = Config::new(driver)
            .pool("connect_timeout = \"100ms\"\nmax_attempts = 1")
            .backend(hole.address)
            .start();
        for _ in 0..5 {
            assert_eq!(proxy.turns_away(), End::Reset);
        }
        let stats = proxy.wait_ended_only("connect_timeout", 5);
        let pool = &stats.0["pools"][0];
        assert_eq!((&pool["retries_total"], &pool["retries_denied_total"]), (&0.into(), &0.into()));
    });
}
