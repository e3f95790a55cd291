//! Every order of ends, and the reason that is recorded.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    kit::{End, Hand, Proxy, Seed, each_driver, pause, peer, wait_until},
    pair, proxy_and_hand,
};

const SPLICE_LINES: [&str; 2] = ["splice = \"off\"", "splice = \"on\""];

/// The side that does something first, and what is recorded then.
#[derive(Clone, Copy)]
enum First {
    Client,
    Server,
}

impl First {
    const ALL: [First; 2] = [First::Client, First::Server];

    fn fin(self) -> &'static str {
        match self {
            First::Client => "client_fin",
            First::Server => "server_fin",
        }
    }

    fn reset(self) -> &'static str {
        match self {
            First::Client => "client_reset",
            First::Server => "server_reset",
        }
    }

    /// A new connection's ends: (first, second).
    fn pair(self, proxy: &Proxy, hand: &Hand) -> (TcpStream, TcpStream) {
        let (client, server) = pair(proxy, hand);
        match self {
            First::Client => (client, server),
            First::Server => (server, client),
        }
    }
}

/// 1. One side asks and ends its direction. 2. The other reads to that end, and only then answers
///    with 2 MiB and ends. 3. All of it arrives, the reason is the first FIN. 4. From either side,
///    on either path.
#[test]
fn data_flows_after_the_other_direction_ended() {
    each_driver(|driver| {
        for (first, line) in First::ALL.into_iter().flat_map(|f| SPLICE_LINES.map(|s| (f, s))) {
            let seed = Seed::new();
            let mut rng = seed.rng(0);
            let (proxy, hand) = proxy_and_hand(driver, line);
            let (mut one, mut other) = first.pair(&proxy, &hand);
            one.write_all(b"question").unwrap();
            peer::finish(&one);
            let asked = peer::read_to_end(&mut other);
            assert_eq!((asked.bytes, asked.end), (8, End::Fin));
            assert_eq!(asked.digest, peer::digest(b"question"));
            let answering = thread::spawn(move || {
                let digest = peer::write_ragged(&mut other, &mut rng, 2 << 20);
                peer::finish(&other);
                (digest, other)
            });
            let answer = peer::read_to_end(&mut one);
            assert_eq!((answer.bytes, answer.end), (2 << 20, End::Fin));
            assert_eq!(answer.digest, answering.join().unwrap().0);
            let stats = proxy.wait_ended_only(first.fin(), 1);
            assert_eq!(stats.listener("connections_active"), 0);
            assert_eq!(stats.backend(0, "connections_active"), 0);
        }
    });
}

/// 1. While the process stands still, the server ends its direction, then the client. 2. The proxy
///    learns both in one turn. 3. That counts as the client's.
#[test]
fn two_fins_in_one_turn_count_as_the_clients() {
    each_driver(|driver| {
        let (proxy, hand) = proxy_and_hand(driver, "");
        let (mut client, mut server) = pair(&proxy, &hand);
        peer::pass(&mut client, &mut server, b"there");
        peer::pass(&mut server, &mut client, b"here");
        proxy.stop();
        peer::finish(&server);
        peer::finish(&client);
        wait_until("both FINs at the proxy", || {
            [&client, &server].iter().all(|s| ringway::sock::unsent(s) == 0)
        });
        proxy.go_on();
        assert_eq!(peer::end_of(&mut client), End::Fin);
        assert_eq!(peer::end_of(&mut server), End::Fin);
        proxy.wait_ended_only("client_fin", 1);
    });
}

/// 1. One side sends 2 MiB, waits until the kernels have taken it, and resets; the other reads
///    slowly all the while. 2. The other gets every byte and then the reset. 3. Both directions,
///    both paths.
#[test]
fn what_was_sent_before_a_reset_is_delivered_first() {
    each_driver(|driver| {
        for (first, line) in First::ALL.into_iter().flat_map(|f| SPLICE_LINES.map(|s| (f, s))) {
            let seed = Seed::new();
            let mut rng = seed.rng(0);
            let (proxy, hand) = proxy_and_hand(driver, line);
            let (mut one, mut other) = first.pair(&proxy, &hand);
            let sending = thread::spawn(move || {
                let digest = peer::write_bulk(&mut one, &mut rng, 2 << 20);
                peer::reset_after_delivery(one);
                digest
            });
            let seen = peer::read_ragged(&mut other, &mut |_| {
                pause(Duration::from_millis(2));
                32 * 1024
            });
            assert_eq!((seen.bytes, seen.end), (2 << 20, End::Reset), "{} {line}", first.reset());
            assert_eq!(seen.digest, sending.join().unwrap());
            proxy.wait_ended_only(first.reset(), 1);
        }
    });
}

/// 1. While the process stands still, one side sends and resets: data and reset are learned
///    together. 2. The other gets the data, then the reset.
#[test]
fn data_and_reset_that_come_together_are_passed_on_in_order() {
    each_driver(|driver| {
        for (first, line) in First::ALL.into_iter().flat_map(|f| SPLICE_LINES.map(|s| (f, s))) {
            let (proxy, hand) = proxy_and_hand(driver, line);
            let (mut one, mut other) = first.pair(&proxy, &hand);
            peer::pass(&mut one, &mut other, b"settled");
            proxy.stop();
            let last_words = vec![b'x'; 50_000];
            one.write_all(&last_words).unwrap();
            peer::reset_after_delivery(one);
            proxy.go_on();
            let seen = peer::read_to_end(&mut other);
            assert_eq!((seen.bytes, seen.end), (50_000, End::Reset), "{} {line}", first.reset());
            assert_eq!(seen.digest, peer::digest(&last_words));
            proxy.wait_ended_only(first.reset(), 1);
        }
    });
}

/// 1. Both sides send at full speed and nobody reads; then one resets. 2. The other reads on and
///    learns of the reset. 3. The reason is that side's reset.
#[test]
fn a_reset_during_traffic_both_ways_is_passed_on() {
    each_driver(|driver| {
        for (first, line) in First::ALL.into_iter().flat_map(|f| SPLICE_LINES.map(|s| (f, s))) {
            let (proxy, hand) = proxy_and_hand(driver, line);
            let (mut one, mut other) = first.pair(&proxy, &hand);
            let seed = Seed::new();
            peer::write_until_full(&mut one, &mut seed.rng(0));
            peer::write_until_full(&mut other, &mut seed.rng(1));
            peer::reset(one);
            let seen = peer::read_to_end(&mut other);
            assert_eq!(seen.end, End::Reset);
            assert!(seen.bytes > 0);
            proxy.wait_ended_only(first.reset(), 1);
        }
    });
}

/// 1. One side ends its direction and the other reads that, and is silent. 2. Then one of them
///    resets. 3. The reset is the reason, although a FIN came first, and the other side gets it
///    long before `half_close_timeout`.
#[test]
fn a_reset_wins_over_an_earlier_fin() {
    each_driver(|driver| {
        for (first, resets_itself) in First::ALL.into_iter().flat_map(|f| [(f, true), (f, false)]) {
            let (proxy, hand) = proxy_and_hand(driver, "");
            let (one, mut other) = first.pair(&proxy, &hand);
            peer::finish(&one);
            assert_eq!(peer::end_of(&mut other), End::Fin);
            let second = match first {
                First::Client => First::Server,
                First::Server => First::Client,
            };
            let (resetting, mut left, reason) = match resets_itself {
                true => (one, other, first.reset()),
                false => (other, one, second.reset()),
            };
            peer::reset(resetting);
            let reset_at = Instant::now();
            proxy.wait_ended_only(reason, 1);
            let took = reset_at.elapsed();
            assert!(took < Duration::from_secs(12), "{reason}: {took:?}");
            match resets_itself {
                // It has read the FIN already, so writing tells.
                true => wait_until("a dead socket", || left.write_all(b"anybody?").is_err()),
                false => assert_eq!(peer::end_of(&mut left), End::Reset),
            }
        }
    });
}

/// 1. One side has closed altogether while the other goes on sending. 2. The sender learns it by a
///    reset. 3. What is recorded is the reset of the side that closed: its kernel sent one.
#[test]
fn sending_to_a_side_that_closed_is_a_reset_by_that_side() {
    each_driver(|driver| {
        for first in First::ALL {
            let (proxy, hand) = proxy_and_hand(driver, "");
            let (one, mut other) = first.pair(&proxy, &hand);
            drop(one);
            assert_eq!(peer::end_of(&mut other), End::Fin);
            wait_until("a broken connection", || other.write_all(b"hello?").is_err());
            proxy.wait_ended_only(first.reset(), 1);
        }
    });
}
