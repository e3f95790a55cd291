//! What one peer does, and what others get for it.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    ask_who,
    kit::{Blackhole, Config, Proxy, Server, Stats, each_driver, peer, wait_until},
    who_answers,
};

/// A server that hangs up on everybody who says something.
fn rude() -> Server {
    Server::new(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
    })
}

/// Says half of something from an address, and waits for the end.
fn ask_from(proxy: &Proxy, last: u8) {
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let mut client = peer::connect_from(from, proxy.edge[0]);
    let _ = client.write_all(b"GET /");
    let _ = client.read(&mut [0; 1]);
}

fn ejections(stats: &Stats) -> u64 {
    stats.backend(0, "ejections_total")
}

/// 1. Twenty clients send half a request, and the server hangs up on each. 2. That is counted, and
///    the server stays in.
#[test]
fn clients_do_not_eject_a_server() {
    each_driver(|driver| {
        let (a, b) = (rude(), Server::echo());
        let health = "kind = \"none\"\n[pool.outlier]\nconsecutive_failures = 2";
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"")
            .health(health)
            .backend(a.address)
            .backend(b.address)
            .start();
        for _ in 0..20 {
            ask_from(&proxy, 1);
            peer::echo(&mut proxy.connect(), b"!");
        }
        let seen = proxy.wait_stats("all counted", |s| {
            s.failures(0, "closed_before_first_byte") + s.failures(1, "closed_before_first_byte")
                >= 10
        });
        assert_eq!((seen.state(0), ejections(&seen)), ("healthy", 0));
    });
}

/// 1. Early ends count here, of three client addresses. 2. One address meets many: the server stays
///    in. 3. Two others meet one each: it is out.
#[test]
fn early_ends_count_once_several_addresses_met_them() {
    each_driver(|driver| {
        let (a, b) = (rude(), rude());
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"")
            .health(
                "kind = \"none\"\n[pool.outlier]\ncount = [\"reset\", \"closed\"]\n\
                 consecutive_failures = 2\nejection = \"10m\"",
            )
            .backend(a.address)
            .backend(b.address)
            .start();
        (0..20).for_each(|_| ask_from(&proxy, 1));
        let seen =
            proxy.wait_stats("all counted", |s| s.failures(0, "closed_before_first_byte") >= 10);
        assert_eq!(ejections(&seen) + seen.backend(1, "ejections_total"), 0);
        (0..2).for_each(|_| ask_from(&proxy, 2));
        (0..2).for_each(|_| ask_from(&proxy, 3));
        proxy.wait_stats("one is out", |s| {
            (0..2).any(|backend| s.backend(backend, "ejections_total") == 1)
        });
        wait_until("the reason in the log", || {
            proxy.stderr().contains("failures in a row, out for 600s (ends before a byte)")
        });
    });
}

/// 1. A dial waits for a silent server; its client leaves with a reset. 2. That is the client's
///    end, and no failure of the server.
#[test]
fn a_client_that_leaves_during_a_dial_is_no_failure_of_the_server() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let proxy =
            Config::new(driver).pool("connect_timeout = \"10m\"").backend(hole.address).start();
        let client = proxy.connect();
        proxy.wait_stats("a dial in flight", |s| s.backend(0, "connections_active") == 1);
        peer::reset(client);
        let seen = proxy.wait_ended_only("client_reset", 1);
        let failures = seen.0["pools"][0]["backends"][0]["failures_total"].as_object().unwrap();
        assert!(failures.values().all(|count| *count == 0), "{failures:?}");
        // Nobody would be dialed at once if it were suspected of anything.
        let streams = hole.open();
        let _client = proxy.connect();
        drop(streams.recv_timeout(crate::kit::DEADLINE).unwrap());
    });
}

/// 1. Of two servers one takes each connection and hangs up at once; the other one keeps its own.
///    2. Two hundred clients come and stay: the first one has nothing in flight, and yet by far the
///    most go to the other one.
#[test]
fn who_hangs_up_at_once_is_not_the_emptiest() {
    each_driver(|driver| {
        let (bad, good) = (Server::new(drop), Server::named(b'g'));
        for balance in ["least_connections", "p2c"] {
            let proxy = Config::new(driver)
                .pool(&format!("balance = \"{balance}\""))
                .backend(bad.address)
                .backend(good.address)
                .start();
            let mut held = Vec::new();
            for _ in 0..200 {
                let mut client = proxy.connect();
                if peer::answers(&mut client) {
                    held.push(client);
                }
            }
            assert!(held.len() >= 120, "{balance}: {} of 200 were served", held.len());
        }
    });
}

/// 1. A server hangs up at once, again and again, and then is well. 2. It is used again: its first
///    answer clears it.
#[test]
fn who_answers_again_is_forgiven() {
    each_driver(|driver| {
        let answers = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = std::sync::Arc::clone(&answers);
        let moody = Server::new(move |mut stream| {
            if told.load(std::sync::atomic::Ordering::SeqCst) {
                let _ = stream.write_all(b"m");
                let _ = stream.read(&mut [0]);
            }
        });
        let good = Server::named(b'g');
        let proxy = Config::new(driver).backend(moody.address).backend(good.address).start();
        for _ in 0..20 {
            let _ = peer::answers(&mut proxy.connect());
        }
        answers.store(true, std::sync::atomic::Ordering::SeqCst);
        wait_until("it is asked again", || ask_who(&proxy) == 'm');
        let held: Vec<_> = (0..40).map(|_| who_answers(&proxy)).collect();
        let moody = held.iter().filter(|(name, _)| *name == 'm').count();
        assert!((15..=25).contains(&moody), "{moody} of 40");
    });
}
