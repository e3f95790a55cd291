//! What a server reads before the first byte of its client.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    thread,
};

use crate::kit::{Config, End, Hand, Refusing, Seed, Server, each_driver, peer};

const VERSIONS: [&str; 2] = ["v1", "v2"];
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Who a header says the client is, and where it connected to.
type Told = (SocketAddr, SocketAddr);

/// Reads a header to its last byte and not further.
fn read_header(version: &str, server: &mut TcpStream) -> Told {
    match version {
        "v1" => read_v1(server),
        _ => read_v2(server),
    }
}

fn read_v1(server: &mut TcpStream) -> Told {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
        assert!(line.len() <= 107, "a header without end: {line:?}");
    }
    let line = String::from_utf8(line).unwrap();
    let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    let [proxy, family, client, address, client_port, port] = words[..] else {
        panic!("not six words: {line:?}")
    };
    let at = |ip: &str, port: &str| SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap());
    let told = (at(client, client_port), at(address, port));
    assert_eq!((proxy, family), ("PROXY", if told.0.is_ipv4() { "TCP4" } else { "TCP6" }));
    told
}

fn read_v2(server: &mut TcpStream) -> Told {
    let mut head = [0; 16];
    server.read_exact(&mut head).unwrap();
    assert_eq!(head[..12], SIGNATURE);
    assert_eq!(head[12], 0x21, "version 2, on behalf of a client");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[14], head[15]]))];
    server.read_exact(&mut rest).unwrap();
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match (head[13], rest.len()) {
        (0x11, 12) => {
            let ip = |at: usize| <[u8; 4]>::try_from(&rest[at..at + 4]).unwrap();
            ((ip(0), port(8)).into(), (ip(4), port(10)).into())
        }
        (0x21, 36) => {
            let ip = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).unwrap());
            ((ip(0), port(32)).into(), (ip(16), port(34)).into())
        }
        other => panic!("neither TCP over IPv4 nor over IPv6: {other:?}"),
    }
}

/// 1. Clients on IPv4 and IPv6, versions 1 and 2. 2. The server reads the client's own address and
///    the one it connected to before anything was sent; then it may speak first. 3. What both sides
///    send follows, exactly. 4. The header is in no byte count.
#[test]
fn a_server_learns_who_its_client_is_before_the_first_byte() {
    each_driver(|driver| {
        for version in VERSIONS {
            let hand = Hand::new();
            let proxy = Config::new(driver)
                .listen(&["127.0.0.1:0", "[::1]:0"])
                .pool(&format!("send_proxy = \"{version}\""))
                .backend(hand.address())
                .start();
            for address in &proxy.edge {
                let mut client = peer::connect(*address);
                let mut server = hand.take();
                let told = read_header(version, &mut server);
                assert_eq!(told, (client.local_addr().unwrap(), *address), "{version}");
                peer::pass(&mut server, &mut client, b"220 hello");
                peer::pass(&mut client, &mut server, b"EHLO");
                drop(client);
                assert_eq!(peer::end_of(&mut server), End::Fin);
            }
            let stats = proxy.wait_stats("both have ended", |s| s.ended_in_all() == 2);
            assert_eq!(stats.ended("client_fin"), 2);
            assert_eq!(stats.listener("bytes_up_total"), 2 * 4, "the client's bytes alone");
            assert_eq!(stats.backend(0, "bytes_up_total"), 2 * 4);
            assert_eq!(stats.listener("bytes_down_total"), 2 * 9);
        }
    });
}

/// 1. The listener has all addresses of the host. 2. The header has the one the client chose.
#[test]
fn the_destination_is_the_address_that_the_client_chose() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver)
            .listen(&["0.0.0.0:0"])
            .pool("send_proxy = \"v1\"")
            .backend(hand.address())
            .start();
        let chosen = SocketAddr::from(([127, 0, 0, 9], proxy.edge[0].port()));
        let client = peer::connect_from([127, 0, 0, 5].into(), chosen);
        let told = read_header("v1", &mut hand.take());
        assert_eq!(told, (client.local_addr().unwrap(), chosen));
    });
}

/// 1. The first backend in turn refuses. 2. The next one reads one header, and the client's bytes
///    right behind it.
#[test]
fn after_a_failover_the_header_goes_to_the_one_that_serves() {
    each_driver(|driver| {
        for version in VERSIONS {
            let (dead, hand) = (Refusing::new(), Hand::new());
            let proxy = Config::new(driver)
                .pool(&format!("balance = \"round_robin\"\nsend_proxy = \"{version}\""))
                .backend(dead.address)
                .backend(hand.address())
                .start();
            let mut client = proxy.connect();
            client.write_all(b"early").unwrap();
            let mut server = hand.take();
            let told = read_header(version, &mut server);
            assert_eq!(told, (client.local_addr().unwrap(), proxy.edge[0]));
            peer::expect(&mut server, b"early");
            assert_eq!(proxy.stats().failures(0, "refused"), 1);
        }
    });
}

/// 1. Everything is spliced. 2. Behind the header both directions are exact.
#[test]
fn a_spliced_stream_begins_with_the_header_too() {
    const BYTES: u64 = 8 << 20;
    let seed = Seed::new();
    each_driver(|driver| {
        for version in VERSIONS {
            let server = Server::new(move |mut stream| {
                read_header(version, &mut stream);
                let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
            });
            let proxy = Config::new(driver)
                .listener("splice = \"on\"")
                .pool(&format!("send_proxy = \"{version}\""))
                .backend(server.address)
                .start();
            let mut client = proxy.connect();
            let mut writer = client.try_clone().unwrap();
            let sent = thread::scope(|scope| {
                let write = scope.spawn(|| {
                    let digest = peer::write_bulk(&mut writer, &mut seed.rng(0), BYTES);
                    peer::finish(&writer);
                    digest
                });
                let seen = peer::read_to_end(&mut client);
                assert_eq!((seen.bytes, seen.end), (BYTES, End::Fin));
                assert_eq!(seen.digest, write.join().unwrap());
                seen.bytes
            });
            let stats = proxy.wait_ended_only("client_fin", 1);
            assert_eq!(stats.listener("bytes_up_total"), sent);
            assert!(stats.listener("bytes_spliced_total") > BYTES);
        }
    });
}
