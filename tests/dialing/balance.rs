//! Who gets how many.

use std::{
    collections::BTreeMap,
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use ringway::config::{Balance, Word};

use crate::{
    ask_who,
    kit::{Config, Proxy, Server, each_driver, pause, peer},
    who_answers,
};

fn three() -> [Server; 3] {
    [b'a', b'b', b'c'].map(Server::named)
}

fn config(driver: &'static str, balance: &str, servers: &[Server], weights: &[u32]) -> Config {
    let config = Config::new(driver).pool(&format!("balance = \"{balance}\""));
    servers.iter().zip(weights).fold(config, |config, (server, weight)| {
        config.backend_with(server.address, &format!("weight = {weight}\n"))
    })
}

/// The name of the one that answers the client 127.0.0.`client`.
fn ask_who_from(client: u8, proxy: &Proxy) -> char {
    let mut stream = peer::connect_from([127, 0, 0, client].into(), proxy.address_of("edge"));
    let mut name = [0];
    stream.read_exact(&mut name).unwrap();
    char::from(name[0])
}

fn counts(names: impl Iterator<Item = char>) -> BTreeMap<char, u32> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}

/// 1. Weights 5, 1, 1 on one shard. 2. Fourteen connections go `a a b a c a a`, twice.
#[test]
fn weighted_round_robin_is_smooth() {
    each_driver(|driver| {
        let servers = three();
        let proxy = config(driver, "weighted_round_robin", &servers, &[5, 1, 1]).start();
        let order: String = (0..14).map(|_| ask_who(&proxy)).collect();
        assert_eq!(order, "aabacaa".repeat(2));
    });
}

/// 1. Thirty connections over three backends. 2. Ten each, in turn.
#[test]
fn round_robin_goes_round() {
    each_driver(|driver| {
        let servers = three();
        let proxy = config(driver, "round_robin", &servers, &[1, 1, 1]).start();
        let order: String = (0..30).map(|_| ask_who(&proxy)).collect();
        assert_eq!(order, "abc".repeat(10));
    });
}

/// 1. Thirty-one clients stay. 2. The backends' loads differ by at most one. 3. Those of one
///    backend leave; the next ones all go there until it is level again.
#[test]
fn least_connections_levels_what_is_held() {
    each_driver(|driver| {
        let servers = three();
        let proxy = config(driver, "least_connections", &servers, &[1, 1, 1]).start();
        let mut held: Vec<(char, TcpStream)> = (0..31).map(|_| who_answers(&proxy)).collect();
        let loads = counts(held.iter().map(|(name, _)| *name));
        assert!(loads.values().all(|load| (10..=11).contains(load)), "{loads:?}");
        held.retain(|(name, _)| *name != 'b');
        proxy.wait_stats("b is empty", |s| s.backend(1, "connections_active") == 0);
        let next: String = (0..10)
            .map(|_| {
                let (name, client) = who_answers(&proxy);
                held.push((name, client));
                name
            })
            .collect();
        assert_eq!(next, "b".repeat(10));
    });
}

/// 1. Forty clients stay, weights 1 and 3. 2. The loads are as the weights.
#[test]
fn least_connections_respects_weights() {
    each_driver(|driver| {
        let servers = three();
        let proxy = config(driver, "least_connections", &servers[..2], &[1, 3]).start();
        let held: Vec<_> = (0..40).map(|_| who_answers(&proxy)).collect();
        let loads = counts(held.iter().map(|(name, _)| *name));
        assert!((29..=31).contains(&loads[&'b']), "{loads:?}");
    });
}

/// 1. 600 connections, weights 3, 2, 1. 2. About 300, 200 and 100: six standard deviations are
///    allowed, so one run in 500 million fails by chance.
#[test]
fn random_follows_weights() {
    each_driver(|driver| {
        let servers = three();
        let proxy = config(driver, "random", &servers, &[3, 2, 1]).start();
        let got = counts((0..600).map(|_| ask_who(&proxy)));
        for (name, expected, deviation) in [('a', 300, 12.3), ('b', 200, 11.6), ('c', 100, 9.2)] {
            let off = f64::from(got[&name]) - f64::from(expected);
            assert!(off.abs() < 6.0 * deviation, "{got:?}");
        }
    });
}

/// 1. A backend of weight 0, under every strategy. 2. It gets nothing.
#[test]
fn weight_0_gets_nothing() {
    each_driver(|driver| {
        for (balance, _) in Balance::WORDS {
            let servers = three();
            let proxy = config(driver, balance, &servers, &[1, 0, 1]).start();
            let got = counts((1..41).map(|client| ask_who_from(client, &proxy)));
            assert_eq!(got.values().sum::<u32>(), 40);
            assert_eq!(servers[1].accepted(), 0, "{balance}");
            assert!(servers[0].accepted() > 0 && servers[2].accepted() > 0, "{balance}");
        }
    });
}

/// 1. Two shards, five backends, forty clients with addresses of their own. 2. Each comes back to
///    the same backend, on whatever shard, and all backends are used. 3. One backend dies: its
///    clients go elsewhere, all to a place of their own again, and nobody else moves.
#[test]
fn maglev_keeps_a_client_with_its_backend() {
    each_driver(|driver| {
        let mut servers: Vec<Server> = (b'a'..=b'e').map(Server::named).collect();
        let base = Config::new(driver).shards(2).pool("balance = \"maglev\"");
        let proxy = servers.iter().fold(base, |config, s| config.backend(s.address)).start();
        let ask_all = || (1..=40).map(|client| ask_who_from(client, &proxy)).collect::<String>();
        let first = ask_all();
        assert_eq!([ask_all(), ask_all()], [first.clone(), first.clone()]);
        assert_eq!(counts(first.chars()).len(), 5, "{first}");
        drop(servers.remove(0));
        let second = ask_all();
        assert_eq!([ask_all(), ask_all()], [second.clone(), second.clone()]);
        for (before, after) in first.chars().zip(second.chars()) {
            assert!(after != 'a' && (before == 'a' || before == after), "{first} {second}");
        }
    });
}

/// 1. Two backends answer at once, one after 50 ms; nobody has anything in flight. 2. After one
///    answer of each the slow one gets next to nothing, but where the others were as slow since,
///    because the machine is busy elsewhere.
#[test]
fn peak_ewma_avoids_who_answers_late() {
    const LATE: Duration = Duration::from_millis(50);
    each_driver(|driver| {
        let slow = Server::new(|mut stream| {
            pause(LATE);
            let _ = std::io::Write::write_all(&mut stream, b"s");
        });
        let (a, b) = (Server::named(b'a'), Server::named(b'b'));
        let servers = [slow, a, b];
        let proxy = config(driver, "peak_ewma", &servers, &[1, 1, 1]).start();
        let (mut slowest, mut without_reason, mut fast) = (Duration::ZERO, 0, 0);
        for _ in 0..100 {
            let began = Instant::now();
            match ask_who(&proxy) {
                's' if slowest < LATE / 5 => without_reason += 1,
                's' => slowest = Duration::ZERO,
                _ => {
                    slowest = slowest.max(began.elapsed());
                    fast += 1;
                }
            }
            // Connections in flight count too, and may end late.
            proxy.wait_stats("nothing in flight", |s| s.listener("connections_active") == 0);
        }
        assert!(without_reason <= 3, "{without_reason} times, {fast} went to the others");
        assert!(fast > 30, "only {fast} of 100 went to the others");
    });
}

/// 1. 64 clients stay, one shard, least connections. 2. One pick was looked at and had no error:
///    one shard alone sees everything.
#[test]
fn the_error_of_least_connections_is_published() {
    each_driver(|driver| {
        let servers = three();
        let proxy = config(driver, "least_connections", &servers, &[1, 1, 1]).start();
        let _held: Vec<_> = (0..64).map(|_| who_answers(&proxy)).collect();
        let shard = &proxy.stats().0["shards"][0];
        assert_eq!(shard["pick_samples_total"], 1);
        assert_eq!((&shard["pick_error_mean"], &shard["pick_error_max"]), (&0.0.into(), &0.into()));
    });
}
