//! Panic forgives opinions, not facts.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use crate::{
    ask_who,
    asked::Asked,
    kit::{Blackhole, Config, End, Refusing, Server, Stats, Tool, each_driver, peer},
    who_answers,
};

const CHECKS: &str = "interval = \"100ms\"\ntimeout = \"300ms\"\nhealthy_after = 1";

fn panics(stats: &Stats) -> bool {
    stats.0["pools"][0]["panic"] == true
}

/// Who is in a pool beside the living, and how it does not answer.
enum Dead {
    Refusing(Vec<Refusing>),
    Silent(Vec<Blackhole>),
}

impl Dead {
    fn each(count: usize) -> [Dead; 2] {
        let refusing = (0..count).map(|_| Refusing::new()).collect();
        let silent = (0..count).map(|_| Blackhole::new()).collect();
        [Dead::Refusing(refusing), Dead::Silent(silent)]
    }

    fn word(&self) -> &'static str {
        match self {
            Dead::Refusing(_) => "refusing",
            Dead::Silent(_) => "silent",
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Dead::Refusing(dead) => dead.iter().map(|dead| dead.address).collect(),
            Dead::Silent(dead) => dead.iter().map(|dead| dead.address).collect(),
        }
    }
}

/// 1. A few of many servers are alive, the others refuse or are silent; the checks know. 2. Nobody
///    fails, and no dead one is dialed, under each way to balance.
#[test]
fn with_few_alive_nobody_is_sent_to_the_dead() {
    each_driver(|driver| {
        for (alive, all) in [(5, 20), (1, 20), (4, 5)] {
            let live: Vec<Server> = (0..alive).map(|_| Server::named(b'l')).collect();
            for dead in Dead::each(all - alive) {
                let balance = ["least_connections", "round_robin", "maglev"][alive % 3];
                let pool = format!("balance = \"{balance}\"");
                let mut config = Config::new(driver).shards(2).pool(&pool).health(CHECKS);
                for address in dead.addresses() {
                    config = config.backend(address);
                }
                for server in &live {
                    config = config.backend(server.address);
                }
                let proxy = config.start();
                let out = |s: &Stats| (0..all).filter(|i| s.state(*i) == "unhealthy").count();
                proxy.wait_stats("the checks know", |s| out(s) == all - alive);
                let failures = |s: &Stats| -> u64 {
                    let of = |i| s.failures(i, "refused") + s.failures(i, "timeout");
                    (0..all).map(of).sum()
                };
                let before = proxy.stats();
                assert_eq!(panics(&before), all == 20);
                let held: Vec<_> = (0..100).map(|_| who_answers(&proxy)).collect();
                let asked = Asked::of(&proxy, 300);
                eprintln!("{driver}, {alive} of {all} live, {}, {balance}: {asked}", dead.word());
                assert_eq!(asked.failed, 0, "{alive} of {all}");
                assert_eq!(failures(&proxy.stats()), failures(&before), "{alive} of {all}");
                drop(held);
            }
        }
    });
}

/// 1. Of three servers two answer their checks with 503, and clients well. 2. That is an opinion:
///    in panic they are used too.
#[test]
fn an_opinion_is_forgiven() {
    each_driver(|driver| {
        let (a, b, c) = (Server::named(b'a'), Server::named(b'b'), Tool::http());
        let proxy = Config::new(driver)
            .health(&format!("kind = \"http\"\n{CHECKS}"))
            .pool("balance = \"round_robin\"")
            .backend(a.address)
            .backend(b.address)
            .backend(c.address)
            .start();
        proxy.wait_stats("panic", panics);
        let seen: Vec<char> = (0..20)
            .filter_map(|_| {
                let mut client = proxy.connect();
                let _ = client.write_all(b"GET / HTTP/1.0\r\n\r\n");
                let mut first = [0];
                client.read_exact(&mut first).ok().map(|()| char::from(first[0]))
            })
            .collect();
        assert!(seen.contains(&'a') && seen.contains(&'b') && seen.contains(&'H'), "{seen:?}");
    });
}

/// 1. All are dead, and the checks know. 2. Somebody has to be asked: they are dialed all the same,
///    and one that is back serves at once, before a check has found out.
#[test]
fn where_all_are_dead_they_are_asked_last_and_asked_all_the_same() {
    each_driver(|driver| {
        let (one, two) = (Refusing::new(), Refusing::new());
        let proxy = Config::new(driver)
            .health("interval = \"10m\"\ntimeout = \"300ms\"")
            .backend(one.address)
            .backend(two.address)
            .start();
        proxy.wait_stats("both out", |s| (0..2).all(|i| s.state(i) == "unhealthy"));
        assert_eq!(proxy.turns_away(), End::Reset);
        let _back = Server::named_at(two.address, b'b');
        assert_eq!(ask_who(&proxy), 'b');
    });
}

/// 1. Sessions run when their server's check fails. 2. With `on_unhealthy = "cut"` they are ended,
///    for that reason, and those of another server go on; with "leave" all go on.
#[test]
fn sessions_of_a_server_whose_check_fails_are_cut_where_that_is_asked_for() {
    each_driver(|driver| {
        for (word, cut) in [("cut", true), ("leave", false)] {
            let (a, b) = (Server::echo(), Server::echo());
            let proxy = Config::new(driver)
                .shards(2)
                .pool(&format!("balance = \"round_robin\"\non_unhealthy = \"{word}\""))
                .health(CHECKS)
                .backend(a.address)
                .backend(b.address)
                .start();
            let mut clients: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
            clients.iter_mut().for_each(|client| peer::echo(client, b"here"));
            let on_a = proxy.stats().backend(0, "connections_active");
            assert!(on_a > 0);
            // It listens no more; what it has goes on.
            drop(a);
            proxy.wait_stats("it is out", |s| s.state(0) == "unhealthy");
            if cut {
                proxy.wait_stats("its sessions are cut", |s| {
                    s.ended("backend_unhealthy") == on_a && s.backend(0, "connections_active") == 0
                });
            }
            let mut alive = 0;
            for client in &mut clients {
                let _ = client.write_all(b"!");
                alive += u64::from(peer::answers(client));
            }
            assert_eq!(alive, if cut { 8 - on_a } else { 8 });
        }
    });
}
