//! What goes in comes out, and is counted.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    kit::{Config, End, Hand, Proxy, Seed, Seen, each_driver, peer},
    pair, proxy_and_hand,
};

const CONNECTIONS: u64 = 4;
const BYTES: u64 = 3 << 20;

/// One end writes and reads ragged streams at once; what it wrote and what it saw.
fn both_ways(mut stream: TcpStream, mut rng: fastrand::Rng) -> (String, Seen) {
    let mut writing = stream.try_clone().unwrap();
    let mut reading_rng = rng.fork();
    let writer = thread::spawn(move || {
        let digest = peer::write_ragged(&mut writing, &mut rng, BYTES);
        peer::finish(&writing);
        digest
    });
    let seen = peer::read_ragged(&mut stream, &mut |_| {
        if reading_rng.u8(..) < 4 {
            crate::kit::pause(Duration::from_micros(reading_rng.u64(0..3_000)));
        }
        reading_rng.usize(1..=150_000)
    });
    (writer.join().unwrap(), seen)
}

fn ragged_streams(proxy: &Proxy, hand: &Hand, seed: &Seed) {
    let ends: Vec<_> = (0..CONNECTIONS)
        .flat_map(|i| {
            let (client, server) = pair(proxy, hand);
            let (one, other) = (seed.rng(2 * i), seed.rng(2 * i + 1));
            [
                thread::spawn(move || both_ways(client, one)),
                thread::spawn(move || both_ways(server, other)),
            ]
        })
        .collect();
    let told: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    for ends in told.chunks_exact(2) {
        let [(client_wrote, client_saw), (server_wrote, server_saw)] = ends else { unreachable!() };
        assert_eq!((server_saw.bytes, server_saw.end), (BYTES, End::Fin));
        assert_eq!((client_saw.bytes, client_saw.end), (BYTES, End::Fin));
        assert_eq!(&server_saw.digest, client_wrote);
        assert_eq!(&client_saw.digest, server_wrote);
    }
    let stats =
        proxy.wait_stats("all have ended", |s| s.ended_in_all() == s.listener("accepted_total"));
    assert_eq!(stats.listener("bytes_up_total"), CONNECTIONS * BYTES);
    assert_eq!(stats.listener("bytes_down_total"), CONNECTIONS * BYTES);
    assert_eq!(stats.backend(0, "bytes_up_total"), CONNECTIONS * BYTES);
    assert_eq!(stats.backend(0, "bytes_down_total"), CONNECTIONS * BYTES);
    let on_paths = stats.listener("bytes_copied_total") + stats.listener("bytes_spliced_total");
    assert_eq!(on_paths, 2 * CONNECTIONS * BYTES);
}

/// 1. Four connections carry random bytes both ways at once, written and read in pieces of random
///    size with pauses. 2. Each end's digest is what the other wrote. 3. Every byte is counted
///    once. 4. The same with splicing on and off.
#[test]
fn bytes_are_exact_both_ways_at_once_on_every_path() {
    each_driver(|driver| {
        for splice in ["off", "on", "auto"] {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            ragged_streams(&proxy, &hand, &seed);
            let spliced = proxy.stats().listener("bytes_spliced_total");
            match splice {
                "off" => assert_eq!(spliced, 0),
                "on" => assert!(spliced > 0),
                _ => {}
            }
        }
    });
}

/// The same as a user without privileges, whose pipes the kernel may refuse.
#[test]
fn bytes_are_exact_for_a_user_without_privileges() {
    each_driver(|driver| {
        for splice in ["on", "auto", "off"] {
            let seed = Seed::new();
            let hand = Hand::new();
            let proxy = Config::new(driver)
                .listener(&format!("splice = \"{splice}\""))
                .backend(hand.address())
                .start_as_nobody();
            ragged_streams(&proxy, &hand, &seed);
        }
    });
}

/// 1. A thousand messages of 128 bytes go up and down. 2. None of them went through a pipe.
#[test]
fn small_messages_are_never_spliced() {
    each_driver(|driver| {
        let (proxy, hand) = proxy_and_hand(driver, "splice = \"auto\"");
        let (mut client, mut server) = pair(&proxy, &hand);
        for i in 0..1_000u32 {
            let message = [i.to_le_bytes(); 32].concat();
            peer::pass(&mut client, &mut server, &message);
            peer::pass(&mut server, &mut client, &message);
        }
        drop(client);
        assert_eq!(peer::end_of(&mut server), End::Fin);
        drop(server);
        let stats = proxy.wait_ended_only("client_fin", 1);
        assert_eq!(stats.listener("bytes_copied_total"), 256_000);
        assert_eq!(stats.listener("bytes_spliced_total"), 0);
        assert_eq!(stats.shards("pipes_open"), 0, "nobody needed a pipe");
    });
}

/// 1. 64 MiB go down at full speed. 2. They arrive exactly. 3. More than 95 % of them never entered
///    the process.
#[test]
fn a_bulk_transfer_is_spliced() {
    each_driver(|driver| {
        let seed = Seed::new();
        let mut rng = seed.rng(0);
        let (proxy, hand) = proxy_and_hand(driver, "splice = \"auto\"");
        let (mut client, mut server) = pair(&proxy, &hand);
        let writer = thread::spawn(move || peer::write_bulk(&mut server, &mut rng, 64 << 20));
        let seen = peer::read_to_end(&mut client);
        drop(client);
        assert_eq!((seen.bytes, seen.end), (64 << 20, End::Fin));
        assert_eq!(seen.digest, writer.join().unwrap());
        let stats = proxy.wait_ended_only("server_fin", 1);
        let spliced = stats.listener("bytes_spliced_total");
        assert!(spliced > (64 << 20) / 100 * 95, "only {spliced} spliced");
        assert_eq!(stats.listener("bytes_copied_total") + spliced, 64 << 20);
    });
}

/// 1. Eight clients ask for 4 MiB each and do not read: eight pipes are open. 2. They read, and get
///    every byte. 3. Of the pipes a quarter has grown, for the bulk that it carried.
#[test]
fn pipes_that_carry_bulk_grow_up_to_a_quarter_of_them() {
    const BYTES: u64 = 4 << 20;
    each_driver(|driver| {
        let seed = Seed::new();
        let hand = Hand::new();
        let config = Config::new(driver).runtime("pipes_per_shard = 8");
        let proxy = config.listener("splice = \"on\"").backend(hand.address()).start();
        let others = proxy.pipe_sizes();
        let stalled: Vec<_> = (0..8)
            .map(|i| {
                let client = peer::connect_narrow(proxy.edge[0], 8 * 1024);
                let (mut server, mut rng) = (hand.take(), seed.rng(i));
                (client, thread::spawn(move || peer::write_bulk(&mut server, &mut rng, BYTES)))
            })
            .collect();
        proxy.wait_stats("all pipes held", |s| s.shards("pipes_in_use") == 8);
        for (mut client, writer) in stalled {
            let seen = peer::read_to_end(&mut client);
            assert_eq!((seen.bytes, seen.end), (BYTES, End::Fin));
            assert_eq!(seen.digest, writer.join().unwrap());
        }
        let back = proxy.wait_stats("all pipes back", |s| s.shards("pipes_in_use") == 0);
        assert_eq!((back.shards("pipes_open"), back.shards("pipes_grown")), (8, 2));
        let mut expected = [others, vec![256 << 10; 6], vec![1 << 20; 2]].concat();
        expected.sort_unstable();
        assert_eq!(proxy.pipe_sizes(), expected);
    });
}

/// 1. Connections carry bulk and messages, and fall silent. 2. Idle, they hold neither buffer nor
///    pipe, on any path. 3. They still work.
#[test]
fn an_idle_connection_holds_neither_buffer_nor_pipe() {
    each_driver(|driver| {
        for splice in ["on", "off", "auto"] {
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let mut pairs: Vec<_> = (0..20).map(|_| pair(&proxy, &hand)).collect();
            let bulk = vec![7; 1 << 20];
            for (client, server) in &mut pairs {
                let writer = thread::scope(|scope| {
                    let writer = scope.spawn(|| server.write_all(&bulk).unwrap());
                    peer::expect(client, &bulk);
                    writer.join()
                });
                writer.unwrap();
            }
            let idle = proxy.wait_stats("nothing held", |s| {
                s.shards("pipes_in_use") == 0 && s.shards("buffers_in_use") == 0
            });
            assert_eq!(idle.listener("connections_active"), 20);
            assert_eq!(idle.backend(0, "connections_active"), 20);
            for (client, server) in &mut pairs {
                peer::pass(client, server, b"still there");
            }
        }
    });
}

/// 1. The server greets first and the client has sent nothing. 2. The greeting arrives. 3. It is
///    the first byte that the phases speak of.
#[test]
fn a_server_that_speaks_first_is_heard() {
    each_driver(|driver| {
        let (proxy, hand) = proxy_and_hand(driver, "");
        let (mut client, mut server) = pair(&proxy, &hand);
        let asked = Instant::now();
        peer::pass(&mut server, &mut client, b"220 ready\r\n");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        proxy.wait_stats("a first byte", |s| s.phase("first_byte")["count"] == 1);
    });
}
