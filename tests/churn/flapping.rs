//! Backends that come and go, or are gone for good, while clients connect all the time.

use std::time::Duration;

use crate::kit::{Config, Proxy, Refusing, Server, Stats, Steady, each_driver, let_pass};

/// Clients that connect at the same time.
const CLIENTS: usize = 4;

/// How long the flapping backend is there, and how long it is not.
const FLAP: Duration = Duration::from_millis(200);

/// Times that it comes and goes.
const FLAPS: usize = 10;

/// Checks and outliers that see everything in time to do the wrong thing.
const HEALTH: &str = "interval = \"50ms\"\nhealthy_after = 1\nunhealthy_after = 2\n\
                      [pool.outlier]\nconsecutive_failures = 2\nejection = \"100ms\"\n";

fn start(driver: &'static str, backends: &[std::net::SocketAddr]) -> Proxy {
    let config = Config::new(driver).shards(2).health(HEALTH);
    backends.iter().fold(config, |config, address| config.backend(*address)).start()
}

fn clients(proxy: &Proxy) -> Vec<Steady> {
    (0..CLIENTS).map(|_| Steady::start(proxy.edge[0])).collect()
}

/// Ends them: how many connections were not served.
fn failed(clients: Vec<Steady>) -> u64 {
    clients.into_iter().map(|client| client.stop().len() as u64).sum()
}

/// Connections that reached that backend and got nothing from it.
fn cut(stats: &Stats, backend: usize) -> u64 {
    let of = |cause| stats.failures(backend, cause);
    of("reset_before_first_byte") + of("closed_before_first_byte")
}

/// 1. One of four backends comes and goes all the time, and clients connect all the time. 2. The
///    three others are never left out, and nobody fails with them. 3. Who was not served was with
///    the fourth when it closed; everybody else was served, also those whose dial was refused.
#[test]
fn a_backend_that_comes_and_goes_takes_nobody_along_who_is_not_with_it() {
    each_driver(|driver| {
        let steady = [b'a', b'b', b'c'].map(Server::named);
        let flapping = Refusing::new();
        let mut addresses: Vec<_> = steady.iter().map(|server| server.address).collect();
        addresses.push(flapping.address);
        let proxy = start(driver, &addresses);
        let clients = clients(&proxy);
        let mut reached = 0;
        for _ in 0..FLAPS {
            let there = Server::named_at(flapping.address, b'd');
            let_pass(FLAP);
            reached += there.accepted();
            drop(there);
            let stats = proxy.stats();
            assert!((0..3).all(|b| stats.state(b) == "healthy"), "{}", stats.without_latency());
            let_pass(FLAP);
        }
        assert!(reached > 0, "nobody ever came to the one that flaps");
        let failed = failed(clients);
        let stats = proxy.wait_stats("all have ended", |s| s.listener("connections_active") == 0);
        assert_eq!(failed, cut(&stats, 3), "{}", stats.without_latency());
        assert_eq!([0, 1, 2].map(|b| (cut(&stats, b), stats.failures(b, "refused"))), [(0, 0); 3]);
        assert!(stats.failures(3, "refused") > 0, "{}", stats.without_latency());
        let served = stats.listener("accepted_total") - failed;
        assert_eq!(stats.ended("client_fin"), served, "{}", stats.without_latency());
    });
}

/// 1. Two of three backends are dead, and clients connect all the time. 2. Whatever checks,
///    outliers and panic make of it, everybody is served by the third.
#[test]
fn with_two_of_three_backends_dead_nobody_fails() {
    each_driver(|driver| {
        let (one, two, well) = (Refusing::new(), Refusing::new(), Server::named(b'c'));
        let proxy = start(driver, &[one.address, two.address, well.address]);
        let clients = clients(&proxy);
        proxy.wait_stats("panic", |s| s.0["pools"][0]["panic"] == true);
        clients.iter().for_each(|client| client.more(200));
        assert_eq!(failed(clients), 0);
        let accepted = proxy.stats().listener("accepted_total");
        proxy.wait_ended_only("client_fin", accepted);
        assert!(well.accepted() >= accepted, "checks come on top");
    });
}
