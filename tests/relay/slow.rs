//! Sides that do not read: what the proxy holds meanwhile, and for how long.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use socket2::SockRef;

use crate::{
    kit::{Config, End, Hand, Seed, each_driver, peer},
    pair, proxy_and_hand,
};

/// 1. A client asks for 32 MiB and does not read. 2. The proxy stops reading the server, with at
///    most one buffer and one pipe for each direction. 3. The client reads, and gets every byte.
#[test]
fn a_slow_reader_holds_the_sender_back_and_loses_nothing() {
    const BYTES: u64 = 32 << 20;
    each_driver(|driver| {
        for splice in ["off", "on", "auto"] {
            let seed = Seed::new();
            let mut rng = seed.rng(0);
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let (mut client, mut server) = pair(&proxy, &hand);
            let writer = thread::spawn(move || peer::write_bulk(&mut server, &mut rng, BYTES));
            let mut before = u64::MAX;
            let stalled = proxy.wait_stats("no byte moves", |s| {
                let now = s.listener("bytes_down_total");
                let held = s.held();
                let still = now > 0 && now == before && held > 0;
                before = now;
                still
            });
            assert!(stalled.listener("bytes_down_total") < BYTES);
            assert!(stalled.shards("buffers_in_use") <= 2, "{}", stalled.without_latency());
            // The kernel fills up to 32 before it hears that the receive is stopped, or twice that.
            assert!(stalled.shards("ring_buffers_in_use") <= 128, "{}", stalled.without_latency());
            assert!(stalled.shards("pipes_in_use") <= 2, "{}", stalled.without_latency());
            let seen = peer::read_to_end(&mut client);
            assert_eq!((seen.bytes, seen.end), (BYTES, End::Fin));
            assert_eq!(seen.digest, writer.join().unwrap());
        }
    });
}

/// 1. 320 clients ask and do not read; a shard has 256 buffers. 2. All buffers are lent, the rest
///    of the connections waits without one, and the metric says so; on the ring what came through
///    its own buffers is parked, and no byte moves. 3. Another client is served at once. 4. The
///    clients read: each gets exactly its bytes.
#[test]
fn more_stalled_clients_than_buffers_lose_nothing() {
    const CLIENTS: u64 = 320;
    const BYTES: u64 = 768 << 10;
    each_driver(|driver| {
        let seed = Seed::new();
        let (proxy, hand) = proxy_and_hand(driver, "splice = \"off\"");
        let start = |i: u64| {
            let client = peer::connect_narrow(proxy.edge[0], 8 * 1024);
            let (mut server, mut rng) = (hand.take(), seed.rng(i));
            let writer = thread::spawn(move || peer::write_bulk(&mut server, &mut rng, BYTES));
            (client, writer)
        };
        let stalled: Vec<_> = (0..CLIENTS).map(start).collect();
        let mut before = 0;
        proxy.wait_stats("all buffers lent, some directions without", |s| {
            let all_lent = s.shards("buffers_in_use") == s.shards("buffers_max")
                && s.shards("buffers_dry_total") >= CLIENTS - s.shards("buffers_max");
            let now = s.listener("bytes_down_total");
            let still = now > 0 && std::mem::replace(&mut before, now) == now;
            still && (all_lent || s.shards("parked_bytes") > 0)
        });
        let (mut client, mut server) = pair(&proxy, &hand);
        peer::pass(&mut client, &mut server, b"served without a buffer");
        peer::pass(&mut server, &mut client, b"both ways");
        for chunk in in_parts(stalled, 4) {
            chunk.join().unwrap();
        }
        drop((client, server));
        let stats = proxy.wait_stats("all have ended", |s| s.ended_in_all() == CLIENTS + 1);
        assert_eq!(stats.listener("bytes_down_total"), CLIENTS * BYTES + 9);
        assert_eq!(stats.shards("buffers_in_use"), 0);
    });
}

/// 1. 300 clients ask and do not read; their servers send small pieces, which the ring's buffers
///    are for, until sinks are full: what is held has left those buffers, which are free for others
///    (on epoll, which has no ring, until no buffer is left). 2. Another client is served at once.
///    3. The clients read: each gets exactly its bytes.
#[test]
fn more_stalled_clients_than_the_ring_has_buffers_leave_them_to_others() {
    const CLIENTS: u64 = 300;
    const PIECE: usize = 1024;
    each_driver(|driver| {
        let seed = Seed::new();
        let (proxy, hand) = proxy_and_hand(driver, "splice = \"off\"");
        let mut stalled: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let client = peer::connect_narrow(proxy.edge[0], 8 * 1024);
                (client, hand.take(), seed.rng(i), Sha256::new())
            })
            .collect();
        let mut bytes = 0;
        proxy.wait_stats("all sinks full", |s| {
            for (_, server, rng, hash) in &mut stalled {
                let mut piece = [0; PIECE];
                rng.fill(&mut piece);
                hash.update(piece);
                server.write_all(&piece).unwrap();
            }
            bytes += PIECE as u64;
            let parked = s.shards("parked_bytes") > 0;
            s.shards("buffers_dry_total") > 0 || parked && s.shards("ring_buffers_in_use") == 0
        });
        let (mut client, mut server) = pair(&proxy, &hand);
        peer::pass(&mut client, &mut server, b"served without a buffer");
        peer::pass(&mut server, &mut client, b"both ways");
        drop((client, server));
        for (mut client, server, _, hash) in stalled {
            peer::finish(&server);
            let seen = peer::read_to_end(&mut client);
            assert_eq!((seen.bytes, seen.digest, seen.end), (bytes, peer::hex(hash), End::Fin));
        }
        let stats = proxy.wait_stats("all have ended", |s| s.ended_in_all() == CLIENTS + 1);
        assert_eq!(stats.held(), 0, "{}", stats.without_latency());
    });
}

/// 1. A server is known to be near. 2. A client asks and does not read; the server sends as long as
///    somebody takes it. 3. Proxy and kernels together take little. 4. The client reads, and gets
///    every byte.
#[test]
fn a_client_that_does_not_read_holds_little() {
    each_driver(|driver| {
        for splice in ["off", "auto", "on"] {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let (mut first, mut its_server) = pair(&proxy, &hand);
            peer::pass(&mut first, &mut its_server, b"near");
            let mut client = peer::connect_narrow(proxy.edge[0], 8 * 1024);
            let mut server = hand.take();
            // What waits in its own kernel is not ours.
            SockRef::from(&server).set_send_buffer_size(16 * 1024).unwrap();
            let (bytes, digest) = peer::write_until_full(&mut server, &mut seed.rng(0));
            assert!(bytes < 1 << 20, "{splice}: {bytes} bytes are on their way");
            peer::finish(&server);
            let seen = peer::read_to_end(&mut client);
            assert_eq!((seen.bytes, seen.digest, seen.end), (bytes, digest, End::Fin));
        }
    });
}

type Stalled = (TcpStream, thread::JoinHandle<String>);

/// Reads all of them to the end, on a few threads.
fn in_parts(mut stalled: Vec<Stalled>, parts: usize) -> Vec<thread::JoinHandle<()>> {
    let each = stalled.len().div_ceil(parts);
    let mut threads = Vec::new();
    while !stalled.is_empty() {
        let part = stalled.split_off(stalled.len().saturating_sub(each));
        threads.push(thread::spawn(move || {
            for (mut client, writer) in part {
                let seen = peer::read_to_end(&mut client);
                assert_eq!((&seen.digest, seen.end), (&writer.join().unwrap(), End::Fin));
            }
        }));
    }
    threads
}

/// 1. A client sends until everything is full; the server reads nothing. 2. The client resets.
/// 3. The connection is over about five seconds later, and the server is reset. 4. The same from
///    the server's side.
#[test]
fn a_reset_towards_a_side_that_does_not_read_ends_in_time() {
    each_driver(|driver| {
        let cases = [(true, "on"), (true, "off"), (false, "on"), (false, "off")];
        thread::scope(|scope| {
            for (from_client, splice) in cases {
                scope.spawn(move || reset_towards_silence(driver, from_client, splice));
            }
        });
    });
}

fn reset_towards_silence(driver: &'static str, from_client: bool, splice: &str) {
    let seed = Seed::new();
    let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
    let (client, server) = pair(&proxy, &hand);
    let (mut one, mut other, reason) = match from_client {
        true => (client, server, "client_reset"),
        false => (server, client, "server_reset"),
    };
    peer::write_until_full(&mut one, &mut seed.rng(0));
    peer::reset(one);
    let reset_at = Instant::now();
    proxy.wait_ended_only(reason, 1);
    let took = reset_at.elapsed();
    assert!(took < Duration::from_secs(12), "{reason}, splice {splice}: {took:?}");
    assert_eq!(peer::read_to_end(&mut other).end, End::Reset);
}

/// 1. Both sides send until everything is full, and neither reads. 2. One resets; the other never
///    reads. 3. The connection is over about five seconds later, for that reason, and the backend
///    has none left. 4. From either side, on every path.
#[test]
fn a_reset_while_both_directions_are_full_ends_in_time() {
    each_driver(|driver| {
        thread::scope(|scope| {
            for from_client in [true, false] {
                for splice in ["off", "on", "auto"] {
                    scope.spawn(move || reset_while_full(driver, from_client, splice));
                }
            }
        });
    });
}

fn reset_while_full(driver: &'static str, from_client: bool, splice: &str) {
    let seed = Seed::new();
    let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
    let (client, server) = pair(&proxy, &hand);
    let (mut one, mut other, reason) = match from_client {
        true => (client, server, "client_reset"),
        false => (server, client, "server_reset"),
    };
    peer::write_until_full(&mut one, &mut seed.rng(0));
    peer::write_until_full(&mut other, &mut seed.rng(1));
    peer::reset(one);
    let reset_at = Instant::now();
    let stats = proxy.wait_ended_only(reason, 1);
    let took = reset_at.elapsed();
    assert!(took < Duration::from_secs(12), "{reason}, splice {splice}: {took:?}");
    assert_eq!(stats.listener("connections_active"), 0);
    assert_eq!(stats.backend(0, "connections_active"), 0);
    assert_eq!(peer::read_to_end(&mut other).end, End::Reset);
}

/// 1. A client sends a little to a server that takes in less, and resets: all of it has left the
///    proxy's hands. 2. Five seconds later the connection is over all the same.
#[test]
fn a_reset_behind_a_full_send_queue_ends_in_time() {
    each_driver(|driver| {
        let hand = Hand::narrow(4 * 1024);
        let proxy = Config::new(driver).backend(hand.address()).start();
        let (mut client, mut server) = pair(&proxy, &hand);
        client.write_all(&[5; 20_000]).unwrap();
        peer::reset_after_delivery(client);
        let reset_at = Instant::now();
        proxy.wait_ended_only("client_reset", 1);
        let took = reset_at.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_eq!(peer::read_to_end(&mut server).end, End::Reset);
    });
}

/// 1. Both sides send until everything is full, and neither reads. 2. Both read: every byte
///    arrives.
#[test]
fn both_directions_blocked_at_once_recover() {
    each_driver(|driver| {
        for splice in ["off", "on"] {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let (mut client, mut server) = pair(&proxy, &hand);
            let up = peer::write_until_full(&mut client, &mut seed.rng(0));
            let down = peer::write_until_full(&mut server, &mut seed.rng(1));
            peer::finish(&client);
            peer::finish(&server);
            let reading = thread::spawn(move || peer::read_to_end(&mut server));
            let at_client = peer::read_to_end(&mut client);
            let at_server = reading.join().unwrap();
            assert_eq!((at_server.bytes, at_server.digest, at_server.end), (up.0, up.1, End::Fin));
            assert_eq!(
                (at_client.bytes, at_client.digest, at_client.end),
                (down.0, down.1, End::Fin)
            );
        }
    });
}
